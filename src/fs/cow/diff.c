/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unified diffs of changed text files: Myers' greedy algorithm over lines, bounded in work and memory.
 * The texts are the child's: control characters of the contents are left to the one who shows them,
 * names are quoted. One thread, the run is over.
 */
#include <stdio.h>

#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

#define DIFF_CONTEXT 3
#define FLUSH_AT (1u << 20)
#define DIFF_MAX_EDITS 2000 /* memory is the square of it: 4 * 2000 * 2000 / 2 bytes */

struct line {
    const char *p;
    size_t n; /* with its newline */
};
struct text {
    struct buf bytes;
    struct line *v;
    size_t n;
};

static void text_fini(struct text *t)
{
    buf_fini(&t->bytes);
    free(t->v);
}

/* 1: text, 0: not, or too long; or -errno. */
static int text_read(int fd, size_t max, struct text *t)
{
    char chunk[16384];
    off_t at = 0;
    ssize_t n;
    size_t lines = 0;

    while ((n = pread(fd, chunk, sizeof(chunk), at)) > 0) {
        if (memchr(chunk, '\0', (size_t)n) || t->bytes.len + (size_t)n > max)
            return 0;
        buf_add(&t->bytes, chunk, (size_t)n);
        at += n;
    }
    if (n < 0 || buf_error(&t->bytes) < 0)
        return n < 0 ? -errno : -ENOMEM;
    for (size_t i = 0; i < t->bytes.len; i++)
        lines += t->bytes.data[i] == '\n' || i + 1 == t->bytes.len;
    t->v = calloc(lines + 1, sizeof(*t->v));
    if (!t->v)
        return -ENOMEM;
    for (const char *p = t->bytes.data, *end = p + t->bytes.len; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));

        t->v[t->n].p = p;
        t->v[t->n].n = (size_t)((nl ? nl + 1 : end) - p);
        p += t->v[t->n++].n;
    }
    return 1;
}

static bool line_same(const struct line *a, const struct line *b)
{
    return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
}

/* ---- the shortest edit ---- */

/* gone[i]: line i of a goes; come[j]: line j of b is new. */
struct edit {
    const struct text *a, *b;
    size_t skip; /* equal lines at the beginning */
    long n, m;   /* lines between the equal beginning and the equal end */
    bool *gone, *come;
};

static const struct line *line_a(const struct edit *d, long i)
{
    return &d->a->v[d->skip + (size_t)i];
}

static const struct line *line_b(const struct edit *d, long j)
{
    return &d->b->v[d->skip + (size_t)j];
}

/* Row r of the trace holds the furthest x on each diagonal -r..r, packed at r * (r + 1) / 2 by steps of
 * two. */
static long *trace_at(long *trace, long r, long k)
{
    return trace + r * (r + 1) / 2 + (k + r) / 2;
}

static long edit_forward(const struct edit *d, long *trace, long max)
{
    for (long r = 0; r <= max; r++) {
        for (long k = -r; k <= r; k += 2) {
            long x, y;

            if (r == 0)
                x = 0;
            else if (k == -r ||
                     (k != r && *trace_at(trace, r - 1, k - 1) < *trace_at(trace, r - 1, k + 1)))
                x = *trace_at(trace, r - 1, k + 1);
            else
                x = *trace_at(trace, r - 1, k - 1) + 1;
            y = x - k;
            while (x < d->n && y < d->m && x >= 0 && y >= 0 &&
                   line_same(line_a(d, x), line_b(d, y)))
                x++, y++;
            *trace_at(trace, r, k) = x;
            if (x >= d->n && y >= d->m)
                return r;
        }
    }
    return -1;
}

static void edit_back(const struct edit *d, long *trace, long r)
{
    long x = d->n, y = d->m;

    for (; r > 0; r--) {
        long k = x - y, px, py;
        bool down =
            k == -r || (k != r && *trace_at(trace, r - 1, k - 1) < *trace_at(trace, r - 1, k + 1));

        px = *trace_at(trace, r - 1, down ? k + 1 : k - 1);
        py = px - (down ? k + 1 : k - 1);
        if (down && py >= 0 && py < d->m)
            d->come[d->skip + (size_t)py] = true;
        if (!down && px >= 0 && px < d->n)
            d->gone[d->skip + (size_t)px] = true;
        x = px;
        y = py;
    }
}

/* Marks the lines. Beyond the bound everything between beginning and end is replaced. */
static int edit_find(struct edit *d)
{
    long max = MIN(d->n + d->m, (long)DIFF_MAX_EDITS), r = -1;
    long *trace = calloc((size_t)((max + 1) * (max + 2) / 2), sizeof(*trace));

    if (!trace)
        return -ENOMEM;
    r = edit_forward(d, trace, max);
    if (r >= 0)
        edit_back(d, trace, r);
    for (long i = 0; r < 0 && i < d->n; i++)
        d->gone[d->skip + (size_t)i] = true;
    for (long j = 0; r < 0 && j < d->m; j++)
        d->come[d->skip + (size_t)j] = true;
    free(trace);
    return 0;
}

/* ---- output ---- */

static void out_line(struct buf *out, char mark, const struct line *l)
{
    buf_addc(out, mark);
    buf_add(out, l->p, l->n);
    if (l->p[l->n - 1] != '\n')
        buf_adds(out, "\n\\ No newline at end of file\n");
}

static void out_range(struct buf *out, char mark, size_t from, size_t n)
{
    buf_addf(out, n == 1 ? "%c%zu" : "%c%zu,%zu", mark, n ? from + 1 : from, n);
}

static void out_hunk(const struct edit *d, size_t i, size_t i_end, size_t j, size_t j_end,
                     struct buf *out)
{
    buf_adds(out, "@@ ");
    out_range(out, '-', i, i_end - i);
    buf_addc(out, ' ');
    out_range(out, '+', j, j_end - j);
    buf_adds(out, " @@\n");
    while (i < i_end || j < j_end) {
        if (i < i_end && d->gone[i])
            out_line(out, '-', &d->a->v[i++]);
        else if (j < j_end && d->come[j])
            out_line(out, '+', &d->b->v[j++]);
        else
            out_line(out, ' ', &d->a->v[i++]), j++;
    }
}

static void out_hunks(const struct edit *d, struct buf *out)
{
    size_t i = 0, j = 0;

    while (i < d->a->n || j < d->b->n) {
        size_t i0, j0, lead, still = 0;

        while (i < d->a->n && j < d->b->n && !d->gone[i] && !d->come[j])
            i++, j++;
        if (i >= d->a->n && j >= d->b->n)
            return;
        lead = MIN(i, (size_t)DIFF_CONTEXT);
        i0 = i - lead;
        j0 = j - lead;
        while ((i < d->a->n || j < d->b->n) && still <= 2 * DIFF_CONTEXT) {
            if (i < d->a->n && d->gone[i])
                i++, still = 0;
            else if (j < d->b->n && d->come[j])
                j++, still = 0;
            else
                i++, j++, still++;
        }
        lead = still > DIFF_CONTEXT ? still - DIFF_CONTEXT : 0;
        out_hunk(d, i0, i - lead, j0, j - lead, out);
    }
}

static int diff_texts(const struct text *a, const struct text *b, struct buf *out)
{
    struct edit d = {.a = a, .b = b};
    size_t tail = 0;
    int e;

    while (d.skip < a->n && d.skip < b->n && line_same(&a->v[d.skip], &b->v[d.skip]))
        d.skip++;
    while (tail < a->n - d.skip && tail < b->n - d.skip &&
           line_same(&a->v[a->n - 1 - tail], &b->v[b->n - 1 - tail]))
        tail++;
    d.n = (long)(a->n - d.skip - tail);
    d.m = (long)(b->n - d.skip - tail);
    d.gone = calloc(a->n + 1, sizeof(bool));
    d.come = calloc(b->n + 1, sizeof(bool));
    e = d.gone && d.come ? edit_find(&d) : -ENOMEM;
    if (e == 0)
        out_hunks(&d, out);
    free(d.gone);
    free(d.come);
    return e;
}

/* ---- one change ---- */

/* Of lower, where others may have put links in the way meanwhile, or something that is no file. */
static int open_lower(struct cow_layer *l, const char *path)
{
    int fd = cow_lower_open_path(l, path, O_RDONLY | O_NONBLOCK);
    struct cow_attr a;

    if (fd >= 0 && (cow_attr_fd(fd, &a) < 0 || !S_ISREG(a.mode)))
        fd = util_close(fd);
    return fd;
}

static int open_before(struct cow_layer *l, const struct cow_change *c)
{
    return S_ISREG(c->before.mode) ? open_lower(l, c->from ? c->from : c->path) : -1;
}

static int open_after(struct cow_layer *l, const struct cow_change *c)
{
    if (!S_ISREG(c->after.mode) || !c->body)
        return -1;
    if (c->storage_fd == l->lower_fd)
        return open_lower(l, c->body);
    return openat(c->storage_fd, c->body, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

static void out_name(struct buf *out, const char *mark, const char *side, const char *path)
{
    buf_adds(out, mark);
    buf_add_quoted(out, side, path);
    if (strchr(path, ' '))
        buf_addc(out, '\t'); /* where patch(1) lets a name with spaces end */
    buf_addc(out, '\n');
}

static int diff_change(struct cow_layer *l, const struct cow_change *c, size_t max, struct buf *out)
{
    struct text a = {0}, b = {0};
    int a_fd = open_before(l, c), b_fd = open_after(l, c), e;
    bool closed =
        (S_ISREG(c->before.mode) && a_fd < 0) || (S_ISREG(c->after.mode) && c->body && b_fd < 0);

    e = !closed;
    if (e > 0 && a_fd >= 0)
        e = text_read(a_fd, max, &a);
    if (e > 0 && b_fd >= 0)
        e = text_read(b_fd, max, &b);
    if (a_fd >= 0)
        util_close(a_fd);
    if (b_fd >= 0)
        util_close(b_fd);
    if (e == 0) {
        buf_adds(out, closed ? "Unreadable file " : "Binary or large file ");
        buf_add_quoted(out, "", c->path);
        buf_adds(out, " differs\n");
    } else if (e > 0) {
        out_name(out, "--- ", S_ISREG(c->before.mode) ? "a/" : "",
                 S_ISREG(c->before.mode) ? (c->from ? c->from : c->path) : "/dev/null");
        out_name(out, "+++ ", S_ISREG(c->after.mode) ? "b/" : "",
                 S_ISREG(c->after.mode) ? c->path : "/dev/null");
        e = diff_texts(&a, &b, out);
    }
    text_fini(&a);
    text_fini(&b);
    return e < 0 ? e : 0;
}

static bool has_diff(const struct cow_change *c)
{
    bool before = S_ISREG(c->before.mode), after = S_ISREG(c->after.mode);

    if (!before && !after)
        return false;
    return c->content || !before || !after;
}

int cow_changes_diff(struct cow_layer *l, const struct cow_changes *c, size_t max_bytes,
                     cow_flush *flush, struct buf *out)
{
    int e = 0;

    for (size_t i = 0; i < c->n && e == 0; i++) {
        if (has_diff(&c->v[i]))
            e = diff_change(l, &c->v[i], max_bytes, out);
        if (e == 0 && flush && out->len >= FLUSH_AT)
            e = flush(out);
    }
    return e < 0 ? e : buf_error(out);
}
