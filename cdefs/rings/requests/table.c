#include "rings/requests/table.h"

#define SELECT UIOPF_OP_SELECT
#define SELECT_7 UIOPF_OP_SELECT_7
#define IOPRIO UIOPF_OP_IOPRIO
#define FILE_NEEDED UIOPF_OP_FILE
#define POLLED UIOPF_OP_POLLED
#define WIDE UIOPF_OP_WIDE
#define RESULT UIOPF_OP_RESULT

/* Declared here alone: nobody else calls an operation by its name. */
#define OPERATION(name) \
	int uiopf_##name##_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe); \
	enum uiopf_issue uiopf_##name##_issue(struct uiopf_request *r)

OPERATION(nop);
OPERATION(rw);			/* READ and WRITE in all their forms: the issue is that of the READs … */
enum uiopf_issue uiopf_write_issue(struct uiopf_request *r);	/* … and that of the WRITEs */
int uiopf_rw_fixed_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe);
int uiopf_rw_vector_prepare(struct uiopf_request *r, const struct io_uring_sqe *sqe);
OPERATION(read_multishot);
OPERATION(receive);
OPERATION(send);
OPERATION(poll_add);
OPERATION(poll_remove);
OPERATION(cancel);
OPERATION(timeout);
OPERATION(timeout_remove);
OPERATION(link_timeout);
OPERATION(message);
OPERATION(provide_buffers);
OPERATION(remove_buffers);
OPERATION(files_update);
OPERATION(close);
OPERATION(command);
#undef OPERATION

const struct uiopf_operation uiopf_operations[IORING_OP_LAST] = {
	[IORING_OP_NOP] = { uiopf_nop_prepare, uiopf_nop_issue, POLLED | RESULT, 0 },
	[IORING_OP_READV] = { uiopf_rw_vector_prepare, uiopf_rw_issue, SELECT | IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_WRITEV] = { uiopf_rw_vector_prepare, uiopf_write_issue, IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_FSYNC] = { .flags = FILE_NEEDED },
	[IORING_OP_READ_FIXED] = { uiopf_rw_fixed_prepare, uiopf_rw_issue, IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_WRITE_FIXED] = { uiopf_rw_fixed_prepare, uiopf_write_issue, IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_POLL_ADD] = { uiopf_poll_add_prepare, uiopf_poll_add_issue, FILE_NEEDED, 0 },
	[IORING_OP_POLL_REMOVE] = { uiopf_poll_remove_prepare, uiopf_poll_remove_issue, 0, 0 },
	[IORING_OP_SYNC_FILE_RANGE] = { .flags = FILE_NEEDED },
	[IORING_OP_SENDMSG] = { .flags = IOPRIO | FILE_NEEDED },
	[IORING_OP_RECVMSG] = { .flags = SELECT | IOPRIO | FILE_NEEDED },
	[IORING_OP_TIMEOUT] = { uiopf_timeout_prepare, uiopf_timeout_issue, 0, 0 },
	[IORING_OP_TIMEOUT_REMOVE] = { uiopf_timeout_remove_prepare, uiopf_timeout_remove_issue, RESULT, 0 },
	[IORING_OP_ACCEPT] = { .flags = IOPRIO | FILE_NEEDED },
	[IORING_OP_ASYNC_CANCEL] = { uiopf_cancel_prepare, uiopf_cancel_issue, RESULT, 0 },
	[IORING_OP_LINK_TIMEOUT] = { uiopf_link_timeout_prepare, uiopf_link_timeout_issue, 0, 0 },
	[IORING_OP_CLOSE] = { uiopf_close_prepare, uiopf_close_issue, RESULT, 0 },
	[IORING_OP_FILES_UPDATE] = { uiopf_files_update_prepare, uiopf_files_update_issue, POLLED | RESULT, 0 },
	[IORING_OP_READ] = { uiopf_rw_prepare, uiopf_rw_issue, SELECT | IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_WRITE] = { uiopf_rw_prepare, uiopf_write_issue, IOPRIO | FILE_NEEDED | POLLED, 0 },
	[IORING_OP_SEND] = { uiopf_send_prepare, uiopf_send_issue, SELECT | IOPRIO | FILE_NEEDED, 0 },
	[IORING_OP_RECV] = { uiopf_receive_prepare, uiopf_receive_issue, SELECT | IOPRIO | FILE_NEEDED, 0 },
	[IORING_OP_PROVIDE_BUFFERS] = { uiopf_provide_buffers_prepare, uiopf_provide_buffers_issue, POLLED | RESULT, 0 },
	[IORING_OP_REMOVE_BUFFERS] = { uiopf_remove_buffers_prepare, uiopf_remove_buffers_issue, POLLED | RESULT, 0 },
	[IORING_OP_MSG_RING] = { uiopf_message_prepare, uiopf_message_issue, FILE_NEEDED | POLLED | RESULT, 0 },
	[IORING_OP_URING_CMD] = { uiopf_command_prepare, uiopf_command_issue, SELECT_7 | FILE_NEEDED | POLLED | RESULT, 0 },
	[IORING_OP_SEND_ZC] = { .flags = IOPRIO | FILE_NEEDED },
	[IORING_OP_SENDMSG_ZC] = { .flags = IOPRIO | FILE_NEEDED },
	[IORING_OP_READ_MULTISHOT] = { uiopf_read_multishot_prepare, uiopf_read_multishot_issue, SELECT | FILE_NEEDED, 0 },
	[IORING_OP_RECV_ZC] = { .flags = IOPRIO | FILE_NEEDED, .since = UIOPF_LINUX(6, 15) },
	[IORING_OP_EPOLL_WAIT] = { .flags = FILE_NEEDED, .since = UIOPF_LINUX(6, 15) },
	[IORING_OP_READV_FIXED] = { uiopf_rw_vector_prepare, uiopf_rw_issue, IOPRIO | FILE_NEEDED | POLLED,
				    UIOPF_LINUX(6, 15) },
	[IORING_OP_WRITEV_FIXED] = { uiopf_rw_vector_prepare, uiopf_write_issue, IOPRIO | FILE_NEEDED | POLLED,
				     UIOPF_LINUX(6, 15) },
	[IORING_OP_PIPE] = { .since = UIOPF_LINUX(6, 16) },
	[IORING_OP_NOP128] = { uiopf_nop_prepare, uiopf_nop_issue, POLLED | WIDE | RESULT, UIOPF_LINUX(6, 19) },
	[IORING_OP_URING_CMD128] = { uiopf_command_prepare, uiopf_command_issue, SELECT_7 | FILE_NEEDED | POLLED | WIDE | RESULT,
				     UIOPF_LINUX(6, 19) },
};
