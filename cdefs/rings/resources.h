/*
 * Registered files and buffers: tables of nodes. A node lives as long as a slot or a request has it, and its tag is
 * posted when neither does.
 */
#pragma once
#include "rings/engine.h"

/* The file in a slot of the registered ones, NULL: none. */
struct uiopf_node *uiopf_fixed_file(const struct uiopf_engine *engine, uint32_t slot);
/* The buffer, -EFAULT: none there, or not all of [address, address + length) is in it. */
int uiopf_fixed_buffer(struct uiopf_engine *engine, uint32_t index, uint64_t address, uint64_t length, uint8_t **map,
		       struct uiopf_node **node);
void uiopf_node_put(struct uiopf_engine *engine, struct uiopf_node *node);
/* Puts a file into a slot (from 1), or any (IORING_FILE_INDEX_ALLOC): the slot (from 0) or 0, -errno. */
int uiopf_fixed_install(struct uiopf_engine *engine, struct uiopf_file *file, uint32_t slot);
int uiopf_fixed_remove(struct uiopf_engine *engine, uint32_t slot);
int uiopf_files_update(struct uiopf_engine *engine, uint32_t offset, uint64_t fds, const int32_t *at, uint32_t n);
int uiopf_register_resources(struct uiopf_engine *engine, uint32_t opcode, const void *arg, uint32_t nr_args);
void uiopf_free_resources(struct uiopf_engine *engine);

/* The file behind a descriptor or, with `fixed`, in a slot; NULL is EBADF. */
static inline struct uiopf_file *uiopf_find_file(const struct uiopf_engine *e, int32_t fd, bool fixed)
{
	if (unlikely(fixed)) {
		const struct uiopf_node *node = uiopf_fixed_file(e, (uint32_t)fd);

		return node ? node->file : NULL;
	}
	/* Descriptors are those of the process that this runs in: a client elsewhere has registered files alone. */
	if (unlikely(e->attachable))
		return NULL;
	return (uint32_t)fd < UIOPF_MAX_FILES ? e->core->file[fd] : NULL;
}
