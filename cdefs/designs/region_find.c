#include "designs/region_find.h"

#include <errno.h>
#include <string.h>

/* A region's info, asked for twice: without room for capabilities, and then with as much as the kernel said. */
static int look(const struct uiopf_fault_region *region, uint32_t n, struct region_info_full *full)
{
	int rc;

	memset(full, 0, sizeof *full);
	full->info = (struct region_info){ .argsz = sizeof full->info, .index = n };
	rc = uiopf_fault_region_info(region, &full->info);
	if (rc < 0)
		return rc;
	if (full->info.argsz > sizeof *full)
		full->info.argsz = sizeof *full;
	return uiopf_fault_region_info(region, &full->info);
}

/* The capability with this id, of at least so many bytes; NULL. The chain is the kernel's; it is not trusted to end. */
static const void *find_cap(const struct region_info_full *full, uint32_t id, uint32_t bytes)
{
	uint32_t at = full->info.flags & REGION_CAPS ? full->info.cap_offset : 0, i;

	for (i = 0; i < 8 && at && at <= sizeof *full - bytes; i++) {
		const struct region_cap *cap = (const void *)((const uint8_t *)full + at);

		if (cap->id == id)
			return cap;
		at = cap->next;
	}
	return NULL;
}

/* Which region has this type and subtype: 0, or -ENODEV. */
static int find_region(const struct uiopf_fault_region *region, uint32_t subtype, struct region_info_full *full)
{
	uint32_t n;

	for (n = 0; look(region, n, full) == 0; n++) {
		const struct { struct region_cap cap; uint32_t type, subtype; } *type =
			find_cap(full, REGION_CAP_TYPE, sizeof *type);

		if (type && type->type == REGION_TYPE_NESTED && type->subtype == subtype)
			return 0;
	}
	return -ENODEV;
}

static int check(const struct region_info_full *full, uint32_t cap_id, uint32_t access)
{
	const struct { struct region_cap cap; uint32_t version; } *fault = find_cap(full, cap_id, sizeof *fault);

	if (!fault)
		return -EPROTO;
	if (fault->version != 1)
		return -EOPNOTSUPP;
	return (full->info.flags & access) == access ? 0 : -EACCES;
}

/* The three words that every header has; `at` of the size, which the number follows or, in v8, goes before. */
static int read_sizes(struct uiopf_fault_region *region, enum region_abi abi, uint32_t n, uint32_t *size, uint32_t *entries)
{
	uint32_t word[5];
	int rc = uiopf_fault_region_read(region, n, word, sizeof word, 0);

	if (rc < 0)
		return rc;
	*size = word[abi == REGION_V8 ? 2 : 1];
	*entries = word[abi == REGION_V8 ? 1 : 2];
	return *entries && word[3] == REGION_PAGE ? 0 : -EPROTO;
}

int uiopf_region_find(struct uiopf_fault_region *region, enum region_abi abi, struct uiopf_region_found *found)
{
	struct region_info_full first, second;
	const uint32_t version = 1;
	int rc;

	memset(found, 0, sizeof *found);
	rc = find_region(region, REGION_FIRST, &first);
	if (rc == 0)
		rc = check(&first, REGION_CAP_FAULT, REGION_READ | REGION_MMAP | (abi == REGION_V8 ? 0 : REGION_WRITE));
	if (rc < 0)
		return rc;
	found->faults = found->control = first.info.index;
	if (abi != REGION_V9) {
		const uint32_t id = abi == REGION_V8 ? REGION_CAP_FAULT : REGION_CAP_FAULT_RESPONSE;

		rc = find_region(region, REGION_SECOND, &second);
		if (rc == 0)
			rc = check(&second, id, REGION_WRITE | (abi == REGION_V8 ? 0 : REGION_READ | REGION_MMAP));
		if (rc < 0)
			return rc;
	}
	if (abi == REGION_V8) {
		found->control = second.info.index;
		rc = uiopf_fault_region_write(region, found->control, &version, sizeof version,
					      offsetof(struct region_v8_cons, version));
		if (rc < 0)
			return rc == -EINVAL ? -EOPNOTSUPP : rc;
	}
	rc = read_sizes(region, abi, found->faults, &found->entry_size, &found->entries);
	if (rc == 0 && abi == REGION_V11) {
		found->answers = second.info.index;
		rc = read_sizes(region, abi, found->answers, &found->answer_size, &found->answer_entries);
	}
	if (rc == 0 && (found->entry_size != sizeof(struct region_fault) ||
			(abi == REGION_V11 && found->answer_size != REGION_RESPONSE_SHORT &&
			 found->answer_size != sizeof(struct region_response))))
		rc = -EOPNOTSUPP;
	return rc;
}
