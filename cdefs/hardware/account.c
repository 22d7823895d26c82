/*
 * Where every fault has gone: what a function, a queue and a device have counted, at one quiescent point, so that no fault
 * is seen by one of them and not yet by the next.
 */
#include "core/core.h"
#include "faults/faultq.h"
#include "hardware/endpoint.h"

int uiopf_account(struct uiopf_endpoint *endpoint, struct uiopf_faultq *queue, struct uiopf_device *device,
		  struct uiopf_account *account)
{
	struct uiopf_core *core = endpoint->core;
	const int rc = uiopf_control_try_begin(core);

	if (rc < 0)
		return rc;
	uiopf_endpoint_get_counts(endpoint, &account->endpoint);
	uiopf_faultq_counts(queue, &account->queue);
	uiopf_device_get_counts(device, &account->device);
	account->pending = uiopf_faultq_held(queue) + uiopf_device_partial_faults(device);
	if (device->iommu->ops->unreported)
		account->pending += device->iommu->ops->unreported(device->iommu, device);
	uiopf_control_end(core);
	return 0;
}
