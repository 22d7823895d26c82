/* SQEs: the order of checks, links, how a request ends. */
#pragma once
#include "rings/engine.h"

/* Takes n SQEs, of which there are so many; how many were consumed, or -EAGAIN. */
int uiopf_submit(struct uiopf_engine *engine, uint32_t n);
/* Carries on what was called, in the order of the calls. What that adds is for the next turn. */
uint32_t uiopf_run_work(struct uiopf_engine *engine);
