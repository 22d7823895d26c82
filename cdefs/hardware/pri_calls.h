/* What an answer does to the PRI capability, where it is not simply the end of a group. The producer's. */
#pragma once
#include "hardware/endpoint.h"

/* A Response Failure has come. */
void uiopf_endpoint_failed(struct uiopf_endpoint *ep);
/* An answer to a group that is not outstanding has come. */
void uiopf_endpoint_unexpected(struct uiopf_endpoint *ep, uint32_t index, uint32_t code);
