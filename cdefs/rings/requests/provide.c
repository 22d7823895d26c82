/* PROVIDE_BUFFERS and REMOVE_BUFFERS. Source: io_uring/kbuf.c, Linux 6.12. */
#include "rings/requests/requests.h"

#define MOST_BUFFERS 65536u

int uiopf_provide_buffers_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	const uint32_t count = (uint32_t)sqe->fd;
	uint64_t size, end;

	if (r->engine->attachable)	/* they are kept in memory that nobody could charge it for */
		return -EACCES;
	if (sqe->rw_flags || sqe->splice_fd_in)
		return -EINVAL;
	if (!count || count > MOST_BUFFERS)
		return -E2BIG;
	if (!sqe->len)
		return -EINVAL;
	size = (uint64_t)sqe->len * count;
	if (__builtin_add_overflow(sqe->addr, size, &end))
		return -EOVERFLOW;
	if (end > UIOPF_USER_END)
		return -EFAULT;
	if (sqe->off > UINT16_MAX)
		return -E2BIG;
	if (sqe->off + count > MOST_BUFFERS)
		return -EINVAL;
	r->address = sqe->addr;
	r->length = sqe->len;
	r->expected = count;
	r->position = sqe->off;
	r->buffer_group = sqe->buf_group;
	return 0;
}

enum uiopf_issue uiopf_provide_buffers_issue(struct uiopf_request *r)
{
	return uiopf_done(r, uiopf_provide_buffers(r->engine, r->buffer_group, r->address, r->length,
						   (uint16_t)r->position, r->expected));
}

int uiopf_remove_buffers_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	const uint32_t count = (uint32_t)sqe->fd;

	if (sqe->rw_flags || sqe->addr || sqe->len || sqe->off || sqe->splice_fd_in)
		return -EINVAL;
	if (!count || count > MOST_BUFFERS)
		return -EINVAL;
	r->expected = count;
	r->buffer_group = sqe->buf_group;
	return 0;
}

enum uiopf_issue uiopf_remove_buffers_issue(struct uiopf_request *r)
{
	return uiopf_done(r, uiopf_remove_buffers(r->engine, r->buffer_group, r->expected));
}
