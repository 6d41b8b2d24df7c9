# SPDX-License-Identifier: Apache-2.0
"""Thousands of random path operations, once in a real chroot with bind mounts as the oracle and once
under --chroot and --fs-mount: equal results, errors and trees."""
import os
import random
import shutil
import subprocess

import pytest

from chroot_tree import can_chroot, real_chroot
from common import (AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, HELPERS, IN_VM, LIMIT,
                    Script, buffer, data, sandlock)

OPERATIONS = 400 if IN_VM else 1500
WORDS = ['a', 'b', 'c', 'd', 'e', 'f', 'f2', 'l', 'abs', 'up', 'dang', 'data', 'x', 'sub', 'inner', 'z',
         'nl', 'r1', '.', '..', '..', '']
MOUNTS = [('/data', 'H'), ('/data/inner', 'H2'), ('/m', 'H3')]
O = os  # pylint: disable=invalid-name
OPENS = [0, O.O_WRONLY, O.O_RDWR | O.O_CREAT, O.O_RDWR | O.O_CREAT | O.O_EXCL, O.O_WRONLY | O.O_TRUNC,
         O.O_CREAT, O.O_TRUNC, O.O_DIRECTORY, O.O_NOFOLLOW, O.O_CREAT | O.O_NOFOLLOW | O.O_WRONLY,
         O.O_PATH, O.O_PATH | O.O_NOFOLLOW, O.O_PATH | O.O_DIRECTORY, O.O_TMPFILE | O.O_RDWR,
         O.O_APPEND | O.O_WRONLY, O.O_CREAT | O.O_TRUNC | O.O_WRONLY]


def make_tree(top):
    """R with a program, and what is mounted in it; all writable, nothing special."""
    for folder in ('R/a/b/c', 'R/d', 'R/data/inner', 'R/m', 'R/proc', 'H/sub', 'H/inner', 'H2', 'H3'):
        (top / folder).mkdir(parents=True)
    shutil.copy(HELPERS / 'rawcall', top / 'R' / 'rawcall')
    for name in ('R/a/f', 'R/f2', 'R/a/b/f', 'H/x', 'H/sub/f', 'H2/z', 'H3/f'):
        (top / name).write_text(name)
    for name, target in (('R/l', 'a/b'), ('R/abs', '/a'), ('R/a/up', '../../..'), ('R/dang', '/a/nothing'),
                         ('R/a/b/r1', 'r1'), ('H/abs', '/a/f'), ('H/up', '../a'), ('H2/l', '../..'),
                         ('R/nl', '/data/sub/f'), ('H3/dang', '../d/made')):
        os.symlink(target, top / name)


def path(rnd):
    text = '/'.join(rnd.choice(WORDS) for _ in range(rnd.randint(1, 5)))
    if rnd.random() < 0.5:
        text = '/' + text
    if rnd.random() < 0.12:
        text += '/'
    return text or '.'


def operation(calls, rnd, folders):
    """Adds one call and returns (index, kind)."""
    dirfd, other = rnd.choice(folders), rnd.choice(folders)
    kind = rnd.choice(['open'] * 5 + ['stat'] * 3 + ['mkdir', 'unlink', 'rmdir', 'rename', 'rename', 'link',
                                                    'symlink', 'readlink', 'access', 'chmod', 'truncate',
                                                    'chdir', 'chdir', 'getcwd', 'times', 'xattr', 'mknod',
                                                    'statfs'])
    one, two = path(rnd), path(rnd)
    if kind == 'open':
        calls.saved += 1
        name = f'o{calls.saved}'
        flags, resolve = rnd.choice(OPENS), rnd.choice([0, 1, 2, 4, 8, 0x10, 0x10, 9])
        if rnd.random() < 0.5:
            index = calls.call('openat', dirfd, one, flags, 0o640, save=name)
        else:
            makes = flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE
            how = b''.join(v.to_bytes(8, 'little') for v in (flags, 0o640 if makes else 0, resolve))
            index = calls.call('openat2', dirfd, one, data(how), 24, save=name)
        calls.lines.append(f'{calls_number("close")} ${name}')
        return index, kind
    made = {
        'stat': lambda: ('statx', dirfd, one, rnd.choice([0, AT_SYMLINK_NOFOLLOW]), 0x7ff, buffer(256)),
        'mkdir': lambda: ('mkdirat', dirfd, one, 0o755),
        'unlink': lambda: ('unlinkat', dirfd, one, 0),
        'rmdir': lambda: ('unlinkat', dirfd, one, AT_REMOVEDIR),
        'rename': lambda: ('renameat2', dirfd, one, other, two, rnd.choice([0, 0, 1, 2])),
        'link': lambda: ('linkat', dirfd, one, other, two, rnd.choice([0, AT_SYMLINK_FOLLOW])),
        'symlink': lambda: ('symlinkat', two, dirfd, one),
        'readlink': lambda: ('readlinkat', dirfd, one, buffer(255), 255),
        'access': lambda: ('faccessat', dirfd, one, rnd.choice([0, 4, 2])),
        'chmod': lambda: ('fchmodat', dirfd, one, rnd.choice([0o755, 0o700])),
        'truncate': lambda: ('truncate', one, rnd.randint(0, 9)),
        'chdir': lambda: ('chdir', one),
        'getcwd': lambda: ('getcwd', buffer(255), 255),
        'times': lambda: ('utimensat', dirfd, one, 0, rnd.choice([0, AT_SYMLINK_NOFOLLOW])),
        'xattr': lambda: ('setxattr', one, 'user.t', 'v', 1, 0),
        'mknod': lambda: ('mknodat', dirfd, one, 0o100644, 0),
        'statfs': lambda: ('statfs', one, buffer(120)),
    }[kind]()
    return calls.call(*made), kind


def calls_number(name):
    from common import NR  # pylint: disable=import-outside-toplevel
    return NR[name]


def shown(kind, answer):
    """What must be equal."""
    content = answer.buffers[0] if answer.buffers else b''
    if answer.name != 'OK':
        return answer.name
    if kind in ('readlink', 'getcwd'):
        return answer.result, content[:answer.result]
    if kind == 'stat':
        mode, links, size = (int.from_bytes(content[a:b], 'little') for a, b in ((28, 30), (16, 20), (40, 48)))
        folder = mode & 0o170000 == 0o040000
        return oct(mode), 0 if folder else links, 0 if folder else size
    return answer.result


def tree(top):
    """Names, kinds, modes and contents."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            full = os.path.join(folder, name)
            info = os.lstat(full)
            text = os.readlink(full) if os.path.islink(full) else \
                open(full, 'rb').read() if os.path.isfile(full) and os.access(full, os.R_OK) else None
            found[os.path.relpath(full, top)] = (oct(info.st_mode), text)
    return found


def oracle(top):
    """Command that runs rawcall in R with the mounts."""
    return [*real_chroot(top / 'R', [*((top / host, place) for place, host in MOUNTS), ('/proc', '/proc')]), '/rawcall']


@pytest.mark.parametrize('seed', range(2 if IN_VM else 4))
def test_same_as_a_real_chroot(tmp_path, seed):
    tmp_path.chmod(0o755)
    tops = [tmp_path / 'native', tmp_path / 'inside']
    for top in tops:
        make_tree(top)
    rnd = random.Random(seed)
    calls = Script()
    folders = [AT_FDCWD, AT_FDCWD, calls.open('/a/b', os.O_DIRECTORY), calls.open('/data', os.O_DIRECTORY),
               calls.open('/data/inner', os.O_PATH)]
    made = []
    for _ in range(OPERATIONS):
        index, kind = operation(calls, rnd, folders)
        if index is not None:
            made.append((index, kind))
    done = subprocess.run(oracle(tops[0]), check=False, input=calls.text(), text=True, timeout=LIMIT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        pytest.skip(f'no real chroot here: {done.stderr[-200:]}')
    want = calls._answers(done)
    mounts = [w for place, host in MOUNTS for w in ('--fs-mount', f'{place}:{tops[1]}/{host}')]
    done = sandlock('run', '--chroot', tops[1] / 'R', '-r', '/', '-w', '/', *mounts, '--', '/rawcall',
                    input=calls.text(), timeout=LIMIT)
    got = calls._answers(done)
    for index, kind in made:
        assert shown(kind, got[index]) == shown(kind, want[index]), (index, calls.lines[index])
    assert tree(tops[1]) == tree(tops[0])


def test_the_oracle_is_there(tmp_path):
    """So that the comparison is not skipped by mistake where a chroot is possible."""
    make_tree(tmp_path)
    if can_chroot(tmp_path / 'R') and os.geteuid() == 0:
        done = subprocess.run(oracle(tmp_path), check=False, input='', text=True)
        assert done.returncode == 0
