/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory limit (RM-01 to RM-04). One thread while a limit is set: it samples the tree and kills
 * the process that took it over the limit. Nothing that programs do often is notified.
 *
 * A sample is cheap first: RssAnon + RssShmem + VmSwap of each process is never less than what it
 * holds, since shared pages count several times. Only where that sum comes near the limit the exact
 * number is asked for (Pss of smaps_rollup), which walks page tables. The closer to the limit the
 * more often: the pause is what the fastest writer needs for the distance that is left.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "limits/internal.h"
#include "policy/policy.h"
#include "sys/process.h"
#include "sys/procfile.h"

#define MEMORY_RATE 2u   /* bytes in a nanosecond: touching fresh pages from two cores */
#define MEMORY_WRITE 16u /* bytes in a nanosecond that one process can fill at the very most */
#define MEMORY_PAUSE_MIN 1000000u
#define MEMORY_PAUSE_MAX 20000000u
#define MEMORY_COST 20u             /* the thread sleeps so many times what a sample took */
#define MEMORY_DYING_NS 1000000000u /* who was killed so recently is as good as gone */
#define MEMORY_DYING 32
/* Below a page no limit of memory counts: by these bits a limit that we set is told from one that a program
 * set itself, also in children of whoever had it. */
#define MEMORY_MARK 0xd35u
#define MEMORY_MARK_BITS 0xfffu

struct member {
    pid_t pid, parent;
    uint64_t mapped; /* VmSize: equal where two share one address space */
    uint64_t data;   /* VmData: what RLIMIT_DATA bounds */
    uint64_t used;
    uint64_t own; /* soft RLIMIT_DATA that the program chose (enomem), 0 without */
    /* Known of exact samples only: */
    bool exact;
    uint64_t files;  /* part of `used` */
    uint64_t huge;   /* AnonHugePages */
    uint64_t faults; /* pages touched, ever */
    int64_t cpu;     /* ns, ever */
};
struct sample {
    struct member *v;
    size_t n, cap;
    uint64_t total;
};

struct memory {
    struct limits *l;
    struct tree tree;
    struct memory_files files;
    uint64_t fault_size; /* bytes that one fault brings at most, huge pages aside */
    struct sample now, before;
    struct {
        pid_t pid;
        uint64_t at;
    } dying[MEMORY_DYING];
    size_t kills;
};

static uint64_t memory_limit(const struct memory *m)
{
    return atomic_load(&m->l->max_memory);
}

static uint64_t status_kib(const char *text, const char *name)
{
    long kib;

    return sys_file_field(text, name, 10, &kib) == 0 && kib > 0 ? (uint64_t)kib * 1024 : 0;
}

/* Never less than it holds. 0 for zombies, which have no memory. */
static uint64_t member_at_most(struct member *one)
{
    char path[32], text[4096];
    long parent;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)one->pid);
    if (sys_read_file(path, text, sizeof(text)) < 0)
        return 0;
    one->mapped = status_kib(text, "VmSize");
    one->data = status_kib(text, "VmData");
    if (sys_file_field(text, "PPid", 10, &parent) == 0)
        one->parent = (pid_t)parent;
    return status_kib(text, "RssAnon") + status_kib(text, "RssShmem") + status_kib(text, "VmSwap");
}

/* What it holds, its share of shared pages; `at_most` where the kernel does not say. */
static uint64_t member_exactly(struct member *one, uint64_t at_most)
{
    char path[48], text[4096];
    struct sys_stat st;

    one->exact = true;
    one->cpu = limits_cpu_time(one->pid);
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)one->pid);
    one->faults = sys_read_stat(path, &st) < 0 ? 0 : st.faults;
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)one->pid);
    if (sys_read_file(path, text, sizeof(text)) <= 0)
        return at_most;
    one->huge = status_kib(text, "AnonHugePages");
    return status_kib(text, "Pss_Anon") + status_kib(text, "Pss_Shmem") +
           status_kib(text, "SwapPss");
}

static bool is_dying(const struct memory *m, pid_t pid)
{
    for (size_t i = 0; i < MIN(m->kills, (size_t)MEMORY_DYING); i++) {
        if (m->dying[i].pid == pid && util_now_ns() - m->dying[i].at < MEMORY_DYING_NS)
            return true;
    }
    return false;
}

static int sample_add(struct sample *s, struct member one)
{
    struct member *v = util_grow(s->v, s->n, &s->cap, sizeof(*v));

    if (!v)
        return -ENOMEM;
    s->v = v;
    s->v[s->n++] = one;
    s->total += one.used;
    return 0;
}

static void sample_upper(struct memory *m)
{
    m->now.n = 0;
    m->now.total = 0;
    memory_files_clear(&m->files);
    for (size_t i = 0; i < m->tree.n; i++) {
        struct member one = {.pid = m->tree.v[i]};

        if (is_dying(m, one.pid))
            continue;
        one.used = member_at_most(&one);
        one.used += memory_files_add(&m->files, one.pid);
        if (sample_add(&m->now, one) < 0)
            return;
    }
}

/* Between vfork and exec parent and child are one address space, which counts once. */
static bool is_same_memory(const struct sample *s, size_t i)
{
    unsigned looks = 8;

    for (size_t k = i; k-- > 0 && looks;) {
        if (s->v[k].mapped != s->v[i].mapped || !s->v[i].mapped)
            continue;
        looks--;
        if (sys_same_memory(s->v[k].pid, s->v[i].pid))
            return true;
    }
    return false;
}

static void sample_exact(struct memory *m)
{
    bool files = false;
    uint64_t total = 0;

    memory_files_clear(&m->files);
    for (size_t i = 0; i < m->now.n; i++) {
        struct member *one = &m->now.v[i];
        uint64_t of_files = memory_files_add(&m->files, one->pid);

        one->files = of_files;
        files |= of_files > 0;
        one->used = is_same_memory(&m->now, i)
                        ? 0
                        : member_exactly(one, one->used - MIN(of_files, one->used));
        one->used += of_files;
        total += one->used;
    }
    /* A mapped memfd is there twice, among the files and in the mappings. */
    for (size_t i = 0; i < m->now.n && files && total > memory_limit(m); i++) {
        struct member *one = &m->now.v[i];
        uint64_t twice = MIN(memory_files_mapped(&m->files, one->pid), one->used);

        one->used -= twice;
        total -= twice;
    }
    m->now.total = total;
}

/*
 * Shares also grow when others copy their pages or end: only as much counts as a process can have
 * taken itself. Pages come by faults, or with huge pages; those of files by writing.
 */
static uint64_t growth_of(const struct memory *m, const struct member *one)
{
    static const struct member newborn = {.exact = true};
    const struct member *was = &newborn;
    uint64_t files, pages, most;

    for (size_t i = 0; i < m->before.n && was == &newborn; i++) {
        if (m->before.v[i].pid == one->pid)
            was = &m->before.v[i];
    }
    if (one->used <= was->used)
        return 0;
    if (!was->exact)
        return one->used - was->used;
    files = one->files > was->files ? one->files - was->files : 0;
    files = MIN(files, (uint64_t)MAX(one->cpu - was->cpu, 0) * MEMORY_WRITE);
    most = (one->faults - MIN(was->faults, one->faults)) * m->fault_size +
           (one->huge - MIN(was->huge, one->huge));
    pages = one->used - MIN(one->files, one->used);
    pages -= MIN(was->used - MIN(was->files, was->used), pages);
    return files + MIN(pages, most);
}

/* Who took it over the limit: who grew most since the sample before; where nobody did noticeably (a
 * share grew, or somebody was missed), who holds most. */
static struct member *choose_victim(struct memory *m)
{
    uint64_t most_growth = 0, most = 0;
    struct member *grown = NULL, *largest = NULL;

    for (size_t i = 0; i < m->now.n; i++) {
        struct member *one = &m->now.v[i];
        uint64_t growth = growth_of(m, one);

        if (growth > most_growth) {
            most_growth = growth;
            grown = one;
        }
        /* Parents come before their children: of two that hold about as much the younger. */
        if (one->used > most - most / 4) {
            most = MAX(most, one->used);
            largest = one;
        }
    }
    return most_growth > memory_limit(m) / 64 ? grown : largest;
}

static void name_of(pid_t pid, char *name, size_t size)
{
    char path[32];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    n = sys_read_file(path, name, size);
    if (n < 0)
        n = 0;
    name[n] = '\0';
    name[strcspn(name, "\n")] = '\0';
}

static void report_kill(struct memory *m, const struct member *victim, const char *name)
{
    struct limits_report *r = &m->l->report;

    pthread_mutex_lock(&m->l->report_lock);
    if (r->memory_kills++ == 0) {
        r->memory_victim = victim->pid;
        r->memory_at_kill = m->now.total;
        snprintf(r->memory_name, sizeof(r->memory_name), "%s", name);
    }
    pthread_mutex_unlock(&m->l->report_lock);
}

/* Kills until what is left is within the limit. */
static void enforce(struct memory *m)
{
    while (m->now.total > memory_limit(m)) {
        struct member *victim = choose_victim(m);
        char name[sizeof(m->l->report.memory_name)];

        if (!victim)
            return;
        name_of(victim->pid, name, sizeof(name));
        if (limits_kill(victim->pid, m->l->anchor) == 0) {
            report_kill(m, victim, name);
            m->dying[m->kills % MEMORY_DYING].pid = victim->pid;
            m->dying[m->kills++ % MEMORY_DYING].at = util_now_ns();
        }
        m->now.total -= victim->used;
        victim->used = 0;
    }
}

static void publish(struct memory *m)
{
    struct limits_report *r = &m->l->report;

    pthread_mutex_lock(&m->l->report_lock);
    r->memory_peak = MAX(r->memory_peak, m->now.total);
    pthread_mutex_unlock(&m->l->report_lock);
    if (m->l->view)
        atomic_store(&m->l->view->memory_used, m->now.total);
}

/* What the member had chosen in the sample before, or, new as it is, its parent. */
static uint64_t own_before(const struct memory *m, size_t i)
{
    const struct member *one = &m->now.v[i];

    for (size_t k = 0; k < m->before.n; k++) { /* likely at about the same place */
        const struct member *was = &m->before.v[(i + k) % m->before.n];

        if (was->pid == one->pid)
            return was->own;
    }
    for (size_t k = i; k-- > 0;) {
        if (m->now.v[k].pid == one->parent)
            return m->now.v[k].own;
    }
    return 0;
}

static bool is_ours(const struct memory *m, rlim_t soft)
{
    return soft == m->l->policy->max_memory || (soft & MEMORY_MARK_BITS) == MEMORY_MARK;
}

/* The soft limit becomes `max`, or what the program itself chose where that is less. */
static void let_have(const struct memory *m, size_t i, uint64_t max)
{
    struct member *one = &m->now.v[i];
    struct rlimit is, want, old;

    one->own = own_before(m, i);
    if (!one->data || sys_rlimit(one->pid, RLIMIT_DATA, NULL, &is) < 0)
        return;
    if (!is_ours(m, is.rlim_cur))
        one->own = is.rlim_cur == RLIM_INFINITY ? 0 : is.rlim_cur;
    want = is;
    want.rlim_cur = (max & ~(uint64_t)MEMORY_MARK_BITS) | MEMORY_MARK;
    if (one->own && one->own < want.rlim_cur)
        want.rlim_cur = one->own;
    want.rlim_cur = MIN(want.rlim_cur, is.rlim_max);
    if (want.rlim_cur == is.rlim_cur || !limits_is_member(one->pid, m->l->anchor))
        return;
    /* Changed by the program meanwhile: it is asked again with the next sample. */
    if (sys_rlimit(one->pid, RLIMIT_DATA, &want, &old) == 0 && old.rlim_cur != is.rlim_cur)
        (void)sys_rlimit(one->pid, RLIMIT_DATA, &old, NULL);
}

/*
 * --memory-mode enomem: each member may map as much more as the sandbox has left, so that brk, mmap and
 * mprotect fail in the kernel. What is mapped but not written to yet, and shared memory, can still go
 * beyond: then somebody is killed. A sixteenth of the limit is kept for what was just mapped and is being
 * written to while we look; more is not, since stacks and arenas are mapped long before their use.
 */
static void let_fail(const struct memory *m)
{
    uint64_t limit = memory_limit(m), left = limit - MIN(m->now.total, limit);

    for (size_t i = 0; i < m->now.n; i++) {
        const struct member *one = &m->now.v[i];
        uint64_t untouched = one->data - MIN(one->used - MIN(one->files, one->used), one->data);
        uint64_t kept = MIN(MIN(untouched, limit / 16), left);

        let_have(m, i, one->data + left - kept);
    }
}

static void memory_sample(struct memory *m)
{
    struct sample old = m->before;

    m->before = m->now;
    m->now = old;
    if (tree_walk(&m->tree, m->l->anchor) < 0)
        return;
    sample_upper(m);
    if (m->now.total > memory_limit(m) / 2)
        sample_exact(m);
    publish(m);
    enforce(m);
    if (m->l->policy->memory_enomem)
        let_fail(m);
}

void *memory_main(void *arg)
{
    /* Four pages: folios of several pages are rare where nobody asks for them. */
    struct memory m = {.l = arg, .fault_size = 4 * (uint64_t)sysconf(_SC_PAGESIZE)};
    uint64_t pause = MEMORY_PAUSE_MIN;
    bool go;

    (void)sys_thread_slice(LIMITS_SLICE_NS);
    memory_files_init(&m.files);
    limits_own_descriptors();
    go = m.l->policy->memory_enomem || limits_wait_memory(m.l);
    while (go && limits_sleep(&m.l->clock, pause)) {
        uint64_t begin = util_now_ns(), cost, left;

        memory_sample(&m);
        cost = (util_now_ns() - begin) * MEMORY_COST;
        left = m.now.total < memory_limit(&m) ? memory_limit(&m) - m.now.total : 0;
        pause = MAX(MIN(left / MEMORY_RATE, MEMORY_PAUSE_MAX), MEMORY_PAUSE_MIN);
        /* Not at the price of the limit: what a sample costs grows with what there is to see. */
        pause = MAX(pause, MIN(cost, MEMORY_PAUSE_MAX));
    }
    tree_fini(&m.tree);
    memory_files_fini(&m.files);
    free(m.now.v);
    free(m.before.v);
    return NULL;
}
