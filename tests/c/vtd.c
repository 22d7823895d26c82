/*
 * VT-d's queues to the bit, its driver, and the endpoint's PRI capability. The expected words are written out as
 * numbers: the library's own constants are what is being tested. Formats: reference VT-d 4.x, Linux 6.12.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "scene.h"

#define RID 0xab12u
#define ID 77u
#define GROUP_MOST 16u
#define CAPACITY 1024u

static struct iommu_hwpt_pgfault message[2048];	/* what `take` has taken */

static struct scene *open_scene_with(uint32_t allocation, uint32_t pool, uint32_t flags)
{
	const struct scene_config config = {
		.requester_id = RID, .device_id = ID, .capacity = CAPACITY, .group_most = GROUP_MOST, .pool = pool,
		.vtd_flags = flags, .pages = 0x100000,
	};
	struct scene *s = calloc(1, sizeof *s);

	CHECK(s);
	*s = open_scene_of(&config);
	CHECK_EQ(uiopf_model_bind(s->iommu, s->ep, s->device), -EBUSY);
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	if (allocation) {
		CHECK_EQ(uiopf_endpoint_enable_pri(s->ep, allocation), 0);
		CHECK_EQ(uiopf_endpoint_enable_pri(s->ep, allocation), -EBUSY);
	}
	return s;
}

static struct scene *open_scene(uint32_t allocation, uint32_t pool)
{
	return open_scene_with(allocation, pool, 1);
}

static void close_scene(struct scene *s)
{
	uiopf_detach(s->device, UIOPF_NO_PASID);
	close_scene_of(s);
	free(s);
}

static int64_t take(struct scene *s)
{
	int64_t got = uiopf_faultq_read(s->q, message, sizeof message);

	CHECK(got >= 0);
	return got / (int64_t)sizeof message[0];
}

static void answer(struct scene *s, uint32_t cookie, uint32_t code)
{
	const struct iommu_hwpt_page_response r = { .cookie = cookie, .code = code };

	CHECK_EQ(uiopf_faultq_write(s->q, &r, sizeof r), sizeof r);
}

static void answer_all(struct scene *s, uint32_t code)
{
	int64_t i, n = take(s);

	for (i = 0; i < n; i++)
		if (message[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE)
			answer(s, message[i].cookie, code);
}

static struct uiopf_endpoint_counts counts_of(struct scene *s)
{
	struct uiopf_endpoint_counts counts;

	uiopf_endpoint_get_counts(s->ep, &counts);
	return counts;
}

static uint32_t interrupt(struct scene *s)
{
	uint32_t n = uiopf_model_interrupt(s->iommu);

	uiopf_faultq_publish(s->q);
	return n;
}

/* The words of a place in a queue: those of requests have four, as those of commands. */
static const uint64_t *words(const struct uiopf_records *q, uint32_t place)
{
	return &q->places.ring[4 * place];
}

static const uint64_t *command(const struct scene *s, enum uiopf_side side, uint32_t place)
{
	return words(&s->iommu->commands[side].queue, place);
}

static uint32_t responses(struct scene *s)	/* written by the driver, not yet carried out */
{
	uint32_t side, n = 0;

	for (side = 0; side < 2; side++)
		n += s->iommu->commands[side].queue.written - s->iommu->commands[side].queue.head;
	return n;
}

/* The request whose descriptor has these words; and that is what the hardware makes of it, where there is room. */
static void request(struct scene *s, uint64_t word0, uint64_t word1)
{
	const uint32_t place = s->vtd->prq.written;
	const uint64_t *d;

	uiopf_vtd_page_request(s->vtd, (struct uiopf_page_request){
		.requester_id = word0 >> 16 & 0xffff,
		.pasid = word0 >> 32 & 0xfffff,
		.has_pasid = word0 >> 8 & 1,
		.execute = word0 >> 52 & 1,
		.privileged = word0 >> 53 & 1,
		.message = word1,
	});
	if (s->vtd->prq.written == place)
		return;
	d = words(&s->vtd->prq, place % 2048);
	CHECK_EQ(d[0], word0);
	CHECK_EQ(d[1], word1);
}

/* ---- descriptors ---- */

static void a_request_is_these_32_bytes(void)
{
	struct scene *s = open_scene(64, 256);
	const uint64_t *d;

	/* PASID 0xfedcb, group index 0 (the first), two pages, write then read: by the endpoint's own hand. */
	uiopf_endpoint_access(s->ep, 0xfedcb, 0x7fffdeadb000, IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE, 2);
	CHECK_EQ(uiopf_model_endpoint_turn(s->iommu, s->ep), 1);
	CHECK_EQ(s->vtd->prq.tail, 2);
	CHECK_EQ(s->vtd->prq_status, 1);	/* PPR */
	d = words(&s->vtd->prq, 0);
	CHECK_EQ(d[0], 0x000fedcbab120101);	/* type 1, PASID present, requester id, PASID */
	CHECK_EQ(d[1], 0x00007fffdeadb003);	/* address, index 0, not last, read and write */
	CHECK_EQ(d[2] | d[3], 0);
	CHECK_EQ(words(&s->vtd->prq, 1)[0], 0x000fedcbab120101);
	CHECK_EQ(words(&s->vtd->prq, 1)[1], 0x00007fffdeadc007);	/* last */
	/* An instruction fetch asks to read: what also says execute Linux refuses. */
	uiopf_endpoint_access(s->ep, 1, 0x1000, IOMMU_PGFAULT_PERM_EXEC, 1);
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	CHECK_EQ(words(&s->vtd->prq, 2)[0], 0x00000001ab120101);
	CHECK_EQ(words(&s->vtd->prq, 2)[1], 0x000000000000100d);	/* index 1, last, read */
	CHECK_EQ(interrupt(s), 3);
	CHECK_EQ(s->vtd->prq_status, 0);
	CHECK_EQ(take(s), 3);
	CHECK_EQ(message[0].addr, 0x7fffdeadb000);
	CHECK_EQ(message[0].flags, 1 | 4);		/* PASID valid; Linux lets NEEDS_PASID show */
	CHECK_EQ(message[1].flags, 1 | 2 | 4);
	CHECK_EQ(message[1].perm, 3);
	CHECK_EQ(message[1].pasid, 0xfedcb);
	CHECK_EQ(message[1].dev_id, ID);
	CHECK_EQ(message[1].grpid, 0);
	CHECK_EQ(message[2].grpid, 1);
	CHECK_EQ(message[2].perm, 1);
	close_scene(s);
}

/* Each bit of a descriptor, one at a time, through the driver. */
static void every_bit_is_decoded(void)
{
	static const struct {
		uint64_t word0, word1;
		uint32_t pasid, grpid, perm;
		uint64_t addr;
	} cases[] = {
		{ 0x100, 0x5, 0, 0, 1, 0 },
		{ 0x100, 0x6, 0, 0, 2, 0 },
		{ 0x100, 0x7, 0, 0, 3, 0 },
		{ 0x100 | 1ull << 52, 0x6, 0, 0, 2 | 4, 0 },		/* execute with write only is let through */
		{ 0x100 | 1ull << 32, 0x5, 1, 0, 1, 0 },
		{ 0x100 | 1ull << 51, 0x5, 0x80000, 0, 1, 0 },
		{ 0x100, 0x5 | 1 << 3, 0, 1, 1, 0 },
		{ 0x100, 0x5 | 1 << 11, 0, 256, 1, 0 },
		{ 0x100, 0x5 | 0xff8, 0, 511, 1, 0 },
		{ 0x100, 0x5 | 0x1000, 0, 0, 1, 0x1000 },
		{ 0x100, 0x5 | 1ull << 46, 0, 0, 1, 1ull << 46 },
		{ 0x100, 0x5 | 0xffff800000000000, 0, 0, 1, 0xffff800000000000 },
		{ 0x100, 0x5 | 0xfffffffffffff000, 0, 0, 1, 0xfffffffffffff000 },
	};
	struct scene *s = open_scene(0, 256);
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		request(s, 0x1 | (uint64_t)RID << 16 | cases[i].word0, cases[i].word1);
		CHECK_EQ(interrupt(s), 1);
		CHECK_EQ(take(s), 1);
		CHECK_EQ(message[0].pasid, cases[i].pasid);
		CHECK_EQ(message[0].grpid, cases[i].grpid);
		CHECK_EQ(message[0].perm, cases[i].perm);
		CHECK_EQ(message[0].addr, cases[i].addr);
		CHECK_EQ(message[0].cookie, 1);
		answer(s, 1, 0);
	}
	close_scene(s);
}

static void a_response_is_these_32_bytes(void)
{
	static const struct { uint64_t word0, word1; uint32_t code; uint64_t expected0, expected1; } cases[] = {
		{ 0x000fedcb00000100, 0x5 | 0xff8, 0, 0x000fedcbab120019, 0xffc },
		{ 0x0000000100000100, 0x5 | 0x8, 1, 0x00000001ab121019, 0xc },
		{ 0x0008000000000100, 0x123456789005 | 0x800, 0, 0x00080000ab120019, 0x804 },
	};
	struct scene *s = open_scene(0, 256);
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const uint64_t *d = command(s, UIOPF_CONSUMER, i);

		request(s, 0x1 | (uint64_t)RID << 16 | cases[i].word0, cases[i].word1);
		interrupt(s);
		CHECK_EQ(take(s), 1);
		answer(s, message[0].cookie, cases[i].code);
		CHECK_EQ(s->iommu->commands[UIOPF_CONSUMER].queue.tail, i + 1);	/* the write moved the tail register */
		CHECK_EQ(d[0], cases[i].expected0);
		CHECK_EQ(d[1], cases[i].expected1);
		CHECK_EQ(d[2] | d[3], 0);
	}
	close_scene(s);
}

/* Linux 7.2's driver leaves bit 2 clear, and takes requests without a PASID. */
static void a_response_of_a_newer_driver(void)
{
	struct scene *s = open_scene_with(0, 256, 0);

	request(s, 0x1 | (uint64_t)RID << 16, 0x5 | 0xff8);
	interrupt(s);
	CHECK_EQ(take(s), 1);
	answer(s, message[0].cookie, 0);
	CHECK_EQ(command(s, UIOPF_CONSUMER, 0)[0], 0x00000000ab120009);
	CHECK_EQ(command(s, UIOPF_CONSUMER, 0)[1], 0xff8);
	close_scene(s);
}

/* A request that is not the last of its group pends, and nobody is told; its last brings both to the driver. */
static void the_last_request_raises_the_interrupt(void)
{
	struct scene *s = open_scene(0, 256);
	const uint64_t source = 0x1 | (uint64_t)RID << 16 | 0x0000000300000100;
	struct uiopf_account a = { .endpoint = s->ep, .device = s->device };

	request(s, source, 0x1 | 7 << 3);
	CHECK_EQ(s->vtd->prq_status, 0);
	CHECK_EQ(uiopf_core_produce(s->core), 0);
	CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
	CHECK_EQ(a.pending, 1);
	CHECK_EQ(a.reported.reported, 0);
	request(s, source, 0x5 | 7 << 3);
	CHECK_EQ(s->vtd->prq_status, 1);
	uiopf_core_produce(s->core);
	CHECK_EQ(take(s), 2);
	/* A drain looks at the queue itself. */
	request(s, source, 0x1 | 9 << 3);
	CHECK_EQ(uiopf_replace(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
	CHECK_EQ(a.reported.reported, 3);
	close_scene(s);
}

static void a_failure_is_sent_as_linuxs_own_code(void)
{
	struct scene *s = open_scene(0, 256);
	uint32_t i;

	for (i = 0; i < 257; i++)	/* one more than the pool holds */
		request(s, 0x1 | (uint64_t)RID << 16 | 0x0000000300000100, 0x5 | (i % 512) << 3);
	interrupt(s);
	CHECK_EQ(s->iommu->commands[UIOPF_PRODUCER].queue.tail, 1);	/* and the hardware hears of it at once */
	CHECK_EQ(command(s, UIOPF_PRODUCER, 0)[0], 0x00000003ab122019);	/* 2, not 0xf */
	CHECK_EQ(command(s, UIOPF_PRODUCER, 0)[1], 256 << 3 | 4);
	close_scene(s);
}

/* All four bits of the code count: 8 is not success. */
static void a_response_code_has_four_bits(void)
{
	struct scene *s = open_scene(64, 256);

	CHECK(uiopf_endpoint_access(s->ep, 1, 0x10000, IOMMU_PGFAULT_PERM_READ, 1) >= 0);
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	uiopf_commands_give(&s->iommu->commands[UIOPF_PRODUCER], 4, 0x8009 | (uint64_t)RID << 16, 4);
	uiopf_model_kick(s->iommu, UIOPF_PRODUCER);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).failed, 1);
	close_scene(s);
}

/* The counters of places come round: what is not read yet is counted, and then read, across that. */
static void counters_come_round(void)
{
	struct scene *s = open_scene(64, 256);
	struct uiopf_account a = { .endpoint = s->ep, .device = s->device };
	struct uiopf_records *q = &s->vtd->prq;

	q->written = q->head_seen = q->tail = q->head = UINT32_MAX - 2;
	CHECK(uiopf_endpoint_access(s->ep, 1, 0x10000, IOMMU_PGFAULT_PERM_READ, 6) >= 0);
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	CHECK_EQ(q->written, 3);
	CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
	CHECK_EQ(a.pending, 6);
	CHECK_EQ(interrupt(s), 6);
	CHECK_EQ(take(s), 6);
	close_scene(s);
}

/* ---- the driver ---- */

/* A stop marker whose address is no address: Linux answers it, but nobody waits, so nothing is counted. */
static void a_refused_stop_marker_is_nobodys(void)
{
	struct scene *s = open_scene(64, 256);
	struct uiopf_account a = { .endpoint = s->ep, .device = s->device };

	request(s, 0x101 | (uint64_t)RID << 16, 0x4 | 1ull << 47);
	CHECK_EQ(interrupt(s), 1);
	CHECK_EQ(responses(s), 1);
	CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
	CHECK_EQ(a.reported.refused, 0);
	close_scene(s);
}

static void what_linux_refuses(void)
{
	static const struct { const char *name; uint64_t word0, word1; int answered, reported; } cases[] = {
		{ "no PASID", 0, 0x5, 1, 0 },
		{ "no PASID, not last", 0, 0x1, 0, 0 },
		{ "not canonical", 0x100, 0x5 | 1ull << 47, 1, 0 },
		{ "not canonical, at the top", 0x100, 0x5 | 0xffff000000000000, 1, 0 },
		{ "not canonical, not last", 0x100, 0x1 | 1ull << 47, 0, 0 },
		{ "privileged read", 0x100 | 1ull << 53, 0x5, 1, 0 },
		{ "privileged write", 0x100 | 1ull << 53, 0x6, 1, 0 },
		{ "execute and read", 0x100 | 1ull << 52, 0x5, 1, 0 },
		{ "stop marker", 0x100, 0x4, 0, 0 },
		{ "execute only: taken for a stop marker", 0x100 | 1ull << 52, 0x4, 0, 0 },
		{ "a stranger's", 0x100, 0x5, 1, 0 },
		{ "a stranger's, not last", 0x100, 0x1, 0, 0 },
		{ "a stranger's stop marker", 0x100, 0x4, 0, 0 },
		{ "an ordinary one", 0x100, 0x5, 0, 1 },
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_scene(0, 256);
		uint64_t rid = strncmp(cases[i].name, "a stranger's", 12) ? RID : RID + 1;

		request(s, 0x1 | rid << 16 | cases[i].word0, cases[i].word1);
		CHECK_EQ(interrupt(s), 1);
		if ((int)responses(s) != cases[i].answered || take(s) != cases[i].reported) {
			fprintf(stderr, "%s\n", cases[i].name);
			abort();
		}
		if (cases[i].answered)
			CHECK_EQ(command(s, UIOPF_PRODUCER, 0)[0] >> 12 & 0xf, 1);
		close_scene(s);
	}
}

static void an_overflow_is_seen_and_recovered_from(void)
{
	struct scene *s = open_scene(0, 2048);
	const uint64_t source = 0x1 | (uint64_t)RID << 16 | 0x0000000300000100;
	struct uiopf_device_counts device_counts;
	struct uiopf_model_counts counts;
	uint32_t i;

	/* An unfinished group, then ordinary ones up to the last slot but one, which stays free. */
	request(s, source, 0x1 | 7 << 3);
	for (i = 1; i < 2047; i++)
		request(s, source, 0x5 | 8 << 3);
	CHECK_EQ(s->vtd->prq_status, 1);
	CHECK_EQ(s->vtd->prq.tail, 2047);
	request(s, source, 0x5 | 7 << 3);	/* the last of the group, and it is lost */
	CHECK_EQ(s->vtd->prq_status, 3);	/* PRO */
	CHECK_EQ(s->vtd->prq.tail, 2047);
	s->vtd->prq.head = 100;			/* room again: yet nothing is queued before PRO is cleared */
	request(s, source, 0x5);
	CHECK_EQ(s->vtd->prq.tail, 2047);
	s->vtd->prq.head = 0;
	uiopf_model_get_counts(s->iommu, &counts);
	CHECK_EQ(counts.overflowed, 2);

	CHECK_EQ(interrupt(s), 2047);
	CHECK_EQ(s->vtd->prq_status, 0);
	uiopf_device_get_counts(s->device, &device_counts);
	CHECK_EQ(device_counts.dropped, 1);	/* the partial fault: its last request may have been lost, as it was */
	CHECK_EQ(take(s), 2046);
	request(s, source, 0x5 | 7 << 3);	/* and around the end of the queue */
	request(s, source, 0x5 | 9 << 3);
	CHECK_EQ(s->vtd->prq.tail % 2048, 1);
	CHECK_EQ(interrupt(s), 2);
	CHECK_EQ(take(s), 2);			/* one fault each: what was dropped is not in it */
	CHECK_EQ(message[0].grpid, 7);
	close_scene(s);
}

/* ---- the endpoint ---- */

static void start(struct scene *s, uint32_t rows, uint32_t in_flight, uint32_t group)
{
	struct uiopf_access *row = calloc(rows, sizeof *row);
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = in_flight, .group = group };
	uint32_t i;

	for (i = 0; i < rows; i++)
		row[i] = (struct uiopf_access){ .address = 0x10000000 + 4096ull * i, .pasid = 3, .access = 1 };
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, rows), 0);
	free(row);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), -EBUSY);
}

static void credits_count_pages_and_come_back_with_answers(void)
{
	struct scene *s = open_scene(10, 256);

	CHECK_EQ(s->ep->pri->allocation, 10);
	start(s, 12, 100, 4);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).outstanding, 8);	/* two groups of four; a third would be twelve */
	CHECK_EQ(counts_of(s).sent_groups, 2);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).sent, 8);
	CHECK_EQ(take(s), 8);
	answer(s, 1, 0);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).sent, 12);
	CHECK_EQ(counts_of(s).outstanding, 8);
	CHECK_EQ(counts_of(s).unmapped, 4);	/* success was said, and nothing was there */
	answer(s, 2, 1);
	answer_all(s, 0);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).invalid, 4);
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(uiopf_endpoint_passes(s->ep), 1);
	close_scene(s);
}

static void no_more_than_512_groups_are_outstanding(void)
{
	struct scene *s = open_scene(CAPACITY + 500, CAPACITY);
	uint8_t seen[512] = { 0 };
	int64_t i, n;

	CHECK_EQ(s->ep->pri->allocation, CAPACITY);	/* never more than it has */
	start(s, 1500, 2000, 1);
	for (i = 0; i < 8; i++)
		uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).outstanding, 512);
	n = take(s);
	CHECK_EQ(n, 512);
	for (i = 0; i < n; i++) {
		CHECK(message[i].grpid < 512 && !seen[message[i].grpid]);
		seen[message[i].grpid] = 1;
	}
	/* Answered out of order: an index is used again only after its answer, the one that is free longest first. */
	answer(s, message[300].cookie, 0);
	answer(s, message[20].cookie, 0);
	for (i = 0; i < 4; i++)
		uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).outstanding, 512);
	CHECK_EQ(take(s), 2);
	CHECK_EQ(message[0].grpid, 300);
	CHECK_EQ(message[1].grpid, 20);
	CHECK_EQ(counts_of(s).unexpected, 0);
	close_scene(s);
}

static void a_success_is_tried_again_in_the_tables(void)
{
	struct scene *s = open_scene(64, 256);
	int64_t ticket = uiopf_endpoint_access(s->ep, 3, 0x5000, IOMMU_PGFAULT_PERM_WRITE, 2), second;

	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), UIOPF_ACCESS_PENDING);
	CHECK_EQ(uiopf_space_map(s->space, 3, 0x5000, IOMMU_PGFAULT_PERM_WRITE), 0);
	CHECK_EQ(uiopf_space_map(s->space, 3, 0x6000, IOMMU_PGFAULT_PERM_WRITE), 0);
	answer_all(s, 0);
	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), UIOPF_ACCESS_OK);
	CHECK_EQ(counts_of(s).succeeded, 2);
	/* What is there already asks for nothing. */
	second = uiopf_endpoint_access(s->ep, 3, 0x5000, IOMMU_PGFAULT_PERM_READ, 2);
	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_endpoint_result(s->ep, second), UIOPF_ACCESS_OK);
	CHECK_EQ(counts_of(s).sent, 2);
	close_scene(s);
}

static void a_response_failure_stops_page_requests(void)
{
	static const uint32_t codes[] = { 0xf, 2, 7, 0xe };
	uint32_t i;

	for (i = 0; i < sizeof codes / sizeof codes[0]; i++) {
		struct scene *s = open_scene(64, 256);

		start(s, 100, 4, 1);
		uiopf_core_produce(s->core);
		CHECK_EQ(counts_of(s).outstanding, 4);
		uiopf_model_endpoint_response(s->iommu, s->ep, 2, codes[i], 0);
		CHECK_EQ(counts_of(s).pri_status, 0x1);		/* RF; Stopped comes with the last answer */
		CHECK_EQ(counts_of(s).failed, 1);
		uiopf_core_produce(s->core);
		CHECK_EQ(counts_of(s).sent, 4);			/* nothing more is sent */
		CHECK_EQ(counts_of(s).outstanding, 3);
		uiopf_model_endpoint_response(s->iommu, s->ep, 0, 0, 0);
		uiopf_model_endpoint_response(s->iommu, s->ep, 0, 0, 0);
		CHECK_EQ(counts_of(s).failed, 2);		/* what the answer says is ignored, */
		CHECK_EQ(counts_of(s).ignored, 2);		/* and that it is one too many */
		CHECK_EQ(counts_of(s).unexpected, 0);
		CHECK_EQ(counts_of(s).pri_status, 0x1);
		if (i % 2) {
			uiopf_model_endpoint_response(s->iommu, s->ep, 1, 1, 0);
			uiopf_model_endpoint_response(s->iommu, s->ep, 3, 1, 0);
			CHECK_EQ(counts_of(s).pri_status, 0x101);
			CHECK_EQ(counts_of(s).failed, 4);
		}
		CHECK_EQ(uiopf_endpoint_reset_pri(s->ep), -EBUSY);
		uiopf_endpoint_disable_pri(s->ep);
		CHECK_EQ(uiopf_endpoint_reset_pri(s->ep), 0);
		CHECK_EQ(counts_of(s).pri_status, 0x101);	/* RF stays until it is enabled anew */
		CHECK_EQ(counts_of(s).outstanding, 0);
		CHECK_EQ(counts_of(s).cleared, i % 2 ? 0 : 2);
		CHECK_EQ(counts_of(s).cleared_groups, counts_of(s).cleared);
		uiopf_model_endpoint_response(s->iommu, s->ep, 3, 0, 0);	/* of a group that was forgotten, or answered */
		CHECK_EQ(counts_of(s).pri_status, 0x103);
		CHECK_EQ(counts_of(s).unexpected, 1);
		CHECK_EQ(uiopf_endpoint_enable_pri(s->ep, 64), 0);
		CHECK_EQ(counts_of(s).pri_status, 0);
		uiopf_core_produce(s->core);
		CHECK_EQ(counts_of(s).sent, 8);
		uiopf_endpoint_cancel(s->ep);
		close_scene(s);
	}
}

static void an_unexpected_index_is_remembered(void)
{
	struct scene *s = open_scene(64, 256);

	start(s, 4, 1, 1);
	uiopf_core_produce(s->core);
	uiopf_model_endpoint_response(s->iommu, s->ep, 9, 0, 0);
	CHECK_EQ(counts_of(s).pri_status, 0x2);		/* UPRGI; it goes on */
	CHECK_EQ(counts_of(s).unexpected, 1);
	CHECK_EQ(counts_of(s).outstanding, 1);
	uiopf_model_endpoint_response(s->iommu, s->ep, 0, 1, 0);		/* the right one */
	uiopf_model_endpoint_response(s->iommu, s->ep, 0, 1, 0);		/* answered already */
	CHECK_EQ(counts_of(s).unexpected, 2);
	CHECK_EQ(counts_of(s).invalid, 1);
	close_scene(s);
}

/* Linux answers every request of a group that nobody takes: the first ends it, the others are not expected. */
static void a_refused_group_is_answered_once_for_each_page(void)
{
	struct scene *s = open_scene(64, 256);

	CHECK_EQ(uiopf_replace(s->device, UIOPF_NO_PASID, NULL, 1), 0);
	start(s, 4000, 4, 4);
	while (!uiopf_endpoint_passes(s->ep))
		CHECK(uiopf_core_produce(s->core));
	CHECK_EQ(counts_of(s).sent, 4000);
	CHECK_EQ(counts_of(s).invalid, 4000);
	CHECK_EQ(counts_of(s).outstanding, 0);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).unexpected, 3000);
	CHECK_EQ(s->iommu->overflowed, 0);
	close_scene(s);
}

/* ---- answers that find the invalidation queue full ---- */

/*
 * Groups of 32 pages whose device has been detached: each page's request is refused, in one interrupt, which are more
 * answers than the queue has places. Linux waits for room; nothing is dropped, and the function is left with nothing.
 */
static void refusals_beyond_the_queue_wait(void)
{
	struct scene *s = open_scene(CAPACITY, CAPACITY);
	struct uiopf_model_counts counts;
	const uint32_t more = 2 * CAPACITY - 48;
	uint32_t i, round;

	CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < more; i++)	/* a page of each of many groups, all last: each is answered */
			request(s, 0x1 | (uint64_t)RID << 16 | 0x0000000300000100,
					       0x5 | (uint64_t)(i % 512) << 3);
		CHECK_EQ(interrupt(s), more);
		CHECK_EQ(responses(s), 1024);	/* the queue is full */
		uiopf_core_produce(s->core);
		CHECK_EQ(responses(s), 0);
		CHECK_EQ(counts_of(s).unexpected, (round + 1) * more);	/* every one reached the function */
	}
	uiopf_model_get_counts(s->iommu, &counts);
	CHECK_EQ(counts.commands_lost, 0);
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	close_scene(s);
}

/* Answers of a client, in one write, which are more than the queue has places; they arrive in their order. */
static void a_clients_answers_beyond_the_queue_wait(void)
{
	struct scene *s = open_scene(0, 2 * CAPACITY);
	static struct iommu_hwpt_page_response r[2 * CAPACITY];
	struct uiopf_records *iq = &s->iommu->commands[UIOPF_CONSUMER].queue;
	struct uiopf_model_counts counts;
	uint32_t i, n = 0;

	while (n < 2 * CAPACITY - 48) {
		for (i = 0; i < 500; i++)
			request(s, 0x1 | (uint64_t)RID << 16 | 0x0000000300000100,
					       0x5 | (uint64_t)((n + i) % 512) << 3);
		CHECK_EQ(interrupt(s), 500);
		CHECK_EQ(take(s), 500);
		for (i = 0; i < 500; i++)
			r[n++].cookie = message[i].cookie;
	}
	CHECK_EQ(uiopf_faultq_write(s->q, r, n * sizeof r[0]), n * sizeof r[0]);
	CHECK_EQ(iq->written - iq->head, 1024);
	CHECK_EQ(iq->waiting_count, n - 1024);
	for (i = 0; i < n - 1024; i++)
		CHECK_EQ(iq->waiting[4 * i + 1] >> 3, (i + 1024) % 512);
	while (uiopf_core_produce(s->core))
		;
	CHECK_EQ(counts_of(s).unexpected, n);
	uiopf_model_get_counts(s->iommu, &counts);
	CHECK_EQ(counts.commands_lost, 0);
	close_scene(s);
}

/* The same with the hardware on a thread of its own, which makes room meanwhile; and asleep when the write begins. */
static void waiting_answers_come_in_beside_a_worker(void)
{
	struct scene *s = open_scene(0, 2 * CAPACITY);
	static struct iommu_hwpt_page_response r[2 * CAPACITY];
	struct uiopf_model_counts counts;
	uint32_t i, n, round, answered = 0;

	CHECK_EQ(uiopf_core_start(s->core, UIOPF_ENTER, -1, 0), 0);
	for (round = 0; round < 20; round++) {
		for (n = 0; n < 2000; n += 500) {
			uiopf_control_begin(s->core);
			for (i = 0; i < 500; i++)
				request(s, 0x1 | (uint64_t)RID << 16 | 0x0000000300000100,
						       0x5 | (uint64_t)i << 3);
			interrupt(s);
			uiopf_control_end(s->core);
			CHECK_EQ(take(s), 500);
			for (i = 0; i < 500; i++)
				r[n + i].cookie = message[i].cookie;
		}
		CHECK_EQ(uiopf_faultq_write(s->q, r, n * sizeof r[0]), n * sizeof r[0]);
		answered += n;
		while (counts_of(s).unexpected != answered)	/* the test's own limit ends it where one is lost */
			sched_yield();
	}
	CHECK_EQ(uiopf_core_stop(s->core), 0);
	uiopf_model_get_counts(s->iommu, &counts);
	CHECK_EQ(counts.commands_lost, 0);
	close_scene(s);
}

/* Two functions behind one IOMMU, one queue for both: each has its own account, and all together are the queue's. */
static void functions_that_share_a_queue_have_accounts_of_their_own(void)
{
	struct scene *s = open_scene(64, 256);
	struct uiopf_endpoint *ep = uiopf_endpoint_new(s->core, uiopf_model_port(s->iommu), 0x200, CAPACITY, GROUP_MOST);
	struct uiopf_device *device = uiopf_device_new(s->core, uiopf_model_iommu(s->iommu), ID + 1, 0x200, 256, 0);
	struct uiopf_account a[2] = { { .endpoint = s->ep, .device = s->device }, { .endpoint = ep, .device = device } };
	struct uiopf_faultq_counts counts;
	int64_t i, n;

	CHECK(ep && device);
	CHECK_EQ(uiopf_model_bind(s->iommu, ep, device), 0);
	CHECK_EQ(uiopf_attach(device, UIOPF_NO_PASID, s->q, 1), 0);
	uiopf_endpoint_set_tables(ep, s->space);
	CHECK_EQ(uiopf_endpoint_enable_pri(ep, 64), 0);
	for (i = 0; i < 4; i++) {
		CHECK(uiopf_endpoint_access(s->ep, 1, 0x10000 * (uint64_t)i, IOMMU_PGFAULT_PERM_READ, 3) >= 0);
		CHECK(uiopf_endpoint_access(ep, 1, 0x800000 + 0x10000 * (uint64_t)i, IOMMU_PGFAULT_PERM_READ, 2) >= 0);
	}
	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_account(s->core, a, 2), 0);
	CHECK_EQ(a[0].pending, 12);
	CHECK_EQ(a[1].pending, 8);
	n = take(s);
	CHECK_EQ(n, 20);
	/* Three groups of the one are answered, one of the other; the rest is read and waits. */
	for (i = 0; i < n; i++)
		if ((message[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) && message[i].grpid < (message[i].dev_id == ID ? 3u : 1u))
			answer(s, message[i].cookie, IOMMUFD_PAGE_RESP_INVALID);
	CHECK_EQ(uiopf_account(s->core, a, 2), 0);
	CHECK_EQ(a[0].answered, 9);
	CHECK_EQ(a[0].pending, 3);
	CHECK_EQ(a[1].answered, 2);
	CHECK_EQ(a[1].pending, 6);
	CHECK_EQ(uiopf_detach(device, UIOPF_NO_PASID), 0);	/* its own faults alone are answered for the client */
	CHECK_EQ(uiopf_account(s->core, a, 2), 0);
	CHECK_EQ(a[0].pending, 3);
	CHECK_EQ(a[0].auto_answered, 0);
	CHECK_EQ(a[1].pending, 0);
	CHECK_EQ(a[1].auto_answered, 6);
	uiopf_faultq_counts(s->q, &counts);
	CHECK_EQ(counts.answered_faults, a[0].answered + a[1].answered);
	CHECK_EQ(counts.auto_answered_faults, a[1].auto_answered);
	for (i = 0; i < 2; i++)
		CHECK_EQ(a[i].counts.sent, a[i].answered + a[i].auto_answered + a[i].reported.refused + a[i].pending);
	uiopf_model_unbind(s->iommu, device);
	uiopf_endpoint_free(ep);
	uiopf_device_free(device);
	close_scene(s);
}

/* What is bound is behind this IOMMU, and is one function: it would not be found when it goes. */
static void only_what_belongs_together_is_bound(void)
{
	struct scene *s = open_scene(0, 256), *other = open_scene(0, 256);
	struct uiopf_endpoint *ep = uiopf_endpoint_new(s->core, uiopf_model_port(s->iommu), 0x200, CAPACITY, GROUP_MOST);
	struct uiopf_device *device = uiopf_device_new(s->core, uiopf_model_iommu(s->iommu), ID + 1, 0x300, 256, 0);

	CHECK(ep && device);
	CHECK_EQ(uiopf_model_bind(s->iommu, ep, device), -EINVAL);
	CHECK_EQ(uiopf_model_bind(s->iommu, other->ep, s->device), -EINVAL);
	CHECK_EQ(uiopf_model_bind(s->iommu, s->ep, other->device), -EINVAL);
	uiopf_endpoint_free(ep);
	uiopf_device_free(device);
	close_scene(other);
	close_scene(s);
}

/* Each who waits for the end of a load is told, with a descriptor of the function's own. */
static void all_who_wait_are_told_of_the_end(void)
{
	const struct uiopf_access row = { .time_ns = 0, .address = 0x4000, .pasid = 1, .access = 1 };
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 1, .group = 1 };
	struct scene *s = open_scene(64, 256);
	int fd[3], i, pass;
	eventfd_t told;

	for (i = 0; i < 3; i++)
		CHECK((fd[i] = eventfd(0, EFD_NONBLOCK)) >= 0);
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, &row, 1), 0);
	CHECK_EQ(uiopf_endpoint_set_done_eventfd(s->ep, fd[0]), 0);
	CHECK_EQ(uiopf_endpoint_add_done_eventfd(s->ep, fd[1]), 0);
	CHECK_EQ(uiopf_endpoint_add_done_eventfd(s->ep, fd[2]), 0);
	CHECK_EQ(uiopf_endpoint_add_done_eventfd(s->ep, -1), -EBADF);
	for (pass = 0; pass < 2; pass++) {	/* at first all three; then one alone, which replaces them */
		CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
		uiopf_core_produce(s->core);
		answer_all(s, IOMMUFD_PAGE_RESP_INVALID);
		uiopf_core_produce(s->core);
		CHECK_EQ(uiopf_endpoint_passes(s->ep), pass + 1);
		for (i = 0; i < 3; i++)
			CHECK_EQ(eventfd_read(fd[i], &told), pass == 0 || i == 1 ? 0 : -1);
		CHECK_EQ(uiopf_endpoint_set_done_eventfd(s->ep, fd[1]), 0);
	}
	for (i = 0; i < 3; i++)
		close(fd[i]);
	close_scene(s);
}

static void *ask_to_be_told(void *endpoint)
{
	const int fd = eventfd(0, EFD_NONBLOCK);
	int i;

	CHECK(fd >= 0);
	for (i = 0; i < 100; i++)
		CHECK_EQ(i % 10 ? uiopf_endpoint_add_done_eventfd(endpoint, fd) : uiopf_endpoint_set_done_eventfd(endpoint, fd), 0);
	close(fd);
	return NULL;
}

/* Any thread may ask to be told: each call puts another list in place of the one there is. */
static void two_threads_ask_to_be_told(void)
{
	struct scene *s = open_scene(0, 256);
	pthread_t thread[2];
	int i;

	for (i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, ask_to_be_told, s->ep), 0);
	for (i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
	CHECK_EQ(uiopf_endpoint_set_done_eventfd(s->ep, -1), 0);
	close_scene(s);
}

#define CHANGES 100000

struct by {
	struct scene *s;
	struct uiopf_translator *translator;	/* NULL: flat tables */
	uint32_t others;			/* so often the other thread was the last */
};

static void *translate_by(void *arg)
{
	struct by *by = arg;
	struct uiopf_endpoint *ep = by->s->ep;
	int i;

	for (i = 0; i < CHANGES; i++) {
		if (by->translator)
			CHECK_EQ(uiopf_endpoint_set_translator(ep, by->translator, 4), 0);
		else
			uiopf_endpoint_set_tables(ep, by->s->space);
		uiopf_control_begin(by->s->core);
		CHECK(!ep->space != !ep->tlb);
		CHECK_EQ(!ep->tables.map, !ep->space);
		by->others += !ep->tlb != !by->translator;
		uiopf_control_end(by->s->core);
	}
	return NULL;
}

/* By tables or by a translator, whoever came last; never by both. */
static void two_threads_say_what_a_function_translates_by(void)
{
	struct scene *s = open_scene(0, 256);
	struct uiopf_pagetables *tables = uiopf_pagetables_new(uiopf_format_at(0), 1, 8, 0, 1);
	struct uiopf_translator *translator = uiopf_translator_new(s->core, tables, NULL, 4);
	struct by by[2] = { { s, translator, 0 }, { s, NULL, 0 } };
	pthread_t thread[2];
	int i;

	CHECK(tables && translator);
	for (i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&thread[i], NULL, translate_by, &by[i]), 0);
	for (i = 0; i < 2; i++)
		CHECK_EQ(pthread_join(thread[i], NULL), 0);
	printf("the other thread came between %" PRIu32 " and %" PRIu32 " times\n", by[0].others, by[1].others);
	uiopf_endpoint_set_tables(s->ep, s->space);
	uiopf_translator_free(translator);
	uiopf_pagetables_free(tables);
	close_scene(s);
}

/* Times that no clock can show are never; the sanitizer looks at the conversion. */
static void a_time_beyond_all_clocks_never_comes(void)
{
	const struct uiopf_access row[2] = { { .time_ns = 0, .address = 0x4000, .pasid = 1, .access = 1 },
					     { .time_ns = UINT64_MAX / 2, .address = 0x5000, .pasid = 1, .access = 1 } };
	struct uiopf_load load = { .mode = UIOPF_LOAD_TRACE, .in_flight = 4, .group = 1, .speed = 1e-300 };
	struct scene *s = open_scene(64, 256);

	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, 2), 0);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).sent, 1);
	uiopf_core_tick(s->core, UINT64_MAX / 4);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).sent, 1);
	uiopf_endpoint_cancel(s->ep);
	answer_all(s, IOMMUFD_PAGE_RESP_INVALID);
	uiopf_core_produce(s->core);
	load = (struct uiopf_load){ .mode = UIOPF_LOAD_POISSON, .in_flight = 4, .group = 1, .rate = 1e-300 };
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).sent, 1);
	close_scene(s);
}

int main(void)
{
	a_request_is_these_32_bytes();
	functions_that_share_a_queue_have_accounts_of_their_own();
	only_what_belongs_together_is_bound();
	all_who_wait_are_told_of_the_end();
	two_threads_ask_to_be_told();
	two_threads_say_what_a_function_translates_by();
	a_time_beyond_all_clocks_never_comes();
	every_bit_is_decoded();
	a_response_is_these_32_bytes();
	a_response_of_a_newer_driver();
	the_last_request_raises_the_interrupt();
	a_failure_is_sent_as_linuxs_own_code();
	a_response_code_has_four_bits();
	counters_come_round();
	a_refused_stop_marker_is_nobodys();
	what_linux_refuses();
	an_overflow_is_seen_and_recovered_from();
	credits_count_pages_and_come_back_with_answers();
	no_more_than_512_groups_are_outstanding();
	a_success_is_tried_again_in_the_tables();
	a_response_failure_stops_page_requests();
	an_unexpected_index_is_remembered();
	a_refused_group_is_answered_once_for_each_page();
	refusals_beyond_the_queue_wait();
	a_clients_answers_beyond_the_queue_wait();
	waiting_answers_come_in_beside_a_worker();
	return 0;
}
