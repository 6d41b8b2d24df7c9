/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's contract with features. Receivers (one or more threads) take notifications,
 * decode them, run the handlers of the operation in feature order and answer. Every byte that comes
 * from the child is hostile: read it once through request_read*(), check, act, answer.
 */
#pragma once

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

#include "arch/arch.h"
#include "plan/filter.h"
#include "plan/plan.h"

struct supervisor;
struct receiver;

enum verdict_kind {
    VERDICT_PASS = 0, /* not mine: next handler; after the last one the call is refused (EPERM) */
    VERDICT_VALUE,    /* the call returns `value` */
    VERDICT_ERRNO,    /* the call fails with `value` (positive errno) */
    VERDICT_INJECT, /* `fd` is installed in the child with fd_flags (O_CLOEXEC or 0) and its number
                         returned; the supervisor's copy is closed in every case */
    VERDICT_CONTINUE, /* the kernel goes on; needs a proof in a comment (design rule 3) */
    VERDICT_LATER,    /* a worker answers: see request_defer() */
    VERDICT_KILL,     /* the whole sandbox is killed */
    VERDICT_GONE,     /* the notification died; no answer */
};
struct verdict {
    enum verdict_kind kind;
    int64_t value;
    int fd;
    uint32_t fd_flags;
};
static inline struct verdict verdict_pass(void)
{
    return (struct verdict){.kind = VERDICT_PASS, .fd = -1};
}
static inline struct verdict verdict_value(int64_t v)
{
    return (struct verdict){.kind = VERDICT_VALUE, .value = v, .fd = -1};
}
/* Accepts positive or negative errno. */
static inline struct verdict verdict_errno(int e)
{
    return (struct verdict){.kind = VERDICT_ERRNO, .value = e < 0 ? -e : e, .fd = -1};
}
/* 0 or a positive result becomes VALUE, a negative errno ERRNO. */
static inline struct verdict verdict_result(int64_t r)
{
    return r < 0 ? verdict_errno((int)r) : verdict_value(r);
}
static inline struct verdict verdict_inject(int fd, uint32_t flags)
{
    return (struct verdict){.kind = VERDICT_INJECT, .fd = fd, .fd_flags = flags};
}
static inline struct verdict verdict_gone(void)
{
    return (struct verdict){.kind = VERDICT_GONE, .fd = -1};
}
/* Write the proof as the argument: why a raced pointer or descriptor cannot widen anything. */
#define verdict_continue(proof) ((struct verdict){.kind = VERDICT_CONTINUE, .fd = -1})

/* One notification. Lives on the receiver's stack for the duration of the handler. */
struct request {
    struct supervisor *sup;
    uint64_t id;
    pid_t tid; /* the calling thread, in our pid namespace */
    struct call call;
    const struct seccomp_data *data;
};

/* True while the caller still waits for this very notification. Check after reading memory or
 * opening /proc/<tid>/..., before acting on it: closes pid reuse. */
bool request_alive(const struct request *r);

/* Copies from the child. Exactly len bytes, or -EFAULT; -ESRCH when it is gone; -EPERM when the
 * kernel refuses access (undumpable). Never trusts lengths: callers bound len first. */
int request_read(const struct request *r, child_addr addr, void *dst, size_t len);
/* NUL-terminated string of at most size-1 bytes: length, -EFAULT, or -ENAMETOOLONG. Reads never
 * cross into a page it does not need. */
ssize_t request_read_string(const struct request *r, child_addr addr, char *dst, size_t size);
#define request_read_path(r, addr, buf) request_read_string((r), (addr), (buf), PATH_MAX)
/* All or nothing as far as the kernel can tell: 0 or -EFAULT. Read-only pages answer -EFAULT. */
int request_write(const struct request *r, child_addr addr, const void *src, size_t len);

/* A duplicate of the child's descriptor (pidfd_getfd): our fd, or -EBADF, -EPERM (refused here). */
int request_fd(const struct request *r, int fd);
/* Installs a descriptor of ours in the child without answering yet (SECCOMP_IOCTL_NOTIF_ADDFD, flags
 * O_CLOEXEC or 0): its number there, or -errno. For calls that return several descriptors. */
int request_addfd(const struct request *r, int fd, uint32_t flags);
/* The same under a number of ours (SECCOMP_ADDFD_FLAG_SETFD), which must be free there. */
int request_addfd_at(const struct request *r, int fd, int at, uint32_t flags);
/* O_PATH descriptor of the child's descriptor `fd`, through /proc/<tid>/fd/N: works for files and
 * directories without pidfd_getfd. -EBADF when not open. AT_FDCWD gives its working directory. */
int request_fd_path(const struct request *r, int fd);
/* "/proc/<tid>/fd/N", or its working directory with AT_FDCWD: leads where request_fd_path() does, for one
 * call. Check request_alive() afterwards. fd is not negative otherwise. */
#define CHILD_FD_PATH_MAX 48
void request_fd_name(const struct request *r, int fd, char path[CHILD_FD_PATH_MAX]);
/* Open flags of the child's descriptor from fdinfo (O_ACCMODE and O_PATH bits), or -EBADF. */
int request_fd_flags(const struct request *r, int fd);
/* Thread group and umask from /proc/<tid>/status. */
int request_status(const struct request *r, pid_t *ret_tgid, mode_t *ret_umask);
/* True when pid (a tgid or tid) is a member of this sandbox: its ancestors lead to the anchor. */
bool supervisor_is_member(const struct supervisor *s, pid_t pid);

/* Runs fn on a worker thread that answers with its verdict; the receiver goes on. fn must look at
 * request_alive() at least every 50 ms and give up when it is false: the end of the sandbox waits. `arg` is owned by
 * fn. Bounded: returns verdict_errno(EAGAIN) when too much is in flight. */
struct verdict request_defer(const struct request *r,
                             struct verdict (*fn)(const struct request *, void *), void *arg);

/* Answers now, from inside a handler, for work that goes on after the answer (the exec guard watches
 * the call it let go on); the handler then returns verdict_gone(). 0, or -ENOENT when the
 * notification died. Only VALUE, ERRNO and CONTINUE. */
int request_answer(const struct request *r, struct verdict v);

/*
 * PTRACE_SEIZE of the caller with PTRACE_O_* options, for the calling thread; it ends with us. 0, -ESRCH
 * when the caller is gone, -EPERM when somebody else traces it. -ERESTARTNOINTR, to be given as the
 * verdict: another thread of ours still watches it, and lets go when it makes the call again.
 */
int request_seize(const struct request *r, unsigned options);
#define ERESTARTNOINTR 513 /* the kernel's own: programs never see it */
/* For a worker that watches a call beyond its answer: brackets the tracing. The caller's next
 * call may find it so, cannot stop before it is answered, and asks us to interrupt it. */
enum watch_state { WATCH_NONE = 0, WATCH_ON, WATCH_ASKED, WATCH_INTERRUPTED };
struct watch {
    _Atomic pid_t tid;
    _Atomic int state; /* enum watch_state */
};
struct watch *request_watch(const struct request *r); /* NULL: too many at a time */

/* Says why a call was refused (--explain). `rule` and `hint` are static or NULL; subject is bytes. */
void request_explain(const struct request *r, const char *subject, int err, const char *rule,
                     const char *hint);
/* The same for what is refused outside of a call: who asked is not known. Any thread. */
void supervisor_explain(struct supervisor *s, const char *operation, const char *subject,
                        const char *rule, const char *hint);

/* The process that every member descends from, no member itself; valid once the command exists. */
pid_t supervisor_anchor(const struct supervisor *s);
const struct policy *supervisor_policy(const struct supervisor *s);
const struct plan *supervisor_plan(const struct supervisor *s);
const struct kernel *supervisor_kernel(const struct supervisor *s);
/* The feature's own state, set by its start(); NULL when the feature is not active. */
void *supervisor_state(const struct supervisor *s, const struct feature *f);

typedef struct verdict (*call_handler)(struct request *r);

/* When a call of the operation is notified at all: clauses tried in order, as in the filter; NULL:
 * always. `allow` clauses come first. */
struct feature_call {
    enum call_op op;
    call_handler handle;
    const struct filter_clause
        *when; /* clauses with ret SECCOMP_RET_USER_NOTIF (or ALLOW before) */
    size_t nwhen;
};

struct feature {
    const char *name;
    /* Does this policy on this kernel need the feature? Pure. May be NULL. */
    bool (*wanted)(const struct policy *p, const struct kernel *k);
    /* Or whenever that feature is active: what is dear to find out is asked once at a start. May be NULL. */
    const struct feature *follows;
    const struct feature_call *calls;
    size_t ncalls;
    /* Calls that must not run natively while active because nobody mediates them: refused with
     * EPERM in the filter. Any CLASS_PATH or CLASS_SOCKADDR call without a handler is added by the
     * plan when `closed` is set (design rule 4). */
    bool closed;
    bool behalf;      /* performs file operations under the command's own Landlock domain */
    bool traces;      /* handlers trace the caller, which can have one tracer (`exec` implies it) */
    bool writes_proc; /* receivers write to /proc/PID/mem at the exec stop */
    int (*start)(struct supervisor *s, void **ret_state, struct error *err); /* may be NULL */
    void (*stop)(void *state);                                               /* may be NULL */
    /* The exec stop (ptrace): called for every exec, the first one included, with the process `pid`
     * stopped in its new image before the first instruction, when it has one thread. Receivers, in
     * feature order. Non-zero, after request_explain(): the process is killed. Such a feature lists
     * OP_EXEC among its calls, with exec_guard_allow when it asks nothing before. May be NULL. */
    int (*exec)(const struct request *r, pid_t pid);
};

/* Handler of OP_EXEC for features that only have an `exec` hook. */
struct verdict exec_guard_allow(struct request *r);

/* All features of the build, in dispatch order. src/supervisor/features.c. */
extern const struct feature *const all_features[];
extern const size_t all_feature_count;
