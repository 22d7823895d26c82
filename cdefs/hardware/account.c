/*
 * Where every fault has gone: what functions, devices and queues have counted, at one quiescent point, so that no fault is
 * seen by one of them and not yet by the next.
 */
#include "core/core.h"
#include "faults/faultq.h"
#include "hardware/endpoint.h"

static uint64_t pending(const struct uiopf_device *device)
{
	uint64_t faults = uiopf_device_partial_faults(device);
	const struct uiopf_reservation *r;

	for (r = device->reservations; r; r = r->next)
		faults += uiopf_faultq_held(r->queue, device);
	if (device->iommu->ops->unreported)
		faults += device->iommu->ops->unreported(device->iommu, device);
	return faults;
}

int uiopf_account(struct uiopf_core *core, struct uiopf_account *accounts, uint32_t n)
{
	const int rc = uiopf_control_try_begin(core);
	struct uiopf_account *a;

	if (rc < 0)
		return rc;
	for (a = accounts; a != accounts + n; a++) {
		uiopf_endpoint_get_counts(a->endpoint, &a->counts);
		uiopf_device_get_counts(a->device, &a->reported);
		a->answered = a->device->answered;
		a->auto_answered = a->device->answered_for;
		a->pending = pending(a->device);
	}
	uiopf_control_end(core);
	return 0;
}
