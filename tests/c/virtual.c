/*
 * Virtual time: every design, drawn with a driver, a wait, a load, credits and prices, twice with slices of different length.
 * Both end at the same time, with the same counts, and every fault is answered. And once it is given up somewhere in the
 * middle: all come to rest, and the kernel answers what is left. Arguments: how many draws, the seed.
 */
#include "scene.h"

#define ROWS 300u
#define GROUP_MOST 4u

struct drawn {
	uint32_t design;
	enum uiopf_driver driver;
	struct uiopf_channel_config config;
	struct uiopf_load load;
	struct uiopf_prices prices;
	uint32_t credits;
	bool one_worker;
	bool unmapped;			/* the client of a pass finds fewer faults than rows: some pages are there */
};

struct outcome {
	uint64_t now_ns, client_ns, faults, latency_ns, sent;
};

static uint64_t a_price(uint64_t *random, uint32_t most_ns)
{
	return below(random, 4) ? (uint64_t)below(random, most_ns << UIOPF_PRICE_SHIFT) : 0;
}

/* A host may have no io_uring. */
static bool host_refuses(uint32_t design)
{
	const struct scene_config c = {
		.requester_id = 8, .device_id = 7, .capacity = 64, .group_most = GROUP_MOST, .pool = 64, .pages = 16,
	};
	const struct uiopf_channel_config config = { .in_flight = 1, .group_most = 1 };
	struct scene s = open_scene_of(&c);
	struct uiopf_faultq *q = uiopf_faultq_new(s.core, uiopf_design_info(design)->personality);
	struct uiopf_channel *channel;
	const bool refuses = uiopf_channel_open(s.core, q, design, &config, s.space, &channel) < 0;

	if (!refuses)
		uiopf_channel_close(channel);
	CHECK_EQ(uiopf_faultq_free(q), 0);
	close_scene_of(&s);
	return refuses;
}

static struct drawn draw(uint64_t *random)
{
	struct drawn d = { 0 };
	const struct uiopf_design_info *info;

	do {
		d.design = below(random, 32);
		info = uiopf_design_info(d.design);
	} while (!info || (info->on_host && host_refuses(d.design)));
	d.driver = info->has_client && (!(info->has_ring || info->on_host) || below(random, 2)) ? UIOPF_ENTER : UIOPF_SQPOLL;
	d.config.wait = below(random, 2) ? UIOPF_WAIT_SPIN : UIOPF_WAIT_SLEEP;
	d.load.in_flight = 1 + below(random, below(random, 3) ? 64 : 2);
	d.load.group = 1 + below(random, 2) * (GROUP_MOST - 1);
	d.load.mode = below(random, 3) ? UIOPF_LOAD_CLOSED : UIOPF_LOAD_POISSON;
	d.load.rate = 1e5 * (1 + below(random, 200));
	d.load.seed = next_random(random);
	d.config.in_flight = d.load.in_flight;
	d.config.group_most = d.load.group;
	d.credits = below(random, 2) ? 63 : 32;	/* region-v8 has room for 63 */
	d.unmapped = below(random, 4) == 0;
	d.one_worker = below(random, 2);
	d.prices = (struct uiopf_prices){
		.system_call = a_price(random, 400), .empty_poll = a_price(random, 400),
		.packet_sent = a_price(random, 900), .packet_received = a_price(random, 500), .copy_byte = a_price(random, 1), .sqe = a_price(random, 40),
		.cqe = a_price(random, 40), .punt = a_price(random, 1000), .look = a_price(random, 30),
		.line = a_price(random, 200), .sleep = a_price(random, 2000), .wake = a_price(random, 2000),
		.wake_up = a_price(random, 5000), .sent = a_price(random, 60), .answered = a_price(random, 60),
		.walk = a_price(random, 300), .interrupt = a_price(random, 2000), .taken = a_price(random, 60),
		.accepted = a_price(random, 60), .client = a_price(random, 60),
	};
	return d;
}

static void set_rows(struct scene *s, bool twice)
{
	struct uiopf_access *row = calloc(ROWS, sizeof *row);
	uint32_t i;

	for (i = 0; i < ROWS; i++)
		row[i] = (struct uiopf_access){
			.time_ns = i, .address = 4096ull * (twice ? i / 2 : i), .pasid = 3, .access = IOMMU_PGFAULT_PERM_READ,
		};
	CHECK_EQ(uiopf_endpoint_set_rows(s->ep, row, ROWS), 0);
	free(row);
}

/* One channel played: until two passes have ended, or given up after so many turns. */
static struct outcome play(const struct drawn *d, uint32_t slice, uint32_t give_up_after)
{
	const struct scene_config c = {
		.requester_id = 8, .device_id = 7, .capacity = 64, .group_most = GROUP_MOST, .pool = 64, .pages = 4096,
	};
	const struct uiopf_design_info *info = uiopf_design_info(d->design);
	struct scene s = open_scene_of(&c);
	struct uiopf_faultq *q = uiopf_faultq_new(s.core, info->personality);
	struct uiopf_virtual_counts counts = { 0 };
	struct uiopf_endpoint_counts ep;
	struct uiopf_channel *channel;
	struct uiopf_virtual *virtual;
	uint32_t pass, turns = 0;

	s.core->live = true;
	CHECK(q);
	CHECK_EQ(uiopf_attach(s.device, UIOPF_NO_PASID, q, 1), 0);
	CHECK_EQ(uiopf_endpoint_enable_pri(s.ep, d->credits), 0);
	set_rows(&s, d->unmapped);
	CHECK_EQ(uiopf_core_play(s.core, d->driver), 0);
	CHECK_EQ(uiopf_channel_open(s.core, q, d->design, &d->config, s.space, &channel), 0);
	virtual = uiopf_virtual_new(channel, s.space, s.ep, &d->prices, d->one_worker);
	CHECK(virtual);
	CHECK(!uiopf_virtual_new(channel, s.space, s.ep, &d->prices, 0));
	for (pass = 0; pass < 2 && turns <= give_up_after; pass++) {
		uint64_t before = counts.now_ns;

		uiopf_space_reset(s.space);
		CHECK_EQ(uiopf_virtual_start(virtual, &d->load, ROWS, UINT64_MAX), 0);
		while (uiopf_virtual_run(virtual, slice) && turns <= give_up_after)
			turns += slice;
		uiopf_virtual_get(virtual, &counts);
		CHECK(counts.now_ns >= before);
		if (turns > give_up_after)
			break;
		CHECK_EQ(counts.error, 0);
		CHECK(!counts.cut);
		CHECK_EQ(uiopf_endpoint_passes(s.ep), pass + 1);
		uiopf_endpoint_get_counts(s.ep, &ep);
		CHECK_EQ(ep.outstanding, 0);
		CHECK_EQ(ep.unmapped + ep.invalid + ep.failed, 0);
		if (info->has_client)
			CHECK_EQ(counts.faults, ep.sent);
	}
	uiopf_virtual_free(virtual);
	CHECK_EQ(uiopf_detach(s.device, UIOPF_NO_PASID), 0);
	uiopf_endpoint_cancel(s.ep);
	while (uiopf_core_produce(s.core))
		;
	uiopf_channel_close(channel);
	uiopf_core_stop(s.core);
	uiopf_endpoint_get_counts(s.ep, &ep);
	CHECK_EQ(ep.outstanding, 0);
	CHECK_EQ(ep.sent, ep.succeeded + ep.unmapped + ep.invalid + ep.failed + ep.retried + ep.cleared);
	CHECK_EQ(uiopf_faultq_free(q), 0);
	close_scene_of(&s);
	return (struct outcome){ counts.now_ns, counts.client_ns, counts.faults, ep.latency_sum_ns, ep.sent };
}

int main(int argc, char **argv)
{
	uint32_t draws = argc > 1 ? (uint32_t)atoi(argv[1]) : 500, i;
	uint64_t random = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);

	printf("seed %" PRIu64 "\n", random);
	for (i = 0; i < draws; i++) {
		const struct drawn d = draw(&random);
		const struct outcome one = play(&d, 1 + below(&random, 40), UINT32_MAX - 100000),
				     two = play(&d, 100000, UINT32_MAX - 100000);

		CHECK(!memcmp(&one, &two, sizeof one));
		CHECK(one.sent == 2 * ROWS || d.unmapped);
		play(&d, 1 + below(&random, 7), below(&random, 1500));
	}
	return 0;
}
