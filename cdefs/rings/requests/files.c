/* FILES_UPDATE and CLOSE. Source: io_uring/{rsrc,openclose}.c, Linux 6.12. */
#include "rings/requests/requests.h"
#include "rings/ringfile.h"

int uiopf_files_update_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	if (r->sqe_flags & IOSQE_FIXED_FILE)
		return -EINVAL;
	if (sqe->rw_flags || sqe->splice_fd_in)
		return -EINVAL;
	if (!sqe->len)
		return -EINVAL;
	if (r->engine->attachable)	/* it has no descriptors to register */
		return -EACCES;
	r->position = sqe->off;
	r->address = sqe->addr;
	r->length = sqe->len;
	return 0;
}

/* Each descriptor into any free slot, whose number takes its place in the client's memory. */
static int install_anywhere(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	uint32_t done;
	int rc = 0;

	if (!e->files.node)
		return -ENXIO;
	for (done = 0; done < r->length; done++) {
		uint8_t *at = uiopf_memory(r, r->address + 4ull * done, 4);
		struct uiopf_file *file;
		int32_t fd;

		rc = -EFAULT;
		if (!at)
			break;
		uiopf_copy_from_client(&fd, at, sizeof fd);
		file = uiopf_find_file(e, fd, false);
		rc = -EBADF;
		if (!file)
			break;
		rc = uiopf_fixed_install(e, file, IORING_FILE_INDEX_ALLOC);
		if (rc < 0)
			break;
		uiopf_copy_to_client(at, &rc, sizeof rc);
	}
	return done ? (int)done : rc;
}

enum uiopf_issue uiopf_files_update_issue(struct uiopf_request *r)
{
	if ((uint32_t)r->position == IORING_FILE_INDEX_ALLOC)
		return uiopf_done(r, install_anywhere(r));
	return uiopf_done(r, uiopf_files_update(r->engine, (uint32_t)r->position, r->address, NULL, r->length));
}

int uiopf_close_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe)
{
	if (sqe->off || sqe->addr || sqe->len || sqe->rw_flags || sqe->buf_index)
		return -EINVAL;
	if (r->sqe_flags & IOSQE_FIXED_FILE)
		return -EBADF;
	r->expected = sqe->file_index;
	return sqe->file_index && sqe->fd ? -EINVAL : 0;
}

enum uiopf_issue uiopf_close_issue(struct uiopf_request *r)
{
	struct uiopf_engine *e = r->engine;
	struct uiopf_file *file;

	if (r->expected)
		return uiopf_done(r, uiopf_fixed_remove(e, r->expected - 1));
	file = uiopf_find_file(e, r->fd, false);
	if (!file || uiopf_engine_of(file))
		return uiopf_done(r, -EBADF);
	uiopf_core_close_fd(e->core, r->fd);
	return uiopf_done(r, 0);
}
