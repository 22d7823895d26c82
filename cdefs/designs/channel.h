/* What designs share of a channel, and how one is made. */
#pragma once
#include "designs/design.h"

int uiopf_channel_make(struct uiopf_core *core, struct uiopf_faultq *queue, const struct uiopf_design *design,
		       const struct uiopf_channel_config *config, struct uiopf_space *space, struct uiopf_channel **out);

/* For designs whose client waits for the fault queue's file with poll(2). */
int uiopf_poll_wait(struct uiopf_channel *ch, uint64_t timeout_ns);
bool uiopf_poll_readable(const struct uiopf_channel *ch);
int uiopf_poll_prepare_sleep(struct uiopf_channel *ch);
void uiopf_poll_awake(struct uiopf_channel *ch);
/* Sleeps on the channel's eventfd as the last part of a wait: 1, 0 or -EINTR. */
int uiopf_channel_sleep(struct uiopf_channel *ch, uint64_t timeout_ns);
