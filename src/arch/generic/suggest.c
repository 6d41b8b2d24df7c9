/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The call name nearest to a misspelt one, for messages. Pure, caller's thread; the name comes
 * from the user's policy and may have any length.
 */
#include <string.h>

#include "arch/table.h"
#include "base/util.h"

#define NAME_MAX_LEN 40 /* longer than any call name */

/* Edits (insert, delete, replace, swap of neighbours) that turn a into b. Lengths are bounded. */
static unsigned edit_distance(const char *a, size_t alen, const char *b, size_t blen)
{
    uint8_t row[3][NAME_MAX_LEN + 1];

    for (size_t j = 0; j <= blen; j++)
        row[0][j] = (uint8_t)j;
    for (size_t i = 1; i <= alen; i++) {
        uint8_t *cur = row[i % 3], *prev = row[(i + 2) % 3], *prev2 = row[(i + 1) % 3];

        cur[0] = (uint8_t)i;
        for (size_t j = 1; j <= blen; j++) {
            unsigned cost = a[i - 1] != b[j - 1];
            unsigned best = MIN(MIN(prev[j] + 1u, cur[j - 1] + 1u), prev[j - 1] + cost);

            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN(best, prev2[j - 2] + 1u);
            cur[j] = (uint8_t)best;
        }
    }
    return row[alen % 3][blen];
}

const char *arch_name_suggest(const char *name)
{
    size_t len = strnlen(name, NAME_MAX_LEN + 1);
    unsigned best = (unsigned)(len / 3) + 1; /* exclusive: a third of the letters may be wrong */
    const char *found = NULL;

    if (len < 2 || len > NAME_MAX_LEN)
        return NULL;
    for (size_t i = 0; i < arch_names_count; i++) {
        size_t n = strlen(arch_names[i].name);
        unsigned d;

        if (n > NAME_MAX_LEN || n + best <= len || len + best <= n)
            continue;
        d = edit_distance(name, len, arch_names[i].name, n);
        if (d < best) {
            best = d;
            found = arch_names[i].name;
        }
    }
    return found;
}
