/*
 * What the programs for a vendor's formats do with a scene: requests by their fields, answers by hand, the bytes in
 * between, and the account.
 */
#pragma once
#include <sched.h>
#include <stdlib.h>

#include "scene.h"

#define RID 0xab12u
#define ID 77u
#define GROUP_MOST 16u
#define CAPACITY 8192u

/* A page request, by the fields that a vendor's format has. */
#define REQUEST(rid, pasid_, has_pasid_, execute_, privileged_, message_) { .requester_id = rid, .pasid = pasid_, \
	.has_pasid = has_pasid_, .execute = execute_, .privileged = privileged_, .message = message_ }

static struct iommu_hwpt_pgfault message[CAPACITY];	/* what take() has taken */

/* One function, attached; its PRI is on, with so many credits, unless that is 0. The generic layer holds so many groups. */
static inline struct scene *open_vendor_with(const struct uiopf_model_ops *model, uint32_t flags, uint32_t credits,
					     uint32_t pool)
{
	const struct scene_config config = {
		.requester_id = RID, .device_id = ID, .capacity = CAPACITY, .group_most = GROUP_MOST, .pool = pool,
		.model = model, .vtd_flags = flags, .pages = 0x100000,
	};
	struct scene *s = calloc(1, sizeof *s);

	CHECK(s);
	*s = open_scene_of(&config);
	CHECK_EQ(uiopf_attach(s->device, UIOPF_NO_PASID, s->q, 1), 0);
	if (credits)
		CHECK_EQ(uiopf_endpoint_enable_pri(s->ep, credits), 0);
	return s;
}

static inline struct scene *open_vendor(const struct uiopf_model_ops *model, uint32_t flags, uint32_t credits)
{
	return open_vendor_with(model, flags, credits, CAPACITY);
}

static inline void close_vendor(struct scene *s)
{
	uiopf_detach(s->device, UIOPF_NO_PASID);
	close_scene_of(s);
	free(s);
}

static inline int64_t take(struct scene *s)
{
	int64_t got = uiopf_faultq_read(s->q, message, sizeof message);

	CHECK(got >= 0);
	return got / (int64_t)sizeof message[0];
}

static inline void answer(struct scene *s, uint32_t cookie, uint32_t code)
{
	const struct iommu_hwpt_page_response r = { .cookie = cookie, .code = code };

	CHECK_EQ(uiopf_faultq_write(s->q, &r, sizeof r), sizeof r);
}

/* All that there is to be read; how many groups. */
static inline uint32_t answer_all(struct scene *s, uint32_t code)
{
	int64_t i, n = take(s);
	uint32_t groups = 0;

	for (i = 0; i < n; i++)
		if (message[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) {
			answer(s, message[i].cookie, code);
			groups++;
		}
	return groups;
}

static inline uint32_t interrupt(struct scene *s)
{
	uint32_t n = uiopf_model_interrupt(s->iommu);

	uiopf_faultq_publish(s->q);
	return n;
}

static inline void settle(struct scene *s)
{
	while (uiopf_core_produce(s->core))
		;
}

static inline struct uiopf_endpoint_counts counts_of(struct scene *s)
{
	struct uiopf_endpoint_counts counts;

	uiopf_endpoint_get_counts(s->ep, &counts);
	return counts;
}

static inline struct uiopf_device_counts device_counts_of(struct scene *s)
{
	struct uiopf_device_counts counts;

	uiopf_device_get_counts(s->device, &counts);
	return counts;
}

static inline struct uiopf_model_counts model_counts_of(struct scene *s)
{
	struct uiopf_model_counts counts;

	uiopf_model_get_counts(s->iommu, &counts);
	return counts;
}

/* Requests of the function that are in no place of the account. */
static inline uint64_t lost(struct scene *s)
{
	struct uiopf_account a = { .endpoint = s->ep, .device = s->device };

	CHECK_EQ(uiopf_account(s->core, &a, 1), 0);
	return a.counts.sent + a.counts.forged - a.answered - a.auto_answered - a.reported.refused - a.counts.unbound -
	       a.counts.iommu_answered - a.pending - a.reported.passed_over - a.counts.unbound_passed_over;
}

static inline uint64_t read_register(struct scene *s, uint32_t offset)
{
	uint64_t value;

	CHECK_EQ(uiopf_model_read_register(s->iommu, offset, &value), 0);
	return value;
}

static inline void write_register(struct scene *s, uint32_t offset, uint64_t value)
{
	CHECK_EQ(uiopf_model_write_register(s->iommu, offset, value), 0);
}

/* The words of a place in a queue. */
static inline const uint64_t *words(const struct uiopf_records *q, uint32_t place)
{
	return &q->places.ring[(uint64_t)q->places.words * (place & q->places.mask)];
}

/* The command that a side has given last. */
static inline const uint64_t *command(const struct scene *s, enum uiopf_side side)
{
	const struct uiopf_records *q = &s->iommu->commands[side].queue;

	CHECK(q->written);
	return words(q, q->written - 1);
}

static inline uint32_t commands(const struct scene *s, enum uiopf_side side)	/* not yet carried out */
{
	return s->iommu->commands[side].queue.written - s->iommu->commands[side].queue.head;
}

/* Of the function's own, with a credit. */
static inline void send_raw(struct scene *s, uint32_t pasid, uint32_t flags, uint64_t pri_message)
{
	const struct uiopf_raw_request raw = { .requester_id = RID, .pasid = pasid, .flags = flags, .message = pri_message };

	CHECK_EQ(uiopf_endpoint_send_raw(s->ep, &raw), 0);
}

/* So many groups of one page, which the hardware takes or not. Their indices, used again and again, are 128 to 383. */
static inline void request_many(struct scene *s, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		s->iommu->ops->request(s->iommu, (struct uiopf_page_request){
			.requester_id = RID, .pasid = 3, .has_pasid = true,
			.message = 0x5 | (uint64_t)(i % 256 + 128) << 3 | (uint64_t)i << 12,
		});
}

/* The one answer that has reached the function since the last time. */
static inline struct uiopf_prg_answer the_answer(struct scene *s)
{
	struct uiopf_prg_answer got[2];

	CHECK_EQ(uiopf_endpoint_take_raw_answers(s->ep, got, 2), 1);
	return got[0];
}

/* A command by its words, which the hardware carries out at once. */
static inline void carry_out(struct scene *s, uint64_t word0, uint64_t word1)
{
	uiopf_commands_give(&s->iommu->commands[UIOPF_PRODUCER], s->iommu->ops->command_words, word0, word1);
	uiopf_model_kick(s->iommu, UIOPF_PRODUCER);
	CHECK_EQ(s->iommu->ops->execute(s->iommu), 1);
}

/* A load through the whole model with the hardware on a thread of its own, and a client on this one: nothing is lost. */
static inline void play_beside_a_worker(const struct uiopf_model_ops *model)
{
	enum { ROWS = 6000 };
	const struct uiopf_load load = { .mode = UIOPF_LOAD_CLOSED, .in_flight = 64, .group = 3 };
	struct scene *s = open_vendor(model, 0, 256);
	struct uiopf_access *row = calloc(ROWS, sizeof *row);
	uint32_t i, groups = 0;

	CHECK(row);
	for (i = 0; i < ROWS; i++)
		row[i] = (struct uiopf_access){ .address = 0x10000000 + 4096ull * i, .pasid = 3, .access = 1 };
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, ROWS), 0);
	if (model->private_bits)
		CHECK_EQ(uiopf_endpoint_send_private_data(s->ep, 1), 0);
	CHECK_EQ(uiopf_core_start(s->core, UIOPF_ENTER, -1, 0), 0);
	CHECK_EQ(uiopf_endpoint_start(s->ep, &load), 0);
	while (!uiopf_endpoint_passes(s->ep)) {
		/* Every seventh is refused: its answer is another word, and takes another way through the function. */
		const uint32_t n = answer_all(s, groups % 7 == 6);

		groups += n;
		if (!n)
			sched_yield();
	}
	CHECK_EQ(uiopf_core_stop(s->core), 0);
	CHECK_EQ(groups, ROWS / 3);
	CHECK_EQ(counts_of(s).unmapped + counts_of(s).invalid, ROWS);
	CHECK(counts_of(s).invalid > 0);
	CHECK_EQ(counts_of(s).unexpected, 0);
	CHECK_EQ(model_counts_of(s).commands_lost, 0);
	CHECK_EQ(lost(s), 0);
	free(row);
	close_vendor(s);
}
