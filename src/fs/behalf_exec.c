/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec under fs-deny and proc-view. Receiver threads. The path is hostile and may change after it was
 * judged; with denies the loaded program is compared again at the exec stop (fs_deny_exec).
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/behalf.h"
#include "fs/deny.h"
#include "fs/fs.h"
#include "fs/view.h"

#define EXEC_CHECK 0x10000u /* AT_EXECVE_CHECK, 6.14 */
#define EXEC_MAPS_MAX 16384

static bool exec_covers(const struct request *r, const char *path)
{
    _cleanup_close_ int fd = sys_open_path(AT_FDCWD, path, 0);

    return fd < 0 || fs_deny_covers(r, fd, -1, NULL);
}

static bool exec_read_maps(pid_t pid, char buf[EXEC_MAPS_MAX])
{
    char path[64];
    size_t n = 0;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    for (ssize_t got; n < EXEC_MAPS_MAX - 1; n += (size_t)got) {
        got = read(fd, buf + n, EXEC_MAPS_MAX - 1 - n);
        if (got <= 0)
            break;
    }
    util_close(fd);
    buf[n] = '\0';
    return n > 0;
}

static bool exec_has_ino(int fd, unsigned long long ino)
{
    struct sys_ident id;

    return fd >= 0 && sys_identify(fd, &id) == 0 && id.ino == ino;
}

/* The kernel writes a newline of a name as "\012", and a name may have these bytes itself: what is there by
 * either text is judged, and one of them has to be what is mapped. `file` is changed. */
static bool exec_escaped_denied(const struct request *r, char *file, unsigned long long ino)
{
    _cleanup_close_ int fd = sys_open_path(AT_FDCWD, file, 0), decoded_fd = -1;

    if (fd >= 0 && fs_deny_covers(r, fd, -1, NULL))
        return true;
    for (char *at = file; (at = strstr(at, "\\012"));) {
        *at++ = '\n';
        memmove(at, at + 3, strlen(at + 3) + 1);
    }
    decoded_fd = sys_open_path(AT_FDCWD, file, 0);
    if (decoded_fd >= 0 && fs_deny_covers(r, decoded_fd, -1, NULL))
        return true;
    return !exec_has_ino(fd, ino) && !exec_has_ino(decoded_fd, ino);
}

/* What is unlinked (memfd) has no place, and was compared already where it is the program; but a name may
 * end in the kernel's mark itself. */
static bool exec_name_denied(const struct request *r, char *file, unsigned long long ino)
{
    size_t len = strlen(file);
    _cleanup_close_ int fd = -1;

    if (strstr(file, "\\012"))
        return exec_escaped_denied(r, file, ino);
    fd = sys_open_path(AT_FDCWD, file, 0);
    if ((fd == -ENOENT || fd == -ENOTDIR) && place_unmarked(file, len) != len)
        return false;
    return fd < 0 || fs_deny_covers(r, fd, -1, NULL);
}

/* The program interpreter (ld.so) is opened by the kernel while it loads the program: nothing of it
 * is notified. At the event it is mapped, and nothing but it and the program is. */
static bool exec_maps_denied(const struct request *r, pid_t pid)
{
    char buf[EXEC_MAPS_MAX], *line, *save = NULL;

    if (!exec_read_maps(pid, buf))
        return true;
    for (line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *file = strchr(line, '/');
        unsigned long long ino;

        if (file &&
            (sscanf(line, "%*s %*s %*s %*s %llu", &ino) != 1 || exec_name_denied(r, file, ino)))
            return true;
    }
    return false;
}

/* binfmt_misc may hand the file that was executed to its interpreter as an open descriptor. */
static bool exec_descriptor_denied(const struct request *r, pid_t pid)
{
    char path[64];
    uint64_t v[2];
    bool denied = false;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/auxv", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    while (!denied && read(fd, v, sizeof(v)) == (ssize_t)sizeof(v) && v[0] != AT_NULL) {
        if (v[0] != AT_EXECFD)
            continue;
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, (int)v[1]);
        denied = exec_covers(r, path);
    }
    util_close(fd);
    return denied;
}

/* A script counts as its interpreter here: the kernel read the script's first line only. Its path
 * was judged before; should it have been exchanged since, the interpreter opens the denied file by
 * a call of its own, which is judged like any other. */
int fs_deny_exec(const struct request *r, pid_t pid)
{
    char path[64], subject[PATH_MAX];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    if (!exec_covers(r, path) && !exec_maps_denied(r, pid) && !exec_descriptor_denied(r, pid))
        return 0;
    n = readlink(path, subject, sizeof(subject) - 1);
    subject[n > 0 ? n : 0] = '\0';
    request_explain(r, subject, EACCES, "--fs-deny", "the denied program was killed");
    return -EACCES;
}

struct verdict behalf_exec(struct request *r)
{
    _cleanup_target_ struct target t = {.at = RESOLVED_INIT};
    uint32_t flags = call_u32(&r->call, 4);
    unsigned walk = (flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) |
                    (flags & AT_EMPTY_PATH ? WALK_EMPTY_OK : 0);
    int e;

    if (flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | EXEC_CHECK))
        return verdict_errno(EINVAL);
    e = target_judge(r, call_int(&r->call, 0), call_addr(&r->call, 1), walk, JUDGE_LOOK, &t);
    if (e < 0)
        return verdict_errno(e);
    if (supervisor_plan(r->sup)->root)
        return view_exec(r, &t.at, t.path);
    return verdict_continue("Landlock checks what is executed at its real place, and refuses the "
                            "links of processes outside; only granted programs can be named; with "
                            "denies the loaded program is compared at the exec stop");
}
