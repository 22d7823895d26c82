/* ASYNC_CANCEL. Source: io_uring/cancel.c, Linux 6.12. */
#include "rings/cancel.h"
#include "rings/requests/requests.h"

static bool flags_known(uint32_t flags)
{
	if (flags & ~(uint32_t)UIOPF_CANCEL_KNOWN)
		return false;
	return !(flags & (IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP)) || !(flags & IORING_ASYNC_CANCEL_ANY);
}

int uiopf_cancel_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	if (sqe->off || sqe->splice_fd_in)
		return -EINVAL;
	r->address = sqe->addr;
	r->op_flags = sqe->cancel_flags;
	r->length = (uint8_t)sqe->len;	/* an opcode: Linux keeps it in a byte */
	return flags_known(r->op_flags) ? 0 : -EINVAL;
}

enum uiopf_issue uiopf_cancel_issue(struct uiopf_request *r)
{
	struct uiopf_cancel c = {
		.user_data = r->address, .flags = r->op_flags, .opcode = (uint8_t)r->length, .by = r,
	};

	if (c.flags & IORING_ASYNC_CANCEL_FD) {
		if (c.flags & IORING_ASYNC_CANCEL_FD_FIXED)
			r->sqe_flags |= IOSQE_FIXED_FILE;
		c.file = r->file = uiopf_find_file(r->engine, r->fd, r->sqe_flags & IOSQE_FIXED_FILE);
		if (!r->file)
			return uiopf_done(r, -EBADF);
		r->file->users++;	/* it is its own too, and where a worker runs it, it finds itself by that */
	}
	return uiopf_done(r, uiopf_cancel_matching(r->engine, &c));
}
