/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a plan to a running command: anchor, raw child, stdio, hand-over of the listener, and the
 * control channel to the anchor. See docs/architecture.md, "Launch".
 */
#pragma once

#include <sys/resource.h>

#include "plan/plan.h"

enum stdio_mode { STDIO_INHERIT = 0, STDIO_PIPED = 1, STDIO_NULL = 2 };

/*
 * Where launch and receivers share a Landlock domain, the child cannot write its own uid_map any more:
 * a thread outside the domain does it. One futex word says whose turn it is.
 */
enum launch_turn { TURN_NONE = 0, TURN_WRITE_MAPS, TURN_MAPS_WRITTEN, TURN_LAUNCHED };
struct launch_maps {
    uint32_t turn; /* futex: enum launch_turn */
    int32_t pid;   /* whose maps */
    int32_t error; /* negative errno of the writes */
    uint32_t step;
    char uid_map[48], gid_map[48];
};
/* For the thread outside: serves the child until the launcher says TURN_LAUNCHED. */
void launch_maps_serve(struct launch_maps *m);
void launch_maps_done(struct launch_maps *m);

struct launch_spec {
    const struct plan *plan;
    const char *const *argv; /* NULL-terminated, argv[0] not empty */
    char *const *envp;       /* complete environment of the command */
    enum stdio_mode stdio[3];
    unsigned closed_stdio;    /* bit i: stream i was closed in the caller and stays closed */
    struct launch_maps *maps; /* NULL: the child writes its own */
    int cgroup_fd;            /* cgroup.procs that the command enters, or -1; failing is no error */
    uint64_t sigmask; /* the command's signal mask: the caller's, before any thread of ours */
    bool foreground;  /* hand a terminal on stdin to the command's process group */
    bool own_process; /* the calling process has no signal handlers of its own */
    bool at_once;     /* do not park: launch_start() only reports (two wake-ups less) */
};

struct launch_block;

struct launch {
    pid_t anchor_pid;           /* 0: not started, or reaped */
    pid_t pid;                  /* the command */
    int channel_fd;             /* to the anchor (SOCK_SEQPACKET) */
    int listener_fd;            /* -1 when nothing is notified */
    int stdio_fd[3];            /* our ends of piped streams, or -1 */
    int tty_fd;                 /* terminal to take back, or -1 */
    bool in_cgroup;             /* it entered the cgroup of the spec */
    bool abnormal;              /* the command was killed: put the terminal's modes back too */
    struct launch_block *block; /* stacks and shared memory of child and anchor */
};

/* Creates anchor and child; the child is parked with everything installed (L-04). Fails with the
 * step's name in err->where. */
int launch_create(const struct launch_spec *spec, struct launch *ret, struct error *err);
/* Releases the child and waits until exec has succeeded or failed (no polling). */
int launch_start(struct launch *l, struct error *err);
/* Kills whatever is left and waits until every member is dead. */
void launch_end(struct launch *l);
/* launch_end(), then takes the terminal back. */
void launch_leave(struct launch *l);
/* launch_leave(), then frees everything. */
void launch_fini(struct launch *l);
/* Gives the terminal back to the caller's group, or to the command's: job control. Each only out of
 * the other's hands; false when it was elsewhere. */
bool launch_terminal_take(struct launch *l);
bool launch_terminal_give(struct launch *l);
/* --no-supervisor: confines the calling process and executes; returns only on failure. */
int launch_exec_self(const struct launch_spec *spec, struct error *err);

enum anchor_command {
    ANCHOR_KILL = 'K',        /* SIGKILL every member, atomically where signal scopes exist */
    ANCHOR_STOP_SIGNAL = 'T', /* the policy's stop signal to every member */
    ANCHOR_PAUSE = 'S',
    ANCHOR_RESUME = 'C',
};
/* Signals the command's process group; -ESRCH when there is none (never anybody else's). */
int launch_signal_group(const struct launch *l, int sig);
int launch_command(struct launch *l, enum anchor_command c, int sig);

/* Messages from the anchor. */
enum anchor_event_kind {
    ANCHOR_EVENT_LEADER = 1,  /* the command ended, `status` is its wait status */
    ANCHOR_EVENT_EMPTY = 2,   /* no member is left; the anchor exits */
    ANCHOR_EVENT_STOPPED = 3, /* the command was stopped by a signal */
};
struct anchor_event {
    uint32_t kind;
    int32_t status;
    uint32_t empty; /* with LEADER: nobody else is left, no EMPTY follows */
    uint32_t unused;
    uint64_t reaped;     /* members that ended so far */
    struct rusage usage; /* of all of them, maxrss in KiB of the largest */
};
