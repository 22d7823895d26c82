/*
 * What an IOMMU model does for each answer: it carries out the commands that it has been shown.
 *
 * It is inlined into the model's own file, with the model's functions as constants, as hardware/endpoint_path.h is.
 */
#pragma once
#include "hardware/endpoint_path.h"
#include "hardware/iommu/model.h"

/* An answer to a group of page requests. */
struct uiopf_answer {
	uint32_t requester_id, index, code;	/* the code is PCIe's */
	/* What it brings back; a format that has such a thing says so. */
	bool brings_back;
	struct uiopf_private_data private_data;
};

/* What a command says. A constant wherever it is used. */
typedef struct uiopf_answer uiopf_decode_answer(const uint64_t *command);
/* Whether such a command concerns a function of this kind. NULL, where there is one kind only. */
typedef bool uiopf_suits(const struct uiopf_source *source, const uint64_t *command);
/* A command that answers no function. False: the hardware stops in front of it, and has said so. NULL: it is passed over. */
typedef bool uiopf_other_command(struct uiopf_model *model, const uint64_t *command);

#define UIOPF_AHEAD 6u	/* commands: the time of so many covers the way of a line from another core */
/*
 * Answers that arrive together have one time, so many of them: reading the counter takes a tenth of an answer's whole
 * way, and four are done in some 80 ns, 200 where nothing is in the cache. Each fault begins and ends by such a time.
 * Where that does not hold (loads with times of their own, or groups of pages) every answer has its own.
 */
#define UIOPF_ANSWERS_A_TIME 4u

hot_inline void uiopf_answer_prepare(const struct uiopf_source *source, struct uiopf_answer answer)
{
	struct uiopf_endpoint *ep = source[answer.requester_id].endpoint;

	if (likely(ep))
		uiopf_endpoint_prepare(ep, answer.index);
}

/* Carries out what one side has shown; how many commands. */
hot_inline uint32_t uiopf_commands_carry_out(struct uiopf_model *m, struct uiopf_records *queue, uint32_t words,
					     uiopf_decode_answer *decode, uiopf_suits *suits,
					     uiopf_other_command *other, uiopf_send *send, void *above)
{
	const struct uiopf_source *source = m->source;
	const struct uiopf_places p = queue->places;	/* a copy: nothing that is stored below changes it */
	const uint32_t head = queue->head;
	const uint32_t n = uiopf_records_ready(queue);
	uint64_t now = 0;
	uint32_t i;

	for (i = 0; i < UIOPF_AHEAD && i < n; i++)
		uiopf_answer_prepare(source, decode(uiopf_records_at(p, words, head + i)));
	for (i = 0; i < n; i++) {
		const uint64_t *d = uiopf_records_at(p, words, head + i);
		const struct uiopf_answer answer = decode(d);
		struct uiopf_endpoint *ep = source[answer.requester_id].endpoint;

		if (n - i > UIOPF_AHEAD)
			uiopf_answer_prepare(source, decode(uiopf_records_at(p, words, head + i + UIOPF_AHEAD)));
		if (unlikely(!ep || (suits && !suits(&source[answer.requester_id], d)))) {
			if (other && !other(m, d))
				break;
			continue;
		}
		if (i % UIOPF_ANSWERS_A_TIME == 0 || !ep->load.plain || !now)
			now = uiopf_now(&m->iommu.core->clock);
		if (answer.brings_back && unlikely(!uiopf_endpoint_knows(ep, answer.index, &answer.private_data)))
			uiopf_endpoint_unexpected(ep, answer.index, answer.code);
		else
			uiopf_endpoint_response(ep, answer.index, answer.code, now, send, above);
	}
	if (i)
		uiopf_records_done(queue, i);
	return i;
}

/* Hardware: carries out the commands of both sides, of so many words each, until it is stopped; how many. */
hot_inline uint32_t uiopf_model_carry_out_all(struct uiopf_model *m, uint32_t words, uiopf_decode_answer *decode,
					      uiopf_suits *suits, uiopf_other_command *other, uiopf_send *send,
					      void *above)
{
	uint32_t n = 0;
	int side;

	for (side = UIOPF_PRODUCER; side <= UIOPF_CONSUMER && !(other && m->stopped); side++) {
		struct uiopf_records *queue = &m->commands[side].queue;

		do
			n += uiopf_commands_carry_out(m, queue, words, decode, suits, other, send, above);
		while (unlikely(READ_ONCE(&queue->full)) && !(other && m->stopped) &&
		       uiopf_commands_admit(m->iommu.core, m->commands, side));
	}
	return n;
}

/* What is no answer names nobody, and `other` sees to it. */
#define UIOPF_NO_ANSWER (struct uiopf_answer){ .requester_id = UIOPF_NOBODY }

/* Until the last of software's own commands has been carried out. */
static inline void uiopf_model_end_others(struct uiopf_model *m)
{
	const struct uiopf_records *queue = &m->commands[UIOPF_PRODUCER].queue;

	m->others = queue->head != queue->written || queue->waiting_count;
}

/* The same where every command is an answer, or comes to nothing. */
hot_inline uint32_t uiopf_model_carry_out(struct uiopf_model *m, uint32_t words, uiopf_decode_answer *decode,
					  uiopf_send *send, void *above)
{
	return uiopf_model_carry_out_all(m, words, decode, NULL, NULL, send, above);
}
