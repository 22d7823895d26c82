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
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "designs/design.h"

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
	uint32_t mask, used;
	struct outstanding {
		uint32_t dev_id, pasid, grpid, cookie;	/* cookie 0: free */
	} *outstanding;
	/* The client's: messages that the eventfd has told of; a group that is not complete yet. */
	uint64_t told;
	uint32_t partial, most;
	struct iommu_hwpt_pgfault *group;
	struct reply { uint32_t dev_id, pasid, grpid; bool live, has_private; uint64_t private_data[2]; } *reply;	/* by the name that the generic clients answer by */
	struct uiopf_idmap names;
};

/* ---- kernel: the second fd's read, and the ioctl ---- */

static uint32_t hash(uint32_t dev_id, uint32_t pasid, uint32_t grpid)
{
	uint64_t key = (uint64_t)pasid << 32 ^ (uint64_t)grpid << 8 ^ dev_id;

	return (uint32_t)(key * 0x9e3779b97f4a7c15u >> 40);
}

/* The slot of a group, or a free one; the table is at most half full. */
static struct outstanding *find(struct rfc *rfc, uint32_t dev_id, uint32_t pasid, uint32_t grpid)
{
	uint32_t i = hash(dev_id, pasid, grpid) & rfc->mask;

	for (;; i = (i + 1) & rfc->mask) {
		struct outstanding *o = &rfc->outstanding[i];

		if (!o->cookie || (o->dev_id == dev_id && o->pasid == pasid && o->grpid == grpid))
			return o;
	}
}

/* Takes a slot out and moves up what was pushed past it, so that no search ends early. */
static void forget(struct rfc *rfc, struct outstanding *o)
{
	uint32_t hole = (uint32_t)(o - rfc->outstanding), i = hole;

	for (;;) {
		struct outstanding *next;
		uint32_t home;

		i = (i + 1) & rfc->mask;
		next = &rfc->outstanding[i];
		if (!next->cookie)
			break;
		home = hash(next->dev_id, next->pasid, next->grpid) & rfc->mask;
		if (((i - home) & rfc->mask) >= ((i - hole) & rfc->mask)) {
			rfc->outstanding[hole] = *next;
			hole = i;
		}
	}
	rfc->outstanding[hole].cookie = 0;
	rfc->used--;
}

/* The kernel may have answered for us meanwhile, and the cookie may be another group's by now. */
static bool is_current(const struct uiopf_channel *ch, const struct outstanding *o)
{
	const struct uiopf_group *group = ch->queue->by_cookie[o->cookie];

	return group && group->last.dev_id == o->dev_id && group->last.pasid == o->pasid && group->last.grpid == o->grpid;
}

static void remember(struct uiopf_channel *ch, const struct uiopf_group *group)
{
	struct rfc *rfc = ch->state;
	struct outstanding *o;
	uint32_t i;

	for (i = 0; rfc->used > rfc->mask / 2 && i <= rfc->mask; i++)
		while (rfc->outstanding[i].cookie && !is_current(ch, &rfc->outstanding[i]))
			forget(rfc, &rfc->outstanding[i]);
	o = find(rfc, group->last.dev_id, group->last.pasid, group->last.grpid);
	rfc->used += !o->cookie;
	*o = (struct outstanding){ group->last.dev_id, group->last.pasid, group->last.grpid, group->last.cookie };
}

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
		remember(ch, group);
		rfc->reading = NULL;
	}
	uiopf_consumer_end(ch->core);
	return sizeof *m;
}

/* ioctl(IOMMU_PAGE_RESPONSE): the group is searched by device, PASID and index. */
static int page_response(struct uiopf_channel *ch, const struct rfc_response *r)
{
	struct rfc *rfc = ch->state;
	struct outstanding *o;
	int rc = -EINVAL;

	if (r->size < sizeof *r || r->code > UIOPF_RESP_FAILURE)
		return -EINVAL;
	if (uiopf_consumer_try_begin(ch->core) < 0)
		return -EINTR;
	o = find(rfc, r->dev_id, r->pasid, r->grpid);
	if (o->cookie) {
		const struct outstanding found = *o;

		forget(rfc, o);
		if (is_current(ch, &found) && uiopf_faultq_answer_cookie(ch->queue, found.cookie, r->code))
			rc = 0;
		uiopf_core_kick(ch->core);
	}
	uiopf_consumer_end(ch->core);
	return rc;
}

/* ---- client ---- */

/* read(2) of the eventfd: how many messages have come since the last time; or -EINTR. */
static int read_eventfd(struct uiopf_channel *ch)
{
	struct rfc *rfc = ch->state;
	eventfd_t told = 0;

	if (ch->core->live) {
		if (eventfd_read(ch->eventfd, &told) < 0)
			told = 0;
	} else {
		if (uiopf_control_try_begin(ch->core) < 0)
			return -EINTR;
		/* Without a worker nothing is written where nothing is paid for: the count stands for it. */
		eventfd_read(ch->eventfd, &told);
		told = ch->queue->notified;
		ch->queue->notified = 0;
		ch->cost.wakeups += told;
		uiopf_control_end(ch->core);
	}
	if (told) {
		ch->cost.system_calls++;
		ch->cost.bytes_copied += sizeof told;
	} else {
		ch->cost.empty_polls++;
	}
	rfc->told = told;
	return 0;
}

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct rfc *rfc = ch->state;
	uint32_t n = 0;

	if (!rfc->told && read_eventfd(ch) < 0)
		return -EINTR;
	/* Generic clients want whole groups; this design splits them, so its client gathers. */
	while (rfc->told && n + rfc->partial < most) {
		struct rfc_pgfault m;
		struct iommu_hwpt_pgfault *to = &rfc->group[rfc->partial];
		int64_t got = read_message(ch, &m);

		if (unlikely(got < 0))
			return n ? (int)n : (int)got;
		if (got == 0) {	/* answered for meanwhile: told of, and gone */
			uiopf_system_call(ch, false);
			rfc->told = 0;
			break;
		}
		uiopf_system_call(ch, true);
		ch->cost.bytes_copied += sizeof m;
		rfc->told--;
		*to = (struct iommu_hwpt_pgfault){
			.flags = m.flags & 3, .dev_id = m.dev_id, .pasid = m.pasid, .grpid = m.grpid,
			.perm = m.perm, .addr = m.addr,
		};
		if (rfc->partial + 1 < ch->config.group_most)
			rfc->partial++;
		if (m.flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) {
			/* The generic clients' name for a group; what the ioctl needs is kept under it. */
			uint32_t cookie, i, messages = (uint32_t)(to - rfc->group) + 1;

			if (!uiopf_idmap_take(&rfc->names, &cookie))
				return n ? (int)n : -ENOBUFS;	/* more groups unanswered than the client said */
			rfc->reply[cookie] = (struct reply){
				m.dev_id, m.pasid, m.grpid, true, m.flags & 4, { m.private_data[0], m.private_data[1] },
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
		struct rfc_response r = { .size = sizeof r, .code = responses[i].code };
		int rc = -EINVAL;

		if (cookie && cookie <= rfc->most && rfc->reply[cookie].live) {
			r.dev_id = rfc->reply[cookie].dev_id;
			r.pasid = rfc->reply[cookie].pasid;
			r.grpid = rfc->reply[cookie].grpid;
			rc = page_response(ch, &r);
			if (unlikely(rc == -EINTR))
				return i ? (int)i : rc;
			rfc->reply[cookie].live = false;
			uiopf_idmap_give(&rfc->names, cookie);
		}
		uiopf_system_call(ch, true);
		ch->cost.bytes_copied += sizeof r;
		if (rc < 0)
			ch->cost.answer_errors++;
	}
	return (int)n;
}

static int private_data(const struct uiopf_channel *ch, uint32_t cookie, uint64_t out[2])
{
	const struct rfc *rfc = ch->state;
	const struct reply *reply = cookie && cookie <= rfc->most ? &rfc->reply[cookie] : NULL;

	if (!reply || !reply->live)
		return -EINVAL;
	memcpy(out, reply->private_data, sizeof reply->private_data);
	return reply->has_private;
}

static bool takes(const struct uiopf_channel *ch, uint32_t code)
{
	(void)ch;
	return code <= UIOPF_RESP_FAILURE;	/* as page_response() */
}

static bool something(struct uiopf_channel *ch)
{
	struct rfc *rfc = ch->state;
	struct pollfd p = { .fd = ch->eventfd, .events = POLLIN };

	if (rfc->told || !ch->core->live)
		return rfc->told || READ_ONCE(&ch->queue->notified);
	return poll(&p, 1, 0) > 0;
}

static int wait_eventfd(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	struct rfc *rfc = ch->state;
	struct pollfd p = { .fd = ch->eventfd, .events = POLLIN };
	struct timespec t = { (time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u) };
	uint32_t turns = 0;
	int rc;

	if (ch->core->driver == UIOPF_INLINE) {
		while (!(rc = something(ch))) {
			rc = turns++ < UIOPF_TURNS_OF_A_CALL ? uiopf_core_produce(ch->core) : -EINTR;
			if (rc <= 0)
				break;
		}
		if (uiopf_sleeps(ch))
			uiopf_system_call(ch, true);
		return rc;
	}
	if (!uiopf_sleeps(ch) || rfc->told)
		return 1;
	ch->cost.system_calls++;	/* poll: a real one; receive reads the counter */
	rc = ppoll(&p, 1, timeout_ns == UINT64_MAX ? NULL : &t, NULL);
	return rc > 0 ? 1 : rc < 0 && errno == EINTR ? -EINTR : 0;
}

static int prepare_sleep(struct uiopf_channel *ch)
{
	return something(ch);
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
	free(rfc->outstanding);
	free(rfc->group);
	free(rfc->reply);
	uiopf_idmap_free(&rfc->names);
	free(rfc);
}

static int open_eventfd(struct uiopf_channel *ch)
{
	struct rfc *rfc = calloc(1, sizeof *rfc);
	uint32_t slots = 64;

	if (!rfc)
		return -ENOMEM;
	rfc->most = ch->config.in_flight > 512 ? ch->config.in_flight : 512;
	while (slots < 2 * rfc->most)
		slots *= 2;
	rfc->mask = slots - 1;
	rfc->outstanding = calloc(slots, sizeof *rfc->outstanding);
	rfc->group = calloc(ch->config.group_most, sizeof *rfc->group);
	rfc->reply = calloc(rfc->most + 1, sizeof *rfc->reply);
	ch->state = rfc;
	uiopf_idmap_init(&rfc->names, 1);
	if (uiopf_idmap_reserve(&rfc->names, rfc->most) < 0 || !rfc->outstanding || !rfc->group || !rfc->reply) {
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
