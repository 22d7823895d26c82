/*
 * What the designs that go through a socket of the host share: the kernel's half, and when it runs.
 *
 * A pair of SOCK_SEQPACKET sockets, one end the kernel's, one the client's. The kernel's half puts each group into it as one
 * packet, whole: the messages of iommufd, 40 bytes each, the last one last. It takes out answers, 8 bytes each as on the
 * fault file, and gives them to the queue by that file's write. So a packet with garbage in it, of whatever length, has
 * the effect that a write of it would have: a length that is no multiple of 8 is ESPIPE, an answer to no group EINVAL, and
 * what comes behind it in the packet is not looked at. The client has no errno of it, since its own write has succeeded. It
 * is counted as an answer error, once a packet.
 *
 * Who is the kernel: under `sqpoll` the worker. Under `enter`, and inline, the thread that calls: it puts groups into the
 * socket when it looks, and takes answers out as soon as it has written them. While it sleeps, the hardware's thread puts
 * the next group there, as a fault's interrupt does, and so ends the sleep.
 *
 * Nothing blocks, and nothing is lost. While the socket is full, groups wait in the queue; one at most has left it and
 * waits to be sent. What is in the socket when its device is detached has been answered for: the client finds it, and its
 * answer is refused. What is in the socket when the channel is closed stays unanswered until then.
 *
 * All calls are the host's own, and all are counted, those of the kernel's half too. Not counted are a worker's looks in
 * vain at the socket, as with every ring that it polls. It looks while there are groups without an answer; otherwise now
 * and then, for answers that nobody has asked for. Asleep, it is woken by the socket.
 */
#pragma once
#include "designs/channel.h"

#define UIOPF_PACKET_MOST 256u	/* messages in a group, or fewer: `most`. A larger one is answered INVALID for the client */

struct uiopf_host_socket {
	struct uiopf_consumer consumer;
	struct uiopf_channel *ch;
	int kernel_end, client_end;

	/* The kernel's half: consumer side. */
	struct uiopf_cost cost;
	uint32_t most;			/* messages in a packet; the design may lower it before the first */
	uint32_t outstanding;		/* packets sent, less answers that have come */
	uint32_t looks;			/* turns, to look only now and then */
	uint32_t taken_when_full;	/* `taken`, when the socket had no room */
	uint32_t woken;			/* the sleep that was ended last, as in `sleeps` */
	bool full, watched;		/* watched: the worker sleeps, and the socket wakes it */
	uint32_t length;		/* of the packet that is still to be sent, in bytes */
	uint8_t *answers;
	uint32_t answers_size;
	uint8_t packet[UIOPF_PACKET_MOST * sizeof(struct iommu_hwpt_pgfault)];

	/* Both halves look at these. */
	UIOPF_LINE uint32_t sent;	/* packets, ever: the kernel's to write */
	UIOPF_LINE uint32_t sleeps;	/* how the client sleeps, and for the how manieth time; see host_socket.c */

	/* The client's half. */
	UIOPF_LINE uint32_t taken;	/* packets, ever; set right when the socket turns out to be empty */
	uint32_t owed;			/* answers written that no kernel has taken out, where a call does it */
	bool tells;			/* it has slept once in a call, under `enter` */
};
UIOPF_BEGINS_A_LINE(struct uiopf_host_socket, sent);
UIOPF_BEGINS_A_LINE(struct uiopf_host_socket, sleeps);
UIOPF_BEGINS_A_LINE(struct uiopf_host_socket, taken);

/* NULL with *error = -errno: of the host's, or -EBUSY, since the queue has such a client, or a region. */
struct uiopf_host_socket *uiopf_host_socket_new(struct uiopf_channel *ch, int *error);
/* Closes both ends. */
void uiopf_host_socket_free(struct uiopf_host_socket *s);

/*
 * The client's half, but for how it reads and writes.
 * The calling thread is the kernel, where it is: takes out the answers that were written, and sends the groups that wait.
 * 0 or -EINTR, not begun.
 */
int uiopf_host_socket_kernel(struct uiopf_host_socket *s);
/* The client's end has no room: the calling thread's part, or time for the worker's. 0, or -EINTR. */
int uiopf_host_socket_make_room(struct uiopf_host_socket *s, struct uiopf_patience *patience);
/* Whether a packet that was sent has not been read, as far as that is known without a call. */
bool uiopf_host_socket_has_packet(const struct uiopf_host_socket *s);
/* As in struct uiopf_design. `sleep` is the host's call that sleeps, and says what wait does; 0 ns: it only looks. */
int uiopf_host_socket_wait(struct uiopf_host_socket *s, uint64_t timeout_ns,
			   int (*sleep)(struct uiopf_channel *ch, uint64_t timeout_ns));
/* An event loop sleeps on the channel's eventfd, which stands for the socket: it is written besides. */
int uiopf_host_socket_prepare_sleep(struct uiopf_host_socket *s);
void uiopf_host_socket_awake(struct uiopf_host_socket *s);
/* Adds the kernel half's. */
void uiopf_host_socket_cost(const struct uiopf_host_socket *s, struct uiopf_cost *cost);
