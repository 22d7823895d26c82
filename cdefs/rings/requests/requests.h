/* What the operations share. */
#pragma once
#include <errno.h>
#include <poll.h>

#include "rings/buffers.h"
#include "rings/completion.h"
#include "rings/operation.h"
#include "rings/request.h"
#include "rings/resources.h"
#include "rings/ringfile.h"

static inline enum uiopf_issue uiopf_wait_for_file(struct uiopf_request *r)
{
	if (r->wait.link)
		return UIOPF_PENDING;
	r->file->ops->arm(r->file, &r->wait);
	/* Linux's table of what a cancel may find has it from now on: what waits anew is found first, as the newest. */
	if (unlikely(r->listed)) {
		uiopf_request_unlist(r);
		uiopf_request_list(r);
	}
	return UIOPF_PENDING;
}

/* The same for what may be a ring, which tells of completions once it has been polled, by whatever request. */
static inline enum uiopf_issue uiopf_wait_for_any_file(struct uiopf_request *r)
{
	uiopf_ring_polled(r->engine, r->file);
	return uiopf_wait_for_file(r);
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
