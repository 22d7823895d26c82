/* What designs share of a channel, and how one is made. */
#pragma once
#include "designs/design.h"

int uiopf_channel_make(struct uiopf_core *core, struct uiopf_faultq *queue, const struct uiopf_design *design,
		       const struct uiopf_channel_config *config, struct uiopf_space *space, struct uiopf_channel **out);

/* The client's half, for who has entered it already. See api.h. */
bool uiopf_client_enter(struct uiopf_channel *ch);	/* false: another thread is in it */
void uiopf_client_leave(struct uiopf_channel *ch);
int uiopf_receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most);
int uiopf_answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n);
int uiopf_flush(struct uiopf_channel *ch);
int uiopf_wait(struct uiopf_channel *ch, uint64_t timeout_ns);

/* For designs whose client waits for the fault queue's file with poll(2). */
int uiopf_poll_wait(struct uiopf_channel *ch, uint64_t timeout_ns);
bool uiopf_poll_readable(const struct uiopf_channel *ch);
int uiopf_poll_prepare_sleep(struct uiopf_channel *ch);
void uiopf_poll_awake(struct uiopf_channel *ch, bool told);
/* Sleeps on the channel's eventfd as the last part of a wait: 1, 0 or -EINTR. */
int uiopf_channel_sleep(struct uiopf_channel *ch, uint64_t timeout_ns);
