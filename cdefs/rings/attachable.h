/*
 * Rings whose client is another process.
 *
 * The client has descriptors and nothing else: no io_uring_enter, no io_uring_register, no poll of the ring itself. So
 * the ring is SQPOLL, and everything that a call would do is done for it: files and buffer rings are registered when it
 * is made, and the worker flushes the backlog. Flags that say "enter" are not shown: CQ_OVERFLOW never, NEED_WAKEUP only
 * to a client that has promised to write to an eventfd instead. liburing would otherwise enter by itself, and fail.
 *
 * Its descriptor is mapped as io_uring's is: SQ and CQ at 0, SQEs at IORING_OFF_SQES, the ring of buffer group g at
 * IORING_OFF_PBUF_RING + (g << 16). What is between is a hole in the file.
 *
 * Nothing that the client may do reaches further than its own ring: descriptors in its requests are registered files
 * (resources.h), what is kept for it is bounded, and eventfds that it shares never block us (notify.c).
 */
#pragma once
#include "rings/engine.h"

int uiopf_attachable_check(const struct uiopf_attachable *config, const struct io_uring_params *p);
int uiopf_attachable_open(struct uiopf_engine *engine, const struct uiopf_attachable *config);
void uiopf_attachable_close(struct uiopf_engine *engine);
