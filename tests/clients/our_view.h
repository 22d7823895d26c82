/* An inline machine with an attachable ring, and our own client's side of it: for two_views.c, which knows liburing. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* All that a client can see of a ring: counted and read by one library or the other. */
struct view {
	uint32_t sq_head, sq_tail, sq_flags, sq_dropped, sq_entries, sq_ready, sq_space;
	uint32_t cq_head, cq_tail, cq_flags, cq_overflow, cq_entries, cq_ready;
	uint64_t sqes, cqes;	/* hashes of what is published and not yet consumed */
	uint64_t buffers;	/* of the whole buffer ring of group 0, its tail included */
};

static inline uint64_t hash(uint64_t h, const void *bytes, uint32_t n)
{
	const uint8_t *b = bytes;

	while (n--)
		h = (h ^ *b++) * 0x100000001b3ull;
	return h;
}

#define HASH_START 0xcbf29ce484222325ull

struct machine;

/* params: 120 bytes, struct io_uring_params. */
struct machine *machine_new(uint32_t entries, uint32_t cq_entries, uint32_t group_entries, void *params);
void machine_free(struct machine *m);
int machine_ring_fd(const struct machine *m);
int machine_data_fd(const struct machine *m, uint64_t *size);
void machine_attach(struct machine *m, uint64_t address);
void machine_turn(struct machine *m);	/* what the worker does */
void machine_report(struct machine *m, uint32_t grpid);

/* Our client. */
void our_view(struct machine *m, struct view *out);
bool our_push(struct machine *m, const void *sqe);	/* false: full */
void our_submit(struct machine *m);
bool our_reap(struct machine *m, uint64_t *user_data, int32_t *res, uint32_t *flags);
void our_adopt(struct machine *m);	/* goes on from where the other has come */
