/*
 * Attachment by PASID and by group of devices; what is on the way when it changes; and the limits that Linux's queue has
 * not. Answers are seen at an endpoint behind VT-d, or in the mock's log.
 *
 * Argument: groups outstanding when a device is moved.
 */
#include <errno.h>

#include "check.h"
#include "core/core.h"
#include "faults/faultq.h"
#include "hardware/endpoint.h"
#include "hardware/iommu/vtd.h"

#define PASID_VALID IOMMU_PGFAULT_FLAGS_PASID_VALID
#define LAST IOMMU_PGFAULT_FLAGS_LAST_PAGE
#define READ IOMMU_PGFAULT_PERM_READ
#define SOME 4096u

/* ---- a mock IOMMU with devices that are reported on by hand ---- */

struct scene {
	struct uiopf_core *core;
	struct uiopf_mock *mock;
	struct uiopf_device *device[3];
	struct uiopf_faultq *q[2];
	struct iommu_hwpt_pgfault m[SOME];
};

static struct scene *open_scene(void)
{
	struct scene *s = calloc(1, sizeof *s);
	uint32_t i;

	CHECK(s);
	s->core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	s->mock = uiopf_mock_new(s->core);
	for (i = 0; i < 3; i++)
		s->device[i] = uiopf_device_new(s->core, uiopf_mock_iommu(s->mock), 10 + i, i, 256, 1);
	for (i = 0; i < 2; i++)
		s->q[i] = uiopf_faultq_new(s->core, UIOPF_MERGED);
	return s;
}

static void close_scene(struct scene *s)
{
	uint32_t i;

	for (i = 0; i < 3; i++)
		if (s->device[i]) {
			uiopf_device_leave(s->device[i]);
			uiopf_device_free(s->device[i]);
		}
	for (i = 0; i < 2; i++)
		CHECK_EQ(uiopf_faultq_free(s->q[i]), 0);
	uiopf_mock_free(s->mock);
	CHECK_EQ(uiopf_core_free(s->core), 0);
	free(s);
}

static int report(struct scene *s, uint32_t d, uint32_t pasid, uint32_t grpid, uint32_t last)
{
	return uiopf_device_report(s->device[d], last | (pasid == UINT32_MAX ? 0 : PASID_VALID),
				   pasid == UINT32_MAX ? 0 : pasid, grpid, READ, 0x1000);
}

static uint32_t take(struct scene *s, uint32_t q)
{
	int64_t got = uiopf_faultq_read(s->q[q], s->m, sizeof s->m);

	CHECK(got >= 0);
	return (uint32_t)(got / (int64_t)sizeof s->m[0]);
}

/* The hardware heard this next, and (count 0) nothing else. */
static void told(struct scene *s, uint32_t dev_id, uint32_t pasid, uint32_t grpid, uint32_t code)
{
	struct uiopf_mock_response r;

	CHECK_EQ(uiopf_mock_take(s->mock, &r, 1), 1);
	CHECK_EQ(r.device_id, dev_id);
	CHECK_EQ(r.pasid, pasid);
	CHECK_EQ(r.grpid, grpid);
	CHECK_EQ(r.code, code);
}

static void told_nothing(struct scene *s)
{
	struct uiopf_mock_response r;

	CHECK_EQ(uiopf_mock_take(s->mock, &r, 1), 0);
}

static void pasids_have_queues_of_their_own(void)
{
	struct scene *s = open_scene();
	uint32_t pasid;

	CHECK_EQ(uiopf_attach(s->device[0], UIOPF_NO_PASID, s->q[0], 0), 0);
	CHECK_EQ(uiopf_attach(s->device[0], 7, s->q[1], 0), 0);
	CHECK_EQ(uiopf_attach(s->device[0], 7, s->q[0], 0), -EBUSY);
	CHECK_EQ(uiopf_replace(s->device[0], 8, s->q[0], 0), -EINVAL);
	CHECK_EQ(report(s, 0, 7, 1, LAST), 0);
	CHECK_EQ(report(s, 0, 8, 2, LAST), -EINVAL);	/* the device's own table is not user-managed */
	told(s, 10, 8, 2, UIOPF_RESP_INVALID);
	CHECK_EQ(report(s, 0, UINT32_MAX, 3, LAST), 0);
	CHECK_EQ(report(s, 0, 0, 4, LAST), 0);		/* PASID 0 is the device's own */
	CHECK_EQ(take(s, 1), 1);
	CHECK_EQ(s->m[0].grpid, 1);
	CHECK_EQ(take(s, 0), 2);

	/* Only that PASID's groups are answered; a table with user-managed PASIDs then takes it. */
	CHECK_EQ(uiopf_replace(s->device[0], UIOPF_NO_PASID, s->q[0], UIOPF_USER_MANAGED), 0);
	told(s, 10, 0, 3, UIOPF_RESP_INVALID);
	told(s, 10, 0, 4, UIOPF_RESP_INVALID);
	told_nothing(s);
	CHECK_EQ(uiopf_detach(s->device[0], 7), 0);
	told(s, 10, 7, 1, UIOPF_RESP_INVALID);
	CHECK_EQ(report(s, 0, 7, 5, LAST), 0);
	CHECK_EQ(take(s, 1), 0);
	CHECK_EQ(take(s, 0), 1);

	/* Many of them: the table of PASIDs grows, and finds each. */
	for (pasid = 1; pasid <= 1000; pasid++)
		CHECK_EQ(uiopf_attach(s->device[0], pasid * 64, s->q[pasid & 1], 0), 0);
	for (pasid = 1; pasid <= 1000; pasid++)
		CHECK_EQ(report(s, 0, pasid * 64, pasid, LAST), 0);
	CHECK_EQ(take(s, 1), 500);
	CHECK_EQ(take(s, 0), 500);
	for (pasid = 1; pasid <= 1000; pasid += 2)
		CHECK_EQ(uiopf_detach(s->device[0], pasid * 64), 0);
	for (pasid = 1; pasid <= 1000; pasid += 2)
		told(s, 10, pasid * 64, pasid, UIOPF_RESP_INVALID);
	told_nothing(s);
	CHECK_EQ(report(s, 0, 128, 1001, LAST), 0);
	close_scene(s);
}

/* An unfinished group belongs to the device: it goes with its last fault queue, not with one PASID's. */
static void unfinished_groups_stay_with_the_device(void)
{
	struct scene *s = open_scene();
	struct uiopf_device_counts counts;

	CHECK_EQ(uiopf_attach(s->device[0], 7, s->q[0], 0), 0);
	CHECK_EQ(uiopf_attach(s->device[0], 8, s->q[1], 0), 0);
	CHECK_EQ(report(s, 0, 7, 1, 0), 0);
	CHECK_EQ(uiopf_detach(s->device[0], 7), 0);
	CHECK_EQ(report(s, 0, 8, 1, LAST), 0);
	CHECK_EQ(take(s, 1), 2);
	CHECK_EQ(s->m[0].pasid, 7);
	CHECK_EQ(s->m[1].pasid, 8);
	CHECK_EQ(report(s, 0, 8, 2, 0), 0);
	CHECK_EQ(uiopf_replace(s->device[0], 8, NULL, 0), 0);
	uiopf_device_get_counts(s->device[0], &counts);
	CHECK_EQ(counts.dropped, 1);
	close_scene(s);
}

static void groups_of_devices_move_together(void)
{
	struct scene *s = open_scene();

	CHECK_EQ(uiopf_device_join(s->device[1], s->device[0], 0), 0);
	CHECK_EQ(uiopf_device_join(s->device[1], s->device[2], 0), -EBUSY);
	CHECK_EQ(uiopf_attach(s->device[1], UIOPF_NO_PASID, s->q[0], 0), 0);
	CHECK_EQ(uiopf_attach(s->device[0], UIOPF_NO_PASID, s->q[0], 0), -EBUSY);
	CHECK_EQ(uiopf_attach(s->device[0], 5, s->q[1], 0), 0);
	CHECK_EQ(uiopf_device_join(s->device[2], s->device[0], 0), 0);	/* comes to what there is */
	CHECK_EQ(report(s, 0, UINT32_MAX, 1, LAST), 0);
	CHECK_EQ(report(s, 1, UINT32_MAX, 2, LAST), 0);
	CHECK_EQ(report(s, 2, 5, 3, LAST), 0);
	CHECK_EQ(take(s, 0), 2);
	CHECK_EQ(s->m[0].dev_id, 11);		/* who made the attachment, whoever reports */
	CHECK_EQ(s->m[1].dev_id, 11);
	CHECK_EQ(take(s, 1), 1);
	CHECK_EQ(s->m[0].dev_id, 10);

	/* The answer goes to the device that asked. */
	CHECK_EQ(report(s, 2, 5, 4, LAST), 0);
	CHECK_EQ(uiopf_replace(s->device[0], UIOPF_NO_PASID, s->q[1], 0), 0);
	told(s, 10, 0, 1, UIOPF_RESP_INVALID);
	told(s, 11, 0, 2, UIOPF_RESP_INVALID);
	told_nothing(s);

	/* One leaves: what it has asked is answered, what others have stays. */
	CHECK_EQ(report(s, 0, 5, 5, LAST), 0);
	uiopf_device_leave(s->device[2]);
	told(s, 12, 5, 4, UIOPF_RESP_INVALID);
	told(s, 12, 5, 3, UIOPF_RESP_INVALID);
	told_nothing(s);
	CHECK_EQ(report(s, 2, 5, 6, LAST), -EINVAL);
	told(s, 12, 5, 6, UIOPF_RESP_INVALID);
	CHECK_EQ(uiopf_detach(s->device[1], 5), 0);
	told(s, 10, 5, 5, UIOPF_RESP_INVALID);
	close_scene(s);
}

/* Linux 6.12: faults are switched on for the one device that makes the attachment. */
static void one_device_of_a_group_reports_alone(void)
{
	struct scene *s = open_scene();

	CHECK_EQ(uiopf_device_join(s->device[1], s->device[0], UIOPF_ALONE), 0);
	CHECK_EQ(uiopf_attach(s->device[1], UIOPF_NO_PASID, s->q[0], UIOPF_ALONE), 0);
	CHECK_EQ(report(s, 0, UINT32_MAX, 1, LAST), -EINVAL);
	told(s, 10, 0, 1, UIOPF_RESP_INVALID);
	CHECK_EQ(report(s, 1, UINT32_MAX, 2, LAST), 0);
	/* Another queue, by another device: nothing is switched on or off. */
	CHECK_EQ(uiopf_replace(s->device[0], UIOPF_NO_PASID, s->q[1], UIOPF_ALONE), 0);
	told(s, 11, 0, 2, UIOPF_RESP_INVALID);
	CHECK_EQ(report(s, 0, UINT32_MAX, 3, LAST), -EINVAL);
	told(s, 10, 0, 3, UIOPF_RESP_INVALID);
	CHECK_EQ(report(s, 1, UINT32_MAX, 4, LAST), 0);
	CHECK_EQ(take(s, 1), 1);
	CHECK_EQ(s->m[0].dev_id, 10);
	/* Off, and on again by the other. */
	CHECK_EQ(uiopf_replace(s->device[0], UIOPF_NO_PASID, NULL, UIOPF_ALONE), 0);
	told(s, 11, 0, 4, UIOPF_RESP_INVALID);
	CHECK_EQ(uiopf_replace(s->device[0], UIOPF_NO_PASID, s->q[0], UIOPF_ALONE), 0);
	CHECK_EQ(report(s, 0, UINT32_MAX, 5, LAST), 0);
	CHECK_EQ(report(s, 1, UINT32_MAX, 6, LAST), -EINVAL);
	close_scene(s);
}

/* ---- what is on the way when a PASID changes hands ---- */

static void a_request_on_the_way(uint32_t flags, bool replace)
{
	struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	struct uiopf_model *vtd = uiopf_model_make(core, 0, flags);
	struct uiopf_endpoint *ep = uiopf_endpoint_new(core, uiopf_model_port(vtd), 0x100, 64, 4);
	struct uiopf_device *device = uiopf_device_new(core, uiopf_model_iommu(vtd), 1, 0x100, 64, 0);
	struct uiopf_space *space = uiopf_space_new(64, 64);
	struct uiopf_faultq *first = uiopf_faultq_new(core, UIOPF_MERGED), *next = uiopf_faultq_new(core, UIOPF_MERGED);
	const bool drained = !(flags & UIOPF_MODEL_UNDRAINED);
	struct uiopf_faultq_counts counts;
	struct uiopf_device_counts device_counts;
	struct iommu_hwpt_pgfault m[4];
	int64_t ticket;

	CHECK_EQ(uiopf_model_bind(vtd, ep, device), 0);
	uiopf_endpoint_set_tables(ep, space);
	CHECK_EQ(uiopf_endpoint_enable_pri(ep, 64), 0);
	CHECK_EQ(uiopf_attach(device, 5, first, 0), 0);
	ticket = uiopf_endpoint_access(ep, 5, 0x7000, READ, 1);
	CHECK(ticket >= 0);
	uiopf_model_endpoint_turn(vtd, ep);	/* in the IOMMU's queue, and the interrupt has not been taken */
	CHECK_EQ(uiopf_faultq_poll(first) & POLLIN, 0);

	if (replace) {
		CHECK_EQ(uiopf_replace(device, 5, next, 0), 0);
	} else {
		CHECK_EQ(uiopf_detach(device, 5), 0);
		CHECK_EQ(uiopf_attach(device, 5, next, 0), 0);
	}
	uiopf_core_produce(core);
	uiopf_core_produce(core);
	uiopf_faultq_counts(first, &counts);
	uiopf_device_get_counts(device, &device_counts);
	CHECK_EQ(device_counts.reported, 1);
	if (drained) {		/* the first owner's, and answered for it */
		CHECK_EQ(counts.auto_answered_faults, 1);
		CHECK_EQ(device_counts.stale, 0);
		CHECK_EQ(uiopf_faultq_read(next, m, sizeof m), 0);
		CHECK_EQ(uiopf_endpoint_result(ep, ticket), UIOPF_ACCESS_INVALID);
	} else {		/* the next owner gets it: seen, and not lost */
		const struct iommu_hwpt_page_response r = { .cookie = 1, .code = IOMMUFD_PAGE_RESP_INVALID };

		CHECK_EQ(counts.auto_answered_faults, 0);
		CHECK_EQ(device_counts.stale, 1);
		CHECK_EQ(uiopf_faultq_read(next, m, sizeof m), sizeof m[0]);
		CHECK_EQ(m[0].addr, 0x7000);
		CHECK_EQ(uiopf_endpoint_result(ep, ticket), UIOPF_ACCESS_PENDING);
		CHECK_EQ(uiopf_faultq_write(next, &r, sizeof r), sizeof r);
		uiopf_core_produce(core);
		CHECK_EQ(uiopf_endpoint_result(ep, ticket), UIOPF_ACCESS_INVALID);
	}
	/* What comes under the new attachment is its own. */
	CHECK(uiopf_endpoint_access(ep, 5, 0x8000, READ, 1) >= 0);
	uiopf_core_produce(core);
	uiopf_device_get_counts(device, &device_counts);
	CHECK_EQ(device_counts.stale, drained ? 0 : 1);
	CHECK_EQ(uiopf_faultq_read(next, m, sizeof m), sizeof m[0]);

	/* The function goes with a request on the way, and its driver before it: that is answered too. */
	ticket = uiopf_endpoint_access(ep, 9, 0x9000, READ, 1);
	uiopf_model_endpoint_turn(vtd, ep);
	uiopf_device_leave(device);
	uiopf_model_unbind(vtd, device);
	CHECK_EQ(uiopf_endpoint_result(ep, ticket), UIOPF_ACCESS_INVALID);
	uiopf_device_free(device);
	uiopf_endpoint_free(ep);
	uiopf_model_free(vtd);
	uiopf_space_free(space);
	CHECK_EQ(uiopf_faultq_free(first), 0);
	CHECK_EQ(uiopf_faultq_free(next), 0);
	CHECK_EQ(uiopf_core_free(core), 0);
}

/* ---- limits ---- */

static void limit(struct uiopf_faultq *q, const struct uiopf_faultq_limits *limits)
{
	CHECK_EQ(uiopf_faultq_limit(q, limits), 0);
	CHECK_EQ(uiopf_faultq_limit(q, limits), -EBUSY);
}

static void a_full_queue_loses_and_says_so(void)
{
	struct scene *s = open_scene();
	struct uiopf_faultq_counts counts;
	struct uiopf_device_counts device_counts;
	uint32_t i;

	limit(s->q[0], &(struct uiopf_faultq_limits){ .depth = 3 });
	CHECK_EQ(uiopf_attach(s->device[0], UIOPF_NO_PASID, s->q[0], 0), 0);
	for (i = 1; i <= 3; i++)
		CHECK_EQ(report(s, 0, UINT32_MAX, i, LAST), 0);
	told_nothing(s);
	CHECK_EQ(report(s, 0, UINT32_MAX, 4, 0), 0);
	CHECK_EQ(report(s, 0, UINT32_MAX, 4, LAST), 0);		/* a group of two */
	CHECK_EQ(report(s, 0, UINT32_MAX, 5, LAST), 0);
	told(s, 10, 0, 4, UIOPF_RESP_FAILURE);
	told(s, 10, 0, 5, UIOPF_RESP_FAILURE);
	/* The loss is told of where it was: after what is stored, before what comes then. */
	CHECK_EQ(uiopf_faultq_read(s->q[0], s->m, 2 * sizeof s->m[0]), 2 * sizeof s->m[0]);
	CHECK_EQ(s->m[0].grpid, 1);
	CHECK_EQ(report(s, 0, UINT32_MAX, 6, LAST), 0);
	CHECK_EQ(take(s, 0), 3);
	CHECK_EQ(s->m[0].grpid, 3);
	CHECK_EQ(s->m[1].flags, UIOPF_PGFAULT_FLAGS_LOST);
	CHECK_EQ(s->m[1].length, 2);
	CHECK_EQ(s->m[1].cookie, 0);
	CHECK_EQ(s->m[2].grpid, 6);
	CHECK_EQ(take(s, 0), 0);

	/* Alone at the end: readable, and too much for a read of nothing. */
	for (i = 0; i < 4; i++)
		CHECK_EQ(report(s, 0, UINT32_MAX, 10 + i, LAST), 0);
	CHECK_EQ(uiopf_faultq_read(s->q[0], s->m, 3 * sizeof s->m[0]), 3 * sizeof s->m[0]);
	CHECK(uiopf_faultq_poll(s->q[0]) & POLLIN);
	CHECK_EQ(uiopf_faultq_read(s->q[0], s->m, 0), -EINVAL);
	CHECK_EQ(take(s, 0), 1);
	CHECK_EQ(s->m[0].length, 1);
	CHECK_EQ(uiopf_faultq_poll(s->q[0]) & POLLIN, 0);

	uiopf_faultq_counts(s->q[0], &counts);
	uiopf_device_get_counts(s->device[0], &device_counts);
	CHECK_EQ(counts.lost_groups, 3);
	CHECK_EQ(counts.lost_faults, 4);
	CHECK_EQ(device_counts.refused, 4);
	close_scene(s);
}

/* With INVALID a function goes on: a Response Failure would stop it. */
static void what_a_full_queue_loses_is_answered_as_the_limit_says(void)
{
	struct scene *s = open_scene();

	CHECK_EQ(uiopf_faultq_limit(s->q[0], &(struct uiopf_faultq_limits){ .depth = 1, .lost_code = 3 }), -EINVAL);
	limit(s->q[0], &(struct uiopf_faultq_limits){ .depth = 1, .lost_code = UIOPF_RESP_INVALID });
	CHECK_EQ(uiopf_attach(s->device[0], UIOPF_NO_PASID, s->q[0], 0), 0);
	CHECK_EQ(report(s, 0, UINT32_MAX, 1, LAST), 0);
	CHECK_EQ(report(s, 0, UINT32_MAX, 2, LAST), 0);
	told(s, 10, 0, 2, UIOPF_RESP_INVALID);
	told_nothing(s);
	close_scene(s);
}

static void what_is_not_answered_in_time_is_answered(void)
{
	const struct iommu_hwpt_page_response late = { .cookie = 1, .code = 0 };
	struct scene *s = open_scene();
	struct uiopf_faultq_counts counts;

	CHECK_EQ(uiopf_faultq_limit(s->q[0], &(struct uiopf_faultq_limits){ .timeout_ns = 1 }), -EINVAL);
	limit(s->q[0], &(struct uiopf_faultq_limits){ .timeout_ns = 100, .timeout_code = UIOPF_RESP_FAILURE });
	CHECK_EQ(uiopf_attach(s->device[0], UIOPF_NO_PASID, s->q[0], 0), 0);
	CHECK_EQ(uiopf_core_next_ns(s->core), UINT64_MAX);
	CHECK_EQ(report(s, 0, UINT32_MAX, 1, LAST), 0);
	CHECK_EQ(take(s, 0), 1);
	uiopf_core_tick(s->core, 50);
	CHECK_EQ(report(s, 0, UINT32_MAX, 2, LAST), 0);	/* this one is not read */
	CHECK_EQ(report(s, 0, UINT32_MAX, 3, LAST), 0);
	uiopf_core_tick(s->core, 99);
	uiopf_core_produce(s->core);
	told_nothing(s);
	CHECK_EQ(uiopf_core_next_ns(s->core), 100);
	uiopf_core_tick(s->core, 100);
	uiopf_core_produce(s->core);
	told(s, 10, 0, 1, UIOPF_RESP_FAILURE);
	told_nothing(s);
	CHECK_EQ(uiopf_faultq_write(s->q[0], &late, sizeof late), -EINVAL);
	CHECK_EQ(uiopf_core_next_ns(s->core), 150);
	uiopf_core_tick(s->core, 1000);
	uiopf_core_produce(s->core);
	told(s, 10, 0, 2, UIOPF_RESP_FAILURE);
	told(s, 10, 0, 3, UIOPF_RESP_FAILURE);
	CHECK_EQ(uiopf_core_next_ns(s->core), UINT64_MAX);
	CHECK_EQ(take(s, 0), 0);

	/* An answer in time ends the wait; one in the middle of others, too. */
	for (uint32_t i = 0; i < 3; i++)
		CHECK_EQ(report(s, 0, UINT32_MAX, 20 + i, LAST), 0);
	CHECK_EQ(take(s, 0), 3);
	CHECK_EQ(uiopf_faultq_write(s->q[0], &(struct iommu_hwpt_page_response){ .cookie = 2 }, 8), 8);
	told(s, 10, 0, 21, UIOPF_RESP_SUCCESS);
	CHECK_EQ(uiopf_faultq_write(s->q[0], &(struct iommu_hwpt_page_response){ .cookie = 1 }, 8), 8);
	told(s, 10, 0, 20, UIOPF_RESP_SUCCESS);
	uiopf_core_tick(s->core, 2000);
	uiopf_core_produce(s->core);
	told(s, 10, 0, 22, UIOPF_RESP_FAILURE);
	told_nothing(s);
	uiopf_faultq_counts(s->q[0], &counts);
	CHECK_EQ(counts.timed_out_groups, 4);
	CHECK_EQ(counts.timed_out_faults, 4);
	CHECK_EQ(counts.auto_answered_groups, 4);
	CHECK_EQ(counts.answered_groups, 2);

	/* A group that another attachment leaves behind keeps its time, wherever it is in the ring. */
	CHECK_EQ(uiopf_attach(s->device[1], UIOPF_NO_PASID, s->q[0], 0), 0);
	CHECK_EQ(report(s, 1, UINT32_MAX, 30, LAST), 0);
	uiopf_core_tick(s->core, 2040);
	CHECK_EQ(report(s, 0, UINT32_MAX, 31, LAST), 0);
	CHECK_EQ(uiopf_detach(s->device[0], UIOPF_NO_PASID), 0);
	told(s, 10, 0, 31, UIOPF_RESP_INVALID);
	uiopf_core_tick(s->core, 2100);
	uiopf_core_produce(s->core);
	told(s, 11, 0, 30, UIOPF_RESP_FAILURE);
	close_scene(s);
}

static void answers_may_name_the_group_index(void)
{
	struct scene *s = open_scene();
	uint32_t i;

	CHECK_EQ(uiopf_faultq_answer_index(s->q[1], 10, 0, 0, 1, 0), -EOPNOTSUPP);
	limit(s->q[0], &(struct uiopf_faultq_limits){ .by_index = 1 });
	CHECK_EQ(uiopf_attach(s->device[0], UIOPF_NO_PASID, s->q[0], UIOPF_USER_MANAGED), 0);
	for (i = 0; i < 1000; i++)	/* the table grows meanwhile; index 7 is used by three */
		CHECK_EQ(report(s, 0, 5, i % 500 == 7 ? 7 : 1000 + i, LAST), 0);
	CHECK_EQ(report(s, 0, UINT32_MAX, 7, LAST), 0);
	CHECK_EQ(take(s, 0), 1001);
	CHECK_EQ(uiopf_faultq_answer_index(s->q[0], 10, PASID_VALID, 6, 7, 0), -EINVAL);
	CHECK_EQ(uiopf_faultq_answer_index(s->q[0], 11, PASID_VALID, 5, 7, 0), -EINVAL);
	CHECK_EQ(uiopf_faultq_answer_index(s->q[0], 10, PASID_VALID, 5, 7, 2), -EINVAL);	/* the code */
	told_nothing(s);
	CHECK_EQ(uiopf_faultq_answer_index(s->q[0], 10, PASID_VALID, 5, 7, 1), 0);
	told(s, 10, 5, 7, UIOPF_RESP_INVALID);
	/* The first one read went first: cookie 8 is free, 508 is not. */
	CHECK_EQ(uiopf_faultq_write(s->q[0], &(struct iommu_hwpt_page_response){ .cookie = 8 }, 8), -EINVAL);
	CHECK_EQ(uiopf_faultq_write(s->q[0], &(struct iommu_hwpt_page_response){ .cookie = 508 }, 8), 8);
	told(s, 10, 5, 7, UIOPF_RESP_SUCCESS);
	CHECK_EQ(uiopf_faultq_answer_index(s->q[0], 10, PASID_VALID, 5, 7, 0), -EINVAL);
	CHECK_EQ(uiopf_faultq_answer_index(s->q[0], 10, 0, 0, 7, 0), 0);
	told(s, 10, 0, 7, UIOPF_RESP_SUCCESS);
	for (i = 0; i < 1000; i++)
		if (i % 500 != 7)
			CHECK_EQ(uiopf_faultq_answer_index(s->q[0], 10, PASID_VALID, 5, 1000 + i, 0), 0);
	close_scene(s);
}

/* A failure for a virtual function that shares PRI stops it alone, and the hardware does not hear of it. */
static void a_virtual_function_is_paused(void)
{
	struct scene *s = open_scene();

	uiopf_device_share_pri(s->device[1]);
	CHECK_EQ(uiopf_device_reset_pri(s->device[0]), -EOPNOTSUPP);
	CHECK_EQ(uiopf_attach(s->device[0], UIOPF_NO_PASID, s->q[0], 0), 0);
	CHECK_EQ(uiopf_attach(s->device[1], UIOPF_NO_PASID, s->q[0], 0), 0);
	CHECK_EQ(report(s, 0, UINT32_MAX, 1, LAST), 0);
	CHECK_EQ(report(s, 1, UINT32_MAX, 2, LAST), 0);
	CHECK_EQ(report(s, 1, UINT32_MAX, 3, LAST), 0);
	CHECK_EQ(take(s, 0), 3);
	CHECK_EQ(uiopf_faultq_write(s->q[0], &(struct iommu_hwpt_page_response){ 1, 2 }, 8), -EINVAL);	/* its own PRI */
	CHECK_EQ(uiopf_faultq_write(s->q[0], &(struct iommu_hwpt_page_response){ 2, 2 }, 8), 8);
	told(s, 11, 0, 2, UIOPF_RESP_INVALID);
	CHECK(uiopf_device_pri_paused(s->device[1]));
	CHECK_EQ(report(s, 1, UINT32_MAX, 4, LAST), -EINVAL);
	told(s, 11, 0, 4, UIOPF_RESP_INVALID);
	CHECK_EQ(uiopf_faultq_write(s->q[0], &(struct iommu_hwpt_page_response){ 3, 0 }, 8), 8);
	told(s, 11, 0, 3, UIOPF_RESP_SUCCESS);		/* what was asked before is still answered */
	CHECK_EQ(report(s, 0, UINT32_MAX, 5, LAST), 0);	/* and nobody else is stopped */
	CHECK_EQ(uiopf_device_reset_pri(s->device[1]), 0);
	CHECK_EQ(report(s, 1, UINT32_MAX, 6, LAST), 0);
	CHECK_EQ(take(s, 0), 2);
	told_nothing(s);
	close_scene(s);
}

/* ---- very many ---- */

static void move_with_many_outstanding(uint32_t groups)
{
	struct scene *s = open_scene();
	struct uiopf_faultq_counts counts;
	double before;
	uint32_t i;

	CHECK_EQ(uiopf_attach(s->device[0], UIOPF_NO_PASID, s->q[0], 0), 0);
	for (i = 0; i < groups; i++)
		CHECK_EQ(report(s, 0, UINT32_MAX, i, LAST), 0);
	for (i = 0; i < groups / 2; i += SOME)
		take(s, 0);
	before = seconds_now();
	CHECK_EQ(uiopf_replace(s->device[0], UIOPF_NO_PASID, s->q[1], 0), 0);
	printf("replace with %" PRIu32 " groups outstanding: %.1f ms\n", groups, (seconds_now() - before) * 1e3);
	uiopf_faultq_counts(s->q[0], &counts);
	CHECK_EQ(counts.auto_answered_groups, groups);
	CHECK_EQ(counts.waiting_groups + counts.unanswered_groups, 0);
	close_scene(s);
}

int main(int argc, char **argv)
{
	pasids_have_queues_of_their_own();
	unfinished_groups_stay_with_the_device();
	groups_of_devices_move_together();
	one_device_of_a_group_reports_alone();
	a_request_on_the_way(0, false);
	a_request_on_the_way(0, true);
	a_request_on_the_way(UIOPF_MODEL_UNDRAINED, false);
	a_request_on_the_way(UIOPF_MODEL_UNDRAINED, true);
	a_full_queue_loses_and_says_so();
	what_a_full_queue_loses_is_answered_as_the_limit_says();
	what_is_not_answered_in_time_is_answered();
	answers_may_name_the_group_index();
	a_virtual_function_is_paused();
	move_with_many_outstanding(argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 100000);
	return 0;
}
