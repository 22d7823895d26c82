#include "rings/ringfile.h"

#include <poll.h>
#include <stdlib.h>

/* ---- the file ---- */

static uint32_t file_poll(struct uiopf_file *file)
{
	struct uiopf_engine *e = container_of(file, struct uiopf_engine, file);
	uint32_t events = 0;
	bool ready;

	if (!uiopf_sq_shown_full(&e->ring))
		events |= POLLOUT | POLLWRNORM;
	/* Task work that is put off counts, and what has not been shown does not (io_has_work). */
	ready = e->ring.cq_tail_published != LOAD_ACQUIRE(uiopf_ring_word(&e->ring, RING_CQ_HEAD));
	if (ready || e->backlog_count || (e->work && e->setup_flags & IORING_SETUP_DEFER_TASKRUN))
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
	e->pollers_told = !(e->setup_flags & IORING_SETUP_DEFER_TASKRUN);
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

/*
 * The first poll of a ring with DEFER_TASKRUN asks that ring's task to tell of completions from now on. It does so as
 * ordinary task work, at the end of the call, and calls those who wait once for what they may have missed
 * (io_activate_pollwq). Until then the polled ring's memory is kept, whatever becomes of the ring.
 */
void uiopf_ring_polled(struct uiopf_engine *by, struct uiopf_file *file)
{
	struct uiopf_engine *e = uiopf_engine_of(file);

	if (!e || e->pollers_told || e->polled || e->disabled)
		return;
	e->polled = true;
	e->polled_last = by->work && !(by->setup_flags & IORING_SETUP_DEFER_TASKRUN);
	e->file.users++;
	e->next_polled = by->polled_first;
	by->polled_first = e;
}

/* The next of the list. */
static struct uiopf_engine *tell_pollers(struct uiopf_engine *e)
{
	struct uiopf_engine *next = e->next_polled;

	e->pollers_told = true;
	e->polled = false;
	uiopf_file_wake(&e->file, 0);
	uiopf_file_put(&e->file);
	return next;
}

void uiopf_rings_polled_behind(struct uiopf_engine *rest)
{
	while (rest)
		rest = tell_pollers(rest);
}

void uiopf_rings_polled(struct uiopf_engine *by)
{
	struct uiopf_engine *all = by->polled_first;

	by->polled_first = NULL;
	uiopf_rings_polled_behind(all);
}

struct uiopf_engine *uiopf_rings_polled_before(struct uiopf_engine *by)
{
	struct uiopf_engine *rest = by->polled_first, **link = &rest;

	by->polled_first = NULL;
	while (*link)
		if ((*link)->polled_last)
			*link = tell_pollers(*link);
		else
			link = &(*link)->next_polled;
	return rest;
}

void uiopf_ring_enabled(struct uiopf_engine *e)
{
	if (!e->file.waits)
		return;
	e->pollers_told = true;
	uiopf_file_wake(&e->file, 0);
}

/* The engine is a user of its own file until it has put that. */
void uiopf_ringfile_close(struct uiopf_engine *e)
{
	uiopf_rings_polled(e);
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
