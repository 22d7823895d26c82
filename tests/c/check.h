/* What the C test programs have instead of a framework: a check that says where and what, and a seeded generator. */
#pragma once
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(condition) do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

#define CHECK_EQ(a, b) do { \
		int64_t a_ = (int64_t)(a), b_ = (int64_t)(b); \
		if (a_ != b_) { \
			fprintf(stderr, "%s:%d: %s is %" PRId64 ", not %" PRId64 "\n", __FILE__, __LINE__, #a, a_, b_); \
			abort(); \
		} \
	} while (0)

/*
 * The result of a call that is made again while it says -EINTR: as after a signal, it has not begun, since another thread
 * had the kernel's side for a slice of time. (A statement expression, as gcc and clang have it.)
 */
#define BEGUN(call) __extension__ ({ \
		int64_t rc_; \
		do \
			rc_ = (call); \
		while (rc_ == -EINTR); \
		rc_; \
	})

/* splitmix64, as in the endpoint: any seed is good. */
static inline uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static inline uint32_t below(uint64_t *state, uint32_t n)
{
	return (uint32_t)((next_random(state) >> 32) * n >> 32);
}

/* The seed is an argument, or the time; it is printed, so that a failure can be had again. */
static inline uint64_t seed_from(int argc, char **argv, int n)
{
	uint64_t seed = argc > n ? strtoull(argv[n], NULL, 0) : (uint64_t)time(NULL);

	printf("seed %" PRIu64 "\n", seed);
	fflush(stdout);
	return seed;
}

static inline double seconds_from(int argc, char **argv, int n, double otherwise)
{
	return argc > n ? strtod(argv[n], NULL) : otherwise;
}

static inline double seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
