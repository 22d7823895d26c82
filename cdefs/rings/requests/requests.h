/* What the operations share. Each has a prepare, whose errors Linux reports before anything starts, and an issue. */
#pragma once
#include <errno.h>
#include <poll.h>

#include "rings/engine.h"

static inline enum uiopf_issue uiopf_done(struct uiopf_request *r, int32_t res)
{
	r->res = res;
	return UIOPF_DONE;
}

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

static inline enum uiopf_issue uiopf_wait_for_file(struct uiopf_request *r)
{
	if (!r->wait.link)
		r->file->ops->arm(r->file, &r->wait);
	return UIOPF_PENDING;
}

static inline void uiopf_stop_waiting(struct uiopf_request *r)
{
	if (r->wait.link)
		r->file->ops->cancel(r->file, &r->wait);
}

/* A request's memory at the client's addresses; NULL where there is none. */
static inline uint8_t *uiopf_memory(const struct uiopf_request *r, uint64_t address, uint64_t length)
{
	return uiopf_windows_find(&r->engine->windows, address, length);
}

#define OPERATION(name) \
	int uiopf_##name##_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe); \
	enum uiopf_issue uiopf_##name##_issue(struct uiopf_request *r)

OPERATION(nop);
OPERATION(rw);			/* READ and WRITE in all their forms: the issue is that of the READs … */
enum uiopf_issue uiopf_write_issue(struct uiopf_request *r);	/* … and that of the WRITEs */
int uiopf_rw_fixed_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe);
int uiopf_rw_vector_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe);
OPERATION(read_multishot);
OPERATION(receive);
OPERATION(send);
OPERATION(poll_add);
OPERATION(poll_remove);
OPERATION(cancel);
OPERATION(timeout);
OPERATION(timeout_remove);
OPERATION(link_timeout);
OPERATION(message);
OPERATION(provide_buffers);
OPERATION(remove_buffers);
OPERATION(files_update);
OPERATION(close);
OPERATION(command);
#undef OPERATION
