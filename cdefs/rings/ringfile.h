/*
 * The ring as a file, for poll and MSG_RING, and rings by descriptor or by a number that the calling thread registered.
 */
#pragma once
#include <poll.h>

#include "rings/engine.h"

/* Makes the ring a file; and its end: requests of other rings that still poll it keep the engine's memory, and no more. */
void uiopf_ringfile_open(struct uiopf_engine *engine);
void uiopf_ringfile_close(struct uiopf_engine *engine);
/* The ring whose file this is; NULL where the file is no ring. */
struct uiopf_engine *uiopf_engine_of(struct uiopf_file *file);
/* The ring behind a descriptor or, with `registered`, a number: 0, -EBADF, -EINVAL, -EOPNOTSUPP. */
int uiopf_engine_find(const struct uiopf_core *core, uint32_t fd, bool registered, struct uiopf_engine **out);
int uiopf_register_ring_fds(struct uiopf_core *core, struct io_uring_rsrc_update *reg, uint32_t n);
int uiopf_unregister_ring_fds(struct uiopf_core *core, const struct io_uring_rsrc_update *reg, uint32_t n);
/* The ring goes: no thread's number is its any more. */
void uiopf_forget_ring_fds(struct uiopf_core *core, const struct uiopf_file *file);

/* Requests of a ring are about to poll this file; what follows from it when the call that did so has run its task work. */
void uiopf_ring_polled(struct uiopf_engine *by, struct uiopf_file *file);
void uiopf_rings_polled(struct uiopf_engine *by);
/*
 * The same for one round of task work, which runs last in, first out (task_work_run): those that were polled when other work
 * was there already are told before it runs, and the rest, which are returned, behind it.
 */
struct uiopf_engine *uiopf_rings_polled_before(struct uiopf_engine *by);
void uiopf_rings_polled_behind(struct uiopf_engine *rest);
/* The ring is enabled: it has been polled before, perhaps. */
void uiopf_ring_enabled(struct uiopf_engine *engine);

/* Those who poll the ring's descriptor: CQEs have come. (io_poll_wq_wake) */
static inline void uiopf_engine_wake_pollers(struct uiopf_engine *engine)
{
	if (unlikely(engine->file.waits != NULL) && engine->pollers_told)
		uiopf_file_wake(&engine->file, POLLIN | UIOPF_WAKE_BY_RING);
}
