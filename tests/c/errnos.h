/* What the results of a ring's requests may be, where nobody wrote over them. */
#pragma once
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

/* Errnos that Linux could give to any operation on any of the files that hostile programs name. */
static inline bool known_errno(int error)
{
	static const int16_t known[] = {
		EAGAIN, EBADF, EBADFD, EFAULT, EINVAL, ENOENT, EALREADY, ECANCELED, ETIME, ENOBUFS, EOPNOTSUPP, EOVERFLOW,
		E2BIG, EACCES, ENXIO, ENFILE, ENOMEM, EPIPE, ENOTSOCK, ENOTCONN, EISCONN, EMSGSIZE, ECONNRESET, ENODEV,
		ESPIPE, EINTR,
	};
	uint32_t i;

	for (i = 0; i < sizeof known / sizeof known[0]; i++)
		if (known[i] == error)
			return true;
	return false;
}
