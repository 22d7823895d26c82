/*
 * The control plane against a busy worker: attach, replace, detach, queues, channels, rings and passes are made and
 * ended while the worker runs and two native clients serve. In the end every fault must be accounted for, on the
 * device's side and on the kernel's.
 *
 * Two sites, each a thread with its own queue and channel, which it replaces again and again. Two devices, which the
 * controller moves between the sites' queues, to no queue, and away. PASIDs of theirs are attached on their own, to a
 * site's queue or to one that has a depth and a time-out and nobody who reads. The controller also makes things of its
 * own. Before that, functions that share what they have end at the same time, each in a thread of its own.
 *
 * Arguments: seconds (for all drivers together), seed.
 */
#include <errno.h>
#include <pthread.h>

#include "abi/api.h"
#include "base/atomics.h"
#include "check.h"
#include "rings/ring.h"

#define SITES 2
#define DEVICES 2
#define ROWS 20000
#define PASIDS 4
#define CREDITS 256
#define GROUP_MOST 4

struct site {
	struct world *world;
	pthread_t thread;
	uint64_t random;
	struct uiopf_space *space;
	struct uiopf_faultq *queue;	/* under the world's lock: others may attach to it while it is here */
	uint64_t served, channels;
};

struct world {
	struct uiopf_core *core;
	enum uiopf_driver driver;
	struct uiopf_model *vtd;
	struct uiopf_device *device[DEVICES];
	struct uiopf_endpoint *endpoint[DEVICES];
	struct site site[SITES];
	struct uiopf_space *kernel_space;
	uint32_t stop;

	pthread_mutex_t lock;		/* over who is attached to what; never held while serving */
	struct uiopf_faultq *attached[DEVICES];
	bool has_attachment[DEVICES];
	struct uiopf_faultq *unread;
	struct uiopf_faultq *pasid[DEVICES][PASIDS];	/* what each is attached to; NULL: to nothing of its own */
	uint64_t answered, auto_answered;	/* faults of queues that are gone */
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

/* ---- with the world's lock held ---- */

static void move_device(struct world *w, uint32_t d, struct uiopf_faultq *queue, bool nested)
{
	if (w->has_attachment[d])
		CHECK_EQ(uiopf_replace(w->device[d], UIOPF_NO_PASID, queue, nested), 0);
	else
		CHECK_EQ(uiopf_attach(w->device[d], UIOPF_NO_PASID, queue, nested), 0);
	w->has_attachment[d] = true;
	w->attached[d] = queue;
}

static void detach_device(struct world *w, uint32_t d)
{
	CHECK_EQ(uiopf_detach(w->device[d], UIOPF_NO_PASID), 0);
	w->has_attachment[d] = false;
	w->attached[d] = NULL;
}

/* To another queue, or (NULL) to nothing of its own. */
static void move_pasid(struct world *w, uint32_t d, uint32_t pasid, struct uiopf_faultq *queue)
{
	if (!queue)
		CHECK_EQ(uiopf_detach(w->device[d], pasid), 0);
	else if (w->pasid[d][pasid])
		CHECK_EQ(uiopf_replace(w->device[d], pasid, queue, 0), 0);
	else
		CHECK_EQ(uiopf_attach(w->device[d], pasid, queue, 0), 0);
	w->pasid[d][pasid] = queue;
}

static struct uiopf_faultq *new_queue(struct world *w, enum uiopf_personality personality)
{
	struct uiopf_faultq *q = uiopf_faultq_new(w->core, personality);

	CHECK(q);
	return q;
}

/* Moves whoever is attached elsewhere, and keeps the queue's account. */
static void end_queue(struct world *w, struct uiopf_faultq *q, struct uiopf_faultq *heir)
{
	struct uiopf_faultq_counts counts;
	uint32_t d, p;

	for (d = 0; d < DEVICES; d++)
		for (p = 1; p < PASIDS; p++)
			if (w->pasid[d][p] == q) {
				CHECK_EQ(uiopf_faultq_free(q), -EBUSY);
				move_pasid(w, d, p, heir);
			}
	for (d = 0; d < DEVICES; d++)
		if (w->attached[d] == q) {
			CHECK_EQ(uiopf_faultq_free(q), -EBUSY);
			if (heir)
				move_device(w, d, heir, true);
			else
				detach_device(w, d);
		}
	uiopf_faultq_counts(q, &counts);
	CHECK_EQ(counts.waiting_groups, 0);
	CHECK_EQ(counts.unanswered_groups, 0);
	w->answered += counts.answered_faults;
	w->auto_answered += counts.auto_answered_faults;
	CHECK_EQ(uiopf_faultq_free(q), 0);
}

/* ---- a site: one client thread ---- */

/* A design that has a client. Not host-uring, which the host may refuse: host.c has that. */
static uint32_t design_with_client(uint64_t *random)
{
	const struct uiopf_design_info *info;
	uint32_t designs = 0, n;

	while (uiopf_design_info(designs))
		designs++;
	do
		info = uiopf_design_info(n = below(random, designs));
	while (!info->has_client || !strcmp(info->name, "host-uring"));
	return n;
}

/* Opens a queue and a channel, serves for a while, and ends both under whatever is going on. */
static void serve_once(struct site *s)
{
	struct world *w = s->world;
	uint32_t design = design_with_client(&s->random), turns = 1 + below(&s->random, 20), d, p;
	struct uiopf_channel_config config = {
		.wait = below(&s->random, 2) ? UIOPF_WAIT_SPIN : UIOPF_WAIT_SLEEP,
		.in_flight = 1024,
		.group_most = GROUP_MOST,
	};
	struct uiopf_served served = { 0 };
	struct uiopf_channel *channel;
	struct uiopf_cost cost;
	struct uiopf_faultq *q;

	pthread_mutex_lock(&w->lock);
	q = new_queue(w, uiopf_design_info(design)->personality);
	pthread_mutex_unlock(&w->lock);
	CHECK_EQ(uiopf_channel_open(w->core, q, design, &config, NULL, &channel), 0);
	s->channels++;
	pthread_mutex_lock(&w->lock);
	s->queue = q;
	d = below(&s->random, DEVICES);
	move_device(w, d, q, true);
	pthread_mutex_unlock(&w->lock);

	while (turns-- && !LOAD_ACQUIRE(&w->stop)) {
		CHECK_EQ(uiopf_client_serve(channel, s->space, 1 + below(&s->random, 400), 2000000, &served), 0);
		if (below(&s->random, 8) == 0)
			uiopf_channel_cost(channel, &cost);
		if (below(&s->random, 8) == 0 && uiopf_channel_prepare_sleep(channel) == 0)
			uiopf_channel_awake(channel);
	}
	s->served += served.faults;

	/* A channel may end before the devices have left its queue, or after. */
	if (below(&s->random, 2)) {
		uiopf_channel_close(channel);
		channel = NULL;
	}
	pthread_mutex_lock(&w->lock);
	s->queue = NULL;
	if (channel)	/* its ring holds the file: nobody may free the queue under it */
		for (d = 0; d < DEVICES; d++) {
			for (p = 1; p < PASIDS; p++)
				if (w->pasid[d][p] == q)
					move_pasid(w, d, p, NULL);
			if (w->attached[d] == q)
				detach_device(w, d);
		}
	pthread_mutex_unlock(&w->lock);
	if (channel)
		uiopf_channel_close(channel);
	pthread_mutex_lock(&w->lock);
	end_queue(w, q, w->site[(s - w->site + 1) % SITES].queue);
	pthread_mutex_unlock(&w->lock);
}

static void *site_thread(void *arg)
{
	struct site *s = arg;

	while (!LOAD_ACQUIRE(&s->world->stop))
		serve_once(s);
	return NULL;
}

/* ---- the controller ---- */

/* A ring of its own on a site's file: it takes groups that nobody will answer, and is freed with requests under way. */
static void use_ring(struct world *w, uint64_t *random, struct uiopf_faultq *q)
{
	struct io_uring_params p = { .flags = below(random, 2) ? IORING_SETUP_NO_SQARRAY : 0 };
	struct uiopf_client_ring *ring;
	struct uiopf_engine *engine;
	struct io_uring_cqe cqe[16];
	uint8_t *memory = aligned_alloc(4096, 4096);
	struct uiopf_cost cost;
	uint32_t i;
	int fd;

	CHECK(memory);
	if (w->driver == UIOPF_SQPOLL && below(random, 2))
		p.flags |= IORING_SETUP_SQPOLL;
	CHECK_EQ(uiopf_setup(w->core, 8, &p, &engine), 0);
	fd = uiopf_core_install(w->core, uiopf_faultq_file(q));
	CHECK(fd >= 3);
	CHECK_EQ(uiopf_engine_add_window(engine, 0x10000, 4096, memory), 0);
	ring = uiopf_client_ring_map(uiopf_engine_fd(engine), &p, uiopf_engine_size(engine),
				     uiopf_engine_sqes_offset(engine));
	CHECK(ring);
	for (i = 0; i < 8; i++) {
		static const uint8_t ops[] = {
			IORING_OP_NOP, IORING_OP_READ, IORING_OP_POLL_ADD, IORING_OP_READ_MULTISHOT,
			IORING_OP_ASYNC_CANCEL, IORING_OP_WRITE,
		};
		struct io_uring_sqe sqe = { .opcode = ops[below(random, 6)], .fd = fd, .user_data = i };

		if (sqe.opcode == IORING_OP_POLL_ADD) {
			sqe.poll32_events = 1;
			sqe.len = below(random, 2);
		} else if (sqe.opcode != IORING_OP_NOP && sqe.opcode != IORING_OP_ASYNC_CANCEL) {
			sqe.addr = 0x10000 + 512 * i;
			sqe.len = sqe.opcode == IORING_OP_READ ? 160 : 8;
		}
		CHECK(uiopf_client_push(ring, &sqe) >= 0);
	}
	uiopf_client_submit(ring);
	CHECK(BEGUN(uiopf_enter(engine, 8, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP | IORING_ENTER_EXT_ARG,
				1000000)) >= 0);
	uiopf_client_reap(ring, cqe, 16);
	uiopf_engine_pending(engine);
	uiopf_engine_cost(engine, &cost);
	uiopf_engine_free(engine);
	uiopf_client_ring_unmap(ring);
	uiopf_core_uninstall(w->core, fd, NULL);
	free(memory);
}

/* The design without a client, for as long as it takes to answer what comes at once. */
static void use_handler(struct world *w, uint64_t *random)
{
	struct uiopf_channel_config config = { .in_flight = 64, .group_most = GROUP_MOST };
	struct uiopf_faultq *q = new_queue(w, UIOPF_MERGED);
	struct uiopf_channel *channel;
	uint32_t turns = 50;

	CHECK_EQ(uiopf_channel_open(w->core, q, design_named("handler"), &config, w->kernel_space, &channel), 0);
	move_device(w, below(random, DEVICES), q, true);
	while (turns--)
		uiopf_core_consume(w->core);
	uiopf_channel_close(channel);
	end_queue(w, q, NULL);
}

static void start_pass(struct world *w, uint64_t *random, uint32_t d)
{
	const struct uiopf_load load = {
		.mode = UIOPF_LOAD_CLOSED,
		.in_flight = 1 + below(random, 64),
		.group = 1 + below(random, GROUP_MOST),
	};
	int rc = uiopf_endpoint_start(w->endpoint[d], &load);

	CHECK(rc == 0 || rc == -EBUSY);
}

static void use_endpoint(struct world *w, uint64_t *random, uint32_t d)
{
	struct uiopf_endpoint *ep = w->endpoint[d];
	struct uiopf_endpoint_counts counts;
	int64_t ticket;

	switch (below(random, 6)) {
	case 0:
		uiopf_endpoint_cancel(ep);
		break;
	case 1:
		ticket = uiopf_endpoint_access(ep, below(random, PASIDS), 0x5000000 + 4096ull * below(random, 512),
					       IOMMU_PGFAULT_PERM_READ, 1 + below(random, GROUP_MOST));
		CHECK(ticket >= 0 || ticket == -EBUSY);
		if (ticket >= 0)
			CHECK(uiopf_endpoint_result(ep, ticket) <= UIOPF_ACCESS_FAILED);
		break;
	case 2:
		uiopf_endpoint_disable_pri(ep);
		CHECK_EQ(uiopf_endpoint_reset_pri(ep), 0);
		CHECK_EQ(uiopf_endpoint_enable_pri(ep, CREDITS), 0);
		break;
	case 3:
		uiopf_endpoint_set_tables(ep, below(random, 4) ? w->site[d].space : NULL);
		break;
	default:
		uiopf_endpoint_get_counts(ep, &counts);
		uiopf_endpoint_latency(ep, 990000);
		if (counts.pri_status & 0x100) {	/* stopped by a failure: as a driver would, start again */
			uiopf_endpoint_disable_pri(ep);
			CHECK_EQ(uiopf_endpoint_reset_pri(ep), 0);
			CHECK_EQ(uiopf_endpoint_enable_pri(ep, CREDITS), 0);
		}
	}
}

static void control_once(struct world *w, uint64_t *random)
{
	struct uiopf_faultq *there = w->site[below(random, SITES)].queue;
	uint32_t d = below(random, DEVICES);
	struct uiopf_faultq_counts queue_counts;
	struct uiopf_device_counts device_counts;

	switch (below(random, 12)) {
	case 0:
		detach_device(w, d);
		if (there && below(random, 4))
			move_device(w, d, there, true);
		break;
	case 1:
	case 2:
		move_device(w, d, there, true);
		break;
	case 3:
		move_device(w, d, below(random, 2) ? there : NULL, false);	/* every PASID is refused */
		if (there && below(random, 4))
			move_device(w, d, there, true);
		break;
	case 4:
		there = new_queue(w, UIOPF_MERGED);	/* with no reader: what comes is answered at the end */
		move_device(w, d, there, true);
		uiopf_faultq_poll(there);
		end_queue(w, there, w->site[0].queue);
		break;
	case 5:
		if (there)
			use_ring(w, random, there);
		break;
	case 6:
		use_handler(w, random);
		break;
	case 7:
		use_endpoint(w, random, d);
		break;
	case 8:
		uiopf_device_get_counts(w->device[d], &device_counts);
		if (there)
			uiopf_faultq_counts(there, &queue_counts);
		uiopf_core_wakeups(w->core);
		uiopf_core_worker_sleeps(w->core);
		uiopf_core_next_ns(w->core);
		break;
	case 9:
		uiopf_control_begin(w->core);	/* sections nest, and calls of either kind may be made in them */
		if (there)
			uiopf_faultq_counts(there, &queue_counts);
		move_device(w, d, there, true);
		uiopf_core_consume(w->core);
		uiopf_control_end(w->core);
		break;
	default:
		move_pasid(w, d, 1 + below(random, PASIDS - 1),
			   below(random, 3) == 0 ? NULL : below(random, 3) ? there : w->unread);
		uiopf_faultq_counts(w->unread, &queue_counts);
		uiopf_faultq_answer_index(w->unread, d + 1, IOMMU_PGFAULT_FLAGS_PASID_VALID, 1, below(random, 512), 0);
	}
}

/* ---- the whole ---- */

static void make_rows(struct uiopf_access *row, uint64_t *random)
{
	uint32_t i;

	for (i = 0; i < ROWS; i++)
		row[i] = (struct uiopf_access){
			.address = 0x4000000 + 4096ull * below(random, 1024),
			.pasid = below(random, 8) ? row[i ? i - 1 : 0].pasid : below(random, PASIDS),
			.access = 1 + below(random, 3),
		};
}

static void wait_for_answers(struct world *w)
{
	double deadline = seconds_now() + 20;
	uint32_t d;

	for (d = 0; d < DEVICES; d++) {
		struct uiopf_endpoint_counts counts;

		do {
			CHECK(seconds_now() < deadline);
			uiopf_endpoint_get_counts(w->endpoint[d], &counts);
		} while (counts.outstanding);
	}
}

static void run(enum uiopf_driver driver, double seconds, uint64_t seed)
{
	static struct uiopf_access row[ROWS];
	struct world w = { .driver = driver, .lock = PTHREAD_MUTEX_INITIALIZER };
	uint64_t random = seed, sent = 0, refused = 0, served = 0, channels = 0, operations = 0;
	const struct uiopf_faultq_limits limits = {
		.depth = 100,
		.by_index = 1,
		.timeout_ns = 500000,
		.timeout_code = 1,
	};
	double end = seconds_now() + seconds;
	struct uiopf_faultq_counts queue_counts;
	struct uiopf_model_counts vtd_counts;
	uint32_t d, s;

	w.core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, 1);
	CHECK(w.core);
	w.vtd = uiopf_model_make(w.core, 0, 1);
	w.kernel_space = uiopf_space_new(PASIDS, 64);
	w.unread = new_queue(&w, UIOPF_MERGED);
	CHECK_EQ(uiopf_faultq_limit(w.unread, &limits), 0);
	make_rows(row, &random);
	for (d = 0; d < DEVICES; d++) {
		w.site[d].space = uiopf_space_new(PASIDS, 64);
		w.endpoint[d] = uiopf_endpoint_new(w.core, uiopf_model_port(w.vtd), (uint16_t)(0x100 + d), CREDITS, GROUP_MOST);
		w.device[d] = uiopf_device_new(w.core, uiopf_model_iommu(w.vtd), d + 1, 0x100 + d, 2 * CREDITS, 0);
		CHECK(w.site[d].space && w.endpoint[d] && w.device[d]);
		CHECK_EQ(uiopf_model_bind(w.vtd, w.endpoint[d], w.device[d]), 0);
		uiopf_endpoint_set_tables(w.endpoint[d], w.site[d].space);
		CHECK_EQ(uiopf_endpoint_set_rows(w.endpoint[d], row, ROWS), 0);
		CHECK_EQ(uiopf_endpoint_enable_pri(w.endpoint[d], CREDITS), 0);
	}
	CHECK_EQ(uiopf_core_start(w.core, driver, -1, 100000), 0);
	for (s = 0; s < SITES; s++) {
		w.site[s].world = &w;
		w.site[s].random = next_random(&random);
		CHECK_EQ(pthread_create(&w.site[s].thread, NULL, site_thread, &w.site[s]), 0);
	}
	while (seconds_now() < end) {
		struct timespec pause = { 0, below(&random, 4) ? 0 : 1000 * (long)below(&random, 2000) };

		d = below(&random, DEVICES);
		start_pass(&w, &random, d);
		pthread_mutex_lock(&w.lock);
		control_once(&w, &random);
		pthread_mutex_unlock(&w.lock);
		operations++;
		nanosleep(&pause, NULL);
	}
	STORE_RELEASE(&w.stop, 1);
	for (s = 0; s < SITES; s++) {
		pthread_join(w.site[s].thread, NULL);
		served += w.site[s].served;
		channels += w.site[s].channels;
	}
	for (d = 0; d < DEVICES; d++) {
		uiopf_endpoint_cancel(w.endpoint[d]);
		for (s = 1; s < PASIDS; s++)
			move_pasid(&w, d, s, NULL);
		detach_device(&w, d);
	}
	wait_for_answers(&w);
	uiopf_faultq_counts(w.unread, &queue_counts);
	end_queue(&w, w.unread, NULL);

	for (d = 0; d < DEVICES; d++) {
		struct uiopf_endpoint_counts counts;
		struct uiopf_device_counts device_counts;

		uiopf_endpoint_get_counts(w.endpoint[d], &counts);
		uiopf_device_get_counts(w.device[d], &device_counts);
		CHECK_EQ(counts.outstanding, 0);
		CHECK_EQ(counts.succeeded + counts.unmapped + counts.invalid + counts.failed + counts.cleared, counts.sent);
		CHECK_EQ(counts.latency_count + counts.cleared_groups, counts.sent_groups);
		CHECK_EQ(device_counts.reported, counts.sent);
		CHECK_EQ(device_counts.dropped, 0);
		sent += counts.sent;
		refused += device_counts.refused;
	}
	uiopf_model_get_counts(w.vtd, &vtd_counts);
	CHECK_EQ(vtd_counts.overflowed, 0);
	CHECK_EQ(vtd_counts.commands_lost, 0);
	CHECK_EQ(w.answered + w.auto_answered + refused, sent);
	printf("driver %d: %" PRIu64 " operations, %" PRIu64 " channels; of %" PRIu64 " faults %" PRIu64 " served, %"
	       PRIu64 " answered, %" PRIu64 " for the client, %" PRIu64 " refused; %" PRIu64 " groups timed out\n", (int)driver, operations,
	       channels, sent, served, w.answered, w.auto_answered, refused, queue_counts.timed_out_groups);
	CHECK(w.answered && w.auto_answered && refused && served && queue_counts.timed_out_groups);

	CHECK_EQ(uiopf_core_free(w.core), -EBUSY);
	for (d = 0; d < DEVICES; d++) {
		uiopf_model_unbind(w.vtd, w.device[d]);
		uiopf_device_free(w.device[d]);
		uiopf_endpoint_free(w.endpoint[d]);
		uiopf_space_free(w.site[d].space);
	}
	uiopf_model_free(w.vtd);
	uiopf_space_free(w.kernel_space);
	CHECK_EQ(uiopf_core_free(w.core), 0);	/* and joins the worker */
}

static void *end_endpoint(void *endpoint)
{
	uiopf_endpoint_free(endpoint);
	return NULL;
}

#define SHARERS 3

/* A physical function and its virtual ones: the last of them frees the capability. */
static void sharers_end_at_once(uint32_t times)
{
	struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MONOTONIC, 0, 1);
	struct uiopf_model *vtd = uiopf_model_make(core, 0, 0);
	struct uiopf_endpoint *endpoint[SHARERS];
	pthread_t thread[SHARERS];
	uint32_t i;

	CHECK(core && vtd);
	while (times--) {
		endpoint[0] = uiopf_endpoint_new(core, uiopf_model_port(vtd), 0x100, CREDITS, GROUP_MOST);
		for (i = 1; i < SHARERS; i++)
			endpoint[i] = uiopf_endpoint_new_virtual(endpoint[0], (uint16_t)(0x100 + i), GROUP_MOST);
		for (i = 0; i < SHARERS; i++)
			CHECK_EQ(pthread_create(&thread[i], NULL, end_endpoint, endpoint[i]), 0);
		for (i = 0; i < SHARERS; i++)
			pthread_join(thread[i], NULL);
	}
	uiopf_model_free(vtd);
	CHECK_EQ(uiopf_core_free(core), 0);
}

int main(int argc, char **argv)
{
	double seconds = seconds_from(argc, argv, 1, 3);
	uint64_t seed = seed_from(argc, argv, 2);

	sharers_end_at_once(100);
	run(UIOPF_ENTER, seconds / 2, seed);
	run(UIOPF_SQPOLL, seconds / 2, seed + 1);
	return 0;
}
