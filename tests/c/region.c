/*
 * VFIO's fault regions by their kernel's half, against what was posted: layouts by bytes written by hand, argsz and the
 * capabilities, clients and kernels of different versions, rings that are full, indices that are out of range, answers
 * with private data and without, by ioctl and by ring; then a client that scribbles over both rings while they are used.
 *
 * Arguments: rounds of the hostile client, seed.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "check.h"
#include "core/core.h"
#include "designs/region_find.h"
#include "faults/report.h"

#define LOG 4096u
#define GROUPS 1024u

struct listener {		/* an IOMMU that keeps a log */
	struct uiopf_iommu iommu;
	struct { uint32_t grpid, code; uint64_t word; } told[LOG];
	uint32_t count;
};

static void respond_privately(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
			      uint32_t grpid, uint32_t code, const struct uiopf_private_data *data)
{
	struct listener *l = container_of(device->iommu, struct listener, iommu);
	uint32_t n = l->count++ % LOG;

	(void)side;
	(void)flags;
	(void)pasid;
	l->told[n].grpid = grpid;
	l->told[n].code = code;
	l->told[n].word = data ? data->word[0] : 0;
}

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	respond_privately(device, side, flags, pasid, grpid, code, NULL);
}

static const struct uiopf_iommu_ops listener_ops = { .respond = respond, .respond_privately = respond_privately };

struct scene {
	struct uiopf_core *core;
	struct listener listener;
	struct uiopf_device *device[2];
	struct uiopf_faultq *q;
	struct uiopf_fault_region region;
};

static void open_scene(struct scene *s, enum region_abi abi, bool has_private_data)
{
	uint32_t i;

	memset(s, 0, sizeof *s);
	s->core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	CHECK(s->core);
	s->listener.iommu.lifetime.holders = 1;	/* ours, for as long as the scene is there */
	s->listener.iommu.ops = &listener_ops;
	s->listener.iommu.core = s->core;
	s->q = uiopf_faultq_new(s->core, UIOPF_MERGED);
	CHECK(s->q);
	for (i = 0; i < 2; i++) {
		s->device[i] = uiopf_device_new(s->core, &s->listener.iommu, i + 7, i, GROUPS, 0);
		CHECK(s->device[i]);
		CHECK_EQ(uiopf_attach(s->device[i], UIOPF_NO_PASID, s->q, 1), 0);
	}
	CHECK_EQ(uiopf_fault_region_open(&s->region, s->core, s->q, abi, has_private_data, 2 * GROUPS), 0);
}

static void close_scene(struct scene *s)
{
	uint32_t i;

	uiopf_fault_region_close(&s->region);
	for (i = 0; i < 2; i++) {
		CHECK_EQ(uiopf_detach(s->device[i], UIOPF_NO_PASID), 0);
		uiopf_device_free(s->device[i]);
	}
	CHECK_EQ(uiopf_faultq_free(s->q), 0);
	CHECK_EQ(uiopf_core_free(s->core), 0);
}

/* One group of so many pages; `word`: the last has private data. What arrives is handled at once, as by the worker. */
static void report(struct scene *s, uint32_t device, uint32_t grpid, uint32_t pages, uint64_t word)
{
	const struct uiopf_private_data data = { .word = { word, ~word }, .there = true };
	uint32_t i;

	for (i = 0; i < pages; i++) {
		const bool last = i + 1 == pages;
		const struct uiopf_fault fault = {
			.addr = 0x123456789000ull + 4096ull * i,
			.flags = UIOPF_FAULT_PASID_VALID | UIOPF_FAULT_NEEDS_PASID | (last ? UIOPF_FAULT_LAST_PAGE : 0) |
				 (last && word ? UIOPF_FAULT_PRIV_DATA : 0),
			.pasid = 0xabcde,
			.grpid = grpid,
			.perm = 3,
		};

		CHECK_EQ(uiopf_report_with(s->device[device], &fault, last && word ? &data : NULL), 0);
	}
	uiopf_faultq_publish(s->q);
	uiopf_core_consume(s->core);
}

static uint32_t word_at(struct scene *s, uint32_t n, uint64_t offset)
{
	uint32_t word;

	CHECK_EQ(uiopf_fault_region_read(&s->region, n, &word, 4, offset), 4);
	return word;
}

static int put_word(struct scene *s, uint32_t n, uint64_t offset, uint32_t word)
{
	return uiopf_fault_region_write(&s->region, n, &word, 4, offset);
}

static uint64_t auto_answered(struct scene *s)
{
	struct uiopf_faultq_counts counts;

	uiopf_faultq_counts(s->q, &counts);
	return counts.auto_answered_groups;
}

/* ---- layouts ---- */

static void records_and_headers_lie_as_posted(void)
{
	static const uint8_t first[64] = {
		2, 0, 0, 0, 8, 0, 0, 0,				/* PAGE_REQ; padding, here the device */
		9, 0, 0, 0, 0xde, 0xbc, 0x0a, 0,		/* PASID_VALID, NEEDS_PASID; the PASID */
		0x34, 0x12, 0, 0, 3, 0, 0, 0,			/* group index; read, write */
		0x00, 0x90, 0x78, 0x56, 0x34, 0x12, 0, 0,	/* the address */
	};
	static const uint8_t last[64] = {
		2, 0, 0, 0, 8, 0, 0, 0,
		15, 0, 0, 0, 0xde, 0xbc, 0x0a, 0,		/* and LAST_PAGE, PRIV_DATA */
		0x34, 0x12, 0, 0, 3, 0, 0, 0,
		0x00, 0xa0, 0x78, 0x56, 0x34, 0x12, 0, 0,
		8, 7, 6, 5, 4, 3, 2, 1,				/* private_data */
		0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe,
	};
	static const uint32_t v8_prod[5] = { 1, 64, 64, 4096, 2 }, v9[5] = { 1, 64, 512, 4096, 2 };
	static const uint32_t v11_answers[5] = { 0, 40, 512, 4096, 0 };
	static const enum region_abi abis[] = { REGION_V8, REGION_V9, REGION_V11 };
	struct uiopf_region_found found;
	uint32_t word[5], i;
	struct scene s;

	for (i = 0; i < 3; i++) {
		const struct uiopf_region *memory;

		open_scene(&s, abis[i], true);
		CHECK_EQ(uiopf_region_find(&s.region, abis[i], &found), 0);
		CHECK_EQ(found.entry_size, 64);
		CHECK_EQ(found.entries, i ? 512 : 64);
		report(&s, 1, 0x1234, 2, 0x0102030405060708ull);
		memory = uiopf_fault_region_memory(&s.region, found.faults);
		CHECK_EQ(memory->size, i ? 512 * 64 : 4096);
		CHECK_EQ(memcmp(memory->map, first, 64), 0);
		CHECK_EQ(memcmp(memory->map + 64, last, 64), 0);
		CHECK_EQ(put_word(&s, found.control, i ? 0 : 4, 1), 4);
		CHECK_EQ(uiopf_fault_region_read(&s.region, 0, word, 20, 0), 20);
		CHECK_EQ(memcmp(word, i ? v9 : v8_prod, 20), 0);
		if (i == 2) {
			CHECK_EQ(uiopf_fault_region_read(&s.region, 1, word, 20, 0), 20);
			CHECK_EQ(memcmp(word, v11_answers, 20), 0);
			CHECK_EQ(found.answer_size, 40);
			CHECK_EQ(found.answer_entries, 512);
		}
		close_scene(&s);
	}
}

static void info_says_how_much_there_would_be(void)
{
	static const uint32_t type[4] = { 1 << 16 | 2, 48, 2, 1 };		/* id and version, next, NESTED, DMA_FAULT */
	static const uint32_t fault[4] = { 1 << 16 | 6, 64, 1, 0 };		/* the ABI's version */
	static const uint32_t sparse[8] = { 1 << 16 | 1, 0, 1, 0, 4096, 0, 512 * 64, 0 };
	struct region_info_full full = { .info = { .argsz = 31 } };
	struct scene s;

	open_scene(&s, REGION_V9, true);
	CHECK_EQ(uiopf_fault_region_info(&s.region, &full.info), -EINVAL);
	full.info.argsz = 32;
	CHECK_EQ(uiopf_fault_region_info(&s.region, &full.info), 0);
	CHECK_EQ(full.info.argsz, 96);
	CHECK_EQ(full.info.cap_offset, 0);
	CHECK_EQ(full.type.cap.id, 0);		/* nothing beyond argsz is touched */
	CHECK_EQ(uiopf_fault_region_info(&s.region, &full.info), 0);
	CHECK_EQ(full.info.flags, 1 | 2 | 4 | 8);
	CHECK_EQ(full.info.cap_offset, 32);
	CHECK_EQ(full.info.size, 4096 + 512 * 64);
	CHECK_EQ(memcmp(&full.type, type, sizeof type), 0);
	CHECK_EQ(memcmp(&full.fault, fault, sizeof fault), 0);
	CHECK_EQ(memcmp(&full.sparse, sparse, sizeof sparse), 0);
	full.info.index = 1;
	CHECK_EQ(uiopf_fault_region_info(&s.region, &full.info), -EINVAL);
	close_scene(&s);
}

/* ---- negotiation ---- */

static void an_old_client_and_a_new_kernel_hear_of_each_other(void)
{
	static const struct { enum region_abi client, kernel; int rc; } pairs[] = {
		{ REGION_V8, REGION_V8, 0 },        { REGION_V9, REGION_V9, 0 },       { REGION_V11, REGION_V11, 0 },
		{ REGION_V8, REGION_V9, -ENODEV },  { REGION_V8, REGION_V11, -EPROTO },
		{ REGION_V9, REGION_V8, -EACCES },  { REGION_V11, REGION_V8, -EACCES },
		{ REGION_V11, REGION_V9, -ENODEV }, { REGION_V9, REGION_V11, 0 },
	};
	struct uiopf_region_found found;
	struct scene s;
	uint32_t i;

	for (i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		open_scene(&s, pairs[i].kernel, true);
		CHECK_EQ(uiopf_region_find(&s.region, pairs[i].client, &found), pairs[i].rc);
		close_scene(&s);
	}
	/* v8: nothing is taken before user space has said which version it wants, and it must be one that there is. */
	open_scene(&s, REGION_V8, true);
	CHECK_EQ(word_at(&s, 0, 0), UINT32_MAX);
	report(&s, 0, 1, 1, 0);
	CHECK_EQ(word_at(&s, 0, 16), 0);
	CHECK_EQ(put_word(&s, 1, 0, 2), -EINVAL);
	CHECK_EQ(put_word(&s, 1, 0, 0), -EINVAL);
	CHECK_EQ(put_word(&s, 1, 0, 1), 4);
	CHECK_EQ(word_at(&s, 0, 0), 1);
	CHECK_EQ(word_at(&s, 0, 16), 1);
	CHECK_EQ(s.listener.count, 0);
	close_scene(&s);
}

static struct region_page_response answer_of(uint32_t argsz, uint32_t flags, uint32_t grpid, uint64_t word)
{
	return (struct region_page_response){
		.argsz = argsz,
		.response = { .version = 1, .flags = flags, .pasid = 0xabcde, .grpid = grpid, .code = 1,
			      .private_data = { word, ~word } },
	};
}

static int ioctl_of(struct scene *s, uint32_t argsz, uint32_t flags, uint32_t grpid, uint64_t word)
{
	const struct region_page_response r = answer_of(argsz, flags, grpid, word);

	return uiopf_fault_region_respond(&s->region, 7, &r);
}

static void argsz_tells_old_answers_from_new_ones(void)
{
	struct region_page_response r;
	struct scene s;

	/* A kernel that knows of private data. */
	open_scene(&s, REGION_V9, true);
	report(&s, 0, 1, 1, 0);
	report(&s, 0, 2, 1, 0x55);
	CHECK_EQ(ioctl_of(&s, 23, 1, 1, 0), -EINVAL);		/* less than any client has had */
	CHECK_EQ(ioctl_of(&s, 24, 3, 1, 0), -EINVAL);		/* says that it has what argsz has no room for */
	CHECK_EQ(ioctl_of(&s, 44, 5, 1, 0), -EINVAL);		/* a flag that there is not */
	CHECK_EQ(ioctl_of(&s, 44, 0, 1, 0), -EINVAL);		/* this request needs its PASID */
	CHECK_EQ(ioctl_of(&s, 44, 3, 1, 0x55), -EINVAL);	/* it had no private data */
	CHECK_EQ(ioctl_of(&s, 24, 1, 9, 0), -EINVAL);		/* no such group */
	r = answer_of(24, 1, 1, 0);
	r.response.version = 2;
	CHECK_EQ(uiopf_fault_region_respond(&s.region, 7, &r), -EINVAL);
	r = answer_of(24, 1, 1, 0);
	r.response.code = 3;
	CHECK_EQ(uiopf_fault_region_respond(&s.region, 7, &r), -EINVAL);
	r = answer_of(24, 1, 1, 0);
	CHECK_EQ(uiopf_fault_region_respond(&s.region, 8, &r), -EINVAL);	/* another device's fd */
	CHECK_EQ(s.listener.count, 0);
	CHECK_EQ(ioctl_of(&s, 24, 1, 1, 0), 0);			/* an old client, for a request without */
	CHECK_EQ(ioctl_of(&s, 24, 1, 1, 0), -EINVAL);		/* once */
	CHECK_EQ(ioctl_of(&s, 24, 1, 2, 0), -EINVAL);		/* … for one with: it waits on */
	CHECK_EQ(ioctl_of(&s, 44, 3, 2, 0x54), -EINVAL);	/* not what was given */
	CHECK_EQ(ioctl_of(&s, 44, 3, 2, 0x55), 0);
	CHECK_EQ(s.listener.count, 2);
	CHECK_EQ(s.listener.told[1].word, 0x55);
	CHECK_EQ(s.listener.told[1].code, 1);
	report(&s, 0, 3, 1, 0x56);
	s.device[0]->private_data[s.q->by_cookie[1]->index] = (struct uiopf_private_data){ .there = true };
	CHECK_EQ(ioctl_of(&s, 24, 3, 3, 0), -EINVAL);		/* all zero is private data, too, */
	CHECK_EQ(ioctl_of(&s, 24, 1, 3, 0), -EINVAL);		/* and has to be said */
	s.device[0]->private_data[s.q->by_cookie[1]->index] =
		(struct uiopf_private_data){ .word = { 0x56, ~0x56ull }, .there = true };
	CHECK_EQ(ioctl_of(&s, 60, 3, 3, 0x56), 0);		/* a client that is newer still: the rest is not looked at */
	close_scene(&s);

	/* One that does not: a new client hears of it by its flag, and without it does as before. */
	open_scene(&s, REGION_V9, false);
	report(&s, 0, 1, 1, 0x55);
	report(&s, 0, 2, 1, 0x56);
	CHECK_EQ(ioctl_of(&s, 44, 3, 1, 0x55), -EINVAL);
	CHECK_EQ(ioctl_of(&s, 44, 1, 1, 0x55), 0);
	CHECK_EQ(ioctl_of(&s, 24, 1, 2, 0), 0);
	CHECK_EQ(s.listener.told[1].word, 0x56);		/* it has kept it itself */
	close_scene(&s);
}

/* ---- rings ---- */

static void a_full_ring_refuses_and_counts(void)
{
	static const struct { enum region_abi abi; uint32_t room, control, offset; } rings[] = {
		{ REGION_V8, 63, 1, 4 }, { REGION_V9, 511, 0, 0 }, { REGION_V11, 511, 0, 0 },
	};
	struct uiopf_region_found found;
	struct scene s;
	uint32_t i, n;

	for (i = 0; i < 3; i++) {
		const uint32_t room = rings[i].room;

		open_scene(&s, rings[i].abi, true);
		CHECK_EQ(uiopf_region_find(&s.region, rings[i].abi, &found), 0);
		for (n = 0; n < room - 1; n++)
			report(&s, 0, n, 1, 0);
		CHECK_EQ(s.listener.count, 0);
		report(&s, 0, 900, 2, 0);		/* one slot is left: no part of a group goes in */
		CHECK_EQ(s.listener.count, 1);
		CHECK_EQ(s.listener.told[0].grpid, 900);
		CHECK_EQ(s.listener.told[0].code, UIOPF_RESP_INVALID);
		report(&s, 0, 901, 1, 0);
		report(&s, 0, 902, 1, 0);
		CHECK_EQ(s.listener.count, 2);
		CHECK_EQ(s.listener.told[1].grpid, 902);
		CHECK_EQ(word_at(&s, 0, 16), room);
		CHECK_EQ(s.region.refused_groups, 2);
		CHECK_EQ(s.region.refused_faults, 3);
		CHECK_EQ(auto_answered(&s), 2);
		CHECK_EQ(s.region.notified, room);
		CHECK_EQ(put_word(&s, rings[i].control, rings[i].offset, 2), 4);	/* two are consumed, and answered later */
		report(&s, 0, 903, 2, 0);
		report(&s, 0, 904, 1, 0);
		CHECK_EQ(s.listener.count, 3);
		CHECK_EQ(s.listener.told[2].grpid, 904);
		CHECK_EQ(word_at(&s, 0, 16), 1);					/* around the end */
		for (n = 0; n < room - 1; n++)
			CHECK_EQ(ioctl_of(&s, 24, 1, n, 0), 0);
		CHECK_EQ(ioctl_of(&s, 24, 1, 902, 0), -EINVAL);
		CHECK_EQ(ioctl_of(&s, 24, 1, 903, 0), 0);
		close_scene(&s);
	}
}

static void indices_and_calls_out_of_range_are_refused(void)
{
	struct uiopf_region_found found;
	uint32_t word[6];
	struct scene s;

	open_scene(&s, REGION_V8, true);
	CHECK_EQ(uiopf_region_find(&s.region, REGION_V8, &found), 0);
	CHECK_EQ(put_word(&s, 1, 4, 64), -EINVAL);
	CHECK_EQ(put_word(&s, 1, 4, 63), 4);
	CHECK_EQ(put_word(&s, 0, 16, 1), -EINVAL);		/* read only */
	CHECK_EQ(put_word(&s, 1, 8, 0), -EINVAL);
	CHECK_EQ(uiopf_fault_region_read(&s.region, 1, word, 4, 0), -EINVAL);	/* write only */
	CHECK(!uiopf_fault_region_memory(&s.region, 1));
	close_scene(&s);

	open_scene(&s, REGION_V9, true);
	CHECK_EQ(put_word(&s, 0, 0, 513), -EINVAL);
	CHECK_EQ(put_word(&s, 0, 0, 512), 4);			/* as posted; it is 0 */
	CHECK_EQ(word_at(&s, 0, 0), 0);
	CHECK_EQ(put_word(&s, 1, 0, 0), -EINVAL);		/* no second region */
	CHECK_EQ(uiopf_fault_region_read(&s.region, 1, word, 4, 0), -EINVAL);
	close_scene(&s);

	open_scene(&s, REGION_V11, true);
	CHECK_EQ(put_word(&s, 0, 0, 512), -EINVAL);
	CHECK_EQ(put_word(&s, 1, 0, 512), -EINVAL);
	CHECK_EQ(put_word(&s, 1, 0, UINT32_MAX), -EINVAL);
	CHECK_EQ(put_word(&s, 0, 16, 0), -EINVAL);		/* the kernel's own */
	CHECK_EQ(put_word(&s, 2, 0, 0), -EINVAL);
	CHECK_EQ(uiopf_fault_region_write(&s.region, 0, word, 8, 0), -EINVAL);
	CHECK_EQ(uiopf_fault_region_read(&s.region, 0, word, 24, 0), -EINVAL);
	CHECK_EQ(uiopf_fault_region_read(&s.region, 0, word, 4, 20), -EINVAL);
	CHECK_EQ(uiopf_fault_region_read(&s.region, 0, word, 4, UINT64_MAX), -EINVAL);
	CHECK_EQ(word_at(&s, 0, 0), 0);
	CHECK_EQ(word_at(&s, 1, 0), 0);
	close_scene(&s);
}

static void put_answer(struct scene *s, uint32_t at, uint32_t flags, uint32_t grpid, uint32_t dev_id, uint64_t word)
{
	struct region_response r = answer_of(44, flags, grpid, word).response;

	r.dev_id = dev_id;
	memcpy(s->region.answers.map + (size_t)at * s->region.answer_size, &r, s->region.answer_size);
}

static void the_kernel_pops_answers(void)
{
	struct uiopf_region_found found;
	struct scene s;
	uint32_t i;

	open_scene(&s, REGION_V11, true);
	CHECK_EQ(uiopf_region_find(&s.region, REGION_V11, &found), 0);
	report(&s, 0, 1, 1, 0);
	report(&s, 1, 1, 2, 0x77);
	put_answer(&s, 0, 3, 1, 8, 0x77);
	put_answer(&s, 1, 1, 1, 7, 0);
	put_answer(&s, 2, 1, 1, 7, 0);		/* a second answer: nobody is told, it is counted */
	CHECK_EQ(s.listener.count, 0);
	CHECK_EQ(put_word(&s, 1, 0, 3), 4);
	CHECK_EQ(s.listener.count, 2);
	CHECK_EQ(s.listener.told[0].word, 0x77);
	CHECK_EQ(s.region.refused_answers, 1);
	CHECK_EQ(word_at(&s, 1, 16), 3);
	CHECK_EQ(put_word(&s, 1, 0, 2), 4);	/* a client that goes back has answered all around the ring */
	CHECK_EQ(word_at(&s, 1, 16), 2);
	CHECK_EQ(s.region.refused_answers, 1 + 511);
	close_scene(&s);

	/* An old kernel's answers of 20 bytes name no device: they are of the only one. */
	open_scene(&s, REGION_V11, false);
	CHECK_EQ(uiopf_region_find(&s.region, REGION_V11, &found), 0);
	CHECK_EQ(found.answer_size, 20);
	for (i = 0; i < 3; i++)
		report(&s, 0, i, 1, 0);
	put_answer(&s, 0, 1, 2, 0, 0);
	put_answer(&s, 1, 1, 0, 0, 0);
	CHECK_EQ(put_word(&s, 1, 0, 2), 4);
	CHECK_EQ(s.listener.count, 2);
	CHECK_EQ(s.listener.told[0].grpid, 2);
	report(&s, 1, 1, 1, 0);			/* of two, nobody can tell whose it is */
	put_answer(&s, 2, 1, 1, 0, 0);
	CHECK_EQ(put_word(&s, 1, 0, 3), 4);
	CHECK_EQ(s.region.refused_answers, 1);
	close_scene(&s);
}

static void a_queue_has_one_region(void)
{
	struct uiopf_fault_region other;
	struct scene s;

	open_scene(&s, REGION_V9, true);
	CHECK_EQ(uiopf_fault_region_open(&other, s.core, s.q, REGION_V11, true, 64), -EBUSY);
	report(&s, 0, 1, 1, 0);
	CHECK_EQ(word_at(&s, 0, 16), 1);
	close_scene(&s);
}

/* ---- a hostile client ---- */

struct scribbler {
	uint64_t *map[2], words[2], random;
	uint32_t stop;
};

static void *scribble(void *arg)
{
	struct scribbler *w = arg;

	while (!READ_ONCE(&w->stop)) {
		uint32_t n = below(&w->random, 2);
		uint64_t word = below(&w->random, 2) ? next_random(&w->random) :
						       (uint64_t)below(&w->random, 4) << 32 | below(&w->random, 600);

		WRITE_ONCE(&w->map[n][below(&w->random, (uint32_t)w->words[n])], word);
	}
	return NULL;
}

/* Whatever it writes: each group is answered once, the indices stay in range, and nothing else is disturbed. */
static void nobody_is_disturbed(uint32_t rounds, uint64_t seed)
{
	struct scribbler w = { .random = seed + 1 };
	struct uiopf_region_found found;
	uint64_t reported = 0;
	struct scene s;
	pthread_t thread;
	uint32_t i;

	open_scene(&s, REGION_V11, true);
	CHECK_EQ(uiopf_region_find(&s.region, REGION_V11, &found), 0);
	w.map[0] = uiopf_region_map_again(&s.region.records);
	w.map[1] = uiopf_region_map_again(&s.region.answers);
	CHECK(w.map[0] && w.map[1]);
	w.words[0] = s.region.records.size / 8;
	w.words[1] = s.region.answers.size / 8;
	CHECK_EQ(pthread_create(&thread, NULL, scribble, &w), 0);
	for (i = 0; i < rounds; i++) {
		uint32_t k = below(&seed, 4), grpid = below(&seed, 512), device = below(&seed, 2);

		if (s.device[device]->free_count <= GROUPS / 2) {	/* each takes two nodes at most: all are answered for it */
			CHECK_EQ(uiopf_detach(s.device[device], UIOPF_NO_PASID), 0);
			CHECK_EQ(uiopf_attach(s.device[device], UIOPF_NO_PASID, s.q, 1), 0);
		} else if (k < 2) {
			report(&s, device, grpid, 1 + below(&seed, 3), below(&seed, 2) ? next_random(&seed) | 1 : 0);
			reported++;
		} else if (k == 2) {
			int rc = put_word(&s, 0, 0, below(&seed, 520));

			CHECK(rc == 4 || rc == -EINVAL);
		} else {
			int rc = put_word(&s, 1, 0, below(&seed, 520));

			CHECK(rc == 4 || rc == -EINVAL);
		}
		if (below(&seed, 8) == 0)
			ioctl_of(&s, 24, 1, grpid, 0);
		CHECK(word_at(&s, 0, 16) < 512 && word_at(&s, 1, 16) < 512);
		CHECK_EQ(word_at(&s, 0, 4), 64);
	}
	WRITE_ONCE(&w.stop, 1);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	munmap(w.map[0], s.region.records.size);
	munmap(w.map[1], s.region.answers.size);
	uiopf_fault_region_close(&s.region);
	for (i = 0; i < 2; i++)
		CHECK_EQ(uiopf_detach(s.device[i], UIOPF_NO_PASID), 0);
	CHECK_EQ(s.listener.count, reported);	/* by the client, or for it */
	printf("%" PRIu64 " groups, %" PRIu64 " refused by a full ring, %" PRIu64 " answers refused\n", reported,
	       s.region.refused_groups, s.region.refused_answers);
	CHECK(s.region.refused_answers > 0);
	for (i = 0; i < 2; i++)
		uiopf_device_free(s.device[i]);
	CHECK_EQ(uiopf_faultq_free(s.q), 0);
	CHECK_EQ(uiopf_core_free(s.core), 0);
}

int main(int argc, char **argv)
{
	uint64_t seed = seed_from(argc, argv, 2);

	records_and_headers_lie_as_posted();
	info_says_how_much_there_would_be();
	an_old_client_and_a_new_kernel_hear_of_each_other();
	argsz_tells_old_answers_from_new_ones();
	a_full_ring_refuses_and_counts();
	indices_and_calls_out_of_range_are_refused();
	the_kernel_pops_answers();
	a_queue_has_one_region();
	nobody_is_disturbed(argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 100000, seed);
	return 0;
}
