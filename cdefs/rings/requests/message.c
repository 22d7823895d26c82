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

static int post(struct uiopf_engine *to, uint64_t user_data, int32_t res, uint32_t flags)
{
	if (!uiopf_complete_message(to, user_data, res, flags))
		return -EOVERFLOW;
	return 0;
}

static int send_data(const struct uiopf_request *r, struct uiopf_engine *to)
{
	if (r->extra || (r->op_flags & ~(uint32_t)IORING_MSG_RING_FLAGS_PASS))
		return -EINVAL;
	if (!(r->op_flags & IORING_MSG_RING_FLAGS_PASS) && r->expected)
		return -EINVAL;
	if (to->disabled)
		return -EBADFD;
	return post(to, r->position, (int32_t)r->length, r->op_flags & IORING_MSG_RING_FLAGS_PASS ? r->expected : 0);
}

static int send_file(const struct uiopf_request *r, struct uiopf_engine *to)
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
	rc = uiopf_fixed_install(to, node->file, r->expected);
	if (rc < 0 || (r->op_flags & IORING_MSG_RING_CQE_SKIP))
		return rc;
	return post(to, r->position, rc, 0) < 0 ? -EOVERFLOW : rc;
}

enum uiopf_issue uiopf_message_issue(struct uiopf_request *r)
{
	struct uiopf_engine *to = uiopf_engine_of(r->file);
	int rc;

	if (!to)
		return uiopf_done(r, -EBADFD);
	rc = r->address == IORING_MSG_DATA ? send_data(r, to) : r->address == IORING_MSG_SEND_FD ? send_file(r, to) : -EINVAL;
	if (to != r->engine) {
		uiopf_publish_cqes(to);
		if (LOAD_SEQ(&to->core->sleepers_count))	/* its client may sleep in an enter of its own */
			uiopf_core_wake_sleepers(to->core, NULL);
	}
	return uiopf_done(r, rc);
}
