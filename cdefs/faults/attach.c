/*
 * Attachment: which fault queue the faults of a device, or of one of its PASIDs, go to. All of it is control plane, at
 * the quiescent point.
 *
 * Devices that the IOMMU cannot tell apart are switched together. A switch is made in two halves: first everything that
 * can fail, for all of them; then the change itself, which cannot.
 *
 * Source: drivers/iommu/iommufd/device.c, drivers/iommu/iommu.c, Linux 6.12 and 7.2.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "faults/report.h"

/* ---- room in the queue: every group that its devices can have ---- */

static struct uiopf_reservation *find_reservation(struct uiopf_device *d, const struct uiopf_faultq *q)
{
	struct uiopf_reservation *r = d->reservations;

	while (r && r->queue != q)
		r = r->next;
	return r;
}

static int hold_room(struct uiopf_device *d, struct uiopf_faultq *q)
{
	struct uiopf_reservation *r = find_reservation(d, q);
	int rc;

	if (r) {
		r->attachments++;
		return 0;
	}
	rc = uiopf_faultq_reserve(q, q->reserved + d->capacity);
	if (rc < 0)
		return rc;
	r = malloc(sizeof *r);
	if (!r)
		return -ENOMEM;
	*r = (struct uiopf_reservation){ d->reservations, q, 1, d->capacity };
	d->reservations = r;
	q->reserved += r->groups;
	uiopf_hold(&q->lifetime);
	return 0;
}

static void put_room(struct uiopf_device *d, struct uiopf_faultq *q)
{
	struct uiopf_reservation **link = &d->reservations, *r;

	while ((*link)->queue != q)
		link = &(*link)->next;
	r = *link;
	if (--r->attachments)
		return;
	q->reserved -= r->groups;
	*link = r->next;
	free(r);
	uiopf_let_go(&q->lifetime);
}

/* ---- a device's attachments by PASID ---- */

static int reserve_pasid(struct uiopf_device *d)
{
	uint32_t size = d->pasid ? d->pasid_mask + 1 : 0, grown = size ? size * 2 : 16, b;
	struct uiopf_attach **bucket, **old = d->pasid;

	if (d->pasids < size)
		return 0;
	bucket = calloc(grown, sizeof *bucket);
	if (!bucket)
		return -ENOMEM;
	d->pasid = bucket;
	d->pasid_mask = grown - 1;
	for (b = 0; b < size; b++) {
		struct uiopf_attach *attach, *next;

		for (attach = old[b]; attach; attach = next) {
			struct uiopf_attach **to = uiopf_pasid_bucket(d, attach->pasid);

			next = attach->next;
			attach->next = *to;
			*to = attach;
		}
	}
	free(old);
	return 0;
}

static struct uiopf_attach *attach_of(const struct uiopf_device *d, uint32_t pasid)
{
	return pasid == UIOPF_NO_PASID ? d->attach : uiopf_find_pasid(d, pasid);
}

/* Puts an attachment, or NULL, in place of what is there, which it returns. A new PASID's room has been made. */
static struct uiopf_attach *exchange(struct uiopf_device *d, uint32_t pasid, struct uiopf_attach *attach)
{
	struct uiopf_attach **link, *old;

	if (pasid == UIOPF_NO_PASID) {
		old = d->attach;
		d->attach = attach;
		return old;
	}
	if (!d->pasid)
		return NULL;
	for (link = uiopf_pasid_bucket(d, pasid); *link && (*link)->pasid != pasid; link = &(*link)->next)
		;
	old = *link;
	if (old) {
		*link = old->next;
		d->pasids--;
	}
	if (attach) {
		link = uiopf_pasid_bucket(d, pasid);
		attach->next = *link;
		*link = attach;
		d->pasids++;
	}
	return old;
}

/* ---- the switch ---- */

static struct uiopf_attach *prepare(struct uiopf_device *d, const struct uiopf_attach *like, struct uiopf_faultq *queue)
{
	struct uiopf_attach *attach = malloc(sizeof *attach);

	if (!attach)
		return NULL;
	*attach = *like;
	attach->device = d;
	attach->queue = queue;
	attach->next = NULL;
	if ((like->pasid != UIOPF_NO_PASID && reserve_pasid(d) < 0) || (queue && hold_room(d, queue) < 0)) {
		free(attach);
		return NULL;
	}
	return attach;
}

/* Counts an attachment of a device that takes faults, or one less; the last takes unfinished groups with it. */
static void count_fault_user(struct uiopf_device *d, const struct uiopf_attach *attach, int change)
{
	if (!attach || !attach->queue)
		return;
	d->fault_users += change;
	if (!d->fault_users)
		uiopf_device_drop_partial(d);
}

static void forget(struct uiopf_attach *old)
{
	if (old && old->queue)
		put_room(old->device, old->queue);
	free(old);
}

/* What is on the way reaches whom it was meant for, where the IOMMU can say when that is. */
static void drain(struct uiopf_device *device)
{
	if (!device->iommu->ops->drain)
		return;
	device->iommu->ops->drain(device->iommu);
	uiopf_core_publish(device->core);
	uiopf_core_sync(device->core);	/* it has come, and wakes, also where it is taken away again */
}

/*
 * Whether this device of the group is to report faults. Where not all are (Linux 6.12 switches reporting on for the one
 * that makes the attachment), those that do already keep doing it, and for another table with faults nothing changes.
 */
static bool reports(const struct uiopf_device *d, const struct uiopf_device *device, uint32_t flags)
{
	const struct uiopf_attach *old = attach_of(device, UIOPF_NO_PASID);
	const struct uiopf_device *m = device;

	if (!(flags & UIOPF_ALONE))
		return true;
	if (!old)
		return d == device;
	do {
		if (m->fault_users)
			return d->fault_users;
		m = m->group_next;
	} while (m != device);
	return d == device;
}

static int switch_group(struct uiopf_device *device, uint32_t pasid, struct uiopf_faultq *queue, uint32_t flags)
{
	const struct uiopf_attach like = {
		.handle = device->core->handles + 1,
		.dev_id = device->id,
		.pasid = pasid,
		.user_managed = flags & UIOPF_USER_MANAGED,
	};
	struct uiopf_attach *ready = NULL, *ended = NULL, *attach, *old;
	struct uiopf_device *d = device;
	struct uiopf_faultq *old_queue = NULL;
	uint64_t old_handle = 0;

	do {	/* everything that can fail */
		attach = prepare(d, &like, queue && reports(d, device, flags) ? queue : NULL);
		if (!attach) {
			while (ready) {
				attach = ready->next;
				forget(ready);
				ready = attach;
			}
			return -ENOMEM;
		}
		attach->next = ready;
		ready = attach;
		d = d->group_next;
	} while (d != device);

	drain(device);
	device->core->handles++;
	for (; ready; ready = attach) {
		attach = ready->next;
		old = exchange(ready->device, pasid, ready);
		count_fault_user(ready->device, ready, 1);
		count_fault_user(ready->device, old, -1);
		if (old) {
			old_handle = old->handle;
			old_queue = old->queue ? old->queue : old_queue;
			old->next = ended;
			ended = old;
		}
	}
	/* After the switch; and before what the groups point to goes. */
	if (old_queue)
		uiopf_faultq_auto_respond(old_queue, old_handle, NULL);
	while ((old = ended)) {
		ended = old->next;
		forget(old);
	}
	return 0;
}

int uiopf_attach(struct uiopf_device *device, uint32_t pasid, struct uiopf_faultq *queue, uint32_t flags)
{
	int rc;

	uiopf_control_begin(device->core);
	rc = attach_of(device, pasid) ? -EBUSY : switch_group(device, pasid, queue, flags);
	uiopf_core_kick(device->core);
	uiopf_control_end(device->core);
	return rc;
}

int uiopf_replace(struct uiopf_device *device, uint32_t pasid, struct uiopf_faultq *queue, uint32_t flags)
{
	int rc;

	uiopf_control_begin(device->core);
	rc = attach_of(device, pasid) ? switch_group(device, pasid, queue, flags) : -EINVAL;
	uiopf_core_kick(device->core);
	uiopf_control_end(device->core);
	return rc;
}

static void detach_group(struct uiopf_device *device, uint32_t pasid)
{
	struct uiopf_attach *old, *ended = NULL;
	struct uiopf_faultq *queue = NULL;
	struct uiopf_device *d = device;
	uint64_t handle = 0;

	drain(device);
	do {
		old = exchange(d, pasid, NULL);
		if (old) {
			handle = old->handle;
			queue = old->queue ? old->queue : queue;
			count_fault_user(d, old, -1);
			old->next = ended;
			ended = old;
		}
		d = d->group_next;
	} while (d != device);
	if (queue)
		uiopf_faultq_auto_respond(queue, handle, NULL);
	while ((old = ended)) {
		ended = old->next;
		forget(old);
	}
}

int uiopf_detach(struct uiopf_device *device, uint32_t pasid)
{
	uiopf_control_begin(device->core);
	detach_group(device, pasid);
	uiopf_core_kick(device->core);
	uiopf_control_end(device->core);
	return 0;
}

/* ---- groups of devices ---- */

int uiopf_device_join(struct uiopf_device *device, struct uiopf_device *member, uint32_t flags)
{
	const bool alone = flags & UIOPF_ALONE;
	struct uiopf_attach *theirs, *attach;
	uint32_t b;
	int rc = 0;

	uiopf_control_begin(device->core);
	if (device->group_next != device || device->attach || device->pasids) {
		uiopf_control_end(device->core);
		return -EBUSY;
	}
	/* What the group is attached to, it is attached to. */
	for (b = 0; rc == 0 && b < (member->pasid ? member->pasid_mask + 1 : 0); b++)
		for (theirs = member->pasid[b]; rc == 0 && theirs; theirs = theirs->next) {
			attach = prepare(device, theirs, alone ? NULL : theirs->queue);
			rc = attach ? 0 : -ENOMEM;
			if (attach) {
				exchange(device, theirs->pasid, attach);
				count_fault_user(device, attach, 1);
			}
		}
	if (rc == 0 && member->attach) {
		attach = prepare(device, member->attach, alone ? NULL : member->attach->queue);
		rc = attach ? 0 : -ENOMEM;
		exchange(device, UIOPF_NO_PASID, attach);
		count_fault_user(device, attach, 1);
	}
	if (rc == 0) {
		device->group_next = member->group_next;
		member->group_next = device;
	} else {
		for (b = 0; b < (device->pasid ? device->pasid_mask + 1 : 0); b++)
			while (device->pasid[b])
				forget(exchange(device, device->pasid[b]->pasid, NULL));
		device->fault_users = 0;
	}
	uiopf_control_end(device->core);
	return rc;
}

/* Its own part of one attachment ends; the rest of the group keeps theirs. */
static void leave(struct uiopf_device *device, uint32_t pasid)
{
	struct uiopf_attach *old = exchange(device, pasid, NULL);

	count_fault_user(device, old, -1);
	if (old->queue)
		uiopf_faultq_auto_respond(old->queue, old->handle, device);
	forget(old);
}

void uiopf_device_leave(struct uiopf_device *device)
{
	struct uiopf_device *before = device;
	uint32_t b;

	uiopf_control_begin(device->core);
	drain(device);
	for (b = 0; b < (device->pasid ? device->pasid_mask + 1 : 0); b++)
		while (device->pasid[b])
			leave(device, device->pasid[b]->pasid);
	if (device->attach)
		leave(device, UIOPF_NO_PASID);
	while (before->group_next != device)
		before = before->group_next;
	before->group_next = device->group_next;
	device->group_next = device;
	uiopf_core_kick(device->core);
	uiopf_control_end(device->core);
}

void uiopf_device_free(struct uiopf_device *d)
{
	struct uiopf_core *core = d ? d->core : NULL;

	if (!d || core->torn)
		return;
	if (!core->abandoned) {
		uiopf_control_begin(core);
		if (d->iommu->ops->forget)
			d->iommu->ops->forget(d->iommu, d);
		if (d->attach || d->pasids || d->group_next != d)
			uiopf_device_leave(d);
		uiopf_control_end(core);
	}
	uiopf_device_end(d);
}

void uiopf_device_unplug(struct uiopf_device *device)
{
	uiopf_control_begin(device->core);
	device->unplugged = true;
	uiopf_control_end(device->core);
}

/* ---- reports by hand ---- */

/*
 * A device without credits has what memory gives: grow before it would run out. The queues first, so that they have room
 * for whatever the device comes to have; without memory the report does as Linux does then.
 */
static void grow_device(struct uiopf_device *device)
{
	uint32_t capacity = device->capacity * 2;
	struct uiopf_reservation *r;

	for (r = device->reservations; r; r = r->next)
		if (uiopf_faultq_reserve(r->queue, r->queue->reserved - r->groups + capacity) < 0)
			return;
	uiopf_device_reserve(device, capacity);
	for (r = device->reservations; r; r = r->next) {
		r->queue->reserved += device->capacity - r->groups;
		r->groups = device->capacity;
	}
}

int uiopf_device_report(struct uiopf_device *device, uint32_t flags, uint32_t pasid, uint32_t grpid, uint32_t perm,
			uint64_t addr)
{
	struct uiopf_fault fault = { addr, flags, pasid, grpid, perm, 0 };
	struct uiopf_core *core = device->core;
	struct uiopf_attach *attach;
	int rc;

	/* What has no room in an answer's field would be in the next one: another function's id, or another code. */
	if (device->iommu->ops->pcie && (pasid >> UIOPF_PASID_BITS || grpid >> UIOPF_GROUP_BITS))
		return -ERANGE;
	uiopf_control_begin(core);
	if (device->growable && uiopf_device_is_exhausted(device))
		grow_device(device);
	attach = uiopf_find_attach(device, flags, pasid);
	rc = uiopf_report(device, &fault);
	if (attach && attach->queue) {
		uiopf_faultq_publish(attach->queue);
		uiopf_faultq_sync(attach->queue);
	}
	uiopf_control_end(core);
	return rc;
}

void uiopf_device_get_counts(struct uiopf_device *device, struct uiopf_device_counts *counts)
{
	uiopf_control_begin(device->core);
	*counts = device->counts;
	uiopf_control_end(device->core);
}

/* ---- PRI that a virtual function shares ---- */

void uiopf_device_share_pri(struct uiopf_device *device)
{
	uiopf_control_begin(device->core);
	device->virtual_pri = UIOPF_PRI_SHARED;
	uiopf_control_end(device->core);
}

int uiopf_device_reset_pri(struct uiopf_device *device)
{
	int rc = 0;

	uiopf_control_begin(device->core);
	if (device->virtual_pri == UIOPF_PRI_OWN)
		rc = -EOPNOTSUPP;
	else
		device->virtual_pri = UIOPF_PRI_SHARED;
	uiopf_control_end(device->core);
	return rc;
}

int uiopf_device_pri_paused(struct uiopf_device *device)
{
	return READ_ONCE(&device->virtual_pri) == UIOPF_PRI_PAUSED;
}
