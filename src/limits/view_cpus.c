/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processors as a sandbox with --num-cpus sees them (RC-03): numbered from 0, whichever cores they
 * are. Receiver threads. policy->cpu_cores says which core each is; it runs on no other, so the calls
 * that change affinity are performed here, on a mask that was copied once.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arch/arch.h"
#include "determinism/determinism.h"
#include "fs/fs.h"
#include "fs/resolve.h"
#include "limits/limits.h"
#include "policy/policy.h"
#include "sys/process.h"

#define MASK_BYTES 1024 /* 8192 cores, the kernel's largest number */
#define WORD (8 * sizeof(unsigned long))

struct cpu_mask_bits {
    unsigned long w[MASK_BYTES / sizeof(unsigned long)];
};

static bool mask_has(const struct cpu_mask_bits *m, uint32_t i)
{
    return m->w[i / WORD] >> (i % WORD) & 1;
}

static void mask_add(struct cpu_mask_bits *m, uint32_t i)
{
    m->w[i / WORD] |= 1UL << (i % WORD);
}

/* Whose affinity: a thread of the sandbox. 0: nobody's that it may see. */
static pid_t affinity_target(const struct request *r)
{
    pid_t pid = call_int(&r->call, 0);

    if (pid == 0 || pid == r->tid)
        return r->tid;
    return pid > 0 && supervisor_is_member(r->sup, pid) && request_alive(r) ? pid : 0;
}

/* Real cores to seen processors. Those there are not are seen with the whole set only. */
static void mask_seen(const struct policy *p, const struct cpu_mask_bits *real,
                      struct cpu_mask_bits *seen)
{
    bool all = true;

    for (uint32_t i = 0; i < p->n_cpu_cores; i++) {
        if (mask_has(real, p->cpu_cores[i]))
            mask_add(seen, i);
        else
            all = false;
    }
    for (uint32_t i = (uint32_t)p->n_cpu_cores; i < p->num_cpus && all; i++)
        mask_add(seen, i);
}

static struct verdict affinity_get(struct request *r)
{
    const struct policy *p = supervisor_policy(r->sup);
    struct cpu_mask_bits real = {{0}}, seen = {{0}};
    uint32_t len = call_u32(&r->call, 1);
    pid_t pid = affinity_target(r);
    uint64_t need;
    int n;

    if (!pid)
        return verdict_errno(ESRCH);
    n = sys_affinity_get(pid, len % sizeof(long) ? len : MIN(len, MASK_BYTES), &real);
    if (n < 0)
        return verdict_errno(n);
    need = (p->num_cpus + WORD - 1) / WORD * sizeof(long);
    if (need > len)
        return verdict_errno(EINVAL);
    mask_seen(p, &real, &seen);
    n = MIN(MAX(n, (int)need), (int)sizeof(seen));
    if (request_write(r, call_addr(&r->call, 2), &seen, (size_t)n) < 0)
        return verdict_errno(EFAULT);
    return verdict_value(n);
}

static struct verdict affinity_set(struct request *r)
{
    const struct policy *p = supervisor_policy(r->sup);
    struct cpu_mask_bits real = {{0}}, seen = {{0}};
    size_t len = MIN(call_u32(&r->call, 1), (uint32_t)sizeof(seen));
    pid_t pid = affinity_target(r);

    if (request_read(r, call_addr(&r->call, 2), &seen, len) < 0)
        return verdict_errno(EFAULT);
    if (!pid)
        return verdict_errno(ESRCH);
    if (!request_alive(r))
        return verdict_gone();
    for (uint32_t i = 0; i < p->num_cpus; i++) {
        if (mask_has(&seen, i))
            mask_add(&real, p->cpu_cores[i % p->n_cpu_cores]);
    }
    return verdict_result(sys_affinity_set(pid, sizeof(real), &real));
}

static bool cpus_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->num_cpus != 0;
}

static const struct feature_call cpus_calls[] = {
    {OP_SCHED_GETAFFINITY, affinity_get, NULL, 0},
    {OP_SCHED_SETAFFINITY, affinity_set, NULL, 0},
};

const struct feature limits_cpus_feature = {
    .name = "num-cpus",
    .wanted = cpus_wanted,
    .calls = cpus_calls,
    .ncalls = ARRAY_SIZE(cpus_calls),
};

/* ---- files ---- */

static int host_text(int host_fd, struct buf *out)
{
    _cleanup_close_ int fd = fd_reopen(host_fd, O_RDONLY | O_CLOEXEC, 0);
    char chunk[4096];
    ssize_t n;

    if (fd < 0)
        return -EIO;
    while ((n = read(fd, chunk, sizeof(chunk))) > 0)
        buf_add(out, chunk, (size_t)n);
    return n < 0 || buf_error(out) < 0 ? -EIO : 0;
}

/* The block of /proc/cpuinfo about a core; the first one when there is none. */
static const char *cpuinfo_block(const char *text, uint32_t core, size_t *ret_len)
{
    const char *found = NULL;

    for (const char *at = text; *at;) {
        const char *end = strstr(at, "\n\n");
        size_t len = end ? (size_t)(end - at) + 1 : strlen(at);
        unsigned number;

        if (sscanf(at, "processor : %u", &number) == 1 && (!found || number == core)) {
            found = at;
            *ret_len = len;
            if (number == core)
                break;
        }
        at += len + (end ? 1 : 0);
    }
    return found;
}

static bool cpuinfo_counts(const char *line, size_t name_len)
{
    for (const char *const *f = arch_native()->cpuinfo_counts; *f; f++) {
        if (strlen(*f) == name_len && memcmp(*f, line, name_len) == 0)
            return true;
    }
    return false;
}

static void cpuinfo_line(struct buf *out, const char *line, size_t len, uint32_t number,
                         uint32_t num_cpus)
{
    const char *colon = memchr(line, ':', len);
    size_t name = colon ? (size_t)(colon - line) : 0;
    unsigned value;

    while (name && (line[name - 1] == '\t' || line[name - 1] == ' '))
        name--;
    if (colon && name == strlen("processor") && memcmp(line, "processor", name) == 0)
        buf_addf(out, "%.*s: %u\n", (int)(colon - line), line, number);
    else if (colon && cpuinfo_counts(line, name) && sscanf(colon + 1, "%u", &value) == 1)
        buf_addf(out, "%.*s: %u\n", (int)(colon - line), line, MIN(value, num_cpus));
    else
        buf_addf(out, "%.*s\n", (int)len, line);
}

static int cpuinfo_render(const struct request *r, int host_fd, struct buf *out)
{
    const struct policy *p = supervisor_policy(r->sup);
    _cleanup_buf_ struct buf host = {0};

    if (host_text(host_fd, &host) < 0)
        return -EIO;
    for (uint32_t i = 0; i < p->num_cpus; i++) {
        size_t len = 0;
        const char *at = cpuinfo_block(buf_cstr(&host), p->cpu_cores[i % p->n_cpu_cores], &len);

        if (!at)
            return -EIO;
        for (const char *end = at + len; at < end;) {
            const char *nl = memchr(at, '\n', (size_t)(end - at));
            size_t n = nl ? (size_t)(nl - at) : (size_t)(end - at);

            cpuinfo_line(out, at, n, i, p->num_cpus);
            at += n + 1;
        }
        buf_addc(out, '\n');
    }
    return 0;
}

#define STAT_FIELDS 10
static bool stat_line(const char *text, uint32_t core, uint64_t v[STAT_FIELDS])
{
    char name[24];
    const char *at;

    snprintf(name, sizeof(name), "\ncpu%u ", core);
    at = strstr(text, name);
    if (!at)
        return false;
    at += strlen(name);
    for (int i = 0; i < STAT_FIELDS; i++) {
        char *end;

        v[i] = strtoull(at, &end, 10);
        at = end;
    }
    return true;
}

static void stat_add(struct buf *out, const uint64_t v[STAT_FIELDS])
{
    for (int i = 0; i < STAT_FIELDS; i++)
        buf_addf(out, " %llu", (unsigned long long)v[i]);
    buf_addc(out, '\n');
}

/* The processors that are seen, their sum above. */
static int stat_cpus(const struct policy *p, const char *text, struct buf *out)
{
    _cleanup_buf_ struct buf lines = {0};
    uint64_t sum[STAT_FIELDS] = {0};

    for (uint32_t i = 0; i < p->num_cpus; i++) {
        uint64_t v[STAT_FIELDS] = {0};

        if (!stat_line(text, p->cpu_cores[i % p->n_cpu_cores], v))
            return -EIO;
        for (int k = 0; k < STAT_FIELDS; k++)
            sum[k] += v[k];
        buf_addf(&lines, "cpu%u", i);
        stat_add(&lines, v);
    }
    buf_adds(out, "cpu ");
    stat_add(out, sum);
    buf_add(out, lines.data, lines.len);
    return buf_error(&lines);
}

/* The rest as it is, but the machine was started at a time of the run's own clock. */
static int stat_render(const struct request *r, int host_fd, struct buf *out)
{
    const struct policy *p = supervisor_policy(r->sup);
    _cleanup_buf_ struct buf host = {0};
    const char *text;

    if (host_text(host_fd, &host) < 0)
        return -EIO;
    text = buf_cstr(&host);
    if (p->num_cpus && stat_cpus(p, text, out) < 0)
        return -EIO;
    for (; *text; text += strcspn(text, "\n") + 1) {
        if (strncmp(text, "btime ", 6) == 0)
            buf_addf(out, "btime %lld\n",
                     strtoll(text + 6, NULL, 10) +
                         (long long)(determinism_time_offset(r->sup) / 1000000000));
        else if (!p->num_cpus || strncmp(text, "cpu", 3) != 0)
            buf_addf(out, "%.*s\n", (int)strcspn(text, "\n"), text);
        if (!text[strcspn(text, "\n")])
            break;
    }
    return 0;
}

static int list_render(const struct request *r, int host_fd, struct buf *out)
{
    uint32_t n = supervisor_policy(r->sup)->num_cpus;

    (void)host_fd;
    buf_addf(out, n > 1 ? "0-%u\n" : "%u\n", n - 1);
    return 0;
}

static bool proc_wanted(const struct policy *p, const struct kernel *k)
{
    return cpus_wanted(p, k) && fs_grants_proc(p);
}

static bool stat_wanted(const struct policy *p, const struct kernel *k)
{
    return proc_wanted(p, k) || (p->has_time_start && fs_grants_proc(p));
}

const struct virtual_file limits_cpuinfo_file = {
    .proc = "cpuinfo",
    .wanted = proc_wanted,
    .render = cpuinfo_render,
};
const struct virtual_file limits_stat_file = {
    .proc = "stat",
    .wanted = stat_wanted,
    .render = stat_render,
};

#define CPU_LIST(name)                                                                   \
    static bool name##_wanted(const struct policy *p, const struct kernel *k)            \
    {                                                                                    \
        return cpus_wanted(p, k) && fs_grants_path(p, "/sys/devices/system/cpu/" #name); \
    }                                                                                    \
    const struct virtual_file limits_cpu_##name##_file = {                               \
        .path = "/sys/devices/system/cpu/" #name,                                        \
        .wanted = name##_wanted,                                                         \
        .render = list_render,                                                           \
    };
CPU_LIST(online)
CPU_LIST(possible)
CPU_LIST(present)
