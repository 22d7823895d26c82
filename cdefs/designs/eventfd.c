/*
 * eventfd (the RFC of May 2023, as it was meant): an eventfd is told of every message; messages of 48 bytes are read
 * one at a time from a second, read-only fd; an answer is an ioctl of 28 bytes that names device, PASID and group
 * index.
 *
 * "As it was meant": the posted read tested the wrong pointer and used the wrong record size, and could not work. Its
 * time-out (FAILURE after 100 ms or 1 s, the posting says both) is left out here: reviewers asked for that, and all
 * designs must answer for the same faults. The answer's search is a table here, not the posted list.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "designs/named.h"
#include "designs/told.h"

struct rfc_pgfault {		/* struct iommu_hwpt_pgfault of the RFC: 48 bytes */
	uint32_t size, flags, dev_id, pasid, grpid, perm;
	uint64_t addr, private_data[2];
};

struct rfc_response {		/* struct iommu_hwpt_page_response of the RFC: 28 bytes */
	uint32_t size, flags, hwpt_id, dev_id, pasid, grpid, code;
};

_Static_assert(sizeof(struct rfc_pgfault) == 48 && sizeof(struct rfc_response) == 28, "as posted");

struct rfc {
	/* The kernel's: the group whose messages are being read, and the groups to be answered. */
	struct uiopf_group *reading;
	uint32_t reading_cookie, next_node;
	struct uiopf_named outstanding;
	/* The client's: messages that the eventfd has told of; a group that is not complete yet. */
	struct uiopf_told told;
	uint32_t partial;
	struct iommu_hwpt_pgfault *group;
	struct uiopf_replies replies;
};

/* ---- kernel: the second fd's read, and the ioctl ---- */

/* `data`: of a group's last message that has such a thing, or NULL. The answer needs none from us: the kernel keeps it. */
static void copy_message(struct rfc_pgfault *m, const struct iommu_hwpt_pgfault *fault,
			 const struct uiopf_private_data *data)
{
	*m = (struct rfc_pgfault){
		.size = sizeof *m,
		.flags = (fault->flags & 3) | (fault->flags & UIOPF_FAULT_NEEDS_PASID ? 8u : 0),
		.dev_id = fault->dev_id,
		.pasid = fault->pasid,
		.grpid = fault->grpid,
		.perm = fault->perm,
		.addr = fault->addr,
	};
	if (data) {
		m->flags |= 4;		/* IOMMU_PGFAULT_FLAGS_PRIV_DATA */
		memcpy(m->private_data, data->word, sizeof data->word);
	}
}

/* read(2) of one message: 48, or 0 when there is none, or -EINTR. Reading the last of a group moves it to the response list. */
static int64_t read_message(struct uiopf_channel *ch, struct rfc_pgfault *m)
{
	struct rfc *rfc = ch->state;
	struct uiopf_group *group;

	if (uiopf_consumer_try_begin(ch->core) < 0)
		return -EINTR;
	group = rfc->reading;
	if (group && ch->queue->by_cookie[rfc->reading_cookie] != group)
		group = NULL;	/* answered for in the middle of our reading it: the rest is gone */
	if (!group) {
		group = uiopf_faultq_next(ch->queue);
		if (!group) {
			uiopf_consumer_end(ch->core);
			return 0;
		}
		rfc->reading = group;
		rfc->reading_cookie = group->last.cookie;
		rfc->next_node = group->partial;
	}
	if (rfc->next_node != UIOPF_NONE) {
		const struct uiopf_device *device = group->attach->device;
		const struct uiopf_fault_node *node = &device->node[rfc->next_node];
		struct iommu_hwpt_pgfault message;

		uiopf_fill_message_kept(&message, group->last.dev_id, &node->fault);
		copy_message(m, &message, NULL);
		rfc->next_node = node->next;
	} else {
		copy_message(m, &group->last, group->kept & UIOPF_FAULT_PRIV_DATA ?
			     &group->attach->device->private_data[group->index] : NULL);
		uiopf_named_remember(&rfc->outstanding, ch->queue, group);
		rfc->reading = NULL;
	}
	uiopf_consumer_end(ch->core);
	return sizeof *m;
}

/* ioctl(IOMMU_PAGE_RESPONSE): the group is searched by device, PASID and index. */
static int page_response(struct uiopf_channel *ch, const struct rfc_response *r)
{
	struct rfc *rfc = ch->state;
	uint32_t cookie;
	int rc = -EINVAL;

	if (r->size < sizeof *r || r->code > UIOPF_RESP_FAILURE)
		return -EINVAL;
	if (uiopf_consumer_try_begin(ch->core) < 0)
		return -EINTR;
	cookie = uiopf_named_find(&rfc->outstanding, ch->queue, r->dev_id, r->pasid, r->grpid);
	if (cookie) {
		if (uiopf_named_answer(&rfc->outstanding, ch->queue, cookie, r->code))
			rc = 0;
		uiopf_core_kick(ch->core);
	}
	uiopf_consumer_end(ch->core);
	return rc;
}

/* ---- client ---- */

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct rfc *rfc = ch->state;
	uint32_t n = 0;

	if (!rfc->told.told && uiopf_told_read(ch, &rfc->told) < 0)
		return -EINTR;
	/* Generic clients want whole groups; this design splits them, so its client gathers. */
	while (rfc->told.told && n + rfc->partial < most) {
		struct rfc_pgfault m;
		struct iommu_hwpt_pgfault *to = &rfc->group[rfc->partial];
		int64_t got = read_message(ch, &m);

		if (unlikely(got < 0))
			return n ? (int)n : (int)got;
		if (got == 0) {	/* answered for meanwhile: told of, and gone */
			uiopf_system_call(ch, false);
			rfc->told.told = 0;
			break;
		}
		uiopf_system_call(ch, true);
		ch->cost.bytes_copied += sizeof m;
		rfc->told.told--;
		*to = (struct iommu_hwpt_pgfault){
			.flags = m.flags & 3, .dev_id = m.dev_id, .pasid = m.pasid, .grpid = m.grpid,
			.perm = m.perm, .addr = m.addr,
		};
		if (rfc->partial + 1 < ch->config.group_most)
			rfc->partial++;
		if (m.flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) {
			/* The generic clients' name for a group; what the ioctl needs is kept under it. */
			uint32_t cookie, i, messages = (uint32_t)(to - rfc->group) + 1;

			if (!uiopf_replies_take(&rfc->replies, &cookie))
				return n ? (int)n : -ENOBUFS;	/* more groups unanswered than the client said */
			rfc->replies.reply[cookie] = (struct uiopf_reply){
				m.dev_id, m.pasid, m.grpid, m.flags, true, m.flags & 4,
				{ m.private_data[0], m.private_data[1] },
			};
			for (i = 0; i < messages; i++) {
				rfc->group[i].cookie = cookie;
				out[n++] = rfc->group[i];
			}
			rfc->partial = 0;
		}
	}
	return (int)n;
}

static int answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	struct rfc *rfc = ch->state;
	uint32_t i;

	for (i = 0; i < n; i++) {
		uint32_t cookie = responses[i].cookie;
		const struct uiopf_reply *reply = uiopf_replies_find(&rfc->replies, cookie);
		struct rfc_response r = { .size = sizeof r, .code = responses[i].code };
		int rc = -EINVAL;

		uiopf_system_call(ch, true);
		if (reply) {
			r.dev_id = reply->dev_id;
			r.pasid = reply->pasid;
			r.grpid = reply->grpid;
			rc = page_response(ch, &r);
			if (unlikely(rc == -EINTR))
				return i ? (int)i : rc;
			uiopf_replies_give(&rfc->replies, cookie);
		}
		ch->cost.bytes_copied += sizeof r;
		if (rc < 0)
			ch->cost.answer_errors++;
	}
	return (int)n;
}

static int private_data(const struct uiopf_channel *ch, uint32_t cookie, uint64_t out[2])
{
	const struct rfc *rfc = ch->state;

	return uiopf_replies_private_data(&rfc->replies, cookie, out);
}

static bool takes(const struct uiopf_channel *ch, uint32_t code)
{
	(void)ch;
	return code <= UIOPF_RESP_FAILURE;	/* as page_response() */
}

static int wait_eventfd(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	struct rfc *rfc = ch->state;

	return uiopf_told_wait(ch, &rfc->told, timeout_ns);
}

static int prepare_sleep(struct uiopf_channel *ch)
{
	struct rfc *rfc = ch->state;

	return uiopf_told_something(ch, &rfc->told);
}

static void kernel_cost(struct uiopf_channel *ch, struct uiopf_cost *cost)
{
	if (ch->core->live)
		cost->wakeups += ch->queue->notified;
}

static void close_eventfd(struct uiopf_channel *ch)
{
	struct rfc *rfc = ch->state;

	uiopf_control_begin(ch->core);
	ch->queue->notify_fd = -1;
	uiopf_control_end(ch->core);
	uiopf_named_free(&rfc->outstanding);
	uiopf_replies_free(&rfc->replies);
	free(rfc->group);
	free(rfc);
}

static int open_eventfd(struct uiopf_channel *ch)
{
	struct rfc *rfc = calloc(1, sizeof *rfc);
	uint32_t most = ch->config.in_flight > 512 ? ch->config.in_flight : 512;
	int named, replies;

	if (!rfc)
		return -ENOMEM;
	ch->state = rfc;
	rfc->told.notified = &ch->queue->notified;
	rfc->group = calloc(ch->config.group_most, sizeof *rfc->group);
	named = uiopf_named_init(&rfc->outstanding, most);
	replies = uiopf_replies_init(&rfc->replies, most);
	if (named < 0 || replies < 0 || !rfc->group) {
		close_eventfd(ch);
		return -ENOMEM;
	}
	uiopf_control_begin(ch->core);
	ch->queue->notify_fd = ch->eventfd;
	uiopf_control_end(ch->core);
	return 0;
}

const struct uiopf_design uiopf_design_eventfd = {
	.info = {
		.name = "eventfd",
		.year = "2023",
		.summary = "RFC: eventfd, read per 48-byte message, ioctl per answer",
		.personality = UIOPF_MERGED,
		.match = UIOPF_BY_INDEX,
		.has_client = true,
		.signals_awake = true,
	},
	.open = open_eventfd,
	.close = close_eventfd,
	.receive = receive,
	.answer = answer,
	.wait = wait_eventfd,
	.prepare_sleep = prepare_sleep,
	.takes = takes,
	.kernel_cost = kernel_cost,
	.private_data = private_data,
};
