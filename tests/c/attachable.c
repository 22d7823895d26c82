/*
 * A client of an attachable ring that does whatever one can do with what it was given: any words into the ring, the
 * buffer rings and the data, requests of all kinds on descriptors of all numbers, holes punched and filled, eventfds
 * filled, emptied and made to block, kicks. The honest client beside it, on the same worker, gets all of its answers, and
 * when the hostile one is freed with requests under way, everything comes back.
 *
 * It writes through the engine's own mapping, so that the thread sanitizer sees every access that is not a named atomic.
 *
 * Arguments: seconds, seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "rings/attachable.h"
#include "rings/cancel.h"
#include "rings/completion.h"

#define DATA_SIZE 0x10000u
#define DATA_AT 0x7000000000ull
#define GROUPS 2u
#define GROUP_ENTRIES 16u

struct attack {
	struct uiopf_core *core;
	struct uiopf_mock *mock;
	struct uiopf_faultq *queue;
	struct uiopf_device *device;
	struct uiopf_engine *victim, *honest;
	struct uiopf_client_ring *ring;		/* the honest client's */
	struct uiopf_attachment honest_has;
	uint64_t random, passed, kicks;
	uint32_t stop;
	bool kicking;
};

static struct uiopf_engine *open_ring(struct attack *a, bool kicks, struct io_uring_params *p)
{
	const struct uiopf_attachable config = { GROUPS, GROUP_ENTRIES, DATA_SIZE };
	int32_t fd = uiopf_core_install(a->core, uiopf_faultq_file(a->queue));
	struct uiopf_engine *e;

	*p = (struct io_uring_params){ .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL, .cq_entries = 16 };
	CHECK_EQ(uiopf_setup_attachable(a->core, 8, p, &config, &e), 0);
	CHECK_EQ(uiopf_register(e, IORING_REGISTER_FILES, &fd, 1), 0);
	CHECK_EQ(uiopf_engine_attach(e, DATA_AT, kicks), 0);
	CHECK_EQ(uiopf_engine_attach(e, DATA_AT, kicks), -EBUSY);
	return e;
}

static void hostile_sqe(struct attack *a)
{
	struct uiopf_ring *ring = &a->victim->ring;
	uint64_t *r = &a->random, *at = uiopf_sqe_at(ring, below(r, ring->sq_entries)), word[8] = { 0 };
	uint32_t opcode = below(r, 4) ? (uint32_t[]){ IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READ_MULTISHOT,
						      IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE,
						      IORING_OP_FILES_UPDATE, IORING_OP_PROVIDE_BUFFERS }[below(r, 8)] :
					below(r, IORING_OP_LAST + 2), i;
	uint32_t flags = opcode == IORING_OP_READ_MULTISHOT ? IOSQE_BUFFER_SELECT : 0;

	flags |= below(r, 4) ? IOSQE_FIXED_FILE : below(r, 256) & ~(uint32_t)IOSQE_IO_DRAIN;
	word[0] = opcode | flags << 8 | (uint64_t)(below(r, 2) ? 0 : below(r, 8)) << 32;
	word[1] = below(r, 2) ? UINT64_MAX : 0;
	word[2] = opcode == IORING_OP_READ_MULTISHOT || opcode == IORING_OP_ASYNC_CANCEL || opcode == IORING_OP_CLOSE ? 0 :
		  DATA_AT + below(r, DATA_SIZE);
	word[3] = opcode == IORING_OP_READ || opcode == IORING_OP_WRITE ? 8 * below(r, 12) : below(r, 2);
	word[4] = below(r, 8);
	word[5] = below(r, GROUPS + 1);
	for (i = 0; i < 8; i++)
		WRITE_ONCE(&at[i], below(r, 40) ? word[i] : next_random(r));
}

static void hostile_buffers(struct attack *a)
{
	uint64_t *r = &a->random, *at;
	uint32_t group = below(r, GROUPS), entry = below(r, GROUP_ENTRIES);

	at = (uint64_t *)(void *)(a->victim->ring.region.map + IORING_OFF_PBUF_RING +
				  ((uint64_t)group << IORING_OFF_PBUF_SHIFT) + 16 * entry);
	WRITE_ONCE(&at[0], below(r, 8) ? DATA_AT + below(r, DATA_SIZE) : next_random(r));
	WRITE_ONCE(&at[1], (below(r, 8) ? 40 * below(r, 4) : next_random(r) & 0xffffffff) | (uint64_t)below(r, 65536) << 48);
}

/* What one does with descriptors. */
static void hostile_descriptor(struct attack *a)
{
	uint64_t *r = &a->random, hole = UIOPF_PAGE * (uint64_t)below(r, 0x100000);
	struct uiopf_attachment has;
	uint64_t value;
	int fd;

	uiopf_engine_attachment(a->victim, &has);
	fd = below(r, 2) ? has.completion_eventfd : has.wake_eventfd;
	switch (below(r, 7)) {
	case 0:
		fcntl(fd, F_SETFL, O_NONBLOCK);
		value = UINT64_MAX - 1;
		CHECK(write(fd, &value, sizeof value) > 0 || errno == EAGAIN);
		if (below(r, 2))
			fcntl(fd, F_SETFL, 0);	/* full, and it blocks whoever writes */
		break;
	case 1:
		fcntl(fd, F_SETFL, O_NONBLOCK);
		CHECK(read(fd, &value, sizeof value) > 0 || errno == EAGAIN);
		if (below(r, 2))
			fcntl(fd, F_SETFL, 0);	/* empty, and it blocks whoever reads */
		break;
	case 2:
		fallocate(has.ring_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, UIOPF_PAGE);
		break;
	case 3:
		fallocate(has.ring_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, IORING_OFF_SQES, UIOPF_PAGE);
		fallocate(has.data_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, below(r, 16) * UIOPF_PAGE, UIOPF_PAGE);
		break;
	case 4:
		if (hole + UIOPF_PAGE <= has.ring_size && below(r, 16) == 0) {
			CHECK_EQ(pwrite(has.ring_fd, "x", 1, (off_t)hole), 1);
			fallocate(has.ring_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)hole, UIOPF_PAGE);
		}
		break;
	case 5:
		if (hole != has.ring_size)	/* its own size is no change */
			CHECK_EQ(ftruncate(has.ring_fd, (off_t)hole), -1);
		CHECK_EQ(ftruncate(has.data_fd, 0), -1);
		break;
	default:
		fcntl(has.wake_eventfd, F_SETFL, O_NONBLOCK);
		value = 1;
		CHECK(write(has.wake_eventfd, &value, sizeof value) > 0 || errno == EAGAIN);
	}
}

static void *hostile_thread(void *arg)
{
	struct attack *a = arg;
	struct uiopf_ring *ring = &a->victim->ring;
	uint64_t *r = &a->random;

	while (!LOAD_ACQUIRE(&a->stop)) {
		switch (below(r, 16)) {
		case 0:
			WRITE_ONCE(uiopf_ring_word(ring, 4 * below(r, UIOPF_PAGE / 4)),
				   below(r, 2) ? (uint32_t)next_random(r) : below(r, 16));
			break;
		case 1:
			WRITE_ONCE(uiopf_ring_word(ring, RING_SQ_TAIL),
				   READ_ONCE(uiopf_ring_word(ring, RING_SQ_HEAD)) + below(r, below(r, 50) ? 6 : 20));
			break;
		case 2:
		case 3:
		case 4:
		case 5:
			WRITE_ONCE(uiopf_ring_word(ring, RING_CQ_HEAD),
				   READ_ONCE(uiopf_ring_word(ring, RING_CQ_TAIL)) - below(r, 4));
			break;
		case 6:
			if (below(r, 8) == 0)
				hostile_descriptor(a);
			break;
		case 7:
		case 8:
			hostile_buffers(a);
			break;
		case 9:		/* cookies that are being answered */
			WRITE_ONCE((uint64_t *)(void *)(a->victim->data.map + 8 * below(r, DATA_SIZE / 8)),
				   below(r, 2) ? 1 + below(r, 64) : next_random(r));
			break;
		default:
			hostile_sqe(a);
		}
	}
	return NULL;
}

/* Submits NOPs, kicks when told to, and hears of each completion. */
static void *honest_thread(void *arg)
{
	struct attack *a = arg;
	struct io_uring_cqe cqe[8];
	uint64_t pushed = 0, random = 1;

	while (!LOAD_ACQUIRE(&a->stop) || a->passed < pushed) {
		uint32_t burst = LOAD_ACQUIRE(&a->stop) ? 0 : below(&random, 8), i, n;

		for (i = 0; i < burst; i++) {
			struct io_uring_sqe sqe = { .opcode = IORING_OP_NOP, .user_data = pushed };

			if (uiopf_client_push(a->ring, &sqe) < 0)
				break;
			pushed++;
		}
		uiopf_client_submit(a->ring);
		if (uiopf_client_needs_wakeup(a->ring)) {
			CHECK(a->kicking);
			a->kicks++;
			CHECK_EQ(eventfd_write(a->honest_has.wake_eventfd, 1), 0);
		}
		n = uiopf_client_reap(a->ring, cqe, 1 + below(&random, 8));
		for (i = 0; i < n; i++) {
			CHECK_EQ(cqe[i].user_data, a->passed);
			CHECK_EQ(cqe[i].res, 0);
			STORE_RELEASE(&a->passed, a->passed + 1);
		}
		if (below(&random, 2000) == 0)
			uiopf_eventfd_wait(a->core, a->honest_has.completion_eventfd, 2000000);	/* lets the worker fall asleep */
	}
	return NULL;
}

/*
 * Soon so much is kept for it that no more is taken from it: it would attack no longer. So now and then all that it has
 * is read, much of what is under way is cancelled, and its indices are put right.
 */
static void come_to_its_senses(struct uiopf_engine *e)
{
	const struct uiopf_cancel all = { .flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL };
	uint32_t tries = 0;

	uiopf_control_begin(e->core);
	if (e->alive > UIOPF_ATTACHED_MOST / 2)
		uiopf_cancel_matching(e, &all);
	CHECK(e->alive + e->backlog_count <= UIOPF_ATTACHED_MOST);
	while (e->backlog_count && tries++ < 100000) {	/* it goes on meanwhile */
		WRITE_ONCE(uiopf_ring_word(&e->ring, RING_CQ_HEAD), e->ring.cq_tail);
		uiopf_flush_backlog(e);
	}
	uiopf_publish_cqes(e);
	WRITE_ONCE(uiopf_ring_word(&e->ring, RING_CQ_TAIL), e->ring.cq_tail);
	WRITE_ONCE(uiopf_ring_word(&e->ring, RING_CQ_HEAD), e->ring.cq_tail);
	WRITE_ONCE(uiopf_ring_word(&e->ring, RING_SQ_HEAD), e->ring.sq_head);
	WRITE_ONCE(uiopf_ring_word(&e->ring, RING_SQ_TAIL), e->ring.sq_head);
	uiopf_control_end(e->core);
}

static void attack(bool kicking, double seconds, uint64_t seed)
{
	struct attack a = { .random = seed, .kicking = kicking };
	double end = seconds_now() + seconds;
	struct uiopf_faultq_counts counts = { 0 };
	struct io_uring_params p;
	pthread_t hostile, honest;
	uint64_t reported = 0, turns = 0;

	a.core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, 1);
	a.mock = uiopf_mock_new(a.core);
	a.queue = uiopf_faultq_new(a.core, UIOPF_PROPOSED);
	a.device = uiopf_device_new(a.core, uiopf_mock_iommu(a.mock), 1, 0, 256, 0);
	CHECK(a.core && a.mock && a.queue && a.device);
	CHECK_EQ(uiopf_attach(a.device, UIOPF_NO_PASID, a.queue, UIOPF_USER_MANAGED), 0);
	CHECK_EQ(uiopf_core_start(a.core, UIOPF_SQPOLL, -1, 50000), 0);
	a.victim = open_ring(&a, true, &p);
	a.honest = open_ring(&a, kicking, &p);
	uiopf_engine_attachment(a.honest, &a.honest_has);
	a.ring = uiopf_client_ring_map(a.honest_has.ring_fd, &p, a.honest_has.ring_size,
				       uiopf_engine_sqes_offset(a.honest));
	CHECK(a.ring);
	CHECK_EQ(pthread_create(&hostile, NULL, hostile_thread, &a), 0);
	CHECK_EQ(pthread_create(&honest, NULL, honest_thread, &a), 0);
	/* However slow the machine is, something must have come of it on both sides. */
	while (seconds_now() < end || LOAD_ACQUIRE(&a.passed) < 100 || counts.delivered_groups < 20) {
		struct uiopf_mock_response answers[64];

		CHECK(seconds_now() < end + 60);

		if (uiopf_device_report(a.device, 3, 1, (uint32_t)reported & 511, 1, 0x1000) == 0)
			reported++;
		uiopf_mock_take(a.mock, answers, 64);
		if (++turns % 32)
			continue;
		come_to_its_senses(a.victim);
		usleep(500);	/* each report stops the worker: let it run */
		uiopf_faultq_counts(a.queue, &counts);
	}
	STORE_RELEASE(&a.stop, 1);
	pthread_join(hostile, NULL);
	pthread_join(honest, NULL);
	if (!kicking)
		CHECK_EQ(a.kicks, 0);
	CHECK(uiopf_engine_pending(a.victim) <= UIOPF_ATTACHED_MOST);
	/* It dies: its ring first, with whatever is under way, then what it has not answered. */
	uiopf_engine_free(a.victim);
	CHECK_EQ(uiopf_detach(a.device, UIOPF_NO_PASID), 0);
	uiopf_faultq_counts(a.queue, &counts);
	CHECK_EQ(counts.unanswered_groups, 0);
	CHECK_EQ(counts.waiting_groups, 0);
	uiopf_client_ring_unmap(a.ring);
	uiopf_engine_free(a.honest);
	CHECK_EQ(uiopf_faultq_free(a.queue), 0);
	uiopf_device_free(a.device);
	uiopf_mock_free(a.mock);
	CHECK_EQ(uiopf_core_free(a.core), 0);
	printf("kicking %d: %" PRIu64 " passed, %" PRIu64 " kicks, %" PRIu64 " groups reported, %" PRIu64
	       " read, %" PRIu64 " answered\n", kicking, a.passed, a.kicks, reported, counts.delivered_groups,
	       counts.answered_groups);
}

/*
 * A client keeps its eventfd quiet, and enables it before it sleeps. The worker may have looked at the flag before that,
 * and the client at the tail before the worker's store of it was seen: the worker looks once more in its next turn. Its
 * turns are made here by hand, so that the client comes between two of them.
 */
static void the_worker_looks_again_before_a_client_sleeps(void)
{
	const struct uiopf_attachable config = { 0 };
	struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 1);
	struct io_uring_params p = { 0 };
	struct io_uring_sqe nop = { .opcode = IORING_OP_NOP };
	struct uiopf_attachment has;
	struct uiopf_client_ring *ring;
	struct uiopf_engine *e;
	eventfd_t value;
	int i;

	CHECK_EQ(uiopf_setup_attachable(core, 8, &p, &config, &e), 0);
	CHECK_EQ(uiopf_engine_attach(e, 0, 1), 0);
	uiopf_engine_attachment(e, &has);
	ring = uiopf_client_ring_map(has.ring_fd, &p, has.ring_size, uiopf_engine_sqes_offset(e));
	CHECK(ring);
	core->driver = UIOPF_SQPOLL;
	for (i = 0; i < 3; i++) {
		STORE_SEQ(uiopf_client_word(ring, RING_CQ_FLAGS), IORING_CQ_EVENTFD_DISABLED);
		CHECK(uiopf_client_push(ring, &nop) >= 0);
		uiopf_client_submit(ring);
		CHECK_EQ(uiopf_consume(core), 1);
		CHECK_EQ(eventfd_read(has.completion_eventfd, &value), -1);
		STORE_SEQ(uiopf_client_word(ring, RING_CQ_FLAGS), 0);
		uiopf_consume(core);
		CHECK_EQ(eventfd_read(has.completion_eventfd, &value), 0);
		CHECK_EQ(uiopf_client_ready(ring), 1);
		uiopf_client_seen(ring, 1);
	}
	core->driver = UIOPF_INLINE;
	uiopf_client_ring_unmap(ring);
	uiopf_engine_free(e);
	CHECK_EQ(uiopf_core_free(core), 0);
}

int main(int argc, char **argv)
{
	double seconds = seconds_from(argc, argv, 1, 60);
	uint64_t seed = seed_from(argc, argv, 2);

	the_worker_looks_again_before_a_client_sleeps();
	attack(true, seconds / 2, seed);
	attack(false, seconds / 2, seed + 1);
	return 0;
}
