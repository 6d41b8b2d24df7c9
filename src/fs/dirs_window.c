/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sorting a directory in bounded memory. No kernel calls, any thread.
 */
#include <errno.h>
#include <string.h>

#include "fs/dirs.h"
#include "fs/listing.h"

#define DIRS_ALIGN 8u /* of records, as the kernel's */

/* What decides most comparisons: the first eight bytes as a number, "." and ".." before any name. */
static uint64_t dirs_key(const char *name)
{
    uint64_t key = 0;

    if (name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0')))
        return name[1] == '.';
    for (unsigned i = 0; i < 8; i++)
        key = key << 8 | (*name ? (uint8_t)*name++ : 0);
    return key;
}

struct dirs_item {
    uint64_t key;
    const struct uapi_dirent *e;
};

static bool dirs_item_before(const struct dirs_item *x, const struct dirs_item *y)
{
    if (x->key != y->key)
        return x->key < y->key;
    return strcmp(x->e->name, y->e->name) < 0; /* as unsigned bytes */
}

/* Merges runs of `run` sorted items in pairs. */
static void dirs_merge(const struct dirs_item *from, struct dirs_item *to, size_t n, size_t run)
{
    for (size_t start = 0, k = 0; start < n; start += 2 * run) {
        size_t a = start, a_end = MIN(start + run, n), b = a_end, b_end = MIN(b + run, n);

        while (a < a_end && b < b_end)
            to[k++] = dirs_item_before(&from[b], &from[a]) ? from[b++] : from[a++];
        while (a < a_end)
            to[k++] = from[a++];
        while (b < b_end)
            to[k++] = from[b++];
    }
}

/* Sorts n of the 2 * n items; which half they are in afterwards. musl's qsort takes six times as long
 * at 10,000 names. */
static struct dirs_item *dirs_sort(struct dirs_item *items, size_t n)
{
    struct dirs_item *from = items, *to = items + n;

    for (size_t run = 1; run < n; run *= 2) {
        struct dirs_item *swap = from;

        dirs_merge(from, to, n, run);
        from = to;
        to = swap;
    }
    return from;
}

static int dirs_compare(const char *a, const char *b)
{
    uint64_t x = dirs_key(a), y = dirs_key(b);

    return x != y ? (x < y ? -1 : 1) : strcmp(a, b);
}

void dirs_window_free(struct dirs_window *w)
{
    if (!w)
        return;
    free(w->start);
    free(w->records);
    free(w);
}

static struct uapi_dirent *window_record(const struct dirs_window *w, uint32_t i)
{
    return (struct uapi_dirent *)(w->records + w->start[i]);
}

const char *dirs_window_last(const struct dirs_window *w)
{
    return window_record(w, w->count - 1)->name;
}

ssize_t dirs_window_copy(const struct dirs_window *w, uint32_t index, uint32_t base, uint8_t *buf,
                         size_t size, uint32_t *ret_index)
{
    uint32_t i = index;
    size_t n;

    while (i < w->count && w->start[i + 1] - w->start[index] <= size)
        i++;
    if (i == index)
        return -EINVAL;
    n = w->start[i] - w->start[index];
    memcpy(buf, w->records + w->start[index], n);
    for (size_t off = 0; off < n;) {
        struct uapi_dirent *e = (struct uapi_dirent *)(buf + off);

        e->off += base;
        off += e->len;
    }
    *ret_index = i;
    return (ssize_t)n;
}

/* ---- scanning ---- */

void dirs_scan_init(struct dirs_scan *s, size_t limit, const char *after)
{
    *s = (struct dirs_scan){.limit = limit, .after = after};
}

void dirs_scan_fini(struct dirs_scan *s)
{
    free(s->raw);
    free(s->cut);
    *s = (struct dirs_scan){.limit = s->limit, .after = s->after};
}

/* The sorted window of what is held, as much as the limit admits (one record at least). */
static int scan_sort(const struct dirs_scan *s, struct dirs_window **ret)
{
    _cleanup_free_ struct dirs_item *both = malloc((2 * (size_t)s->count + 1) * sizeof(*both));
    struct dirs_item *items = both;
    struct dirs_window *w = calloc(1, sizeof(*w));
    size_t off = 0;

    if (w) {
        w->records = malloc(MIN(s->len, s->limit + UINT16_MAX) + 1);
        w->start = malloc((s->count + 1) * sizeof(w->start[0]));
    }
    if (!items || !w || !w->records || !w->start) {
        dirs_window_free(w);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        items[i].e = (const struct uapi_dirent *)(s->raw + off);
        items[i].key = dirs_key(items[i].e->name);
        off += items[i].e->len;
    }
    items = dirs_sort(both, s->count);
    while (w->count < s->count && (w->count == 0 || w->len + items[w->count].e->len <= s->limit)) {
        struct uapi_dirent *to = (struct uapi_dirent *)(w->records + w->len);

        memcpy(to, items[w->count].e, items[w->count].e->len);
        w->start[w->count++] = (uint32_t)w->len;
        to->off = w->count;
        w->len += to->len;
    }
    w->start[w->count] = (uint32_t)w->len;
    w->follow = s->total - w->count;
    *ret = w;
    return 0;
}

/* Half of what is held or more cannot be in the window any more. */
static int scan_trim(struct dirs_scan *s)
{
    struct dirs_window *w;
    char *cut;
    int e = scan_sort(s, &w);

    if (e < 0)
        return e;
    cut = strdup(dirs_window_last(w));
    if (!cut) {
        dirs_window_free(w);
        return -ENOMEM;
    }
    free(s->cut);
    s->cut = cut;
    memcpy(s->raw, w->records, w->len);
    s->len = w->len;
    s->count = w->count;
    dirs_window_free(w);
    return 0;
}

static int scan_reserve(struct dirs_scan *s, size_t len)
{
    size_t cap = MAX(s->cap * 2, 4096 + len);
    uint8_t *raw;

    if (s->len + len <= s->cap)
        return 0;
    raw = realloc(s->raw, cap);
    if (!raw)
        return -ENOMEM;
    s->raw = raw;
    s->cap = cap;
    return 0;
}

int dirs_scan_add(struct dirs_scan *s, const struct uapi_dirent *e)
{
    size_t name_len = strnlen(e->name, e->len - LISTING_NAME_OFFSET);
    size_t len = (LISTING_NAME_OFFSET + name_len + 1 + DIRS_ALIGN - 1) / DIRS_ALIGN * DIRS_ALIGN;
    struct uapi_dirent *to;
    int r;

    if (len > UINT16_MAX || name_len == 0)
        return 0; /* no file system has it */
    if (s->after && dirs_compare(e->name, s->after) <= 0)
        return 0;
    s->total++;
    if (s->cut && dirs_compare(e->name, s->cut) > 0)
        return 0;
    r = s->len + len > 2 * s->limit + UINT16_MAX ? scan_trim(s) : 0;
    if (r == 0)
        r = scan_reserve(s, len);
    if (r < 0)
        return r;
    to = (struct uapi_dirent *)(s->raw + s->len);
    memset(to, 0, len); /* the padding too: windows are compared */
    to->ino = e->ino;
    to->type = e->type;
    to->len = (uint16_t)len;
    memcpy(to->name, e->name, name_len);
    s->len += len;
    s->count++;
    return 0;
}

int dirs_scan_finish(struct dirs_scan *s, struct dirs_window **ret)
{
    int e = scan_sort(s, ret);
    uint32_t *start;

    dirs_scan_fini(s);
    if (e < 0)
        return e;
    start = realloc((*ret)->start, ((*ret)->count + 1) * sizeof(start[0]));
    if (start)
        (*ret)->start = start;
    return 0;
}
