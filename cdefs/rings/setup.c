/* A ring's life: io_uring_setup, and the end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rings/attachable.h"
#include "rings/buffers.h"
#include "rings/completion.h"
#include "rings/request.h"
#include "rings/requests/table.h"
#include "rings/resources.h"
#include "rings/ringfile.h"
#include "rings/timer.h"
#include "rings/turn.h"

#define BUFFER_GROUPS 65536u

/* ---- setup ---- */

/* The setup flags that a kernel knows. */
static uint32_t known_flags(uint32_t kernel)
{
	uint32_t known = 2 * IORING_SETUP_NO_SQARRAY - 1;

	if (kernel >= UIOPF_LINUX(6, 13))
		known |= IORING_SETUP_HYBRID_IOPOLL;
	if (kernel >= UIOPF_LINUX(6, 18))
		known |= IORING_SETUP_CQE_MIXED;
	if (kernel >= UIOPF_LINUX(6, 19))
		known |= IORING_SETUP_SQE_MIXED;
	if (kernel >= UIOPF_LINUX(7, 0))
		known |= IORING_SETUP_SQ_REWIND;
	return known;
}

/* Which flags go together (io_uring_sanitise_params). All are -EINVAL, so their order cannot be seen. */
static int check_flags(uint32_t f)
{
	const uint32_t lazy = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN;

	if ((f & IORING_SETUP_REGISTERED_FD_ONLY) && !(f & IORING_SETUP_NO_MMAP))
		return -EINVAL;
	if ((f & IORING_SETUP_SQPOLL) && (f & (lazy | IORING_SETUP_TASKRUN_FLAG)))
		return -EINVAL;
	if ((f & IORING_SETUP_TASKRUN_FLAG) && !(f & lazy))
		return -EINVAL;
	if ((f & IORING_SETUP_DEFER_TASKRUN) && !(f & IORING_SETUP_SINGLE_ISSUER))
		return -EINVAL;
	if ((f & IORING_SETUP_HYBRID_IOPOLL) && !(f & IORING_SETUP_IOPOLL))
		return -EINVAL;
	if ((f & IORING_SETUP_CQE32) && (f & IORING_SETUP_CQE_MIXED))
		return -EINVAL;
	if ((f & IORING_SETUP_SQE128) && (f & IORING_SETUP_SQE_MIXED))
		return -EINVAL;
	if ((f & IORING_SETUP_SQ_REWIND) && (!(f & IORING_SETUP_NO_SQARRAY) || (f & IORING_SETUP_SQPOLL)))
		return -EINVAL;
	return 0;
}

/* What can go wrong with a polling thread, or with the client's own memory for the rings, of which a core knows none. */
static int check_rest(struct uiopf_core *core, const struct io_uring_params *p)
{
	if (p->flags & IORING_SETUP_NO_MMAP)
		return (p->sq_off.user_addr | p->cq_off.user_addr) % UIOPF_PAGE ? -EINVAL : -EFAULT;
	if (p->flags & IORING_SETUP_ATTACH_WQ) {
		struct uiopf_file *file = p->wq_fd < UIOPF_MAX_FILES ? core->file[p->wq_fd] : NULL;
		const struct uiopf_engine *other = file ? uiopf_engine_of(file) : NULL;

		if (!file)
			return -ENXIO;
		if (!other || ((p->flags & IORING_SETUP_SQPOLL) && !(other->setup_flags & IORING_SETUP_SQPOLL)))
			return -EINVAL;
	}
	if (p->flags & IORING_SETUP_SQ_AFF) {
		if (!(p->flags & IORING_SETUP_SQPOLL))
			return -EINVAL;
		if (p->sq_thread_cpu >= (uint32_t)sysconf(_SC_NPROCESSORS_ONLN))
			return -EINVAL;
	}
	return 0;
}

static uint32_t features(uint32_t kernel)
{
	uint32_t f = 2 * IORING_FEAT_MIN_TIMEOUT - 1;

	if (kernel >= UIOPF_LINUX(6, 14))
		f |= IORING_FEAT_RW_ATTR;
	if (kernel >= UIOPF_LINUX(6, 15))
		f |= IORING_FEAT_NO_IOWAIT;
	return f;
}

static int check_params(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p)
{
	int rc;

	if (p->resv[0] || p->resv[1] || p->resv[2])
		return -EINVAL;
	if (p->flags & ~known_flags(core->kernel))
		return -EINVAL;
	rc = check_flags(p->flags);
	if (rc == 0)
		rc = uiopf_ring_sizes(entries, p);
	return rc < 0 ? rc : check_rest(core, p);
}

static struct uiopf_engine *make(struct uiopf_core *core, struct io_uring_params *p,
				 const struct uiopf_attachable *attachable, int *rc)
{
	struct uiopf_engine *e = aligned_alloc(128, sizeof *e);

	*rc = -ENOMEM;
	if (!e)
		return NULL;
	memset(e, 0, sizeof *e);
	e->core = core;
	e->consumer.ops = &uiopf_engine_turn;
	e->operations = uiopf_operations;
	e->kernel = core->kernel;
	e->setup_flags = p->flags;
	e->unusual = p->flags & IORING_SETUP_IOPOLL;
	e->work_end = &e->work;
	e->tells_of_work = p->flags & IORING_SETUP_DEFER_TASKRUN;
	e->held_back_end = &e->held_back;
	e->asked_end = &e->asked;
	e->drained_end = &e->drained;
	e->disabled = p->flags & IORING_SETUP_R_DISABLED;
	e->clockid = CLOCK_MONOTONIC;
	e->next_personality = 1;
	uiopf_ringfile_open(e);
	if ((p->flags & IORING_SETUP_SINGLE_ISSUER) && !e->disabled) {
		e->has_submitter = true;
		e->submitter = pthread_self();
	}
	e->eventfd = -1;
	/* Untouched parts of the table cost nothing. */
	e->buffers = calloc(BUFFER_GROUPS, sizeof *e->buffers);
	*rc = e->buffers && uiopf_grow_requests(e) ? 0 : -ENOMEM;
	if (*rc == 0)
		*rc = attachable ? uiopf_ring_open_attachable(&e->ring, p, attachable->groups, attachable->group_entries) :
				   uiopf_ring_open(&e->ring, p);
	if (*rc == 0 && attachable) {
		*rc = uiopf_attachable_open(e, attachable);
		if (*rc < 0) {
			uiopf_free_buffers(e);
			uiopf_ring_close(&e->ring);
		}
	}
	if (*rc < 0) {
		uiopf_free_requests(e);
		free(e->buffers);
		free(e);
		return NULL;
	}
	return e;
}

static int setup(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p,
		 const struct uiopf_attachable *attachable, struct uiopf_engine **out)
{
	struct uiopf_engine *e;
	int rc;

	uiopf_control_begin(core);
	rc = check_params(core, entries, p);
	if (rc == 0 && attachable)
		rc = uiopf_attachable_check(attachable, p);
	e = rc < 0 ? NULL : make(core, p, attachable, &rc);
	if (e) {
		p->features = features(core->kernel);
		if (core->driver == UIOPF_ENTER)
			e->consumer.ops->sleeping(&e->consumer, true);
		if (p->flags & IORING_SETUP_SQPOLL) {
			uint64_t idle = p->sq_thread_idle * 1000000ull;

			if (idle > core->sq_idle_ns)
				core->sq_idle_ns = idle;
		}
		if (p->flags & IORING_SETUP_TASKRUN_FLAG)
			WRITE_ONCE(&core->tells_at_once, core->tells_at_once + 1);
		uiopf_core_add_consumer(core, &e->consumer);
		uiopf_hold(&core->lifetime);
		*out = e;
	}
	uiopf_control_end(core);
	return rc;
}

int uiopf_setup(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p, struct uiopf_engine **out)
{
	return setup(core, entries, p, NULL, out);
}

int uiopf_setup_attachable(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p,
			   const struct uiopf_attachable *config, struct uiopf_engine **out)
{
	p->flags |= IORING_SETUP_SQPOLL;
	return setup(core, entries, p, config, out);
}

struct uiopf_engine *uiopf_engine_new(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p, int *error)
{
	struct uiopf_engine *e = NULL;

	*error = uiopf_setup(core, entries, p, &e);
	return e;
}

struct uiopf_engine *uiopf_attachable_new(struct uiopf_core *core, uint32_t entries, struct io_uring_params *p,
					  const struct uiopf_attachable *config, int *error)
{
	struct uiopf_engine *e = NULL;

	*error = uiopf_setup_attachable(core, entries, p, config, &e);
	return e;
}

static void drop(struct uiopf_request *r)
{
	if (r->wait.link)
		r->file->ops->cancel(r->file, &r->wait);
	uiopf_timer_stop(r);
	uiopf_request_free(r);
}

static void free_parts(struct uiopf_engine *e)
{
	uiopf_free_buffers(e);
	uiopf_free_requests(e);
	uiopf_ring_close(&e->ring);
	free(e->backlog);
	free(e->buffers);
}

/* A forked child's: its own descriptors, mappings and memory, and nothing that is the parent's too (epoll sets are). */
static void free_abandoned(struct uiopf_engine *e)
{
	if (e->eventfd >= 0)
		close(e->eventfd);
	if (e->attachable) {
		if (e->wake_eventfd >= 0)
			close(e->wake_eventfd);
		uiopf_region_close(&e->data);
	}
	free_parts(e);
	free(e);
}

void uiopf_engine_free(struct uiopf_engine *e)
{
	struct uiopf_core *core = e ? e->core : NULL;
	int fd;

	if (!e || core->torn)
		return;
	if (core->abandoned) {
		free_abandoned(e);
		uiopf_let_go(&core->lifetime);
		return;
	}
	uiopf_control_begin(core);
	for (fd = 3; fd < UIOPF_MAX_FILES; fd++)
		if (core->file[fd] == &e->file)
			core->file[fd] = NULL;
	uiopf_forget_ring_fds(core, &e->file);
	e->drained = NULL;	/* nobody's turn comes any more */
	while (e->first)
		drop(e->first);
	while (e->timeouts)
		drop(e->timeouts);
	uiopf_core_remove_consumer(core, &e->consumer);
	if (e->setup_flags & IORING_SETUP_TASKRUN_FLAG)
		WRITE_ONCE(&core->tells_at_once, core->tells_at_once - 1);
	uiopf_release_requests(e);
	uiopf_free_resources(e);
	if (e->eventfd >= 0)
		uiopf_close_eventfd(e);
	if (e->attachable)
		uiopf_attachable_close(e);
	uiopf_ringfile_close(e);
	uiopf_control_end(core);
	free_parts(e);
	uiopf_control_begin(core);
	uiopf_file_put(&e->file);
	uiopf_control_end(core);
	uiopf_let_go(&core->lifetime);
}

int uiopf_engine_add_window(struct uiopf_engine *e, uint64_t address, uint64_t length, void *map)
{
	int rc;

	uiopf_control_begin(e->core);
	rc = uiopf_windows_add(&e->windows, address, length, map);
	uiopf_control_end(e->core);
	return rc;
}

int uiopf_engine_fd(const struct uiopf_engine *e)
{
	return e->ring.region.fd;
}

uint64_t uiopf_engine_size(const struct uiopf_engine *e)
{
	return e->ring.region.size;
}

uint32_t uiopf_engine_sqes_offset(const struct uiopf_engine *e)
{
	return e->ring.sqes_offset;
}

/* mmap(2) on the ring's descriptor. */
int uiopf_engine_mmap(struct uiopf_engine *e, uint64_t offset, int *fd, uint64_t *at, uint64_t *length)
{
	const struct uiopf_buffers *b;
	int rc = 0;

	uiopf_control_begin(e->core);
	*fd = e->ring.region.fd;
	*at = 0;
	*length = e->ring.sqes_offset;
	switch (offset & IORING_OFF_MMAP_MASK) {
	case IORING_OFF_SQ_RING:
	case IORING_OFF_CQ_RING:
		break;
	case IORING_OFF_SQES:
		*at = e->ring.sqes_offset;
		*length = e->ring.sq_entries * (uint64_t)e->ring.sqe_words * 8;
		break;
	case IORING_OFF_PBUF_RING:
		b = e->buffers[(offset & ~IORING_OFF_MMAP_MASK) >> IORING_OFF_PBUF_SHIFT & 0xffff];
		if (b && b->region.map) {
			*fd = b->region.fd;
			*length = b->region.size;
			break;
		}
		if (b && e->attachable && b->ring) {
			*at = (uint64_t)((uint8_t *)b->ring - e->ring.region.map);
			*length = (b->mask + 1) * (uint64_t)sizeof(struct io_uring_buf);
			break;
		}
		/* fall through */
	default:
		rc = -ENOMEM;
	}
	uiopf_control_end(e->core);
	return rc;
}

uint32_t uiopf_engine_pending(struct uiopf_engine *e)
{
	uint32_t n;

	uiopf_consumer_begin(e->core);
	n = e->alive;
	uiopf_consumer_end(e->core);
	return n;
}

void uiopf_engine_cost(struct uiopf_engine *e, struct uiopf_cost *cost)
{
	uiopf_consumer_begin(e->core);
	*cost = e->cost;
	uiopf_consumer_end(e->core);
}
