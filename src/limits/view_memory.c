/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's memory as a sandbox with a limit sees it: sysinfo and /proc/meminfo (RM-05). Receiver
 * threads. The one address is the child's and is only written to; the numbers are the sampler's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "fs/fs.h"
#include "fs/resolve.h"
#include "limits/internal.h"
#include "policy/policy.h"

/* What the kernel writes; musl reserves more behind it. */
#define SYSINFO_SIZE 112
_Static_assert(offsetof(struct sysinfo, mem_unit) == 104, "struct sysinfo");

struct machine_memory {
    uint64_t total, used;
};

static struct machine_memory memory_seen(const struct request *r)
{
    struct limits_view *view = supervisor_state(r->sup, &limits_memory_feature);
    struct machine_memory m = {supervisor_policy(r->sup)->max_memory, 0};
    struct sysinfo s;

    if (sysinfo(&s) == 0)
        m.total = MIN(m.total, (uint64_t)s.totalram * s.mem_unit);
    if (view)
        m.total = MIN(m.total, atomic_load(&view->memory_max));
    m.used = view ? MIN(atomic_load(&view->memory_used), m.total) : 0;
    return m;
}

static struct verdict memory_sysinfo(struct request *r)
{
    struct machine_memory m = memory_seen(r);
    struct sysinfo s;

    memset(&s, 0, sizeof(s));
    if (sysinfo(&s) < 0)
        return verdict_errno(errno);
    s.totalram = (unsigned long)m.total;
    s.freeram = (unsigned long)(m.total - m.used);
    s.sharedram = s.bufferram = 0;
    s.totalswap = s.freeswap = 0;
    s.totalhigh = s.freehigh = 0;
    s.mem_unit = 1;
    return verdict_result(request_write(r, call_addr(&r->call, 0), &s, SYSINFO_SIZE));
}

static bool memory_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->max_memory != 0;
}

static int memory_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct limits_view *view = calloc(1, sizeof(*view));

    if (!view)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--max-memory", "out of memory");
    atomic_init(&view->memory_max, supervisor_policy(s)->max_memory);
    *ret_state = view;
    return 0;
}

static const struct feature_call memory_calls[] = {
    {OP_SYSINFO, memory_sysinfo, NULL, 0},
};

const struct feature limits_memory_feature = {
    .name = "max-memory",
    .wanted = memory_wanted,
    .calls = memory_calls,
    .ncalls = ARRAY_SIZE(memory_calls),
    .start = memory_start,
    .stop = free,
};

/* ---- /proc/meminfo ---- */

/* Every field of the host's file, in its order. What is not named here tells about others: 0. */
static const struct meminfo_row {
    const char *name;
    enum { MEM_TOTAL, MEM_FREE, MEM_USED, MEM_HOST } value;
} meminfo_rows[] = {
    {"MemTotal", MEM_TOTAL},    {"MemFree", MEM_FREE},      {"MemAvailable", MEM_FREE},
    {"Active", MEM_USED},       {"Active(anon)", MEM_USED}, {"AnonPages", MEM_USED},
    {"CommitLimit", MEM_TOTAL}, {"Committed_AS", MEM_USED}, {"DirectMap4k", MEM_TOTAL},
    {"VmallocTotal", MEM_HOST}, {"Hugepagesize", MEM_HOST},
};

static uint64_t meminfo_value(const struct machine_memory *m, const char *name, size_t len,
                              uint64_t host)
{
    for (size_t i = 0; i < ARRAY_SIZE(meminfo_rows); i++) {
        const struct meminfo_row *row = &meminfo_rows[i];

        if (strlen(row->name) != len || memcmp(row->name, name, len) != 0)
            continue;
        switch (row->value) {
        case MEM_TOTAL: return m->total / 1024;
        case MEM_FREE: return (m->total - m->used) / 1024;
        case MEM_USED: return m->used / 1024;
        case MEM_HOST: return host;
        }
    }
    return 0;
}

static int meminfo_render(const struct request *r, int host_fd, struct buf *out)
{
    struct machine_memory m = memory_seen(r);
    int fd = fd_reopen(host_fd, O_RDONLY | O_CLOEXEC, 0);
    FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
    _cleanup_free_ char *line = NULL;
    size_t size = 0;

    if (!in) {
        util_close(fd);
        return -EIO;
    }
    while (getline(&line, &size, in) > 0) {
        const char *colon = strchr(line, ':');
        uint64_t host = 0;
        int len;

        if (!colon)
            continue;
        len = (int)(colon - line);
        (void)sscanf(colon + 1, "%" SCNu64, &host);
        /* As the kernel: values end in column 24. */
        buf_addf(out, "%.*s:%*s%8" PRIu64 "%s\n", len, line, MAX(15 - len, 0), "",
                 meminfo_value(&m, line, (size_t)len, host), strstr(colon, " kB") ? " kB" : "");
    }
    fclose(in);
    return 0;
}

static bool meminfo_wanted(const struct policy *p, const struct kernel *k)
{
    return memory_wanted(p, k) && fs_grants_proc(p);
}

const struct virtual_file limits_meminfo_file = {
    .proc = "meminfo",
    .wanted = meminfo_wanted,
    .render = meminfo_render,
};
