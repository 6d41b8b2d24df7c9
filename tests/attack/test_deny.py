# SPDX-License-Identifier: Apache-2.0
"""--fs-deny against everything that names a file (FG-04): each family of calls by each spelling is
refused and changes nothing, and each of them works without a sandbox. Then races."""
import os
import pathlib
import re
import shutil
import socket
import stat
import struct

import pytest

from common import (AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW,
                    HELPERS, IN_VM, SLOW, Raw, Script, buffer, data, helper, metadata_calls, native, run,
                    shell, tree_state, words)

REFUSED = {'EACCES', 'EPERM'}


def make_tree(top):
    """`secret` and `vault` are denied; `deep/er/hidden` too, for its ancestors."""
    top.mkdir()
    (top / 'secret').write_text('SECRET')
    (top / 'plain').write_text('plain')
    (top / 'vault').mkdir()
    (top / 'vault' / 'inner').write_text('INNER')
    (top / 'vault' / 'sub').mkdir()
    (top / 'vault' / 'sub' / 'low').write_text('LOW')
    (top / 'open').mkdir()
    (top / 'deep' / 'er').mkdir(parents=True)
    (top / 'deep' / 'er' / 'hidden').write_text('HIDDEN')
    os.link(top / 'secret', top / 'open' / 'hard')
    os.symlink('secret', top / 'link')
    os.symlink(top / 'secret', top / 'open' / 'abslink')
    os.symlink('vault', top / 'dlink')
    shutil.copy(HELPERS / 'probe_fds', top / 'tool')
    (top / 'script').write_text(f'#!{top}/tool\n')
    (top / 'script').chmod(0o755)
    for path in (top / 'secret', top / 'vault' / 'inner'):
        try:
            os.setxattr(path, 'user.secret', b'SECRET')
        except OSError:
            pass
    return top


def policy(top):
    return ['-w', top, '-r', '/proc', '--fs-deny', top / 'secret', '--fs-deny', top / 'vault',
            '--fs-deny', top / 'deep' / 'er' / 'hidden', '--fs-deny', top / 'tool']


def how(flags, mode=0, resolve=0):
    return data(b''.join(v.to_bytes(8, 'little') for v in (flags, mode, resolve)))


class Spelling:
    """A way to name an object: directory descriptor and path, and what it cannot be used for."""

    def __init__(self, name, dirfd, path, link=False):
        self.name, self.dirfd, self.path, self.link = name, dirfd, path, link

    @property
    def plain(self):
        """Usable by calls that have no directory descriptor."""
        return self.dirfd == AT_FDCWD


def prepare(s, top):
    """Descriptors 3 (top) and 4 (top/open); the working directory is top."""
    dirs = (s.open(top, os.O_RDONLY | os.O_DIRECTORY), s.open(top / 'open', os.O_PATH))
    s.call('chdir', top)
    return dirs


def spellings(top, leaf, dirs):
    """Of top/leaf."""
    at_top, at_open = dirs
    found = [
        Spelling('plain', AT_FDCWD, f'{top}/{leaf}'),
        Spelling('slashes', AT_FDCWD, f'//{top}///{leaf}'),
        Spelling('dots', AT_FDCWD, f'{top}/./open/.././{leaf}'),
        Spelling('dotdot-root', AT_FDCWD, '/..' * 3 + f'{top}/{leaf}'),
        Spelling('relative', AT_FDCWD, leaf),
        Spelling('relative-dots', AT_FDCWD, f'open/../{leaf}'),
        Spelling('dirfd', at_top, leaf),
        Spelling('dirfd-up', at_open, f'../{leaf}'),
        Spelling('proc-cwd', AT_FDCWD, f'/proc/self/cwd/{leaf}'),
        Spelling('proc-root', AT_FDCWD, f'/proc/self/root{top}/{leaf}'),
        Spelling('proc-thread', AT_FDCWD, f'/proc/thread-self/root/proc/self/root{top}/{leaf}'),
        Spelling('proc-fd', AT_FDCWD, f'/proc/self/fd/3/{leaf}'),
        Spelling('proc-fd-up', AT_FDCWD, f'/proc/self/fd/4/../{leaf}'),
        Spelling('proc-pid', AT_FDCWD, f'/proc/self/task/../cwd/{leaf}'),
    ]
    if leaf == 'secret':
        found += [Spelling('hard', AT_FDCWD, f'{top}/open/hard'),
                  Spelling('hard-dirfd', at_open, 'hard'),
                  Spelling('link', AT_FDCWD, f'{top}/link', link=True),
                  Spelling('abslink', at_open, 'abslink', link=True)]
    if leaf.startswith('vault'):
        rest = leaf[len('vault'):]
        found += [Spelling('dlink', AT_FDCWD, f'{top}/dlink{rest}', link=not rest)]
    return found


O_RDONLY, O_WRONLY, O_RDWR, O_CREAT = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT


def openings(s, d, p, plain, regular):
    """(label, index) of every way to open."""
    out = [('open-path', s.call('openat', d, p, os.O_PATH)),
           ('openat', s.call('openat', d, p, O_RDONLY)),
           ('openat-nonblock', s.call('openat', d, p, O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)),
           ('openat2', s.call('openat2', d, p, how(O_RDONLY), 24)),
           ('openat2-path', s.call('openat2', d, p, how(os.O_PATH), 24))]
    if plain:
        out.append(('open', s.call('open', p, O_RDONLY)))
    if not regular:
        return out + [('openat-dir', s.call('openat', d, p, O_RDONLY | os.O_DIRECTORY)),
                      ('tmpfile', s.call('openat', d, p, os.O_TMPFILE | O_RDWR, 0o600))]
    for label, flags in (('w', O_WRONLY), ('rw', O_RDWR), ('append', O_WRONLY | os.O_APPEND),
                         ('creat', O_RDWR | O_CREAT), ('trunc', O_RDONLY | os.O_TRUNC),
                         ('direct', O_RDONLY | os.O_DIRECT)):
        out.append((f'openat-{label}', s.call('openat', d, p, flags, 0o600)))
        out.append((f'openat2-{label}', s.call('openat2', d, p,
                                               how(flags, 0o600 if flags & O_CREAT else 0), 24)))
        if plain:
            out.append((f'open-{label}', s.call('open', p, flags, 0o600)))
    if plain:
        out.append(('creat', s.call('creat', p, 0o600)))
    return out


def questions(s, d, p, plain, watch):
    out = [('newfstatat', s.call('newfstatat', d, p, buffer(256), 0)),
           ('statx', s.call('statx', d, p, 0, 0x7ff, buffer(256))),
           ('faccessat', s.call('faccessat', d, p, 0)),
           ('faccessat2', s.call('faccessat2', d, p, 4, 0)),
           ('file_getattr', s.call('file_getattr', d, p, buffer(24), 24, 0)),
           ('getxattrat', s.call('getxattrat', d, p, 0, 'user.secret',
                                 words(s.keep(buffer(8)), 8), 16)),
           ('listxattrat', s.call('listxattrat', d, p, 0, buffer(64), 64))]
    if plain:
        out += [('stat', s.call('stat', p, buffer(256))),
                ('access', s.call('access', p, 0)),
                ('getxattr', s.call('getxattr', p, 'user.secret', buffer(8), 8)),
                ('listxattr', s.call('listxattr', p, buffer(64), 64)),
                ('statfs', s.call('statfs', p, buffer(128))),
                ('watch', s.call('inotify_add_watch', watch, p, 0xfff))]
    return out


def name_changes(s, d, p, plain, regular, top):
    """Calls on the name itself: a symbolic link is not followed here."""
    out = [('newfstatat-nofollow', s.call('newfstatat', d, p, buffer(256), AT_SYMLINK_NOFOLLOW)),
           ('rename-away', s.call('renameat2', d, p, AT_FDCWD, top / 'open' / 'r1', 0)),
           ('renameat', s.call('renameat', d, p, AT_FDCWD, top / 'open' / 'r2')),
           ('rename-noreplace', s.call('renameat2', d, p, AT_FDCWD, top / 'open' / 'r3', 1)),
           ('exchange', s.call('renameat2', d, p, AT_FDCWD, top / 'plain', 2)),
           ('exchange-other', s.call('renameat2', AT_FDCWD, top / 'plain', d, p, 2))]
    if regular:
        out += [('linkat', s.call('linkat', d, p, AT_FDCWD, top / 'open' / 'l1', 0)),
                ('rename-over', s.call('renameat2', AT_FDCWD, top / 'plain', d, p, 0)),
                ('unlinkat', s.call('unlinkat', d, p, 0))]
    else:
        out += [('unlinkat-dir', s.call('unlinkat', d, p, AT_REMOVEDIR)),
                ('rename-dir-over', s.call('renameat2', AT_FDCWD, top / 'open', d, p, 0))]
    if plain:
        out += [('lstat', s.call('lstat', p, buffer(256))),
                ('rename', s.call('rename', p, top / 'open' / 'r4')),
                ('lgetxattr', s.call('lgetxattr', p, 'user.secret', buffer(8), 8)),
                ('llistxattr', s.call('llistxattr', p, buffer(64), 64))]
        out += [('link', s.call('link', p, top / 'open' / 'l2')),
                ('unlink', s.call('unlink', p))] if regular else [('rmdir', s.call('rmdir', p))]
    return out


def other_calls(s, d, p, plain, regular, top):
    out = []
    if regular:
        out += [('linkat-follow', s.call('linkat', d, p, AT_FDCWD, top / 'open' / 'l3',
                                         AT_SYMLINK_FOLLOW))]
        if plain:
            out += [('truncate', s.call('truncate', p, 1))]
    elif plain:
        out += [('chdir', s.call('chdir', p, fork=True))]
    return out


def beneath(s, d, p, plain):
    """Calls that make something in a denied directory."""
    out = [('mkdirat', s.call('mkdirat', d, p + '/n1', 0o700)),
           ('mknodat', s.call('mknodat', d, p + '/n2', stat.S_IFIFO | 0o600, 0)),
           ('symlinkat', s.call('symlinkat', 'x', d, p + '/n3')),
           ('create', s.call('openat', d, p + '/n4', O_WRONLY | O_CREAT, 0o600)),
           ('link-into', s.call('linkat', AT_FDCWD, 'plain', d, p + '/n5', 0)),
           ('rename-into', s.call('renameat2', AT_FDCWD, 'plain', d, p + '/n6', 0)),
           ('missing-stat', s.call('newfstatat', d, p + '/n7', buffer(256), 0)),
           ('missing-unlink', s.call('unlinkat', d, p + '/n7', 0))]
    if plain:
        out += [('mkdir', s.call('mkdir', p + '/n8', 0o700)),
                ('mknod', s.call('mknod', p + '/n9', stat.S_IFREG | 0o600, 0)),
                ('symlink', s.call('symlink', 'x', p + '/n10')),
                ('creat', s.call('creat', p + '/n11', 0o600))]
    return out


def all_calls(s, top, leaf, spelling, watch):
    """Everything by one spelling; labels of calls that this machine has."""
    d, p, plain = spelling.dirfd, spelling.path, spelling.plain
    regular = leaf != 'vault'
    out = openings(s, d, p, plain, regular) + questions(s, d, p, plain, watch)
    out += other_calls(s, d, p, plain, regular, top)
    meta = metadata_calls(s, p, dirfd=d)
    if not plain:
        meta = [(n, i) for n, i in meta if n.endswith(('at', 'at2', 'at-now'))
                and n not in ('file_setattr',)]
    if not spelling.link:
        out += name_changes(s, d, p, plain, regular, top)
    else:
        meta = [(n, i) for n, i in meta if not n.startswith('l')]
    if not regular:
        out += beneath(s, d, p, plain)
    return [(n, i) for n, i in out + meta if i is not None]


# Answers that no permission gives: what the kernel does not have at all.
ABSENT = {'ENOSYS'}


@pytest.mark.parametrize('leaf', ['secret', 'vault', 'vault/inner', 'vault/sub/low'])
def test_every_call_by_every_spelling(leaf, tmp_path):
    top = make_tree(tmp_path / 'tree')
    s = Script()
    dirs = prepare(s, top)
    s.call('inotify_init1', 0, save='watch')
    watch = Raw('$watch')
    calls = {}
    for spelling in spellings(top, leaf, dirs):
        for label, index in all_calls(s, top, leaf, spelling, watch):
            calls[f'{spelling.name}: {label}'] = index
    before = tree_state(top)
    answers = s.run(*policy(top))
    assert [answers[i].name for i in range(3)] == ['OK'] * 3
    passed = {k: answers[i] for k, i in calls.items() if answers[i].name not in REFUSED | ABSENT}
    assert passed == {}
    assert tree_state(top) == before
    # A buffer was never filled.
    assert not any(b for i in calls.values() for b in answers[i].buffers)


@pytest.mark.parametrize('leaf', ['secret', 'vault', 'vault/inner'])
def test_control_every_call_works_outside(leaf, tmp_path):
    """Each call of the test above, in a fresh tree and without a sandbox."""
    kinds = {'openings': lambda s, t, p: openings(s, AT_FDCWD, p, True, leaf != 'vault'),
             'questions': lambda s, t, p: questions(s, AT_FDCWD, p, True, Raw('$watch')),
             'other': lambda s, t, p: other_calls(s, AT_FDCWD, p, True, leaf != 'vault', t),
             'names': lambda s, t, p: name_changes(s, AT_FDCWD, p, True, leaf != 'vault', t),
             'metadata': lambda s, t, p: metadata_calls(s, p)}
    if leaf == 'vault':
        kinds['beneath'] = lambda s, t, p: beneath(s, AT_FDCWD, p, True)
    failed = {}
    for kind, make in kinds.items():
        labels = [n for n, i in make(Script(), tmp_path, 'x') if i is not None]
        # Calls on names need a tree each; the rest share one.
        groups = [[label] for label in labels] if kind in ('names', 'other') else [labels]
        for n, group in enumerate(groups):
            top = make_tree(tmp_path / f'{kind}{n}')
            s = Script()
            prepare(s, top)
            s.call('inotify_init1', 0, save='watch')
            skip = len(s.lines)
            made = make(s, top, f'{top}/{leaf}')
            keep = {i for label, i in made if label in group}
            # Everything else of the script is left out, except kept buffers.
            s.lines = [line if i < skip or i in keep or '==' in line else '39'
                       for i, line in enumerate(s.lines)]
            answers = s.native()
            failed.update({f'{kind}: {label}': answers[i].name for label, i in made
                           if label in group and i is not None and answers[i].name != 'OK'
                           and answers[i].exit != 0})
            shutil.rmtree(top)
    attribute_calls = {k for k in failed if 'attr' in k}
    expected = {'names: unlinkat-dir': 'ENOTEMPTY', 'names: rmdir': 'ENOTEMPTY',
                'names: rename-dir-over': 'ENOTEMPTY', 'openings: openat-direct': 'EINVAL',
                'openings: open-direct': 'EINVAL', 'openings: openat2-direct': 'EINVAL',
                'openings: openat-trunc': 'EISDIR', 'beneath: missing-stat': 'ENOENT',
                'beneath: missing-unlink': 'ENOENT', 'beneath: rename-into': 'OK',
                'questions: getxattr': 'ENODATA', 'names: lgetxattr': 'ENODATA',
                'questions: getxattrat': 'ENODATA'}
    rest = {k: v for k, v in failed.items() if expected.get(k) != v and k not in attribute_calls}
    assert rest == {}
    assert all(failed[k] in ('ENOSYS', 'EOPNOTSUPP', 'ENOTSUP', 'ENODATA', 'ENOTTY', 'EINVAL')
               for k in attribute_calls), {k: failed[k] for k in attribute_calls}


def test_descriptors_lead_nowhere(tmp_path):
    """What was opened before with less: O_PATH of a parent, a directory moved, /proc/self/fd."""
    top = make_tree(tmp_path / 'tree')
    s = Script()
    prepare(s, top)
    path_fd = s.open(top, os.O_PATH)
    calls = {
        'path-dirfd': s.call('openat', path_fd, 'secret', O_RDONLY),
        'path-dirfd-2': s.call('openat2', path_fd, 'vault/inner', how(O_RDONLY), 24),
        'beneath': s.call('openat2', path_fd, 'secret', how(O_RDONLY, 0, 8), 24),
        'in-root': s.call('openat2', path_fd, '/secret', how(O_RDONLY, 0, 16), 24),
        'in-root-up': s.call('openat2', path_fd, '/../../secret', how(O_RDONLY, 0, 16), 24),
        'no-magic': s.call('openat2', path_fd, 'secret', how(O_RDONLY, 0, 2), 24),
        'handle': s.call('name_to_handle_at', AT_FDCWD, top / 'secret', data(bytes([128] + [0] * 136)),
                         buffer(4), 0),
        'open_tree': s.call('open_tree', AT_FDCWD, top / 'secret', 0),
        'memory-of-self': s.call('openat', AT_FDCWD, f'/proc/self/root/proc/self/cwd/{"./" * 500}secret',
                                 O_RDONLY),
    }
    answers = s.run(*policy(top))
    assert {k: answers[i].name for k, i in calls.items()
            if answers[i].name not in REFUSED} == {}
    outside = s.native()
    works = {k for k, i in calls.items() if outside[i].name == 'OK'}
    assert {'path-dirfd', 'path-dirfd-2', 'beneath', 'in-root', 'in-root-up', 'no-magic'} <= works


def test_moving_ancestors(tmp_path):
    """Neither the denied object nor what holds it moves away from under the rule."""
    def attempts(s, top):
        return {
            'rename-parent': s.call('renameat2', AT_FDCWD, top / 'deep' / 'er', AT_FDCWD,
                                    top / 'open' / 'm1', 0),
            'rename-grandparent': s.call('renameat2', AT_FDCWD, top / 'deep', AT_FDCWD,
                                         top / 'open' / 'm2', 0),
            'renameat': s.call('renameat', AT_FDCWD, top / 'deep', AT_FDCWD, top / 'm3'),
            'rename': s.call('rename', top / 'deep', top / 'm4'),
            'exchange': s.call('renameat2', AT_FDCWD, top / 'deep', AT_FDCWD, top / 'open', 2),
            'exchange-2': s.call('renameat2', AT_FDCWD, top / 'open', AT_FDCWD, top / 'deep' / 'er',
                                 2),
        }
    top = make_tree(tmp_path / 'tree')
    s = Script()
    calls = {k: i for k, i in attempts(s, top).items() if i is not None}
    read = s.call('openat', AT_FDCWD, top / 'deep' / 'er' / 'hidden', O_RDONLY)
    before = tree_state(top)
    answers = s.run(*policy(top))
    assert {k: answers[i].name for k, i in calls.items() if answers[i].name not in REFUSED} == {}
    assert answers[read].name == 'EACCES' and tree_state(top) == before
    for n, (key, _) in enumerate(calls.items()):
        fresh = make_tree(tmp_path / f'control{n}')
        s = Script()
        index = attempts(s, fresh)[key]
        s.lines = [s.lines[index]]
        assert s.native()[0].name == 'OK', key
    # Directories without anything denied move as before.
    assert shell(f'mkdir {top}/a && mv {top}/a {top}/b && mv {top}/b {top}/open/c',
                 *policy(top)).returncode == 0


def test_exec_by_every_spelling(tmp_path):
    """A denied program does not run, by itself or as an interpreter; its neighbour does."""
    top = make_tree(tmp_path / 'tree')
    os.symlink('tool', top / 'toollink')
    os.link(top / 'tool', top / 'open' / 'toolhard')
    shutil.copy(HELPERS / 'probe_fds', top / 'free')
    ran = top / 'open' / 'ran'

    def attempts(s, leaf):
        argv = words('tool', ran)
        dirs = prepare(s, top)
        found = {sp.name: s.call('execveat', sp.dirfd, sp.path, argv, 0, 0, fork=True)
                 for sp in spellings(top, leaf, dirs)}
        found.update({'execve': s.call('execve', top / leaf, argv, 0, fork=True),
                      'execve-relative': s.call('execve', leaf, argv, 0, fork=True),
                      'execve-proc': s.call('execve', f'/proc/self/fd/3/{leaf}', argv, 0, fork=True)})
        fd = s.open(top / leaf, os.O_PATH)
        found['fd'] = s.call('execveat', fd, '', argv, 0, AT_EMPTY_PATH, fork=True)
        return found
    s = Script()
    calls = attempts(s, 'tool')
    calls.update({'link': s.call('execve', top / 'toollink', words('t', ran), 0, fork=True),
                  'hard': s.call('execve', top / 'open' / 'toolhard', words('t', ran), 0, fork=True),
                  'script': s.call('execve', top / 'script', words('t'), 0, fork=True),
                  'loader': s.call('execve', '/bin/sh', words('sh', '-c', f'{top}/tool {ran}'), 0,
                                   fork=True)})
    before = tree_state(top)
    answers = s.run(*policy(top))
    assert not ran.exists() and tree_state(top) == before
    bad = {k: answers[i] for k, i in calls.items()
           if answers[i].exit == 0 or answers[i].name == 'OK'}
    assert bad == {}
    # Neighbour by every spelling.
    s = Script()
    calls = attempts(s, 'free')
    answers = s.run(*policy(top))
    assert {k: answers[i] for k, i in calls.items() if answers[i].exit != 0} == {}
    assert ran.exists()
    ran.unlink()
    # Control: the tool writes into the file that it is given, here the script.
    assert native(top / 'script').returncode == 0
    assert (top / 'script').read_text().startswith('0\n')


def test_unix_sockets_by_path(tmp_path):
    """bind beneath and connect to what is denied."""
    top = tmp_path / 't'
    top.mkdir()
    (top / 'vault').mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(top / 'vault' / 's'))
    server.listen(5)
    os.link(top / 'vault' / 's', top / 'hard')
    program = f'''
import socket, sys
for path in ("{top}/vault/s", "{top}/hard", "{top}/vault/../vault/s"):
    try: socket.socket(socket.AF_UNIX).connect(path); print("connected")
    except PermissionError: print("refused")
try: socket.socket(socket.AF_UNIX).bind("{top}/vault/new"); print("bound")
except PermissionError: print("refused")
socket.socket(socket.AF_UNIX).bind("{top}/free" + sys.argv[1]); print("free")
'''
    result = run('-w', top, '--fs-deny', top / 'vault', '--fs-deny', top / 'vault' / 's', '--',
                 '/usr/bin/python3', '-c', program, '1')
    assert result.stdout.split() == ['refused'] * 4 + ['free'], result.stderr
    control = native('/usr/bin/python3', '-c', program, '2')
    assert control.stdout.split() == ['connected'] * 3 + ['bound', 'free'], control.stderr
    server.close()


def test_denying_what_is_not_there_yet(tmp_path):
    top = make_tree(tmp_path / 'tree')
    deny = ['-w', top, '--fs-deny', top / 'later']
    for command in (f'echo x >{top}/later', f'mkdir {top}/later', f'ln -s x {top}/later',
                    f'mv {top}/plain {top}/later', f'ln {top}/plain {top}/later',
                    f'cp {top}/plain {top}/later', f'cd {top}; : >./open/../later'):
        result = shell(command, *deny)
        assert result.returncode != 0 and not os.path.lexists(top / 'later'), command
    assert shell(f'mkdir {top}/later', '-w', top).returncode == 0
    (top / 'later' / 'x').write_text('SECRET')
    assert shell(f'cat {top}/later/x', *deny).returncode != 0


def test_denied_directory_is_listed_by_nobody(tmp_path):
    top = make_tree(tmp_path / 'tree')
    result = run(*policy(top), '--', 'find', top)
    assert 'inner' not in result.stdout and f'{top}/plain' in result.stdout
    assert 'inner' in native('find', top).stdout
    assert run(*policy(top), '--', 'grep', '-r', 'SECRET\\|INNER\\|HIDDEN', top).stdout == ''


def test_deny_without_a_grant_and_bad_words(tmp_path):
    top = make_tree(tmp_path / 'tree')
    assert run('--fs-deny', top / 'secret', '--', 'cat', top / 'secret').returncode == 1
    assert run('--fs-deny', '/', '--', 'true').returncode != 0
    assert run('--fs-deny', '', '--', 'true').returncode in (2, 125)
    # Denying the command's own loader: a clear end, not a hang.
    result = run('--fs-deny', '/usr', '--', 'true')
    assert result.returncode in (125, 126, 127, 137) and result.stderr


# ---- races ----

SECONDS = float(os.environ.get('SANDLOCK_RACE_SECONDS',
                               '10' if os.environ.get('SANDLOCK_LONG') else '3'))


@pytest.mark.parametrize('mode', ['text', 'link', 'tree', 'exec', 'execlink'])
def test_race(mode, tmp_path):
    """Not one read of the denied content; both answers happen, so the race is a race."""
    top = tmp_path / 'race'
    top.mkdir()
    (top / 'plain').write_text('plain')
    (top / 'guard').write_text('GUARD')
    shutil.copy('/usr/bin/true', top / 'pprog')
    # Exits 77: a program of its own, so that identity tells them apart.
    (top / 'gprog').write_text('#!/bin/sh\nexit 77\n')
    (top / 'gprog').chmod(0o755)
    seconds = SECONDS * (5 if IN_VM else 1)
    result = run('-w', top, '--fs-deny', top / 'guard', '--fs-deny', top / 'gprog', '--',
                 helper('fs_race'), mode, top, seconds, timeout=120 * SLOW + seconds * 4)
    assert result.returncode == 0, result.stdout + result.stderr
    text = result.stdout.split()
    allowed, refused = int(text[1]), int(text[3])
    assert allowed > 0 and refused > 0, result.stdout
    assert (top / 'guard').read_text() == 'GUARD'
    control = native(helper('fs_race'), mode, top, seconds)
    assert control.returncode == 9, control.stdout


def with_interpreter(source, target, interpreter):
    """A copy of an ELF program that names another loader: written behind its end."""
    code = bytearray(source.read_bytes())
    at, size, number = struct.unpack_from('<Q', code, 32)[0], *struct.unpack_from('<HH', code, 54)
    for header in range(at, at + size * number, size):
        if struct.unpack_from('<I', code, header)[0] == 3:
            struct.pack_into('<Q', code, header + 8, len(code))
            struct.pack_into('<Q', code, header + 32, len(interpreter) + 1)
            break
    target.write_bytes(code + interpreter + b'\0')
    target.chmod(0o755)


@pytest.mark.parametrize('name', ['plain', 'x (deleted)', 'back\\slash', 'new\nline', 'both\\012\n (deleted)'])
def test_a_denied_loader_is_not_used_whatever_its_name(name, tmp_path):
    """The kernel opens it by itself; what it has mapped it tells as text."""
    true = pathlib.Path(shutil.which('true')).resolve()
    found = re.search(rb'/lib[a-z0-9/_.-]*/ld-[a-z0-9_.-]+', true.read_bytes())
    if not found:
        pytest.skip('true has no loader here')
    loader = found[0].decode()
    (tmp_path / 'denied').mkdir()
    shutil.copy(loader, tmp_path / 'denied' / name)
    with_interpreter(true, tmp_path / 'program', os.fsencode(tmp_path / 'denied' / name))
    assert native(tmp_path / 'program').returncode == 0
    assert run('-r', tmp_path, '--', tmp_path / 'program').returncode == 0
    done = run('-r', tmp_path, '--fs-deny', tmp_path / 'denied', '--', tmp_path / 'program')
    assert done.returncode in (126, 137), done
    # One file is denied, and next to it lies what the kernel's text names.
    decoy = tmp_path / 'denied' / name.replace('\n', '\\012')
    if decoy.name != name:
        decoy.write_text('')
        done = run('-r', tmp_path, '--fs-deny', tmp_path / 'denied' / name, '--', tmp_path / 'program')
        assert done.returncode in (126, 137), done
