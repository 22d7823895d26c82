#include "hardware/tables/host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "abi/iommufd.h"
#include "base/memory.h"

#define RIGHTS (uint32_t)(IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE | IOMMU_PGFAULT_PERM_EXEC)

static void end(struct uiopf_lifetime *lifetime)
{
	struct uiopf_host *host = container_of(lifetime, struct uiopf_host, lifetime);

	uiopf_pagetables_free(host->tables);
	pthread_mutex_destroy(&host->lock);
	free(host->range);
	free(host->filled);
	free(host);
}

struct uiopf_host *uiopf_host_new(struct uiopf_pagetables *tables)
{
	struct uiopf_host *host = calloc(1, sizeof *host);

	if (!host)
		return NULL;
	host->lifetime = (struct uiopf_lifetime){ 1, end };
	pthread_mutex_init(&host->lock, NULL);
	uiopf_hold(&tables->lifetime);
	host->tables = tables;
	return host;
}

void uiopf_host_free(struct uiopf_host *host)
{
	if (host)
		uiopf_let_go(&host->lifetime);
}

int uiopf_host_set(struct uiopf_host *host, const struct uiopf_host_range *ranges, uint64_t n)
{
	struct uiopf_host_range *copy = calloc(n ? n : 1, sizeof *copy);
	uint64_t i;

	if (!copy)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		copy[i] = ranges[i];
		if (copy[i].last < copy[i].first || (i && copy[i].first <= copy[i - 1].last)) {
			free(copy);
			return -EINVAL;
		}
	}
	pthread_mutex_lock(&host->lock);
	free(host->range);
	host->range = copy;
	host->ranges = n;
	pthread_mutex_unlock(&host->lock);
	return 0;
}

/* The range that an address is in; NULL. */
static const struct uiopf_host_range *find(struct uiopf_host *host, uint64_t address)
{
	uint64_t low = 0, high = host->ranges;

	host->counts.lookups++;
	while (low < high) {
		const uint64_t middle = low + (high - low) / 2;

		if (host->range[middle].last < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < host->ranges && host->range[low].first <= address ? &host->range[low] : NULL;
}

/* A place for one more page that nobody has been told of. */
static bool has_room(struct uiopf_host *host)
{
	const uint64_t more = host->filled_capacity ? 2 * host->filled_capacity : 64;
	uint64_t *filled;

	if (host->filled_count < host->filled_capacity)
		return true;
	filled = reallocarray(host->filled, more, sizeof *filled);
	if (!filled)
		return false;
	host->filled = filled;
	host->filled_capacity = more;
	return true;
}

static int fill(struct uiopf_host *host, uint64_t address, uint32_t access)
{
	const uint64_t page = address & ~(uint64_t)(UIOPF_PAGE - 1);
	const struct uiopf_host_range *range = find(host, page);
	struct uiopf_mapping mapping;
	uint64_t to;
	int rc;

	if (!range || page + (UIOPF_PAGE - 1) > range->last || page + (UIOPF_PAGE - 1) < page)
		return -ENOENT;
	if (access & ~(range->perm | IOMMU_PGFAULT_PERM_PRIV))
		return -EACCES;
	to = range->to + (page - range->first);
	if (to % UIOPF_PAGE)
		return -ENOENT;		/* the mapping has no whole page there */
	if (uiopf_pagetables_look(host->tables, 0, page, &mapping) > -1)
		return access & ~mapping.rights & RIGHTS ? -EACCES : 0;		/* somebody else has mapped it for less */
	if (!has_room(host))
		return -ENOMEM;
	rc = uiopf_pagetables_map(host->tables, 0, page, to, 1, range->perm);
	if (rc < 0)
		return rc;
	host->filled[host->filled_count++] = page;
	host->counts.filled++;
	return 1;
}

int uiopf_host_fill(struct uiopf_host *host, uint64_t address, uint32_t access)
{
	int rc;

	pthread_mutex_lock(&host->lock);
	rc = fill(host, address, access);
	pthread_mutex_unlock(&host->lock);
	return rc;
}

uint64_t uiopf_host_take_filled(struct uiopf_host *host, uint64_t *pages, uint64_t most)
{
	uint64_t n;

	pthread_mutex_lock(&host->lock);
	n = host->filled_count < most ? host->filled_count : most;
	host->filled_count -= n;
	if (n)
		memcpy(pages, host->filled + host->filled_count, n * sizeof *pages);
	pthread_mutex_unlock(&host->lock);
	return n;
}

void uiopf_host_clear(struct uiopf_host *host)
{
	pthread_mutex_lock(&host->lock);
	uiopf_pagetables_clear(host->tables);
	host->filled_count = 0;
	pthread_mutex_unlock(&host->lock);
}

void uiopf_host_get_counts(struct uiopf_host *host, struct uiopf_host_counts *counts)
{
	pthread_mutex_lock(&host->lock);
	*counts = host->counts;
	pthread_mutex_unlock(&host->lock);
}
