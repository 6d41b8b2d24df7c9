/* SPDX-License-Identifier: Apache-2.0 */
#include "base/util.h"

#include <errno.h>
#include <time.h>

int util_close(int fd)
{
    int saved = errno;

    if (fd >= 0)
        (void)close(fd);
    errno = saved;
    return -1;
}

void *util_grow(void *v, size_t n, size_t *room, size_t size)
{
    size_t more = *room ? *room * 2 : 16;

    if (n < *room)
        return v;
    v = reallocarray(v, more, size);
    if (v)
        *room = more;
    return v;
}

uint64_t util_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
