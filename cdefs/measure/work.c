/*
 * What the emulator's own work takes, on one thread: a fault's way through hardware, kernel and client, each turned by
 * itself, so that no part waits for another and no cache line travels. A cost model adds those ways.
 */
#include <errno.h>

#include "abi/api.h"
#include "base/clock.h"
#include "core/core.h"
#include "designs/channel.h"
#include "designs/client.h"
#include "measure/look.h"

#define IDLE_ROUNDS 1000u	/* a pass has nothing to wait for: none of these goes by without work */
#define HELD_UP_NS 20000u	/* a round takes so long and a microsecond for each fault only where the thread did not run */

static uint64_t part(uint64_t from, uint64_t to, uint64_t look)
{
	return to - from > look ? to - from - look : 0;
}

/* One turn of each; how much was done, or -errno. */
static int64_t round_of(struct uiopf_channel *ch, struct uiopf_space *space, uint64_t look, struct uiopf_work *work)
{
	struct uiopf_served served = { 0 };
	uint64_t at[4];
	uint32_t did;
	int n, rc;

	at[0] = uiopf_monotonic_ns();
	did = uiopf_produce(ch->core);
	at[1] = uiopf_monotonic_ns();
	did += uiopf_consume(ch->core);
	at[2] = uiopf_monotonic_ns();
	n = uiopf_client_turn(ch, space, &served);
	rc = n < 0 ? n : uiopf_flush(ch);
	at[3] = uiopf_monotonic_ns();
	if (rc < 0)
		return rc;
	if (at[3] - at[0] < HELD_UP_NS + 1000ull * (uint32_t)n) {
		work->faults += (uint32_t)n;
		work->hardware_ns += part(at[0], at[1], look);
		work->kernel_ns += part(at[1], at[2], look);
		work->client_ns += part(at[2], at[3], look);
	}
	return did + (uint32_t)n;
}

static int one_pass(struct uiopf_channel *ch, struct uiopf_space *space, struct uiopf_endpoint *endpoint,
		    const struct uiopf_load *load, struct uiopf_work *work)
{
	const uint32_t before = uiopf_endpoint_passes(endpoint);
	const uint64_t look = uiopf_look_ns();
	uint32_t idle = 0;
	int64_t did = uiopf_endpoint_start(endpoint, load);

	while (did >= 0 && uiopf_endpoint_passes(endpoint) == before) {
		did = round_of(ch, space, look, work);
		idle = did ? 0 : idle + 1;
		if (idle == IDLE_ROUNDS)
			return -EIO;
	}
	return did < 0 ? (int)did : 0;
}

int uiopf_measure_work(struct uiopf_channel *ch, struct uiopf_space *space, struct uiopf_endpoint *endpoint,
		       const struct uiopf_load *load, struct uiopf_work *work)
{
	int rc;

	if (!uiopf_client_enter(ch))
		return -EALREADY;
	/* Both sides are this thread's for as long as it takes: nothing is locked and unlocked meanwhile. */
	uiopf_control_begin(ch->core);
	rc = ch->core->running ? -EBUSY : one_pass(ch, space, endpoint, load, work);
	uiopf_control_end(ch->core);
	uiopf_client_leave(ch);
	return rc;
}

double uiopf_measure_empty_looks(struct uiopf_channel *ch, uint64_t during_ns)
{
	struct iommu_hwpt_pgfault message;
	uint64_t start, now, n = 0;
	int found = 0;

	if (!uiopf_client_enter(ch))
		return 0;
	start = now = uiopf_monotonic_ns();
	do {
		found = uiopf_receive(ch, &message, 1);
		if (++n % 256 == 0)
			now = uiopf_monotonic_ns();
	} while (!found && now - start < during_ns);
	uiopf_client_leave(ch);
	return found ? 0 : (double)n * 1e9 / (double)(now - start);
}
