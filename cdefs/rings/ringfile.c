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

/* ---- by descriptor, or by a number of the thread's. Source: io_ringfd_register; Linux 6.12 ---- */

static uint64_t this_thread(void)
{
	static uint64_t last;
	static __thread uint64_t number;

	if (unlikely(!number))
		number = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
	return number;
}

/* NULL: the calling thread has registered nothing. */
static struct uiopf_registered *registered_here(const struct uiopf_core *core)
{
	struct uiopf_registered *r;

	for (r = core->registered; r && r->thread != this_thread(); r = r->next)
		;
	return r;
}

static bool is_empty(const struct uiopf_registered *r)
{
	uint32_t i;

	for (i = 0; i < UIOPF_REGISTERED_FILES; i++)
		if (r->file[i])
			return false;
	return true;
}

/* The same, or one for it: that of a thread that has none left, which may have ended. */
static struct uiopf_registered *registered_or_new(struct uiopf_core *core)
{
	struct uiopf_registered *r = registered_here(core);

	if (r)
		return r;
	for (r = core->registered; r && !is_empty(r); r = r->next)
		;
	if (!r) {
		r = calloc(1, sizeof *r);
		if (!r)
			return NULL;
		r->next = core->registered;
		core->registered = r;
	}
	r->thread = this_thread();
	return r;
}

int uiopf_engine_find(const struct uiopf_core *core, uint32_t fd, bool registered, struct uiopf_engine **out)
{
	const struct uiopf_registered *here = registered ? registered_here(core) : NULL;
	struct uiopf_file *file;

	if (registered && fd >= UIOPF_REGISTERED_FILES)
		return -EINVAL;
	file = registered ? here ? here->file[fd] : NULL : fd < UIOPF_MAX_FILES ? core->file[fd] : NULL;
	if (!file)
		return -EBADF;
	*out = uiopf_engine_of(file);
	return *out ? 0 : -EOPNOTSUPP;
}

static int register_ring(struct uiopf_core *core, struct io_uring_rsrc_update *reg)
{
	uint32_t at = reg->offset, end = at + 1;
	struct uiopf_registered *here;
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
	here = registered_or_new(core);
	if (!here)
		return -ENOMEM;
	for (; at < end; at++)
		if (!here->file[at]) {
			here->file[at] = &e->file;
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
	struct uiopf_registered *here = registered_here(core);
	uint32_t i;

	if (!n || n > UIOPF_REGISTERED_FILES)
		return -EINVAL;
	if (!reg)
		return -EFAULT;
	for (i = 0; i < n; i++) {
		if (reg[i].resv || reg[i].data || reg[i].offset >= UIOPF_REGISTERED_FILES)
			return i ? (int)i : -EINVAL;
		if (here)
			here->file[reg[i].offset] = NULL;
	}
	return (int)n;
}

void uiopf_forget_ring_fds(struct uiopf_core *core, const struct uiopf_file *file)
{
	struct uiopf_registered *r;
	uint32_t i;

	for (r = core->registered; r; r = r->next)
		for (i = 0; i < UIOPF_REGISTERED_FILES; i++)
			if (r->file[i] == file)
				r->file[i] = NULL;
}
