# SPDX-License-Identifier: Apache-2.0
"""--fs-mount: with and without another root, nested, read-only for every family that changes something."""
import os
import shutil
import stat

import pytest

from chroot_tree import make_root
from common import (AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, GRANTS, Raw, Script,
                    buffer, data, helper, metadata_calls, run, sandlock, tree_state)


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp('mounts') / 'root', programs=['sh', 'cat', 'ls', 'pwd'])


@pytest.fixture
def tree(tmp_path, base):
    """A root, and three directories of the host."""
    tmp_path.chmod(0o755)
    root = tmp_path / 'root'
    shutil.copytree(base, root, copy_function=os.link)
    (root / 'etc' / 'motd').unlink()
    (root / 'etc' / 'motd').write_text('inside\n')
    for name in ('one', 'two', 'three'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'file').write_text(name)
    (tmp_path / 'one' / 'sub').mkdir()
    return tmp_path


def inside(tree, mounts, *command, **options):
    words = [w for m in mounts for w in ('--fs-mount', m)]
    return sandlock('run', '--chroot', tree / 'root', '-r', '/', '-w', '/tmp', *words, '--', *command,
                    **options)


def raw(tree, mounts, calls):
    return calls._answers(inside(tree, mounts, '/rawcall', input=calls.text()))


def test_mount_is_a_grant(tree):
    """Named to be used: readable and, unless :ro, writable. Control: without it there is no such place."""
    done = inside(tree, [f'/w:{tree}/one'], '/bin/sh', '-c', 'cat /w/file; echo new >/w/made; cat /w/made')
    assert done.stdout == 'onenew\n' and (tree / 'one' / 'made').read_text() == 'new\n'
    assert inside(tree, [], '/bin/cat', '/w/file').returncode == 1


def test_nested_and_longest_wins(tree):
    mounts = [f'/w/sub:{tree}/two', f'/w:{tree}/one', f'/w/sub/deep/er:{tree}/three']
    done = inside(tree, mounts, '/bin/sh', '-c',
                  'cd /w/sub/deep/er; pwd -P; cat file; cd ../..; pwd -P; cat file; cd ..; pwd -P; cat file; '
                  'cd ..; pwd -P')
    assert done.stdout.split('\n')[:-1] == ['/w/sub/deep/er', 'three/w/sub', 'two/w', 'one/']


def test_over_a_file(tree):
    done = inside(tree, [f'/etc/motd:{tree}/two/file:ro', f'/tmp/new:{tree}/one/file'], '/bin/sh', '-c',
                  'cat /etc/motd; echo more >>/tmp/new; cat /tmp/new')
    assert done.stdout == 'twoonemore\n'
    assert (tree / 'root' / 'etc' / 'motd').read_text() == 'inside\n'
    assert not (tree / 'root' / 'tmp' / 'new').exists()


def test_what_is_beneath_is_hidden(tree):
    (tree / 'root' / 'etc' / 'link').symlink_to('/tmp')
    done = inside(tree, [f'/etc:{tree}/two'], '/bin/sh', '-c',
                  'cat /etc/motd || ls /etc/link || ls /etc')
    assert done.stdout == 'file\n'


def test_without_another_root(tree):
    """The host's tree with one place changed; the programs are the host's."""
    place = tree / 'place'
    done = run('-r', tree, '--fs-mount', f'{place}:{tree}/one', '--fs-mount', f'/new/place:{tree}/two:ro',
               '--', 'sh', '-c', f'cat {place}/file /new/place/file {tree}/three/file; cd {place} && pwd -P; '
               f'echo x >{place}/made; echo x >/new/place/made; echo x >{tree}/made; exec cat {place}/made')
    assert done.stdout == f'onetwothree{place}\nx\n'
    assert not (tree / 'made').exists() and not (tree / 'two' / 'made').exists()
    assert done.stderr.count('Read-only file system') == 1
    control = run('-r', tree, '--', 'cat', f'{place}/file')
    assert control.returncode == 1


def test_directory_is_kept(tree):
    """Without another root and without --cwd the command starts where its caller is."""
    assert run('-r', tree, '--fs-mount', f'/x:{tree}/one', '--', 'pwd', cwd=tree).stdout == f'{tree}\n'


def test_between_mounts(tree):
    mounts = [f'/a:{tree}/one', f'/b:{tree}/two']
    calls = Script()
    want = {}
    want[calls.call('renameat2', AT_FDCWD, '/a/file', AT_FDCWD, '/b/x', 0)] = 'EXDEV'
    want[calls.call('linkat', AT_FDCWD, '/a/file', AT_FDCWD, '/b/x', 0)] = 'EXDEV'
    want[calls.call('renameat2', AT_FDCWD, '/a/file', AT_FDCWD, '/tmp/x', 0)] = 'EXDEV'
    want[calls.call('linkat', AT_FDCWD, '/tmp/../etc/motd', AT_FDCWD, '/a/x', 0)] = 'EXDEV'
    want[calls.call('renameat2', AT_FDCWD, '/a/file', AT_FDCWD, '/a/moved', 0)] = 'OK'
    want[calls.call('linkat', AT_FDCWD, '/a/moved', AT_FDCWD, '/a/sub/linked', 0)] = 'OK'
    answers = raw(tree, mounts, calls)
    assert {i: answers[i].name for i in want} == want


def test_busy(tree):
    mounts = [f'/tmp/a/m:{tree}/one', f'/tmp/real/m:{tree}/two']
    (tree / 'root' / 'tmp' / 'real').mkdir()
    calls = Script()
    want = {}
    for path in ('/tmp/a/m', '/tmp/a', '/tmp/real', '/tmp/real/m'):
        want[calls.call('renameat2', AT_FDCWD, path, AT_FDCWD, '/tmp/z', 0)] = 'EBUSY'
        want[calls.call('unlinkat', AT_FDCWD, path, AT_REMOVEDIR)] = 'EBUSY'
        want[calls.call('mkdirat', AT_FDCWD, path, 0o700)] = 'EEXIST'
    want[calls.call('symlinkat', 'x', AT_FDCWD, '/tmp/real/m')] = 'EEXIST'
    want[calls.call('renameat2', AT_FDCWD, '/etc', AT_FDCWD, '/tmp/real/m', 0)] = 'EBUSY'
    answers = raw(tree, mounts, calls)
    got = {i: answers[i].name for i in want}
    # What is made up lies on a read-only mount: that comes first where the kernel asks for it first.
    assert all(got[i] in (want[i], 'EROFS', 'EXDEV') for i in want), got


def read_only_calls(calls, top):
    """Every family that changes something, by path, by descriptor, relative."""
    made = metadata_calls(calls, f'{top}/file', calls.open(f'{top}/file'))
    folder = calls.open(top, os.O_DIRECTORY)
    how = [data(b''.join(v.to_bytes(8, 'little') for v in (f, 0o600 if f & os.O_CREAT else 0, r)))
           for f, r in ((os.O_WRONLY, 0), (os.O_CREAT | os.O_RDWR, 0), (os.O_RDWR, 8))]

    def add(label, name, *args):
        index = calls.call(name, *args)
        if index is not None:
            made.append((label, index))

    for dirfd, name, new in ((AT_FDCWD, f'{top}/file', f'{top}/new'), (folder, 'file', 'new')):
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_WRONLY | os.O_APPEND, 3):
            add(f'open {flags:o}', 'openat', dirfd, name, flags, 0)
        for flags in (os.O_CREAT, os.O_CREAT | os.O_WRONLY, os.O_CREAT | os.O_EXCL):
            add(f'create {flags:o}', 'openat', dirfd, new, flags, 0o600)
        add('openat2', 'openat2', dirfd, name, how[0], 24)
        add('openat2 create', 'openat2', dirfd, new, how[1], 24)
        add('mkdir', 'mkdirat', dirfd, new, 0o700)
        add('mknod', 'mknodat', dirfd, new, stat.S_IFREG | 0o600, 0)
        add('fifo', 'mknodat', dirfd, new, stat.S_IFIFO | 0o600, 0)
        add('symlink', 'symlinkat', 'x', dirfd, new)
        add('link in', 'linkat', dirfd, name, dirfd, new, 0)
        add('link out', 'linkat', dirfd, name, AT_FDCWD, '/tmp/out', 0)
        add('rename', 'renameat2', dirfd, name, dirfd, new, 0)
        add('rename out', 'renameat2', dirfd, name, AT_FDCWD, '/tmp/out', 0)
        add('unlink', 'unlinkat', dirfd, name, 0)
        add('rmdir', 'unlinkat', dirfd, 'sub' if dirfd != AT_FDCWD else f'{top}/sub', AT_REMOVEDIR)
    add('openat2 in root', 'openat2', folder, 'file', how[2], 24)
    add('tmpfile', 'openat', AT_FDCWD, top, os.O_TMPFILE | os.O_RDWR, 0o600)
    add('creat', 'creat', f'{top}/file', 0o600)
    add('truncate', 'truncate', f'{top}/file', 0)
    add('access', 'faccessat', AT_FDCWD, f'{top}/file', 2)
    add('link by descriptor', 'linkat', calls.open(f'{top}/file'), '', AT_FDCWD, '/tmp/out',
        AT_EMPTY_PATH)
    add('link by proc', 'linkat', AT_FDCWD, '/proc/self/fd/3', AT_FDCWD, '/tmp/out', AT_SYMLINK_FOLLOW)
    add('reopen', 'openat', AT_FDCWD, '/proc/self/fd/3', os.O_RDWR, 0)
    calls.call('socket', 1, 1, 0, save='sock')
    address = Raw('x:' + (b'\x01\0' + f'{top}/new'.encode() + b'\0').hex())
    add('bind', 'bind', Raw('$sock'), address, 7 + len(top))
    return made


@pytest.mark.parametrize('writable', [False, True])
def test_read_only(tree, writable):
    """CR-04. Control: the same calls on the same tree, mounted writable, change it."""
    (tree / 'root' / 'tmp' / 'way').symlink_to('/ro')
    one = tree / 'one'
    before = tree_state(one)
    calls = Script()
    made = [m for top in ('/ro', '/tmp/way') for m in read_only_calls(calls, top)]
    answers = raw(tree, [f'/ro:{one}' + ('' if writable else ':ro')], calls)
    names = [(label, answers[i].name) for label, i in made]
    if writable:
        assert sum(name == 'OK' for _, name in names) > 20, names
        return
    fine = {'EROFS', 'EXDEV', 'EBADF', 'EPERM', 'EACCES', 'ENOTTY', 'EOPNOTSUPP', 'ENOENT', 'EINVAL',
            'ENODATA', 'ENOSYS', 'EEXIST'}
    assert {n for n in names if n[1] not in fine} == set()
    assert sum(name == 'EROFS' for _, name in names) > 40, names
    assert tree_state(one) == before
    assert not (tree / 'root' / 'tmp' / 'out').exists()


def test_listed(tree):
    done = inside(tree, [f'/with space:{tree}/one:ro', f'/b:{tree}/two'], '/bin/cat', '/proc/mounts',
                  '/proc/self/mountinfo', '/proc/thread-self/mountstats')
    lines = done.stdout.splitlines()
    assert any(line.split()[1] == '/with\\040space' and line.split()[3].startswith('ro') for line in lines)
    assert any(line.split()[1] == '/b' and line.split()[3].startswith('rw') for line in lines)
    assert str(tree) not in done.stdout and lines[0].split()[1] == '/'


def test_read_only_is_shown(tree):
    calls = Script()
    made = [calls.call('statfs', p, buffer(120)) for p in ('/ro', '/tmp')]
    answers = raw(tree, [f'/ro:{tree}/one:ro'], calls)
    assert [answers[i].buffers[0][80] & 1 for i in made] == [1, 0]


def test_parents_are_made_up(tree):
    done = inside(tree, [f'/x/y/z:{tree}/one'], '/bin/sh', '-c',
                  'cd /x/y && pwd -P && cat z/file; echo n >/x/new; cd .. && cat y/z/../z/file')
    assert done.stdout == '/x/y\noneone' and 'Read-only' in done.stderr
    assert not (tree / 'root' / 'x').exists()


def test_same_object_in_two_modes(tree):
    done = inside(tree, [f'/a:{tree}/one:ro', f'/b:{tree}/one'], '/bin/pwd')
    assert done.returncode == 125 and 'read-only' in done.stderr


def test_program_in_a_mount(tree):
    """Executed in place, found by its inside name."""
    done = run('--fs-mount', f'/tools:{helper("rawcall").rsplit("/", 1)[0]}:ro', '--', '/tools/rawcall',
               grants=GRANTS, input='')
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('grants', [['-r', '/'], ['-r', '/bin', '-r', '/lib', '-r', '/lib64', '-r', '/usr', '-r', '/tmp']])
def test_listings(tree, grants):
    """CR-12: also after a rewind, and of directories that exist only for mounts."""
    grants = [w for flag, path in zip(grants[::2], grants[1::2])
              if (tree / 'root' / path[1:]).exists() for w in (flag, path)]
    words = [w for m in (f'/tmp/x:{tree}/one', f'/tmp/made/up:{tree}/two', '/tmp/made/f:/etc/passwd')
             for w in ('--fs-mount', m)]
    (tree / 'root' / 'tmp' / 'own').mkdir()
    calls = Script()
    fd = calls.open('/tmp')
    lists = [calls.call('getdents64', fd, buffer(4096), 4096)]
    calls.call('lseek', fd, 0, 0)
    lists.append(calls.call('getdents64', fd, buffer(4096), 4096))
    end = calls.call('getdents64', fd, buffer(4096), 4096)
    small = calls.call('getdents64', calls.open('/tmp'), buffer(64), 24)
    done = sandlock('run', '--chroot', tree / 'root', *grants, *words, '--', '/bin/ls', '/tmp', '/tmp/made')
    assert done.stdout.split() == ['/tmp:', 'made', 'own', 'x', '/tmp/made:', 'f', 'up'], done.stderr
    done = sandlock('run', '--chroot', tree / 'root', *grants, '-r', '/rawcall', *words, '--', '/rawcall',
                    input=calls.text())
    answers = calls._answers(done)
    for index in lists:
        content = answers[index].buffers[0][:answers[index].result]
        assert [content.count(b'\0' + n + b'\0') or n in content for n in (b'made', b'own', b'x')]
        assert b'made' in content and b'own' in content
    assert answers[lists[0]].result == answers[lists[1]].result
    assert answers[end].result == 0 and answers[small].result == 24
