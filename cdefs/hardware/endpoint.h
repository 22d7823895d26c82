/*
 * A PCI function with page requests (PRI), and what makes it fault: a load.
 *
 * The function has so many credits (Outstanding Page Request Allocation, counted in requests, that is pages) and 512
 * group indices. A group of pages is sent as requests of which the last carries the flag; its answer gives the credits
 * back. Success: every access is translated again, by walking the client's tables. Invalid: the accesses have failed.
 * Anything else is a Response Failure, and PRI stops.
 *
 * Belongs to the producer side; configured at the quiescent point. Source: PCIe Page Request Services; Linux
 * drivers/pci/ats.c.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "abi/hardware.h"
#include "core/core.h"
#include "hardware/histogram.h"
#include "hardware/walk.h"

struct uiopf_vtd;

#define UIOPF_MANUAL 1024u

struct uiopf_endpoint {
	struct uiopf_core *core;
	struct uiopf_vtd *iommu;
	struct uiopf_endpoint *next;
	struct uiopf_tables tables;
	struct uiopf_walk_cache walked;
	uint16_t requester_id;
	uint64_t source;		/* what its requests begin with */

	/* The PRI capability. */
	uint32_t capacity, allocation;
	uint16_t control, status;

	/* Outstanding groups. */
	uint32_t credits_used, outstanding, group_most;
	uint16_t free_index[PCIE_PRI_PRGI_COUNT];
	uint32_t free_first, free_indices;	/* a ring: the index that has been free longest is used first */
	struct uiopf_prg {
		uint64_t intended_ns;
		const uint64_t *leaf;	/* the first page's entry, once an answer is on its way */
		uint64_t page;		/* the first page: address, and PCIE_PRI_READ and _WRITE */
		uint32_t pasid;
		uint16_t pages;
		bool outstanding, by_hand;
	} prg[PCIE_PRI_PRGI_COUNT];	/* 32 bytes each: all of them are in use in turn */
	uint16_t manual_of[PCIE_PRI_PRGI_COUNT];	/* which access a group by hand is */
	uint64_t *page;			/* group_most for each index; the first is unused */

	/* The load. */
	struct uiopf_load load;
	struct uiopf_access *row;
	uint64_t rows, cursor, random;
	uint64_t start_ns;
	double due;			/* the next Poisson arrival, in ns after the start */
	bool active;
	bool plain;			/* no times, no groups: what most loads are */
	int done_eventfd;		/* signalled at the end of a pass; -1 */

	/* Accesses made one by one, by a test or a program that plays the device. */
	struct uiopf_manual {
		uint64_t address;
		uint32_t pasid, access, pages, result;
	} manual[UIOPF_MANUAL];
	uint32_t manual_head, manual_tail;

	struct uiopf_endpoint_counts counts;
	struct uiopf_histogram latency;

	UIOPF_LINE uint32_t passes;	/* finished; others spin on it, and must not slow down what is above */
};

/* Sends what is due; how many groups. */
uint32_t uiopf_endpoint_step(struct uiopf_endpoint *endpoint);
/* A PRG Response has arrived, at this time. */
void uiopf_endpoint_response(struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code, uint64_t now);
/*
 * … or is about to: begins the translation that will be tried again, down to the last table. (What the client stored
 * before it answered is there already; what it changes meanwhile may be seen or not, as with any walk.)
 */
void uiopf_endpoint_prepare(struct uiopf_endpoint *endpoint, uint32_t index);
