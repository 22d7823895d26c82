/*
 * References that a result is read against, measured in the same run: what the rings alone cost, what the host's own
 * poll, read and write cost, and the floor of this machine.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/iommufd.h"
#include "abi/api.h"
#include "base/atomics.h"
#include "base/clock.h"
#include "measure/pair.h"

/* ---- the bare rings: messages, completions and submissions between two cores, and nothing else ---- */

#define SQ 4096u
#define CQ 8192u

struct bare {
	UIOPF_LINE uint32_t sq_tail;
	UIOPF_LINE uint32_t cq_tail;
	UIOPF_LINE uint32_t stop;	/* where both sides end, once it is not 0 */
	UIOPF_LINE struct { uint64_t word[8]; } sqe[SQ];
	UIOPF_LINE struct { uint64_t user_data, res_flags; } cqe[CQ];
	UIOPF_LINE struct { uint64_t word[5]; } message[CQ];
	uint32_t in_flight;
	uint64_t during_ns;
	double rate;
};
UIOPF_BEGINS_A_LINE(struct bare, sq_tail);
UIOPF_BEGINS_A_LINE(struct bare, cq_tail);
UIOPF_BEGINS_A_LINE(struct bare, stop);
UIOPF_BEGINS_A_LINE(struct bare, sqe);
UIOPF_BEGINS_A_LINE(struct bare, cqe);
UIOPF_BEGINS_A_LINE(struct bare, message);
UIOPF_BEGINS_A_LINE(struct bare, in_flight);

static void bare_client(void *arg)
{
	struct bare *b = arg;
	uint32_t cq_head = 0, sq_tail = 0;

	for (;;) {
		uint32_t tail = LOAD_ACQUIRE(&b->cq_tail);

		if (cq_head == tail && LOAD_ACQUIRE(&b->stop))
			return;
		for (; cq_head != tail; cq_head++, sq_tail++) {
			uint64_t slot = b->cqe[cq_head % CQ].user_data;

			b->sqe[sq_tail % SQ].word[0] = b->message[slot].word[4];
			b->sqe[sq_tail % SQ].word[4] = slot;
		}
		STORE_RELEASE(&b->sq_tail, sq_tail);
	}
}

static void bare_kernel(void *arg)
{
	struct bare *b = arg;
	uint32_t cq_tail = 0, sq_head = 0, wrong = 0, passes = 0;
	uint64_t start = uiopf_monotonic_ns(), now = start, faults = 0;
	bool sending = true;

	while (sending || sq_head != cq_tail) {
		uint32_t tail;

		for (; sending && cq_tail - sq_head < b->in_flight; cq_tail++) {
			uint32_t slot = cq_tail % CQ;

			b->message[slot].word[0] = 3;
			b->message[slot].word[3] = (uint64_t)cq_tail << 12;
			b->message[slot].word[4] = cq_tail;
			b->cqe[slot].user_data = slot;
		}
		STORE_RELEASE(&b->cq_tail, cq_tail);
		tail = LOAD_ACQUIRE(&b->sq_tail);
		for (; sq_head != tail; sq_head++, faults++)
			wrong += b->sqe[sq_head % SQ].word[0] != sq_head;
		if (++passes % 1024 == 0) {
			now = uiopf_monotonic_ns();
			sending = now - start < b->during_ns;
		}
	}
	now = uiopf_monotonic_ns();
	STORE_RELEASE(&b->stop, 1);
	b->rate = wrong ? 0 : (double)faults * 1e9 / (double)(now - start);
}

double uiopf_measure_bare_rings(uint32_t in_flight, uint64_t during_ns)
{
	struct uiopf_pair pair = { .near = bare_kernel, .far = bare_client };
	double rate = 0;
	struct bare *b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (b == MAP_FAILED)
		return 0;
	b->in_flight = in_flight;
	b->during_ns = during_ns;
	pair.arg = b;
	if (in_flight && in_flight <= SQ && uiopf_pair_run(&pair))
		rate = b->rate;
	munmap(b, sizeof *b);
	return rate;
}

/* ---- the host's own calls, on a socket ---- */

struct host {
	int fd[2];
	uint32_t in_flight;
	uint64_t during_ns;
	bool stream;		/* batched and spinning; else one message a call, and poll */
	double rate;
};

/* The far end of the packet socket: poll, read one fault, write one answer. */
static void packet_client(struct host *h)
{
	struct iommu_hwpt_pgfault message;
	struct iommu_hwpt_page_response response = { 0 };
	struct pollfd p = { .fd = h->fd[1], .events = POLLIN };

	for (;;) {
		if (poll(&p, 1, -1) < 0)
			return;
		if (read(h->fd[1], &message, sizeof message) <= 0)
			return;
		response.cookie = message.cookie;
		if (write(h->fd[1], &response, sizeof response) < 0)
			return;
	}
}

/* The far end of the stream: reads what there is, answers all of it in one write, never sleeps. */
static void stream_client(struct host *h)
{
	struct iommu_hwpt_pgfault message[256];
	struct iommu_hwpt_page_response response[256];
	size_t have = 0;

	for (;;) {
		ssize_t n = recv(h->fd[1], (char *)message + have, sizeof message - have, MSG_DONTWAIT);
		size_t i, whole;

		if (n == 0 || (n < 0 && errno != EAGAIN))
			return;
		if (n < 0)
			continue;
		have += (size_t)n;
		whole = have / sizeof message[0];
		for (i = 0; i < whole; i++)
			response[i] = (struct iommu_hwpt_page_response){ .cookie = message[i].cookie };
		if (whole && send(h->fd[1], response, whole * sizeof response[0], 0) < 0)
			return;
		have -= whole * sizeof message[0];
		memmove(message, &message[whole], have);
	}
}

static void host_client(void *arg)
{
	struct host *h = arg;

	if (h->stream)
		stream_client(h);
	else
		packet_client(h);
}

static void host_kernel(void *arg)
{
	struct host *h = arg;
	struct iommu_hwpt_pgfault message[256] = { { .flags = 3 } };
	struct iommu_hwpt_page_response response[256];
	uint64_t start = uiopf_monotonic_ns(), now = start, faults = 0;
	uint32_t outstanding = 0, passes = 0;
	bool sending = true;
	size_t have = 0;

	while (sending || outstanding) {
		uint32_t n = sending ? h->in_flight - outstanding : 0, i;
		ssize_t got;

		for (i = 0; i < n; i++)
			message[i].cookie = i + 1;
		if (h->stream && n) {
			if (send(h->fd[0], message, n * sizeof message[0], 0) < 0)
				break;
		} else {
			for (i = 0; i < n; i++)
				if (write(h->fd[0], &message[i], sizeof message[i]) < 0)
					goto out;
		}
		outstanding += n;
		/* A packet socket gives one answer a call; the first may be waited for. */
		got = recv(h->fd[0], (char *)response + have, h->stream ? sizeof response - have : sizeof response[0],
			   h->stream || outstanding < h->in_flight ? MSG_DONTWAIT : 0);
		if (got > 0) {
			have += (size_t)got;
			faults += have / sizeof response[0];
			outstanding -= (uint32_t)(have / sizeof response[0]);
			have %= sizeof response[0];
		} else if (got == 0 || errno != EAGAIN) {
			break;
		}
		if (++passes % 64 == 0) {
			now = uiopf_monotonic_ns();
			sending = now - start < h->during_ns;
		}
	}
out:
	now = uiopf_monotonic_ns();
	h->rate = outstanding ? 0 : (double)faults * 1e9 / (double)(now - start);
	shutdown(h->fd[0], SHUT_RDWR);
}

static double measure_host(uint32_t in_flight, uint64_t during_ns, bool stream)
{
	struct host h = { .in_flight = in_flight, .during_ns = during_ns, .stream = stream };
	struct uiopf_pair pair = { .near = host_kernel, .far = host_client, .arg = &h };

	if (!in_flight || in_flight > 256 || socketpair(AF_UNIX, stream ? SOCK_STREAM : SOCK_SEQPACKET, 0, h.fd) < 0)
		return 0;
	if (!uiopf_pair_run(&pair))
		h.rate = 0;
	close(h.fd[0]);
	close(h.fd[1]);
	return h.rate;
}

double uiopf_measure_host_fd(uint32_t in_flight, uint64_t during_ns)
{
	return measure_host(in_flight, during_ns, false);
}

double uiopf_measure_host_stream(uint32_t in_flight, uint64_t during_ns)
{
	return measure_host(in_flight, during_ns, true);
}

/* ---- the floor ---- */

struct ping {
	UIOPF_LINE uint32_t there;
	UIOPF_LINE uint32_t back;
	UIOPF_LINE uint64_t during_ns;
	int fd[2];
	double rate;
};
UIOPF_BEGINS_A_LINE(struct ping, there);
UIOPF_BEGINS_A_LINE(struct ping, back);
UIOPF_BEGINS_A_LINE(struct ping, during_ns);

#define PING_STOP UINT32_MAX

static void line_far(void *arg)
{
	struct ping *p = arg;
	uint32_t seen = 0, now;

	while ((now = LOAD_ACQUIRE(&p->there)) != PING_STOP)
		if (now != seen)
			STORE_RELEASE(&p->back, seen = now);
}

static void line_near(void *arg)
{
	struct ping *p = arg;
	uint64_t start = uiopf_monotonic_ns(), now = start;
	uint32_t n = 0;

	do {
		n++;
		STORE_RELEASE(&p->there, n);
		while (LOAD_ACQUIRE(&p->back) != n)
			;
		if (n % 256 == 0)
			now = uiopf_monotonic_ns();
	} while (now - start < p->during_ns && n < PING_STOP - 1);
	p->rate = (double)n * 1e9 / (double)(now - start);
	STORE_RELEASE(&p->there, PING_STOP);
}

double uiopf_measure_cache_line(uint64_t during_ns)
{
	struct ping p = { .during_ns = during_ns };
	struct uiopf_pair pair = { .near = line_near, .far = line_far, .arg = &p };

	return uiopf_pair_run(&pair) ? p.rate : 0;
}

/*
 * Every exchange is timed: one that takes so long was not a line on its way. One of the two stood still meanwhile, for
 * another program or because the host ran another machine, and whatever spins for it measured that.
 */
#define STANDSTILL_NS 20000u

static void together_near(void *arg)
{
	struct ping *p = arg;
	uint64_t start = uiopf_monotonic_ns(), before = start, now, apart = 0;
	uint32_t n = 0;

	do {
		n++;
		STORE_RELEASE(&p->there, n);
		while (LOAD_ACQUIRE(&p->back) != n)
			;
		now = uiopf_monotonic_ns();
		if (now - before > STANDSTILL_NS)
			apart += now - before;
		before = now;
	} while (now - start < p->during_ns && n < PING_STOP - 1);
	p->rate = 1.0 - (double)apart / (double)(now - start);
	STORE_RELEASE(&p->there, PING_STOP);
}

double uiopf_measure_together(uint64_t during_ns)
{
	struct ping p = { .during_ns = during_ns };
	struct uiopf_pair pair = { .near = together_near, .far = line_far, .arg = &p };

	return uiopf_pair_run(&pair) ? p.rate : 0;
}

static void eventfd_far(void *arg)
{
	struct ping *p = arg;
	eventfd_t value;

	while (eventfd_read(p->fd[0], &value) == 0 && value == 1)
		eventfd_write(p->fd[1], 1);
}

static void eventfd_near(void *arg)
{
	struct ping *p = arg;
	uint64_t start = uiopf_monotonic_ns(), now = start;
	eventfd_t value;
	uint64_t n = 0;

	do {
		if (eventfd_write(p->fd[0], 1) < 0 || eventfd_read(p->fd[1], &value) < 0)
			break;
		n++;
		now = uiopf_monotonic_ns();
	} while (now - start < p->during_ns);
	p->rate = (double)n * 1e9 / (double)(now - start);
	eventfd_write(p->fd[0], 2);	/* the end */
}

double uiopf_measure_eventfd(uint64_t during_ns)
{
	struct ping p = { .during_ns = during_ns };
	struct uiopf_pair pair = { .near = eventfd_near, .far = eventfd_far, .arg = &p };
	double rate = 0;

	p.fd[0] = eventfd(0, EFD_CLOEXEC);
	p.fd[1] = eventfd(0, EFD_CLOEXEC);
	if (p.fd[0] >= 0 && p.fd[1] >= 0 && uiopf_pair_run(&pair))
		rate = p.rate;
	close(p.fd[0]);
	close(p.fd[1]);
	return rate;
}

double uiopf_measure_system_call(uint64_t during_ns)
{
	uint64_t start = uiopf_monotonic_ns(), now = start, n = 0;

	do {
		syscall(SYS_getppid);
		if (++n % 256 == 0)
			now = uiopf_monotonic_ns();
	} while (now - start < during_ns);
	return (double)n * 1e9 / (double)(now - start);
}
