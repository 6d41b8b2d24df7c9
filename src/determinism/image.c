/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is rewritten in a new program before its first instruction: the vDSO, so that it tells the
 * virtual time and draws no randomness of its own, and the 16 bytes of AT_RANDOM. Receivers, at the
 * exec stop; the memory is the kernel's work of this moment and nobody else runs in it, but the sizes
 * on the stack (argc, environment) are the child's choice.
 */
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "determinism/internal.h"
#include "sys/fs.h"

#define STACK_CHUNK 2048             /* one page or two, and all of a common program's vectors */
#define STACK_MAX (8u * 1024 * 1024) /* a quarter of the stack limit holds arguments (execve(2)) */

struct image_state {
    pthread_mutex_t lock;
    struct vdso_patch *_Atomic patch; /* made from the first program's; then constant */
    size_t page;
};

/* ---- another process's memory ---- */

/* Through /proc/PID/mem a tracer writes read-only pages, which become private copies, and the kernel
 * makes instruction caches follow (C-03). Five times as fast as PTRACE_POKEDATA, which remains for
 * kernels that were told to close this file to it (proc_mem.force_override, 6.12). */
struct memory {
    pid_t pid;
    int fd; /* or -1 */
};

static void memory_open(struct memory *m, pid_t pid)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
    m->pid = pid;
    m->fd = sys_openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
}

/* Up to n bytes; what is not mapped ends it. */
static ssize_t memory_read(const struct memory *m, uint64_t at, void *to, size_t n)
{
    struct iovec local = {to, n}, remote = {(void *)(uintptr_t)at, n};

    return m->fd >= 0 ? pread(m->fd, to, n, (off_t)at)
                      : process_vm_readv(m->pid, &local, 1, &remote, 1, 0);
}

static void memory_close(struct memory *m)
{
    util_closep(&m->fd);
}

static int memory_poke(pid_t pid, uint64_t at, const uint8_t *from)
{
    uint64_t v;

    memcpy(&v, from, sizeof(v));
    return ptrace(PTRACE_POKEDATA, pid, (void *)(uintptr_t)at, (void *)(uintptr_t)v) < 0 ? -errno
                                                                                         : 0;
}

/* Whole 64-bit words. */
static int memory_write(const struct memory *m, uint64_t at, const void *from, size_t n)
{
    int e = 0;

    if (m->fd >= 0 && pwrite(m->fd, from, n, (off_t)at) == (ssize_t)n)
        return 0;
    for (size_t i = 0; e == 0 && i < n; i += 8)
        e = memory_poke(m->pid, at + i, (const uint8_t *)from + i);
    return e;
}

/* ---- the auxiliary vector on the new stack ---- */

struct vector {
    uint64_t ehdr, random;
    uint64_t ehdr_key_at; /* address of the word AT_SYSINFO_EHDR */
};

/* Words from the stack, read in large pieces. */
struct stack {
    const struct memory *m;
    uint64_t next; /* address of the word to come */
    uint64_t begin, end, limit;
    uint64_t words[STACK_CHUNK / 8];
};

static bool stack_word(struct stack *s, uint64_t *ret)
{
    if (s->next == s->end) {
        ssize_t n = s->next < s->limit ? memory_read(s->m, s->next, s->words, STACK_CHUNK) : -1;

        if (n < 8)
            return false;
        s->begin = s->next;
        s->end = s->next + ((uint64_t)n & ~(uint64_t)7);
    }
    *ret = s->words[(s->next - s->begin) / 8];
    s->next += 8;
    return true;
}

/* At the start of a program: argc, the arguments and 0, the environment and 0, pairs until AT_NULL. */
static int stack_find(const struct memory *m, uint64_t sp, struct vector *v)
{
    struct stack s = {.m = m, .next = sp, .begin = sp, .end = sp, .limit = sp + STACK_MAX};
    uint64_t w, key, value;

    *v = (struct vector){0};
    if (sp % 8 || !stack_word(&s, &w))
        return -EFAULT;
    for (int zeros = 0; zeros < 2; zeros += w == 0) {
        if (!stack_word(&s, &w))
            return -EFAULT;
    }
    do {
        if (!stack_word(&s, &key) || !stack_word(&s, &value))
            return -EFAULT;
        if (key == AT_SYSINFO_EHDR) {
            v->ehdr = value;
            v->ehdr_key_at = s.next - 16;
        } else if (key == AT_RANDOM) {
            v->random = value;
        }
    } while (key != AT_NULL);
    return 0;
}

/* ---- the vDSO ---- */

static int patch_make(const struct request *r, struct image_state *s, const struct memory *m,
                      uint64_t ehdr)
{
    const struct policy *p = supervisor_policy(r->sup);
    struct vdso_wishes wishes = {.time = p->has_time_start, .random = p->has_random_seed};
    uint8_t head[4096];
    struct vdso_patch *made;
    uint8_t *image;
    size_t size;
    int e;

    if (memory_read(m, ehdr, head, sizeof(head)) != sizeof(head))
        return -EFAULT;
    size = vdso_size(head, sizeof(head), s->page);
    image = size ? malloc(size) : NULL;
    if (!image)
        return -EINVAL;
    wishes.offset_ns = determinism_time_offset(r->sup);
    e = memory_read(m, ehdr, image, size) == (ssize_t)size
            ? vdso_patch_new(image, size, &wishes, &made)
            : -EFAULT;
    free(image);
    if (e == 0)
        s->patch = made;
    return e;
}

/* Every process of a machine gets the same image. One of another ABI has no 64-bit words on its stack
 * and is not mistaken; what is compared is where the kernel's header says its sections are. */
static bool patch_fits(const struct vdso_patch *p, const struct memory *m, uint64_t ehdr)
{
    const size_t at = offsetof(Elf64_Ehdr, e_shoff);
    uint64_t word;

    return memory_read(m, ehdr + at, &word, sizeof(word)) == sizeof(word) &&
           memcmp(&word, p->before + at, sizeof(word)) == 0;
}

static int image_patch(const struct request *r, struct image_state *s, const struct memory *m,
                       uint64_t ehdr)
{
    const struct vdso_patch *p;
    int e = 0;

    pthread_mutex_lock(&s->lock);
    if (!s->patch)
        e = patch_make(r, s, m, ehdr);
    pthread_mutex_unlock(&s->lock);
    p = s->patch;
    if (e == 0 && !patch_fits(p, m, ehdr))
        e = -EINVAL;
    for (size_t i = 0; e == 0 && i < p->nextents; i++)
        e = memory_write(m, ehdr + p->extent[i].at, p->after + p->extent[i].at, p->extent[i].len);
    return e;
}

/* Without a vDSO the C libraries make system calls, and those are corrected. */
static int image_hide(const struct memory *m, const struct vector *v)
{
    const uint64_t ignore = AT_IGNORE;

    return memory_write(m, v->ehdr_key_at, &ignore, sizeof(ignore));
}

static int image_reseed(const struct request *r, const struct memory *m, uint64_t at)
{
    uint8_t bytes[16];
    int e;

    if (!at || !supervisor_state(r->sup, &determinism_random_feature))
        return 0;
    e = random_bytes(r, m->pid, bytes, sizeof(bytes));
    return e < 0 ? e : memory_write(m, at, bytes, sizeof(bytes));
}

static int image_rewrite(const struct request *r, struct image_state *s, pid_t pid)
{
    _cleanup_(memory_close) struct memory m = {.fd = -1};
    struct arch_regs regs;
    struct vector v = {0};
    int e = arch_regs_get(pid, &regs);

    if (e < 0)
        return e;
    memory_open(&m, pid);
    e = stack_find(&m, arch_regs_sp(&regs), &v);
    if (e < 0)
        return e;
    if (v.ehdr && image_patch(r, s, &m, v.ehdr) < 0)
        e = image_hide(&m, &v);
    return e < 0 ? e : image_reseed(r, &m, v.random);
}

static int image_exec(const struct request *r, pid_t pid)
{
    struct image_state *s = supervisor_state(r->sup, &determinism_image_feature);
    const struct policy *p = supervisor_policy(r->sup);
    int e = image_rewrite(r, s, pid);

    if (e < 0)
        request_explain(
            r, "exec", -e, p->has_time_start ? "--time-start" : "--random-seed",
            "the new program could not be rewritten (an unreadable file?) and was killed");
    return e;
}

/* ---- calls made from what we wrote ---- */

static bool image_begins(const struct request *r, uint64_t at)
{
    uint8_t magic[SELFMAG];

    return request_read(r, (child_addr){at}, magic, sizeof(magic)) == 0 &&
           memcmp(magic, ELFMAG, SELFMAG) == 0;
}

/* Can be forged: whoever does sees the real time, which a cycle counter tells as well. */
static bool image_is_ours(const struct request *r, const struct vdso_patch *p, uint64_t base)
{
    uint64_t word;

    return request_read(r, (child_addr){base + p->mark_at}, &word, sizeof(word)) == 0 &&
           word == p->mark;
}

bool image_called(const struct request *r)
{
    const struct image_state *s = supervisor_state(r->sup, &determinism_image_feature);
    const struct vdso_patch *p = s->patch;
    uint64_t at = r->data->instruction_pointer & ~(uint64_t)(s->page - 1);

    for (size_t i = 0; p && i < p->size / s->page; i++, at -= s->page) {
        if (image_begins(r, at))
            return image_is_ours(r, p, at);
    }
    return false;
}

bool image_recalled(const struct request *r)
{
    const struct image_state *s = supervisor_state(r->sup, &determinism_image_feature);
    const struct vdso_patch *p = s->patch;
    uint64_t base = p ? r->data->instruction_pointer - p->recall_end : 1;

    return base % s->page == 0 && image_begins(r, base) && image_is_ours(r, p, base);
}

static uint64_t image_base(const struct request *r, const struct vdso_patch *p)
{
    char path[32];
    uint64_t v[2], base = 0;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/auxv", (int)r->tid);
    fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    while (!base && read(fd, v, sizeof(v)) == (ssize_t)sizeof(v) && v[0] != AT_NULL) {
        if (v[0] == AT_SYSINFO_EHDR)
            base = v[1];
    }
    util_close(fd);
    return base && image_is_ours(r, p, base) ? base : 0;
}

/* The thread is stopped on its way back from the call, which failed with EINTR so far. */
static int recall_redirect(const struct request *r, uint64_t recall, unsigned data_arg,
                           const void *data, size_t size)
{
    struct arch_recall frame = {0};
    struct arch_regs regs;
    uint64_t to[6], at;
    int e = arch_regs_get(r->tid, &regs);

    if (e < 0)
        return e;
    at = arch_recall_place(&regs);
    if (!at || arch_regs_pc(&regs) != r->data->instruction_pointer)
        return -EFAULT;
    for (unsigned i = 0; i < 6; i++)
        to[i] = r->data->args[i];
    to[data_arg] = at + offsetof(struct arch_recall, data);
    memcpy(frame.data, data, size);
    arch_recall_set(&regs, recall, at, r->data->nr, to, &frame);
    e = request_write(r, (child_addr){at}, &frame, sizeof(frame));
    return e < 0 ? e : arch_regs_set(r->tid, &regs);
}

struct verdict image_recall(const struct request *r, unsigned data_arg, const void *data,
                            size_t size)
{
    const struct image_state *s = supervisor_state(r->sup, &determinism_image_feature);
    const struct vdso_patch *p = s->patch;
    uint64_t base = p ? image_base(r, p) : 0;
    int status, e;

    /* ENOSYS where the vDSO had to be hidden: better than a wait of years. */
    if (!base || size > sizeof(((struct arch_recall *)0)->data))
        return verdict_errno(ENOSYS);
    if (!request_alive(r))
        return verdict_gone();
    e = request_seize(r, 0);
    if (e < 0)
        return verdict_errno(e == -ERESTARTNOINTR ? e : -ENOSYS);
    /* As at an exec: asked for before the answer, so that the thread stops before user space. */
    ptrace(PTRACE_INTERRUPT, r->tid, NULL, NULL);
    request_answer(r, verdict_errno(EINTR));
    while (waitpid(r->tid, &status, __WALL | __WNOTHREAD) < 0) {
        if (errno != EINTR)
            return verdict_gone();
    }
    if (!WIFSTOPPED(status))
        return verdict_gone();
    (void)recall_redirect(r, base + p->recall, data_arg, data, size);
    ptrace(PTRACE_DETACH, r->tid, NULL, (void *)(intptr_t)(status >> 16 ? 0 : WSTOPSIG(status)));
    return verdict_gone();
}

/* ---- the feature ---- */

static bool image_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->has_time_start || p->has_random_seed;
}

static int image_start(struct supervisor *sup, void **ret_state, struct error *err)
{
    struct image_state *s = calloc(1, sizeof(*s));

    (void)sup;
    if (!s)
        return error_set(err, ERROR_SETUP, -ENOMEM, "determinism", "%s", error_text(ENOMEM));
    pthread_mutex_init(&s->lock, NULL);
    s->page = (size_t)sysconf(_SC_PAGESIZE);
    *ret_state = s;
    return 0;
}

static void image_stop(void *state)
{
    struct image_state *s = state;

    vdso_patch_free(s->patch);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static const struct feature_call image_calls[] = {
    {OP_EXEC, exec_guard_allow, NULL, 0},
};

const struct feature determinism_image_feature = {
    .name = "time-start, random-seed",
    .traces = true,
    .wanted = image_wanted,
    .calls = image_calls,
    .ncalls = ARRAY_SIZE(image_calls),
    .start = image_start,
    .stop = image_stop,
    .writes_proc = true,
    .exec = image_exec,
};
