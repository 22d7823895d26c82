/*
 * The Page Request Extended Capability of a PCI function: what software reads and writes, and what follows from it.
 *
 * A physical function has one, and its virtual functions share it: credits, failures, stopping. What it is in:
 *
 *   state    | Enable | Stopped | sends | deaf | left by
 *   disabled | 0      | 1       | no    | no   | Enable written
 *   enabled  | 1      | 0       | yes   | no   | Enable cleared; a Response Failure
 *   stopping | 0      | 0       | no    | no   | the last answer; a Response Failure; Reset written
 *   failed   | 1 or 0 | 0 -> 1  | no    | yes  | Enable written anew; Reset written, once Enable is 0
 *
 * After a Response Failure the function expects no answers: those that come end their groups, with whatever code, and
 * say nothing more. Stopped is set when none is outstanding. Enable's change from 0 to 1 clears Stopped, RF and UPRGI.
 * Reset acts only where Enable is 0 or is being cleared by the same write: it forgets what is outstanding, so a late
 * answer is unexpected.
 *
 * A function with its default settings has no PRI: Enable 0, Stopped 1, no credits.
 *
 * Belongs to the producer side. Source: PCI Express Base Specification 6.0, 7.8.9 and 10.4; Linux drivers/pci/ats.c.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "abi/hardware.h"
#include "base/atomics.h"

struct uiopf_pri {
	uint32_t functions;		/* that share it: the last one frees it */
	uint32_t capacity, allocation;	/* page requests; the second is written by software */
	uint32_t used;			/* credits: requests of all the functions without an answer */
	uint16_t control, status;	/* as they are read, but for what never changes */
	bool sends, deaf;
};

/* NULL: no memory. */
struct uiopf_pri *uiopf_pri_new(uint32_t capacity);
void uiopf_pri_drop(struct uiopf_pri *pri);

/* Enable has been set, or cleared. */
void uiopf_pri_enable(struct uiopf_pri *pri);
void uiopf_pri_disable(struct uiopf_pri *pri);
/* All that is outstanding has been forgotten, by a reset. */
void uiopf_pri_forgotten(struct uiopf_pri *pri);
/* A Response Failure has come. True: nothing is waited for, since the function was stopping. */
bool uiopf_pri_fail(struct uiopf_pri *pri);

/* Whether the function may ever send: a pass of which nothing is outstanding is over otherwise. */
hot_inline bool uiopf_pri_may_send(const struct uiopf_pri *pri)
{
	return pri->sends && pri->allocation;
}

/* Credits have come back to one that no longer sends. */
hot_inline void uiopf_pri_settle(struct uiopf_pri *pri)
{
	if (unlikely(!pri->sends) && !pri->used)
		pri->status |= PCIE_PRI_STATUS_STOPPED;
}
