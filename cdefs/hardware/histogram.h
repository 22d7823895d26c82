/*
 * A log-linear histogram of nanoseconds: exact below 256, then 128 buckets for each power of two, so that a bucket is
 * at most 1/128 of its value wide. One addition per value, no allocation.
 */
#pragma once
#include <stdint.h>

#define UIOPF_HISTOGRAM_BUCKETS (256 + 35 * 128)	/* up to 2^43 ns, two and a half hours */

struct uiopf_histogram {
	uint64_t count, max, sum;
	uint64_t bucket[UIOPF_HISTOGRAM_BUCKETS];
};

static inline uint32_t uiopf_histogram_bucket(uint64_t ns)
{
	uint32_t shift, bucket;

	if (ns < 256)
		return (uint32_t)ns;
	shift = 56 - (uint32_t)__builtin_clzll(ns);	/* leaves eight bits: 128 to 255 */
	bucket = 256 + (shift - 1) * 128 + (uint32_t)(ns >> shift) - 128;
	return bucket < UIOPF_HISTOGRAM_BUCKETS ? bucket : UIOPF_HISTOGRAM_BUCKETS - 1;
}

static inline void uiopf_histogram_add(struct uiopf_histogram *h, uint64_t ns)
{
	h->count++;
	h->sum += ns;
	if (ns > h->max)
		h->max = ns;
	h->bucket[uiopf_histogram_bucket(ns)]++;
}

/* The middle of a bucket. */
static inline uint64_t uiopf_histogram_value(uint32_t bucket)
{
	uint32_t shift = 1 + (bucket - 256) / 128;

	if (bucket < 256)
		return bucket;
	return ((128ull + (bucket - 256) % 128) << shift) + (1ull << shift) / 2;
}

/* The value that a share of all values, in millionths, does not exceed; 0 when there are none. */
static inline uint64_t uiopf_histogram_quantile(const struct uiopf_histogram *h, uint64_t millionths)
{
	uint64_t seen = 0, wanted = (h->count * millionths + 999999) / 1000000;
	uint32_t i;

	if (!h->count)
		return 0;
	if (!wanted)
		wanted = 1;
	for (i = 0; i < UIOPF_HISTOGRAM_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= wanted) {
			uint64_t value = uiopf_histogram_value(i);

			return value < h->max ? value : h->max;
		}
	}
	return h->max;
}
