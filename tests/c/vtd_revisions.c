/*
 * VT-d before revision 4, to the bit: requests and answers with private data (3), and the short formats with stream
 * responses (2). The expected words are written out as numbers: the library's own constants are what is being tested.
 * Formats: commit 5b438f4ba315 (3); Linux drivers/iommu/intel-svm.c, 4.4 to 4.20 (2).
 */
#include <errno.h>

#include "check.h"
#include "hardware/iommu/vtd_2.h"
#include "vendor.h"

static struct uiopf_vtd *vtd;	/* of the scene */

static struct scene *open_scene(const struct uiopf_model_ops *model, uint32_t flags, uint32_t credits)
{
	struct scene *s = open_vendor(model, flags, credits);

	vtd = uiopf_vtd_of(s->iommu);
	return s;
}

#define DATA0 0x0123456789abcdefu
#define DATA1 0xfedcba9876543210u

static void send_private(struct scene *s, uint32_t pasid, uint64_t pri_message, uint64_t word0, uint64_t word1)
{
	const struct uiopf_raw_request raw = {
		.requester_id = RID, .pasid = pasid, .flags = UIOPF_RAW_PASID | UIOPF_RAW_PRIVATE_DATA,
		.message = pri_message, .private_data = { word0, word1 },
	};

	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &raw), 0);
}

static void send_stream(struct scene *s, uint32_t pasid, uint64_t pri_message, uint64_t word0)
{
	const struct uiopf_raw_request raw = {
		.requester_id = RID, .pasid = pasid, .flags = UIOPF_RAW_PASID | UIOPF_RAW_PRIVATE_DATA | UIOPF_RAW_STREAM,
		.message = pri_message, .private_data = { word0 },
	};

	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &raw), 0);
}

static void words_are(const uint64_t *d, uint64_t word0, uint64_t word1, uint64_t word2, uint64_t word3)
{
	CHECK_EQ(d[0], word0);
	CHECK_EQ(d[1], word1);
	CHECK_EQ(d[2], word2);
	CHECK_EQ(d[3], word3);
}

/* The driver takes the one request that is there, and reports it; without flags it is kept for its group's last. */
static void driver_reports(struct scene *s, uint32_t flags, uint32_t pasid, uint32_t grpid, uint32_t perm, uint64_t addr)
{
	CHECK_EQ(vtd->prq_status, flags ? 1 : 0);	/* PPR: whoever owes an answer is told */
	CHECK_EQ(interrupt(s), 1);
	CHECK_EQ(take(s), !!flags);
	if (!flags)
		return;
	CHECK_EQ(message[0].flags, flags);
	CHECK_EQ(message[0].pasid, pasid);
	CHECK_EQ(message[0].grpid, grpid);
	CHECK_EQ(message[0].perm, perm);
	CHECK_EQ(message[0].addr, addr);
	CHECK_EQ(message[0].dev_id, ID);
}

/* ---- revision 3 ---- */

struct case_3 {
	struct uiopf_page_request request;
	uint64_t words[4];
	uint32_t flags, pasid, grpid, perm;	/* of its message; flags 0: it is kept for its group's last */
	uint64_t addr;
};

#define CASE_3(pasid_, execute_, message_, there_, private0, private1, word0, flags_, grpid_, perm_) { \
	{ .requester_id = RID, .pasid = pasid_, .has_pasid = true, .execute = execute_, .message = message_, \
	  .private_data = { .word = { private0, private1 }, .there = there_ } }, \
	{ word0, message_, private0, private1 }, flags_, pasid_, grpid_, perm_, (message_) & ~0xfffull }

static void each_field_of_a_request_of_revision_3(void)
{
	static const struct case_3 cases[] = {
		/* Private data present is bit 9, beside the PASID's bit 8; words 2 and 3 are the data. Flags: 1, 2 last, 4. */
		CASE_3(0, 0, 0x5, true, 0, 0, 0x00000000ab120301, 7, 0, 1),
		CASE_3(0, 0, 0x5, true, 1, 0, 0x00000000ab120301, 7, 0, 1),
		CASE_3(0, 0, 0x5, true, 0, 1, 0x00000000ab120301, 7, 0, 1),
		CASE_3(0, 0, 0x5, true, DATA0, DATA1, 0x00000000ab120301, 7, 0, 1),
		CASE_3(0, 0, 0x5, true, UINT64_MAX, UINT64_MAX, 0x00000000ab120301, 7, 0, 1),
		CASE_3(0xfedcb, 0, 0x7, true, DATA0, DATA1, 0x000fedcbab120301, 7, 0, 3),
		CASE_3(0x80000, 0, 0x5, true, DATA0, DATA1, 0x00080000ab120301, 7, 0, 1),
		CASE_3(1, 1, 0x6, true, DATA0, DATA1, 0x00100001ab120301, 7, 0, 2 | 4),
		CASE_3(1, 0, 0x5 | 0xff8, true, DATA0, DATA1, 0x00000001ab120301, 7, 511, 1),
		CASE_3(1, 0, 0x5 | 0x7fffdeadb000, true, DATA0, DATA1, 0x00000001ab120301, 7, 0, 1),
		/* Not the last: Linux lets it be one, since it owes an answer. */
		CASE_3(1, 0, 0x1 | 0x38, true, DATA0, DATA1, 0x00000001ab120301, 7, 7, 1),
		/* Without: as in revision 4. */
		CASE_3(1, 0, 0x5 | 0x38, false, 0, 0, 0x00000001ab120101, 7, 7, 1),
		CASE_3(1, 0, 0x1 | 0x38, false, 0, 0, 0x00000001ab120101, 0, 7, 1),
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_scene(&uiopf_model_vtd_3, 0, 0);
		const struct case_3 *c = &cases[i];

		vtd->prq.places.ring[2] = vtd->prq.places.ring[3] = 0xbad;	/* what was in the place before */
		s->iommu->ops->request(s->iommu, c->request);
		words_are(words(&vtd->prq, 0), c->words[0], c->words[1], c->words[2], c->words[3]);
		driver_reports(s, c->flags, c->pasid, c->grpid, c->perm, c->addr);
		close_vendor(s);
	}
}

static void each_field_of_an_answer_of_revision_3(void)
{
	static const struct {
		uint32_t pasid;
		uint64_t message, private[2];
		uint32_t code;
		uint64_t words[4];
	} cases[] = {
		/* Type 9, PASID present bit 4, private data present bit 5, code 15:12, requester id 31:16, PASID 51:32. */
		{ 0xfedcb, 0x5 | 0xff8, { DATA0, DATA1 }, 0, { 0x000fedcbab120039, 0xffc, DATA0, DATA1 } },
		{ 1, 0x5 | 0x8, { 0, 0 }, 1, { 0x00000001ab121039, 0xc, 0, 0 } },
		{ 0x80000, 0x5 | 0x800, { UINT64_MAX, 1 }, 0, { 0x00080000ab120039, 0x804, UINT64_MAX, 1 } },
		/* LPIG, though the request was not the last: so Linux was told. */
		{ 1, 0x1 | 0x38, { DATA1, DATA0 }, 0, { 0x00000001ab120039, 0x3c, DATA1, DATA0 } },
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_scene(&uiopf_model_vtd_3, 0, 64);

		send_private(s, cases[i].pasid, cases[i].message, cases[i].private[0], cases[i].private[1]);
		interrupt(s);
		CHECK_EQ(take(s), 1);
		answer(s, message[0].cookie, cases[i].code);
		words_are(command(s, UIOPF_CONSUMER), cases[i].words[0], cases[i].words[1], cases[i].words[2], cases[i].words[3]);
		settle(s);
		CHECK_EQ(counts_of(s).outstanding, 0);
		CHECK_EQ(counts_of(s).unexpected, 0);
		CHECK_EQ(the_answer(s).code, cases[i].code);
		close_vendor(s);
	}
}

/* A queue's place is used again: what a command does not bring back must not be another's. */
static void an_answer_without_private_data_brings_none_back(void)
{
	struct scene *s = open_scene(&uiopf_model_vtd_3, 0, 64);
	uint32_t i;

	for (i = 0; i < 1024; i++) {	/* all places of the command queue */
		send_private(s, 3, 0x5 | (uint64_t)(i % 512) << 3, ~(uint64_t)i, i);
		settle(s);
		CHECK_EQ(answer_all(s, 0), 1);
		settle(s);
	}
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5);
	settle(s);
	CHECK_EQ(answer_all(s, 0), 1);
	CHECK_EQ(s->iommu->commands[UIOPF_CONSUMER].queue.written, 1025);
	words_are(command(s, UIOPF_CONSUMER), 0x00000003ab120019, 0x4, 0, 0);
	settle(s);
	CHECK_EQ(counts_of(s).unexpected, 0);
	CHECK_EQ(counts_of(s).outstanding, 0);
	close_vendor(s);
}

/* What the driver, the generic layer and a detach answer by themselves. */
static void whoever_answers_brings_private_data_back(void)
{
	struct scene *s = open_scene(&uiopf_model_vtd_3, 0, 64);
	uint32_t i;

	/* Not canonical, and not last: Linux answers it all the same, and LPIG is the request's. */
	send_private(s, 3, 0x1 | 7 << 3 | 1ull << 47, DATA0, DATA1);
	CHECK_EQ(interrupt(s), 1);
	words_are(command(s, UIOPF_PRODUCER), 0x00000003ab121039, 0x38, DATA0, DATA1);
	settle(s);
	CHECK_EQ(the_answer(s).code, 1);
	/* No table takes faults under PASID 9. */
	CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
	send_private(s, 9, 0x5 | 8 << 3, DATA1, DATA0);
	interrupt(s);
	words_are(command(s, UIOPF_PRODUCER), 0x00000009ab121039, 0x44, DATA1, DATA0);
	settle(s);
	CHECK_EQ(the_answer(s).code, 1);
	/* It is in the queue, and then with the client, when the table goes. */
	for (i = 0; i < 2; i++) {
		CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
		send_private(s, 9, 0x5 | 9 << 3, DATA0, i);
		settle(s);
		if (i)
			CHECK_EQ(take(s), 1);
		CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
		words_are(command(s, UIOPF_CONSUMER), 0x00000009ab121039, 0x4c, DATA0, i);
		settle(s);
		CHECK_EQ(the_answer(s).code, 1);
	}
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	/* A stop marker has none to bring back. */
	send_raw(s, 9, UIOPF_RAW_PASID, 0x4);
	CHECK_EQ(interrupt(s), 1);
	CHECK_EQ(counts_of(s).unexpected, 0);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

static void an_answer_for_a_full_pool_brings_private_data_back(void)
{
	struct scene *s = open_scene(&uiopf_model_vtd_3, 0, 0);
	uint32_t i;

	for (i = 0; i <= s->device->capacity; i++) {
		s->iommu->ops->request(s->iommu, (struct uiopf_page_request){
			.requester_id = RID, .pasid = 3, .has_pasid = true, .message = 0x5,
			.private_data = { .word = { i, DATA1 }, .there = true },
		});
		if (i % 1024 == 1023)
			interrupt(s);
	}
	interrupt(s);
	words_are(command(s, UIOPF_PRODUCER), 0x00000003ab122039, 0x4, i - 1, DATA1);	/* Linux's own FAILURE, 2 */
	close_vendor(s);
}

static void commands_that_wait_keep_all_their_words(void)
{
	struct scene *s = open_scene(&uiopf_model_vtd_3, 0, 64);
	uint32_t i;

	send_private(s, 3, 0x5 | 7 << 3, DATA0, DATA1);
	CHECK_EQ(interrupt(s), 1);
	for (i = 0; i < 1024; i++) {	/* of nobody; until there is no place left */
		const uint64_t d[4] = { 0x77770009, 0x4, i, i };

		uiopf_commands_give_long(&s->iommu->commands[UIOPF_CONSUMER], d);
	}
	CHECK_EQ(answer_all(s, 1), 1);
	CHECK_EQ(s->iommu->commands[UIOPF_CONSUMER].queue.waited, 1);
	settle(s);
	CHECK_EQ(the_answer(s).code, 1);
	CHECK_EQ(counts_of(s).unexpected, 0);
	close_vendor(s);
}

static void carry_out_long(struct scene *s, uint64_t word0, uint64_t word1, uint64_t word2, uint64_t word3)
{
	const uint64_t d[4] = { word0, word1, word2, word3 };

	uiopf_commands_give_long(&s->iommu->commands[UIOPF_PRODUCER], d);
	uiopf_model_kick(s->iommu, UIOPF_PRODUCER);
	CHECK_EQ(s->iommu->ops->execute(s->iommu), 1);
}

static void an_answer_with_other_data_is_not_the_groups(void)
{
	struct scene *s = open_scene(&uiopf_model_vtd_3, 0, 64);

	send_private(s, 3, 0x5 | 7 << 3, DATA0, DATA1);
	carry_out_long(s, 0x00000003ab120039, 0x3c, DATA0 ^ 1, DATA1);
	carry_out_long(s, 0x00000003ab120039, 0x3c, DATA0, DATA1 ^ 1ull << 63);
	carry_out_long(s, 0x00000003ab120019, 0x3c, DATA0, DATA1);	/* they do not count without their bit */
	CHECK_EQ(counts_of(s).unexpected, 3);
	CHECK_EQ(counts_of(s).outstanding, 1);
	CHECK(counts_of(s).pri_status & 2);	/* UPRGI */
	carry_out_long(s, 0x00000003ab120039, 0x3c, DATA0, DATA1);
	CHECK_EQ(counts_of(s).outstanding, 0);
	/* The next group of that index has other data, and a late answer does not end it. */
	send_private(s, 3, 0x5 | 7 << 3, 1, 2);
	carry_out_long(s, 0x00000003ab120039, 0x3c, DATA0, DATA1);
	CHECK_EQ(counts_of(s).outstanding, 1);
	carry_out_long(s, 0x00000003ab120039, 0x3c, 1, 2);
	/* A group without: data that an answer has all the same are nobody's. */
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5 | 7 << 3);
	carry_out_long(s, 0x00000003ab120039, 0x3c, 1, 2);
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(counts_of(s).unexpected, 4);
	close_vendor(s);
}

/* Linux's driver since 6.10 on hardware of revision 3. */
static void a_driver_that_knows_no_private_data_cannot_answer(void)
{
	struct scene *s = open_scene(&uiopf_model_vtd_3, UIOPF_MODEL_FORGETS_PRIVATE, 64);

	send_private(s, 3, 0x5 | 7 << 3, DATA0, DATA1);
	send_private(s, 3, 0x1 | 8 << 3, DATA0, DATA1);	/* not last: to this driver its group goes on */
	settle(s);
	CHECK_EQ(answer_all(s, 0), 1);
	words_are(command(s, UIOPF_CONSUMER), 0x00000003ab120019, 0x3c, 0, 0);
	settle(s);
	CHECK_EQ(counts_of(s).outstanding, 2);
	CHECK_EQ(counts_of(s).unexpected, 1);
	uiopf_endpoint_reset(s->ep);
	CHECK_EQ(counts_of(s).outstanding, 0);
	close_vendor(s);
}

/* What the load and accesses send: each group's last request has data, no two the same, and all come back. */
static void a_load_has_private_data_of_its_own(const struct uiopf_model_ops *model)
{
	struct scene *s = open_scene(model, 0, 64);
	struct uiopf_access row[200];
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 8, .group = 4 };
	uint64_t seen[50];
	uint32_t i, j, n = 0;

	for (i = 0; i < 200; i++)
		row[i] = (struct uiopf_access){ .address = 0x10000000 + 4096ull * i, .pasid = 3, .access = 1 };
	CHECK_EQ(uiopf_endpoint_send_private_data(s->ep, 1), 0);
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, 200), 0);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	while (!uiopf_endpoint_passes(s->ep)) {
		uiopf_core_produce(s->core);
		answer_all(s, 0);
	}
	CHECK_EQ(vtd->prq.written, 200);
	for (i = 0; i < 200; i++) {
		const uint64_t *d = words(&vtd->prq, i), private0 = s->iommu->ops == &uiopf_model_vtd_3 ? d[2] : d[0] >> 32 & 0x7fffff;
		const uint64_t private1 = s->iommu->ops == &uiopf_model_vtd_3 ? d[3] : 0;

		CHECK_EQ(!!(private0 | private1), i % 4 == 3);
		if (i % 4 != 3)
			continue;
		for (j = 0; j < n; j++)
			CHECK(seen[j] != private0);
		seen[n++] = private0;
	}
	CHECK_EQ(n, 50);
	CHECK_EQ(counts_of(s).unexpected, 0);
	CHECK_EQ(counts_of(s).unmapped, 200);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

/* ---- revision 2 ---- */

struct case_2 {
	struct uiopf_page_request request;
	uint64_t word0, word1;
	uint32_t flags, pasid, grpid, perm;
	uint64_t addr;
};

#define CASE_2(rid, pasid_, execute_, privileged_, message_, private, streams_, word0, word1, flags_, grpid_, perm_) { \
	{ .requester_id = rid, .pasid = pasid_, .has_pasid = true, .execute = execute_, .privileged = privileged_, \
	  .message = message_, .private_data = { .word = { private }, .there = true, .streams = streams_ } }, \
	word0, word1, flags_, pasid_, grpid_, perm_, (message_) & ~0xfffull }

static void each_field_of_a_request_of_revision_2(void)
{
	static const struct case_2 cases[] = {
		/*
		 * Word 0: stream 0, PASID present 2, last 3, PASID 23:4, bus 31:24, private data 54:32, index 63:55.
		 * Word 1: read 0, write 1, execute 2, privileged 3, device and function 11:4, address 63:12.
		 */
		CASE_2(RID, 0, 0, 0, 0x5, 0, 0, 0x00000000ab00000c, 0x121, 7, 0, 1),
		CASE_2(RID, 0, 0, 0, 0x6, 0, 0, 0x00000000ab00000c, 0x122, 7, 0, 2),
		CASE_2(RID, 0, 0, 0, 0x7, 0, 0, 0x00000000ab00000c, 0x123, 7, 0, 3),
		CASE_2(RID, 0, 0, 0, 0x1, 0, 0, 0x00000000ab000004, 0x121, 0, 0, 1),
		CASE_2(RID, 0, 1, 0, 0x5, 0, 0, 0x00000000ab00000c, 0x125, 7, 0, 1 | 4),
		CASE_2(RID, 0, 0, 1, 0x5, 0, 0, 0x00000000ab00000c, 0x129, 7, 0, 1 | 8),
		CASE_2(RID, 1, 0, 0, 0x5, 0, 0, 0x00000000ab00001c, 0x121, 7, 0, 1),
		CASE_2(RID, 0x80000, 0, 0, 0x5, 0, 0, 0x00000000ab80000c, 0x121, 7, 0, 1),
		CASE_2(RID, 0xfedcb, 0, 0, 0x5, 0, 0, 0x00000000abfedcbc, 0x121, 7, 0, 1),
		CASE_2(RID, 0, 0, 0, 0x5, 1, 0, 0x00000001ab00000c, 0x121, 7, 0, 1),
		CASE_2(RID, 0, 0, 0, 0x5, 0x400000, 0, 0x00400000ab00000c, 0x121, 7, 0, 1),
		CASE_2(RID, 0, 0, 0, 0x5, 0x7fffff, 0, 0x007fffffab00000c, 0x121, 7, 0, 1),
		CASE_2(RID, 0, 0, 0, 0x5 | 0x8, 0, 0, 0x00800000ab00000c, 0x121, 7, 1, 1),
		CASE_2(RID, 0, 0, 0, 0x5 | 0x800, 0, 0, 0x80000000ab00000c, 0x121, 7, 256, 1),
		CASE_2(RID, 0, 0, 0, 0x5 | 0xff8, 0, 0, 0xff800000ab00000c, 0x121, 7, 511, 1),
		CASE_2(RID, 0, 0, 0, 0x5 | 0x1000, 0, 0, 0x00000000ab00000c, 0x1121, 7, 0, 1),
		CASE_2(RID, 0, 0, 0, 0x5 | 0xfffffffffffff000, 0, 0, 0x00000000ab00000c, 0xfffffffffffff121, 7, 0, 1),
		CASE_2(RID, 0xfedcb, 0, 0, 0x7fffdeadbff7, 0x7fffff, 0, 0xff7fffffabfedcbc, 0x7fffdeadb123, 7, 510, 3),
		/* One of a stream: it is not the last, and a group by itself. */
		CASE_2(RID, 0, 0, 0, 0x1, 0, 1, 0x00000000ab000005, 0x121, 7, 0, 1),
		CASE_2(RID, 0xfedcb, 0, 0, 0x7fffdeadbffb, 0x7fffff, 1, 0xffffffffabfedcb5, 0x7fffdeadb123, 7, 511, 3),
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_scene(&uiopf_model_vtd_2, 0, 0);
		const struct case_2 *c = &cases[i];

		s->iommu->ops->request(s->iommu, c->request);
		CHECK_EQ(words(&vtd->prq, 0)[0], c->word0);
		CHECK_EQ(words(&vtd->prq, 0)[1], c->word1);
		driver_reports(s, c->flags, c->pasid, c->grpid, c->perm, c->addr);
		close_vendor(s);
	}
}

static void each_field_of_an_answer_of_revision_2(void)
{
	static const struct {
		uint32_t pasid;
		uint64_t message, private;
		bool streams;
		uint32_t code, pcie;
		uint64_t word0, word1;
	} cases[] = {
		/* Group response: type 9, PASID present 4, requester id 31:16, PASID 51:32; code 3:0, private, index. */
		{ 0, 0x5, 0, false, 0, 0, 0x00000000ab120019, 0x0 },
		{ 0xfedcb, 0x5, 0x7fffff, false, 1, 1, 0x000fedcbab120019, 0x007fffff00000001 },
		{ 1, 0x5 | 0xff8, 0, false, 0, 0, 0x00000001ab120019, 0xff80000000000000 },
		{ 1, 0x5 | 0x8, 0x400001, false, 1, 1, 0x00000001ab120019, 0x00c0000100000001 },
		/* Stream response: type 0xa, PASID 23:4, bus 31:24, private, index; code 3:0, device and function, address. */
		{ 0, 0x1, 0, true, 0, 0, 0x00000000ab00000a, 0x120 },
		{ 0xfedcb, 0x7fffdeadb001, 0, true, 1, 1, 0x00000000abfedcba, 0x7fffdeadb121 },
		{ 1, 0x1 | 0xff8, 0x7fffff, true, 0, 0, 0xffffffffab00001a, 0x120 },
		{ 1, 0xfffffffffffff001 | 0x10, 0x400000, true, 1, 1, 0x01400000ab00001a, 0xfffffffffffff121 },
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_scene(&uiopf_model_vtd_2, 0, 64);

		if (cases[i].streams)
			send_stream(s, cases[i].pasid, cases[i].message, cases[i].private);
		else
			send_private(s, cases[i].pasid, cases[i].message, cases[i].private, 0);
		interrupt(s);
		CHECK_EQ(take(s), 1);
		answer(s, message[0].cookie, cases[i].code);
		CHECK_EQ(command(s, UIOPF_CONSUMER)[0], cases[i].word0);
		CHECK_EQ(command(s, UIOPF_CONSUMER)[1], cases[i].word1);
		settle(s);
		CHECK_EQ(counts_of(s).outstanding, 0);
		CHECK_EQ(counts_of(s).unexpected, 0);
		CHECK_EQ(the_answer(s).code, cases[i].pcie);
		close_vendor(s);
	}
}

static void what_the_driver_of_revision_2_refuses(void)
{
	static const struct {
		const char *name;
		uint32_t flags;
		uint64_t message, word0, word1;	/* of the answer; word0 0: there is none */
		bool reported;
	} cases[] = {
		{ "no PASID", 0, 0x5 | 7 << 3, 0x00000000ab120009, 0x038000000000000f, false },
		{ "no PASID, not last", 0, 0x1 | 7 << 3, 0, 0, false },
		{ "no PASID, a stream's", UIOPF_RAW_STREAM, 0x1 | 7 << 3, 0x03800000ab00000a, 0x12f, false },
		{ "not canonical", UIOPF_RAW_PASID, 0x5 | 7 << 3 | 1ull << 47, 0x00000003ab120019, 0x0380000000000001, false },
		{ "not canonical, not last", UIOPF_RAW_PASID, 0x1 | 7 << 3 | 1ull << 47, 0, 0, false },
		{ "not canonical, a stream's", UIOPF_RAW_PASID | UIOPF_RAW_STREAM, 0x1 | 7 << 3 | 1ull << 47, 0x03800000ab00003a,
		  0x0000800000000121, false },
		{ "a stop marker", UIOPF_RAW_PASID, 0x4 | 7 << 3, 0, 0, false },
		{ "privileged", UIOPF_RAW_PASID | UIOPF_RAW_PRIVILEGED, 0x5 | 7 << 3, 0, 0, true },
		{ "execute and read", UIOPF_RAW_PASID | UIOPF_RAW_EXECUTE, 0x5 | 7 << 3, 0, 0, true },
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_scene(&uiopf_model_vtd_2, 0, 64);

		send_raw(s, cases[i].flags & UIOPF_RAW_PASID ? 3 : 0, cases[i].flags, cases[i].message);
		CHECK_EQ(interrupt(s), 1);
		if (take(s) != cases[i].reported || commands(s, UIOPF_PRODUCER) != !!cases[i].word0) {
			fprintf(stderr, "%s\n", cases[i].name);
			abort();
		}
		if (cases[i].word0) {
			CHECK_EQ(command(s, UIOPF_PRODUCER)[0], cases[i].word0);
			CHECK_EQ(command(s, UIOPF_PRODUCER)[1], cases[i].word1);
			settle(s);
			CHECK_EQ(counts_of(s).outstanding, 0);
			CHECK_EQ(counts_of(s).unexpected, 0);
		}
		CHECK_EQ(lost(s), 0);
		close_vendor(s);
	}
}

static void a_stream_is_answered_request_by_request(void)
{
	struct scene *s = open_scene(&uiopf_model_vtd_2, 0, 64);

	send_stream(s, 3, 0x10001 | 7 << 3, 5);
	send_stream(s, 3, 0x20001 | 8 << 3, 6);
	/* Another page, another kind, another's data, a command that there is not: none of them is its answer. */
	carry_out(s, 0x03800005ab00003a, 0x20120);
	carry_out(s, 0x00000003ab120019, 0x0380000500000000);
	carry_out(s, 0x03800004ab00003a, 0x10120);
	CHECK_EQ(counts_of(s).unexpected, 3);
	carry_out(s, 0x03800005ab00003b, 0x10120);
	CHECK_EQ(counts_of(s).unexpected, 3);
	CHECK_EQ(counts_of(s).outstanding, 2);
	carry_out(s, 0x03800005ab00003a, 0x10120);
	CHECK_EQ(counts_of(s).outstanding, 1);
	carry_out(s, 0x04000006ab00003a, 0x20121);
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(counts_of(s).invalid, 1);
	CHECK_EQ(counts_of(s).unexpected, 3);
	close_vendor(s);
}

static void an_overflow_of_short_descriptors(void)
{
	struct scene *s = open_scene(&uiopf_model_vtd_2, 0, 0);

	request_many(s, 4095);
	CHECK_EQ(vtd->prq_status, 1);
	CHECK_EQ(vtd->prq.tail, 4095);
	request_many(s, 1);
	CHECK_EQ(vtd->prq_status, 3);	/* PRO */
	CHECK_EQ(vtd->prq.tail, 4095);
	CHECK_EQ(model_counts_of(s).overflowed, 1);
	CHECK_EQ(interrupt(s), 4095);
	CHECK_EQ(vtd->prq_status, 0);
	request_many(s, 2);
	CHECK_EQ(interrupt(s), 2);
	close_vendor(s);
}

static void what_an_iommu_does_not_carry_is_refused(void)
{
	struct uiopf_raw_request raw = {
		.requester_id = RID, .pasid = 3, .flags = UIOPF_RAW_PASID | UIOPF_RAW_PRIVATE_DATA, .message = 0x5,
	};
	struct scene *s = open_scene(&uiopf_model_vtd, 0, 64);

	CHECK_EQ(uiopf_endpoint_send_private_data(s->ep, 1), -EOPNOTSUPP);
	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &raw), -EOPNOTSUPP);
	raw.flags = UIOPF_RAW_PASID | UIOPF_RAW_STREAM;
	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &raw), -EOPNOTSUPP);
	close_vendor(s);

	s = open_scene(&uiopf_model_vtd_3, 0, 64);
	raw.message = 0x1;
	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &raw), -EOPNOTSUPP);	/* no streams since revision 3 */
	close_vendor(s);

	s = open_scene(&uiopf_model_vtd_2, 0, 64);
	raw.message = 0x5;
	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &raw), -EOPNOTSUPP);	/* a stream's is not the last of a group */
	raw.flags = UIOPF_RAW_PASID | UIOPF_RAW_PRIVATE_DATA;
	raw.private_data[0] = 1 << 23;
	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &raw), -EOPNOTSUPP);
	raw.private_data[0] = 0;
	raw.private_data[1] = 1;
	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &raw), -EOPNOTSUPP);
	raw.flags = UIOPF_RAW_PASID;
	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &raw), -EOPNOTSUPP);	/* data without their flag */
	CHECK_EQ(counts_of(s).sent, 0);
	close_vendor(s);
}

int main(void)
{
	each_field_of_a_request_of_revision_3();
	each_field_of_an_answer_of_revision_3();
	an_answer_without_private_data_brings_none_back();
	whoever_answers_brings_private_data_back();
	an_answer_for_a_full_pool_brings_private_data_back();
	commands_that_wait_keep_all_their_words();
	an_answer_with_other_data_is_not_the_groups();
	a_driver_that_knows_no_private_data_cannot_answer();
	each_field_of_a_request_of_revision_2();
	each_field_of_an_answer_of_revision_2();
	what_the_driver_of_revision_2_refuses();
	a_stream_is_answered_request_by_request();
	an_overflow_of_short_descriptors();
	a_load_has_private_data_of_its_own(&uiopf_model_vtd_3);
	a_load_has_private_data_of_its_own(&uiopf_model_vtd_2);
	what_an_iommu_does_not_carry_is_refused();
	play_beside_a_worker(&uiopf_model_vtd_3);
	play_beside_a_worker(&uiopf_model_vtd_2);
	return 0;
}
