/*
 * uring-multishot: what a maintainer asked for in 2023, receives that are posted ahead. One READ_MULTISHOT on the fault
 * file, which needs a file that says "not yet" when it is empty: the `proposed` one.
 */
#include "designs/ring_client.h"

static void fill(const struct uiopf_ring_client *c, struct io_uring_sqe *const *sqe)
{
	uiopf_ring_client_read(c, sqe[0], IORING_OP_READ_MULTISHOT);
}

static const struct uiopf_ring_posts posts = { .sqes = 1, .fill = fill, .ahead = 1 };

static int open_multishot(struct uiopf_channel *ch)
{
	return uiopf_ring_client_open(ch, &posts);
}

const struct uiopf_design uiopf_design_uring_multishot = {
	.info = {
		.name = "uring-multishot",
		.year = "-",
		.summary = "READ_MULTISHOTs posted ahead, a buffer ring, WRITEs back",
		.personality = UIOPF_PROPOSED,
		.has_client = true,
		.has_ring = true,
	},
	.open = open_multishot,
	UIOPF_RING_CLIENT_FUNCTIONS,
};
