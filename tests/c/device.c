/*
 * A device that reports its faults itself: the entries of its event queue and its commands to the bit, and its driver. The
 * expected words are written out as numbers: the library's own constants are what is being tested. The bytes of an entry
 * are big-endian, so each number of 32 bits stands in these little-endian words back to front. Formats: Linux 7.2's
 * include/linux/mlx5/device.h and mlx5_ifc.h.
 */
#include <errno.h>

#include "check.h"
#include "hardware/iommu/device.h"
#include "vendor.h"

static struct uiopf_reporting *adapter;	/* of the scene */

static struct scene *open_device(uint32_t places, uint32_t prefetch, uint32_t log2_entries)
{
	const struct scene_config config = {
		.requester_id = RID, .device_id = ID, .group_most = GROUP_MOST, .pool = CAPACITY, .model = &uiopf_model_odp,
		.vtd_flags = log2_entries << 16, .pages = 0x100000, .places = places, .prefetch = prefetch,
	};
	struct scene *s = calloc(1, sizeof *s);

	CHECK(s);
	*s = open_scene_of(&config);
	adapter = uiopf_reporting_of(s->iommu);
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	return s;
}

static int64_t access_pages(struct scene *s, uint32_t pasid, uint64_t address, uint32_t perm, uint32_t pages)
{
	const int64_t ticket = uiopf_endpoint_access(s->ep, pasid, address, perm, pages);

	CHECK(ticket >= 0);
	return ticket;
}

static void is_entry(uint32_t place, uint64_t word4, uint64_t word5, uint64_t word6, uint64_t word7)
{
	const uint64_t *d = words(&adapter->queue, place);

	CHECK_EQ(d[0], 0x02000c00);	/* page fault, of the memory scheme */
	CHECK_EQ(d[1] | d[2] | d[3], 0);
	CHECK_EQ(d[4], word4);
	CHECK_EQ(d[5], word5);
	CHECK_EQ(d[6], word6);
	CHECK_EQ(d[7], word7);
}

static void a_fault_is_these_64_bytes(void)
{
	struct scene *s = open_device(64, 3, 0);

	access_pages(s, 0xfedcb, 0x7fffdeadbeef, IOMMU_PGFAULT_PERM_READ, 2);
	access_pages(s, 1, 0xffffffffffffffff, IOMMU_PGFAULT_PERM_WRITE, 1);
	CHECK_EQ(uiopf_model_endpoint_turn(s->iommu, s->ep), 2);
	CHECK_EQ(adapter->queue.tail, 3);
	/* Three pages behind it; token 0xab120000; one page; key 0x0fedcb00; address. The second is the last: 0x80. */
	is_entry(0, 0x0000000003000000, 0x00100000000012ab, 0xff7f000000cbed0f, 0x00000000efbeadde);
	is_entry(1, 0x0000000003000080, 0x00100000000012ab, 0xff7f000000cbed0f, 0x00000000efceadde);
	is_entry(2, 0x0000000003000080, 0x00100000010012ab, 0xffffffff00010000, 0x00000000ffffffff);
	CHECK_EQ(interrupt(s), 3);
	CHECK_EQ(take(s), 3);
	CHECK_EQ(message[0].addr, 0x7fffdeadbeef);
	CHECK_EQ(message[0].flags, 1);		/* PASID valid */
	CHECK_EQ(message[0].pasid, 0xfedcb);
	CHECK_EQ(message[0].grpid, 0xab120000);
	CHECK_EQ(message[0].perm, 3);		/* what the region allows: an entry does not say */
	CHECK_EQ(message[0].length, 0x4000);
	CHECK_EQ(message[0].dev_id, ID);
	CHECK_EQ(message[1].addr, 0x7fffdeadceef);
	CHECK_EQ(message[1].flags, 1 | 2);
	CHECK_EQ(message[1].length, 0x4000);
	CHECK_EQ(message[1].cookie, message[0].cookie);
	CHECK_EQ(message[2].addr, 0xffffffffffffffff);
	CHECK_EQ(message[2].grpid, 0xab120001);
	CHECK(message[2].cookie != message[1].cookie);
	answer(s, message[1].cookie, 1);
	answer(s, message[2].cookie, 1);
	settle(s);
	CHECK_EQ(counts_of(s).invalid, 3);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

static void entry(const uint64_t d[8])
{
	memcpy(uiopf_records_place(&adapter->queue, 8), d, 8 * sizeof *d);
	uiopf_records_put(&adapter->queue);
	uiopf_records_show(&adapter->queue);
}

/* Whatever a device writes: each field at its ends, and bit by bit. */
static void every_field_of_an_entry_is_read(void)
{
	static const struct {
		uint64_t word4, word5, word6, word7, addr;
		uint32_t pasid, grpid, flags, length;
	} cases[] = {
		{ 0x80, 0, 0, 0, 0, 0, 0, 3, 0 },
		{ 0x80, 0x0010000000000000, 0, 0, 0, 0, 0, 3, 0x1000 },
		{ 0x80, 0x00f0ffff00000000, 0, 0, 0, 0, 0, 3, 0xfffff000 },	/* the size, in its bits 31:12 */
		{ 0x80, 0xff0f000000000000, 0, 0, 0, 0, 0, 3, 0 },		/* … and not in 11:0 */
		{ 0x01000080, 0x0010000000000000, 0, 0, 0, 0, 0, 3, 0x2000 },	/* one page behind it */
		{ 0x00010080, 0, 0, 0, 0, 0, 0, 3, 0x100000 },			/* 256 of them */
		{ 0xffff0080, 0, 0, 0, 0, 0, 0, 3, 0xffff000 },
		{ 0xffff00007f80, 0, 0, 0, 0, 0, 0, 3, 0 },			/* pages before it: lost */
		{ 0xffff000000000080, 0, 0, 0, 0, 0, 0, 3, 0 },			/* the token's bits 47:32: lost */
		{ 0x80, 0x01000000, 0, 0, 0, 0, 1, 3, 0 },
		{ 0x80, 0x00000080, 0, 0, 0, 0, 0x80000000, 3, 0 },
		{ 0x80, 0, 0x00010000, 0, 0, 1, 0, 3, 0 },			/* PASID 1: 27:8 of the key */
		{ 0x80, 0, 0x00000008, 0, 0, 0x80000, 0, 3, 0 },
		{ 0x80, 0, 0xffffff0f, 0, 0, 0xfffff, 0, 3, 0 },		/* … whose variant is not looked at */
		{ 0x80, 0, 0xffffffff00000000, 0, 0xffffffff00000000, 0, 0, 3, 0 },
		{ 0x80, 0, 0x0100000000000000, 0, 0x0000000100000000, 0, 0, 3, 0 },
		{ 0x80, 0, 0, 0xff000000ffffffff, 0xffffffff, 0, 0, 3, 0 },	/* whatever the owner is */
		{ 0x80, 0, 0, 0x01000000, 1, 0, 0, 3, 0 },
	};
	static const uint64_t others[] = { 0x02000000, 0x02000b00, 0x00000c00, 0x01000c00, 0x03000c00 };
	struct scene *s = open_device(64, 0, 0);
	uint32_t i;

	access_pages(s, 1, 0, IOMMU_PGFAULT_PERM_READ, 1);	/* so that there is a key with number 0 */
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	interrupt(s);
	CHECK_EQ(take(s), 1);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		entry((const uint64_t[8]){ 0x02000c00, 0, 0, 0, cases[i].word4, cases[i].word5, cases[i].word6, cases[i].word7 });
		CHECK_EQ(interrupt(s), 1);
		CHECK_EQ(take(s), 1);
		CHECK_EQ(message[0].addr, cases[i].addr);
		CHECK_EQ(message[0].pasid, cases[i].pasid);
		CHECK_EQ(message[0].grpid, cases[i].grpid);
		CHECK_EQ(message[0].flags, cases[i].flags);
		CHECK_EQ(message[0].perm, 3);
		CHECK_EQ(message[0].length, cases[i].length);
		answer(s, message[0].cookie, 0);
	}
	for (i = 0; i < sizeof others / sizeof others[0]; i++) {
		entry((const uint64_t[8]){ others[i], 0, 0, 0, 0x80 });
		CHECK_EQ(interrupt(s), 1);
		CHECK_EQ(take(s), 0);
		CHECK_EQ(commands(s, UIOPF_PRODUCER), 0);
	}
	/* A key of a function that there is not: each entry is resumed with an error, as Linux does, also not the last. */
	entry((const uint64_t[8]){ 0x02000c00, 0, 0, 0, 0x80, 0xff0112ab, 0x00000010 });
	entry((const uint64_t[8]){ 0x02000c00, 0, 0, 0, 0x00, 0xff0112ab, 0x000000f0 });
	CHECK_EQ(interrupt(s), 2);
	CHECK_EQ(commands(s, UIOPF_PRODUCER), 2);
	CHECK_EQ(command(s, UIOPF_PRODUCER)[0], 0x402);
	CHECK_EQ(command(s, UIOPF_PRODUCER)[1], 0xff0112ab00000080);
	CHECK_EQ(model_counts_of(s).strangers, 2);
	close_vendor(s);
}

static void a_resume_is_these_16_bytes(void)
{
	struct scene *s = open_device(64, 0, 0);
	uint32_t i;

	for (i = 0; i < 3; i++)
		access_pages(s, 1, 0x1000 * i, IOMMU_PGFAULT_PERM_READ, 1);
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	interrupt(s);
	CHECK_EQ(take(s), 3);
	answer(s, message[1].cookie, 0);
	CHECK_EQ(command(s, UIOPF_CONSUMER)[0], 0x0000000000000402);	/* 0x0204 */
	CHECK_EQ(command(s, UIOPF_CONSUMER)[1], 0x010012ab00000000);	/* token 0xab120001 */
	answer(s, message[2].cookie, 1);
	CHECK_EQ(command(s, UIOPF_CONSUMER)[1], 0x020012ab00000080);	/* with an error */
	/* A failure is one, too: by the driver, where the device is detached. */
	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
	CHECK_EQ(command(s, UIOPF_CONSUMER)[1], 0x000012ab00000080);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	close_vendor(s);
}

/* What each command does to the operation with token 0xab120000, whose page is there by now. */
static void a_resume_is_read_field_by_field(void)
{
	static const struct { uint64_t word0, word1; uint32_t result, unexpected; } cases[] = {
		{ 0x402, 0x000012ab00000000, UIOPF_ACCESS_OK, 0 },
		{ 0x402, 0x000012ab00000080, UIOPF_ACCESS_INVALID, 0 },
		{ 0xffffffffffff0402, 0x000012ab0000ff7f, UIOPF_ACCESS_OK, 0 },	/* what is reserved, or a user's id */
		{ 0x502, 0x000012ab00000000, UIOPF_ACCESS_PENDING, 0 },		/* another command */
		{ 0x403, 0x000012ab00000000, UIOPF_ACCESS_PENDING, 0 },
		{ 0x402, 0x000012ab01000000, UIOPF_ACCESS_PENDING, 0 },		/* no such token: bits 47:32 */
		{ 0x402, 0x000012ab00010000, UIOPF_ACCESS_PENDING, 0 },
		{ 0x402, 0x000013ab00000000, UIOPF_ACCESS_PENDING, 0 },		/* another function's */
		{ 0x402, 0x000212ab00000000, UIOPF_ACCESS_PENDING, 0 },		/* more than there are places */
		{ 0x402, 0x010012ab00000000, UIOPF_ACCESS_PENDING, 1 },		/* nothing waits there */
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_device(64, 0, 0);
		const int64_t ticket = access_pages(s, 9, 0x5123, IOMMU_PGFAULT_PERM_READ, 1);

		uiopf_model_endpoint_turn(s->iommu, s->ep);
		CHECK_EQ(uiopf_space_map(s->space, 9, 0x5000, IOMMU_PGFAULT_PERM_READ), 0);
		carry_out(s, cases[i].word0, cases[i].word1);
		CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), cases[i].result);
		CHECK_EQ(counts_of(s).unexpected, cases[i].unexpected);
		CHECK_EQ(counts_of(s).outstanding, cases[i].result == UIOPF_ACCESS_PENDING);
		close_vendor(s);
	}
}

/* Four places in the queue; ten entries. Those that have none are kept, and each round has another owner. */
static void entries_wait_until_there_is_room(void)
{
	struct scene *s = open_device(10, 0, 2);
	uint32_t i, n;

	for (i = 0; i < 20; i++)
		access_pages(s, 1, 0x1001 * i, IOMMU_PGFAULT_PERM_READ, 1);
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	CHECK_EQ(adapter->queue.written - adapter->queue.head, 4);
	CHECK_EQ(adapter->queue.waiting_count, 6);
	CHECK_EQ(counts_of(s).waiting, 10);
	CHECK_EQ(lost(s), 0);
	for (i = 0; i < 4; i++)
		CHECK_EQ(words(&adapter->queue, i)[7] >> 56, 0);
	CHECK_EQ(interrupt(s), 10);
	CHECK_EQ(adapter->queue.waiting_count, 0);
	CHECK_EQ(words(&adapter->queue, 0)[7] >> 56, 0);	/* entries 8 and 9: the third round */
	CHECK_EQ(words(&adapter->queue, 1)[7] >> 56, 0);
	CHECK_EQ(words(&adapter->queue, 2)[7] >> 56, 1);
	CHECK_EQ(words(&adapter->queue, 3)[7] >> 56, 1);
	for (n = 0; n < 2; n++) {
		CHECK_EQ(take(s), 10);
		for (i = 0; i < 10; i++) {
			CHECK_EQ(message[i].addr, 0x1001 * (10 * n + i));
			answer(s, message[i].cookie, 1);
		}
		settle(s);
	}
	CHECK_EQ(counts_of(s).invalid, 20);
	CHECK_EQ(model_counts_of(s).overflowed + model_counts_of(s).commands_lost, 0);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

/* Disabled, or without a driver for the function: an operation fails at once. What waited before goes on as ever. */
static void without_a_queue_operations_fail(void)
{
	struct scene *s = open_device(16, 0, 0);
	const int64_t before = access_pages(s, 1, 0x1000, IOMMU_PGFAULT_PERM_READ, 1);
	int64_t ticket[2];

	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_device_model_enable(s->iommu, 0), 0);
	ticket[0] = access_pages(s, 1, 0x2000, IOMMU_PGFAULT_PERM_READ, 3);
	settle(s);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket[0]), UIOPF_ACCESS_INVALID);
	CHECK_EQ(counts_of(s).iommu_answered, 3);
	CHECK_EQ(uiopf_endpoint_result(s->ep, before), UIOPF_ACCESS_PENDING);
	CHECK_EQ(uiopf_device_model_enable(s->iommu, 1), 0);
	uiopf_model_unbind(s->iommu, s->device);
	ticket[1] = access_pages(s, 1, 0x2000, IOMMU_PGFAULT_PERM_READ, 2);
	settle(s);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket[1]), UIOPF_ACCESS_INVALID);
	CHECK_EQ(counts_of(s).iommu_answered, 5);
	CHECK_EQ(uiopf_model_bind(s->iommu, s->ep, s->device), 0);
	ticket[1] = access_pages(s, 1, 0x2000, IOMMU_PGFAULT_PERM_READ, 2);
	settle(s);
	CHECK_EQ(answer_all(s, 1), 2);
	settle(s);
	CHECK_EQ(uiopf_endpoint_result(s->ep, before), UIOPF_ACCESS_INVALID);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket[1]), UIOPF_ACCESS_INVALID);
	CHECK_EQ(counts_of(s).outstanding + counts_of(s).unexpected, 0);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

/* Its functions have no PRI, and take the place of none that has; each has keys of its own, and an account. */
static void functions_are_told_apart_by_their_keys(void)
{
	struct scene *s = open_device(16, 0, 0);
	struct uiopf_port *port = uiopf_model_port(s->iommu);
	struct uiopf_endpoint *other = uiopf_endpoint_new_reporting(s->core, port, 0x201, 2, 4, 7);
	struct uiopf_device *device = uiopf_device_new(s->core, uiopf_model_iommu(s->iommu), ID + 1, 0x201, 64, 0);
	const struct uiopf_raw_request r = { .requester_id = RID, .pasid = 5, .flags = UIOPF_RAW_PASID, .message = 0x1005 };
	struct uiopf_account a = { .endpoint = other, .device = device };

	CHECK(other && device);
	CHECK(!uiopf_endpoint_new(s->core, port, 0x300, 16, 1));
	CHECK(!uiopf_endpoint_new_stalling(s->core, port, 0x300, 16, 1));
	CHECK(!uiopf_endpoint_new_reporting(s->core, port, 0x300, 513, 1, 0));
	CHECK(!uiopf_endpoint_new_reporting(s->core, port, 0x300, 16, 1, 0x10000));
	CHECK_EQ(uiopf_endpoint_read_pri(s->ep, 0), -ENOENT);
	CHECK_EQ(uiopf_endpoint_enable_pri(s->ep, 4), -EINVAL);
	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &r), -EPERM);
	CHECK_EQ(uiopf_model_bind(s->iommu, other, device), 0);
	CHECK_EQ(uiopf_attach(device, UIOPF_NO_PASID, s->q, 1), 0);
	access_pages(s, 1, 0x1000, IOMMU_PGFAULT_PERM_READ, 1);
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	CHECK(uiopf_endpoint_access(other, 0xfffff, 0x2000, IOMMU_PGFAULT_PERM_READ, 2) >= 0);
	CHECK_EQ(uiopf_endpoint_access(other, 1, 0x2000, IOMMU_PGFAULT_PERM_READ, 3), -ENOSPC);
	uiopf_model_endpoint_turn(s->iommu, other);
	is_entry(1, 0x0000000007000000, 0x0010000000000102, 0x0000000000ffff1f, 0x0000000000200000);	/* key 0x1fffff00 */
	CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
	CHECK_EQ(a.pending, 2);
	interrupt(s);
	CHECK_EQ(take(s), 3);
	CHECK_EQ(message[0].dev_id, ID);
	CHECK_EQ(message[1].dev_id, ID + 1);
	CHECK_EQ(message[2].dev_id, ID + 1);
	CHECK_EQ(message[2].pasid, 0xfffff);
	CHECK_EQ(message[2].length, 0x8000);
	answer(s, message[2].cookie, 1);
	settle(s);
	CHECK_EQ(counts_of(s).outstanding, 1);
	CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
	CHECK_EQ(a.answered, 2);
	CHECK_EQ(a.counts.outstanding, 0);
	CHECK_EQ(uiopf_detach(device, UIOPF_NO_PASID), 0);
	uiopf_model_unbind(s->iommu, device);
	uiopf_endpoint_free(other);
	uiopf_device_free(device);
	CHECK_EQ(answer_all(s, 0), 0);
	close_vendor(s);
}

/* A load of groups, through a small queue; SUCCESS without a page asks again, as often as it may. */
static void a_load_is_served(void)
{
	struct scene *s = open_device(48, 1, 3);
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 40, .group = 5 };
	static struct uiopf_access row[3000];
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
		answer_all(s, 0);
	}
	CHECK_EQ(counts_of(s).retried, 3000);
	CHECK_EQ(counts_of(s).unmapped, 3000);
	CHECK_EQ(counts_of(s).outstanding + counts_of(s).waiting + counts_of(s).unexpected, 0);
	CHECK_EQ(s->ep->pri->used, 0);
	close_vendor(s);
}

int main(void)
{
	a_fault_is_these_64_bytes();
	every_field_of_an_entry_is_read();
	a_resume_is_these_16_bytes();
	a_resume_is_read_field_by_field();
	entries_wait_until_there_is_room();
	without_a_queue_operations_fail();
	functions_are_told_apart_by_their_keys();
	a_load_is_served();
	return 0;
}
