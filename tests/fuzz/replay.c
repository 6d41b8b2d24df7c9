/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main() for a fuzz target without libFuzzer: feeds it each file named on the command line, and
 * with --mutations N in front N variants of each (fixed seed). Lets gcc and the sanitizers run the
 * corpus as a test.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define INPUT_MAX (1u << 20)

static uint64_t seed = 88172645463325252ull;

static uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

static void mutate(uint8_t *data, size_t *size)
{
    for (uint32_t n = 1 + next_random() % 4; n--;) {
        size_t at = *size ? next_random() % *size : 0;

        switch (next_random() % 4) {
        case 0:
            if (*size < INPUT_MAX) {
                memmove(data + at + 1, data + at, *size - at);
                data[at] = (uint8_t)next_random();
                ++*size;
            }
            break;
        case 1:
            if (*size) {
                memmove(data + at, data + at + 1, *size - at - 1);
                --*size;
            }
            break;
        case 2:
            if (*size)
                data[at] = "0123456789,-:*./=KMG"[next_random() % 20];
            break;
        default:
            if (*size)
                data[at] ^= (uint8_t)(1u << next_random() % 8);
            break;
        }
    }
}

static int replay(const char *path, unsigned long mutations)
{
    static uint8_t original[INPUT_MAX + 1];
    static uint8_t copy[INPUT_MAX + 1];
    FILE *f = fopen(path, "rb");
    size_t size;

    if (!f) {
        perror(path);
        return 1;
    }
    size = fread(original, 1, INPUT_MAX, f);
    fclose(f);
    LLVMFuzzerTestOneInput(original, size);
    while (mutations--) {
        size_t n = size;

        memcpy(copy, original, size);
        mutate(copy, &n);
        LLVMFuzzerTestOneInput(copy, n);
    }
    return 0;
}

int main(int argc, char **argv)
{
    unsigned long mutations = 0;
    int first = 1;
    int r = 0;

    if (argc > 2 && strcmp(argv[1], "--mutations") == 0) {
        mutations = strtoul(argv[2], NULL, 10);
        first = 3;
    }
    for (int i = first; i < argc; i++)
        r |= replay(argv[i], mutations);
    printf("%d inputs, %lu mutations each\n", argc - first, mutations);
    return r;
}
