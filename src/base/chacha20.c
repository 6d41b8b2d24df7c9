/* SPDX-License-Identifier: Apache-2.0 */
/* ChaCha20's block function as in RFC 8439, 2.3. Pure; any thread. */
#include "base/chacha20.h"

#include <stddef.h>

static uint32_t load(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t rotate(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static void quarter(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    *a += *b;
    *d = rotate(*d ^ *a, 16);
    *c += *d;
    *b = rotate(*b ^ *c, 12);
    *a += *b;
    *d = rotate(*d ^ *a, 8);
    *c += *d;
    *b = rotate(*b ^ *c, 7);
}

static void double_round(uint32_t x[16])
{
    for (unsigned i = 0; i < 4; i++)
        quarter(&x[i], &x[4 + i], &x[8 + i], &x[12 + i]);
    for (unsigned i = 0; i < 4; i++)
        quarter(&x[i], &x[4 + (i + 1) % 4], &x[8 + (i + 2) % 4], &x[12 + (i + 3) % 4]);
}

void chacha20_block(const uint8_t key[CHACHA20_KEY], uint32_t counter,
                    const uint8_t nonce[CHACHA20_NONCE], uint8_t out[CHACHA20_BLOCK])
{
    uint32_t in[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}, x[16];

    for (size_t i = 0; i < 8; i++)
        in[4 + i] = load(key + 4 * i);
    in[12] = counter;
    for (size_t i = 0; i < 3; i++)
        in[13 + i] = load(nonce + 4 * i);
    for (size_t i = 0; i < 16; i++)
        x[i] = in[i];
    for (unsigned round = 0; round < 10; round++)
        double_round(x);
    for (size_t i = 0; i < 16; i++) {
        uint32_t v = x[i] + in[i];

        for (unsigned k = 0; k < 4; k++)
            out[4 * i + k] = (uint8_t)(v >> (8 * k));
    }
}
