/*
 * uring-fetch: commit-and-fetch. Each group that may be in flight has a URING_CMD with a place for its messages. The command
 * waits in the fault file for a group, copies it to its place and completes. The answer goes back in the next command, which
 * answers the group and then waits for another.
 *
 * Who and when: nobody has proposed it for faults. It is how ublk gives block requests to user space (Linux 6.0, 2022:
 * UBLK_IO_COMMIT_AND_FETCH_REQ), and how FUSE does over io_uring since Linux 6.14 (2025), where it replaced a read and a write
 * for each request and so halved the ways into the kernel. There a command belongs to a request's tag or entry; here it
 * names the group by its cookie, as each answer to a fault does, so any free place will do.
 *
 * Why not this: a group that the client keeps is a command that does not wait. So as many must be posted as groups may be in
 * flight, each with memory, and what the client never answers (its table was detached meanwhile) is missing until nothing
 * waits at all: then the client posts all that are free without an answer, as at the beginning, and what is answered after
 * that goes by itself, as in uring-cmd. A multishot receives with one command whatever is in flight.
 *
 * The commands wait in turn: a fault calls one of them, and not all. An answer that is refused ends its command, which is then
 * posted again without one. `ends` counts commands that ended otherwise without a group.
 *
 * Cost per fault, said beforehand. One at a time, client asleep: 1 system call (it sends the answer, which is the next
 * command, and waits), 1 wake-up, 120 bytes copied: 40 message + 16 CQE + 64 SQE. In a group of P pages: 40 + 80/P bytes for
 * each. With N in flight: 1/N of a call and of a wake-up. A spinning client makes 1/N of a call more, to find what is there,
 * and needs no wake-up.
 */
#include <errno.h>
#include <string.h>

#include "designs/ring_client.h"
#include "rings/ring.h"

static void fill(const struct uiopf_ring_client *c, struct io_uring_sqe *const *sqe)
{
	sqe[0]->opcode = IORING_OP_URING_CMD;
	sqe[0]->fd = c->fd;
	sqe[0]->cmd_op = UIOPF_CMD_FETCH;
}

static const struct uiopf_ring_posts posts = {
	.sqes = 1, .fill = fill, .ahead = UINT32_MAX, .one_shot = true, .own_places = true,
};

static int open_fetch(struct uiopf_channel *ch)
{
	return uiopf_ring_client_open(ch, &posts);
}

/* What a command has completed with: how many messages it is. */
static uint32_t take(struct uiopf_channel *ch, const struct io_uring_cqe *cqe, struct iommu_hwpt_pgfault *out)
{
	struct uiopf_ring_client *c = ch->state;
	const uint8_t *from;

	if (uiopf_ring_client_is_answer(cqe)) {
		ch->cost.answer_errors++;	/* it had no place with it, and only fails */
		return 0;
	}
	from = uiopf_ring_client_give_place(c, cqe);
	if (likely(cqe->res == (int32_t)sizeof *out)) {
		memcpy(out, from, sizeof *out);
		return 1;
	}
	if (cqe->res > 0) {
		memcpy(out, from, (size_t)cqe->res);
		return (uint32_t)cqe->res / (uint32_t)sizeof *out;
	}
	if ((cqe->user_data & UIOPF_PLACE_ANSWERS) && cqe->res == -EINVAL) {
		ch->cost.answer_errors++;
		c->missing++;
	} else {
		uiopf_ring_client_note_end(ch, cqe);
	}
	return 0;
}

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct uiopf_ring_client *c = ch->state;
	uint32_t taken = 0, n = 0, ready;
	int rc = uiopf_ring_client_look(ch);

	if (unlikely(rc < 0))
		return rc;
	for (ready = (uint32_t)rc; taken < ready && most - n >= ch->config.group_most; taken++)
		n += take(ch, uiopf_client_cqe(c->ring, taken), &out[n]);
	if (!ready)
		uiopf_ring_client_post_if_none(c);
	rc = uiopf_ring_client_taken(ch, taken);
	return n ? (int)n : rc < 0 ? rc : 0;
}

static int answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	const struct uiopf_ring_client *c = ch->state;
	uint32_t i, slot;
	int rc = 0;

	for (i = 0; i < n; i++) {
		struct io_uring_sqe *sqe = uiopf_ring_client_answer_sqe(ch, &slot, &rc);

		if (unlikely(!sqe))
			return i ? (int)i : rc;
		sqe->opcode = IORING_OP_URING_CMD;
		sqe->fd = c->fd;
		sqe->addr3 = responses[i].cookie | (uint64_t)responses[i].code << 32;
		if (likely(uiopf_ring_client_take_place(ch, sqe))) {
			sqe->cmd_op = UIOPF_CMD_COMMIT_AND_FETCH;
			sqe->user_data |= UIOPF_PLACE_ANSWERS;
		} else {
			sqe->cmd_op = UIOPF_CMD_RESPOND;
			sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
		}
	}
	uiopf_ring_client_show(ch);
	return (int)n;
}

static int wait_fetch(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	uiopf_ring_client_post_if_none(ch->state);
	return uiopf_ring_client_wait(ch, timeout_ns);
}

static int prepare_sleep(struct uiopf_channel *ch)
{
	uiopf_ring_client_post_if_none(ch->state);
	return uiopf_ring_client_prepare_sleep(ch);
}

const struct uiopf_design uiopf_design_uring_fetch = {
	.info = {
		.name = "uring-fetch",
		.year = "-",
		.summary = "commit-and-fetch, as ublk: an answer receives the next",
		.personality = UIOPF_COMMANDS,
		.has_client = true,
		.has_ring = true,
	},
	.open = open_fetch,
	.close = uiopf_ring_client_close,
	.receive = receive,
	.answer = answer,
	.flush = uiopf_ring_client_flush,
	.wait = wait_fetch,
	.prepare_sleep = prepare_sleep,
	.awake = uiopf_ring_client_awake,
	.holds = uiopf_ring_client_holds,
	.kernel_cost = uiopf_ring_client_kernel_cost,
};
