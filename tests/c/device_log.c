/*
 * An accelerator's event log: its entries, the completion records that its driver writes, its registers to the bit, and
 * its driver. The expected words are written out as numbers: the library's own constants are what is being tested. Formats:
 * Linux 7.2's drivers/dma/idxd/registers.h (struct __evl_entry) and include/uapi/linux/idxd.h (struct
 * dsa_completion_record).
 */
#include <errno.h>

#include "check.h"
#include "hardware/iommu/device_log.h"
#include "vendor.h"

static struct uiopf_device_log *accelerator;	/* of the scene */
static struct uiopf_records *log_;

static struct scene *open_log(uint32_t places, uint32_t log2_entries)
{
	const struct scene_config config = {
		.requester_id = RID, .device_id = ID, .group_most = GROUP_MOST, .pool = CAPACITY, .model = &uiopf_model_evl,
		.vtd_flags = log2_entries << 16, .pages = 0x100000, .places = places,
	};
	struct scene *s = calloc(1, sizeof *s);

	CHECK(s);
	*s = open_scene_of(&config);
	accelerator = uiopf_device_log_of(s->iommu);
	log_ = &accelerator->reporting.queue;
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	return s;
}

static int64_t access_pages(struct scene *s, uint32_t pasid, uint64_t address, uint32_t perm, uint32_t pages)
{
	const int64_t ticket = uiopf_endpoint_access(s->ep, pasid, address, perm, pages);

	CHECK(ticket >= 0);
	return ticket;
}

static void is_entry(uint32_t place, uint64_t word0, uint64_t word2, uint64_t word4, uint64_t word5)
{
	const uint64_t *d = words(log_, place);

	CHECK_EQ(d[0], word0);
	CHECK_EQ(d[1], 0x0004000000000000);	/* a completion record was asked for */
	CHECK_EQ(d[2], word2);
	CHECK_EQ(d[3], 0);
	CHECK_EQ(d[4], word4);
	CHECK_EQ(d[5], word5);
	CHECK_EQ(d[6] | d[7], 0);
}

static void is_record(const struct scene *s, enum uiopf_side side, uint64_t address, uint64_t word0, uint64_t word1)
{
	CHECK_EQ(command(s, side)[0], address);
	CHECK_EQ(command(s, side)[1], word0);
	CHECK_EQ(command(s, side)[2], word1);
	CHECK_EQ(command(s, side)[3], 0);
}

static void an_event_is_these_64_bytes(void)
{
	struct scene *s = open_log(64, 0);

	access_pages(s, 0xfedcb, 0x7fffdeadbeef, IOMMU_PGFAULT_PERM_READ, 2);
	access_pages(s, 1, 0xffffffffffffffff, IOMMU_PGFAULT_PERM_WRITE, 1);
	access_pages(s, 2, 0x1000, IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE, 1);
	access_pages(s, 3, 0x2000, IOMMU_PGFAULT_PERM_EXEC, 1);
	CHECK_EQ(uiopf_model_endpoint_turn(s->iommu, s->ep), 4);
	CHECK_EQ(log_->tail, 4);
	/*
	 * Descriptor, work queue, write, error information: 0xac; error 0x1a; work queue 0; COMPVAL 6 or MEMFILL 4; PASID. The
	 * record's address: base, requester id 0xab12 << 18, place << 5. The record: page fault 3, or 0x83 of a write.
	 */
	is_entry(0, 0x0fedcb0600001aac, 0x00007f02ac480000, 0x0000000000000003, 0x00007fffdeadbeef);
	is_entry(1, 0x0000010400001aac, 0x00007f02ac480020, 0x0000000000000083, 0xffffffffffffffff);
	is_entry(2, 0x0000020400001aac, 0x00007f02ac480040, 0x0000000000000083, 0x0000000000001000);
	is_entry(3, 0x0000030600001aac, 0x00007f02ac480060, 0x0000000000000003, 0x0000000000002000);
	CHECK_EQ(interrupt(s), 4);
	CHECK_EQ(take(s), 4);
	CHECK_EQ(message[0].addr, 0x7fffdeadbeef);
	CHECK_EQ(message[0].flags, 1 | 2);	/* PASID valid, last page: one fault at a time */
	CHECK_EQ(message[0].pasid, 0xfedcb);
	CHECK_EQ(message[0].grpid, 0x15624000);	/* 0xab12 << 13 */
	CHECK_EQ(message[0].perm, 1);
	CHECK_EQ(message[0].length, 0);
	CHECK_EQ(message[0].dev_id, ID);
	CHECK_EQ(message[1].addr, 0xffffffffffffffff);
	CHECK_EQ(message[1].perm, 2);
	CHECK_EQ(message[1].grpid, 0x15624001);
	CHECK_EQ(message[2].perm, 2);
	CHECK_EQ(message[3].perm, 1);
	CHECK(message[0].cookie != message[1].cookie);
	answer(s, message[0].cookie, 1);
	is_record(s, UIOPF_CONSUMER, 0x00007f02ac480000, 0x0000000000000004, 0x00007fffdeadbeef);
	answer(s, message[1].cookie, 1);
	is_record(s, UIOPF_CONSUMER, 0x00007f02ac480020, 0x0000000000000084, 0xffffffffffffffff);
	answer(s, message[2].cookie, 0);
	is_record(s, UIOPF_CONSUMER, 0x00007f02ac480040, 0x0000000000000083, 0x0000000000001000);
	answer(s, message[3].cookie, 0);
	is_record(s, UIOPF_CONSUMER, 0x00007f02ac480060, 0x0000000000000003, 0x0000000000002000);
	settle(s);
	CHECK_EQ(counts_of(s).invalid, 2);
	CHECK_EQ(counts_of(s).unmapped, 2);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

/* A descriptor of four pages: each that is missing ends it, with what was done until then; the rest is sent again. */
static void a_descriptor_says_how_far_it_has_come(void)
{
	struct scene *s = open_log(64, 0);
	int64_t ticket;

	CHECK_EQ(uiopf_space_map(s->space, 9, 0x5000, IOMMU_PGFAULT_PERM_READ), 0);
	CHECK_EQ(uiopf_space_map(s->space, 9, 0x7000, IOMMU_PGFAULT_PERM_READ), 0);
	ticket = access_pages(s, 9, 0x5123, IOMMU_PGFAULT_PERM_READ, 4);
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	CHECK_EQ(log_->written, 1);
	is_entry(0, 0x0000090600001aac, 0x00007f02ac480000, 0x00000edd00000003, 0x6000);	/* 0xedd bytes */
	CHECK_EQ(counts_of(s).outstanding, 1);
	interrupt(s);
	CHECK_EQ(take(s), 1);
	CHECK_EQ(message[0].addr, 0x6000);
	CHECK_EQ(uiopf_space_map(s->space, 9, 0x6000, IOMMU_PGFAULT_PERM_READ), 0);
	answer(s, message[0].cookie, 0);
	is_record(s, UIOPF_CONSUMER, 0x00007f02ac480000, 0x00000edd00000003, 0x6000);
	uiopf_model_kick(s->iommu, UIOPF_CONSUMER);
	CHECK_EQ(s->iommu->ops->execute(s->iommu), 1);
	is_entry(1, 0x0000090600001aac, 0x00007f02ac480020, 0x00002edd00000003, 0x8000);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), UIOPF_ACCESS_PENDING);
	interrupt(s);
	CHECK_EQ(take(s), 1);
	answer(s, message[0].cookie, 1);
	is_record(s, UIOPF_CONSUMER, 0x00007f02ac480020, 0x00002edd00000004, 0x8000);
	settle(s);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), UIOPF_ACCESS_INVALID);
	CHECK_EQ(counts_of(s).succeeded, 1);
	CHECK_EQ(counts_of(s).sent, 2);

	/* The page that is asked for again, as often as it may be, counts anew for each page. */
	CHECK_EQ(uiopf_endpoint_set_retries(s->ep, 1), 0);
	ticket = access_pages(s, 9, 0x8fff, IOMMU_PGFAULT_PERM_WRITE, 2);
	settle(s);
	answer_all(s, 0);
	settle(s);
	CHECK_EQ(uiopf_space_map(s->space, 9, 0x8000, IOMMU_PGFAULT_PERM_WRITE), 0);
	answer_all(s, 0);
	settle(s);
	CHECK_EQ(take(s), 1);
	CHECK_EQ(message[0].addr, 0x9000);
	CHECK_EQ(words(log_, log_->head - 1)[4], 0x0000000100000083);	/* one byte was done */
	answer(s, message[0].cookie, 0);
	settle(s);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), UIOPF_ACCESS_PENDING);
	CHECK_EQ(take(s), 1);
	CHECK_EQ(message[0].addr, 0x9000);
	answer(s, message[0].cookie, 0);
	settle(s);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), UIOPF_ACCESS_UNMAPPED);
	CHECK_EQ(counts_of(s).retried, 2);
	CHECK_EQ(counts_of(s).unmapped, 1);
	CHECK_EQ(counts_of(s).succeeded, 2);

	/* Under a PASID that has been stopped nothing more is asked for. */
	ticket = access_pages(s, 5, 0x1000, IOMMU_PGFAULT_PERM_READ, 2);
	settle(s);
	CHECK(uiopf_endpoint_stop_pasid(s->ep, 5, 0) >= 0);
	CHECK_EQ(uiopf_space_map(s->space, 5, 0x1000, IOMMU_PGFAULT_PERM_READ), 0);
	answer_all(s, 0);
	settle(s);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), UIOPF_ACCESS_UNMAPPED);
	CHECK_EQ(counts_of(s).succeeded, 3);
	CHECK_EQ(counts_of(s).outstanding + counts_of(s).unexpected, 0);
	CHECK_EQ(s->ep->load.outstanding, 0);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

static void entry(const uint64_t d[8])
{
	memcpy(uiopf_records_place(log_, 8), d, 8 * sizeof *d);
	uiopf_records_put(log_);
	uiopf_records_show(log_);
}

/* Whatever a device writes: each field at its ends, and bit by bit. */
static void every_field_of_an_entry_is_read(void)
{
	static const struct {
		uint64_t word0, word1, word2, word4, word5, addr;
		uint32_t pasid, grpid, perm;
	} cases[] = {
		{ 0x1a00, 0, 0, 0x03, 0, 0, 0, 0, 1 },
		{ 0x9a00, 0, 0, 0x03, 0, 0, 0, 0, 1 },				/* bit 7 of the error is no part of its code */
		{ 0x1a00, 0, 0, 0x83, 0, 0, 0, 0, 2 },				/* the record's own access */
		{ 0x1a20, 0, 0, 0x03, 0, 0, 0, 0, 1 },				/* … and not that to the record */
		{ 0x1aff, 0xffffffffffffffff, 0, 0x03, 0, 0, 0, 0, 1 },	/* a batch, privileged, interrupt handle … */
		{ 0x000000ffff001a00, 0, 0, 0x03, 0, 0, 0, 0, 1 },		/* batch identifier, operation */
		{ 0x0000010000001a00, 0, 0, 0x03, 0, 0, 1, 0, 1 },
		{ 0x0800000000001a00, 0, 0, 0x03, 0, 0, 0x80000, 0, 1 },
		{ 0xffffff0000001a00, 0, 0, 0x03, 0, 0, 0xfffff, 0, 1 },	/* the upper four bits are reserved */
		{ 0x1a00, 0, 0x20, 0x03, 0, 0, 0, 1, 1 },
		{ 0x1a00, 0, 0x1f, 0x03, 0, 0, 0, 0, 1 },
		{ 0x1a00, 0, 0x00000003ffffffe0, 0x03, 0, 0, 0, 0x1fffffff, 1 },
		{ 0x1a00, 0, 0xfffffffc00000000, 0x03, 0, 0, 0, 0, 1 },		/* the record's address, 63:34: lost */
		{ 0x1a00, 0, 0, 0xffffffffffffff03, 0, 0, 0, 0, 1 },		/* bytes completed: lost */
		{ 0x1a00, 0, 0, 0x03, 1, 1, 0, 0, 1 },
		{ 0x1a00, 0, 0, 0x03, 0xffffffffffffffff, 0xffffffffffffffff, 0, 0, 1 },
	};
	/* Another error, or a record that says no page fault: Linux warns, or does more than our device knows. */
	static const uint64_t others[][2] = {
		{ 0x0300, 0x03 }, { 0x2600, 0x03 }, { 0x2700, 0x03 }, { 0x1f00, 0x03 }, { 0x1b00, 0x03 }, { 0x0000, 0x03 },
		{ 0x5a00, 0x03 }, { 0x1a00, 0x01 }, { 0x1a00, 0x00 }, { 0x1a00, 0x04 }, { 0x1a00, 0x43 }, { 0x1a00, 0x02 },
	};
	struct scene *s = open_log(64, 0);
	uint32_t i;

	access_pages(s, 1, 0, IOMMU_PGFAULT_PERM_READ, 1);	/* so that there is a work queue 0 */
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	interrupt(s);
	CHECK_EQ(take(s), 1);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		entry((const uint64_t[8]){ cases[i].word0, cases[i].word1, cases[i].word2, 0, cases[i].word4, cases[i].word5 });
		CHECK_EQ(interrupt(s), 1);
		CHECK_EQ(take(s), 1);
		CHECK_EQ(message[0].addr, cases[i].addr);
		CHECK_EQ(message[0].pasid, cases[i].pasid);
		CHECK_EQ(message[0].grpid, cases[i].grpid);
		CHECK_EQ(message[0].flags, 1 | 2);
		CHECK_EQ(message[0].perm, cases[i].perm);
		CHECK_EQ(message[0].length, 0);
		answer(s, message[0].cookie, 0);
		is_record(s, UIOPF_CONSUMER, 0x7f0000000000 | (uint64_t)cases[i].grpid << 5, cases[i].word4, cases[i].word5);
	}
	for (i = 0; i < sizeof others / sizeof others[0]; i++) {
		entry((const uint64_t[8]){ others[i][0], 0, 0, 0, others[i][1] });
		CHECK_EQ(interrupt(s), 1);
		CHECK_EQ(take(s), 0);
		CHECK_EQ(commands(s, UIOPF_PRODUCER), 0);
	}
	/* A work queue that there is not, 1 and 255: the record is written, and says that nothing is to be sent again. */
	entry((const uint64_t[8]){ 0x0000000000011a00, 0, 0x7f0000000420, 0, 0x1234567800000083, 0x9abc });
	CHECK_EQ(interrupt(s), 1);
	is_record(s, UIOPF_PRODUCER, 0x7f0000000420, 0x1234567800000084, 0x9abc);
	entry((const uint64_t[8]){ 0x0000000000ff1a00, 0, 0x7f0000000440, 0, 0x0000000000000003, 0x1 });
	CHECK_EQ(interrupt(s), 1);
	CHECK_EQ(commands(s, UIOPF_PRODUCER), 2);
	is_record(s, UIOPF_PRODUCER, 0x7f0000000440, 0x0000000000000004, 0x1);
	CHECK_EQ(model_counts_of(s).strangers, 2);
	close_vendor(s);
}

/* What each write does to the descriptor whose record is at 0x7f02ac480000, and whose page is there by now. */
static void a_record_is_read_field_by_field(void)
{
	static const struct { uint64_t word0, word1, word2; uint32_t result, unexpected; } cases[] = {
		{ 0x7f02ac480000, 0x03, 0x5123, UIOPF_ACCESS_OK, 0 },
		{ 0x7f02ac480000, 0x83, 0x5123, UIOPF_ACCESS_OK, 0 },
		{ 0x7f02ac480000, 0xffffffffffffff03, 0xffffffffffffffff, UIOPF_ACCESS_OK, 0 },	/* its submitter knows */
		{ 0x7f02ac480000, 0x04, 0x5123, UIOPF_ACCESS_INVALID, 0 },
		{ 0x7f02ac480000, 0x84, 0x5123, UIOPF_ACCESS_INVALID, 0 },
		{ 0x7f02ac480000, 0x22, 0x5123, UIOPF_ACCESS_INVALID, 0 },	/* any other status */
		{ 0x7f02ac480000, 0x43, 0x5123, UIOPF_ACCESS_INVALID, 0 },
		{ 0x7f02ac480000, 0xffffffffffffff00, 0x5123, UIOPF_ACCESS_PENDING, 0 },	/* no status yet */
		{ 0x7f02ac480000, 0x80, 0x5123, UIOPF_ACCESS_PENDING, 0 },
		{ 0x7f02ac480004, 0x03, 0x5123, UIOPF_ACCESS_PENDING, 0 },	/* not where a record is */
		{ 0x7f02ac480010, 0x03, 0x5123, UIOPF_ACCESS_PENDING, 0 },
		{ 0x7e02ac480000, 0x03, 0x5123, UIOPF_ACCESS_PENDING, 0 },
		{ 0x7f06ac480000, 0x03, 0x5123, UIOPF_ACCESS_PENDING, 0 },
		{ 0x80007f02ac480000, 0x03, 0x5123, UIOPF_ACCESS_PENDING, 0 },
		{ 0x0002ac480000, 0x03, 0x5123, UIOPF_ACCESS_PENDING, 0 },
		{ 0x7f02ac4c0000, 0x03, 0x5123, UIOPF_ACCESS_PENDING, 0 },	/* another function's */
		{ 0x7f02ac480020, 0x03, 0x5123, UIOPF_ACCESS_PENDING, 1 },	/* of no descriptor */
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_log(64, 0);
		const int64_t ticket = access_pages(s, 9, 0x5123, IOMMU_PGFAULT_PERM_READ, 1);
		const uint64_t d[4] = { cases[i].word0, cases[i].word1, cases[i].word2, 0 };

		uiopf_model_endpoint_turn(s->iommu, s->ep);
		CHECK_EQ(uiopf_space_map(s->space, 9, 0x5000, IOMMU_PGFAULT_PERM_READ), 0);
		uiopf_commands_give_long(&s->iommu->commands[UIOPF_PRODUCER], d);
		uiopf_model_kick(s->iommu, UIOPF_PRODUCER);
		CHECK_EQ(s->iommu->ops->execute(s->iommu), 1);
		CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), cases[i].result);
		CHECK_EQ(counts_of(s).unexpected, cases[i].unexpected);
		CHECK_EQ(counts_of(s).outstanding, cases[i].result == UIOPF_ACCESS_PENDING);
		close_vendor(s);
	}
}

/* Four entries, of which one stays free; ten descriptors. (tail + 1) % 4 == head: nothing is written. */
static void a_full_log_is_waited_for(void)
{
	struct scene *s = open_log(10, 2);
	uint32_t i, n;

	CHECK_EQ(read_register(s, 0xe8), 4);
	for (i = 0; i < 20; i++)
		access_pages(s, 1, 0x1001 * i, IOMMU_PGFAULT_PERM_READ, 1);
	CHECK_EQ(read_register(s, 0xf0), 0);
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	CHECK_EQ(read_register(s, 0xf0), 0x4000000300000000);	/* pending, tail 3, head 0 */
	CHECK_EQ(log_->waiting_count, 7);
	CHECK_EQ(words(log_, 3)[0], 0);
	CHECK_EQ(model_counts_of(s).waited, 7);
	CHECK_EQ(counts_of(s).outstanding, 10);
	CHECK_EQ(counts_of(s).waiting, 10);
	CHECK_EQ(lost(s), 0);
	CHECK_EQ(interrupt(s), 10);
	CHECK_EQ(read_register(s, 0xf0), 0x0000000200000002);
	for (n = 0; n < 2; n++) {
		CHECK_EQ(take(s), 10);
		for (i = 0; i < 10; i++) {
			CHECK_EQ(message[i].addr, 0x1001 * (10 * n + i));
			answer(s, message[i].cookie, 1);
		}
		settle(s);
	}
	CHECK_EQ(read_register(s, 0xf0), 0);	/* 20 entries */
	CHECK_EQ(counts_of(s).invalid, 20);
	CHECK_EQ(model_counts_of(s).waited, 14);
	CHECK_EQ(model_counts_of(s).overflowed + model_counts_of(s).commands_lost, 0);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

static void the_registers_are_these(void)
{
	static const uint32_t others[] = { 0, 0x84, 0x98, 0xf4, 0xf8, 0x12345678 };
	struct scene *s = open_log(16, 0);
	uint64_t value;
	uint32_t i;

	CHECK_EQ(read_register(s, 0x10), 0x2000);	/* GENCAP: event log supported */
	CHECK_EQ(read_register(s, 0x80), 0x2000);	/* GENCFG: switched on */
	CHECK_EQ(read_register(s, 0x88), 0x4);		/* GENCTRL: its interrupt, too */
	CHECK_EQ(read_register(s, 0xe0), 0);
	CHECK_EQ(read_register(s, 0xe8), 1024);
	CHECK_EQ(read_register(s, 0xf0), 0);
	for (i = 0; i < sizeof others / sizeof others[0]; i++) {
		CHECK_EQ(uiopf_model_read_register(s->iommu, others[i], &value), -EINVAL);
		CHECK_EQ(uiopf_model_write_register(s->iommu, others[i], 0), -EINVAL);
	}
	CHECK_EQ(uiopf_model_write_register(s->iommu, 0x10, 0), -EINVAL);
	CHECK_EQ(uiopf_model_write_register(s->iommu, 0xe8, 0), -EINVAL);

	/* No interrupt, no report; the log goes on. Then it is raised for all that has come. */
	write_register(s, 0x88, 0xfffffffb);
	CHECK_EQ(read_register(s, 0x88), 0);
	access_pages(s, 1, 0x1000, IOMMU_PGFAULT_PERM_READ, 1);
	settle(s);
	access_pages(s, 1, 0x2000, IOMMU_PGFAULT_PERM_READ, 1);
	settle(s);
	CHECK_EQ(take(s), 0);
	CHECK_EQ(read_register(s, 0xf0), 0x4000000200000000);
	write_register(s, 0xf0, 0x2);	/* neither the head nor what is pending */
	CHECK_EQ(read_register(s, 0xf0), 0x4000000200000000);
	write_register(s, 0x88, 0x4);
	settle(s);
	CHECK_EQ(read_register(s, 0xf0), 0x0000000200000002);
	CHECK_EQ(answer_all(s, 1), 2);

	/* What is not pending any more is looked at with the next entry. */
	settle(s);
	uiopf_model_hold_interrupt(s->iommu, 1);
	access_pages(s, 1, 0x1000, IOMMU_PGFAULT_PERM_READ, 1);
	settle(s);
	write_register(s, 0xf0, 0x4000000000000000);
	CHECK_EQ(read_register(s, 0xf0), 0x0000000300000002);
	uiopf_model_hold_interrupt(s->iommu, 0);
	settle(s);
	CHECK_EQ(take(s), 0);
	access_pages(s, 1, 0x2000, IOMMU_PGFAULT_PERM_READ, 1);
	settle(s);
	CHECK_EQ(answer_all(s, 1), 2);
	settle(s);

	/* Off: what comes fails at once. */
	write_register(s, 0x80, 0xffffdfff);
	CHECK_EQ(read_register(s, 0x80), 0);
	access_pages(s, 1, 0x3000, IOMMU_PGFAULT_PERM_READ, 1);
	settle(s);
	CHECK_EQ(counts_of(s).iommu_answered, 1);
	CHECK_EQ(read_register(s, 0xf0), 0x0000000400000004);
	write_register(s, 0x80, 0x2000);
	CHECK_EQ(read_register(s, 0x80), 0x2000);
	access_pages(s, 1, 0x3000, IOMMU_PGFAULT_PERM_READ, 1);
	settle(s);
	CHECK_EQ(answer_all(s, 1), 1);
	settle(s);
	CHECK_EQ(counts_of(s).invalid, 6);
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

/* Off, or without a device bound: a descriptor fails at once. What waited before goes on as ever. */
static void without_a_log_descriptors_fail(void)
{
	struct scene *s = open_log(16, 0);
	const int64_t before = access_pages(s, 1, 0x1000, IOMMU_PGFAULT_PERM_READ, 1);
	int64_t ticket[2];

	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_device_model_enable(s->iommu, 0), 0);
	ticket[0] = access_pages(s, 1, 0x2000, IOMMU_PGFAULT_PERM_READ, 3);
	settle(s);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket[0]), UIOPF_ACCESS_INVALID);
	CHECK_EQ(counts_of(s).iommu_answered, 1);
	CHECK_EQ(uiopf_endpoint_result(s->ep, before), UIOPF_ACCESS_PENDING);
	CHECK_EQ(uiopf_device_model_enable(s->iommu, 1), 0);
	uiopf_model_unbind(s->iommu, s->device);
	ticket[1] = access_pages(s, 1, 0x2000, IOMMU_PGFAULT_PERM_READ, 2);
	settle(s);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket[1]), UIOPF_ACCESS_INVALID);
	CHECK_EQ(counts_of(s).iommu_answered, 2);
	CHECK_EQ(uiopf_model_bind(s->iommu, s->ep, s->device), 0);
	ticket[1] = access_pages(s, 1, 0x2000, IOMMU_PGFAULT_PERM_READ, 2);
	settle(s);
	CHECK_EQ(answer_all(s, 1), 2);
	settle(s);
	CHECK_EQ(uiopf_endpoint_result(s->ep, before), UIOPF_ACCESS_INVALID);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket[1]), UIOPF_ACCESS_INVALID);
	/* By the driver, where the device is detached. */
	access_pages(s, 1, 0x4567, IOMMU_PGFAULT_PERM_WRITE, 1);
	settle(s);
	CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
	CHECK_EQ(command(s, UIOPF_CONSUMER)[1], 0x84);
	CHECK_EQ(command(s, UIOPF_CONSUMER)[2], 0x4567);
	access_pages(s, 1, 0x5678, IOMMU_PGFAULT_PERM_READ, 1);
	settle(s);
	CHECK_EQ(command(s, UIOPF_PRODUCER)[1], 0x04);
	CHECK_EQ(command(s, UIOPF_PRODUCER)[2], 0x5678);
	CHECK_EQ(counts_of(s).outstanding + counts_of(s).unexpected, 0);
	CHECK_EQ(device_counts_of(s).refused, 1);
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

/* Its functions are work queues, without PRI; each has records of its own, and an account. */
static void functions_are_told_apart_by_their_work_queues(void)
{
	struct scene *s = open_log(16, 0);
	struct uiopf_port *port = uiopf_model_port(s->iommu);
	struct uiopf_endpoint *other = uiopf_endpoint_new_reporting(s->core, port, 0x201, 2, 4, 0);
	struct uiopf_device *device = uiopf_device_new(s->core, uiopf_model_iommu(s->iommu), ID + 1, 0x201, 64, 0);
	const struct uiopf_raw_request r = { .requester_id = RID, .pasid = 5, .flags = UIOPF_RAW_PASID, .message = 0x1005 };
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 1, .group = 2 };
	struct uiopf_account a = { .endpoint = other, .device = device };

	CHECK(other && device);
	CHECK(uiopf_port_one_fault(port) && uiopf_port_only_stalls(port));
	CHECK(!uiopf_endpoint_new(s->core, port, 0x300, 16, 1));
	CHECK(!uiopf_endpoint_new_stalling(s->core, port, 0x300, 16, 1));
	CHECK(!uiopf_endpoint_new_reporting(s->core, port, 0x300, 513, 1, 0));
	CHECK(!uiopf_endpoint_new_reporting(s->core, port, 0x300, 16, 1, 1));	/* it wants no more pages */
	CHECK_EQ(uiopf_endpoint_read_pri(s->ep, 0), -ENOENT);
	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &r), -EPERM);
	CHECK_EQ(uiopf_endpoint_start(other, &load), -EINVAL);			/* one page for each fault */
	CHECK_EQ(uiopf_model_bind(s->iommu, other, device), 0);
	CHECK_EQ(uiopf_attach(device, UIOPF_NO_PASID, s->q, 1), 0);
	access_pages(s, 1, 0x1000, IOMMU_PGFAULT_PERM_READ, 1);
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	CHECK(uiopf_endpoint_access(other, 0xfffff, 0x2000, IOMMU_PGFAULT_PERM_WRITE, 4) >= 0);	/* more than places */
	CHECK_EQ(uiopf_endpoint_access(other, 1, 0x2000, IOMMU_PGFAULT_PERM_READ, 5), -EINVAL);
	uiopf_model_endpoint_turn(s->iommu, other);
	/* Work queue 1, requester id 0x201. */
	is_entry(1, 0x0fffff0400011aac, 0x00007f0008044000, 0x0000000000000083, 0x0000000000002000);
	CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
	CHECK_EQ(a.pending, 1);
	interrupt(s);
	CHECK_EQ(take(s), 2);
	CHECK_EQ(message[0].dev_id, ID);
	CHECK_EQ(message[1].dev_id, ID + 1);
	CHECK_EQ(message[1].pasid, 0xfffff);
	CHECK_EQ(message[1].grpid, 0x402200);
	answer(s, message[1].cookie, 1);
	settle(s);
	CHECK_EQ(counts_of(s).outstanding, 1);
	CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
	CHECK_EQ(a.answered, 1);
	CHECK_EQ(a.counts.outstanding, 0);
	CHECK_EQ(uiopf_detach(device, UIOPF_NO_PASID), 0);
	uiopf_model_unbind(s->iommu, device);
	uiopf_endpoint_free(other);
	uiopf_device_free(device);
	answer(s, message[0].cookie, 0);
	is_record(s, UIOPF_CONSUMER, 0x00007f02ac480000, 0x03, 0x1000);	/* its own record, not the other's */
	close_vendor(s);
}

/* A load, through a small log; SUCCESS without a page asks again, as often as it may, for the same byte. */
static void a_load_is_served(void)
{
	struct scene *s = open_log(48, 3);
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 40, .group = 1 };
	static struct uiopf_access row[3000];
	static uint8_t seen[3000];
	int64_t n, k;
	uint32_t i;

	for (i = 0; i < 3000; i++)
		row[i] = (struct uiopf_access){ .address = 4096ull * i + i, .pasid = 3, .access = 1 + i % 2 };
	CHECK_EQ(uiopf_endpoint_set_retries(s->ep, 1), 0);
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, 3000), 0);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	for (i = 0; !uiopf_endpoint_passes(s->ep); i++) {
		CHECK(i < 10000);
		uiopf_core_produce(s->core);
		CHECK(counts_of(s).outstanding <= 48);
		CHECK_EQ(lost(s), 0);
		n = take(s);
		for (k = 0; k < n; k++) {
			CHECK_EQ(message[k].addr % 4096, message[k].addr / 4096);
			CHECK_EQ(message[k].perm, 1 + message[k].addr / 4096 % 2);
			seen[message[k].addr / 4096]++;
			answer(s, message[k].cookie, 0);
		}
	}
	for (i = 0; i < 3000; i++)
		CHECK_EQ(seen[i], 2);
	CHECK_EQ(counts_of(s).retried, 3000);
	CHECK_EQ(counts_of(s).unmapped, 3000);
	CHECK_EQ(counts_of(s).outstanding + counts_of(s).waiting + counts_of(s).unexpected, 0);
	CHECK(model_counts_of(s).waited > 0);
	CHECK_EQ(s->ep->pri->used, 0);
	close_vendor(s);
}

/* The hardware on a thread of its own, and a client on this one: each record is the one that belongs to the answer. */
static void a_load_is_served_beside_a_worker(void)
{
	enum { ROWS = 6000 };
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 64, .group = 1 };
	struct scene *s = open_log(64, 5);
	struct uiopf_access *row = calloc(ROWS, sizeof *row);
	uint32_t i, groups = 0;
	int64_t n, k;

	CHECK(row);
	for (i = 0; i < ROWS; i++)
		row[i] = (struct uiopf_access){ .address = 0x10000000 + 4096ull * i, .pasid = 3, .access = 1 };
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, ROWS), 0);
	CHECK_EQ(uiopf_core_start(s->core, UIOPF_ENTER, -1, 0), 0);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	while (!uiopf_endpoint_passes(s->ep)) {
		n = take(s);
		for (k = 0; k < n; k++, groups++) {
			answer(s, message[k].cookie, groups % 7 == 6);
			is_record(s, UIOPF_CONSUMER, 0x7f0000000000 | (uint64_t)message[k].grpid << 5,
				  groups % 7 == 6 ? 4 : 3, message[k].addr);
		}
		if (!n)
			sched_yield();
	}
	CHECK_EQ(uiopf_core_stop(s->core), 0);
	CHECK_EQ(groups, ROWS);
	CHECK_EQ(counts_of(s).unmapped + counts_of(s).invalid, ROWS);
	CHECK_EQ(counts_of(s).invalid, ROWS / 7);
	CHECK_EQ(counts_of(s).unexpected, 0);
	CHECK_EQ(model_counts_of(s).commands_lost, 0);
	CHECK_EQ(lost(s), 0);
	free(row);
	close_vendor(s);
}

int main(void)
{
	an_event_is_these_64_bytes();
	a_descriptor_says_how_far_it_has_come();
	every_field_of_an_entry_is_read();
	a_record_is_read_field_by_field();
	a_full_log_is_waited_for();
	the_registers_are_these();
	without_a_log_descriptors_fail();
	functions_are_told_apart_by_their_work_queues();
	a_load_is_served();
	a_load_is_served_beside_a_worker();
	return 0;
}
