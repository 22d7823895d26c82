/*
 * Who serves which stage, on three threads: the worker has the hardware and its driver, whose interrupt fills stage 2; the
 * main thread is the guest, which reads, maps stage 1 and answers, and also registers handlers, changes and ends them; a
 * third is the host, which takes mappings away and gives them back, and maps and unmaps pages of stage 2 itself.
 *
 * Whatever they do, every fault is the guest's or the kernel's, and none is lost. The sanitizers watch the rest.
 *
 * nesting ROUNDS SEED
 */
#include <pthread.h>
#include <sched.h>

#include "scene.h"

#include "abi/iommufd.h"
#include "hardware/iommu/nesting.h"
#include "hardware/iommu/smmuv3.h"

#define PAGES 32u
#define FRAMES 16u
#define PASID 5u
#define TABLES_AT 0x40000000ull
#define RIGHTS (IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE)
#define GROUP_MOST 4u

struct play {
	struct scene on;
	struct uiopf_pagetables *first, *second;
	struct uiopf_space *guest;
	struct uiopf_host *host;
	struct uiopf_translator *translator;
	uint64_t random;	/* the host's */
	bool over;		/* the host stops */
	uint64_t read, refused;
};

static const struct uiopf_format *format(const char *name)
{
	const struct uiopf_format *one;
	uint32_t n;

	for (n = 0; (one = uiopf_format_at(n)); n++)
		if (!strcmp(uiopf_format_name(one), name))
			return one;
	CHECK(!"there is such a format");
	return NULL;
}

/* The host's memory, or half of it, in one piece or in two; the last quarter may only be read. */
static void set_ranges(struct play *p, bool all)
{
	const struct uiopf_host_range ranges[] = {
		{ 0, (all ? 12 : 4) * UIOPF_PAGE - 1, 1ull << 40, RIGHTS, 0 },
		{ 12 * UIOPF_PAGE, FRAMES * UIOPF_PAGE - 1, 1ull << 41, IOMMU_PGFAULT_PERM_READ, 0 },
	};

	CHECK_EQ(uiopf_host_set(p->host, ranges, all ? 2 : 1), 0);
}

static void *host(void *arg)
{
	struct play *p = arg;
	uint64_t pages[8];

	while (!__atomic_load_n(&p->over, __ATOMIC_RELAXED)) {
		const uint64_t page = (uint64_t)below(&p->random, FRAMES) * UIOPF_PAGE;
		int rc;

		switch (below(&p->random, 8)) {
		case 0:
			set_ranges(p, below(&p->random, 2));
			break;
		case 1 ... 2:
			rc = uiopf_pagetables_unmap(p->second, 0, page);
			CHECK(rc == 1 || rc == -ENOENT);
			uiopf_translator_invalidate_all(p->translator);
			break;
		case 3:
			rc = uiopf_host_fill(p->host, page, IOMMU_PGFAULT_PERM_READ);
			CHECK(rc == 0 || rc == 1 || rc == -ENOENT);
			break;
		case 4:
			CHECK(uiopf_host_take_filled(p->host, pages, 8) <= 8);
			break;
		default:
			uiopf_endpoint_invalidate(p->on.ep, UINT32_MAX, 0, UINT64_MAX);
		}
	}
	return NULL;
}

/* What the guest reads it maps, and answers: mostly SUCCESS. */
static void serve(struct play *p, uint64_t *random)
{
	struct iommu_hwpt_pgfault m[16];
	const int64_t got = BEGUN(uiopf_faultq_read(p->on.q, m, sizeof m));
	int64_t i;

	CHECK(got >= 0 || got == -EAGAIN);
	for (i = 0; i < got / (int64_t)sizeof m[0]; i++) {
		const struct iommu_hwpt_page_response r = { .cookie = m[i].cookie, .code = below(random, 8) == 0 };
		const int rc = uiopf_space_map(p->guest, m[i].pasid, m[i].addr, m[i].perm);

		p->read++;
		CHECK(rc == 0 || rc == -ENOMEM);	/* its frames are at an end: the answer is what it is */
		if (m[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE)
			CHECK_EQ(BEGUN(uiopf_faultq_write(p->on.q, &r, sizeof r)), sizeof r);
	}
}

/* Lets the worker have its turns, until the newest access has ended. */
static void settle(struct play *p, uint64_t *random, int64_t ticket)
{
	while (ticket >= 0 && uiopf_endpoint_result(p->on.ep, ticket) == 0) {
		serve(p, random);
		sched_yield();
	}
}

static void check_counts(const struct uiopf_nesting_counts *c, uint32_t by, bool stalls)
{
	CHECK_EQ(c->faults, c->to_guest + c->by_host + c->refused + c->gone);
	if (by == UIOPF_STAGE_BY_NOBODY) {
		CHECK(c->walks <= (stalls ? 0 : c->faults));
		CHECK_EQ(c->wrong, c->refused);
		CHECK_EQ(c->by_host, 0);
		CHECK_EQ(c->locks, 0);
		return;
	}
	/* One more, where the host had the page, and hardware may not take it. */
	CHECK_EQ(c->wrong, 0);
	CHECK(c->walks >= (by == UIOPF_STAGE_BY_DRIVER || !stalls ? c->faults : 0));
	CHECK(c->walks <= (by == UIOPF_STAGE_BY_DRIVER || !stalls ? c->faults : 0) + c->by_host + c->refused);
	if (by == UIOPF_STAGE_BY_HANDLER) {
		CHECK_EQ(c->calls, c->faults);
		CHECK_EQ(c->locks, c->faults);
	} else {
		CHECK(c->locks >= c->by_host && c->locks <= c->faults - c->to_guest);
	}
}

static struct uiopf_nesting *registered(struct play *p, uint64_t *random, bool stalls, uint32_t *by)
{
	static const uint32_t flags[] = { UIOPF_REPORT_FLAT, UIOPF_REPORT_NESTED_L1, UIOPF_REPORT_NESTED_L2,
					  UIOPF_REPORT_NESTED_L1 | UIOPF_REPORT_NESTED_L2 };
	struct uiopf_nesting *n;

	*by = below(random, 4);		/* of NOBODY, whose host promises nothing here */
	n = uiopf_model_nest(p->on.iommu, p->on.device, p->translator, p->host, *by,
			     *by == UIOPF_STAGE_BY_NOBODY ? UIOPF_REPORT_NESTED_L1 : flags[below(random, 4)]);
	if (!n)
		CHECK(*by == UIOPF_STAGE_BY_HARDWARE && !stalls && errno == EOPNOTSUPP);
	else
		CHECK(!uiopf_model_nest(p->on.iommu, p->on.device, p->translator, p->host, UIOPF_STAGE_BY_DRIVER,
					UIOPF_REPORT_FLAT) && errno == EBUSY);
	return n;
}

static void play(uint32_t rounds, uint64_t *random, const char *first, const char *second, bool arm, bool stalls)
{
	const struct scene_config config = { .requester_id = 0x100, .device_id = 1, .capacity = 256,
		.group_most = stalls ? 1 : GROUP_MOST, .pool = 512, .model = arm ? &uiopf_model_smmuv3 : NULL, .pages = 1 };
	const uint32_t pasid = PASID;
	struct play p = { .on = open_scene_of(&config), .random = next_random(random) };
	struct uiopf_nesting *nesting = NULL;
	struct uiopf_nesting_counts counts;
	struct uiopf_account account = { .endpoint = p.on.ep };
	uint64_t seen[4] = { 0 };
	uint32_t by = 0, i, page;
	int64_t ticket = -1;
	pthread_t thread;
	int rc;

	if (stalls) {	/* in place of the one with PRI */
		uiopf_model_unbind(p.on.iommu, p.on.device);
		uiopf_endpoint_free(p.on.ep);
		p.on.ep = uiopf_endpoint_new_stalling(p.on.core, uiopf_model_port(p.on.iommu), 0x100, 32, 1);
		CHECK(p.on.ep);
		CHECK_EQ(uiopf_model_bind(p.on.iommu, p.on.ep, p.on.device), 0);
	}
	account = (struct uiopf_account){ .endpoint = p.on.ep, .device = p.on.device };
	p.first = uiopf_pagetables_new(format(first), 8, 64, TABLES_AT, 1);
	p.second = uiopf_pagetables_new(format(second), 1, 64, 0, 1);
	CHECK_EQ(uiopf_pagetables_map(p.second, 0, TABLES_AT, 0, 2, RIGHTS), 0);
	p.guest = uiopf_space_of_guest(p.first, FRAMES, &pasid, 1);
	p.host = uiopf_host_new(p.second);
	p.translator = uiopf_translator_new(p.on.core, p.first, p.second, 16);
	CHECK(p.first && p.second && p.guest && p.host && p.translator);
	set_ranges(&p, true);
	CHECK_EQ(uiopf_endpoint_set_translator(p.on.ep, p.translator, stalls ? 0 : 16), 0);
	uiopf_endpoint_set_retries(p.on.ep, 3);
	CHECK_EQ(uiopf_attach(p.on.device, UIOPF_NO_PASID, p.on.q, UIOPF_USER_MANAGED), 0);
	if (!stalls)
		CHECK_EQ(uiopf_endpoint_enable_pri(p.on.ep, 256), 0);
	CHECK_EQ(uiopf_core_start(p.on.core, UIOPF_ENTER, -1, 1000), 0);
	CHECK_EQ(pthread_create(&thread, NULL, host, &p), 0);

	for (i = 0; i < rounds; i++) {
		page = below(random, PAGES);
		if (i % 8 == 0)
			settle(&p, random, ticket);
		switch (below(random, 16)) {
		case 0:
			if (!nesting) {
				nesting = registered(&p, random, stalls, &by);
				break;
			}
			uiopf_nesting_get_counts(nesting, &counts);
			check_counts(&counts, by, stalls);
			seen[0] += counts.to_guest;
			seen[1] += counts.by_host;
			seen[2] += counts.refused;
			seen[3] += counts.gone;
			uiopf_nesting_free(nesting);
			nesting = NULL;
			break;
		case 1:
			if (!nesting)
				break;
			rc = uiopf_nesting_update(nesting, 0, below(random, 2) ? UIOPF_REPORT_NESTED_L1 |
						  UIOPF_REPORT_NESTED_L2 : 1u << below(random, 3));
			CHECK(rc == 0 || (rc == -EINVAL && by == UIOPF_STAGE_BY_NOBODY));
			break;
		case 2:
			CHECK_EQ(uiopf_space_unmap(p.guest, PASID, (uint64_t)page * UIOPF_PAGE), 0);
			uiopf_translator_invalidate_all(p.translator);
			break;
		case 3:
			if (below(random, 16))
				break;
			uiopf_space_reset(p.guest);
			uiopf_translator_invalidate_all(p.translator);
			if (nesting)
				uiopf_nesting_begin_anew(nesting);
			break;
		case 4 ... 8:
			ticket = uiopf_endpoint_access(p.on.ep, PASID, (uint64_t)page * UIOPF_PAGE,
						       RIGHTS & (1u << below(random, 2)),
						       stalls ? 1 : 1 + below(random, GROUP_MOST));
			break;
		default:
			serve(&p, random);
		}
	}
	__atomic_store_n(&p.over, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	if (nesting)
		uiopf_nesting_free(nesting);
	for (i = 0; i < 100000; i++) {	/* the rest, a bounded time */
		serve(&p, random);
		CHECK_EQ(BEGUN(uiopf_account(p.on.core, &account, 1)), 0);
		if (!account.counts.outstanding)
			break;
	}
	CHECK_EQ(account.counts.outstanding, 0);
	CHECK_EQ(account.counts.sent, account.answered + account.auto_answered + account.reported.refused +
					      account.reported.served);
	CHECK_EQ(p.read, account.answered);
	CHECK_EQ(account.pending, 0);
	printf("%s: to the guest %llu, by the host %llu, refused %llu, gone %llu, of %llu\n", stalls ? "stalls" : first,
	       (unsigned long long)seen[0], (unsigned long long)seen[1], (unsigned long long)seen[2],
	       (unsigned long long)seen[3], (unsigned long long)account.counts.sent);
	fflush(stdout);
	if (rounds >= 4000)
		CHECK(seen[0] && seen[1] && seen[2] && (seen[3] || stalls));
	CHECK_EQ(uiopf_core_stop(p.on.core), 0);
	CHECK_EQ(uiopf_detach(p.on.device, UIOPF_NO_PASID), 0);
	uiopf_host_free(p.host);
	uiopf_space_free(p.guest);
	uiopf_translator_free(p.translator);
	uiopf_pagetables_free(p.first);
	uiopf_pagetables_free(p.second);
	close_scene_of(&p.on);
}

int main(int argc, char **argv)
{
	const uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 4000;
	uint64_t random = seed_from(argc, argv, 2);

	play(rounds, &random, "vtd-first", "vtd-second", false, false);
	play(rounds, &random, "arm-stage1", "arm-stage2", true, false);
	play(rounds, &random, "arm-stage1", "arm-stage2", true, true);
	return 0;
}
