/*
 * host-fd: the host's own poll, read and write, over a SOCK_SEQPACKET socket pair. Each group is a packet, and each answer.
 *
 * Who and when: nobody proposed it. It is a reference: what a fault and its answer cost by a descriptor of a real kernel, in
 * place of the emulated one. Predictions are checked against it, so that they can be believed where there is no kernel to
 * check them against. host_socket.h has the kernel's half.
 *
 * It is not `fd` on another kernel: a read takes one group, where the fault file gives all that fit, and a write gives one
 * answer. And both halves are programs here, so the kernel's half pays for calls that no kernel makes.
 *
 * Cost of a fault by itself, for a client that sleeps:
 *   5 system calls  send (the kernel's half), poll, read, write; recv (the kernel's half)
 *   1 wake-up       the packet's, of a client that sleeps in poll; no eventfd is written
 *   96 bytes        40 (message) + 8 (answer), each copied twice, into the socket and out of it
 * A spinning client does not poll: 4 calls and no wake-up. With N in flight the poll is paid once for all that wait: 4 + 1/N
 * calls. A read in vain ends a batch, unless the client has as many groups in hand as there can be; it is an empty poll.
 * An event loop sleeps on an eventfd that stands for the socket; beside a worker, writing that is one more call, not counted.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "designs/host_socket.h"

#define MESSAGE (uint32_t)sizeof(struct iommu_hwpt_pgfault)

struct client {
	struct uiopf_host_socket *socket;
	uint32_t in_hand;		/* groups read and not answered */
	uint32_t held;			/* messages of a group that was larger than the caller's room */
	struct iommu_hwpt_pgfault group[UIOPF_PACKET_MOST];
};

static void close_host_fd(struct uiopf_channel *ch)
{
	struct client *c = ch->state;

	uiopf_host_socket_free(c->socket);
	free(c);
}

static int open_host_fd(struct uiopf_channel *ch)
{
	struct client *c = calloc(1, sizeof *c);
	int error;

	if (!c)
		return -ENOMEM;
	c->socket = uiopf_host_socket_new(ch, &error);
	if (!c->socket) {
		free(c);
		return error;
	}
	ch->state = c;
	return 0;
}

/* ---- answers ---- */

/* One write: 0; -EAGAIN, there is no room; or 0 and counted, the other end does not take it. */
static int write_answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *response)
{
	struct client *c = ch->state;
	ssize_t n;

	/* Counted before it can be seen: in virtual time it is, once it is paid for. */
	ch->cost.system_calls++;
	ch->cost.packets_sent++;
	uiopf_pass_time(ch->core, UIOPF_STORES);
	n = send(c->socket->client_end, response, sizeof *response, MSG_NOSIGNAL);
	if (unlikely(n < 0))
		ch->cost.packets_sent--;
	if (unlikely(n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM))) {
		ch->cost.system_calls--;
		ch->cost.empty_polls++;
		return -EAGAIN;
	}
	if (unlikely(n < 0)) {
		ch->cost.answer_errors++;
		return 0;
	}
	ch->cost.bytes_copied += (uint64_t)n;
	c->socket->owed++;
	return 0;
}

static int answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	struct client *c = ch->state;
	struct uiopf_patience patience = { 0 };
	uint32_t i;
	int rc = 0;

	for (i = 0; i < n; i++) {
		while (unlikely(write_answer(ch, &responses[i]) < 0)) {
			rc = uiopf_host_socket_make_room(c->socket, &patience);
			if (rc < 0)
				return i ? (int)i : rc;
		}
		c->in_hand -= c->in_hand > 0;
	}
	uiopf_host_socket_kernel(c->socket);	/* if it cannot begin, the next call makes up for it: holds() */
	return (int)n;
}

static int flush(struct uiopf_channel *ch)
{
	struct client *c = ch->state;

	return c->socket->owed ? uiopf_host_socket_kernel(c->socket) : 0;
}

static bool holds(const struct uiopf_channel *ch)
{
	const struct client *c = ch->state;

	return c->socket->owed && ch->core->driver != UIOPF_SQPOLL;
}

/* ---- groups ---- */

/* One read, of a packet: how many messages, 0 or -EINTR. */
static int read_packet(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *to, uint32_t most)
{
	struct client *c = ch->state;
	struct uiopf_host_socket *s = c->socket;
	const uint32_t sent = LOAD_ACQUIRE(&s->sent);	/* before the call: what is sent during it may not be seen */
	ssize_t n = read(s->client_end, to, most * MESSAGE);

	if (n <= 0) {
		ch->cost.empty_polls++;
		if (n < 0 && errno == EINTR)
			return -EINTR;
		if ((int32_t)(sent - s->taken) > 0)	/* somebody else has read some of these */
			WRITE_ONCE(&s->taken, sent);
		return 0;
	}
	ch->cost.system_calls++;
	ch->cost.packets_received++;
	ch->cost.bytes_copied += (uint64_t)n;
	WRITE_ONCE(&s->taken, s->taken + 1);
	c->in_hand++;
	return (int)((uint64_t)n / MESSAGE);
}

/* A group that the caller may have no room for is read into memory of our own, and stays there as long as that is so. */
static int receive_with_care(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct client *c = ch->state;
	int n;

	if (!c->held) {
		n = read_packet(ch, c->group, UIOPF_PACKET_MOST);
		if (n <= 0)
			return n;
		c->held = (uint32_t)n;
	}
	if (c->held > most)
		return -EINVAL;		/* as the fault file */
	n = (int)c->held;
	memcpy(out, c->group, c->held * sizeof c->group[0]);
	c->held = 0;
	return n;
}

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct client *c = ch->state;
	uint32_t done = 0;
	int n = uiopf_host_socket_kernel(c->socket);

	if (unlikely(n < 0))
		return n;
	if (unlikely(most < UIOPF_PACKET_MOST || c->held))
		return receive_with_care(ch, out, most);
	do {
		n = read_packet(ch, &out[done], most - done);
		if (n <= 0)
			return done ? (int)done : n;
		done += (uint32_t)n;
	} while (c->in_hand < ch->config.in_flight && most - done >= UIOPF_PACKET_MOST);
	return (int)done;
}

/* ---- waiting ---- */

static int sleep_in_poll(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	struct client *c = ch->state;

	ch->cost.system_calls++;
	if (uiopf_eventfd_poll(ch->core, c->socket->client_end, timeout_ns))
		return 1;
	return errno == EINTR ? -EINTR : 0;
}

static int wait_host_fd(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	struct client *c = ch->state;

	return unlikely(c->held) ? 1 : uiopf_host_socket_wait(c->socket, timeout_ns, sleep_in_poll);
}

static int prepare_sleep(struct uiopf_channel *ch)
{
	struct client *c = ch->state;

	return unlikely(c->held) ? 1 : uiopf_host_socket_prepare_sleep(c->socket);
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

const struct uiopf_design uiopf_design_host_fd = {
	.info = {
		.name = "host-fd",
		.year = "-",
		.summary = "the host's poll, read and write, over a socket",
		.personality = UIOPF_MERGED,
		.has_client = true,
		.on_host = true,
	},
	.open = open_host_fd,
	.close = close_host_fd,
	.receive = receive,
	.answer = answer,
	.flush = flush,
	.wait = wait_host_fd,
	.prepare_sleep = prepare_sleep,
	.awake = awake,
	.holds = holds,
	.kernel_cost = kernel_cost,
};
