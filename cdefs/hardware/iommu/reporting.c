#include "hardware/iommu/reporting.h"

#include <errno.h>

int uiopf_reporting_open(struct uiopf_reporting *r, uint32_t entries, uint32_t words)
{
	const uint32_t log = r->model.flags >> UIOPF_MODEL_ENTRIES_SHIFT;

	return uiopf_records_open(&r->queue, log ? 1u << log : entries, words);
}

void uiopf_reporting_close(struct uiopf_reporting *r)
{
	uiopf_records_close(&r->queue);
}

uint32_t uiopf_reporting_new_number(struct uiopf_reporting *r, uint16_t requester_id)
{
	uint32_t n = 0;

	if (r->functions < UIOPF_MOST_SOURCES)
		n = r->functions++;
	else	/* one of so many is gone, since this one is here */
		while (n < UIOPF_MOST_SOURCES - 1 && r->model.source[r->requester_id[n]].endpoint)
			n++;
	r->requester_id[n] = requester_id;
	return n;
}

void uiopf_reporting_keep(struct uiopf_reporting *r, struct uiopf_page_request request, const uint64_t entry[])
{
	if (r->disabled || !r->model.source[request.requester_id].device) {
		if (request.message & PCIE_PRI_LAST)
			uiopf_model_answer(&r->model, request, PCIE_PRG_INVALID);
		else
			uiopf_model_answer_with_last(&r->model, request);
	} else if (!uiopf_records_wait(&r->queue, entry)) {
		uiopf_model_drop(&r->model, request);	/* no memory: it waits for ever, and is seen to */
	}
}

void uiopf_reporting_request(struct uiopf_model *m, struct uiopf_page_request request)
{
	if (!uiopf_is_stop_marker(request))
		uiopf_model_answer_with_last(m, request);
}

uint64_t uiopf_reporting_unreported(const struct uiopf_reporting *r, const struct uiopf_device *device,
				    uiopf_is_entry_of *is_of)
{
	const struct uiopf_records *q = &r->queue;
	uint64_t faults = 0;
	uint32_t i;

	for (i = q->head; i != q->written; i++)
		faults += is_of(r, device, uiopf_records_at(q->places, q->places.words, i));
	for (i = q->waiting_first; i != q->waiting_count; i++)
		faults += is_of(r, device, &q->waiting[(size_t)q->places.words * i]);
	return faults;
}

int uiopf_device_model_enable(struct uiopf_model *m, int on)
{
	if (!m->ops->only_stalls)
		return -EOPNOTSUPP;
	uiopf_control_begin(m->iommu.core);
	uiopf_reporting_of(m)->disabled = !on;
	uiopf_control_end(m->iommu.core);
	return 0;
}
