#include "hardware/iommu/commands.h"

#include "abi/hardware.h"

int uiopf_commands_open(struct uiopf_commands commands[2], uint32_t words)
{
	int side, rc = 0;

	for (side = UIOPF_PRODUCER; side <= UIOPF_CONSUMER && rc == 0; side++)
		rc = uiopf_records_open(&commands[side].queue, UIOPF_COMMANDS_FIRST, words);
	return rc;
}

void uiopf_commands_close(struct uiopf_commands commands[2])
{
	uiopf_records_close(&commands[UIOPF_PRODUCER].queue);
	uiopf_records_close(&commands[UIOPF_CONSUMER].queue);
}

int uiopf_commands_make_room(struct uiopf_commands commands[2], uint32_t functions)
{
	uint32_t places = UIOPF_COMMANDS_FIRST;
	int side, rc = 0;

	while (places < 2 * PCIE_PRI_PRGI_COUNT * functions)
		places *= 2;
	for (side = UIOPF_PRODUCER; side <= UIOPF_CONSUMER && rc == 0; side++)
		rc = uiopf_records_grow(&commands[side].queue, places);
	return rc;
}

uint64_t uiopf_commands_lost(const struct uiopf_commands commands[2])
{
	return commands[UIOPF_PRODUCER].queue.lost + commands[UIOPF_CONSUMER].queue.lost;
}

static void show(const struct uiopf_core *core, struct uiopf_commands commands[2], enum uiopf_side side)
{
	struct uiopf_commands *c = &commands[side];

	c->kicked = c->queue.written;
	/* Sequentially consistent: either we see a hardware thread that sleeps, or it sees the commands. */
	if (side == UIOPF_CONSUMER && core->driver == UIOPF_ENTER)
		STORE_SEQ(&c->queue.tail, c->queue.written);
	else
		uiopf_records_show(&c->queue);	/* the hardware is this thread, or asks for quiet first */
}

void uiopf_commands_kick(struct uiopf_core *core, struct uiopf_commands commands[2], enum uiopf_side side)
{
	struct uiopf_commands *c = &commands[side];

	if (unlikely(c->queue.waiting_count))
		uiopf_records_admit(&c->queue);
	if (side == UIOPF_CONSUMER)
		c->waits_for_kick = core->player;
	if (c->kicked == c->queue.written)
		return;
	if (side == UIOPF_CONSUMER)
		uiopf_pass_time(core, UIOPF_STORES);
	show(core, commands, side);
	uiopf_core_wake_worker(core);
}

bool uiopf_commands_admit(struct uiopf_core *core, struct uiopf_commands commands[2], enum uiopf_side side)
{
	if (side == UIOPF_CONSUMER && !uiopf_consumer_try(core))
		return false;
	uiopf_records_admit(&commands[side].queue);
	show(core, commands, side);
	if (side == UIOPF_CONSUMER)
		uiopf_consumer_leave(core);
	return true;
}

void uiopf_commands_wait(struct uiopf_commands *c, uint64_t word0, uint64_t word1)
{
	const uint64_t d[UIOPF_COMMAND_WORDS_MOST] = { word0, word1 };

	uiopf_records_wait(&c->queue, d);
}

void uiopf_commands_wait_long(struct uiopf_commands *c, const uint64_t d[UIOPF_COMMAND_WORDS_MOST])
{
	uiopf_records_wait(&c->queue, d);
}
