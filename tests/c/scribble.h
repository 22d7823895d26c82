/*
 * Writing over things: the words of a client's ring, its SQEs, what they point to, and its page tables. Each write_*
 * writes one thing, at random; scribble_once() any of them.
 *
 * Every write is a relaxed atomic: what the thread sanitizer complains of is an access of the engine that is not one.
 */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "rings/engine.h"

#define ARENA 0x10000u			/* what SQEs point to, and where the client has it */
#define ARENA_AT 0x7000000000ull
#define PASIDS 4			/* the page tables begin with so many roots */
#define HONEST_FD 1003

enum life { ANYTHING, CLEAN_CQES, CLEAN_INDICES, LIVES };

/* The memory of a hostile client, as it has it mapped itself. */
struct prey {
	uint8_t *ring, *arena, *tables;
	uint64_t ring_size, arena_size, tables_size;
	uint32_t sqes_offset, array;
	int fd[3];			/* of these three: for those who map or cut them */
	enum life life;
	int ring_fd, queue_fd;		/* descriptors of the core */
	const uint8_t *opcodes;		/* so many, of which SQEs have one each; none: any */
	uint32_t opcodes_count;
	uint8_t flags_never;		/* IOSQE_* that no SQE has */
};

/* The honest client's descriptor is never named. */
static inline uint64_t without_honest_fd(uint64_t value)
{
	if ((uint32_t)value == HONEST_FD)
		value ^= 1;
	if (value >> 32 == HONEST_FD)
		value ^= 1ull << 32;
	return value;
}

static inline void put64(void *at, uint64_t value)
{
	value = without_honest_fd(value);
	WRITE_ONCE((uint64_t *)at, value);
}

static inline uint64_t any_word(uint64_t *r)
{
	switch (below(r, 6)) {
	case 0:
		return next_random(r);
	case 1:
		return ARENA_AT + below(r, ARENA + 64);
	case 2:
		return UINT64_MAX - below(r, 3);
	case 3:
		return 1ull << below(r, 64);
	default:
		return below(r, 64);
	}
}

/* Requests that get past the first checks more often than noise would; all words of an SQE. */
static inline void make_sqe(const struct prey *p, uint64_t *r, uint64_t word[8])
{
	const uint32_t opcode = p->opcodes_count ? p->opcodes[below(r, p->opcodes_count)] :
				below(r, 16) ? below(r, IORING_OP_LAST) : below(r, 256);
	const uint32_t flags = below(r, 3) ? (opcode == IORING_OP_READ_MULTISHOT ? IOSQE_BUFFER_SELECT : 0) : below(r, 256);
	uint32_t fd = below(r, 3) ? (uint32_t)p->queue_fd : below(r, 3) ? below(r, 16) : (uint32_t)p->ring_fd;
	uint32_t i;

	memset(word, 0, 8 * sizeof *word);
	switch (opcode) {
	case IORING_OP_READ:
	case IORING_OP_WRITE:
	case IORING_OP_READ_FIXED:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_SEND:
	case IORING_OP_RECV:
		word[2] = ARENA_AT + below(r, ARENA + 64);
		word[3] = below(r, 3) ? 8 * below(r, 24) : below(r, ARENA);
		word[5] = below(r, 4);
		break;
	case IORING_OP_READV:
	case IORING_OP_WRITEV:
		word[2] = ARENA_AT + 8 * below(r, ARENA / 8);
		word[3] = below(r, 9);
		break;
	case IORING_OP_POLL_ADD:
		word[3] = below(r, 2) | (uint64_t)below(r, 64) << 32;
		break;
	case IORING_OP_ASYNC_CANCEL:
	case IORING_OP_POLL_REMOVE:
	case IORING_OP_TIMEOUT_REMOVE:
		word[2] = below(r, 8);
		word[3] = opcode == IORING_OP_POLL_REMOVE ? below(r, 8) : (uint64_t)below(r, 64) << 32;
		break;
	case IORING_OP_TIMEOUT:
	case IORING_OP_LINK_TIMEOUT:
		word[1] = opcode == IORING_OP_TIMEOUT ? below(r, 4) : 0;
		word[2] = ARENA_AT + 8 * below(r, ARENA / 8);
		word[3] = 1 | (uint64_t)(below(r, 2) ? 0 : below(r, 128)) << 32;
		break;
	case IORING_OP_MSG_RING:
		fd = (uint32_t)p->ring_fd;
		word[2] = below(r, 2);
		word[6] = below(r, 4);
		break;
	case IORING_OP_PROVIDE_BUFFERS:
	case IORING_OP_REMOVE_BUFFERS:
		fd = 1 + below(r, 64);
		word[2] = opcode == IORING_OP_PROVIDE_BUFFERS ? ARENA_AT + below(r, ARENA / 2) : 0;
		word[3] = opcode == IORING_OP_PROVIDE_BUFFERS ? below(r, 80) : 0;
		word[5] = below(r, 3);
		break;
	case IORING_OP_FILES_UPDATE:
		word[1] = below(r, 4) ? below(r, 8) : UINT32_MAX;
		word[2] = ARENA_AT + 4 * below(r, ARENA / 4);
		word[3] = below(r, 4);
		break;
	case IORING_OP_CLOSE:
		fd = below(r, 4) ? 0 : fd;	/* a slot, mostly */
		word[5] = fd ? 0 : (uint64_t)(1 + below(r, 8)) << 32;
		break;
	case IORING_OP_URING_CMD:	/* one of the fault file's, with what each of them wants, or something else */
		word[1] = UIOPF_CMD_RECEIVE + below(r, 8);
		if (below(r, 2)) {
			word[2] = ARENA_AT + below(r, ARENA + 64);
			word[3] = below(r, 3) ? 8 * below(r, 24) : below(r, ARENA);
		}
		if (below(r, 4) == 0)
			word[3] |= (uint64_t)IORING_URING_CMD_MULTISHOT << 32;
		word[5] = below(r, 3);
		word[6] = below(r, 2) ? below(r, 256) | (uint64_t)below(r, 3) << 32 : 0;
		break;
	case IORING_OP_READ_MULTISHOT:
		word[1] = UINT64_MAX;
		word[5] = below(r, 3);
		break;
	default:
		if (below(r, 2))
			for (i = 1; i < 8; i++)
				word[i] = any_word(r);
	}
	word[0] = opcode | (uint64_t)flags << 8 | (uint64_t)fd << 32;
	word[4] = below(r, 8);
	if (below(r, 10) == 0)
		word[below(r, 8)] = any_word(r);
	word[0] &= ~((uint64_t)p->flags_never << 8);
	if (p->life != ANYTHING)	/* results that a NOP or a message asks for are not errnos; one slot for each */
		word[3] &= ~(uint64_t)0x80000000u;
	if ((word[0] & 0xff) == IORING_OP_NOP128 || (word[0] & 0xff) == IORING_OP_URING_CMD128)
		word[0] &= ~0xffull;
}

static inline void write_sqe(const struct prey *p, uint64_t *r)
{
	const uint64_t slots = (p->ring_size - p->sqes_offset) / 64;
	uint64_t *at = (uint64_t *)(void *)(p->ring + p->sqes_offset + 64 * below(r, (uint32_t)slots)), word[8];
	uint32_t i, words = below(r, 4) ? 8 : 1 + below(r, 8);	/* sometimes only its beginning */

	make_sqe(p, r, word);
	for (i = 0; i < words; i++)
		put64(&at[i], word[i]);
}

static inline void write_header(const struct prey *p, uint64_t *r)
{
	uint32_t *word = (uint32_t *)(void *)p->ring, value, offset;

	if (p->life == CLEAN_INDICES)
		return;
	if (below(r, 2)) {	/* looks right */
		WRITE_ONCE(&word[RING_SQ_TAIL / 4], READ_ONCE(&word[RING_SQ_HEAD / 4]) + below(r, 20));
		WRITE_ONCE(&word[RING_CQ_HEAD / 4], READ_ONCE(&word[RING_CQ_TAIL / 4]) - below(r, 4));
		return;
	}
	value = below(r, 2) ? (uint32_t)next_random(r) : below(r, 32);
	/* Heads, tails, masks, entries, flags, counters; the array; and in the worst lives the CQEs. */
	offset = below(r, 2) ? below(r, 16) : p->array / 4 + below(r, (p->sqes_offset - p->array) / 4);
	if (p->life == ANYTHING && below(r, 3) == 0)
		offset = below(r, p->sqes_offset / 4);
	if (p->life == CLEAN_CQES && offset == RING_CQ_TAIL / 4)
		return;
	WRITE_ONCE(&word[offset], value);
}

/* A buffer ring at the beginning of each page of the first half, data behind; iovecs, times and descriptors anywhere. */
static inline void write_arena(const struct prey *p, uint64_t *r)
{
	const uint32_t page = 4096 * below(r, 4);
	uint64_t *buffer = (uint64_t *)(void *)(p->arena + page + 16 * below(r, 16));

	switch (below(r, 4)) {
	case 0:
		put64(&buffer[0], below(r, 8) ? ARENA_AT + below(r, ARENA) : next_random(r));
		put64(&buffer[1], (below(r, 8) ? 40 * below(r, 4) : (uint32_t)next_random(r)) | (uint64_t)below(r, 65536) << 32 |
				  (uint64_t)below(r, 65536) << 48);
		break;
	case 1:		/* an answer */
		put64(p->arena + 8 * below(r, ARENA / 8), below(r, 256) | (uint64_t)below(r, 3) << 32);
		break;
	case 2:		/* an iovec, or a time */
		buffer = (uint64_t *)(void *)(p->arena + 16 * below(r, ARENA / 16));
		put64(&buffer[0], below(r, 2) ? ARENA_AT + below(r, ARENA) : below(r, 2));
		put64(&buffer[1], below(r, 2) ? below(r, 256) : next_random(r));
		break;
	default:
		put64(p->arena + 8 * below(r, ARENA / 8), any_word(r));
	}
}

/* Loops, pointers out of the arena, and entries that could be right. */
static inline void write_tables(const struct prey *p, uint64_t *r)
{
	const uint64_t entries = p->tables_size / 8;
	uint64_t value = below(r, 4) ? 4096 * below(r, (uint32_t)(p->tables_size / 4096) + 2) | 7 : next_random(r) | 1;

	WRITE_ONCE((uint64_t *)(void *)(p->tables + 8 * below(r, below(r, 4) ? 8 * PASIDS : (uint32_t)entries)), value);
}

/* Sizes are sealed, and so are the seals; holes may be punched, and read as zeros. */
static inline void cut(const struct prey *p, uint64_t *r)
{
	const uint64_t size[3] = { p->ring_size, p->arena_size, p->tables_size };
	const uint32_t which = below(r, 3);
	const int fd = p->fd[which];
	off_t at = 4096 * (off_t)below(r, (uint32_t)(size[which] / 4096));

	switch (below(r, 8)) {
	case 0:
		CHECK(ftruncate(fd, at) < 0 && errno == EPERM);
		break;
	case 1:
		CHECK(ftruncate(fd, (off_t)size[which] + 4096) < 0 && errno == EPERM);
		break;
	case 2:
		CHECK(fallocate(fd, 0, (off_t)size[which], 4096) < 0 && errno == EPERM);
		break;
	case 3:
		CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
		break;
	default:
		if (which == 0 && at < p->sqes_offset && p->life != ANYTHING)
			return;		/* a hole would be a zero in what is counted */
		CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 4096), 0);
	}
}

static inline void scribble_once(const struct prey *p, uint64_t *r)
{
	switch (below(r, 64)) {
	case 0:
		cut(p, r);
		break;
	case 1 ... 8:
		write_header(p, r);
		break;
	case 9 ... 24:
		write_arena(p, r);
		break;
	case 25 ... 32:
		write_tables(p, r);
		break;
	default:
		write_sqe(p, r);
	}
}

static inline void map_prey(struct prey *p)
{
	p->ring = mmap(NULL, p->ring_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd[0], 0);
	p->arena = mmap(NULL, p->arena_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd[1], 0);
	p->tables = mmap(NULL, p->tables_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd[2], 0);
	CHECK(p->ring != MAP_FAILED && p->arena != MAP_FAILED && p->tables != MAP_FAILED);
}

static inline void unmap_prey(struct prey *p)
{
	munmap(p->ring, p->ring_size);
	munmap(p->arena, p->arena_size);
	munmap(p->tables, p->tables_size);
}
