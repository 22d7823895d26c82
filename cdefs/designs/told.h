/* For designs whose client is told by an eventfd, written once for each message. It is the channel's own eventfd. */
#pragma once
#include "designs/design.h"

struct uiopf_told {
	uint64_t *notified;	/* the kernel's: how often it has written */
	uint64_t told;		/* the client's: what it read last, less what it has looked at since */
};

/* read(2) of the eventfd into `told`: how many messages have come since the last time. 0 or -EINTR. */
int uiopf_told_read(struct uiopf_channel *ch, struct uiopf_told *told);
/* Whether there is something to look at: as poll(2) would say, from any thread. */
bool uiopf_told_something(struct uiopf_channel *ch, struct uiopf_told *told);
int uiopf_told_wait(struct uiopf_channel *ch, struct uiopf_told *told, uint64_t timeout_ns);
