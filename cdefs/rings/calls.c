/*
 * io_uring_enter and io_uring_register by descriptor, as programs make them.
 *
 * Source: io_uring_enter, SYSCALL_DEFINE4(io_uring_register); Linux 6.12.
 */
#include <errno.h>

#include "rings/enter.h"
#include "rings/register.h"
#include "rings/ringfile.h"

int uiopf_enter_fd(struct uiopf_core *core, uint32_t fd, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
		   const void *argument, uint64_t size)
{
	struct uiopf_engine *e;
	int rc;

	if (flags & ~uiopf_enter_flags(core->kernel))
		return -EINVAL;
	if (unlikely(uiopf_consumer_try_begin(core) < 0))
		return -EINTR;
	rc = uiopf_engine_find(core, fd, flags & IORING_ENTER_REGISTERED_RING, &e);
	uiopf_consumer_end(core);
	return rc < 0 ? rc : uiopf_enter_ext(e, to_submit, min_complete, flags, argument, size);
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
	rc = uiopf_engine_find(core, fd, registered, &e);
	if (rc == 0)
		rc = uiopf_register(e, opcode, arg, nr_args);
	uiopf_control_end(core);
	return rc;
}
