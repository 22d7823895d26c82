/*
 * Arguments of io_uring_register are our caller's memory; addresses in them are the client's.
 * Source: io_uring/{rsrc,filetable}.c, Linux 6.12 and 6.18.
 */
#include "rings/resources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "rings/completion.h"
#include "rings/ringfile.h"

#define MOST_FILES (1u << 20)
#define MOST_BUFFERS 16384u
#define LONGEST (1ull << 30)

/* ---- nodes ---- */

static struct uiopf_node *make_node(uint64_t tag)
{
	struct uiopf_node *node = calloc(1, sizeof *node);

	if (node) {
		node->users = 1;
		node->tag = tag;
	}
	return node;
}

void uiopf_node_put(struct uiopf_engine *e, struct uiopf_node *node)
{
	if (--node->users)
		return;
	if (node->tag) {
		uiopf_complete(e, node->tag, 0, 0);
		e->posted = true;
	}
	if (node->file)
		uiopf_file_put(node->file);
	free(node);
}

static bool reset_slot(struct uiopf_engine *e, struct uiopf_table *table, uint32_t slot)
{
	struct uiopf_node *node = table->node[slot];

	if (!node)
		return false;
	table->node[slot] = NULL;
	uiopf_node_put(e, node);
	return true;
}

static int open_table(struct uiopf_table *table, uint32_t count)
{
	struct uiopf_node **node = calloc(count, sizeof *node);

	if (!node)
		return -ENOMEM;
	*table = (struct uiopf_table){ .node = node, .count = count, .end = count };
	return 0;
}

static void close_table(struct uiopf_engine *e, struct uiopf_table *table)
{
	const uint32_t count = table->count;
	uint32_t i;

	/* Tags come in the order in which slots are given up: since 6.13 from the last to the first. */
	for (i = 0; i < count; i++)
		reset_slot(e, table, e->kernel >= UIOPF_LINUX(6, 13) ? count - 1 - i : i);
	free(table->node);
	memset(table, 0, sizeof *table);
}

void uiopf_free_resources(struct uiopf_engine *e)
{
	close_table(e, &e->files);
	close_table(e, &e->registered);
}

/* One of a client's array; false: EFAULT. */
static bool load_at(const struct uiopf_engine *e, void *to, uint64_t array, uint32_t i, size_t size)
{
	const uint8_t *from = uiopf_windows_find(&e->windows, array + i * (uint64_t)size, size);

	if (!from)
		return false;
	uiopf_copy_from_client(to, from, size);
	return true;
}

/* ---- files ---- */

struct uiopf_node *uiopf_fixed_file(const struct uiopf_engine *e, uint32_t slot)
{
	return slot < e->files.count ? e->files.node[slot] : NULL;
}

/* A descriptor's file that may be registered; NULL: EBADF. Rings may not, or they would hold each other. */
static struct uiopf_file *get_file(const struct uiopf_engine *e, int32_t fd)
{
	struct uiopf_file *file = (uint32_t)fd < UIOPF_MAX_FILES ? e->core->file[fd] : NULL;

	return file && !uiopf_engine_of(file) ? file : NULL;
}

static int put_file(struct uiopf_engine *e, uint32_t slot, struct uiopf_file *file, uint64_t tag)
{
	struct uiopf_node *node = make_node(tag);

	if (!node)
		return -ENOMEM;
	node->file = file;
	file->users++;
	e->files.node[slot] = node;
	e->files.hint = slot + 1;
	return 0;
}

/* fds: the caller's (`at`) or the client's; neither: no files yet. */
static int register_files(struct uiopf_engine *e, uint64_t fds, const int32_t *at, uint64_t tags, uint32_t n)
{
	struct rlimit most;
	uint64_t tag = 0;
	uint32_t i;
	int rc;

	if (e->files.node)
		return -EBUSY;
	if (!n)
		return -EINVAL;
	if (n > MOST_FILES || (getrlimit(RLIMIT_NOFILE, &most) == 0 && n > most.rlim_cur))
		return -EMFILE;
	rc = open_table(&e->files, n);
	for (i = 0; i < n && rc == 0; i++) {
		struct uiopf_file *file;
		int32_t fd = at ? at[i] : -1;

		if ((tags && !load_at(e, &tag, tags, i, sizeof tag)) || (fds && !load_at(e, &fd, fds, i, sizeof fd))) {
			rc = -EFAULT;
		} else if (fd == -1) {
			rc = tag ? -EINVAL : 0;
		} else {
			file = get_file(e, fd);
			rc = file ? put_file(e, i, file, tag) : -EBADF;
		}
	}
	if (rc < 0) {
		for (i = 0; i < e->files.count; i++)	/* what failed is not told of */
			if (e->files.node[i])
				e->files.node[i]->tag = 0;
		close_table(e, &e->files);
	}
	e->files.hint = 0;
	return rc;
}

static int update_files(struct uiopf_engine *e, uint32_t offset, uint64_t fds, const int32_t *at, uint64_t tags, uint32_t n)
{
	uint64_t tag = 0;
	uint32_t done;
	int rc = 0;

	if (offset + n < offset)
		return -EOVERFLOW;
	if (!e->files.node)
		return -ENXIO;
	if (offset + n > e->files.count)
		return -EINVAL;
	for (done = 0; done < n; done++) {
		struct uiopf_file *file;
		int32_t fd;

		rc = -EFAULT;
		if (tags && !load_at(e, &tag, tags, done, sizeof tag))
			break;
		if (at)
			fd = at[done];
		else if (!load_at(e, &fd, fds, done, sizeof fd))
			break;
		rc = -EINVAL;
		if (tag && (fd == IORING_REGISTER_FILES_SKIP || fd == -1))
			break;
		if (fd == IORING_REGISTER_FILES_SKIP)
			continue;
		if (reset_slot(e, &e->files, offset + done))
			e->files.hint = offset + done;
		if (fd == -1)
			continue;
		file = get_file(e, fd);
		rc = file ? put_file(e, offset + done, file, tag) : -EBADF;
		if (rc < 0)
			break;
	}
	return done ? (int)done : rc;
}

int uiopf_files_update(struct uiopf_engine *e, uint32_t offset, uint64_t fds, const int32_t *at, uint32_t n)
{
	return update_files(e, offset, fds, at, 0, n);
}

/*
 * The next free slot from the hint on, round the range that may be used. Any slot that was filled or given up is the hint,
 * also one that is outside: the search begins with the range then, as io_file_bitmap_get() does since that was mended.
 */
static int find_slot(const struct uiopf_table *t)
{
	const uint32_t from = t->hint >= t->first && t->hint < t->end ? t->hint : t->first;
	uint32_t slot;

	if (!t->node)
		return -ENFILE;
	for (slot = from; slot < t->end; slot++)
		if (!t->node[slot])
			return (int)slot;
	for (slot = t->first; slot < from; slot++)
		if (!t->node[slot])
			return (int)slot;
	return -ENFILE;
}

int uiopf_fixed_install(struct uiopf_engine *e, struct uiopf_file *file, uint32_t slot)
{
	const bool anywhere = slot == IORING_FILE_INDEX_ALLOC;
	int rc;

	if (anywhere) {
		rc = find_slot(&e->files);
		if (rc < 0)
			return rc;
		slot = (uint32_t)rc;
	} else {
		slot--;
	}
	if (uiopf_engine_of(file))
		return -EBADF;
	if (!e->files.node)
		return -ENXIO;
	if (slot >= e->files.count)
		return -EINVAL;
	reset_slot(e, &e->files, slot);
	rc = put_file(e, slot, file, 0);
	return rc < 0 ? rc : anywhere ? (int)slot : 0;
}

int uiopf_fixed_remove(struct uiopf_engine *e, uint32_t slot)
{
	if (!e->files.node)
		return -ENXIO;
	if (slot >= e->files.count)
		return -EINVAL;
	if (!reset_slot(e, &e->files, slot))
		return -EBADF;
	e->files.hint = slot;
	return 0;
}

static int set_range(struct uiopf_engine *e, const struct io_uring_file_index_range *range)
{
	if (range->off + range->len < range->off)
		return -EOVERFLOW;
	if (range->resv || range->off + range->len > e->files.count)
		return -EINVAL;
	e->files.first = e->files.hint = range->off;
	e->files.end = range->off + range->len;
	return 0;
}

/* ---- buffers ---- */

int uiopf_fixed_buffer(struct uiopf_engine *e, uint32_t index, uint64_t address, uint64_t length, uint8_t **map,
		       struct uiopf_node **out)
{
	struct uiopf_node *node = index < e->registered.count ? e->registered.node[index] : NULL;
	uint64_t offset;

	if (!node)
		return -EFAULT;
	offset = address - node->address;
	if (address < node->address || offset > node->length || length > node->length - offset)
		return -EFAULT;
	*map = uiopf_windows_find(&e->windows, address, length);
	if (!*map && length)
		return -EFAULT;
	node->users++;
	*out = node;
	return 0;
}

/* 0 with *out the node, or NULL for an empty slot; -errno. */
static int make_buffer(struct uiopf_engine *e, const struct iovec *iov, uint64_t tag, struct uiopf_node **out)
{
	const uint64_t base = (uint64_t)(uintptr_t)iov->iov_base;

	*out = NULL;
	if (!base)
		return iov->iov_len ? -EFAULT : tag ? -EINVAL : 0;
	if (base > UINT64_MAX - iov->iov_len)
		return -EOVERFLOW;
	if (!iov->iov_len || iov->iov_len > LONGEST || !uiopf_windows_find(&e->windows, base, iov->iov_len))
		return -EFAULT;
	*out = make_node(tag);
	if (!*out)
		return -ENOMEM;
	(*out)->address = base;
	(*out)->length = iov->iov_len;
	return 0;
}

static int register_fixed(struct uiopf_engine *e, uint64_t iovs, const struct iovec *at, uint64_t tags, uint32_t n)
{
	uint64_t tag = 0;
	uint32_t i;
	int rc;

	if (e->registered.node)
		return -EBUSY;
	if (!n || n > MOST_BUFFERS)
		return -EINVAL;
	rc = open_table(&e->registered, n);
	for (i = 0; i < n && rc == 0; i++) {
		struct iovec iov = { NULL, 0 };

		if (at)
			iov = at[i];
		if ((iovs && !load_at(e, &iov, iovs, i, sizeof iov)) || (tags && !load_at(e, &tag, tags, i, sizeof tag)))
			rc = -EFAULT;
		else
			rc = make_buffer(e, &iov, tag, &e->registered.node[i]);
	}
	if (rc < 0) {
		for (i = 0; i < e->registered.count; i++)
			if (e->registered.node[i])
				e->registered.node[i]->tag = 0;
		close_table(e, &e->registered);
	}
	return rc;
}

static int update_fixed(struct uiopf_engine *e, const struct io_uring_rsrc_update2 *up)
{
	uint64_t tag = 0;
	uint32_t done;
	int rc = 0;

	if (up->offset + up->nr < up->offset)
		return -EOVERFLOW;
	if (!e->registered.node)
		return -ENXIO;
	if (up->offset + up->nr > e->registered.count)
		return -EINVAL;
	for (done = 0; done < up->nr; done++) {
		struct uiopf_node *node;
		struct iovec iov;

		rc = -EFAULT;
		if (!load_at(e, &iov, up->data, done, sizeof iov) ||
		    (up->tags && !load_at(e, &tag, up->tags, done, sizeof tag)))
			break;
		rc = make_buffer(e, &iov, tag, &node);
		if (rc < 0)
			break;
		reset_slot(e, &e->registered, up->offset + done);
		e->registered.node[up->offset + done] = node;
	}
	return done ? (int)done : rc;
}

/* ---- CLONE_BUFFERS: another ring's buffers. The addresses must mean the same here. ---- */

/* The checks that come before the source is known: 0 or -errno. Which come first is another since 6.13. */
static int check_clone(const struct uiopf_engine *e, const struct io_uring_clone_buffers *c)
{
	const bool newer = e->kernel >= UIOPF_LINUX(6, 13);
	const uint32_t known = IORING_REGISTER_SRC_REGISTERED | (newer ? IORING_REGISTER_DST_REPLACE : 0);
	const bool busy = e->registered.node && !(newer && c->flags & IORING_REGISTER_DST_REPLACE);

	if (busy && !newer)
		return -EBUSY;
	if (c->flags & ~known)
		return -EINVAL;
	if (busy)
		return -EBUSY;
	if (c->pad[0] || c->pad[1] || c->pad[2])
		return -EINVAL;
	return !newer && (c->src_off || c->dst_off || c->nr) ? -EINVAL : 0;
}

/* The source by its descriptor or by its registered number; of a SINGLE_ISSUER ring only its thread may copy. */
static int find_source(const struct uiopf_engine *e, const struct io_uring_clone_buffers *c, struct uiopf_engine **source)
{
	int rc = uiopf_engine_find(e->core, c->src_fd, c->flags & IORING_REGISTER_SRC_REGISTERED, source);

	if (rc == 0 && e->kernel >= UIOPF_LINUX(6, 18) && *source != e && uiopf_other_submitter(*source))
		return -EEXIST;
	return rc;
}

/*
 * Fills in a table: copies for [dst_off, dst_off + n), what is there already around them. A copy is a node of its own,
 * of this ring and without a tag: the source's tag is the source's, and waits for no copy.
 */
static int fill_clone(const struct uiopf_engine *e, const struct uiopf_table *from, uint32_t src_off, uint32_t dst_off,
		      uint32_t n, struct uiopf_table *table)
{
	const struct uiopf_node *node;
	uint32_t i;

	for (i = 0; i < n; i++) {
		node = from->node[src_off + i];
		if (!node)
			continue;
		table->node[dst_off + i] = make_node(0);
		if (!table->node[dst_off + i])
			return -ENOMEM;
		table->node[dst_off + i]->address = node->address;
		table->node[dst_off + i]->length = node->length;
	}
	for (i = 0; i < e->registered.count; i++)
		if ((i < dst_off || i - dst_off >= n) && e->registered.node[i]) {
			table->node[i] = e->registered.node[i];
			table->node[i]->users++;
		}
	return 0;
}

/* Source: io_register_clone_buffers, io_clone_buffers; Linux 6.18. */
static int clone_buffers(struct uiopf_engine *e, const struct io_uring_clone_buffers *c)
{
	struct uiopf_table table;
	const struct uiopf_table *from;
	struct uiopf_engine *source;
	uint32_t n, end;
	int rc;

	rc = check_clone(e, c);
	if (rc == 0)
		rc = find_source(e, c, &source);
	if (rc < 0)
		return rc;
	if (!c->nr && (c->src_off || c->dst_off))
		return -EINVAL;
	from = &source->registered;
	if (!from->node)
		return -ENXIO;
	n = c->nr ? c->nr : from->count;
	if (n > from->count)
		return -EINVAL;
	if (c->src_off > from->count - n || c->dst_off > UINT32_MAX - n)
		return -EOVERFLOW;
	end = c->dst_off + n;
	if (end > MOST_BUFFERS)
		return -EINVAL;
	rc = open_table(&table, end > e->registered.count ? end : e->registered.count);
	if (rc < 0)
		return rc;
	rc = fill_clone(e, from, c->src_off, c->dst_off, n, &table);
	close_table(e, rc < 0 ? &table : &e->registered);
	if (rc == 0)
		e->registered = table;
	return rc;
}

/* ---- io_uring_register ---- */

static int register_new(struct uiopf_engine *e, bool files, const struct io_uring_rsrc_register *rr, uint32_t size)
{
	if (size != sizeof *rr)
		return -EINVAL;
	if (!rr)
		return -EFAULT;
	if (!rr->nr || rr->resv2 || (rr->flags & ~(uint32_t)IORING_RSRC_REGISTER_SPARSE))
		return -EINVAL;
	if ((rr->flags & IORING_RSRC_REGISTER_SPARSE) && rr->data)
		return -EINVAL;
	return files ? register_files(e, rr->data, NULL, rr->tags, rr->nr) :
		       register_fixed(e, rr->data, NULL, rr->tags, rr->nr);
}

static int update_new(struct uiopf_engine *e, bool files, const struct io_uring_rsrc_update2 *up, uint32_t size)
{
	if (size != sizeof *up)
		return -EINVAL;
	if (!up)
		return -EFAULT;
	if (!up->nr || up->resv || up->resv2)
		return -EINVAL;
	return files ? update_files(e, up->offset, up->data, NULL, up->tags, up->nr) : update_fixed(e, up);
}

static int unregister(struct uiopf_engine *e, struct uiopf_table *table, const void *arg, uint32_t nr_args)
{
	if (arg || nr_args)
		return -EINVAL;
	if (!table->node)
		return -ENXIO;
	close_table(e, table);
	return 0;
}

int uiopf_register_resources(struct uiopf_engine *e, uint32_t opcode, const void *arg, uint32_t n)
{
	const struct io_uring_files_update *update = arg;

	switch (opcode) {
	case IORING_REGISTER_BUFFERS:
		return arg ? register_fixed(e, 0, arg, 0, n) : -EFAULT;
	case IORING_UNREGISTER_BUFFERS:
		return unregister(e, &e->registered, arg, n);
	case IORING_REGISTER_FILES:
		return arg ? register_files(e, 0, arg, 0, n) : -EFAULT;
	case IORING_UNREGISTER_FILES:
		return unregister(e, &e->files, arg, n);
	case IORING_REGISTER_FILES_UPDATE:
		if (!n)
			return -EINVAL;
		if (!arg)
			return -EFAULT;
		return update->resv ? -EINVAL : update_files(e, update->offset, update->fds, NULL, 0, n);
	case IORING_REGISTER_FILES2:
		return register_new(e, true, arg, n);
	case IORING_REGISTER_FILES_UPDATE2:
		return update_new(e, true, arg, n);
	case IORING_REGISTER_BUFFERS2:
		return register_new(e, false, arg, n);
	case IORING_REGISTER_BUFFERS_UPDATE:
		return update_new(e, false, arg, n);
	case IORING_REGISTER_FILE_ALLOC_RANGE:
		return arg && !n ? set_range(e, arg) : -EINVAL;
	case IORING_REGISTER_CLONE_BUFFERS:
		return arg && n == 1 ? clone_buffers(e, arg) : -EINVAL;
	}
	return -EINVAL;
}
