/* SQEs: the order of checks, links, how a request ends. */
#pragma once
#include "rings/completion.h"

/*
 * Takes n SQEs, and on to the end of a chain that is open then, but not more than `most`; there are so many. How many were
 * consumed, or -EAGAIN.
 */
int uiopf_submit(struct uiopf_engine *engine, uint32_t n, uint32_t most);
/* Carries on what was called, in the order of the calls. What that adds is for the next turn. */
uint32_t uiopf_run_work(struct uiopf_engine *engine, uint32_t most);
/*
 * The same of a deferred ring, with what that adds, until so many were carried on (__io_run_local_work). `begins`: it is the
 * first of several calls that are one of Linux's.
 */
uint32_t uiopf_run_deferred_work(struct uiopf_engine *engine, uint32_t most, uint32_t wanted, bool begins);
/*
 * Shows the completions of the batch from the middle of a request's issue, and what follows from them begins
 * (__io_submit_flush_completions). True where that has called the request itself: it is not added to the task work, as it
 * goes on or ends by itself.
 */
bool uiopf_flush_before(struct uiopf_request *request);
/* A CQE of a request that goes on, behind those of the batch (io_req_post_cqe). False: see uiopf_complete_more. */
hot_inline bool uiopf_post_more(struct uiopf_request *r, int32_t res, uint32_t flags, bool *called)
{
	*called = unlikely(r->engine->finished) && uiopf_flush_before(r);
	return uiopf_complete_more(r->engine, r->user_data, res, flags);
}
/* What worker threads were asked for, if the caller says when they run. */
void uiopf_run_workers(struct uiopf_engine *engine, uint32_t most);
/* The same one by one, as a deferred ring of a newer kernel: what is added meanwhile has its turn too. */
uint32_t uiopf_run_work_one_by_one(struct uiopf_engine *engine, uint32_t most);
