/*
 * What the designs share whose client receives by read(2), whole groups, as many as fit, and answers by write(2). Answers
 * gather until the client looks for more, and one write takes them all. The kernel's half is the file's read and write
 * (faultq.c).
 */
#pragma once
#include "designs/channel.h"

struct uiopf_file_client {
	uint32_t pending, most;		/* answers not yet written */
	struct iommu_hwpt_page_response response[];
};

/* NULL: no memory. free() ends it. */
struct uiopf_file_client *uiopf_file_client_new(const struct uiopf_channel *ch);

/* As the functions of struct uiopf_design. `read` writes no answers; that is for its caller to do first. */
int uiopf_file_client_read(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most);
int uiopf_file_client_answer(struct uiopf_channel *ch, struct uiopf_file_client *f,
			     const struct iommu_hwpt_page_response *responses, uint32_t n);
int uiopf_file_client_flush(struct uiopf_channel *ch, struct uiopf_file_client *f);
