/* The histogram: no value is reported more than one per cent off, and quantiles are those of the sorted values. */
#include "check.h"
#include "hardware/histogram.h"

#define VALUES 50000u

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double error_of(uint64_t reported, uint64_t value)
{
	double difference = reported > value ? (double)(reported - value) : (double)(value - reported);

	return value ? difference / (double)value : difference;
}

static void check_value(uint64_t value)
{
	uint32_t bucket = uiopf_histogram_bucket(value);

	CHECK(bucket < UIOPF_HISTOGRAM_BUCKETS);
	CHECK(error_of(uiopf_histogram_value(bucket), value) <= 0.01);
	if (value < 256)
		CHECK_EQ(uiopf_histogram_value(bucket), value);
}

static void check_quantiles(uint64_t *random, unsigned int bits)
{
	static struct uiopf_histogram h;
	static uint64_t value[VALUES];
	static const uint64_t millionths[] = { 0, 1, 10000, 500000, 900000, 990000, 999000, 999990, 1000000 };
	uint32_t i, n = 1 + below(random, VALUES - 1);

	memset(&h, 0, sizeof h);
	CHECK_EQ(uiopf_histogram_quantile(&h, 500000), 0);
	for (i = 0; i < n; i++) {
		value[i] = next_random(random) >> (64 - bits) >> below(random, bits);
		uiopf_histogram_add(&h, value[i]);
	}
	qsort(value, n, sizeof value[0], compare);
	CHECK_EQ(h.count, n);
	CHECK_EQ(h.max, value[n - 1]);
	for (i = 0; i < sizeof millionths / sizeof millionths[0]; i++) {
		uint64_t rank = (n * millionths[i] + 999999) / 1000000;

		CHECK(error_of(uiopf_histogram_quantile(&h, millionths[i]), value[rank ? rank - 1 : 0]) <= 0.01);
	}
	CHECK(uiopf_histogram_quantile(&h, 1000000) <= h.max);
}

int main(int argc, char **argv)
{
	uint64_t random = seed_from(argc, argv, 1), value;
	unsigned int bit;
	uint32_t i, last = 0;

	for (bit = 0; bit < 43; bit++)	/* every power of two and its neighbours, then anything */
		for (value = (1ull << bit) - 1; value <= (1ull << bit) + 1; value++)
			check_value(value);
	check_value((1ull << 43) - 1);
	for (i = 0; i < 1000000; i++)
		check_value(next_random(&random) >> 21 >> below(&random, 43));
	for (value = 0; value < 1000000; value++) {	/* buckets rise with values, none left out */
		uint32_t bucket = uiopf_histogram_bucket(value);

		CHECK(bucket == last || bucket == last + 1);
		last = bucket;
	}
	CHECK_EQ(uiopf_histogram_bucket(UINT64_MAX), UIOPF_HISTOGRAM_BUCKETS - 1);	/* kept, as the longest */
	for (i = 0; i < 20; i++)
		check_quantiles(&random, 4 + 2 * i);
	return 0;
}
