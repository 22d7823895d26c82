/*
 * The named accesses to memory that two sides share.
 *
 * Every shared word goes through one of these, and the place of use says what it pairs with. READ_ONCE and WRITE_ONCE
 * are relaxed: one load, one store, never repeated or torn. Where a store must be seen before a later load is made
 * (publish, then look whether someone sleeps), STORE_SEQ is used with LOAD_SEQ on the other side: a store that is also
 * a full barrier. There are no stand-alone fences, since the thread sanitizer cannot follow them.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define READ_ONCE(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define WRITE_ONCE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define STORE_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define LOAD_SEQ(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define STORE_SEQ(p, v) ((void)__atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST))

/* Stores *v* if the word is still *was*; whether it was. Both ways: what the other side wrote before is there. */
#define COMPARE_EXCHANGE(p, was, v) __extension__ ({ \
		__typeof__(*(p)) was_ = (was); \
		__atomic_compare_exchange_n((p), &was_, (v), 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE); \
	})

/* Two cores never write to one of these at once: 128, since processors fetch lines in pairs. */
#define UIOPF_LINE_BYTES 128
#define UIOPF_LINE _Alignas(UIOPF_LINE_BYTES)
/*
 * Below each struct that two threads share, for the first field of each of its sections: what one side writes begins
 * on a line of its own, and what follows it does too, so no line holds fields of two sides.
 */
#define UIOPF_BEGINS_A_LINE(type, field)                               \
	_Static_assert(offsetof(type, field) % UIOPF_LINE_BYTES == 0,  \
		       "the other side's fields are on the line of " #field)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* What runs once per fault, where the compiler would not do it by itself: a call is a good part of such a function. */
#define hot_inline static inline __attribute__((always_inline))

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

/* Fetches a line that is about to be written, and takes it from the other core; no more than a hint. */
static inline void prefetch_to_write(const void *p)
{
#if defined(__x86_64__)
	/* The builtin asks only to read unless the compiler is told of the instruction; where it is unknown it is a NOP. */
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
	__builtin_prefetch(p, 1);
#endif
}
