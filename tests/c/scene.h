/* One function behind VT-d, or another IOMMU, with its driver, a fault queue and page tables: what the hardware's programs play on. */
#pragma once
#include "check.h"
#include "core/core.h"
#include "faults/faultq.h"
#include "hardware/endpoint.h"
#include "hardware/iommu/vtd.h"

struct scene {
	struct uiopf_core *core;
	struct uiopf_model *iommu;
	struct uiopf_vtd *vtd;	/* the same, where it is one */
	struct uiopf_endpoint *ep;
	struct uiopf_device *device;
	struct uiopf_faultq *q;
	struct uiopf_space *space;
};

struct scene_config {
	uint16_t requester_id;
	uint32_t device_id, capacity, group_most;	/* of the function */
	uint32_t pool;					/* groups that the generic layer may hold */
	const struct uiopf_model_ops *model;		/* NULL: VT-d */
	uint32_t vtd_flags;
	uint64_t pages;
	uint32_t places, prefetch;			/* places: of a device that reports its faults itself; 0: there is PRI */
};

/* Nothing is attached, and page requests are off. */
static inline struct scene open_scene_of(const struct scene_config *c)
{
	struct scene s = { .core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0) };

	CHECK(s.core);
	s.iommu = uiopf_model_new(s.core, c->model ? c->model : &uiopf_model_vtd, c->vtd_flags);
	CHECK(s.iommu);
	s.vtd = c->model ? NULL : uiopf_vtd_of(s.iommu);
	s.ep = c->places ? uiopf_endpoint_new_reporting(s.core, uiopf_model_port(s.iommu), c->requester_id, c->places,
							c->group_most, c->prefetch)
			 : uiopf_endpoint_new(s.core, uiopf_model_port(s.iommu), c->requester_id, c->capacity, c->group_most);
	s.device = uiopf_device_new(s.core, uiopf_model_iommu(s.iommu), c->device_id, c->requester_id, c->pool, 0);
	s.q = uiopf_faultq_new(s.core, UIOPF_MERGED);
	s.space = uiopf_space_new(c->pages, 64);
	CHECK(s.ep && s.device && s.q && s.space);
	CHECK_EQ(uiopf_model_bind(s.iommu, s.ep, s.device), 0);
	uiopf_endpoint_set_tables(s.ep, s.space);
	return s;
}

/* Nothing is attached any more. */
static inline void close_scene_of(struct scene *s)
{
	uiopf_model_unbind(s->iommu, s->device);
	uiopf_endpoint_free(s->ep);
	uiopf_device_free(s->device);
	uiopf_model_free(s->iommu);
	CHECK_EQ(uiopf_faultq_free(s->q), 0);
	uiopf_space_free(s->space);
	CHECK_EQ(uiopf_core_free(s->core), 0);
}
