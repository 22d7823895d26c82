/* Channels: opening and closing, and what designs share. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "designs/design.h"

static const struct uiopf_design *const designs[] = {
	&uiopf_design_handler,
	&uiopf_design_eventfd,
	&uiopf_design_fd,
	&uiopf_design_uring_multishot,
};

#define DESIGNS (sizeof designs / sizeof designs[0])

const char *uiopf_design_name(uint32_t n)
{
	return n < DESIGNS ? designs[n]->name : NULL;
}

int uiopf_design_personality(uint32_t n)
{
	return n < DESIGNS ? (int)designs[n]->personality : -EINVAL;
}

int uiopf_design_has_client(uint32_t n)
{
	return n < DESIGNS ? designs[n]->has_client : -EINVAL;
}

int uiopf_design_has_ring(uint32_t n)
{
	return n < DESIGNS ? designs[n]->has_ring : -EINVAL;
}

int uiopf_channel_open(struct uiopf_core *core, struct uiopf_faultq *queue, uint32_t design,
		       const struct uiopf_channel_config *config, struct uiopf_space *space, struct uiopf_channel **out)
{
	struct uiopf_channel *ch;
	int rc;

	if (design >= DESIGNS || !config->in_flight || !config->group_most)
		return -EINVAL;
	ch = calloc(1, sizeof *ch);
	if (!ch)
		return -ENOMEM;
	ch->design = designs[design];
	ch->core = core;
	ch->queue = queue;
	ch->space = space;
	ch->config = *config;
	ch->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ch->eventfd < 0) {
		rc = -errno;
		free(ch);
		return rc;
	}
	ch->sleeper.eventfd = ch->eventfd;
	ch->sleeper.file = uiopf_faultq_file(queue);
	rc = ch->design->open(ch);
	if (rc < 0) {
		close(ch->eventfd);
		free(ch);
		return rc;
	}
	*out = ch;
	return 0;
}

void uiopf_channel_close(struct uiopf_channel *ch)
{
	uiopf_sleeper_unlist(ch->core, &ch->sleeper);
	ch->design->close(ch);
	close(ch->eventfd);
	free(ch);
}

/* A queue with a depth says where it has lost groups: that is no fault, and nothing to answer. */
static int without_losses(struct iommu_hwpt_pgfault *message, int n)
{
	int i, kept = 0;

	for (i = 0; i < n; i++)
		if (!(message[i].flags & UIOPF_PGFAULT_FLAGS_LOST))
			message[kept++] = message[i];
	return n < 0 ? n : kept;
}

int uiopf_channel_receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	int n;

	if (!ch->design->receive)
		return -EOPNOTSUPP;
	n = ch->design->receive(ch, out, most);
	return likely(!ch->queue->policy) ? n : without_losses(out, n);
}

int uiopf_channel_answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	return ch->design->answer ? ch->design->answer(ch, responses, n) : -EOPNOTSUPP;
}

int uiopf_channel_answer_one(struct uiopf_channel *ch, uint32_t cookie, uint32_t code)
{
	const struct iommu_hwpt_page_response response = { .cookie = cookie, .code = code };

	return uiopf_channel_answer(ch, &response, 1);
}

int uiopf_channel_flush(struct uiopf_channel *ch)
{
	return ch->design->flush ? ch->design->flush(ch) : 0;
}

int uiopf_channel_wait(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	return ch->design->wait ? ch->design->wait(ch, timeout_ns) : -EOPNOTSUPP;
}

int uiopf_channel_prepare_sleep(struct uiopf_channel *ch)
{
	return ch->design->prepare_sleep ? ch->design->prepare_sleep(ch) : -EOPNOTSUPP;
}

void uiopf_channel_awake(struct uiopf_channel *ch)
{
	eventfd_t value;

	/* A design that has nothing to undo counts with its eventfd, and reads it itself. */
	if (!ch->design->awake)
		return;
	eventfd_read(ch->eventfd, &value);
	ch->design->awake(ch);
}

int uiopf_channel_eventfd(const struct uiopf_channel *ch)
{
	return ch->eventfd;
}

void uiopf_channel_cost(struct uiopf_channel *ch, struct uiopf_cost *cost)
{
	uiopf_control_begin(ch->core);
	*cost = ch->cost;
	cost->wakeups += READ_ONCE(&ch->core->wakeups);
	if (ch->design->kernel_cost)
		ch->design->kernel_cost(ch, cost);
	uiopf_control_end(ch->core);
}

/* ---- waiting ---- */

int uiopf_channel_sleep(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	errno = 0;
	if (uiopf_eventfd_wait(ch->eventfd, timeout_ns))
		return 1;
	return errno == EINTR ? -EINTR : 0;
}

/* The queue's state as poll(2) would tell it, from any thread, without its lock. */
static bool readable(struct uiopf_channel *ch)
{
	return LOAD_SEQ(&ch->queue->published) != READ_ONCE(&ch->queue->head);
}

int uiopf_poll_prepare_sleep(struct uiopf_channel *ch)
{
	if (readable(ch))
		return 1;
	uiopf_sleeper_list(ch->core, &ch->sleeper);
	if (!readable(ch))	/* looked at once more, now that we are listed */
		return 0;
	uiopf_sleeper_unlist(ch->core, &ch->sleeper);
	return 1;
}

void uiopf_poll_awake(struct uiopf_channel *ch)
{
	uiopf_sleeper_unlist(ch->core, &ch->sleeper);
}

int uiopf_poll_wait(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	const bool is_inline = ch->core->driver == UIOPF_INLINE;
	int rc;

	if (!uiopf_sleeps(ch)) {
		/* A spinning client looks by reading; only the inline driver has something to do here. */
		return !is_inline || readable(ch) || uiopf_core_produce(ch->core);
	}
	rc = uiopf_poll_prepare_sleep(ch);
	while (rc == 0 && is_inline) {
		/* The caller sleeps, and its thread turns the producer meanwhile. */
		if (!uiopf_core_produce(ch->core))
			break;
		rc = readable(ch);
	}
	if (rc == 0 && !is_inline) {
		rc = uiopf_channel_sleep(ch, timeout_ns);
		ch->cost.system_calls++;	/* poll: a real one */
	} else {
		uiopf_system_call(ch, true);
	}
	uiopf_poll_awake(ch);
	return rc;
}
