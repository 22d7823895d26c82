#include "designs/host_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "core/notify.h"

#define MESSAGE (uint32_t)sizeof(struct iommu_hwpt_pgfault)
#define LOOKS 64u	/* turns from one look without a cause to the next */
#define ROOM (1 << 20)		/* bytes, which the host doubles: 512 groups of 32 messages, with what it keeps beside each */
#define MOST_IN_TURN 1024u	/* packets: a turn is bounded, whatever a client writes */

/*
 * `sleeps`, the lower bits: a packet itself wakes a client in a call, an eventfd one in an event loop. The rest is the number
 * of the sleep. The client alone writes it: were the kernel's half to say that it has woken somebody, it could say so of the
 * next sleep, for which no packet has come.
 */
enum { AWAKE, IN_A_CALL, IN_AN_EVENT_LOOP, HOW = 3 };

/* ---- the kernel's half ---- */

/* Takes the oldest group out of the queue, into the packet that is sent next; false: there is none. */
static bool next_packet(struct uiopf_host_socket *s)
{
	struct uiopf_faultq *q = s->ch->queue;
	struct uiopf_file *file = uiopf_faultq_file(q);

	while (uiopf_faultq_has_group(q)) {
		const uint32_t messages = q->ring[q->head & q->mask]->fault_count;
		int64_t n;

		if (unlikely(messages > s->most)) {
			uiopf_faultq_refuse_next(q, UIOPF_RESP_INVALID);
			continue;
		}
		n = file->ops->read(file, s->packet, messages * MESSAGE, 0);
		s->length = n > 0 ? (uint32_t)n : 0;
		return n > 0;
	}
	return false;
}

/* The socket had no room: whether it is worth another call. */
static bool may_have_room(struct uiopf_host_socket *s)
{
	return READ_ONCE(&s->taken) != s->taken_when_full || s->looks % LOOKS == 0;
}

/* Sends groups while there are any, and room; how many. */
static uint32_t send_groups(struct uiopf_host_socket *s)
{
	uint32_t n = 0, taken;

	if (unlikely(s->full) && !may_have_room(s))
		return 0;
	s->full = false;
	while (s->length || next_packet(s)) {
		ssize_t rc;

		taken = READ_ONCE(&s->taken);
		/* Counted before it can be seen: in virtual time it is, once it is paid for. */
		s->cost.system_calls++;
		s->cost.packets_sent++;
		uiopf_pass_time(s->ch->core, UIOPF_STORES);
		rc = send(s->kernel_end, s->packet, s->length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (unlikely(rc < 0)) {	/* no room or memory, or a client that has shut its end down: not now */
			s->cost.system_calls--;
			s->cost.packets_sent--;
			s->cost.empty_polls++;
			s->taken_when_full = taken;
			s->full = true;
			break;
		}
		s->cost.bytes_copied += (uint64_t)rc;
		s->length = 0;
		WRITE_ONCE(&s->outstanding, s->outstanding + 1);	/* a client looks at it without the lock */
		/* Pairs with the client's look before it sleeps: it sees the packet, or we see that it sleeps. */
		STORE_SEQ(&s->sent, s->sent + 1);
		uiopf_tell_player(s->ch->core);
		n++;
	}
	return n;
}

/* A packet from the client: as if it had written that to the queue's file. */
static bool is_taken(struct uiopf_host_socket *s, uint64_t length)
{
	struct uiopf_file *file = uiopf_faultq_file(s->ch->queue);

	return length <= s->answers_size && file->ops->write(file, s->answers, length, 0) == (int64_t)length;
}

/*
 * Takes out so many packets, and all that are there once one of them was no answer: it was none of those that are
 * expected. How many.
 */
static uint32_t take_answers(struct uiopf_host_socket *s, uint32_t expected, bool in_call)
{
	uint32_t n;

	for (n = 0; n < expected && n < MOST_IN_TURN; n++) {
		ssize_t length = recv(s->kernel_end, s->answers, s->answers_size, MSG_DONTWAIT | MSG_TRUNC);

		if (length <= 0) {	/* nothing; or an empty packet, which is none; or a client that has shut its end down */
			s->cost.empty_polls += in_call;
			break;
		}
		s->cost.system_calls++;
		s->cost.packets_received++;
		s->cost.bytes_copied += (uint64_t)length;
		if (s->outstanding)
			WRITE_ONCE(&s->outstanding, s->outstanding - 1);
		if (unlikely(length != sizeof(struct iommu_hwpt_page_response)))
			expected = UINT32_MAX;
		if (unlikely(!is_taken(s, (uint64_t)length))) {
			s->cost.answer_errors++;
			expected = UINT32_MAX;
		}
	}
	return n;
}

/* Sends, and ends the sleep of a client: one that slept before, for the packet has woken it by now and it may sleep again. */
static uint32_t send_and_wake(struct uiopf_host_socket *s)
{
	uint32_t sleeps = LOAD_SEQ(&s->sleeps), n = send_groups(s);

	if (!n)
		return 0;
	if ((sleeps & HOW) != IN_A_CALL)
		sleeps = LOAD_SEQ(&s->sleeps);	/* it looks for a packet once more after it has said that it sleeps */
	if ((sleeps & HOW) == AWAKE || sleeps == s->woken)
		return n;
	s->woken = sleeps;
	s->cost.wakeups++;
	if ((sleeps & HOW) == IN_AN_EVENT_LOOP)
		uiopf_eventfd_signal(s->ch->core, s->ch->eventfd);
	return n;
}

/* The worker's turn, or one that somebody makes by hand. */
static uint32_t run(struct uiopf_consumer *consumer)
{
	struct uiopf_host_socket *s = container_of(consumer, struct uiopf_host_socket, consumer);
	const bool by_hand = s->ch->core->driver != UIOPF_SQPOLL;
	uint32_t n = 0;

	s->looks++;
	if (s->outstanding || s->looks % LOOKS == 0 || by_hand)
		n = take_answers(s, s->outstanding ? s->outstanding : 1, false);
	return n + send_and_wake(s);
}

/* Something arrived. Under `enter` a client that sleeps in a call does not run the kernel's half; whoever is here does. */
static void arrive(void *of)
{
	struct uiopf_host_socket *s = of;

	if (s->ch->core->driver == UIOPF_ENTER && (LOAD_SEQ(&s->sleeps) & HOW) == IN_A_CALL)
		send_and_wake(s);
}

static void stop_watching(struct uiopf_host_socket *s)
{
	if (s->watched)
		uiopf_wake_unwatch(s->ch->core, s->kernel_end);
	s->watched = false;
}

/* While the worker sleeps, what a client writes wakes it. It is watched for no longer: each packet would pay for that. */
static void sleeping(struct uiopf_consumer *consumer, bool asleep)
{
	struct uiopf_host_socket *s = container_of(consumer, struct uiopf_host_socket, consumer);

	stop_watching(s);
	if (asleep && s->ch->core->driver == UIOPF_SQPOLL)
		s->watched = uiopf_wake_watch(s->ch->core, s->kernel_end) == 0;
}

/* Nobody tells of room. Nor of answers, where the host would not watch for them. */
static bool needs_looks(const struct uiopf_consumer *consumer)
{
	const struct uiopf_host_socket *s = container_of(consumer, struct uiopf_host_socket, consumer);

	return s->length || !s->watched;
}

static const struct uiopf_consumer_ops consumer_ops = { .run = run, .sleeping = sleeping, .needs_looks = needs_looks };

/* ---- the client's half ---- */

static bool calls_kernel(const struct uiopf_host_socket *s)
{
	return s->ch->core->driver != UIOPF_SQPOLL;
}

static int kernel(struct uiopf_host_socket *s, bool looks)
{
	struct uiopf_core *core = s->ch->core;

	if (!s->owed && !looks && !uiopf_poll_readable(s->ch))
		return 0;
	if (uiopf_consumer_try_begin(core) < 0)
		return -EINTR;
	s->looks = 0;
	take_answers(s, looks ? UINT32_MAX : s->owed, true);
	s->owed = 0;
	send_groups(s);
	uiopf_core_kick(core);
	uiopf_consumer_end(core);
	return 0;
}

int uiopf_host_socket_kernel(struct uiopf_host_socket *s)
{
	return calls_kernel(s) ? kernel(s, false) : 0;
}

int uiopf_host_socket_make_room(struct uiopf_host_socket *s, struct uiopf_patience *patience)
{
	int rc = 0;

	if (calls_kernel(s)) {
		s->owed += !s->owed;	/* something is in the way, whoever wrote it */
		rc = kernel(s, false);
	} else if (uiopf_in_control(s->ch->core)) {	/* no worker comes before this thread lets go: we are the kernel */
		uiopf_core_consume(s->ch->core);
	}
	return rc < 0 ? rc : uiopf_core_wait_a_moment(s->ch->core, patience);
}

static void begin_sleep(struct uiopf_host_socket *s, uint32_t how)
{
	STORE_SEQ(&s->sleeps, ((s->sleeps | HOW) + 1) | how);
}

static void end_sleep(struct uiopf_host_socket *s)
{
	STORE_SEQ(&s->sleeps, s->sleeps & ~(uint32_t)HOW);
}

bool uiopf_host_socket_has_packet(const struct uiopf_host_socket *s)
{
	return (int32_t)(LOAD_SEQ(&s->sent) - s->taken) > 0;	/* one that was sent may be counted after it was read */
}

/* From the first sleep on, and not before: it costs the hardware's thread a lock for each arrival. */
static int tell_from_now_on(struct uiopf_host_socket *s)
{
	struct uiopf_core *core = s->ch->core;

	if (uiopf_control_try_begin(core) < 0)
		return -EINTR;
	WRITE_ONCE(&core->tells_at_once, core->tells_at_once + 1);
	s->tells = true;
	uiopf_control_end(core);
	return 0;
}

/* What is known without a call: 1, a packet is there; 0, or -EINTR. The kernel's half has run, where it is ours. */
static int look(struct uiopf_host_socket *s)
{
	int rc = uiopf_host_socket_kernel(s);

	if (rc < 0 || uiopf_host_socket_has_packet(s))
		return rc < 0 ? rc : 1;
	/* Answers that were written behind our back: nobody else takes them out. */
	rc = calls_kernel(s) && READ_ONCE(&s->outstanding) ? kernel(s, true) : 0;
	return rc < 0 ? rc : uiopf_host_socket_has_packet(s);
}

static int sleep_beside_a_worker(struct uiopf_host_socket *s, uint64_t timeout_ns,
				 int (*sleep)(struct uiopf_channel *ch, uint64_t timeout_ns))
{
	int rc = 0;

	if (unlikely(calls_kernel(s) && !s->tells))
		rc = tell_from_now_on(s);
	if (rc == 0)
		rc = look(s);
	if (rc == 0) {
		begin_sleep(s, IN_A_CALL);
		rc = uiopf_host_socket_kernel(s);	/* what came before that was seen */
	}
	if (rc >= 0)
		rc = sleep(s->ch, timeout_ns);
	end_sleep(s);
	return rc;
}

/* The caller's thread turns the producer meanwhile; the call that would sleep is made when there is something, or nothing to come. */
static int sleep_inline(struct uiopf_host_socket *s, int (*sleep)(struct uiopf_channel *ch, uint64_t timeout_ns))
{
	struct uiopf_core *core = s->ch->core;
	uint32_t turns = 0;
	int rc = look(s), did = 1;

	if (rc == 0)
		uiopf_sleeper_list(core, &s->ch->sleeper);
	while (rc == 0 && did > 0) {
		did = turns++ < UIOPF_TURNS_OF_A_CALL ? uiopf_core_produce(core) : -EINTR;
		rc = did < 0 ? did : look(s);
	}
	uiopf_sleeper_unlist(core, &s->ch->sleeper);
	return rc < 0 ? rc : sleep(s->ch, 0);
}

int uiopf_host_socket_wait(struct uiopf_host_socket *s, uint64_t timeout_ns,
			   int (*sleep)(struct uiopf_channel *ch, uint64_t timeout_ns))
{
	struct uiopf_core *core = s->ch->core;
	int rc;

	if (uiopf_sleeps(s->ch))
		return core->driver == UIOPF_INLINE ? sleep_inline(s, sleep) : sleep_beside_a_worker(s, timeout_ns, sleep);
	/* A spinning client looks by reading; only the inline driver has something to do here. */
	if (core->driver != UIOPF_INLINE)
		return 1;
	rc = look(s);
	if (rc == 0)
		rc = uiopf_core_produce(core);
	return rc > 0 ? 1 : rc;
}

int uiopf_host_socket_prepare_sleep(struct uiopf_host_socket *s)
{
	int rc = look(s);

	if (rc)
		return rc;
	if (calls_kernel(s))
		return uiopf_poll_prepare_sleep(s->ch);
	begin_sleep(s, IN_AN_EVENT_LOOP);
	if (!uiopf_host_socket_has_packet(s))
		return 0;
	end_sleep(s);
	return 1;
}

void uiopf_host_socket_awake(struct uiopf_host_socket *s)
{
	end_sleep(s);
	uiopf_sleeper_unlist(s->ch->core, &s->ch->sleeper);
}

void uiopf_host_socket_cost(const struct uiopf_host_socket *s, struct uiopf_cost *cost)
{
	cost->system_calls += s->cost.system_calls;
	cost->empty_polls += s->cost.empty_polls;
	cost->wakeups += s->cost.wakeups;
	cost->bytes_copied += s->cost.bytes_copied;
	cost->answer_errors += s->cost.answer_errors;
	cost->packets_sent += s->cost.packets_sent;
	cost->packets_received += s->cost.packets_received;
}

/* ---- both halves' making and end ---- */

static void free_socket(struct uiopf_host_socket *s)
{
	if (s->kernel_end >= 0)
		close(s->kernel_end);
	if (s->client_end >= 0)
		close(s->client_end);
	free(s->answers);
	free(s);
}

/* Room, as much as the host gives, and memory for the largest packet that a client can then send. */
static int open_pair(struct uiopf_host_socket *s)
{
	const int room = ROOM;
	socklen_t length = sizeof s->answers_size;
	int end[2], n;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, end) < 0)
		return -errno;
	s->kernel_end = end[0];
	s->client_end = end[1];
	for (n = 0; n < 2; n++)
		if (setsockopt(end[n], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) < 0)
			return -errno;
	if (getsockopt(s->client_end, SOL_SOCKET, SO_SNDBUF, &s->answers_size, &length) < 0)
		return -errno;
	s->answers = malloc(s->answers_size);
	return s->answers ? 0 : -ENOMEM;
}

struct uiopf_host_socket *uiopf_host_socket_new(struct uiopf_channel *ch, int *error)
{
	struct uiopf_host_socket *s = aligned_alloc(UIOPF_LINE_BYTES, sizeof *s);
	struct uiopf_core *core = ch->core;

	*error = -ENOMEM;
	if (!s)
		return NULL;
	*s = (struct uiopf_host_socket){
		.ch = ch, .kernel_end = -1, .client_end = -1, .most = UIOPF_PACKET_MOST, .consumer = { .ops = &consumer_ops },
	};
	*error = open_pair(s);
	if (*error < 0) {
		free_socket(s);
		return NULL;
	}
	uiopf_control_begin(core);
	if (ch->queue->on_arrival) {
		*error = -EBUSY;
	} else {
		ch->queue->on_arrival = arrive;
		ch->queue->on_arrival_of = s;
		uiopf_core_add_consumer(core, &s->consumer);
	}
	uiopf_control_end(core);
	if (*error == 0)
		return s;
	free_socket(s);
	return NULL;
}

void uiopf_host_socket_free(struct uiopf_host_socket *s)
{
	struct uiopf_core *core = s->ch->core;

	if (!core->abandoned) {
		uiopf_control_begin(core);
		take_answers(s, UINT32_MAX, false);	/* what was answered is answered */
		uiopf_core_kick(core);
		stop_watching(s);
		uiopf_core_remove_consumer(core, &s->consumer);
		s->ch->queue->on_arrival = NULL;
		s->ch->queue->on_arrival_of = NULL;
		if (s->tells)
			WRITE_ONCE(&core->tells_at_once, core->tells_at_once - 1);
		uiopf_control_end(core);
	}
	free_socket(s);
}
