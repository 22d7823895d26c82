/*
 * A PCI function with page requests (PRI), as software configures it. What runs once per fault is in endpoint_path.h.
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
#include "hardware/load.h"
#include "hardware/walk.h"

struct uiopf_endpoint;

/* Where functions are plugged in: an IOMMU model has one, and gives the functions behind it their turns. */
struct uiopf_port {
	struct uiopf_endpoint *endpoints;	/* newest first */
	struct uiopf_lifetime *lifetime;	/* the IOMMU's; they hold it */
	/* Quiescent: one of them goes. */
	void (*forget)(struct uiopf_port *port, const struct uiopf_endpoint *endpoint);
};

#define UIOPF_MANUAL 1024u

struct uiopf_endpoint {
	struct uiopf_core *core;
	struct uiopf_port *port;
	struct uiopf_endpoint *next;	/* behind the same port */
	struct uiopf_tables tables;
	struct uiopf_space *space;	/* whose they are; held */
	struct uiopf_walk_cache walked;
	uint16_t requester_id;

	/* The PRI capability. */
	uint32_t capacity, allocation;
	uint16_t control, status;

	/* Outstanding groups. */
	uint32_t credits_used, group_most;
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

	/* Accesses made one by one, by a test or a program that plays the device. */
	struct uiopf_manual {
		uint64_t address;
		uint32_t pasid, access, pages, result;
	} manual[UIOPF_MANUAL];
	uint32_t manual_head, manual_tail, manual_ended;
	int access_eventfd;		/* told of each that ends; -1: none */
	bool finished;			/* no more of them will come */

	struct uiopf_endpoint_counts counts;
	struct uiopf_loader load;
};

/* Producer: an access by hand has ended. */
void uiopf_endpoint_accessed(struct uiopf_endpoint *ep, uint32_t at, uint32_t result);

/* What the function asks for: a page's address with PCIE_PRI_READ and _WRITE; 0 where it would ask for nothing. */
uint64_t uiopf_endpoint_page(uint64_t address, uint32_t access);
