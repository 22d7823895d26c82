#include "designs/named.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- kernel ---- */

static uint32_t hash(uint32_t dev_id, uint32_t pasid, uint32_t grpid)
{
	uint64_t key = (uint64_t)pasid << 32 ^ (uint64_t)grpid << 8 ^ dev_id;

	return (uint32_t)(key * 0x9e3779b97f4a7c15u >> 40);
}

/* The slot of a group, or a free one. */
static struct uiopf_named_group *find(struct uiopf_named *named, uint32_t dev_id, uint32_t pasid, uint32_t grpid)
{
	uint32_t i = hash(dev_id, pasid, grpid) & named->mask;

	for (;; i = (i + 1) & named->mask) {
		struct uiopf_named_group *o = &named->slot[i];

		if (!o->cookie || (o->dev_id == dev_id && o->pasid == pasid && o->grpid == grpid))
			return o;
	}
}

/* Takes a slot out and moves up what was pushed past it, so that no search ends early. */
static void forget(struct uiopf_named *named, struct uiopf_named_group *o)
{
	uint32_t hole = (uint32_t)(o - named->slot), i = hole;

	for (;;) {
		struct uiopf_named_group *next;
		uint32_t home;

		i = (i + 1) & named->mask;
		next = &named->slot[i];
		if (!next->cookie)
			break;
		home = hash(next->dev_id, next->pasid, next->grpid) & named->mask;
		if (((i - home) & named->mask) >= ((i - hole) & named->mask)) {
			named->slot[hole] = *next;
			hole = i;
		}
	}
	named->slot[hole].cookie = 0;
	named->used--;
}

/* The kernel may have answered for us meanwhile, and the cookie may be another group's by now. */
static bool is_current(const struct uiopf_faultq *queue, const struct uiopf_named_group *o)
{
	const struct uiopf_group *group = queue->by_cookie[o->cookie];

	return group && group->last.dev_id == o->dev_id && group->last.pasid == o->pasid && group->last.grpid == o->grpid;
}

void uiopf_named_remember(struct uiopf_named *named, const struct uiopf_faultq *queue, const struct uiopf_group *group)
{
	struct uiopf_named_group *o;
	uint32_t i;

	for (i = 0; named->used > named->mask / 2 && i <= named->mask; i++)
		while (named->slot[i].cookie && !is_current(queue, &named->slot[i]))
			forget(named, &named->slot[i]);
	o = find(named, group->last.dev_id, group->last.pasid, group->last.grpid);
	named->used += !o->cookie;
	*o = (struct uiopf_named_group){ group->last.dev_id, group->last.pasid, group->last.grpid, group->last.cookie };
}

uint32_t uiopf_named_find(struct uiopf_named *named, const struct uiopf_faultq *queue, uint32_t dev_id, uint32_t pasid,
			  uint32_t grpid)
{
	struct uiopf_named_group *o = find(named, dev_id, pasid, grpid);

	if (!o->cookie)
		return 0;
	if (is_current(queue, o))
		return o->cookie;
	forget(named, o);
	return 0;
}

bool uiopf_named_answer(struct uiopf_named *named, struct uiopf_faultq *queue, uint32_t cookie, uint32_t code)
{
	const struct uiopf_group *group = queue->by_cookie[cookie];

	forget(named, find(named, group->last.dev_id, group->last.pasid, group->last.grpid));
	return uiopf_faultq_answer_cookie(queue, cookie, code);
}

int uiopf_named_init(struct uiopf_named *named, uint32_t most)
{
	uint32_t slots = 64;

	while (slots < 2 * most)
		slots *= 2;
	named->mask = slots - 1;
	named->used = 0;
	named->slot = calloc(slots, sizeof *named->slot);
	return named->slot ? 0 : -ENOMEM;
}

void uiopf_named_free(struct uiopf_named *named)
{
	free(named->slot);
}

/* ---- client ---- */

bool uiopf_replies_take(struct uiopf_replies *replies, uint32_t *name)
{
	return uiopf_idmap_take(&replies->names, name);
}

struct uiopf_reply *uiopf_replies_find(const struct uiopf_replies *replies, uint32_t name)
{
	return name && name <= replies->most && replies->reply[name].live ? &replies->reply[name] : NULL;
}

void uiopf_replies_give(struct uiopf_replies *replies, uint32_t name)
{
	replies->reply[name].live = false;
	uiopf_idmap_give(&replies->names, name);
}

int uiopf_replies_private_data(const struct uiopf_replies *replies, uint32_t name, uint64_t out[2])
{
	const struct uiopf_reply *reply = uiopf_replies_find(replies, name);

	if (!reply)
		return -EINVAL;
	memcpy(out, reply->private_data, sizeof reply->private_data);
	return reply->has_private;
}

int uiopf_replies_init(struct uiopf_replies *replies, uint32_t most)
{
	replies->most = most;
	replies->reply = calloc(most + 1, sizeof *replies->reply);
	uiopf_idmap_init(&replies->names, 1);
	return uiopf_idmap_reserve(&replies->names, most) < 0 || !replies->reply ? -ENOMEM : 0;
}

void uiopf_replies_free(struct uiopf_replies *replies)
{
	free(replies->reply);
	uiopf_idmap_free(&replies->names);
}
