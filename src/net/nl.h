/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rtnetlink answers of an empty network that has only `lo`. Pure: bytes in, bytes out; the
 * request is the child's and hostile. Called by the netlink feature's thread and by receivers.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Receives each datagram of an answer, at most NL_ANSWER_MAX bytes. */
typedef void (*nl_emit)(void *ctx, const void *msg, size_t len);
#define NL_ANSWER_MAX 2048
#define NL_REQUEST_MAX 16384 /* longer requests are cut */
/* A datagram of many small requests is not answered beyond this number. */
#define NL_REQUESTS_PER_DATAGRAM 64

#define NL_LO_INDEX 1
#define NL_LO_MTU 65536
#define NL_LO_QUEUE 1000

struct nl_view {
    uint32_t portid; /* the requesting socket's address */
    bool ipv6;       /* lo has ::1 */
};
void nl_answer(const struct nl_view *view, const void *request, size_t len, nl_emit emit,
               void *ctx);
