/*
 * uring-cmd: one URING_CMD on a fault file that has commands. It waits for all faults, and posts each as a CQE of 32 bytes
 * with the fault inside (faults/fault_cqe.h). The answer is a URING_CMD too, with the answer inside the SQE. Neither has a
 * buffer anywhere: what the two sides exchange is in the two rings.
 *
 * Who and when: nobody has proposed it for faults. Its parts are Linux's. URING_CMD (5.19, 2022) was made for commands to
 * NVMe devices, with the command inside the SQE; CQEs of 32 bytes came with it for its larger results. Since 6.16 (2025) a
 * command on a socket waits by a multishot poll, and posts a CQE of 32 bytes for each time stamp of a packet that was sent;
 * that is the model here. The file as it was merged (6.11) has no commands.
 *
 * Why not this: a fault has 40 bytes, and a CQE leaves 22 for it, so the format is packed, and what does not fit (a PASID of
 * more than 20 bits, a group id of more than 16, a length) takes a second CQE. A group of several pages is several CQEs in a
 * row, the last with LAST_PAGE; only whole groups are posted. A file that has read and write works without a ring as well;
 * commands need one. All CQEs of the ring are 32 bytes, also those of other requests.
 *
 * It ends with -ENOBUFS when a group has no room in the CQ. The group stays in the queue, the receive that sees it posts the
 * command again, and `ends` counts it.
 *
 * Cost per fault, said beforehand. One at a time, client asleep: 1 system call (it sends the answer and waits), 1 wake-up, 96
 * bytes copied: 32 CQE + 64 SQE. In a group of P pages: 32 + 64/P bytes for each. With N in flight: 1/N of a call and of a
 * wake-up. A spinning client makes 1/N of a call more, to find what is there, and needs no wake-up.
 */
#include "designs/ring_client.h"
#include "faults/fault_cqe.h"
#include "rings/engine.h"

static void fill(const struct uiopf_ring_client *c, struct io_uring_sqe *const *sqe)
{
	sqe[0]->opcode = IORING_OP_URING_CMD;
	sqe[0]->fd = c->fd;
	sqe[0]->cmd_op = UIOPF_CMD_RECEIVE;
}

static const struct uiopf_ring_posts posts = {
	.sqes = 1, .fill = fill, .ahead = 1, .no_buffers = true, .setup_flags = IORING_SETUP_CQE32,
	.cqes_a_fault = UIOPF_MOST_FAULT_CQES, .kernel = UIOPF_LINUX(6, 16),
};

static int open_cmd(struct uiopf_channel *ch)
{
	return uiopf_ring_client_open(ch, &posts);
}

static struct uiopf_fault_cqe fault_in(const struct io_uring_cqe *cqe)
{
	return (struct uiopf_fault_cqe){ cqe->res, cqe->flags, { cqe->big_cqe[0], cqe->big_cqe[1] } };
}

static bool is_fault(const struct io_uring_cqe *cqe)
{
	return !uiopf_ring_client_is_answer(cqe) && (cqe->flags & IORING_CQE_F_MORE);
}

/* The group that begins at a CQE: how many CQEs it takes, with *n more messages; 0: it is not all there, or has no room. */
static uint32_t take_group(const struct uiopf_ring_client *c, uint32_t from, uint32_t ready, struct iommu_hwpt_pgfault *out,
			   uint32_t most, uint32_t *n)
{
	uint32_t at = from, had = *n;

	while (at < ready && *n < most) {
		const struct io_uring_cqe *cqe = uiopf_client_cqe(c->ring, at);
		const struct uiopf_fault_cqe first = fault_in(cqe);
		struct uiopf_fault_cqe second = { 0 };

		if (unlikely(!is_fault(cqe)))
			return at - from;	/* the rest will not come */
		if (unlikely(first.flags & UIOPF_FAULT_CQE_REST)) {
			if (++at == ready)
				break;
			second = fault_in(uiopf_client_cqe(c->ring, at));
		}
		at++;
		uiopf_fault_of_cqes(&out[*n], &first, &second);
		if (out[(*n)++].flags & (IOMMU_PGFAULT_FLAGS_LAST_PAGE | UIOPF_PGFAULT_FLAGS_LOST))
			return at - from;
	}
	*n = had;
	return 0;
}

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct uiopf_ring_client *c = ch->state;
	uint32_t taken = 0, n = 0, ready, cqes;
	int rc = uiopf_ring_client_look(ch);

	if (unlikely(rc < 0))
		return rc;
	for (ready = (uint32_t)rc; taken < ready; taken += cqes) {
		const struct io_uring_cqe *cqe = uiopf_client_cqe(c->ring, taken);

		cqes = 1;
		if (likely(is_fault(cqe))) {
			cqes = take_group(c, taken, ready, out, most, &n);
			if (!cqes)
				break;
		} else if (uiopf_ring_client_is_answer(cqe)) {
			ch->cost.answer_errors++;	/* only a failed answer completes */
		} else {
			uiopf_ring_client_note_end(ch, cqe);
		}
	}
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
		sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
		sqe->fd = c->fd;
		sqe->cmd_op = UIOPF_CMD_RESPOND;
		sqe->addr3 = responses[i].cookie | (uint64_t)responses[i].code << 32;
	}
	uiopf_ring_client_show(ch);
	return (int)n;
}

const struct uiopf_design uiopf_design_uring_cmd = {
	.info = {
		.name = "uring-cmd",
		.year = "-",
		.summary = "URING_CMDs: faults inside CQEs, answers inside SQEs",
		.personality = UIOPF_COMMANDS,
		.has_client = true,
		.has_ring = true,
	},
	.open = open_cmd,
	.close = uiopf_ring_client_close,
	.receive = receive,
	.answer = answer,
	.flush = uiopf_ring_client_flush,
	.wait = uiopf_ring_client_wait,
	.prepare_sleep = uiopf_ring_client_prepare_sleep,
	.awake = uiopf_ring_client_awake,
	.holds = uiopf_ring_client_holds,
	.kernel_cost = uiopf_ring_client_kernel_cost,
};
