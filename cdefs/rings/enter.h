/* io_uring_enter: submitting, and waiting. */
#pragma once
#include "rings/engine.h"

/* Which of its flags a kernel knows. */
uint32_t uiopf_enter_flags(uint32_t kernel);
