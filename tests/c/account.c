/*
 * Where every fault is, after every step of any order: accesses of one to eight pages, turns of the function, the driver's
 * interrupt, reads, answers of every code, detach and attach. What the account says is compared to what was asked for and
 * answered here, and to what became of each access: nothing is ever lost, and nothing is in two places.
 *
 * account STEPS SEED
 */
#include "check.h"
#include "core/core.h"
#include "faults/faultq.h"
#include "faults/report.h"
#include "hardware/endpoint.h"
#include "hardware/iommu/vtd.h"

#define RID 0x100u
#define PAGES 8u
#define GROUPS 512u
#define TICKETS 4096u

struct scene {
	struct uiopf_core *core;
	struct uiopf_vtd *vtd;
	struct uiopf_endpoint *ep;
	struct uiopf_device *device;
	struct uiopf_faultq *q;
	struct uiopf_space *space;
	bool attached;

	struct { int64_t ticket; uint32_t pages; } access[TICKETS];	/* those without a result */
	uint32_t accesses;
	struct { uint32_t cookie, pages; } held[GROUPS];		/* read, and not answered */
	uint32_t held_count, held_pages, partial;
	uint64_t answered, answered_for;
};

static struct uiopf_account account_of(struct scene *s)
{
	struct uiopf_account a = { .endpoint = s->ep, .device = s->device };

	CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
	return a;
}

static void check(struct scene *s)
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
		if (uiopf_endpoint_result(s->ep, s->access[i].ticket) == 0) {
			waited_for += s->access[i].pages;
			s->access[kept++] = s->access[i];
		}
	s->accesses = kept;
	/* An access waits for its credits before it is sent, and the function for no more than it has sent. */
	CHECK(a.counts.outstanding <= waited_for);
	CHECK(a.pending <= a.counts.outstanding + s->partial);
	CHECK_EQ(a.counts.sent - a.counts.outstanding,
		 a.counts.succeeded + a.counts.unmapped + a.counts.invalid + a.counts.failed);
}

static void read_some(struct scene *s)
{
	struct iommu_hwpt_pgfault m[4 * PAGES];
	int64_t i, n = uiopf_faultq_read(s->q, m, sizeof m);
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

static void answer_one(struct scene *s, uint64_t *random)
{
	uint32_t i = below(random, s->held_count);
	const struct iommu_hwpt_page_response r = { .cookie = s->held[i].cookie, .code = below(random, 2) };

	CHECK_EQ(uiopf_faultq_write(s->q, &r, sizeof r), sizeof r);
	s->answered += s->held[i].pages;
	s->held_pages -= s->held[i].pages;
	s->held[i] = s->held[--s->held_count];
}

static void attach_or_not(struct scene *s)
{
	if (s->attached) {
		CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
		s->held_count = s->held_pages = s->partial = 0;	/* answered for, or forgotten */
	} else {
		CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	}
	s->attached = !s->attached;
}

static void step(struct scene *s, uint64_t *random)
{
	const uint32_t pages = 1 + below(random, PAGES);
	int64_t ticket;
	uint32_t i;

	switch (below(random, 12)) {
	case 0 ... 3:
		if (s->accesses == TICKETS)
			break;
		ticket = uiopf_endpoint_access(s->ep, 1 + below(random, 3), (uint64_t)below(random, 1u << 20) << 12,
					       IOMMU_PGFAULT_PERM_READ, pages);
		if (ticket < 0)
			break;
		s->access[s->accesses].ticket = ticket;
		s->access[s->accesses++].pages = pages;
		break;
	case 4 ... 5:
		uiopf_vtd_endpoint_turn(s->vtd, s->ep);		/* sent, and in the IOMMU's queue */
		break;
	case 6:
		uiopf_vtd_interrupt(s->vtd);			/* reported, and not shown yet */
		break;
	case 7:
		uiopf_faultq_publish(s->q);
		break;
	case 8:
		uiopf_core_produce(s->core);
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

			uiopf_report(s->device, &half);
			s->partial++;
		}
		break;
	}
}

int main(int argc, char **argv)
{
	uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000, random = seed_from(argc, argv, 2), i;
	struct scene *s = calloc(1, sizeof *s);
	struct uiopf_account a;

	CHECK(s);
	s->core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	s->vtd = uiopf_vtd_new(s->core, 0);
	s->ep = uiopf_endpoint_new(s->core, uiopf_vtd_port(s->vtd), RID, 1024, PAGES);
	s->device = uiopf_device_new(s->core, uiopf_vtd_iommu(s->vtd), 1, RID, 1024, 0);
	s->q = uiopf_faultq_new(s->core, UIOPF_MERGED);
	s->space = uiopf_space_new(8, 64);
	CHECK(s->vtd && s->ep && s->device && s->q && s->space);
	CHECK_EQ(uiopf_vtd_bind(s->vtd, s->ep, s->device), 0);
	uiopf_endpoint_set_tables(s->ep, s->space);
	CHECK_EQ(uiopf_endpoint_enable_pri(s->ep, 256), 0);
	attach_or_not(s);
	for (i = 0; i < steps; i++) {
		step(s, &random);
		check(s);
	}
	/* At rest: everything is answered, and the function knows. */
	while (uiopf_core_produce(s->core))
		;
	if (s->attached)
		attach_or_not(s);
	while (uiopf_core_produce(s->core))
		;
	check(s);
	a = account_of(s);
	CHECK_EQ(a.pending, 0);
	CHECK_EQ(a.counts.outstanding, 0);
	CHECK(steps < 1000 || (s->answered && s->answered_for));
	printf("%" PRIu64 " faults: answered %" PRIu64 ", for the client %" PRIu64 "\n", a.counts.sent, s->answered,
	       s->answered_for);

	uiopf_vtd_unbind(s->vtd, s->device);
	uiopf_endpoint_free(s->ep);
	uiopf_device_free(s->device);
	uiopf_vtd_free(s->vtd);
	CHECK_EQ(uiopf_faultq_free(s->q), 0);
	uiopf_space_free(s->space);
	CHECK_EQ(uiopf_core_free(s->core), 0);
	free(s);
	return 0;
}
