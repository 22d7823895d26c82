/*
 * uring-read: one-shot READs posted ahead on the `proposed` fault file, each with a buffer of the client's buffer ring.
 * A READ that has completed is posted again by the call that sends the answer to what it read.
 *
 * Who and when: the review of the first series for faults in iommufd (Jason Gunthorpe, 2023-05-30) asked for receives
 * that are posted ahead and complete as page requests come in. The author of the series, Lu Baolu, sketched READ and
 * WRITE SQEs on one fd (2023-06-23). Nobody posted it as patches. The file that was merged in Linux 6.11 does not suit it:
 * a READ of an empty queue ends at once with 0, or costs a worker thread where the file may block.
 *
 * Why not this, when a file suits it: a multishot does the same with one SQE for all faults. Each fault wakes all READs
 * that wait, newest first, and all but one find nothing. On Linux a READ that has been woken in vain about 126 times is
 * given to a worker thread, or ends with -EAGAIN if the file is O_NONBLOCK. This design sets O_NONBLOCK, so that no thread
 * is spent; `ends` counts these READs, and they are posted again. It also counts a READ that ended with another error, or
 * with 0 bytes; to end by a read is how a one-shot ends, and counts as no end.
 *
 * Cost per fault, said beforehand. One at a time, client asleep: 1 system call (it sends the answer and the READ, and
 * waits), 1 wake-up, 192 bytes copied: 40 message + 16 CQE + 64 SQE of the WRITE + 8 answer + 64 SQE of the READ. These
 * last 64 are what uring-multishot does not have. With N in flight: 1/N of a call and of a wake-up; but of a call no less
 * than 1/32, since it posts 32 READs at most, which bring 32 groups. A spinning client makes 1/N of a call more, to find
 * what is there, and needs no wake-up. Each READ that ends in vain costs 64 + 16 bytes (SQE, CQE).
 */
#include "designs/ring_client.h"

#define MOST_READS 32u	/* each fault wakes them all; so many were posted ahead on real kernels as well */

static void fill(const struct uiopf_ring_client *c, struct io_uring_sqe *const *sqe)
{
	uiopf_ring_client_read(c, sqe[0], IORING_OP_READ);
}

static const struct uiopf_ring_posts posts = {
	.sqes = 1, .fill = fill, .ahead = MOST_READS, .one_shot = true, .nonblock = true,
};

static int open_read(struct uiopf_channel *ch)
{
	return uiopf_ring_client_open(ch, &posts);
}

const struct uiopf_design uiopf_design_uring_read = {
	.info = {
		.name = "uring-read",
		.year = "-",
		.summary = "one-shot READs posted ahead, a buffer ring, WRITEs back",
		.personality = UIOPF_PROPOSED,
		.has_client = true,
		.has_ring = true,
	},
	.open = open_read,
	UIOPF_RING_CLIENT_FUNCTIONS,
};
