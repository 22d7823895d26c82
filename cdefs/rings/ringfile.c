#include "rings/ringfile.h"

#include <poll.h>
#include <stdlib.h>

/* ---- the file ---- */

static uint32_t file_poll(struct uiopf_file *file)
{
	struct uiopf_engine *e = container_of(file, struct uiopf_engine, file);
	uint32_t events = 0;

	if (uiopf_sq_ready(&e->ring) < e->ring.sq_entries)
		events |= POLLOUT | POLLWRNORM;
	if (e->backlog_count || uiopf_cqes_ready(e))
		events |= POLLIN | POLLRDNORM;
	return events;
}

static const struct uiopf_file_ops ring_file_ops = {
	.poll = file_poll,
	.arm = uiopf_file_arm,
	.cancel = uiopf_file_cancel,
};

void uiopf_ringfile_open(struct uiopf_engine *e)
{
	e->file.ops = &ring_file_ops;
	e->file.mode = UIOPF_FILE_READ | UIOPF_FILE_WRITE | UIOPF_FILE_POLL;
}

struct uiopf_engine *uiopf_engine_of(struct uiopf_file *file)
{
	return file->ops == &ring_file_ops ? container_of(file, struct uiopf_engine, file) : NULL;
}

struct uiopf_file *uiopf_engine_file(struct uiopf_engine *e)
{
	return &e->file;
}

/* Another ring's requests that still poll this one keep a file that is closed; the last of them frees what is left. */
static uint32_t closed_poll(struct uiopf_file *file)
{
	(void)file;
	return 0;
}

static void closed_release(struct uiopf_file *file)
{
	free(container_of(file, struct uiopf_engine, file));
}

static const struct uiopf_file_ops closed_ops = {
	.poll = closed_poll,
	.arm = uiopf_file_arm,
	.cancel = uiopf_file_cancel,
	.release = closed_release,
};

/* The engine is a user of its own file until it has put that. */
void uiopf_ringfile_close(struct uiopf_engine *e)
{
	while (e->file.waits)
		uiopf_file_cancel(&e->file, e->file.waits);
	e->file.users++;
	e->file.ops = &closed_ops;
}

/* ---- by descriptor. Source: io_ringfd_register; Linux 6.12 ---- */

int uiopf_engine_find(const struct uiopf_core *core, uint32_t fd, bool registered, struct uiopf_engine **out)
{
	struct uiopf_file *file;

	if (registered && fd >= UIOPF_REGISTERED_FILES)
		return -EINVAL;
	file = registered ? core->registered[fd] : fd < UIOPF_MAX_FILES ? core->file[fd] : NULL;
	if (!file)
		return -EBADF;
	*out = uiopf_engine_of(file);
	return *out ? 0 : -EOPNOTSUPP;
}

static int register_ring(struct uiopf_core *core, struct io_uring_rsrc_update *reg)
{
	uint32_t at = reg->offset, end = at + 1;
	struct uiopf_engine *e;
	int rc;

	if (reg->resv)
		return -EINVAL;
	if (at == UINT32_MAX) {
		at = 0;
		end = UIOPF_REGISTERED_FILES;
	} else if (at >= UIOPF_REGISTERED_FILES) {
		return -EINVAL;
	}
	rc = uiopf_engine_find(core, (uint32_t)reg->data, false, &e);
	if (rc < 0)
		return rc;
	for (; at < end; at++)
		if (!core->registered[at]) {
			core->registered[at] = &e->file;
			reg->offset = at;
			return 0;
		}
	return -EBUSY;
}

int uiopf_register_ring_fds(struct uiopf_core *core, struct io_uring_rsrc_update *reg, uint32_t n)
{
	uint32_t i;
	int rc;

	if (!n || n > UIOPF_REGISTERED_FILES)
		return -EINVAL;
	if (!reg)
		return -EFAULT;
	for (i = 0; i < n; i++) {
		rc = register_ring(core, &reg[i]);
		if (rc < 0)
			return i ? (int)i : rc;
	}
	return (int)n;
}

int uiopf_unregister_ring_fds(struct uiopf_core *core, const struct io_uring_rsrc_update *reg, uint32_t n)
{
	uint32_t i;

	if (!n || n > UIOPF_REGISTERED_FILES)
		return -EINVAL;
	if (!reg)
		return -EFAULT;
	for (i = 0; i < n; i++) {
		if (reg[i].resv || reg[i].data || reg[i].offset >= UIOPF_REGISTERED_FILES)
			return i ? (int)i : -EINVAL;
		core->registered[reg[i].offset] = NULL;
	}
	return (int)n;
}
