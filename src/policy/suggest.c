/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nearest known word for a misspelt one. Pure; the caller's thread; only on the way to an error.
 */
#include "policy/suggest.h"

#include <limits.h>
#include <string.h>

#include "base/util.h"

#define WORD_MAX 63

unsigned suggest_distance(const char *a, const char *b)
{
    unsigned rows[3][WORD_MAX + 1];
    size_t na = strnlen(a, WORD_MAX + 1);
    size_t nb = strnlen(b, WORD_MAX + 1);
    unsigned *before = rows[0];
    unsigned *last = rows[1];
    unsigned *now = rows[2];

    if (na > WORD_MAX || nb > WORD_MAX)
        return UINT_MAX;
    for (size_t j = 0; j <= nb; j++)
        last[j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned *spare = before;

        now[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned d = last[j - 1] + (a[i - 1] != b[j - 1]);

            d = MIN(d, MIN(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d = MIN(d, before[j - 2] + 1);
            now[j] = d;
        }
        before = last;
        last = now;
        now = spare;
    }
    return last[nb];
}

void suggest_offer(struct suggestion *s, const char *candidate)
{
    unsigned d = suggest_distance(s->word, candidate);
    size_t len = strlen(s->word);

    /* A third of the word may be wrong; beyond that a guess misleads. */
    if (d > MAX(len / 3, 1u) || (s->best && d >= s->distance))
        return;
    s->best = candidate;
    s->distance = d;
}
