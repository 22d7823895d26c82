/*
 * A PCI function with page requests (PRI), as software configures it. What runs once per fault is in endpoint_path.h.
 *
 * The function has so many credits (Outstanding Page Request Allocation, counted in requests, that is pages), which it
 * shares with its virtual functions, and 512 group indices of its own. A group of pages is sent as requests of which
 * the last carries the flag; its answer gives the credits back. Success: every access is translated again, by walking
 * the client's tables. Invalid: the accesses have failed. Anything else is a Response Failure, and PRI stops (pri.h).
 *
 * Every request that was sent is in one of these: succeeded + unmapped + retried + invalid + failed + cleared +
 * outstanding.
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
#include "hardware/pri.h"
#include "hardware/request.h"
#include "hardware/tables/translator.h"
#include "hardware/walk.h"

struct uiopf_endpoint;

struct uiopf_port;

/* What an IOMMU model is told beside page requests; all of it quiescent. */
struct uiopf_port_ops {
	void (*plug)(struct uiopf_port *port, struct uiopf_endpoint *endpoint);		/* it is there from now on */
	void (*forget)(struct uiopf_port *port, const struct uiopf_endpoint *endpoint);	/* one of them goes */
	void (*request)(struct uiopf_port *port, struct uiopf_page_request request);	/* a request that was made by hand */
};

/* Where functions are plugged in: an IOMMU model has one, and gives the functions behind it their turns. */
struct uiopf_port {
	struct uiopf_endpoint *endpoints;	/* newest first */
	struct uiopf_lifetime *lifetime;	/* the IOMMU's; they hold it */
	const struct uiopf_port_ops *ops;
	bool stalls;			/* functions without PRI may be plugged in, whose transactions wait in the IOMMU */
	bool only_stalls;		/* … and no others: a device, which reports its faults itself */
	bool one_fault;			/* … one at a time: an operation ends at its first page that is not there */
	uint32_t private_bits;		/* of data that a request carries and its answer brings back; 0: none */
	bool streams;			/* requests may ask for an answer of their own that names the page */
	uint32_t prefix;		/* UIOPF_PREFIX: what functions may ask for in the PASID prefix */
};

/* Of IOMMU_PGFAULT_PERM_*: what a page request has not in its message, but in the PASID prefix. */
#define UIOPF_PREFIX (uint32_t)(IOMMU_PGFAULT_PERM_EXEC | IOMMU_PGFAULT_PERM_PRIV)

#define UIOPF_MANUAL 1024u
#define UIOPF_MOST_RETRIES 31u
#define UIOPF_MOST_STOPPED 64u
#define UIOPF_ANSWERS 1024u
#define UIOPF_STALL_TERMINATED 0x10u	/* no code of PCIe's: a transaction that stalls ends, reads zeros and writes nothing */

/* What a group is of: the load, an access by hand, or requests that were made by hand. */
enum uiopf_prg_kind { UIOPF_PRG_LOAD, UIOPF_PRG_MANUAL, UIOPF_PRG_RAW };

struct uiopf_endpoint {
	struct uiopf_core *core;
	struct uiopf_port *port;
	struct uiopf_endpoint *next;	/* behind the same port */
	struct uiopf_tables tables;
	struct uiopf_space *space;	/* whose they are; held */
	struct uiopf_walk_cache walked;
	struct uiopf_pri *pri;
	uint16_t requester_id;
	bool virtual;			/* the capability is its physical function's */
	uint8_t retries;		/* how often a page that is still not there is asked for again */
	/*
	 * A function without PRI, whose transactions stall in the IOMMU: the places that there are for them, which are its
	 * credits; 0: it has PRI. A group is one transaction, and its index is the stall tag.
	 */
	uint16_t stalls;
	uint8_t stage;			/* whose tables have no page: 1 or 2; 0: its translator says */
	bool apart;			/* it asks again, has a translator, or fetches: its answers take the longer way */
	uint8_t rows_need;		/* what the rows of its load need, all together */
	uint16_t prefetch;		/* pages behind each that it would like to have; only such a device can say so */
	uint32_t access_most;		/* pages of an access by hand: those of a group, or of an operation with one fault at a time */

	/*
	 * What is private to the function, and comes back with a group's answer, by index. NULL: the IOMMU carries no such
	 * thing. Of the load and of accesses a group's last request has some, where that is switched on.
	 */
	struct uiopf_private_data *private_data;
	bool sends_private;
	bool streams;			/* … and it is no group, but a request of a stream: its groups have one page */
	uint64_t private_serial, private_mask[2];	/* the bits that there are */

	/* Outstanding groups. */
	uint32_t outstanding, group_most;	/* requests without an answer; pages of one group */
	uint16_t free_index[PCIE_PRI_PRGI_COUNT];
	uint32_t free_first, free_indices;	/* a ring: the index that has been free longest is used first */
	struct uiopf_prg {
		uint64_t intended_ns;
		const uint64_t *leaf;	/* the first page's entry, once an answer is on its way */
		uint64_t page;		/* the first page: address, and what the access needs (IOMMU_PGFAULT_PERM_*) */
		uint32_t pasid;
		uint16_t pages;
		bool outstanding;
		uint8_t kind : 2, complete : 1;	/* enum uiopf_prg_kind; RAW: its last request has been sent */
		uint8_t tries : 5;	/* how often its pages had been asked for before, in vain */
	} prg[PCIE_PRI_PRGI_COUNT];	/* 32 bytes each: all of them are in use in turn */
	uint16_t manual_of[PCIE_PRI_PRGI_COUNT];	/* which access a group by hand is */
	uint64_t *page;			/* group_most for each index; the first is unused, or a stalled transaction's address */

	/* Accesses made one by one, by a test or a program that plays the device. */
	struct uiopf_manual {
		uint64_t address;
		uint32_t pasid, access, pages, result;
		bool sent;		/* or needed nothing */
	} manual[UIOPF_MANUAL];
	uint32_t manual_head, manual_tail, manual_ended;	/* head: the first that has not been sent */
	int access_eventfd;		/* told of each that ends; -1: none */
	bool finished;			/* no more of them will come */

	/* Answers to requests that were made by hand, and to none. */
	struct uiopf_prg_answer answer[UIOPF_ANSWERS];
	uint32_t answer_head, answer_tail;

	/* PASIDs that have been stopped: nothing is asked for under them. */
	uint32_t stopped_pasid[UIOPF_MOST_STOPPED], stopped_pasids;

	struct uiopf_endpoint_counts counts;
	struct uiopf_loader load;

	/* In place of `tables`: its own TLB, and the translator behind it. NULL: none. A load is then not plain. */
	struct uiopf_device_tlb *tlb;
	struct uiopf_translation ended;	/* the last translation that found no way */
	uint8_t told_stage;		/* `stage` without a translator */
};

/* Producer: whether an access to a page goes through now; by its translator, which it has. */
bool uiopf_endpoint_translates(struct uiopf_endpoint *ep, uint32_t pasid, uint64_t address, uint32_t access);
/* … or by its flat tables, if it has none. */
hot_inline bool uiopf_endpoint_reaches(struct uiopf_endpoint *ep, uint32_t pasid, uint64_t address, uint32_t access)
{
	return uiopf_walk(&ep->tables, pasid, address, access) ||
	       (unlikely(ep->tlb != NULL) && uiopf_endpoint_translates(ep, pasid, address, access));
}

/* Producer: an access by hand has ended. */
void uiopf_endpoint_accessed(struct uiopf_endpoint *ep, uint32_t at, uint32_t result);

/* The group is at an end: its credits and its index are free. */
hot_inline void uiopf_prg_close(struct uiopf_endpoint *ep, struct uiopf_prg *prg)
{
	prg->outstanding = false;
	ep->pri->used -= prg->pages;
	ep->outstanding -= prg->pages;
	ep->free_index[(ep->free_first + ep->free_indices++) % PCIE_PRI_PRGI_COUNT] = (uint16_t)(prg - ep->prg);
}

/* Whether nothing is asked for under this PASID. */
bool uiopf_endpoint_is_stopped(const struct uiopf_endpoint *ep, uint32_t pasid);
/* Quiescent, or the producer: a group that will get no answer is at its end. */
void uiopf_endpoint_forget_group(struct uiopf_endpoint *ep, uint32_t index);
/* Producer: an answer to a group that is no part of the load; and one that is kept until it is taken. */
void uiopf_endpoint_answered_by_hand(struct uiopf_endpoint *ep, enum uiopf_prg_kind kind, uint32_t index, uint32_t code,
				     uint32_t result);
void uiopf_endpoint_log_answer(struct uiopf_endpoint *ep, uint32_t index, uint32_t code);

/*
 * What an access needs of its page: IOMMU_PGFAULT_PERM_*; 0 where it is none. The function asks for this, as far as its
 * IOMMU's requests have a place for it (uiopf_port.prefix), and the page must allow all of it.
 */
uint32_t uiopf_endpoint_needs(const struct uiopf_endpoint *ep, uint32_t access);

/* Producer: what is private to the function goes into a request of the load or of an access, and is remembered. */
hot_inline void uiopf_endpoint_add_private(struct uiopf_endpoint *ep, struct uiopf_page_request *request)
{
	struct uiopf_private_data *data = &ep->private_data[request->message >> PCIE_PRI_PRGI_SHIFT & 0x1ff];

	data->there = ep->sends_private && request->message & PCIE_PRI_LAST;
	data->streams = request->private_data.streams = ep->streams;
	if (unlikely(ep->streams)) {
		data->page = request->message & PCIE_PRI_ADDRESS;
		request->message &= ~(uint64_t)PCIE_PRI_LAST;	/* it would be answered as a group */
	}
	if (!data->there)
		return;
	/* No two in a row are the same, in whatever bits there are: an answer that brings back another's does not fit. */
	ep->private_serial++;
	data->word[0] = ep->private_serial * 0x9e3779b97f4a7c15 & ep->private_mask[0];
	data->word[1] = ~ep->private_serial & ep->private_mask[1];
	request->private_data.there = true;
	request->private_data.word[0] = data->word[0];
	request->private_data.word[1] = data->word[1];
}

/* Producer: whether an answer brings back what the outstanding group of this index had. One without has none. */
hot_inline bool uiopf_endpoint_knows(const struct uiopf_endpoint *ep, uint32_t index,
				     const struct uiopf_private_data *data)
{
	const struct uiopf_private_data *own = &ep->private_data[index];

	if (unlikely(!ep->prg[index].outstanding))
		return true;		/* there is another reason that it is not expected */
	return (own->there ? data->there && own->word[0] == data->word[0] && own->word[1] == data->word[1] : true) &&
	       own->streams == data->streams && (!own->streams || own->page == data->page);
}
