/*
 * The IOMMU models: the one list of them. A model's place here is its number to Python, which reads its name from its
 * operations.
 */
#include "hardware/iommu/model.h"

#define ALL(_) \
	_(vtd) \
	_(smmuv3) \
	_(amd) \
	_(riscv) \
	_(vtd_3) \
	_(vtd_2) \
	_(odp) \
	_(evl)

#define DECLARE(model) extern const struct uiopf_model_ops uiopf_model_##model;
#define NAME(model) &uiopf_model_##model,

ALL(DECLARE)

static const struct uiopf_model_ops *const models[] = { ALL(NAME) };

#define MODELS (sizeof models / sizeof models[0])

const char *uiopf_model_name(uint32_t n)
{
	return n < MODELS ? models[n]->name : NULL;
}

struct uiopf_model *uiopf_model_make(struct uiopf_core *core, uint32_t n, uint32_t flags)
{
	return n < MODELS ? uiopf_model_new(core, models[n], flags) : NULL;
}
