#include "hardware/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * What the function asks for, and tries again with: a page's address with PCIE_PRI_READ and _WRITE. It has no execute
 * permission: Linux' VT-d driver refuses execute requests that also read, and takes those that do not for stop
 * markers. So an instruction fetch asks to read.
 */
uint64_t uiopf_endpoint_page(uint64_t address, uint32_t access)
{
	uint64_t page = address & PCIE_PRI_ADDRESS;

	if (access & (IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_EXEC))
		page |= PCIE_PRI_READ;
	if (access & IOMMU_PGFAULT_PERM_WRITE)
		page |= PCIE_PRI_WRITE;
	return page;
}

struct uiopf_endpoint *uiopf_endpoint_new(struct uiopf_core *core, struct uiopf_port *port, uint16_t requester_id,
					  uint32_t capacity, uint32_t group_most)
{
	struct uiopf_endpoint *ep = aligned_alloc(128, sizeof *ep);
	uint32_t i;

	if (!ep)
		return NULL;
	memset(ep, 0, sizeof *ep);
	ep->page = calloc((size_t)PCIE_PRI_PRGI_COUNT * group_most, sizeof *ep->page);
	if (!ep->page) {
		free(ep);
		return NULL;
	}
	ep->core = core;
	ep->port = port;
	ep->requester_id = requester_id;
	ep->capacity = capacity;
	uiopf_load_init(&ep->load, core);
	ep->status = PCIE_PRI_STATUS_STOPPED;
	ep->group_most = group_most;
	ep->access_eventfd = -1;
	for (i = 0; i < PCIE_PRI_PRGI_COUNT; i++)
		ep->free_index[i] = (uint16_t)i;
	ep->free_indices = PCIE_PRI_PRGI_COUNT;
	uiopf_control_begin(core);
	ep->next = port->endpoints;
	port->endpoints = ep;
	uiopf_hold(&core->lifetime);
	uiopf_hold(port->lifetime);
	uiopf_control_end(core);
	return ep;
}

static void close_all(const int *fd, uint32_t n)
{
	while (n)
		close(fd[--n]);
}

void uiopf_endpoint_free(struct uiopf_endpoint *ep)
{
	struct uiopf_core *core = ep ? ep->core : NULL;
	struct uiopf_endpoint **link;

	if (!ep || core->torn)
		return;
	if (!core->abandoned) {
		uiopf_control_begin(core);
		for (link = &ep->port->endpoints; *link != ep; link = &(*link)->next)
			;
		*link = ep->next;
		ep->port->forget(ep->port, ep);
		uiopf_control_end(core);
	}
	uiopf_let_go(ep->port->lifetime);
	uiopf_space_free(ep->space);
	close_all(ep->load.done_eventfd, ep->load.done_eventfds);
	if (ep->access_eventfd >= 0)
		close(ep->access_eventfd);
	free(ep->load.done_eventfd);
	free(ep->load.row);
	free(ep->page);
	free(ep);
	uiopf_let_go(&core->lifetime);
}

void uiopf_endpoint_set_tables(struct uiopf_endpoint *ep, struct uiopf_space *space)
{
	struct uiopf_space *before;

	uiopf_control_begin(ep->core);
	before = ep->space;
	ep->space = space;
	if (space)
		uiopf_hold(&space->lifetime);
	if (space)
		ep->tables = (struct uiopf_tables){ space->region.map, space->region.size, space->pasids,
						       &space->resets };
	else
		memset(&ep->tables, 0, sizeof ep->tables);
	memset(&ep->walked, 0, sizeof ep->walked);
	uiopf_control_end(ep->core);
	uiopf_space_free(before);
}

/* Pages of the largest group that is still to be sent. */
static uint32_t largest_group(const struct uiopf_endpoint *ep)
{
	uint32_t most = ep->load.active && ep->load.cursor < ep->load.rows ? ep->load.config.group : 0, i;

	for (i = ep->manual_head; i != ep->manual_tail; i++)
		if (ep->manual[i % UIOPF_MANUAL].pages > most)
			most = ep->manual[i % UIOPF_MANUAL].pages;
	return most;
}

/* Whether a group of so many pages can ever be sent: it would wait for more credits than there are, and say nothing. */
static bool has_credits(const struct uiopf_endpoint *ep, uint32_t pages)
{
	return pages <= (ep->control & PCIE_PRI_CTRL_ENABLE ? ep->allocation : ep->capacity);
}

int uiopf_endpoint_enable_pri(struct uiopf_endpoint *ep, uint32_t allocation)
{
	int rc = 0;

	if (allocation > ep->capacity)
		allocation = ep->capacity;
	uiopf_control_begin(ep->core);
	if (!(ep->status & PCIE_PRI_STATUS_STOPPED)) {
		rc = -EBUSY;
	} else if (largest_group(ep) > allocation) {
		rc = -ENOSPC;
	} else {
		ep->allocation = allocation;
		ep->control = PCIE_PRI_CTRL_ENABLE;
		ep->status &= (uint16_t)~PCIE_PRI_STATUS_STOPPED;
	}
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
	return rc;
}

void uiopf_endpoint_disable_pri(struct uiopf_endpoint *ep)
{
	uiopf_control_begin(ep->core);
	ep->control = 0;
	/* What was sent still needs its answers; the function reports Stopped when the last has come. Ours does at once. */
	ep->status |= PCIE_PRI_STATUS_STOPPED;
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);	/* a pass may be over */
}

int uiopf_endpoint_reset_pri(struct uiopf_endpoint *ep)
{
	int rc = 0;

	uiopf_control_begin(ep->core);
	if (ep->control & PCIE_PRI_CTRL_ENABLE)
		rc = -EBUSY;
	else
		ep->status = PCIE_PRI_STATUS_STOPPED;
	uiopf_control_end(ep->core);
	return rc;
}

int uiopf_endpoint_set_rows(struct uiopf_endpoint *ep, const struct uiopf_access *rows, uint64_t n)
{
	struct uiopf_access *copy = malloc((n + 1) * sizeof *copy);
	uint64_t i;
	int rc;

	if (!copy)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		copy[i] = rows[i];
		copy[i].access = (uint32_t)uiopf_endpoint_page(0, rows[i].access);
		/* With neither, a request is a stop marker, which nobody answers; and a PASID has 20 bits. */
		if (!copy[i].access || copy[i].pasid >> 20) {
			free(copy);
			return -EINVAL;
		}
	}
	uiopf_control_begin(ep->core);
	rc = uiopf_load_set_rows(&ep->load, copy, n);
	uiopf_control_end(ep->core);
	if (rc < 0)
		free(copy);
	return rc;
}

int uiopf_endpoint_start(struct uiopf_endpoint *ep, const struct uiopf_load *load)
{
	int rc;

	if (load->group > ep->group_most)
		return -EINVAL;
	uiopf_control_begin(ep->core);
	rc = load->group && !ep->load.active && !has_credits(ep, load->group) ? -ENOSPC : uiopf_load_start(&ep->load, load);
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
	return rc;
}

void uiopf_endpoint_cancel(struct uiopf_endpoint *ep)
{
	uiopf_control_begin(ep->core);
	ep->load.cursor = ep->load.rows;
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
}

/* A descriptor of our own: the caller's number may be another file's, once the caller has closed it. */
static int set_eventfd(struct uiopf_endpoint *ep, int *eventfd, int fd)
{
	int before, own = -1;

	if (fd >= 0) {
		own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (own < 0)
			return -errno;
	}
	uiopf_control_begin(ep->core);
	before = *eventfd;
	*eventfd = own;
	uiopf_control_end(ep->core);
	if (before >= 0)
		close(before);
	return 0;
}

/* Puts a list with *fd* at its end, if it is one, in place of the list there is, or behind that. */
static int put_done_eventfd(struct uiopf_endpoint *ep, bool behind, int fd)
{
	int *list = NULL, *before, own = -1;
	uint32_t kept, had, n;

	if (fd >= 0) {
		own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (own < 0)
			return -errno;
	}
	uiopf_control_begin(ep->core);	/* another thread may be in here, too */
	before = ep->load.done_eventfd;
	had = ep->load.done_eventfds;
	kept = behind ? had : 0;
	n = kept + (own >= 0);
	if (n) {
		list = malloc(n * sizeof *list);
		if (!list) {
			uiopf_control_end(ep->core);
			close(own);
			return -ENOMEM;
		}
		if (kept)
			memcpy(list, before, kept * sizeof *list);
		if (own >= 0)
			list[kept] = own;
	}
	ep->load.done_eventfd = list;
	ep->load.done_eventfds = n;
	uiopf_control_end(ep->core);
	if (before)
		close_all(before + kept, had - kept);
	free(before);
	return 0;
}

int uiopf_endpoint_set_done_eventfd(struct uiopf_endpoint *ep, int fd)
{
	return put_done_eventfd(ep, false, fd);
}

int uiopf_endpoint_add_done_eventfd(struct uiopf_endpoint *ep, int fd)
{
	return fd < 0 ? -EBADF : put_done_eventfd(ep, true, fd);
}

int uiopf_endpoint_set_access_eventfd(struct uiopf_endpoint *ep, int fd)
{
	return set_eventfd(ep, &ep->access_eventfd, fd);
}

static bool all_accessed(const struct uiopf_endpoint *ep)
{
	return LOAD_ACQUIRE(&ep->manual_ended) == READ_ONCE(&ep->manual_tail);
}

/* The last access by hand has ended: whoever is told when the function is done may wait for that. */
static void tell_if_done(const struct uiopf_endpoint *ep)
{
	if (all_accessed(ep) && (ep->finished || (ep->load.passes && !ep->load.active)))
		uiopf_load_tell(&ep->load);
}

void uiopf_endpoint_accessed(struct uiopf_endpoint *ep, uint32_t at, uint32_t result)
{
	WRITE_ONCE(&ep->manual[at].result, result);
	STORE_RELEASE(&ep->manual_ended, ep->manual_ended + 1);	/* pairs with all_accessed() */
	if (ep->access_eventfd >= 0)
		eventfd_write(ep->access_eventfd, 1);
	tell_if_done(ep);
}

void uiopf_endpoint_finish(struct uiopf_endpoint *ep)
{
	uiopf_control_begin(ep->core);
	ep->finished = true;
	tell_if_done(ep);
	uiopf_control_end(ep->core);
}

int uiopf_endpoint_is_served(const struct uiopf_endpoint *ep, uint32_t passes)
{
	return (int32_t)(LOAD_ACQUIRE(&ep->load.passes) - passes) >= 0 && all_accessed(ep);
}

uint32_t uiopf_endpoint_passes(const struct uiopf_endpoint *ep)
{
	return LOAD_ACQUIRE(&ep->load.passes);
}

int uiopf_endpoint_wait(const struct uiopf_endpoint *ep, uint32_t passes, uint64_t timeout_ns)
{
	uint64_t deadline = uiopf_monotonic_ns() + timeout_ns;
	uint32_t looks = 0;

	while ((int32_t)(LOAD_ACQUIRE(&ep->load.passes) - passes) < 0) {
		cpu_relax();
		if (looks++ % 64 == 63) {
			if (uiopf_monotonic_ns() >= deadline)
				return 0;
			sched_yield();
		}
	}
	return 1;
}

int64_t uiopf_endpoint_access(struct uiopf_endpoint *ep, uint32_t pasid, uint64_t address, uint32_t access,
			      uint32_t pages)
{
	struct uiopf_manual *m;
	int64_t ticket = -EBUSY;

	if (!pages || pages > ep->group_most || !uiopf_endpoint_page(0, access) || pasid >> 20)
		return -EINVAL;
	uiopf_control_begin(ep->core);
	m = &ep->manual[ep->manual_tail % UIOPF_MANUAL];
	/* The slot's last access, 1,024 tickets ago, must have ended. */
	if (!has_credits(ep, pages))
		ticket = -ENOSPC;
	else if (ep->manual_tail < UIOPF_MANUAL || m->result != UIOPF_ACCESS_PENDING) {
		*m = (struct uiopf_manual){ address, pasid, access, pages, UIOPF_ACCESS_PENDING };
		ticket = ep->manual_tail++;
	}
	uiopf_control_end(ep->core);
	uiopf_core_made_work(ep->core);
	return ticket;
}

int uiopf_endpoint_result(const struct uiopf_endpoint *ep, int64_t ticket)
{
	const int64_t given = READ_ONCE(&ep->manual_tail);

	if (ticket < 0 || ticket >= given || given - ticket > UIOPF_MANUAL)
		return -ENOENT;
	return (int)READ_ONCE(&ep->manual[(uint32_t)ticket % UIOPF_MANUAL].result);
}

void uiopf_endpoint_get_counts(struct uiopf_endpoint *ep, struct uiopf_endpoint_counts *counts)
{
	uiopf_control_begin(ep->core);
	*counts = ep->counts;
	counts->outstanding = ep->credits_used;	/* not by looking at every group: that would take their lines from the worker */
	counts->busy_ns = ep->load.busy_ns;
	counts->pri_status = ep->status;
	counts->latency_max_ns = ep->load.latency.max;
	counts->latency_count = ep->load.latency.count;
	uiopf_control_end(ep->core);
}

uint64_t uiopf_endpoint_latency(struct uiopf_endpoint *ep, uint64_t millionths)
{
	uint64_t ns;

	uiopf_control_begin(ep->core);
	ns = uiopf_histogram_quantile(&ep->load.latency, millionths);
	uiopf_control_end(ep->core);
	return ns;
}
