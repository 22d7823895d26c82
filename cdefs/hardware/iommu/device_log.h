/*
 * An accelerator that reports its faults itself, and asks no IOMMU: an Intel DSA without block on fault, and its event log.
 * It has one log, and a work queue for each of its functions.
 *
 * Hardware: a descriptor that finds no page ends there. Its completion record has the address, and how many bytes were
 * done before. The page of that record is not there for the device, either, and so the record goes into the log, 64 bytes
 * with the address that it belongs to. One place of the log stays free, or its head and tail would be the same; the hardware
 * writes nothing into a full one, and the descriptor waits until there is room. Where the log is off, or no device is bound
 * to the work queue, nobody will write the record, and the descriptor fails at once.
 *
 * Driver: reads the log from head to tail, in an interrupt that the first entry makes pending. Linux makes the page of the
 * record present and writes the record into it; its submitter sees which page is missing, touches it, and sends the rest of
 * the descriptor. Here the driver reports the missing page first, and writes the record when that is answered: for a page
 * that is there, as the log has it; else with another status, after which nothing is sent.
 *
 * Sources: Linux 7.2 drivers/dma/idxd/registers.h, irq.c, cdev.c (idxd_copy_cr), include/uapi/linux/idxd.h; its commit
 * 2f431ba908d2, which describes the log: when it is full, and what the hardware does then.
 */
#pragma once
#include "hardware/iommu/reporting.h"

struct uiopf_device_log {
	struct uiopf_reporting reporting;	/* whose queue is the log: the device writes it and the interrupt reads it */
	bool pending, interrupts;		/* an entry has been written since the interrupt; it is switched on */

	/* The driver's: the records that it is to write, by work queue and place, from the interrupt until the answer. */
	struct uiopf_record { uint64_t word[2]; } *record;
};

extern const struct uiopf_model_ops uiopf_model_evl;

hot_inline struct uiopf_device_log *uiopf_device_log_of(struct uiopf_model *model)
{
	return container_of(model, struct uiopf_device_log, reporting.model);
}
