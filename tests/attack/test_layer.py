# SPDX-License-Identifier: Apache-2.0
"""Nothing reaches the tree below --workdir before the commit: every call that takes a path or changes an
open file, and races over paths."""
import os

import pytest

from common import (AT_FDCWD, AT_SYMLINK_NOFOLLOW, IN_VM, LIMIT, NR, ROOT, Script, buffer, data,
                    metadata_calls, run, tree_state, words)

O_PATH = os.O_PATH
SECONDS = '10' if os.environ.get('SANDLOCK_LONG') else '1' if IN_VM else '4'


@pytest.fixture
def work(tmp_path):
    top = tmp_path / 'work'
    (top / 'dir' / 'sub').mkdir(parents=True)
    for name in ('file', 'other', 'dir/inner', 'dir/sub/leaf'):
        (top / name).write_text(name)
    (top / 'link').symlink_to('file')
    (top / 'abs').symlink_to(top / 'dir')
    os.mkfifo(top / 'fifo')
    for path in (tmp_path, top):
        path.chmod(0o755)
    return top


def numbers(top):
    found = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files + ['.']:
            info = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (info.st_ino, info.st_ctime_ns)
    return found


def spellings(work):
    return [str(work / 'file'), 'file', './dir/../file', str(work) + '//file', 'link',
            str(work / 'abs' / '..' / 'file'), '/proc/self/cwd/file', 'dir', 'abs/inner', 'fifo', 'new',
            '/proc/self/root' + str(work / 'file')]


def rows():
    for line in (ROOT / 'gen' / 'syscalls.tbl').read_text().splitlines():
        fields = line.split('#')[0].split()
        if len(fields) == 6 and 'path' in fields[4].split(','):
            yield fields[0], fields[3], fields[4].split(',')


def test_every_path_call(work):
    """Each call of the table that takes a path, raw, with arguments that make it change something."""
    before, ids = tree_state(work), numbers(work)
    s = Script()
    how = s.keep(data((os.O_RDWR | os.O_CREAT | os.O_TRUNC).to_bytes(8, 'little') +
                      (0o644).to_bytes(8, 'little') + bytes(8)))
    times = s.keep(words(1000, 0, 1000, 0))
    out = s.keep(buffer(4096))
    argv = s.keep(words(0))
    dirfd = s.open(str(work), os.O_RDONLY | os.O_DIRECTORY)
    for path in spellings(work)[:4 if IN_VM else None]:
        for name, op, args in rows():
            if name not in NR or op in ('exec', 'mount', 'swap', 'chroot'):
                continue
            for flags in ((os.O_RDWR | os.O_TRUNC | os.O_CREAT,) if op == 'open' else (0, 0x200)):
                values, seen = [], 0
                for kind in args:
                    seen += kind == 'path'
                    values.append({'path': path if seen < 2 else str(work / 'target'),
                                   'dirfd': dirfd if flags else AT_FDCWD, 'str': 'user.x',
                                   'flags': flags if op in ('open', 'unlink') else 0, 'mode': 0o600,
                                   'any': 1, 'len': 24 if op in ('open', 'fileattr_set') else 1,
                                   'ptr': how if op == 'open' else times if op == 'times' else out,
                                   'argv': argv, 'fd': 0}.get(kind, 0))
                s.call(name, *values, fork=True)
    answers = s.run('--workdir', work, '-w', work, '--on-exit', 'abort', cwd=work, timeout=LIMIT * 4)
    assert sum(a.name == 'OK' for a in answers) > 30
    assert tree_state(work) == before and numbers(work) == ids


def test_every_change_by_descriptor(work):
    before, ids = tree_state(work), numbers(work)
    s = Script()
    for flags in (os.O_RDONLY, os.O_RDWR, O_PATH):
        fd = s.open(str(work / 'file'), flags)
        metadata_calls(s, None, fd)
        for name, args in (('ftruncate', (fd, 1)), ('fallocate', (fd, 0, 0, 9000)),
                           ('write', (fd, 'x', 1)), ('pwrite64', (fd, 'x', 1, 0)),
                           ('mmap', (0, 4096, 3, 1, fd, 0)), ('linkat', (fd, '', AT_FDCWD,
                                                                         str(work / 'l'), 0x1000))):
            s.call(name, *args)
    directory = s.open(str(work), os.O_RDONLY | os.O_DIRECTORY)
    metadata_calls(s, 'dir', directory, dirfd=directory)
    s.call('openat', directory, '.', os.O_TMPFILE | os.O_RDWR, 0o600)
    s.run('--workdir', work, '-w', work, '--on-exit', 'abort', cwd=work)
    assert tree_state(work) == before and numbers(work) == ids


RACE = '''
import ctypes, os, sys, threading, time
path = ctypes.create_string_buffer(b"file" + bytes(60))
names = [b"file", b"dir/inner", b"new", b"abs/inner", b"link", OUT + b"/x", b"/proc/self/fd/3"]
end = time.monotonic() + SECONDS
libc = ctypes.CDLL(None, use_errno=True)
def flip():
    i = 0
    while time.monotonic() < end:
        n = names[i % len(names)]; i += 1
        ctypes.memmove(path, n + b"\\0", len(n) + 1)
def links():
    while time.monotonic() < end:
        for target in (b"file", OUT + b"/x", b"dir/inner"):
            try: os.unlink("flip")
            except OSError: pass
            try: os.symlink(target, "flip")
            except OSError: pass
def descriptors():
    a, b = os.open("dir", os.O_RDONLY), os.open(OUT, os.O_RDONLY)
    while time.monotonic() < end:
        os.dup2(a, 9); os.dup2(b, 9)
for f in (flip, links, descriptors): threading.Thread(target=f).start()
n = 0
while time.monotonic() < end:
    for p in (path, b"flip", b"abs/inner"):
        for d in (-100, 9):
            fd = libc.openat(d, p, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            if fd >= 0:
                os.write(fd, b"raced"); n += 1; os.close(fd)
            libc.fchmodat(d, p, 0o600, 0); libc.truncate(p, 1)
            libc.linkat(d, p, -100, b"hl", 0); libc.unlinkat(-100, b"hl", 0)
print("opened" if n else "none")
'''


def test_races(work, tmp_path):
    """A thread exchanges paths, links and descriptors while another writes through them."""
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'x').write_text('x')
    before, ids = tree_state(work), numbers(work)
    text = RACE.replace('OUT', repr(os.fsencode(out))).replace('SECONDS', SECONDS)
    done = run('--workdir', work, '-w', out, '--on-exit', 'abort', '-r', '/dev/urandom', '--', 'python3',
               '-c', text, cwd=work, timeout=LIMIT * 4, env={'PATH': '/usr/bin:/bin'})
    assert done.stdout == 'opened\n', done.stderr
    assert tree_state(work) == before and numbers(work) == ids


def test_names_that_are_no_text(work):
    """PR-07: bytes that no encoding knows are staged as any others."""
    before, ids = tree_state(work), numbers(work)
    s = Script()
    made = [s.call('openat', AT_FDCWD, b'n\xff', os.O_CREAT | os.O_WRONLY, 0o600),
            s.call('mkdirat', AT_FDCWD, b'm\xfe', 0o700),
            s.call('symlinkat', b'\xff', AT_FDCWD, b's\xfd'),
            s.call('newfstatat', AT_FDCWD, b's\xfd', buffer(256), AT_SYMLINK_NOFOLLOW)]
    answers = s.run('--workdir', work, '--on-exit', 'abort', cwd=work)
    assert [answers[i].name for i in made] == ['OK'] * 4
    assert tree_state(work) == before and numbers(work) == ids
