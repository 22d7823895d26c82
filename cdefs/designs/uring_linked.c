/*
 * uring-linked: receives that are posted ahead on the fault file as Linux has it since 6.11. Recorded on 6.12 and 7.2.
 *
 * That file has no read_iter, and returns 0 when it is empty. A READ_MULTISHOT alone ends with that 0 at once. Behind a
 * linked POLL_ADD its first read comes when a fault waits; from then on io_uring polls the file before each read, and the
 * multishot lives on. Two conditions:
 *
 * - The file is O_NONBLOCK. A read of a file without read_iter that may block is a worker thread's, and a multishot cannot
 *   be that: nothing would ever complete.
 * - One consumer. A group that another reader takes between the poll and the read leaves a read of 0 bytes, which ends the
 *   multishot. No fault is lost by that, but none is delivered until poll and read are posted again, which the next
 *   receive or wait does; `ends` counts how often. So does every other end: no buffer, a completion queue that overflows.
 *
 * The poll has no completion of its own unless it fails, and then that is the only one: IOSQE_CQE_SKIP_SUCCESS on the head
 * of a chain that fails covers what was linked to it.
 */
#include <poll.h>

#include "designs/ring_client.h"

static void fill(const struct uiopf_ring_client *c, struct io_uring_sqe *const *sqe)
{
	sqe[0]->opcode = IORING_OP_POLL_ADD;
	sqe[0]->flags = IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
	sqe[0]->fd = c->fd;
	sqe[0]->poll32_events = POLLIN;
	uiopf_ring_client_read(c, sqe[1]);
}

static const struct uiopf_ring_posts posts = { 2, fill };

static int open_linked(struct uiopf_channel *ch)
{
	struct uiopf_file *file = uiopf_faultq_file(ch->queue);
	const bool was_nonblock = file->mode & UIOPF_FILE_NONBLOCK;
	int rc;

	uiopf_core_set_nonblock(ch->core, file, true);	/* and it stays so, as after any client's fcntl */
	rc = uiopf_ring_client_open(ch, &posts);
	if (rc < 0)
		uiopf_core_set_nonblock(ch->core, file, was_nonblock);
	return rc;
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
