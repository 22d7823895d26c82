/*
 * An IOMMU that functions are plugged into: what all models have, and the table of operations of each.
 *
 * A model is one file: a struct that begins with `struct uiopf_model`, the request queue that its hardware and its driver
 * have between them, in the vendor's own format, and a `struct uiopf_model_ops`. Its hardware takes page requests and
 * carries out answers; its driver, on the same side, decodes and reports requests, and writes answers for whoever gives
 * them into the command queues, in the vendor's format, too. A row in table.c makes it known by name; uiopf_model_new()
 * takes any.
 *
 * What runs once per fault stays in the model's own file: it inlines model_path.h, and through it
 * hardware/endpoint_path.h, with its own function for a request. What it calls here is for set-up, for what is malformed
 * or overflows, and for one call a turn.
 */
#pragma once
#include "abi/hardware.h"
#include "core/core.h"
#include "faults/iopf.h"
#include "faults/report.h"
#include "hardware/endpoint.h"
#include "hardware/iommu/commands.h"
#include "hardware/request.h"

#define UIOPF_MOST_SOURCES 16u		/* functions behind one IOMMU */
#define UIOPF_REQUESTER_IDS 65536u
#define UIOPF_NOBODY UIOPF_REQUESTER_IDS	/* a place behind them in the table of functions, where there is never one */

struct uiopf_model_ops {
	const char *name;
	size_t size;			/* of its struct, whose first member is the model */
	uint32_t slots;			/* of its request queue: what it calls uiopf_model_note() with */
	uint32_t command_words;
	bool stalls, only_stalls;	/* it takes functions without PRI, too; it takes no others */
	bool one_fault;			/* an operation ends at the first page that is not there, which it reads or writes */
	uint32_t private_bits;		/* of data private to a function that a request carries; 0: none */
	bool streams;			/* requests that are answered by themselves, by a stream response */
	uint32_t prefix;		/* UIOPF_PREFIX: what functions ask for in the PASID prefix; the rest is left out of it */
	bool commands;			/* software may give commands of its own */

	/* The rest of its set-up, of memory that is all zero: 0 or -errno. It is closed after a failure, too. */
	int (*open)(struct uiopf_model *model);
	void (*close)(struct uiopf_model *model);

	/* Hardware: a function behind it sends what is due; how many groups. */
	uint32_t (*endpoint_turn)(struct uiopf_model *model, struct uiopf_endpoint *endpoint);
	/* Hardware: one request, made by hand. */
	void (*request)(struct uiopf_model *model, struct uiopf_page_request request);
	/* Hardware: carries out the answers that it has been shown; how many. */
	uint32_t (*execute)(struct uiopf_model *model);
	/* Hardware: a function behind it gets an answer that the hardware gives by itself. */
	void (*answer)(struct uiopf_model *model, struct uiopf_endpoint *endpoint, uint32_t index, uint32_t code,
		       uint64_t now);

	/* Quiescent: its registers, by their offsets. -EINVAL: there is none. Both NULL: it has none that may be used. */
	int (*read)(const struct uiopf_model *model, uint32_t offset, uint64_t *value);
	int (*write)(struct uiopf_model *model, uint32_t offset, uint64_t value);

	/* Hardware: whether the driver's interrupt is raised. NULL: any request raises it. */
	bool (*raised)(const struct uiopf_model *model);
	/* Its n-th queue from hardware to driver; NULL: there are fewer. Absent: nobody may look at them. */
	const struct uiopf_records *(*queue)(const struct uiopf_model *model, uint32_t n);
	/* Driver: takes what is in the request queue, and reports it; how many. */
	uint32_t (*interrupt)(struct uiopf_model *model);
	/* Driver: as uiopf_iommu_ops has them. */
	void (*respond)(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
			uint32_t grpid, uint32_t code);
	void (*respond_privately)(const struct uiopf_device *device, enum uiopf_side side, uint32_t flags, uint32_t pasid,
				  uint32_t grpid, uint32_t code, const struct uiopf_private_data *data);
	/*
	 * Driver, in its interrupt: what the record in this slot says of stage 2, whose fault it is. NULL: page requests say
	 * nothing, and no others come.
	 */
	struct uiopf_translation (*told)(const struct uiopf_model *model, uint32_t slot);
	/* Quiescent: page requests of a device in the queue. */
	uint64_t (*unreported)(const struct uiopf_model *model, const struct uiopf_device *device);
};

struct uiopf_source {
	struct uiopf_device *device;	/* bound to it */
	struct uiopf_endpoint *endpoint;
	struct uiopf_device *last;	/* … or that was, last: it may keep a part of a group */
	struct uiopf_nesting *nesting;	/* who serves which stage of it; NULL: the queue gets all */
	bool stalls;			/* the function that is, or was, there; beside what drivers look at for every answer */
};

struct uiopf_model {
	struct uiopf_iommu iommu;
	struct uiopf_iommu_ops iommu_ops;
	const struct uiopf_model_ops *ops;
	struct uiopf_port port;		/* the functions behind it, bound or not */
	struct uiopf_source *source;	/* by requester id */
	uint32_t sources, flags;	/* UIOPF_MODEL_* */
	uint32_t held;			/* so many let the driver's interrupt wait; a drain does not */
	bool stopped;			/* no command is carried out until the driver has seen to the one at the head */
	bool others;			/* commands that are no answers may be in the producer's queue */
	uint64_t illegal;		/* commands at which that happened */
	uint64_t completed;		/* CMD_SYNC, or what the vendor has instead */
	bool reports_slowly;		/* there may be something to do before a request is reported: the next, or a nesting */
	uint64_t *sent_under;		/* undrained: the attachment's handle when a request came, by slot */
	uint64_t overflowed;		/* requests that the full queue did not take, and that nobody answers */
	uint64_t strangers;		/* requests of functions that nobody knows */
	uint64_t *own;			/* PRG responses that the hardware sends by itself, on its next turn */
	uint32_t own_count, own_capacity;
	uint64_t own_lost;		/* … for which there was no memory */
	struct uiopf_commands commands[2];	/* by enum uiopf_side */
};
UIOPF_BEGINS_A_LINE(struct uiopf_model, commands);

/* NULL: no memory. */
struct uiopf_model *uiopf_model_new(struct uiopf_core *core, const struct uiopf_model_ops *ops, uint32_t flags);

hot_inline struct uiopf_model *uiopf_model_of(const struct uiopf_device *device)
{
	return container_of(device->iommu, struct uiopf_model, iommu);
}

hot_inline struct uiopf_device *uiopf_model_device(const struct uiopf_model *model, uint32_t requester_id)
{
	return model->source[requester_id].device;
}

/* ---- for hardware ---- */

/*
 * A request finds no place in the queue, and nobody will answer it, unless UIOPF_MODEL_DROPPED_* says that the hardware
 * does; or the hardware does, with one of PCIe's codes. Such
 * an answer arrives on the hardware's next turn: a function that gets one sends its next request at once, which would
 * find no place either, and so on.
 */
void uiopf_model_drop(struct uiopf_model *model, struct uiopf_page_request request);
/* False: nobody gets it, because there is no such function, or no memory. */
bool uiopf_model_answer(struct uiopf_model *model, struct uiopf_page_request request, uint32_t code);
bool uiopf_model_answers_dropped(const struct uiopf_model *model);
/* … or has no answer of its own, and the last of its group has, whoever gives it. */
void uiopf_model_answer_with_last(struct uiopf_model *model, struct uiopf_page_request request);

/* What sends where the function adds something to its requests: `above`, where that is not the model alone. */
struct uiopf_sender {
	struct uiopf_model *model;
	struct uiopf_endpoint *endpoint;
};

/* ---- for drivers ---- */

/* Driver: shows the hardware the answers that one side has given. */
static inline void uiopf_model_kick(struct uiopf_model *model, enum uiopf_side side)
{
	uiopf_commands_kick(model->iommu.core, model->commands, side);
}

/* Undrained only: notes the attachment that a request is sent under, which goes into this slot of the queue. */
void uiopf_model_note(struct uiopf_model *model, uint32_t slot, uint32_t requester_id, const struct uiopf_fault *fault);
/* A report that is not the usual one: the note is checked, and the kernel may serve the request itself. */
void uiopf_model_report_slowly(struct uiopf_model *model, uint32_t slot, struct uiopf_device *device,
			       const struct uiopf_fault *fault, const struct uiopf_private_data *data);

/* Reports a request that was in this slot; with what its answer is to bring back, or NULL. */
hot_inline void uiopf_model_report_with(struct uiopf_model *model, uint32_t slot, struct uiopf_device *device,
					const struct uiopf_fault *fault, const struct uiopf_private_data *data)
{
	if (unlikely(model->reports_slowly))
		uiopf_model_report_slowly(model, slot, device, fault, data);
	else
		uiopf_report_with(device, fault, data);
}

hot_inline void uiopf_model_report(struct uiopf_model *model, uint32_t slot, struct uiopf_device *device,
				   const struct uiopf_fault *fault)
{
	uiopf_model_report_with(model, slot, device, fault, NULL);
}

/* What was refused, and what was passed over: where a request of this function is counted that the driver does not report. */
struct uiopf_refusals { uint64_t *refused, *passed_over; };
struct uiopf_refusals uiopf_model_refusals(struct uiopf_model *model, uint32_t requester_id);
/* A group of this function has been answered without a client: what the generic layer has kept of it has its answer, too. */
void uiopf_model_answered_partial(struct uiopf_model *model, uint32_t requester_id, uint32_t grpid);
/* The queue has overflowed, and is empty: what is unfinished may miss its last request. */
void uiopf_model_drop_partial(struct uiopf_model *model);
/*
 * … and the hardware has answered those by itself. A group that is not complete by now has lost its last request, and has
 * its answer; or its last is yet to come, and is then a group by itself. Either way its function gets an answer.
 */
void uiopf_model_pass_over_partial(struct uiopf_model *model);

/* ---- for tests: a model's steps, one by one ---- */

static inline uint32_t uiopf_model_endpoint_turn(struct uiopf_model *model, struct uiopf_endpoint *endpoint)
{
	return model->ops->endpoint_turn(model, endpoint);
}

static inline void uiopf_model_endpoint_response(struct uiopf_model *model, struct uiopf_endpoint *endpoint, uint32_t index,
						 uint32_t code, uint64_t now)
{
	model->ops->answer(model, endpoint, index, code, now);
}

static inline uint32_t uiopf_model_interrupt(struct uiopf_model *model)
{
	return model->ops->interrupt(model);
}
