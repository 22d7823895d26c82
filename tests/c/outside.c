/*
 * An IOMMU model from outside of the package: this file, and a row in a table of its own. Its queue is the plainest there
 * is, an array of requests as they come; its command is one word. What stands in model.c must do the rest: functions that
 * come and go, bound or not, several of them, drains at detach and replace, credits, accounts.
 *
 * outside STEPS SEED
 */
#include "check.h"
#include "core/core.h"
#include "faults/faultq.h"
#include "hardware/iommu/model_path.h"

#define PLACES 64u
#define FUNCTIONS 3u

/* ---- the model ---- */

struct plain {
	struct uiopf_model model;
	struct uiopf_page_request request[PLACES];
	uint32_t requests;
};

#define COMMAND_WORDS 2u
#define COMMAND(requester_id, index, code) ((uint64_t)(code) << 32 | (uint64_t)(index) << 16 | (requester_id))

static struct plain *plain_of(struct uiopf_model *m)
{
	return container_of(m, struct plain, model);
}

static void take(void *above, struct uiopf_page_request request)
{
	struct plain *p = above;

	if (p->requests == PLACES)
		uiopf_model_drop(&p->model, request);
	else
		p->request[p->requests++] = request;
}

static uint32_t endpoint_turn(struct uiopf_model *m, struct uiopf_endpoint *endpoint)
{
	return uiopf_endpoint_turn(endpoint, take, plain_of(m));
}

static void send_one(struct uiopf_model *m, struct uiopf_page_request request)
{
	take(plain_of(m), request);
}

static void answer(struct uiopf_model *m, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code, uint64_t now)
{
	uiopf_endpoint_response(endpoint, index, code, now, take, plain_of(m));
}

static struct uiopf_answer decode_answer(const uint64_t *command)
{
	return (struct uiopf_answer){
		.requester_id = command[0] & 0xffff, .index = command[0] >> 16 & 0xffff, .code = command[0] >> 32 & 0xf,
	};
}

static uint32_t execute(struct uiopf_model *m)
{
	return uiopf_model_carry_out(m, COMMAND_WORDS, decode_answer, take, plain_of(m));
}

static void give(struct uiopf_model *m, enum uiopf_side side, uint32_t requester_id, uint32_t index, uint32_t code)
{
	uiopf_commands_give(&m->commands[side], COMMAND_WORDS, COMMAND(requester_id, index, code), 0);
}

static void respond(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
		    uint32_t grpid, uint32_t code)
{
	(void)flags;
	(void)pasid;
	give(uiopf_model_of(device), side, device->requester_id, grpid, code);
}

static uint32_t interrupt(struct uiopf_model *m)
{
	struct plain *p = plain_of(m);
	const uint32_t n = p->requests;
	uint32_t i;

	for (i = 0; i < n; i++) {
		const struct uiopf_page_request *r = &p->request[i];
		struct uiopf_device *device = uiopf_model_device(m, r->requester_id);
		const bool last = r->message & PCIE_PRI_LAST;
		const struct uiopf_fault fault = {
			.addr = r->message & PCIE_PRI_ADDRESS,
			.flags = (last ? UIOPF_FAULT_LAST_PAGE : 0) | (r->has_pasid ? UIOPF_FAULT_PASID_VALID : 0),
			.pasid = r->pasid,
			.grpid = r->message >> PCIE_PRI_PRGI_SHIFT & 0x1ff,
			.perm = r->message & (PCIE_PRI_READ | PCIE_PRI_WRITE),
		};

		if (device) {
			uiopf_model_report(m, i, device, &fault);
		} else if (last) {
			give(m, UIOPF_PRODUCER, r->requester_id, fault.grpid, UIOPF_RESP_INVALID);
			++*uiopf_model_refusals(m, r->requester_id).refused;
		} else {
			++*uiopf_model_refusals(m, r->requester_id).passed_over;
		}
	}
	p->requests = 0;
	uiopf_model_kick(m, UIOPF_PRODUCER);
	return n;
}

static uint64_t unreported(const struct uiopf_model *m, const struct uiopf_device *device)
{
	const struct plain *p = container_of(m, const struct plain, model);
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; i < p->requests; i++)
		n += p->request[i].requester_id == device->requester_id;
	return n;
}

static int open_plain(struct uiopf_model *m)
{
	(void)m;	/* all of it has been made */
	return 0;
}

static void close_plain(struct uiopf_model *m)
{
	(void)m;
}

static const struct uiopf_model_ops plain = {
	.name = "plain",
	.size = sizeof(struct plain),
	.slots = PLACES,
	.command_words = COMMAND_WORDS,
	.open = open_plain,
	.close = close_plain,
	.endpoint_turn = endpoint_turn,
	.request = send_one,
	.execute = execute,
	.answer = answer,
	.interrupt = interrupt,
	.respond = respond,
	.unreported = unreported,
};

/* The row. */
static const struct uiopf_model_ops *const table[] = { &plain };

/* ---- what is played ---- */

static struct uiopf_core *core;
static struct uiopf_model *model;
static struct function {
	struct uiopf_endpoint *ep;
	struct uiopf_device *device;
	struct uiopf_faultq *q;
	bool bound, attached;
} function[FUNCTIONS];

static uint64_t answered;

static void answer_some(struct function *f, uint64_t *drawn)
{
	static struct iommu_hwpt_pgfault message[256];
	const int64_t got = uiopf_faultq_read(f->q, message, sizeof message);
	int64_t i;

	CHECK(got >= 0);
	for (i = 0; i < got / (int64_t)sizeof *message; i++) {
		const struct iommu_hwpt_page_response r = { .cookie = message[i].cookie, .code = below(drawn, 2) };

		if (!(message[i].flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE))
			continue;
		CHECK_EQ(uiopf_faultq_write(f->q, &r, sizeof r), sizeof r);
		answered++;
	}
}

static void check_accounts(void)
{
	struct uiopf_account a[FUNCTIONS];
	uint32_t i;

	for (i = 0; i < FUNCTIONS; i++)
		a[i] = (struct uiopf_account){ .endpoint = function[i].ep, .device = function[i].device };
	CHECK_EQ(uiopf_account(core, a, FUNCTIONS), 0);
	for (i = 0; i < FUNCTIONS; i++) {
		const struct uiopf_endpoint_counts *c = &a[i].counts;

		CHECK_EQ(c->sent, a[i].answered + a[i].auto_answered + a[i].reported.refused + a[i].reported.dropped +
				  c->unbound + c->unbound_passed_over + a[i].pending);
		CHECK_EQ(c->sent, c->succeeded + c->unmapped + c->invalid + c->failed + c->cleared + c->outstanding);
	}
	CHECK_EQ(model->overflowed, 0);
	CHECK_EQ(model->strangers, 0);
}

static void step(struct function *f, uint64_t *drawn)
{
	switch (below(drawn, 10)) {
	case 0:
	case 1:
		uiopf_endpoint_access(f->ep, 1 + below(drawn, 3), 4096ull * below(drawn, 99), 1 + below(drawn, 3),
				      1 + below(drawn, 4));
		break;
	case 2:
	case 3:
	case 4:
		uiopf_core_produce(core);
		break;
	case 5:
	case 6:
		answer_some(f, drawn);
		break;
	case 7:
		if (f->attached)
			CHECK_EQ(below(drawn, 2) ? uiopf_detach(f->device, UIOPF_NO_PASID) :
						   uiopf_replace(f->device, UIOPF_NO_PASID, NULL, 1), 0);
		else
			CHECK_EQ(uiopf_attach(f->device, UIOPF_NO_PASID, f->q, 1) == -EBUSY ?
				 uiopf_replace(f->device, UIOPF_NO_PASID, f->q, 1) : 0, 0);
		f->attached = !f->attached;
		break;
	case 8:
		CHECK_EQ(f->bound ? uiopf_model_unbind(model, f->device) : uiopf_model_bind(model, f->ep, f->device), 0);
		f->bound = !f->bound;
		break;
	default:
		uiopf_endpoint_reset(f->ep);
		CHECK_EQ(uiopf_endpoint_enable_pri(f->ep, PLACES / FUNCTIONS), 0);
	}
}

int main(int argc, char **argv)
{
	const uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 0) : 20000;
	uint64_t drawn = seed_from(argc, argv, 2), i;
	struct function *f;

	core = uiopf_core_new(UIOPF_CLOCK_MANUAL, 0, 0);
	CHECK(core);
	for (i = 0; strcmp(table[i]->name, "plain"); i++)
		;
	model = uiopf_model_new(core, table[i], 0);
	CHECK(model);
	for (f = function; f < function + FUNCTIONS; f++) {
		const uint16_t rid = (uint16_t)(0x100 + (f - function));

		f->ep = uiopf_endpoint_new(core, uiopf_model_port(model), rid, PLACES / FUNCTIONS, 4);
		f->device = uiopf_device_new(core, uiopf_model_iommu(model), rid, rid, 64, 0);
		f->q = uiopf_faultq_new(core, UIOPF_MERGED);
		CHECK(f->ep && f->device && f->q);
		CHECK_EQ(uiopf_endpoint_enable_pri(f->ep, PLACES / FUNCTIONS), 0);
	}
	for (i = 0; i < steps; i++) {
		step(&function[below(&drawn, FUNCTIONS)], &drawn);
		check_accounts();
	}
	CHECK(answered > steps / 100);
	for (f = function; f < function + FUNCTIONS; f++) {
		uiopf_detach(f->device, UIOPF_NO_PASID);
		uiopf_model_unbind(model, f->device);
	}
	for (i = 0; i < 4; i++)
		uiopf_core_produce(core);
	for (f = function; f < function + FUNCTIONS; f++) {
		struct uiopf_endpoint_counts counts;

		uiopf_endpoint_get_counts(f->ep, &counts);
		CHECK_EQ(counts.outstanding, 0);	/* every credit is back */
		uiopf_endpoint_free(f->ep);
		uiopf_device_free(f->device);
		CHECK_EQ(uiopf_faultq_free(f->q), 0);
	}
	uiopf_model_free(model);
	CHECK_EQ(uiopf_core_free(core), 0);
	return 0;
}
