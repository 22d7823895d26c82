/* Waiting for a file that has nothing now, or trying it again. */
#pragma once
#include "rings/requests/requests.h"

/* If it is ready all the same, it is tried again as task work, and at last by a worker, who blocks. */
enum uiopf_issue uiopf_try_again(struct uiopf_request *request);
