/* io_uring_register. Source: __io_uring_register and what it calls, Linux 6.12 and 6.18. */
#include "rings/register.h"

#include <errno.h>
#include <string.h>

#include "rings/buffers.h"
#include "rings/cancel.h"
#include "rings/completion.h"
#include "rings/operation.h"
#include "rings/resources.h"
#include "rings/ringfile.h"

#define MOST_PROBED 256u

/* ---- what there is ---- */

static int probe(const struct uiopf_engine *e, struct io_uring_probe *p, uint32_t n)
{
	const uint8_t *bytes = (const uint8_t *)p;
	const uint32_t last = uiopf_opcodes(e);
	uint32_t i;

	for (i = 0; i < sizeof *p + n * sizeof p->ops[0]; i++)
		if (bytes[i])
			return -EINVAL;
	if (n > last)
		n = last;
	p->last_op = (uint8_t)(last - 1);
	for (i = 0; i < n; i++) {
		p->ops[i].op = (uint8_t)i;
		p->ops[i].flags = uiopf_opcode_supported(e, i) ? IO_URING_OP_SUPPORTED : 0;
	}
	p->ops_len = (uint8_t)n;
	return 0;
}

/* ---- personalities: numbers that SQEs may carry. Nothing here depends on who somebody is. ---- */

static int register_personality(struct uiopf_engine *e)
{
	uint32_t tries, id;

	for (tries = 0; tries < 65535; tries++) {
		id = e->next_personality;
		e->next_personality = id == 65535 ? 1 : id + 1;
		if (!(e->personality[id / 8] >> id % 8 & 1)) {
			e->personality[id / 8] |= (uint8_t)(1u << id % 8);
			return (int)id;
		}
	}
	return -EBUSY;
}

static int unregister_personality(struct uiopf_engine *e, uint32_t id)
{
	if (id > 65535 || !(e->personality[id / 8] >> id % 8 & 1))
		return -EINVAL;
	e->personality[id / 8] &= (uint8_t)~(1u << id % 8);
	return 0;
}

/* ---- restrictions ---- */

uint32_t uiopf_register_ops(uint32_t kernel)
{
	if (kernel < UIOPF_LINUX(6, 13))
		return IORING_REGISTER_LAST_6_12;
	if (kernel < UIOPF_LINUX(6, 18))
		return IORING_REGISTER_MEM_REGION + 1;
	return kernel < UIOPF_LINUX(7, 0) ? IORING_REGISTER_QUERY + 1 : IORING_REGISTER_LAST;
}

static int restrict_one(struct uiopf_engine *e, const struct io_uring_restriction *one)
{
	struct uiopf_restrictions *r = &e->restrictions;

	switch (one->opcode) {
	case IORING_RESTRICTION_REGISTER_OP:
		if (one->register_op >= uiopf_register_ops(e->kernel))
			return -EINVAL;
		r->register_ops |= 1ull << one->register_op;
		return 0;
	case IORING_RESTRICTION_SQE_OP:
		if (one->sqe_op >= uiopf_opcodes(e))
			return -EINVAL;
		r->sqe_ops[one->sqe_op / 64] |= 1ull << one->sqe_op % 64;
		return 0;
	case IORING_RESTRICTION_SQE_FLAGS_ALLOWED:
		r->flags_allowed = one->sqe_flags;
		return 0;
	case IORING_RESTRICTION_SQE_FLAGS_REQUIRED:
		r->flags_required = one->sqe_flags;
		return 0;
	}
	return -EINVAL;
}

static int register_restrictions(struct uiopf_engine *e, const struct io_uring_restriction *all, uint32_t n)
{
	uint32_t i;
	int rc = 0;

	if (!e->disabled)
		return -EBADFD;
	if (e->restrictions.registered)
		return -EBUSY;
	if (!all || n > IORING_RESTRICTION_LAST + uiopf_register_ops(e->kernel) + uiopf_opcodes(e))
		return -EINVAL;
	for (i = 0; i < n && rc == 0; i++)
		rc = restrict_one(e, &all[i]);
	if (rc < 0)
		memset(&e->restrictions, 0, sizeof e->restrictions);
	else
		e->restrictions.registered = true;
	return rc;
}

static int enable(struct uiopf_engine *e)
{
	if (!e->disabled)
		return -EBADFD;
	if (e->setup_flags & IORING_SETUP_SINGLE_ISSUER) {
		e->has_submitter = true;
		e->submitter = pthread_self();
	}
	if (e->restrictions.registered)
		e->restricted = e->unusual = true;
	WRITE_ONCE(&e->disabled, false);
	uiopf_ring_enabled(e);
	uiopf_core_wake_worker(e->core);
	return 0;
}

/* ---- the rest ---- */

static int register_clock(struct uiopf_engine *e, const struct io_uring_clock_register *c)
{
	if (c->__resv[0] || c->__resv[1] || c->__resv[2])
		return -EINVAL;
	if (c->clockid != CLOCK_MONOTONIC && c->clockid != CLOCK_BOOTTIME)
		return -EINVAL;
	e->clockid = (int)c->clockid;
	return 0;
}

/* What a resized ring takes over from the old one. */
#define INHERITED (IORING_SETUP_NO_SQARRAY | IORING_SETUP_SQE128 | IORING_SETUP_CQE32 | IORING_SETUP_CQE_MIXED | \
		   IORING_SETUP_SQE_MIXED)

static void move_entries(struct uiopf_ring *to, const struct uiopf_ring *from, uint32_t sq_tail, uint32_t cq_head)
{
	uint32_t i, word;

	for (i = from->sq_head; i != sq_tail; i++)
		for (word = 0; word < from->sqe_words; word++)
			WRITE_ONCE(&uiopf_sqe_at(to, i)[word], READ_ONCE(&uiopf_sqe_at(from, i)[word]));
	for (i = cq_head; i != from->cq_tail; i++)
		for (word = 0; word < 2u << (from->cqe_shift - 4); word++)
			WRITE_ONCE(&uiopf_cqe_at(to, i)[word], READ_ONCE(&uiopf_cqe_at(from, i)[word]));
	to->sq_head = to->sq_tail_seen = from->sq_head;
	to->cq_tail = to->cq_tail_published = from->cq_tail;
	to->cq_head_seen = cq_head;
}

static void move_words(struct uiopf_ring *to, const struct uiopf_ring *from, uint32_t sq_tail, uint32_t cq_head)
{
	static const uint32_t same[] = { RING_SQ_DROPPED, RING_SQ_FLAGS, RING_CQ_FLAGS, RING_CQ_OVERFLOW };
	uint32_t i;

	for (i = 0; i < sizeof same / sizeof same[0]; i++)
		WRITE_ONCE(uiopf_ring_word(to, same[i]), READ_ONCE(uiopf_ring_word(from, same[i])));
	STORE_RELEASE(uiopf_ring_word(to, RING_SQ_HEAD), from->sq_head);
	STORE_RELEASE(uiopf_ring_word(to, RING_SQ_TAIL), sq_tail);
	STORE_RELEASE(uiopf_ring_word(to, RING_CQ_HEAD), cq_head);
	STORE_RELEASE(uiopf_ring_word(to, RING_CQ_TAIL), from->cq_tail);
}

/* A new ring, in a new descriptor, with what the client has not taken from the old one, and we have not. */
static int resize(struct uiopf_engine *e, struct io_uring_params *p)
{
	const uint32_t sq_tail = LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_SQ_TAIL));
	const uint32_t cq_head = LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_CQ_HEAD));
	struct uiopf_ring ring;
	int rc;

	if (!(e->setup_flags & IORING_SETUP_DEFER_TASKRUN))
		return -EINVAL;
	if (p->flags & ~(uint32_t)(IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP))
		return -EINVAL;
	p->flags |= e->setup_flags & INHERITED;
	rc = uiopf_ring_sizes(p->sq_entries, p);
	if (rc < 0)
		return rc;
	if (sq_tail - e->ring.sq_head > p->sq_entries || sq_tail - e->ring.sq_head > e->ring.sq_entries ||
	    e->ring.cq_tail - cq_head > p->cq_entries || e->ring.cq_tail - cq_head > e->ring.cq_entries)
		return -EOVERFLOW;
	rc = uiopf_ring_open(&ring, p);
	if (rc < 0)
		return rc;
	move_entries(&ring, &e->ring, sq_tail, cq_head);
	move_words(&ring, &e->ring, sq_tail, cq_head);
	/* Who looks at the new words with old thoughts enters, rather than not (as seen on Linux 6.18). */
	__atomic_fetch_or(uiopf_ring_word(&ring, RING_SQ_FLAGS), IORING_SQ_NEED_WAKEUP | IORING_SQ_TASKRUN, __ATOMIC_SEQ_CST);
	uiopf_ring_close(&e->ring);
	e->ring = ring;
	return 0;
}

static int dispatch(struct uiopf_engine *e, uint32_t opcode, void *arg, uint32_t n)
{
	const bool one = arg && n == 1, none = !arg && !n;

	switch (opcode) {
	case IORING_REGISTER_EVENTFD:
	case IORING_REGISTER_EVENTFD_ASYNC:
		return n == 1 ? uiopf_register_eventfd(e, arg, opcode == IORING_REGISTER_EVENTFD_ASYNC) : -EINVAL;
	case IORING_UNREGISTER_EVENTFD:
		return none ? uiopf_unregister_eventfd(e) : -EINVAL;
	case IORING_REGISTER_PROBE:
		return arg && n <= MOST_PROBED ? probe(e, arg, n) : -EINVAL;
	case IORING_REGISTER_PERSONALITY:
		return none ? register_personality(e) : -EINVAL;
	case IORING_UNREGISTER_PERSONALITY:
		return arg ? -EINVAL : unregister_personality(e, n);
	case IORING_REGISTER_RESTRICTIONS:
		return register_restrictions(e, arg, n);
	case IORING_REGISTER_ENABLE_RINGS:
		return none ? enable(e) : -EINVAL;
	case IORING_REGISTER_IOWQ_AFF:
		return arg && n ? 0 : -EINVAL;	/* there is no such thread, wherever it may run */
	case IORING_UNREGISTER_IOWQ_AFF:
		return none ? 0 : -EINVAL;
	case IORING_REGISTER_RING_FDS:
		return uiopf_register_ring_fds(e->core, arg, n);
	case IORING_UNREGISTER_RING_FDS:
		return uiopf_unregister_ring_fds(e->core, arg, n);
	case IORING_REGISTER_PBUF_RING:
		return one ? uiopf_register_buffers(e, arg) : -EINVAL;
	case IORING_UNREGISTER_PBUF_RING:
		return one ? uiopf_unregister_buffers(e, arg) : -EINVAL;
	case IORING_REGISTER_PBUF_STATUS:
		return one ? uiopf_buffers_status(e, arg) : -EINVAL;
	case IORING_REGISTER_SYNC_CANCEL:
		return one ? uiopf_sync_cancel(e, arg) : -EINVAL;
	case IORING_REGISTER_CLOCK:
		return arg && !n ? register_clock(e, arg) : -EINVAL;
	case IORING_REGISTER_RESIZE_RINGS:
		return one ? resize(e, arg) : -EINVAL;
	}
	return uiopf_register_resources(e, opcode, arg, n);
}

int uiopf_register(struct uiopf_engine *e, uint32_t opcode, void *arg, uint32_t nr_args)
{
	int rc;

	if (opcode >= uiopf_register_ops(e->kernel))
		return -EINVAL;
	if (uiopf_other_submitter(e))
		return -EEXIST;
	uiopf_control_begin(e->core);
	rc = e->restricted && !(e->restrictions.register_ops >> opcode & 1) ? -EACCES : dispatch(e, opcode, arg, nr_args);
	uiopf_publish_cqes(e);	/* tags of what has gone */
	uiopf_control_end(e->core);
	return rc;
}
