/* What is counted as it happens. Each side of a design has one of these, so that no line is shared for counting. */
#pragma once
#include <stdint.h>

struct uiopf_cost {
	uint64_t system_calls;	/* calls that did something, or waited */
	uint64_t empty_polls;	/* calls that found nothing, made while spinning */
	uint64_t wakeups;	/* eventfd writes: someone was, or may have been, asleep */
	uint64_t bytes_copied;	/* between kernel and client: messages, answers, SQEs, CQEs, counters */
	uint64_t answer_errors;	/* answers that the kernel refused */
	uint64_t ends;		/* multishot requests that ended and were armed again, and one-shots without data */
	uint64_t punts;		/* requests handed to a worker thread, since their file may block */
	uint64_t sqes;		/* SQEs that the ring has taken, whatever became of them */
	uint64_t cqes;		/* CQEs that the ring has shown */
	uint64_t packets_sent;	/* into a socket of the host; each is a system call too, or an SQE of the host's ring */
	uint64_t packets_received;	/* … out of it */
};

/*
 * What each of these takes in virtual time, and what the sides do besides that no design counts. In 1/1024 ns, so that the
 * price of a byte has a value. Who pays is in docs/explanation/virtual-time.md.
 */
#define UIOPF_PRICE_SHIFT 10
struct uiopf_prices {
	uint64_t system_call;	/* each of system_calls */
	uint64_t empty_poll;	/* each of empty_polls */
	uint64_t copy_byte;	/* each of bytes_copied */
	uint64_t sqe, cqe;	/* each of sqes, and of cqes */
	uint64_t punt;		/* each of punts */
	uint64_t packet_sent, packet_received;	/* each of these, besides its call */
	uint64_t look;		/* a spinning client's look in vain, besides its call */
	uint64_t line;		/* a turn of a core, or a receive, that finds what another core has written */
	uint64_t sleep;		/* going to sleep: the sleeper's */
	uint64_t wake;		/* an eventfd write in the kernel that wakes a sleeper: the waker's */
	uint64_t wake_up;	/* from the beginning of that write until the sleeper runs */
	uint64_t sent, answered;	/* the hardware's, for a page request, and for its answer */
	uint64_t walk;		/* … for a walk of page tables: before a request, and after its answer */
	uint64_t interrupt;	/* … for a turn that has reported requests */
	uint64_t taken, accepted;	/* the kernel's, for a group out of the queue, and for its answer */
	uint64_t client;	/* the client's, for a fault that it has received and answers */
};
