/*
 * A function's page requests after any order of what software, the device and the IOMMU do: registers, Linux's calls,
 * resets, accesses, loads, requests made field by field, and answers to what is outstanding, was, or never was. Two
 * physical functions and a virtual one of the first. What is sent, counted and read is compared to a model that is
 * written down here from PCIe's text, and every state and refusal must have been seen in the end.
 *
 * pri STEPS SEED
 */
#include "check.h"
#include "core/core.h"
#include "hardware/iommu/vtd.h"

#define FUNCTIONS 3
#define GROUP_MOST 6u
#define ROWS 300u
#define PASIDS 10u
#define TICKETS (1u << 20)
#define MOST_WAITING 300u

enum kind { LOAD, MANUAL, RAW };

static struct model_pri {
	bool enable, rf, uprgi, stopped, failed;
	uint32_t allocation, capacity;
} pri[2];

static struct function {
	struct uiopf_endpoint *ep;
	struct model_pri *pri;
	bool is_virtual;
	uint16_t requester_id;
	uint32_t retries;
	struct { bool open, complete; enum kind kind; uint32_t pages, ticket, tries, pasid; } group[512];
	struct { uint8_t pages, result, pasid; bool sent; } *access;
	bool stopped[PASIDS];
	uint32_t accesses, first_waiting, pending;
	bool active;
	uint32_t cursor, rows, in_flight, load_group, passes;
	struct uiopf_endpoint_counts counts;
	struct { uint32_t index, code; } answer[1024];
	uint32_t answers;
} function[FUNCTIONS];

static struct uiopf_vtd *vtd;
static uint64_t drawn;
static bool steady, calm;

/* What must have been seen. */
enum seen {
	SENT_ACCESS, SENT_LOAD, OVERTOOK, CUT, IGNORED, UNEXPECTED, UNEXPECTED_FAILURE, FAILED_STOPPING, CLEARED, STOPPED_LATE,
	ENABLE_BUSY, ENABLE_REFUSED, ENABLE_SMALL, RESET_BUSY, RESET_ENABLED_IGNORED, START_SMALL, ACCESS_SMALL, RAW_DISABLED,
	RAW_NO_CREDIT, RAW_BUSY, RAW_LONG, RAW_SENT, STOP_MARKER, FORGED, STRANGER, NO_CAPABILITY, NO_REGISTER, PASS_CUT_SHORT,
	FLR, FLR_VIRTUAL, ASKED_AGAIN, ASKED_OFTEN_ENOUGH,
	ROW_PASSED_OVER, WAITING_ENDED, ACCESS_STOPPED, STOPPED_WAITS, SEEN
};
static uint32_t seen[SEEN];

static uint32_t random_below(uint32_t n)
{
	return below(&drawn, n);
}

/* ---- the model ---- */

static uint32_t used_by(const struct function *f)
{
	uint32_t i, pages = 0;

	for (i = 0; i < 512; i++)
		pages += f->group[i].open ? f->group[i].pages : 0;
	return pages;
}

static uint32_t used(const struct model_pri *p)
{
	uint32_t i, pages = 0;

	for (i = 0; i < FUNCTIONS; i++)
		pages += function[i].pri == p ? used_by(&function[i]) : 0;
	return pages;
}

static bool sends(const struct model_pri *p)
{
	return p->enable && !p->failed;
}

static void settle(struct model_pri *p)
{
	if (sends(p) || used(p))
		return;
	seen[STOPPED_LATE] += !p->stopped;
	p->stopped = true;
}

static void end_access(struct function *f, uint32_t ticket, uint32_t result)
{
	f->access[ticket].result = (uint8_t)result;
	f->pending--;
}

static void clear(struct function *f)
{
	uint32_t i;

	for (i = 0; i < 512; i++) {
		if (!f->group[i].open)
			continue;
		f->counts.cleared += f->group[i].pages;
		f->counts.cleared_groups++;
		f->group[i].open = false;
		if (f->group[i].kind == MANUAL)
			end_access(f, f->group[i].ticket, UIOPF_ACCESS_FAILED);
		seen[CLEARED]++;
	}
}

static void clear_all(struct model_pri *p)
{
	uint32_t i;

	for (i = 0; i < FUNCTIONS; i++)
		if (function[i].pri == p)
			clear(&function[i]);
}

static void model_enable(struct model_pri *p)
{
	if (p->enable)
		return;
	p->enable = true;
	p->rf = p->uprgi = p->stopped = p->failed = false;
}

static void model_disable(struct model_pri *p, bool reset)
{
	p->enable = false;
	settle(p);
	if (!reset)
		return;
	clear_all(p);
	p->failed = false;
	settle(p);
}

static void model_failure(struct model_pri *p)
{
	p->rf = true;
	if (!p->enable && !p->failed) {
		seen[FAILED_STOPPING] += used(p) > 0;
		clear_all(p);
	}
	p->failed = true;
	settle(p);
}

/* ---- what is sent ---- */

static struct uiopf_records *queue(void)
{
	return &vtd->prq;
}

/* The next request that is in the queue: what the IOMMU has got. */
static const uint64_t *next_request(void)
{
	const uint64_t *d;

	CHECK(queue()->head != queue()->written);
	d = &queue()->places.ring[4 * (queue()->head & queue()->places.mask)];
	queue()->head++;
	return d;
}

static void nothing_more(void)
{
	CHECK_EQ(queue()->written - queue()->head, 0);
	CHECK(!(vtd->prq_status & 2));
	vtd->prq_status = 0;
}

/* So many requests of one group of a free index, of which the last has the flag. */
static uint32_t expect_group(struct function *f, enum kind kind, uint32_t pages, uint32_t pasid)
{
	uint32_t i, index = 0;

	for (i = 0; i < pages; i++) {
		const uint64_t *d = next_request();

		CHECK_EQ(d[0] >> 16 & 0xffff, f->requester_id);
		CHECK_EQ(d[0] >> 32 & 0xfffff, pasid);
		if (i == 0)
			index = d[1] >> 3 & 0x1ff;
		CHECK_EQ(d[1] >> 3 & 0x1ff, index);
		CHECK_EQ(d[1] >> 2 & 1, i + 1 == pages);
	}
	CHECK(!f->group[index].open);
	f->group[index].open = f->group[index].complete = true;
	f->group[index].kind = kind;
	f->group[index].pages = pages;
	f->group[index].tries = 0;
	f->group[index].pasid = pasid;
	f->counts.sent += pages;
	f->counts.sent_groups++;
	return index;
}

static uint32_t open_groups(const struct function *f, bool also_raw)
{
	uint32_t i, n = 0;

	for (i = 0; i < 512; i++)
		n += f->group[i].open && (also_raw || f->group[i].kind != RAW);
	return n;
}

static bool may_open(const struct function *f, uint32_t pages)
{
	return sends(f->pri) && used(f->pri) + pages <= f->pri->allocation && open_groups(f, true) < 512;
}

/* Rows of one PASID stand together, thirteen at a time. */
static uint32_t pasid_of(uint32_t row)
{
	return 1 + row / 13 % (PASIDS - 1);
}

static bool expect_load(struct function *f)
{
	uint32_t credits = f->pri->allocation ? f->pri->allocation : 1;
	const uint32_t most = f->load_group < credits ? f->load_group : credits;
	uint32_t pages;

	if (!f->active || f->cursor == f->rows || open_groups(f, false) >= f->in_flight || !may_open(f, most))
		return false;
	if (f->stopped[pasid_of(f->cursor)]) {
		f->cursor++;
		seen[ROW_PASSED_OVER]++;
		return true;
	}
	seen[CUT] += most < f->load_group;
	for (pages = 1; pages < most && f->cursor + pages < f->rows; pages++)
		if (pasid_of(f->cursor + pages) != pasid_of(f->cursor))
			break;
	expect_group(f, LOAD, pages, pasid_of(f->cursor));
	f->cursor += pages;
	seen[SENT_LOAD]++;
	return true;
}

/* ---- what is done ---- */

static void do_turn(struct function *f)
{
	uint32_t i, n = 0;
	bool waits = false;

	uiopf_model_endpoint_turn(&vtd->model, f->ep);
	for (i = f->first_waiting; i < f->accesses; i++) {
		if (f->access[i].sent || f->access[i].result)
			continue;
		if (!may_open(f, f->access[i].pages)) {
			waits = true;
			continue;
		}
		f->group[expect_group(f, MANUAL, f->access[i].pages, f->access[i].pasid)].ticket = i;
		f->access[i].sent = true;
		seen[OVERTOOK] += waits;
		seen[SENT_ACCESS]++;
		n++;
	}
	while (n < 256 && expect_load(f))
		n++;
	if (f->active && !open_groups(f, false) && (f->cursor == f->rows || !sends(f->pri) || !f->pri->allocation)) {
		seen[PASS_CUT_SHORT] += f->cursor != f->rows;
		f->active = false;
		f->passes++;
	}
	nothing_more();
}

static void log_answer(struct function *f, uint32_t index, uint32_t code)
{
	f->answer[f->answers].index = index;
	f->answer[f->answers++].code = code;
}

static void do_answer(struct function *f)
{
	static const uint32_t codes[] = { 0, 0, 0, 0, 0, 1, 1, 1, 2, 0xf, 7 };
	const uint32_t code = codes[random_below(steady || random_below(6) ? 8 : 11)];
	uint32_t index = random_below(512), tries, result;

	/* Mostly what waits for an answer; now and then what does not, or is still without its last. */
	for (tries = 0; random_below(40) && tries < 512 && !(f->group[index].open && f->group[index].complete); tries++)
		index = (index + 1) % 512;
	uiopf_model_endpoint_response(&vtd->model, f->ep, index, code, 0);
	if (!f->group[index].open) {
		log_answer(f, index, code);
		if (f->pri->failed) {
			f->counts.ignored++;
		} else {
			f->counts.unexpected++;
			if (code <= 1)
				f->pri->uprgi = true;
			else
				model_failure(f->pri);
			seen[code <= 1 ? UNEXPECTED : UNEXPECTED_FAILURE]++;
		}
		nothing_more();
		return;
	}
	if (f->pri->failed || code > 1) {
		f->counts.ignored += f->pri->failed;
		seen[IGNORED] += f->pri->failed;
		f->counts.failed += f->group[index].pages;
		result = UIOPF_ACCESS_FAILED;
	} else if (code == 0) {
		f->counts.unmapped += f->group[index].pages;	/* there are no tables */
		result = UIOPF_ACCESS_UNMAPPED;
	} else {
		f->counts.invalid += f->group[index].pages;
		result = UIOPF_ACCESS_INVALID;
	}
	if (code == 0 && f->retries && f->group[index].kind != RAW) {
		const bool again = f->group[index].tries < f->retries && sends(f->pri) && used(f->pri) <= f->pri->allocation &&
				   !f->stopped[f->group[index].pasid];

		seen[ASKED_OFTEN_ENOUGH] += f->group[index].tries == f->retries;
		if (again) {	/* it ends by being asked for anew, in a group of its own */
			const uint32_t tries = f->group[index].tries + 1, pages = f->group[index].pages;
			const uint32_t ticket = f->group[index].ticket, pasid = f->group[index].pasid;
			const enum kind kind = f->group[index].kind;
			uint32_t next;

			f->counts.unmapped -= pages;
			f->counts.retried += pages;
			f->group[index].open = false;
			next = expect_group(f, kind, pages, pasid);
			f->group[next].tries = tries;
			f->group[next].ticket = ticket;
			seen[ASKED_AGAIN]++;
			expect_load(f);
			nothing_more();
			return;
		}
	}
	f->group[index].open = false;
	f->counts.latency_count += f->group[index].kind != RAW;
	if (f->group[index].kind == MANUAL)
		end_access(f, f->group[index].ticket, result);
	else if (f->group[index].kind == RAW)
		log_answer(f, index, code);
	if (code > 1 && !f->pri->failed)
		model_failure(f->pri);
	settle(f->pri);
	expect_load(f);
	nothing_more();
}

static bool has_credits(const struct function *f, uint32_t pages)
{
	return pages <= (f->pri->enable ? f->pri->allocation : f->pri->capacity);
}

static void do_access(struct function *f)
{
	const uint32_t pages = 1 + random_below(GROUP_MOST), pasid = 1 + random_below(PASIDS - 1);
	int64_t ticket;

	if (f->pending == MOST_WAITING || f->accesses == TICKETS)
		return;
	ticket = uiopf_endpoint_access(f->ep, pasid, 4096ull * random_below(1000), 1 + random_below(3), pages);
	if (f->stopped[pasid]) {
		CHECK_EQ(ticket, -EPERM);
		seen[ACCESS_STOPPED]++;
		return;
	}
	if (!has_credits(f, pages)) {
		CHECK_EQ(ticket, -ENOSPC);
		seen[ACCESS_SMALL]++;
		return;
	}
	/* Beyond the newest 1,024 an access must have ended. */
	if (f->accesses >= 1024 && !f->access[f->accesses - 1024].result) {
		CHECK_EQ(ticket, -EBUSY);
		return;
	}
	CHECK_EQ(ticket, f->accesses);
	f->access[f->accesses].pages = (uint8_t)pages;
	f->access[f->accesses].pasid = (uint8_t)pasid;
	f->accesses++;
	f->pending++;
}

static void do_start(struct function *f)
{
	const struct uiopf_load load = {
		.mode = UIOPF_LOAD_CLOSED, .in_flight = 1 + random_below(40), .group = 1 + random_below(GROUP_MOST),
	};
	const int rc = uiopf_endpoint_start(f->ep, &load);

	if (f->active) {
		CHECK_EQ(rc, -EBUSY);
	} else if (!has_credits(f, load.group)) {
		CHECK_EQ(rc, -ENOSPC);
		seen[START_SMALL]++;
	} else {
		CHECK_EQ(rc, 0);
		f->active = true;
		f->cursor = 0;
		f->in_flight = load.in_flight;
		f->load_group = load.group;
	}
}

static void do_raw(struct function *f)
{
	const uint32_t whose = random_below(8), index = random_below(4) ? random_below(3) : random_below(512);
	struct uiopf_raw_request raw = { .requester_id = f->requester_id, .message = (uint64_t)index << 3 };
	const bool marker = random_below(10) == 0;
	struct function *other = NULL;
	int rc, expected = 0;

	raw.message |= random_below(8) ? random_below(4) : 0;
	raw.message |= random_below(6) ? 0 : 4;
	raw.message |= next_random(&drawn) << 12;
	if (random_below(4)) {
		raw.flags = UIOPF_RAW_PASID | (random_below(3) ? 0 : random_below(8) & ~1u);
		raw.pasid = random_below(1 << 20);
	}
	if (marker) {
		raw.message = (raw.message & ~7ull) | 4;
		raw.flags = UIOPF_RAW_PASID;
	}
	if (whose == 0)
		other = &function[random_below(FUNCTIONS)];
	if (other)
		raw.requester_id = other->requester_id;
	if (whose == 1)
		raw.requester_id = 0x7777;
	rc = uiopf_endpoint_send_raw(f->ep, &raw);
	if ((raw.message & 7) == 4 && raw.flags == UIOPF_RAW_PASID) {
		expected = sends(f->pri) || raw.requester_id != f->requester_id ? 0 : -EPERM;
		seen[STOP_MARKER] += expected == 0;
	} else if (raw.requester_id != f->requester_id) {
		if (other)
			other->counts.forged++;
		seen[other ? FORGED : STRANGER]++;
	} else if (!sends(f->pri)) {
		expected = -EPERM;
		seen[RAW_DISABLED]++;
	} else if (used(f->pri) >= f->pri->allocation) {
		expected = -ENOSPC;
		seen[RAW_NO_CREDIT]++;
	} else if (f->group[index].open && (f->group[index].kind != RAW || f->group[index].complete)) {
		expected = -EBUSY;
		seen[RAW_BUSY]++;
	} else if (f->group[index].open && f->group[index].pages == GROUP_MOST) {
		expected = -E2BIG;
		seen[RAW_LONG]++;
	} else {
		if (!f->group[index].open) {
			f->group[index].open = true;
			f->group[index].kind = RAW;
			f->group[index].pages = 0;
			f->group[index].pasid = raw.pasid;
			f->counts.sent_groups++;
		}
		f->group[index].pages++;
		f->group[index].complete = raw.message & 4;
		f->counts.sent++;
		seen[RAW_SENT]++;
	}
	CHECK_EQ(rc, expected);
	if (rc == 0) {
		const uint64_t *d = next_request();

		CHECK_EQ(d[0] >> 16 & 0xffff, raw.requester_id);
		CHECK_EQ(d[0] >> 8 & 1, raw.flags & 1);
		CHECK_EQ(d[0] >> 32 & 0xfffff, raw.pasid);
		CHECK_EQ(d[0] >> 52 & 3, raw.flags >> 1);
		CHECK_EQ(d[1], raw.message);
	}
	nothing_more();
}

static void do_register(struct function *f)
{
	const uint32_t value = random_below(3) ? random_below(4) : (uint32_t)next_random(&drawn);
	static const uint32_t offsets[] = { 4, 4, 6, 6, 8, 12, 12, 12, 12, 0, 2, 16 };
	const uint32_t offset = calm && random_below(2) ? 12 : offsets[random_below(12)];
	const uint32_t written = offset == 12 && random_below(8) ? random_below(random_below(2) ? 8 : 40) : value;
	const int rc = uiopf_endpoint_write_pri(f->ep, offset, written);

	if (f->is_virtual) {
		CHECK_EQ(rc, -ENOENT);
		seen[NO_CAPABILITY]++;
		return;
	}
	CHECK_EQ(rc, offset == 2 || offset == 16 ? -EINVAL : 0);
	seen[NO_REGISTER] += rc != 0;
	if (offset == 4) {
		seen[RESET_ENABLED_IGNORED] += (written & 3) == 3 && f->pri->enable && used(f->pri);
		if (written & 1)
			model_enable(f->pri);
		else
			model_disable(f->pri, written & 2);
	} else if (offset == 6) {
		f->pri->rf &= !(written & 1);
		f->pri->uprgi &= !(written & 2);
	} else if (offset == 12) {
		f->pri->allocation = written < f->pri->capacity ? written : f->pri->capacity;
	}
}

static uint32_t largest_of(const struct function *f, uint32_t most)
{
	uint32_t i;

	if (f->active && f->cursor < f->rows && f->load_group > most)
		most = f->load_group;

	for (i = f->first_waiting; i < f->accesses; i++)
		if (!f->access[i].sent && !f->access[i].result && f->access[i].pages > most)
			most = f->access[i].pages;
	return most;
}

/* Pages of the largest group that the function, or another with the same capability, is still to send. */
static uint32_t largest_waiting(const struct function *f)
{
	uint32_t most = 0, i;

	for (i = 0; i < FUNCTIONS; i++)
		if (function[i].pri == f->pri)
			most = largest_of(&function[i], most);
	return most;
}

static void do_linux(struct function *f)
{
	uint32_t allocation = random_below(4) ? 20 + random_below(60) : random_below(20);
	int rc;

	switch (random_below(4)) {
	case 0:
		uiopf_endpoint_disable_pri(f->ep);
		if (!f->is_virtual)
			model_disable(f->pri, false);
		break;
	case 1:
		rc = uiopf_endpoint_reset_pri(f->ep);
		CHECK_EQ(rc, !f->is_virtual && f->pri->enable ? -EBUSY : 0);
		seen[RESET_BUSY] += rc != 0;
		if (rc == 0 && !f->is_virtual)
			model_disable(f->pri, true);
		break;
	default:
		rc = uiopf_endpoint_enable_pri(f->ep, allocation);
		if (f->is_virtual) {
			CHECK_EQ(rc, f->pri->enable ? 0 : -EINVAL);
			seen[ENABLE_REFUSED] += rc != 0;
			break;
		}
		if (allocation > f->pri->capacity)
			allocation = f->pri->capacity;
		if (f->pri->enable || !f->pri->stopped) {
			CHECK_EQ(rc, -EBUSY);
			seen[ENABLE_BUSY]++;
		} else if (largest_waiting(f) > allocation) {
			CHECK_EQ(rc, -ENOSPC);
			seen[ENABLE_SMALL]++;
		} else {
			CHECK_EQ(rc, 0);
			f->pri->allocation = allocation;
			model_enable(f->pri);
		}
	}
}

static void do_stop(struct function *f)
{
	const uint32_t pasid = 1 + random_below(PASIDS - 1);
	const bool marker = random_below(2);
	uint32_t i, waits = 0;

	if (random_below(2)) {
		uiopf_endpoint_resume_pasid(f->ep, pasid);
		f->stopped[pasid] = false;
		return;
	}
	for (i = 0; i < 512; i++)
		waits += f->group[i].open && f->group[i].pasid == pasid ? f->group[i].pages : 0;
	CHECK_EQ(uiopf_endpoint_stop_pasid(f->ep, pasid, marker), waits);
	seen[STOPPED_WAITS] += waits > 0;
	f->stopped[pasid] = true;
	for (i = f->first_waiting; i < f->accesses; i++)
		if (!f->access[i].sent && !f->access[i].result && f->access[i].pasid == pasid) {
			end_access(f, i, UIOPF_ACCESS_FAILED);
			seen[WAITING_ENDED]++;
		}
	if (marker && sends(f->pri)) {
		const uint64_t *d = next_request();

		CHECK_EQ(d[0], 0x101 | (uint64_t)f->requester_id << 16 | (uint64_t)pasid << 32);
		CHECK_EQ(d[1], 4);
	}
	nothing_more();
	CHECK_EQ(uiopf_endpoint_stop_pasid(f->ep, 1 << 20, 0), -EINVAL);
}

static void do_reset(struct function *f)
{
	uint32_t i;

	uiopf_endpoint_reset(f->ep);
	f->cursor = f->rows;
	memset(f->stopped, 0, sizeof f->stopped);
	for (i = f->first_waiting; i < f->accesses; i++)
		if (!f->access[i].sent && !f->access[i].result)
			end_access(f, i, UIOPF_ACCESS_FAILED);
	if (f->is_virtual) {
		clear(f);
		settle(f->pri);
	} else {
		model_disable(f->pri, true);
		f->pri->rf = f->pri->uprgi = false;
		f->pri->allocation = 0;
	}
	seen[f->is_virtual ? FLR_VIRTUAL : FLR]++;
}

/* ---- what can be seen of it ---- */

static void compare_function(struct function *f)
{
	struct uiopf_prg_answer answer[1024];
	struct uiopf_endpoint_counts c;
	uint32_t i, n;

	uiopf_endpoint_get_counts(f->ep, &c);
	CHECK_EQ(c.sent, f->counts.sent);
	CHECK_EQ(c.sent_groups, f->counts.sent_groups);
	CHECK_EQ(c.succeeded, 0);
	CHECK_EQ(c.unmapped, f->counts.unmapped);
	CHECK_EQ(c.retried, f->counts.retried);
	CHECK_EQ(c.invalid, f->counts.invalid);
	CHECK_EQ(c.failed, f->counts.failed);
	CHECK_EQ(c.unexpected, f->counts.unexpected);
	CHECK_EQ(c.ignored, f->counts.ignored);
	CHECK_EQ(c.cleared, f->counts.cleared);
	CHECK_EQ(c.cleared_groups, f->counts.cleared_groups);
	CHECK_EQ(c.forged, f->counts.forged);
	CHECK_EQ(c.latency_count, f->counts.latency_count);
	CHECK_EQ(c.outstanding, used_by(f));
	CHECK_EQ(c.sent, c.succeeded + c.unmapped + c.retried + c.invalid + c.failed + c.cleared + c.outstanding);
	CHECK_EQ(c.pri_status, f->pri->rf | f->pri->uprgi << 1 | f->pri->stopped << 8);
	CHECK_EQ(uiopf_endpoint_passes(f->ep), f->passes);
	while (f->first_waiting < f->accesses && f->access[f->first_waiting].result) {
		if (f->accesses - f->first_waiting <= 1024)
			CHECK_EQ(uiopf_endpoint_result(f->ep, f->first_waiting), f->access[f->first_waiting].result);
		f->first_waiting++;
	}
	for (i = f->first_waiting; i < f->accesses; i++)
		CHECK_EQ(uiopf_endpoint_result(f->ep, i), f->access[i].result);
	n = uiopf_endpoint_take_raw_answers(f->ep, answer, 1024);
	CHECK_EQ(n, f->answers);
	for (i = 0; i < n; i++) {
		CHECK_EQ(answer[i].index, f->answer[i].index);
		CHECK_EQ(answer[i].code, f->answer[i].code);
	}
	f->answers = 0;
	CHECK_EQ(uiopf_endpoint_read_pri(f->ep, 4), f->is_virtual ? -ENOENT : f->pri->enable);
	if (f->is_virtual)
		return;
	CHECK_EQ(uiopf_endpoint_read_pri(f->ep, 6), c.pri_status | 0x8000);
	CHECK_EQ(uiopf_endpoint_read_pri(f->ep, 8), f->pri->capacity);
	CHECK_EQ(uiopf_endpoint_read_pri(f->ep, 12), f->pri->allocation);
	CHECK_EQ(uiopf_endpoint_read_pri(f->ep, 0), 0x10013);
	CHECK_EQ(uiopf_endpoint_read_pri(f->ep, 2), -EINVAL);
}

static void open_function(struct function *f, struct uiopf_endpoint *ep, uint16_t requester_id, struct model_pri *p)
{
	static struct uiopf_access row[ROWS];
	uint32_t i;

	CHECK(ep);
	*f = (struct function){ .ep = ep, .pri = p, .requester_id = requester_id, .rows = ROWS };
	f->access = calloc(TICKETS, sizeof *f->access);
	CHECK(f->access);
	for (i = 0; i < ROWS; i++)
		row[i] = (struct uiopf_access){ .address = 4096ull * i, .pasid = pasid_of(i), .access = 1 };
	CHECK_EQ(uiopf_endpoint_set_rows(ep, row, ROWS), 0);
}

int main(int argc, char **argv)
{
	const uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000;
	struct uiopf_core *core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	struct uiopf_model *model;
	struct uiopf_port *port;
	uint64_t step;
	uint32_t i;

	drawn = seed_from(argc, argv, 2);
	CHECK(core);
	model = uiopf_model_new(core, &uiopf_model_vtd, 0);
	CHECK(model);
	vtd = uiopf_vtd_of(model);
	port = uiopf_model_port(model);
	pri[0] = (struct model_pri){ .stopped = true, .capacity = 64 };
	pri[1] = (struct model_pri){ .stopped = true, .capacity = 1000 };
	open_function(&function[0], uiopf_endpoint_new(core, port, 0x100, 64, GROUP_MOST), 0x100, &pri[0]);
	open_function(&function[1], uiopf_endpoint_new(core, port, 0x200, 1000, GROUP_MOST), 0x200, &pri[1]);
	open_function(&function[2], uiopf_endpoint_new_virtual(function[0].ep, 0x101, GROUP_MOST), 0x101, &pri[0]);
	function[2].is_virtual = true;
	/* One asks again now and then, one never, and one twice. */
	CHECK_EQ(uiopf_endpoint_set_retries(function[0].ep, 32), -EINVAL);
	CHECK_EQ(uiopf_endpoint_set_retries(function[0].ep, function[0].retries = 1), 0);
	CHECK_EQ(uiopf_endpoint_set_retries(function[2].ep, function[2].retries = 2), 0);
	for (step = 0; step < steps; step++) {
		struct function *f = &function[random_below(FUNCTIONS)];
		uint32_t what = random_below(1000);

		/* Now and then only loads ask for anything; or nothing is switched, and nothing fails. */
		if (step % 1024 == 0) {
			calm = random_below(3) == 0;
			steady = !calm && random_below(2);
		}
		if (steady && what >= 900 && sends(f->pri))
			what = 899;
		if (calm && ((what >= 600 && what < 720) || (what >= 760 && what < 900)))
			what = 599;
		if (what < 300)
			do_turn(f);
		else if (what < 600)
			do_answer(f);
		else if (what < 720)
			do_access(f);
		else if (what < 760)
			do_start(f);
		else if (what < 900)
			do_raw(f);
		else if (what < 950)
			do_register(f);
		else if (what < 980)
			do_linux(f);
		else if (what < 995)
			do_stop(f);
		else
			do_reset(f);
		for (i = 0; i < FUNCTIONS; i++)
			compare_function(&function[i]);
	}
	for (i = 0; i < SEEN && steps >= 100000; i++)
		if (!seen[i]) {
			fprintf(stderr, "number %" PRIu32 " of enum seen was never seen\n", i);
			abort();
		}
	/* In either order: the capability goes with the last that shares it. */
	uiopf_endpoint_free(function[steps % 2 ? 0 : 2].ep);
	uiopf_endpoint_free(function[steps % 2 ? 2 : 0].ep);
	uiopf_endpoint_free(function[1].ep);
	for (i = 0; i < FUNCTIONS; i++)
		free(function[i].access);
	uiopf_model_free(model);
	CHECK_EQ(uiopf_core_free(core), 0);
	return 0;
}
