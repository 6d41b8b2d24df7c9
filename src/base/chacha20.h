/* SPDX-License-Identifier: Apache-2.0 */
/* The block function of ChaCha20 (RFC 8439). No project knowledge; pure. */
#pragma once

#include <stdint.h>

#define CHACHA20_KEY 32
#define CHACHA20_NONCE 12
#define CHACHA20_BLOCK 64

void chacha20_block(const uint8_t key[CHACHA20_KEY], uint32_t counter,
                    const uint8_t nonce[CHACHA20_NONCE], uint8_t out[CHACHA20_BLOCK]);
