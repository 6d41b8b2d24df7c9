/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsing and rewriting of vDSO images, see vdso.h. Pure; any thread. Offsets in the image are not
 * trusted.
 */
#include "determinism/vdso.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"

#define EXTENT_GAP 128 /* differences closer than this are written in one go */
#define CODE_ALIGN 16

struct image {
    uint8_t *b;
    size_t size;
    uint64_t symtab, strtab, strsz, hash, gnu_hash; /* offsets */
    size_t nsyms;
    size_t load_end, file_end;
};

static bool image_has(const struct image *m, uint64_t at, uint64_t len)
{
    return at <= m->size && len <= m->size - at;
}

static bool header_is_usable(const Elf64_Ehdr *h)
{
    return memcmp(h->e_ident, ELFMAG, SELFMAG) == 0 && h->e_ident[EI_CLASS] == ELFCLASS64 &&
           h->e_type == ET_DYN && h->e_phentsize == sizeof(Elf64_Phdr) && h->e_phnum <= 32;
}

/* End of everything that the headers speak of: segments, and the section headers behind them. */
static bool image_ends(const uint8_t *b, size_t n, uint64_t *ret_load, uint64_t *ret_file)
{
    Elf64_Ehdr h;
    uint64_t load = 0, sections;

    if (n < sizeof(h))
        return false;
    memcpy(&h, b, sizeof(h));
    if (!header_is_usable(&h) || h.e_phoff > n || (n - h.e_phoff) / sizeof(Elf64_Phdr) < h.e_phnum)
        return false;
    for (unsigned i = 0; i < h.e_phnum; i++) {
        Elf64_Phdr p;

        memcpy(&p, b + h.e_phoff + i * sizeof(p), sizeof(p));
        if (p.p_type != PT_LOAD)
            continue;
        /* One segment, mapped as it lies in the file. */
        if (load || p.p_offset != 0 || p.p_vaddr != 0 || p.p_memsz > VDSO_MAX_SIZE)
            return false;
        load = MAX(p.p_memsz, sizeof(h));
    }
    if (h.e_shoff > VDSO_MAX_SIZE)
        return false;
    sections = h.e_shoff + (uint64_t)h.e_shnum * h.e_shentsize;
    *ret_load = load;
    *ret_file = MAX(load, sections);
    return load > 0;
}

size_t vdso_size(const void *head, size_t n, size_t page)
{
    uint64_t load, file;

    if (!image_ends(head, n, &load, &file) || file > VDSO_MAX_SIZE)
        return 0;
    return (size_t)((file + page - 1) & ~(uint64_t)(page - 1));
}

static bool image_dynamic(struct image *m, uint64_t at, uint64_t len)
{
    Elf64_Dyn d;

    if (!image_has(m, at, len))
        return false;
    for (uint64_t i = 0; i + sizeof(d) <= len; i += sizeof(d)) {
        memcpy(&d, m->b + at + i, sizeof(d));
        switch (d.d_tag) {
        case DT_NULL: return true;
        case DT_SYMTAB: m->symtab = d.d_un.d_ptr; break;
        case DT_STRTAB: m->strtab = d.d_un.d_ptr; break;
        case DT_STRSZ: m->strsz = d.d_un.d_val; break;
        case DT_HASH: m->hash = d.d_un.d_ptr; break;
        case DT_GNU_HASH: m->gnu_hash = d.d_un.d_ptr; break;
        default: break;
        }
    }
    return true;
}

static bool word_at(const struct image *m, uint64_t at, uint32_t *ret)
{
    if (!image_has(m, at, sizeof(*ret)))
        return false;
    memcpy(ret, m->b + at, sizeof(*ret));
    return true;
}

/* The table of a GNU hash ends where the chain of the last bucket does. */
static bool gnu_hash_count(const struct image *m, uint32_t *ret)
{
    uint32_t nbuckets, first, bloom, last = 0, hash = 0;
    uint64_t buckets, chains;

    if (!word_at(m, m->gnu_hash, &nbuckets) || !word_at(m, m->gnu_hash + 4, &first) ||
        !word_at(m, m->gnu_hash + 8, &bloom))
        return false;
    buckets = m->gnu_hash + 16 + 8 * (uint64_t)bloom;
    chains = buckets + 4 * (uint64_t)nbuckets;
    if (!image_has(m, buckets, chains - buckets))
        return false;
    for (uint32_t i = 0; i < nbuckets; i++) {
        uint32_t b;

        if (!word_at(m, buckets + 4 * (uint64_t)i, &b))
            return false;
        last = MAX(last, b);
    }
    if (last < first)
        return false;
    while (!(hash & 1)) {
        if (!word_at(m, chains + 4 * (uint64_t)(last - first), &hash))
            return false;
        last++;
    }
    *ret = last;
    return true;
}

static bool image_parse(struct image *m)
{
    uint64_t load, file;
    uint32_t n = 0;
    Elf64_Ehdr h;

    if (!image_ends(m->b, m->size, &load, &file) || file > m->size)
        return false;
    m->load_end = (size_t)load;
    m->file_end = (size_t)file;
    memcpy(&h, m->b, sizeof(h));
    for (unsigned i = 0; i < h.e_phnum; i++) {
        Elf64_Phdr p;

        memcpy(&p, m->b + h.e_phoff + i * sizeof(p), sizeof(p));
        if (p.p_type == PT_DYNAMIC && !image_dynamic(m, p.p_vaddr, p.p_filesz))
            return false;
    }
    if (!m->symtab || !m->strtab || !image_has(m, m->strtab, m->strsz))
        return false;
    if (m->hash ? !word_at(m, m->hash + 4, &n) : !m->gnu_hash || !gnu_hash_count(m, &n))
        return false;
    m->nsyms = n;
    return n <= 4096 && image_has(m, m->symtab, n * sizeof(Elf64_Sym));
}

static bool symbol_is(const struct image *m, const Elf64_Sym *s, const char *name)
{
    size_t len = strlen(name) + 1;

    return s->st_shndx != SHN_UNDEF && s->st_name < m->strsz && len <= m->strsz - s->st_name &&
           memcmp(m->b + m->strtab + s->st_name, name, len) == 0;
}

static void symbol_read(const struct image *m, size_t i, Elf64_Sym *ret)
{
    memcpy(ret, m->b + m->symtab + i * sizeof(*ret), sizeof(*ret));
}

/* Where the function is, 0 when there is none. */
static uint64_t image_find(const struct image *m, const char *name)
{
    Elf64_Sym s;

    for (size_t i = 0; name && i < m->nsyms; i++) {
        symbol_read(m, i, &s);
        if (symbol_is(m, &s, name))
            return s.st_value;
    }
    return 0;
}

/* Every name of the function that is at `from` now leads to `to`; 0: to nothing, as if the kernel had
 * no such function. */
static void image_redirect(struct image *m, uint64_t from, uint64_t to)
{
    Elf64_Sym s;

    for (size_t i = 0; from && i < m->nsyms; i++) {
        symbol_read(m, i, &s);
        if (s.st_value != from || s.st_shndx == SHN_UNDEF || s.st_shndx == SHN_ABS)
            continue;
        s.st_value = to;
        if (!to)
            s.st_shndx = SHN_UNDEF;
        memcpy(m->b + m->symtab + i * sizeof(s), &s, sizeof(s));
    }
}

static bool is_blank(const struct image *m, size_t at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (m->b[at + i])
            return false;
    }
    return true;
}

/* Room for the code: behind everything, or over the section headers, which nothing reads at run time
 * but debuggers. Rest of the last page. */
static size_t image_room(struct image *m, size_t need)
{
    size_t at = (m->file_end + CODE_ALIGN - 1) & ~(size_t)(CODE_ALIGN - 1);
    Elf64_Ehdr h;

    if (image_has(m, at, need) && is_blank(m, at, need))
        return at;
    at = (m->load_end + CODE_ALIGN - 1) & ~(size_t)(CODE_ALIGN - 1);
    if (!image_has(m, at, need))
        return 0;
    memcpy(&h, m->b, sizeof(h));
    h.e_shoff = 0;
    h.e_shnum = 0;
    h.e_shstrndx = SHN_UNDEF;
    memcpy(m->b, &h, sizeof(h));
    return at;
}

static void image_rewrite(struct image *m, size_t at, const struct arch_vdso_code *c,
                          const struct vdso_wishes *w)
{
    const struct arch_vdso_names *names = &arch_vdso_names;
    uint64_t clock = image_find(m, names->clock_gettime);
    uint64_t day = image_find(m, names->gettimeofday);
    uint64_t time = image_find(m, names->time);
    uint64_t random = image_find(m, names->getrandom);
    struct arch_vdso_slots slots = {
        .clock_gettime = (int64_t)(clock - at),
        .gettimeofday = (int64_t)(day - at),
        .getrandom = (int64_t)(random - at),
        .seconds = w->offset_ns / 1000000000,
        .nanoseconds = w->offset_ns % 1000000000,
    };

    if (slots.nanoseconds < 0) {
        slots.nanoseconds += 1000000000;
        slots.seconds--;
    }
    slots.microseconds = slots.nanoseconds / 1000;
    memcpy(m->b + at, c->code, c->size);
    memcpy(m->b + at, &slots, sizeof(slots));
    if (w->time) {
        image_redirect(m, clock, at + c->clock_gettime);
        image_redirect(m, day, at + c->gettimeofday);
        /* Ours asks clock_gettime: without it the name must lead nowhere. */
        image_redirect(m, time, clock && c->time ? at + c->time : 0);
    }
    if (w->random)
        image_redirect(m, random, at + c->getrandom);
}

static int patch_compare(struct vdso_patch *p)
{
    size_t n = 0;

    for (size_t at = 0; at < p->size; at += 8) {
        if (memcmp(p->before + at, p->after + at, 8) == 0)
            continue;
        if (!p->mark_at && at >= sizeof(Elf64_Ehdr)) {
            p->mark_at = at;
            memcpy(&p->mark, p->after + at, sizeof(p->mark));
        }
        if (n > 0 && at - (p->extent[n - 1].at + p->extent[n - 1].len) < EXTENT_GAP) {
            p->extent[n - 1].len = (uint32_t)(at + 8 - p->extent[n - 1].at);
        } else if (n == VDSO_MAX_EXTENTS) {
            return -ENOSPC;
        } else {
            p->extent[n].at = (uint32_t)at;
            p->extent[n++].len = 8;
        }
    }
    p->nextents = n;
    return p->mark_at ? 0 : -EINVAL; /* nothing to rewrite? then what is this? */
}

static int patch_make(struct vdso_patch *p, const struct vdso_wishes *w)
{
    struct image m = {.b = p->after, .size = p->size};
    struct arch_vdso_code c;
    size_t at;

    if (!image_parse(&m))
        return -EINVAL;
    arch_vdso_code(&c);
    at = image_room(&m, c.size);
    if (!at)
        return -ENOSPC;
    image_rewrite(&m, at, &c, w);
    p->recall = at + c.recall;
    p->recall_end = at + c.recall_end;
    return patch_compare(p);
}

int vdso_patch_new(const void *image, size_t size, const struct vdso_wishes *w,
                   struct vdso_patch **ret)
{
    struct vdso_patch *p = calloc(1, sizeof(*p));
    int r = -ENOMEM;

    if (!p)
        return r;
    p->size = size;
    p->before = malloc(size);
    p->after = malloc(size);
    if (p->before && p->after) {
        memcpy(p->before, image, size);
        memcpy(p->after, image, size);
        r = patch_make(p, w);
    }
    if (r < 0) {
        vdso_patch_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

void vdso_patch_free(struct vdso_patch *p)
{
    if (!p)
        return;
    free(p->before);
    free(p->after);
    free(p);
}
