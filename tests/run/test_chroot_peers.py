# SPDX-License-Identifier: Apache-2.0
"""What another implementation got wrong under --chroot and was mended there, or still is: each a case of its own.
docs/requirements-files.md says which requirement each belongs to. The control is the same call without a sandbox."""
import errno
import os
import stat

import pytest

from chroot_tree import debian_root, make_root
from common import (AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, MACHINE, Raw, Script, buffer, native, sandlock, words)

PYTHON = '/usr/bin/python3'


@pytest.fixture
def base(tmp_path):
    """A small root, whose /tmp may be written to."""
    tmp_path.chmod(0o755)
    return make_root(tmp_path / 'root', programs=['sh', 'cat', 'ls'])


def raw(root, calls):
    """Answers inside."""
    done = sandlock('run', '--chroot', root, '-r', '/', '-w', '/tmp', '--', '/rawcall', input=calls.text())
    return calls._answers(done)


def python(text, *options):
    """A program of the Debian root's own Python."""
    return sandlock('run', '--chroot', debian_root(), '-r', '/', *options, '--', PYTHON, '-c', text, timeout=300)


def test_registers_that_a_call_does_not_have(base, tmp_path):
    """PR-09: faccessat and fchmodat take three arguments; what the fourth register holds means nothing."""
    (tmp_path / 'file').write_text('x')
    (base / 'tmp' / 'file').write_text('x')
    for top, ask in ((tmp_path, lambda c: c.native()), ('/tmp', lambda c: raw(base, c))):
        calls = Script()
        made = [calls.call(name, AT_FDCWD, f'{top}/{leaf}', value, garbage)
                for name, value in (('faccessat', 0), ('fchmodat', 0o644))
                for garbage in (AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, 0xdeadbeef, -1) for leaf in ('file', 'none')]
        answers = ask(calls)
        assert [answers[i].name for i in made] == ['OK', 'ENOENT'] * 8


@pytest.mark.parametrize('mask', [0, 0o022, 0o077])
def test_mode_of_what_is_made(base, tmp_path, mask):
    """PR-12: the mode that was asked for, and the caller's umask."""
    seen = []
    (tmp_path / 'made').mkdir()
    for top, ask in ((tmp_path / 'made', lambda c: c.native()), ('/tmp', lambda c: raw(base, c))):
        calls = Script()
        calls.call('umask', mask)
        calls.open(f'{top}/a', os.O_CREAT | os.O_WRONLY, 0o755)
        calls.open(f'{top}/b', os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o4711)
        calls.call('mkdirat', AT_FDCWD, f'{top}/c', 0o777)
        calls.call('mknodat', AT_FDCWD, f'{top}/d', stat.S_IFIFO | 0o666, 0)
        ask(calls)
        where = tmp_path / 'made' if top != '/tmp' else base / 'tmp'
        seen.append([oct((where / n).lstat().st_mode) for n in 'abcd'])
    assert seen[0] == seen[1] and seen[0][0] == oct(0o100755 & ~mask)


def test_lengths_without_bounds(base):
    """PR-15: refused as the kernel does, and everything goes on afterwards."""
    (base / 'tmp' / 'file').write_text('x')
    calls = Script()
    value = calls.keep(Raw('s:v'))
    huge = [calls.call('setxattr', '/tmp/file', 'user.x', value, n, 0) for n in (1 << 40, 65537, (1 << 64) - 1)]
    names = [calls.call('setxattr', '/tmp/file', 'user.' + 'n' * n, value, 1, 0) for n in (251, 300)]
    read = calls.call('readlinkat', AT_FDCWD, '/proc/self/exe', buffer(64), 1 << 40)
    again = calls.call('faccessat', AT_FDCWD, '/tmp/file', 0)
    answers, outside = raw(base, calls), calls.native()
    assert [answers[i].name for i in huge] == ['E2BIG'] * 3 == [outside[i].name for i in huge[:2]] + ['E2BIG']
    assert [answers[i].name for i in names] == ['ERANGE'] * 2 and answers[read].name in ('EINVAL', 'OK')
    assert answers[again].name == 'OK'


def test_not_followed(base):
    """CR-09: these families mean the link itself, whose target is what they must not touch."""
    (base / 'tmp' / 'target').write_text('kept')
    before = (base / 'tmp' / 'target').stat()
    calls = Script()
    for name in 'abcd':
        (base / 'tmp' / name).symlink_to('/tmp/target')
    look = calls.call('newfstatat', AT_FDCWD, '/tmp/a', buffer(144), AT_SYMLINK_NOFOLLOW)
    made = [calls.call('fchownat', AT_FDCWD, '/tmp/a', os.geteuid(), os.getegid(), AT_SYMLINK_NOFOLLOW),
            calls.call('utimensat', AT_FDCWD, '/tmp/a', words(1000, 0, 1000, 0), AT_SYMLINK_NOFOLLOW),
            calls.call('linkat', AT_FDCWD, '/tmp/b', AT_FDCWD, '/tmp/hard', 0),
            calls.call('renameat2', AT_FDCWD, '/tmp/c', AT_FDCWD, '/tmp/moved', 0),
            calls.call('unlinkat', AT_FDCWD, '/tmp/d', 0)]
    refused = calls.call('lsetxattr', '/tmp/a', 'user.x', 'v', 1, 0)
    answers = raw(base, calls)
    assert [answers[i].name for i in made] == ['OK'] * 5 and answers[refused].name == 'EPERM'
    at = 24 if MACHINE == 'x86_64' else 16
    assert stat.S_ISLNK(int.from_bytes(answers[look].buffers[0][at:at + 4], 'little'))
    after = (base / 'tmp' / 'target').stat()
    assert (after.st_mtime_ns, after.st_ctime_ns, after.st_nlink) == (before.st_mtime_ns, before.st_ctime_ns, 1)
    assert (base / 'tmp' / 'a').lstat().st_mtime == 1000 and (base / 'tmp' / 'hard').is_symlink()


def test_virtual_files_keep_flags(base):
    """VF-01: O_CLOEXEC exactly as asked, not written to, no directory."""
    calls = Script()
    ask = []
    for flags in (0, os.O_CLOEXEC):
        fd = calls.open('/proc/self/mounts', flags)
        ask.append(calls.call('fcntl', fd, 1))
    write = calls.call('openat', AT_FDCWD, '/proc/self/mounts', os.O_WRONLY, 0)
    folder = calls.call('openat', AT_FDCWD, '/proc/self/mounts', os.O_DIRECTORY, 0)
    answers = raw(base, calls)
    assert [answers[i].result for i in ask] == [0, 1]
    assert answers[write].name == 'EACCES' and answers[folder].name == 'ENOTDIR'


def test_started_again_and_again():
    """The caller's path, argv and environment are what they were: the second start of one path succeeds as the first, with
    packed strings, from a path that cannot be written to, and argv[0] is the caller's word."""
    text = '''
import ctypes, mmap, os
out = []
path = b"/usr/bin/env"
page = mmap.mmap(-1, 4096)
page.write(path + b"\\0-i\\0A=1\\0")
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(address), 4096, 1) == 0
argv = (ctypes.c_void_p * 4)(address, address + 13, address + 16, None)
for i in range(3):
    r, w = os.pipe()
    pid = ctypes.c_int()
    actions = ctypes.create_string_buffer(256)
    libc.posix_spawn_file_actions_init(actions)
    libc.posix_spawn_file_actions_adddup2(actions, w, 1)
    assert libc.posix_spawn(ctypes.byref(pid), ctypes.c_void_p(address), actions, None, argv, argv) == 0
    os.close(w)
    out.append(os.read(r, 100))
    os.waitpid(pid.value, 0)
print(out, ctypes.string_at(address, 20) == b"/usr/bin/env\\0-i\\0A=1\\0", flush=True)
pid = os.posix_spawn("/bin/sh", ["own name", "-c", "echo $0 x; tr '\\\\0' ' ' </proc/$$/cmdline"], {})
os.waitpid(pid, 0)
'''
    done = python(text)
    assert done.stdout.splitlines()[0] == "[b'A=1\\n', b'A=1\\n', b'A=1\\n'] True", done.stderr
    assert done.stdout.splitlines()[1] == 'own name x' and done.stdout.splitlines()[2].startswith('own name -c ')


def test_directory_of_threads_and_children():
    """One directory for all threads, a copy for children; short targets, the way back, /proc/self/cwd."""
    text = '''
import os, threading
os.chdir("/usr")
t = threading.Thread(target=os.chdir, args=("lib",)); t.start(); t.join()
print(os.getcwd(), os.readlink("/proc/self/cwd"), os.path.isdir("python3"))
if os.fork() == 0:
    os.chdir("/"); os._exit(0 if os.path.exists("usr") else 1)
print(os.wait()[1], os.getcwd())
os.chdir(".."); os.chdir("."); print(os.getcwd())
fd = os.open("lib", os.O_RDONLY); os.fchdir(fd); print(os.getcwd(), os.listdir("/proc/self/cwd/../lib") == os.listdir(fd))
for bad in ("nope", "../bin/env", ""):
    try: os.chdir(bad)
    except OSError as error: print(error.errno, os.getcwd())
'''
    done = python(text)
    bad = ''.join(f'{e} /usr/lib\n' for e in (errno.ENOENT, errno.ENOTDIR, errno.ENOENT))
    assert done.stdout == f'/usr/lib /usr/lib True\n0 /usr/lib\n/usr\n/usr/lib True\n{bad}', done.stderr


def test_scripts_see_no_other_descriptor_nor_name(tmp_path):
    """CR-15: also of a script that exists in a layer only."""
    (tmp_path / 'script').write_text('#!/bin/sh\necho "$0"; ls /proc/self/fd\n')
    (tmp_path / 'script').chmod(0o755)
    want = native('sh', '-c', f'{tmp_path}/script').stdout
    place = ['--fs-mount', f'/w:{tmp_path}', '--fs-mount', '/dev/null:/dev/null']
    done = sandlock('run', '--chroot', debian_root(), '-r', '/', *place, '--', '/bin/sh', '-c', '/w/script', timeout=300)
    assert done.stdout == want.replace(str(tmp_path), '/w'), done.stderr
    (tmp_path / 'layer').mkdir()
    done = sandlock('run', '-r', '/', '-w', '/dev/null', '--workdir', tmp_path / 'layer', '--on-exit', 'abort', '--', 'sh',
                    '-c', f'cp {tmp_path}/script {tmp_path}/layer/s; {tmp_path}/layer/s', timeout=300)
    assert done.stdout == want.replace(f'{tmp_path}/script', f'{tmp_path}/layer/s'), done.stderr
    assert not (tmp_path / 'layer' / 's').exists()
