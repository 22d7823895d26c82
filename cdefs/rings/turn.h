/* An SQPOLL ring's part of the core's turn. */
#pragma once
#include "rings/engine.h"

extern const struct uiopf_consumer_ops uiopf_engine_turn;
