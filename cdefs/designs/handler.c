/*
 * handler (2021): a callback in the kernel, with report flags; no user space. The baseline.
 *
 * The handler is registered with flags that say what it wants to hear of: FLAT (the device has one stage), or any of
 * NESTED_L1 and NESTED_L2. A fault of a stage it did not ask for is refused. A stall says which stage faulted; a page
 * request does not, and counts as stage 1. The handler makes the page present itself and its return value is the
 * answer. Source: the series "Add IOPF support for VFIO passthrough", RFC v3, April 2021.
 */
#include <errno.h>
#include <stdlib.h>

#include "designs/design.h"

struct handler {
	struct uiopf_consumer consumer;
	struct uiopf_channel *ch;
	uint32_t flags;
};

static bool wanted(uint32_t flags, uint32_t fault_flags)
{
	if (flags & UIOPF_REPORT_FLAT)
		return true;
	return flags & (fault_flags & UIOPF_FAULT_STAGE_2 ? UIOPF_REPORT_NESTED_L2 : UIOPF_REPORT_NESTED_L1);
}

/* One fault: the page is there, or it is not. */
static uint32_t handle(struct handler *h, uint32_t flags, uint32_t pasid, uint64_t addr, uint32_t length, uint32_t perm)
{
	if (!wanted(h->flags, flags) || !h->ch->space)
		return UIOPF_RESP_INVALID;
	if (uiopf_space_map_wanted(h->ch->space, pasid, addr, length, perm) < 0)
		return UIOPF_RESP_INVALID;
	return UIOPF_RESP_SUCCESS;
}

static uint32_t run(struct uiopf_consumer *consumer)
{
	struct handler *h = container_of(consumer, struct handler, consumer);
	struct uiopf_group *group;
	uint32_t n = 0;

	while ((group = uiopf_faultq_next(h->ch->queue))) {
		const struct uiopf_fault_node *nodes = group->attach->device->node;
		uint32_t node, code;

		/* 0 or 1: one bad page makes the group invalid. */
		code = handle(h, group->kept, group->last.pasid, group->last.addr, group->last.length,
			      group->last.perm);
		for (node = group->partial; node != UIOPF_NONE; node = nodes[node].next) {
			const struct uiopf_fault *f = &nodes[node].fault;

			code |= handle(h, f->flags, f->pasid, f->addr, f->length, f->perm);
		}
		uiopf_faultq_answer_cookie(h->ch->queue, group->last.cookie, code);
		n++;
	}
	return n;
}

static const struct uiopf_consumer_ops consumer_ops = { .run = run };

static int open_handler(struct uiopf_channel *ch)
{
	uint32_t flags = ch->config.report_flags ? ch->config.report_flags : UIOPF_REPORT_FLAT;
	struct handler *h;

	if ((flags & ~(uint32_t)(UIOPF_REPORT_FLAT | UIOPF_REPORT_NESTED_L1 | UIOPF_REPORT_NESTED_L2)) ||
	    ((flags & UIOPF_REPORT_FLAT) && flags != UIOPF_REPORT_FLAT))
		return -EINVAL;
	h = calloc(1, sizeof *h);
	if (!h)
		return -ENOMEM;
	h->consumer.ops = &consumer_ops;
	h->ch = ch;
	h->flags = flags;
	ch->state = h;
	uiopf_control_begin(ch->core);
	uiopf_core_add_consumer(ch->core, &h->consumer);
	uiopf_control_end(ch->core);
	return 0;
}

static void close_handler(struct uiopf_channel *ch)
{
	struct handler *h = ch->state;

	if (ch->core->abandoned) {
		free(h);
		return;
	}
	uiopf_control_begin(ch->core);
	uiopf_core_remove_consumer(ch->core, &h->consumer);
	uiopf_control_end(ch->core);
	free(h);
}

/* There is nobody to wait for but the inline driver's own turns. */
static int wait_handler(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	int produced, consumed;

	(void)timeout_ns;
	if (ch->core->driver != UIOPF_INLINE)
		return 1;
	produced = uiopf_core_produce(ch->core);
	if (produced < 0)
		return produced;
	consumed = uiopf_core_consume(ch->core);
	return produced + consumed > 0 ? 1 : consumed < 0 ? consumed : 0;
}

const struct uiopf_design uiopf_design_handler = {
	.info = {
		.name = "handler",
		.year = "2021",
		.summary = "a callback in the kernel answers, and no user space",
		.personality = UIOPF_MERGED,
	},
	.open = open_handler,
	.close = close_handler,
	.wait = wait_handler,
};
