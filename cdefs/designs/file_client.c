#include "designs/file_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_ANSWER 28u	/* the RFC's ioctl: size, flags, hwpt_id, dev_id, pasid, grpid, code */

struct uiopf_file_client *uiopf_file_client_new(const struct uiopf_channel *ch)
{
	const struct uiopf_policy *policy = ch->queue->policy;
	const uint32_t most = ch->config.in_flight;
	struct uiopf_file_client *f = calloc(1, sizeof *f + most * sizeof f->response[0]);

	if (!f)
		return NULL;
	f->most = most;
	if (policy && policy->limits.by_index) {
		f->names = most + 1;	/* the lowest free cookie is the next one, and 0 is none */
		f->name = calloc(f->names, sizeof *f->name);
		if (!f->name) {
			free(f);
			return NULL;
		}
	}
	return f;
}

void uiopf_file_client_free(struct uiopf_file_client *f)
{
	if (f)
		free(f->name);
	free(f);
}

/* ---- by index ---- */

/* More groups may be unanswered than the client said. */
static bool has_name(struct uiopf_file_client *f, uint32_t cookie)
{
	struct uiopf_file_name *name;
	uint32_t names;

	if (likely(cookie < f->names))
		return true;
	names = cookie + cookie / 2 + 1;
	name = reallocarray(f->name, names, sizeof *name);
	if (!name)
		return false;
	memset(&name[f->names], 0, (names - f->names) * sizeof *name);
	f->name = name;
	f->names = names;
	return true;
}

static void remember(struct uiopf_file_client *f, const struct iommu_hwpt_pgfault *message, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		const struct iommu_hwpt_pgfault *m = &message[i];

		/* Without memory its answer will be refused, and counted. */
		if ((m->flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) && has_name(f, m->cookie))
			f->name[m->cookie] = (struct uiopf_file_name){ m->dev_id, m->flags, m->pasid, m->grpid };
	}
}

/* A call each. A bad answer is skipped and counted. */
static int flush_by_index(struct uiopf_channel *ch, struct uiopf_file_client *f)
{
	uint32_t done;
	int rc;

	for (done = 0; done < f->pending; done++) {
		const struct iommu_hwpt_page_response r = f->response[done];
		struct uiopf_file_name none = { 0 }, *name = r.cookie < f->names ? &f->name[r.cookie] : &none;

		/* No device has the id 0: what was never received, or has been answered, is refused. */
		rc = uiopf_faultq_answer_index(ch->queue, name->dev_id, name->flags, name->pasid, name->grpid, r.code);
		if (unlikely(rc == -EINTR)) {
			f->pending -= done;
			memmove(f->response, &f->response[done], f->pending * sizeof f->response[0]);
			return rc;
		}
		*name = (struct uiopf_file_name){ 0 };
		uiopf_system_call(ch, true);
		ch->cost.bytes_copied += INDEX_ANSWER;
		if (rc < 0)
			ch->cost.answer_errors++;
	}
	f->pending = 0;
	return 0;
}

/* ---- by cookie ---- */

/* A bad answer is skipped and counted, as its caller's client would. */
int uiopf_file_client_flush(struct uiopf_channel *ch, struct uiopf_file_client *f)
{
	uint32_t done = 0;

	if (unlikely(f->name != NULL))
		return flush_by_index(ch, f);
	while (done < f->pending) {
		int64_t n;

		uiopf_system_call(ch, true);
		n = uiopf_faultq_write(ch->queue, &f->response[done], (f->pending - done) * sizeof f->response[0]);
		if (unlikely(n == -EINTR)) {	/* not one of them: it is called again */
			f->pending -= done;
			memmove(f->response, &f->response[done], f->pending * sizeof f->response[0]);
			return -EINTR;
		}
		if (n > 0) {
			ch->cost.bytes_copied += (uint64_t)n;
			done += (uint32_t)((uint64_t)n / sizeof f->response[0]);
		} else {
			ch->cost.answer_errors++;
			done++;
		}
	}
	f->pending = 0;
	return 0;
}

int uiopf_file_client_answer(struct uiopf_channel *ch, struct uiopf_file_client *f,
			     const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		if (f->pending == f->most && uiopf_file_client_flush(ch, f) < 0)
			return i ? (int)i : -EINTR;
		f->response[f->pending++] = responses[i];
	}
	return (int)n;
}

int uiopf_file_client_read(struct uiopf_channel *ch, struct uiopf_file_client *f, struct iommu_hwpt_pgfault *out,
			   uint32_t most)
{
	int64_t n = uiopf_faultq_read(ch->queue, out, most * sizeof *out);

	uiopf_system_call(ch, n != 0);
	if (n < 0)
		return (int)n;
	ch->cost.bytes_copied += (uint64_t)n;
	if (unlikely(f->name != NULL))
		remember(f, out, (uint32_t)((uint64_t)n / sizeof *out));
	return (int)((uint64_t)n / sizeof *out);
}
