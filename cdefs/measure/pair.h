/* Two threads that measure something between them. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct uiopf_pair {
	void (*near)(void *arg);	/* on the calling thread */
	void (*far)(void *arg);
	void *arg;
	bool together;		/* both on the first processor that the caller may use; else on the first two, where it may use two */
	uint32_t ready;
};

/* Runs both; false where no thread can be made. The caller's affinity is as it was afterwards. */
bool uiopf_pair_run(struct uiopf_pair *pair);
