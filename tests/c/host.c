/*
 * The designs on the host's own system calls, by three judges.
 *
 * What they count, against the calls that are really made: each of send, recv, read and ppoll on the pair's two ends goes
 * through this program, and each io_uring_enter. Every driver and wait, groups of several sizes, answers in pieces.
 *
 * What a hostile client can do, against the queue's file: it writes packets of any length with anything in them straight
 * into the socket, and a twin of the queue is written the same by uiopf_faultq_write(). Both must answer the same groups,
 * with the same codes in the same order, and refuse as often.
 *
 * What full sockets, small buffers, large groups, ends that are shut down, a detach, a close and a fork do, by hand.
 *
 * Arguments: rounds of the hostile client, seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "core/core.h"
#include "designs/channel.h"
#include "designs/host_socket.h"
#include "faults/report.h"

#define GROUPS 4096u
#define LOG 65536u

static const char *const designs[] = { "host-fd", "host-uring" };
#define DESIGNS (sizeof designs / sizeof designs[0])

/* ---- the calls that are made ---- */

static struct {
	int kernel_end, client_end;
	uint64_t calls, bytes;		/* that did something, or waited */
	uint64_t enters, submitted;	/* SQEs */
	uint64_t in_vain[2];		/* the kernel's end, the client's */
} seen = { -1, -1, 0, 0, 0, 0, { 0, 0 } };
static bool refuses;			/* io_uring_setup is EPERM, as in a sandbox */

ssize_t __real_send(int fd, const void *from, size_t length, int flags);
ssize_t __real_recv(int fd, void *to, size_t length, int flags);
ssize_t __real_read(int fd, void *to, size_t length);
int __real_ppoll(struct pollfd *p, nfds_t n, const struct timespec *t, const sigset_t *mask);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
ssize_t __wrap_send(int fd, const void *from, size_t length, int flags);
ssize_t __wrap_recv(int fd, void *to, size_t length, int flags);
ssize_t __wrap_read(int fd, void *to, size_t length);
int __wrap_ppoll(struct pollfd *p, nfds_t n, const struct timespec *t, const sigset_t *mask);

static void add(uint64_t *to, uint64_t n)
{
	__atomic_add_fetch(to, n, __ATOMIC_RELAXED);
}

static ssize_t saw(int fd, ssize_t n)
{
	const int error = errno;

	if (fd >= 0 && (fd == seen.kernel_end || fd == seen.client_end)) {
		add(n > 0 ? &seen.calls : &seen.in_vain[fd == seen.client_end], 1);
		add(&seen.bytes, n > 0 ? (uint64_t)n : 0);
	}
	errno = error;
	return n;
}

ssize_t __wrap_send(int fd, const void *from, size_t length, int flags)
{
	return saw(fd, __real_send(fd, from, length, flags));
}

ssize_t __wrap_recv(int fd, void *to, size_t length, int flags)
{
	return saw(fd, __real_recv(fd, to, length, flags));
}

ssize_t __wrap_read(int fd, void *to, size_t length)
{
	return saw(fd, __real_read(fd, to, length));
}

int __wrap_ppoll(struct pollfd *p, nfds_t n, const struct timespec *t, const sigset_t *mask)
{
	if (p[0].fd >= 0 && p[0].fd == seen.client_end)
		add(&seen.calls, 1);
	return __real_ppoll(p, n, t, mask);
}

long __wrap_syscall(long number, ...)
{
	long a[6], n;
	va_list list;
	int i;

	va_start(list, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_io_uring_setup && refuses) {
		errno = EPERM;
		return -1;
	}
	n = __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (number == SYS_io_uring_enter) {
		add(&seen.enters, 1);
		add(&seen.submitted, n > 0 ? (uint64_t)n : 0);
	}
	return n;
}

/* ---- the scene ---- */

struct told { uint32_t dev_id, grpid, code; };

struct listener {		/* an IOMMU that keeps a log */
	struct uiopf_iommu iommu;
	struct told told[LOG];
	uint32_t count;
};

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	struct listener *l = container_of(device->iommu, struct listener, iommu);

	(void)side;
	(void)flags;
	(void)pasid;
	CHECK(l->count < LOG);
	l->told[l->count] = (struct told){ device->id, grpid, code };
	STORE_RELEASE(&l->count, l->count + 1);
}

static const struct uiopf_iommu_ops listener_ops = { .respond = respond };

struct scene {
	struct uiopf_core *core;
	struct listener listener;
	struct uiopf_device *device;
	struct uiopf_faultq *q;
	struct uiopf_channel *ch;
	struct uiopf_host_socket *socket;	/* NULL: this is the twin, and its client reads and writes the file */
};

static uint32_t design_named(const char *name)
{
	uint32_t n;

	for (n = 0; uiopf_design_info(n); n++)
		if (!strcmp(uiopf_design_info(n)->name, name))
			return n;
	CHECK(!"a design of this name");
	return 0;
}

static struct uiopf_channel_config config_of(enum uiopf_wait_mode wait, uint32_t in_flight)
{
	return (struct uiopf_channel_config){ .wait = wait, .in_flight = in_flight, .group_most = 4 };
}

static struct scene *open_scene(const char *design, enum uiopf_driver driver, enum uiopf_wait_mode wait, uint32_t in_flight)
{
	const struct uiopf_channel_config config = config_of(wait, in_flight);
	struct scene *s = calloc(1, sizeof *s);

	CHECK(s);
	s->core = uiopf_core_new(driver == UIOPF_INLINE ? UIOPF_CLOCK_MANUAL : UIOPF_CLOCK_MONOTONIC, 0, 0);
	CHECK(s->core);
	s->listener.iommu.lifetime.holders = 1;	/* ours, for as long as the scene is there */
	s->listener.iommu.ops = &listener_ops;
	s->listener.iommu.core = s->core;
	s->q = uiopf_faultq_new(s->core, UIOPF_MERGED);
	s->device = uiopf_device_new(s->core, &s->listener.iommu, 7, 1, GROUPS, 0);
	CHECK(s->q && s->device);
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	if (driver != UIOPF_INLINE)
		CHECK_EQ(uiopf_core_start(s->core, driver, -1, 1000), 0);
	if (design) {
		CHECK_EQ(uiopf_channel_open(s->core, s->q, design_named(design), &config, NULL, &s->ch), 0);
		s->socket = *(struct uiopf_host_socket **)s->ch->state;	/* where each of these designs has it */
		uiopf_control_begin(s->core);
		memset(&seen, 0, sizeof seen);
		seen.kernel_end = s->socket->kernel_end;
		seen.client_end = s->socket->client_end;
		uiopf_control_end(s->core);
	}
	return s;
}

static bool has_ring(const struct scene *s)
{
	return !strcmp(s->ch->design->info.name, "host-uring");
}

static void close_channel(struct scene *s)
{
	uiopf_control_begin(s->core);
	seen.kernel_end = seen.client_end = -1;
	uiopf_control_end(s->core);
	uiopf_channel_close(s->ch);
	s->ch = NULL;
	s->socket = NULL;
}

static void close_scene(struct scene *s)
{
	if (s->ch)
		close_channel(s);
	CHECK_EQ(uiopf_core_stop(s->core), 0);
	CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
	uiopf_device_free(s->device);
	CHECK_EQ(uiopf_faultq_free(s->q), 0);
	CHECK_EQ(uiopf_core_free(s->core), 0);
	free(s);
}

/* One group of so many pages; it waits in the queue. */
static void report(struct scene *s, uint32_t grpid, uint32_t pages)
{
	uint32_t i;

	for (i = 0; i < pages; i++)
		CHECK_EQ(BEGUN(uiopf_device_report(s->device, UIOPF_FAULT_PASID_VALID | (i + 1 == pages ? UIOPF_FAULT_LAST_PAGE : 0),
						   9, grpid, 1, 4096ull * i)), 0);
}

static struct uiopf_faultq_counts counts_of(struct scene *s)
{
	struct uiopf_faultq_counts counts;

	uiopf_faultq_counts(s->q, &counts);
	return counts;
}

static struct uiopf_cost cost_of(struct scene *s)
{
	struct uiopf_cost cost;

	uiopf_channel_cost(s->ch, &cost);
	return cost;
}

/* ---- what is counted ---- */

struct reporter {
	struct scene *s;
	uint32_t groups;
	uint64_t random;
};

/* Groups of 1 to 4 pages, a few at a time, as the client answers: so that there are batches, and none too large. */
static void *report_all(void *arg)
{
	struct reporter *r = arg;
	uint32_t n;

	for (n = 0; n < r->groups; n++) {
		while (n - LOAD_ACQUIRE(&r->s->listener.count) >= 16)
			sched_yield();
		report(r->s, n, 1 + below(&r->random, 4));
	}
	return NULL;
}

/* Serves until so many groups were answered: receives, and answers in pieces. */
static void serve(struct scene *s, uint32_t groups, uint64_t *random)
{
	struct iommu_hwpt_pgfault m[512];
	uint32_t answered = 0, i;
	int n;

	while (answered < groups) {
		CHECK(BEGUN(uiopf_channel_wait(s->ch, 1000000)) >= 0);
		n = BEGUN(uiopf_channel_receive(s->ch, m, 512));
		CHECK(n >= 0);
		for (i = 0; i < (uint32_t)n; i++)
			if (m[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) {
				CHECK_EQ(BEGUN(uiopf_channel_answer_one(s->ch, m[i].cookie, below(random, 2))), 1);
				answered++;
			}
		if (below(random, 4) == 0)
			CHECK_EQ(BEGUN(uiopf_channel_flush(s->ch)), 0);
	}
	CHECK_EQ(BEGUN(uiopf_channel_flush(s->ch)), 0);
}

static void calls_are_counted(const char *design, enum uiopf_driver driver, enum uiopf_wait_mode wait, uint64_t seed)
{
	struct scene *s = open_scene(design, driver, wait, 16);
	struct reporter r = { s, 2000, seed };
	struct uiopf_cost cost;
	pthread_t thread;
	uint32_t n, k;

	if (driver == UIOPF_INLINE) {
		for (n = 0; n < r.groups; n += k) {
			k = 1 + below(&seed, 16);
			k = k < r.groups - n ? k : r.groups - n;
			report_all(&(struct reporter){ .s = s, .groups = 0 });
			for (uint32_t i = 0; i < k; i++)
				report(s, n + i, 1 + below(&seed, 4));
			serve(s, k, &seed);
		}
	} else {
		CHECK_EQ(pthread_create(&thread, NULL, report_all, &r), 0);
		serve(s, r.groups, &seed);
		CHECK_EQ(pthread_join(thread, NULL), 0);
	}
	while (LOAD_ACQUIRE(&s->listener.count) < r.groups)	/* under sqpoll the worker takes the last answers yet */
		sched_yield();
	cost = cost_of(s);
	CHECK_EQ(s->listener.count, r.groups);
	for (n = 0; n < r.groups; n++)
		CHECK_EQ(s->listener.told[n].grpid, n);		/* it answers in the order in which it receives */
	CHECK_EQ(cost.ends, 0);
	if (!has_ring(s)) {
		CHECK_EQ(cost.system_calls, READ_ONCE(&seen.calls));
		CHECK_EQ(cost.bytes_copied, READ_ONCE(&seen.bytes));
	} else {
		/* This program sees what the kernel's half copies; the ring copies as much, and an SQE or a CQE for each. */
		CHECK_EQ(cost.system_calls, READ_ONCE(&seen.calls) + READ_ONCE(&seen.enters));
		CHECK_EQ(cost.bytes_copied, 2 * READ_ONCE(&seen.bytes) + 64 * READ_ONCE(&seen.submitted) + 16 * r.groups);
	}
	CHECK_EQ(cost.answer_errors, 0);
	/* A worker's looks in vain are its own affair; those of the calling thread are all counted. */
	CHECK(cost.empty_polls >= READ_ONCE(&seen.in_vain[1]));
	if (driver != UIOPF_SQPOLL)
		CHECK_EQ(cost.empty_polls, READ_ONCE(&seen.in_vain[0]) + READ_ONCE(&seen.in_vain[1]));
	close_scene(s);
}

/* ---- a hostile client ---- */

static bool is_empty(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 0;
}

/* The kernel takes out all that is there. */
static void let_kernel_run(struct scene *s)
{
	do
		CHECK(uiopf_core_consume(s->core) >= 0);
	while (!is_empty(s->socket->kernel_end));
}

struct cookies {
	uint32_t cookie[GROUPS], n;
};

/* Reads all that is there, on both; remembers the cookies, which must be the same. */
static void receive_on_both(struct scene *s, struct scene *twin, struct cookies *live, uint64_t *random)
{
	static struct iommu_hwpt_pgfault m[8192], other[8192];
	uint32_t have = 0, i;
	int64_t n;
	int got;

	do {
		got = uiopf_channel_receive(s->ch, &m[have], below(random, 2) ? 512 : 4 + below(random, 4));
		CHECK(got >= 0);
		have += (uint32_t)got;
	} while (got || !is_empty(s->socket->client_end));
	n = uiopf_faultq_read(twin->q, other, sizeof other);
	CHECK_EQ(n, have * sizeof m[0]);
	CHECK(!memcmp(m, other, (size_t)n));
	for (i = 0; i < have; i++)
		if (m[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE)
			live->cookie[live->n++ % GROUPS] = m[i].cookie;
}

/* Responses, good and bad, and a length: mostly of whole ones. */
static uint32_t draw_packet(uint8_t *packet, uint32_t most, const struct cookies *live, uint64_t *random)
{
	static const uint32_t some[] = { 0, 1, 1, 1, 2, 3, 30, 700 };
	const uint32_t responses = some[below(random, 8)];
	struct iommu_hwpt_page_response r;
	uint32_t i, length = responses * 8;

	for (i = 0; i < responses; i++) {
		const uint32_t at = live->n ? live->cookie[below(random, live->n < GROUPS ? live->n : GROUPS)] : 1;
		const uint32_t odd[] = { 0, (uint32_t)next_random(random), at + 1, at, at, at, at, at };
		const uint32_t code[] = { 0, 0, 0, 0, 1, 1, 2, (uint32_t)next_random(random) };

		r.cookie = odd[below(random, responses > 3 ? 8 : 80) % 8];
		r.code = code[below(random, 8)];
		memcpy(packet + i * 8, &r, 8);
	}
	if (below(random, 4) == 0)
		length += below(random, 8);
	if (below(random, 200) == 0)
		length = below(random, most);
	return length;
}

static void garbage_has_the_effect_that_a_write_of_it_has(const char *design, uint32_t rounds, uint64_t seed)
{
	struct scene *s = open_scene(design, UIOPF_INLINE, below(&seed, 2), 64), *twin = open_scene(NULL, UIOPF_INLINE, 0, 0);
	const uint32_t most = s->socket->answers_size + 4096;
	uint8_t *packet = calloc(1, most);
	struct uiopf_faultq_counts counts, others;
	struct cookies *live = calloc(1, sizeof *live);
	uint64_t refused = 0;
	uint32_t n, i, grpid = 0, told = 0, k, length;
	int64_t written;

	CHECK(packet && live);
	for (n = 0; n < rounds; n++) {
		for (k = below(&seed, 4); k && grpid - s->listener.count < GROUPS / 8; k--, grpid++) {
			const uint32_t pages = 1 + below(&seed, 4);

			report(s, grpid, pages);
			report(twin, grpid, pages);
		}
		if (below(&seed, 2))
			CHECK_EQ(uiopf_channel_wait(s->ch, 0) >= 0, 1);
		let_kernel_run(s);
		receive_on_both(s, twin, live, &seed);
		for (k = below(&seed, 4); k; k--) {
			length = draw_packet(packet, most, live, &seed);
			if (__real_send(s->socket->client_end, packet, length, MSG_DONTWAIT) < 0) {
				CHECK(errno == EMSGSIZE || errno == EAGAIN);
				continue;
			}
			written = uiopf_faultq_write(twin->q, packet, length);
			refused += written != (int64_t)length;
		}
		if (below(&seed, 3) == 0 && live->n) {	/* and an honest answer behind it */
			k = live->cookie[below(&seed, live->n < GROUPS ? live->n : GROUPS)];
			CHECK_EQ(uiopf_channel_answer_one(s->ch, k, 0), 1);
			CHECK_EQ(uiopf_channel_flush(s->ch), 0);
			refused += uiopf_faultq_write(twin->q, &(struct iommu_hwpt_page_response){ .cookie = k }, 8) != 8;
		}
		if (below(&seed, 2))
			CHECK_EQ(uiopf_channel_wait(s->ch, 0) >= 0, 1);
		let_kernel_run(s);
		if (s->listener.count > LOG - GROUPS || below(&seed, 500) == 0) {
			CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
			CHECK_EQ(uiopf_detach(twin->device, UIOPF_NO_PASID), 0);
			CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
			CHECK_EQ(uiopf_attach(twin->device, UIOPF_NO_PASID, twin->q, 1), 0);
		}
		CHECK_EQ(s->listener.count, twin->listener.count);
		for (i = told; i < s->listener.count; i++)	/* those before are the same, and stay so */
			CHECK(!memcmp(&s->listener.told[i], &twin->listener.told[i], sizeof s->listener.told[i]));
		if (s->listener.count > LOG - GROUPS) {
			grpid -= s->listener.count;
			s->listener.count = twin->listener.count = 0;
		}
		told = s->listener.count;
		counts = counts_of(s);
		others = counts_of(twin);
		CHECK(!memcmp(&counts, &others, sizeof counts));
		CHECK_EQ(cost_of(s).answer_errors, refused);
	}
	CHECK(rounds < 100 || (refused > rounds / 20 && counts.answered_groups > rounds / 20));
	printf("%s: %" PRIu64 " refused, %" PRIu64 " answered\n", design, refused, (uint64_t)counts.answered_groups);
	fflush(stdout);
	free(live);
	free(packet);
	close_scene(s);
	close_scene(twin);
}

/* ---- by hand ---- */

static int receive(struct scene *s, struct iommu_hwpt_pgfault *m, uint32_t most)
{
	return uiopf_channel_receive(s->ch, m, most);
}

static void make_small(int end)
{
	const int least = 1;	/* the host makes it some kilobytes */

	CHECK_EQ(setsockopt(end, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
}

static void a_full_socket_leaves_groups_in_the_queue(const char *design)
{
	struct scene *s = open_scene(design, UIOPF_INLINE, UIOPF_WAIT_SPIN, 512);
	static struct iommu_hwpt_pgfault m[512];
	struct uiopf_faultq_counts counts;
	uint32_t n, got = 0;
	int k;

	make_small(s->socket->kernel_end);
	for (n = 0; n < GROUPS; n++)
		report(s, n, 1);
	for (n = 0; n < 300; n++)
		CHECK(uiopf_core_consume(s->core) >= 0);
	counts = counts_of(s);
	CHECK(counts.waiting_groups > 0);
	CHECK_EQ(counts.waiting_groups + counts.unanswered_groups, GROUPS);
	CHECK(cost_of(s).empty_polls < 30);	/* it does not ask again for every turn */
	while (got < GROUPS) {
		CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
		k = receive(s, m, 512);
		CHECK(k >= 0);
		for (n = 0; n < (uint32_t)k; n++, got++) {
			CHECK_EQ(m[n].grpid, got);
			CHECK_EQ(uiopf_channel_answer_one(s->ch, m[n].cookie, 0), 1);
		}
	}
	CHECK_EQ(uiopf_channel_flush(s->ch), 0);
	counts = counts_of(s);
	CHECK_EQ(counts.answered_groups, GROUPS);
	CHECK_EQ(cost_of(s).answer_errors, 0);
	close_scene(s);
}

static void answers_find_room_behind_those_of_others(const char *design)
{
	const struct iommu_hwpt_page_response bad = { .cookie = 77 };
	struct scene *s = open_scene(design, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);
	struct iommu_hwpt_pgfault m[512];
	uint32_t in_the_way = 0;

	report(s, 3, 1);
	CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
	CHECK_EQ(receive(s, m, 512), 1);
	make_small(s->socket->client_end);
	while (__real_send(s->socket->client_end, &bad, sizeof bad, MSG_DONTWAIT) == sizeof bad)
		in_the_way++;
	CHECK(in_the_way > 2);
	CHECK_EQ(uiopf_channel_answer_one(s->ch, m[0].cookie, 1), 1);
	CHECK_EQ(uiopf_channel_flush(s->ch), 0);
	let_kernel_run(s);
	CHECK_EQ(s->listener.count, 1);
	CHECK_EQ(cost_of(s).answer_errors, in_the_way);
	close_scene(s);
}

static void a_group_is_whole_or_stays(const char *design)
{
	static const uint32_t most[] = { 0, 1, 39, 40, 41, 255, 512 };
	static struct iommu_hwpt_pgfault m[513];
	uint32_t k, n;

	for (k = 0; k < sizeof most / sizeof most[0]; k++) {
		struct scene *s = open_scene(design, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);

		report(s, 3, 40);
		report(s, 4, 1);
		CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
		memset(m, 0xee, sizeof m);
		if (most[k] < 40) {
			CHECK_EQ(receive(s, m, most[k]), -EINVAL);
			CHECK_EQ(receive(s, m, most[k]), -EINVAL);
			CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
			CHECK_EQ(uiopf_channel_prepare_sleep(s->ch), 1);
			CHECK_EQ(receive(s, m, 512), 40);
			CHECK_EQ(receive(s, &m[40], 512), 1);
		} else {
			n = (uint32_t)receive(s, m, most[k]);
			CHECK(n == 40 || (n == 41 && most[k] >= 41));
			if (n == 40)
				CHECK_EQ(receive(s, &m[40], most[k]), 1);
		}
		for (n = 0; n < 40; n++) {
			CHECK_EQ(m[n].addr, 4096 * n);
			CHECK_EQ(m[n].grpid, 3);
			CHECK_EQ(m[n].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE, n == 39 ? IOMMU_PGFAULT_FLAGS_LAST_PAGE : 0);
		}
		CHECK_EQ(m[40].grpid, 4);
		close_scene(s);
	}
}

static void a_group_too_large_is_answered_for_the_client(const char *design, uint32_t most)
{
	struct scene *s = open_scene(design, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);
	static struct iommu_hwpt_pgfault m[512];

	report(s, 3, most);
	report(s, 4, most + 1);
	report(s, 5, 1);
	CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
	CHECK_EQ(receive(s, m, 512), most + 1);
	CHECK_EQ(m[most].grpid, 5);
	CHECK_EQ(counts_of(s).auto_answered_groups, 1);
	CHECK_EQ(s->listener.count, 1);
	CHECK_EQ(s->listener.told[0].grpid, 4);
	CHECK_EQ(s->listener.told[0].code, UIOPF_RESP_INVALID);
	close_scene(s);
}

/* The client's last answer stands behind something that it has not sent itself; the core takes no turn of its own. */
static void an_honest_answer_is_not_left_behind(const char *design)
{
	static const uint32_t length[] = { 8, 8, 16, 12, 0 };
	uint32_t n;

	for (n = 0; n < 5; n++) {
		struct scene *s = open_scene(design, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);
		struct iommu_hwpt_page_response r[2] = { { .cookie = 77 }, { .cookie = 78 } };
		const uint32_t groups = n == 1 || n == 2 ? 2 : 1;
		struct iommu_hwpt_pgfault m[512];

		report(s, 3, 1);
		if (groups == 2)
			report(s, 4, 1);
		CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
		CHECK_EQ(receive(s, m, 512), groups);
		if (groups == 2)
			r[0].cookie = m[0].cookie;
		CHECK_EQ(__real_send(s->socket->client_end, r, length[n], 0), length[n]);
		CHECK_EQ(uiopf_channel_answer_one(s->ch, m[groups - 1].cookie, 0), 1);
		CHECK_EQ(uiopf_channel_flush(s->ch), 0);
		CHECK_EQ(uiopf_channel_wait(s->ch, 0), 0);
		CHECK_EQ(s->listener.count, groups);
		CHECK_EQ(cost_of(s).empty_polls, seen.in_vain[0] + seen.in_vain[1]);
		CHECK_EQ(cost_of(s).answer_errors, n != 1 && n != 4);
		close_scene(s);
	}
}

/* A packet that somebody else has read is not waited for. */
static void a_stolen_packet_keeps_nobody_awake(const char *design)
{
	struct scene *s = open_scene(design, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);
	struct iommu_hwpt_pgfault m[512];

	report(s, 3, 1);
	CHECK(uiopf_core_consume(s->core) >= 0);
	CHECK_EQ(__real_recv(s->socket->client_end, m, sizeof m, MSG_DONTWAIT), 40);
	CHECK_EQ(receive(s, m, 512), 0);
	CHECK_EQ(uiopf_channel_prepare_sleep(s->ch), 0);
	CHECK_EQ(uiopf_channel_awake(s->ch), 0);
	CHECK_EQ(uiopf_channel_wait(s->ch, 0), 0);
	close_scene(s);
}

/* The client may have more room than it had when the memory for its packets was made. */
static void a_packet_beyond_all_bounds_is_refused(const char *design)
{
	struct scene *s = open_scene(design, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);
	const uint32_t length = s->socket->answers_size + 8;
	const int room = 1 << 30;
	uint8_t *packet = calloc(1, length);
	struct iommu_hwpt_pgfault m[512];

	CHECK(packet);
	report(s, 3, 1);
	CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
	CHECK_EQ(receive(s, m, 512), 1);
	memcpy(packet, &m[0].cookie, 4);
	CHECK_EQ(setsockopt(s->socket->client_end, SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
	if (__real_send(s->socket->client_end, packet, length, MSG_DONTWAIT) == (ssize_t)length) {
		let_kernel_run(s);
		CHECK_EQ(cost_of(s).answer_errors, 1);
		CHECK_EQ(s->listener.count, 0);
	} else {
		CHECK_EQ(errno, EMSGSIZE);	/* the host gives no more room than it gave */
	}
	free(packet);
	close_scene(s);
}

/* Whatever it shuts down: no signal, nobody hangs, and the detach answers. */
static void an_end_that_is_shut_down_disturbs_nobody(const char *design, int how)
{
	struct scene *s = open_scene(design, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);
	struct iommu_hwpt_pgfault m[512];
	uint32_t n;

	report(s, 3, 1);
	report(s, 4, 1);
	CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
	CHECK_EQ(receive(s, m, 512), 2);
	CHECK_EQ(shutdown(s->socket->client_end, how), 0);
	report(s, 5, 1);
	CHECK_EQ(uiopf_channel_answer_one(s->ch, m[0].cookie, 0), 1);
	for (n = 0; n < 3; n++) {
		CHECK(uiopf_channel_wait(s->ch, 0) >= 0);
		CHECK(receive(s, m, 512) >= 0);
		CHECK_EQ(uiopf_channel_flush(s->ch), 0);
		CHECK(uiopf_core_consume(s->core) < 10);
	}
	CHECK_EQ(s->listener.count, how == SHUT_RD);
	CHECK_EQ(cost_of(s).answer_errors, how != SHUT_RD);
	CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
	CHECK_EQ(s->listener.count, 3);
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	close_scene(s);
}

static void answers_of_before_the_close_count(const char *design)
{
	struct scene *s = open_scene(design, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);
	struct uiopf_channel *other;
	const struct uiopf_channel_config config = config_of(UIOPF_WAIT_SLEEP, 4);
	struct iommu_hwpt_pgfault m[512];
	struct iommu_hwpt_page_response r = { .code = 0 };

	CHECK_EQ(uiopf_channel_open(s->core, s->q, design_named(design), &config, NULL, &other), -EBUSY);
	report(s, 3, 1);
	report(s, 4, 1);
	CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
	CHECK_EQ(receive(s, m, 512), 2);
	r.cookie = m[1].cookie;
	CHECK_EQ(__real_send(s->socket->client_end, &r, sizeof r, MSG_DONTWAIT), 8);
	report(s, 5, 1);
	close_channel(s);
	CHECK_EQ(s->listener.count, 1);
	CHECK_EQ(s->listener.told[0].grpid, 4);
	CHECK_EQ(uiopf_channel_open(s->core, s->q, design_named(design), &config, NULL, &s->ch), 0);
	s->socket = *(struct uiopf_host_socket **)s->ch->state;
	CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
	CHECK_EQ(receive(s, m, 512), 1);	/* what had not left the queue; the first waits for the detach */
	CHECK_EQ(m[0].grpid, 5);
	close_scene(s);
}

static void fork_and_close(struct scene *s)
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (!child) {
		uiopf_core_abandon(s->core);
		uiopf_channel_close(s->ch);
		_exit(fcntl(seen.kernel_end, F_GETFD) >= 0 || fcntl(seen.client_end, F_GETFD) >= 0);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
}

/* What is under way is the parent's: both ends are shared, and an answer is in one of them. */
static void a_fork_takes_nothing_out(const char *design)
{
	struct scene *s = open_scene(design, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);
	struct iommu_hwpt_page_response r = { .code = 0 };
	struct iommu_hwpt_pgfault m[512];

	report(s, 3, 1);
	CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
	CHECK_EQ(receive(s, m, 512), 1);
	r.cookie = m[0].cookie;
	CHECK_EQ(__real_send(s->socket->client_end, &r, sizeof r, 0), 8);
	report(s, 4, 1);
	CHECK(uiopf_core_consume(s->core) >= 0);	/* takes the answer, and sends the group */
	CHECK_EQ(__real_send(s->socket->client_end, &r, sizeof r, 0), 8);
	fork_and_close(s);
	let_kernel_run(s);
	CHECK_EQ(s->listener.count, 2);		/* the cookie is the same: it was the lowest that was free */
	CHECK_EQ(uiopf_channel_wait(s->ch, 0), 1);
	CHECK_EQ(receive(s, m, 512), 1);
	CHECK_EQ(m[0].grpid, 4);
	close_scene(s);
}

/* The child gives back what is its own, and no more: the parent's client goes on, its worker asleep or not. */
static void a_fork_leaves_the_parent_alone(const char *design, enum uiopf_driver driver)
{
	struct scene *s = open_scene(design, driver, UIOPF_WAIT_SLEEP, 4);
	uint64_t random = 1;
	uint32_t n;

	for (n = 0; n < 8; n++) {
		report(s, n, 1);
		if (n == 3) {
			usleep(2000);	/* the worker sleeps, and watches the socket */
			fork_and_close(s);
		}
		serve(s, 1, &random);
		while (LOAD_ACQUIRE(&s->listener.count) <= n)
			sched_yield();
		if (driver == UIOPF_SQPOLL && n % 2)
			usleep(2000);	/* the worker sleeps meanwhile */
	}
	close_scene(s);
}

/* The open says why, and leaves nothing. */
static void a_host_that_refuses_is_heard(void)
{
	const struct uiopf_channel_config config = config_of(UIOPF_WAIT_SLEEP, 4);
	struct scene *s = open_scene(NULL, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);
	struct uiopf_channel *ch;
	const int next = dup(0);

	close(next);
	refuses = true;
	CHECK_EQ(uiopf_channel_open(s->core, s->q, design_named("host-uring"), &config, NULL, &ch), -EPERM);
	refuses = false;
	CHECK_EQ(dup(0), next);
	close(next);
	CHECK_EQ(uiopf_channel_open(s->core, s->q, design_named("host-fd"), &config, NULL, &ch), 0);
	uiopf_channel_close(ch);
	close_scene(s);
}

/* Why the host refuses a design; 0: it does not. */
static int refusal(const char *design)
{
	const struct uiopf_channel_config config = config_of(UIOPF_WAIT_SLEEP, 4);
	struct scene *s = open_scene(NULL, UIOPF_INLINE, UIOPF_WAIT_SLEEP, 4);
	struct uiopf_channel *ch;
	int rc = uiopf_channel_open(s->core, s->q, design_named(design), &config, NULL, &ch);

	if (rc == 0)
		uiopf_channel_close(ch);
	close_scene(s);
	return -rc;
}

int main(int argc, char **argv)
{
	const uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 20000;
	uint64_t seed = seed_from(argc, argv, 2);
	uint32_t d, driver, wait;

	a_host_that_refuses_is_heard();
	for (d = 0; d < DESIGNS; d++) {
		const bool is_fd = !strcmp(designs[d], "host-fd");

		if (refusal(designs[d])) {
			printf("%s: the host refuses it: %s\n", designs[d], strerror(refusal(designs[d])));
			continue;
		}
		for (driver = UIOPF_INLINE; driver <= UIOPF_SQPOLL; driver++) {
			for (wait = 0; wait < 2; wait++)
				calls_are_counted(designs[d], driver, wait, seed + driver);
			a_fork_leaves_the_parent_alone(designs[d], driver);
		}
		a_full_socket_leaves_groups_in_the_queue(designs[d]);
		answers_find_room_behind_those_of_others(designs[d]);
		an_honest_answer_is_not_left_behind(designs[d]);
		if (is_fd)	/* a ring has read it already */
			a_stolen_packet_keeps_nobody_awake(designs[d]);
		a_packet_beyond_all_bounds_is_refused(designs[d]);
		a_fork_takes_nothing_out(designs[d]);
		if (is_fd)	/* the buffers of a ring hold the largest group that the client has said, and no more */
			a_group_is_whole_or_stays(designs[d]);
		a_group_too_large_is_answered_for_the_client(designs[d], is_fd ? UIOPF_PACKET_MOST : 4);
		an_end_that_is_shut_down_disturbs_nobody(designs[d], SHUT_RD);
		an_end_that_is_shut_down_disturbs_nobody(designs[d], SHUT_WR);
		an_end_that_is_shut_down_disturbs_nobody(designs[d], SHUT_RDWR);
		answers_of_before_the_close_count(designs[d]);
		garbage_has_the_effect_that_a_write_of_it_has(designs[d], rounds, seed);
	}
	return 0;
}
