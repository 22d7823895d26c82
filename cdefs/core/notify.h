/*
 * Eventfds that a client in another process holds too.
 *
 * An eventfd's O_NONBLOCK and its counter belong to whoever has it. A client could take the flag off and fill the counter,
 * and our next write would block for as long as it likes; or empty it between our poll and our read. So neither is done
 * here. To be told, the worker waits for edges and never reads. To tell, there is no write that never blocks, but
 * there is the kernel's own eventfd_signal(), which adds what fits: asynchronous I/O calls it for each operation that
 * ends, here a read of nothing. Takes 0.7 us more than a write, only when the client is to be woken.
 *
 * Source: fs/aio.c, fs/eventfd.c, Linux 6.12; io_submit(2).
 */
#pragma once
#include "core/core.h"

/* Of the host's files without a name, what the host calls them: "[eventfd]", "inotify". */
bool uiopf_is_anonymous(int fd, const char *kind);
bool uiopf_is_eventfd(int fd);
/* What all descriptors of one eventfd have in common; -1: it is none, or the host does not say. */
int uiopf_eventfd_id(int fd);

/* 0 or -errno; it is closed with the core. */
int uiopf_notifier_open(struct uiopf_core *core);
void uiopf_notifier_close(struct uiopf_core *core);
/* Consumer: a signal, when live, that never blocks, whatever the others do to the eventfd. file: any of regular kind. */
void uiopf_notify(struct uiopf_core *core, int eventfd, int file);
/* The worker is also woken by this eventfd, which it never reads; and no more. */
int uiopf_wake_watch(struct uiopf_core *core, int eventfd);
void uiopf_wake_unwatch(struct uiopf_core *core, int eventfd);
