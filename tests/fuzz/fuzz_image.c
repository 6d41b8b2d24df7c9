/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes what --image reads of an image: index, manifest, configuration (the first byte says which, the
 * others are well formed around it and every digest is right), a layer, the image's passwd. Checked: no
 * crash, and an unpacked layer leaves nothing outside its root. See fuzz_net.c for how it is run.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "image/image.h"

#include "fuzz.h"

#define ROOM (UINT64_C(1) << 20) /* bytes that a layer may unpack */

static int top_fd = -1;
static char top_path[] = "/tmp/sandlock-fuzz.XXXXXX";

static void clear_top(void)
{
    int fd = openat(top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0)
        tree_clear(fd, NULL);
}

static void remove_top(void)
{
    clear_top();
    rmdir(top_path);
}

static void make_top(void)
{
    CHECK(mkdtemp(top_path));
    top_fd = open(top_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(top_fd >= 0);
    atexit(remove_top);
}

static void put_file(const char *path, const void *data, size_t size)
{
    int fd = openat(top_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

/* A blob of these bytes: its descriptor, as JSON. */
static void put_blob(const void *data, size_t size, struct buf *out, struct image_blob *ret)
{
    char path[128];
    uint8_t digest[SHA256_DIGEST_SIZE];
    struct sha256_ctx hash;

    sha256_init(&hash);
    sha256_update(&hash, size, data);
    sha256_digest(&hash, sizeof(digest), digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(ret->digest + 2 * i, 3, "%02x", digest[i]);
    ret->size = size;
    snprintf(path, sizeof(path), "blobs/sha256/%s", ret->digest);
    put_file(path, data, size);
    buf_addf(out, "{\"digest\":\"sha256:%s\",\"size\":%zu}", ret->digest, size);
}

/* kind 0: index.json, 1: the manifest, 2: the configuration, 3: an index in the index. */
static void try_layout(int kind, const uint8_t *data, size_t size)
{
    static const char plain[] = "{\"config\":{\"Cmd\":[\"sh\"]}}";
    _cleanup_buf_ struct buf config = {0}, manifest = {0}, index = {0}, empty = {0};
    struct image_blob blob;
    struct image m;
    struct error err;

    CHECK(mkdirat(top_fd, "blobs", 0700) == 0 && mkdirat(top_fd, "blobs/sha256", 0700) == 0);
    if (kind == 2)
        put_blob(data, size, &config, &blob);
    else
        put_blob(plain, strlen(plain), &config, &blob);
    put_blob("", 0, &empty, &blob);
    buf_addf(&manifest, "{\"config\":%s,\"layers\":[%s]}", buf_cstr(&config), buf_cstr(&empty));
    buf_adds(&index, "{\"manifests\":[");
    if (kind == 1 || kind == 3) {
        put_blob(data, size, &index, &blob);
        if (kind == 3) { /* it is told by its type */
            index.len--;
            buf_adds(&index, ",\"mediaType\":\"application/vnd.oci.image.index.v1+json\"}");
        }
    } else {
        put_blob(manifest.data, manifest.len, &index, &blob);
    }
    buf_adds(&index, "]}");
    CHECK(buf_error(&index) == 0);
    put_file("index.json", kind == 0 ? data : (const uint8_t *)index.data,
             kind == 0 ? size : index.len);
    if (image_read(top_fd, NULL, "amd64", &m, &err) == 0)
        CHECK(m.nlayers <= IMAGE_LAYERS_MAX && (kind || strlen(m.manifest.digest) == DIGEST_LEN));
    image_fini(&m);
}

static void try_layer(const uint8_t *data, size_t size, bool whiteouts)
{
    struct unpack u = {.bytes = IMAGE_BYTES_MAX - ROOM, .entries = IMAGE_ENTRIES_MAX - 1000};
    _cleanup_buf_ struct buf ignored = {0};
    struct image_blob blob;
    struct error err;
    struct stat st;
    int fd;

    CHECK(mkdirat(top_fd, "blobs", 0700) == 0 && mkdirat(top_fd, "blobs/sha256", 0700) == 0);
    CHECK(mkdirat(top_fd, "outside", 0700) == 0 && mkdirat(top_fd, "root", 0700) == 0);
    put_file("outside/canary", "x", 1);
    put_blob(data, size, &ignored, &blob);
    fd = image_blob_open(top_fd, &blob, &err);
    u.root_fd = openat(top_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0 && u.root_fd >= 0);
    if (whiteouts)
        (void)unpack_layer(&u, fd, &blob, &err);
    else
        (void)unpack_archive(&u, fd, "archive", &err);
    close(fd);
    close(u.root_fd);
    CHECK(u.bytes <= IMAGE_BYTES_MAX);
    CHECK(fstatat(top_fd, "outside/canary", &st, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK(st.st_size == 1 && st.st_nlink == 1 && (st.st_mode & 07777) == 0600);
    CHECK(fstatat(top_fd, "outside", &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink == 2);
    CHECK(unlinkat(top_fd, "outside/canary", 0) == 0 &&
          unlinkat(top_fd, "outside", AT_REMOVEDIR) == 0);
    /* Nothing else came: root, blobs. */
    CHECK(fstatat(top_fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_nlink == 4);
}

static void try_user(const uint8_t *data, size_t size)
{
    char word[40] = "", ids[32], home[64];
    size_t n = size > 0 ? data[0] % (sizeof(word) - 1) : 0;
    struct error err;

    n = n < size ? n : size;
    memcpy(word, data, n);
    CHECK(mkdirat(top_fd, "etc", 0700) == 0);
    put_file("etc/passwd", data + n, size - n);
    put_file("etc/group", data + n, size - n);
    if (image_user(top_fd, word, ids, &err) == 0) {
        CHECK(strspn(ids, "0123456789:") == strlen(ids));
        if (image_home(top_fd, ids, home, sizeof(home)))
            CHECK(home[0] == '/' && strlen(home) < sizeof(home));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    if (top_fd < 0)
        make_top();
    switch (data[0] % 8) {
    case 4: try_layer(data + 1, size - 1, true); break;
    case 5: try_layer(data + 1, size - 1, false); break;
    case 6:
    case 7: try_user(data + 1, size - 1); break;
    default: try_layout(data[0] % 8, data + 1, size - 1); break;
    }
    clear_top();
    return 0;
}
