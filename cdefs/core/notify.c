#include "core/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

bool uiopf_is_anonymous(int fd, const char *kind)
{
	char path[32], name[64] = { 0 };

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return readlink(path, name, sizeof name - 1) > 0 && !strncmp(name, "anon_inode:", 11) && !strcmp(name + 11, kind);
}

bool uiopf_is_eventfd(int fd)
{
	return uiopf_is_anonymous(fd, "[eventfd]");
}

int uiopf_eventfd_id(int fd)
{
	char path[40], text[512];
	const char *at;
	ssize_t n;
	int info;

	if (!uiopf_is_eventfd(fd))
		return -1;
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	if (info < 0)
		return -1;
	n = read(info, text, sizeof text - 1);
	close(info);
	if (n < 0)
		return -1;
	text[n] = 0;
	at = strstr(text, "eventfd-id:");
	return at ? atoi(at + strlen("eventfd-id:")) : -1;
}

#define EVENTS 64	/* operations that have ended and are not reaped */

int uiopf_notifier_open(struct uiopf_core *core)
{
	aio_context_t context = 0;

	if (core->aio)
		return 0;
	if (syscall(SYS_io_setup, EVENTS, &context) < 0)
		return -errno;
	core->aio = context;
	core->aio_unreaped = 0;
	return 0;
}

static void *destroy(void *context)
{
	syscall(SYS_io_destroy, (aio_context_t)(uintptr_t)context);
	return NULL;
}

/*
 * io_destroy() waits for the host to be done with the context: 20 ms, up to a second where many go at once. Whoever closes
 * a client's core has others to serve, so a thread of its own waits for it.
 */
static void destroy_aside(aio_context_t context)
{
	pthread_attr_t detached;
	pthread_t thread;
	int rc;

	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &detached, destroy, (void *)(uintptr_t)context);
	pthread_attr_destroy(&detached);
	if (rc)	/* no thread to be had: then here */
		destroy((void *)(uintptr_t)context);
}

void uiopf_notifier_close(struct uiopf_core *core)
{
	if (core->aio && !core->abandoned)	/* a child has no copy of it */
		destroy_aside(core->aio);
	core->aio = 0;
	if (core->wake_epoll >= 0)
		close(core->wake_epoll);
	core->wake_epoll = -1;
}

static void reap(struct uiopf_core *core)
{
	struct io_event ended[EVENTS];

	syscall(SYS_io_getevents, core->aio, 0l, (long)EVENTS, ended, NULL);
	core->aio_unreaped = 0;
}

void uiopf_notify(struct uiopf_core *core, int eventfd, int file)
{
	struct iocb nothing = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)file,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)eventfd,
	}, *list = &nothing;

	if (!uiopf_wakes(core))
		return;
	/* Of half of the room only: how the kernel counts it is its own affair. */
	if (++core->aio_unreaped >= EVENTS / 2)
		reap(core);
	if (syscall(SYS_io_submit, core->aio, 1l, &list) != 1) {
		reap(core);
		syscall(SYS_io_submit, core->aio, 1l, &list);
	}
}

int uiopf_wake_watch(struct uiopf_core *core, int eventfd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	if (core->wake_epoll < 0)
		core->wake_epoll = epoll_create1(EPOLL_CLOEXEC);
	if (core->wake_epoll < 0 || epoll_ctl(core->wake_epoll, EPOLL_CTL_ADD, eventfd, &event) < 0)
		return -errno;
	return 0;
}

void uiopf_wake_unwatch(struct uiopf_core *core, int eventfd)
{
	struct epoll_event event = { 0 };

	/* Closing it is not enough: the client has it too, and it would stay in the set. */
	epoll_ctl(core->wake_epoll, EPOLL_CTL_DEL, eventfd, &event);
}
