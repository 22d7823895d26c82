/*
 * URING_CMD: whatever the file makes of it. See struct uiopf_command.
 *
 * Source: io_uring/uring_cmd.c, Linux 6.12; multishots of 32-byte CQEs 6.16, with provided buffers 6.18.
 */
#include "rings/requests/requests.h"
#include "rings/submit.h"

#define WIDE_SINCE UIOPF_LINUX(6, 16)
#define MULTISHOT_SINCE UIOPF_LINUX(6, 18)

int uiopf_command_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	const uint32_t flags = sqe->uring_cmd_flags;
	const bool newer = r->engine->kernel >= MULTISHOT_SINCE;

	if (sqe->__pad1)
		return -EINVAL;
	if (flags & ~(uint32_t)(newer ? IORING_URING_CMD_MASK : IORING_URING_CMD_MASK_6_12))
		return -EINVAL;
	if (newer) {
		const bool selects = r->sqe_flags & IOSQE_BUFFER_SELECT;

		if ((flags & IORING_URING_CMD_FIXED) && selects)
			return -EINVAL;
		if (!(flags & IORING_URING_CMD_MULTISHOT) != !selects)
			return -EINVAL;
	}
	if ((flags & IORING_URING_CMD_FIXED) && r->engine->kernel < UIOPF_LINUX(6, 15) &&
	    sqe->buf_index >= r->engine->registered.count)
		return -EFAULT;
	r->op_flags = sqe->cmd_op;
	r->address = sqe->addr;
	r->length = sqe->len;
	r->buffer_group = sqe->buf_group;
	r->extra = sqe->addr3;	/* the command's own 16 bytes; of the 80 in an SQE of 128 no file here knows more */
	r->position = sqe->__pad2[0];
	return 0;
}

/* A command under way, and whose it is. */
struct asked {
	struct uiopf_command command;
	struct uiopf_request *request;
	struct uiopf_selected buffer;
};

static struct uiopf_request *request_of(struct uiopf_command *command)
{
	return container_of(command, struct asked, command)->request;
}

static uint8_t *memory(struct uiopf_command *command, uint64_t address, uint64_t length)
{
	return uiopf_memory(request_of(command), address, length);
}

/* By what the client has read until now; nothing that it writes meanwhile makes it less for what is posted next. */
static uint32_t room(struct uiopf_command *command)
{
	struct uiopf_engine *e = request_of(command)->engine;
	struct uiopf_ring *ring = &e->ring;
	uint32_t used;

	if (e->finished)
		uiopf_flush_before(request_of(command));
	ring->cq_head_seen = LOAD_ACQUIRE(uiopf_ring_word(ring, RING_CQ_HEAD));	/* pairs as in uiopf_cq_full */
	used = ring->cq_tail - ring->cq_head_seen;
	if (unlikely(e->backlog_count || used >= ring->cq_entries))
		return 0;
	/* Of both kinds: two slots for each that is wide, and one for where they would wrap. */
	return unlikely(ring->mixed && command->wide) ? (ring->cq_entries - used - 1) / 2 : ring->cq_entries - used;
}

static bool post_wide(struct uiopf_command *command, int32_t res, uint32_t flags, const uint64_t extra[2])
{
	struct uiopf_request *r = request_of(command);

	if (unlikely(r->engine->finished))
		uiopf_flush_before(r);
	return uiopf_complete_more_wide(r->engine, r->user_data, res, flags, extra);
}

static int select_buffer(struct uiopf_command *command, uint8_t **to, uint64_t *length)
{
	struct asked *a = container_of(command, struct asked, command);
	struct uiopf_request *r = a->request;
	int rc;

	if (!command->multishot)
		return -EINVAL;
	rc = uiopf_buffer_select(r->engine, r->buffer_group, 0, &a->buffer);
	if (unlikely(rc < 0))
		return rc;
	*to = a->buffer.map;
	*length = a->buffer.length;
	return 0;
}

static bool post_selected(struct uiopf_command *command, int32_t res)
{
	struct asked *a = container_of(command, struct asked, command);
	bool called;	/* the file looks for more in any case */

	return uiopf_post_more(a->request, res, uiopf_buffer_take(&a->buffer, (uint32_t)res), &called);
}

static const struct uiopf_command_ops ops = { memory, room, post_wide, select_buffer, post_selected };

static enum uiopf_issue wait_for_file(struct uiopf_request *r, const struct uiopf_command *command)
{
	r->op_flags = command->op;
	r->extra = command->data[0];
	r->position = command->data[1];
	r->multishot = !command->in_turn;	/* it keeps its place */
	r->events = POLLIN | POLLRDNORM | POLLERR | (command->in_turn ? EPOLLEXCLUSIVE : 0);
	return uiopf_wait_for_any_file(r);
}

enum uiopf_issue uiopf_command_issue(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	const bool has_wide = e->ring.cqe_shift != 4 || e->ring.mixed;
	struct asked a = {
		.command = {
			.ring = &ops, .op = r->op_flags, .length = r->length, .address = r->address,
			.data = { r->extra, r->position }, .multishot = r->sqe_flags & IOSQE_BUFFER_SELECT,
			.wide = has_wide && e->kernel >= WIDE_SINCE,
		},
		.request = r,
	};

	/* With IOPOLL a command is polled for, which no file here knows. */
	if (!r->file->ops->command || (e->setup_flags & IORING_SETUP_IOPOLL))
		return uiopf_done(r, -EOPNOTSUPP);
	r->woken = 0;
	r->res = r->file->ops->command(r->file, &a.command);
	e->cost.bytes_copied += a.command.copied;
	if (r->res >= 0 || r->res == -UIOPF_EIOCBQUEUED)
		r->called = false;
	if (r->res == -UIOPF_EIOCBQUEUED)
		return wait_for_file(r, &a.command);
	uiopf_stop_waiting(r);
	/* A multishot that did not fail completes when its file says so, and this one has not; nor does a cancel find it. */
	if (unlikely(a.command.multishot) && r->res >= 0) {
		r->unfindable = true;
		return UIOPF_PENDING;
	}
	if (unlikely(a.command.extra) && has_wide) {
		r->wide = true;
		r->address = a.command.extra;
		r->position = 0;
	}
	return UIOPF_DONE;
}
