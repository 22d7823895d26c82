/*
 * Single prices of the host, for a cost model: a wake-up on another core, going to sleep, a copy. Times are samples,
 * not rates, so that the median leaves out those in which a thread was held up.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "abi/api.h"
#include "base/atomics.h"
#include "base/clock.h"
#include "measure/look.h"
#include "measure/pair.h"

static uint32_t sample(uint64_t from, uint64_t to, uint64_t look)
{
	const uint64_t took = to > from + look ? to - from - look : 0;

	return took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
}

/* Blocks until the eventfd was written, also where a signal comes meanwhile. */
static void await(int fd)
{
	eventfd_t value;

	while (eventfd_read(fd, &value) < 0 && errno == EINTR)
		;
}

/* ---- a wake-up on another core ---- */

/* How long the waker waits for the other to be asleep. A thread that blocks takes a tenth of it. */
#define ASLEEP_NS 20000u

struct wake {
	UIOPF_LINE uint32_t asleep;	/* the sleeper is about to block for the so manieth time */
	uint32_t woken;			/* … and has come back */
	uint64_t woken_ns;
	UIOPF_LINE uint32_t stop;
	uint64_t during_ns;
	int fd;
	uint32_t most, n, *write_ns, *wake_ns;
};
UIOPF_BEGINS_A_LINE(struct wake, asleep);
UIOPF_BEGINS_A_LINE(struct wake, stop);

static void sleeper(void *arg)
{
	struct wake *w = arg;
	uint32_t n;

	for (n = 1; ; n++) {
		STORE_RELEASE(&w->asleep, n);
		await(w->fd);
		w->woken_ns = uiopf_monotonic_ns();
		if (LOAD_ACQUIRE(&w->stop))
			return;
		STORE_RELEASE(&w->woken, n);
	}
}

static void waker(void *arg)
{
	struct wake *w = arg;
	const uint64_t look = uiopf_look_ns(), end = uiopf_monotonic_ns() + w->during_ns;
	uint64_t from, to, now;
	uint32_t turn;

	for (turn = 1; ; turn++) {
		while (LOAD_ACQUIRE(&w->asleep) != turn)
			cpu_relax();
		from = now = uiopf_monotonic_ns();
		while (now - from < ASLEEP_NS)
			now = uiopf_monotonic_ns();
		if (now >= end || w->n == w->most)
			break;
		from = uiopf_monotonic_ns();
		eventfd_write(w->fd, 1);
		to = uiopf_monotonic_ns();
		while (LOAD_ACQUIRE(&w->woken) != turn)
			cpu_relax();
		w->write_ns[w->n] = sample(from, to, look);
		w->wake_ns[w->n++] = sample(from, w->woken_ns, look);
	}
	STORE_RELEASE(&w->stop, 1);
	eventfd_write(w->fd, 1);
}

uint32_t uiopf_measure_wake_up(uint64_t during_ns, uint32_t most, uint32_t *write_ns, uint32_t *wake_ns)
{
	struct wake w = { .during_ns = during_ns, .most = most, .write_ns = write_ns, .wake_ns = wake_ns };
	struct uiopf_pair pair = { .near = waker, .far = sleeper, .arg = &w };

	w.fd = eventfd(0, EFD_CLOEXEC);
	if (w.fd < 0)
		return 0;
	if (!uiopf_pair_run(&pair))
		w.n = 0;
	close(w.fd);
	return w.n;
}

/* ---- going to sleep ---- */

/*
 * Both threads have one processor. One of them blocks, and notes when it begins to; the other one runs then, and looks
 * at the clock at once. It has just written the eventfd, and let the blocking one run in that call or in the yield.
 */
struct doze {
	uint32_t turn, stop;
	uint64_t from_ns, during_ns;
	int fd;
	uint32_t most, n, *sleep_ns;
};

static void dozer(void *arg)
{
	struct doze *d = arg;

	while (!LOAD_ACQUIRE(&d->stop)) {
		d->from_ns = uiopf_monotonic_ns();
		STORE_RELEASE(&d->turn, d->turn + 1);
		await(d->fd);
	}
}

/* Whether the other one has blocked since; then it is noted. */
static bool has_dozed(struct doze *d, uint32_t *seen, uint64_t look)
{
	const uint32_t turn = LOAD_ACQUIRE(&d->turn);

	if (turn == *seen)
		return false;
	*seen = turn;
	/* It is blocked still, until the next write, so the time at which it began stays. */
	if (d->n < d->most)
		d->sleep_ns[d->n++] = sample(d->from_ns, uiopf_monotonic_ns(), look);
	return true;
}

static void watcher(void *arg)
{
	struct doze *d = arg;
	const uint64_t look = uiopf_look_ns(), end = uiopf_monotonic_ns() + d->during_ns;
	uint32_t seen = LOAD_ACQUIRE(&d->turn);

	while (uiopf_monotonic_ns() < end && d->n < d->most) {
		eventfd_write(d->fd, 1);
		if (!has_dozed(d, &seen, look)) {
			sched_yield();
			has_dozed(d, &seen, look);
		}
	}
	STORE_RELEASE(&d->stop, 1);
	eventfd_write(d->fd, 1);
}

uint32_t uiopf_measure_sleep(uint64_t during_ns, uint32_t most, uint32_t *sleep_ns)
{
	struct doze d = { .during_ns = during_ns, .most = most, .sleep_ns = sleep_ns };
	struct uiopf_pair pair = { .near = watcher, .far = dozer, .arg = &d, .together = true };

	d.fd = eventfd(0, EFD_CLOEXEC);
	if (d.fd < 0)
		return 0;
	if (!uiopf_pair_run(&pair))
		d.n = 0;
	close(d.fd);
	return d.n;
}

/* ---- packets ---- */

#define PACKETS 32u		/* of a batch: they fit into the socket */
#define PACKET_BYTES 40u	/* a fault's message */

/* One call of this kind for each packet of a batch; false: the host does something else. */
static bool each_packet(const int end[2], uint32_t kind)
{
	uint8_t packet[PACKET_BYTES] = { 0 };
	uint32_t i;
	ssize_t n;

	for (i = 0; i < PACKETS; i++) {
		n = kind == UIOPF_PACKET_SEND ? send(end[0], packet, sizeof packet, MSG_DONTWAIT | MSG_NOSIGNAL) :
						recv(end[1], packet, sizeof packet, MSG_DONTWAIT);
		if (kind == UIOPF_PACKET_LOOK ? n >= 0 : n != sizeof packet)
			return false;
	}
	return true;
}

double uiopf_measure_packets(uint32_t kind, uint64_t during_ns)
{
	const uint64_t look = uiopf_look_ns(), start = uiopf_monotonic_ns();
	uint64_t from = start, to = start, took = 0, n = 0;
	bool good = true;
	uint32_t step;
	int end[2];

	if (kind > UIOPF_PACKET_LOOK || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, end) < 0)
		return 0;
	while (good && to - start < during_ns) {
		for (step = UIOPF_PACKET_SEND; good && step <= UIOPF_PACKET_LOOK; step++) {
			from = uiopf_monotonic_ns();
			good = each_packet(end, step);
			to = uiopf_monotonic_ns();
			took += step == kind && to > from + look ? to - from - look : 0;
		}
		n += PACKETS;
	}
	close(end[0]);
	close(end[1]);
	return good && took ? (double)n * 1e9 / (double)took : 0;
}

/* ---- a copy ---- */

#define MOST_BYTES 4096u
/* Half a page apart: a load waits for an earlier store to the same place of another page, which it takes for its own. */
#define APART (MOST_BYTES + MOST_BYTES / 2)

double uiopf_measure_copy(uint32_t bytes, uint64_t during_ns)
{
	/* By a pointer that the compiler knows nothing of: it may not replace the call, or leave it out. */
	void *(*volatile copy)(void *, const void *, size_t) = memcpy;
	UIOPF_LINE uint8_t from[APART + MOST_BYTES] = { 0 };
	uint64_t start = uiopf_monotonic_ns(), now = start, n = 0;

	if (!bytes || bytes > MOST_BYTES)
		return 0;
	do {
		copy(from + APART, from, bytes);
		if (++n % 1024 == 0)
			now = uiopf_monotonic_ns();
	} while (now - start < during_ns);
	return (double)n * 1e9 / (double)(now - start);
}
