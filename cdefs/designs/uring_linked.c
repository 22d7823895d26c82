/*
 * uring-linked: receives that are posted ahead, on the fault file as Linux has had it since 6.11. Recorded on 6.12, 7.2.
 *
 * That file has no read_iter, and its read returns 0 when the queue is empty. A READ_MULTISHOT alone ends at once with
 * that 0. Behind a linked POLL_ADD its first read comes when a fault waits. From then on io_uring polls the file before
 * each read, so that no read finds an empty queue, and the multishot goes on. There are two conditions:
 *
 * - The file is O_NONBLOCK. Otherwise its read may block and is given to a worker thread, which a multishot cannot be:
 *   it would never complete.
 * - The queue has one consumer. If another reader takes the group between the poll and the read, the read returns 0 and
 *   the multishot ends. No fault is lost by that: the other reader has it. Later faults wait in the queue until poll and
 *   read are posted again by the next receive or wait. Every other end is handled in the same way: no buffer was left,
 *   the completion queue overflowed, the poll failed. `ends` counts them all.
 *
 * The poll posts no completion unless it fails. Then its completion is the only one: IOSQE_CQE_SKIP_SUCCESS on a request
 * that fails also silences those that are linked to it.
 */
#include <poll.h>

#include "designs/ring_client.h"

static void fill(const struct uiopf_ring_client *c, struct io_uring_sqe *const *sqe)
{
	sqe[0]->opcode = IORING_OP_POLL_ADD;
	sqe[0]->flags = IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
	sqe[0]->fd = c->fd;
	sqe[0]->poll32_events = POLLIN;
	uiopf_ring_client_read(c, sqe[1], IORING_OP_READ_MULTISHOT);
}

static const struct uiopf_ring_posts posts = { .sqes = 2, .fill = fill, .ahead = 1, .nonblock = true };

static int open_linked(struct uiopf_channel *ch)
{
	return uiopf_ring_client_open(ch, &posts);
}

const struct uiopf_design uiopf_design_uring_linked = {
	.info = {
		.name = "uring-linked",
		.year = "2026",
		.summary = "Linux 6.12 as it is: POLL_ADD linked to READ_MULTISHOT",
		.personality = UIOPF_MERGED,
		.has_client = true,
		.has_ring = true,
	},
	.open = open_linked,
	UIOPF_RING_CLIENT_FUNCTIONS,
};
