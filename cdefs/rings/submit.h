/* SQEs: the order of checks, links, how a request ends. */
#pragma once
#include "rings/engine.h"

/*
 * Takes n SQEs, and on to the end of a chain that is open then, but not more than `most`; there are so many. How many were
 * consumed, or -EAGAIN.
 */
int uiopf_submit(struct uiopf_engine *engine, uint32_t n, uint32_t most);
/* Carries on what was called, in the order of the calls. What that adds is for the next turn. */
uint32_t uiopf_run_work(struct uiopf_engine *engine, uint32_t most);
/* The same one by one, as a deferred ring of a newer kernel: what is added meanwhile has its turn too. */
uint32_t uiopf_run_work_one_by_one(struct uiopf_engine *engine, uint32_t most);
