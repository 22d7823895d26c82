/*
 * AMD's PPR log and its commands to the bit, its registers, and Linux' driver for them. The expected words are written out
 * as numbers: the library's own constants are what is being tested. Formats: Linux drivers/iommu/amd/amd_iommu_types.h.
 */
#include <errno.h>

#include "check.h"
#include "hardware/iommu/amd.h"
#include "vendor.h"

#define CONTROL 0x18u
#define BASE 0x38u
#define STATUS 0x2020u
#define HEAD 0x2030u
#define TAIL 0x2038u
#define AUTO 0x2080u
#define EARLY 0x2088u

#define LOG_ON (1ull << 13)
#define INT_ON (1ull << 14)
#define PPR_ON (1ull << 15)
#define AUTO_ON (1ull << 39)

static struct uiopf_amd *amd;	/* of the scene */

static struct scene *open_scene(uint32_t flags, uint32_t credits)
{
	struct scene *s = open_vendor(&uiopf_model_amd, flags, credits);

	amd = uiopf_amd_of(s->iommu);
	return s;
}

static void put_in_log(uint64_t word0, uint64_t word1)
{
	uint64_t *d = uiopf_records_place(&amd->log, 2);

	d[0] = word0;
	d[1] = word1;
	uiopf_records_put(&amd->log);
	uiopf_records_show(&amd->log);
	amd->status |= 1 << 6;
}

/* ---- formats ---- */

static void a_request_is_these_16_bytes(void)
{
	struct scene *s = open_scene(0, 64);

	/* PASID 0xfedc, group index 0 (the first), two pages, read and write: by the endpoint's own hand. */
	uiopf_endpoint_access(s->ep, 0xfedc, 0x7fffdeadb000, IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE, 2);
	CHECK_EQ(uiopf_model_endpoint_turn(s->iommu, s->ep), 1);
	CHECK_EQ(read_register(s, TAIL), 32);
	CHECK_EQ(read_register(s, HEAD), 0);
	CHECK_EQ(read_register(s, STATUS), 0xc0);	/* runs, and an entry has been written */
	CHECK_EQ(words(&amd->log, 0)[0], 0x11640000fedcab12);
	CHECK_EQ(words(&amd->log, 0)[1], 0x00007fffdeadb000);
	CHECK_EQ(words(&amd->log, 1)[0], 0x11640200fedcab12);	/* last */
	CHECK_EQ(words(&amd->log, 1)[1], 0x00007fffdeadc000);
	CHECK_EQ(interrupt(s), 2);
	CHECK_EQ(read_register(s, HEAD), 32);
	CHECK_EQ(read_register(s, STATUS), 0x80);
	CHECK_EQ(take(s), 2);
	CHECK_EQ(message[0].flags, 1 | 4);	/* PASID valid; Linux lets NEEDS_PASID show */
	CHECK_EQ(message[1].flags, 1 | 2 | 4);
	CHECK_EQ(message[1].addr, 0x7fffdeadc000);
	CHECK_EQ(message[1].perm, 3);
	CHECK_EQ(message[1].pasid, 0xfedc);
	CHECK_EQ(message[1].dev_id, ID);
	close_vendor(s);
}

/* Each field at its smallest, its largest and one bit at a time: as the hardware writes it, and as the driver reads it. */
static void every_field_is_written_and_read(void)
{
	static const struct { uint64_t word0, word1; struct uiopf_page_request request; struct uiopf_fault fault; } cases[] = {
#define CASE(word0, word1, pasid, execute, privileged, message, addr, grpid, perm, last) \
	{ word0, word1, REQUEST(RID, pasid, true, execute, privileged, message), { addr, 5 | (last) << 1, pasid, grpid, perm, 0 } }
		CASE(0x114402000001ab12, 0, 1, 0, 0, 0x5, 0, 0, 1, 1),
		CASE(0x116002000001ab12, 0, 1, 0, 0, 0x6, 0, 0, 2, 1),
		CASE(0x110002000001ab12, 0, 1, 0, 1, 0x4, 0, 0, 8, 1),		/* no stop marker: those are not privileged */
		CASE(0x114602000001ab12, 0, 1, 1, 0, 0x5, 0, 0, 1 | 4, 1),
		CASE(0x114202000001ab12, 0, 1, 1, 0, 0x4, 0, 0, 4, 1),		/* none either: it asks to execute */
		CASE(0x110402000001ab12, 0, 1, 0, 1, 0x5, 0, 0, 1 | 8, 1),
		CASE(0x112602000001ab12, 0, 1, 1, 1, 0x7, 0, 0, 15, 1),
		CASE(0x114400000001ab12, 0, 1, 0, 0, 0x1, 0, 0, 1, 0),
		CASE(0x114402010001ab12, 0, 1, 0, 0, 0xd, 0, 1, 1, 1),
		CASE(0x114403000001ab12, 0, 1, 0, 0, 0x805, 0, 256, 1, 1),
		CASE(0x114403ff0001ab12, 0, 1, 0, 0, 0xffd, 0, 511, 1, 1),
		CASE(0x114402000002ab12, 0, 2, 0, 0, 0x5, 0, 0, 1, 1),
		CASE(0x114402008000ab12, 0, 0x8000, 0, 0, 0x5, 0, 0, 1, 1),
		CASE(0x11440200fffeab12, 0, 0xfffe, 0, 0, 0x5, 0, 0, 1, 1),
		CASE(0x114402000001ab12, 0x1000, 1, 0, 0, 0x1005, 0x1000, 0, 1, 1),
		CASE(0x114402000001ab12, 0x8000000000000000, 1, 0, 0, 0x8000000000000005, 0x8000000000000000, 0, 1, 1),
		CASE(0x114402000001ab12, 0xfffffffffffff000, 1, 0, 0, 0xfffffffffffff005, 0xfffffffffffff000, 0, 1, 1),
	};
	struct scene *s = open_scene(0, 0);
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct uiopf_fault *f = &cases[i].fault;
		struct uiopf_page_request request = cases[i].request;

		uiopf_amd_page_request(amd, request);
		CHECK_EQ(words(&amd->log, amd->log.written - 1)[0], cases[i].word0);
		CHECK_EQ(words(&amd->log, amd->log.written - 1)[1], cases[i].word1);
		CHECK_EQ(interrupt(s), 1);
		if (!(f->flags & 2)) {
			request.message |= 0x4;		/* its group's last, so that it shows */
			uiopf_amd_page_request(amd, request);
			CHECK_EQ(interrupt(s), 1);
		}
		CHECK_EQ(take(s), f->flags & 2 ? 1 : 2);
		CHECK_EQ(message[0].flags, f->flags);
		CHECK_EQ(message[0].pasid, f->pasid);
		CHECK_EQ(message[0].grpid, f->grpid);
		CHECK_EQ(message[0].perm, f->perm);
		CHECK_EQ(message[0].addr, f->addr);
		answer(s, message[0].cookie, 0);
	}
	close_vendor(s);
}

/* PASIDs beyond 16 bits, which Linux never has from this IOMMU, and other functions: in the entry alone. */
static void what_the_driver_would_not_report_is_written_too(void)
{
	static const struct { uint32_t rid, pasid; uint64_t word0; } cases[] = {
		{ 0, 0x10000, 0x1144060000000000 },
		{ 1, 0x80000, 0x1144220000000001 },
		{ 0x8000, 0xfffff, 0x11443e00ffff8000 },
		{ 0xffff, 0, 0x114402000000ffff },
	};
	struct scene *s = open_scene(0, 0);
	uint32_t i;

	for (i = 0; i < 4; i++) {
		uiopf_amd_page_request(amd, (struct uiopf_page_request)REQUEST(
			cases[i].rid, cases[i].pasid, true, false, false, 0x5));
		CHECK_EQ(words(&amd->log, i)[0], cases[i].word0);
	}
	uiopf_amd_page_request(amd, (struct uiopf_page_request)REQUEST(RID, 0, false, false, false, 0x5));
	CHECK_EQ(words(&amd->log, 4)[0], 0x104402000000ab12);	/* GN is 0, and so is the PASID */
	close_vendor(s);
}

static void a_completion_is_these_16_bytes(void)
{
	static const struct { uint32_t pasid, index, code; uint64_t word0, word1; } cases[] = {
		{ 1, 0, 0, 0x700000010000ab12, 0x0000000000000004 },
		{ 0xfffe, 511, 1, 0x7000fffe0000ab12, 0x000011ff00000004 },
		{ 0x8000, 256, 0, 0x700080000000ab12, 0x0000010000000004 },
		{ 2, 1, 1, 0x700000020000ab12, 0x0000100100000004 },
	};
	struct scene *s = open_scene(0, 0);
	uint32_t i;

	for (i = 0; i < 4; i++) {
		uiopf_amd_page_request(amd, (struct uiopf_page_request)REQUEST(
			RID, cases[i].pasid, true, false, false, 0x5 | cases[i].index << 3));
		interrupt(s);
		CHECK_EQ(take(s), 1);
		answer(s, message[0].cookie, cases[i].code);
		CHECK_EQ(command(s, UIOPF_CONSUMER)[0], cases[i].word0);
		CHECK_EQ(command(s, UIOPF_CONSUMER)[1], cases[i].word1);
	}
	close_vendor(s);
}

/* … and read by the hardware: whatever else is in it, the tag and the status are these. */
static void a_completion_is_carried_out(void)
{
	static const struct { uint64_t word1; uint32_t index, code; } cases[] = {
		{ 0x0000000000000004, 0, 0 },
		{ 0x0000000100000004, 1, 0 },
		{ 0x0000010000000000, 256, 0 },
		{ 0x000001ff00000004, 511, 0 },
		{ 0x0000100000000004, 0, 1 },
		{ 0x0000200000000004, 0, 2 },
		{ 0x0000800000000004, 0, 8 },
		{ 0x0000f1ff00000004, 511, 0xf },
	};
	struct scene *s = open_scene(0, 0);
	struct uiopf_prg_answer got;
	uint32_t i;

	for (i = 0; i < 8; i++) {
		carry_out(s, 0x7000fffe0000ab12, cases[i].word1);
		got = the_answer(s);
		CHECK_EQ(got.index, cases[i].index);
		CHECK_EQ(got.code, cases[i].code);
	}
	carry_out(s, 0x7000fffe0000ab13, 0x0000000000000004);	/* another's */
	CHECK_EQ(uiopf_endpoint_take_raw_answers(s->ep, &got, 1), 0);
	close_vendor(s);
}

/* ---- the driver ---- */

static void what_linux_refuses(void)
{
	enum { NOBODY = -1, REPORTED = -2 };
	static const struct { const char *name; uint64_t word0; int answered; } cases[] = {
		{ "GN is 0", 0x104402000001ab12, 2 },
		{ "GN is 0, not last", 0x104400000001ab12, 2 },
		{ "a reserved bit", 0x11c402000001ab12, 2 },
		{ "a reserved bit, not last", 0x11c400000001ab12, 2 },
		{ "PASID 0", 0x114402000000ab12, 2 },
		{ "the first PASID beyond", 0x11440200ffffab12, 2 },
		{ "the last PASID beyond", 0x11443e00ffffab12, 2 },
		{ "bit 16 of the PASID alone", 0x114406000000ab12, 2 },
		{ "type 0", 0x014402000001ab12, NOBODY },
		{ "type 2", 0x214402000001ab12, NOBODY },
		{ "type 15", 0xf14402000001ab12, NOBODY },
		{ "a stranger's", 0x114402000001ab13, NOBODY },
		{ "a stranger's without a PASID", 0x104402000000ab13, NOBODY },
		{ "privileged", 0x110402000001ab12, REPORTED },
		{ "execute alone", 0x114202000001ab12, REPORTED },
		{ "an ordinary one", 0x114402000001ab12, REPORTED },
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_scene(0, 0);
		const int n = cases[i].answered;

		put_in_log(cases[i].word0, 0x8000000000000000);	/* no address is refused */
		CHECK_EQ(interrupt(s), 1);
		if (commands(s, UIOPF_PRODUCER) != (n >= 0) || take(s) != (n == REPORTED)) {
			fprintf(stderr, "%s\n", cases[i].name);
			abort();
		}
		if (n >= 0)
			CHECK_EQ(command(s, UIOPF_PRODUCER)[1] >> 44, n);
		CHECK_EQ(device_counts_of(s).refused, n >= 0);
		close_vendor(s);
	}
}

static void a_refusal_stops_the_function(void)
{
	struct scene *s = open_scene(0, 64);

	send_raw(s, 0, 0, 0x5);			/* no PASID */
	settle(s);
	CHECK_EQ(the_answer(s).code, 2);	/* Linux's own number, and no code of PCIe's: as a failure */
	CHECK_EQ(counts_of(s).pri_status, 0x101);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

static void an_unbound_function_is_answered_each_request(void)
{
	struct scene *s = open_scene(0, 64);
	struct uiopf_prg_answer got[3];

	uiopf_model_unbind(s->iommu, s->device);
	send_raw(s, 7, UIOPF_RAW_PASID, 0x1);
	send_raw(s, 7, UIOPF_RAW_PASID, 0x5);
	settle(s);
	CHECK_EQ(uiopf_endpoint_take_raw_answers(s->ep, got, 3), 2);
	CHECK_EQ(got[0].code, 1);
	CHECK_EQ(got[1].code, 1);
	CHECK_EQ(counts_of(s).unbound, 2);
	CHECK_EQ(lost(s), 0);
	CHECK_EQ(uiopf_model_bind(s->iommu, s->ep, s->device), 0);
	close_vendor(s);
}

/* ---- the log ---- */

static void an_overflow_stops_the_log_and_linux_restarts_it(void)
{
	struct scene *s = open_scene(0, 64);
	const struct uiopf_page_request partial = REQUEST(RID, 3, true, false, false, 0x1 | 7 << 3);
	struct uiopf_page_request last = partial;

	last.message |= 0x4;
	uiopf_amd_page_request(amd, partial);
	request_many(s, 510);
	CHECK_EQ(read_register(s, STATUS), 0xc0);
	CHECK_EQ(read_register(s, TAIL), 511 * 16);
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5 | 7 << 3);
	CHECK_EQ(read_register(s, STATUS), 0x60);	/* overflow, and it does not run */
	CHECK_EQ(model_counts_of(s).overflowed, 1);
	amd->log.head = 100;				/* room again: nothing is logged before it is restarted */
	uiopf_amd_page_request(amd, last);
	CHECK_EQ(read_register(s, TAIL), 511 * 16);
	CHECK_EQ(model_counts_of(s).overflowed, 2);
	send_raw(s, 3, UIOPF_RAW_PASID, 0x4);		/* of a stop marker nothing is lost */
	CHECK_EQ(model_counts_of(s).overflowed, 2);
	amd->log.head = 0;
	CHECK_EQ(interrupt(s), 511);
	CHECK_EQ(read_register(s, STATUS), 0x80);
	CHECK_EQ(read_register(s, HEAD), 511 * 16);	/* head and tail stay where they are */
	CHECK_EQ(take(s), 510);
	CHECK_EQ(device_counts_of(s).dropped, 0);
	/* The partial group is still there: the next last request with this index ends it. */
	uiopf_amd_page_request(amd, last);
	CHECK_EQ(read_register(s, TAIL), 0);
	CHECK_EQ(interrupt(s), 1);
	CHECK_EQ(take(s), 2);
	CHECK_EQ(counts_of(s).outstanding, 1);		/* whose request was lost waits until a reset */
	uiopf_endpoint_reset(s->ep);
	close_vendor(s);
}

static void an_overflow_that_software_clears_runs_with_the_next_enable(void)
{
	struct scene *s = open_scene(0, 0);

	request_many(s, 512);
	CHECK_EQ(read_register(s, STATUS), 0x60);
	write_register(s, CONTROL, PPR_ON | INT_ON);
	write_register(s, CONTROL, PPR_ON | INT_ON | LOG_ON);
	CHECK_EQ(read_register(s, STATUS), 0x60);	/* not before the bit is cleared */
	write_register(s, STATUS, 0x80);		/* read only */
	write_register(s, STATUS, 0x20);
	CHECK_EQ(read_register(s, STATUS), 0x40);	/* … and that alone does not do */
	write_register(s, CONTROL, PPR_ON | INT_ON);
	write_register(s, CONTROL, PPR_ON | INT_ON | LOG_ON);
	CHECK_EQ(read_register(s, STATUS), 0xc0);
	CHECK_EQ(interrupt(s), 511);
	CHECK_EQ(take(s), 511);
	close_vendor(s);
}

static void what_is_switched_off_takes_nothing(void)
{
	static const uint64_t off[] = { PPR_ON | INT_ON, LOG_ON | INT_ON, INT_ON | AUTO_ON, AUTO_ON | LOG_ON };
	struct scene *s = open_scene(0, 64);
	uint32_t i;

	for (i = 0; i < 4; i++) {
		write_register(s, CONTROL, off[i]);
		CHECK_EQ(read_register(s, CONTROL), off[i]);
		CHECK_EQ(read_register(s, STATUS), 0);
		send_raw(s, 3, UIOPF_RAW_PASID, 0x5 | (uint64_t)i << 3);
		settle(s);
		CHECK_EQ(model_counts_of(s).overflowed, i + 1);
		CHECK_EQ(lost(s), i + 1);
	}
	write_register(s, CONTROL, PPR_ON | LOG_ON);	/* the interrupt is off */
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5 | 9 << 3);
	settle(s);
	CHECK_EQ(read_register(s, STATUS), 0xc0);
	CHECK_EQ(take(s), 0);
	CHECK_EQ(lost(s), 4);				/* that one is in the log */
	write_register(s, CONTROL, PPR_ON | LOG_ON | INT_ON);
	settle(s);
	CHECK_EQ(take(s), 1);
	CHECK_EQ(counts_of(s).outstanding, 5);
	uiopf_endpoint_reset(s->ep);
	close_vendor(s);
}

static void a_large_log_is_larger(void)
{
	struct scene *s = open_scene(UIOPF_MODEL_LARGE_LOG, 0);

	CHECK_EQ(read_register(s, BASE), 0x0f00000000000000);
	write_register(s, CONTROL, PPR_ON | LOG_ON);
	request_many(s, 32767);
	CHECK_EQ(read_register(s, STATUS), 0xc0);
	CHECK_EQ(read_register(s, TAIL), 32767 * 16);
	request_many(s, 1);
	CHECK_EQ(read_register(s, STATUS), 0x60);
	close_vendor(s);
	s = open_scene(0, 0);
	CHECK_EQ(read_register(s, BASE), 0x0900000000000000);
	close_vendor(s);
}

/* ---- what the hardware answers by itself ---- */

static void a_full_log_answers_by_itself_where_it_is_told_to(void)
{
	static const uint32_t codes[] = { 0, 1, 0xf };
	uint32_t i;

	for (i = 0; i < 3; i++) {
		struct scene *s = open_scene(0, 64);
		struct uiopf_prg_answer got;

		write_register(s, CONTROL, PPR_ON | INT_ON | LOG_ON | AUTO_ON);
		write_register(s, AUTO, 0xfffffff0 | codes[i]);
		CHECK_EQ(read_register(s, AUTO), codes[i]);
		request_many(s, 511);
		send_raw(s, 3, UIOPF_RAW_PASID, 0x1 | 7 << 3);	/* its answer is its last's */
		send_raw(s, 3, UIOPF_RAW_PASID, 0x5 | 7 << 3);
		send_raw(s, 3, UIOPF_RAW_PASID, 0x4);		/* a stop marker is never answered */
		CHECK_EQ(read_register(s, STATUS), 0xc0);	/* no overflow: nothing was lost */
		CHECK_EQ(uiopf_endpoint_take_raw_answers(s->ep, &got, 1), 0);	/* … it is on its way */
		CHECK_EQ(counts_of(s).iommu_answered, 2);
		interrupt(s);
		take(s);
		settle(s);
		got = the_answer(s);
		CHECK_EQ(got.index, 7);
		CHECK_EQ(got.code, codes[i]);
		CHECK_EQ(counts_of(s).outstanding, 0);
		CHECK_EQ(s->ep->pri->used, 0);
		CHECK_EQ(model_counts_of(s).overflowed, 0);
		CHECK_EQ(counts_of(s).pri_status, codes[i] == 0xf ? 0x101 : 0);
		close_vendor(s);
	}
}

static void the_early_threshold_is_seen_and_may_answer(void)
{
	struct scene *s = open_scene(0, 64);

	write_register(s, EARLY, 0x80000000 | 10);
	CHECK_EQ(read_register(s, EARLY), 0x80000000 | 10);
	request_many(s, 10);
	CHECK_EQ(read_register(s, STATUS), 0xc0);
	request_many(s, 1);				/* finds ten */
	CHECK_EQ(read_register(s, STATUS), 0x400c0);
	CHECK_EQ(read_register(s, TAIL), 11 * 16);	/* it is a warning */
	write_register(s, STATUS, 0x40000);
	CHECK_EQ(read_register(s, STATUS), 0xc0);
	write_register(s, CONTROL, PPR_ON | INT_ON | LOG_ON | AUTO_ON);
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5);		/* from now on answered */
	CHECK_EQ(read_register(s, STATUS), 0x400c0);
	CHECK_EQ(read_register(s, TAIL), 11 * 16);
	interrupt(s);
	CHECK_EQ(take(s), 11);
	settle(s);
	CHECK_EQ(the_answer(s).code, 0);
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5);		/* and there is room again */
	settle(s);
	CHECK_EQ(take(s), 1);
	write_register(s, EARLY, 0x80007fff);		/* beyond the log: the log itself is full before */
	request_many(s, 511);
	CHECK_EQ(read_register(s, TAIL), (12 + 511) % 512 * 16);
	CHECK_EQ(read_register(s, STATUS), 0x400c0);
	close_vendor(s);
}

/* A load that floods the log, with groups of pages: no fault is lost, and every credit comes back. */
static void a_load_goes_through_a_log_that_answers(void)
{
	enum { ROWS = 20000 };
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 512, .group = 16 };
	struct scene *s = open_scene(0, CAPACITY);
	struct uiopf_access *row = calloc(ROWS, sizeof *row);
	uint32_t i;

	for (i = 0; i < ROWS; i++)
		row[i] = (struct uiopf_access){ .address = 4096ull * i, .pasid = 3, .access = 1 };
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, ROWS), 0);
	free(row);
	write_register(s, CONTROL, PPR_ON | INT_ON | LOG_ON | AUTO_ON);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	while (!uiopf_endpoint_passes(s->ep)) {
		uiopf_core_produce(s->core);
		answer_all(s, 1);
		CHECK_EQ(lost(s), 0);
	}
	CHECK_EQ(counts_of(s).sent, ROWS);
	CHECK(counts_of(s).iommu_answered > 1000);	/* or it was no flood */
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(s->ep->pri->used, 0);
	CHECK_EQ(model_counts_of(s).overflowed, 0);
	close_vendor(s);
}

static void there_are_no_other_registers(void)
{
	static const uint32_t there[] = { CONTROL, BASE, STATUS, HEAD, TAIL, AUTO, EARLY };
	struct scene *s = open_scene(0, 0);
	uint64_t value;
	uint32_t i, j;

	for (i = 0; i < 0x2100; i++) {
		for (j = 0; j < 7 && there[j] != i; j++)
			;
		CHECK_EQ(uiopf_model_read_register(s->iommu, i, &value), j < 7 ? 0 : -EINVAL);
		CHECK_EQ(uiopf_model_write_register(s->iommu, i, j < 7 ? value : 1), j < 7 ? 0 : -EINVAL);
	}
	write_register(s, HEAD, 160);
	write_register(s, TAIL, 160);
	CHECK_EQ(read_register(s, HEAD) | read_register(s, TAIL), 0);
	close_vendor(s);
}

int main(void)
{
	a_request_is_these_16_bytes();
	every_field_is_written_and_read();
	what_the_driver_would_not_report_is_written_too();
	a_completion_is_these_16_bytes();
	a_completion_is_carried_out();
	what_linux_refuses();
	a_refusal_stops_the_function();
	an_unbound_function_is_answered_each_request();
	an_overflow_stops_the_log_and_linux_restarts_it();
	an_overflow_that_software_clears_runs_with_the_next_enable();
	what_is_switched_off_takes_nothing();
	a_large_log_is_larger();
	a_full_log_answers_by_itself_where_it_is_told_to();
	the_early_threshold_is_seen_and_may_answer();
	a_load_goes_through_a_log_that_answers();
	there_are_no_other_registers();
	play_beside_a_worker(&uiopf_model_amd);
	return 0;
}
