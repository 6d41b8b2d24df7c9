/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command's own tree (--chroot, --fs-mount) as the operations see it: on which mount an object
 * lies, whether it may be changed there, and what it is called inside. Receiver threads; decides on
 * descriptors. Every question has a cheap answer where the policy shows the host's tree.
 */
#pragma once

#include "fs/resolve.h"

extern const struct feature fs_chroot_feature;
extern const struct feature fs_view_list_feature;

/* May something be changed in that directory, or the object itself? 0, or -EROFS with the reason told.
 * For an object: its own place counts (a mounted file lies on its mount). */
int view_writable(const struct request *r, const struct resolved *o, const char *path);
/* 0, or -EXDEV when the names are on different mounts; `object`: what `a` is, not its name. */
int view_same_mount(const struct request *r, const struct resolved *a, const struct resolved *b,
                    bool object);
/* 0, or -EBUSY for a mount point and for a directory above one. */
int view_movable(const struct request *r, const struct resolved *o);
/* The same for a removal, with the errors that come before. */
int view_removable(const struct request *r, const struct resolved *o, bool as_dir,
                   const char *path);
/* Is the object on a read-only mount? For answers, not for decisions. */
bool view_is_read_only(const struct request *r, const struct resolved *o);

/* The name inside of an open object: length, or -ENOENT when it has none (never the host's path). */
ssize_t view_name(const struct root *root, int fd, char *buf, size_t size);

/* The same of a place as the kernel spells it. */
ssize_t view_name_of(const struct root *root, const char *place, char *buf, size_t size);
/* The same for showing to the command: an object without a name inside is "(unreachable)", a character
 * device keeps the name that everybody knows it by. */
ssize_t view_show(const struct root *root, int fd, char *buf, size_t size);

/* What a link of /proc/<member>/ leads to, for a command that sees a tree of its own: descriptor, or
 * -ENODATA when the kernel's answer is right. `leaf` is the link's name. */
int view_proc_link(const struct request *r, int dir_fd, const char *leaf);

/* The program that a patched copy was made of: O_PATH descriptor, or -ENODATA. */
int view_program_of(const struct request *r, const struct sys_ident *id);

/* Listings, as records of getdents64. view_list() appends the mount points that the directory lacks at buf[at],
 * as far as there is room, and returns the new length. view_list_made() lists a directory that exists only to hold
 * mounts: length, or -ENODATA when it is another. */
size_t view_list(const struct request *r, const struct sys_ident *dir, int64_t off, uint8_t *buf,
                 size_t at, size_t size);
ssize_t view_list_made(const struct request *r, const struct sys_ident *dir, int fd, uint8_t *buf,
                       size_t size);

/* Of /proc/<pid>. */
struct virtual_file;
extern const struct virtual_file view_mounts_file, view_mountinfo_file, view_mountstats_file,
    view_maps_file, view_smaps_file, view_numa_maps_file, view_syscall_file;

/* Handlers in place of the ones of behalf.h. */
struct verdict view_open_path(const struct request *r, int fd, uint64_t flags);
struct verdict view_chdir(struct request *r, const struct resolved *dir);
struct verdict view_exec(struct request *r, const struct resolved *program, const char *path);
