/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The architecture layer's contract: everything that differs by machine is behind this header
 * (docs/architecture.md). Nothing outside src/arch may test a machine macro or name a system call
 * number; src/sys wraps the calls sandlock makes itself.
 *
 * All records are compiled on every host, so that an x86_64 machine builds and simulates aarch64
 * filters. Only what executes machine code (native.c, raw.h) exists for the build target alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "arch/call.h"

struct seccomp_data;

/* What an argument of a call is, from the table's recipe. */
enum arg_role {
    ARG_NONE = 0, /* the call has no such argument */
    ARG_ANY,      /* a value nobody here needs to understand */
    ARG_FD,       /* descriptor */
    ARG_DIRFD,    /* directory descriptor or AT_FDCWD, belongs to the path behind it */
    ARG_PATH,     /* NUL-terminated path, resolved against the preceding DIRFD if any */
    ARG_STR,      /* NUL-terminated string that is not a path (xattr name, symlink target) */
    ARG_FLAGS,    /* flag word, 32 bits */
    ARG_MODE,     /* file mode, 32 bits */
    ARG_PTR,      /* address of something else */
    ARG_LEN,      /* length of the preceding pointer */
    ARG_ADDR,     /* struct sockaddr * */
    ARG_ADDRLEN,
    ARG_MSG, /* struct msghdr * or mmsghdr * */
    ARG_SIG,
    ARG_PID,
    ARG_CLOCK,
    ARG_ARGV, /* vector of strings */
};

/* Classes; a call may have several. */
enum call_class {
    CLASS_PATH = 1u << 0,     /* takes a path */
    CLASS_FD = 1u << 1,       /* takes a descriptor */
    CLASS_SOCKADDR = 1u << 2, /* takes a socket address, directly or in a msghdr */
    CLASS_META = 1u << 3,     /* changes metadata that Landlock does not govern (FG-03) */
    CLASS_PROCESS = 1u << 4,  /* creates, replaces or signals processes */
    CLASS_MEMORY = 1u << 5,
    CLASS_TIME = 1u << 6,
    CLASS_IPC = 1u << 7,
    CLASS_NAMESPACE = 1u << 8, /* mounts, namespaces, roots */
    CLASS_ADMIN = 1u << 9,     /* machine administration; needs privilege anyway */
    CLASS_TRACE = 1u << 10,    /* reaches into other processes */
    CLASS_CREATE = 1u << 11,   /* can create, remove or rename names */
};

/* Names are part of their rows: pointers would be relocated at every start of the program. */
#define ARCH_NAME_MAX 28
struct call_info {
    char name[ARCH_NAME_MAX]; /* kernel name */
    uint16_t nr;              /* number on this machine */
    uint16_t id;              /* enum call_id */
    uint16_t op;              /* enum call_op, OP_NONE when no feature mediates it */
    uint8_t nargs;
    uint8_t role[6];  /* enum arg_role */
    uint32_t classes; /* enum call_class bits */
};

struct arch {
    const char *name;     /* as uname -m says */
    uint32_t audit_arch;  /* AUDIT_ARCH_* of linux/audit.h */
    uint32_t foreign_bit; /* bit in the number that marks a foreign ABI (x32: 0x40000000), or 0 */
    /* Fields of /proc/cpuinfo that count processors, ended by NULL: clipped where fewer are shown. */
    const char *const *cpuinfo_counts;
    const struct call_info *calls; /* sorted by nr */
    size_t ncalls;
    const uint16_t *index; /* position in calls by enum call_id: use arch_call_by_id() */
    uint8_t clone_tls_arg; /* index of tls in clone's arguments: 4 on x86_64, 3 on aarch64 */
    uint8_t clone_ctid_arg;
    /* removes pointer tags the machine lets user space set; identity where there are none. */
    uint64_t (*untag)(uint64_t addr);
    /* Rewrites a legacy call in c (info, op, form and args are filled natively before). Returns
     * false when the call has no meaning of its own (never happens for table entries). */
    void (*normalise)(struct call *c);
    /* writes the machine's struct stat (kernel UAPI layout) into out, zero padded.
     * Returns its size (144 or 128), never more than ARCH_STAT_MAX. */
    size_t (*encode_stat)(const struct stat *st, void *out);
};
#define ARCH_STAT_MAX 144

extern const struct arch arch_x86_64;
extern const struct arch arch_aarch64;
extern const struct arch *const arch_all[];
extern const size_t arch_count;

/* The machine this binary runs on. */
const struct arch *arch_native(void) __attribute__((const));

/* The table's row of a number, NULL when the table does not know it. */
const struct call_info *arch_call(const struct arch *a, uint32_t nr);
/* By kernel name or alias (fstatat, umount, sendfile64 ...), NULL when this machine has none. */
const struct call_info *arch_call_by_name(const struct arch *a, const char *name);
const struct call_info *arch_call_by_id(const struct arch *a, enum call_id id);
/* True when any known machine has a call of that name. */
bool arch_name_known(const char *name);
/* Nearest known call name for an error message, or NULL. */
const char *arch_name_suggest(const char *name);
const char *call_id_name(enum call_id id);
const char *call_op_name(enum call_op op);

/* Decodes one notification. Returns 0, or -ENOSYS when the architecture value is foreign, the
 * number carries the foreign bit or the table does not know it: the caller must refuse the call. */
int arch_decode(const struct arch *a, const struct seccomp_data *d, struct call *ret_call);

/* ---- native only (src/arch/<machine>/native.c) ---- */

/* General registers by PTRACE_GETREGSET/SETREGSET NT_PRSTATUS. Size is the machine's. */
#define ARCH_REGS_MAX 512
struct arch_regs {
    size_t size;
    uint64_t r[ARCH_REGS_MAX / 8];
};
int arch_regs_get(pid_t tid, struct arch_regs *ret); /* 0 or -errno */
int arch_regs_set(pid_t tid, const struct arch_regs *regs);
uint64_t arch_regs_pc(const struct arch_regs *r);
void arch_regs_set_pc(struct arch_regs *r, uint64_t pc);
uint64_t arch_regs_sp(const struct arch_regs *r);
void arch_regs_set_sp(struct arch_regs *r, uint64_t sp);
uint64_t arch_regs_result(const struct arch_regs *r);
void arch_regs_set_result(struct arch_regs *r, uint64_t v);
uint64_t arch_regs_arg(const struct arch_regs *r, unsigned i);
void arch_regs_set_arg(struct arch_regs *r, unsigned i, uint64_t v);
/* Number of the call the task is in (at its entry, or interrupted in it), -1 when in none.
 * set_number takes effect at once and in r, which must be fresh; -1 suppresses the call or its
 * restart: set the result afterwards. */
int arch_regs_number(pid_t tid, const struct arch_regs *r, int64_t *ret_nr);
int arch_regs_set_number(pid_t tid, struct arch_regs *r, int64_t nr);
/* For a task that is in no call and whose pc is on a call instruction: which call that will be. */
void arch_regs_set_call(struct arch_regs *r, uint64_t nr);
extern const unsigned arch_syscall_insn_len; /* 2 on x86_64, 4 on aarch64 */
extern const uint8_t arch_syscall_insn[4];

/* vDSO symbol names (C-01), NULL where the machine has none. */
struct arch_vdso_names {
    const char *clock_gettime, *gettimeofday, *time, *clock_getres, *getcpu, *getrandom;
};
extern const struct arch_vdso_names arch_vdso_names;

/*
 * Code that is laid behind the image of a vDSO (vdso_code.c): position independent, runs in the
 * command's processes with any stack, keeps the machine's calling convention, has landing pads. Its
 * first bytes are these words, filled in by whoever places it.
 */
struct arch_vdso_slots {
    int64_t clock_gettime, gettimeofday, getrandom; /* the originals, relative to the code */
    int64_t seconds;                                /* added to wall clocks: floor of the offset */
    int64_t nanoseconds, microseconds;              /* the rest, not negative */
};
/* Offsets into the code; 0: this machine's vDSO has no such function. */
struct arch_vdso_code {
    const uint8_t *code;
    size_t size;
    size_t clock_gettime, gettimeofday, time; /* the original's result plus the offset */
    size_t getrandom;                         /* always the system call */
    size_t recall, recall_end; /* entry, and the pc behind its system call instruction */
};
void arch_vdso_code(struct arch_vdso_code *ret);

/*
 * Lets a stopped thread make its system call once more with other arguments, through the code at
 * `recall`, which puts the registers back and returns to where the call was made. The frame lies
 * where no C code has anything: below the stack pointer and what may be used beneath it.
 */
struct arch_recall {
    uint64_t saved[12]; /* the machine's business */
    uint64_t data[4];   /* what an argument may point to */
};
/* Where the frame goes, 0 when the stack pointer is not one. */
uint64_t arch_recall_place(const struct arch_regs *r);
void arch_recall_set(struct arch_regs *r, uint64_t recall, uint64_t frame_at, int64_t nr,
                     const uint64_t args[6], struct arch_recall *frame);

/*
 * clone() with a new stack for the raw child: calls fn(arg) in the child on `stack_top` and exits
 * with its result through exit(2). flags go to the kernel unchanged. Returns the pid or -errno.
 * The child shares memory when CLONE_VM is in flags and must make raw calls only.
 */
long arch_clone(unsigned long flags, void *stack_top, int (*fn)(void *), void *arg, int *ptid,
                int *ctid);
