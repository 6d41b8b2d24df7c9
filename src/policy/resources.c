/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Setters for time, descriptors, processor cores, GPUs and the way a sandbox is stopped. The
 * caller's thread; our own user's text.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "policy/internal.h"

static int set_seconds(const char *flag, const char *text, const char *accepted, uint64_t *ret_ns,
                       struct error *err)
{
    int r = parse_seconds(text, ret_ns);

    if (r == -ERANGE)
        return error_set(err, ERROR_USAGE, r, flag, SHOWN " is more than %u seconds", text,
                         SECONDS_MAX);
    if (r < 0)
        return error_set(err, ERROR_USAGE, r, flag,
                         SHOWN " is not a time in seconds (accepted: %s)", text, accepted);
    return 0;
}

int policy_set_timeout(struct policy *p, const char *flag, const char *seconds, struct error *err)
{
    uint64_t ns;
    int r = set_seconds(flag, seconds, "10 or 0.5", &ns, err);

    if (r < 0)
        return r;
    /* "No limit" is the absence of the option; a computed zero must not mean it. */
    if (ns == 0)
        return error_set(err, ERROR_USAGE, -EINVAL, flag, SHOWN " must be more than 0 seconds",
                         seconds);
    p->timeout_ns = ns;
    return 0;
}

int policy_set_dns_refresh(struct policy *p, const char *flag, const char *seconds,
                           struct error *err)
{
    uint64_t ns;
    int r = set_seconds(flag, seconds, "60 or 0.5", &ns, err);

    if (r < 0)
        return r;
    if (ns < DNS_REFRESH_MIN_NS)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " is too often (accepted: 0.1 seconds or more)", seconds);
    p->dns_refresh_ns = ns;
    return 0;
}

int policy_set_stop_grace(struct policy *p, const char *flag, const char *seconds,
                          struct error *err)
{
    return set_seconds(flag, seconds, "0, 10 or 0.5", &p->stop_grace_ns, err);
}

int policy_set_stop_signal(struct policy *p, const char *flag, const char *name, struct error *err)
{
    int sig = parse_signal(name);

    if (sig < 0)
        return error_set(err, ERROR_USAGE, sig, flag,
                         SHOWN " is not a signal (accepted: TERM, SIGTERM or a number 1-64)", name);
    p->stop_signal = sig;
    return 0;
}

int policy_set_max_open_files(struct policy *p, const char *flag, const char *n, struct error *err)
{
    uint32_t v;

    if (parse_u32(n, &v) < 0 || v == 0)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " is not a number of files (accepted: 1 to 4294967295)", n);
    p->max_open_files = v;
    return 0;
}

static int set_number(const char *flag, const char *text, const char *what, uint32_t max,
                      uint32_t *ret, struct error *err)
{
    uint32_t v;

    if (parse_u32(text, &v) < 0 || v == 0 || v > max)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " is not a number of %s (accepted: 1 to %u)", text, what, max);
    *ret = v;
    return 0;
}

int policy_set_max_processes(struct policy *p, const char *flag, const char *n, struct error *err)
{
    return set_number(flag, n, "processes", PROCESSES_MAX, &p->max_processes, err);
}

int policy_set_num_cpus(struct policy *p, const char *flag, const char *n, struct error *err)
{
    return set_number(flag, n, "processors", NUM_CPUS_MAX, &p->num_cpus, err);
}

int policy_set_max_cpu(struct policy *p, const char *flag, const char *percent, struct error *err)
{
    uint32_t v;

    if (parse_u32(percent, &v) < 0 || v == 0 || v > 100)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " is not a percentage of one core (accepted: 1 to 100)", percent);
    p->max_cpu = v;
    return 0;
}

static int read_size(const char *flag, const char *size, uint64_t *ret, struct error *err)
{
    int r = parse_size(size, ret);

    return r < 0
               ? error_set(err, ERROR_USAGE, r, flag,
                           SHOWN " is not a size (accepted: bytes, or 64K, 512M, 2G; more than 0)",
                           size)
               : 0;
}

int policy_set_max_disk(struct policy *p, const char *flag, const char *size, struct error *err)
{
    return read_size(flag, size, &p->max_disk, err);
}

int policy_set_max_memory(struct policy *p, const char *flag, const char *size, struct error *err)
{
    uint64_t v;
    int r = read_size(flag, size, &v, err);

    if (r < 0)
        return r;
    /* Loader and C library alone take more: nothing could ever run. */
    if (v < MEMORY_MIN)
        return error_set(err, ERROR_USAGE, -ERANGE, flag, SHOWN " is less than %uK", size,
                         MEMORY_MIN / 1024);
    p->max_memory = v;
    return 0;
}

int policy_set_memory_mode(struct policy *p, const char *flag, const char *mode, struct error *err)
{
    if (strcmp(mode, "kill") != 0 && strcmp(mode, "enomem") != 0)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " is no mode (accepted: kill, enomem)", mode);
    p->memory_enomem = mode[0] == 'e';
    return 0;
}

static const struct {
    const char *name;
    int resource;
    bool is_size;
} rlimit_names[POLICY_RLIMITS] = {
    {"fsize", RLIMIT_FSIZE, true},
    {"stack", RLIMIT_STACK, true},
    {"memlock", RLIMIT_MEMLOCK, true},
    {"msgqueue", RLIMIT_MSGQUEUE, true},
    {"sigpending", RLIMIT_SIGPENDING, false},
};

static int rlimit_value(const char *text, bool is_size, uint64_t *ret)
{
    uint32_t n;

    if (strcmp(text, "0") == 0) { /* no size elsewhere */
        *ret = 0;
        return 0;
    }
    if (is_size)
        return parse_size(text, ret);
    if (parse_u32(text, &n) < 0)
        return -EINVAL;
    *ret = n;
    return 0;
}

/* The last one of a name counts. */
int policy_set_rlimit(struct policy *p, const char *flag, const char *limit, struct error *err)
{
    const char *value = strchr(limit, '=');
    struct policy_rlimit new = {.resource = -1};
    size_t at = 0;
    int r = -EINVAL;

    for (size_t i = 0; value && i < POLICY_RLIMITS; i++) {
        size_t n = strlen(rlimit_names[i].name);

        if ((size_t)(value - limit) != n || memcmp(limit, rlimit_names[i].name, n) != 0)
            continue;
        new.resource = rlimit_names[i].resource;
        r = rlimit_value(value + 1, rlimit_names[i].is_size, &new.max);
    }
    if (r < 0)
        return error_set(err, ERROR_USAGE, r, flag,
                         SHOWN " is no limit (accepted: fsize, stack, memlock or msgqueue=SIZE, "
                               "sigpending=N)",
                         limit);
    while (at < p->n_rlimits && p->rlimits[at].resource != new.resource)
        at++;
    p->rlimits[at] = new;
    p->n_rlimits = MAX(p->n_rlimits, at + 1);
    return 0;
}

/* Moves *text behind the number read. */
static int list_number(const char **text, uint32_t max, uint32_t *ret)
{
    const char *p = *text;
    uint32_t v = 0;

    if (*p < '0' || *p > '9')
        return -EINVAL;
    for (; *p >= '0' && *p <= '9'; p++) {
        v = v * 10 + (uint32_t)(*p - '0');
        if (v > max)
            return -ERANGE;
    }
    *text = p;
    *ret = v;
    return 0;
}

/* "0,2,4-6": sorted, without repetition. max bounds both the numbers and the size of the result. */
static int list_parse(const char *text, uint32_t max, uint32_t **ret, size_t *ret_n)
{
    _cleanup_free_ uint8_t *seen = calloc(max + 1, 1);
    size_t n = 0;
    uint32_t *v;

    if (!seen)
        return -ENOMEM;
    for (;; text++) {
        uint32_t lo;
        uint32_t hi;
        int r = list_number(&text, max, &lo);

        hi = lo;
        if (r == 0 && *text == '-') {
            text++;
            r = list_number(&text, max, &hi);
        }
        if (r < 0)
            return r;
        if (lo > hi || (*text && *text != ','))
            return -EINVAL;
        for (uint32_t i = lo; i <= hi; i++) {
            n += !seen[i];
            seen[i] = 1;
        }
        if (!*text)
            break;
    }
    v = reallocarray(NULL, n, sizeof(*v));
    if (!v)
        return -ENOMEM;
    n = 0;
    for (uint32_t i = 0; i <= max; i++) {
        if (seen[i])
            v[n++] = i;
    }
    *ret = v;
    *ret_n = n;
    return 0;
}

int policy_set_cpu_cores(struct policy *p, const char *flag, const char *list, struct error *err)
{
    uint32_t *v;
    size_t n;
    int r = list_parse(list, CPU_CORE_MAX, &v, &n);

    if (r == -ENOMEM)
        return policy_error_memory(flag, err);
    if (r < 0)
        return error_set(err, ERROR_USAGE, r, flag,
                         SHOWN " is not a list of cores (accepted: 0,1,2 or 0-2, up to %u)", list,
                         CPU_CORE_MAX);
    free(p->cpu_cores);
    p->cpu_cores = v;
    p->n_cpu_cores = n;
    return 0;
}

int policy_set_gpu(struct policy *p, const char *flag, const char *list, struct error *err)
{
    uint32_t *v = NULL;
    size_t n = 0;
    bool all = strcmp(list, "all") == 0;
    int r = all ? 0 : list_parse(list, GPU_DEVICE_MAX, &v, &n);

    if (r == -ENOMEM)
        return policy_error_memory(flag, err);
    if (r < 0)
        return error_set(err, ERROR_USAGE, r, flag,
                         SHOWN " is not a list of GPUs (accepted: all, or 0,1,2 up to %u)", list,
                         GPU_DEVICE_MAX);
    free(p->gpu_devices);
    p->gpu_devices = v;
    p->n_gpu_devices = n;
    p->gpu = all ? GPU_ALL : GPU_LIST;
    return 0;
}

bool cpu_mask_read(struct cpu_mask *m)
{
    /* The C libraries pass the size on to the kernel, so a mask wider than cpu_set_t is fine. */
    *m = (struct cpu_mask){{0}};
    return sched_getaffinity(0, sizeof(m->w), (cpu_set_t *)m->w) == 0;
}

bool cpu_mask_has(const struct cpu_mask *m, uint32_t core)
{
    const unsigned bits = 8 * sizeof(m->w[0]);

    return core <= CPU_CORE_MAX && (m->w[core / bits] >> (core % bits) & 1);
}

void cpu_mask_print(const struct cpu_mask *m, char *out, size_t size)
{
    size_t len = 0;

    *out = '\0';
    for (uint32_t i = 0; i <= CPU_CORE_MAX; i++) {
        uint32_t last = i;
        int n;

        if (!cpu_mask_has(m, i))
            continue;
        while (cpu_mask_has(m, last + 1))
            last++;
        n = last > i ? snprintf(out + len, size - len, "%s%u-%u", len ? "," : "", i, last)
                     : snprintf(out + len, size - len, "%s%u", len ? "," : "", i);
        if (n < 0 || (size_t)n >= size - len)
            return;
        len += (size_t)n;
        i = last;
    }
}
