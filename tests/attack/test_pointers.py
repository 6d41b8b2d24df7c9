# SPDX-License-Identifier: Apache-2.0
"""Pointers that lead nowhere: the errno of the real call for every mediated family (issue 3; A-52).
The control is the same call without a sandbox."""
import os
import shutil

import pytest

from common import (AT_FDCWD, FAULT, KERNEL, MACHINE, Raw, Script, buffer, tagged, unterminated,
                    words)

LONG = 'x' * 5000


def addresses(path):
    """What stands for a path: {label: argument}."""
    return {'null': 0, 'fault': FAULT, 'kernel': KERNEL, 'one': 1, 'top': 0xffffffffffffff00,
            'noncanonical': 0x0000800000000000, 'unterminated': unterminated(path),
            'long': LONG, 'long-path': '/x' * 2500, 'empty': '',
            'component': os.path.dirname(path) + '/' + 'y' * 256, 'unterminated-long': unterminated('/' * 4096)}


def path_calls(s, top, p):
    """Every mediated call with p in the place of its path; {label: index}."""
    d = AT_FDCWD
    how = s.keep(Raw('x:' + '00' * 24))
    stat = s.keep(buffer(256))
    times = s.keep(words(1, 0, 1, 0))
    made = {
        'openat': s.call('openat', d, p, os.O_RDONLY), 'openat2': s.call('openat2', d, p, how, 24),
        'openat-creat': s.call('openat', d, p, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600),
        'open': s.call('open', p, os.O_RDONLY), 'creat': s.call('creat', p, 0o600),
        'newfstatat': s.call('newfstatat', d, p, stat, 0), 'stat': s.call('stat', p, stat),
        'lstat': s.call('lstat', p, stat), 'statx': s.call('statx', d, p, 0, 0x7ff, stat),
        'access': s.call('access', p, 0), 'faccessat': s.call('faccessat', d, p, 0),
        'faccessat2': s.call('faccessat2', d, p, 0, 0),
        'readlink': s.call('readlink', p, stat, 64), 'readlinkat': s.call('readlinkat', d, p, stat, 64),
        'chdir': s.call('chdir', p, fork=True), 'statfs': s.call('statfs', p, stat),
        'truncate': s.call('truncate', p, 0), 'mkdirat': s.call('mkdirat', d, p, 0o700),
        'mkdir': s.call('mkdir', p, 0o700), 'mknodat': s.call('mknodat', d, p, 0o100600, 0),
        'mknod': s.call('mknod', p, 0o100600, 0), 'unlinkat': s.call('unlinkat', d, p, 0),
        'unlink': s.call('unlink', p), 'rmdir': s.call('rmdir', p),
        'symlinkat': s.call('symlinkat', 'x', d, p), 'symlink': s.call('symlink', 'x', p),
        'symlinkat-target': s.call('symlinkat', p, d, top / 'symlink-new'),
        'linkat-old': s.call('linkat', d, p, d, top / 'link-new', 0),
        'linkat-new': s.call('linkat', d, top / 'file', d, p, 0),
        'renameat2-old': s.call('renameat2', d, p, d, top / 'rename-new', 0),
        'renameat2-new': s.call('renameat2', d, top / 'file', d, p, 1),
        'renameat-old': s.call('renameat', d, p, d, top / 'rename-new2'),
        'rename-old': s.call('rename', p, top / 'rename-new3'),
        'fchmodat': s.call('fchmodat', d, p, 0o600), 'chmod': s.call('chmod', p, 0o600),
        'fchmodat2': s.call('fchmodat2', d, p, 0o600, 0),
        'fchownat': s.call('fchownat', d, p, os.getuid(), os.getgid(), 0),
        'chown': s.call('chown', p, os.getuid(), os.getgid()),
        'lchown': s.call('lchown', p, os.getuid(), os.getgid()),
        'utime': s.call('utime', p, times), 'utimes': s.call('utimes', p, times),
        'futimesat': s.call('futimesat', d, p, times),
        'setxattr': s.call('setxattr', p, 'user.x', times, 1, 0),
        'lsetxattr': s.call('lsetxattr', p, 'user.x', times, 1, 0),
        'removexattr': s.call('removexattr', p, 'user.none'),
        'getxattr': s.call('getxattr', p, 'user.none', stat, 8),
        'listxattr': s.call('listxattr', p, stat, 64),
        'inotify': s.call('inotify_add_watch', Raw('$watch'), p, 0xfff),
        'execve': s.call('execve', p, 0, 0, fork=True),
        'execveat': s.call('execveat', d, p, 0, 0, 0, fork=True),
        'file_getattr': s.call('file_getattr', d, p, stat, 24, 0),
        'file_setattr': s.call('file_setattr', d, p, times, 24, 0),
        'chroot': s.call('chroot', p),
    }
    if p != 0:  # a NULL path means the descriptor
        made['utimensat'] = s.call('utimensat', d, p, times, 0)
    return {k: i for k, i in made.items() if i is not None}


def make(top):
    top.mkdir()
    (top / 'file').write_text('content')
    (top / 'dir').mkdir()
    os.symlink('file', top / 'link')
    return top


# Answers of the filter whatever the pointer is.
FIXED = {'chroot': 'EPERM'}


@pytest.mark.parametrize('what', sorted(addresses('')))
@pytest.mark.parametrize('options', [['--fs-deny', '/etc/shadow'], []], ids=['fs-deny', 'default'])
def test_bad_path_pointers(what, options, tmp_path):
    results = []
    for name in ('native', 'inside'):
        top = make(tmp_path / name)
        s = Script()
        s.call('inotify_init1', 0, save='watch')
        value = s.keep(addresses(f'{top}/file')[what])
        calls = path_calls(s, top, value if what != 'null' else 0)
        answers = s.native(cwd=top) if name == 'native' else \
            s.run('-w', tmp_path, *options, cwd=top)
        results.append({k: answers[i].name if answers[i].exit is None else f'exit {answers[i].exit}'
                        for k, i in calls.items()})
        shutil.rmtree(top)
    want, got = results
    want.update({k: v for k, v in FIXED.items() if k in want})
    # A call that this kernel is too old for may be made on behalf all the same.
    different = {k: (want[k], got[k]) for k in want if want[k] not in (got[k], 'ENOSYS')}
    assert different == {}
    assert set(want.values()) & {'EFAULT', 'ENOENT', 'ENAMETOOLONG'}


def other_calls(s, top, bad):
    """Pointers that are not paths."""
    fd = s.open(top / 'file', os.O_RDWR)
    directory = s.open(top / 'dir', os.O_RDONLY)
    link = os.fspath(top / 'link')
    made = {
        'newfstatat': s.call('newfstatat', AT_FDCWD, top / 'file', bad, 0),
        'stat': s.call('stat', top / 'file', bad), 'lstat': s.call('lstat', top / 'file', bad),
        'fstat': s.call('fstat', fd, bad),
        'statx': s.call('statx', AT_FDCWD, top / 'file', 0, 0x7ff, bad),
        'statfs': s.call('statfs', top / 'file', bad),
        'readlink': s.call('readlink', link, bad, 10),
        'readlinkat': s.call('readlinkat', AT_FDCWD, link, bad, 10),
        'readlinkat-0': s.call('readlinkat', AT_FDCWD, link, bad, 0),
        'utimensat': s.call('utimensat', AT_FDCWD, top / 'file', bad, 0),
        'futimens': s.call('utimensat', fd, 0, bad, 0),
        'utimes': s.call('utimes', top / 'file', bad), 'utime': s.call('utime', top / 'file', bad),
        'futimesat': s.call('futimesat', AT_FDCWD, top / 'file', bad),
        'openat2-how': s.call('openat2', AT_FDCWD, top / 'file', bad, 24),
        'openat2-size': s.call('openat2', AT_FDCWD, top / 'file', bad, 8),
        'openat2-huge': s.call('openat2', AT_FDCWD, top / 'file', bad, 1 << 40),
        'setxattr-name': s.call('setxattr', top / 'file', bad, 'v', 1, 0),
        'setxattr-value': s.call('setxattr', top / 'file', 'user.x', bad, 1, 0),
        'setxattr-huge': s.call('setxattr', top / 'file', 'user.x', bad, 1 << 40, 0),
        'fsetxattr-name': s.call('fsetxattr', fd, bad, 'v', 1, 0),
        'fsetxattr-value': s.call('fsetxattr', fd, 'user.x', bad, 1, 0),
        'setxattrat': s.call('setxattrat', AT_FDCWD, top / 'file', 0, 'user.x', bad, 16),
        'setxattrat-size': s.call('setxattrat', AT_FDCWD, top / 'file', 0, 'user.x', bad, 3),
        'setxattrat-huge': s.call('setxattrat', AT_FDCWD, top / 'file', 0, 'user.x', bad, 1 << 33),
        'getxattr-name': s.call('getxattr', top / 'file', bad, buffer(8), 8),
        'removexattr-name': s.call('removexattr', top / 'file', bad),
        'fremovexattr-name': s.call('fremovexattr', fd, bad),
        'file_setattr': s.call('file_setattr', AT_FDCWD, top / 'file', bad, 24, 0),
        'file_getattr': s.call('file_getattr', AT_FDCWD, top / 'file', bad, 24, 0),
        'setflags': s.call('ioctl', fd, 0x40086602, bad),
        'fssetxattr': s.call('ioctl', fd, 0x401c5820, bad),
        'getdents64': s.call('getdents64', directory, bad, 4096),
        'execve-argv': s.call('execve', '/bin/true', bad, 0, fork=True),
        'execve-envp': s.call('execve', '/bin/true', 0, bad, fork=True),
        'uname': s.call('uname', bad),
    }
    for kind, (domain, sock) in {'unix': (1, 1), 'tcp': (2, 1)}.items():
        name = f'sock-{kind}'
        s.call('socket', domain, sock, 0, save=name)
        made.update({f'{kind}-connect': s.call('connect', Raw('$' + name), bad, 16),
                     f'{kind}-connect-long': s.call('connect', Raw('$' + name), bad, 1000),
                     f'{kind}-connect-minus': s.call('connect', Raw('$' + name), bad, -1),
                     f'{kind}-bind': s.call('bind', Raw('$' + name), bad, 16),
                     f'{kind}-sendmsg': s.call('sendmsg', Raw('$' + name), bad, 0),
                     f'{kind}-getsockname': s.call('getsockname', Raw('$' + name), bad, bad)})
    return {k: i for k, i in made.items() if i is not None}


@pytest.mark.parametrize('what', ['fault', 'kernel', 'one', 'null'])
@pytest.mark.parametrize('options', [['--fs-deny', '/etc/shadow', '--name', 'x'], []],
                         ids=['fs-deny', 'default'])
def test_bad_pointers_of_other_kinds(what, options, tmp_path):
    results = []
    for name in ('native', 'inside'):
        top = make(tmp_path / name)
        s = Script()
        bad = s.keep({'fault': FAULT, 'kernel': KERNEL, 'one': 1, 'null': 0}[what])
        calls = other_calls(s, top, bad)
        answers = s.native(cwd=top) if name == 'native' else \
            s.run('-w', tmp_path, '--net-allow', '*', '--net-allow-bind', '*', *options, cwd=top)
        results.append({k: answers[i].name if answers[i].exit is None else f'exit {answers[i].exit}'
                        for k, i in calls.items()})
        shutil.rmtree(top)
    want, got = results
    assert {k: (want[k], got[k]) for k in want if want[k] not in (got[k], 'ENOSYS')} == {}
    assert 'EFAULT' in want.values()


def test_pointers_that_end_exactly_at_the_page(tmp_path):
    """A terminated string whose next byte is not mapped is fine, however long a read would be."""
    top = make(tmp_path / 'top')
    s = Script()
    exact = s.keep(unterminated(f'{top}/file\0'))
    calls = [s.call('openat', AT_FDCWD, exact, os.O_RDONLY),
             s.call('newfstatat', AT_FDCWD, exact, buffer(256), 0),
             s.call('fchmodat', AT_FDCWD, exact, 0o600), s.call('open', exact, os.O_RDONLY),
             s.call('renameat2', AT_FDCWD, exact, AT_FDCWD, top / 'n', 0)]
    answers = s.run('-w', top, '--fs-deny', '/etc/shadow')
    assert {answers[i].name for i in calls if i is not None} == {'OK'}


def test_tagged_pointers(tmp_path):
    """The top byte is ignored for a process that asked for it (prctl), where the machine can."""
    results = []
    for name in ('native', 'inside'):
        top = make(tmp_path / name)
        s = Script()
        # Tags are accepted from those who asked for it (PR_SET_TAGGED_ADDR_CTRL, aarch64 alone).
        s.call('prctl', 55, 1, 0, 0, 0)
        path = s.keep(tagged(f'{top}/file'))
        calls = {
            'open': s.call('openat', AT_FDCWD, path, os.O_RDONLY),
            'stat': s.call('newfstatat', AT_FDCWD, path, buffer(256), 0),
            'chmod': s.call('fchmodat', AT_FDCWD, path, 0o600),
            'access': s.call('faccessat', AT_FDCWD, path, 0),
            'truncate': s.call('truncate', path, 3),
            'rename': s.call('renameat2', AT_FDCWD, path, AT_FDCWD, top / 'n', 0),
            'exec': s.call('execve', s.keep(tagged('/bin/true')), 0, 0, fork=True)}
        answers = s.native() if name == 'native' else s.run('-w', tmp_path, '--fs-deny', '/etc/shadow')
        results.append({k: answers[i].name for k, i in calls.items()})
    assert results[0] == results[1]
    assert results[0]['open'] == ('EFAULT' if MACHINE == 'x86_64' else 'OK')
