/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --deterministic-dirs (DD-01), the parts without a kernel call: a sorted window of a directory, and the cache
 * that says which window a position belongs to. Any thread; names are hostile bytes of the kernel's records.
 *
 * Order: ".", "..", then bytewise.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/util.h"

struct uapi_dirent;

/* A run of the sorted directory, as records of getdents64 whose `off` counts from 1. Immutable. */
struct dirs_window {
    size_t len;      /* bytes of records */
    size_t follow;   /* entries behind the window when it was made */
    uint32_t count;  /* records */
    uint32_t *start; /* count + 1 offsets into records */
    uint8_t *records;
};
void dirs_window_free(struct dirs_window *w);
/* The name of the last record; the window is not empty. */
const char *dirs_window_last(const struct dirs_window *w);
/* Copies whole records from number `index` on, with off = base + number, as many as fit: bytes, or
 * -EINVAL when the first does not fit. index < count. *ret_index is the number after the last. */
ssize_t dirs_window_copy(const struct dirs_window *w, uint32_t index, uint32_t base, uint8_t *buf,
                         size_t size, uint32_t *ret_index);

/* Collects the first `limit` bytes of sorted records whose name comes after `after` (NULL: all), however
 * many are added: memory is at most some 6 times the limit. */
struct dirs_scan {
    size_t limit;
    const char *after;
    uint8_t *raw; /* records in the order of arrival */
    size_t len, cap;
    uint32_t count;
    size_t total; /* records after `after` seen */
    char *cut;    /* nothing that comes after this name is wanted any more, or NULL */
};
#define _cleanup_dirs_scan_ _cleanup_(dirs_scan_fini)
void dirs_scan_init(struct dirs_scan *s, size_t limit, const char *after);
void dirs_scan_fini(struct dirs_scan *s);
/* 0, or -ENOMEM. */
int dirs_scan_add(struct dirs_scan *s, const struct uapi_dirent *e);
/* The window; the scan is empty afterwards. */
int dirs_scan_finish(struct dirs_scan *s, struct dirs_window **ret);

/*
 * The cache. A directory's position in the kernel's open description says everything: 0 is the
 * beginning (what is there now is sorted), any other value lies in the interval (base, base + count] of
 * one window. An unchanged directory has one window at base 0, so its positions are 1, 2, 3 ...; a
 * changed one gets the next free interval, and readers of the former go on in theirs. Nobody else
 * needs to know which descriptor is which. Bounded; what was dropped is made again.
 */
struct dirs_cache;
struct dirs_cache *dirs_cache_new(void); /* NULL: out of memory */
void dirs_cache_free(struct dirs_cache *c);

enum dirs_found {
    DIRS_COPIED,   /* records were copied */
    DIRS_END,      /* the position is the end of the directory */
    DIRS_CONTINUE, /* another window follows the name *ret_after (the caller frees) */
    DIRS_UNKNOWN,  /* no window of this position */
};
struct dirs_read {
    dev_t dev;
    ino_t ino;
    uint32_t pos; /* in: where to begin; out: after the last record copied */
    uint8_t *buf;
    size_t size;
    ssize_t n; /* bytes copied, or -EINVAL */
};
/* Largest position; what every file system takes (vfat: 4 GiB; old NFS: 2 GiB). */
#define DIRS_POS_MAX 0x7fffffffu
int dirs_cache_read(struct dirs_cache *c, struct dirs_read *d, char **ret_after);
/* Takes a window over that goes on at the position `at`, or, with at == 0, is one from the beginning of the
 * directory: that goes wherever there is room, and an equal one is used again. Then copies from its record
 * number `index` on (< w->count), as dirs_cache_read() does. DIRS_COPIED, or -errno. */
int dirs_cache_add(struct dirs_cache *c, uint32_t at, struct dirs_window *w, uint32_t index,
                   struct dirs_read *d);
