/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stack of a new program, before its first instruction: a script's argument list and the name it was
 * executed by. The kernel executed a descriptor, so it wrote "/dev/fd/N" there. Receiver threads; the
 * task is stopped. The memory is its own, new, and may already be hostile where another process shares
 * nothing with it: nothing read here is trusted, it is only moved.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/strv.h"
#include "fs/chroot.h"

#define STACK_READ (64 * 1024)
#define STACK_MAX (8 * 1024 * 1024) /* pointers: more than the kernel's bound on arguments allows */

/* Words from the stack pointer up to and including AT_NULL. */
struct block {
    uint64_t *w;
    size_t n;    /* words read */
    size_t argc; /* w[0] */
    size_t auxv; /* index */
    size_t end;  /* index behind AT_NULL */
};

static int block_read(pid_t pid, uint64_t at, struct block *b)
{
    size_t have = b->n * sizeof(uint64_t);
    uint64_t *w = have < STACK_MAX ? realloc(b->w, have + STACK_READ) : NULL;
    ssize_t n;

    if (!w)
        return -ENOMEM;
    b->w = w;
    struct iovec local = {(char *)w + have, STACK_READ};
    struct iovec remote = {(void *)(uintptr_t)(at + have), STACK_READ};
    n = process_vm_readv(pid, &local, 1, &remote, 1, 0);
    if (n < (ssize_t)sizeof(uint64_t))
        return n < 0 ? -errno : -EFAULT;
    b->n += (size_t)n / sizeof(uint64_t);
    return 0;
}

/* Finds the parts; -EAGAIN when more has to be read. */
static int block_parse(struct block *b)
{
    size_t i = 1;

    b->argc = b->n > 0 ? b->w[0] : 0;
    if (b->argc > STACK_MAX / sizeof(uint64_t))
        return -EFAULT;
    for (i += b->argc + 1; i < b->n && b->w[i]; i++)
        ; /* the environment */
    b->auxv = ++i;
    while (i + 1 < b->n && b->w[i] != AT_NULL)
        i += 2;
    b->end = i + 2;
    return b->end <= b->n ? 0 : -EAGAIN;
}

/* Strings, laid one behind the other. */
struct text {
    char *data;
    size_t n;
};

static size_t text_add(struct text *t, const char *s)
{
    size_t n = strlen(s) + 1, at = t->n;
    char *data = t->n == SIZE_MAX ? NULL : realloc(t->data, t->n + n);

    if (!data) {
        t->n = SIZE_MAX; /* reported at the end */
        return 0;
    }
    memcpy(data + at, s, n);
    t->data = data;
    t->n += n;
    return at;
}

static void block_set_auxv(uint64_t *auxv, uint64_t execfn, struct image *ret)
{
    for (; auxv[0] != AT_NULL; auxv += 2) {
        if (auxv[0] == AT_EXECFN)
            auxv[1] = execfn;
        if (auxv[0] == AT_SYSINFO_EHDR)
            ret->vdso = auxv[1];
    }
}

/* [argc, argv, envp, auxv] [strings], ending where the old block ended. */
static int stack_write(struct trace *t, const struct block *b, const struct strv *words,
                       const char *execfn, struct image *ret)
{
    size_t keep = words->n && b->argc ? 1 : 0; /* argv[0] is replaced */
    size_t argc = b->argc - keep + words->n, rest = b->end - 1 - keep, n = 1 + words->n + rest;
    uint64_t sp = arch_regs_sp(&t->regs), end = sp + b->end * sizeof(uint64_t), at;
    _cleanup_free_ size_t *offset = calloc(words->n + 1, sizeof(*offset));
    _cleanup_free_ uint64_t *w = calloc(n, sizeof(*w));
    struct text text = {0};
    size_t name;
    int e = 0;

    for (size_t i = 0; offset && i < words->n; i++)
        offset[i] = text_add(&text, words->v[i]);
    name = text_add(&text, execfn);
    if (!offset || !w || text.n == SIZE_MAX) {
        free(text.data);
        return -ENOMEM;
    }
    at = end - text.n;
    sp = (at - n * sizeof(*w)) & ~15ull; /* both machines align the stack to 16 */
    w[0] = argc;
    for (size_t i = 0; i < words->n; i++)
        w[1 + i] = at + offset[i];
    memcpy(w + 1 + words->n, b->w + 1 + keep, rest * sizeof(*w));
    ret->execfn = at + name;
    block_set_auxv(w + 1 + words->n + (b->auxv - 1 - keep), ret->execfn, ret);
    struct iovec local[2] = {{w, n * sizeof(*w)}, {text.data, text.n}};
    struct iovec remote[2] = {{(void *)(uintptr_t)sp, n * sizeof(*w)},
                              {(void *)(uintptr_t)at, text.n}};
    if (process_vm_writev(t->pid, local, 2, remote, 2, 0) != (ssize_t)(n * sizeof(*w) + text.n))
        e = -EFAULT;
    free(text.data);
    if (e == 0)
        arch_regs_set_sp(&t->regs, sp);
    return e;
}

int chroot_stack(struct trace *t, const struct strv *words, const char *execfn, struct image *ret)
{
    struct block b = {0};
    uint64_t sp = arch_regs_sp(&t->regs);
    int e;

    *ret = (struct image){0};
    do {
        e = block_read(t->pid, sp, &b);
        if (e == 0)
            e = block_parse(&b);
    } while (e == -EAGAIN);
    if (e == 0)
        e = stack_write(t, &b, words, execfn, ret);
    free(b.w);
    return e;
}
