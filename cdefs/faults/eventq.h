/*
 * The event queue of a virtual IOMMU: events from any thread, read as a file. Nobody answers them.
 *
 * A queue holds at most `depth` events. What comes beyond that is lost, and counted by the sequence numbers: every
 * report takes the next one, lost or not. While the newest report is a lost one, the queue ends with a header that says
 * so; it is taken away when an event is stored after it, since the gap in the numbers then says the same.
 *
 * One lock guards the list, for as long as it takes to link an event in or out. It is never held over a copy to a
 * client, nor while memory is got: the interrupt that reports waits for nobody's memory. A reader takes an event off,
 * copies it, and puts it back in front if it cannot be delivered. It keeps its place among the `depth` until it has
 * been. Readers are the consumer's side and serialised by the core, so one event at a time is in that state.
 *
 * Memory: Linux allocates every event by itself (GFP_ATOMIC). Here events lie one behind the other in chunks of a page,
 * which are got as the queue fills and given back as it is read, one kept in reserve. So a queue takes what its unread
 * events take, whatever its depth (up to 2^19 of them), and a queue of few never asks for memory again.
 *
 * Source: drivers/iommu/iommufd/eventq.c and driver.c, Linux 7.2.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "abi/iommufd.h"
#include "abi/api.h"
#include "base/atomics.h"
#include "base/lifetime.h"
#include "core/core.h"

#define UIOPF_EVENT_CHUNK 4096u

struct uiopf_event_chunk {
	struct uiopf_event_chunk *next;
	uint32_t filled, read;		/* offsets into bytes */
	uint8_t bytes[];		/* struct uiopf_event, each at a multiple of 8 */
};

struct uiopf_event {
	uint32_t sequence;
	uint32_t length;
	uint8_t data[];
};

struct uiopf_eventq {
	struct uiopf_lifetime lifetime;
	struct uiopf_file file;
	struct uiopf_core *core;
	struct uiopf_queue queue;	/* in the core's list */
	uint32_t depth;
	void *(*allocate)(size_t size);	/* malloc; a test may put another in its place, before the first report */

	/* Adaptive, and no spin lock: in user space, whoever holds it may be descheduled. */
	UIOPF_LINE pthread_mutex_t lock;
	struct uiopf_event_chunk *first, *last, *spares;	/* under the lock, as all to the next line */
	uint32_t listed;		/* events in the list */
	uint32_t held;			/* the same, and the one that is being copied: what depth limits */
	bool lost_listed;		/* the list ends with the header of lost events */
	uint32_t lost_sequence;
	uint32_t sequence;		/* of the next report; 31 bits */
	struct uiopf_eventq_counts counts;

	UIOPF_LINE uint32_t published;	/* reports so far; written under the lock */

	/* The consumer's. */
	UIOPF_LINE uint32_t woken;	/* the value of `published` for which waits have been woken */
};
UIOPF_BEGINS_A_LINE(struct uiopf_eventq, lock);
UIOPF_BEGINS_A_LINE(struct uiopf_eventq, published);
UIOPF_BEGINS_A_LINE(struct uiopf_eventq, woken);
