/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which write (or read) grant covers an object: the question Landlock answers in the kernel, asked
 * again for operations that Landlock does not govern (FG-03, FG-05) and for --explain. Identity is
 * (device, inode) of the granted object and of each ancestor, walked by "..", never a string.
 */
#pragma once

#include "policy/policy.h"

enum grant_bits { GRANT_READ = 1, GRANT_WRITE = 2 };

/* Does a grant name the file of this path or a directory it lies in? Links followed; false when there is no
 * such file. For deciding whether a feature is needed, never for access. */
bool grants_reach(const struct policy *p, const char *path);

struct grants; /* immutable after grants_new */

int grants_new(const struct policy *p, struct grants **ret, struct error *err);
void grants_free(struct grants *g);
/* Union of the grants on the directory `dir_fd` (O_PATH is enough) and its ancestors. Negative
 * errno when the walk fails: treat as no grant. */
int grants_of_dir(const struct grants *g, int dir_fd);
/* Grants of a non-directory: its own (granted files) plus those of its parent directory. parent_fd
 * may be -1, then the parent is found from the object's location and re-checked by identity;
 * objects without a name (unlinked, pipes, sockets) have none. */
int grants_of_object(const struct grants *g, int fd, int parent_fd, const char *name);
