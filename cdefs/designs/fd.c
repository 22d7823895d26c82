/*
 * fd (2024, merged in Linux 6.11): one file for both ways. poll tells, read takes as many whole groups as fit, write
 * answers by cookie. Where the queue's limits say by_index, each answer is an ioctl instead (file_client.h).
 */
#include <errno.h>

#include "designs/file_client.h"

static int open_fd(struct uiopf_channel *ch)
{
	ch->state = uiopf_file_client_new(ch);
	return ch->state ? 0 : -ENOMEM;
}

static void close_fd(struct uiopf_channel *ch)
{
	uiopf_file_client_free(ch->state);
}

static int flush(struct uiopf_channel *ch)
{
	return uiopf_file_client_flush(ch, ch->state);
}

static int answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	return uiopf_file_client_answer(ch, ch->state, responses, n);
}

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	int rc = flush(ch);

	return unlikely(rc < 0) ? rc : uiopf_file_client_read(ch, ch->state, out, most);
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
	const struct uiopf_file_client *f = ch->state;

	return f->pending;
}

const struct uiopf_design uiopf_design_fd = {
	.info = {
		.name = "fd",
		.year = "2024",
		.summary = "Linux 6.11: poll, read and write on one fd, whole groups",
		.personality = UIOPF_MERGED,
		.match = UIOPF_BY_EITHER,
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
