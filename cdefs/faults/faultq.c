#include "faults/faultq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "faults/fault_cqe.h"

#define MESSAGE ((uint64_t)sizeof(struct iommu_hwpt_pgfault))
#define RESPONSE ((uint64_t)sizeof(struct iommu_hwpt_page_response))

/* ---- producer ---- */

bool uiopf_faultq_admit(struct uiopf_faultq *q, const struct uiopf_group *group)
{
	struct uiopf_policy *p = q->policy;
	uint64_t now;

	/* The reader only makes more room meanwhile. */
	if (!uiopf_policy_admit(p, LOAD_ACQUIRE(&q->head), q->tail, group->fault_count))
		return false;
	if (p->limits.timeout_ns) {
		now = uiopf_now(&q->core->clock);
		*uiopf_policy_arrived(p, q->tail) = now;
		now = uiopf_policy_too_late(p, now);
		if (q->core->expiry_ns > now)	/* another queue's may be longer */
			q->core->expiry_ns = now;
	}
	return true;
}

/* Groups have come to a waypoint. Without a watch, one look at a line that nobody writes. */
#define PASS(q, waypoint, groups) do {									\
		if (unlikely((q)->watch != NULL))							\
			uiopf_waypoint_pass(&(q)->watch->waypoint, (groups), uiopf_now(&(q)->core->clock));	\
	} while (0)

void uiopf_faultq_publish_slow(struct uiopf_faultq *q)
{
	PASS(q, queued, q->tail - q->published);
	/*
	 * Pairs with the loads of `published`. Sequentially consistent, so that either we see the sleeper below, or it
	 * sees the groups when it looks once more before it sleeps.
	 */
	STORE_SEQ(&q->published, q->tail);
	if (q->notify_fd >= 0) {	/* the RFC signals once a message, as they come */
		WRITE_ONCE(&q->notified, q->notified + q->messages);
		for (; q->messages; q->messages--)
			uiopf_eventfd_signal(q->core, q->notify_fd);
	}
	q->messages = 0;
	if (LOAD_SEQ(&q->core->sleepers_count))
		uiopf_core_wake_sleepers(q->core, &q->file);
	uiopf_core_made_work(q->core);
}

/* ---- consumer ---- */

/*
 * Cookies count from 1, until a client answers cookie 0 while another is live. Linux keeps 0 busy with a reserved entry
 * in the xarray's node, which that answer's xa_erase() takes out like any other: it is refused, but from then on 0 is a
 * number like the others. With no cookie live there is no node, and nothing to take out. (Golden: random-1040, -1095.)
 */
hot_inline bool take_cookie(struct uiopf_faultq *q, uint32_t *cookie)
{
	if (unlikely(q->zero_is_free)) {
		q->zero_is_free = false;
		*cookie = 0;
		return true;
	}
	return uiopf_idmap_take(&q->cookies, cookie);
}

hot_inline void give_cookie(struct uiopf_faultq *q, uint32_t cookie)
{
	if (unlikely(q->policy != NULL))
		uiopf_policy_forget(q->policy, q->by_cookie[cookie]);
	q->by_cookie[cookie] = NULL;
	if (unlikely(cookie == 0))
		q->zero_is_free = true;
	else
		uiopf_idmap_give(&q->cookies, cookie);
}

static void refuse_cookie(struct uiopf_faultq *q, uint32_t cookie)
{
	uint32_t i;

	if (cookie != 0 || q->zero_is_cookie)
		return;
	for (i = 1; i <= q->cookies.capacity && !q->zero_is_cookie; i++)
		q->zero_is_cookie = q->zero_is_free = q->by_cookie[i] != NULL;
}

/* Gives the oldest group its cookie. The caller has seen that there is one. */
hot_inline struct uiopf_group *deliver(struct uiopf_faultq *q)
{
	struct uiopf_group *group = q->ring[q->head & q->mask];
	uint32_t cookie;

	if (!take_cookie(q, &cookie))
		return NULL;
	uiopf_set_cookie(&group->last, cookie);
	q->by_cookie[cookie] = group;
	if (unlikely(q->policy != NULL))
		uiopf_policy_deliver(q->policy, q->head, group);
	WRITE_ONCE(&q->head, q->head + 1);	/* a client about to sleep looks at it without our lock */
	q->counts.delivered_groups++;
	PASS(q, taken, 1);
	return group;
}

struct uiopf_group *uiopf_faultq_next(struct uiopf_faultq *q)
{
	return uiopf_faultq_has_group(q) ? deliver(q) : NULL;
}

/* A reader's memory: at one address, or in pieces. Or a command's completions. */
struct reader {
	uint8_t *to;
	struct uiopf_pieces *pieces;	/* NULL: it is not in pieces */
	struct uiopf_command *command;	/* … and no memory */
};

hot_inline void put_message(struct reader *reader, const struct iommu_hwpt_pgfault *message)
{
	if (reader->command) {
		uiopf_post_fault(reader->command, message);
	} else if (reader->pieces) {
		uiopf_copy_to_pieces(reader->pieces, message, sizeof *message);
	} else {
		uiopf_copy_to_client(reader->to, message, sizeof *message);
		reader->to += sizeof *message;
	}
}

hot_inline bool has_memory(const struct reader *reader, uint64_t length)
{
	return !reader->pieces || uiopf_pieces_have(reader->pieces, length);
}

/* Copies the messages of a delivered group, its last fault last. */
hot_inline void copy_group(struct reader *reader, const struct uiopf_group *group)
{
	const struct uiopf_device *device = group->attach->device;
	struct iommu_hwpt_pgfault message;
	uint32_t node;

	for (node = group->partial; unlikely(node != UIOPF_NONE); node = device->node[node].next) {
		uiopf_fill_message_kept(&message, group->last.dev_id, &device->node[node].fault);
		uiopf_set_cookie(&message, group->last.cookie);
		put_message(reader, &message);
	}
	put_message(reader, &group->last);
}

/* The record of a loss: no fault, no cookie, and how many groups were lost since the last one. */
static void tell_lost(struct uiopf_faultq *q, struct reader *reader)
{
	uint64_t lost = uiopf_policy_lost(q->policy, q->head);
	const struct iommu_hwpt_pgfault message = {
		.flags = UIOPF_PGFAULT_FLAGS_LOST,
		.length = lost < UINT32_MAX ? (uint32_t)lost : UINT32_MAX,
	};

	put_message(reader, &message);
	q->policy->told += message.length;
}

/* Whole groups, as many as there is room for. Where memory ends that the client has, the group stays first. */
hot_inline int64_t take(struct uiopf_faultq *q, struct reader reader, uint64_t length)
{
	uint64_t done = 0;

	if (length % MESSAGE)
		return -ESPIPE;
	for (;;) {
		struct uiopf_group *group;
		uint64_t size;

		if (unlikely(q->policy != NULL) && uiopf_policy_lost(q->policy, q->head)) {
			if (done == length)
				return done ? (int64_t)done : -EINVAL;
			if (!has_memory(&reader, MESSAGE))
				return done ? (int64_t)done : -EFAULT;
			tell_lost(q, &reader);
			done += MESSAGE;
		}
		if (!uiopf_faultq_has_group(q))
			break;
		group = q->ring[q->head & q->mask];
		size = group->fault_count * MESSAGE;
		if (size > length - done)
			return done ? (int64_t)done : -EINVAL;	/* the group stays first */
		if (!has_memory(&reader, size))
			return done ? (int64_t)done : -EFAULT;
		if (unlikely(!deliver(q)))
			return done ? (int64_t)done : -ENOMEM;
		copy_group(&reader, group);
		done += size;
		if (done == length)
			break;
	}
	return (int64_t)done;
}

hot_inline bool takes_code(const struct uiopf_faultq *q, uint32_t cookie, uint32_t code)
{
	if (likely(code == IOMMUFD_PAGE_RESP_SUCCESS || code == IOMMUFD_PAGE_RESP_INVALID))
		return true;
	return code == UIOPF_RESP_FAILURE && cookie <= q->cookies.capacity && q->by_cookie[cookie] &&
	       READ_ONCE(&q->by_cookie[cookie]->attach->device->virtual_pri) != UIOPF_PRI_OWN;
}

hot_inline bool answer_cookie(struct uiopf_faultq *q, uint32_t cookie, uint32_t code)
{
	struct uiopf_group *group;

	if (cookie > q->cookies.capacity || !(group = q->by_cookie[cookie])) {
		refuse_cookie(q, cookie);
		return false;
	}
	PASS(q, accepted, 1);
	give_cookie(q, cookie);
	q->counts.answered_groups++;
	q->counts.answered_faults += group->fault_count;
	group->attach->device->answered += group->fault_count;
	uiopf_group_respond(group, code);
	return true;
}

bool uiopf_faultq_answer_cookie(struct uiopf_faultq *q, uint32_t cookie, uint32_t code)
{
	return answer_cookie(q, cookie, code);
}

/* The code is checked before the cookie. */
hot_inline bool answer_one(struct uiopf_faultq *q, struct iommu_hwpt_page_response r)
{
	return takes_code(q, r.cookie, r.code) && answer_cookie(q, r.cookie, r.code);
}

int uiopf_faultq_takes(struct uiopf_faultq *q, uint32_t cookie, uint32_t code)
{
	int rc;

	if (uiopf_consumer_try_begin(q->core) < 0)
		return -EINTR;
	rc = takes_code(q, cookie, code);
	uiopf_consumer_end(q->core);
	return rc;
}

static int64_t answer(struct uiopf_faultq *q, const uint8_t *from, uint64_t length)
{
	uint64_t done;

	if (length % RESPONSE)
		return -ESPIPE;
	for (done = 0; done < length; done += RESPONSE) {
		struct iommu_hwpt_page_response r;

		uiopf_copy_from_client(&r, from + done, sizeof r);
		if (!answer_one(q, r))
			return done ? (int64_t)done : -EINVAL;
	}
	return (int64_t)done;
}

/* The same from pieces: however long they are, the first answer to no group ends it. */
static int64_t answer_pieces(struct uiopf_faultq *q, struct uiopf_pieces *from, uint64_t length)
{
	uint64_t done;

	if (length % RESPONSE)
		return -ESPIPE;
	for (done = 0; done < length; done += RESPONSE) {
		struct iommu_hwpt_page_response r;

		if (!uiopf_pieces_have(from, RESPONSE))
			return done ? (int64_t)done : -EFAULT;
		uiopf_copy_from_pieces(&r, from, sizeof r);
		if (!answer_one(q, r))
			return done ? (int64_t)done : -EINVAL;
	}
	return (int64_t)done;
}

/* ---- the file ---- */

static struct uiopf_faultq *queue_of(struct uiopf_file *file)
{
	return container_of(file, struct uiopf_faultq, file);
}

/*
 * A read of one message by a ring, which is what pre-posted buffers are made for: nothing waits, or a group of one
 * fault, and nothing was lost. False: it is not so, and nothing has happened.
 */
hot_inline bool read_one(struct uiopf_faultq *q, uint8_t *to, int64_t *done)
{
	struct uiopf_group *group;

	if (unlikely(q->policy != NULL))
		return false;
	if (!uiopf_faultq_has_group(q)) {
		*done = q->file.mode & UIOPF_FILE_ITER ? -EAGAIN : 0;
		return true;
	}
	group = q->ring[q->head & q->mask];
	if (unlikely(group->fault_count != 1 || !deliver(q)))
		return false;
	uiopf_copy_to_client(to, &group->last, MESSAGE);
	*done = MESSAGE;
	return true;
}

/* What `proposed` changes, besides having read_iter: an empty queue is "not yet", not "end". */
static bool is_not_yet(struct uiopf_faultq *q, uint64_t length)
{
	return (q->file.mode & UIOPF_FILE_ITER) && length && length % MESSAGE == 0 && !uiopf_faultq_has_group(q) &&
	       likely(!q->policy || !uiopf_policy_lost(q->policy, q->head));
}

/* … and to read nothing while nothing waits is nothing. */
static bool is_nothing(struct uiopf_faultq *q, uint64_t length)
{
	return (q->file.mode & UIOPF_FILE_ITER) && !length && !uiopf_faultq_has_group(q);
}

static int64_t file_read(struct uiopf_file *file, uint8_t *to, uint64_t length, int64_t position)
{
	struct uiopf_faultq *q = queue_of(file);
	int64_t done;

	if (position != 0 && position != -1)
		return -ESPIPE;
	if (likely(length == MESSAGE) && read_one(q, to, &done))
		return done;
	if (is_nothing(q, length))
		return 0;
	if (is_not_yet(q, length))
		return -EAGAIN;
	return take(q, (struct reader){ .to = to }, length);
}

static int64_t file_read_pieces(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int64_t position)
{
	struct uiopf_faultq *q = queue_of(file);
	struct uiopf_pieces pieces = { piece, count, 0 };
	const uint64_t length = uiopf_pieces_total(piece, count);

	if (position != 0 && position != -1)
		return -ESPIPE;
	if (is_nothing(q, length))
		return 0;
	if (is_not_yet(q, length))
		return -EAGAIN;
	return take(q, (struct reader){ .pieces = &pieces }, length);
}

static int64_t file_write(struct uiopf_file *file, const uint8_t *from, uint64_t length, int64_t position)
{
	struct iommu_hwpt_page_response r;

	if (position != 0 && position != -1)
		return -ESPIPE;
	if (unlikely(length != RESPONSE))
		return answer(queue_of(file), from, length);
	uiopf_copy_from_client(&r, from, sizeof r);
	return answer_one(queue_of(file), r) ? (int64_t)RESPONSE : -EINVAL;
}

static int64_t file_write_pieces(struct uiopf_file *file, const struct iovec *piece, uint32_t count, int64_t position)
{
	struct uiopf_pieces pieces = { piece, count, 0 };

	if (position != 0 && position != -1)
		return -ESPIPE;
	return answer_pieces(queue_of(file), &pieces, uiopf_pieces_total(piece, count));
}

static uint32_t file_poll(struct uiopf_file *file)
{
	struct uiopf_faultq *q = queue_of(file);
	bool readable = uiopf_faultq_has_group(q) || (unlikely(q->policy != NULL) && uiopf_policy_lost(q->policy, q->head));

	return POLLOUT | (readable ? POLLIN | POLLRDNORM : 0);
}

struct uiopf_file *uiopf_faultq_file(struct uiopf_faultq *q)
{
	return &q->file;
}

static const struct uiopf_file_ops faultq_file_ops = {
	.read = file_read,
	.write = file_write,
	.read_pieces = file_read_pieces,
	.write_pieces = file_write_pieces,
	.poll = file_poll,
	.arm = uiopf_file_arm,
	.cancel = uiopf_file_cancel,
};

/* ---- its commands: api.h says what they are ---- */

static bool has_lost(const struct uiopf_faultq *q)
{
	return unlikely(q->policy != NULL) && uiopf_policy_lost(q->policy, q->head);
}

/* CQEs for the messages of the oldest group. Those before the last keep to one or two each, as theirs is a matter of length. */
static uint64_t cqes_of(const struct uiopf_group *group)
{
	return uiopf_fault_cqes(&group->last) + (group->fault_count - 1) * (uint64_t)UIOPF_MOST_FAULT_CQES;
}

/*
 * Whole groups: what has no room stays where it is. All that is taken is posted before anything else happens to the command,
 * so a cancel finds no group that has left the queue and is not in the CQ.
 */
static int32_t receive(struct uiopf_faultq *q, struct uiopf_command *c)
{
	struct reader reader = { .command = c };

	if (!c->wide || c->multishot || c->address || c->length || c->data[0] || c->data[1])
		return -EINVAL;
	for (;;) {
		struct uiopf_group *group;

		if (has_lost(q)) {
			if (c->ring->room(c) < UIOPF_MOST_FAULT_CQES)
				return -ENOBUFS;
			tell_lost(q, &reader);
		}
		if (!uiopf_faultq_has_group(q))
			return -UIOPF_EIOCBQUEUED;
		group = q->ring[q->head & q->mask];
		if (c->ring->room(c) < cqes_of(group))
			return -ENOBUFS;
		if (unlikely(!deliver(q)))
			return -ENOMEM;
		copy_group(&reader, group);
	}
}

/* The code and the cookie are the SQE's, of which the ring has a copy: nothing of the client's memory is loaded. */
static int32_t answer_in(struct uiopf_faultq *q, const struct uiopf_command *c)
{
	const struct iommu_hwpt_page_response response = {
		.cookie = (uint32_t)c->data[0], .code = (uint32_t)(c->data[0] >> 32),
	};

	return answer_one(q, response) ? 0 : -EINVAL;
}

static int32_t respond(struct uiopf_faultq *q, const struct uiopf_command *c)
{
	return c->multishot || c->address || c->length || c->data[1] ? -EINVAL : answer_in(q, c);
}

/*
 * One group, or waits for one. It waits in turn: with as many of these as groups may be in flight, a fault that called them
 * all would cost as many looks.
 */
static int32_t fetch(struct uiopf_faultq *q, struct uiopf_command *c, uint8_t *to)
{
	uint64_t size = MESSAGE;	/* a loss is told by itself */
	int64_t n;

	if (!has_lost(q)) {
		if (!uiopf_faultq_has_group(q)) {
			c->in_turn = true;
			return -UIOPF_EIOCBQUEUED;
		}
		size = q->ring[q->head & q->mask]->fault_count * MESSAGE;
	}
	if (size > c->length)
		return -EINVAL;
	n = take(q, (struct reader){ .to = to }, size);
	c->copied = n > 0 ? (uint64_t)n : 0;
	return (int32_t)n;
}

/* With an answer: it is given only once the rest is good, and not again when the command is called. */
static int32_t commit_and_fetch(struct uiopf_faultq *q, struct uiopf_command *c, bool commit)
{
	uint8_t *to;
	int32_t rc;

	if (c->multishot || c->data[1] || (!commit && c->data[0]) || !c->length || c->length % MESSAGE)
		return -EINVAL;
	to = c->ring->memory(c, c->address, c->length);
	if (!to)
		return -EFAULT;
	if (commit) {
		rc = answer_in(q, c);
		if (rc < 0)
			return rc;
		c->op = UIOPF_CMD_FETCH;
		c->data[0] = 0;
	}
	return fetch(q, c, to);
}

/* A loss is told first in a buffer, or by itself where that has room for no group behind it. */
static int32_t fetch_batch(struct uiopf_faultq *q, struct uiopf_command *c)
{
	if (!c->multishot || c->address || c->length || c->data[0] || c->data[1])
		return -EINVAL;
	while (has_lost(q) || uiopf_faultq_has_group(q)) {
		uint64_t length;
		uint8_t *to;
		int64_t n;
		int32_t rc = c->ring->room(c) ? c->ring->select(c, &to, &length) : -ENOBUFS;

		if (unlikely(rc < 0))
			return rc;
		if (unlikely(!to))
			return -EFAULT;
		n = take(q, (struct reader){ .to = to }, length - length % MESSAGE);
		if (unlikely(n <= 0))
			return n < 0 ? (int32_t)n : -EINVAL;
		c->copied += (uint64_t)n;
		if (unlikely(!c->ring->post_selected(c, (int32_t)n)))
			return -ENOBUFS;	/* the client has moved its head back: it has cheated itself */
	}
	return -UIOPF_EIOCBQUEUED;
}

/* A client may have seen no result of an answer that was refused, so none of the others waits for that. */
static int32_t commit_batch(struct uiopf_faultq *q, struct uiopf_command *c)
{
	const uint8_t *from;
	uint32_t done;

	if (c->multishot || c->data[0] || c->data[1] || !c->length || c->length % RESPONSE ||
	    c->length > UIOPF_MOST_IN_BATCH * RESPONSE)
		return -EINVAL;
	from = c->ring->memory(c, c->address, c->length);
	if (!from)
		return -EFAULT;
	for (done = 0; done < c->length; done += RESPONSE) {
		struct iommu_hwpt_page_response r;

		uiopf_copy_from_client(&r, from + done, sizeof r);
		c->extra += !answer_one(q, r);
	}
	c->copied = c->length;
	return c->extra ? -EINVAL : 0;
}

static int32_t file_command(struct uiopf_file *file, struct uiopf_command *c)
{
	struct uiopf_faultq *q = queue_of(file);

	switch (c->op) {
	case UIOPF_CMD_RECEIVE:
		return receive(q, c);
	case UIOPF_CMD_RESPOND:
		return respond(q, c);
	case UIOPF_CMD_FETCH:
	case UIOPF_CMD_COMMIT_AND_FETCH:
		return commit_and_fetch(q, c, c->op == UIOPF_CMD_COMMIT_AND_FETCH);
	case UIOPF_CMD_FETCH_BATCH:
		return fetch_batch(q, c);
	case UIOPF_CMD_COMMIT_BATCH:
		return commit_batch(q, c);
	default:
		return -EINVAL;
	}
}

static const struct uiopf_file_ops commands_file_ops = {
	.read = file_read,
	.write = file_write,
	.read_pieces = file_read_pieces,
	.write_pieces = file_write_pieces,
	.poll = file_poll,
	.arm = uiopf_file_arm,
	.cancel = uiopf_file_cancel,
	.command = file_command,
};

/* ---- quiescent ---- */

int uiopf_faultq_reserve(struct uiopf_faultq *q, uint32_t groups)
{
	uint32_t capacity = 64, i;
	struct uiopf_group **ring, **by_cookie;
	int rc;

	if (groups > UIOPF_MOST_GROUPS)
		return -ENOMEM;
	while (capacity < groups)
		capacity *= 2;
	if (capacity <= q->cookies.capacity)
		return 0;
	/*
	 * Without memory half way, what is larger by then is only not used: no index reaches further than the cookies, which
	 * grow last, and the ring grows together with what has its places.
	 */
	by_cookie = reallocarray(q->by_cookie, capacity + 1, sizeof *by_cookie);
	if (!by_cookie)
		return -ENOMEM;
	i = q->cookies.capacity ? q->cookies.capacity + 1 : 0;
	memset(by_cookie + i, 0, (capacity + 1 - i) * sizeof *by_cookie);
	q->by_cookie = by_cookie;
	if (!q->ring || capacity > q->mask + 1) {
		ring = malloc(capacity * sizeof *ring);
		if (!ring)
			return -ENOMEM;
		rc = q->policy ? uiopf_policy_reserve(q->policy, q->by_cookie, q->head, q->tail, capacity) : 0;
		if (rc < 0) {
			free(ring);
			return rc;
		}
		for (i = q->head; i != q->tail; i++)
			ring[i & (capacity - 1)] = q->ring[i & q->mask];
		free(q->ring);
		q->ring = ring;
		q->mask = capacity - 1;
	}
	return uiopf_idmap_reserve(&q->cookies, capacity);
}

static void answer_for(struct uiopf_faultq *q, struct uiopf_group *group, uint32_t code)
{
	q->counts.auto_answered_groups++;
	q->counts.auto_answered_faults += group->fault_count;
	group->attach->device->answered_for += group->fault_count;
	uiopf_group_respond(group, code);
}

/* The group with this cookie, the oldest of all; UIOPF_NONE: none has one, the head of the ring. Its faults. */
static uint32_t answer_oldest(struct uiopf_faultq *q, uint32_t cookie, uint32_t code)
{
	struct uiopf_group *group;
	uint32_t faults;

	if (cookie != UIOPF_NONE) {
		group = q->by_cookie[cookie];
		give_cookie(q, cookie);
	} else {
		group = q->ring[q->head & q->mask];
		WRITE_ONCE(&q->head, q->head + 1);
		if ((int32_t)(q->woken - q->head) < 0)
			q->woken = q->head;
	}
	faults = group->fault_count;	/* the answer gives the group back */
	answer_for(q, group, code);
	return faults;
}

void uiopf_faultq_refuse_next(struct uiopf_faultq *q, uint32_t code)
{
	answer_oldest(q, UIOPF_NONE, code);
}

static bool is_of(const struct uiopf_group *group, uint64_t handle, const struct uiopf_device *device)
{
	return group->attach->handle == handle && (!device || group->attach->device == device);
}

void uiopf_faultq_auto_respond(struct uiopf_faultq *q, uint64_t handle, const struct uiopf_device *device)
{
	uint32_t i, kept = q->tail, lost_at, cookie;

	lost_at = q->policy ? q->policy->lost_at : 0;
	/*
	 * Undelivered groups first. Linux moves them to a list head one by one and so answers the newest first; walking
	 * from the tail does the same, and pushes what stays up against the tail.
	 */
	for (i = q->tail; i != q->head; i--) {
		struct uiopf_group *group = q->ring[(i - 1) & q->mask];

		if (q->policy && q->policy->lost_at == i)
			lost_at = kept;
		if (is_of(group, handle, device)) {
			answer_for(q, group, UIOPF_RESP_INVALID);
		} else {
			q->ring[--kept & q->mask] = group;
			if (q->policy)
				uiopf_policy_move(q->policy, kept, i - 1);
		}
	}
	WRITE_ONCE(&q->head, kept);
	q->seen = q->tail;
	if (q->policy)
		q->policy->lost_at = lost_at;	/* what was stored before the loss is told of before it */
	/* A wait is woken for arrivals; what was taken away did not arrive. */
	if ((int32_t)(q->woken - q->head) < 0)
		q->woken = q->head;
	/* Then the delivered ones, by rising cookie. */
	for (cookie = 0; q->by_cookie && cookie <= q->cookies.capacity; cookie++) {
		struct uiopf_group *group = q->by_cookie[cookie];

		if (!group || !is_of(group, handle, device))
			continue;
		give_cookie(q, cookie);
		answer_for(q, group, UIOPF_RESP_INVALID);
	}
}

static uint32_t faults_of(const struct uiopf_group *group, const struct uiopf_device *device)
{
	return group && group->attach->device == device ? group->fault_count : 0;
}

uint64_t uiopf_faultq_held(const struct uiopf_faultq *q, const struct uiopf_device *device)
{
	uint64_t faults = 0;
	uint32_t i, cookie;

	for (i = q->head; i != q->tail; i++)
		faults += faults_of(q->ring[i & q->mask], device);
	for (cookie = 0; q->by_cookie && cookie <= q->cookies.capacity; cookie++)
		faults += faults_of(q->by_cookie[cookie], device);
	return faults;
}

static void queue_publish(struct uiopf_queue *queue)
{
	uiopf_faultq_publish(container_of(queue, struct uiopf_faultq, queue));
}

static uint32_t queue_sync(struct uiopf_queue *queue)
{
	return uiopf_faultq_sync(container_of(queue, struct uiopf_faultq, queue));
}

/* Answers for the client what it has not answered in time. */
static uint64_t queue_expire(struct uiopf_queue *queue, uint64_t now)
{
	struct uiopf_faultq *q = container_of(queue, struct uiopf_faultq, queue);
	struct uiopf_policy *p = q->policy;
	uint64_t arrived;

	while (p && p->limits.timeout_ns) {
		/* Groups are delivered in the order of their arrival: what has a cookie is older than what waits. */
		if (p->oldest != UIOPF_NONE)
			arrived = p->live[p->oldest].arrived;
		else if (uiopf_faultq_has_group(q))
			arrived = *uiopf_policy_arrived(p, q->head);
		else
			break;
		if (now < uiopf_policy_too_late(p, arrived))
			return uiopf_policy_too_late(p, arrived);
		p->timed_out_groups++;
		p->timed_out_faults += answer_oldest(q, p->oldest, p->limits.timeout_code);
	}
	return UIOPF_NO_DEADLINE;
}

static const struct uiopf_queue_ops queue_ops = {
	.publish = queue_publish,
	.sync = queue_sync,
	.expire = queue_expire,
};

static void free_queue(struct uiopf_faultq *q)
{
	struct uiopf_core *core = q->core;

	uiopf_idmap_free(&q->cookies);
	free(q->by_cookie);
	free(q->ring);
	uiopf_policy_free(q->policy);
	free(q);
	uiopf_let_go(&core->lifetime);
}

/* Requests that still hold the file of a queue that is gone: the last of them frees what is left. */
static void closed_release(struct uiopf_file *file)
{
	free_queue(queue_of(file));
}

static const struct uiopf_file_ops closed_ops = {
	.read = file_read,
	.write = file_write,
	.read_pieces = file_read_pieces,
	.write_pieces = file_write_pieces,
	.poll = file_poll,
	.arm = uiopf_file_arm,
	.cancel = uiopf_file_cancel,
	.release = closed_release,
};

static void end_queue(struct uiopf_lifetime *lifetime)
{
	struct uiopf_faultq *q = container_of(lifetime, struct uiopf_faultq, lifetime);
	struct uiopf_core *core = q->core;

	if (core->torn)
		return;
	if (core->abandoned) {
		free_queue(q);
		return;
	}
	uiopf_hold(&core->lifetime);
	uiopf_control_begin(core);
	uiopf_core_remove_queue(core, &q->queue);
	uiopf_core_forget_file(core, &q->file);
	q->file.ops = &closed_ops;
	while (!q->file.users && q->file.waits)
		uiopf_file_cancel(&q->file, q->file.waits);
	q->file.users++;
	uiopf_file_put(&q->file);
	uiopf_control_end(core);
	uiopf_let_go(&core->lifetime);
}

struct uiopf_faultq *uiopf_faultq_new(struct uiopf_core *core, enum uiopf_personality personality)
{
	struct uiopf_faultq *q = aligned_alloc(128, sizeof *q);

	if (!q)
		return NULL;
	memset(q, 0, sizeof *q);
	q->lifetime = (struct uiopf_lifetime){ 1, end_queue };
	q->core = core;
	q->file.ops = personality == UIOPF_COMMANDS ? &commands_file_ops : &faultq_file_ops;
	q->file.mode = UIOPF_FILE_READ | UIOPF_FILE_WRITE | UIOPF_FILE_POLL;
	if (personality != UIOPF_MERGED)
		q->file.mode |= UIOPF_FILE_ITER;
	if (personality == UIOPF_PROPOSED || personality == UIOPF_COMMANDS)
		q->file.mode |= UIOPF_FILE_KEYED;
	q->notify_fd = -1;
	uiopf_idmap_init(&q->cookies, 1);
	if (uiopf_faultq_reserve(q, 64) < 0) {
		free(q->ring);
		free(q->by_cookie);
		free(q);
		return NULL;
	}
	uiopf_control_begin(core);
	q->queue.ops = &queue_ops;
	uiopf_core_add_queue(core, &q->queue);
	uiopf_hold(&core->lifetime);
	uiopf_control_end(core);
	return q;
}

int uiopf_faultq_busy(struct uiopf_faultq *q)
{
	int rc;

	uiopf_control_begin(q->core);
	rc = q->reserved || q->file.users || q->file.waits ? -EBUSY : 0;
	uiopf_control_end(q->core);
	return rc;
}

int uiopf_faultq_free(struct uiopf_faultq *q)
{
	int rc = uiopf_faultq_busy(q);

	if (rc == 0)
		uiopf_let_go(&q->lifetime);
	return rc;
}

void uiopf_faultq_let_go(struct uiopf_faultq *q)
{
	if (q)
		uiopf_let_go(&q->lifetime);
}

int uiopf_faultq_limit(struct uiopf_faultq *q, const struct uiopf_faultq_limits *limits)
{
	struct uiopf_policy *p;
	int rc = 0;

	if (limits->timeout_ns && limits->timeout_code != UIOPF_RESP_INVALID &&
	    limits->timeout_code != UIOPF_RESP_FAILURE)
		return -EINVAL;
	if (limits->lost_code && limits->lost_code != UIOPF_RESP_INVALID && limits->lost_code != UIOPF_RESP_FAILURE)
		return -EINVAL;
	uiopf_control_begin(q->core);
	if (q->policy || q->head != q->tail || q->counts.delivered_groups) {
		rc = -EBUSY;
	} else if (!(p = uiopf_policy_new(limits))) {
		rc = -ENOMEM;
	} else {
		rc = uiopf_policy_reserve(p, q->by_cookie, q->head, q->tail, q->mask + 1);
		if (rc < 0)
			uiopf_policy_free(p);
		else
			q->policy = p;
	}
	uiopf_control_end(q->core);
	return rc;
}

/* ---- the system calls on the fd ---- */

int64_t uiopf_faultq_read(struct uiopf_faultq *q, void *to, uint64_t length)
{
	int64_t done;

	if (uiopf_consumer_try_begin(q->core) < 0)
		return -EINTR;
	done = file_read(&q->file, to, length, 0);
	uiopf_consumer_end(q->core);
	return done;
}

int64_t uiopf_faultq_write(struct uiopf_faultq *q, const void *from, uint64_t length)
{
	int64_t done;

	if (uiopf_consumer_try_begin(q->core) < 0)
		return -EINTR;
	done = file_write(&q->file, from, length, 0);
	uiopf_core_kick(q->core);
	uiopf_consumer_end(q->core);
	return done;
}

uint32_t uiopf_faultq_poll(struct uiopf_faultq *q)
{
	uint32_t events;

	uiopf_consumer_begin(q->core);
	events = file_poll(&q->file);
	uiopf_consumer_end(q->core);
	return events;
}

/* What people have asked for instead of the write: answers that name device, PASID and group index. */
int uiopf_faultq_answer_index(struct uiopf_faultq *q, uint32_t dev_id, uint32_t flags, uint32_t pasid, uint32_t grpid,
			      uint32_t code)
{
	uint32_t cookie;
	int rc = -EINVAL;

	if (!q->policy || !q->policy->limits.by_index)
		return -EOPNOTSUPP;
	if (uiopf_consumer_try_begin(q->core) < 0)
		return -EINTR;
	cookie = uiopf_policy_find(q->policy, q->by_cookie, dev_id, flags, pasid, grpid);
	if (cookie != UIOPF_NONE && takes_code(q, cookie, code)) {
		answer_cookie(q, cookie, code);
		uiopf_core_kick(q->core);
		rc = 0;
	}
	uiopf_consumer_end(q->core);
	return rc;
}

void uiopf_faultq_counts(struct uiopf_faultq *q, struct uiopf_faultq_counts *counts)
{
	uint32_t i;

	uiopf_consumer_begin(q->core);
	*counts = q->counts;
	counts->waiting_groups = LOAD_ACQUIRE(&q->published) - q->head;
	counts->unanswered_groups = 0;
	for (i = 0; i <= q->cookies.capacity; i++)
		counts->unanswered_groups += q->by_cookie[i] != NULL;
	if (q->policy) {
		counts->timed_out_groups = q->policy->timed_out_groups;
		counts->timed_out_faults = q->policy->timed_out_faults;
		counts->lost_groups = LOAD_ACQUIRE(&q->policy->lost);
		counts->lost_faults = READ_ONCE(&q->policy->lost_faults);
	}
	uiopf_consumer_end(q->core);
}
