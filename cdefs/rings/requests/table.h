/* The table of operations. */
#pragma once
#include "rings/operation.h"

/*
 * By opcode, all of Linux's. Those without a prepare do not work here: they are refused with what Linux says when it was
 * built without them, after the same checks as all others.
 */
extern const struct uiopf_operation uiopf_operations[];
