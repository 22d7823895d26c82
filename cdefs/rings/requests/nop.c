/* NOP. Source: io_uring/nop.c, Linux 6.12 and 6.18. */
#include "rings/requests/requests.h"

static uint32_t known_flags(uint32_t kernel)
{
	if (kernel < UIOPF_LINUX(6, 13))
		return IORING_NOP_INJECT_RESULT;
	if (kernel < UIOPF_LINUX(6, 16))
		return 2 * IORING_NOP_FIXED_BUFFER - 1;
	return kernel < UIOPF_LINUX(6, 18) ? 2 * IORING_NOP_TW - 1 : 2 * IORING_NOP_CQE32 - 1;
}

int uiopf_nop_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	r->op_flags = sqe->nop_flags;
	if (r->op_flags & ~known_flags(r->engine->kernel))
		return -EINVAL;
	r->res = r->op_flags & IORING_NOP_INJECT_RESULT ? (int32_t)sqe->len : 0;
	r->buffer_group = sqe->buf_index;
	if (r->op_flags & IORING_NOP_CQE32) {
		if (!(r->engine->setup_flags & (IORING_SETUP_CQE32 | IORING_SETUP_CQE_MIXED)))
			return -EINVAL;
		r->address = sqe->off;
		r->position = sqe->addr;
	}
	return 0;
}

enum uiopf_issue uiopf_nop_issue(struct uiopf_request *r)
{
	const struct uiopf_engine *e = r->engine;
	bool fixed;

	if (likely(!(r->op_flags & ~(uint32_t)IORING_NOP_INJECT_RESULT)))
		return UIOPF_DONE;
	r->wide = r->op_flags & IORING_NOP_CQE32;	/* one that never starts has the small completion */
	fixed = (r->op_flags & IORING_NOP_FIXED_FILE) || (r->sqe_flags & IOSQE_FIXED_FILE);	/* either says so */
	if ((r->op_flags & IORING_NOP_FILE) && !uiopf_find_file(e, r->fd, fixed))
		r->res = -EBADF;
	else if ((r->op_flags & IORING_NOP_FIXED_BUFFER) &&
		 (r->buffer_group >= e->registered.count || !e->registered.node[r->buffer_group]))
		r->res = -EFAULT;
	if (!(r->op_flags & IORING_NOP_TW))
		return UIOPF_DONE;
	uiopf_request_end_later(r, r->res);
	return UIOPF_PENDING;
}
