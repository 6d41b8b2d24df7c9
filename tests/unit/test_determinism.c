/* SPDX-License-Identifier: Apache-2.0 */
/*
 * src/determinism and what it stands on: ChaCha20 against RFC 8439, streams, deadlines, file times, and the
 * rewriting of vDSO images, with this machine's own and with broken ones.
 */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/chacha20.h"
#include "determinism/internal.h"

/* ---- ChaCha20 ---- */

/* RFC 8439, 2.3.2 and appendix A.1 (1, 2 and 5). */
static void test_chacha20(void **state)
{
    static const struct {
        uint8_t first_key_byte, last_key_byte; /* 0: all zero; else counting up from 0 */
        uint32_t counter;
        uint8_t nonce[12];
        uint8_t begin[16];
    } v[] = {
        {0,
         31,
         1,
         {0, 0, 0, 9, 0, 0, 0, 0x4a},
         {0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15, 0x50, 0x0f, 0xdd, 0x1f, 0xa3, 0x20, 0x71,
          0xc4}},
        {0,
         0,
         0,
         {0},
         {0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd,
          0x28}},
        {0,
         0,
         1,
         {0},
         {0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a, 0x98, 0xba, 0x97, 0x7c, 0x73, 0x2d, 0x08,
          0x0d}},
        {0,
         0,
         0,
         {[11] = 2},
         {0xc2, 0xc6, 0x4d, 0x37, 0x8c, 0xd5, 0x36, 0x37, 0x4a, 0xe2, 0x04, 0xb9, 0xef, 0x93, 0x3f,
          0xcd}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
        uint8_t key[CHACHA20_KEY] = {0}, out[CHACHA20_BLOCK];

        for (unsigned k = 0; k < sizeof(key) && v[i].last_key_byte; k++)
            key[k] = (uint8_t)(v[i].first_key_byte + k);
        chacha20_block(key, v[i].counter, v[i].nonce, out);
        assert_memory_equal(out, v[i].begin, sizeof(v[i].begin));
    }
}

/* ---- streams ---- */

static void take(struct streams *s, pid_t tgid, void *out, size_t n)
{
    uint8_t key[STREAM_KEY];
    uint64_t at;

    assert_int_equal(stream_take(s, tgid, n, key, &at), 0);
    stream_read(key, at, out, n);
}

/* What a process gets depends on its place, not on who draws when, nor on how it is cut up. */
static void test_streams(void **state)
{
    struct streams *a = streams_new(7), *b = streams_new(7), *c = streams_new(8);
    uint8_t x[200], y[200], z[200];

    (void)state;
    take(a, 100, x, sizeof(x));
    take(b, 5000, y, 3);
    take(b, 5000, y + 3, 64);
    take(b, 5000, y + 67, 133);
    assert_memory_equal(x, y, sizeof(x));
    take(c, 100, z, sizeof(z));
    assert_memory_not_equal(x, z, sizeof(x));

    assert_int_equal(stream_fork(a, 100, 101), 0);
    assert_int_equal(stream_fork(a, 100, 102), 0);
    assert_int_equal(stream_fork(a, 101, 103), 0);
    assert_int_equal(stream_fork(b, 5000, 77), 0);
    assert_int_equal(stream_fork(b, 77, 79), 0);
    assert_int_equal(stream_fork(b, 5000, 78), 0);
    take(b, 79, y, 16);
    take(b, 78, y + 16, 16);
    take(b, 77, y + 32, 16);
    take(a, 101, x + 32, 16);
    take(a, 102, x + 16, 16);
    take(a, 103, x, 16);
    assert_memory_equal(x, y, 48);
    assert_memory_not_equal(x, x + 16, 16);

    /* A number that is used again is another process. */
    assert_int_equal(stream_fork(a, 100, 101), 0);
    take(a, 101, y, 16);
    assert_memory_not_equal(x + 32, y, 16);
    /* Nobody's: nothing. */
    assert_int_equal(stream_take(a, 999, 1, y, &(uint64_t){0}), -ESRCH);
    assert_int_equal(stream_fork(a, 999, 1000), -ESRCH);
    assert_false(stream_has(a, 1000));
    streams_free(a);
    streams_free(b);
    streams_free(c);
}

static void test_streams_are_pruned(void **state)
{
    struct streams *s = streams_new(0);
    uint8_t b[1];
    size_t left = 0;

    (void)state;
    take(s, getpid(), b, 1);
    for (pid_t pid = 1 << 22; pid < (1 << 22) + 5000; pid++) /* above the kernel's largest */
        assert_int_equal(stream_fork(s, getpid(), pid), 0);
    for (pid_t pid = 1 << 22; pid < (1 << 22) + 5000; pid++)
        left += stream_has(s, pid);
    assert_true(left < 2000);
    assert_true(stream_has(s, getpid()));
    streams_free(s);
}

/* ---- time ---- */

static void test_deadlines(void **state)
{
    static const struct {
        struct timespec in;
        int64_t offset;
        struct timespec out;
    } v[] = {
        {{10, 5}, 3 * SECOND_NS + 10, {6, 999999995}},
        {{10, 5}, -3 * SECOND_NS - 999999996, {14, 1}},
        {{10, 5}, 0, {10, 5}},
        {{1, 0}, SECOND_NS, {0, 1}},        /* never zero, which disarms */
        {{1, 0}, 50LL * SECOND_NS, {0, 1}}, /* long past */
        {{-1, 0}, SECOND_NS, {-1, 0}},      /* no time: the kernel says EINVAL */
        {{1, SECOND_NS}, SECOND_NS, {1, SECOND_NS}},
        {{1, -1}, SECOND_NS, {1, -1}},
        {{INT64_MAX, 0}, -SECOND_NS, {INT64_MAX, 0}}, /* for ever stays for ever */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
        struct timespec t = deadline_real(v[i].in, v[i].offset);

        assert_int_equal(t.tv_sec, v[i].out.tv_sec);
        assert_int_equal(t.tv_nsec, v[i].out.tv_nsec);
    }
}

static void test_clock_add(void **state)
{
    struct timespec t = {1000000000, 999999999};

    (void)state;
    for (int i = -1000; i < 1000; i++) {
        int64_t ns = i * 1234567890123LL;
        struct timespec u = t;

        clock_add(&u, ns);
        assert_in_range(u.tv_nsec, 0, SECOND_NS - 1);
        clock_add(&u, -ns);
        assert_int_equal(u.tv_sec, t.tv_sec);
        assert_int_equal(u.tv_nsec, t.tv_nsec);
    }
}

/* ---- the vDSO ---- */

static const struct vdso_wishes both = {.time = true, .offset_ns = -123456789000, .random = true};

/* This process's own. Size 0: none here. */
static size_t own_vdso(const uint8_t **ret)
{
    *ret = (const void *)getauxval(AT_SYSINFO_EHDR);
    return *ret ? vdso_size(*ret, 4096, (size_t)sysconf(_SC_PAGESIZE)) : 0;
}

static uint64_t symbol(const uint8_t *image, size_t size, const char *want)
{
    const Elf64_Ehdr *h = (const void *)image;
    const Elf64_Phdr *p = (const void *)(image + h->e_phoff);
    const Elf64_Sym *s = NULL;
    const char *names = NULL;

    for (unsigned i = 0; i < h->e_phnum; i++) {
        if (p[i].p_type != PT_DYNAMIC)
            continue;
        for (const Elf64_Dyn *d = (const void *)(image + p[i].p_vaddr); d->d_tag; d++) {
            if (d->d_tag == DT_SYMTAB)
                s = (const void *)(image + d->d_un.d_ptr);
            else if (d->d_tag == DT_STRTAB)
                names = (const void *)(image + d->d_un.d_ptr);
        }
    }
    for (size_t i = 1; s && (const char *)(s + i) < names; i++) {
        if (s[i].st_shndx && s[i].st_value < size && strcmp(names + s[i].st_name, want) == 0)
            return s[i].st_value;
    }
    return 0;
}

static void test_vdso_is_rewritten(void **state)
{
    const struct arch_vdso_names *n = &arch_vdso_names;
    struct arch_vdso_code code;
    struct vdso_patch *p;
    const uint8_t *image;
    size_t size = own_vdso(&image), changed = 0;
    uint64_t was, is;

    (void)state;
    if (!size)
        skip();
    arch_vdso_code(&code);
    assert_int_equal(vdso_patch_new(image, size, &both, &p), 0);
    assert_memory_equal(p->before, image, size);
    was = symbol(p->before, size, n->clock_gettime);
    is = symbol(p->after, size, n->clock_gettime);
    assert_int_equal(is + code.recall - code.clock_gettime, p->recall);
    assert_int_not_equal(was, is);
    assert_memory_equal(p->before + was, p->after + was, 64); /* the original stays */
    assert_int_equal(symbol(p->after, size, n->clock_getres), symbol(image, size, n->clock_getres));
    if (n->time)
        assert_int_equal(symbol(p->after, size, n->time) - is, code.time - code.clock_gettime);
    /* What is not in an extent is the same. */
    for (size_t i = 0, at = 0; i <= p->nextents; i++) {
        size_t to = i < p->nextents ? p->extent[i].at : size;

        assert_true(to >= at);
        assert_memory_equal(p->before + at, p->after + at, to - at);
        if (i < p->nextents) {
            at = to + p->extent[i].len;
            changed += p->extent[i].len;
        }
    }
    assert_true(changed >= code.size && changed < code.size + 2048);
    assert_memory_equal(p->after + p->mark_at, &p->mark, 8);
    assert_memory_not_equal(p->before + p->mark_at, &p->mark, 8);
    vdso_patch_free(p);
}

/* The numbers in the code, which no header goes into. */
static void test_vdso_code_numbers(void **state)
{
    struct arch_vdso_code c;
    const uint32_t nr = SYS_getrandom;
    const uint32_t mov_x8 = 0xd2800008u | nr << 5; /* aarch64 */
    uint8_t at[24];

    (void)state;
    arch_vdso_code(&c);
    memcpy(at, c.code + c.getrandom, sizeof(at));
    assert_true(memmem(at, sizeof(at), &nr, sizeof(nr)) ||
                memmem(at, sizeof(at), &mov_x8, sizeof(mov_x8)));
    assert_true(c.recall_end > c.recall && c.recall_end - c.recall == arch_syscall_insn_len);
}

/* Nothing that an image says is believed: only crashes and sanitizers would tell. */
static void test_vdso_broken(void **state)
{
    const uint8_t *image;
    size_t size = own_vdso(&image), page = (size_t)sysconf(_SC_PAGESIZE), understood = 0;
    uint8_t *copy = malloc(size + 1);
    unsigned seed = 1;

    (void)state;
    if (!size)
        skip();
    assert_int_equal(vdso_size("short", 5, page), 0);
    for (int round = 0; round < 20000; round++) {
        struct vdso_patch *p = NULL;

        memcpy(copy, image, size);
        for (int i = 0; i < 1 + round % 4; i++) {
            seed = seed * 1103515245 + 12345;
            copy[(seed >> 8) % 1400] = (uint8_t)(seed >> 20); /* headers, hashes, symbols */
        }
        if (vdso_size(copy, size, page) > 0 && vdso_size(copy, size, page) <= size &&
            vdso_patch_new(copy, size, &both, &p) == 0)
            understood++;
        vdso_patch_free(p);
    }
    assert_true(understood > 0);
    /* No room at all: refused. */
    memcpy(copy, image, size);
    ((Elf64_Phdr *)(void *)(copy + ((Elf64_Ehdr *)(void *)copy)->e_phoff))->p_memsz = size;
    assert_int_equal(vdso_patch_new(copy, size, &both, &(struct vdso_patch *){NULL}), -ENOSPC);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chacha20),           cmocka_unit_test(test_streams),
        cmocka_unit_test(test_streams_are_pruned), cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_clock_add),          cmocka_unit_test(test_vdso_is_rewritten),
        cmocka_unit_test(test_vdso_code_numbers),  cmocka_unit_test(test_vdso_broken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
