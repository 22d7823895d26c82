/*
 * Measurements between two threads, for the sanitizers: no sample is written beyond its room, none is lost, and the
 * threads share nothing but what they hand over. Their values are a machine's, and are not judged here.
 */
#include "abi/api.h"
#include "check.h"

#define ROOM 64u
#define GUARD 0xdeadbeefu

static void guard(uint32_t *samples)
{
	uint32_t i;

	for (i = 0; i < ROOM + 1; i++)
		samples[i] = GUARD;
}

/* So many are there, all of them times, and nothing behind them was touched. */
static void check_samples(const uint32_t *samples, uint32_t n, uint32_t most)
{
	uint32_t i;

	CHECK(n <= most);
	for (i = 0; i < n; i++)
		CHECK(samples[i] != GUARD);
	for (; i < ROOM + 1; i++)
		CHECK_EQ(samples[i], GUARD);
}

static void one(uint64_t during_ns, uint32_t most)
{
	uint32_t first[ROOM + 1], second[ROOM + 1], n;

	guard(first);
	guard(second);
	n = uiopf_measure_wake_up(during_ns, most, first, second);
	check_samples(first, n, most);
	check_samples(second, n, most);
	guard(first);
	n = uiopf_measure_sleep(during_ns, most, first);
	check_samples(first, n, most);
}

int main(void)
{
	static const uint32_t most[] = { 0, 1, 2, ROOM };
	uint32_t i, wakes[ROOM], writes[ROOM];

	for (i = 0; i < sizeof most / sizeof most[0]; i++) {
		one(0, most[i]);
		one(20000000, most[i]);
	}
	/* With time enough there are as many as were asked for. */
	CHECK_EQ(uiopf_measure_wake_up(60000000000u, 4, writes, wakes), 4);
	CHECK_EQ(uiopf_measure_sleep(60000000000u, 4, wakes), 4);

	for (i = UIOPF_PACKET_SEND; i <= UIOPF_PACKET_LOOK; i++)
		CHECK(uiopf_measure_packets(i, 1000) > 0);
	CHECK(uiopf_measure_packets(i, 1000) == 0);
	CHECK(uiopf_measure_copy(0, 1000) == 0);
	CHECK(uiopf_measure_copy(4097, 1000) == 0);
	for (i = 1; i <= 4096; i *= 2)
		CHECK(uiopf_measure_copy(i, 1000) > 0);

	CHECK(uiopf_measure_system_call(1000000) > 0);
	CHECK(uiopf_measure_cache_line(1000000) > 0);
	CHECK(uiopf_measure_eventfd(1000000) > 0);
	CHECK(uiopf_measure_together(1000000) <= 1);
	CHECK(uiopf_measure_bare_rings(16, 1000000) > 0);
	CHECK(uiopf_measure_host_fd(16, 1000000) > 0);
	CHECK(uiopf_measure_host_stream(16, 1000000) > 0);
	return 0;
}
