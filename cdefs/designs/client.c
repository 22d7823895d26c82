/* The native client: one loop for all designs. */
#include "designs/client.h"

#include <errno.h>
#include <time.h>

#include "designs/channel.h"

#define BATCH 512u
#define IMPATIENT_LOOKS 8u	/* a single fault on its way back is found at once */

static uint64_t thread_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Makes the pages of a batch present and answers its groups; 0 or -errno. After a receive, an answer is never put off. */
static int serve_batch(struct uiopf_channel *ch, struct uiopf_space *space, const struct iommu_hwpt_pgfault *message,
		       uint32_t n, struct uiopf_served *served)
{
	struct iommu_hwpt_page_response response[BATCH];
	uint32_t i, groups = 0;
	int rc;

	for (i = 0; i < n; i++) {
		rc = uiopf_space_map_wanted(space, message[i].pasid, message[i].addr, message[i].length, message[i].perm);
		if (unlikely(rc < 0))
			return rc;
		if (message[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE)
			response[groups++] = (struct iommu_hwpt_page_response){
				.cookie = message[i].cookie, .code = IOMMUFD_PAGE_RESP_SUCCESS,
			};
	}
	rc = uiopf_answer(ch, response, groups);
	served->faults += n;
	served->groups += groups;
	return rc < 0 ? rc : 0;
}

int uiopf_client_turn(struct uiopf_channel *ch, struct uiopf_space *space, struct uiopf_served *served)
{
	struct iommu_hwpt_pgfault message[BATCH];
	int n = uiopf_receive(ch, message, BATCH), rc = n > 0 ? serve_batch(ch, space, message, (uint32_t)n, served) : 0;

	return rc < 0 ? rc : n;
}

/*
 * Faults of a pass may be fewer than the client is told to serve, where a function finds by itself what is there: then it
 * ends with the pass. NULL: there is none.
 */
struct pass {
	struct uiopf_endpoint *endpoint;
	uint32_t number;
};

static bool is_over(const struct pass *pass)
{
	return pass && (int32_t)(uiopf_endpoint_passes(pass->endpoint) - pass->number) >= 0;
}

static int serve(struct uiopf_channel *ch, struct uiopf_space *space, const struct pass *pass, uint64_t faults,
		 uint64_t during_ns, struct uiopf_served *served)
{
	const uint64_t deadline = uiopf_monotonic_ns() + during_ns, wanted = served->faults + faults;
	const bool sleeps = uiopf_sleeps(ch) || ch->core->driver == UIOPF_INLINE;
	struct iommu_hwpt_pgfault message[BATCH];
	uint64_t cpu = thread_cpu_ns();
	uint32_t turns = 0, empty = 0;
	int rc = 0;

	while (served->faults < wanted) {
		/* Turns that sleep are long: many of them would be longer than the caller wants to wait. */
		if ((sleeps ? ch->core->driver != UIOPF_INLINE : ++turns % 256 == 0) &&
		    (uiopf_monotonic_ns() >= deadline || is_over(pass)))
			break;
		if (sleeps) {
			/* An inline client that never sleeps still lets the other side have its turn. */
			rc = uiopf_wait(ch, 20000000);
			if (rc < 0)
				break;
			if (rc == 0 && (ch->core->driver == UIOPF_INLINE || uiopf_monotonic_ns() >= deadline))
				break;
		}
		rc = uiopf_receive(ch, message, BATCH);
		if (rc > 0) {
			rc = serve_batch(ch, space, message, (uint32_t)rc, served);
			empty = 0;
		} else if (rc == 0 && ++empty > IMPATIENT_LOOKS) {
			cpu_relax();	/* each look takes from the other side a line that it is about to write */
			cpu_relax();
		}
		if (rc < 0)
			break;
	}
	if (rc >= 0)
		rc = uiopf_flush(ch);	/* nobody may be coming to receive more */
	if (rc == -EINTR)
		rc = 0;	/* the caller looks for signals, and goes on where we were */
	served->cpu_ns += thread_cpu_ns() - cpu;
	served->error = rc < 0 ? rc : 0;
	return served->error;
}

static int enter_and_serve(struct uiopf_channel *ch, struct uiopf_space *space, const struct pass *pass, uint64_t faults,
			   uint64_t during_ns, struct uiopf_served *served)
{
	int rc;

	if (!uiopf_client_enter(ch))
		return -EALREADY;
	rc = serve(ch, space, pass, faults, during_ns, served);
	uiopf_client_leave(ch);
	return rc;
}

int uiopf_client_serve(struct uiopf_channel *ch, struct uiopf_space *space, uint64_t faults, uint64_t during_ns,
		       struct uiopf_served *served)
{
	return enter_and_serve(ch, space, NULL, faults, during_ns, served);
}

int uiopf_client_replay(struct uiopf_channel *ch, struct uiopf_space *space, struct uiopf_endpoint *endpoint,
			const struct uiopf_load *load, uint64_t faults, uint64_t during_ns,
			struct uiopf_served *served)
{
	const struct pass pass = { endpoint, uiopf_endpoint_passes(endpoint) + 1 };
	int rc = uiopf_endpoint_start(endpoint, load);

	return rc < 0 ? rc : enter_and_serve(ch, space, &pass, faults, during_ns, served);
}

int uiopf_client_go_on(struct uiopf_channel *ch, struct uiopf_space *space, struct uiopf_endpoint *endpoint,
		       uint32_t number, uint64_t faults, uint64_t during_ns, struct uiopf_served *served)
{
	const struct pass until = { endpoint, number };

	return enter_and_serve(ch, space, &until, faults, during_ns, served);
}
