/*
 * The fault queue by itself: groups, cookies, what fits, the order of automatic answers; then its two sides in two
 * threads. Reports are made through the generic layer; the IOMMU here only remembers what it is told to answer.
 *
 * Arguments: groups to push through, seed.
 */
#include <errno.h>

#include "check.h"
#include "core/core.h"
#include "faults/faultq.h"
#include "faults/report.h"
#include "faults/iopf.h"

#define LOG 4096u

struct told {
	uint32_t dev_id, grpid, code;
};

struct listener {		/* an IOMMU that keeps a log */
	struct uiopf_iommu iommu;
	struct told told[LOG];
	uint32_t count;		/* free-running; written by whoever answers, read by the producer */
	bool exhausted;		/* whether the device had no group left when it was answered last */
};

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	struct listener *l = container_of(device->iommu, struct listener, iommu);
	uint32_t n = l->count;

	(void)side;
	(void)flags;
	(void)pasid;
	if (device->core->driver == UIOPF_ENTER && !device->core->running)
		l->exhausted = uiopf_device_is_exhausted((struct uiopf_device *)(uintptr_t)device);
	l->told[n % LOG] = (struct told){ device->id, grpid, code };
	STORE_RELEASE(&l->count, n + 1);
}

static const struct uiopf_iommu_ops listener_ops = { .respond = respond };

struct scene {
	struct uiopf_core *core;
	struct listener listener;
	struct uiopf_device *device[2];
	struct uiopf_faultq *q;
};

static void open_scene(struct scene *s, enum uiopf_personality personality)
{
	uint32_t i;

	memset(s, 0, sizeof *s);
	s->core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	CHECK(s->core);
	s->listener.iommu.lifetime.holders = 1;	/* ours, for as long as the scene is there */
	s->listener.iommu.ops = &listener_ops;
	s->listener.iommu.core = s->core;
	s->q = uiopf_faultq_new(s->core, personality);
	CHECK(s->q);
	for (i = 0; i < 2; i++) {
		s->device[i] = uiopf_device_new(s->core, &s->listener.iommu, i + 1, i, 256, 0);
		CHECK(s->device[i]);
		CHECK_EQ(uiopf_attach(s->device[i], UIOPF_NO_PASID, s->q, 1), 0);
		CHECK_EQ(uiopf_attach(s->device[i], UIOPF_NO_PASID, s->q, 1), -EBUSY);
	}
}

static void close_scene(struct scene *s)
{
	uint32_t i;

	CHECK_EQ(uiopf_faultq_free(s->q), -EBUSY);
	for (i = 0; i < 2; i++) {
		CHECK_EQ(uiopf_detach(s->device[i], UIOPF_NO_PASID), 0);
		uiopf_device_free(s->device[i]);
	}
	CHECK_EQ(uiopf_faultq_free(s->q), 0);
	CHECK_EQ(uiopf_core_free(s->core), 0);
}

/* One group of so many pages; the page's number is in its address. */
static void report(struct scene *s, uint32_t device, uint32_t grpid, uint32_t pages)
{
	uint32_t i;

	for (i = 0; i < pages; i++) {
		const struct uiopf_fault fault = {
			.addr = 4096ull * i,
			.flags = UIOPF_FAULT_PASID_VALID | (i + 1 == pages ? UIOPF_FAULT_LAST_PAGE : 0),
			.pasid = 9,
			.grpid = grpid,
			.perm = 1,
		};

		CHECK_EQ(uiopf_report(s->device[device], &fault), 0);
	}
	uiopf_faultq_publish(s->q);
}

/* Reads up to n messages; how many came. */
static int64_t take(struct scene *s, struct iommu_hwpt_pgfault *m, uint32_t n)
{
	int64_t got = uiopf_faultq_read(s->q, m, n * sizeof *m);

	return got < 0 ? got : got / (int64_t)sizeof *m;
}

static int64_t answer(struct scene *s, uint32_t cookie, uint32_t code)
{
	const struct iommu_hwpt_page_response r = { .cookie = cookie, .code = code };

	return uiopf_faultq_write(s->q, &r, sizeof r);
}

static void groups_come_whole_and_in_order(void)
{
	struct iommu_hwpt_pgfault m[16];
	struct scene s;
	uint32_t i;

	open_scene(&s, UIOPF_MERGED);
	CHECK_EQ(take(&s, m, 16), 0);
	report(&s, 0, 5, 3);
	report(&s, 1, 6, 1);
	report(&s, 0, 7, 4);
	CHECK_EQ(uiopf_faultq_read(s.q, m, 41), -ESPIPE);
	CHECK_EQ(take(&s, m, 2), -EINVAL);	/* the first group has three */
	CHECK_EQ(take(&s, m, 0), -EINVAL);
	CHECK_EQ(take(&s, m, 5), 4);		/* the third does not fit, and stays first */
	for (i = 0; i < 3; i++) {
		CHECK_EQ(m[i].grpid, 5);
		CHECK_EQ(m[i].addr, 4096 * i);
		CHECK_EQ(m[i].cookie, 1);
		CHECK_EQ(m[i].dev_id, 1);
		CHECK_EQ(m[i].flags, i == 2 ? 3 : 1);
		CHECK_EQ(m[i].length, 0);
		CHECK_EQ(m[i].__reserved, 0);
	}
	CHECK_EQ(m[3].grpid, 6);
	CHECK_EQ(m[3].cookie, 2);
	CHECK_EQ(m[3].dev_id, 2);
	CHECK_EQ(take(&s, m, 3), -EINVAL);
	CHECK_EQ(take(&s, m, 4), 4);
	CHECK_EQ(m[0].cookie, 3);
	CHECK_EQ(take(&s, m, 16), 0);
	close_scene(&s);
}

static void cookies_are_the_lowest_free(void)
{
	struct iommu_hwpt_pgfault m[8];
	struct scene s;
	uint32_t i;

	open_scene(&s, UIOPF_MERGED);
	for (i = 0; i < 5; i++)
		report(&s, 0, i, 1);
	CHECK_EQ(take(&s, m, 5), 5);
	CHECK_EQ(answer(&s, 4, 0), 8);
	CHECK_EQ(answer(&s, 2, 1), 8);
	CHECK_EQ(answer(&s, 2, 0), -EINVAL);	/* answered already */
	CHECK_EQ(answer(&s, 6, 0), -EINVAL);	/* never given out */
	CHECK_EQ(answer(&s, UINT32_MAX, 0), -EINVAL);
	CHECK_EQ(answer(&s, 1, 2), -EINVAL);	/* no such code: the cookie stays live */
	CHECK_EQ(answer(&s, 1, 0), 8);
	for (i = 5; i < 9; i++)
		report(&s, 0, i, 1);
	CHECK_EQ(answer(&s, 6, 0), -EINVAL);	/* reported, and not read yet */
	CHECK_EQ(take(&s, m, 4), 4);
	CHECK_EQ(m[0].cookie, 1);
	CHECK_EQ(m[1].cookie, 2);
	CHECK_EQ(m[2].cookie, 4);
	CHECK_EQ(m[3].cookie, 6);
	CHECK_EQ(s.listener.count, 3);
	CHECK_EQ(s.listener.told[1].grpid, 1);
	CHECK_EQ(s.listener.told[1].code, 1);
	close_scene(&s);
}

/* As recorded from Linux: an answer to 0 is refused, and yet sets 0 free while another cookie is live. */
static void zero_becomes_a_cookie_once_it_was_answered(void)
{
	struct iommu_hwpt_pgfault m[4];
	struct scene s;
	uint32_t i;

	open_scene(&s, UIOPF_MERGED);
	CHECK_EQ(answer(&s, 0, 0), -EINVAL);	/* none is live: nothing changes */
	for (i = 0; i < 4; i++)
		report(&s, 0, i, 1);
	CHECK_EQ(take(&s, m, 1), 1);
	CHECK_EQ(m[0].cookie, 1);
	CHECK_EQ(answer(&s, 0, 0), -EINVAL);
	CHECK_EQ(take(&s, m, 2), 2);
	CHECK_EQ(m[0].cookie, 0);
	CHECK_EQ(m[1].cookie, 2);
	CHECK_EQ(answer(&s, 0, 0), 8);
	CHECK_EQ(s.listener.told[0].grpid, 1);
	CHECK_EQ(take(&s, m, 1), 1);
	CHECK_EQ(m[0].cookie, 0);
	close_scene(&s);
	CHECK_EQ(s.listener.count, 4);
}

static void answers_stop_at_the_first_bad_one(void)
{
	struct iommu_hwpt_page_response r[4] = { { 1, 0 }, { 2, 7 }, { 3, 0 }, { 0, 0 } };
	struct iommu_hwpt_pgfault m[4];
	struct scene s;
	uint32_t i;

	open_scene(&s, UIOPF_MERGED);
	for (i = 0; i < 3; i++)
		report(&s, 0, i, 1);
	CHECK_EQ(take(&s, m, 4), 3);
	CHECK_EQ(uiopf_faultq_write(s.q, r, 0), 0);
	CHECK_EQ(uiopf_faultq_write(s.q, r, 12), -ESPIPE);
	CHECK_EQ(uiopf_faultq_write(s.q, r, sizeof r), 8);
	CHECK_EQ(s.listener.count, 1);
	CHECK_EQ(uiopf_faultq_write(s.q, &r[1], 24), -EINVAL);
	CHECK_EQ(s.listener.count, 1);
	close_scene(&s);
	CHECK_EQ(s.listener.count, 3);
}

/* Undelivered groups newest first, then delivered ones by rising cookie; another device's stay. */
static void a_detach_answers_in_linuxs_order(void)
{
	static const uint32_t expected[] = { 15, 14, 12, 10, 11 };
	struct iommu_hwpt_pgfault m[8];
	struct scene s;
	uint32_t i;

	open_scene(&s, UIOPF_MERGED);
	report(&s, 0, 10, 1);
	report(&s, 0, 11, 2);
	CHECK_EQ(take(&s, m, 3), 3);
	report(&s, 0, 12, 1);
	report(&s, 1, 13, 1);
	report(&s, 0, 14, 1);
	report(&s, 0, 15, 3);
	CHECK_EQ(uiopf_replace(s.device[0], UIOPF_NO_PASID, s.q, 1), 0);
	CHECK_EQ(s.listener.count, 5);
	for (i = 0; i < 5; i++) {
		CHECK_EQ(s.listener.told[i].grpid, expected[i]);
		CHECK_EQ(s.listener.told[i].code, 1);
	}
	CHECK_EQ(answer(&s, 1, 0), -EINVAL);	/* its cookie went with it */
	CHECK_EQ(take(&s, m, 8), 1);
	CHECK_EQ(m[0].grpid, 13);
	CHECK_EQ(m[0].cookie, 1);
	report(&s, 0, 16, 1);
	CHECK_EQ(take(&s, m, 8), 1);
	CHECK_EQ(m[0].cookie, 2);
	close_scene(&s);
}

static void what_is_unfinished_is_dropped_and_not_answered(void)
{
	const struct uiopf_fault first = { .flags = UIOPF_FAULT_PASID_VALID, .grpid = 3, .pasid = 9 };
	struct uiopf_device_counts counts;
	struct scene s;

	open_scene(&s, UIOPF_MERGED);
	CHECK_EQ(uiopf_report(s.device[0], &first), 0);
	CHECK_EQ(uiopf_report(s.device[0], &first), 0);
	CHECK_EQ(uiopf_detach(s.device[0], UIOPF_NO_PASID), 0);
	CHECK_EQ(s.listener.count, 0);
	uiopf_device_get_counts(s.device[0], &counts);
	CHECK_EQ(counts.dropped, 2);
	CHECK_EQ(uiopf_report(s.device[0], &first), -EINVAL);	/* nobody to tell: answered at once, last or not */
	CHECK_EQ(s.listener.count, 1);
	CHECK_EQ(s.listener.told[0].code, 1);
	close_scene(&s);
}

static void a_full_pool_fails_the_last_and_drops_the_others(void)
{
	const struct uiopf_fault last = {
		.flags = UIOPF_FAULT_PASID_VALID | UIOPF_FAULT_LAST_PAGE, .grpid = 300, .pasid = 9,
	};
	struct iommu_hwpt_pgfault m[4];
	struct scene s;
	uint32_t i;

	open_scene(&s, UIOPF_MERGED);
	for (i = 0; i < 256; i++)
		report(&s, 0, i, 1);
	CHECK_EQ(uiopf_report(s.device[0], &last), 0);
	CHECK_EQ(s.listener.count, 1);
	CHECK_EQ(s.listener.told[0].code, 2);	/* FAILURE: no client can say so */
	CHECK_EQ(take(&s, m, 1), 1);
	CHECK_EQ(answer(&s, 1, 0), 8);
	report(&s, 0, 301, 1);			/* an answer makes room */
	CHECK_EQ(s.listener.count, 2);
	close_scene(&s);
}

/* ---- both sides at once ---- */

struct stream {
	struct scene scene;
	uint64_t groups, random, sent;
};

/*
 * The interrupt of this IOMMU, in the worker's turn: some groups, of which at most 200 are under way, since beyond the
 * pool they would be failed, as above.
 */
static uint32_t turn(struct uiopf_producer *producer)
{
	struct stream *st = container_of(producer, struct stream, scene.listener.iommu.producer);
	uint32_t room = 200 - (uint32_t)(st->sent - LOAD_ACQUIRE(&st->scene.listener.count)), n;

	room = below(&st->random, room + 1);
	for (n = 0; n < room && st->sent < st->groups; n++, st->sent++) {
		uint32_t pages = st->sent % 8 ? 1 : 2, i;

		for (i = 0; i < pages; i++) {
			const struct uiopf_fault fault = {
				.addr = st->sent << 12,
				.flags = UIOPF_FAULT_PASID_VALID | (i + 1 == pages ? UIOPF_FAULT_LAST_PAGE : 0),
				.pasid = 9,
				.grpid = (uint32_t)st->sent,
			};

			CHECK_EQ(uiopf_report(st->scene.device[0], &fault), 0);
		}
		if (below(&st->random, 4) == 0)
			uiopf_faultq_publish(st->scene.q);
	}
	return n;
}

static void kick(struct uiopf_producer *producer)
{
	(void)producer;
}

static const struct uiopf_producer_ops producing_ops = { turn, kick };

/* Hardware that sees an answer sends the next fault at once: by then there must be a group for it. */
static void an_answer_is_not_seen_before_its_group_is_free(void)
{
	static struct scene s;
	struct iommu_hwpt_page_response r = { 0 };
	struct iommu_hwpt_pgfault m;
	uint32_t n;

	open_scene(&s, UIOPF_MERGED);
	for (n = 0; !uiopf_device_is_exhausted(s.device[0]); n++)
		CHECK_EQ(uiopf_device_report(s.device[0], IOMMU_PGFAULT_FLAGS_LAST_PAGE, 0, n, 1, 0), 0);
	s.core->driver = UIOPF_ENTER;	/* the groups that are answered go back by a queue between the two sides */
	CHECK_EQ(uiopf_faultq_read(s.q, &m, sizeof m), (int64_t)sizeof m);
	r.cookie = m.cookie;
	s.listener.exhausted = true;
	CHECK_EQ(uiopf_faultq_write(s.q, &r, sizeof r), (int64_t)sizeof r);
	CHECK(!s.listener.exhausted);
	s.core->driver = UIOPF_INLINE;
	close_scene(&s);
}

static void two_threads(uint64_t groups, uint64_t random)
{
	static struct stream st;
	struct iommu_hwpt_pgfault m[32];
	struct iommu_hwpt_page_response r[32];
	struct uiopf_faultq_counts counts;
	uint64_t received = 0, messages = 0;
	uint32_t i, n;

	open_scene(&st.scene, UIOPF_MERGED);
	st.scene.listener.iommu.producer.ops = &producing_ops;
	uiopf_core_add_producer(st.scene.core, &st.scene.listener.iommu.producer);
	st.scene.core->driver = UIOPF_ENTER;	/* as a worker would: the two sides are on two threads from here on */
	st.groups = groups;
	st.random = next_random(&random);
	CHECK_EQ(uiopf_core_start(st.scene.core, UIOPF_ENTER, -1, UINT64_MAX), 0);
	while (received < groups) {
		int64_t got = take(&st.scene, m, 2 + below(&random, 31));

		CHECK(got >= 0);
		messages += (uint64_t)got;
		for (i = n = 0; i < got; i++) {
			CHECK_EQ(m[i].addr, received << 12);	/* in order, none lost, none twice */
			CHECK_EQ(m[i].grpid, (uint32_t)received);
			if (m[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) {
				CHECK(m[i].cookie >= 1 && m[i].cookie <= 200);
				r[n++] = (struct iommu_hwpt_page_response){ .cookie = m[i].cookie };
				received++;
			}
		}
		CHECK_EQ(uiopf_faultq_write(st.scene.q, r, n * sizeof r[0]), n * sizeof r[0]);
	}
	uiopf_core_stop(st.scene.core);
	uiopf_core_remove_producer(st.scene.core, &st.scene.listener.iommu.producer);
	st.scene.core->driver = UIOPF_INLINE;
	uiopf_faultq_counts(st.scene.q, &counts);
	CHECK_EQ(counts.delivered_groups, groups);
	CHECK_EQ(counts.answered_groups, groups);
	CHECK_EQ(counts.answered_faults, messages);
	CHECK_EQ(messages, groups + (groups + 7) / 8);
	CHECK_EQ(counts.waiting_groups + counts.unanswered_groups + counts.auto_answered_groups, 0);
	CHECK_EQ(st.scene.listener.count, groups);
	close_scene(&st.scene);
}

int main(int argc, char **argv)
{
	uint64_t groups = argc > 1 ? strtoull(argv[1], NULL, 0) : 300000, random = seed_from(argc, argv, 2);

	groups_come_whole_and_in_order();
	cookies_are_the_lowest_free();
	zero_becomes_a_cookie_once_it_was_answered();
	answers_stop_at_the_first_bad_one();
	a_detach_answers_in_linuxs_order();
	what_is_unfinished_is_dropped_and_not_answered();
	a_full_pool_fails_the_last_and_drops_the_others();
	an_answer_is_not_seen_before_its_group_is_free();
	two_threads(groups, random);
	return 0;
}
