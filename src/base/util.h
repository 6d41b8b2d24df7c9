/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small things every file needs: array sizes, cleanup attributes, ownership transfer.
 * No project knowledge. Usable from any thread and, being macros, from the raw child.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _unused_ __attribute__((unused))
#define _const_ __attribute__((const))
#define _warn_unused_ __attribute__((warn_unused_result))

/* Where the process ends with its work, the kernel takes memory and descriptors back in one go: a
 * tenth of a short run cheaper than freeing them. Not where leaks are looked for. */
#ifndef __has_feature
#define __has_feature(x) 0 /* clang's */
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define UTIL_FREE_AT_EXIT true
#else
#define UTIL_FREE_AT_EXIT false
#endif

/* Marks a symbol of the public API; everything else is hidden (-fvisibility=hidden). */
#define _public_ __attribute__((visibility("default")))

static inline void util_freep(void *p)
{
    free(*(void **)p);
}
#define _cleanup_free_ _cleanup_(util_freep)

/* close(2) that keeps errno and accepts -1; always returns -1 so that `fd = util_close(fd)` works. */
int util_close(int fd);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t util_now_ns(void);
/* The same in milliseconds, for deadlines that are added to and subtracted. */
static inline int64_t util_now_ms(void)
{
    return (int64_t)(util_now_ns() / 1000000u);
}

/* Room for one more of n elements: v, or where it was moved to. NULL: no memory, and v is as it was. */
void *util_grow(void *v, size_t n, size_t *room, size_t size);

/* qsort(3), which v may not be NULL for even where there is nothing to sort. */
static inline void util_sort(void *v, size_t n, size_t size,
                             int (*compare)(const void *, const void *))
{
    if (n)
        qsort(v, n, size, compare);
}

static inline void util_closep(int *fd)
{
    if (*fd >= 0)
        util_close(*fd);
}
#define _cleanup_close_ _cleanup_(util_closep)

/* Transfer ownership out of a variable with a cleanup attribute. */
#define STEAL_PTR(p)            \
    __extension__({             \
        __typeof__(p) _p = (p); \
        (p) = NULL;             \
        _p;                     \
    })

static inline int steal_fd(int *fd)
{
    int r = *fd;

    *fd = -1;
    return r;
}
