# SPDX-License-Identifier: Apache-2.0
"""System calls that must not be had: the whole table and beyond, foreign ABIs, dangerous arguments
(policy.md section 1, architecture-ports.md sections 2 and 3)."""
import errno
import fcntl
import os
import pty
import signal
import struct
import termios
import time

import pytest

from common import (AT_FDCWD, FAULT, IN_VM, LIMIT, MACHINE, NR, Raw, Script, buffer, data, helper,
                    native, run, words)

DENIED = '''mount umount2 pivot_root swapon swapoff reboot sethostname setdomainname kexec_load
kexec_file_load init_module finit_module delete_module unshare setns perf_event_open bpf userfaultfd
keyctl add_key request_key ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp
open_by_handle_at name_to_handle_at ioperm iopl modify_ldt quotactl quotactl_fd acct lookup_dcookie
nfsservctl io_uring_setup io_uring_enter io_uring_register fanotify_init fsopen fsmount fsconfig fspick
move_mount open_tree mount_setattr chroot syslog vhangup settimeofday adjtimex clock_settime
clock_adjtime'''.split()
SYSV = '''shmget shmat shmdt shmctl msgget msgsnd msgrcv msgctl semget semop semtimedop
semctl'''.split()
NO_SUPERVISOR_DENIED = '''swapon swapoff reboot kexec_load kexec_file_load init_module finit_module
delete_module perf_event_open bpf ioperm iopl io_uring_setup io_uring_enter
io_uring_register'''.split()


# ---- the whole table and beyond ----

SWEEPS = {'default': [], 'deny': ['--fs-deny', '/etc/shadow'], 'root': ['-r', '/'],
          'explain': ['--explain=/dev/null'], 'write': ['-w', '/dev/null'],
          'all': ['-r', '/', '--fs-deny', '/etc/shadow', '--name', 'x', '--deterministic-dirs',
                  '--explain=/dev/null']}
# Arguments: all wrong, all zero, all a faulting address, all a string.
ARGUMENTS = {'minus': -1, 'zero': 0, 'fault': FAULT, 'string': Raw('s:/etc/hostname')}


@pytest.mark.parametrize('policy, arguments', [
    (p, a) for p in SWEEPS for a in ARGUMENTS if a == 'minus' or p in ('default', 'all')])
def test_whole_table(policy, arguments, tmp_path):
    """Every number from 0 to 600 in a child: the sandbox survives, denied calls say so, and a number
    that the table does not know is not there, whatever this kernel has."""
    s = Script()
    numbers = list(range(0, 601)) + [1023, 4095, 65536, 0x3fffffff]
    # Kept once: a mapping for each would slow every fork down.
    argument = s.keep(ARGUMENTS[arguments])
    for nr in numbers:
        s.number(nr, *[argument] * 6, fork=True)
    alive = s.call('getpid')
    answers = s.run(*SWEEPS[policy], timeout=LIMIT * 4, cwd=tmp_path)[1:]
    alive -= 1
    assert answers[alive].result > 0
    names = {nr: name for name, nr in NR.items()}
    wrong = {}
    for nr, answer in zip(numbers, answers):
        name = names.get(nr)
        if name is None:
            if answer.name != 'ENOSYS':
                wrong[nr] = answer
        elif name in DENIED or name in SYSV:
            if answer.name != 'EPERM':
                wrong[name] = answer
        elif name == 'clone3' and answer.name != 'ENOSYS':
            wrong[name] = answer
        elif answer.signal == signal.SIGSYS:
            wrong[name] = answer
    assert wrong == {}
    assert set(DENIED) & set(NR) and len(set(DENIED) & set(NR)) >= len(DENIED) - 6


def test_control_denied_calls_exist_outside():
    """They answer something else than EPERM for a user who may; for the others the arguments are the
    reason. Only calls that do nothing with nonsense are made."""
    harmless = {'keyctl': [-1] * 4, 'shmget': [0, 0, 0], 'msgctl': [-1, 2, FAULT],
                'process_vm_readv': [-1, FAULT, 1, FAULT, 1, 0], 'unshare': [0], 'semget': [0, 0, 0],
                'ptrace': [-1, 0, 0, 0], 'kcmp': [-1, -1, 0, 0, 0], 'pidfd_getfd': [-1, 0, 0],
                'io_uring_setup': [0, FAULT], 'add_key': [FAULT] * 3, 'name_to_handle_at': [
                    AT_FDCWD, '/etc', FAULT, FAULT, 0], 'process_madvise': [-1, FAULT, 1, 0, 0],
                'clone3': [FAULT, 0], 'shmdt': [1]}
    s = Script()
    calls = {n: s.call(n, *a) for n, a in harmless.items()}
    answers = s.native()
    inside = s.run()
    for name, index in calls.items():
        if index is None:
            continue
        assert answers[index].name != 'EPERM', name
        assert inside[index].name == ('ENOSYS' if name == 'clone3' else 'EPERM'), name


def test_sweep_without_a_supervisor():
    s = Script()
    calls = {n: s.call(n, *[-1] * 6, fork=True) for n in DENIED + SYSV if n in NR}
    unknown = s.number(599, 0, fork=True)
    answers = s.run('--no-supervisor')
    refused = {n for n, i in calls.items() if answers[i].name == 'EPERM'}
    assert set(NO_SUPERVISOR_DENIED) & set(NR) <= refused
    # Nesting needs these.
    open_calls = {'unshare', 'ptrace', 'process_vm_readv', 'mount', 'keyctl'}
    got = {n: answers[calls[n]].name for n in open_calls if n in calls}
    assert answers[unknown].name == 'ENOSYS'
    assert got['ptrace'] != 'EPERM' and got['process_vm_readv'] != 'EPERM', got


def test_names_on_this_machine():
    """The numbers that the specification pins down."""
    pinned = {'openat': (257, 56), 'execve': (59, 221), 'clone': (56, 220), 'seccomp': (317, 277),
              'memfd_create': (319, 279), 'renameat': (264, 38), 'statx': (332, 291),
              'openat2': (437, 437), 'fchmodat2': (452, 452)}
    column = 0 if MACHINE == 'x86_64' else 1
    assert {n: NR[n] for n in pinned} == {n: v[column] for n, v in pinned.items()}


# ---- foreign ABIs ----

def elf(machine, bits, code, entry=0x10000):
    """A static program of one segment: no toolchain of a foreign machine is needed."""
    if bits == 32:
        head, ph = 52, 32
        start = entry + head + ph
        image = struct.pack('<4sBBBBB7xHHIIIIIHHHHHH', b'\x7fELF', 1, 1, 1, 0, 0, 2, machine, 1,
                            start, head, 0, 0x05000000 if machine == 40 else 0, head, ph, 1, 0, 0, 0)
        size = head + ph + len(code)
        image += struct.pack('<8I', 1, 0, entry, entry, size, size, 5, 0x10000)
    else:
        head, ph = 64, 56
        start = entry + head + ph
        image = struct.pack('<4sBBBBB7xHHIQQQIHHHHHH', b'\x7fELF', 2, 1, 1, 0, 0, 2, machine, 1,
                            start, head, 0, 0, head, ph, 1, 0, 0, 0)
        size = head + ph + len(code)
        image += struct.pack('<IIQQQQQQ', 1, 5, 0, entry, entry, size, size, 0x10000)
    return image + code


# exit(42), then an endless loop should that not end it.
EXIT_I386 = bytes.fromhex('b801000000' 'bb2a000000' 'cd80' 'ebfe')
EXIT_ARM = struct.pack('<IIII', 0xe3a0002a, 0xe3a07001, 0xef000000, 0xeafffffe)
EM_386, EM_ARM, EM_X86_64 = 3, 40, 62
FOREIGN = {
    'x86_64': {'i386-program': elf(EM_386, 32, EXIT_I386),
               'int80-in-64-bit-code': elf(EM_X86_64, 64, EXIT_I386)},
    'aarch64': {'aarch32-program': elf(EM_ARM, 32, EXIT_ARM)},
}[MACHINE]


@pytest.mark.parametrize('what', FOREIGN)
@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow'], ['--no-supervisor']],
                         ids=['default', 'fs-deny', 'no-supervisor'])
def test_foreign_calls_kill(what, options, tmp_path):
    """A-20. A message before the kill is allowed, running on is not."""
    program = tmp_path / 'foreign'
    program.write_bytes(FOREIGN[what])
    program.chmod(0o755)
    try:
        control = native(program).returncode
    except OSError as error:
        control = error.errno
    if control == errno.ENOEXEC or control == -signal.SIGSEGV:
        pytest.skip(f'this kernel does not run {what}: no 32-bit support')
    assert control == 42
    result = run('-r', tmp_path, *options, '--no-coredump', '-t' if not options else '--quiet',
                 *(['60'] if not options else []), '--', program)
    # Without a supervisor the command is what we started ourselves.
    assert result.returncode in (128 + signal.SIGSYS, -signal.SIGSYS, 126), result
    # From a process that goes on: the child dies, its parent is told.
    result = run('-r', tmp_path, *options, '--no-coredump', '--', 'sh', '-c',
                 f'{program}; echo after $?')
    assert result.stdout.split()[-1] in (str(128 + signal.SIGSYS), '126', '137'), result


def test_numbers_of_x32_are_not_there():
    """A-21: the bit of x32, and its range of numbers, on the machine that has it; elsewhere they are
    unknown numbers like others."""
    s = Script()
    for nr in [0x40000000 + n for n in (0, 1, 2, 39, 59, 257, 332, 437, 520)] + list(range(512, 548)):
        s.number(nr, 0, 0, 0, 0, fork=True)
    for options in ([], ['--fs-deny', '/etc/shadow'], ['--no-supervisor'], ['-r', '/']):
        names = {a.name if a.signal is None else 'killed' for a in s.run(*options)}
        assert names <= {'ENOSYS', 'killed'}, names
    s = Script()
    for nr in (-1, 0xffffffff, 0x7fffffff, 1 << 32 | NR['getpid']):
        s.number(nr, 0, fork=True)
    answers = s.run()
    assert [a.name for a in answers[:3]] == ['ENOSYS'] * 3
    # The kernel looks at 32 bits.
    assert answers[3].name in ('OK', 'ENOSYS')


# ---- dangerous arguments ----

TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD = 0x5412, 0x541c, 0x541d, 0x5423


def lines_of(master, n):
    """What was written to the terminal, which arrives some time after: until there are n lines."""
    text = ''
    for _ in range(int(1000 * LIMIT)):
        try:
            text += os.read(master, 65536).decode()
        except BlockingIOError:
            time.sleep(0.01)
        if text.count('\r\n') >= n:
            break
    return text.split('\r\n')


def test_terminal_ioctls():
    """IO-07, with the upper half of the number set as well: the kernel looks at 32 bits."""
    master, slave = pty.openpty()
    s = Script()
    made = []
    for request in (TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD):
        for high in (0, 1 << 32, 0xffffffff << 32):
            made.append(s.number(NR['ioctl'], 1, request | high, data(b'\0' * 8)))
    size = s.call('ioctl', 1, termios.TIOCGWINSZ, buffer(8))
    path = os.ttyname(slave)
    wrapped = f'{helper("rawcall")} >{path}'
    fcntl.fcntl(master, fcntl.F_SETFL, os.O_NONBLOCK)
    for options in ([], ['--fs-deny', '/etc/shadow'], ['--no-supervisor']):
        result = run('-w', path, *options, '--', 'sh', '-c', wrapped, input=s.text())
        assert result.returncode == 0, result.stderr
        text = lines_of(master, size + 1)
        assert [int(text[i].split()[1]) for i in made] == [errno.EPERM] * len(made)
        assert text[size].split()[1] == '0'
    result = native('sh', '-c', wrapped, input=s.text())
    outside = lines_of(master, size + 1)
    assert any(int(outside[i].split()[1]) != errno.EPERM for i in made), outside
    os.close(master)
    os.close(slave)


def test_prctl():
    dumpable, ptracer, securebits, mm = 4, 0x59616d61, 28, 35
    seccomp_mode = 22
    s = Script()
    refused = [s.call('prctl', dumpable, 0), s.call('prctl', dumpable, 2),
               s.call('prctl', dumpable, 1 << 32 | 1), s.call('prctl', 1 << 32 | dumpable, 0),
               s.call('prctl', ptracer, 1), s.call('prctl', securebits, 0),
               s.call('prctl', mm, 9, 0, 0, 0)]
    allowed = [s.call('prctl', dumpable, 1), s.call('prctl', 3), s.call('prctl', 15, 'name'),
               s.call('prctl', 38, 1, 0, 0, 0), s.call('prctl', 1, 0)]
    never = s.call('prctl', seccomp_mode, 0)
    answers = s.run()
    assert [answers[i].name for i in refused] == ['EPERM'] * len(refused)
    assert [answers[i].name for i in allowed] == ['OK'] * len(allowed)
    assert answers[never].name != 'OK'
    outside = s.native()
    assert outside[refused[0]].name == 'OK'


NAMESPACES = {'NEWNS': 0x20000, 'NEWCGROUP': 0x2000000, 'NEWUTS': 0x4000000, 'NEWIPC': 0x8000000,
              'NEWUSER': 0x10000000, 'NEWPID': 0x20000000, 'NEWNET': 0x40000000}


def test_namespaces_in_every_form():
    """UM-02: the existing implementation lets clone3 through."""
    s = Script()
    refused = {}
    for name, flag in NAMESPACES.items():
        refused[f'clone {name}'] = s.call('clone', flag | signal.SIGCHLD, 0, 0, 0, 0, fork=True)
        refused[f'clone user+{name}'] = s.call('clone', flag | 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0,
                                               fork=True)
        refused[f'unshare {name}'] = s.call('unshare', flag, fork=True)
        refused[f'setns {name}'] = s.call('setns', 0, flag, fork=True)
    args = data(struct.pack('<11Q', 0x10000000, 0, 0, 0, signal.SIGCHLD, *[0] * 6))
    clone3 = s.call('clone3', args, 88, fork=True)
    forked = s.call('clone', signal.SIGCHLD, 0, 0, 0, 0, fork=True)
    for options in ([], ['--fs-deny', '/etc/shadow']):
        answers = s.run(*options)
        assert {k: answers[i].name for k, i in refused.items() if answers[i].name != 'EPERM'} == {}
        assert answers[clone3].name == 'ENOSYS' and answers[forked].name == 'OK'
    outside = s.native()
    if native('unshare', '-U', 'true').returncode == 0:
        assert outside[refused['unshare NEWUSER']].name == 'OK'
        assert outside[clone3].name == 'OK'
    result = run('--', 'unshare', '-U', 'true')
    assert result.returncode != 0


def test_own_children_are_not_debugged():
    """ptrace and process_vm_readv of one's own child, which the kernel itself would allow."""
    program = f'''
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
read = lambda *a: (ctypes.set_errno(0), libc.syscall(*a), ctypes.get_errno())[1:]
pid = os.fork()
if pid == 0:
    signal.pause()
class iov(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
text = ctypes.create_string_buffer(b"secret"); out = ctypes.create_string_buffer(7)
local, remote = iov(ctypes.addressof(out), 6), iov(ctypes.addressof(text), 6)
print(read({NR["process_vm_readv"]}, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, ctypes.c_long(0)))
print(read({NR["ptrace"]}, 16, pid, 0, 0))
try: open(f"/proc/{{pid}}/mem", "rb").close(); print("mem")
except OSError as e: print("no mem")
os.kill(pid, 9)
'''
    inside = run('-r', '/proc', '--', '/usr/bin/python3', '-c', program).stdout.splitlines()
    assert inside[:2] == [f'(-1, {errno.EPERM})'] * 2, inside
    outside = native('/usr/bin/python3', '-c', program).stdout.splitlines()
    if outside[0] == f'(-1, {errno.EPERM})':
        pytest.skip('this system refuses ptrace of own children outside as well (Yama)')
    assert outside == ['(6, 0)', '(0, 0)', 'mem']


def test_personality_only_asks():
    s = Script()
    ask = s.call('personality', 0xffffffff)
    change = [s.call('personality', 0x40000), s.call('personality', 0), s.call('personality', 8)]
    answers = s.run()
    assert answers[ask].name == 'OK'
    assert [answers[i].name for i in change] == ['EPERM'] * 3
    assert s.native()[change[0]].name == 'OK'


def test_sockets_by_family_and_type(tmp_path):
    """Families and types that Landlock does not govern are not created (NR-04)."""
    cases = {'unix': (1, 1, 0), 'unix-dgram': (1, 2, 0), 'tcp': (2, 1, 0), 'tcp6': (10, 1, 6),
             'udp': (2, 2, 0), 'raw': (2, 3, 1), 'icmp': (2, 2, 1), 'mptcp': (2, 1, 262),
             'sctp': (2, 1, 132), 'dccp': (2, 6, 33), 'packet': (17, 3, 0), 'vsock': (40, 1, 0),
             'alg': (38, 5, 0), 'bluetooth': (31, 3, 0), 'tipc': (30, 5, 0), 'can': (29, 3, 1),
             'xdp': (44, 3, 0), 'kcm': (41, 2, 0), 'smc': (43, 1, 0), 'rds': (21, 5, 0),
             'udp-high-bits': (1 << 32 | 2, 1 << 32 | 2, 0)}
    s = Script()
    made = {k: s.call('socket', *a) for k, a in cases.items()}
    unix = {'unix', 'unix-dgram'}  # by path, see test_net.py
    # Without a supervisor nobody watches listen(2): TCP only where a rule asks for it.
    for options in ([], ['--fs-deny', '/etc/shadow'], ['--no-supervisor', '--net-allow', ':1']):
        answers = s.run(*options)
        assert {k for k, i in made.items() if answers[i].name == 'OK'} - unix == {'tcp', 'tcp6'}
    opened = s.run('-w', tmp_path)
    assert (opened[made['unix']].name, opened[made['unix-dgram']].name) == ('OK', 'EACCES')
    outside = s.native()
    assert outside[made['udp']].name == 'OK'


# ---- extra rules ----

def test_extra_deny_and_allow():
    s = Script()
    uname, memfd = s.call('uname', buffer(400)), s.call('memfd_create', 'x', 0)
    pipe = s.call('pipe2', buffer(8), 0)
    shm = s.call('shmget', 0, 4096, 0o600)
    plain = s.run()
    assert [plain[i].name for i in (uname, memfd, pipe, shm)] == ['OK', 'OK', 'OK', 'EPERM']
    denied = s.run('--extra-deny-syscall', 'memfd_create', '--extra-deny-syscall', 'pipe2')
    assert [denied[i].name for i in (uname, memfd, pipe)] == ['OK', 'EPERM', 'EPERM']
    allowed = s.run('--extra-allow-syscall', 'sysv_ipc')
    assert allowed[shm].name == 'OK'
    os.system(f'ipcrm -m {allowed[shm].result} >/dev/null 2>&1')
    both = s.run('--extra-allow-syscall', 'sysv_ipc', '--extra-deny-syscall', 'shmget')
    assert both[shm].name == 'EPERM'


@pytest.mark.parametrize('flag, word, hint', [
    ('--extra-deny-syscall', 'memfd_creat', 'memfd_create'), ('--extra-deny-syscall', 'nonsense', ''),
    ('--extra-allow-syscall', 'ptrace', 'sysv_ipc'), ('--extra-allow-syscall', 'nonsense', '')])
def test_bad_names_of_calls(flag, word, hint):
    result = run(flag, word, '--', 'true')
    assert result.returncode == 2 and word in result.stderr and hint in result.stderr


def test_a_filter_of_its_own_only_narrows():
    """seccomp(2) by the command: allowed, and a listener of its own is answered EBUSY."""
    program = struct.pack('<HBBI', 6, 0, 0, 0x7fff0000)
    s = Script()
    filters = s.keep(data(program))
    prog = words(1, filters)
    plain = s.call('seccomp', 1, 0, prog, fork=True)
    listener = s.call('seccomp', 1, 8, prog, fork=True)
    answers = s.run('--fs-deny', '/etc/shadow')
    assert answers[plain].name == 'OK'
    assert answers[listener].name in ('EBUSY', 'EPERM', 'EACCES')


# ---- memory that is not there ----

def test_sandbox_survives_hostile_memory():
    """The caller's memory vanishes, is shared, or is another's while a call is decided."""
    program = '''
import ctypes, mmap, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
page = libc.mmap(None, 4096, 3, 0x21, -1, 0)
ctypes.memmove(page, b"/etc/hostname\\0", 14)
stop = False
def flip():
    while not stop:
        libc.mprotect(page, 4096, 0); libc.mprotect(page, 4096, 3)
t = threading.Thread(target=flip); t.start()
seen = set()
end = time.monotonic() + float(sys.argv[1])
libc.open.argtypes = [ctypes.c_void_p, ctypes.c_int]
while time.monotonic() < end:
    ctypes.set_errno(0)
    fd = libc.open(page, 0)
    seen.add(ctypes.get_errno())
    if fd >= 0: os.close(fd)
stop = True; t.join()
print(sorted(seen))
'''
    result = run('--fs-deny', '/etc/shadow', '--', '/usr/bin/python3', '-c', program,
                 5 if IN_VM else 1)
    assert result.returncode == 0, result.stderr
    assert set(eval(result.stdout)) <= {0, errno.EFAULT}, result.stdout
