/*
 * host-uring: the host's own io_uring over a SOCK_SEQPACKET socket pair: a multishot RECV fills buffers that the client has
 * provided, one for each group, and each answer is a SEND whose completion is skipped on success.
 *
 * Who and when: nobody proposed it for faults. It is a reference, as host-fd is: what `uring-multishot` does, with the rings
 * of a real kernel. host_socket.h has the kernel's half. Raw system calls (io_uring_setup, _enter, _register), and the ring's
 * words where this project's own rings have them; Linux 6.0 or later (multishot RECV). A host that refuses them (EPERM,
 * ENOSYS), or is older (EINVAL), refuses the open with that errno.
 *
 * The ring is a plain one: the host posts completions by interrupting the thread that armed the RECV, so a client that
 * spins looks into memory and calls nothing. With DEFER_TASKRUN only one thread could ever use the channel.
 *
 * Cost of a fault by itself, for a client that sleeps:
 *   4 system calls  send (the kernel's half), an enter that waits, an enter that sends the answer; recv (the kernel's half).
 *                   Beside a worker 3: one enter sends the answer and waits. Where the calling thread is the kernel, it
 *                   takes the answer out between the two
 *   1 wake-up       the completion's, of a client that sleeps in its enter
 *   176 bytes       40 (message) + 8 (answer), each copied twice, into the socket and out of it; 64 (SQE), 16 (CQE)
 * A spinning client does not wait: 3 calls and no wake-up. With N in flight both enters are paid once for all that wait:
 * 2 + 2/N calls (2 + 1/N beside a worker, or spinning). The RECV's SQE is copied once.
 *
 * A SEND that finds the socket full completes with EAGAIN, and is queued again: the answer is its user_data. A RECV that has
 * ended, since there were no buffers or the thread that armed it is gone, is armed again by the next receive or wait; `ends`
 * counts it. A group of more messages than the largest that the client has said is answered INVALID for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "designs/host_socket.h"
#include "rings/ring.h"

#define MESSAGE (uint32_t)sizeof(struct iommu_hwpt_pgfault)
#define GROUP_ID 0
#define RECEIVE UINT64_MAX	/* user_data; an answer's is the answer, whose code is never so large */
#define LEAST_ENTRIES 64u
#define MOST_IN_FLIGHT 16384u	/* so that a buffer ring has two for each */

struct client {
	struct uiopf_host_socket *socket;
	struct uiopf_client_ring *ring;
	int fd;
	bool missing;			/* no RECV is armed */
	uint32_t queued;		/* SQEs that no call has submitted */
	uint32_t answers;		/* … SENDs among them */
	uint32_t looked;		/* completions looked at for answers that failed, ever */
	uint32_t buffers;		/* a power of two */
	uint16_t tail;			/* of the buffer ring */
	uint8_t *map;			/* the buffer ring, the buffers, a place for the answer of each SQE */
	uint64_t map_size, buffers_at, answers_at;
};

static uint32_t power_of_two(uint32_t n)
{
	uint32_t p = LEAST_ENTRIES;

	while (p < n)
		p *= 2;
	return p;
}

/* ---- the ring ---- */

/* In virtual time, after a call that has submitted and could not sleep: the rest of it. 0, or -EINTR. */
static int sleep_played(const struct uiopf_channel *ch, uint64_t timeout_ns)
{
	const struct client *c = ch->state;

	if (uiopf_client_ready(c->ring) || uiopf_eventfd_poll(ch->core, c->fd, timeout_ns))
		return 0;
	return errno == EINTR ? -EINTR : 0;
}

/* How many were submitted, or -errno; timeout_ns counts where it waits. */
static int enter(struct uiopf_channel *ch, uint32_t min_complete, uint32_t flags, uint64_t timeout_ns)
{
	struct client *c = ch->state;
	struct __kernel_timespec t = { (int64_t)(timeout_ns / 1000000000u), (long long)(timeout_ns % 1000000000u) };
	const struct io_uring_getevents_arg arg = { .ts = timeout_ns == UINT64_MAX ? 0 : (uint64_t)(uintptr_t)&t };
	const bool played = ch->core->player != NULL;
	long n;

	uiopf_client_publish(c->ring);
	/* Counted before it can be seen: in virtual time it is, once it is paid for. */
	ch->cost.system_calls++;
	ch->cost.sqes += c->queued;
	ch->cost.packets_sent += c->answers;
	if (c->answers)
		uiopf_pass_time(ch->core, UIOPF_STORES);
	n = syscall(SYS_io_uring_enter, c->fd, c->queued, played ? 0 : min_complete, flags | IORING_ENTER_EXT_ARG, &arg,
		    sizeof arg);
	if (n < 0)
		return errno == ETIME ? 0 : errno == EAGAIN ? -EINTR : -errno;
	ch->cost.bytes_copied += (uint64_t)n * sizeof(struct io_uring_sqe);
	if ((uint32_t)n == c->queued)
		c->socket->owed += c->answers;
	else
		c->socket->owed++;	/* some: the kernel's half looks how many */
	c->answers = (uint32_t)n == c->queued ? 0 : c->answers;
	c->queued -= (uint32_t)n;
	if (unlikely(played && min_complete) && sleep_played(ch, timeout_ns) < 0)
		return -EINTR;
	return (int)n;
}

/* Submits what is queued, in a call of its own. 0 or -errno. */
static int submit(struct uiopf_channel *ch)
{
	struct client *c = ch->state;
	int rc = c->queued ? enter(ch, 0, 0, 0) : 0;

	return rc < 0 ? rc : 0;
}

/* A free SQE, and its slot; NULL with *rc = -errno: the host takes none. */
static struct io_uring_sqe *next_sqe(struct uiopf_channel *ch, uint32_t *slot, int *rc)
{
	struct client *c = ch->state;
	struct io_uring_sqe *sqe;

	*rc = 0;
	while (unlikely(!(sqe = uiopf_client_get_sqe(c->ring, slot)))) {
		*rc = submit(ch);
		if (*rc < 0)
			return NULL;
	}
	c->queued++;
	return sqe;
}

/* Queues the RECV, if none is armed. 0 or -errno. */
static int queue_receive(struct uiopf_channel *ch)
{
	struct client *c = ch->state;
	struct io_uring_sqe *sqe;
	uint32_t slot;
	int rc;

	if (likely(!c->missing))
		return 0;
	sqe = next_sqe(ch, &slot, &rc);
	if (!sqe)
		return rc;
	sqe->opcode = IORING_OP_RECV;
	sqe->ioprio = IORING_RECV_MULTISHOT;
	sqe->flags = IOSQE_BUFFER_SELECT;
	sqe->fd = c->socket->client_end;
	sqe->buf_group = GROUP_ID;
	sqe->user_data = RECEIVE;
	c->missing = false;
	return 0;
}

/* Queues one answer. 0 or -errno. */
static int queue_answer(struct uiopf_channel *ch, struct iommu_hwpt_page_response response)
{
	struct client *c = ch->state;
	uint32_t slot;
	int rc;
	struct io_uring_sqe *sqe = next_sqe(ch, &slot, &rc);
	uint8_t *at;

	if (unlikely(!sqe))
		return rc;
	at = c->map + c->answers_at + slot * sizeof response;
	memcpy(at, &response, sizeof response);
	sqe->opcode = IORING_OP_SEND;
	sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	sqe->fd = c->socket->client_end;
	sqe->addr = (uint64_t)(uintptr_t)at;
	sqe->len = sizeof response;
	sqe->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;	/* ends in the call that submits it: its memory is free again then */
	sqe->user_data = (uint64_t)response.code << 32 | response.cookie;
	c->answers++;
	ch->cost.bytes_copied += sizeof response;
	return 0;
}

static struct io_uring_buf *buffer_ring(const struct client *c)
{
	return (struct io_uring_buf *)(void *)c->map;
}

static uint8_t *buffer_at(const struct uiopf_channel *ch, uint16_t id)
{
	const struct client *c = ch->state;

	return c->map + c->buffers_at + (uint64_t)id * ch->config.group_most * MESSAGE;
}

/* Gives a buffer back; the host sees it at the next publish_buffers(). */
static void provide(const struct uiopf_channel *ch, uint16_t id)
{
	struct client *c = ch->state;
	struct io_uring_buf *buf = &buffer_ring(c)[c->tail++ & (c->buffers - 1)];

	buf->addr = (uint64_t)(uintptr_t)buffer_at(ch, id);
	buf->len = ch->config.group_most * MESSAGE;
	buf->bid = id;
}

static void publish_buffers(struct client *c)
{
	STORE_RELEASE(&buffer_ring(c)->resv, c->tail);
}

/* ---- the client's half ---- */

/* Answers that the socket had no room for go out again; others that failed are counted. 0 or -errno. */
static int answer_failed(struct uiopf_channel *ch, const struct io_uring_cqe *cqe)
{
	const struct iommu_hwpt_page_response response = {
		.cookie = (uint32_t)cqe->user_data, .code = (uint32_t)(cqe->user_data >> 32),
	};

	ch->cost.bytes_copied -= sizeof response;
	if (cqe->res == -EAGAIN || cqe->res == -ENOBUFS || cqe->res == -ENOMEM)
		return queue_answer(ch, response);
	ch->cost.answer_errors++;
	return 0;
}

/* Takes completions while there is room for the largest group; how many messages. */
static uint32_t take(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct client *c = ch->state;
	uint32_t n = 0, packets = 0, given = 0;

	while (most - n >= ch->config.group_most && uiopf_client_ready(c->ring)) {
		const struct io_uring_cqe cqe = *uiopf_client_cqe(c->ring, 0);

		uiopf_client_seen(c->ring, 1);
		ch->cost.bytes_copied += sizeof cqe;
		ch->cost.cqes++;
		if (unlikely(cqe.user_data != RECEIVE)) {
			if (answer_failed(ch, &cqe) < 0)	/* the host takes nothing, and says why in the next call */
				ch->cost.answer_errors++;
			continue;
		}
		if (cqe.flags & IORING_CQE_F_BUFFER) {
			const uint16_t id = (uint16_t)(cqe.flags >> IORING_CQE_BUFFER_SHIFT);

			if (cqe.res > 0) {
				memcpy(&out[n], buffer_at(ch, id), (size_t)cqe.res);
				n += (uint32_t)cqe.res / MESSAGE;
				ch->cost.bytes_copied += (uint64_t)cqe.res;
				ch->cost.packets_received++;
				packets++;
			}
			provide(ch, id);
			given++;
		}
		if (unlikely(!(cqe.flags & IORING_CQE_F_MORE))) {
			c->missing = true;
			ch->cost.ends++;
		}
	}
	if (given)
		publish_buffers(c);
	if (packets)
		WRITE_ONCE(&c->socket->taken, c->socket->taken + packets);
	return n;
}

/* Completions that had no room in the queue come when they are asked for. */
static bool overflowed(const struct client *c)
{
	return READ_ONCE(uiopf_client_word(c->ring, RING_SQ_FLAGS)) & IORING_SQ_CQ_OVERFLOW;
}

/*
 * Looks through completions that nobody has looked at for answers that failed. They are dealt with, and what is left of them
 * takes nothing. True: some are queued again.
 */
static bool queue_again(struct uiopf_channel *ch, int *rc)
{
	struct client *c = ch->state;
	struct uiopf_client_ring *ring = c->ring;
	bool some = false;

	ring->cq_tail_seen = LOAD_ACQUIRE(uiopf_client_word(ring, RING_CQ_TAIL));	/* as uiopf_client_ready() */
	if ((int32_t)(c->looked - ring->cq_head) < 0)
		c->looked = ring->cq_head;
	for (; c->looked != ring->cq_tail_seen; c->looked++) {
		struct io_uring_cqe *cqe = (struct io_uring_cqe *)uiopf_client_cqe(ring, c->looked - ring->cq_head);

		if (likely(cqe->user_data == RECEIVE))
			continue;
		*rc = answer_failed(ch, cqe);
		if (*rc < 0)
			return false;
		cqe->user_data = RECEIVE;
		cqe->flags = IORING_CQE_F_MORE;
		some = c->answers;
	}
	return some;
}

/* Sends what is queued; and what the calling thread does as the kernel. 0 or -errno. */
static int flush(struct uiopf_channel *ch)
{
	struct client *c = ch->state;
	struct uiopf_patience patience = { 0 };
	int rc;

	if (likely(!c->queued && !c->socket->owed))
		return 0;
	for (;;) {
		rc = submit(ch);
		if (rc == 0 && c->socket->owed)
			rc = uiopf_host_socket_kernel(c->socket);
		if (rc < 0 || likely(!queue_again(ch, &rc)))
			return rc;
		rc = uiopf_host_socket_make_room(c->socket, &patience);
		if (rc < 0)
			return rc;
	}
}

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct client *c = ch->state;
	uint32_t n;
	int rc = flush(ch);

	if (likely(rc == 0))
		rc = uiopf_host_socket_kernel(c->socket);
	if (unlikely(rc < 0))
		return rc;
	if (unlikely(most < ch->config.group_most))
		return uiopf_client_ready(c->ring) ? -EINVAL : 0;	/* as the fault file */
	if (unlikely(!uiopf_client_ready(c->ring) && overflowed(c))) {
		rc = enter(ch, 0, IORING_ENTER_GETEVENTS, 0);
		if (rc < 0)
			return rc;
	}
	n = take(ch, out, most);
	if (unlikely(c->missing)) {
		rc = queue_receive(ch);
		rc = rc < 0 ? rc : submit(ch);
	}
	return n ? (int)n : rc;
}

static int answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	uint32_t i;
	int rc;

	for (i = 0; i < n; i++) {
		rc = queue_answer(ch, responses[i]);
		if (unlikely(rc < 0))
			return i ? (int)i : rc;
	}
	return (int)n;
}

static bool holds(const struct uiopf_channel *ch)
{
	const struct client *c = ch->state;

	return c->answers || (c->socket->owed && ch->core->driver != UIOPF_SQPOLL);
}

/* ---- waiting ---- */

/* One enter, which also sends what is queued. */
static int sleep_in_enter(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	struct client *c = ch->state;
	int rc = queue_receive(ch);

	if (rc >= 0)
		rc = enter(ch, 1, IORING_ENTER_GETEVENTS, timeout_ns);
	return uiopf_client_ready(c->ring) ? 1 : rc < 0 ? rc : 0;
}

static int wait_host_uring(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	struct client *c = ch->state;
	int rc = ch->core->driver != UIOPF_SQPOLL ? flush(ch) : 0;

	if (unlikely(rc < 0))
		return rc;
	if (uiopf_client_ready(c->ring) && !c->answers)
		return 1;
	return uiopf_host_socket_wait(c->socket, timeout_ns, sleep_in_enter);
}

static int prepare_sleep(struct uiopf_channel *ch)
{
	struct client *c = ch->state;
	int rc = queue_receive(ch);

	if (rc == 0)
		rc = flush(ch);
	if (rc < 0)
		return rc;
	return uiopf_client_ready(c->ring) ? 1 : uiopf_host_socket_prepare_sleep(c->socket);
}

static void awake(struct uiopf_channel *ch, bool told)
{
	struct client *c = ch->state;

	(void)told;
	uiopf_host_socket_awake(c->socket);
}

static void kernel_cost(struct uiopf_channel *ch, struct uiopf_cost *cost)
{
	struct client *c = ch->state;

	uiopf_host_socket_cost(c->socket, cost);
}

/* ---- its making and end ---- */

static void close_host_uring(struct uiopf_channel *ch)
{
	struct client *c = ch->state;
	struct io_uring_sync_cancel_reg all = { .fd = -1, .flags = IORING_ASYNC_CANCEL_ANY, .timeout = { -1, -1 } };

	/* The host writes into the buffers until its RECV has ended. In the child of a fork both are the parent's. */
	if (c->fd >= 0 && !ch->core->abandoned)
		syscall(SYS_io_uring_register, c->fd, IORING_REGISTER_SYNC_CANCEL, &all, 1);
	uiopf_client_ring_unmap(c->ring);
	if (c->fd >= 0)
		close(c->fd);
	if (c->map)
		munmap(c->map, c->map_size);
	if (c->socket)
		uiopf_host_socket_free(c->socket);
	free(c);
}

static int open_ring(struct client *c, uint32_t entries)
{
	struct io_uring_params p = { .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL, .cq_entries = 4 * entries };

	c->fd = (int)syscall(SYS_io_uring_setup, entries, &p);
	if (c->fd < 0)
		return -errno;
	if (!(p.features & IORING_FEAT_EXT_ARG))
		return -EOPNOTSUPP;
	c->ring = uiopf_client_ring_map_host(c->fd, &p);
	return c->ring ? 0 : -errno;
}

/* Shared with nobody: but a fork must not leave the host with the child's copy. */
static int open_memory(const struct uiopf_channel *ch, uint32_t entries)
{
	struct client *c = ch->state;
	struct io_uring_buf_reg reg = { .bgid = GROUP_ID, .ring_entries = c->buffers };
	uint32_t id;
	void *map;

	c->buffers_at = (c->buffers * sizeof(struct io_uring_buf) + UIOPF_PAGE - 1) / UIOPF_PAGE * UIOPF_PAGE;
	c->answers_at = c->buffers_at + (uint64_t)c->buffers * ch->config.group_most * MESSAGE;
	c->map_size = c->answers_at + (uint64_t)entries * sizeof(struct iommu_hwpt_page_response);
	map = mmap(NULL, c->map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return -ENOMEM;
	c->map = map;
	for (id = 0; id < c->buffers; id++)
		provide(ch, (uint16_t)id);
	publish_buffers(c);
	reg.ring_addr = (uint64_t)(uintptr_t)map;
	return syscall(SYS_io_uring_register, c->fd, IORING_REGISTER_PBUF_RING, &reg, 1) < 0 ? -errno : 0;
}

static int open_client(struct uiopf_channel *ch)
{
	const uint32_t in_flight = ch->config.in_flight, entries = power_of_two(in_flight);
	struct client *c = ch->state;
	int rc;

	if (in_flight > MOST_IN_FLIGHT || ch->config.group_most > UINT32_MAX / 16 / MESSAGE / entries)
		return -EINVAL;
	c->buffers = 2 * entries;
	c->socket = uiopf_host_socket_new(ch, &rc);
	if (!c->socket)
		return rc;
	if (c->socket->most > ch->config.group_most)
		c->socket->most = ch->config.group_most;
	/* Or the RECV would end where it finds nothing. */
	if (fcntl(c->socket->client_end, F_SETFL, 0) < 0)
		return -errno;
	rc = open_ring(c, entries);
	if (rc == 0)
		rc = open_memory(ch, entries);
	if (rc == 0)
		rc = queue_receive(ch);
	if (rc == 0)
		rc = submit(ch);
	if (rc == 0 && uiopf_client_ready(c->ring) && uiopf_client_cqe(c->ring, 0)->res < 0)
		rc = uiopf_client_cqe(c->ring, 0)->res;		/* it knows no such RECV */
	memset(&ch->cost, 0, sizeof ch->cost);	/* what follows is counted, not this */
	return rc;
}

static int open_host_uring(struct uiopf_channel *ch)
{
	struct client *c = calloc(1, sizeof *c);
	int rc;

	if (!c)
		return -ENOMEM;
	ch->state = c;
	c->fd = -1;
	c->missing = true;
	rc = open_client(ch);
	if (rc < 0)
		close_host_uring(ch);
	return rc;
}

const struct uiopf_design uiopf_design_host_uring = {
	.info = {
		.name = "host-uring",
		.year = "-",
		.summary = "the host's io_uring over a socket: multishot RECV, SEND",
		.personality = UIOPF_MERGED,
		.has_client = true,
		.on_host = true,
	},
	.open = open_host_uring,
	.close = close_host_uring,
	.receive = receive,
	.answer = answer,
	.flush = flush,
	.wait = wait_host_uring,
	.prepare_sleep = prepare_sleep,
	.awake = awake,
	.holds = holds,
	.kernel_cost = kernel_cost,
};
