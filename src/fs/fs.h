/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File system features of the dispatcher. Which calls each one takes is in README.md. Handlers run
 * in receiver threads; see supervisor/supervisor.h for the contract.
 */
#pragma once

#include "supervisor/supervisor.h"

/* FG-03: metadata changes only under write grants. */
extern const struct feature fs_metadata_feature;
/* FG-04: --fs-deny. */
extern const struct feature fs_deny_feature;
/* PV-01..03, PV-05: foreign processes and host secrets hidden when the policy grants /proc. */
extern const struct feature fs_procview_feature;

/* DD-01: --deterministic-dirs. Before proc-view, whose filter it applies. */
extern const struct feature fs_dirs_feature;
/* Does the policy grant a path that contains /proc or lies on a procfs? */
bool fs_grants_proc(const struct policy *p);
/* Does it grant this file, or a directory above? `file` has no links. */
bool fs_grants_path(const struct policy *p, const char *file);

/* Is the object (or, with fd == -1, the name within the directory parent_fd) denied? True as well
 * when the question cannot be answered. False when nothing is denied by this policy. fd may be any
 * descriptor, parent_fd -1 and name NULL when fd is given. For src/net: sockets by path. */
bool fs_deny_covers(const struct request *r, int fd, int parent_fd, const char *name);
