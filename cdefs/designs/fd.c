/*
 * fd (2024, merged in Linux 6.11): one file for both ways. poll tells, read takes as many whole groups as fit, write
 * answers by cookie. The kernel's half is the file's read and write (faultq.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "designs/channel.h"

struct fd {
	uint32_t pending, most;		/* answers not yet written */
	struct iommu_hwpt_page_response response[];
};

static int open_fd(struct uiopf_channel *ch)
{
	uint32_t most = ch->config.in_flight;
	struct fd *fd = calloc(1, sizeof *fd + most * sizeof fd->response[0]);

	if (!fd)
		return -ENOMEM;
	fd->most = most;
	ch->state = fd;
	return 0;
}

static void close_fd(struct uiopf_channel *ch)
{
	free(ch->state);
}

/* One write for all that has gathered, before the client looks for more; a bad answer is skipped and counted, as its caller's client would. */
static int flush(struct uiopf_channel *ch)
{
	struct fd *fd = ch->state;
	uint32_t done = 0;

	while (done < fd->pending) {
		int64_t n = uiopf_faultq_write(ch->queue, &fd->response[done],
					       (fd->pending - done) * sizeof fd->response[0]);

		uiopf_system_call(ch, true);
		if (unlikely(n == -EINTR)) {	/* not one of them: it is called again */
			fd->pending -= done;
			memmove(fd->response, &fd->response[done], fd->pending * sizeof fd->response[0]);
			return -EINTR;
		}
		if (n > 0) {
			ch->cost.bytes_copied += (uint64_t)n;
			done += (uint32_t)((uint64_t)n / sizeof fd->response[0]);
		} else {
			ch->cost.answer_errors++;
			done++;
		}
	}
	fd->pending = 0;
	return 0;
}

static int answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	struct fd *fd = ch->state;
	uint32_t i;

	for (i = 0; i < n; i++) {
		if (fd->pending == fd->most && flush(ch) < 0)
			return i ? (int)i : -EINTR;
		fd->response[fd->pending++] = responses[i];
	}
	return (int)n;
}

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	int64_t n = flush(ch);

	if (unlikely(n < 0))
		return (int)n;
	n = uiopf_faultq_read(ch->queue, out, most * sizeof *out);
	uiopf_system_call(ch, n != 0);
	if (n < 0)
		return (int)n;
	ch->cost.bytes_copied += (uint64_t)n;
	return (int)((uint64_t)n / sizeof *out);
}

static int wait_fd(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	int rc = flush(ch);

	return rc < 0 ? rc : uiopf_poll_wait(ch, timeout_ns);
}

static int prepare_sleep(struct uiopf_channel *ch)
{
	int rc = flush(ch);

	return rc < 0 ? rc : uiopf_poll_prepare_sleep(ch);
}

static bool holds(const struct uiopf_channel *ch)
{
	const struct fd *fd = ch->state;

	return fd->pending;
}

const struct uiopf_design uiopf_design_fd = {
	.info = {
		.name = "fd",
		.year = "2024",
		.summary = "Linux 6.11: poll, read and write on one fd, whole groups",
		.personality = UIOPF_MERGED,
		.has_client = true,
	},
	.open = open_fd,
	.close = close_fd,
	.receive = receive,
	.answer = answer,
	.flush = flush,
	.wait = wait_fd,
	.prepare_sleep = prepare_sleep,
	.awake = uiopf_poll_awake,
	.holds = holds,
};
