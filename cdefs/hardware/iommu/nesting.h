/*
 * Which stage has faulted, and who serves it: what the kernel does with a device's request before it reports it.
 *
 * Stage 1 is the guest's, so its faults go to the queue. Stage 2 is the host's: the kernel maps the page from the host's
 * memory and answers, and no user space hears of it. A stall says which stage it was; a page request does not. The 2021
 * series ("Add IOPF support for VFIO passthrough", RFC v3) lets whoever registers a handler say by flags which stages it
 * wants to hear of, so that a driver knows whether it must walk; its reviewer would rather have the handler filter. Each
 * way is here, with the walks, calls and locks that it costs:
 *
 *   by       | the stage is known from             | a stage that is not wanted    | the container's lock is taken
 *   HARDWARE | the request (stalls only)           | refused before the handler    | for each page of stage 2
 *   DRIVER   | a walk by the driver, for each page | refused before the handler    | for each page of stage 2
 *   HANDLER  | the request, or else the handler's  | refused by the handler        | for each page
 *            | walk under its lock                 |                               |
 *   NOBODY   | nothing: stage 2 never faults       | there is none                 | never
 *
 * A guess cannot be wrong for long. A walk is about the tables at its own time: a page that has an address by then is
 * answered SUCCESS, and the function that translates again finds out what is missing now. A page of stage 2 that the host
 * has mapped by then, but not so that the access can be done, is refused.
 *
 * NOBODY is for the host alone to promise, which lets nothing be unpinned meanwhile. But the access may be a write, and the
 * mapping for reading only; or the guest's tables lead out of its memory. Stage 2 ends such a walk, and the guest, which has
 * the page, could only answer SUCCESS again and again. So a page that it is asked for once more, for the same access, is
 * walked. A stall contradicts the guess at once, without a walk.
 *
 * A group is decided with its last request, which is when it would be reported. Pages of stage 2 are taken out of it; if
 * none is left the kernel answers, otherwise the last of those that are left ends the group. One page that cannot be
 * served makes the whole group INVALID, since an answer is for the group.
 */
#pragma once
#include "abi/api.h"
#include "faults/iopf.h"
#include "hardware/tables/host.h"
#include "hardware/tables/translator.h"

struct uiopf_nesting {
	struct uiopf_iommu *iommu;		/* held */
	struct uiopf_nesting **where;		/* the IOMMU's pointer to it; NULL: the device has gone */
	struct uiopf_device *device;
	struct uiopf_translator *translator;	/* held */
	struct uiopf_host *host;		/* held; NULL: nothing of stage 2 is served */
	uint32_t by, flags;
	struct uiopf_nesting_counts counts;
	/*
	 * NOBODY: the pages and accesses that the guest has been asked for, in sets of UIOPF_ASKED_WAYS; 0: a free place. In
	 * a set without one nothing is known, and all is walked. NULL: nobody asks.
	 */
	uint64_t *asked;
};

#define UIOPF_ASKED_SETS 32768u
#define UIOPF_ASKED_WAYS 8u

/* Not registered yet. NULL with errno, as uiopf_model_nest(). */
struct uiopf_nesting *uiopf_nesting_make(struct uiopf_device *device, struct uiopf_translator *translator,
					 struct uiopf_host *host, uint32_t by, uint32_t flags);
/* Driver: a request of the device. told: what it says of its stage; NULL: nothing. */
void uiopf_nesting_report(struct uiopf_nesting *nesting, const struct uiopf_fault *fault,
			  const struct uiopf_private_data *data, const struct uiopf_translation *told);
/* Quiescent: the device goes, or the registration. */
void uiopf_nesting_forget(struct uiopf_nesting *nesting);
