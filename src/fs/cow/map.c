/* SPDX-License-Identifier: Apache-2.0 */
/* Hash map from inode numbers to pointers: linear probing, no deletion but forgetting the value. */
#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

static size_t map_slot(const struct cow_map *m, uint64_t key)
{
    size_t i = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (m->room - 1);

    while (m->slots[i].key && m->slots[i].key != key)
        i = (i + 1) & (m->room - 1);
    return i;
}

void *cow_map_get(const struct cow_map *m, uint64_t key)
{
    return m->room ? m->slots[map_slot(m, key)].value : NULL;
}

int cow_map_reserve(struct cow_map *m)
{
    struct cow_map bigger = {.room = m->room ? m->room * 2 : 64};

    if (2 * (m->n + 1) <= m->room)
        return 0;
    bigger.slots = calloc(bigger.room, sizeof(*bigger.slots));
    if (!bigger.slots)
        return -ENOMEM;
    for (size_t i = 0; i < m->room; i++) {
        if (!m->slots[i].value)
            continue;
        bigger.slots[map_slot(&bigger, m->slots[i].key)] = m->slots[i];
        bigger.n++;
    }
    free(m->slots);
    *m = bigger;
    return 0;
}

int cow_map_put(struct cow_map *m, uint64_t key, void *value)
{
    size_t i;
    int e = cow_map_reserve(m);

    if (e < 0)
        return e;
    i = map_slot(m, key);
    if (!m->slots[i].key && !value)
        return 0;
    m->n += !m->slots[i].key;
    m->slots[i].key = key;
    m->slots[i].value = value;
    return 0;
}

void cow_map_fini(struct cow_map *m)
{
    free(m->slots);
    *m = (struct cow_map){0};
}
