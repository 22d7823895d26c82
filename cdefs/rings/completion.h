/* CQEs: the ring, the backlog behind it (IORING_FEAT_NODROP), and who is told. */
#pragma once
#include "rings/engine.h"

/* A CQE, into the ring or the backlog; false where it is lost. */
bool uiopf_complete(struct uiopf_engine *engine, uint64_t user_data, int32_t res, uint32_t flags);
bool uiopf_complete_wide(struct uiopf_engine *engine, uint64_t user_data, int32_t res, uint32_t flags, uint64_t extra1,
			 uint64_t extra2);

/* What the batch that goes on has completed until now is posted: a message comes behind it. */
static inline void uiopf_all_posted(struct uiopf_engine *e)
{
	e->posted_tail = e->ring.cq_tail;
	e->posted_backlog = e->backlog_count;
}

/* The same for a CQE of another ring's. A client of another process has no more kept than its own requests may need. */
bool uiopf_complete_message(struct uiopf_engine *engine, uint64_t user_data, int32_t res, uint32_t flags);
/* A CQE of a request that goes on; false where there is no room, which ends the request. */
hot_inline bool uiopf_complete_more(struct uiopf_engine *e, uint64_t user_data, int32_t res, uint32_t flags)
{
	if (unlikely(e->backlog_count || uiopf_cq_full(&e->ring)))
		return false;
	uiopf_cq_put(&e->ring, user_data, res, flags | IORING_CQE_F_MORE);
	e->posted_tail = e->ring.cq_tail;	/* at once, behind what the batch has completed before it (io_req_post_cqe) */
	e->posted = true;
	return true;
}

/* The same of 32 bytes, in a ring that has them. */
bool uiopf_complete_more_wide(struct uiopf_engine *engine, uint64_t user_data, int32_t res, uint32_t flags,
			      const uint64_t extra[2]);

/* A message is counted at once, unless only the ring's task completes anything (io_post_aux_cqe). */
static inline void uiopf_count_posted(struct uiopf_engine *e)
{
	if (unlikely(e->count_timeouts != NULL) && !(e->setup_flags & IORING_SETUP_DEFER_TASKRUN))
		e->count_timeouts(e);
}

/* Moves what fits from the backlog into the ring. */
void uiopf_flush_backlog(struct uiopf_engine *engine);
/* Signals the eventfd, as there is task work that only an enter will run. */
void uiopf_tell_of_work(struct uiopf_engine *engine);
/* The same, where that was in the middle of a wake. */
void uiopf_pay_signal(struct uiopf_engine *engine);
/* Shows the client what was completed, and signals the eventfd. */
void uiopf_publish_cqes(struct uiopf_engine *engine);
/* Shows what is posted of a batch that goes on, and no more of it (io_post_aux_cqe). */
void uiopf_publish_posted(struct uiopf_engine *engine);
/* The worker's next turn: who said that it sleeps after CQEs were published, but before that was seen, is told. */
void uiopf_look_again(struct uiopf_engine *engine);

/* The eventfd: 0 or -errno. */
int uiopf_register_eventfd(struct uiopf_engine *engine, const int *fd, bool async);
int uiopf_unregister_eventfd(struct uiopf_engine *engine);
void uiopf_close_eventfd(struct uiopf_engine *engine);
