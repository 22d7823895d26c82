/*
 * region (2019): a ring of fault records in memory that user space maps. VFIO gave each device one, as a region of its fd.
 *
 * Eric Auger, "SMMUv3 Nested Stage Setup", VFIO part: v8 2019-05-26, v9 2019-07-11, v11 2020-11-16, v13 April 2021. Records
 * are struct iommu_fault, 64 bytes, by Jean-Philippe Brucker and Jacob Pan (May 2019). The header page, which has the
 * indices, cannot be mapped: it is reached by pread and pwrite. An eventfd, set with VFIO_DEVICE_SET_IRQS, tells of each
 * record. It was not merged: everyone moved on to /dev/ioasid, and that became iommufd. Reviewers had objected to the fixed
 * interrupt index (v8), to handlers whose unregistering can fail, and to the kernel's reading its own index back from the
 * header that it shares, in v9 without the lock. Here, it never does.
 *
 * Three versions of one implementation. A design has no options, so each version is a design:
 *   region-v8   two regions, PROD (read only) and CONS (write only), 64 entries; user space first writes the version it wants;
 *               a fault that finds the ring full: -EINVAL
 *   region-v9   one region with tail and head, 512 entries; full: -ENOSPC
 *   region      v11, and a second ring of 512 answers, whose head is written by pwrite; the kernel pops them
 * v8 and v9 were for faults that have no answer. Theirs goes by the ioctl that was proposed beside them, page response, one
 * answer a call, its size told by argsz (June 2019). A ring keeps one slot free, so it holds 63 or 511 records. A fault that
 * finds it full was lost to user space; it is answered INVALID and counted as answered for the client. A machine gives its
 * functions no more credits than the ring holds, so that does not happen by itself.
 *
 * Cost of a fault by itself, for a client that sleeps:
 *   5 system calls  poll, read of the eventfd, pread of the header, pwrite of the index, and ioctl or pwrite of the head
 *   1 wake-up       the eventfd's write: one for each message, asleep or not
 *   120 bytes       8 (counter) + 20 (header) + 64 (record) + 4 (index) + 24 (ioctl: argsz and answer)
 *   140 bytes       in v11: 8 + 20 + 64 + 4, + 40 (answer) + 4 (head)
 * With private data the ioctl has 44 bytes. A spinning client does not poll. In a batch all but the ioctl are paid once.
 *
 * Private data (VT-d's before revision 4) came in a request, and Jacob Pan's proposal brought it back in the answer, behind
 * what was there. This kernel knows that answer; region_kernel.c can be one that does not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "designs/region_find.h"
#include "designs/told.h"

struct client {
	struct uiopf_fault_region region;	/* the kernel's half */
	enum region_abi abi;
	struct uiopf_region_found found;
	const struct region_fault *record;	/* mapped */
	uint8_t *answers;
	struct uiopf_told told;
	uint32_t head, tail;			/* the first as it was read last */
	bool owes_tail;				/* records have been consumed, and the kernel does not know it */
	uint32_t answer_head, answer_sent, answer_tail;	/* filled up to, told up to, popped up to as was read last */
	uint32_t partial, name;			/* a group that is not complete yet, and its name */
	uint32_t group_most;
	struct iommu_hwpt_pgfault *group;
	struct uiopf_replies replies;
};

/* ---- the header page ---- */

/* All of it, as such clients did. 0 or -EINTR: those of this client are valid. */
static int read_header(struct uiopf_channel *ch, uint32_t n, uint32_t word[5], bool found)
{
	struct client *c = ch->state;
	int rc = uiopf_fault_region_read(&c->region, n, word, 5 * sizeof word[0], 0);

	if (unlikely(rc < 0))
		return rc;
	uiopf_system_call(ch, found);
	ch->cost.bytes_copied += (uint64_t)rc;
	return 0;
}

static int write_index(struct uiopf_channel *ch, uint32_t n, uint32_t value, uint64_t offset)
{
	struct client *c = ch->state;
	int rc;

	uiopf_system_call(ch, true);
	rc = uiopf_fault_region_write(&c->region, n, &value, sizeof value, offset);
	if (unlikely(rc < 0))
		return rc;
	ch->cost.bytes_copied += sizeof value;
	return 0;
}

static int write_tail(struct uiopf_channel *ch)
{
	struct client *c = ch->state;
	int rc;

	if (likely(!c->owes_tail))
		return 0;
	rc = write_index(ch, c->found.control, c->tail,
			 c->abi == REGION_V8 ? offsetof(struct region_v8_cons, cons) : offsetof(struct region_v9, tail));
	if (rc == 0)
		c->owes_tail = false;
	return rc;
}

/* ---- answers ---- */

/* v11: says how far the answers go. The kernel pops them in the call. */
static int flush(struct uiopf_channel *ch)
{
	struct client *c = ch->state;
	int rc = write_tail(ch);

	if (rc < 0 || c->answer_head == c->answer_sent)
		return rc;
	rc = write_index(ch, c->found.answers, c->answer_head, offsetof(struct region_v11_response, head));
	if (rc == 0)
		c->answer_sent = c->answer_head;
	return rc;
}

static struct region_response answer_for(const struct uiopf_reply *reply, uint32_t code, bool with_data)
{
	struct region_response answer = {
		.version = REGION_RESPONSE_VERSION,
		.flags = reply->flags & REGION_PRM_PASID_VALID ? REGION_RESPONSE_PASID_VALID : 0,
		.pasid = reply->pasid,
		.grpid = reply->grpid,
		.code = code,
		.dev_id = reply->dev_id,
	};

	if (with_data) {
		answer.flags |= REGION_RESPONSE_PRIVATE_DATA;
		memcpy(answer.private_data, reply->private_data, sizeof answer.private_data);
	}
	return answer;
}

/* 0, 1 (refused) or -EINTR. */
static int answer_by_ioctl(struct uiopf_channel *ch, const struct uiopf_reply *reply, uint32_t code)
{
	struct client *c = ch->state;
	const struct region_page_response argument = {
		.argsz = reply->has_private ? sizeof argument : REGION_ARGSZ_SHORT,
		.response = answer_for(reply, code, reply->has_private),
	};
	int rc;

	uiopf_system_call(ch, true);
	rc = uiopf_fault_region_respond(&c->region, reply->dev_id, &argument);
	if (unlikely(rc == -EINTR))
		return rc;
	ch->cost.bytes_copied += argument.argsz;
	return rc < 0;
}

/* 0 or -EINTR. That it was refused the client never hears: as posted, the kernel dropped the error. */
static int answer_by_ring(struct uiopf_channel *ch, const struct uiopf_reply *reply, uint32_t code)
{
	struct client *c = ch->state;
	const uint32_t next = (c->answer_head + 1) % c->found.answer_entries;
	struct region_response answer;
	uint32_t word[5];
	int rc;

	if (unlikely(next == c->answer_tail)) {
		rc = flush(ch);
		if (rc == 0)
			rc = read_header(ch, c->found.answers, word, true);
		if (rc < 0)
			return rc;
		c->answer_tail = word[4];
	}
	answer = answer_for(reply, code, reply->has_private && c->found.answer_size == sizeof answer);
	memcpy(c->answers + (size_t)c->answer_head * c->found.answer_size, &answer, c->found.answer_size);
	c->answer_head = next;
	ch->cost.bytes_copied += c->found.answer_size;
	return 0;
}

static int answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n)
{
	struct client *c = ch->state;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const struct uiopf_reply *reply = uiopf_replies_find(&c->replies, responses[i].cookie);
		int rc = 1;

		if (reply)
			rc = c->abi == REGION_V11 ? answer_by_ring(ch, reply, responses[i].code) :
						    answer_by_ioctl(ch, reply, responses[i].code);
		if (unlikely(rc < 0))
			return i ? (int)i : rc;
		if (reply)
			uiopf_replies_give(&c->replies, responses[i].cookie);
		ch->cost.answer_errors += rc > 0;
	}
	return (int)n;
}

static bool holds(const struct uiopf_channel *ch)
{
	const struct client *c = ch->state;

	return c->answer_head != c->answer_sent || c->owes_tail;
}

static bool takes(const struct uiopf_channel *ch, uint32_t code)
{
	(void)ch;
	return code <= UIOPF_RESP_FAILURE;
}

static int private_data(const struct uiopf_channel *ch, uint32_t cookie, uint64_t out[2])
{
	const struct client *c = ch->state;

	return uiopf_replies_private_data(&c->replies, cookie, out);
}

/* ---- faults ---- */

/*
 * One record of a group, into `group`; false: more groups are unanswered than the client said. Of a group that is larger
 * than it said, it has the first messages and the last.
 */
static bool take_record(struct client *c, const struct region_fault *record)
{
	if (!c->partial && !uiopf_replies_take(&c->replies, &c->name))
		return false;
	if (unlikely(c->partial == c->group_most))
		c->partial--;
	c->group[c->partial++] = (struct iommu_hwpt_pgfault){
		.flags = record->prm.flags & (REGION_PRM_PASID_VALID | REGION_PRM_LAST_PAGE),
		.dev_id = record->dev_id,
		.pasid = record->prm.pasid,
		.grpid = record->prm.grpid,
		.perm = record->prm.perm,
		.addr = record->prm.addr,
		.cookie = c->name,
	};
	return true;
}

static uint32_t take_group(struct client *c, const struct region_fault *last, struct iommu_hwpt_pgfault *out)
{
	const uint32_t messages = c->partial;

	c->replies.reply[c->name] = (struct uiopf_reply){
		last->dev_id, last->prm.pasid, last->prm.grpid, last->prm.flags, true, last->prm.flags & REGION_PRM_PRIV_DATA,
		{ last->prm.private_data[0], last->prm.private_data[1] },
	};
	memcpy(out, c->group, messages * sizeof *out);
	c->partial = 0;
	return messages;
}

static int receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most)
{
	struct client *c = ch->state;
	uint32_t n = 0, word[5];
	int rc = flush(ch);

	if (unlikely(rc < 0))
		return rc;
	if (c->head == c->tail) {
		if (!c->told.told && uiopf_told_read(ch, &c->told) < 0)
			return -EINTR;
		if (!c->told.told)
			return 0;
		/* The eventfd may tell of a record that came with the last header. */
		rc = read_header(ch, c->found.faults, word, true);
		if (unlikely(rc < 0))
			return rc;
		c->head = word[4];
	}
	while (c->head != c->tail && n + c->partial < most) {
		const struct region_fault record = c->record[c->tail];

		if (unlikely(!take_record(c, &record)))
			break;
		ch->cost.bytes_copied += sizeof record;
		c->tail = (c->tail + 1) % c->found.entries;
		c->owes_tail = true;
		if (record.prm.flags & REGION_PRM_LAST_PAGE)
			n += take_group(c, &record, &out[n]);
	}
	c->told.told = c->head != c->tail;
	write_tail(ch);		/* if it is put off, the next call makes up for it */
	return n || c->head == c->tail ? (int)n : -ENOBUFS;
}

static int wait_region(struct uiopf_channel *ch, uint64_t timeout_ns)
{
	struct client *c = ch->state;
	int rc = flush(ch);

	return rc < 0 ? rc : uiopf_told_wait(ch, &c->told, timeout_ns);
}

static int prepare_sleep(struct uiopf_channel *ch)
{
	struct client *c = ch->state;
	int rc = flush(ch);

	return rc < 0 ? rc : uiopf_told_something(ch, &c->told);
}

/* ---- both ---- */

static void kernel_cost(struct uiopf_channel *ch, struct uiopf_cost *cost)
{
	struct client *c = ch->state;

	if (ch->core->live)
		cost->wakeups += READ_ONCE(&c->region.notified);
	cost->answer_errors += c->region.refused_answers;
}

static void unmap(const void *map, const struct uiopf_region *memory)
{
	if (map)
		munmap((void *)(uintptr_t)map, memory->size);
}

static void close_region(struct uiopf_channel *ch)
{
	struct client *c = ch->state;

	unmap(c->record, &c->region.records);
	unmap(c->answers, &c->region.answers);
	uiopf_fault_region_close(&c->region);
	uiopf_replies_free(&c->replies);
	free(c->group);
	free(c);
}

static int map(struct client *c, uint32_t group_most, uint32_t most)
{
	int rc = uiopf_replies_init(&c->replies, most);

	if (rc < 0)
		return rc;
	c->group_most = group_most;
	c->group = calloc(group_most, sizeof *c->group);
	c->record = uiopf_region_map_again(uiopf_fault_region_memory(&c->region, c->found.faults));
	if (c->abi == REGION_V11)
		c->answers = uiopf_region_map_again(uiopf_fault_region_memory(&c->region, c->found.answers));
	return !c->group || !c->record || (c->abi == REGION_V11 && !c->answers) ? -ENOMEM : 0;
}

static int open_region(struct uiopf_channel *ch, enum region_abi abi)
{
	const uint32_t most = ch->config.in_flight > 512 ? ch->config.in_flight : 512;
	struct client *c = calloc(1, sizeof *c);
	int rc;

	if (!c)
		return -ENOMEM;
	c->abi = abi;
	ch->state = c;
	rc = uiopf_fault_region_open(&c->region, ch->core, ch->queue, abi, true, most);
	if (rc < 0) {
		free(c);
		return rc;
	}
	c->told.notified = &c->region.notified;
	uiopf_fault_region_set_irq(&c->region, ch->eventfd);
	do
		rc = uiopf_region_find(&c->region, abi, &c->found);
	while (rc == -EINTR);
	if (rc == 0)
		rc = map(c, ch->config.group_most, most);
	if (rc < 0)
		close_region(ch);
	return rc;
}

static int open_v8(struct uiopf_channel *ch)
{
	return open_region(ch, REGION_V8);
}

static int open_v9(struct uiopf_channel *ch)
{
	return open_region(ch, REGION_V9);
}

static int open_v11(struct uiopf_channel *ch)
{
	return open_region(ch, REGION_V11);
}

#define INFO(name_, year_, summary_, entries_) .info = {	\
		.name = (name_),				\
		.year = (year_),				\
		.summary = (summary_),				\
		.personality = UIOPF_MERGED,			\
		.match = UIOPF_BY_INDEX,			\
		.has_client = true,				\
		.signals_awake = true,				\
		.most_faults = (entries_) - 1,			\
	}

#define FUNCTIONS						\
	.close = close_region,					\
	.receive = receive,					\
	.answer = answer,					\
	.flush = flush,						\
	.wait = wait_region,					\
	.prepare_sleep = prepare_sleep,				\
	.holds = holds,						\
	.takes = takes,						\
	.private_data = private_data,				\
	.kernel_cost = kernel_cost

const struct uiopf_design uiopf_design_region_v8 = {
	INFO("region-v8", "2019", "VFIO: 64 records in a mapped ring, ioctl per answer", REGION_V8_ENTRIES),
	.open = open_v8,
	FUNCTIONS,
};

const struct uiopf_design uiopf_design_region_v9 = {
	INFO("region-v9", "2019", "VFIO: 512 records in a mapped ring, ioctl per answer", REGION_ENTRIES),
	.open = open_v9,
	FUNCTIONS,
};

const struct uiopf_design uiopf_design_region = {
	INFO("region", "2020", "VFIO: mapped rings of records and of answers", REGION_ENTRIES),
	.open = open_v11,
	FUNCTIONS,
};
