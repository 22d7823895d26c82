/* Which requests a cancel means, and their end. */
#pragma once
#include "rings/engine.h"

#define UIOPF_CANCEL_KNOWN (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ANY | \
			    IORING_ASYNC_CANCEL_FD_FIXED | IORING_ASYNC_CANCEL_USERDATA | IORING_ASYNC_CANCEL_OP)

struct uiopf_cancel {
	uint64_t user_data;
	uint32_t flags;			/* IORING_ASYNC_CANCEL_* */
	uint8_t opcode;
	const struct uiopf_file *file;	/* with CANCEL_FD */
	const struct uiopf_request *by;	/* which a worker may run, and is no target of its own */
};

/* How many were cancelled with ALL or ANY; otherwise 0, -ENOENT, -EALREADY. */
int uiopf_cancel_matching(struct uiopf_engine *engine, const struct uiopf_cancel *cancel);
/* One TIMEOUT: 0, -ENOENT. */
int uiopf_cancel_timeout(struct uiopf_engine *engine, const struct uiopf_cancel *cancel);
int uiopf_sync_cancel(struct uiopf_engine *engine, const struct io_uring_sync_cancel_reg *reg);
