/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of hashes, one word a path, overwritten by newer ones. Any receiver, without locks: each word
 * stands for itself.
 */
#include "fs/open_hint.h"

#include <stdatomic.h>
#include <stdint.h>

#define HINT_SLOTS 2048u /* 8 kB; a compiler reads some hundred headers */

static _Atomic uint32_t hints[HINT_SLOTS];

/* FNV-1a. Never 0, which means empty. */
static uint32_t hint_hash(const char *path, unsigned *ret_slot)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (; *path; path++)
        h = (h ^ (unsigned char)*path) * 0x100000001b3u;
    *ret_slot = (unsigned)(h % HINT_SLOTS);
    return (uint32_t)(h >> 32) | 1;
}

bool open_hint_is_file(const char *path)
{
    unsigned slot;
    uint32_t h = hint_hash(path, &slot);

    return atomic_load_explicit(&hints[slot], memory_order_relaxed) == h;
}

void open_hint_learn(const char *path, bool is_file)
{
    unsigned slot;
    uint32_t h = hint_hash(path, &slot);

    if (is_file)
        atomic_store_explicit(&hints[slot], h, memory_order_relaxed);
    else
        atomic_compare_exchange_strong(&hints[slot], &h, 0);
}
