/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --explain: one line for each thing refused, with the option that would have allowed it. Called by
 * receivers and workers. Names and paths are the child's bytes: escaped for terminals, bounded, and
 * never waited for.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "supervisor/explain.h"
#include "supervisor/internal.h"

/* A program in a loop must fill neither memory nor the terminal. */
#define EXPLAIN_MAX_LINES 512
#define EXPLAIN_SLOTS 1024 /* power of two, more than EXPLAIN_MAX_LINES */
#define EXPLAIN_MAX_SUBJECT 1024
#define EXPLAIN_MAX_LINE 3072 /* below PIPE_BUF: a pipe takes it whole or not at all */

struct explain {
    pthread_mutex_t lock;
    int fd;
    bool timed;                   /* a file gets the time, a person at the terminal knows it */
    size_t lines;                 /* written */
    uint64_t seen[EXPLAIN_SLOTS]; /* hashes of what was said, open addressing; 0 is free */
    uint64_t dropped;             /* neither said before nor written */
};

void explain_escape(struct buf *b, const char *s, size_t max)
{
    size_t n = strnlen(s, max);

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c == '\\')
            buf_adds(b, "\\\\");
        else if (c >= 0x20 && c < 0x7f)
            buf_addc(b, (char)c);
        else
            buf_addf(b, "\\x%02x", c);
    }
    if (s[n])
        buf_adds(b, "...");
}

/* What -r takes to allow the subject: entries of a process in /proc are gone with it, so /proc. */
static const char *grant_path(const struct explain_event *e)
{
    const char *pid = e->subject + strlen("/proc/");

    return strcmp(e->hint, "-r") == 0 && strncmp(e->subject, "/proc/", strlen("/proc/")) == 0 &&
                   *pid >= '1' && *pid <= '9'
               ? "/proc"
               : e->subject;
}

/* The hint is an option that takes the subject (`-w`), a complete option (`--net-allow :80`), or a
 * sentence. */
static void add_hint(struct buf *b, const struct explain_event *e)
{
    if (!e->hint)
        return;
    buf_adds(b, e->hint[0] == '-' ? "; allow with: " : "; ");
    explain_escape(b, e->hint, EXPLAIN_MAX_SUBJECT);
    if (e->hint[0] == '-' && !strchr(e->hint, ' ') && !strchr(e->hint, '=') && e->subject) {
        buf_addc(b, ' ');
        explain_escape(b, grant_path(e), EXPLAIN_MAX_SUBJECT);
    }
}

void explain_format(struct buf *b, const struct explain_event *e)
{
    buf_adds(b, "sandlock: denied: ");
    buf_adds(b, e->operation);
    if (e->subject && e->subject[0]) {
        buf_addc(b, ' ');
        explain_escape(b, e->subject, EXPLAIN_MAX_SUBJECT);
    }
    if (e->err)
        buf_addf(b, " (%s)", error_text(e->err));
    if (e->pid) {
        buf_adds(b, " by ");
        explain_escape(b, e->comm, 64);
        buf_addf(b, "[%d]", (int)e->pid);
    }
    if (e->rule) {
        buf_adds(b, ": ");
        buf_adds(b, e->rule);
    }
    add_hint(b, e);
    buf_addc(b, '\n');
}

static void add_time(struct buf *b)
{
    struct timespec now;
    struct tm tm;
    char text[40] = "";

    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &tm))
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    buf_addf(b, "%s.%03ldZ ", text, now.tv_nsec / 1000000);
}

static uint64_t hash_bytes(uint64_t h, const char *s)
{
    for (; s && *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return (h ^ 0xff) * 0x100000001b3u;
}

static uint64_t event_hash(const struct explain_event *e)
{
    uint64_t h = hash_bytes(0xcbf29ce484222325u, e->operation);

    h = hash_bytes(h, e->subject);
    h = hash_bytes(h, e->rule);
    h = (h ^ (uint64_t)(unsigned)e->err) * 0x100000001b3u;
    return h ? h : 1;
}

/* True the first time. The table never fills: no more lines than half of it are ever written. */
static bool explain_is_new(struct explain *x, uint64_t hash)
{
    size_t i = hash & (EXPLAIN_SLOTS - 1);

    for (; x->seen[i]; i = (i + 1) & (EXPLAIN_SLOTS - 1))
        if (x->seen[i] == hash)
            return false;
    if (x->lines >= EXPLAIN_MAX_LINES) {
        x->dropped++;
        return false;
    }
    x->seen[i] = hash;
    x->lines++;
    return true;
}

/* One write, only when it cannot block: a reader that stands still must not stop the sandbox. */
static void explain_write(struct explain *x, const char *s, size_t len)
{
    struct pollfd p = {.fd = x->fd, .events = POLLOUT};

    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) || write(x->fd, s, len) < 0)
        x->dropped++;
}

static void explain_say(struct explain *x, const struct explain_event *e)
{
    _cleanup_buf_ struct buf line = {0};
    bool is_new;

    pthread_mutex_lock(&x->lock);
    is_new = explain_is_new(x, event_hash(e));
    pthread_mutex_unlock(&x->lock);
    if (!is_new)
        return;
    if (x->timed)
        add_time(&line);
    explain_format(&line, e);
    if (buf_error(&line))
        return;
    if (line.len > EXPLAIN_MAX_LINE) {
        line.len = EXPLAIN_MAX_LINE;
        line.data[line.len - 1] = '\n';
    }
    explain_write(x, line.data, line.len);
}

static void read_comm(pid_t tid, char out[32])
{
    char name[40];
    ssize_t n = -1;
    int fd;

    snprintf(name, sizeof(name), "/proc/%d/comm", (int)tid);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, out, 31);
        util_close(fd);
    }
    if (n > 0 && out[n - 1] == '\n')
        n--;
    if (n <= 0)
        out[n = 0] = '?', n = 1;
    out[n] = '\0';
}

static void explain_event(const struct request *r, const char *operation, const char *subject,
                          int err, const char *rule, const char *hint)
{
    struct explain_event e = {.operation = operation,
                              .subject = subject,
                              .rule = rule,
                              .hint = hint,
                              .err = err < 0 ? -err : err,
                              .pid = r->tid};

    atomic_fetch_add_explicit(&r->sup->denied, 1, memory_order_relaxed);
    if (!r->sup->explain)
        return;
    read_comm(r->tid, e.comm);
    explain_say(r->sup->explain, &e);
}

void request_explain(const struct request *r, const char *subject, int err, const char *rule,
                     const char *hint)
{
    const char *name = r->call.op != OP_NONE ? call_op_name(r->call.op) : r->call.info->name;

    explain_event(r, name, subject, err, rule, hint);
}

void supervisor_explain(struct supervisor *s, const char *operation, const char *subject,
                        const char *rule, const char *hint)
{
    struct explain_event e = {
        .operation = operation, .subject = subject, .rule = rule, .hint = hint};

    atomic_fetch_add_explicit(&s->denied, 1, memory_order_relaxed);
    if (s->explain)
        explain_say(s->explain, &e);
}

/* The registers' story, or else the first path among the arguments, as given. */
static const char *denied_subject(const struct request *r, const struct explain_refusal *why,
                                  char path[PATH_MAX])
{
    const struct call_info *info = r->call.info;

    for (unsigned i = 0; !why->subject[0] && i < info->nargs; i++)
        if (info->role[i] == ARG_PATH)
            return request_read_path(r, (child_addr){r->data->args[i]}, path) >= 0 ? path : NULL;
    return why->subject;
}

struct verdict explain_filter_denied(struct request *r)
{
    const struct plan *plan = r->sup->plan;
    struct explain_refusal why = {0};
    char path[PATH_MAX];
    uint32_t ret;

    if (!plan->policy->explain)
        return verdict_pass();
    ret = plan_denied_ret(plan, r->data);
    if ((ret & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_ERRNO)
        return verdict_pass();
    explain_refusal(plan->policy, &r->call, &why);
    explain_event(r, r->call.info->name, denied_subject(r, &why, path),
                  (int)(ret & SECCOMP_RET_DATA), why.rule, why.hint);
    return verdict_errno((int)(ret & SECCOMP_RET_DATA));
}

int explain_start(struct supervisor *s, struct error *err)
{
    struct explain *x;

    if (!s->plan->policy->explain)
        return 0;
    x = calloc(1, sizeof(*x));
    if (!x)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--explain", "%s", error_text(ENOMEM));
    pthread_mutex_init(&x->lock, NULL);
    x->timed = s->explain_fd >= 0 && s->explain_fd != STDERR_FILENO;
    x->fd = s->explain_fd >= 0 ? s->explain_fd : STDERR_FILENO;
    s->explain = x;
    return 0;
}

void explain_stop(struct supervisor *s)
{
    struct explain *x = s->explain;
    char line[96];
    int n;

    s->explain = NULL;
    if (!x)
        return;
    if (x->dropped) {
        n = snprintf(line, sizeof(line), "sandlock: denied: %llu more not shown\n",
                     (unsigned long long)x->dropped);
        explain_write(x, line, (size_t)n);
    }
    pthread_mutex_destroy(&x->lock);
    free(x);
}
