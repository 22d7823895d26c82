#include "hardware/pri.h"

#include <stdlib.h>

struct uiopf_pri *uiopf_pri_new(uint32_t capacity)
{
	struct uiopf_pri *pri = calloc(1, sizeof *pri);

	if (!pri)
		return NULL;
	pri->functions = 1;
	pri->capacity = capacity;
	pri->status = PCIE_PRI_STATUS_STOPPED;
	return pri;
}

void uiopf_pri_drop(struct uiopf_pri *pri)
{
	if (--pri->functions == 0)
		free(pri);
}

void uiopf_pri_enable(struct uiopf_pri *pri)
{
	if (pri->control & PCIE_PRI_CTRL_ENABLE)
		return;
	pri->control = PCIE_PRI_CTRL_ENABLE;
	pri->status &= (uint16_t)~(PCIE_PRI_STATUS_STOPPED | PCIE_PRI_STATUS_RF | PCIE_PRI_STATUS_UPRGI);
	pri->sends = true;
	pri->deaf = false;
}

void uiopf_pri_disable(struct uiopf_pri *pri)
{
	pri->control = 0;
	pri->sends = false;
	uiopf_pri_settle(pri);
}

void uiopf_pri_forgotten(struct uiopf_pri *pri)
{
	pri->deaf = false;
	uiopf_pri_settle(pri);
}

bool uiopf_pri_fail(struct uiopf_pri *pri)
{
	const bool stopping = !(pri->control & PCIE_PRI_CTRL_ENABLE) && !pri->deaf;

	pri->status |= PCIE_PRI_STATUS_RF;
	pri->sends = false;
	pri->deaf = true;
	uiopf_pri_settle(pri);
	return stopping;
}
