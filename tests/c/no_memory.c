/*
 * Without memory at any point: the same life of the whole library again and again, in which the first allocation fails,
 * then the second, and so on until one is reached that there is not. What is refused for want of memory is tried again
 * and must succeed; afterwards everything is counted. Linked with --wrap for each function that allocates.
 *
 * Allocations that a call can do without (a group is dropped, a completion lost and counted) are seen by the counts.
 */
#include <errno.h>

#include "allocations.h"
#include "check.h"
#include "designs/design.h"
#include "faults/faultq.h"
#include "faults/iopf.h"
#include "rings/engine.h"

/* ---- which allocation fails ---- */

static uint64_t seen, fails;	/* allocations made while it counts, and which one fails: from 1 */
static bool counting, failed;

static bool may_allocate(uint64_t bytes)
{
	(void)bytes;
	if (!counting || ++seen != fails)
		return true;
	failed = true;
	return false;
}

/* An object, or a call that says -errno: refused once at most, and looked at in between. */
#define MADE(p, expression, looked_at) do { \
		counting = true; \
		(p) = (expression); \
		counting = false; \
		if (!(p)) { \
			CHECK(failed); \
			looked_at; \
			(p) = (expression); \
		} \
		CHECK(p); \
	} while (0)

#define DONE(expression, looked_at) do { \
		int64_t rc_; \
		counting = true; \
		rc_ = (expression); \
		counting = false; \
		if (rc_ < 0) { \
			CHECK_EQ(rc_, -ENOMEM); \
			CHECK(failed); \
			looked_at; \
			rc_ = (expression); \
		} \
		CHECK(rc_ >= 0); \
	} while (0)

/* ---- fault queues, devices, attachments ---- */

#define PASIDS 40u

struct faults {
	struct uiopf_core *core;
	struct uiopf_mock *mock;
	struct uiopf_faultq *queue[2];
	struct uiopf_device *device[3];
	uint64_t refused, grpid, answered;
};

/* Whatever just failed: the counts walk all cookies, and no answer reaches beyond them. */
static void look_at(struct faults *f)
{
	struct uiopf_faultq_counts counts;
	uint32_t q, cookie;

	for (q = 0; q < 2; q++) {
		if (!f->queue[q])
			continue;
		uiopf_faultq_counts(f->queue[q], &counts);
		CHECK(counts.delivered_groups >= counts.answered_groups + counts.unanswered_groups);
		CHECK(counts.delivered_groups <=
		      counts.answered_groups + counts.unanswered_groups + counts.auto_answered_groups);
		for (cookie = 200; cookie < 200000; cookie = cookie * 3 / 2) {
			const struct iommu_hwpt_page_response r = { .cookie = cookie + 1000000 };

			CHECK_EQ(uiopf_faultq_write(f->queue[q], &r, sizeof r), -EINVAL);
		}
	}
}

/* So many groups, some of three pages; what has no room in the pool is refused or dropped, and counted. */
static void report(struct faults *f, struct uiopf_device *device, uint32_t groups, uint32_t pasid)
{
	const uint32_t valid = pasid ? UIOPF_FAULT_PASID_VALID : 0;
	uint32_t i, n, pages;
	int rc;

	for (i = 0; i < groups; i++) {
		f->grpid++;
		pages = i % 4 ? 1 : 3;
		for (n = 1; n <= pages; n++) {
			counting = true;
			rc = uiopf_device_report(device, valid | (n == pages ? UIOPF_FAULT_LAST_PAGE : 0), pasid,
						 (uint32_t)f->grpid, IOMMU_PGFAULT_PERM_READ, f->grpid << 12);
			counting = false;
			CHECK(rc == 0 || (rc == -ENOMEM && failed));
		}
	}
}

static void answer_some(struct faults *f, struct uiopf_faultq *q, uint32_t most, bool newest_first)
{
	static struct iommu_hwpt_pgfault message[4096];
	struct iommu_hwpt_page_response response[4096];
	int64_t n = uiopf_faultq_read(q, message, most * sizeof message[0]), i;
	uint32_t groups = 0;

	CHECK(n >= 0);
	n /= (int64_t)sizeof message[0];
	for (i = 0; i < n; i++) {
		int64_t at = newest_first ? n - 1 - i : i;

		if ((message[at].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) && at % 3)
			response[groups++] = (struct iommu_hwpt_page_response){ .cookie = message[at].cookie };
	}
	if (groups)
		CHECK_EQ(uiopf_faultq_write(q, response, groups * sizeof response[0]), groups * sizeof response[0]);
	f->answered += groups;
}

static void check_faults(struct faults *f)
{
	struct uiopf_mock_response told[256];
	struct uiopf_faultq_counts counts;
	struct uiopf_device_counts device;
	uint64_t reported = 0, dropped = 0, refused = 0, faults = 0, answers = 0, n;
	uint32_t i;

	for (i = 0; i < 2; i++) {
		uiopf_faultq_counts(f->queue[i], &counts);
		CHECK_EQ(counts.waiting_groups + counts.unanswered_groups, 0);
		faults += counts.answered_faults + counts.auto_answered_faults;
		answers += counts.answered_groups + counts.auto_answered_groups;
	}
	for (i = 0; i < 3; i++) {
		uiopf_device_get_counts(f->device[i], &device);
		reported += device.reported;
		dropped += device.dropped;
		refused += device.refused;
	}
	CHECK_EQ(reported, faults + dropped + refused);
	while ((n = uiopf_mock_take(f->mock, told, 256)))
		answers -= n;
	/* Each group was answered once, and so was what was refused. */
	CHECK((int64_t)(answers - uiopf_mock_lost(f->mock)) <= 0);
	CHECK(failed || (answers == 0 && refused == 0));
}

static void the_life_of_faults(enum uiopf_driver driver)
{
	const struct uiopf_faultq_limits limits = { .by_index = 1, .timeout_ns = UINT64_MAX, .timeout_code = 1 };
	struct faults f = { .core = NULL };
	uint32_t i, pasid;

	MADE(f.core, uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0), );
	f.core->driver = driver;	/* under `enter`, groups go back to their pool by a ring of its own */
	MADE(f.mock, uiopf_mock_new(f.core), );
	for (i = 0; i < 2; i++)
		MADE(f.queue[i], uiopf_faultq_new(f.core, i ? UIOPF_PROPOSED : UIOPF_MERGED), look_at(&f));
	DONE(uiopf_faultq_limit(f.queue[1], &limits), look_at(&f));
	MADE(f.device[0], uiopf_device_new(f.core, uiopf_mock_iommu(f.mock), 1, 1, 100, 0), look_at(&f));
	for (i = 0; i < 2; i++) {	/* … and each queue grows, with groups in every state */
		DONE(i ? uiopf_replace(f.device[0], UIOPF_NO_PASID, f.queue[1], 0) :
			 uiopf_attach(f.device[0], UIOPF_NO_PASID, f.queue[0], 0), look_at(&f));
		report(&f, f.device[0], 60, 0);
		answer_some(&f, f.queue[i], 40, i);
		if (!i) {
			MADE(f.device[1], uiopf_device_new(f.core, uiopf_mock_iommu(f.mock), 2, 2, 1500, 1), look_at(&f));
			MADE(f.device[2], uiopf_device_new(f.core, uiopf_mock_iommu(f.mock), 3, 3, 5000, 0), look_at(&f));
			DONE(uiopf_attach(f.device[1], UIOPF_NO_PASID, f.queue[0], 0), look_at(&f));
		} else {
			DONE(uiopf_replace(f.device[1], UIOPF_NO_PASID, f.queue[1], 0), look_at(&f));
		}
		report(&f, f.device[0], 10, 0);
		report(&f, f.device[1], 2600, 0);	/* it grows by need */
		answer_some(&f, f.queue[i], 4000, !i);
	}
	for (pasid = 1; pasid <= PASIDS; pasid++)
		DONE(uiopf_attach(f.device[0], pasid, f.queue[pasid % 2], 0), look_at(&f));
	report(&f, f.device[0], 30, 3);
	DONE(uiopf_device_join(f.device[2], f.device[0], 0), look_at(&f));
	report(&f, f.device[2], 200, 5);
	for (i = 0; i < 2; i++)
		answer_some(&f, f.queue[i], 300, i);
	for (pasid = 1; pasid <= PASIDS; pasid++)
		CHECK_EQ(uiopf_detach(f.device[0], pasid), 0);
	for (i = 0; i < 2; i++)
		CHECK_EQ(uiopf_detach(f.device[i], UIOPF_NO_PASID), 0);
	check_faults(&f);
	uiopf_device_leave(f.device[2]);
	for (i = 0; i < 3; i++)
		uiopf_device_free(f.device[i]);
	for (i = 0; i < 2; i++)
		CHECK_EQ(uiopf_faultq_free(f.queue[i]), 0);
	uiopf_mock_free(f.mock);
	f.core->driver = UIOPF_INLINE;
	CHECK_EQ(uiopf_core_free(f.core), 0);
}

/* ---- events ---- */

static void the_life_of_events(void)
{
	static uint8_t data[1024], to[65536];
	struct uiopf_eventq_counts counts;
	struct uiopf_eventq *q;
	struct uiopf_core *core;
	uint32_t i, lost = 0;
	int rc;

	MADE(core, uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0), );
	MADE(q, uiopf_eventq_new(core, 1000), );
	for (i = 0; i < 300; i++) {
		counting = true;
		rc = uiopf_eventq_report(q, data, 32 + i);
		counting = false;
		CHECK(rc == 0 || (rc == -ENOMEM && failed));
		lost += rc != 0;
		if (i % 100 == 50)
			CHECK(uiopf_eventq_read(q, to, sizeof to) > 0);
	}
	while (uiopf_eventq_read(q, to, sizeof to) > 0)
		;
	uiopf_eventq_counts(q, &counts);
	CHECK_EQ(counts.lost, lost);
	CHECK_EQ(counts.delivered + counts.lost, 300);
	CHECK_EQ(uiopf_eventq_free(q), 0);
	CHECK_EQ(uiopf_core_free(core), 0);
}

/* ---- a machine with each design ---- */

#define ROWS 200u

/* Each behind another IOMMU, in turn. */
static void the_life_of_a_design(uint32_t design)
{
	static struct uiopf_access row[ROWS];
	const struct uiopf_channel_config config = { UIOPF_WAIT_SLEEP, 80, 2, 0 };
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 60, .group = 2 };
	struct uiopf_endpoint_counts counts;
	struct uiopf_served served = { 0 };
	struct uiopf_channel *channel = NULL;
	struct uiopf_endpoint *endpoint;
	struct uiopf_faultq *queue;
	struct uiopf_device *device;
	struct uiopf_space *space;
	struct uiopf_core *core;
	struct uiopf_model *iommu;
	const bool has_client = uiopf_design_info(design)->has_client;
	const uint32_t room = uiopf_design_info(design)->most_faults;
	uint32_t i;

	for (i = 0; i < ROWS; i++)
		row[i] = (struct uiopf_access){ i, (uint64_t)i << 12, 1, IOMMU_PGFAULT_PERM_READ };
	MADE(core, uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0), );
	MADE(iommu, uiopf_model_make(core, 0, UIOPF_MODEL_UNDRAINED), );
	MADE(endpoint, uiopf_endpoint_new(core, uiopf_model_port(iommu), 0x100, 512, 2), );
	MADE(space, uiopf_space_new(2, 16), );
	MADE(queue, uiopf_faultq_new(core, uiopf_design_info(design)->personality), );
	MADE(device, uiopf_device_new(core, uiopf_model_iommu(iommu), 1, 0x100, 512, 0), );
	DONE(uiopf_model_bind(iommu, endpoint, device), );
	uiopf_endpoint_set_tables(endpoint, space);
	DONE(uiopf_endpoint_set_rows(endpoint, row, ROWS), );
	CHECK_EQ(uiopf_endpoint_enable_pri(endpoint, room ? room : 512), 0);	/* more would be refused */
	DONE(uiopf_attach(device, UIOPF_NO_PASID, queue, UIOPF_USER_MANAGED), );
	DONE(uiopf_channel_open(core, queue, design, &config, has_client ? NULL : space, &channel), );
	CHECK_EQ(uiopf_endpoint_start(endpoint, &load), 0);
	/* Requests and backlogs grow by need: without memory a call does less, and the next one goes on. */
	for (i = 0; i < 1000 && !uiopf_endpoint_passes(endpoint); i++) {
		counting = true;
		if (has_client)
			uiopf_client_serve(channel, space, ROWS, UINT64_MAX / 2, &served);
		else
			uiopf_channel_wait(channel, 0);
		counting = false;
		CHECK(!served.error || (failed && (served.error == -ENOMEM || served.error == -EAGAIN)));
		uiopf_core_produce(core);
	}
	uiopf_endpoint_get_counts(endpoint, &counts);
	CHECK_EQ(counts.succeeded, ROWS);
	CHECK_EQ(counts.unexpected, 0);
	uiopf_channel_close(channel);
	CHECK_EQ(uiopf_detach(device, UIOPF_NO_PASID), 0);
	uiopf_model_unbind(iommu, device);
	uiopf_device_free(device);
	CHECK_EQ(uiopf_faultq_free(queue), 0);
	uiopf_endpoint_free(endpoint);
	uiopf_model_free(iommu);
	uiopf_space_free(space);
	CHECK_EQ(uiopf_core_free(core), 0);
}

/* ---- rings ---- */

#define ARENA_AT 0x7000000000ull
#define ARENA 65536u

static int push(struct uiopf_client_ring *ring, uint8_t opcode, int fd, uint64_t address, uint32_t length)
{
	struct io_uring_sqe sqe = { .opcode = opcode, .fd = fd, .addr = address, .len = length, .user_data = opcode };

	if (opcode == IORING_OP_POLL_ADD)
		sqe.poll32_events = POLLIN;
	return uiopf_client_push(ring, &sqe) < 0 ? -1 : 0;
}

/* Hands over all that is queued, however often that takes; how many. */
static uint32_t submit(struct uiopf_engine *e, struct uiopf_client_ring *ring)
{
	uint32_t n = uiopf_client_submit(ring), done = 0;
	int rc;

	while (done < n) {
		counting = true;
		rc = uiopf_enter(e, n - done, 0, 0, 0);
		counting = false;
		CHECK(rc > 0 || (rc == -EAGAIN && failed));
		done += rc > 0 ? (uint32_t)rc : 0;
	}
	return n;
}

static uint32_t reap(struct uiopf_engine *e, struct uiopf_client_ring *ring)
{
	struct io_uring_cqe cqe[64];
	uint32_t n, all = 0;

	do {
		n = uiopf_client_reap(ring, cqe, 64);
		all += n;
		uiopf_enter(e, 0, 0, IORING_ENTER_GETEVENTS, 0);
	} while (n);
	return all;
}

static void the_life_of_a_ring(void)
{
	struct io_uring_params p = { .flags = IORING_SETUP_CQSIZE, .cq_entries = 128 };
	struct { uint64_t base, length; } buffers[3] = { { ARENA_AT, 4096 }, { ARENA_AT + 4096, 4096 }, { ARENA_AT, 100 } };
	struct io_uring_buf_reg reg = { .ring_addr = ARENA_AT + 8192, .ring_entries = 64, .bgid = 3 };
	struct { int64_t second, nanosecond; } *when;
	struct uiopf_client_ring *ring;
	struct uiopf_engine *e = NULL;
	struct uiopf_faultq *queue;
	struct uiopf_core *core;
	uint8_t *arena = aligned_alloc(4096, ARENA);
	uint32_t i, sent = 0, lost, taken;
	int32_t files[4] = { -1, -1, -1, -1 };
	int fd, pipe_fd[2], host;

	CHECK(arena);
	memset(arena, 0, ARENA);
	CHECK_EQ(pipe(pipe_fd), 0);
	MADE(core, uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0), );
	MADE(queue, uiopf_faultq_new(core, UIOPF_PROPOSED), );
	fd = uiopf_core_install(core, uiopf_faultq_file(queue));
	DONE(host = uiopf_core_install_host(core, pipe_fd[0]), );
	DONE(uiopf_setup(core, 64, &p, &e), );
	MADE(ring, uiopf_client_ring_map(uiopf_engine_fd(e), &p, uiopf_engine_size(e), uiopf_engine_sqes_offset(e)), );
	CHECK_EQ(uiopf_engine_add_window(e, ARENA_AT, ARENA, arena), 0);
	files[1] = fd;
	files[2] = host;
	DONE(uiopf_register(e, IORING_REGISTER_FILES, files, 4), );
	DONE(uiopf_register(e, IORING_REGISTER_BUFFERS, buffers, 3), );
	DONE(uiopf_register(e, IORING_REGISTER_PBUF_RING, &reg, 1), );
	/* Polls of a queue that stays empty, which no completion ends; time-outs; vectors: 600 requests and more. */
	when = (void *)(arena + 16384);
	when->second = 1000;
	for (i = 0; i < 640; i++) {
		const struct { uint64_t base, length; } vector = { ARENA_AT, 40 };
		int rc = i % 3 == 0 ? push(ring, IORING_OP_POLL_ADD, fd, 0, 0) :
			 i % 3 == 1 ? push(ring, IORING_OP_TIMEOUT, -1, ARENA_AT + 16384, 1) :
				      push(ring, IORING_OP_READV, host, ARENA_AT + 20480, 1);

		memcpy(arena + 20480, &vector, sizeof vector);
		CHECK_EQ(rc, 0);
		if (i % 64 == 63)
			sent += submit(e, ring);
	}
	/* More completions than the CQ holds: the backlog grows. */
	for (i = 0; i < 640; i++) {
		CHECK_EQ(push(ring, IORING_OP_NOP, -1, 0, 0), 0);
		if (i % 64 == 63)
			sent += submit(e, ring);
	}
	lost = uiopf_client_load(ring, RING_CQ_OVERFLOW);
	taken = reap(e, ring);
	CHECK_EQ(sent, taken + lost + uiopf_engine_pending(e));
	CHECK(!lost || failed);
	DONE(uiopf_register(e, IORING_UNREGISTER_BUFFERS, NULL, 0), );
	DONE(uiopf_register(e, IORING_UNREGISTER_FILES, NULL, 0), );
	uiopf_client_ring_unmap(ring);
	uiopf_engine_free(e);
	uiopf_core_uninstall(core, fd, NULL);
	uiopf_core_uninstall(core, host, NULL);
	CHECK_EQ(uiopf_faultq_free(queue), 0);
	CHECK_EQ(uiopf_core_free(core), 0);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	free(arena);
}

/*
 * A model, a function behind it, and a burst that its queue does not take: the answers of its own that the hardware must
 * remember, the transactions that stall beyond the event queue, and private data beside each group.
 */
static void the_life_of_a_model(uint32_t model)
{
	enum { GROUPS = 200, FILL = 8192, ENDS = 3, STALLS = 400 };
	struct uiopf_endpoint *endpoint, *stalling[ENDS] = { NULL };
	struct uiopf_device *device, *stalls[ENDS];
	struct uiopf_endpoint_counts counts;
	struct uiopf_model_counts all;
	struct uiopf_faultq *queue;
	struct uiopf_space *space;
	struct uiopf_core *core;
	struct uiopf_model *iommu;
	uint64_t waits = 0;
	uint32_t i, n, ends = 0;

	MADE(core, uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0), );
	MADE(iommu, uiopf_model_make(core, model, UIOPF_MODEL_UNDRAINED | UIOPF_MODEL_DROPPED_SUCCESS), );
	if (uiopf_port_only_stalls(uiopf_model_port(iommu))) {	/* no function behind it has PRI: tests/c/device.c and device_log.c */
		uiopf_model_free(iommu);
		CHECK_EQ(uiopf_core_free(core), 0);
		return;
	}
	MADE(endpoint, uiopf_endpoint_new(core, uiopf_model_port(iommu), 0x100, 512, 2), );
	MADE(space, uiopf_space_new(2, 16), );
	MADE(queue, uiopf_faultq_new(core, UIOPF_MERGED), );
	MADE(device, uiopf_device_new(core, uiopf_model_iommu(iommu), 1, 0x100, 2 * GROUPS, 0), );
	DONE(uiopf_model_bind(iommu, endpoint, device), );
	DONE(uiopf_attach(device, UIOPF_NO_PASID, queue, UIOPF_USER_MANAGED), );
	CHECK_EQ(uiopf_endpoint_enable_pri(endpoint, 512), 0);
	if (uiopf_port_private_mask(uiopf_model_port(iommu), 0))
		CHECK_EQ(uiopf_endpoint_send_private_data(endpoint, 1), 0);
	/* Of nobody, until the queue is full; then the function's own. */
	uiopf_model_hold_interrupt(iommu, 1);
	for (i = 0; i < FILL + GROUPS; i++) {
		const struct uiopf_raw_request raw = {
			.requester_id = i < FILL ? 0x7777 : 0x100, .pasid = 1, .flags = UIOPF_RAW_PASID,
			.message = 0x5 | (uint64_t)(i % GROUPS) << 3,
		};

		counting = true;
		CHECK_EQ(uiopf_endpoint_send_raw(endpoint, &raw), 0);
		counting = false;
	}
	uiopf_core_produce(core);
	uiopf_endpoint_get_counts(endpoint, &counts);
	uiopf_model_get_counts(iommu, &all);
	CHECK_EQ(counts.sent, GROUPS);
	CHECK_EQ(counts.outstanding, all.commands_lost);	/* who is not answered waits, and is counted */
	CHECK_EQ(counts.iommu_answered, GROUPS - all.commands_lost);
	CHECK(!all.commands_lost || failed);
	uiopf_endpoint_reset(endpoint);
	CHECK_EQ(uiopf_endpoint_enable_pri(endpoint, 512), 0);

	for (; ends < ENDS && uiopf_port_stalls(uiopf_model_port(iommu)); ends++) {
		const uint16_t rid = (uint16_t)(0x200 + ends);

		MADE(stalling[ends], uiopf_endpoint_new_stalling(core, uiopf_model_port(iommu), rid, STALLS, 1), );
		MADE(stalls[ends], uiopf_device_new(core, uiopf_model_iommu(iommu), 2 + ends, rid, STALLS, 0), );
		DONE(uiopf_model_bind(iommu, stalling[ends], stalls[ends]), );
		DONE(uiopf_attach(stalls[ends], UIOPF_NO_PASID, queue, UIOPF_USER_MANAGED), );
		uiopf_endpoint_set_tables(stalling[ends], space);
		for (i = 0; i < STALLS; i++)
			CHECK(uiopf_endpoint_access(stalling[ends], 1, (uint64_t)i << 12, IOMMU_PGFAULT_PERM_READ, 1) >= 0);
		counting = true;
		for (i = 0; i < 4; i++)
			uiopf_core_produce(core);
		counting = false;
	}
	uiopf_model_hold_interrupt(iommu, 0);
	uiopf_core_produce(core);	/* the queue is empty, and has got over its overflow */
	/* What is asked for now goes the whole way, with what it brings back. */
	uiopf_endpoint_set_tables(endpoint, space);
	for (i = 0; i < GROUPS; i++)
		CHECK(uiopf_endpoint_access(endpoint, 1, (uint64_t)i << 12, IOMMU_PGFAULT_PERM_READ, 1) >= 0);
	for (n = 0; n < 40; n++) {
		static struct iommu_hwpt_pgfault message[2048];
		int64_t got;

		counting = true;
		uiopf_core_produce(core);
		got = uiopf_faultq_read(queue, message, sizeof message) / (int64_t)sizeof message[0];
		for (i = 0; i < got; i++) {
			const struct iommu_hwpt_page_response r = { .cookie = message[i].cookie, .code = 1 };

			CHECK_EQ(uiopf_faultq_write(queue, &r, sizeof r), sizeof r);
		}
		counting = false;
	}
	uiopf_endpoint_get_counts(endpoint, &counts);
	CHECK_EQ(counts.invalid, GROUPS);
	CHECK_EQ(counts.unexpected, 0);
	uiopf_model_get_counts(iommu, &all);
	for (i = 0; i < ends; i++) {
		uiopf_endpoint_get_counts(stalling[i], &counts);
		CHECK_EQ(counts.sent, STALLS);
		CHECK_EQ(counts.invalid + counts.outstanding, STALLS);
		waits += counts.outstanding;
	}
	CHECK_EQ(waits, all.overflowed);	/* whose event was lost waits for ever, and is counted */
	CHECK(!waits || failed);
	for (i = 0; i < ends; i++) {
		CHECK_EQ(uiopf_detach(stalls[i], UIOPF_NO_PASID), 0);
		uiopf_model_unbind(iommu, stalls[i]);
		uiopf_device_free(stalls[i]);
		uiopf_endpoint_free(stalling[i]);
	}
	CHECK_EQ(uiopf_detach(device, UIOPF_NO_PASID), 0);
	uiopf_model_unbind(iommu, device);
	uiopf_device_free(device);
	CHECK_EQ(uiopf_faultq_free(queue), 0);
	uiopf_endpoint_free(endpoint);
	uiopf_model_free(iommu);
	uiopf_space_free(space);
	CHECK_EQ(uiopf_core_free(core), 0);
}

static uint32_t models(void)
{
	uint32_t n = 0;

	while (uiopf_model_name(n))
		n++;
	return n;
}

static void a_life(uint32_t which)
{
	if (which == 0)
		the_life_of_faults(UIOPF_INLINE);
	else if (which == 1)
		the_life_of_faults(UIOPF_ENTER);
	else if (which == 2)
		the_life_of_events();
	else if (which == 3)
		the_life_of_a_ring();
	else if (which < 4 + models())
		the_life_of_a_model(which - 4);
	else
		the_life_of_a_design(which - 4 - models());
}

int main(void)
{
	uint32_t which;

	for (which = 0; which < 4 + models() || uiopf_design_info(which - 4 - models()); which++) {
		for (fails = 1, failed = true; failed; fails++) {
			seen = 0;
			failed = false;
			a_life(which);
		}
		printf("%" PRIu32 ": each of %" PRIu64 " allocations has failed\n", which, seen);
		CHECK(seen > 0);
	}
	return 0;
}
