/*
 * Virtual time: the threads of a core on one thread, each on a simulated core with a time of its own.
 *
 * Three of them: the hardware, which turns uiopf_produce(); the kernel's polling thread, which turns uiopf_consume() under
 * `sqpoll`; and the client, whose calls are the kernel too under `enter`. Each is a coroutine. All of it is the code that
 * runs live. There, hardware and kernel are one thread: with `one_worker` the hardware's coroutine turns both here, too.
 *
 * The order. The coroutine that is furthest behind runs (of several, in the order of enum side). It gives way before it
 * stores what others look at, once its time has gone on by the price of what it has done: so each store is made in the order
 * of time, and a look finds what had been stored by then. Nothing has to be kept back, and no store needs a time.
 *
 * The price. One thread runs, so whatever has been counted between two looks at the counters is the work of the coroutine
 * that runs: charge() takes the difference, and adds what it costs to its time. The core's clock shows the time of the
 * coroutine that runs. Within a step it stands still.
 *
 * Waiting. A turn of hardware or kernel that has done nothing costs nothing, and the next comes with the next store of
 * another coroutine, or when a timer is due. A client that has looked in vain would go on looking: the looks that come
 * before the next store would be in vain too, so they are counted and not made. One that sleeps is woken by an eventfd.
 *
 * Quiet. A client that wants a quiescent section lets the others end their turns (park()). In the section nobody else runs.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "designs/channel.h"
#include "hardware/endpoint.h"

#define STACK (512u * 1024)
#define NEVER UINT64_MAX
#define FOR_EVER (UINT64_MAX / 2)
#define MOST_AT_ONE_TIME 64u	/* turns that do something and take no time: a price of 0, or something that is put off */
#define MOST_SLEEPS_IN_VAIN 64u	/* of a client, to the end of their time, while nobody has stored anything */

/* The host is whoever called: it has no time. Of several with one time, the first runs. */
enum side { CLIENT, KERNEL, HARDWARE, HOST };

enum state {
	READY,		/* it goes on at `now` */
	WAITS,		/* … with the next store of another, or at `until` */
	ASLEEP,		/* … when its eventfd can be read, or at `until` */
	GONE,		/* … with the next pass */
};

struct coroutine {
	struct uiopf_virtual *virtual;
	ucontext_t context;
	uint8_t *stack;
	size_t size;
	enum side side;
	enum state state;
	uint64_t now, until;	/* in 1/1024 ns */
	bool stirred;		/* another has stored something since it began to look */
	bool fresh;		/* … for which the line has not been paid */
	bool in_turn;		/* hardware and kernel: not at a boundary between two turns */
	/* The sanitizers'. */
	void *fake_stack, *fiber;
};

/* What has been counted so far. */
struct counted {
	struct uiopf_cost cost;
	uint64_t sent, answered, taken, accepted, received;
};

struct uiopf_virtual {
	struct uiopf_player player;
	struct uiopf_channel *ch;
	struct uiopf_core *core;
	struct uiopf_space *space;
	struct uiopf_endpoint *endpoint;
	struct uiopf_prices price;
	struct counted seen;
	struct coroutine side[HOST + 1];
	struct coroutine *running, *forced;	/* forced: wants quiet, and goes on next whatever the time */
	uint64_t turns, turns_left;
	uint64_t busy;				/* the client's */
	uint64_t look;				/* what the client's last look in vain has taken */
	bool look_calls;			/* … by a system call */
	bool finds;				/* the client has found something, and has not paid for the line */
	bool ends;				/* the client is to return */
	bool closing;				/* … and all are to come to a boundary */
	bool one_worker;			/* the hardware turns the kernel, too */
	int sleeps_on;
	uint32_t sleeps_in_vain;
	/* The pass. */
	struct uiopf_load load;
	uint64_t faults, cancel_at;
	bool cut;
	int32_t error;
	struct uiopf_served served;
};

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A time of the core's clock. */
static uint64_t from_ns(uint64_t ns)
{
	return ns > NEVER >> UIOPF_PRICE_SHIFT ? NEVER : ns << UIOPF_PRICE_SHIFT;
}

/* ---- coroutines ---- */

#if defined(__SANITIZE_ADDRESS__)
void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom, size_t *size);
#endif
#if defined(__SANITIZE_THREAD__)
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned int flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned int flags);
#endif

/* The address sanitizer wants to know of each stack that is switched to, and where the host's is. */
static void before_switch(struct coroutine *from, const struct coroutine *to)
{
	(void)from;
	(void)to;
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->size);
#endif
#if defined(__SANITIZE_THREAD__)
	__tsan_switch_to_fiber(to->fiber, 0);
#endif
}

static void after_switch(struct coroutine *self)
{
	(void)self;
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(self->fake_stack, NULL, NULL);
#endif
}

/* Called by the host: where its own stack is. */
static void note_host(struct coroutine *host)
{
	(void)host;
#if defined(__SANITIZE_ADDRESS__)
	{
		pthread_attr_t attributes;
		void *stack;

		if (!pthread_getattr_np(pthread_self(), &attributes)) {
			pthread_attr_getstack(&attributes, &stack, &host->size);
			host->stack = stack;
			pthread_attr_destroy(&attributes);
		}
	}
#endif
#if defined(__SANITIZE_THREAD__)
	host->fiber = __tsan_get_current_fiber();
#endif
}

static void show_time(const struct coroutine *self)
{
	if (self->side != HOST)
		WRITE_ONCE(&self->virtual->core->clock.manual_ns, self->now >> UIOPF_PRICE_SHIFT);
}

static void switch_to(struct uiopf_virtual *v, struct coroutine *to)
{
	struct coroutine *self = v->running;

	v->running = to;
	v->turns++;
	v->turns_left -= v->turns_left != 0;
	before_switch(self, to);
	swapcontext(&self->context, &to->context);
	after_switch(self);
}

/* ---- who is next ---- */

static uint64_t time_of(const struct coroutine *c)
{
	return c->state == READY ? c->now : c->state == GONE ? NEVER : c->until;
}

/* NULL: nobody has anything to do. */
static struct coroutine *next_of(struct uiopf_virtual *v)
{
	struct coroutine *first = NULL, *each;

	for (each = v->side; each < &v->side[HOST]; each++)
		if (time_of(each) != NEVER && (!first || time_of(each) < time_of(first)))
			first = each;
	return first;
}

/* Nothing more can happen: a client that goes on looking or sleeping returns. True where there is one. */
static bool end_client(struct uiopf_virtual *v)
{
	struct coroutine *client = &v->side[CLIENT];

	v->ends = true;
	if (client->state != WAITS && client->state != ASLEEP)
		return false;
	client->state = READY;
	return true;
}

/* Lets others run, until it is this coroutine's turn. The host's comes when the others have nothing to do, or enough done. */
static void give_way(struct uiopf_virtual *v)
{
	struct coroutine *self = v->running, *to;

	if (v->closing && self->side != HOST) {
		to = &v->side[HOST];
	} else if (v->forced) {
		to = v->forced;
	} else {
		to = next_of(v);
		if (!to)
			to = end_client(v) ? &v->side[CLIENT] : &v->side[HOST];
		if (!v->turns_left)
			to = &v->side[HOST];
	}
	if (to->side != HOST && to->state != READY) {
		to->now = later(to->now, to->until);
		to->state = READY;
	}
	if (to != self)
		switch_to(v, to);
	show_time(v->running);
}

/* ---- what it costs ---- */

static void look_at_counters(const struct uiopf_virtual *v, struct counted *c)
{
	struct uiopf_channel *ch = v->ch;

	c->cost = ch->cost;
	if (ch->design->kernel_cost)
		ch->design->kernel_cost(ch, &c->cost);
	c->sent = v->endpoint->counts.sent;
	c->answered = c->sent - v->endpoint->outstanding;
	c->taken = ch->watch->taken.groups;
	c->accepted = ch->watch->accepted.groups;
	c->received = ch->watch->received.groups;
}

#define SINCE(name) (now.name - v->seen.name)

/* The time of whoever runs goes on by the price of what was counted since the last look. */
static void charge(struct uiopf_virtual *v)
{
	struct coroutine *self = v->running;
	const struct uiopf_prices *p = &v->price;
	struct counted now;
	uint64_t price;
	bool finds;

	look_at_counters(v, &now);
	price = SINCE(cost.system_calls) * p->system_call + SINCE(cost.empty_polls) * p->empty_poll +
		SINCE(cost.packets_sent) * p->packet_sent + SINCE(cost.packets_received) * p->packet_received +
		SINCE(cost.bytes_copied) * p->copy_byte +
		SINCE(cost.punts) * p->punt + SINCE(cost.sqes) * p->sqe + SINCE(cost.cqes) * p->cqe +
		SINCE(taken) * p->taken + SINCE(accepted) * p->accepted +
		SINCE(sent) * (p->sent + p->walk) + SINCE(answered) * (p->answered + p->walk);
	if (SINCE(sent))
		price += p->interrupt;
	if (SINCE(received))	/* what the last receive returned is handled now */
		price += v->ch->received * p->client;
	switch (self->side) {
	case CLIENT:
		finds = v->finds;
		v->finds = false;
		break;
	case KERNEL:
		finds = self->fresh && (SINCE(taken) | SINCE(accepted) | SINCE(cost.sqes) | SINCE(cost.cqes));
		break;
	default:	/* one worker hears its own answers; those of a client come as SQEs, or through a socket of the host */
		finds = self->fresh && (!v->one_worker ? SINCE(answered) :
					v->ch->design->receive && (SINCE(cost.sqes) | SINCE(accepted)));
	}
	if (finds) {
		price += p->line;
		self->fresh = false;
	}
	v->seen = now;
	self->now += price;
	if (self->side == CLIENT)
		v->busy += price;
}

/* Somebody stores what the others look at. A client that looks all the time sees it at its next look. */
static void stir(struct uiopf_virtual *v)
{
	const struct coroutine *self = v->running;
	struct coroutine *each;
	uint64_t looks;

	v->sleeps_in_vain = 0;
	for (each = v->side; each < &v->side[HOST]; each++) {
		if (each == self)
			continue;
		each->stirred = each->fresh = true;
		if (each->state != WAITS)
			continue;
		each->state = READY;
		if (each->side != CLIENT) {
			each->now = later(each->now, self->now);
		} else if (each->now < self->now) {
			looks = v->look ? (self->now - each->now + v->look - 1) / v->look : 0;
			each->now = v->look ? each->now + looks * v->look : self->now;
			v->busy += looks * v->look;
			if (v->look_calls) {
				v->ch->cost.empty_polls += looks;
				v->seen.cost.empty_polls += looks;
			}
		}
	}
}

/* ---- what the core asks of its player ---- */

static struct uiopf_virtual *virtual_of(struct uiopf_player *player)
{
	return container_of(player, struct uiopf_virtual, player);
}

/* In a quiescent section, or on the way into one, and where all is given up, nobody else runs. */
static bool goes_on_alone(const struct uiopf_virtual *v)
{
	return v->closing || v->forced || v->core->control_depth;
}

/* In a section the others have stood still since it began, and do until now at least. */
static void hold_up_others(struct uiopf_virtual *v)
{
	const struct coroutine *self = v->running;
	struct coroutine *each;

	for (each = v->side; each < &v->side[HOST]; each++)
		if (each != self && each->state == READY)
			each->now = later(each->now, self->now);
	show_time(self);
}

static void pass(struct uiopf_player *player, enum uiopf_pass why)
{
	struct uiopf_virtual *v = virtual_of(player);

	if (v->running->side == HOST)
		return;
	v->finds |= why == UIOPF_FOUND;
	charge(v);
	if (!goes_on_alone(v))
		give_way(v);
	else if (v->core->control_depth)
		hold_up_others(v);
	if (why == UIOPF_STORES)
		stir(v);
}

static int look_again(struct uiopf_player *player)
{
	struct uiopf_virtual *v = virtual_of(player);
	struct coroutine *self = v->running;
	struct counted now;

	if (self->side == HOST)
		return -EINTR;
	look_at_counters(v, &now);
	v->look_calls = SINCE(cost.empty_polls);
	v->look = v->price.look + (v->look_calls ? v->price.empty_poll : 0);
	charge(v);
	self->now += v->price.look;
	v->busy += v->price.look;
	if (v->closing || v->ends)
		return -EINTR;
	if (!self->stirred) {
		self->state = WAITS;
		self->until = NEVER;
	}
	give_way(v);
	self->stirred = false;
	return v->closing || v->ends ? -EINTR : 0;
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static bool sleep_until(struct uiopf_player *player, int fd, uint64_t timeout_ns)
{
	struct uiopf_virtual *v = virtual_of(player);
	struct coroutine *self = v->running;

	if (self->side == HOST) {
		errno = EINTR;
		return false;
	}
	charge(v);
	if (!goes_on_alone(v))
		give_way(v);
	if (is_readable(fd))
		return true;
	if (!v->closing && !v->ends) {
		self->until = timeout_ns > FOR_EVER >> UIOPF_PRICE_SHIFT ? NEVER : self->now + from_ns(timeout_ns);
		self->now += v->price.sleep;
		v->busy += v->price.sleep;
		self->state = ASLEEP;
		v->sleeps_on = fd;
		give_way(v);
		if (is_readable(fd))
			return true;
		if (++v->sleeps_in_vain > MOST_SLEEPS_IN_VAIN)
			v->ends = true;
	}
	errno = v->closing || v->ends ? EINTR : 0;
	return false;
}

static void signalled(struct uiopf_player *player)
{
	struct uiopf_virtual *v = virtual_of(player);
	struct coroutine *self = v->running, *client = &v->side[CLIENT];

	if (self->side == HOST || client->state != ASLEEP || !is_readable(v->sleeps_on))
		return;
	client->state = READY;
	client->stirred = client->fresh = true;
	client->now = later(client->now, self->now) + v->price.wake_up;
	self->now += v->price.wake;
}

static void park(struct uiopf_player *player)
{
	struct uiopf_virtual *v = virtual_of(player);
	struct coroutine *self = v->running, *each;

	if (self->side == HOST)
		return;
	charge(v);
	if (!goes_on_alone(v))
		give_way(v);
	for (each = v->side; each < &v->side[HOST]; each++)
		while (each != self && each->in_turn) {
			if (v->closing) {
				give_way(v);
			} else {
				v->forced = self;
				switch_to(v, each);
				v->forced = NULL;
				self->now = later(self->now, each->now);
			}
		}
	show_time(self);
}

static const struct uiopf_player_ops player_ops = {
	.pass = pass,
	.look_again = look_again,
	.sleep = sleep_until,
	.signalled = signalled,
	.park = park,
};

/* ---- what each of them does ---- */

static void cancel_in_time(struct uiopf_virtual *v)
{
	struct uiopf_loader *load = &v->endpoint->load;

	if (v->side[HARDWARE].now < v->cancel_at || !load->active)
		return;
	v->cancel_at = NEVER;
	v->cut |= load->cursor < load->rows;
	load->cursor = load->rows;
}

static uint64_t due(const struct uiopf_virtual *v, enum side side)
{
	const uint64_t timer = from_ns(v->core->timer_ns);

	if (side == KERNEL)
		return timer;
	return sooner(sooner(from_ns(v->core->next_ns), v->one_worker ? timer : NEVER),
		      v->endpoint->load.active ? v->cancel_at : NEVER);
}

/* One turn; how much it did. */
static uint32_t turn(struct coroutine *self)
{
	struct uiopf_virtual *v = self->virtual;
	uint32_t did;

	if (self->side == KERNEL)
		return uiopf_consume(v->core);
	cancel_in_time(v);
	did = uiopf_produce(v->core);
	if (!v->one_worker)
		return did;
	charge(v);
	if (!goes_on_alone(v))	/* the kernel sees what has been stored by now */
		give_way(v);
	return did + uiopf_consume(v->core);
}

/* Hardware and kernel: turn after turn. */
static void turn_for_ever(struct coroutine *self)
{
	struct uiopf_virtual *v = self->virtual;
	uint32_t did, at_one_time = 0;
	uint64_t began;

	for (;;) {
		began = self->now;
		self->stirred = false;
		self->in_turn = true;
		did = turn(self);
		charge(v);
		if (did && (self->side == KERNEL || v->one_worker)) {	/* where it is in the SQ; the hardware has passed before it published */
			if (!goes_on_alone(v))
				give_way(v);
			stir(v);
		}
		self->in_turn = false;
		at_one_time = self->now > began ? 0 : at_one_time + 1;
		if ((!did || at_one_time > MOST_AT_ONE_TIME) && !self->stirred) {
			self->until = due(v, self->side);
			self->state = WAITS;
		}
		give_way(v);
	}
}

static int serve_pass(struct uiopf_virtual *v)
{
	if (!v->ch->design->receive)	/* the kernel answers by itself */
		return uiopf_endpoint_start(v->endpoint, &v->load);
	return uiopf_client_replay(v->ch, v->space, v->endpoint, &v->load, v->faults, FOR_EVER, &v->served);
}

/* The client: pass after pass. */
static void serve_for_ever(struct coroutine *self)
{
	struct uiopf_virtual *v = self->virtual;

	for (;;) {
		v->error = serve_pass(v);
		charge(v);
		self->state = GONE;
		give_way(v);
	}
}

/* makecontext() hands over numbers of an int's size. */
static void begin(unsigned int high, unsigned int low)
{
	struct coroutine *self = (struct coroutine *)((uintptr_t)high << 32 | low);

	after_switch(self);
	show_time(self);
	if (self->side == CLIENT)
		serve_for_ever(self);
	else
		turn_for_ever(self);
}

/* ---- making, running, and giving up ---- */

static bool make_coroutine(struct uiopf_virtual *v, enum side side)
{
	struct coroutine *c = &v->side[side];
	const uintptr_t at = (uintptr_t)c;
	void *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

	if (stack == MAP_FAILED)
		return false;
	mprotect(stack, UIOPF_PAGE, PROT_NONE);	/* an overflow is seen; without memory for that, it is not */
	c->stack = stack;
	c->size = STACK;
	getcontext(&c->context);
	c->context.uc_stack.ss_sp = stack;
	c->context.uc_stack.ss_size = STACK;
	makecontext(&c->context, (void (*)(void))begin, 2, (unsigned int)(at >> 32), (unsigned int)at);
#if defined(__SANITIZE_THREAD__)
	c->fiber = __tsan_create_fiber(0);
#endif
	return true;
}

static void free_coroutines(struct uiopf_virtual *v)
{
	struct coroutine *c;

	for (c = v->side; c < &v->side[HOST]; c++) {
		if (!c->stack)
			continue;
#if defined(__SANITIZE_THREAD__)
		__tsan_destroy_fiber(c->fiber);
#endif
		munmap(c->stack, STACK);
	}
	free(v);
}

/* 0, or -errno. */
static int cannot_play(const struct uiopf_channel *ch, const struct uiopf_endpoint *endpoint)
{
	const struct uiopf_core *core = ch->core;

	if (core->running || core->driver == UIOPF_INLINE || core->clock.kind != UIOPF_CLOCK_MANUAL || endpoint->core != core)
		return -EINVAL;
	return core->player ? -EBUSY : 0;
}

struct uiopf_virtual *uiopf_virtual_new(struct uiopf_channel *ch, struct uiopf_space *space,
					struct uiopf_endpoint *endpoint, const struct uiopf_prices *prices,
					int32_t one_worker)
{
	struct uiopf_virtual *v;
	enum side side;
	int rc = cannot_play(ch, endpoint);

	if (rc == 0)
		rc = uiopf_channel_watch(ch);
	if (rc < 0) {
		errno = -rc;
		return NULL;
	}
	v = calloc(1, sizeof *v);
	if (!v)
		return NULL;
	v->player.ops = &player_ops;
	v->ch = ch;
	v->core = ch->core;
	v->space = space;
	v->endpoint = endpoint;
	v->price = *prices;
	v->one_worker = one_worker && ch->core->driver == UIOPF_SQPOLL;
	v->running = &v->side[HOST];
	v->cancel_at = NEVER;
	for (side = CLIENT; side <= HOST; side++) {
		v->side[side].virtual = v;
		v->side[side].side = side;
		v->side[side].state = GONE;
		v->side[side].now = from_ns(uiopf_now(&v->core->clock));
		if (side != HOST && !make_coroutine(v, side)) {
			free_coroutines(v);
			errno = ENOMEM;
			return NULL;
		}
	}
	uiopf_hold(&v->core->lifetime);
	uiopf_control_begin(v->core);
	v->core->player = &v->player;
	uiopf_core_kick(v->core);	/* commands wait for their kick from now on */
	uiopf_control_end(v->core);
	look_at_counters(v, &v->seen);
	return v;
}

static uint64_t furthest(const struct uiopf_virtual *v)
{
	return later(v->side[CLIENT].now, later(v->side[KERNEL].now, v->side[HARDWARE].now));
}

int uiopf_virtual_start(struct uiopf_virtual *v, const struct uiopf_load *load, uint64_t faults, uint64_t until_ns)
{
	const uint64_t now = furthest(v);
	enum side side;

	if (v->side[CLIENT].state != GONE || v->endpoint->load.active)
		return -EBUSY;
	v->load = *load;
	v->faults = faults;
	v->cancel_at = from_ns(until_ns);
	v->ends = false;
	v->sleeps_in_vain = 0;
	for (side = CLIENT; side < HOST; side++) {
		struct coroutine *c = &v->side[side];

		c->now = now;
		c->state = side == KERNEL && (v->core->driver != UIOPF_SQPOLL || v->one_worker) ? GONE : READY;
	}
	return 0;
}

int uiopf_virtual_run(struct uiopf_virtual *v, uint64_t turns)
{
	v->turns_left = turns ? turns : 1;
	note_host(&v->side[HOST]);
	v->running = &v->side[HOST];
	give_way(v);
	return v->side[CLIENT].state != GONE || next_of(v) != NULL;
}

void uiopf_virtual_get(const struct uiopf_virtual *v, struct uiopf_virtual_counts *counts)
{
	*counts = (struct uiopf_virtual_counts){
		.now_ns = furthest(v) >> UIOPF_PRICE_SHIFT,
		.client_ns = v->busy >> UIOPF_PRICE_SHIFT,
		.faults = v->served.faults,
		.turns = v->turns,
		.error = v->error,
		.cut = v->cut,
	};
}

/* All come to a boundary: the turns end, and the client's calls return as if a signal had come. */
static void give_up(struct uiopf_virtual *v)
{
	struct coroutine *client = &v->side[CLIENT], *each;

	v->closing = true;
	note_host(&v->side[HOST]);
	for (each = &v->side[KERNEL]; each < &v->side[HOST]; each++)
		while (each->in_turn)
			switch_to(v, each);
	while (client->state != GONE) {
		client->state = READY;
		switch_to(v, client);
	}
}

void uiopf_virtual_free(struct uiopf_virtual *v)
{
	struct uiopf_core *core = v ? v->core : NULL;

	if (!v)
		return;
	if (!core->abandoned) {
		give_up(v);
		uiopf_control_begin(core);
		core->player = NULL;
		uiopf_control_end(core);
	}
	free_coroutines(v);
	uiopf_let_go(&core->lifetime);
}
