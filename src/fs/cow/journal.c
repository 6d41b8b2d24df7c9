/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: the whole plan of a commit, written and synced before the first change to lower. One
 * thread.
 */
#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

#define JOURNAL_VERSION 2
#define JOURNAL_IN_PLACE 3 /* has STEP_WRITE: a release that does not know it shall not begin */
#define JOURNAL_OLDEST 1   /* has not what a rollback needs: such a commit can be finished */

static void put_step(struct buf *b, const struct cow_step *s)
{
    cow_put_u32(b, s->op);
    cow_put_u32(b, (uint32_t)s->base);
    cow_put_u32(b, s->source != NULL);
    cow_put_str(b, s->source ? s->source : "");
    cow_put_str(b, s->path);
    cow_put_attr(b, &s->attr);
    cow_put_u32(b, s->has_owner);
    cow_put_u32(b, s->uid);
    cow_put_u32(b, s->gid);
    cow_put_u32(b, s->lower != NULL);
    if (s->lower) {
        cow_put_str(b, s->lower);
        cow_put_attr(b, &s->old);
    }
}

#define FLUSH_AT (1u << 20)

static int flush(int fd, struct buf *b, size_t at)
{
    int e = buf_error(b);

    if (e < 0 || b->len < at)
        return e;
    e = cow_write_all(fd, b->data, b->len);
    b->len = 0;
    return e;
}

static bool has_writes(const struct cow_plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->v[i].op == STEP_WRITE)
            return true;
    }
    return false;
}

static void put_head(struct cow_plan *p, const char *coordinator, struct cow_layer *const *layers,
                     size_t n, struct buf *out)
{
    _cleanup_buf_ struct buf b = {0};

    struct cow_attr root = p->l->lower;

    cow_attr_fd(p->l->lower_fd, &root);
    cow_put_u32(&b, has_writes(p) ? JOURNAL_IN_PLACE : JOURNAL_VERSION);
    cow_put_attr(&b, &root);
    cow_put_str(&b, coordinator);
    cow_put_u32(&b, (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        cow_put_str(&b, layers[i]->storage_path);
    cow_frame(out, REC_HEADER, &b);
}

int cow_journal_write(struct cow_plan *p, const char *coordinator, struct cow_layer *const *layers,
                      size_t n_layers)
{
    _cleanup_buf_ struct buf out = {0};
    int fd = openat(p->l->storage_fd, "journal",
                    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600),
        e = 0;

    if (fd < 0)
        return -errno;
    put_head(p, coordinator, layers, n_layers, &out);
    for (size_t i = 0; i < p->n && e == 0; i++) {
        _cleanup_buf_ struct buf b = {0};

        put_step(&b, &p->v[i]);
        cow_frame(&out, REC_STEP, &b);
        e = flush(fd, &out, FLUSH_AT);
    }
    if (e == 0) {
        struct buf none = {0};

        cow_frame(&out, REC_END, &none);
        e = flush(fd, &out, 0);
    }
    if (e == 0 && fsync(fd) < 0)
        e = -errno;
    util_close(fd);
    return e;
}

/* ---- reading ---- */

struct reading {
    struct cow_journal *j;
    uint32_t version;
    bool begun, ended;
};

static int read_head(struct reading *r, struct cow_get *g)
{
    struct cow_journal *j = r->j;
    struct buf all = {0};
    uint32_t n;

    r->version = cow_get_u32(g);
    if (r->version < JOURNAL_OLDEST || r->version > JOURNAL_IN_PLACE)
        return -EPROTONOSUPPORT;
    cow_get_attr(g, &j->root);
    j->coordinator = strdup(cow_get_str(g));
    n = cow_get_u32(g);
    j->n_participants = n;
    for (uint32_t i = 0; i < n && !g->bad; i++) {
        const char *path = cow_get_str(g);

        buf_add(&all, path, strlen(path) + 1);
    }
    buf_addc(&all, '\0');
    j->participants_len = all.len;
    j->participants = buf_steal(&all);
    return j->coordinator && j->participants ? 0 : -ENOMEM;
}

static int read_step(struct reading *r, struct cow_get *g)
{
    struct cow_journal *j = r->j;
    uint32_t op = cow_get_u32(g), base = cow_get_u32(g), has_source = cow_get_u32(g);
    const char *source = cow_get_str(g), *path = cow_get_str(g);
    struct cow_step *s = cow_plan_add(&j->plan, op, (char)base, has_source ? source : NULL, path);

    if (!s)
        return -ENOMEM;
    cow_get_attr(g, &s->attr);
    s->attr.dev = j->plan.l->lower.dev;
    s->has_owner = cow_get_u32(g);
    s->uid = cow_get_u32(g);
    s->gid = cow_get_u32(g);
    if (r->version < 2 || !cow_get_u32(g))
        return 0;
    s->lower = strdup(cow_get_str(g));
    cow_get_attr(g, &s->old);
    s->old.dev = s->attr.dev;
    return s->lower ? 0 : -ENOMEM;
}

static int read_one(enum cow_record type, struct cow_get *g, void *arg)
{
    struct reading *r = arg;

    if (r->ended || (type == REC_HEADER) == r->begun)
        return -EBADMSG;
    switch (type) {
    case REC_HEADER: r->begun = true; return read_head(r, g);
    case REC_STEP: return read_step(r, g);
    case REC_END: r->ended = true; return 0;
    default: return -EBADMSG;
    }
}

int cow_journal_read(struct cow_layer *l, struct cow_journal *ret)
{
    struct cow_journal j = {.plan = {.l = l}};
    struct reading r = {.j = &j};
    int fd = openat(l->storage_fd, "journal", O_RDONLY | O_NOFOLLOW | O_CLOEXEC), e;

    if (fd < 0)
        return -errno;
    e = cow_read_records(fd, read_one, &r);
    util_close(fd);
    /* Without its end it was never complete: nothing has happened. */
    if (e == 0 && !r.ended)
        e = -ENODATA;
    if (e < 0)
        cow_journal_fini(&j);
    else
        *ret = j;
    return e;
}

int cow_journal_done(struct cow_layer *l)
{
    if (unlinkat(l->storage_fd, "journal", 0) < 0 && errno != ENOENT)
        return -errno;
    /* On the disk, too, before anything that it names: storage and limbo may be different file systems, and
     * a journal that came back with a lost power would roll back to what is no more. */
    return fsync(l->storage_fd) < 0 ? -errno : 0;
}

void cow_journal_fini(struct cow_journal *j)
{
    cow_plan_fini(&j->plan);
    free(j->coordinator);
    free(j->participants);
    *j = (struct cow_journal){0};
}
