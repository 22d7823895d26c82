#include "our_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/core.h"
#include "rings/engine.h"
#include "rings/ring.h"

struct machine {
	struct uiopf_core *core;
	struct uiopf_mock *mock;
	struct uiopf_faultq *queue;
	struct uiopf_device *device;
	struct uiopf_engine *engine;
	struct uiopf_client_ring *ring;
	struct io_uring_buf *buffers;
	struct uiopf_attachment attachment;
	uint32_t cq_entries, group_entries;
};

static void must(bool holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "our view: %s\n", what);
		exit(1);
	}
}

struct machine *machine_new(uint32_t entries, uint32_t cq_entries, uint32_t group_entries, void *params)
{
	const struct uiopf_attachable config = { .groups = 2, .group_entries = group_entries, .data_size = 1 << 16 };
	struct io_uring_params p = { .flags = IORING_SETUP_CQSIZE, .cq_entries = cq_entries };
	struct machine *m = calloc(1, sizeof *m);
	uint64_t at, length;
	int32_t fd;
	int from;

	m->core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	m->mock = uiopf_mock_new(m->core);
	m->queue = uiopf_faultq_new(m->core, UIOPF_PROPOSED);
	m->device = uiopf_device_new(m->core, uiopf_mock_iommu(m->mock), 7, 0, 64, 1);
	must(uiopf_attach(m->device, UIOPF_NO_PASID, m->queue, UIOPF_USER_MANAGED) == 0, "attach");
	must(uiopf_setup_attachable(m->core, entries, &p, &config, &m->engine) == 0, "set-up");
	fd = uiopf_core_install(m->core, uiopf_faultq_file(m->queue));
	must(uiopf_register(m->engine, IORING_REGISTER_FILES, &fd, 1) == 0, "registering the queue");
	uiopf_engine_attachment(m->engine, &m->attachment);
	m->cq_entries = p.cq_entries;
	m->group_entries = group_entries;
	m->ring = uiopf_client_ring_map(m->attachment.ring_fd, &p, m->attachment.ring_size,
					uiopf_engine_sqes_offset(m->engine));
	must(m->ring != NULL, "mapping the ring");
	must(uiopf_engine_mmap(m->engine, IORING_OFF_PBUF_RING, &from, &at, &length) == 0, "where the buffer ring is");
	must(from == m->attachment.ring_fd && at == IORING_OFF_PBUF_RING, "the buffer ring is at io_uring's offset");
	m->buffers = mmap(NULL, length, PROT_READ, MAP_SHARED, from, (off_t)at);
	must(m->buffers != MAP_FAILED, "mapping the buffer ring");
	memcpy(params, &p, sizeof p);
	return m;
}

void machine_free(struct machine *m)
{
	munmap(m->buffers, m->group_entries * sizeof *m->buffers);
	uiopf_client_ring_unmap(m->ring);
	uiopf_engine_free(m->engine);
	uiopf_detach(m->device, UIOPF_NO_PASID);
	must(uiopf_faultq_free(m->queue) == 0, "nothing holds the queue any more");
	uiopf_device_free(m->device);
	uiopf_mock_free(m->mock);
	must(uiopf_core_free(m->core) == 0, "the core has no children");
	free(m);
}

int machine_ring_fd(const struct machine *m)
{
	return m->attachment.ring_fd;
}

int machine_data_fd(const struct machine *m, uint64_t *size)
{
	*size = m->attachment.data_size;
	return m->attachment.data_fd;
}

void machine_attach(struct machine *m, uint64_t address)
{
	must(uiopf_engine_attach(m->engine, address, 0) == 0, "attaching");
}

void machine_turn(struct machine *m)
{
	uiopf_core_consume(m->core);
}

void machine_report(struct machine *m, uint32_t grpid)
{
	uiopf_device_report(m->device, 3, 5, grpid, 1, (uint64_t)grpid << 12);
}

void our_view(struct machine *m, struct view *v)
{
	const struct uiopf_client_ring *r = m->ring;
	uint32_t i;

	*v = (struct view){
		.sq_head = uiopf_client_load(r, RING_SQ_HEAD),
		.sq_tail = uiopf_client_load(r, RING_SQ_TAIL),
		.sq_flags = uiopf_client_load(r, RING_SQ_FLAGS),
		.sq_dropped = uiopf_client_load(r, RING_SQ_DROPPED),
		.sq_entries = r->sq_entries,
		.cq_head = uiopf_client_load(r, RING_CQ_HEAD),
		.cq_tail = uiopf_client_load(r, RING_CQ_TAIL),
		.cq_flags = uiopf_client_load(r, RING_CQ_FLAGS),
		.cq_overflow = uiopf_client_load(r, RING_CQ_OVERFLOW),
		.cq_entries = r->cq_mask + 1,
		.sqes = HASH_START, .cqes = HASH_START, .buffers = HASH_START,
	};
	v->sq_ready = v->sq_tail - v->sq_head;
	v->sq_space = v->sq_entries - v->sq_ready;
	v->cq_ready = v->cq_tail - v->cq_head;
	for (i = v->sq_head; i != v->sq_tail; i++)
		v->sqes = hash(v->sqes, &r->sqes[r->sq_array[i & r->sq_mask]], sizeof *r->sqes);
	for (i = 0; i < v->cq_ready; i++)
		v->cqes = hash(v->cqes, r->cqes + 16ull * ((v->cq_head + i) & r->cq_mask), 16);
	v->buffers = hash(v->buffers, m->buffers, m->group_entries * (uint32_t)sizeof *m->buffers);
}

bool our_push(struct machine *m, const void *sqe)
{
	return uiopf_client_push(m->ring, sqe) >= 0;
}

void our_submit(struct machine *m)
{
	uiopf_client_submit(m->ring);
}

bool our_reap(struct machine *m, uint64_t *user_data, int32_t *res, uint32_t *flags)
{
	struct io_uring_cqe cqe;

	if (!uiopf_client_reap(m->ring, &cqe, 1))
		return false;
	*user_data = cqe.user_data;
	*res = cqe.res;
	*flags = cqe.flags;
	return true;
}

void our_adopt(struct machine *m)
{
	m->ring->sq_tail = m->ring->sq_published = uiopf_client_load(m->ring, RING_SQ_TAIL);
	m->ring->cq_head = m->ring->cq_tail_seen = uiopf_client_load(m->ring, RING_CQ_HEAD);
}
