/*
 * What devices have in common that report their faults themselves, and ask no IOMMU: one queue of entries from the device
 * to its driver, on one thread, and functions that the driver knows by numbers of its own.
 *
 * An entry is never lost: where the queue is full, the device keeps it until there is room. Where the queue is disabled,
 * or no device is bound to the function, its operation fails at once.
 */
#pragma once
#include "abi/hardware.h"
#include "base/records.h"
#include "hardware/iommu/model.h"

struct uiopf_reporting {
	struct uiopf_model model;

	struct uiopf_records queue;
	bool disabled;
	uint16_t requester_id[UIOPF_MOST_SOURCES];	/* of the functions, by their numbers */
	uint32_t functions;
};
UIOPF_BEGINS_A_LINE(struct uiopf_reporting, queue);

hot_inline struct uiopf_reporting *uiopf_reporting_of(struct uiopf_model *model)
{
	return container_of(model, struct uiopf_reporting, model);
}

/* With so many entries, or as many as the flags say: 0 or -ENOMEM. */
int uiopf_reporting_open(struct uiopf_reporting *r, uint32_t entries, uint32_t words);
void uiopf_reporting_close(struct uiopf_reporting *r);

/* Device: a function's number. */
uint32_t uiopf_reporting_new_number(struct uiopf_reporting *r, uint16_t requester_id);

hot_inline uint32_t uiopf_reporting_number(struct uiopf_reporting *r, uint16_t requester_id)
{
	uint32_t n;

	for (n = 0; n < r->functions; n++)
		if (likely(r->requester_id[n] == requester_id))
			return n;
	return uiopf_reporting_new_number(r, requester_id);
}

/* Driver: whose number it is; UIOPF_NOBODY: nobody's. */
static inline uint32_t uiopf_reporting_function(const struct uiopf_reporting *r, uint32_t number)
{
	return number < r->functions ? r->requester_id[number] : UIOPF_NOBODY;
}

/* Device: an entry that does not go into the queue now is kept, or its operation fails. */
void uiopf_reporting_keep(struct uiopf_reporting *r, struct uiopf_page_request request, const uint64_t entry[]);

/* No page request reaches such a device: it has no PRI, and its functions have none. */
void uiopf_reporting_request(struct uiopf_model *model, struct uiopf_page_request request);

/* Whether an entry is of this device's function. */
typedef bool uiopf_is_entry_of(const struct uiopf_reporting *r, const struct uiopf_device *device, const uint64_t *entry);

/* Quiescent: entries of a device that the interrupt has not read, also those that are kept. */
uint64_t uiopf_reporting_unreported(const struct uiopf_reporting *r, const struct uiopf_device *device,
				    uiopf_is_entry_of *is_of);
