/*
 * Descriptors of the host as files for rings: pipes, eventfds, sockets, whatever can be polled.
 *
 * Nothing here blocks. Reads and writes are made with RWF_NOWAIT or MSG_DONTWAIT; where a file knows neither, it is
 * asked by poll first and made O_NONBLOCK for the length of the call. Readiness is found by two epoll sets, one for what
 * is to be read and one for what is to be written, in edge-triggered mode: the kernel then says which of the two a
 * wake-up was for, as a wait queue would. An edge may be older than the wait that it calls, so it is only a hint
 * (UIOPF_FILE_HINTS): whoever is called polls before he believes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "abi/io_uring.h"
#include "base/memory.h"
#include "core/core.h"
#include "core/notify.h"

#define EVERY_EVENT (POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLMSG | POLLRDHUP)
#define EVENTS_A_LOOK 32
#define CMSG_COMPAT INT32_MIN	/* MSG_CMSG_COMPAT, which the kernel's headers keep to themselves */
#define MOST_LOOKS (2 * UIOPF_MAX_FILES / EVENTS_A_LOOK)	/* for all there can be, twice: some go on while we look */

struct host_file {
	struct uiopf_file file;
	struct uiopf_core *core;
	int fd[2];		/* two duplicates: an epoll set takes a descriptor once */
	uint32_t armed;
	bool no_nowait[2];	/* reading, writing: RWF_NOWAIT is refused */
	bool counts;		/* what is read is a count of 8 bytes (eventfd, timerfd): never into less */
	bool inet;		/* a socket that has commands */
	bool counts_tcp, counts_unix;	/* a stream socket that says what is left to receive */
	bool at_end, broken;	/* … has been read to its end; was reset, as a call has said */
	struct uiopf_host_eventfd eventfd;	/* in the core's list, of an eventfd */
};

static struct host_file *host_of(struct uiopf_file *file)
{
	return container_of(file, struct host_file, file);
}

static uint32_t host_poll(struct uiopf_file *file)
{
	struct pollfd p = { host_of(file)->fd[0], (short)EVERY_EVENT, 0 };

	return poll(&p, 1, 0) > 0 ? (uint32_t)(unsigned short)p.revents : 0;
}

/* What a call came to, before another one. */
static ssize_t result(struct host_file *h, ssize_t n)
{
	if (n >= 0) {
		h->core->host_moved = true;
		return n;
	}
	h->broken |= errno == ECONNRESET || errno == ETIMEDOUT;
	return -errno;
}

/* readv(2) or writev(2) of a file that does not know RWF_NOWAIT. */
static ssize_t transfer_anyhow(const struct host_file *h, const struct iovec *piece, int count, bool writes)
{
	int flags = fcntl(h->fd[0], F_GETFL);
	struct pollfd p = { h->fd[0], writes ? POLLOUT : POLLIN, 0 };
	ssize_t n;

	if (!(flags & O_NONBLOCK)) {
		if (poll(&p, 1, 0) <= 0)
			return -EAGAIN;
		fcntl(h->fd[0], F_SETFL, flags | O_NONBLOCK);
	}
	n = writes ? writev(h->fd[0], piece, count) : readv(h->fd[0], piece, count);
	if (n < 0)
		n = -errno;
	if (!(flags & O_NONBLOCK))
		fcntl(h->fd[0], F_SETFL, flags);
	return n;
}

/* The host copies by itself, from where the client has it to where it belongs, and as much as the file takes. */
static int64_t transfer(struct host_file *h, const struct iovec *piece, uint32_t count, bool writes)
{
	ssize_t n;

	if (!h->no_nowait[writes]) {
		n = writes ? pwritev2(h->fd[0], piece, (int)count, -1, RWF_NOWAIT) :
			     preadv2(h->fd[0], piece, (int)count, -1, RWF_NOWAIT);
		if (n >= 0 || errno != EOPNOTSUPP)
			return result(h, n);
		h->no_nowait[writes] = true;
	}
	h->core->host_moved = true;
	return transfer_anyhow(h, piece, (int)count, writes);
}

static int64_t host_read_pieces(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int64_t position)
{
	(void)position;
	/* It says so before it waits, and before read(2) returns 0 for nothing. */
	if (host_of(file)->counts && uiopf_pieces_total(piece, count) < sizeof(uint64_t))
		return -EINVAL;
	return transfer(host_of(file), piece, count, false);
}

static int64_t host_read(struct uiopf_file *file, uint8_t *to, uint64_t length, int64_t position)
{
	const struct iovec whole = { to, length };

	return host_read_pieces(file, &whole, 1, position);
}

/* SIGPIPE would be the emulator's, not the client's, who gets EPIPE. */
static void hold_sigpipe(sigset_t *pipe, sigset_t *before)
{
	sigemptyset(pipe);
	sigaddset(pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, pipe, before);
}

static void drop_sigpipe(const sigset_t *pipe, const sigset_t *before, bool came)
{
	const struct timespec at_once = { 0, 0 };

	if (came)
		sigtimedwait(pipe, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* An eventfd has no other end to lose. */
static int64_t host_write_pieces(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int64_t position)
{
	sigset_t pipe, before;
	int64_t n;

	(void)position;
	if (file->mode & UIOPF_FILE_LOOPS)
		return transfer(host_of(file), piece, count, true);
	hold_sigpipe(&pipe, &before);
	n = transfer(host_of(file), piece, count, true);
	drop_sigpipe(&pipe, &before, n == -EPIPE);
	return n;
}

static int64_t host_write(struct uiopf_file *file, const uint8_t *from, uint64_t length, int64_t position)
{
	const struct iovec whole = { (uint8_t *)(uintptr_t)from, length };

	return host_write_pieces(file, &whole, 1, position);
}

static int64_t host_receive(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int *flags)
{
	struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)piece, .msg_iovlen = count };
	/* recvmsg(2) is the call that says what became of the message, and that refuses a flag which recv(2) ignores. */
	ssize_t n = recvmsg(host_of(file)->fd[0], &message, (*flags & ~CMSG_COMPAT) | MSG_DONTWAIT);

	*flags = message.msg_flags;
	host_of(file)->at_end = n == 0;
	return result(host_of(file), n);
}

static int64_t host_send(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int flags, const void *address,
			 uint32_t address_length)
{
	const struct msghdr message = {
		.msg_name = (void *)(uintptr_t)address, .msg_namelen = address_length,
		.msg_iov = (struct iovec *)(uintptr_t)piece, .msg_iovlen = count,
	};
	/* A signal would be the emulator's, not the client's. */
	ssize_t n = sendmsg(host_of(file)->fd[0], &message, (flags & ~CMSG_COMPAT) | MSG_DONTWAIT | MSG_NOSIGNAL);

	return result(host_of(file), n);
}

/* A socket has no position, and says so of any but the first. */
static int64_t socket_read(struct uiopf_file *file, uint8_t *to, uint64_t length, int64_t position)
{
	return position > 0 ? -ESPIPE : host_read(file, to, length, position);
}

static int64_t socket_write(struct uiopf_file *file, const uint8_t *from, uint64_t length, int64_t position)
{
	if (position > 0)
		return -ESPIPE;
	/* write(2) of nothing does nothing, and a ring's sends an empty message, or says that nobody listens. */
	return length ? host_write(file, from, length, position) : host_send(file, NULL, 0, 0, NULL, 0);
}

static int64_t socket_read_pieces(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int64_t position)
{
	return position > 0 ? -ESPIPE : host_read_pieces(file, piece, count, position);
}

static int64_t socket_write_pieces(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int64_t position)
{
	if (position > 0)
		return -ESPIPE;
	return count ? host_write_pieces(file, piece, count, position) : socket_write(file, NULL, 0, position);
}

/*
 * Whether the other side has ended a TCP stream. What is left to receive does not count its end. Once both sides have, the
 * socket is closed, and so is one that was reset: there an error comes in place of the end.
 */
static bool tcp_ended(struct host_file *h)
{
	uint8_t state = 0;	/* the first byte of struct tcp_info */
	socklen_t size = sizeof state;

	if (getsockopt(h->fd[0], IPPROTO_TCP, TCP_INFO, &state, &size) < 0)
		return false;
	return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING || state == TCP_TIME_WAIT ||
	       (state == TCP_CLOSE && !h->broken && (h->at_end || !(host_poll(&h->file) & POLLERR)));
}

/* TCP says how much is left, or 1 at the end of the stream (tcp_inq_hint). Since 6.17 Unix streams say how much, too. */
static int64_t host_unread(struct uiopf_file *file, uint32_t kernel)
{
	struct host_file *h = host_of(file);
	int left = 0;

	if (!(h->counts_tcp || (h->counts_unix && kernel >= UIOPF_LINUX(6, 17))))
		return -1;
	if (ioctl(h->fd[0], FIONREAD, &left) < 0)
		return -1;
	return left || !h->counts_tcp ? left : tcp_ended(h);
}

static int32_t host_command(struct uiopf_file *file, struct uiopf_command *command)
{
	const uint32_t op = command->op;
	int n = 0;

	if (!host_of(file)->inet || (op != SOCKET_URING_OP_SIOCINQ && op != SOCKET_URING_OP_SIOCOUTQ))
		return -EOPNOTSUPP;
	return ioctl(host_of(file)->fd[0], op == SOCKET_URING_OP_SIOCINQ ? SIOCINQ : SIOCOUTQ, &n) < 0 ? -errno : n;
}

static uint32_t host_sync(struct uiopf_core *core);

static void host_arm(struct uiopf_file *file, struct uiopf_wait *wait)
{
	struct host_file *h = host_of(file);

	uiopf_file_arm(file, wait);
	h->armed++;
	WRITE_ONCE(&h->core->host_waits, h->core->host_waits + 1);
	/* Edges of before go by now, and what came since the request looked is not lost among them. */
	host_sync(h->core);
}

static void host_cancel(struct uiopf_file *file, struct uiopf_wait *wait)
{
	struct host_file *h = host_of(file);

	if (!wait->link)
		return;
	uiopf_file_cancel(file, wait);
	h->armed--;
	WRITE_ONCE(&h->core->host_waits, h->core->host_waits - 1);
}

/* Out of the epoll sets first: they go by what is open behind a descriptor, and the client still has that. */
static void close_both(const struct host_file *h)
{
	int way;

	for (way = 0; way < 2; way++)
		if (h->fd[way] >= 0) {
			if (!h->core->abandoned)	/* the set is the parent's too */
				epoll_ctl(h->core->host_epoll[way], EPOLL_CTL_DEL, h->fd[way], NULL);
			close(h->fd[way]);
		}
}

static void host_release(struct uiopf_file *file)
{
	struct host_file *h = host_of(file);
	struct uiopf_host_eventfd **at;

	for (at = &h->core->host_eventfds; *at; at = &(*at)->next)
		if (*at == &h->eventfd) {
			*at = h->eventfd.next;
			break;
		}
	close_both(h);
	free(h);
}

static const struct uiopf_file_ops host_ops = {
	.read = host_read,
	.write = host_write,
	.read_pieces = host_read_pieces,
	.write_pieces = host_write_pieces,
	.poll = host_poll,
	.arm = host_arm,
	.cancel = host_cancel,
	.release = host_release,
};

/* An epoll: it can be polled, and has neither operation, as a ring. */
static const struct uiopf_file_ops epoll_ops = {
	.poll = host_poll,
	.arm = host_arm,
	.cancel = host_cancel,
	.release = host_release,
};

static const struct uiopf_file_ops socket_ops = {
	.read = socket_read,
	.write = socket_write,
	.read_pieces = socket_read_pieces,
	.write_pieces = socket_write_pieces,
	.poll = host_poll,
	.arm = host_arm,
	.cancel = host_cancel,
	.receive = host_receive,
	.send = host_send,
	.unread = host_unread,
	.command = host_command,
	.release = host_release,
};

/* A signal that was read before this look is no event of it, and the next event is not the ring's. */
static void forget_signals(struct uiopf_core *core)
{
	struct uiopf_host_eventfd *each;

	for (each = core->host_eventfds; each; each = each->next)
		each->signalled = false;
}

static uint32_t host_sync(struct uiopf_core *core)
{
	static const uint32_t about[2] = {
		POLLIN | POLLRDNORM | POLLRDBAND | POLLPRI | POLLRDHUP | POLLERR | POLLHUP,
		POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR | POLLHUP,
	};
	struct epoll_event event[EVENTS_A_LOOK];
	uint32_t did = 0;
	int way, n, i, looks;

	core->host_moved = false;
	for (way = 0; way < 2; way++) {
		looks = 0;
		do {
			n = epoll_wait(core->host_epoll[way], event, EVENTS_A_LOOK, 0);
			for (i = 0; i < n; i++) {
				struct host_file *h = event[i].data.ptr;
				/* An error or the end is news only where there is one. */
				uint32_t events = about[way] & (event[i].events | ~(uint32_t)(POLLERR | POLLHUP | POLLRDHUP));

				if (!way && h->eventfd.signalled)
					events = POLLIN | UIOPF_WAKE_BY_RING;
				if (!h->armed)
					continue;
				did++;
				core->in_signal = events & UIOPF_WAKE_BY_RING;
				uiopf_file_wake(&h->file, events);
				core->in_signal = false;
			}
		} while (n == EVENTS_A_LOOK && ++looks < MOST_LOOKS);
		if (!way)
			forget_signals(core);
	}
	/* An edge is seen once: it may be for the ring of somebody who sleeps in an enter of his own. */
	if (did && LOAD_SEQ(&core->sleepers_count))
		uiopf_core_wake_sleepers(core, NULL);
	return did;
}

static int open_epoll(struct uiopf_core *core)
{
	int way;

	core->host_sync = host_sync;
	for (way = 0; way < 2; way++)
		if (core->host_epoll[way] < 0) {
			core->host_epoll[way] = epoll_create1(EPOLL_CLOEXEC);
			if (core->host_epoll[way] < 0)
				return -errno;
		}
	return 0;
}

/* Into both sets; 0 or -errno. */
static int watch(struct uiopf_core *core, struct host_file *h, int fd)
{
	static const uint32_t events[2] = { EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET, EPOLLOUT | EPOLLET };
	int way;

	for (way = 0; way < 2; way++) {
		struct epoll_event event = { .events = events[way], .data.ptr = h };

		h->fd[way] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (h->fd[way] < 0 || epoll_ctl(core->host_epoll[way], EPOLL_CTL_ADD, h->fd[way], &event) < 0)
			return -errno;
	}
	return 0;
}

/* A TUN or TAP device, attached to an interface or not yet: it promises not to block (tun_chr_open, tap_open). */
static bool is_tun(int fd, mode_t mode)
{
	struct ifreq interface = { 0 };

	return S_ISCHR(mode) && (ioctl(fd, TUNGETIFF, &interface) == 0 || errno == EBADFD || errno == ENOLINK);
}

/*
 * FIFOs by name, terminals, epolls and whatever has no read_iter make no promise not to block, pipes do. The host is
 * asked for a byte to no address: that is refused before anything is looked at, or finds out that the address is none,
 * or that a byte is less than a message; nothing is taken or written by it. Two kinds would lose a datagram, and are not
 * asked: sockets, and TUN devices.
 */
static bool refuses_nowait(int fd, int access)
{
	struct iovec nowhere = { NULL, 1 };
	sigset_t pipe, before;
	int error;

	if (access == O_WRONLY) {
		hold_sigpipe(&pipe, &before);	/* nobody may be left to read */
		error = pwritev2(fd, &nowhere, 1, -1, RWF_NOWAIT) < 0 ? errno : 0;
		drop_sigpipe(&pipe, &before, error == EPIPE);
		return error == EOPNOTSUPP;
	}
	return preadv2(fd, &nowhere, 1, -1, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP;
}

static int make(struct uiopf_core *core, int fd, struct host_file **out)
{
	struct host_file *h = calloc(1, sizeof *h);
	struct stat status;
	int rc, flags = fcntl(fd, F_GETFL), access = flags & O_ACCMODE;
	bool datagrams = false;

	if (!h)
		return -ENOMEM;
	h->core = core;
	h->fd[0] = h->fd[1] = -1;
	rc = flags < 0 || fstat(fd, &status) < 0 ? -errno : watch(core, h, fd);
	if (rc < 0) {
		close_both(h);
		free(h);
		return rc;
	}
	h->file.ops = S_ISSOCK(status.st_mode) ? &socket_ops : &host_ops;
	if (h->file.ops == &socket_ops) {
		int domain = 0, type = 0;
		socklen_t size = sizeof domain;

		getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
		getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
		h->inet = domain == AF_INET || domain == AF_INET6;
		datagrams = type != SOCK_STREAM && type != SOCK_SEQPACKET;
		h->counts_tcp = type == SOCK_STREAM && h->inet;
		h->counts_unix = type == SOCK_STREAM && domain == AF_UNIX;
	}
	h->file.mode = UIOPF_FILE_POLL | UIOPF_FILE_ITER | UIOPF_FILE_HINTS | (datagrams ? UIOPF_FILE_DATAGRAMS : 0) |
		       (h->inet ? UIOPF_FILE_ERRORS : 0);
	/* Of the files that can be polled, the one that reads with `read_iter` and writes with `write`. */
	h->counts = uiopf_is_eventfd(fd) || uiopf_is_anonymous(fd, "[timerfd]");
	/* Those that read with `read` alone, as the merged fault file does. */
	if (uiopf_is_anonymous(fd, "inotify") || uiopf_is_anonymous(fd, "[fanotify]"))
		h->file.mode &= ~(uint32_t)UIOPF_FILE_ITER;
	if (uiopf_is_anonymous(fd, "[eventpoll]")) {
		h->file.ops = &epoll_ops;
		h->file.mode &= ~(uint32_t)UIOPF_FILE_ITER;
	}
	if (uiopf_is_eventfd(fd)) {
		h->file.mode |= UIOPF_FILE_LOOPS;
		h->eventfd = (struct uiopf_host_eventfd){ core->host_eventfds, uiopf_eventfd_id(fd), false };
		core->host_eventfds = &h->eventfd;
	}
	/* What is not asked is known to promise it. */
	if (h->file.ops == &host_ops && !(h->file.mode & UIOPF_FILE_LOOPS) && !is_tun(fd, status.st_mode) &&
	    refuses_nowait(fd, access))
		h->file.mode |= UIOPF_FILE_WAITS;
	if (access == O_RDONLY || access == O_RDWR)
		h->file.mode |= UIOPF_FILE_READ;
	if (access == O_WRONLY || access == O_RDWR)
		h->file.mode |= UIOPF_FILE_WRITE;
	if (flags & O_NONBLOCK)
		h->file.mode |= UIOPF_FILE_NONBLOCK;
	*out = h;
	return 0;
}

int uiopf_core_install_host(struct uiopf_core *core, int fd)
{
	struct host_file *h = NULL;
	int rc;

	uiopf_control_begin(core);
	rc = open_epoll(core);
	if (rc == 0)
		rc = make(core, fd, &h);
	if (rc == 0) {
		rc = uiopf_core_install(core, &h->file);
		if (rc < 0)
			host_release(&h->file);
	}
	uiopf_control_end(core);
	return rc;
}

int uiopf_core_uninstall_host(struct uiopf_core *core, int fd)
{
	const struct uiopf_file *file;
	int rc = -EBADF;

	uiopf_control_begin(core);
	file = fd >= 0 && fd < UIOPF_MAX_FILES ? core->file[fd] : NULL;
	if (file && (file->ops == &host_ops || file->ops == &socket_ops || file->ops == &epoll_ops)) {
		uiopf_core_close_fd(core, fd);
		rc = 0;
	}
	uiopf_control_end(core);
	return rc;
}
