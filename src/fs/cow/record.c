/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records: the form of the index and of the journal. Length, checksum, type, payload; little endian.
 * One write a record, so a kill leaves at most a torn last one. What is read back was written by us,
 * below a directory that only we may write; damage is still refused, never interpreted.
 */
#include "fs/cow/internal.h"

#include "fs/cow/fault.h"

#define RECORD_MAX (64u << 10)
#define RECORD_HEAD 12u /* length of the payload, checksum of type and payload, type */

/* CRC-32 (IEEE 802.3), four bits at a time. */
static uint32_t crc32_of(uint32_t crc, const void *data, size_t n)
{
    static const uint32_t nibble[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
                                        0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const unsigned char *p = data;

    crc = ~crc;
    while (n--) {
        crc ^= *p++;
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return ~crc;
}

/* ---- fields ---- */

static void put_u32(unsigned char *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (unsigned char)(v >> 8 * i);
}

void cow_put_u32(struct buf *b, uint32_t v)
{
    unsigned char s[4];

    put_u32(s, v);
    buf_add(b, s, sizeof(s));
}

void cow_put_u64(struct buf *b, uint64_t v)
{
    cow_put_u32(b, (uint32_t)v);
    cow_put_u32(b, (uint32_t)(v >> 32));
}

void cow_put_attr(struct buf *b, const struct cow_attr *a)
{
    const uint64_t wide[] = {a->dev,
                             a->ino,
                             a->mnt,
                             a->size,
                             a->blocks,
                             (uint64_t)a->atime,
                             a->rdev,
                             (uint64_t)a->mtime,
                             (uint64_t)a->ctime,
                             (uint64_t)a->btime};
    const uint32_t narrow[] = {a->mode, a->nlink, a->uid, a->gid, a->blksize};

    for (size_t i = 0; i < ARRAY_SIZE(wide); i++)
        cow_put_u64(b, wide[i]);
    for (size_t i = 0; i < ARRAY_SIZE(narrow); i++)
        cow_put_u32(b, narrow[i]);
}

void cow_put_str(struct buf *b, const char *s)
{
    cow_put_u32(b, (uint32_t)strlen(s));
    buf_add(b, s, strlen(s) + 1);
}

uint32_t cow_get_u32(struct cow_get *g)
{
    const unsigned char *p = (const unsigned char *)g->p;

    if (g->bad || g->end - g->p < 4) {
        g->bad = true;
        return 0;
    }
    g->p += 4;
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t cow_get_u64(struct cow_get *g)
{
    uint64_t low = cow_get_u32(g);

    return low | (uint64_t)cow_get_u32(g) << 32;
}

void cow_get_attr(struct cow_get *g, struct cow_attr *ret)
{
    uint64_t wide[10];
    uint32_t narrow[5];

    for (size_t i = 0; i < ARRAY_SIZE(wide); i++)
        wide[i] = cow_get_u64(g);
    for (size_t i = 0; i < ARRAY_SIZE(narrow); i++)
        narrow[i] = cow_get_u32(g);
    *ret = (struct cow_attr){
        .dev = wide[0],
        .ino = wide[1],
        .mnt = wide[2],
        .size = wide[3],
        .blocks = wide[4],
        .atime = (int64_t)wide[5],
        .rdev = wide[6],
        .mtime = (int64_t)wide[7],
        .ctime = (int64_t)wide[8],
        .btime = (int64_t)wide[9],
        .mode = narrow[0],
        .nlink = narrow[1],
        .uid = narrow[2],
        .gid = narrow[3],
        .blksize = narrow[4],
    };
}

const char *cow_get_str(struct cow_get *g)
{
    uint32_t n = cow_get_u32(g);
    const char *s = g->p;

    if (g->bad || (size_t)(g->end - g->p) < (size_t)n + 1 || s[n] || strlen(s) != n) {
        g->bad = true;
        return "";
    }
    g->p += n + 1;
    return s;
}

/* ---- frames ---- */

static void frame_head(void *to, enum cow_record type, const void *payload, size_t n)
{
    unsigned char t = (unsigned char)type, *head = to;

    put_u32(head, (uint32_t)n);
    put_u32(head + 4, crc32_of(crc32_of(0, &t, 1), payload, n));
    put_u32(head + 8, type);
}

void cow_frame(struct buf *out, enum cow_record type, const struct buf *payload)
{
    unsigned char head[RECORD_HEAD];

    if (payload->error || payload->len > RECORD_MAX) {
        out->error = payload->error ? payload->error : -ENAMETOOLONG;
        return;
    }
    frame_head(head, type, payload->data, payload->len);
    buf_add(out, head, sizeof(head));
    buf_add(out, payload->data, payload->len);
}

int cow_write_all(int fd, const void *data, size_t n)
{
    const char *p = data;

    while (n) {
        ssize_t done = write(fd, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

static int read_whole(int fd, struct buf *to)
{
    char chunk[16384];
    off_t at = 0;
    ssize_t n;

    while ((n = pread(fd, chunk, sizeof(chunk), at)) > 0) {
        buf_add(to, chunk, (size_t)n);
        at += n;
    }
    return n < 0 ? -errno : buf_error(to);
}

int cow_read_records(int fd, int (*each)(enum cow_record type, struct cow_get *g, void *arg),
                     void *arg)
{
    _cleanup_buf_ struct buf all = {0};
    int e = read_whole(fd, &all);
    size_t at = 0;

    while (e == 0 && all.len - at >= RECORD_HEAD) {
        struct cow_get head = {.p = all.data + at, .end = all.data + all.len}, g;
        uint32_t n = cow_get_u32(&head), crc = cow_get_u32(&head), type = cow_get_u32(&head);
        unsigned char t = (unsigned char)type;

        if (n > RECORD_MAX || type > 255)
            return -EBADMSG;
        if (all.len - at - RECORD_HEAD < n)
            break;
        if (crc32_of(crc32_of(0, &t, 1), head.p, n) != crc) {
            /* Torn is only what nothing follows. */
            return at + RECORD_HEAD + n == all.len ? 0 : -EBADMSG;
        }
        g = (struct cow_get){.p = head.p, .end = head.p + n};
        e = each(type, &g, arg);
        if (e == 0 && g.bad)
            e = -EBADMSG;
        at += RECORD_HEAD + n;
    }
    return e;
}

/* ---- the index ---- */

/* Only we write there, under the lock. -1: unknown. */
static off_t log_end(struct cow_layer *l)
{
    if (l->index_end == 0)
        l->index_end = lseek(l->index_fd, 0, SEEK_END);
    return l->index_end;
}

/* One buffer for all records, made in place: memory for each would be given back to the kernel each time. */
struct buf *cow_log_begin(struct cow_layer *l)
{
    static const unsigned char head[RECORD_HEAD];

    pthread_mutex_lock(&l->log);
    l->record.len = 0;
    l->record.error = 0;
    buf_add(&l->record, head, sizeof(head));
    return &l->record;
}

int cow_log_end(struct cow_layer *l, enum cow_record type)
{
    struct buf *b = &l->record;
    off_t end;
    int e = buf_error(b);

    if (e == 0 && b->len - RECORD_HEAD > RECORD_MAX)
        e = -ENAMETOOLONG;
    if (e == 0) {
        frame_head(b->data, type, b->data + RECORD_HEAD, b->len - RECORD_HEAD);
        end = log_end(l);
        e = cow_write_all(l->index_fd, b->data, b->len);
        if (e == 0 && end >= 0)
            l->index_end = end + (off_t)b->len;
        /* Half a record in the middle would damage all that follow. */
        if (e < 0 && (end < 0 || ftruncate(l->index_fd, end) < 0))
            l->broken = true;
    }
    pthread_mutex_unlock(&l->log);
    return e;
}

int cow_log(struct cow_layer *l, enum cow_record type, struct buf *payload)
{
    struct buf *b;

    if (buf_error(payload) < 0)
        return buf_error(payload);
    b = cow_log_begin(l);
    buf_add(b, payload->data, payload->len);
    return cow_log_end(l, type);
}

#define LOG_AHEAD (64u << 10)

int cow_log_reserve(struct cow_layer *l)
{
    off_t end;
    int e = 0;

    pthread_mutex_lock(&l->log);
    end = log_end(l);
    if (end + LOG_AHEAD / 4 > l->index_room) {
        if (fallocate(l->index_fd, FALLOC_FL_KEEP_SIZE, end, LOG_AHEAD) == 0)
            l->index_room = end + LOG_AHEAD;
        else if (errno == ENOSPC || errno == EDQUOT || errno == EIO)
            e = -errno; /* what cannot reserve is tried when it is written */
    }
    pthread_mutex_unlock(&l->log);
    return e;
}

int cow_log_header(struct cow_layer *l)
{
    _cleanup_buf_ struct buf b = {0};

    cow_put_u32(&b, 1); /* version */
    cow_put_attr(&b, &l->lower);
    cow_put_str(&b, l->lower_path);
    cow_put_str(&b, l->command ? l->command : "");
    cow_put_u64(&b, l->created);
    cow_put_u64(&b, l->max_bytes);
    return cow_log(l, REC_HEADER, &b);
}

int cow_log_node(struct cow_layer *l, const struct cow_node *n)
{
    struct buf *b = cow_log_begin(l);

    cow_put_u32(b, n->id);
    cow_put_attr(b, &n->origin);
    cow_put_u64(b, n->upper_ino);
    cow_put_u32(b, n->light);
    cow_put_u32(b, n->has_owner);
    cow_put_u32(b, n->uid);
    cow_put_u32(b, n->gid);
    cow_put_str(b, n->path);
    return cow_log_end(l, REC_NODE);
}
