# SPDX-License-Identifier: Apache-2.0
"""An ordinary user's commit where files and directories are somebody else's, who lets him write."""
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from common import GRANTS, IN_VM, LIMIT, native, run, sandlock, tree_state, wait_until
from test_cow_faults import MAKING, faulty, shape

USER = 65534
ORDINARY = {'user': USER, 'group': USER, 'extra_groups': [], 'env': {'PATH': '/usr/bin:/bin', 'HOME': '/'}}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='needs files of two owners')


@pytest.fixture
def work():
    top = Path(tempfile.mkdtemp(prefix='sandlock-cf.', dir='/tmp'))
    for folder, mode in ((top, 0o755), (top / 'state', 0o700), (top / 'work', 0o777)):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    os.chown(top / 'state', USER, USER)
    for name, mode in (('shared', 0o666), ('theirs', 0o644)):
        (top / 'work' / name).write_text('old\n')
        (top / 'work' / name).chmod(mode)
    yield top / 'work'
    shutil.rmtree(top)


def inside(work, text, *args):
    storage = ['--fs-storage', work.parent / 'state']
    done = run('-w', '/dev/null', '--workdir', work, '--cwd', work, *storage, *args, '--', 'sh', '-c', text,
               timeout=LIMIT, **ORDINARY)
    assert done.returncode == 0, done.stderr
    assert not sandlock('recover', *storage, work, **ORDINARY).stdout
    return done


@pytest.mark.parametrize('args', [[], ['--commit-in-place'], ['--commit-backup']])
def test_directory(work, args):
    """New names in it: its mode is as it was, and its times are those of the commit."""
    inside(work, 'echo new >made; mkdir d; mv shared d/', *args)
    assert sorted(os.listdir(work)) == ['d', 'made', 'theirs']
    assert (work.stat().st_mode & 0o7777, work.stat().st_uid) == (0o777, 0)


@pytest.mark.parametrize('args', [[], ['--commit-backup']])
@pytest.mark.parametrize('what', ['mv theirs moved', 'mv theirs shared', 'mkdir d; mv theirs d/x; echo new >theirs'])
def test_moved(work, what, args):
    """What may not be linked (fs.protected_hardlinks) may be moved, and stays the same file."""
    ino = (work / 'theirs').stat().st_ino
    inside(work, what, *args)
    to = next(p for p in (work / 'moved', work / 'd/x', work / 'shared') if p.exists())
    assert (to.read_text(), to.stat().st_uid, to.stat().st_ino) == ('old\n', 0, ino)
    assert (work / 'theirs').exists() == (to.name == 'x')


def test_in_place(work):
    """It stays the owner's; nothing is said."""
    before = (work / 'shared').stat()
    done = inside(work, 'echo new >shared; mv shared moved', '--commit-in-place')
    now = (work / 'moved').stat()
    assert done.stderr == '' and (work / 'moved').read_text() == 'new\n'
    assert (now.st_uid, now.st_ino, now.st_mode) == (0, before.st_ino, before.st_mode)


@pytest.mark.parametrize('args', [[], ['--commit-in-place']])
def test_directory_of_theirs(work, args):
    """That the user may not write to: an empty one can be removed and replaced, and is not moved."""
    (work / 'closed').mkdir(mode=0o755)
    (work / 'stays').mkdir(mode=0o755)
    inside(work, 'rmdir closed; mkdir closed; echo x >closed/new; mkdir d; ! mv stays d/ && ! mv stays other', *args)
    assert (work / 'closed').stat().st_uid == USER and (work / 'closed/new').read_text() == 'x\n'
    assert (work / 'stays').stat().st_uid == 0 and not os.listdir(work / 'd')


REPLACED = ['rmdir closed; echo x >closed', 'rmdir closed; mkdir closed; echo x >closed/new', 'rmdir closed',
            'mv -T mine closed']


def with_directories(top):
    """One of somebody else's, which an ordinary user may remove and not move, and one of his own."""
    top.mkdir(exist_ok=True)
    top.chmod(0o777)
    for name, user, mode in (('closed', 0, 0o555), ('mine', USER, 0o755)):
        (top / name).mkdir()
        (top / name).chmod(mode)
        os.chown(top / name, user, user)
        os.utime(top / name, (5, 5))
    return top


def both(top):
    """Without what only one of the two has; the size of a directory is that of its names on tmpfs."""
    return {name: value[:4] + value[5:] if name == '.' else value for name, value in shape(top).items()
            if name not in ('shared', 'theirs')}


@pytest.mark.parametrize('what', REPLACED)
def test_backup_of_what_cannot_be_moved(work, what):
    bare = with_directories(work.parent / 'bare')
    subprocess.run(['sh', '-c', what], cwd=bare, check=True, **ORDINARY)
    inside(with_directories(work), what, '--commit-backup')
    assert both(work) == both(bare)


def interrupted(work, what, when):
    """A commit with a backup, killed before one of its calls (0: not): its number when it can be taken back, and how
    many calls there were."""
    storage = ['--fs-storage', work.parent / 'state']
    _, count, _ = faulty(work, MAKING, when, -int(signal.SIGKILL), 'run', *GRANTS, '-w', '/dev/null', *storage,
                         '--commit-backup', '--workdir', work, '--cwd', work, '--', 'sh', '-c', what, **ORDINARY)
    assert wait_until(lambda: 'running' not in sandlock('recover', *storage, work, **ORDINARY).stdout)
    listed = sandlock('recover', *storage, work, **ORDINARY).stdout.split()
    return listed[0] if listed[1:2] == ['interrupted'] else None, count


def without(state):
    """Times of a directory of somebody else's cannot be set, and a copy of one is the user's."""
    return {name: value[:1] + value[3:5] + (name != '.' and value[5],) + value[6:] for name, value in state.items()}


@pytest.mark.parametrize('what', REPLACED)
def test_copy_is_taken_back(work, what):
    """From wherever the commit was killed, also by a rollback that was killed itself."""
    storage = ['--fs-storage', work.parent / 'state']
    before = without(tree_state(with_directories(work)))
    (work.parent / 'counts').write_text('')
    (work.parent / 'counts').chmod(0o666)
    shutil.copytree(work, work.parent / 'old')
    _, count = interrupted(work, what, 0)
    copied = 0
    for n, when in enumerate(range(count, count - 40, -8 if IN_VM else -2)):
        for name in os.listdir(work):
            shutil.rmtree(work / name) if (work / name).is_dir() else (work / name).unlink()
        for name in ('shared', 'theirs'):
            shutil.copy2(work.parent / 'old' / name, work / name)
        with_directories(work)
        before = without(tree_state(work))
        ident, _ = interrupted(work, what, when)
        if not ident:
            continue
        command = ['recover', *storage, '--rollback', ident, work]
        done, _, _ = faulty(work, MAKING, 1 + n * 5 % 23, -int(signal.SIGKILL), *command, **ORDINARY)
        if done.returncode:
            done = sandlock(*command, **ORDINARY)
        if 'complete' in done.stderr:
            assert sandlock('recover', *storage, '--commit', ident, work, **ORDINARY).returncode == 0
            continue
        assert without(tree_state(work)) == before, (when, done.stdout, done.stderr)
        assert 'interrupted' not in sandlock('recover', *storage, work, **ORDINARY).stdout
        copied += (work / 'closed').stat().st_uid == USER and 'closed: the owner could not be set to 0:0' in done.stdout
    assert IN_VM or copied > 1


@pytest.mark.parametrize('names', [('closed', 'mine'), ('mine', 'closed'), ('other', 'mine'), ('mine', 'other')])
def test_exchange_with_theirs(work, names):
    """Which a commit could not move: refused like its rename."""
    text = 'import ctypes; print(ctypes.CDLL(None).renameat2(-100, b\'%s\', -100, b\'%s\', 2))' % names
    bare = with_directories(work.parent / 'bare')
    for top in (bare, with_directories(work)):
        (top / 'other').mkdir(mode=0o755)
    assert native('python3', '-c', text, cwd=bare, **ORDINARY).stdout == '0\n'
    before = shape(work)
    assert inside(work, f'/usr/bin/python3 -c "{text}"; mv mine 2; mv 2 mine').stdout == '-1\n'
    assert shape(work) == before


# What is tried first fails, or changes nothing of who may write to it.
WRITES = ['chmod 600 theirs; echo x >>theirs', 'mv theirs moved; echo x >moved', 'mv theirs moved; truncate -s 1 moved',
          'chmod 777 theirs; touch theirs', 'ln theirs linked; echo x >linked; rm -f linked', 'chmod 600 in/it; echo x >in/it',
          'ln in/it in/linked', 'chmod 1 theirs; test -w theirs && echo may', 'chmod 755 program; ./program',
          'chmod 600 in/rest; echo x >>in/rest; ln in/rest linked; chmod 1 linked; echo y >>linked; test -w linked && echo may']


@pytest.mark.parametrize('what', WRITES)
def test_files_stay_theirs(work, what):
    """To have touched a file of somebody else's gives no right to it, neither inside nor to the commit."""
    bare = work.parent / 'bare'
    for top in (work, bare):
        (top / 'in').mkdir(parents=True)
        top.chmod(0o777)
        for name, mode in (('theirs', 0o644), ('program', 0o744), ('in/it', 0o644), ('in/rest', 0o666)):
            (top / name).write_text('#!/bin/sh\n')
            (top / name).chmod(mode)
    (bare / 'shared').write_text('old\n')
    (bare / 'shared').chmod(0o666)
    done = native('sh', '-c', what + '; true', cwd=bare, **ORDINARY)
    assert 'enied' in done.stderr or 'ermitted' in done.stderr
    committed = inside(work, what + '; true')
    assert committed.stdout == done.stdout
    assert {k: v[0:1] + v[3:] for k, v in shape(work).items()} == {k: v[0:1] + v[3:] for k, v in shape(bare).items()}
    assert (work / 'in/it').stat().st_uid == 0


GROUP = 1000
MAKES = ('umask 022; echo a >mine/new; mkdir -p mine/d/e; echo b >mine/d/deep; ln -s x mine/link; echo c >ours/new; mkdir ours/d; '
         'echo d >ours/d/x; echo more >>mine/old; echo t >top; mv top mine/moved; mkdir tops; mv tops mine/moveds; echo x >mine/moveds/x; '
         'chmod 2775 mine/d/e; cp -p mine/program mine/copy; chmod g+w mine/program; echo >>ours/old; touch -d @9 mine')


@pytest.mark.parametrize('more', [[], ['--commit-in-place'], ['--commit-backup']])
@pytest.mark.parametrize('member', [True, False])
def test_directories_of_a_group(work, member, more):
    """With the set-group-id bit: one's own and somebody else's. Whose user is not in that group makes files of his own
    one, which is documented, but what was there keeps its group and bits."""
    bare = work.parent / 'bare'
    for top in (work, bare):
        top.mkdir(exist_ok=True)
        top.chmod(0o777)
        for folder, uid in (('mine', USER), ('ours', 0)):
            (top / folder).mkdir()
            for name, mode in (('old', 0o666), ('program', 0o2755), ('', 0o2777)):
                path = top / folder / name
                if name:
                    path.write_text('old')
                os.chown(path, uid, GROUP)
                path.chmod(mode)
    options = {**ORDINARY, 'extra_groups': [GROUP] if member else []}
    subprocess.run(['sh', '-c', MAKES], cwd=bare, check=True, **options)
    storage = ['--fs-storage', work.parent / 'state']
    done = run('-w', '/dev/null', '--workdir', work, '--cwd', work, *storage, *more, '--', 'sh', '-c', MAKES, timeout=LIMIT,
               **options)
    assert done.returncode == 0, done.stderr
    both = []
    for top in (work, bare):
        paths = [top / p for p in (('mine', 'ours', 'mine/program') if not member else subprocess.run(
            ['find', 'mine', 'ours'], cwd=top, check=True, capture_output=True, text=True).stdout.split())]
        both.append({p.relative_to(top): (p.lstat().st_mode, p.lstat().st_gid) for p in paths})
    assert both[0] == both[1]


@pytest.mark.parametrize('sticky', [False, True])
def test_written_where_it_cannot_be_replaced(work, sticky):
    """Into the file, also of a kept layer; with a backup not at all, before anything is touched."""
    (work / 'in').mkdir()
    (work / 'in').chmod(0o1777 if sticky else 0o755)
    (work / 'in/file').write_text('old\n')
    (work / 'in/file').chmod(0o666)
    before = (work / 'in/file').stat()
    storage = ['--fs-storage', work.parent / 'state']
    words = ['-w', '/dev/null', '--workdir', work, '--cwd', work, *storage]
    refused = run(*words, '--commit-backup', '--', 'sh', '-c', 'echo new >made; echo new >in/file', timeout=LIMIT, **ORDINARY)
    assert refused.returncode == 125 and 'in/file: may be written to but not replaced' in refused.stderr
    assert (work / 'in/file').read_text() == 'old\n' and not (work / 'made').exists()
    listed = sandlock('recover', *storage, work, **ORDINARY).stdout.split()
    assert listed[1] == 'kept' and sandlock('recover', *storage, '--abort', listed[0], work, **ORDINARY).returncode == 0
    done = inside(work, 'echo new >made; echo new >in/file')
    now = (work / 'in/file').stat()
    assert (done.stderr, (work / 'in/file').read_text(), (work / 'made').read_text()) == ('', 'new\n', 'new\n')
    assert (now.st_uid, now.st_ino, now.st_mode) == (0, before.st_ino, before.st_mode)
