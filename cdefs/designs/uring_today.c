/*
 * uring-today: what Linux 6.11 and later allow a program with an io_uring, without any trick. A multishot POLL_ADD on the
 * fault file as it was merged posts a completion when faults arrive; read(2) then takes whole groups, as many as fit, and
 * write(2) answers, as in `fd`.
 *
 * Who and when: nobody proposed it; it is what there was when the file was merged in 2024. Multishot polls are older (Linux
 * 5.13, 2021). A READ on the ring is no better: on this file, which may block, it costs a worker thread, and with
 * O_NONBLOCK it ends at once with 0 (uring_linked.c has the way around that). Recorded on Linux 6.12 and 7.2: three system
 * calls for a fault by itself, as many as poll, read and write take. So a program takes this way because it waits for
 * other things on its ring, and not for speed.
 *
 * A completion says that something has arrived, once, and not that something is still there. So all completions are taken
 * before the read: a group that comes later has one of its own. A read that might have left a group behind, since no room
 * for the largest was left, is followed by another, whatever the ring says.
 *
 * The poll ends when its completion finds no room in the completion queue, or with an error. The receive that sees it
 * posts it again, and `ends` counts it. Nothing is lost by that: a poll that is posted while the queue has something
 * completes at once.
 *
 * Cost per fault, said beforehand. One at a time, client asleep: 3 system calls (an enter that waits, read, write), 1
 * wake-up, 64 bytes copied: 40 message + 16 CQE + 8 answer. Spinning: 3 calls, of which the enter looks for completions,
 * and no wake-up; beside a worker that polls the ring 2, since that look is a load. With N in flight: each of these calls,
 * the wake-up and the CQE once for all that wait, so 3/N calls, 1/N wake-ups and 48 + 16/N bytes. The SQE is copied once.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "designs/file_client.h"
#include "designs/ring_client.h"

struct today {
	struct uiopf_file_client *file;
	bool unread;		/* something arrived, and no read since has left room for more */
};

static struct today *today_of(const struct uiopf_channel *ch)
{
	const struct uiopf_ring_client *c = ch->state;

	return c->own;
}

static void fill(const struct uiopf_ring_client *c, struct io_uring_sqe *const *sqe)
{
	sqe[0]->opcode = IORING_OP_POLL_ADD;
	sqe[0]->fd = c->fd;
	sqe[0]->poll32_events = POLLIN;
	sqe[0]->len = IORING_POLL_ADD_MULTI;
}

static const struct uiopf_ring_posts posts = { .sqes = 1, .fill = fill, .ahead = 1, .no_buffers = true };

static void close_today(struct uiopf_channel *ch)
{
	struct today *t = today_of(ch);

	uiopf_file_client_free(t->file);
	free(t);
	uiopf_ring_client_close(ch);
}

static int open_today(struct uiopf_channel *ch)
{
	struct today *t = calloc(1, sizeof *t);
	struct uiopf_ring_client *c;
	int rc = -ENOMEM;

	if (!t)
		return rc;
	t->file = uiopf_file_client_new(ch);
	if (t->file)
		rc = uiopf_ring_client_open(ch, &posts);
	if (rc < 0) {
		uiopf_file_client_free(t->file);
		free(t);
		return rc;
	}
	c = ch->state;
	c->own = t;
	return 0;
}

static int flush(struct uiopf_channel *ch)
{
	return uiopf_file_client_flush(ch, today_of(ch)->file);
}

static int answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	return uiopf_file_client_answer(ch, today_of(ch)->file, responses, n);
}

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct uiopf_ring_client *c = ch->state;
	struct today *t = c->own;
	int rc = flush(ch), n;

	if (unlikely(rc < 0))
		return rc;
	rc = t->unread ? 1 : uiopf_ring_client_look(ch);
	c->found_none = !rc;
	if (rc <= 0)
		return rc;
	uiopf_ring_client_take(ch);
	t->unread = true;	/* also if the read is interrupted: its completion has been taken */
	n = uiopf_file_client_read(ch, t->file, out, most);
	if (n >= 0)
		t->unread = most - (uint32_t)n < ch->config.group_most;
	c->found_none = n <= 0;
	rc = uiopf_ring_client_arm(ch);
	return n ? n : rc < 0 ? rc : 0;
}

static int wait_today(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	int rc = flush(ch);

	if (rc < 0)
		return rc;
	return today_of(ch)->unread ? 1 : uiopf_ring_client_wait(ch, timeout_ns);
}

static int prepare_sleep(struct uiopf_channel *ch)
{
	int rc = flush(ch);

	if (rc < 0)
		return rc;
	return today_of(ch)->unread ? 1 : uiopf_ring_client_prepare_sleep(ch);
}

static bool holds(const struct uiopf_channel *ch)
{
	return today_of(ch)->file->pending;
}

const struct uiopf_design uiopf_design_uring_today = {
	.info = {
		.name = "uring-today",
		.year = "2024",
		.summary = "Linux 6.11 with a ring: a multishot poll, read and write",
		.personality = UIOPF_MERGED,
		.match = UIOPF_BY_EITHER,
		.has_client = true,
		.has_ring = true,
	},
	.open = open_today,
	.close = close_today,
	.receive = receive,
	.answer = answer,
	.flush = flush,
	.wait = wait_today,
	.prepare_sleep = prepare_sleep,
	.awake = uiopf_ring_client_awake,
	.holds = holds,
	.kernel_cost = uiopf_ring_client_kernel_cost,
};
