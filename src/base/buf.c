/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

static bool buf_reserve(struct buf *b, size_t more)
{
    size_t need = b->len + more + 1;
    size_t cap = b->cap ? b->cap : 128;
    char *p;

    if (b->error)
        return false;
    if (need < more) {
        b->error = -ENOMEM;
        return false;
    }
    if (need <= b->cap)
        return true;
    while (cap < need)
        cap *= 2;
    p = realloc(b->data, cap);
    if (!p) {
        b->error = -ENOMEM;
        return false;
    }
    b->data = p;
    b->cap = cap;
    return true;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
    if (!buf_reserve(b, len))
        return;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_adds(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_addc(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->error = -EINVAL;
        return;
    }
    if (!buf_reserve(b, (size_t)n))
        return;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

/* Length of the well-formed UTF-8 sequence at s (RFC 3629), 0 when it is malformed. */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    uint32_t cp;

    if (n == 0 || n > len)
        return 0;
    if (n == 1)
        return 1;
    cp = s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        cp = cp << 6 | (s[i] & 0x3f);
    }
    if ((n == 2 && cp < 0x80) || (n == 3 && (cp < 0x800 || (cp >= 0xd800 && cp < 0xe000))) ||
        (n == 4 && (cp < 0x10000 || cp > 0x10ffff)))
        return 0;
    return n;
}

bool buf_add_json(struct buf *b, const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s;
    bool exact = true;

    buf_addc(b, '"');
    for (size_t i = 0; i < len;) {
        size_t n = utf8_sequence(p + i, len - i);

        if (n == 0) {
            buf_adds(b, "\\ufffd");
            exact = false;
            n = 1;
        } else if (p[i] < 0x20 || p[i] == 0x7f) {
            buf_addf(b, "\\u%04x", p[i]);
        } else if (p[i] == '"' || p[i] == '\\') {
            buf_addc(b, '\\');
            buf_addc(b, (char)p[i]);
        } else {
            buf_add(b, p + i, n);
        }
        i += n;
    }
    buf_addc(b, '"');
    return exact;
}

/* What would end a line, move a cursor (C1 too) or is no text. */
static bool quote_needed(const unsigned char *p, size_t n)
{
    return n == 0 || *p < 0x20 || *p == 0x7f || *p == '"' || *p == '\\' ||
           (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

static bool quote_any(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    for (size_t len = strlen(s), n; len; p += n, len -= n) {
        n = utf8_sequence(p, len);
        if (quote_needed(p, n))
            return true;
    }
    return false;
}

static void quote_byte(struct buf *b, unsigned char c)
{
    static const char names[] = "\aa\bb\tt\nn\vv\ff\rr\"\"\\\\";

    for (const char *k = names; *k; k += 2) {
        if ((unsigned char)*k == c) {
            buf_addc(b, '\\');
            buf_addc(b, k[1]);
            return;
        }
    }
    buf_addf(b, "\\%03o", c);
}

void buf_add_quoted(struct buf *b, const char *prefix, const char *s)
{
    const unsigned char *p = (const unsigned char *)s;
    bool quoted = quote_any(s);

    if (quoted)
        buf_addc(b, '"');
    buf_adds(b, prefix);
    for (size_t len = strlen(s), n; len; p += n, len -= n) {
        bool odd;

        n = utf8_sequence(p, len);
        odd = quote_needed(p, n);
        n = n ? n : 1;
        for (size_t i = 0; i < n; i++) {
            if (odd)
                quote_byte(b, p[i]);
            else
                buf_addc(b, (char)p[i]);
        }
    }
    if (quoted)
        buf_addc(b, '"');
}

const char *buf_cstr(struct buf *b)
{
    if (b->error || !buf_reserve(b, 0))
        return "";
    b->data[b->len] = '\0';
    return b->data;
}

int buf_error(const struct buf *b)
{
    return b->error;
}

char *buf_steal(struct buf *b)
{
    char *s;

    if (b->error || !buf_reserve(b, 0)) {
        buf_fini(b);
        return NULL;
    }
    b->data[b->len] = '\0';
    s = b->data;
    *b = (struct buf){0};
    return s;
}
