/*
 * The IOMMU that Linux tests iommufd with: it has no queues, and keeps a log of the answers that reach it.
 * Reports are made by uiopf_device_report(). Source: drivers/iommu/iommufd/selftest.c.
 */
#include <stdlib.h>
#include <string.h>

#include "faults/iopf.h"

struct uiopf_mock {
	struct uiopf_iommu iommu;
	struct uiopf_mock_response *log;
	uint32_t count, capacity;
	uint64_t lost;	/* answers that there was no memory to log */
};

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	struct uiopf_mock *m = container_of(device->iommu, struct uiopf_mock, iommu);

	(void)flags;
	(void)side;
	if (device->unplugged)
		return;
	if (m->count == m->capacity) {
		uint32_t capacity = m->capacity ? m->capacity * 2 : 64;
		struct uiopf_mock_response *log = reallocarray(m->log, capacity, sizeof *log);

		if (!log) {
			m->lost++;
			return;
		}
		m->log = log;
		m->capacity = capacity;
	}
	m->log[m->count++] = (struct uiopf_mock_response){ device->id, pasid, grpid, code };
}

static void drain(struct uiopf_iommu *iommu)
{
	(void)iommu;
}

static uint32_t turn(struct uiopf_producer *producer)
{
	(void)producer;
	return 0;
}

static void kick(struct uiopf_producer *producer)
{
	(void)producer;
}

static const struct uiopf_iommu_ops mock_ops = {
	.respond = respond,
	.drain = drain,			/* it has no queues: a report is there when it is made */
};

static const struct uiopf_producer_ops producer_ops = {
	.turn = turn,
	.kick = kick,
};

static void end_mock(struct uiopf_lifetime *lifetime)
{
	struct uiopf_iommu *iommu = container_of(lifetime, struct uiopf_iommu, lifetime);
	struct uiopf_mock *m = container_of(iommu, struct uiopf_mock, iommu);
	struct uiopf_core *core = iommu->core;

	if (core->torn)
		return;
	if (!core->abandoned) {
		uiopf_control_begin(core);
		uiopf_core_remove_producer(core, &iommu->producer);
		uiopf_control_end(core);
	}
	free(m->log);
	free(m);
	uiopf_let_go(&core->lifetime);
}

struct uiopf_mock *uiopf_mock_new(struct uiopf_core *core)
{
	struct uiopf_mock *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	m->iommu.lifetime = (struct uiopf_lifetime){ 1, end_mock };
	m->iommu.ops = &mock_ops;
	m->iommu.core = core;
	uiopf_control_begin(core);
	m->iommu.producer.ops = &producer_ops;
	uiopf_core_add_producer(core, &m->iommu.producer);
	uiopf_hold(&core->lifetime);
	uiopf_control_end(core);
	return m;
}

void uiopf_mock_free(struct uiopf_mock *m)
{
	if (m)
		uiopf_let_go(&m->iommu.lifetime);
}

struct uiopf_iommu *uiopf_mock_iommu(struct uiopf_mock *m)
{
	return &m->iommu;
}

uint64_t uiopf_mock_lost(struct uiopf_mock *m)
{
	uint64_t lost;

	uiopf_control_begin(m->iommu.core);
	lost = m->lost;
	uiopf_control_end(m->iommu.core);
	return lost;
}

struct uiopf_iommu *uiopf_mock_hold_iommu(struct uiopf_mock *m)
{
	uiopf_hold(&m->iommu.lifetime);
	return &m->iommu;
}

uint32_t uiopf_mock_take(struct uiopf_mock *m, struct uiopf_mock_response *out, uint32_t most)
{
	uint32_t n;

	uiopf_control_begin(m->iommu.core);
	n = m->count < most ? m->count : most;
	if (n) {	/* there is no log before the first answer */
		memcpy(out, m->log, n * sizeof *out);
		memmove(m->log, m->log + n, (m->count - n) * sizeof *out);
		m->count -= n;
	}
	uiopf_control_end(m->iommu.core);
	return n;
}
