/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files whose content is the sandbox's own. An open of such a file yields a sealed, read-only copy of
 * what render() says at that moment, whatever spelling led to it: the resolved object is compared
 * (PV-05). Only where the policy lets the command read the file. When rendering fails the open fails
 * (EIO): never the real content. While the content stays the same, so does the copy: its inode number is
 * also that of the path. Receiver threads.
 */
#pragma once

#include <sys/stat.h>

#include "base/buf.h"
#include "supervisor/supervisor.h"
#include "sys/fs.h"

struct virtual_file {
    /* A place on procfs: below its root ("sys/kernel/hostname"), or, with `per_process`, below any
     * /proc/<pid> and /proc/<pid>/task/<tid> ("mounts"). NULL: `path` counts. */
    const char *proc;
    bool per_process;
    /* A file of the host, found at start and compared by identity (device nodes: by number). */
    const char *path;
    /* NULL: whenever /proc is granted, and proc-view active. */
    bool (*wanted)(const struct policy *p, const struct kernel *k);
    /* Appends the content. `host_fd` is an O_PATH descriptor of the real object: fd_reopen() reads it.
     * 0 or -errno. */
    int (*render)(const struct request *r, int host_fd, struct buf *out);
    /* Instead of render(): the descriptor to hand out for these open flags, or -errno. */
    int (*open)(const struct request *r, int host_fd, uint64_t flags);
};

/* All virtual files of the build, in src/fs/virtual_files.c. */
extern const struct virtual_file *const all_virtual_files[];
extern const size_t all_virtual_file_count;

/* Activates mediation of paths while any virtual file is wanted. */
extern const struct feature fs_virtual_feature;

/* The stand-in for an object that a call of open with these flags led to: descriptor to inject, a
 * negative errno, or -ENODATA when the object is what it is. */
int virtual_open(const struct request *r, int fd, const struct sys_ident *id, bool on_proc,
                 uint64_t flags);
/* Replaces in *st what a descriptor of the stand-in tells, when the object has one whose content is
 * rendered: device, inode number and size. Programs compare them before and after they open (cp). */
void virtual_attributes(const struct request *r, int fd, const struct sys_ident *id, bool on_proc,
                        struct stat *st);
/* Could the object, which is not on procfs, have a stand-in? */
bool virtual_may_be(const struct request *r, const struct sys_ident *id);
/* A sealed read-only memory file with this content: descriptor or -EIO. */
int virtual_memory_file(const char *name, const void *data, size_t n);
