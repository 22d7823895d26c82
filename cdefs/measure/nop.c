/*
 * NOPs through a ring, inline: what an io_uring costs by itself, ours and the host's. One client for both, which knows
 * nothing but the ring in memory; they differ in the one call that hands a batch over.
 */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/api.h"
#include "base/clock.h"
#include "rings/ring.h"

#define ENTRIES 128u

struct nops {
	struct uiopf_client_ring *ring;
	struct uiopf_engine *engine;	/* NULL: the host's, by this descriptor */
	int fd;
};

static int64_t enter(const struct nops *n, uint32_t batch)
{
	if (n->engine)
		return uiopf_enter(n->engine, batch, 0, 0, UINT64_MAX);
	return syscall(SYS_io_uring_enter, n->fd, batch, 0, 0, NULL, 0);
}

/* Batches, one after another, each completed by the call; per second. 0: something was not as it should be. */
static double stream(const struct nops *n, uint32_t batch, uint64_t during_ns)
{
	uint64_t start = uiopf_monotonic_ns(), now = start, done = 0, turns = 0;
	uint32_t i, slot;

	do {
		for (i = 0; i < batch; i++) {
			struct io_uring_sqe *sqe = uiopf_client_get_sqe(n->ring, &slot);

			if (!sqe)
				return 0;
			sqe->opcode = IORING_OP_NOP;
			sqe->user_data = done + i;
		}
		uiopf_client_publish(n->ring);
		if (enter(n, batch) != batch || uiopf_client_ready(n->ring) != batch)
			return 0;
		for (i = 0; i < batch; i++)
			if (uiopf_client_cqe(n->ring, i)->user_data != done + i || uiopf_client_cqe(n->ring, i)->res)
				return 0;
		uiopf_client_seen(n->ring, batch);
		done += batch;
		if (++turns % 64 == 0)
			now = uiopf_monotonic_ns();
	} while (now - start < during_ns);
	return (double)done * 1e9 / (double)(now - start);
}

double uiopf_measure_nop(uint32_t batch, uint64_t during_ns)
{
	struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	struct io_uring_params p = { 0 };
	struct nops n = { .fd = -1 };
	double rate = 0;

	if (!core)
		return 0;
	if (batch && batch <= ENTRIES && uiopf_setup(core, ENTRIES, &p, &n.engine) == 0) {
		n.ring = uiopf_client_ring_map(uiopf_engine_fd(n.engine), &p, uiopf_engine_size(n.engine),
					       uiopf_engine_sqes_offset(n.engine));
		if (n.ring)
			rate = stream(&n, batch, during_ns);
		uiopf_client_ring_unmap(n.ring);
		uiopf_engine_free(n.engine);
	}
	uiopf_core_free(core);
	return rate;
}

double uiopf_measure_host_nop(uint32_t batch, uint64_t during_ns)
{
	struct io_uring_params p = { 0 };
	struct nops n = { 0 };
	double rate = 0;

	n.fd = batch && batch <= ENTRIES ? (int)syscall(SYS_io_uring_setup, ENTRIES, &p) : -1;
	if (n.fd < 0)
		return 0;
	n.ring = uiopf_client_ring_map_host(n.fd, &p);
	if (n.ring) {
		rate = stream(&n, batch, during_ns);
		uiopf_client_ring_unmap(n.ring);
	}
	close(n.fd);
	return rate;
}
