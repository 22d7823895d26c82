/*
 * The formats of page tables: the one list of them. A format's place here is its number to Python, which reads its name
 * and its stage from it.
 */
#include "abi/api.h"
#include "hardware/tables/format.h"

#define ALL(_) \
	_(vtd_first) \
	_(vtd_second) \
	_(arm_stage1) \
	_(arm_stage2)

#define DECLARE(format) extern const struct uiopf_format uiopf_format_##format;
#define NAME(format) &uiopf_format_##format,

ALL(DECLARE)

static const struct uiopf_format *const formats[] = { ALL(NAME) };

#define FORMATS (sizeof formats / sizeof formats[0])

const struct uiopf_format *uiopf_format_at(uint32_t n)
{
	return n < FORMATS ? formats[n] : NULL;
}

const char *uiopf_format_name(const struct uiopf_format *table_format)
{
	return table_format->name;
}

uint32_t uiopf_format_stage(const struct uiopf_format *table_format)
{
	return table_format->stage;
}
