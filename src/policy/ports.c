/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port lists. Pure; the caller's thread and the fuzzers; the text may be anything.
 */
#include <errno.h>
#include <string.h>

#include "policy/internal.h"

#define PORT_FORMS "accepted: ports 1-65535 such as 80,8000-8010, or * for all"

bool port_set_is_empty(const struct port_set *s)
{
    return !s->any && s->n == 0;
}

bool port_set_has(const struct port_set *s, uint16_t port)
{
    if (s->any)
        return true;
    for (size_t i = 0; i < s->n; i++) {
        if (port >= s->ranges[i].lo && port <= s->ranges[i].hi)
            return true;
    }
    return false;
}

void port_set_fini(struct port_set *s)
{
    free(s->ranges);
    *s = (struct port_set){0};
}

static int range_compare(const void *a, const void *b)
{
    const struct port_range *x = a;
    const struct port_range *y = b;

    return x->lo != y->lo ? (x->lo < y->lo ? -1 : 1) : (x->hi > y->hi) - (x->hi < y->hi);
}

void port_set_normalise(struct port_set *s)
{
    size_t n = 0;

    if (s->n == 0)
        return;
    qsort(s->ranges, s->n, sizeof(*s->ranges), range_compare);
    for (size_t i = 1; i < s->n; i++) {
        struct port_range *last = &s->ranges[n];

        if (s->ranges[i].lo <= (unsigned)last->hi + 1)
            last->hi = MAX(last->hi, s->ranges[i].hi);
        else
            s->ranges[++n] = s->ranges[i];
    }
    s->n = n + 1;
}

/* One element of a list, at most `len` bytes of it: "80" or "8000-8010". */
static int range_parse(const char *text, size_t len, struct port_range *ret)
{
    uint32_t bound[2] = {0, 0};
    unsigned n = 0;
    bool digits = false;

    for (size_t i = 0; i < len; i++) {
        if (text[i] == '-' && n == 0 && digits) {
            n = 1;
            digits = false;
        } else if (text[i] >= '0' && text[i] <= '9') {
            bound[n] = bound[n] * 10 + (uint32_t)(text[i] - '0');
            digits = true;
            if (bound[n] > UINT16_MAX)
                return -ERANGE;
        } else {
            return -EINVAL;
        }
    }
    if (!digits)
        return -EINVAL;
    *ret = (struct port_range){(uint16_t)bound[0], (uint16_t)bound[n]};
    return 0;
}

static int port_error(struct error *err, const char *flag, const char *text, size_t len,
                      const char *what)
{
    return error_set(err, ERROR_USAGE, -EINVAL, flag, "\"%.*s\" %s (" PORT_FORMS ")",
                     (int)MIN(len, (size_t)80), text, what);
}

static int port_list_parse(struct port_set *s, const char *text, bool allow_zero, const char *flag,
                           struct error *err)
{
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        struct port_range r = {0, 0};
        int e = range_parse(p, len, &r);

        if (len == 1 && *p == '*')
            return port_error(err, flag, text, strlen(text), "mixes * with numbers");
        if (len == 0)
            return port_error(err, flag, text, strlen(text), "has an empty element");
        if (e == -ERANGE)
            return port_error(err, flag, p, len, "is beyond port 65535");
        if (e < 0)
            return port_error(err, flag, p, len, "is not a port");
        if (r.lo > r.hi)
            return port_error(err, flag, p, len, "runs backwards");
        if (r.lo == 0 && !allow_zero)
            return port_error(err, flag, p, len, "names port 0");
        s->ranges[s->n++] = r;
        p += len;
        if (!*p)
            return 0;
    }
}

int port_set_parse(struct port_set *s, const char *text, bool allow_zero, const char *flag,
                   struct error *err)
{
    struct port_set next = {.any = s->any};
    size_t count = 1;
    int r;

    if (strcmp(text, "*") == 0) {
        s->any = true;
        return 0;
    }
    if (!*text)
        return error_set(err, ERROR_USAGE, -EINVAL, flag, "the port is missing (" PORT_FORMS ")");
    for (const char *p = text; *p; p++)
        count += *p == ',';
    next.ranges = reallocarray(NULL, s->n + count, sizeof(*next.ranges));
    if (!next.ranges)
        return policy_error_memory(flag, err);
    if (s->n)
        memcpy(next.ranges, s->ranges, s->n * sizeof(*s->ranges));
    next.n = s->n;
    r = port_list_parse(&next, text, allow_zero, flag, err);
    if (r < 0) {
        port_set_fini(&next);
        return r;
    }
    port_set_normalise(&next);
    port_set_fini(s);
    *s = next;
    return 0;
}
