/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandlock: run untrusted programs confined by Landlock, seccomp-bpf and seccomp user notification.
 *
 * Conventions: opaque handles are made and freed by their own functions; every _free accepts NULL.
 * `char *` results are the caller's, to be freed with sandlock_string_free(); `const uint8_t *`
 * results live as long as the object they come from. Builder setters return the builder so that
 * calls chain; the first error is kept and reported by sandlock_sandbox_build(). NULL handles never
 * crash: integers answer -1 (lengths and booleans 0), pointers NULL. A policy object is immutable,
 * may be shared by threads and must outlive its runs; a handle belongs to one thread at a time,
 * sandlock_handle_kill() and sandlock_handle_restrict_*() excepted.
 *
 * This header declares what this version implements; functions of features that are not built yet
 * are absent rather than stubs.
 */
#ifndef SANDLOCK_H
#define SANDLOCK_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sandlock_builder_t sandlock_builder_t; /* a policy being written */
typedef struct sandlock_sandbox_t sandlock_sandbox_t; /* a policy, immutable */
typedef struct sandlock_handle_t sandlock_handle_t;   /* one run */
typedef struct sandlock_result_t sandlock_result_t;   /* how a run ended */

/* 32-bit unsigned in the ABI. */
typedef enum sandlock_exit_reason {
    SANDLOCK_EXIT_REASON_EXITED = 0,
    SANDLOCK_EXIT_REASON_SIGNALED = 1,
    SANDLOCK_EXIT_REASON_KILLED = 2, /* by SIGKILL */
    SANDLOCK_EXIT_REASON_TIMEOUT = 3,
} sandlock_exit_reason;

typedef enum sandlock_entry_kind {
    SANDLOCK_ENTRY_KIND_FILE = 0,
    SANDLOCK_ENTRY_KIND_DIR = 1,
    SANDLOCK_ENTRY_KIND_SYMLINK = 2,
    SANDLOCK_ENTRY_KIND_OTHER = 3,
} sandlock_entry_kind;

/* What was, or is, at a path. */
typedef struct sandlock_entry_t {
    sandlock_entry_kind kind;
    uint32_t mode;      /* permission bits */
    uint64_t size;      /* 0 for directories */
    uint8_t has_digest; /* 0 in this version */
    uint8_t digest[32];
} sandlock_entry_t;

#define SANDLOCK_CHANGE_BEFORE 0
#define SANDLOCK_CHANGE_AFTER 1

/* ---- policy ---- */

/* NULL when out of memory. The default policy grants nothing. */
sandlock_builder_t *sandlock_sandbox_builder_new(void);
/* Readable (and executable) tree, readable and writable tree, neither even inside a granted tree. */
sandlock_builder_t *sandlock_sandbox_builder_fs_read(sandlock_builder_t *b, const char *path);
sandlock_builder_t *sandlock_sandbox_builder_fs_write(sandlock_builder_t *b, const char *path);
sandlock_builder_t *sandlock_sandbox_builder_fs_deny(sandlock_builder_t *b, const char *path);
/* Root of the command: grants and cwd then name paths inside. */
sandlock_builder_t *sandlock_sandbox_builder_chroot(sandlock_builder_t *b, const char *path);
/* Shows a file or tree of the host at a path inside; granted by that, for writing too unless _ro. */
sandlock_builder_t *sandlock_sandbox_builder_fs_mount(sandlock_builder_t *b,
                                                      const char *virtual_path,
                                                      const char *host_path);
sandlock_builder_t *sandlock_sandbox_builder_fs_mount_ro(sandlock_builder_t *b,
                                                         const char *virtual_path,
                                                         const char *host_path);
/* Changes below the directory are staged, then committed or dropped as the actions say: after exit code 0,
 * and after any other end. 0 commit (the first one's default), 1 abort (the second one's), 2 keep, 3 defer:
 * the handle's owner decides. A dry run is abort for both, and the changes of the result. Where they are
 * staged (default: beside the directory); how much they may take up. */
sandlock_builder_t *sandlock_sandbox_builder_workdir(sandlock_builder_t *b, const char *path);
sandlock_builder_t *sandlock_sandbox_builder_fs_storage(sandlock_builder_t *b, const char *path);
sandlock_builder_t *sandlock_sandbox_builder_on_exit(sandlock_builder_t *b, uint8_t action);
sandlock_builder_t *sandlock_sandbox_builder_on_error(sandlock_builder_t *b, uint8_t action);
sandlock_builder_t *sandlock_sandbox_builder_max_disk(sandlock_builder_t *b, const char *size);
/* A commit keeps what it replaces until it is done, so that `sandlock recover --rollback` can take back one
 * that failed in the middle. */
sandlock_builder_t *sandlock_sandbox_builder_commit_backup(sandlock_builder_t *b, bool v);
/* A commit writes into changed files instead of replacing them, for those who have them open or linked
 * elsewhere; not with commit_backup. */
sandlock_builder_t *sandlock_sandbox_builder_commit_in_place(sandlock_builder_t *b, bool v);
/* Absolute working directory of the command. */
sandlock_builder_t *sandlock_sandbox_builder_cwd(sandlock_builder_t *b, const char *path);
/* What may be connected to: [tcp://|udp://|icmp://]HOST[:PORTS], with a name, an address, a network
 * or * for HOST; ":443" is TCP to anybody. Denials win and name no hosts. Ports that may be bound
 * ("8080", "*"), or may not. */
sandlock_builder_t *sandlock_sandbox_builder_net_allow(sandlock_builder_t *b, const char *spec);
sandlock_builder_t *sandlock_sandbox_builder_net_deny(sandlock_builder_t *b, const char *spec);
sandlock_builder_t *sandlock_sandbox_builder_net_deny_bind(sandlock_builder_t *b, const char *spec);
sandlock_builder_t *sandlock_sandbox_builder_net_allow_bind(sandlock_builder_t *b,
                                                            const char *spec);
/* Look the names of the rules up again every so many seconds ("60", "0.5"); without: once. */
sandlock_builder_t *sandlock_sandbox_builder_dns_refresh(sandlock_builder_t *b,
                                                         const char *seconds);
/* An own port space: a port that is taken outside gets another one there. */
sandlock_builder_t *sandlock_sandbox_builder_port_remap(sandlock_builder_t *b, bool v);
/* Start from PATH, HOME, USER, TERM, LANG only; variables set on top of what is inherited. */
sandlock_builder_t *sandlock_sandbox_builder_clean_env(sandlock_builder_t *b, bool v);
sandlock_builder_t *sandlock_sandbox_builder_env_var(sandlock_builder_t *b, const char *key,
                                                     const char *value);
/* Identity in a user namespace. */
sandlock_builder_t *sandlock_sandbox_builder_user(sandlock_builder_t *b, uint32_t uid,
                                                  uint32_t gid);
/* Soft and hard RLIMIT_NOFILE, only ever lowered. */
sandlock_builder_t *sandlock_sandbox_builder_max_open_files(sandlock_builder_t *b, unsigned int n);
/* Other limits of each process, "fsize=1G": see --rlimit. */
sandlock_builder_t *sandlock_sandbox_builder_rlimit(sandlock_builder_t *b, const char *limit);
/* Memory of all processes together ("512M"); processes alive at a time; processor time of all together
 * in percent of one core (1 to 100); processors that the command sees and runs on. */
sandlock_builder_t *sandlock_sandbox_builder_max_memory(sandlock_builder_t *b, const char *size);
/* "kill" (default) or "enomem": allocations fail before somebody is killed. */
sandlock_builder_t *sandlock_sandbox_builder_memory_mode(sandlock_builder_t *b, const char *mode);
sandlock_builder_t *sandlock_sandbox_builder_max_processes(sandlock_builder_t *b, uint32_t n);
sandlock_builder_t *sandlock_sandbox_builder_max_cpu(sandlock_builder_t *b, uint8_t pct);
sandlock_builder_t *sandlock_sandbox_builder_num_cpus(sandlock_builder_t *b, uint32_t n);
sandlock_builder_t *sandlock_sandbox_builder_cpu_cores(sandlock_builder_t *b, const uint32_t *cores,
                                                       uint32_t len);
/* Visible GPUs; len 0: all. */
sandlock_builder_t *sandlock_sandbox_builder_gpu_devices(sandlock_builder_t *b,
                                                         const uint32_t *devices, uint32_t len);
/* Wall clock at the start of the command: RFC 3339, or seconds since 1970. */
sandlock_builder_t *sandlock_sandbox_builder_time_start(sandlock_builder_t *b,
                                                        const char *timestamp);
sandlock_builder_t *sandlock_sandbox_builder_random_seed(sandlock_builder_t *b, uint64_t seed);
sandlock_builder_t *sandlock_sandbox_builder_no_randomize_memory(sandlock_builder_t *b, bool v);
sandlock_builder_t *sandlock_sandbox_builder_no_huge_pages(sandlock_builder_t *b, bool v);
sandlock_builder_t *sandlock_sandbox_builder_no_coredump(sandlock_builder_t *b, bool v);
sandlock_builder_t *sandlock_sandbox_builder_deterministic_dirs(sandlock_builder_t *b, bool v);
/* Names of system calls or groups, separated by commas. */
sandlock_builder_t *sandlock_sandbox_builder_extra_deny_syscalls(sandlock_builder_t *b,
                                                                 const char *names);
sandlock_builder_t *sandlock_sandbox_builder_extra_allow_syscalls(sandlock_builder_t *b,
                                                                  const char *names);
/* Protections: 0 fs-refer, 1 fs-truncate, 2 net-tcp, 3 fs-ioctl-dev, 4 signal-scope,
 * 5 abstract-unix-socket-scope. Skipped when the kernel lacks it; never used. */
sandlock_builder_t *sandlock_sandbox_builder_allow_degraded(sandlock_builder_t *b,
                                                            uint32_t protection);
sandlock_builder_t *sandlock_sandbox_builder_disable(sandlock_builder_t *b, uint32_t protection);
/* Landlock ABI that a protection needs, 0 for an unknown number. */
uint32_t sandlock_protection_min_abi(uint32_t protection);

/* Validates the whole and consumes the builder, also on failure. NULL on error: *err (if not NULL)
 * gets a negative errno, *err_msg (if not NULL) a message that names the field. */
sandlock_sandbox_t *sandlock_sandbox_build(sandlock_builder_t *b, int *err, char **err_msg);
void sandlock_sandbox_free(sandlock_sandbox_t *p);

/* Number of a system call on this machine, by kernel name or alias; -1 when it has none. */
int64_t sandlock_syscall_nr(const char *name);

/* ---- running ---- */

/* `name`: instance and host name inside, or NULL. argv need not be NULL-terminated: argc counts.
 * Captured: stdin inherited, stdout and stderr collected. NULL when the command never started; a
 * command that cannot be executed gives a result with code 126 or 127. */
sandlock_result_t *sandlock_run(const sandlock_sandbox_t *policy, const char *name,
                                const char *const *argv, unsigned int argc);
/* All streams inherited. The exit code: the command's own, 128+n, 124, 125, 126, 127. */
int sandlock_run_interactive(const sandlock_sandbox_t *policy, const char *name,
                             const char *const *argv, unsigned int argc);
/* Everything installed, the command parked; streams inherited, or stdout and stderr collected by
 * sandlock_handle_wait(). NULL on failure. */
sandlock_handle_t *sandlock_create(const sandlock_sandbox_t *policy, const char *name,
                                   const char *const *argv, unsigned int argc);
sandlock_handle_t *sandlock_create_for_run(const sandlock_sandbox_t *policy, const char *name,
                                           const char *const *argv, unsigned int argc);
/* Created and started. Modes: 0 inherit, 1 piped, 2 null. The piped ends become the caller's through
 * the out parameters; a NULL out parameter leaves that end to the handle. */
sandlock_handle_t *sandlock_popen(const sandlock_sandbox_t *policy, const char *name,
                                  const char *const *argv, unsigned int argc, uint32_t stdin_mode,
                                  uint32_t stdout_mode, uint32_t stderr_mode, int *out_stdin_fd,
                                  int *out_stdout_fd, int *out_stderr_fd);
/* Releases the command; returns when exec has succeeded (0) or failed (negative errno). */
int sandlock_start(sandlock_handle_t *h);
int32_t sandlock_handle_pid(const sandlock_handle_t *h);
/* Ends the whole process tree. Idempotent, from any thread. */
int sandlock_handle_kill(sandlock_handle_t *h);
/* Lower a limit of a running sandbox: in force from the next allocation, fork or look on, also for what
 * is above it already. From any thread while the handle lives. 0, -EINVAL (zero, or it would be raised) or
 * -EOPNOTSUPP (the policy has no such limit). */
int sandlock_handle_restrict_max_memory(sandlock_handle_t *h, uint64_t bytes);
int sandlock_handle_restrict_max_processes(sandlock_handle_t *h, uint32_t n);
int sandlock_handle_restrict_max_cpu(sandlock_handle_t *h, uint32_t percent);
/* Waits until every process of the sandbox is dead; repeated calls give the same answer. With a
 * timeout (milliseconds, 0: none) the sandbox is killed when it expires. */
sandlock_result_t *sandlock_handle_wait(sandlock_handle_t *h);
sandlock_result_t *sandlock_handle_wait_timeout(sandlock_handle_t *h, uint64_t timeout_ms);
/* With the action defer, after the wait: 1 while the changes wait for a decision, else 0; where they are
 * stored, in a form of ours, or NULL; the decision: 0, or a negative errno: -ESTALE when others changed the
 * same files, -ENOENT when nothing is pending. After a failed commit the changes lie there for `sandlock
 * recover`. A handle freed without a decision leaves them there as well. */
int sandlock_handle_pending(const sandlock_handle_t *h);
char *sandlock_handle_upper_dir(const sandlock_handle_t *h);
int sandlock_handle_commit(sandlock_handle_t *h);
/* A transaction: commits the changes of all n sandboxes or of none, also when the machine stops meanwhile. As
 * above, and -EINVAL when two have the same work directory: then all are still pending. */
int sandlock_handles_commit(sandlock_handle_t *const *h, unsigned int n);
int sandlock_handle_abort(sandlock_handle_t *h);
/* Kills what still runs. */
void sandlock_handle_free(sandlock_handle_t *h);

/* ---- results ---- */

int sandlock_result_exit_code(const sandlock_result_t *r); /* -1 when there is none */
sandlock_exit_reason sandlock_result_reason(const sandlock_result_t *r);
int sandlock_result_signal(const sandlock_result_t *r); /* 0: none */
/* Processes killed because the sandbox exceeded its memory; the most it held, in bytes; processes that
 * could not be created; the most that were alive (an upper bound). 0 without the limit. */
uint64_t sandlock_result_memory_kills(const sandlock_result_t *r);
uint64_t sandlock_result_memory_peak(const sandlock_result_t *r);
uint64_t sandlock_result_processes_refused(const sandlock_result_t *r);
uint32_t sandlock_result_processes_peak(const sandlock_result_t *r);
bool sandlock_result_success(const sandlock_result_t *r);
char *sandlock_result_stdout(const sandlock_result_t *r);
char *sandlock_result_stderr(const sandlock_result_t *r);
const uint8_t *sandlock_result_stdout_bytes(const sandlock_result_t *r, uintptr_t *len);
const uint8_t *sandlock_result_stderr_bytes(const sandlock_result_t *r, uintptr_t *len);
/* What the run changed below its work directory, in the order of the bytes of the paths, whatever became of
 * it. A path (relative, bytes) that was moved is two changes. What was there before or is there after
 * (SANDLOCK_CHANGE_*): 0, or -1 when nothing is; the target when that is a symbolic link, else NULL. A commit
 * that failed makes the exit code 125. */
uintptr_t sandlock_result_changes_len(const sandlock_result_t *r);
char *sandlock_result_change_path(const sandlock_result_t *r, uintptr_t i);
int sandlock_result_change_entry(const sandlock_result_t *r, uintptr_t i, int side,
                                 sandlock_entry_t *out);
char *sandlock_result_change_target(const sandlock_result_t *r, uintptr_t i, int side);
void sandlock_result_free(sandlock_result_t *r);
void sandlock_string_free(char *s);

/* ---- transactions ----
 * Commands that run one after another on one work directory, each under its own policy: a stage sees,
 * and executes, what those before it staged. When all of them end with exit code 0 there is one commit;
 * a stage that ends otherwise, cannot be started or meets the timeout is the last one, and nothing is
 * committed. Processes that a stage leaves behind end with it. Killed, the program leaves the work
 * directory as it was, or a commit that `sandlock recover` finishes.
 *
 * The policies must have the same work directory (whatever it is called), storage, disk limit and
 * commit_backup, no root of their own and no actions (on_exit, on_error); anything else, and fewer than
 * two stages, is refused before something runs or is stored. */
typedef struct sandlock_transaction_t sandlock_transaction_t;
typedef struct sandlock_transaction_result_t sandlock_transaction_result_t;

/* Exactly one. 32-bit unsigned in the ABI. */
typedef enum sandlock_disposition {
    SANDLOCK_DISPOSITION_COMMITTED = 0,
    SANDLOCK_DISPOSITION_DRY_RUN = 1, /* all did well, nothing was committed */
    SANDLOCK_DISPOSITION_ABORTED = 2, /* by the last stage that ran, nothing was committed */
    SANDLOCK_DISPOSITION_FAILED = 3,  /* not by a stage; the exit code and the message say why */
} sandlock_disposition;

sandlock_transaction_t *sandlock_transaction_new(void); /* NULL when out of memory */
/* The next stage; arguments as of sandlock_create(), the policy must outlive the run. 0 or a negative errno. */
int sandlock_transaction_add(sandlock_transaction_t *t, const sandlock_sandbox_t *policy,
                             const char *name, const char *const *argv, unsigned int argc);
/* Run and list, commit nothing. Milliseconds for all stages together, not for the commit; 0: none. */
int sandlock_transaction_set_dry_run(sandlock_transaction_t *t, bool v);
int sandlock_transaction_set_timeout(sandlock_transaction_t *t, uint64_t ms);
/* Runs all of it; once, then NULL. stdin and stdout are inherited, stderr is collected per stage. */
sandlock_transaction_result_t *sandlock_transaction_run(sandlock_transaction_t *t);
/* From another thread: the stage that runs is killed and none follows. A commit goes on. */
int sandlock_transaction_kill(sandlock_transaction_t *t);
void sandlock_transaction_free(sandlock_transaction_t *t);

sandlock_disposition sandlock_transaction_result_disposition(
    const sandlock_transaction_result_t *r);
/* 0; aborted: of the stage, 128+n, 124 (timeout), 126, 127; failed: 78 refused as such, 70 a stage could
 * not be driven, 74 the layer, a lock or the commit, 75 others changed the same files (try again). */
int sandlock_transaction_result_exit_code(const sandlock_transaction_result_t *r);
/* Failed: one line, else NULL. Where the changes of a commit that failed lie for `sandlock recover`, or NULL. */
char *sandlock_transaction_result_message(const sandlock_transaction_result_t *r);
char *sandlock_transaction_result_kept(const sandlock_transaction_result_t *r);
/* The stages that were started, in order (the last may be one that could not be: exit code 70): how
 * each ended and its stderr, of which the first and the last 32 KiB are kept around a line
 * "[N bytes left out]". Borrowed from the result, as is the next one. */
uintptr_t sandlock_transaction_result_stages_len(const sandlock_transaction_result_t *r);
const sandlock_result_t *sandlock_transaction_result_stage(const sandlock_transaction_result_t *r,
                                                           uintptr_t i);
/* The whole: what all stages changed, whatever became of it (sandlock_result_change*), and how the last
 * one ended. */
const sandlock_result_t *sandlock_transaction_result_whole(const sandlock_transaction_result_t *r);
void sandlock_transaction_result_free(sandlock_transaction_result_t *r);

/* ---- the machine ---- */

int sandlock_landlock_abi_version(void); /* 0: not available */
int sandlock_min_landlock_abi(void);     /* what a policy without waivers needs */

#ifdef __cplusplus
}
#endif
#endif
