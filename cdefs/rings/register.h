/* io_uring_register. */
#pragma once
#include "rings/engine.h"

/* The first opcode that a kernel does not know. */
uint32_t uiopf_register_ops(uint32_t kernel);
