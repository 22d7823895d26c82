/*
 * Two clients of one attachable ring, liburing and ours, over the same memory: a random program in which now one and now
 * the other submits and reaps. After every step both must see the same, and what completes must be what was asked for.
 *
 *   two_views STEPS SEED
 */
#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "our_view.h"

#define ENTRIES 8u
#define CQ_ENTRIES 16u		/* small: overflow comes often */
#define BUFFERS 16u
#define MESSAGE 40u		/* struct iommu_hwpt_pgfault */
#define READ_MULTISHOT 49
/* user_data; NOPs count from 0. Not all ones: after io_uring_queue_mmap, liburing 2.3 takes that for its own time-out's. */
#define READ_DATA (UINT64_MAX - 1)
#define KINDS 9

static struct {
	struct machine *machine;
	struct io_uring ring;
	struct io_uring_buf_ring *buffers;
	uint8_t *data;
	bool ours;			/* whose turn it is */
	bool armed;
	uint64_t nops, reaped_nops;	/* asked for, completed */
	uint32_t pending;		/* SQEs that are filled and not published */
	uint32_t reported, received;	/* groups */
	uint32_t provided[BUFFERS];	/* whether the ring has it */
	uint64_t did[KINDS], overflows, ends;
	uint64_t step, random;
} w;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *what, ...)
{
	va_list arguments;

	fprintf(stderr, "step %" PRIu64 ", %s's turn: ", w.step, w.ours ? "our client" : "liburing");
	va_start(arguments, what);
	vfprintf(stderr, what, arguments);
	va_end(arguments);
	fprintf(stderr, "\n");
	exit(1);
}

static uint32_t draw(uint32_t n)
{
	w.random ^= w.random << 13;
	w.random ^= w.random >> 7;
	w.random ^= w.random << 17;
	return (uint32_t)(w.random >> 33) % n;
}

/* ---- the views ---- */

/* liburing goes on from where our client has come. */
static void adopt(void)
{
	w.ring.sq.sqe_head = w.ring.sq.sqe_tail = *w.ring.sq.ktail;
}

static void their_view(struct view *v)
{
	struct io_uring *r = &w.ring;
	struct io_uring_cqe *cqe;
	unsigned int head, i;

	if (w.ours)	/* what it counts its own SQEs by; ours it knows only from the memory */
		adopt();
	*v = (struct view){
		.sq_head = *r->sq.khead, .sq_tail = *r->sq.ktail, .sq_flags = *r->sq.kflags,
		.sq_dropped = *r->sq.kdropped, .sq_entries = r->sq.ring_entries,
		.sq_ready = io_uring_sq_ready(r), .sq_space = io_uring_sq_space_left(r),
		.cq_head = *r->cq.khead, .cq_tail = *r->cq.ktail, .cq_flags = *r->cq.kflags,
		.cq_overflow = *r->cq.koverflow, .cq_entries = r->cq.ring_entries, .cq_ready = io_uring_cq_ready(r),
		.sqes = HASH_START, .cqes = HASH_START, .buffers = HASH_START,
	};
	if (!w.ours) {	/* it counts what it has filled and not published as well */
		v->sq_ready -= w.pending;
		v->sq_space += w.pending;
	}
	for (i = v->sq_head; i != v->sq_tail; i++)
		v->sqes = hash(v->sqes, &r->sq.sqes[r->sq.array[i & r->sq.ring_mask]], sizeof *r->sq.sqes);
	io_uring_for_each_cqe(r, head, cqe)
		v->cqes = hash(v->cqes, cqe, sizeof *cqe);
	v->buffers = hash(v->buffers, w.buffers, BUFFERS * sizeof(struct io_uring_buf));
	if (io_uring_cq_has_overflow(r))
		fail("liburing is told of an overflow, and would enter");
}

#define SAME(field) do { \
	if (ours.field != theirs.field) \
		fail(#field ": ours %#" PRIx64 ", liburing's %#" PRIx64, (uint64_t)ours.field, (uint64_t)theirs.field); \
} while (0)

static void compare(void)
{
	struct view ours, theirs;

	our_view(w.machine, &ours);
	their_view(&theirs);
	SAME(sq_head);
	SAME(sq_tail);
	SAME(sq_flags);
	SAME(sq_dropped);
	SAME(sq_entries);
	SAME(sq_ready);
	SAME(sq_space);
	SAME(sqes);
	SAME(cq_head);
	SAME(cq_tail);
	SAME(cq_flags);
	SAME(cq_overflow);
	SAME(cq_entries);
	SAME(cq_ready);
	SAME(cqes);
	SAME(buffers);
}

/* ---- the steps ---- */

/* Fills the next SQE with this; false: both say that there is none. */
static bool push(const struct io_uring_sqe *sqe)
{
	struct io_uring_sqe *to;
	bool done;

	if (w.ours) {
		done = our_push(w.machine, sqe);
	} else {
		to = io_uring_get_sqe(&w.ring);
		done = to != NULL;
		if (to)
			*to = *sqe;
	}
	if (done != (w.pending + *w.ring.sq.ktail - *w.ring.sq.khead < ENTRIES))
		fail(done ? "an SQE that is in use" : "no SQE, though one is free");
	w.pending += done;
	return done;
}

static void submit(void)
{
	int rc;

	if (w.ours) {
		our_submit(w.machine);
	} else {
		rc = io_uring_submit(&w.ring);
		if (rc < 0)
			fail("io_uring_submit: %s", strerror(-rc));
	}
	w.pending = 0;
}

static int32_t result_of(uint64_t nop)
{
	return (int32_t)(nop * 2654435761u) >> 4;
}

static void push_nop(void)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_NOP, .user_data = w.nops };

	sqe.rw_flags = 1;	/* IORING_NOP_INJECT_RESULT, Linux 6.10 */
	sqe.len = (uint32_t)result_of(w.nops);
	if (push(&sqe))
		w.nops++;
}

static void arm(void)
{
	struct io_uring_sqe sqe;

	if (w.armed)
		return;
	memset(&sqe, 0, sizeof sqe);
	io_uring_prep_rw(READ_MULTISHOT, &sqe, 0, NULL, 0, (uint64_t)-1);
	sqe.flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
	sqe.user_data = READ_DATA;
	w.armed = push(&sqe);
}

static void provide(uint32_t most)
{
	uint32_t id, n = 0;

	for (id = 0; id < BUFFERS && n < most; id++)
		if (!w.provided[id]) {
			io_uring_buf_ring_add(w.buffers, w.data + 64 * id, MESSAGE, (unsigned short)id,
					      io_uring_buf_ring_mask(BUFFERS), (int)n++);
			w.provided[id] = 1;
		}
	io_uring_buf_ring_advance(w.buffers, (int)n);
}

static void got_group(int32_t res, uint32_t flags)
{
	uint32_t id = flags >> IORING_CQE_BUFFER_SHIFT, grpid;

	if (!(flags & IORING_CQE_F_MORE)) {
		w.armed = false;
		w.ends++;
	}
	if (!(flags & IORING_CQE_F_BUFFER)) {
		if (res != -ENOBUFS)
			fail("the read ended with %d", res);
		return;
	}
	if (res != (int32_t)MESSAGE || id >= BUFFERS || !w.provided[id])
		fail("%d bytes in buffer %u", res, id);
	memcpy(&grpid, w.data + 64 * id + 12, sizeof grpid);
	if (grpid != w.received)
		fail("group %u instead of %u", grpid, w.received);
	w.received++;
	w.provided[id] = 0;
}

static bool reap(void)
{
	struct io_uring_cqe *cqe = NULL;
	uint64_t user_data = 0;
	uint32_t flags = 0, ready = io_uring_cq_ready(&w.ring);
	int32_t res = 0;
	bool got;
	int rc;

	if (w.ours) {
		got = our_reap(w.machine, &user_data, &res, &flags);
	} else {
		rc = io_uring_peek_cqe(&w.ring, &cqe);
		got = rc == 0;
		if (rc < 0 && rc != -EAGAIN)
			fail("io_uring_peek_cqe: %s", strerror(-rc));
		if (got) {
			user_data = cqe->user_data;
			res = cqe->res;
			flags = cqe->flags;
			io_uring_cqe_seen(&w.ring, cqe);
		}
	}
	if (got != (ready > 0))
		fail("%u CQEs are ready, and %s was taken", ready, got ? "one" : "none");
	if (!got)
		return false;
	if (user_data == READ_DATA) {
		got_group(res, flags);
	} else {
		if (user_data != w.reaped_nops || res != result_of(user_data) || flags)
			fail("NOP %" PRIu64 " instead of %" PRIu64 ", result %d", user_data, w.reaped_nops, res);
		w.reaped_nops++;
	}
	return true;
}

/* The other goes on: nothing may be filled and not published, which only its owner knows of. */
static void take_turns(void)
{
	submit();
	w.ours = !w.ours;
	if (w.ours)
		our_adopt(w.machine);
	else
		adopt();
}

static void turn(void)
{
	if (io_uring_cq_ready(&w.ring) == CQ_ENTRIES && *w.ring.sq.ktail != *w.ring.sq.khead)
		w.overflows++;
	machine_turn(w.machine);
}

static void step(void)
{
	uint32_t kind = draw(KINDS);

	w.did[kind]++;
	switch (kind) {
	case 0:
	case 1: push_nop(); break;
	case 2: submit(); break;
	case 3: turn(); break;
	case 4: reap(); break;
	case 5: machine_report(w.machine, w.reported++); break;
	case 6: arm(); break;
	case 7: provide(draw(4) + 1); break;
	case 8: take_turns(); break;
	}
	compare();
}

/* Everything that was begun ends. */
static void drain(void)
{
	uint32_t idle = 0;

	while (idle < 4) {
		provide(BUFFERS);
		arm();
		submit();
		turn();
		compare();
		idle++;
		while (reap()) {
			compare();
			idle = 0;
		}
	}
	if (w.reaped_nops != w.nops || w.received != w.reported)
		fail("%" PRIu64 " of %" PRIu64 " NOPs and %u of %u groups have come", w.reaped_nops, w.nops, w.received,
		     w.reported);
}

int main(int argc, char **argv)
{
	uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000, size;
	struct io_uring_params p;
	uint32_t i;
	int rc;

	w.random = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1) * 0x9e3779b97f4a7c15ull | 1;
	w.machine = machine_new(ENTRIES, CQ_ENTRIES, BUFFERS, &p);
	rc = io_uring_queue_mmap(machine_ring_fd(w.machine), &p, &w.ring);
	if (rc < 0)
		fail("io_uring_queue_mmap: %s", strerror(-rc));
	w.buffers = mmap(NULL, BUFFERS * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE, MAP_SHARED,
			 w.ring.ring_fd, 0x80000000);
	w.data = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, machine_data_fd(w.machine, &size), 0);
	if (w.buffers == MAP_FAILED || w.data == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	machine_attach(w.machine, (uint64_t)(uintptr_t)w.data);
	for (i = 0; i < ENTRIES; i++)	/* liburing 2.4 and later never fill it in */
		if (w.ring.sq.array[i] != i)
			fail("entry %u of the SQ array is %u", i, w.ring.sq.array[i]);
	io_uring_buf_ring_init(w.buffers);
	compare();
	for (w.step = 1; w.step <= steps; w.step++)
		step();
	drain();
	printf("steps %" PRIu64 " nops %" PRIu64 " groups %u overflows %" PRIu64 " ends %" PRIu64 " turns %" PRIu64 "\n",
	       steps, w.nops, w.received, w.overflows, w.ends, w.did[8]);
	machine_free(w.machine);
	return 0;
}
