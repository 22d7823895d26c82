/*
 * A client of `uring-iopf serve` that knows liburing and the hello, and nothing else of ours: gcc this.c -luring.
 *
 * It maps the ring with io_uring_queue_mmap(), reads faults with a multishot read, stores page-table entries, and answers
 * with writes. Written for liburing 2.3: what came later is used by its number, with io_uring_prep_rw().
 *
 *   liburing_client SOCKET [wait] [no-kick] [early N] [die N] [overflow N] [nap N] [bad-magic | bad-address | chatter]
 *
 * wait: sleep in poll on the eventfd (otherwise look again and again). no-kick: promise nothing. early N: submit N answers
 * that name no group before replying to the hello, each with a pointer: each is EINVAL, none EFAULT. die N: _exit with faults
 * unanswered once N have come. overflow N: post N completions without reading any, every now and then. nap N: at every
 * Nth fault, wait until the worker sleeps before answering (kick it then), or, with no-kick, for 5 ms.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "abi/hello.h"		/* the hello */
#include "abi/hardware.h"	/* a page-table entry's bits */

#define OP_READ_MULTISHOT 49	/* liburing 2.4; Linux 6.7 */

/* struct iommu_hwpt_pgfault and struct iommu_hwpt_page_response of linux/iommufd.h, Linux 6.11. */
struct fault {
	uint32_t flags, dev_id, pasid, grpid, perm, reserved;
	uint64_t addr;
	uint32_t length, cookie;
};
#define LAST_PAGE 2u		/* flags: the last of its group */
#define PERM_WRITE 2u
#define PERM_EXEC 4u

struct response {
	uint32_t cookie, code;
};

enum { READ_DATA = 1, WRITE_DATA, NOP_DATA, EARLY_DATA };	/* user_data */

static struct {
	const char *socket;
	bool wait, no_kick, bad_magic, bad_address, chatter;
	long early, die, overflow, nap;
} option;

static struct {
	int socket, fd[UIOPF_HELLO_FDS];
	struct uiopf_hello hello;
	struct io_uring ring;
	struct io_uring_buf_ring *buffers;
	uint8_t *data, *space;
	uint64_t next_table;
	uint32_t stride;
	bool armed;
	uint64_t faults, answers, kicks, naps, ends, nops, nops_wanted, early;
} client;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *what, ...)
{
	va_list arguments;

	va_start(arguments, what);
	fprintf(stderr, "liburing_client: ");
	vfprintf(stderr, what, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	exit(1);
}

/* ---- the hello ---- */

static void receive_hello(void)
{
	char control[CMSG_SPACE(sizeof client.fd)];
	struct iovec io = { &client.hello, sizeof client.hello };
	struct msghdr message = {
		.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
	};
	const struct uiopf_hello *h = &client.hello;
	struct cmsghdr *c;

	if (recvmsg(client.socket, &message, MSG_CMSG_CLOEXEC) != sizeof *h)
		die("no hello");
	if (h->magic != UIOPF_HELLO_MAGIC || h->version != UIOPF_HELLO_VERSION || h->size != sizeof *h)
		die("a hello of another kind");
	if (h->status)
		die("refused: %s", strerror((int)h->status));
	c = CMSG_FIRSTHDR(&message);
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof client.fd))
		die("no descriptors");
	memcpy(client.fd, CMSG_DATA(c), sizeof client.fd);
}

static void *map(int fd, uint64_t offset, uint64_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);

	if (at == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	return at;
}

static void reply(void)
{
	struct uiopf_hello_reply r = {
		.magic = option.bad_magic ? 0xbad : UIOPF_HELLO_MAGIC,
		.version = UIOPF_HELLO_VERSION,
		.size = sizeof r,
		.flags = option.no_kick ? 0 : UIOPF_HELLO_KICKS,
		.data_address = option.bad_address ? UINT64_MAX - 4095 : (uint64_t)(uintptr_t)client.data,
	};

	if (send(client.socket, &r, sizeof r, 0) != sizeof r)
		die("reply: %s", strerror(errno));
	if (option.chatter && send(client.socket, "well?", 5, 0) != 5)
		die("chatter: %s", strerror(errno));
}

static void submit_early(void);

static void attach(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct uiopf_hello *h = &client.hello;
	int rc;

	client.socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (strlen(option.socket) >= sizeof address.sun_path)
		die("the socket's path is too long");
	strcpy(address.sun_path, option.socket);
	if (connect(client.socket, (struct sockaddr *)&address, sizeof address) < 0)
		die("connect to %s: %s", option.socket, strerror(errno));
	receive_hello();
	rc = io_uring_queue_mmap(client.fd[UIOPF_HELLO_RING], &client.hello.params, &client.ring);
	if (rc < 0)
		die("io_uring_queue_mmap: %s", strerror(-rc));
	client.buffers = map(client.fd[UIOPF_HELLO_RING], 0x80000000 /* IORING_OFF_PBUF_RING, group 0 */,
			     h->buffer_entries * sizeof(struct io_uring_buf));
	client.data = map(client.fd[UIOPF_HELLO_DATA], 0, h->data_size);
	client.space = map(client.fd[UIOPF_HELLO_SPACE], 0, h->space_size);
	client.next_table = h->first_table;
	submit_early();
	reply();
}

/* ---- page tables: cdefs/abi/hardware.h ---- */

static uint64_t *entry(uint64_t table, uint64_t index)
{
	return (uint64_t *)(void *)(client.space + table + 8 * index);
}

static void make_present(const struct fault *f)
{
	uint64_t *at = entry(0, f->pasid), value;
	int shift;

	if (f->pasid >= client.hello.pasids)
		die("PASID %u", f->pasid);
	for (shift = 39; shift >= 12; shift -= 9) {
		if (!(*at & STAGE1_PRESENT)) {
			if (client.next_table + 4096 > client.hello.space_size)
				die("no room for another table");
			/* Release: the table is empty, and its owner sees that before the entry. */
			__atomic_store_n(at, client.next_table | STAGE1_PRESENT | STAGE1_WRITE | STAGE1_USER,
					 __ATOMIC_RELEASE);
			client.next_table += 4096;
		}
		at = entry(*at & STAGE1_ADDRESS, f->addr >> shift & 511);
	}
	value = *at & STAGE1_PRESENT ? *at : (f->addr & STAGE1_ADDRESS) | STAGE1_PRESENT | STAGE1_USER | STAGE1_NO_EXECUTE;
	if (f->perm & PERM_WRITE)
		value |= STAGE1_WRITE;
	if (f->perm & PERM_EXEC)
		value &= ~(uint64_t)STAGE1_NO_EXECUTE;
	__atomic_store_n(at, value, __ATOMIC_RELEASE);
}

/* ---- the ring ---- */

static bool worker_sleeps(void)
{
	return __atomic_load_n(client.ring.sq.kflags, __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP;
}

/*
 * io_uring_submit() shows the kernel what there is, and then, if the worker sleeps, tries to enter. On a descriptor that
 * is no io_uring's that fails, after all that matters has been done; the worker is woken through the eventfd instead.
 */
static void submit(void)
{
	const uint64_t one = 1;
	int rc = io_uring_submit(&client.ring);

	if (!io_uring_sq_ready(&client.ring))
		return;		/* all of it has been taken */
	if (!worker_sleeps()) {
		if (rc < 0 && option.no_kick)
			die("io_uring_submit: %s, though NEED_WAKEUP is never shown to who does not kick", strerror(-rc));
		return;
	}
	if (option.no_kick)
		die("NEED_WAKEUP is shown to who does not kick");
	client.kicks++;
	if (write(client.fd[UIOPF_HELLO_WAKE], &one, sizeof one) != sizeof one)
		die("kick: %s", strerror(errno));
}

static struct io_uring_sqe *next_sqe(void)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&client.ring)))
		submit();
	return sqe;
}

static void on_queue(struct io_uring_sqe *sqe, uint64_t user_data, unsigned int flags)
{
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE | flags);
	sqe->user_data = user_data;
}

static void arm(void)
{
	struct io_uring_sqe *sqe = next_sqe();

	io_uring_prep_rw(OP_READ_MULTISHOT, sqe, (int)client.hello.queue, NULL, 0, (uint64_t)-1);
	on_queue(sqe, READ_DATA, IOSQE_BUFFER_SELECT);
	sqe->buf_group = 0;
	client.armed = true;
}

static uint8_t *buffer(uint32_t id)
{
	return client.data + (uint64_t)id * client.stride;
}

static void provide(uint32_t id, int offset)
{
	io_uring_buf_ring_add(client.buffers, buffer(id), client.hello.group_most * (unsigned int)sizeof(struct fault),
			      (unsigned short)id, io_uring_buf_ring_mask(client.hello.buffer_entries), offset);
}

/* Where the bytes of an answer are until its SQE has been taken: one place for each SQE. */
static struct response *answer_of(const struct io_uring_sqe *sqe)
{
	return (struct response *)(void *)(client.data + client.hello.buffer_entries * (uint64_t)client.stride) +
	       (sqe - client.ring.sq.sqes);
}

static void answer(uint32_t cookie)
{
	struct io_uring_sqe *sqe = next_sqe();
	struct response *r = answer_of(sqe);

	*r = (struct response){ .cookie = cookie, .code = 0 };
	io_uring_prep_write(sqe, (int)client.hello.queue, r, sizeof *r, (uint64_t)-1);
	on_queue(sqe, WRITE_DATA, IOSQE_CQE_SKIP_SUCCESS);
	client.answers++;
}

/* The worker may look as soon as they are published. */
static void submit_early(void)
{
	const struct response nobody = { .cookie = UINT32_MAX };
	long i;

	client.stride = (client.hello.group_most * (uint32_t)sizeof(struct fault) + 63) / 64 * 64;
	for (i = 0; i < option.early; i++) {
		struct io_uring_sqe *sqe = next_sqe();
		struct response *r = answer_of(sqe);

		*r = nobody;
		io_uring_prep_write(sqe, (int)client.hello.queue, r, sizeof *r, (uint64_t)-1);
		on_queue(sqe, EARLY_DATA, 0);
	}
	submit();
	poll(NULL, 0, option.early ? 20 : 0);	/* for the worker to do what it does, right or wrong */
}

/* Waits until the worker sleeps, or, where one is not told of that, for long enough. */
static void nap(void)
{
	client.naps++;
	if (option.no_kick) {
		poll(NULL, 0, 5);
		return;
	}
	while (!worker_sleeps())
		;
}

static void serve(const struct fault *f, uint32_t n)
{
	for (; n; n--, f++) {
		client.faults++;
		if (option.die && client.faults >= (uint64_t)option.die)
			_exit(3);
		make_present(f);
		if (!(f->flags & LAST_PAGE))
			continue;
		if (option.nap && client.faults % (uint64_t)option.nap == 0) {
			submit();	/* nothing but this answer is left for the worker to do */
			nap();
		}
		answer(f->cookie);
	}
}

static bool take_cqe(void)
{
	struct io_uring_cqe *cqe;
	int rc = io_uring_peek_cqe(&client.ring, &cqe);

	if (rc == -EAGAIN)
		return false;
	if (rc < 0)
		die("io_uring_peek_cqe: %s", strerror(-rc));
	if (cqe->user_data == NOP_DATA) {
		client.nops++;
	} else if (cqe->user_data == EARLY_DATA) {
		if (cqe->res != -EINVAL)
			die("what was submitted before the reply: %s", strerror(-cqe->res));
		client.early++;
	} else if (cqe->user_data == WRITE_DATA) {
		die("an answer failed: %s", strerror(-cqe->res));
	} else {
		if (cqe->res < 0 && cqe->res != -ENOBUFS)
			die("the read: %s", strerror(-cqe->res));
		if (!(cqe->flags & IORING_CQE_F_MORE))
			client.armed = false;
		if (cqe->flags & IORING_CQE_F_BUFFER) {
			uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

			serve((const struct fault *)(const void *)buffer(id), (uint32_t)cqe->res / sizeof(struct fault));
			provide(id, 0);
			io_uring_buf_ring_advance(client.buffers, 1);
		}
	}
	io_uring_cqe_seen(&client.ring, cqe);
	return true;
}

/* More completions than the ring has room for, none of them read meanwhile; they come all the same, later. */
static void overflow(void)
{
	long i;

	for (i = 0; i < option.overflow; i++) {
		struct io_uring_sqe *sqe = next_sqe();

		io_uring_prep_nop(sqe);
		sqe->user_data = NOP_DATA;
	}
	do
		submit();
	while (io_uring_sq_ready(&client.ring));
	if (io_uring_cq_ready(&client.ring) != client.ring.cq.ring_entries)
		die("nothing overflowed: %u completions", io_uring_cq_ready(&client.ring));
	client.nops_wanted += (uint64_t)option.overflow;
	while (client.nops < client.nops_wanted)
		take_cqe();
}

/* ---- until the server says goodbye ---- */

static bool said_goodbye(void)
{
	struct uiopf_goodbye g;
	ssize_t n = recv(client.socket, &g, sizeof g, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n != sizeof g || g.magic != UIOPF_HELLO_MAGIC || g.status)
		die("the server has gone");
	if (g.answered != client.faults)
		die("the server counts %llu faults, I %llu", (unsigned long long)g.answered,
		    (unsigned long long)client.faults);
	return true;
}

/* The eventfd counts: what came since it was read last makes it readable, so nothing is slept through. */
static void sleep_in_poll(void)
{
	struct pollfd p[2] = {
		{ .fd = client.fd[UIOPF_HELLO_COMPLETIONS], .events = POLLIN },
		{ .fd = client.socket, .events = POLLIN },
	};
	uint64_t count;

	if (poll(p, 2, -1) < 0)
		die("poll: %s", strerror(errno));
	if (p[0].revents && read(p[0].fd, &count, sizeof count) < 0 && errno != EAGAIN)
		die("read of the eventfd: %s", strerror(errno));
}

static void run(void)
{
	const struct uiopf_hello *h = &client.hello;
	uint64_t overflowed = 0;
	uint32_t id;

	io_uring_buf_ring_init(client.buffers);
	for (id = 0; id < h->buffer_entries; id++)
		provide(id, (int)id);
	io_uring_buf_ring_advance(client.buffers, (int)h->buffer_entries);
	for (;;) {
		bool any = false;

		while (take_cqe())
			any = true;
		if (!client.armed) {
			arm();
			client.ends++;
		}
		submit();
		if (option.overflow && client.faults >= overflowed + 1000) {
			overflowed = client.faults;
			overflow();
			continue;
		}
		if (any)
			continue;
		if (said_goodbye())
			return;
		if (option.wait)
			sleep_in_poll();
	}
}

static long number(char **argument)
{
	long n = *argument ? strtol(*argument, NULL, 10) : 0;

	if (n <= 0)
		die("a number was expected");
	return n;
}

int main(int argc, char **argv)
{
	char **a = argv + 2;

	if (argc < 2)
		die("usage: see the head of the source");
	option.socket = argv[1];
	for (; *a; a++) {
		if (!strcmp(*a, "wait"))
			option.wait = true;
		else if (!strcmp(*a, "no-kick"))
			option.no_kick = true;
		else if (!strcmp(*a, "bad-magic"))
			option.bad_magic = true;
		else if (!strcmp(*a, "bad-address"))
			option.bad_address = true;
		else if (!strcmp(*a, "chatter"))
			option.chatter = true;
		else if (!strcmp(*a, "early"))
			option.early = number(++a);
		else if (!strcmp(*a, "die"))
			option.die = number(++a);
		else if (!strcmp(*a, "overflow"))
			option.overflow = number(++a);
		else if (!strcmp(*a, "nap"))
			option.nap = number(++a);
		else
			die("%s: what is that?", *a);
	}
	attach();
	run();
	if (client.early != (uint64_t)option.early)
		die("%llu of %ld submitted early have completed", (unsigned long long)client.early, option.early);
	printf("faults %llu answers %llu kicks %llu naps %llu ends %llu nops %llu\n", (unsigned long long)client.faults,
	       (unsigned long long)client.answers, (unsigned long long)client.kicks, (unsigned long long)client.naps,
	       (unsigned long long)client.ends, (unsigned long long)client.nops);
	return 0;
}
