/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User and group maps of the command written from outside its Landlock domain. The caller's thread,
 * while the first receiver launches. The text is ours; the pid is the child's own word, and only
 * the maps of a user namespace that has none yet can be written.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "launch/internal.h"
#include "sys/raw_calls.h"

static int maps_write(struct launch_maps *m, enum launch_step step, const char *name,
                      const char *text)
{
    char path[64];
    int fd, r = 0;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)m->pid, name);
    m->step = step;
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, text, strlen(text)) < 0)
        r = -errno;
    util_close(fd);
    return r;
}

static int maps_write_all(struct launch_maps *m)
{
    int r = maps_write(m, STEP_SETGROUPS, "setgroups", "deny");

    if (r == 0 || r == -ENOENT)
        r = maps_write(m, STEP_UID_MAP, "uid_map", m->uid_map);
    return r < 0 ? r : maps_write(m, STEP_GID_MAP, "gid_map", m->gid_map);
}

void launch_maps_serve(struct launch_maps *m)
{
    uint32_t turn;

    while ((turn = __atomic_load_n(&m->turn, __ATOMIC_ACQUIRE)) != TURN_LAUNCHED) {
        if (turn == TURN_WRITE_MAPS) {
            m->error = maps_write_all(m);
            __atomic_store_n(&m->turn, TURN_MAPS_WRITTEN, __ATOMIC_RELEASE);
            raw_futex_wake(&m->turn, 1);
        } else {
            raw_futex_wait(&m->turn, turn, NULL);
        }
    }
}

void launch_maps_done(struct launch_maps *m)
{
    __atomic_store_n(&m->turn, TURN_LAUNCHED, __ATOMIC_RELEASE);
    raw_futex_wake(&m->turn, 2);
}
