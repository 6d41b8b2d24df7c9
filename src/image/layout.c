/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OCI image layout (opencontainers/image-spec: image-layout.md, image-index.md, manifest.md,
 * config.md): from index.json to the manifest for this machine. All of it is hostile: sizes are
 * bounded, digests checked before a byte is interpreted, file names made of checked digests only.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "image/image.h"

#define REF_NAME "org.opencontainers.image.ref.name"

static int layout_bad(struct error *err, const char *what, const char *why)
{
    return error_set(err, ERROR_SETUP, -EINVAL, "image", "%s: %s", what, why);
}

/* ---- blobs ---- */

int image_blob_open(int layout_fd, const struct image_blob *b, struct error *err)
{
    char path[sizeof("blobs/sha256/") + DIGEST_LEN];
    int fd;

    snprintf(path, sizeof(path), "blobs/sha256/%s", b->digest);
    fd = openat(layout_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, ERROR_SETUP, -errno, "image", "%s: %s", path, error_text(errno));
    return fd;
}

/* At most max bytes, NUL-terminated. */
static int read_all(int fd, size_t max, char **ret, size_t *ret_n)
{
    _cleanup_free_ char *data = NULL;
    struct stat st;
    size_t n = 0;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (st.st_size < 0 || (uint64_t)st.st_size > max)
        return -EFBIG;
    data = malloc((size_t)st.st_size + 1);
    if (!data)
        return -ENOMEM;
    while (n < (size_t)st.st_size) {
        ssize_t k = read(fd, data + n, (size_t)st.st_size - n);

        if (k < 0)
            return -errno;
        if (k == 0)
            break;
        n += (size_t)k;
    }
    data[n] = '\0';
    *ret = STEAL_PTR(data);
    *ret_n = n;
    return 0;
}

static bool digest_is(const void *data, size_t n, const char *hex)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    char text[DIGEST_LEN + 1];
    struct sha256_ctx hash;

    sha256_init(&hash);
    sha256_update(&hash, n, data);
    sha256_digest(&hash, sizeof(digest), digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return strcmp(text, hex) == 0;
}

static json_t *parse(const char *data, size_t n, const char *what, struct error *err)
{
    json_error_t e;
    json_t *j = json_loadb(data, n, JSON_REJECT_DUPLICATES, &e);

    if (!j)
        error_set(err, ERROR_SETUP, -EINVAL, "image", "%s: line %d: %.200s", what, e.line, e.text);
    else if (!json_is_object(j))
        layout_bad(err, what, "not a JSON object");
    if (j && !json_is_object(j)) {
        json_decref(j);
        return NULL;
    }
    return j;
}

static json_t *read_blob(int layout_fd, const struct image_blob *b, const char *what,
                         struct error *err)
{
    _cleanup_close_ int fd = image_blob_open(layout_fd, b, err);
    _cleanup_free_ char *data = NULL;
    size_t n;
    int r;

    if (fd < 0)
        return NULL;
    r = read_all(fd, IMAGE_JSON_MAX, &data, &n);
    if (r < 0) {
        error_set(err, ERROR_SETUP, r, "image", "%s %s: %s", what, b->digest, error_text(r));
        return NULL;
    }
    if (n != b->size || !digest_is(data, n, b->digest)) {
        error_set(err, ERROR_SETUP, -EINVAL, "image",
                  "%s %s: the content does not have this digest and size", what, b->digest);
        return NULL;
    }
    return parse(data, n, what, err);
}

/* ---- descriptors ---- */

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static int descriptor_read(const json_t *d, struct image_blob *ret, struct error *err)
{
    const char *digest = text_of(d, "digest");
    const json_t *size = json_object_get(d, "size");

    if (!digest || strncmp(digest, "sha256:", 7) != 0 || strlen(digest + 7) != DIGEST_LEN ||
        strspn(digest + 7, "0123456789abcdef") != DIGEST_LEN)
        return layout_bad(err, "descriptor", "no sha256 digest");
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return layout_bad(err, digest, "no size");
    memcpy(ret->digest, digest + 7, sizeof(ret->digest));
    ret->size = (uint64_t)json_integer_value(size);
    return 0;
}

static bool descriptor_is_index(const json_t *d)
{
    const char *type = text_of(d, "mediaType");

    return type && (strcmp(type, "application/vnd.oci.image.index.v1+json") == 0 ||
                    strcmp(type, "application/vnd.docker.distribution.manifest.list.v2+json") == 0);
}

/* 0: another machine's; 1: none said; 2: ours. */
static int descriptor_fits(const json_t *d, const char *machine)
{
    const json_t *platform = json_object_get(d, "platform");
    const char *arch = text_of(platform, "architecture");
    const char *os = text_of(platform, "os");

    if (!arch)
        return 1;
    return strcmp(arch, machine) == 0 && (!os || strcmp(os, "linux") == 0) ? 2 : 0;
}

/* ---- choosing a manifest ---- */

/* The descriptors of an index that have this tag (NULL: any) and fit best. */
static const json_t *index_choose(const json_t *index, const char *tag, const char *machine,
                                  size_t *ret_tagged, size_t *ret_best)
{
    const json_t *list = json_object_get(index, "manifests"), *d, *chosen = NULL;
    int best = 0;
    size_t i;

    *ret_tagged = *ret_best = 0;
    json_array_foreach(list, i, d)
    {
        const char *name = text_of(json_object_get(d, "annotations"), REF_NAME);
        int fit = descriptor_fits(d, machine);

        if (tag && (!name || strcmp(name, tag) != 0))
            continue;
        ++*ret_tagged;
        if (fit > best) {
            best = fit;
            *ret_best = 0;
        }
        if (fit && fit == best && ++*ret_best == 1)
            chosen = d;
    }
    return chosen;
}

static int index_pick(const json_t *index, const char *tag, const char *machine, const json_t **ret,
                      struct error *err)
{
    size_t tagged, best;

    *ret = index_choose(index, tag, machine, &tagged, &best);
    if (!tagged && tag)
        return error_set(err, ERROR_SETUP, -ENOENT, "--image", "no image has the tag \"%.100s\"",
                         tag);
    if (!tagged)
        return layout_bad(err, "index", "lists no image");
    if (!*ret)
        return error_set(err, ERROR_SETUP, -ENOEXEC, "--image",
                         "there is no variant for this machine (linux/%s)", machine);
    if (best > 1 && !tag)
        return error_set(err, ERROR_SETUP, -EINVAL, "--image",
                         "%zu images are possible: say which one by its tag", best);
    return 0;
}

static json_t *find_manifest(int layout_fd, const char *tag, const char *machine, json_t *index,
                             struct image *ret, struct error *err)
{
    /* Takes over `index`. */
    for (unsigned depth = 0; index && depth < IMAGE_NESTED_MAX; depth++) {
        const json_t *d;
        bool nested;
        json_t *next = NULL;

        if (index_pick(index, depth ? NULL : tag, machine, &d, err) == 0 &&
            descriptor_read(d, &ret->manifest, err) == 0) {
            nested = descriptor_is_index(d);
            next = read_blob(layout_fd, &ret->manifest, nested ? "index" : "manifest", err);
            if (next && !nested) {
                json_decref(index);
                return next;
            }
        }
        json_decref(index);
        index = next;
    }
    if (index) {
        json_decref(index);
        layout_bad(err, "index", "indexes within indexes within indexes");
    }
    return NULL;
}

/* ---- manifest and configuration ---- */

static int read_layers(const json_t *manifest, struct image *ret, struct error *err)
{
    const json_t *list = json_object_get(manifest, "layers"), *d;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) > IMAGE_LAYERS_MAX)
        return layout_bad(err, "manifest", "no list of at most 1024 layers");
    ret->layers = calloc(json_array_size(list) + 1, sizeof(*ret->layers));
    if (!ret->layers)
        return error_set(err, ERROR_SETUP, -ENOMEM, "image", "out of memory");
    json_array_foreach(list, i, d)
    {
        int r = descriptor_read(d, &ret->layers[i], err);

        if (r < 0)
            return r;
        ret->nlayers++;
    }
    return 0;
}

static int read_config(int layout_fd, const json_t *manifest, const char *machine,
                       struct image *ret, struct error *err)
{
    const char *arch;
    json_t *config;
    int r = descriptor_read(json_object_get(manifest, "config"), &ret->config, err);

    if (r < 0)
        return r;
    config = read_blob(layout_fd, &ret->config, "configuration", err);
    if (!config)
        return -EINVAL;
    arch = text_of(config, "architecture");
    if (arch && strcmp(arch, machine) != 0)
        r = error_set(err, ERROR_SETUP, -ENOEXEC, "--image",
                      "the image is for %.40s, this machine is %s", arch, machine);
    else
        ret->settings = json_incref(json_object_get(config, "config"));
    json_decref(config);
    return r;
}

int image_read(int layout_fd, const char *tag, const char *machine, struct image *ret,
               struct error *err)
{
    _cleanup_close_ int fd = openat(layout_fd, "index.json", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    _cleanup_free_ char *data = NULL;
    json_t *index, *manifest;
    size_t n;
    int r;

    *ret = (struct image){0};
    r = fd < 0 ? -errno : read_all(fd, IMAGE_JSON_MAX, &data, &n);
    if (r < 0)
        return error_set(err, ERROR_SETUP, r, "--image", "not an OCI image layout: index.json: %s",
                         error_text(r));
    index = parse(data, n, "index.json", err);
    if (!index)
        return -EINVAL;
    manifest = find_manifest(layout_fd, tag, machine, index, ret, err);
    if (!manifest)
        return -EINVAL;
    r = read_layers(manifest, ret, err);
    if (r == 0)
        r = read_config(layout_fd, manifest, machine, ret, err);
    json_decref(manifest);
    return r;
}

void image_fini(struct image *m)
{
    free(m->layers);
    json_decref(m->settings);
    *m = (struct image){0};
}
