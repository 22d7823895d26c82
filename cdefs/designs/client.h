/* The native client, for those who turn it themselves. */
#pragma once
#include "designs/design.h"

/* One turn, by a thread that has entered the client's half: receives, maps, answers. How many faults, or -errno. */
int uiopf_client_turn(struct uiopf_channel *ch, struct uiopf_space *space, struct uiopf_served *served);
