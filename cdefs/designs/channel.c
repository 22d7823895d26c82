#include "designs/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define LONGEST_WAIT_NS 500000000u

int uiopf_channel_make(struct uiopf_core *core, struct uiopf_faultq *queue, const struct uiopf_design *design,
		       const struct uiopf_channel_config *config, struct uiopf_space *space, struct uiopf_channel **out)
{
	struct uiopf_channel *ch;
	int rc;

	if (!config->in_flight || !config->group_most)
		return -EINVAL;
	ch = calloc(1, sizeof *ch);
	if (!ch)
		return -ENOMEM;
	ch->design = design;
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
	ch->last_answered = -1;
	ch->most_answers = UIOPF_MOST_ANSWERS;
	ch->sleeper.eventfd = ch->eventfd;
	uiopf_turner_init(&ch->turner, core, ch->eventfd);
	ch->sleeper.file = uiopf_faultq_file(queue);
	rc = ch->design->open(ch);
	if (rc < 0) {
		close(ch->eventfd);
		free(ch);
		return rc;
	}
	uiopf_hold(&core->lifetime);
	uiopf_hold(&queue->lifetime);
	if (space)
		uiopf_hold(&space->lifetime);
	*out = ch;
	return 0;
}

/* The channel's watch, if it has one: from then on nobody adds to it. */
static void end_watch(struct uiopf_channel *ch)
{
	if (!ch->watch)
		return;
	if (!ch->core->abandoned) {
		uiopf_control_begin(ch->core);
		ch->queue->watch = NULL;
		ch->core->watches--;
		uiopf_control_end(ch->core);
	}
	free(ch->watch);
	ch->watch = NULL;
}

void uiopf_channel_close(struct uiopf_channel *ch)
{
	struct uiopf_core *core = ch ? ch->core : NULL;

	if (!ch || core->torn)
		return;
	if (!core->abandoned) {
		uiopf_sleeper_unlist(core, &ch->sleeper);
		uiopf_turner_unlist(&ch->turner);
	}
	ch->design->close(ch);
	end_watch(ch);
	close(ch->eventfd);
	uiopf_faultq_let_go(ch->queue);
	uiopf_space_free(ch->space);
	free(ch);
	uiopf_let_go(&core->lifetime);
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

/* Hands over what the design had no room for; 0, or -EINTR: there is still none. */
static int send_rest(struct uiopf_channel *ch)
{
	int n;

	while (unlikely(ch->rest_from != ch->rest_to)) {
		n = ch->design->answer(ch, &ch->rest[ch->rest_from], ch->rest_to - ch->rest_from);
		if (n < 0)
			return n;
		ch->rest_from += (uint32_t)n;
	}
	return 0;
}

static uint32_t groups_of(const struct iommu_hwpt_pgfault *message, int n)
{
	uint32_t groups = 0;
	int i;

	for (i = 0; i < n; i++)
		groups += (message[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) != 0;
	return groups;
}

int uiopf_receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	int n;

	if (!ch->design->receive)
		return -EOPNOTSUPP;
	n = send_rest(ch);
	if (unlikely(n < 0))
		return n;
	ch->answered = 0;
	ch->last_answered = -1;
	n = ch->design->receive(ch, out, most);
	if (unlikely(ch->queue->policy != NULL))
		n = without_losses(out, n);
	if (n == 0 && unlikely(READ_ONCE(&ch->core->yields)) && !uiopf_sleeps(ch))
		n = uiopf_core_yield(ch->core);	/* this client spins, and the other side has no other processor */
	ch->received = n > 0 ? (uint32_t)n : 0;
	if (unlikely(ch->watch != NULL) && n > 0) {
		uiopf_pass_time(ch->core, UIOPF_FOUND);
		uiopf_waypoint_pass(&ch->watch->received, groups_of(out, n), uiopf_now(&ch->core->clock));
	}
	return n;
}

/*
 * All or none, so that a client that is interrupted here, and calls again, sends nothing twice. What the design has no
 * room for is kept; only while there is such a rest is nothing taken.
 */
int uiopf_answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	uint32_t done = 0;
	int rc;

	if (!ch->design->answer)
		return -EOPNOTSUPP;
	if (unlikely(n - 1 >= ch->most_answers))
		return !n ? 0 : ch->most_answers ? -EINVAL : -ESHUTDOWN;
	rc = send_rest(ch);
	if (unlikely(rc < 0))
		return rc;
	if (unlikely(ch->watch != NULL)) {
		uiopf_pass_time(ch->core, UIOPF_SPENT);
		uiopf_waypoint_pass(&ch->watch->answered, n, uiopf_now(&ch->core->clock));
	}
	do {
		rc = ch->design->answer(ch, &responses[done], n - done);
		if (unlikely(rc < 0)) {
			ch->rest_from = 0;
			ch->rest_to = n - done;
			memcpy(ch->rest, &responses[done], (n - done) * sizeof responses[0]);
			break;
		}
		done += (uint32_t)rc;
	} while (unlikely(done < n));
	ch->answered += n;
	ch->last_answered = responses[n - 1].cookie;
	return (int)n;
}

int64_t uiopf_channel_last_answered(const struct uiopf_channel *ch)
{
	return ch->last_answered;
}

uint32_t uiopf_channel_received(const struct uiopf_channel *ch)
{
	return ch->received;
}

uint32_t uiopf_channel_answered(const struct uiopf_channel *ch)
{
	return ch->answered;
}

int uiopf_flush(struct uiopf_channel *ch)
{
	int rc = send_rest(ch);

	return rc == 0 && ch->design->flush ? ch->design->flush(ch) : rc;
}

int uiopf_wait(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	int rc = send_rest(ch);

	if (unlikely(rc < 0))
		return rc;
	if (!ch->design->wait)
		return -EOPNOTSUPP;
	/* A signal that came just before we slept does not end the sleep. */
	if (timeout_ns <= LONGEST_WAIT_NS || ch->core->driver == UIOPF_INLINE)
		return ch->design->wait(ch, timeout_ns);
	rc = ch->design->wait(ch, LONGEST_WAIT_NS);
	return rc == 0 ? -EINTR : rc;
}

static int prepare_sleep(struct uiopf_channel *ch)
{
	int rc = send_rest(ch);

	if (unlikely(rc < 0))
		return rc;
	if (!ch->design->prepare_sleep)
		return -EOPNOTSUPP;
	rc = ch->design->prepare_sleep(ch);
	if (rc)
		return rc;
	ch->cost.system_calls++;	/* poll, which the event loop makes: a real one */
	ch->asleep = true;
	if (ch->core->driver == UIOPF_INLINE)
		uiopf_turner_list(&ch->turner);
	return 0;
}

/*
 * Answers of one task while another sleeps for all of them: what a design holds back would leave with the next call, and
 * the one that sleeps makes none. So it is woken to make it, once, however many answers there are.
 */
static void rouse(struct uiopf_channel *ch)
{
	if (ch->roused || !(ch->rest_from != ch->rest_to || (ch->design->holds && ch->design->holds(ch))))
		return;
	ch->roused = true;
	eventfd_write(ch->eventfd, 1);
}

/* A code that the kernel would refuse only later, when nobody can be told: 1, or 0, or -EINTR. */
static int takes(struct uiopf_channel *ch, struct iommu_hwpt_page_response response)
{
	if (likely(response.code <= IOMMUFD_PAGE_RESP_INVALID))
		return 1;
	if (ch->design->takes)
		return ch->design->takes(ch, response.code);
	return uiopf_faultq_takes(ch->queue, response.cookie, response.code);
}

static int answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	uint32_t i;
	int rc;

	for (i = 0; i < n && ch->design->answer; i++) {
		rc = takes(ch, responses[i]);
		if (unlikely(rc <= 0))
			return rc < 0 ? rc : -EDOM;
	}
	rc = uiopf_answer(ch, responses, n);

	if (unlikely(ch->asleep) && rc > 0)
		rouse(ch);
	return rc;
}

/* ---- the same, as a program calls them: one thread at a time ---- */

bool uiopf_client_enter(struct uiopf_channel *ch)
{
	return !__atomic_exchange_n(&ch->busy, 1, __ATOMIC_ACQUIRE);	/* pairs with the last one's leaving */
}

void uiopf_client_leave(struct uiopf_channel *ch)
{
	STORE_RELEASE(&ch->busy, 0);
}

#define ALONE(ch, call) ({					\
	int rc_ = -EALREADY;					\
								\
	if (likely(uiopf_client_enter(ch))) {			\
		rc_ = (call);					\
		uiopf_client_leave(ch);				\
	}							\
	rc_;							\
})

int uiopf_channel_receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	return ALONE(ch, uiopf_receive(ch, out, most));
}

static int answer_groups(struct uiopf_channel *ch, const struct iommu_hwpt_pgfault *messages, uint32_t n, uint32_t skip,
			 uint32_t code)
{
	struct iommu_hwpt_page_response responses[UIOPF_MOST_ANSWERS];
	uint32_t i, groups = 0;

	if (n > UIOPF_MOST_ANSWERS)
		return -EINVAL;
	for (i = 0; i < n; i++) {
		if (!(messages[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE))
			continue;
		if (skip)
			skip--;
		else
			responses[groups++] = (struct iommu_hwpt_page_response){ .cookie = messages[i].cookie, .code = code };
	}
	return answer(ch, responses, groups);
}

int uiopf_channel_answer_groups(struct uiopf_channel *ch, const struct iommu_hwpt_pgfault *messages, uint32_t n,
				uint32_t skip, uint32_t code)
{
	return ALONE(ch, answer_groups(ch, messages, n, skip, code));
}

int uiopf_channel_answer_one(struct uiopf_channel *ch, uint32_t cookie, uint32_t code)
{
	const struct iommu_hwpt_page_response response = { .cookie = cookie, .code = code };

	return ALONE(ch, answer(ch, &response, 1));
}

void uiopf_channel_shut(struct uiopf_channel *ch)
{
	WRITE_ONCE(&ch->most_answers, 0);
}

int uiopf_channel_flush(struct uiopf_channel *ch)
{
	return ALONE(ch, uiopf_flush(ch));
}

int uiopf_channel_wait(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	return ALONE(ch, uiopf_wait(ch, timeout_ns));
}

int uiopf_channel_prepare_sleep(struct uiopf_channel *ch)
{
	return ALONE(ch, prepare_sleep(ch));
}

static int awake(struct uiopf_channel *ch)
{
	eventfd_t value;

	ch->asleep = ch->roused = false;
	uiopf_turner_unlist(&ch->turner);
	/* A design that has nothing to undo counts with its eventfd, and reads it itself. */
	if (!ch->design->awake)
		return 0;
	ch->design->awake(ch, eventfd_read(ch->eventfd, &value) == 0);
	return 0;
}

int uiopf_channel_awake(struct uiopf_channel *ch)
{
	return ALONE(ch, awake(ch));
}

int uiopf_channel_eventfd(const struct uiopf_channel *ch)
{
	return ch->eventfd;
}

int uiopf_channel_private_data(struct uiopf_channel *ch, uint32_t cookie, uint64_t out[2])
{
	if (!ch->design->private_data)
		return -EOPNOTSUPP;
	return ALONE(ch, ch->design->private_data(ch, cookie, out));
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

static int watch(struct uiopf_channel *ch)
{
	struct uiopf_watch *w = aligned_alloc(_Alignof(struct uiopf_watch), sizeof *w);
	int rc = 0;

	if (!w)
		return -ENOMEM;
	memset(w, 0, sizeof *w);
	uiopf_control_begin(ch->core);
	if (ch->queue->watch)
		rc = -EBUSY;
	else
		ch->watch = ch->queue->watch = w;
	ch->core->watches += !rc;
	uiopf_control_end(ch->core);
	if (rc < 0)
		free(w);
	return rc;
}

int uiopf_channel_watch(struct uiopf_channel *ch)
{
	return ALONE(ch, watch(ch));
}

void uiopf_channel_get_waypoints(struct uiopf_channel *ch, struct uiopf_waypoints *out)
{
	const struct uiopf_watch *w;

	*out = (struct uiopf_waypoints){ 0 };
	uiopf_control_begin(ch->core);
	w = ch->watch;
	if (w)
		*out = (struct uiopf_waypoints){ w->queued, w->taken, w->received, w->answered, w->accepted };
	uiopf_control_end(ch->core);
}

uint64_t uiopf_channel_hardware_ns(struct uiopf_channel *ch)
{
	const struct uiopf_core *core = ch->core;
	double ns = 0;

	uiopf_control_begin(ch->core);
	if (core->hardware_timed)
		ns = (double)core->hardware_ns * (double)core->hardware_did / (double)core->hardware_timed;
	uiopf_control_end(ch->core);
	return (uint64_t)ns;
}

/* ---- waiting ---- */

int uiopf_channel_sleep(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	if (uiopf_eventfd_wait(ch->core, ch->eventfd, timeout_ns))
		return 1;
	return errno == EINTR ? -EINTR : 0;
}

/* The queue's state as poll(2) would tell it, from any thread, without its lock. */
bool uiopf_poll_readable(const struct uiopf_channel *ch)
{
	return LOAD_SEQ(&ch->queue->published) != READ_ONCE(&ch->queue->head);
}

int uiopf_poll_prepare_sleep(struct uiopf_channel *ch)
{
	if (uiopf_poll_readable(ch))
		return 1;
	uiopf_sleeper_list(ch->core, &ch->sleeper);
	if (!uiopf_poll_readable(ch))	/* looked at once more, now that we are listed */
		return 0;
	uiopf_sleeper_unlist(ch->core, &ch->sleeper);
	return 1;
}

/* It polls the queue's file, for which the eventfd only stands: there is no counter to be read. */
void uiopf_poll_awake(struct uiopf_channel *ch, bool told)
{
	(void)told;
	uiopf_sleeper_unlist(ch->core, &ch->sleeper);
}

int uiopf_poll_wait(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	const bool is_inline = ch->core->driver == UIOPF_INLINE;
	uint32_t turns = 0;
	int rc;

	if (!uiopf_sleeps(ch)) {
		/* A spinning client looks by reading; only the inline driver has something to do here. */
		rc = !is_inline || uiopf_poll_readable(ch) ? 1 : uiopf_core_produce(ch->core);
		return rc > 0 ? 1 : rc;
	}
	rc = uiopf_poll_prepare_sleep(ch);
	while (rc == 0 && is_inline) {
		/* The caller sleeps, and its thread turns the producer meanwhile. */
		int did = turns++ < UIOPF_TURNS_OF_A_CALL ? uiopf_core_produce(ch->core) : -EINTR;

		if (did <= 0) {
			rc = did;
			break;
		}
		rc = uiopf_poll_readable(ch);
	}
	if (rc == 0 && !is_inline) {
		ch->cost.system_calls++;	/* poll: a real one */
		rc = uiopf_channel_sleep(ch, timeout_ns);
	} else {
		uiopf_system_call(ch, true);
	}
	uiopf_sleeper_unlist(ch->core, &ch->sleeper);
	return rc;
}
