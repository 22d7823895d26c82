/*
 * What makes a device fault: the rows of a workload, when each is due, and how long each took.
 *
 * It knows no protocol. A device that has room asks for what is due (uiopf_load_next), sends it in its own way, and says
 * when it has been answered (uiopf_load_ended). A pass over the rows ends when all have been sent and answered.
 *
 * Belongs to the producer side; configured at the quiescent point.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "abi/api.h"
#include "base/atomics.h"
#include "core/core.h"
#include "hardware/histogram.h"

struct uiopf_loader {
	struct uiopf_core *core;
	struct uiopf_load config;
	struct uiopf_access *row;	/* `access` is what the device made of it when the rows were set */
	uint64_t rows, cursor, random;
	uint64_t start_ns;
	double due;			/* the next Poisson arrival, in ns after the start */
	uint64_t busy_ns;		/* of all passes that have ended */
	uint32_t outstanding;		/* groups, also such as are no part of the load */
	bool active;
	bool plain;			/* no times, no groups: what most loads are */
	uint32_t done_eventfds;
	int *done_eventfd;		/* signalled at the end of a pass */
	struct uiopf_histogram latency;	/* from a group's intended time to its answer */

	UIOPF_LINE uint32_t passes;	/* ended; others spin on it, and must not slow down what is above */
};
UIOPF_BEGINS_A_LINE(struct uiopf_loader, passes);

/* Whether there is a row that may be outstanding besides those that are. */
hot_inline bool uiopf_load_wants(const struct uiopf_loader *load)
{
	return load->cursor < load->rows && load->outstanding < load->config.in_flight;
}

/* The next row of a plain load, which wants one. */
hot_inline const struct uiopf_access *uiopf_load_next_plain(struct uiopf_loader *load)
{
	const struct uiopf_access *row = &load->row[load->cursor++];

	__builtin_prefetch(row + 8);
	return row;
}

/* When the next row's time has come. Closed loops have no times: now. */
uint64_t uiopf_load_due(const struct uiopf_loader *load, uint64_t now);
/* The time of the next row, which the loader wants to send: false where that is not yet; the core is told when. */
bool uiopf_load_is_due(struct uiopf_loader *load, uint64_t now, uint64_t *when);
/* Takes a row for a group that has so many pages by now, of `most`; *last: the next one is not of this group. */
const struct uiopf_access *uiopf_load_next(struct uiopf_loader *load, uint64_t now, uint32_t pages, uint32_t most,
					   bool *last);

/* Passes over the next row, of which nothing is to be sent; the rows behind it come when they would have. */
void uiopf_load_pass_over(struct uiopf_loader *load);

/* A group that was due then has been answered now. */
hot_inline void uiopf_load_ended(struct uiopf_loader *load, uint64_t intended_ns, uint64_t now)
{
	uiopf_histogram_add(&load->latency, now - intended_ns);
	load->outstanding--;
}

/* Whether a pass ends here: nothing is outstanding, and there is no row left, or none that may be sent. */
hot_inline bool uiopf_load_is_over(const struct uiopf_loader *load, bool stopped)
{
	return !load->outstanding && (load->cursor == load->rows || stopped);
}

void uiopf_load_finish(struct uiopf_loader *load);
/* Producer: signals the eventfds of who waits for the end. */
void uiopf_load_tell(const struct uiopf_loader *load);

/* Quiescent. */
void uiopf_load_init(struct uiopf_loader *load, struct uiopf_core *core);
/* Takes over the rows, which it frees; -EBUSY while a pass is under way. */
int uiopf_load_set_rows(struct uiopf_loader *load, struct uiopf_access *rows, uint64_t n);
/* -EINVAL, it says nothing that can be done; -EBUSY. */
int uiopf_load_start(struct uiopf_loader *load, const struct uiopf_load *config);
