/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandlock-image: finds a container image, verifies it and unpacks it into a cache, for --image
 * (CR-05). A program of its own, started when needed: it links libarchive, jansson and nettle, which
 * neither the command nor the supervisor does. One thread. Every byte of an image is hostile; the
 * program runs under Landlock and writes beneath its cache only.
 */
#pragma once

#include <archive.h>
#include <jansson.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <stdio.h>

#include "base/error.h"
#include "base/util.h"

#define DIGEST_LEN 64 /* sha256 in hexadecimal */

/* ---- bounds ---- */
#define IMAGE_JSON_MAX (16u << 20) /* index, manifest, configuration */
#define IMAGE_LAYERS_MAX 1024u     /* of one image */
#define IMAGE_ENTRIES_MAX 8000000u /* of all layers */
#define IMAGE_BYTES_MAX (UINT64_C(64) << 30)
#define IMAGE_DEPTH_MAX 256u /* components of a name */
#define IMAGE_NESTED_MAX 4u  /* an index may list an index */

/* ---- where an image comes from ---- */
enum image_kind { IMAGE_OCI, IMAGE_OCI_ARCHIVE, IMAGE_DOCKER, IMAGE_DOCKER_DAEMON };
struct image_ref {
    enum image_kind kind;
    char *path; /* directory, file, or the reference behind the scheme */
    char *tag;  /* NULL: none was given */
};
/* Takes apart docker://REF, docker-daemon:REF, oci:DIR[:TAG], oci-archive:FILE[:TAG]. 0 or -errno. */
int image_ref_parse(const char *text, struct image_ref *ret, struct error *err);
void image_ref_fini(struct image_ref *r);
/* docker:// and docker-daemon: skopeo copies the image into the OCI layout at `dir`. */
int image_fetch(const struct image_ref *r, const char *machine, const char *dir, struct error *err);

/* ---- an OCI image layout ---- */
struct image_blob {
    char digest[DIGEST_LEN + 1];
    uint64_t size;
};
struct image {
    struct image_blob manifest, config;
    struct image_blob *layers;
    size_t nlayers;
    json_t *settings; /* the "config" object of the configuration, or NULL */
};
/* Finds the manifest for this machine ("amd64", "arm64") in the layout and reads it, its
 * configuration verified too. 0 or -errno. */
int image_read(int layout_fd, const char *tag, const char *machine, struct image *ret,
               struct error *err);
void image_fini(struct image *m);
/* Descriptor of a blob. Not verified yet. */
int image_blob_open(int layout_fd, const struct image_blob *b, struct error *err);

/* ---- unpacking ---- */
struct unpack {
    int root_fd;             /* the tree, O_PATH or not */
    uint64_t bytes, entries; /* of all layers so far */
    uint64_t skipped;        /* device nodes */
    void (*progress)(void *arg, uint64_t bytes);
    void *arg;
};
/* Applies one layer; its content is verified on the way, and a wrong digest fails at its end: what
 * was unpacked is then to be thrown away. */
int unpack_layer(struct unpack *u, int blob_fd, const struct image_blob *b, struct error *err);
/* The same for an archive that is not a layer (oci-archive): no digest, no whiteouts. */
int unpack_archive(struct unpack *u, int fd, const char *what, struct error *err);

/* The image's user as "UID:GID", names looked up in its own files. 0 or -errno. */
int image_user(int root_fd, const char *user, char ret[32], struct error *err);
/* The home directory of user "UID:..." in the image's own files. False: it names none, or no absolute path. */
bool image_home(int root_fd, const char *ids, char *ret, size_t size);

/* ---- trees ---- */
/* Removes a name and what lies beneath it, without following links. 0 or -errno. */
int tree_remove(int dir_fd, const char *name);
/* Removes what lies in the directory of `dir_fd` and is not in the set. Takes dir_fd over. */
struct inode_set;
int tree_clear(int dir_fd, const struct inode_set *keep);

/* Inodes seen, for opaque directories: what a layer has made itself stays. */
struct inode_set {
    uint64_t *slots; /* 0: free */
    size_t n, capacity;
};
int inode_set_add(struct inode_set *s, uint64_t ino);
bool inode_set_has(const struct inode_set *s, uint64_t ino);
void inode_set_fini(struct inode_set *s);
