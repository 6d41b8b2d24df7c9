/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Did you mean": the nearest of some known words. Used for error messages only, by the policy's
 * parsers and the command line; input is our own user's.
 */
#pragma once

#include <stddef.h>

/* Keeps the best candidate seen so far: fill `word`, offer candidates, read `best` (or NULL). */
struct suggestion {
    const char *word;
    const char *best;
    unsigned distance;
};
void suggest_offer(struct suggestion *s, const char *candidate);
/* Edit distance with neighbouring swaps; words longer than 63 bytes are never near. */
unsigned suggest_distance(const char *a, const char *b);
