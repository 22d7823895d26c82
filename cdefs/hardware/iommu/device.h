/*
 * A device that reports its faults itself, and asks no IOMMU: an RDMA adapter with on-demand paging, as mlx5 with the
 * memory scheme. It has one event queue, and its driver has keys, by which regions of memory are known to it.
 *
 * Hardware: an operation of one of its functions that finds no page waits, in one of the function's places. An entry of 64
 * bytes for each page goes into the event queue; those of one operation have a token in common, and the last is marked. The
 * command PAGE_FAULT_RESUME ends it, by its token: it is tried again, or fails. An entry is never lost: where the queue is
 * full, the device keeps it until there is room, and one that has no place waits outside. Where the queue is disabled, or
 * the driver knows no key of the function, since no device is bound to it, an operation fails at once.
 *
 * Driver: looks a key up, which says whose function it is and under which PASID; and reports the fault. What it does not
 * find it resumes with an error, each entry, as Linux's does. An entry says neither read nor write: what the region allows
 * is asked for. It has a length, of the page and of those behind it that the device would like to have, too.
 *
 * Sources: Linux 7.2 include/linux/mlx5/device.h, include/linux/mlx5/mlx5_ifc.h, drivers/infiniband/hw/mlx5/odp.c.
 */
#pragma once
#include "hardware/iommu/reporting.h"

extern const struct uiopf_model_ops uiopf_model_odp;
