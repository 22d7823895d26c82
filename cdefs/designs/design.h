/*
 * The seam that every delivery design fills.
 *
 * A channel stands between one fault queue and one client. The kernel's half of a design makes groups visible and
 * takes answers; where it is code of its own, it runs as a consumer of the core (core.h), and where it is a file's
 * read and write, or a ring's engine, it is theirs. The client's half is the functions below; the generic clients
 * (native, trio, batch) use nothing else. Each half has its own counters.
 *
 * What a system call would cost is paid with a real one, a cheap call into the kernel, when the core is live.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/api.h"
#include "core/core.h"
#include "faults/faultq.h"
#include "hardware/walk.h"

struct uiopf_design {
	struct uiopf_design_info info;

	/* Makes both halves; ch->state is the design's own. 0 or -errno, with nothing left behind. */
	int (*open)(struct uiopf_channel *ch);
	void (*close)(struct uiopf_channel *ch);

	/*
	 * The client's half; see api.h. Absent where there is no client. `answer` takes as many as there is room for, at
	 * least one; the channel keeps the rest, and comes again with it before anything else is called. Each waits for
	 * the other side only as uiopf_wait_a_moment() does, and returns -EINTR then, with nothing done.
	 */
	int (*receive)(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most);
	int (*answer)(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n);
	int (*flush)(struct uiopf_channel *ch);
	int (*wait)(struct uiopf_channel *ch, uint64_t timeout_ns);
	int (*prepare_sleep)(struct uiopf_channel *ch);
	void (*awake)(struct uiopf_channel *ch, bool told);	/* told: the eventfd had been written */
	/* Whether answers were taken that leave only with the client's next call; absent where each leaves at once. */
	bool (*holds)(const struct uiopf_channel *ch);
	/* Whether the kernel's half takes this code; absent where that is for the queue's file to say. */
	bool (*takes)(const struct uiopf_channel *ch, uint32_t code);
	/* What a received group's message had that is private to the function: 1, 0 or -EINVAL. Absent: it has no place. */
	int (*private_data)(const struct uiopf_channel *ch, uint32_t cookie, uint64_t out[2]);
	/* Adds the kernel half's costs. */
	void (*kernel_cost)(struct uiopf_channel *ch, struct uiopf_cost *cost);
};

struct uiopf_channel {
	const struct uiopf_design *design;
	struct uiopf_core *core;
	struct uiopf_faultq *queue;
	struct uiopf_space *space;
	struct uiopf_channel_config config;
	struct uiopf_cost cost;		/* the client's */
	struct uiopf_sleeper sleeper;
	int eventfd;			/* what the client sleeps on */
	uint32_t busy;			/* a thread is in a call of the client's half */
	bool asleep;			/* it has prepared to sleep, and has not said that it is awake */
	bool roused;			/* … and was woken for an answer that it is to send */
	struct uiopf_turner turner;
	/* Answers that were taken from the client, and that the design had no room for. */
	uint32_t rest_from, rest_to;
	uint32_t most_answers;		/* in one call; 0: the client has gone, and answers nothing more */
	uint32_t received, answered;	/* by the last receive, and taken since */
	int64_t last_answered;		/* its cookie; -1: none */
	struct uiopf_watch *watch;	/* NULL: nobody asked where the time goes */
	struct iommu_hwpt_page_response rest[UIOPF_MOST_ANSWERS];
	void *state;
};

static inline bool uiopf_sleeps(const struct uiopf_channel *ch)
{
	return ch->config.wait == UIOPF_WAIT_SLEEP;
}

/* One emulated system call, made by the client; before what it does for others, which they see once it has been made. */
static inline void uiopf_system_call(struct uiopf_channel *ch, bool found)
{
	if (found)
		ch->cost.system_calls++;
	else
		ch->cost.empty_polls++;
	if (unlikely(ch->core->player != NULL)) {
		if (found)	/* … or the look is over, and time goes on with the next */
			uiopf_pass_time(ch->core, UIOPF_SPENT);
	} else if (ch->core->live) {
		syscall(SYS_getppid);	/* does nothing, and is not cached */
	}
}
