/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growing byte buffer. After an allocation failure it stays valid, ignores further appends and
 * reports -ENOMEM from buf_error(): callers append freely and check once.
 */
#pragma once

#include "base/util.h"

struct buf {
    char *data; /* NUL-terminated when len > 0 or after buf_cstr() */
    size_t len;
    size_t cap;
    int error;
};

void buf_fini(struct buf *b);
#define _cleanup_buf_ _cleanup_(buf_fini)

void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) _printf_(2, 3);
/* Appends s as a JSON string literal with quotes. False when there are bytes that are not UTF-8, each now
 * a U+FFFD. */
bool buf_add_json(struct buf *b, const char *s, size_t len);
/* prefix and s on one line, as git writes paths (core.quotePath=false): with control characters, a quote, a
 * backslash or bytes that are no UTF-8, the whole in quotes and these as \n, \", \ooo. */
void buf_add_quoted(struct buf *b, const char *prefix, const char *s);
const char *buf_cstr(struct buf *b); /* "" after a failure */
int buf_error(const struct buf *b);
/* Detaches the string (caller frees); NULL on failure. The buffer is empty afterwards. */
char *buf_steal(struct buf *b);
