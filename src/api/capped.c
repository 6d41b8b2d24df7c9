/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A captured stream in bounded memory: its beginning and its end (TX-01). Bytes of the child, never
 * interpreted. The caller's thread.
 */
#include <string.h>

#include "api/internal.h"

void capped_add(struct capped *c, const char *data, size_t n)
{
    size_t head = MIN(n, CAPPED_HALF - c->head.len);

    buf_add(&c->head, data, head);
    c->total += n;
    data += head;
    n -= head;
    if (n && !c->tail)
        c->tail = calloc(1, CAPPED_HALF); /* what was lost to lack of memory is no garbage */
    if (!c->tail)
        return; /* counted as left out */
    if (n > CAPPED_HALF) {
        data += n - CAPPED_HALF;
        n = CAPPED_HALF;
    }
    for (size_t at = (size_t)((c->total - n) % CAPPED_HALF); n;) {
        size_t some = MIN(n, CAPPED_HALF - at);

        memcpy(c->tail + at, data, some);
        data += some;
        n -= some;
        at = 0;
    }
}

void capped_take(struct capped *c, struct buf *out)
{
    uint64_t rest = c->total - c->head.len, kept = c->tail ? MIN(rest, (uint64_t)CAPPED_HALF) : 0;
    size_t at = (size_t)((c->total - kept) % CAPPED_HALF),
           some = MIN((size_t)kept, CAPPED_HALF - at);

    buf_add(out, c->head.data, c->head.len);
    if (rest > kept)
        buf_addf(out, "\n[%llu bytes left out]\n", (unsigned long long)(rest - kept));
    if (kept) {
        buf_add(out, c->tail + at, some);
        buf_add(out, c->tail, (size_t)kept - some);
    }
    buf_fini(&c->head);
    free(c->tail);
    *c = (struct capped){0};
}
