/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes what is read from files and messages that the command made or chose: programs (ELF headers),
 * rtnetlink requests, tables of mounts, files of /proc, records of a layer's index and journal. The first byte
 * chooses. Checked: no crash, and that what comes back keeps its bounds. With libFuzzer: clang -fsanitize=fuzzer.
 * Without: replay.c gives it a main().
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/cow/internal.h"
#include "fs/mount_table.h"
#include "fs/program.h"
#include "net/nl.h"
#include "sys/procfile.h"

#include "fuzz.h"

/* A file with this content. */
static int file_of(const void *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    CHECK(fd >= 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    return fd;
}

static char *text_of(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    CHECK(text);
    memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

static void try_program(const uint8_t *data, size_t size)
{
    struct program *p = malloc(sizeof(*p));
    int fd = file_of(data, size);

    CHECK(p);
    if (program_read(fd, p) == 0) {
        CHECK(p->size == size && strlen(p->loader) < sizeof(p->loader));
        if (p->loader[0])
            CHECK(p->loader_at + p->loader_size <= size && p->header_at < size &&
                  strlen(p->loader) < p->loader_size);
    }
    free(p);
    close(fd);
}

static void count_answer(void *ctx, const void *msg, size_t len)
{
    uint32_t first;

    CHECK(len >= 16 && len <= NL_ANSWER_MAX);
    memcpy(&first, msg, sizeof(first));
    CHECK(first >= 16 && first <= len);
    ++*(unsigned *)ctx;
}

static void try_netlink(const uint8_t *data, size_t size)
{
    const struct nl_view view = {.portid = 7, .ipv6 = size & 1};
    unsigned n = 0;
    /* At an address of its own, so that a sanitizer sees its end. */
    void *copy = malloc(size + 1);

    CHECK(copy);
    memcpy(copy, data, size);
    nl_answer(&view, copy, size, count_answer, &n);
    CHECK(n <= 16 * NL_REQUESTS_PER_DATAGRAM);
    free(copy);
}

static void try_mounts(const uint8_t *data, size_t size)
{
    char *text = text_of(data, size);
    struct mount_table t = {0};
    struct buf out = {0};

    mount_table_parse(&t, text);
    mount_table_show_beneath(&t, "/");
    mount_table_hide_beneath(&t, "/proc");
    for (size_t i = 0; i < t.n; i++)
        mount_table_show(&t, t.rows[i].id);
    for (int format = MOUNTS; format <= MOUNTSTATS; format++)
        CHECK(mount_table_render(&t, (enum mount_format)format, &out) == 0);
    buf_fini(&out);
    mount_table_fini(&t);
    free(text);
}

static void try_proc(const uint8_t *data, size_t size)
{
    char *text = text_of(data, size);
    long value;

    (void)sys_file_field(text, "Tgid", 10, &value);
    (void)sys_file_field(text, "Umask", 8, &value);
    (void)sys_file_field(text, "flags", 8, &value);
    free(text);
}

static int read_record(enum cow_record type, struct cow_get *g, void *arg)
{
    struct cow_attr a;

    ++*(unsigned *)arg;
    (void)cow_get_u32(g);
    if (type % 2) {
        const char *s = cow_get_str(g);

        CHECK(strlen(s) <= (size_t)(g->end - g->p) + PATH_MAX * 16u);
    } else {
        cow_get_attr(g, &a);
        (void)cow_get_u64(g);
    }
    CHECK(g->p <= g->end);
    return 0;
}

/* Bytes as they are, then the same as the payload of a record with a valid sum. */
static void try_records(const uint8_t *data, size_t size)
{
    struct buf payload = {0}, out = {0};
    unsigned n = 0;
    int fd = file_of(data, size);

    (void)cow_read_records(fd, read_record, &n);
    CHECK(n <= size);
    close(fd);
    buf_add(&payload, data, size);
    cow_frame(&out, (enum cow_record)(size % 8), &payload);
    if (buf_error(&out) == 0) {
        fd = file_of(out.data, out.len);
        n = 0;
        (void)cow_read_records(fd, read_record, &n);
        CHECK(n == 1);
        close(fd);
    }
    buf_fini(&payload);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 5) {
    case 0: try_program(data + 1, size - 1); break;
    case 1: try_netlink(data + 1, size - 1); break;
    case 2: try_mounts(data + 1, size - 1); break;
    case 3: try_proc(data + 1, size - 1); break;
    default: try_records(data + 1, size - 1); break;
    }
    return 0;
}
