#include "designs/told.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

int uiopf_told_read(struct uiopf_channel *ch, struct uiopf_told *told)
{
	eventfd_t count = 0;

	if (ch->core->live) {
		if (eventfd_read(ch->eventfd, &count) < 0)
			count = 0;
	} else {
		if (uiopf_control_try_begin(ch->core) < 0)
			return -EINTR;
		/* Without a worker nothing is written where nothing is paid for: the count stands for it. */
		eventfd_read(ch->eventfd, &count);
		count = *told->notified;
		WRITE_ONCE(told->notified, 0);
		ch->cost.wakeups += count;
		uiopf_control_end(ch->core);
	}
	if (count) {
		ch->cost.system_calls++;
		ch->cost.bytes_copied += sizeof count;
	} else {
		ch->cost.empty_polls++;
	}
	told->told = count;
	return 0;
}

bool uiopf_told_something(struct uiopf_channel *ch, struct uiopf_told *told)
{
	struct pollfd p = { .fd = ch->eventfd, .events = POLLIN };

	if (told->told || !ch->core->live)
		return told->told || READ_ONCE(told->notified);
	return poll(&p, 1, 0) > 0;
}

int uiopf_told_wait(struct uiopf_channel *ch, struct uiopf_told *told, uint64_t timeout_ns)
{
	uint32_t turns = 0;
	int rc;

	if (ch->core->driver == UIOPF_INLINE) {
		while (!(rc = uiopf_told_something(ch, told))) {
			rc = turns++ < UIOPF_TURNS_OF_A_CALL ? uiopf_core_produce(ch->core) : -EINTR;
			if (rc <= 0)
				break;
		}
		if (uiopf_sleeps(ch))
			uiopf_system_call(ch, true);
		return rc;
	}
	if (!uiopf_sleeps(ch) || told->told)
		return 1;
	ch->cost.system_calls++;	/* poll: a real one; receive reads the counter */
	if (uiopf_eventfd_poll(ch->core, ch->eventfd, timeout_ns))
		return 1;
	return errno == EINTR ? -EINTR : 0;
}
