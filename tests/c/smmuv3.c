/*
 * SMMUv3's queues to the bit, what it answers by itself, and its driver. The expected words are written out as numbers:
 * the library's own constants are what is being tested. Formats: IHI 0070, Linux 6.12's arm-smmu-v3.h.
 */
#include <errno.h>

#include "check.h"
#include "hardware/iommu/smmuv3.h"
#include "vendor.h"

static int software_command(struct scene *s, uint64_t word0, uint64_t word1)
{
	const uint64_t words[UIOPF_MODEL_COMMAND_WORDS] = { word0, word1 };

	return uiopf_model_command(s->iommu, words);
}

static struct uiopf_smmuv3 *smmu;	/* of the scene */

/* The generic layer has room for so many groups. */
static struct scene *open_scene(uint32_t allocation, uint32_t pool, uint32_t flags)
{
	struct scene *s = open_vendor_with(&uiopf_model_smmuv3, flags, allocation, pool);

	smmu = uiopf_smmuv3_of(s->iommu);
	return s;
}

static const uint64_t *command_at(const struct scene *s, enum uiopf_side side, uint32_t place)
{
	return words(&s->iommu->commands[side].queue, place);
}

/* The request whose entry has these words, by its message. */
static void request(struct scene *s, uint64_t word0, uint64_t word1)
{
	const struct uiopf_page_request r = {
		.requester_id = word0 & 0xffff,
		.pasid = word0 >> 32 & 0xfffff,
		.has_pasid = word0 >> 63,
		.execute = word0 >> 59 & 1,
		.privileged = word0 >> 58 & 1,
		.message = (word1 & ~0xfffull) | (word1 & 0x1ff) << 3 | (word0 >> 60 & 7),
	};

	s->iommu->ops->request(s->iommu, r);
}

/* The same, and it is written. */
static void written(struct scene *s, uint64_t word0, uint64_t word1)
{
	const uint32_t place = smmu->prq.written;

	request(s, word0, word1);
	CHECK_EQ(smmu->prq.written, place + 1);
	CHECK_EQ(words(&smmu->prq, place)[0], word0);
	CHECK_EQ(words(&smmu->prq, place)[1], word1);
}

/* ---- entries and commands ---- */

#define LAST_READ 0xd000000000000000	/* SSV, last, read */

static void a_request_is_these_16_bytes(void)
{
	struct scene *s = open_scene(64, 256, 0);

	/* PASID 0xfedcb, group index 0, two pages, write and read; then an instruction fetch: read, execute. */
	uiopf_endpoint_access(s->ep, 0xfedcb, 0x7fffdeadb000, IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE, 2);
	uiopf_endpoint_access(s->ep, 1, 0x1000, IOMMU_PGFAULT_PERM_EXEC, 1);
	CHECK_EQ(uiopf_model_endpoint_turn(s->iommu, s->ep), 2);
	CHECK_EQ(uiopf_smmuv3_priq_prod(smmu), 3);
	CHECK_EQ(words(&smmu->prq, 0)[0], 0xb00fedcb0000ab12);
	CHECK_EQ(words(&smmu->prq, 0)[1], 0x00007fffdeadb000);
	CHECK_EQ(words(&smmu->prq, 1)[0], 0xf00fedcb0000ab12);
	CHECK_EQ(words(&smmu->prq, 1)[1], 0x00007fffdeadc000);
	CHECK_EQ(words(&smmu->prq, 2)[0], 0xd80000010000ab12);
	CHECK_EQ(words(&smmu->prq, 2)[1], 0x0000000000001001);	/* index 1 */
	CHECK_EQ(interrupt(s), 3);
	CHECK_EQ(uiopf_smmuv3_priq_cons(smmu), 3);
	CHECK_EQ(take(s), 3);
	CHECK_EQ(message[0].addr, 0x7fffdeadb000);
	CHECK_EQ(message[0].flags, 1);		/* PASID valid */
	CHECK_EQ(message[1].flags, 1 | 2);
	CHECK_EQ(message[1].perm, 3);
	CHECK_EQ(message[1].pasid, 0xfedcb);
	CHECK_EQ(message[1].dev_id, ID);
	CHECK_EQ(message[2].grpid, 1);
	CHECK_EQ(message[2].perm, 1 | 4);
	close_vendor(s);
}

/* Each field at its smallest, at its largest and one bit at a time, written by the hardware and read by the driver. */
static void every_field_is_written_and_read(void)
{
	static const struct {
		uint64_t word0, word1;
		uint32_t pasid, grpid, perm, flags;
		uint64_t addr;
	} cases[] = {
		{ 0x5000000000000000, 0, 0, 0, 1, 2, 0 },			/* without a SubstreamID */
		{ 0x4000000000000000, 0, 0, 0, 0, 2, 0 },			/* … nothing is asked for: no stop marker */
		{ 0xd000000000000000, 0, 0, 0, 1, 3, 0 },			/* read */
		{ 0xe000000000000000, 0, 0, 0, 2, 3, 0 },			/* write */
		{ 0xf000000000000000, 0, 0, 0, 3, 3, 0 },
		{ 0xd800000000000000, 0, 0, 0, 5, 3, 0 },			/* execute */
		{ 0xd400000000000000, 0, 0, 0, 9, 3, 0 },			/* privileged */
		{ 0xfc00000000000000, 0, 0, 0, 15, 3, 0 },
		{ 0xc800000000000000, 0, 0, 0, 4, 3, 0 },			/* execute alone: no stop marker */
		{ 0xd000000100000000, 0, 1, 0, 1, 3, 0 },
		{ 0xd008000000000000, 0, 0x80000, 0, 1, 3, 0 },
		{ 0xd00fffff00000000, 0, 0xfffff, 0, 1, 3, 0 },
		{ 0xd000000000000000, 0x1, 0, 1, 1, 3, 0 },
		{ 0xd000000000000000, 0x100, 0, 256, 1, 3, 0 },
		{ 0xd000000000000000, 0x1ff, 0, 511, 1, 3, 0 },
		{ 0xd000000000000000, 0x1000, 0, 0, 1, 3, 0x1000 },
		{ 0xd000000000000000, 0x8000000000000000, 0, 0, 1, 3, 0x8000000000000000 },
		{ 0xd000000000000000, 0xfffffffffffff000, 0, 0, 1, 3, 0xfffffffffffff000 },
		{ 0xfc0fffff00000000, 0xfffffffffffff1ff, 0xfffff, 511, 15, 3, 0xfffffffffffff000 },
	};
	struct scene *s = open_scene(0, 256, 0);
	uint32_t i, bit;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		written(s, cases[i].word0 | RID, cases[i].word1);
		CHECK_EQ(interrupt(s), 1);
		CHECK_EQ(take(s), 1);
		CHECK_EQ(message[0].pasid, cases[i].pasid);
		CHECK_EQ(message[0].grpid, cases[i].grpid);
		CHECK_EQ(message[0].perm, cases[i].perm);
		CHECK_EQ(message[0].flags, cases[i].flags);
		CHECK_EQ(message[0].addr, cases[i].addr);
		answer(s, message[0].cookie, 0);
	}
	for (bit = 0; bit < 20; bit++) {	/* SubstreamID 51:32, address 63:12, index 8:0 */
		const uint64_t address = 1ull << (bit + 12) | 1ull << (bit + 44), index = 1u << bit % 9;

		written(s, LAST_READ | RID | 1ull << (32 + bit), address | index);
		interrupt(s);
		CHECK_EQ(take(s), 1);
		CHECK_EQ(message[0].pasid, 1u << bit);
		CHECK_EQ(message[0].addr, address);
		CHECK_EQ(message[0].grpid, index);
		answer(s, message[0].cookie, 0);
	}
	for (bit = 0; bit < 16; bit++) {	/* StreamID: each is another function, that nobody knows */
		written(s, LAST_READ | 1u << bit, 0);
		CHECK_EQ(interrupt(s), 1);
		CHECK_EQ(command_at(s, UIOPF_PRODUCER, bit)[0], 0x0000000000000841 | 1ull << (32 + bit));
		CHECK_EQ(command_at(s, UIOPF_PRODUCER, bit)[1], 0x1000);	/* invalid */
		CHECK_EQ(take(s), 0);
	}
	CHECK_EQ(model_counts_of(s).strangers, 16);
	/* A group whose requests are not the last, to the end. */
	written(s, 0x9000000500000000 | RID, 0x1000);
	written(s, 0xa000000500000000 | RID, 0x2000);
	CHECK_EQ(interrupt(s), 2);
	CHECK_EQ(take(s), 0);
	written(s, 0xd000000500000000 | RID, 0x3000);
	interrupt(s);
	CHECK_EQ(take(s), 3);
	CHECK_EQ(message[0].perm, 1);
	CHECK_EQ(message[1].perm, 2);
	close_vendor(s);
}

/* The driver writes it, for each of Linux's codes; and the hardware reads each field of it. */
static void a_response_is_these_16_bytes(void)
{
	static const struct { uint64_t word0, word1; uint32_t code; uint64_t expected0, expected1; } cases[] = {
		{ 0xd00fedcb00000000, 0x1ff, 0, 0x0000ab12fedcb841, 0x21ff },	/* success is 2 */
		{ 0xd000000100000000, 0x1, 1, 0x0000ab1200001841, 0x1001 },	/* invalid is 1 */
		{ 0xd008000000000000, 0x123456789100, 0, 0x0000ab1280000841, 0x2100 },
		{ 0x5000000000000000, 0x10, 0, 0x0000ab1200000041, 0x2010 },	/* no SubstreamID */
		{ 0xd000000000000000, 0x0, 0, 0x0000ab1200000841, 0x2000 },	/* SubstreamID 0 */
	};
	struct scene *s = open_scene(0, 256, 0);
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		written(s, cases[i].word0 | RID, cases[i].word1);
		interrupt(s);
		CHECK_EQ(take(s), 1);
		answer(s, message[0].cookie, cases[i].code);
		CHECK_EQ(s->iommu->commands[UIOPF_CONSUMER].queue.tail, i + 1);
		CHECK_EQ(command_at(s, UIOPF_CONSUMER, i)[0], cases[i].expected0);
		CHECK_EQ(command_at(s, UIOPF_CONSUMER, i)[1], cases[i].expected1);
	}
	close_vendor(s);
	/* A failure is 0: one request more than the pool holds. */
	s = open_scene(0, 256, 0);
	for (i = 0; i < 257; i++)
		written(s, LAST_READ | 3ull << 32 | RID, i);
	interrupt(s);
	CHECK_EQ(command_at(s, UIOPF_PRODUCER, 0)[0], 0x0000ab1200003841);
	CHECK_EQ(command_at(s, UIOPF_PRODUCER, 0)[1], 256);
	close_vendor(s);
}

/* Whatever stands in the command queue: which answer of which code comes to the function, if one does. */
static void a_command_is_read_field_by_field(void)
{
	static const struct { uint64_t word0, word1; int index, code; } cases[] = {
		{ 0x0000ab1200000041, 0x2000, 0, 0 },
		{ 0x0000ab1200000041, 0x1000, 0, 1 },
		{ 0x0000ab1200000841, 0x2001, 1, 0 },
		{ 0x0000ab12fffff841, 0x2100, 256, 0 },
		{ 0x0000ab1200000041, 0x21ff, 511, 0 },
		{ 0x0000ab1200000041, 0xffffffffffffee00, 0, 0 },	/* what is reserved is not looked at */
		{ 0x0000ab12fffff041, 0x2007, 7, 0 },
		{ 0x0000ab1200001044, 0x2000, -1, 0 },		/* CMD_RESUME, to one with PRI: nothing of it stalls */
		{ 0x0000ab1200000045, 0x2000, -1, 0 },		/* CMD_STALL_TERM, in the same way */
		{ 0x0000ab1200000046, 0, -1, 0 },		/* CMD_SYNC */
		{ 0x0000ab1200000040, 0x2000, -1, 0 },		/* CMD_ATC_INV */
		{ 0x0001ab1200000041, 0x2000, -1, 0 },		/* a StreamID that no function has */
		{ 0x8000ab1200000041, 0x2000, -1, 0 },
		{ 0x0000ab1300000041, 0x2000, -1, 0 },
		{ 0x0000ab1200000041, 0x0000, 0, 0xf },		/* last: after a failure nothing is listened to */
	};
	struct scene *s = open_scene(64, 256, 0);
	struct uiopf_prg_answer got[4];
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct uiopf_records *q = &s->iommu->commands[i % 2].queue;
		uint64_t *d = uiopf_records_place(q, 2);
		uint32_t n;

		d[0] = cases[i].word0;
		d[1] = cases[i].word1;
		uiopf_records_put(q);
		uiopf_records_show(q);
		s->iommu->ops->execute(s->iommu);
		CHECK_EQ(q->head, q->tail);
		n = uiopf_endpoint_take_raw_answers(s->ep, got, 4);
		CHECK_EQ(n, cases[i].index >= 0);
		if (n) {
			CHECK_EQ(got[0].index, cases[i].index);
			CHECK_EQ(got[0].code, cases[i].code);
		}
	}
	CHECK_EQ(counts_of(s).pri_status, 0x103);	/* stopped, an unexpected answer, a failure */
	close_vendor(s);
}

static struct uiopf_raw_request raw(uint64_t message, bool pasid)
{
	return (struct uiopf_raw_request){
		.requester_id = RID, .pasid = pasid ? 5 : 0, .flags = pasid ? UIOPF_RAW_PASID : 0, .message = message,
	};
}

static void send_message(struct scene *s, uint64_t message, bool pasid)
{
	const struct uiopf_raw_request r = raw(message, pasid);

	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &r), 0);
}

/* ---- illegal commands ---- */

/* Whether the hardware carries it out; and the driver has it go on, if it does not. */
static bool is_carried_out(struct scene *s, uint64_t word0, uint64_t word1)
{
	const uint64_t cons = read_register(s, 0x9c), gerror = read_register(s, 0x60), n = model_counts_of(s).illegal;
	bool legal;

	CHECK_EQ(cons >> 24, 0);
	CHECK_EQ(gerror, read_register(s, 0x64));
	CHECK_EQ(software_command(s, word0, word1), 0);
	CHECK_EQ(read_register(s, 0x98), cons + 1);
	s->iommu->ops->execute(s->iommu);
	legal = read_register(s, 0x9c) == cons + 1;
	CHECK_EQ(model_counts_of(s).illegal, n + !legal);
	CHECK_EQ(read_register(s, 0x60), gerror ^ !legal);	/* CMDQ_ERR is bit 0 */
	CHECK_EQ(read_register(s, 0x64), gerror);
	if (!legal) {
		CHECK_EQ(read_register(s, 0x9c), cons | 0x1000000);	/* CERROR_ILL, at the one that is illegal */
		s->iommu->ops->execute(s->iommu);
		CHECK_EQ(read_register(s, 0x9c), cons | 0x1000000);
		CHECK_EQ(interrupt(s), 1);
		CHECK_EQ(words(&s->iommu->commands[UIOPF_PRODUCER].queue, (uint32_t)cons)[0], 0x46);
		CHECK_EQ(read_register(s, 0x64), gerror ^ 1);
		s->iommu->ops->execute(s->iommu);
		CHECK_EQ(read_register(s, 0x9c), cons + 1);
	}
	return legal;
}

static void each_opcode_is_legal_or_stops_the_queue(void)
{
	static const uint8_t legal[] = {
		0x01, 0x02,						/* prefetch */
		0x03, 0x04, 0x05, 0x06,					/* configuration; 0x07 needs MPAM */
		0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x22, 0x23, 0x28, 0x2a, 0x30,	/* TLB; EL3's and Secure are not for us */
		0x40, 0x41, 0x44, 0x45, 0x46,
	};
	static const struct { uint64_t word0, word1; bool legal; } cases[] = {
		{ 0x0000ab1200000403, 0, false },	/* SSec */
		{ 0x0000ab1200000401, 0, false },
		{ 0x0000ab1200000402, 0, false },
		{ 0x0000ab1200000404, 0, false },
		{ 0x0000ab1200000405, 0, false },
		{ 0x0000ab1200000406, 0, false },
		{ 0x0000ab1200001444, 0, false },
		{ 0x0001ab1200000445, 0, false },	/* whoever it is for */
		{ 0x0000ab1200000445, 0, false },
		{ 0xffffffff00000003, 1, true },	/* a StreamID that no function has */
		{ 0x0000000000000004, 31, true },	/* CMD_CFGI_ALL */
		{ 0x0000ab12fedcb005, 1, true },	/* one context descriptor */
		{ 0x0005000100000012, 0x7fffdeadb001, true },	/* ASID 5, VMID 1, leaf */
		{ 0x0000ab12fedcb840, 0x7fffdeadb000, true },	/* CMD_ATC_INV of a page */
		{ 0x0000ab1200000040, 0x34, true },	/* … of all: 52 */
		{ 0x0000ab1200000040, 0x35, false },
		{ 0x0000ab1200000040, 0x3f, false },
		{ 0x0000ab1200000041, 0x3000, false },	/* the response 3 */
		{ 0xffffab1200000041, 0x3000, false },
		{ 0x0000000000001046, 0, true },	/* CMD_SYNC with an interrupt */
		{ 0x0000000000002046, 0, true },
		{ 0x0000000000003046, 0, false },
	};
	struct scene *s = open_scene(64, 256, 0);
	uint32_t opcode, i, found = 0;

	CHECK_EQ(read_register(s, 0), 0x5160b);	/* S2P 0, S1P 1, TTF 3:2, Hyp 9, ATS 10, ASID16 12, PRI 16, VMID16 18 */
	CHECK_EQ(read_register(s, 0xc), 0x400);		/* RIL */
	for (opcode = 0; opcode < 256; opcode++) {
		const bool is = found < sizeof legal && legal[found] == opcode;

		CHECK_EQ(is_carried_out(s, opcode, 0), is);
		found += is;
	}
	CHECK_EQ(found, sizeof legal);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (is_carried_out(s, cases[i].word0, cases[i].word1) != cases[i].legal) {
			fprintf(stderr, "command %d\n", (int)i);
			abort();
		}
	/* Of what was for it, only the response to index 0, of code 0, which is a failure. */
	CHECK_EQ(counts_of(s).unexpected, 0);
	CHECK_EQ(software_command(s, 0x0000ab1200000041, 0), 0);
	s->iommu->ops->execute(s->iommu);
	CHECK_EQ(counts_of(s).pri_status, 0x101);
	close_vendor(s);
}

/* What stands behind it, on either side, waits; what stands before it does not. */
static void commands_behind_an_illegal_one_wait(void)
{
	struct scene *s = open_scene(64, 256, 0);
	uint32_t i, k;

	for (i = 0; i < 3; i++)
		uiopf_endpoint_access(s->ep, 1, 0x1000 * i, IOMMU_PGFAULT_PERM_READ, 1);
	uiopf_core_produce(s->core);
	CHECK_EQ(take(s), 3);
	CHECK_EQ(software_command(s, 0x0000ab1200000841, 0x1000), 0);	/* index 0: invalid */
	CHECK_EQ(software_command(s, 0xff, 0), 0);
	CHECK_EQ(software_command(s, 0x0000ab1200000841, 0x1001), 0);	/* index 1 */
	CHECK_EQ(software_command(s, 0x08, 0), 0);
	answer(s, message[2].cookie, 1);
	uiopf_model_hold_interrupt(s->iommu, 1);
	for (i = 0; i < 4; i++)
		uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).invalid, 1);
	CHECK_EQ(read_register(s, 0x9c), 0x1000001);
	CHECK_EQ(read_register(s, 0x98), 5);
	/* Software that acknowledges and repairs nothing: it is fetched again. */
	CHECK_EQ(uiopf_model_write_register(s->iommu, 0x64, 1), 0);
	CHECK_EQ(read_register(s, 0x9c), 1);
	uiopf_core_produce(s->core);
	CHECK_EQ(read_register(s, 0x60), 0);		/* active again */
	CHECK_EQ(read_register(s, 0x64), 1);
	CHECK_EQ(read_register(s, 0x9c), 0x1000001);
	CHECK_EQ(model_counts_of(s).illegal, 2);
	uiopf_model_hold_interrupt(s->iommu, 0);
	uiopf_core_produce(s->core);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).invalid, 2);
	CHECK_EQ(model_counts_of(s).illegal, 3);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).invalid, 3);
	CHECK_EQ(read_register(s, 0x9c), 5);
	answer(s, message[0].cookie, 0);	/* too late: nothing waits for it */
	answer(s, message[1].cookie, 0);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).unexpected, 2);
	CHECK_EQ(lost(s), 0);
	/* A drain comes to the end of the queue, past what is illegal; and a full queue is no different. */
	for (k = 0; k < 3; k++) {
		uiopf_model_hold_interrupt(s->iommu, 1);
		for (i = 0; i < 3000; i++)
			CHECK_EQ(software_command(s, i % 100 ? 0x46 : 0xff, 0), 0);
		CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
		CHECK_EQ(read_register(s, 0x9c), read_register(s, 0x98));
		CHECK_EQ(model_counts_of(s).illegal, 3 + 30 * (k + 1));
		CHECK_EQ(model_counts_of(s).commands_lost, 0);
		CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
		uiopf_model_hold_interrupt(s->iommu, 0);
	}
	close_vendor(s);
}

static void registers_say_what_is_in_the_queues(void)
{
	struct scene *s = open_scene(64, 256, 0);
	uint64_t value;

	CHECK_EQ(read_register(s, 0x20), 0xf);
	CHECK_EQ(uiopf_model_write_register(s->iommu, 0x20, 0), 0);
	CHECK_EQ(read_register(s, 0x20), 0xd);
	send_message(s, 0x1005, true);			/* PRIQEN is 0 */
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).pri_status, 0x101);
	uiopf_endpoint_disable_pri(s->ep);
	CHECK_EQ(uiopf_endpoint_enable_pri(s->ep, 64), 0);
	CHECK_EQ(uiopf_model_write_register(s->iommu, 0x20, ~0ull), 0);
	CHECK_EQ(read_register(s, 0x20), 0xf);
	send_message(s, 0x1005, true);
	CHECK_EQ(read_register(s, 0x100c8), 1);
	CHECK_EQ(read_register(s, 0x100cc), 0);
	CHECK_EQ(read_register(s, 0x100a8), 0);
	CHECK_EQ(read_register(s, 0x100ac), 0);
	interrupt(s);
	CHECK_EQ(read_register(s, 0x100cc), 1);
	CHECK_EQ(answer_all(s, 0), 1);
	uiopf_core_produce(s->core);
	/* PRIQ_ABT_ERR is bit 3 of GERROR. What is read only stays, and what is not active is not made so. */
	CHECK_EQ(uiopf_smmuv3_abort_priq(s->iommu, 0), 0);
	send_message(s, 0x2005, true);
	CHECK_EQ(read_register(s, 0x60), 8);
	CHECK_EQ(uiopf_model_write_register(s->iommu, 0x60, 0), 0);
	CHECK_EQ(uiopf_model_write_register(s->iommu, 0x64, 1), 0);
	CHECK_EQ(read_register(s, 0x60), 8);
	CHECK_EQ(read_register(s, 0x64), 0);
	CHECK_EQ(uiopf_model_write_register(s->iommu, 0x64, 8), 0);
	CHECK_EQ(read_register(s, 0x64), 8);
	send_message(s, 0x3005 | 1 << 3, true);
	CHECK_EQ(read_register(s, 0x100c8), 2);	/* … and requests are written again */
	interrupt(s);
	CHECK_EQ(answer_all(s, 0), 1);
	CHECK_EQ(uiopf_model_read_register(s->iommu, 0x4, &value), -EINVAL);
	CHECK_EQ(uiopf_model_write_register(s->iommu, 0x100d0, 0), -EINVAL);
	close_vendor(s);
}

/* ---- the driver ---- */

static void what_a_driver_refuses(void)
{
	static const struct { const char *name; uint64_t word0; int answered, reported, code; bool denies, unbound; } cases[] = {
		{ "an ordinary one", LAST_READ, 0, 1, 0, false, false },
		{ "no PASID", 0x5000000000000000, 0, 1, 0, false, false },
		{ "privileged", 0xd400000000000000, 0, 1, 0, false, false },
		{ "a stop marker", 0xc000000500000000, 0, 0, 0, false, false },
		{ "unbound", LAST_READ, 1, 0, 1, false, true },
		{ "unbound, not last", 0x9000000000000000, 0, 0, 0, false, true },
		{ "unbound, a stop marker", 0xc000000500000000, 0, 0, 0, false, true },
		{ "denied", LAST_READ, 1, 0, 0, true, false },
		{ "denied, not last", 0x9000000000000000, 0, 0, 0, true, false },
		{ "denied, as Linux does, a stop marker", 0xc000000500000000, 1, 0, 0, true, false },
		{ "denied, unbound", LAST_READ, 1, 0, 0, true, true },
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_scene(0, 256, cases[i].denies ? 4 : 0);
		struct uiopf_records *q = &s->iommu->commands[UIOPF_PRODUCER].queue;

		if (cases[i].unbound)
			uiopf_model_unbind(s->iommu, s->device);
		written(s, cases[i].word0 | RID, 0x1000);
		CHECK_EQ(interrupt(s), 1);
		if ((int)q->tail != cases[i].answered || take(s) != cases[i].reported) {
			fprintf(stderr, "%s\n", cases[i].name);
			abort();
		}
		if (cases[i].answered)
			CHECK_EQ(words(q, 0)[1] >> 12, cases[i].code);
		close_vendor(s);
	}
}

/* ---- what the SMMU answers by itself ---- */

static void fill(struct scene *s, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		written(s, 0x9000000500000000 | (RID + 1), 0x1000);	/* a stranger's, which come to nothing */
}

static void expect_answers(struct scene *s, const struct uiopf_prg_answer *expected, uint32_t n)
{
	struct uiopf_prg_answer got[16];
	uint32_t i;

	CHECK_EQ(uiopf_endpoint_take_raw_answers(s->ep, got, 16), n);
	for (i = 0; i < n; i++) {
		CHECK_EQ(got[i].index, expected[i].index);
		CHECK_EQ(got[i].code, expected[i].code);
	}
}

static void an_overflow_is_answered_with_success(void)
{
	struct scene *s = open_scene(64, 2048, 0);
	struct uiopf_device_counts device;

	send_message(s, 0x1001 | 7 << 3, true);	/* of a group whose last will not be written */
	send_message(s, 0x1001 | 9 << 3, true);	/* … and of one whose last comes after all */
	fill(s, 2046);
	CHECK_EQ(uiopf_smmuv3_priq_prod(smmu), 2048);	/* full: the wrap bit */
	CHECK_EQ(uiopf_smmuv3_priq_cons(smmu), 0);
	send_message(s, 0x2001 | 7 << 3, true);
	CHECK_EQ(uiopf_smmuv3_priq_prod(smmu), 0x80000800);	/* OVFLG */
	send_message(s, 0x3005 | 7 << 3, true);
	send_message(s, 0x1006 | 8 << 3, false);
	send_message(s, 0x4, true);				/* a stop marker */
	request(s, LAST_READ | (RID + 1), 0);		/* a stranger's */
	CHECK_EQ(uiopf_smmuv3_priq_prod(smmu), 0x80000800);
	expect_answers(s, NULL, 0);			/* they are on their way */
	CHECK_EQ(counts_of(s).iommu_answered, 3);
	CHECK_EQ(lost(s), 0);
	/* Room alone changes nothing: nothing is written before the driver has said that it knows. */
	smmu->prq.head = 100;
	send_message(s, 0x1005 | 6 << 3, true);
	CHECK_EQ(uiopf_smmuv3_priq_prod(smmu), 0x80000800);
	smmu->prq.head = 0;

	CHECK_EQ(interrupt(s), 2048);
	CHECK_EQ(uiopf_smmuv3_priq_cons(smmu), 0x80000800);
	uiopf_device_get_counts(s->device, &device);
	CHECK_EQ(device.dropped, 2);
	CHECK_EQ(device.passed_over, 2);		/* nobody answers these; their groups have their answers */
	CHECK_EQ(lost(s), 0);
	uiopf_core_produce(s->core);
	expect_answers(s, (const struct uiopf_prg_answer[]){ { 7, 0 }, { 8, 0 }, { 6, 0 } }, 3);
	CHECK_EQ(counts_of(s).outstanding, 1);
	send_message(s, 0x2005 | 9 << 3, true);
	uiopf_core_produce(s->core);
	CHECK_EQ(answer_all(s, IOMMUFD_PAGE_RESP_INVALID), 1);
	uiopf_core_produce(s->core);
	expect_answers(s, (const struct uiopf_prg_answer[]){ { 9, 1 } }, 1);
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(counts_of(s).pri_status, 0);
	CHECK_EQ(model_counts_of(s).overflowed, 0);
	CHECK_EQ(lost(s), 0);

	/* The next overflow is the flag's change back. */
	fill(s, 2048);
	CHECK_EQ(uiopf_smmuv3_priq_prod(smmu) >> 31, 1);
	send_message(s, 0x1005 | 5 << 3, true);
	CHECK_EQ(uiopf_smmuv3_priq_prod(smmu) >> 31, 0);
	CHECK_EQ(uiopf_smmuv3_priq_cons(smmu) >> 31, 1);
	interrupt(s);
	CHECK_EQ(uiopf_smmuv3_priq_cons(smmu) >> 31, 0);
	uiopf_core_produce(s->core);
	expect_answers(s, (const struct uiopf_prg_answer[]){ { 5, 0 } }, 1);
	close_vendor(s);
}

/* While it is off, and after an abort, every request is answered with a failure; the first one stops the function. */
static void a_queue_that_takes_nothing_answers_failure(void)
{
	static const struct uiopf_prg_answer failures[] = { { 3, 0xf }, { 3, 0xf } };
	struct scene *s = open_scene(64, 256, 0);
	uint32_t round;

	for (round = 0; round < 3; round++) {
		if (round == 0)
			CHECK_EQ(uiopf_smmuv3_enable_priq(s->iommu, 0), 0);
		else
			CHECK_EQ(uiopf_smmuv3_abort_priq(s->iommu, 1), 0);
		send_message(s, 0x1001 | 3 << 3, true);
		if (round == 2)
			interrupt(s);			/* GERROR is acknowledged: the next one is written */
		send_message(s, 0x2005 | 3 << 3, round != 1);
		send_message(s, 0x4, true);
		CHECK_EQ(counts_of(s).iommu_answered, 2 * (round + 1) - (round == 2));
		CHECK_EQ(smmu->prq.written - smmu->prq.head, round == 2 ? 2 : 0);
		CHECK_EQ(lost(s), 0);
		uiopf_core_produce(s->core);
		expect_answers(s, failures, round == 2 ? 1 : 2);
		CHECK_EQ(counts_of(s).outstanding, 0);
		CHECK_EQ(counts_of(s).failed, 2 * (round + 1));
		CHECK_EQ(counts_of(s).pri_status, 0x101);
		CHECK_EQ(lost(s), 0);
		CHECK_EQ(answer_all(s, 0), round == 2);	/* what was written is reported; the answer is ignored */
		uiopf_core_produce(s->core);
		uiopf_endpoint_disable_pri(s->ep);
		CHECK_EQ(uiopf_endpoint_reset_pri(s->ep), 0);
		CHECK_EQ(uiopf_endpoint_enable_pri(s->ep, 64), 0);
		uiopf_endpoint_take_raw_answers(s->ep, (struct uiopf_prg_answer[16]){ { 0, 0 } }, 16);
		CHECK_EQ(uiopf_smmuv3_enable_priq(s->iommu, 1), 0);
	}
	CHECK_EQ(model_counts_of(s).overflowed, 0);
	close_vendor(s);
}

static void an_asynchronous_abort_loses_one_request(void)
{
	struct scene *s = open_scene(64, 256, 0), *other;
	struct uiopf_model *vtd = uiopf_model_new(s->core, &uiopf_model_vtd, 0);

	CHECK_EQ(uiopf_smmuv3_abort_priq(s->iommu, 0), 0);
	send_message(s, 0x1005 | 3 << 3, true);
	CHECK_EQ(lost(s), 1);
	CHECK_EQ(model_counts_of(s).overflowed, 1);
	send_message(s, 0x1005 | 4 << 3, true);	/* PRIQ_ABT_ERR is active */
	uiopf_core_produce(s->core);
	expect_answers(s, (const struct uiopf_prg_answer[]){ { 4, 0xf } }, 1);
	CHECK_EQ(counts_of(s).outstanding, 1);	/* for good: a reset makes the function forget it */
	uiopf_endpoint_reset(s->ep);
	CHECK_EQ(counts_of(s).cleared, 1);
	CHECK_EQ(lost(s), 1);
	CHECK(vtd);
	CHECK_EQ(uiopf_smmuv3_abort_priq(vtd, 0), -EOPNOTSUPP);
	CHECK_EQ(uiopf_smmuv3_enable_priq(vtd, 0), -EOPNOTSUPP);
	uiopf_model_free(vtd);
	close_vendor(s);
	other = open_scene(64, 256, 0);
	CHECK_EQ(lost(other), 0);
	close_vendor(other);
}

/* A load against a driver that comes too late each time: no credit is lost, and nothing that was sent. */
static void a_load_goes_through_overflows(void)
{
	struct scene *s = open_scene(CAPACITY, CAPACITY, 0);
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 512, .group = 7 };
	static struct uiopf_access row[20000];
	uint32_t i, overflows = 0, flag = 0;

	for (i = 0; i < 20000; i++)
		row[i] = (struct uiopf_access){ .address = 4096ull * i, .pasid = 3, .access = 1 };
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, 20000), 0);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	for (i = 0; !uiopf_endpoint_passes(s->ep); i++) {
		CHECK(i < 10000);
		s->iommu->ops->endpoint_turn(s->iommu, s->ep);
		s->iommu->ops->endpoint_turn(s->iommu, s->ep);
		overflows += uiopf_smmuv3_priq_prod(smmu) >> 31 != flag;
		flag = uiopf_smmuv3_priq_prod(smmu) >> 31;
		CHECK_EQ(lost(s), 0);
		interrupt(s);
		CHECK_EQ(lost(s), 0);
		answer_all(s, IOMMUFD_PAGE_RESP_INVALID);
		uiopf_core_produce(s->core);
		CHECK_EQ(lost(s), 0);
	}
	CHECK(overflows > 3);
	CHECK_EQ(counts_of(s).sent, 20000);
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(s->ep->pri->used, 0);
	CHECK_EQ(counts_of(s).unexpected, 0);
	CHECK(counts_of(s).iommu_answered > 1000);
	CHECK_EQ(counts_of(s).invalid + counts_of(s).unmapped, 20000);
	close_vendor(s);
}

/* ---- functions whose transactions stall ---- */

#define STALLS 4u

/* Puts a function that stalls in the place of the scene's. */
static struct scene *open_stalling(uint32_t stalls, uint32_t stage)
{
	struct scene *s = open_scene(0, 2048, 0);

	uiopf_model_unbind(s->iommu, s->device);
	uiopf_endpoint_free(s->ep);
	s->ep = uiopf_endpoint_new_stalling(s->core, uiopf_model_port(s->iommu), RID, stalls, stage);
	CHECK(s->ep);
	uiopf_endpoint_set_tables(s->ep, s->space);
	CHECK_EQ(uiopf_model_bind(s->iommu, s->ep, s->device), 0);
	return s;
}

static int64_t access_page(struct scene *s, uint64_t address, uint32_t perm)
{
	const int64_t ticket = uiopf_endpoint_access(s->ep, 0xfedcb, address, perm, 1);

	CHECK(ticket >= 0);
	return ticket;
}

static void a_stall_is_these_32_bytes(void)
{
	struct scene *s = open_stalling(16, 1);
	uint32_t i;

	access_page(s, 0x7fffdeadbeef, IOMMU_PGFAULT_PERM_READ);
	access_page(s, 0xffffffffffffffff, IOMMU_PGFAULT_PERM_WRITE);
	access_page(s, 0x1, IOMMU_PGFAULT_PERM_EXEC);
	access_page(s, 0x8000000000000000, IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE);
	access_page(s, 0x2000, IOMMU_PGFAULT_PERM_WRITE | IOMMU_PGFAULT_PERM_PRIV);
	CHECK_EQ(uiopf_model_endpoint_turn(s->iommu, s->ep), 5);
	CHECK_EQ(smmu->prq.written, 0);
	CHECK_EQ(smmu->evtq.tail, 5);
	for (i = 0; i < 5; i++) {
		CHECK_EQ(words(&smmu->evtq, i)[0], 0x0000ab12fedcb810);	/* F_TRANSLATION, SSV, PASID, StreamID */
		CHECK_EQ(words(&smmu->evtq, i)[3], 0);
	}
	CHECK_EQ(words(&smmu->evtq, 0)[1], 0x0000020880000000);	/* tag 0, stall, read, class: the address that came in */
	CHECK_EQ(words(&smmu->evtq, 1)[1], 0x0000020080000001);	/* tag 1, write */
	CHECK_EQ(words(&smmu->evtq, 2)[1], 0x0000020c80000002);	/* an instruction */
	CHECK_EQ(words(&smmu->evtq, 3)[1], 0x0000020080000003);	/* what is both writes */
	CHECK_EQ(words(&smmu->evtq, 4)[1], 0x0000020280000004);	/* privileged */
	CHECK_EQ(words(&smmu->evtq, 0)[2], 0x00007fffdeadbeef);
	CHECK_EQ(words(&smmu->evtq, 1)[2], 0xffffffffffffffff);
	CHECK_EQ(words(&smmu->evtq, 2)[2], 0x0000000000000001);
	CHECK_EQ(interrupt(s), 5);
	CHECK_EQ(take(s), 5);
	for (i = 0; i < 5; i++) {
		static const uint32_t perm[] = { 1, 2, 5, 2, 2 | 8 };
		static const uint64_t addr[] = { 0x7fffdeadbeef, 0xffffffffffffffff, 0x1, 0x8000000000000000, 0x2000 };

		CHECK_EQ(message[i].flags, 1 | 2);	/* PASID valid, and last: a stall is a group of one */
		CHECK_EQ(message[i].pasid, 0xfedcb);
		CHECK_EQ(message[i].grpid, i);
		CHECK_EQ(message[i].perm, perm[i]);
		CHECK_EQ(message[i].addr, addr[i]);
		answer(s, message[i].cookie, 1);
	}
	close_vendor(s);
	s = open_stalling(1, 2);
	access_page(s, 0xfff7ffffdeadbeef, IOMMU_PGFAULT_PERM_READ);
	uiopf_model_endpoint_turn(s->iommu, s->ep);
	CHECK_EQ(words(&smmu->evtq, 0)[1], 0x0000028880000000);	/* S2 */
	CHECK_EQ(words(&smmu->evtq, 0)[2], 0xfff7ffffdeadbeef);
	CHECK_EQ(words(&smmu->evtq, 0)[3], 0x0007ffffdeadb000);	/* IPA, 51:12 */
	close_vendor(s);
}

/* Tables of both stages in the scene: what the walk says is in the event, or the transaction aborts. */
static void an_event_says_how_the_walk_ended(void)
{
	enum { FIRST_ROOT = 0x40000000 };
	struct scene *s = open_stalling(16, 1);
	struct uiopf_pagetables *first = uiopf_pagetables_new(uiopf_format_at(2), 1u << 20, 16, FIRST_ROOT, 0);
	struct uiopf_pagetables *second = uiopf_pagetables_new(uiopf_format_at(3), 1, 16, 0, 1);
	struct uiopf_translator *t = uiopf_translator_new(s->core, first, second, 0);
	static const struct { uint64_t d0, d1, d3; } expected[] = {
		{ 0x0000ab12fedcb810, 0x0000020880000000, 0 },		/* stage 1 has no page */
		{ 0x0000ab12fedcb813, 0x0000020080000001, 0 },		/* … or it may not be written */
		{ 0x0000ab12fedcb812, 0x0000020880000002, 0 },		/* … or its access flag is clear */
		{ 0x0000ab12fedcb810, 0x0000028880000003, 0x5000 },	/* stage 2 has no page */
		{ 0x0000ab12fedcb813, 0x0000028080000004, 0x6000 },	/* … or it may not be written */
		{ 0x0000ab12fedcb810, 0x0000118880000005, 0x40000000 },	/* … for the root of stage 1 (TTRnW: to be read) */
	};
	uint64_t word;
	uint32_t i;

	CHECK(!strcmp(uiopf_format_name(uiopf_format_at(2)), "arm-stage1"));
	CHECK(!strcmp(uiopf_format_name(uiopf_format_at(3)), "arm-stage2"));
	CHECK_EQ(uiopf_pagetables_map(first, 0xfedcb, 0x100000, 0x5000, 1, 1), 0);
	CHECK_EQ(uiopf_pagetables_map(first, 0xfedcb, 0x101000, 0x6000, 1, 3), 0);
	CHECK_EQ(uiopf_pagetables_map(first, 0xfedcb, 0x102000, 0x7000, 1, 3), 0);
	CHECK_EQ(uiopf_pagetables_read(first, 0xfedcb, 0x102000, 1, &word), 0);
	CHECK_EQ(uiopf_pagetables_write(first, 0xfedcb, 0x102000, 1, word & ~0x400ull), 0);
	CHECK_EQ(uiopf_pagetables_map(second, 0, FIRST_ROOT, 0, 2, 3), 0);
	CHECK_EQ(uiopf_pagetables_map(second, 0, 0x6000, 0x6000, 1, 1), 0);
	CHECK_EQ(uiopf_endpoint_set_translator(s->ep, t, 0), 0);
	access_page(s, 0x200abc, IOMMU_PGFAULT_PERM_READ);
	access_page(s, 0x100abc, IOMMU_PGFAULT_PERM_WRITE);
	access_page(s, 0x102abc, IOMMU_PGFAULT_PERM_READ);
	access_page(s, 0x100abc, IOMMU_PGFAULT_PERM_READ);
	access_page(s, 0x101abc, IOMMU_PGFAULT_PERM_WRITE);
	CHECK_EQ(uiopf_model_endpoint_turn(s->iommu, s->ep), 5);
	CHECK_EQ(uiopf_pagetables_unmap(second, 0, FIRST_ROOT), 2);
	access_page(s, 0x100abc, IOMMU_PGFAULT_PERM_READ);
	CHECK_EQ(uiopf_model_endpoint_turn(s->iommu, s->ep), 1);
	for (i = 0; i < 6; i++) {
		CHECK_EQ(words(&smmu->evtq, i)[0], expected[i].d0);
		CHECK_EQ(words(&smmu->evtq, i)[1], expected[i].d1);
		CHECK_EQ(words(&smmu->evtq, i)[3], expected[i].d3);
	}
	CHECK_EQ(words(&smmu->evtq, 5)[2], 0x100abc);
	CHECK_EQ(interrupt(s), 6);	/* the driver reports them all */
	CHECK_EQ(take(s), 6);
	for (i = 0; i < 6; i++)
		answer(s, message[i].cookie, 1);
	uiopf_translator_free(t);
	uiopf_pagetables_free(first);
	uiopf_pagetables_free(second);
	close_vendor(s);
}

static void event(const uint64_t d[4])
{
	uint64_t *place = uiopf_records_place(&smmu->evtq, 4);

	memcpy(place, d, 4 * sizeof *d);
	uiopf_records_put(&smmu->evtq);
	uiopf_records_show(&smmu->evtq);
}

/* Whatever hardware writes: each field at its ends, and bit by bit. */
static void every_field_of_an_event_is_read(void)
{
	static const struct {
		uint64_t d[4];
		uint32_t pasid, grpid, perm, flags, stage_2;
	} cases[] = {
		{ { 0x0000ab1200000010, 0x80000000, 0, 0 }, 0, 0, 2, 2, 0 },		/* no SubstreamID; a write */
		{ { 0x0000ab1200000810, 0x880000000, 0, 0 }, 0, 0, 1, 3, 0 },
		{ { 0x0000ab1200001810, 0x880000001, 0, 0 }, 1, 1, 1, 3, 0 },
		{ { 0x0000ab1280000810, 0x880008000, 0, 0 }, 0x80000, 0x8000, 1, 3, 0 },
		{ { 0x0000ab12fffff810, 0x88000ffff, ~0ull, ~0ull }, 0xfffff, 0xffff, 1, 3, 0 },
		{ { 0x0000ab12fffff010, 0x880000000, 0, 0 }, 0, 0, 1, 2, 0 },		/* a SubstreamID that is not valid */
		{ { 0x0000ab1200000811, 0x880000000, 1, 0 }, 0, 0, 1, 3, 0 },		/* address size */
		{ { 0x0000ab1200000812, 0x880000000, 1ull << 63, 0 }, 0, 0, 1, 3, 0 },	/* access */
		{ { 0x0000ab1200000813, 0x880000000, 0xfff, 0 }, 0, 0, 1, 3, 0 },	/* permission */
		{ { 0x0000ab1200000810, 0xa80000000, 0, 0 }, 0, 0, 9, 3, 0 },		/* PnU */
		{ { 0x0000ab1200000810, 0xc80000000, 0, 0 }, 0, 0, 5, 3, 0 },		/* InD */
		{ { 0x0000ab1200000810, 0x480000000, 0, 0 }, 0, 0, 6, 3, 0 },
		{ { 0x0000ab1200000810, 0x8880000000, 0, 0x1000 }, 0, 0, 1, 3, 0x10 },	/* S2 */
		{ { 0x0000ab1200000810, 0xfff1ffff, 0, 0 }, 0, 0xffff, 2, 3, 0 },	/* what is reserved is not looked at */
	};
	static const struct { uint64_t d0, d1; } others[] = {	/* no stall, or no fault: a word in Linux's log */
		{ 0x0000ab1200000810, 0x800000000 }, { 0x0000ab120000080f, 0x880000000 }, { 0x0000ab1200000814, 0x880000000 },
		{ 0x0000ab1200000802, 0x880000000 }, { 0x0000ab12000008ff, 0x880000000 }, { 0x0000ab1200000824, 0x880000000 },
	};
	struct scene *s = open_stalling(STALLS, 1);
	uint32_t i, bit;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		event(cases[i].d);
		CHECK_EQ(interrupt(s), 1);
		/* The group was the last one in the pool. */
		CHECK_EQ(uiopf_device_group(s->device, s->device->free_groups[s->device->free_count])->kept, cases[i].stage_2);
		CHECK_EQ(take(s), 1);
		CHECK_EQ(message[0].pasid, cases[i].pasid);
		CHECK_EQ(message[0].grpid, cases[i].grpid);
		CHECK_EQ(message[0].perm, cases[i].perm);
		CHECK_EQ(message[0].flags, cases[i].flags);
		CHECK_EQ(message[0].addr, cases[i].d[2]);
		answer(s, message[0].cookie, 0);
	}
	for (bit = 0; bit < 64; bit++) {
		const uint64_t pasid = 1u << bit % 20, tag = 1u << bit % 16;

		event((const uint64_t[4]){ 0x0000ab1200000810 | pasid << 12, 0x880000000 | tag, 1ull << bit, 0 });
		interrupt(s);
		CHECK_EQ(take(s), 1);
		CHECK_EQ(message[0].addr, 1ull << bit);
		CHECK_EQ(message[0].pasid, pasid);
		CHECK_EQ(message[0].grpid, tag);
		answer(s, message[0].cookie, 0);
	}
	for (i = 0; i < sizeof others / sizeof others[0]; i++) {
		event((const uint64_t[4]){ others[i].d0, others[i].d1, 0, 0 });
		CHECK_EQ(interrupt(s), 1);
		CHECK_EQ(take(s), 0);
		CHECK_EQ(s->iommu->commands[UIOPF_PRODUCER].queue.written, 0);
	}
	close_vendor(s);
}

static void a_resume_is_these_16_bytes(void)
{
	static const struct { uint64_t tag; uint32_t code; uint64_t expected0; } cases[] = {
		{ 0, 0, 0x0000ab1200001044 },	/* retry */
		{ 1, 1, 0x0000ab1200002044 },	/* terminate, with an abort */
		{ 0x8000, 0, 0x0000ab1200001044 },
		{ 0xffff, 1, 0x0000ab1200002044 },
	};
	struct scene *s = open_stalling(STALLS, 1);
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		event((const uint64_t[4]){ 0x0000ab12fffff810, 0x880000000 | cases[i].tag, 0, 0 });
		interrupt(s);
		CHECK_EQ(take(s), 1);
		answer(s, message[0].cookie, cases[i].code);
		CHECK_EQ(command_at(s, UIOPF_CONSUMER, i)[0], cases[i].expected0);
		CHECK_EQ(command_at(s, UIOPF_CONSUMER, i)[1], cases[i].tag);
	}
	/* A failure aborts, too: by the driver, where the device is detached. */
	CHECK_EQ(uiopf_detach(s->device, UIOPF_NO_PASID), 0);
	event((const uint64_t[4]){ 0x0000ab1200000810, 0x880000005, 0, 0 });
	interrupt(s);
	CHECK_EQ(command_at(s, UIOPF_PRODUCER, 0)[0], 0x0000ab1200002044);
	CHECK_EQ(command_at(s, UIOPF_PRODUCER, 0)[1], 5);
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	close_vendor(s);
}

/* What each command does to the transaction with tag 0, whose page is there by now. */
static void a_resume_is_read_field_by_field(void)
{
	static const struct { uint64_t word0, word1; uint32_t result, unexpected; } cases[] = {
		{ 0x0000ab1200001044, 0x0, UIOPF_ACCESS_OK, 0 },
		{ 0x0000ab1200002044, 0x0, UIOPF_ACCESS_INVALID, 0 },
		{ 0x0000ab1200000044, 0x0, UIOPF_ACCESS_TERMINATED, 0 },	/* reads zeros: no error */
		{ 0x0000ab1200003044, 0x0, UIOPF_ACCESS_OK, 0 },		/* Abort is ignored */
		{ 0x0000ab12ffffcb44, 0xffffffffffff0000, UIOPF_ACCESS_TERMINATED, 0 },	/* reserved bits */
		{ 0x0000ab1200002444, 0x0, UIOPF_ACCESS_PENDING, 0 },		/* SSec: illegal */
		{ 0x0000ab1200001044, 0x1, UIOPF_ACCESS_PENDING, 1 },		/* no such tag: nothing happens */
		{ 0x0000ab1200001044, 0x1ff, UIOPF_ACCESS_PENDING, 1 },
		{ 0x0000ab1200001044, 0x200, UIOPF_ACCESS_PENDING, 0 },
		{ 0x0000ab1200001044, 0x8000, UIOPF_ACCESS_PENDING, 0 },
		{ 0x0000ab1300001044, 0x0, UIOPF_ACCESS_PENDING, 0 },		/* no such stream */
		{ 0x0001ab1200001044, 0x0, UIOPF_ACCESS_PENDING, 0 },
		{ 0x0000ab1300000045, 0x0, UIOPF_ACCESS_PENDING, 0 },		/* CMD_STALL_TERM of another stream */
		{ 0x0001ab1200000045, 0x0, UIOPF_ACCESS_PENDING, 0 },
		{ 0x0000ab1200003045, 0x0, UIOPF_ACCESS_INVALID, 0 },		/* … of this one: an abort */
		{ 0x0000ab1200002041, 0x2000, UIOPF_ACCESS_PENDING, 0 },	/* CMD_PRI_RESP: it has no PRI */
		{ 0x0000ab1200002041, 0x0000, UIOPF_ACCESS_PENDING, 0 },
	};
	uint32_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct scene *s = open_stalling(STALLS, 1);
		struct uiopf_records *q = &s->iommu->commands[i % 2].queue;
		const int64_t ticket = access_page(s, 0x5123, IOMMU_PGFAULT_PERM_READ);
		uint64_t *d = uiopf_records_place(q, 2);

		uiopf_model_endpoint_turn(s->iommu, s->ep);
		CHECK_EQ(uiopf_space_map(s->space, 0xfedcb, 0x5000, IOMMU_PGFAULT_PERM_READ), 0);
		d[0] = cases[i].word0;
		d[1] = cases[i].word1;
		uiopf_records_put(q);
		uiopf_records_show(q);
		s->iommu->ops->execute(s->iommu);
		CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), cases[i].result);
		CHECK_EQ(counts_of(s).unexpected, cases[i].unexpected);
		CHECK_EQ(counts_of(s).outstanding, cases[i].result == UIOPF_ACCESS_PENDING);
		CHECK_EQ(counts_of(s).pri_status, 0);
		close_vendor(s);
	}
}

/*
 * Three functions, one of which has PRI; the two others stall under tags that are the same, and under others. Each command
 * ends what it names, if that is there, and nothing else.
 */
static void a_tag_is_the_streams_own(void)
{
	static const struct {
		uint64_t word0, word1;
		char left[3][4];	/* what has no result yet: three of each function */
		uint32_t unexpected[3];
	} steps[] = {
		{ 0x0000ab1200001044, 1, { "x.x", "xxx", "xxx" }, { 0, 0, 0 } },	/* tag 1 of the first */
		{ 0x0000ab1200001044, 1, { "x.x", "xxx", "xxx" }, { 1, 0, 0 } },	/* … which is not there any more */
		{ 0x0000020100002044, 1, { "x.x", "x.x", "xxx" }, { 1, 0, 0 } },	/* tag 1 of the second */
		{ 0x0000020200002044, 1, { "x.x", "x.x", "xxx" }, { 1, 0, 0 } },	/* … of the one with PRI */
		{ 0x0000020200000841, 0x1001, { "x.x", "x.x", "x.x" }, { 1, 0, 0 } },	/* its group 1 */
		{ 0x0000020200000841, 0x1001, { "x.x", "x.x", "x.x" }, { 1, 0, 1 } },
		{ 0x0000020100000841, 0x1002, { "x.x", "x.x", "x.x" }, { 1, 0, 1 } },	/* group 2 of one that has none */
		{ 0x0000020200000045, 0, { "x.x", "x.x", "x.x" }, { 1, 0, 1 } },
		{ 0x0000020100000044, 3, { "x.x", "x.x", "x.x" }, { 1, 1, 1 } },	/* tag 3: never was */
		{ 0x0000020100000045, 0, { "x.x", "...", "x.x" }, { 1, 1, 1 } },	/* all of the second */
		{ 0x0000020100000045, 0, { "x.x", "...", "x.x" }, { 1, 1, 1 } },
		{ 0x0000020100001044, 0, { "x.x", "...", "x.x" }, { 1, 2, 1 } },
		{ 0x0000ab1200000044, 0, { "..x", "...", "x.x" }, { 1, 2, 1 } },
		{ 0x0000ab1200000045, 0, { "...", "...", "x.x" }, { 1, 2, 1 } },
	};
	struct scene *s = open_stalling(3, 1);
	struct uiopf_endpoint *ep[3] = { s->ep };
	struct uiopf_device *device[3] = { s->device };
	int64_t ticket[3][3], n;
	uint32_t i, k, j;

	ep[1] = uiopf_endpoint_new_stalling(s->core, uiopf_model_port(s->iommu), 0x201, 4, 1);
	ep[2] = uiopf_endpoint_new(s->core, uiopf_model_port(s->iommu), 0x202, 16, 1);
	CHECK(ep[1] && ep[2]);
	CHECK_EQ(uiopf_endpoint_enable_pri(ep[2], 16), 0);
	for (k = 1; k < 3; k++) {
		device[k] = uiopf_device_new(s->core, uiopf_model_iommu(s->iommu), ID + k, 0x200 + k, 512, 0);
		CHECK(device[k]);
		CHECK_EQ(uiopf_model_bind(s->iommu, ep[k], device[k]), 0);
		CHECK_EQ(uiopf_attach(device[k], UIOPF_NO_PASID, s->q, 1), 0);
	}
	for (k = 0; k < 3; k++)
		for (i = 0; i < 3; i++)
			ticket[k][i] = uiopf_endpoint_access(ep[k], 1, 0x1000 * i, IOMMU_PGFAULT_PERM_READ, 1);
	uiopf_core_produce(s->core);
	for (i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		CHECK_EQ(software_command(s, steps[i].word0, steps[i].word1), 0);
		uiopf_core_produce(s->core);
		for (k = 0; k < 3; k++) {
			struct uiopf_endpoint_counts counts;

			uiopf_endpoint_get_counts(ep[k], &counts);
			CHECK_EQ(counts.unexpected, steps[i].unexpected[k]);
			for (j = 0; j < 3; j++)
				CHECK_EQ(uiopf_endpoint_result(ep[k], ticket[k][j]) == UIOPF_ACCESS_PENDING,
					 steps[i].left[k][j] == 'x');
		}
	}
	CHECK_EQ(uiopf_endpoint_result(ep[0], ticket[0][0]), UIOPF_ACCESS_TERMINATED);
	CHECK_EQ(uiopf_endpoint_result(ep[0], ticket[0][1]), UIOPF_ACCESS_UNMAPPED);
	CHECK_EQ(uiopf_endpoint_result(ep[0], ticket[0][2]), UIOPF_ACCESS_INVALID);
	CHECK_EQ(uiopf_endpoint_result(ep[1], ticket[1][1]), UIOPF_ACCESS_INVALID);
	CHECK_EQ(model_counts_of(s).illegal, 0);
	/* The client has them all still, and its answers end the two that are left. */
	n = take(s);
	CHECK_EQ(n, 9);
	for (j = 0; j < n; j++)
		answer(s, message[j].cookie, 1);
	uiopf_core_produce(s->core);
	for (k = 0; k < 3; k++) {
		struct uiopf_account a = { .endpoint = ep[k], .device = device[k] };

		CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
		CHECK_EQ(a.counts.sent, 3);
		CHECK_EQ(a.answered, 3);
		CHECK_EQ(a.counts.outstanding + a.pending + a.auto_answered, 0);
		CHECK_EQ(a.counts.unexpected, steps[13].unexpected[k] + (k == 2 ? 1 : 3));
	}
	for (k = 1; k < 3; k++) {
		CHECK_EQ(uiopf_detach(device[k], UIOPF_NO_PASID), 0);
		uiopf_model_unbind(s->iommu, device[k]);
		uiopf_endpoint_free(ep[k]);
		uiopf_device_free(device[k]);
	}
	close_vendor(s);
}

/* What stalls in the places that come free does so after the command, and stays. */
static void stalls_are_terminated_once(void)
{
	struct scene *s = open_stalling(2, 1);
	int64_t ticket[5];
	uint32_t i;

	for (i = 0; i < 5; i++)
		ticket[i] = access_page(s, 0x1000 * i, IOMMU_PGFAULT_PERM_WRITE);
	uiopf_core_produce(s->core);
	CHECK_EQ(software_command(s, 0x0000ab1200000045, 0), 0);
	uiopf_core_produce(s->core);
	for (i = 0; i < 5; i++)
		CHECK_EQ(uiopf_endpoint_result(s->ep, ticket[i]), i < 2 ? UIOPF_ACCESS_INVALID : UIOPF_ACCESS_PENDING);
	CHECK_EQ(counts_of(s).outstanding, 2);
	CHECK_EQ(counts_of(s).waiting, 1);
	CHECK_EQ(answer_all(s, 1), 4);		/* the events stay in the queue */
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).unexpected, 2);
	CHECK_EQ(answer_all(s, 1), 1);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).invalid, 5);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

/* The same of a load, in which a place that comes free is taken at once. */
static void a_load_goes_through_terminations(void)
{
	struct scene *s = open_stalling(24, 1);
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 24, .group = 1 };
	static struct uiopf_access row[2000];
	uint32_t i;

	for (i = 0; i < 2000; i++)
		row[i] = (struct uiopf_access){ .address = 4096ull * i, .pasid = 3, .access = 1 };
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, 2000), 0);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	for (i = 0; !uiopf_endpoint_passes(s->ep); i++) {
		CHECK(i < 2000);
		CHECK_EQ(software_command(s, i % 7 ? 0x0000ab1200000045 : 0x99, 0), 0);
		uiopf_core_produce(s->core);
		CHECK(counts_of(s).outstanding <= 24);
		CHECK_EQ(lost(s), 0);
		if (i % 3 == 0)
			answer_all(s, IOMMUFD_PAGE_RESP_INVALID);
	}
	answer_all(s, IOMMUFD_PAGE_RESP_INVALID);
	uiopf_core_produce(s->core);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).sent, 2000);
	CHECK_EQ(counts_of(s).invalid, 2000);
	CHECK_EQ(counts_of(s).outstanding + counts_of(s).waiting, 0);
	CHECK_EQ(s->ep->pri->used, 0);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

static void transactions_wait_outside_while_all_places_are_taken(void)
{
	struct scene *s = open_stalling(2, 1);
	int64_t ticket[5];
	uint32_t i;

	for (i = 0; i < 5; i++)
		ticket[i] = access_page(s, 0x10000 + 0x1001 * i, IOMMU_PGFAULT_PERM_READ);
	CHECK_EQ(counts_of(s).waiting, 5);
	uiopf_core_produce(s->core);
	CHECK_EQ(take(s), 2);
	CHECK_EQ(message[0].addr, 0x10000);
	CHECK_EQ(message[1].addr, 0x11001);		/* nobody answers it */
	for (i = 2; i < 5; i++) {
		CHECK_EQ(counts_of(s).outstanding, 2);
		CHECK_EQ(counts_of(s).waiting, 5 - i);
		CHECK_EQ(counts_of(s).sent, i);
		answer(s, message[0].cookie, 1);	/* the one place is free again */
		uiopf_core_produce(s->core);
		CHECK_EQ(take(s), 1);
		CHECK_EQ(message[0].addr, 0x10000 + 0x1001 * i);	/* in their order */
	}
	answer(s, message[0].cookie, 1);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).outstanding, 1);
	CHECK_EQ(counts_of(s).waiting, 0);
	CHECK_EQ(lost(s), 0);
	for (i = 0; i < 5; i++)
		CHECK_EQ(uiopf_endpoint_result(s->ep, ticket[i]), i == 1 ? UIOPF_ACCESS_PENDING : UIOPF_ACCESS_INVALID);
	close_vendor(s);
}

/* Three functions stall in more transactions than the event queue has places: none is lost, none is an overflow. */
static void events_wait_until_there_is_room(void)
{
	struct scene *s = open_stalling(512, 1);
	struct uiopf_endpoint *ep[3] = { s->ep };
	struct uiopf_device *device[3] = { s->device };
	struct uiopf_account a[3];
	int64_t i, n;
	int k;

	for (k = 1; k < 3; k++) {
		ep[k] = uiopf_endpoint_new_stalling(s->core, uiopf_model_port(s->iommu), 0x200 + k, 512, 1);
		device[k] = uiopf_device_new(s->core, uiopf_model_iommu(s->iommu), ID + k, 0x200 + k, 512, 0);
		CHECK(ep[k] && device[k]);
		CHECK_EQ(uiopf_model_bind(s->iommu, ep[k], device[k]), 0);
		CHECK_EQ(uiopf_attach(device[k], UIOPF_NO_PASID, s->q, 1), 0);
	}
	for (k = 0; k < 3; k++) {
		a[k] = (struct uiopf_account){ .endpoint = ep[k], .device = device[k] };
		for (i = 0; i < 600; i++)
			CHECK(uiopf_endpoint_access(ep[k], k + 1, 0x1001 * i, IOMMU_PGFAULT_PERM_READ, 1) >= 0);
		while (uiopf_model_endpoint_turn(s->iommu, ep[k]))
			;
	}
	CHECK_EQ(smmu->evtq.written - smmu->evtq.head, 1024);
	CHECK_EQ(smmu->evtq.waiting_count, 512);
	CHECK_EQ(uiopf_account(s->core, a, 3), 0);
	for (k = 0; k < 3; k++) {
		CHECK_EQ(a[k].counts.sent, 512);
		CHECK_EQ(a[k].pending, 512);
		CHECK_EQ(a[k].counts.waiting, 88);
	}
	CHECK_EQ(interrupt(s), 1536);
	CHECK_EQ(smmu->evtq.waiting_count, 0);
	n = take(s);
	CHECK_EQ(n, 1536);
	for (i = 0; i < n; i++) {
		CHECK_EQ(message[i].dev_id, ID + i / 512);
		CHECK_EQ(message[i].pasid, 1 + i / 512);
		CHECK_EQ(message[i].addr, 0x1001 * (i % 512));
		CHECK_EQ(message[i].grpid, i % 512);
		answer(s, message[i].cookie, 1);
	}
	for (k = 0; k < 8; k++)
		uiopf_core_produce(s->core);
	CHECK_EQ(answer_all(s, 1), 3 * 88);
	for (k = 0; k < 8; k++)
		uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_account(s->core, a, 3), 0);
	for (k = 0; k < 3; k++) {
		CHECK_EQ(a[k].counts.sent, 600);
		CHECK_EQ(a[k].answered, 600);
		CHECK_EQ(a[k].counts.invalid, 600);
		CHECK_EQ(a[k].counts.outstanding + a[k].counts.waiting, 0);
	}
	CHECK_EQ(model_counts_of(s).overflowed + model_counts_of(s).commands_lost, 0);
	for (k = 1; k < 3; k++) {
		CHECK_EQ(uiopf_detach(device[k], UIOPF_NO_PASID), 0);
		uiopf_model_unbind(s->iommu, device[k]);
		uiopf_endpoint_free(ep[k]);
		uiopf_device_free(device[k]);
	}
	close_vendor(s);
}

/* Its stream has no translation then, and aborts; what had stalled before is reported, and answered as ever. */
static void an_unbound_function_does_not_stall(void)
{
	struct scene *s = open_stalling(STALLS, 1);
	const int64_t before = access_page(s, 0x1000, IOMMU_PGFAULT_PERM_READ);
	int64_t after;

	uiopf_model_endpoint_turn(s->iommu, s->ep);
	uiopf_model_unbind(s->iommu, s->device);
	after = access_page(s, 0x2000, IOMMU_PGFAULT_PERM_READ);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).iommu_answered, 1);
	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_endpoint_result(s->ep, before), UIOPF_ACCESS_PENDING);
	CHECK_EQ(uiopf_endpoint_result(s->ep, after), UIOPF_ACCESS_INVALID);
	CHECK_EQ(lost(s), 0);
	CHECK_EQ(answer_all(s, 1), 1);
	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_endpoint_result(s->ep, before), UIOPF_ACCESS_INVALID);
	CHECK_EQ(counts_of(s).outstanding, 0);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

static void a_function_that_stalls_has_no_pri(void)
{
	struct scene *s = open_stalling(STALLS, 1), *vtd;
	struct uiopf_endpoint *pri = uiopf_endpoint_new(s->core, uiopf_model_port(s->iommu), 0x300, 64, 1);
	struct uiopf_raw_request r = raw(0x1005, true);
	const struct scene_config config = { .requester_id = RID, .device_id = ID, .capacity = 4, .group_most = 1, .pool = 256, .pages = 64 };

	CHECK(pri);
	CHECK_EQ(uiopf_endpoint_read_pri(s->ep, 0), -ENOENT);
	CHECK_EQ(uiopf_endpoint_write_pri(s->ep, 4, 1), -ENOENT);
	CHECK_EQ(uiopf_endpoint_enable_pri(s->ep, 4), -EINVAL);
	CHECK_EQ(uiopf_endpoint_reset_pri(s->ep), -EINVAL);
	uiopf_endpoint_disable_pri(s->ep);	/* does nothing */
	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &r), -EPERM);
	CHECK_EQ(uiopf_endpoint_access(s->ep, 1, 0, IOMMU_PGFAULT_PERM_READ, 2), -EINVAL);
	/* A page request with its requester id is forged: it is passed over, and no answer ends what has stalled. */
	access_page(s, 0x1000, IOMMU_PGFAULT_PERM_READ);
	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_endpoint_enable_pri(pri, 64), 0);
	CHECK_EQ(uiopf_endpoint_send_raw(pri, &r), 0);
	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_smmuv3_enable_priq(s->iommu, 0), 0);
	CHECK_EQ(uiopf_endpoint_send_raw(pri, &r), 0);
	r.message = 0x4;
	CHECK_EQ(uiopf_endpoint_send_raw(pri, &r), 0);
	uiopf_core_produce(s->core);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).forged, 2);
	CHECK_EQ(counts_of(s).iommu_answered, 1);
	CHECK_EQ(counts_of(s).outstanding, 1);
	CHECK_EQ(lost(s), 0);
	CHECK_EQ(answer_all(s, 1), 1);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).outstanding, 0);
	uiopf_endpoint_free(pri);
	CHECK(!uiopf_endpoint_new_stalling(s->core, uiopf_model_port(s->iommu), 0x300, 513, 1));
	close_vendor(s);
	vtd = calloc(1, sizeof *vtd);
	CHECK(vtd);
	*vtd = open_scene_of(&config);
	CHECK(!uiopf_endpoint_new_stalling(vtd->core, uiopf_model_port(vtd->iommu), 0x300, 1, 1));
	close_scene_of(vtd);
	free(vtd);
}

/* A reset is the function's; its transactions are in the SMMU, and keep their places until they are answered. */
static void a_reset_frees_no_place(void)
{
	struct scene *s = open_stalling(2, 1);
	int64_t ticket[3];
	uint32_t i;

	for (i = 0; i < 3; i++)
		ticket[i] = access_page(s, 0x1000, IOMMU_PGFAULT_PERM_READ);
	uiopf_core_produce(s->core);
	uiopf_endpoint_reset(s->ep);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket[2]), UIOPF_ACCESS_FAILED);
	CHECK_EQ(counts_of(s).outstanding, 2);
	CHECK_EQ(counts_of(s).cleared, 0);
	CHECK_EQ(answer_all(s, 1), 2);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).outstanding + counts_of(s).unexpected, 0);
	access_page(s, 0x1000, IOMMU_PGFAULT_PERM_READ);
	uiopf_core_produce(s->core);
	CHECK_EQ(counts_of(s).outstanding, 1);
	close_vendor(s);
}

/* Retry, and the page is not there: it stalls anew, with another tag and the same address, as often as it may. */
static void a_retry_may_stall_again(void)
{
	struct scene *s = open_stalling(1, 1);
	int64_t ticket;
	uint32_t i;

	CHECK_EQ(uiopf_endpoint_set_retries(s->ep, 2), 0);
	ticket = access_page(s, 0x5123, IOMMU_PGFAULT_PERM_EXEC);
	for (i = 0; i < 3; i++) {
		uiopf_core_produce(s->core);
		CHECK_EQ(take(s), 1);
		CHECK_EQ(message[0].addr, 0x5123);
		CHECK_EQ(message[0].perm, 5);
		CHECK_EQ(message[0].grpid, i);
		answer(s, message[0].cookie, 0);
	}
	uiopf_core_produce(s->core);
	CHECK_EQ(uiopf_endpoint_result(s->ep, ticket), UIOPF_ACCESS_UNMAPPED);
	CHECK_EQ(counts_of(s).sent, 3);
	CHECK_EQ(lost(s), 0);
	close_vendor(s);
}

/* A load of more in flight than there are places, beside one with PRI. */
static void a_load_stalls(void)
{
	struct scene *s = open_stalling(24, 1);
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 100, .group = 1 };
	static struct uiopf_access row[5000];
	uint32_t i, most = 0;

	for (i = 0; i < 5000; i++)
		row[i] = (struct uiopf_access){ .address = 4096ull * i + i % 4096, .pasid = 3, .access = 1 + i % 2 };
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, 5000), 0);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	for (i = 0; !uiopf_endpoint_passes(s->ep); i++) {
		CHECK(i < 10000);
		uiopf_core_produce(s->core);
		most = counts_of(s).outstanding > most ? (uint32_t)counts_of(s).outstanding : most;
		CHECK(counts_of(s).waiting <= 76);
		CHECK_EQ(lost(s), 0);
		answer_all(s, IOMMUFD_PAGE_RESP_INVALID);
	}
	CHECK_EQ(most, 24);
	CHECK_EQ(counts_of(s).invalid, 5000);
	CHECK_EQ(counts_of(s).outstanding + counts_of(s).waiting + counts_of(s).unexpected, 0);
	CHECK_EQ(s->ep->pri->used, 0);
	close_vendor(s);
}

int main(void)
{
	a_stall_is_these_32_bytes();
	an_event_says_how_the_walk_ended();
	every_field_of_an_event_is_read();
	a_resume_is_these_16_bytes();
	a_resume_is_read_field_by_field();
	a_tag_is_the_streams_own();
	stalls_are_terminated_once();
	a_load_goes_through_terminations();
	transactions_wait_outside_while_all_places_are_taken();
	events_wait_until_there_is_room();
	an_unbound_function_does_not_stall();
	a_function_that_stalls_has_no_pri();
	a_reset_frees_no_place();
	a_retry_may_stall_again();
	a_load_stalls();
	a_request_is_these_16_bytes();
	every_field_is_written_and_read();
	a_response_is_these_16_bytes();
	a_command_is_read_field_by_field();
	each_opcode_is_legal_or_stops_the_queue();
	commands_behind_an_illegal_one_wait();
	registers_say_what_is_in_the_queues();
	what_a_driver_refuses();
	an_overflow_is_answered_with_success();
	a_queue_that_takes_nothing_answers_failure();
	an_asynchronous_abort_loses_one_request();
	a_load_goes_through_overflows();
	return 0;
}
