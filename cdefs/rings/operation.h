/* What is checked before an operation is asked (io_issue_defs, io_init_req), and what operations share. */
#pragma once
#include "rings/engine.h"

#define UIOPF_OP_SELECT 1u	/* takes BUFFER_SELECT … */
#define UIOPF_OP_SELECT_7 2u	/* … since 6.18 */
#define UIOPF_OP_IOPRIO 4u	/* has a use for ioprio */
#define UIOPF_OP_FILE 8u	/* needs a file */
#define UIOPF_OP_POLLED 16u	/* may be asked of an IOPOLL ring */
#define UIOPF_OP_WIDE 32u	/* is an SQE of 128 bytes */
#define UIOPF_OP_RESULT 64u	/* says its failures as it says its results, and returns none (io_req_set_res) */

/* What starting a request came to. */
enum uiopf_issue {
	UIOPF_DONE,	/* res and cqe_flags stand: complete it */
	UIOPF_PENDING,	/* it is armed, or waits for its turn */
};

/* Prepare reports errors before anything starts, as Linux does. Without it, the opcode is refused. */
struct uiopf_operation {
	int (*prepare)(struct uiopf_request *request, const struct io_uring_sqe *sqe);
	enum uiopf_issue (*issue)(struct uiopf_request *request);
	uint32_t flags;		/* UIOPF_OP_* */
	uint16_t since;		/* UIOPF_LINUX(6, 15) …; 0: in 6.12 */
};

/* 0, or -errno for what Linux refuses before it starts ("init" errors, which end a batch). */
int uiopf_request_prepare(struct uiopf_request *request, const struct io_uring_sqe *sqe);
enum uiopf_issue uiopf_request_issue(struct uiopf_request *request);
/* The first opcode that the engine's kernel does not know; whether it is there and works. */
uint32_t uiopf_opcodes(const struct uiopf_engine *engine);
bool uiopf_opcode_supported(const struct uiopf_engine *engine, uint32_t opcode);

static inline enum uiopf_issue uiopf_done(struct uiopf_request *r, int32_t res)
{
	r->res = res;
	return UIOPF_DONE;
}
