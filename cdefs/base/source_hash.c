/* build.py passes the hash in; a compiler that is run by hand has none to pass. */
#include "abi/api.h"

#ifndef UIOPF_SOURCE_HASH
#define UIOPF_SOURCE_HASH ""
#endif

const char *uiopf_source_hash(void)
{
	return UIOPF_SOURCE_HASH;
}
