/*
 * Groups as the proposals before 2024 name them: by device, PASID and group index. The kernel's half has a table of those
 * that wait for an answer; the client's half keeps what an answer needs under a name of its own, by which the generic
 * clients answer.
 */
#pragma once
#include "base/idmap.h"
#include "designs/design.h"

/* The kernel's. The posted code searched a list; this is a hash table, at most half full. */
struct uiopf_named {
	uint32_t mask, used;
	struct uiopf_named_group {
		uint32_t dev_id, pasid, grpid, cookie;	/* cookie 0: free */
	} *slot;
};

int uiopf_named_init(struct uiopf_named *named, uint32_t most);
void uiopf_named_free(struct uiopf_named *named);
/* Consumer: the group has been delivered. */
void uiopf_named_remember(struct uiopf_named *named, const struct uiopf_faultq *queue, const struct uiopf_group *group);
/* Consumer: its cookie; 0: there is none, or the kernel has answered for the client meanwhile. */
uint32_t uiopf_named_find(struct uiopf_named *named, const struct uiopf_faultq *queue, uint32_t dev_id, uint32_t pasid,
			  uint32_t grpid);
/* Consumer: answers the group that was found. */
bool uiopf_named_answer(struct uiopf_named *named, struct uiopf_faultq *queue, uint32_t cookie, uint32_t code);

/* The client's, by the name that the generic clients answer by. */
struct uiopf_replies {
	struct uiopf_idmap names;
	uint32_t most;
	struct uiopf_reply {
		uint32_t dev_id, pasid, grpid, flags;
		bool live, has_private;
		uint64_t private_data[2];
	} *reply;
};

int uiopf_replies_init(struct uiopf_replies *replies, uint32_t most);
void uiopf_replies_free(struct uiopf_replies *replies);
/* False: more groups are unanswered than the client said. */
bool uiopf_replies_take(struct uiopf_replies *replies, uint32_t *name);
/* What was received under a name and has no answer; NULL. */
struct uiopf_reply *uiopf_replies_find(const struct uiopf_replies *replies, uint32_t name);
void uiopf_replies_give(struct uiopf_replies *replies, uint32_t name);
/* See struct uiopf_design. */
int uiopf_replies_private_data(const struct uiopf_replies *replies, uint32_t name, uint64_t out[2]);
