# SPDX-License-Identifier: Apache-2.0
"""CW-01 call by call: every form in which a change can be asked for, legacy and newest, on an object of its own.
The control is the same script without a sandbox, which changes each of these objects; a call that one of the
machines lacks is left out there."""
import os
import socket
import subprocess

import pytest

from common import (AT_FDCWD, AT_REMOVEDIR, GRANTS, SANDLOCK, Raw, Script, buffer, data, run, tree_state, words)
from test_layer import numbers

OLD = 1000000000
WRONG = {'ENOSYS', 'EOPNOTSUPP'}


def how(flags, mode=0):
    return data(flags.to_bytes(8, 'little') + mode.to_bytes(8, 'little') + bytes(8))


def by_path(s):
    """name, function of (object, new name) -> arguments."""
    uid, gid = os.geteuid(), os.getegid()
    times, utimbuf = s.keep(words(OLD, 0, OLD, 0)), s.keep(words(OLD, OLD))
    value, xargs = s.keep(Raw('s:v')), s.keep(data(bytes(16)))
    create, trunc = os.O_CREAT | os.O_EXCL | os.O_WRONLY, os.O_WRONLY | os.O_TRUNC
    fifo, at = 0o010600, AT_FDCWD
    return [
        ('creat', lambda p, n: (p, 0o600)), ('creat', lambda p, n: (n, 0o600)),
        ('open', lambda p, n: (p, trunc)), ('open', lambda p, n: (p, os.O_TRUNC)), ('open', lambda p, n: (n, create, 0o600)),
        ('openat', lambda p, n: (at, p, trunc)), ('openat', lambda p, n: (at, p, os.O_TRUNC)),
        ('openat', lambda p, n: (at, n, create, 0o600)), ('openat2', lambda p, n: (at, p, s.keep(how(trunc)), 24)),
        ('openat2', lambda p, n: (at, n, s.keep(how(create, 0o600)), 24)),
        ('truncate', lambda p, n: (p, 1)), ('mkdir', lambda p, n: (n, 0o700)), ('mkdirat', lambda p, n: (at, n, 0o700)),
        ('mknod', lambda p, n: (n, fifo, 0)), ('mknodat', lambda p, n: (at, n, fifo, 0)),
        ('symlink', lambda p, n: (p, n)), ('symlinkat', lambda p, n: (p, at, n)),
        ('link', lambda p, n: (p, n)), ('linkat', lambda p, n: (at, p, at, n, 0)),
        ('rename', lambda p, n: (p, n)), ('renameat', lambda p, n: (at, p, at, n)),
        ('renameat2', lambda p, n: (at, p, at, n, 0)), ('renameat2', lambda p, n: (at, p, at, n, 1)),
        ('renameat2', lambda p, n: (at, p, at, 'dir', 2)), ('unlink', lambda p, n: (p,)), ('unlinkat', lambda p, n: (at, p, 0)),
        ('rmdir', lambda p, n: ('empty1',)), ('unlinkat', lambda p, n: (at, 'empty2', AT_REMOVEDIR)),
        ('chmod', lambda p, n: (p, 0o640)), ('fchmodat', lambda p, n: (at, p, 0o640)),
        ('fchmodat2', lambda p, n: (at, p, 0o640, 0)), ('chown', lambda p, n: (p, uid, gid)),
        ('lchown', lambda p, n: (p, uid, gid)), ('fchownat', lambda p, n: (at, p, uid, gid, 0)),
        ('utime', lambda p, n: (p, utimbuf)), ('utime', lambda p, n: (p, 0)), ('utimes', lambda p, n: (p, times)),
        ('futimesat', lambda p, n: (at, p, times)), ('utimensat', lambda p, n: (at, p, times, 0)),
        ('utimensat', lambda p, n: (at, p, 0, 0)), ('setxattr', lambda p, n: (p, 'user.x', value, 1, 0)),
        ('lsetxattr', lambda p, n: (p, 'user.x', value, 1, 0)),
        ('setxattrat', lambda p, n: (at, p, 0, 'user.x', xargs, 16)), ('removexattr', lambda p, n: (p, 'user.old')),
        ('lremovexattr', lambda p, n: (p, 'user.old')), ('removexattrat', lambda p, n: (at, p, 0, 'user.old')),
    ]


def by_descriptor(s):
    """The same through a descriptor: flags it is opened with, name, what follows it."""
    uid, gid = os.geteuid(), os.getegid()
    times, value = s.keep(words(OLD, 0, OLD, 0)), s.keep(Raw('s:v'))
    vector = s.keep(words(value, 1))
    return [
        (os.O_RDONLY, 'fchmod', (0o640,)), (os.O_RDONLY, 'fchown', (uid, gid)), (os.O_RDONLY, 'utimensat', (0, times, 0)),
        (os.O_RDONLY, 'futimesat', (0, times)), (os.O_RDONLY, 'fsetxattr', ('user.x', value, 1, 0)),
        (os.O_RDONLY, 'fremovexattr', ('user.old',)), (os.O_RDONLY, 'fchmodat2', ('', 0o640, 0x1000)),
        (os.O_PATH, 'fchownat', ('', uid, gid, 0x1000)), (os.O_PATH, 'fchmodat2', ('', 0o640, 0x1000)),
        (os.O_RDWR, 'write', (value, 1)), (os.O_RDWR, 'pwrite64', (value, 1, 9)), (os.O_RDWR, 'writev', (vector, 1)),
        (os.O_RDWR, 'pwritev2', (vector, 1, 0, 0, 0)), (os.O_RDWR, 'ftruncate', (2,)),
        (os.O_RDWR, 'fallocate', (0, 0, 9000)),
    ]


def script():
    """The calls, and the object that each one is about."""
    s, made = Script(), []
    for i, (name, arguments) in enumerate(by_path(s)):
        index = s.call(name, *arguments(f'f{i}', f'n{i}'))
        if index is not None:
            made.append((f'{name} {i}', index, [f'f{i}', f'n{i}', 'empty1', 'empty2', 'dir']))
    for i, (flags, name, rest) in enumerate(by_descriptor(s)):
        fd = s.open(f'd{i}', flags)
        index = s.call(name, fd, *rest)
        if index is not None:
            made.append((f'{name} by {flags}', index, [f'd{i}']))
    s.call('socket', socket.AF_UNIX, 1, 0, save='sock')
    made.append(('bind', s.call('bind', Raw('$sock'), data(b'\1\0sock\0'), 7), ['sock']))
    s.call('newfstatat', AT_FDCWD, 'f0', buffer(256), 0)
    return s, made


@pytest.fixture
def work(tmp_path):
    top = tmp_path / 'work'
    top.mkdir()
    for folder in ('dir', 'empty1', 'empty2'):
        (top / folder).mkdir()
    for i in range(80):
        for name in (f'f{i}', f'd{i}'):
            (top / name).write_text('content')
            try:
                os.setxattr(top / name, 'user.old', b'o')
            except OSError:
                pass  # then nobody can, and these calls say so in both runs
    for path in (tmp_path, top):
        path.chmod(0o755)
    return top


def shape(top):
    """Without times, and without the socket, which no commit carries."""
    return {name: (v[0], v[1], v[2], v[3], v[4] if v[0].startswith('0o10') else 0, *v[6:])
            for name, v in tree_state(top).items() if name != 'sock'}


def test_every_form(work, tmp_path):
    twin = tmp_path / 'twin'
    subprocess.run(['cp', '-a', work, twin], check=True)
    s, made = script()
    old = tree_state(twin), numbers(twin)
    plain = s.native(cwd=twin)
    new = tree_state(twin), numbers(twin)

    def differs(name):
        path = os.path.join(twin, name)
        return old[0].get(name) != new[0].get(name) or old[1].get(path) != new[1].get(path)
    did = [label for label, index, names in made if plain[index].name == 'OK']
    missing = [(label, plain[index]) for label, index, _ in made if label not in did and plain[index].name not in WRONG]
    assert len(did) > 30 and not missing
    for label, index, names in made:
        assert plain[index].name != 'OK' or any(differs(n) for n in names), label

    before = tree_state(work), numbers(work)
    answers = s.run('--workdir', work, '--on-exit', 'abort', cwd=work)
    assert (tree_state(work), numbers(work)) == before
    wrong = [(label, answers[index], plain[index]) for label, index, _ in made
             if answers[index].name != plain[index].name and plain[index].name not in WRONG]
    assert not wrong
    s.run('--workdir', work, cwd=work)
    assert {n: v for n, v in shape(work).items()} == shape(twin)
    for label, index, names in made:
        if label.split()[0] in ('utime', 'utimes', 'futimesat', 'utimensat'):
            times = [os.stat(top / names[0]).st_mtime == OLD for top in (work, twin)]
            assert times[0] == times[1], label


def test_storage_is_lost(work):
    """CW-14: what cannot be staged is an errno, never the real file."""
    before = tree_state(work), numbers(work)
    text = ('echo a > f1 && echo staged; echo; read x; for f in f2 new; do echo b > $f && echo wrote; done;'
            'chmod 600 f3 && echo moded; mv f4 g && echo moved; ln f5 l && echo linked; cat f6; exit 1')
    store = work.parent / 'store'
    store.mkdir(mode=0o700)
    with subprocess.Popen([SANDLOCK, 'run', *GRANTS, '--workdir', work, '--fs-storage', store, '--cwd', work, '--',
                           'sh', '-c', text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as p:
        assert p.stdout.readline() == 'staged\n' and p.stdout.readline() == '\n'
        objects = next(store.glob('*/objects'))
        subprocess.run(['rm', '-r', objects], check=True)
        out, _ = p.communicate('\n')
    assert out == 'content'
    assert (tree_state(work), numbers(work)) == before


def test_no_layer_no_run(work, tmp_path):
    """CW-13. The control is the same with a storage that can be used."""
    before = tree_state(work)
    shut = tmp_path / 'shut'
    shut.write_text('a file')
    for storage in (shut, shut / 'below', '/proc/self'):
        for more in ([], ['--dry-run'], ['--on-exit', 'commit']):
            done = run('--workdir', work, '--fs-storage', storage, *more, '--', 'sh', '-c', f'echo x > {work}/f1; echo ran')
            assert done.returncode == 125 and done.stdout == '' and '--fs-storage' in done.stderr
    assert tree_state(work) == before
    done = run('--workdir', work, '--', 'sh', '-c', f'echo x > {work}/f1; echo ran')
    assert done.stdout == 'ran\n' and (work / 'f1').read_text() == 'x\n'
