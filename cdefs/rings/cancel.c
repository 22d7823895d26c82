/* How targets are found. Source: io_uring/cancel.c, Linux 6.12. */
#include "rings/cancel.h"

#include "rings/request.h"
#include "rings/resources.h"
#include "rings/timer.h"

static bool means(const struct uiopf_cancel *c, const struct uiopf_request *target)
{
	const uint32_t f = c->flags;
	const bool by_user_data = (f & IORING_ASYNC_CANCEL_USERDATA) ||
				  !(f & (IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_OP));

	if (f & IORING_ASYNC_CANCEL_ANY)
		return true;
	if ((f & IORING_ASYNC_CANCEL_FD) && target->file != c->file)
		return false;
	if ((f & IORING_ASYNC_CANCEL_OP) && target->opcode != c->opcode)
		return false;
	return !by_user_data || target->user_data == c->user_data;
}

/* With POLL_FIRST and ready: it waits for no file any more, but to be issued (IO_APOLL_READY), and nobody finds it. */
static bool is_about_to_start(const struct uiopf_request *r)
{
	return r->todo == UIOPF_START && !r->punted && !r->wait.link &&
	       (r->opcode == IORING_OP_RECV || r->opcode == IORING_OP_SEND) && (r->ioprio & IORING_RECVSEND_POLL_FIRST);
}

static bool matches(const struct uiopf_cancel *c, const struct uiopf_request *target)
{
	if (target == c->by || target->unfindable || (target->cancelled && target->punted))
		return false;
	if (target->working && (target->todo == UIOPF_FINISH || is_about_to_start(target)))
		return false;
	return means(c, target);
}

/*
 * Linux finds what to cancel in a hash table: buckets in order, newest first in each. The hash is of user_data, and
 * the table's size follows the CQ's (io_alloc_hash_table; the order was checked on Linux 6.18).
 */
#define CANCEL_BUCKETS 256u

static uint32_t cancel_bucket(const struct uiopf_engine *e, uint64_t user_data)
{
	int bits = 31 - __builtin_clz(e->ring.cq_entries) - 5;

	bits = bits < 1 ? 1 : bits > 8 ? 8 : bits;
	return (uint32_t)(user_data * 0x61c8864680b583ebu >> (64 - bits));
}

/* Before 6.13 there are two tables: polls by themselves are looked for first, unless one thread alone submits. */
static bool has_table_of_polls(const struct uiopf_engine *e)
{
	return e->kernel < UIOPF_LINUX(6, 13) && !(e->setup_flags & IORING_SETUP_SINGLE_ISSUER);
}

/* A worker waits in its call: it is interrupted, and whoever cancels it is told that it was running. */
static bool is_blocked(const struct uiopf_request *r)
{
	return unlikely(r->punted) && !(r->sqe_flags & IOSQE_ASYNC) && r->wait.link && !r->working;
}

/*
 * Those that wait for a file; how many were cancelled, one at most unless `all`. Workers are looked at besides: whether one
 * of them was interrupted is in `*running`.
 */
static int cancel_waiting(struct uiopf_engine *e, const struct uiopf_cancel *c, bool all, bool *running)
{
	struct uiopf_request *bucket[2 * CANCEL_BUCKETS] = { NULL }, **end[2 * CANCEL_BUCKETS], *target;
	const bool two_tables = has_table_of_polls(e);
	uint32_t b;
	int n = 0;

	for (b = 0; b < 2 * CANCEL_BUCKETS; b++)
		end[b] = &bucket[b];
	for (target = e->last; target; target = target->prev) {
		if (target->opcode == IORING_OP_LINK_TIMEOUT || !matches(c, target))
			continue;
		if (is_blocked(target)) {
			if (all || !*running)
				uiopf_request_cancel(target);
			*running = true;
			continue;
		}
		b = cancel_bucket(e, target->user_data);
		if (two_tables && target->opcode != IORING_OP_POLL_ADD)
			b += CANCEL_BUCKETS;
		target->bucket_next = NULL;
		*end[b] = target;
		end[b] = &target->bucket_next;
	}
	for (b = 0; b < 2 * CANCEL_BUCKETS; b++)
		for (target = bucket[b]; target; target = target->bucket_next) {
			uiopf_request_cancel(target);
			n++;
			if (!all)
				return n;
		}
	return n;
}

/* Those that wait for a time and have no file; in one pass, however many match. */
static int cancel_timeouts(struct uiopf_engine *e, const struct uiopf_cancel *c, bool all)
{
	struct uiopf_request *r, *next;
	int n = 0;

	for (r = e->timeouts; r && (all || !n); r = next) {
		next = r->next;
		if (!matches(c, r))
			continue;
		uiopf_timeout_stop(r);
		uiopf_request_end_later(r, -ECANCELED);
		n++;
	}
	return n;
}

int uiopf_cancel_timeout(struct uiopf_engine *e, const struct uiopf_cancel *c)
{
	return cancel_timeouts(e, c, false) ? 0 : -ENOENT;
}

int uiopf_cancel_matching(struct uiopf_engine *e, const struct uiopf_cancel *c)
{
	const bool all = c->flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
	bool running = false;
	int n = cancel_waiting(e, c, all, &running);

	if ((all || !n) && !(c->flags & IORING_ASYNC_CANCEL_FD))
		n += cancel_timeouts(e, c, all);
	if (all || n)
		return all ? n : 0;
	/*
	 * Who looks for himself finds himself running, where a worker thread runs him. The workers of a polling thread are not
	 * among those that are looked through for that (ctx->tctx_list).
	 */
	if (e->setup_flags & IORING_SETUP_SQPOLL)
		return -ENOENT;
	return running || (c->by && c->by->punted && means(c, c->by)) ? -EALREADY : -ENOENT;
}

/* What a worker is interrupted in has ended when it is looked for again. */
int uiopf_sync_cancel(struct uiopf_engine *e, const struct io_uring_sync_cancel_reg *reg)
{
	struct uiopf_cancel c = { .user_data = reg->addr, .flags = reg->flags, .opcode = reg->opcode };
	uint32_t i;
	int rc;

	if (reg->flags & ~(uint32_t)UIOPF_CANCEL_KNOWN)
		return -EINVAL;
	for (i = 0; i < sizeof reg->pad; i++)
		if (reg->pad[i])
			return -EINVAL;
	for (i = 0; i < sizeof reg->pad2 / sizeof reg->pad2[0]; i++)
		if (reg->pad2[i])
			return -EINVAL;
	if (c.flags & IORING_ASYNC_CANCEL_FD) {
		c.file = uiopf_find_file(e, reg->fd, c.flags & IORING_ASYNC_CANCEL_FD_FIXED);
		if (!c.file)
			return -EBADF;
	}
	rc = uiopf_cancel_matching(e, &c);
	return rc == -EALREADY ? 0 : rc;
}
