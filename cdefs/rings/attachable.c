#include "rings/attachable.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/notify.h"
#include "rings/buffers.h"
#include "rings/completion.h"

#define FLAGS_ALLOWED (IORING_SETUP_SQPOLL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | \
		       IORING_SETUP_SQE128 | IORING_SETUP_CQE32)
#define MOST_GROUP_ENTRIES 4096u	/* of 16 bytes: what lies between the offsets of two groups */

/* Bytes between two groups' places. */
_Static_assert(MOST_GROUP_ENTRIES * sizeof(struct io_uring_buf) == 1u << IORING_OFF_PBUF_SHIFT, "groups would overlap");

int uiopf_attachable_check(const struct uiopf_attachable *config, const struct io_uring_params *p)
{
	const uint32_t entries = config->group_entries;

	if (p->flags & ~(uint32_t)FLAGS_ALLOWED)
		return -EINVAL;
	if (config->groups > UIOPF_ATTACHED_GROUPS)
		return -EINVAL;
	if (config->groups && (!entries || entries & (entries - 1) || entries > MOST_GROUP_ENTRIES))
		return -EINVAL;
	return 0;
}

static int register_groups(struct uiopf_engine *e)
{
	uint32_t group;
	int rc = 0;

	for (group = 0; group < e->groups && rc == 0; group++) {
		struct io_uring_buf_reg reg = {
			.ring_entries = e->group_entries, .bgid = (uint16_t)group, .flags = IOU_PBUF_RING_MMAP,
		};

		rc = uiopf_register_buffers(e, &reg);
	}
	return rc;
}

int uiopf_attachable_open(struct uiopf_engine *e, const struct uiopf_attachable *config)
{
	int rc;

	e->attachable = true;
	e->may_sleep = true;	/* its client has an eventfd from the start, and may switch it off and on */
	e->groups = config->groups;
	e->group_entries = config->group_entries;
	e->wake_eventfd = e->data.fd = -1;
	rc = uiopf_notifier_open(e->core);
	if (rc == 0)
		rc = register_groups(e);
	if (rc == 0 && config->data_size) {
		rc = uiopf_region_open(&e->data, "uiopf-data", config->data_size);
		if (rc < 0)
			e->data.map = NULL;
	}
	if (rc == 0) {
		e->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		e->wake_eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (e->eventfd < 0 || e->wake_eventfd < 0)
			rc = -errno;
		else
			rc = uiopf_wake_watch(e->core, e->wake_eventfd);
	}
	/* Until its client has said where its memory is, its SQEs wait in the ring: their pointers mean nothing yet. */
	e->disabled = true;
	if (rc < 0) {
		uiopf_attachable_close(e);
		if (e->eventfd >= 0)
			uiopf_close_eventfd(e);
	}
	return rc;
}

void uiopf_attachable_close(struct uiopf_engine *e)
{
	if (e->wake_eventfd >= 0) {
		uiopf_wake_unwatch(e->core, e->wake_eventfd);
		close(e->wake_eventfd);
	}
	e->wake_eventfd = -1;
	uiopf_region_close(&e->data);
}

void uiopf_engine_attachment(const struct uiopf_engine *e, struct uiopf_attachment *out)
{
	*out = (struct uiopf_attachment){
		.ring_fd = e->ring.region.fd,
		.data_fd = e->data.fd,
		.completion_eventfd = e->eventfd,
		.wake_eventfd = e->wake_eventfd,
		.ring_size = e->ring.region.size,
		.data_size = e->data.map ? e->data.size : 0,
	};
}

int uiopf_engine_attach(struct uiopf_engine *e, uint64_t data_address, int kicks)
{
	int rc = 0;

	uiopf_control_begin(e->core);
	if (!e->attachable)
		rc = -EINVAL;
	else if (e->attached)
		rc = -EBUSY;
	else if (e->data.map && (!data_address || data_address % UIOPF_PAGE || e->data.size > UIOPF_USER_END ||
				 data_address > UIOPF_USER_END - e->data.size))
		rc = -EINVAL;
	else if (e->data.map)
		rc = uiopf_windows_add(&e->windows, data_address, e->data.size, e->data.map);
	if (rc == 0) {
		e->attached = true;
		e->kicks = kicks;
		e->disabled = false;
	}
	uiopf_control_end(e->core);
	return rc;
}
