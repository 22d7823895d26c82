/*
 * The designs that are written in C: the one list of them. A design's place here is its number to Python, which reads the
 * rest from each design's `info`.
 */
#include <errno.h>

#include "designs/channel.h"

#define ALL(_) \
	_(handler) \
	_(region_v8) \
	_(region_v9) \
	_(region) \
	_(eventfd) \
	_(fd) \
	_(uring_today) \
	_(uring_multishot) \
	_(uring_linked) \
	_(uring_read) \
	_(uring_cmd) \
	_(uring_fetch) \
	_(uring_batch) \
	_(host_fd) \
	_(host_uring)

#define DECLARE(design) extern const struct uiopf_design uiopf_design_##design;
#define NAME(design) &uiopf_design_##design,

ALL(DECLARE)

static const struct uiopf_design *const designs[] = { ALL(NAME) };

#define DESIGNS (sizeof designs / sizeof designs[0])

const struct uiopf_design_info *uiopf_design_info(uint32_t n)
{
	return n < DESIGNS ? &designs[n]->info : NULL;
}

int uiopf_channel_open(struct uiopf_core *core, struct uiopf_faultq *queue, uint32_t design,
		       const struct uiopf_channel_config *config, struct uiopf_space *space, struct uiopf_channel **out)
{
	return design < DESIGNS ? uiopf_channel_make(core, queue, designs[design], config, space, out) : -EINVAL;
}

struct uiopf_channel *uiopf_channel_new(struct uiopf_core *core, struct uiopf_faultq *queue, uint32_t design,
					const struct uiopf_channel_config *config, struct uiopf_space *space, int *error)
{
	struct uiopf_channel *ch = NULL;

	*error = uiopf_channel_open(core, queue, design, config, space, &ch);
	return ch;
}
