/*
 * Where every fault is, after every step of any order: accesses of one to eight pages, turns of the function, the driver's
 * interrupt, reads, answers of every code, detach and attach. What the account says is compared to what was asked for and
 * answered here, and to what became of each access: nothing is ever lost, and nothing is in two places.
 *
 * account STEPS SEED
 */
#include "check.h"
#include "faults/report.h"
#include "scene.h"

#define RID 0x100u
#define PAGES 8u
#define GROUPS 512u
#define TICKETS 4096u

struct play {
	struct scene on;
	bool attached;

	struct { int64_t ticket; uint32_t pages; } access[TICKETS];	/* those without a result */
	uint32_t accesses;
	struct { uint32_t cookie, pages; } held[GROUPS];		/* read, and not answered */
	uint32_t held_count, held_pages, partial;
	uint64_t answered, answered_for;
};

static struct uiopf_account account_of(struct play *s)
{
	struct uiopf_account a = { .endpoint = s->on.ep, .device = s->on.device };

	CHECK_EQ(uiopf_account(s->on.core, &a, 1), 0);
	return a;
}

static void check(struct play *s)
{
	const struct uiopf_account a = account_of(s);
	uint64_t waited_for = 0;
	uint32_t i, kept = 0;

	CHECK_EQ(a.answered, s->answered);
	s->answered_for = a.auto_answered + a.reported.refused;
	/* Faults that the test made itself, halfway of a group, no function has sent. */
	CHECK_EQ(a.counts.sent + s->partial, s->answered + s->answered_for + a.pending);
	CHECK(a.pending >= s->held_pages + s->partial);
	for (i = 0; i < s->accesses; i++)
		if (uiopf_endpoint_result(s->on.ep, s->access[i].ticket) == 0) {
			waited_for += s->access[i].pages;
			s->access[kept++] = s->access[i];
		}
	s->accesses = kept;
	/* An access waits for its credits before it is sent, and the function for no more than it has sent. */
	CHECK(a.counts.outstanding <= waited_for);
	CHECK(a.pending <= a.counts.outstanding + s->partial);
	CHECK_EQ(a.counts.sent - a.counts.outstanding,
		 a.counts.succeeded + a.counts.unmapped + a.counts.invalid + a.counts.failed + a.counts.cleared);
}

static void read_some(struct play *s)
{
	struct iommu_hwpt_pgfault m[4 * PAGES];
	int64_t i, n = uiopf_faultq_read(s->on.q, m, sizeof m);
	uint32_t pages = 0;

	CHECK(n >= 0 || n == -EAGAIN);
	for (i = 0; i < n / (int64_t)sizeof m[0]; i++) {
		pages++;
		if (!(m[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE))
			continue;
		CHECK(s->held_count < GROUPS);
		s->held[s->held_count].cookie = m[i].cookie;
		s->held[s->held_count++].pages = pages;
		s->held_pages += pages;
		pages = 0;
	}
}

static void answer_one(struct play *s, uint64_t *random)
{
	uint32_t i = below(random, s->held_count);
	const struct iommu_hwpt_page_response r = { .cookie = s->held[i].cookie, .code = below(random, 2) };

	CHECK_EQ(uiopf_faultq_write(s->on.q, &r, sizeof r), sizeof r);
	s->answered += s->held[i].pages;
	s->held_pages -= s->held[i].pages;
	s->held[i] = s->held[--s->held_count];
}

static void attach_or_not(struct play *s)
{
	if (s->attached) {
		CHECK_EQ(uiopf_detach(s->on.device, UIOPF_NO_PASID), 0);
		s->held_count = s->held_pages = s->partial = 0;	/* answered for, or forgotten */
	} else {
		CHECK_EQ(uiopf_attach(s->on.device, UIOPF_NO_PASID, s->on.q, 1), 0);
	}
	s->attached = !s->attached;
}

static void step(struct play *s, uint64_t *random)
{
	const uint32_t pages = 1 + below(random, PAGES);
	int64_t ticket;
	uint32_t i;

	switch (below(random, 12)) {
	case 0 ... 3:
		if (s->accesses == TICKETS)
			break;
		ticket = uiopf_endpoint_access(s->on.ep, 1 + below(random, 3), (uint64_t)below(random, 1u << 20) << 12,
					       IOMMU_PGFAULT_PERM_READ, pages);
		if (ticket < 0)
			break;
		s->access[s->accesses].ticket = ticket;
		s->access[s->accesses++].pages = pages;
		break;
	case 4 ... 5:
		uiopf_model_endpoint_turn(s->on.iommu, s->on.ep);		/* sent, and in the IOMMU's queue */
		break;
	case 6:
		uiopf_model_interrupt(s->on.iommu);			/* reported, and not shown yet */
		break;
	case 7:
		uiopf_faultq_publish(s->on.q);
		break;
	case 8:
		uiopf_core_produce(s->on.core);
		break;
	case 9:
		read_some(s);
		break;
	case 10:
		for (i = 0; i < 8 && s->held_count; i++)
			answer_one(s, random);
		break;
	case 11:
		if (below(random, 100) == 0) {
			attach_or_not(s);
		} else if (s->attached && s->partial < 20) {
			/* Half a group, of an index that the function does not use. */
			const struct uiopf_fault half = { .flags = UIOPF_FAULT_PASID_VALID, .pasid = 1,
							  .grpid = GROUPS + below(random, 3), .perm = 1 };

			uiopf_report(s->on.device, &half);
			s->partial++;
		}
		break;
	}
}

int main(int argc, char **argv)
{
	uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000, random = seed_from(argc, argv, 2), i;
	static const struct scene_config config = {
		.requester_id = RID, .device_id = 1, .capacity = 1024, .group_most = PAGES, .pool = 1024, .pages = 8,
	};
	struct play *s = calloc(1, sizeof *s);
	struct uiopf_account a;

	CHECK(s);
	s->on = open_scene_of(&config);
	CHECK_EQ(uiopf_endpoint_enable_pri(s->on.ep, 256), 0);
	attach_or_not(s);
	for (i = 0; i < steps; i++) {
		step(s, &random);
		check(s);
	}
	/* At rest: everything is answered, and the function knows. */
	while (uiopf_core_produce(s->on.core))
		;
	if (s->attached)
		attach_or_not(s);
	while (uiopf_core_produce(s->on.core))
		;
	check(s);
	a = account_of(s);
	CHECK_EQ(a.pending, 0);
	CHECK_EQ(a.counts.outstanding, 0);
	CHECK(steps < 1000 || (s->answered && s->answered_for));
	printf("%" PRIu64 " faults: answered %" PRIu64 ", for the client %" PRIu64 "\n", a.counts.sent, s->answered,
	       s->answered_for);

	close_scene_of(&s->on);
	free(s);
	return 0;
}
