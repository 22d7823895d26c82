/* A request's life: the pool, the lists of those under way, task work, drain. */
#pragma once
#include "rings/engine.h"

/* A pool that grows by chunks, so that going on needs no memory. False: there is none, or there are as many as can be. */
bool uiopf_grow_requests(struct uiopf_engine *engine);
void uiopf_free_requests(struct uiopf_engine *engine);
/* At the end: what those hold that never had their turn, behind others in a chain or behind a drain. */
void uiopf_release_requests(struct uiopf_engine *engine);

/* There is one. */
static inline struct uiopf_request *uiopf_request_take(struct uiopf_engine *e)
{
	struct uiopf_request *r = e->free_requests;

	e->free_requests = r->work_next;
	e->alive++;
	return r;
}

void uiopf_request_list(struct uiopf_request *request);
void uiopf_request_unlist(struct uiopf_request *request);
/* Gives back what it holds, without a word. */
void uiopf_request_free(struct uiopf_request *request);

/* As task work: goes on as `todo` says, or as is right for it. */
void uiopf_request_add_work(struct uiopf_request *request, enum uiopf_todo todo);
void uiopf_engine_add_work(struct uiopf_request *request);
/* Gives a request to a worker thread, where it goes on as `todo` says. */
void uiopf_request_ask_worker(struct uiopf_request *request, enum uiopf_todo todo);
/* Ends a request with this result, as task work. */
void uiopf_request_end_later(struct uiopf_request *request, int32_t res);
/* A completion as task work, of a message: it counts for no drain. False: there is no memory for it. */
bool uiopf_request_post_later(struct uiopf_engine *engine, uint64_t user_data, int32_t res, uint32_t cqe_flags);
/* Gives it back when it has been posted. */
void uiopf_request_posted(struct uiopf_request *request);
/* Stops a request that is under way; it completes with -ECANCELED as task work. */
void uiopf_request_cancel(struct uiopf_request *request);

/* Whether submission takes the long way; whenever one of the reasons has gone, or has come. */
void uiopf_set_unusual(struct uiopf_engine *engine);
/* What is between the SQE's flags and its other fields in io_init_req: 0, -EOPNOTSUPP, -EACCES. */
int uiopf_request_admit(struct uiopf_request *request);
/* Waits, with its chain, until all before it have ended. */
void uiopf_request_drain(struct uiopf_request *request);
