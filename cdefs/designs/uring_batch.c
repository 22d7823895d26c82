/*
 * uring-batch: faults and answers in batches. One multishot URING_CMD fills a provided buffer with all groups that wait, as
 * many as have room, and posts one CQE for them. One URING_CMD gives many answers, which lie in the client's memory.
 *
 * Who and when: nobody has proposed it for faults. It is how ublk does since Linux 7.0 with UBLK_F_BATCH_IO (Ming Lei, 2025).
 * There a buffer gets the tags of block requests, two bytes each, since the requests are in memory that both sides map; here
 * it gets the messages. The multishot command with provided buffers was made for it (6.18). What was published for ublk: one
 * job from 2.54 to 2.60 million requests/s, 16 jobs from 37.8 to 42.4. So batches pay where queues are many.
 *
 * Why not this: with one fault in flight a batch is one fault, and costs 16 bytes more than uring-multishot. In a READ_MULTISHOT
 * and a WRITE much of it is there already: a read takes all groups that have room in its buffer, and one write gives many
 * answers. But a write stops at the first answer that is refused, and a client that wants no completions would not hear of
 * the rest. This command tries all of them, and says how many were refused, in a CQE of 32 bytes.
 *
 * A batch has 64 messages at most, or one group if that is larger, and 64 answers. It ends when there is no buffer left, or no
 * room in the CQ. Nothing is taken then; the receive that sees it posts it again, and `ends` counts it.
 *
 * Cost per fault, said beforehand. One at a time, client asleep: 1 system call (it sends the answer and waits), 1 wake-up, 144
 * bytes copied: 40 message + 32 CQE + 64 SQE + 8 answer. With N in flight, up to 64: all but message and answer once for
 * the batch, so 1/N of a call and of a wake-up, and 48 + 96/N bytes. A spinning client makes 1/N of a call more, to find what
 * is there, and needs no wake-up. What arrives while the client works is more than one batch if it comes in several steps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "designs/ring_client.h"
#include "rings/engine.h"

#define BATCH 64u

struct batches {
	uint32_t buffer, from, messages;	/* the batch that is not all received: its buffer, and what is left of it */
	struct io_uring_sqe *commit;		/* the SQE that takes more answers, if it is not published by now */
	uint32_t published;			/* … which it was not while this was the ring's number of published ones */
	uint8_t *answers;
};

static struct batches *batches_of(const struct uiopf_channel *ch)
{
	const struct uiopf_ring_client *c = ch->state;

	return c->own;
}

static void fill(const struct uiopf_ring_client *c, struct io_uring_sqe *const *sqe)
{
	sqe[0]->opcode = IORING_OP_URING_CMD;
	sqe[0]->flags = IOSQE_BUFFER_SELECT;
	sqe[0]->fd = c->fd;
	sqe[0]->cmd_op = UIOPF_CMD_FETCH_BATCH;
	sqe[0]->uring_cmd_flags = IORING_URING_CMD_MULTISHOT;
}

static const struct uiopf_ring_posts posts = {
	.sqes = 1, .fill = fill, .ahead = 1, .batch = BATCH, .setup_flags = IORING_SETUP_CQE32, .kernel = UIOPF_LINUX(7, 0),
};

static void close_batch(struct uiopf_channel *ch)
{
	free(batches_of(ch));
	uiopf_ring_client_close(ch);
}

static int open_batch(struct uiopf_channel *ch)
{
	struct batches *b = calloc(1, sizeof *b);
	struct uiopf_ring_client *c;
	int rc;

	if (!b)
		return -ENOMEM;
	rc = uiopf_ring_client_open(ch, &posts);
	if (rc < 0) {
		free(b);
		return rc;
	}
	c = ch->state;
	c->own = b;
	return 0;
}

/* Whole groups of the batch that is being received; the buffer goes back with its last. How many messages. */
static uint32_t take_groups(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct batches *b = batches_of(ch);
	const struct iommu_hwpt_pgfault *message = uiopf_ring_client_buffer(ch->state, b->buffer);
	uint32_t n = 0, whole;

	if (likely(b->messages - b->from <= most)) {
		n = b->messages - b->from;
	} else {
		for (whole = 0; whole < most; whole++)
			if (message[b->from + whole].flags & (IOMMU_PGFAULT_FLAGS_LAST_PAGE | UIOPF_PGFAULT_FLAGS_LOST))
				n = whole + 1;
	}
	memcpy(out, &message[b->from], n * sizeof *out);
	b->from += n;
	if (b->from == b->messages && b->messages) {
		uiopf_ring_client_provide(ch, b->buffer);
		b->from = b->messages = 0;
	}
	return n;
}

static void take_completion(struct uiopf_channel *ch, const struct io_uring_cqe *cqe)
{
	struct batches *b = batches_of(ch);

	if (unlikely(uiopf_ring_client_is_answer(cqe))) {	/* some of its answers were refused */
		ch->cost.answer_errors += cqe->big_cqe[0];
		return;
	}
	if (cqe->flags & IORING_CQE_F_BUFFER) {
		b->buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
		b->from = 0;
		b->messages = (uint32_t)cqe->res / (uint32_t)sizeof(struct iommu_hwpt_pgfault);
	}
	if (!(cqe->flags & IORING_CQE_F_MORE))
		uiopf_ring_client_note_end(ch, cqe);
}

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct uiopf_ring_client *c = ch->state;
	struct batches *b = c->own;
	uint32_t n = take_groups(ch, out, most), taken = 0, ready;
	int rc;

	if (unlikely(b->messages))
		return (int)n;	/* there is no room for more of it */
	rc = n ? (int)uiopf_client_ready(c->ring) : uiopf_ring_client_look(ch);
	if (unlikely(rc < 0))
		return rc;
	for (ready = (uint32_t)rc; taken < ready && !b->messages; taken++) {
		take_completion(ch, uiopf_client_cqe(c->ring, taken));
		n += take_groups(ch, &out[n], most - n);
	}
	rc = uiopf_ring_client_taken(ch, taken);
	c->found_none = !n;
	return n ? (int)n : rc < 0 ? rc : 0;
}

/* Answers go into the SQE that was filled last, while the kernel does not know of it and there is room. */
static int answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	const struct uiopf_ring_client *c = ch->state;
	struct batches *b = c->own;
	const uint32_t size = sizeof responses[0];
	uint32_t i, slot;
	int rc = 0;

	for (i = 0; i < n; i++) {
		if (!b->commit || b->published != c->ring->sq_published || b->commit->len == BATCH * size) {
			b->commit = uiopf_ring_client_answer_sqe(ch, &slot, &rc);
			if (unlikely(!b->commit))
				return i ? (int)i : rc;
			b->published = c->ring->sq_published;
			b->answers = uiopf_ring_client_answers(c, slot);
			b->commit->opcode = IORING_OP_URING_CMD;
			b->commit->flags = IOSQE_CQE_SKIP_SUCCESS;
			b->commit->fd = c->fd;
			b->commit->cmd_op = UIOPF_CMD_COMMIT_BATCH;
			b->commit->addr = (uint64_t)(uintptr_t)b->answers;
		}
		memcpy(b->answers + b->commit->len, &responses[i], size);
		b->commit->len += size;
	}
	uiopf_ring_client_show(ch);
	return (int)n;
}

static int wait_batch(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	return batches_of(ch)->messages ? 1 : uiopf_ring_client_wait(ch, timeout_ns);
}

static int prepare_sleep(struct uiopf_channel *ch)
{
	return batches_of(ch)->messages ? 1 : uiopf_ring_client_prepare_sleep(ch);
}

const struct uiopf_design uiopf_design_uring_batch = {
	.info = {
		.name = "uring-batch",
		.year = "-",
		.summary = "batches, as ublk's: one CQE for all, one SQE for answers",
		.personality = UIOPF_COMMANDS,
		.has_client = true,
		.has_ring = true,
	},
	.open = open_batch,
	.close = close_batch,
	.receive = receive,
	.answer = answer,
	.flush = uiopf_ring_client_flush,
	.wait = wait_batch,
	.prepare_sleep = prepare_sleep,
	.awake = uiopf_ring_client_awake,
	.holds = uiopf_ring_client_holds,
	.kernel_cost = uiopf_ring_client_kernel_cost,
};
