/*
 * The RISC-V IOMMU's page-request queue and ATS.PRGR to the bit, its registers, what it answers by itself, and a driver. The
 * expected words are written out as numbers: the library's own constants are what is being tested. Formats: RISC-V IOMMU
 * Architecture Specification 1.0.
 */
#include <errno.h>

#include "check.h"
#include "hardware/iommu/riscv.h"
#include "vendor.h"

#define PQB 0x38u
#define PQH 0x40u
#define PQT 0x44u
#define PQCSR 0x50u
#define IPSR 0x54u

#define ON 0x10003u	/* pqen, pie, pqon */

static struct uiopf_riscv *riscv;	/* of the scene */

static struct scene *open_scene(uint32_t credits)
{
	struct scene *s = open_vendor(&uiopf_model_riscv, 0, credits);

	riscv = uiopf_riscv_of(s->iommu);
	return s;
}

/* ---- formats ---- */

static void a_record_is_these_16_bytes(void)
{
	struct scene *s = open_scene(64);

	/* PASID 0xfedcb, group index 0 (the first), two pages, read and write: by the endpoint's own hand. */
	uiopf_endpoint_access(s->ep, 0xfedcb, 0x7fffdeadb000, IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE, 2);
	CHECK_EQ(uiopf_model_endpoint_turn(s->iommu, s->ep), 1);
	CHECK_EQ(read_register(s, PQT), 2);
	CHECK_EQ(read_register(s, PQH), 0);
	CHECK_EQ(read_register(s, IPSR), 8);
	CHECK_EQ(words(&riscv->pq, 0)[0], 0x00ab1201fedcb000);
	CHECK_EQ(words(&riscv->pq, 0)[1], 0x00007fffdeadb003);
	CHECK_EQ(words(&riscv->pq, 1)[0], 0x00ab1201fedcb000);
	CHECK_EQ(words(&riscv->pq, 1)[1], 0x00007fffdeadc007);	/* last */
	CHECK_EQ(interrupt(s), 2);
	CHECK_EQ(read_register(s, PQH), 2);
	CHECK_EQ(read_register(s, IPSR), 0);
	CHECK_EQ(take(s), 2);
	CHECK_EQ(message[0].flags, 1);
	CHECK_EQ(message[1].flags, 1 | 2);
	CHECK_EQ(message[1].addr, 0x7fffdeadc000);
	CHECK_EQ(message[1].pasid, 0xfedcb);
	CHECK_EQ(message[1].perm, 3);
	close_vendor(s);
}

/* Each field at its smallest, its largest and one bit at a time: as the hardware writes it, and as the driver reads it. */
static void every_field_is_written_and_read(void)
{
	static const struct { uint64_t word0, word1; struct uiopf_page_request request; struct uiopf_fault fault; } cases[] = {
#define CASE(word0, message, pasid, has_pasid, execute, privileged, addr, grpid, perm) \
	{ word0, message, REQUEST(RID, pasid, has_pasid, execute, privileged, message), \
	  { addr, (has_pasid) | ((message) >> 1 & 2), pasid, grpid, perm, 0 } }
		CASE(0x00ab120100000000, 0x5, 0, 1, 0, 0, 0, 0, 1),
		CASE(0x00ab120100000000, 0x6, 0, 1, 0, 0, 0, 0, 2),
		CASE(0x00ab120100000000, 0x7, 0, 1, 0, 0, 0, 0, 3),
		CASE(0x00ab120100000000, 0x1, 0, 1, 0, 0, 0, 0, 1),
		CASE(0x00ab120300000000, 0x5, 0, 1, 0, 1, 0, 0, 1 | 8),
		CASE(0x00ab120500000000, 0x5, 0, 1, 1, 0, 0, 0, 1 | 4),
		CASE(0x00ab120500000000, 0x4, 0, 1, 1, 0, 0, 0, 4),	/* no stop marker: it asks to execute */
		CASE(0x00ab120300000000, 0x4, 0, 1, 0, 1, 0, 0, 8),	/* none either: those are not privileged */
		CASE(0x00ab120700000000, 0x7, 0, 1, 1, 1, 0, 0, 15),
		CASE(0x00ab120000000000, 0x5, 0, 0, 0, 0, 0, 0, 1),
		CASE(0x00ab120000000000, 0x4, 0, 0, 0, 0, 0, 0, 0),	/* an ordinary one, without a PASID */
		CASE(0x00ab120100001000, 0x5, 1, 1, 0, 0, 0, 0, 1),
		CASE(0x00ab120180000000, 0x5, 0x80000, 1, 0, 0, 0, 0, 1),
		CASE(0x00ab1201fffff000, 0x5, 0xfffff, 1, 0, 0, 0, 0, 1),
		CASE(0x00ab120100000000, 0xd, 0, 1, 0, 0, 0, 1, 1),
		CASE(0x00ab120100000000, 0x805, 0, 1, 0, 0, 0, 256, 1),
		CASE(0x00ab120100000000, 0xffd, 0, 1, 0, 0, 0, 511, 1),
		CASE(0x00ab120100000000, 0x1005, 0, 1, 0, 0, 0x1000, 0, 1),
		CASE(0x00ab120100000000, 0x8000000000000005, 0, 1, 0, 0, 0x8000000000000000, 0, 1),
		CASE(0x00ab120100000000, 0xfffffffffffff005, 0, 1, 0, 0, 0xfffffffffffff000, 0, 1),
	};
	static const uint16_t rids[] = { 0, 1, 0x8000, 0xffff };
	struct scene *s = open_scene(0);
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const struct uiopf_fault *f = &cases[i].fault;
		struct uiopf_page_request request = cases[i].request;

		uiopf_riscv_page_request(riscv, request);
		CHECK_EQ(words(&riscv->pq, riscv->pq.written - 1)[0], cases[i].word0);
		CHECK_EQ(words(&riscv->pq, riscv->pq.written - 1)[1], cases[i].word1);
		CHECK_EQ(interrupt(s), 1);
		if (!(f->flags & 2)) {
			request.message |= 0x4;		/* its group's last, so that it shows */
			uiopf_riscv_page_request(riscv, request);
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
	for (i = 0; i < 4; i++) {
		uiopf_riscv_page_request(riscv, (struct uiopf_page_request){ .requester_id = rids[i], .message = 0x5 });
		CHECK_EQ(words(&riscv->pq, riscv->pq.written - 1)[0], (uint64_t)rids[i] << 40);
	}
	close_vendor(s);
}

static void a_prgr_is_these_16_bytes(void)
{
	static const struct { uint32_t pasid, has_pasid, index, code; uint64_t word0, word1; } cases[] = {
		{ 0, 1, 0, 0, 0x00ab120100000084, 0 },
		{ 0xfffff, 1, 511, 1, 0x00ab1201fffff084, 0x000011ff00000000 },
		{ 0x80000, 1, 256, 0, 0x00ab120180000084, 0x0000010000000000 },
		{ 1, 1, 1, 1, 0x00ab120100001084, 0x0000100100000000 },
		{ 0, 0, 2, 0, 0x00ab120000000084, 0x0000000200000000 },
	};
	struct scene *s = open_scene(0);
	uint32_t i;

	for (i = 0; i < 5; i++) {
		uiopf_riscv_page_request(riscv, (struct uiopf_page_request)REQUEST(
			RID, cases[i].pasid, cases[i].has_pasid, false, false, 0x5 | cases[i].index << 3));
		interrupt(s);
		CHECK_EQ(take(s), 1);
		answer(s, message[0].cookie, cases[i].code);
		CHECK_EQ(command(s, UIOPF_CONSUMER)[0], cases[i].word0);
		CHECK_EQ(command(s, UIOPF_CONSUMER)[1], cases[i].word1);
	}
	s->iommu->iommu_ops.respond(s->device, UIOPF_CONSUMER, 1, 3, 4, 2);	/* a failure is sent as PCIe's */
	CHECK_EQ(command(s, UIOPF_CONSUMER)[0], 0x00ab120100003084);
	CHECK_EQ(command(s, UIOPF_CONSUMER)[1], 0x0000f00400000000);
	close_vendor(s);
}

static void a_prgr_is_carried_out(void)
{
	static const struct { uint64_t word1; uint32_t index, code; } cases[] = {
		{ 0, 0, 0 }, { 0x0000000100000000, 1, 0 }, { 0x0000010000000000, 256, 0 }, { 0x000001ff00000000, 511, 0 },
		{ 0x0000100000000000, 0, 1 }, { 0x0000200000000000, 0, 2 }, { 0x0000800000000000, 0, 8 },
		{ 0x0000f1ff00000000, 511, 0xf },
	};
	struct scene *s = open_scene(0);
	struct uiopf_prg_answer got;
	uint32_t i;

	for (i = 0; i < 8; i++) {
		carry_out(s, 0x00ab1201fffff084, cases[i].word1);
		got = the_answer(s);
		CHECK_EQ(got.index, cases[i].index);
		CHECK_EQ(got.code, cases[i].code);
	}
	carry_out(s, 0x00ab1301fffff084, 0);	/* another's */
	CHECK_EQ(uiopf_endpoint_take_raw_answers(s->ep, &got, 1), 0);
	close_vendor(s);
}

/* ---- the driver ---- */

static void what_a_driver_does_not_report(void)
{
	static const struct { const char *name; uint32_t rid; uint64_t message; bool pasid; int answered, reported; } cases[] = {
		{ "a stop marker", RID, 0x4, true, 0, 0 },
		{ "the same without a PASID", RID, 0x4, false, 0, 1 },
		{ "a stranger's", RID + 1, 0x5, true, 1, 0 },
		{ "a stranger's, not last", RID + 1, 0x1, true, 0, 0 },
		{ "a stranger's stop marker", RID + 1, 0x4, true, 0, 0 },
		{ "an ordinary one", RID, 0x5, true, 0, 1 },
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_scene(0);

		uiopf_riscv_page_request(riscv, (struct uiopf_page_request)REQUEST(
			cases[i].rid, cases[i].pasid ? 3 : 0, cases[i].pasid, false, false, cases[i].message));
		CHECK_EQ(interrupt(s), 1);
		if ((int)commands(s, UIOPF_PRODUCER) != cases[i].answered || take(s) != cases[i].reported) {
			fprintf(stderr, "%s\n", cases[i].name);
			abort();
		}
		if (cases[i].answered)
			CHECK_EQ(command(s, UIOPF_PRODUCER)[1] >> 44, 1);
		close_vendor(s);
	}
}

/* ---- what it answers by itself ---- */

/* Sends, where nothing is taken: a group of two, whose second is its last, and a stop marker. The answer's code. */
static uint32_t discarded(struct scene *s)
{
	const uint64_t before = counts_of(s).iommu_answered, tail = read_register(s, PQT), lost_before = lost(s);
	struct uiopf_prg_answer got;

	send_raw(s, 3, UIOPF_RAW_PASID, 0x1 | 7 << 3);
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5 | 7 << 3);
	send_raw(s, 3, UIOPF_RAW_PASID, 0x4);
	CHECK_EQ(read_register(s, PQT), tail);
	CHECK_EQ(counts_of(s).iommu_answered, before + 2);
	CHECK_EQ(uiopf_endpoint_take_raw_answers(s->ep, &got, 1), 0);	/* it is on its way */
	settle(s);
	got = the_answer(s);
	CHECK_EQ(got.index, 7);
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(s->ep->pri->used, 0);
	CHECK_EQ(lost(s), lost_before);
	CHECK_EQ(model_counts_of(s).overflowed, 0);
	if (got.code == 0xf) {
		CHECK_EQ(counts_of(s).pri_status, 0x101);
		uiopf_endpoint_disable_pri(s->ep);
		CHECK_EQ(uiopf_endpoint_enable_pri(s->ep, 64), 0);
	}
	return got.code;
}

static void an_overflow_is_answered_with_success(void)
{
	struct scene *s = open_scene(64);

	send_raw(s, 3, UIOPF_RAW_PASID, 0x1 | 9 << 3);	/* its last comes too late */
	request_many(s, 4094);
	CHECK_EQ(read_register(s, PQT), 4095);
	CHECK_EQ(read_register(s, PQCSR), ON);
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5 | 9 << 3);
	CHECK_EQ(read_register(s, PQCSR), ON | 0x200);
	CHECK_EQ(read_register(s, IPSR), 8);
	riscv->pq.head = 100;				/* room again: nothing is written before pqof is cleared */
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5 | 10 << 3);
	CHECK_EQ(read_register(s, PQT), 4095);
	riscv->pq.head = 0;
	CHECK_EQ(interrupt(s), 4095);
	CHECK_EQ(read_register(s, PQCSR), ON);
	CHECK_EQ(take(s), 4094);
	CHECK_EQ(device_counts_of(s).passed_over, 1);	/* the incomplete group is ignored */
	CHECK_EQ(lost(s) + 4094, 0);			/* those were nobody's */
	settle(s);
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(counts_of(s).unmapped, 3);		/* told to ask again, and nothing is there */
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5 | 9 << 3);
	CHECK_EQ(read_register(s, PQT), 0);
	settle(s);
	CHECK_EQ(take(s), 1);				/* a group of one */
	answer(s, message[0].cookie, 0);
	close_vendor(s);
}

static void what_is_off_or_has_failed_answers_failure(void)
{
	struct scene *s = open_scene(64);

	write_register(s, PQCSR, 0x2);
	CHECK_EQ(read_register(s, PQCSR), 0x2);		/* pqon follows pqen */
	CHECK_EQ(discarded(s), 0xf);
	CHECK_EQ(read_register(s, IPSR), 0);
	write_register(s, PQCSR, 0x3);
	CHECK_EQ(read_register(s, PQCSR), ON);
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5);
	settle(s);
	CHECK_EQ(answer_all(s, 0), 1);
	settle(s);
	CHECK_EQ(the_answer(s).code, 0);

	write_register(s, PQCSR, 0x1);			/* without an interrupt, so that pqmf stays */
	CHECK_EQ(uiopf_riscv_fault_queue(s->iommu), 0);
	CHECK_EQ(discarded(s), 0xf);
	CHECK_EQ(read_register(s, PQCSR), 0x10101);
	CHECK_EQ(read_register(s, IPSR), 0);
	CHECK_EQ(discarded(s), 0xf);			/* … and all that come, until it is cleared */
	write_register(s, PQCSR, 0x201);		/* that is another bit */
	CHECK_EQ(read_register(s, PQCSR), 0x10101);
	write_register(s, PQCSR, 0x3);			/* with an interrupt: the error is there, and makes it pending */
	CHECK_EQ(read_register(s, IPSR), 8);
	write_register(s, IPSR, 8);
	CHECK_EQ(read_register(s, IPSR), 8);		/* … again, as long as it is there */
	write_register(s, PQCSR, 0x103);
	CHECK_EQ(read_register(s, PQCSR), ON);
	write_register(s, IPSR, 8);
	CHECK_EQ(read_register(s, IPSR), 0);
	send_raw(s, 3, UIOPF_RAW_PASID, 0x5);
	settle(s);
	CHECK_EQ(answer_all(s, 0), 1);
	settle(s);

	CHECK_EQ(uiopf_riscv_fault_queue(s->iommu), 0);	/* with it the driver clears pqmf */
	CHECK_EQ(the_answer(s).code, 0);
	send_raw(s, 3, UIOPF_RAW_PASID, 0x4);		/* a stop marker that cannot be written is an error, too */
	CHECK_EQ(read_register(s, PQCSR), ON | 0x100);
	CHECK_EQ(read_register(s, IPSR), 8);
	settle(s);
	CHECK_EQ(read_register(s, PQCSR), ON);
	close_vendor(s);
}

/* Of two reasons the first in the table decides; and switching on clears both errors, and the queue. */
static void the_reasons_have_an_order(void)
{
	struct scene *s = open_scene(64);

	write_register(s, PQCSR, 0x1);
	request_many(s, 4095);
	CHECK_EQ(uiopf_riscv_fault_queue(s->iommu), 0);
	CHECK_EQ(discarded(s), 0);			/* full, before a fault */
	CHECK_EQ(read_register(s, PQCSR), 0x10201);
	CHECK_EQ(discarded(s), 0);
	write_register(s, PQCSR, 0x200);		/* off: what was in it is processed, and pqof is cleared */
	CHECK_EQ(read_register(s, PQCSR), 0);
	CHECK_EQ(discarded(s), 0xf);
	CHECK_EQ(take(s), 4095);
	write_register(s, PQCSR, 0x1);
	CHECK_EQ(read_register(s, PQCSR), 0x10001);
	CHECK_EQ(read_register(s, PQT) | read_register(s, PQH), 0);
	CHECK_EQ(discarded(s), 0xf);			/* the fault is still to come */
	CHECK_EQ(read_register(s, PQCSR), 0x10101);
	close_vendor(s);
}

/* A load that floods the queue, with groups of pages: no fault is lost, and every credit comes back. */
static void a_load_goes_through_overflows(void)
{
	enum { ROWS = 40000 };
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 512, .group = 16 };
	struct scene *s = open_scene(CAPACITY);
	struct uiopf_access *row = calloc(ROWS, sizeof *row);
	uint32_t i;

	for (i = 0; i < ROWS; i++)
		row[i] = (struct uiopf_access){ .address = 4096ull * i, .pasid = 3, .access = 1 };
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, ROWS), 0);
	free(row);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	for (i = 0; !uiopf_endpoint_passes(s->ep); i++) {
		if (i % 4 < 2)
			uiopf_model_hold_interrupt(s->iommu, i % 4);	/* two turns' requests are more than it holds */
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
	static const uint32_t there[] = { PQB, PQH, PQT, PQCSR, IPSR };
	struct scene *s = open_scene(0), *other = open_vendor(&uiopf_model_vtd, 0, 0);
	uint64_t value;
	uint32_t i, j;

	for (i = 0; i < 0x300; i++) {
		for (j = 0; j < 5 && there[j] != i; j++)
			;
		CHECK_EQ(uiopf_model_read_register(s->iommu, i, &value), j < 5 ? 0 : -EINVAL);
		CHECK_EQ(uiopf_model_write_register(s->iommu, i, j < 5 ? value : 1), j < 5 ? 0 : -EINVAL);
	}
	CHECK_EQ(read_register(s, PQB), 11);		/* 4,096 entries */
	write_register(s, PQH, 5);
	write_register(s, PQT, 5);
	CHECK_EQ(read_register(s, PQH) | read_register(s, PQT), 0);
	CHECK_EQ(uiopf_riscv_fault_queue(other->iommu), -EOPNOTSUPP);
	close_vendor(other);
	close_vendor(s);
}

int main(void)
{
	a_record_is_these_16_bytes();
	every_field_is_written_and_read();
	a_prgr_is_these_16_bytes();
	a_prgr_is_carried_out();
	what_a_driver_does_not_report();
	an_overflow_is_answered_with_success();
	what_is_off_or_has_failed_answers_failure();
	the_reasons_have_an_order();
	a_load_goes_through_overflows();
	there_are_no_other_registers();
	play_beside_a_worker(&uiopf_model_riscv);
	return 0;
}
