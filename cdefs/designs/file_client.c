#include "designs/file_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct uiopf_file_client *uiopf_file_client_new(const struct uiopf_channel *ch)
{
	const uint32_t most = ch->config.in_flight;
	struct uiopf_file_client *f = calloc(1, sizeof *f + most * sizeof f->response[0]);

	if (f)
		f->most = most;
	return f;
}

/* A bad answer is skipped and counted, as its caller's client would. */
int uiopf_file_client_flush(struct uiopf_channel *ch, struct uiopf_file_client *f)
{
	uint32_t done = 0;

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

int uiopf_file_client_read(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	int64_t n = uiopf_faultq_read(ch->queue, out, most * sizeof *out);

	uiopf_system_call(ch, n != 0);
	if (n < 0)
		return (int)n;
	ch->cost.bytes_copied += (uint64_t)n;
	return (int)((uint64_t)n / sizeof *out);
}
