#include "hardware/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "abi/api.h"
#include "abi/iommufd.h"
#include "base/memory.h"

#define RIGHTS (IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE | IOMMU_PGFAULT_PERM_EXEC)
#define PAGE_OF(address) ((address) & ~(uint64_t)(UIOPF_PAGE - 1))

static int begin(struct uiopf_guest *guest)
{
	uint32_t i;
	int rc = 0;

	guest->next = 0;
	for (i = 0; i < guest->pasids && rc == 0; i++)
		rc = uiopf_pagetables_begin(guest->tables, guest->pasid[i]);
	return rc;
}

struct uiopf_guest *uiopf_guest_new(struct uiopf_pagetables *tables, uint64_t frames, const uint32_t *pasid,
				    uint32_t pasids)
{
	struct uiopf_guest *guest = calloc(1, sizeof *guest);

	if (!guest)
		return NULL;
	uiopf_hold(&tables->lifetime);
	*guest = (struct uiopf_guest){ .tables = tables, .frames = frames, .pasids = pasids };
	guest->pasid = calloc(pasids ? pasids : 1, sizeof *guest->pasid);
	if (guest->pasid && pasids)
		memcpy(guest->pasid, pasid, pasids * sizeof *pasid);
	if (!guest->pasid || begin(guest) < 0) {
		uiopf_guest_free(guest);
		return NULL;
	}
	return guest;
}

void uiopf_guest_free(struct uiopf_guest *guest)
{
	if (!guest)
		return;
	uiopf_pagetables_free(guest->tables);
	free(guest->pasid);
	free(guest);
}

void uiopf_guest_reset(struct uiopf_guest *guest)
{
	uiopf_pagetables_clear(guest->tables);
	begin(guest);		/* there was room for them before */
}

int uiopf_guest_map(struct uiopf_guest *guest, uint32_t pasid, uint64_t address, uint32_t perm)
{
	const uint64_t page = PAGE_OF(address);
	struct uiopf_mapping there;
	int rc = uiopf_pagetables_look(guest->tables, pasid, page, &there);

	perm &= RIGHTS;
	if (rc == -ENOENT) {
		if (guest->next == guest->frames)
			return -ENOMEM;
		rc = uiopf_pagetables_map(guest->tables, pasid, page, guest->next * UIOPF_PAGE, 1, perm);
		guest->next += rc == 0;
		return rc;
	}
	if (rc < 0)
		return rc;
	if (!(perm & ~there.rights))
		return 0;
	if (rc > 1)
		return -EEXIST;		/* a large page, which is not its own */
	/* More rights for the same frame. Nothing that hardware keeps has to go: it looks again where a right is missing. */
	rc = uiopf_pagetables_unmap(guest->tables, pasid, page);
	if (rc < 0)
		return rc;
	return uiopf_pagetables_map(guest->tables, pasid, page, PAGE_OF(there.to + (page - there.address)), 1,
				    perm | (there.rights & RIGHTS));
}

int uiopf_guest_unmap(struct uiopf_guest *guest, uint32_t pasid, uint64_t address)
{
	const int rc = uiopf_pagetables_unmap(guest->tables, pasid, PAGE_OF(address));

	return rc < 0 && rc != -ENOENT ? rc : 0;	/* its frame stays in use */
}

bool uiopf_guest_allows(struct uiopf_guest *guest, uint32_t pasid, uint64_t address, uint32_t perm)
{
	struct uiopf_mapping there;

	return uiopf_pagetables_look(guest->tables, pasid, PAGE_OF(address), &there) >= 0 && !(perm & RIGHTS & ~there.rights);
}
