/*
 * What the designs share whose client receives by read(2), whole groups, as many as fit, and answers by write(2). Answers
 * gather until the client looks for more, and one write takes them all. The kernel's half is the file's read and write
 * (faultq.c).
 *
 * A write names cookies. Where the queue's limits say by_index, each answer is a call of its own instead, which names device,
 * PASID and group index, as the ioctl of the RFC of 2023 did.
 */
#pragma once
#include "designs/channel.h"

struct uiopf_file_client {
	uint32_t pending, most;		/* answers not yet written */
	/* By index: what was received, by its cookie, which is what the generic clients answer by. NULL: by cookie. */
	struct uiopf_file_name { uint32_t dev_id, flags, pasid, grpid; } *name;
	uint32_t names;
	struct iommu_hwpt_page_response response[];
};

/* NULL: no memory. */
struct uiopf_file_client *uiopf_file_client_new(const struct uiopf_channel *ch);
void uiopf_file_client_free(struct uiopf_file_client *f);

/* As the functions of struct uiopf_design. `read` writes no answers; that is for its caller to do first. */
int uiopf_file_client_read(struct uiopf_channel *ch, struct uiopf_file_client *f, struct iommu_hwpt_pgfault *out,
			   uint32_t most);
int uiopf_file_client_answer(struct uiopf_channel *ch, struct uiopf_file_client *f,
			     const struct iommu_hwpt_page_response *responses, uint32_t n);
int uiopf_file_client_flush(struct uiopf_channel *ch, struct uiopf_file_client *f);
