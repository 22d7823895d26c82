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
};
