/*
 * A model's command queue: what the driver tells the hardware, each command in the vendor's own format. Only the first
 * two words of a command are written, and those that a format has besides are zero for good; or all four always are.
 *
 * There is one for each side that gives commands: a lock for every answer would take the line with the lock from one
 * core to the other, and keep hardware and client from working at once.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/records.h"
#include "core/core.h"
#include "faults/iopf.h"

#define UIOPF_COMMANDS_FIRST 1024u	/* places to begin with: room for two answers to every index of a function */
#define UIOPF_COMMAND_WORDS_MOST 4u

/*
 * Hardware that waits on another core is shown commands this many at a time. Linux moves the tail with every one; each
 * time the line with the tail goes there and back. With none before the last it would idle as long as the client works.
 */
#define UIOPF_COMMANDS_A_SHOW 4u

struct uiopf_commands {
	struct uiopf_records queue;
	UIOPF_LINE uint32_t kicked;	/* what the hardware knows that it has to do; the writer's */
	bool waits_for_kick;		/* nothing is shown before: in virtual time a kick comes when its time has come */
};
UIOPF_BEGINS_A_LINE(struct uiopf_commands, kicked);

/* Both sides'. After a failure they are closed, too. */
int uiopf_commands_open(struct uiopf_commands commands[2], uint32_t words);
void uiopf_commands_close(struct uiopf_commands commands[2]);
/* Quiescent: for the answers of so many functions, twice; those that are in the queues stay. 0 or -ENOMEM. */
int uiopf_commands_make_room(struct uiopf_commands commands[2], uint32_t functions);
/* Commands that were lost for want of memory. */
uint64_t uiopf_commands_lost(const struct uiopf_commands commands[2]);

/* Driver: shows the hardware what one side has given, and wakes it. */
void uiopf_commands_kick(struct uiopf_core *core, struct uiopf_commands commands[2], enum uiopf_side side);
/*
 * Commands that found no room come in now that there is some: the hardware sees to it, since the driver may not call
 * again. False where a client has the consumer's side, whose kick does it.
 */
bool uiopf_commands_admit(struct uiopf_core *core, struct uiopf_commands commands[2], enum uiopf_side side);

/* Linux waits until the hardware has made room; here the command waits, and its giver goes on. */
void uiopf_commands_wait(struct uiopf_commands *commands, uint64_t word0, uint64_t word1);
void uiopf_commands_wait_long(struct uiopf_commands *commands, const uint64_t d[UIOPF_COMMAND_WORDS_MOST]);

/* Driver: one side's command of so many words, the queue's. */
hot_inline void uiopf_commands_give(struct uiopf_commands *commands, uint32_t words, uint64_t word0, uint64_t word1)
{
	struct uiopf_records *q = &commands->queue;
	uint64_t *d = uiopf_records_place(q, words);

	if (unlikely(!d || q->waiting_count)) {
		uiopf_commands_wait(commands, word0, word1);
		return;
	}
	d[0] = word0;
	d[1] = word1;
	uiopf_records_put(q);
	if (q->written % UIOPF_COMMANDS_A_SHOW == 0 && likely(!commands->waits_for_kick))
		uiopf_records_show(q);
}

/* … one of four words, where some commands have them all: what was in the place before is overwritten. */
hot_inline void uiopf_commands_give_long(struct uiopf_commands *commands, const uint64_t words[UIOPF_COMMAND_WORDS_MOST])
{
	struct uiopf_records *q = &commands->queue;
	uint64_t *d = uiopf_records_place(q, UIOPF_COMMAND_WORDS_MOST);
	int i;

	if (unlikely(!d || q->waiting_count)) {
		uiopf_commands_wait_long(commands, words);
		return;
	}
	for (i = 0; i < (int)UIOPF_COMMAND_WORDS_MOST; i++)
		d[i] = words[i];
	uiopf_records_put(q);
	if (q->written % UIOPF_COMMANDS_A_SHOW == 0 && likely(!commands->waits_for_kick))
		uiopf_records_show(q);
}
