/* MSG_RING: a completion, or a registered file, for another ring. Source: io_uring/msg_ring.c, Linux 6.12. */
#include "rings/requests/requests.h"
#include "rings/ringfile.h"

int uiopf_message_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	if (sqe->buf_index || sqe->personality)
		return -EINVAL;
	r->position = sqe->off;		/* the target's user_data */
	r->length = sqe->len;
	r->address = (uint32_t)sqe->addr;	/* the command */
	r->extra = sqe->addr3;		/* SEND_FD: the slot here … */
	r->expected = sqe->file_index;	/* … and there; DATA: flags of the CQE */
	r->op_flags = sqe->msg_ring_flags;
	return r->op_flags & ~(uint32_t)(IORING_MSG_RING_CQE_SKIP | IORING_MSG_RING_FLAGS_PASS) ? -EINVAL : 0;
}

/* Only the task of a ring with DEFER_TASKRUN completes anything there, but for IOPOLL (io_msg_need_remote). */
static bool is_put_off(const struct uiopf_engine *to)
{
	return (to->setup_flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_IOPOLL)) == IORING_SETUP_DEFER_TASKRUN;
}

/* It is seen at once, before what the batch has completed until now. */
static int post(const struct uiopf_request *r, struct uiopf_engine *to, int32_t res, uint32_t flags)
{
	if (!uiopf_complete_message(to, r->position, res, flags))
		return -EOVERFLOW;
	if (to == r->engine)
		uiopf_publish_posted(to);
	else
		uiopf_count_posted(to);
	return 0;
}

/* -EAGAIN: a worker has to send it. */
static int send_data(const struct uiopf_request *r, struct uiopf_engine *to)
{
	uint32_t flags;

	if (r->extra || (r->op_flags & ~(uint32_t)IORING_MSG_RING_FLAGS_PASS))
		return -EINVAL;
	if (!(r->op_flags & IORING_MSG_RING_FLAGS_PASS) && r->expected)
		return -EINVAL;
	if (to->disabled)
		return -EBADFD;
	flags = r->op_flags & IORING_MSG_RING_FLAGS_PASS ? r->expected : 0;
	if (is_put_off(to))
		return uiopf_request_post_later(to, r->position, (int32_t)r->length, flags) ? 0 : -ENOMEM;
	/* Such a ring's lock is wanted, and a call for that ring has it (io_double_lock_ctx). */
	if (unlikely(to == r->engine && (to->setup_flags & IORING_SETUP_IOPOLL) && !r->punted))
		return -EAGAIN;
	return post(r, to, (int32_t)r->length, flags);
}

/* `*late`: the other ring's task installs the file, on its way back from a call (io_msg_fd_remote). */
static int send_file(const struct uiopf_request *r, struct uiopf_engine *to, bool *late)
{
	const struct uiopf_node *node;
	int rc;

	if (r->length || to == r->engine)
		return -EINVAL;
	if (to->disabled)
		return -EBADFD;
	node = r->extra <= UINT32_MAX ? uiopf_fixed_file(r->engine, (uint32_t)r->extra) : NULL;
	if (!node)
		return -EBADF;
	*late = is_put_off(to);
	rc = uiopf_fixed_install(to, node->file, r->expected);
	if (rc < 0 || (r->op_flags & IORING_MSG_RING_CQE_SKIP))
		return rc;
	return post(r, to, rc, 0) < 0 ? -EOVERFLOW : rc;
}

enum uiopf_issue uiopf_message_issue(struct uiopf_request *r)
{
	struct uiopf_engine *to = uiopf_engine_of(r->file);
	bool late = false;
	int rc;

	if (!to)
		return uiopf_done(r, -EBADFD);
	rc = r->address == IORING_MSG_DATA ? send_data(r, to) :
	     r->address == IORING_MSG_SEND_FD ? send_file(r, to, &late) : -EINVAL;
	if (unlikely(rc == -EAGAIN)) {
		r->engine->cost.punts++;
		uiopf_request_ask_worker(r, UIOPF_START);
		return UIOPF_PENDING;
	}
	if (to != r->engine) {
		uiopf_publish_cqes(to);
		if (LOAD_SEQ(&to->core->sleepers_count))	/* its client may sleep in an enter of its own */
			uiopf_core_wake_sleepers(to->core, NULL);
	}
	if (late) {
		uiopf_request_end_later(r, rc);
		return UIOPF_PENDING;
	}
	return uiopf_done(r, rc);
}
