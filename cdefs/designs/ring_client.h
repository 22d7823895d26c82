/*
 * What the designs on a ring share: everything except what they post to receive faults. Each design posts reads on the
 * fault file, alone or in chains: one READ_MULTISHOT, or several one-shot READs. They fill buffers that the client has
 * provided, and each read posts a completion. Each answer is a WRITE whose completion is skipped on success. When a
 * read has ended, for whatever reason, the next receive or wait posts it again. `ends` counts it, unless it is a
 * one-shot that has read something. The kernel's half is the ring's engine.
 *
 * A multishot that ended is submitted by a call of its own, since that is rare. One-shots end with each read, so they
 * are queued, and the call that sends the answers submits them.
 *
 * The client's memory is one arena: the buffer ring, the buffers, and a place for the eight bytes of each answer, one
 * for each SQE, which is free again when its SQE is.
 */
#pragma once
#include "designs/channel.h"

#define UIOPF_MOST_POSTED 2
#define UIOPF_PLACE_DATA (1ull << 32)	/* user_data of what has a place: its number, with this … */
#define UIOPF_PLACE_ANSWERS (1ull << 33)	/* … and this, which the design adds, if it answers a group besides */

struct uiopf_ring_client;

/* What a design posts. `fill` gets this many SQEs, with nothing but their user_data set; they are submitted together. */
struct uiopf_ring_posts {
	uint32_t sqes;
	void (*fill)(const struct uiopf_ring_client *c, struct io_uring_sqe *const *sqe);
	uint32_t ahead;		/* how many of these are posted at once: as many as groups in flight, up to this number */
	bool one_shot;		/* each ends with its first read */
	bool no_buffers;	/* what completes carries no data */
	uint32_t batch;		/* messages in a buffer, and answers in a place of theirs, if that is more than one group; or 0 */
	bool own_places;	/* each takes a place in the client's memory with it; there is no buffer ring */
	bool nonblock;		/* the fault file is set O_NONBLOCK, and it stays so, as after any client's fcntl */
	uint32_t setup_flags;	/* the ring's, besides */
	uint32_t cqes_a_fault;	/* at most, where each message completes by itself; 0: a group completes once */
	uint32_t kernel;	/* whose io_uring it needs: its ring is of that one, if the core's is older */
};

struct uiopf_ring_client {
	const struct uiopf_ring_posts *posts;
	void *own;			/* the design's own, which it ends */
	struct uiopf_engine *engine;
	struct uiopf_client_ring *ring;
	struct uiopf_region arena;
	uint8_t *map;			/* the client's mapping of it */
	uint32_t buffers;		/* a power of two */
	uint32_t *buffer_at;		/* where each is in the arena */
	uint32_t *idle, idle_count;	/* own_places: those that nothing posted has */
	uint32_t next_id;		/* the buffer that is filled next, if they are in the order in which they were given */
	uint32_t buffer_size;		/* … of so many bytes */
	uint64_t answers_at;
	uint16_t tail;			/* of the buffer ring */
	int fd;				/* the queue's file */
	uint32_t missing;		/* reads that are not posted */
	uint32_t queued;		/* their SQEs that no call has submitted yet */
	bool sqpoll, told;		/* told: the eventfd is registered */
	bool found_none;		/* the last receive, and the client has not waited since */
};

/* Fills in the read: IORING_OP_READ_MULTISHOT or IORING_OP_READ. */
void uiopf_ring_client_read(const struct uiopf_ring_client *c, struct io_uring_sqe *sqe, uint8_t opcode);

/*
 * The parts of a receive, for a design whose completions carry no data. How many there are (a client that has to enter
 * for them has done so), or -errno; takes them all; posts what has ended, 0 or -errno.
 */
int uiopf_ring_client_look(struct uiopf_channel *ch);
void uiopf_ring_client_take(struct uiopf_channel *ch);
int uiopf_ring_client_arm(struct uiopf_channel *ch);

/* The same of one that takes what it likes of them, and is done with `taken`: posts what has ended, 0 or -errno. */
int uiopf_ring_client_taken(struct uiopf_channel *ch, uint32_t taken);
/* One of them ended what was posted. */
void uiopf_ring_client_note_end(struct uiopf_channel *ch, const struct io_uring_cqe *cqe);
/* An SQE for an answer, zeroed but for its user_data; or NULL, with *rc = -errno: there is none for now. */
struct io_uring_sqe *uiopf_ring_client_answer_sqe(struct uiopf_channel *ch, uint32_t *slot, int *rc);
/* Whether a completion is an answer's, which only fails. */
bool uiopf_ring_client_is_answer(const struct io_uring_cqe *cqe);
/* The buffers of a design with a buffer ring: the one that a completion names, and giving one back, by its number. */
const struct iommu_hwpt_pgfault *uiopf_ring_client_buffer(const struct uiopf_ring_client *c, uint32_t id);
void uiopf_ring_client_provide(struct uiopf_channel *ch, uint32_t id);
/* The place of the answers that the SQE in this slot sends, of a design with a `batch`. */
uint8_t *uiopf_ring_client_answers(const struct uiopf_ring_client *c, uint32_t slot);
/*
 * Of a design with own_places, which has one for each that is posted: an answer that is to receive the next group takes one
 * along, false: none is left over; and what has completed gives its own back, where the messages are.
 */
bool uiopf_ring_client_take_place(struct uiopf_channel *ch, struct io_uring_sqe *sqe);
const uint8_t *uiopf_ring_client_give_place(struct uiopf_ring_client *c, const struct io_uring_cqe *cqe);
/* If nothing is posted all is to be, though no answer has come. */
void uiopf_ring_client_post_if_none(struct uiopf_ring_client *c);
/* The kernel may see the answers. */
void uiopf_ring_client_show(struct uiopf_channel *ch);

/* The functions of struct uiopf_design; a design has an `open` of its own, which calls this one. */
int uiopf_ring_client_open(struct uiopf_channel *ch, const struct uiopf_ring_posts *posts);
void uiopf_ring_client_close(struct uiopf_channel *ch);
int uiopf_ring_client_receive(struct uiopf_channel *ch, struct iommu_hwpt_pgfault *out, uint32_t most);
int uiopf_ring_client_answer(struct uiopf_channel *ch, const struct iommu_hwpt_page_response *responses, uint32_t n);
int uiopf_ring_client_flush(struct uiopf_channel *ch);
int uiopf_ring_client_wait(struct uiopf_channel *ch, uint64_t timeout_ns);
int uiopf_ring_client_prepare_sleep(struct uiopf_channel *ch);
void uiopf_ring_client_awake(struct uiopf_channel *ch, bool told);
bool uiopf_ring_client_holds(const struct uiopf_channel *ch);
void uiopf_ring_client_kernel_cost(struct uiopf_channel *ch, struct uiopf_cost *cost);

#define UIOPF_RING_CLIENT_FUNCTIONS				\
	.close = uiopf_ring_client_close,			\
	.receive = uiopf_ring_client_receive,			\
	.answer = uiopf_ring_client_answer,			\
	.flush = uiopf_ring_client_flush,			\
	.wait = uiopf_ring_client_wait,				\
	.prepare_sleep = uiopf_ring_client_prepare_sleep,	\
	.awake = uiopf_ring_client_awake,			\
	.holds = uiopf_ring_client_holds,			\
	.kernel_cost = uiopf_ring_client_kernel_cost
