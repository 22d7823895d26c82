#include "memory.h"

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
	if (address + length < address)
		return -EINVAL;
	if (windows->count == UIOPF_WINDOWS)
		return -ENOSPC;
	windows->window[windows->count++] = (struct uiopf_window){ address, length, map };
	return 0;
}
