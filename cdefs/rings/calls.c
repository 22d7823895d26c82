/*
 * io_uring_enter and io_uring_register by descriptor, as programs make them, and descriptors that are registered so that
 * they need not be looked up. What Linux keeps for a task, the core does.
 *
 * Source: io_uring_enter, SYSCALL_DEFINE4(io_uring_register), io_ringfd_register; Linux 6.12.
 */
#include <errno.h>

#include "rings/engine.h"

static int find(const struct uiopf_core *core, uint32_t fd, bool registered, struct uiopf_engine **out)
{
	struct uiopf_file *file;

	if (registered && fd >= UIOPF_REGISTERED_FILES)
		return -EINVAL;
	file = registered ? core->registered[fd] : fd < UIOPF_MAX_FILES ? core->file[fd] : NULL;
	if (!file)
		return -EBADF;
	*out = uiopf_engine_of(file);
	return *out ? 0 : -EOPNOTSUPP;
}

int uiopf_enter_fd(struct uiopf_core *core, uint32_t fd, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
		   const void *argument, uint64_t size)
{
	struct uiopf_engine *e;
	int rc;

	if (flags & ~uiopf_enter_flags(core->kernel))
		return -EINVAL;
	uiopf_consumer_begin(core);
	rc = find(core, fd, flags & IORING_ENTER_REGISTERED_RING, &e);
	uiopf_consumer_end(core);
	return rc < 0 ? rc : uiopf_enter_ext(e, to_submit, min_complete, flags, argument, size);
}

static int register_ring(struct uiopf_core *core, struct io_uring_rsrc_update *reg)
{
	uint32_t at = reg->offset, end = at + 1;
	struct uiopf_engine *e;
	int rc;

	if (reg->resv)
		return -EINVAL;
	if (at == UINT32_MAX) {
		at = 0;
		end = UIOPF_REGISTERED_FILES;
	} else if (at >= UIOPF_REGISTERED_FILES) {
		return -EINVAL;
	}
	rc = find(core, (uint32_t)reg->data, false, &e);
	if (rc < 0)
		return rc;
	for (; at < end; at++)
		if (!core->registered[at]) {
			core->registered[at] = &e->file;
			reg->offset = at;
			return 0;
		}
	return -EBUSY;
}

int uiopf_register_ring_fds(struct uiopf_core *core, struct io_uring_rsrc_update *reg, uint32_t n)
{
	uint32_t i;
	int rc;

	if (!n || n > UIOPF_REGISTERED_FILES)
		return -EINVAL;
	if (!reg)
		return -EFAULT;
	for (i = 0; i < n; i++) {
		rc = register_ring(core, &reg[i]);
		if (rc < 0)
			return i ? (int)i : rc;
	}
	return (int)n;
}

int uiopf_unregister_ring_fds(struct uiopf_core *core, const struct io_uring_rsrc_update *reg, uint32_t n)
{
	uint32_t i;

	if (!n || n > UIOPF_REGISTERED_FILES)
		return -EINVAL;
	if (!reg)
		return -EFAULT;
	for (i = 0; i < n; i++) {
		if (reg[i].resv || reg[i].data || reg[i].offset >= UIOPF_REGISTERED_FILES)
			return i ? (int)i : -EINVAL;
		core->registered[reg[i].offset] = NULL;
	}
	return (int)n;
}

int uiopf_register_fd(struct uiopf_core *core, uint32_t fd, uint32_t opcode, void *arg, uint32_t nr_args)
{
	const bool registered = opcode & IORING_REGISTER_USE_REGISTERED_RING;
	struct uiopf_engine *e;
	int rc;

	opcode &= ~(uint32_t)IORING_REGISTER_USE_REGISTERED_RING;
	if (opcode >= uiopf_register_ops(core->kernel))
		return -EINVAL;
	/* -1 is for what needs no ring, of which nothing is here. */
	if (fd == UINT32_MAX && !registered && core->kernel >= UIOPF_LINUX(6, 13))
		return -EINVAL;
	uiopf_control_begin(core);
	rc = find(core, fd, registered, &e);
	if (rc == 0)
		rc = uiopf_register(e, opcode, arg, nr_args);
	uiopf_control_end(core);
	return rc;
}
