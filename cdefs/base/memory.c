#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int uiopf_region_open(struct uiopf_region *region, const char *name, uint64_t size)
{
	int error;

	region->map = MAP_FAILED;
	region->size = (size + UIOPF_PAGE - 1) & ~(uint64_t)(UIOPF_PAGE - 1);
	region->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (region->fd < 0)
		return -errno;
	/* fallocate both sets the size and takes the pages, so that running out of memory is an error here and now. */
	if (fallocate(region->fd, 0, 0, (off_t)region->size) < 0)
		goto failed;
	if (fcntl(region->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto failed;
	region->map = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, region->fd, 0);
	if (region->map == MAP_FAILED)
		goto failed;
	return 0;
failed:
	error = errno;
	close(region->fd);
	region->fd = -1;
	region->map = NULL;
	return -error;
}

int uiopf_region_open_sparse(struct uiopf_region *region, const char *name, uint64_t size,
			     const struct uiopf_part *parts, uint32_t n)
{
	uint32_t i;
	int error;

	region->size = (size + UIOPF_PAGE - 1) & ~(uint64_t)(UIOPF_PAGE - 1);
	/* Addresses are kept for all of it, so that an offset in the file is one from the map. */
	region->map = mmap(NULL, region->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (region->map == MAP_FAILED) {
		region->map = NULL;
		region->fd = -1;
		return -errno;
	}
	region->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (region->fd < 0 || ftruncate(region->fd, (off_t)region->size) < 0)
		goto failed;
	for (i = 0; i < n; i++) {
		if (fallocate(region->fd, 0, (off_t)parts[i].offset, (off_t)parts[i].length) < 0)
			goto failed;
		if (mmap(region->map + parts[i].offset, parts[i].length, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, region->fd, (off_t)parts[i].offset) == MAP_FAILED)
			goto failed;
	}
	if (fcntl(region->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return 0;
failed:
	error = errno;
	uiopf_region_close(region);
	return -error;
}

void uiopf_region_close(struct uiopf_region *region)
{
	if (region->map)
		munmap(region->map, region->size);
	if (region->fd >= 0)
		close(region->fd);
	region->map = NULL;
	region->fd = -1;
}

void *uiopf_region_map_again(const struct uiopf_region *region)
{
	void *map = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, region->fd, 0);

	return map == MAP_FAILED ? NULL : map;
}

int uiopf_windows_add(struct uiopf_windows *windows, uint64_t address, uint64_t length, uint8_t *map)
{
	if (length > UIOPF_USER_END || address > UIOPF_USER_END - length)
		return -EINVAL;
	if (windows->count == UIOPF_WINDOWS)
		return -ENOSPC;
	windows->window[windows->count++] = (struct uiopf_window){ address, length, map };
	return 0;
}

uint8_t *uiopf_windows_find_other(const struct uiopf_windows *windows, uint64_t address, uint64_t length)
{
	uint32_t i;

	for (i = 1; i < windows->count; i++) {
		const struct uiopf_window *w = &windows->window[i];
		uint64_t offset = address - w->address;

		if (offset <= w->length && length <= w->length - offset)
			return w->map + offset;
	}
	return NULL;
}

uint64_t uiopf_windows_reach(const struct uiopf_windows *windows, uint64_t address, uint64_t length)
{
	uint32_t i;

	for (i = 0; i < windows->count; i++) {
		const struct uiopf_window *w = &windows->window[i];
		uint64_t offset = address - w->address;

		if (offset < w->length)
			return length < w->length - offset ? length : w->length - offset;
	}
	return 0;
}

/* ---- in pieces ---- */

uint64_t uiopf_pieces_total(const struct iovec *piece, uint32_t count)
{
	uint64_t total = 0;
	uint32_t i;

	for (i = 0; i < count; i++)
		total += piece[i].iov_len;
	return total;
}

bool uiopf_pieces_have(const struct uiopf_pieces *pieces, uint64_t length)
{
	uint64_t there = 0;
	uint32_t i;

	for (i = 0; i < pieces->count && there < length + pieces->used; i++) {
		if (!pieces->piece[i].iov_base)
			return false;
		there += pieces->piece[i].iov_len;
	}
	return there >= length + pieces->used;
}

/* What is left of the first piece, so much at most, which is used with that. */
static uint8_t *next_part(struct uiopf_pieces *pieces, uint64_t most, uint64_t *length)
{
	const struct iovec *first = pieces->piece;
	uint8_t *at = (uint8_t *)first->iov_base + pieces->used;

	*length = first->iov_len - pieces->used;
	if (*length > most) {
		*length = most;
		pieces->used += most;
	} else {
		pieces->piece++;
		pieces->count--;
		pieces->used = 0;
	}
	return at;
}

void uiopf_copy_to_pieces(struct uiopf_pieces *pieces, const void *from, uint64_t length)
{
	const uint8_t *bytes = from;
	uint64_t done, part;

	for (done = 0; done < length; done += part) {
		uint8_t *at = next_part(pieces, length - done, &part);

		uiopf_copy_to_client(at, bytes + done, part);
	}
}

void uiopf_copy_from_pieces(void *to, struct uiopf_pieces *pieces, uint64_t length)
{
	uint8_t *bytes = to;
	uint64_t done, part;

	for (done = 0; done < length; done += part) {
		const uint8_t *at = next_part(pieces, length - done, &part);

		uiopf_copy_from_client(bytes + done, at, part);
	}
}
