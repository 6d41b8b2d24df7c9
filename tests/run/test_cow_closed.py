# SPDX-License-Identifier: Apache-2.0
"""What a command closed to its own owner (directories and files without his rights) is listed, committed, kept
and dropped as everything else is, by an ordinary user too."""
import os
import signal
import subprocess

import pytest

from common import GRANTS, IN_VM, LIMIT, native, open_all, run, sandlock, storage_at
from test_cow_faults import ENV, MAKING, ended, faulty, settle

# New directories and files of all kinds, one in another; old ones; a file moved into one.
CHANGES = r'''
mkdir -p a/b/c; echo deep >a/b/c/deep; echo in >a/b/in; ln -s in a/b/link; ln a/b/in linked; mv moved a/b/
mkdir none; mkdir blind; echo x >blind/x; chmod 300 blind
mkdir shut/new; echo z >shut/new/z; rm shut/gone; chmod 0 shut/new; chmod 0 shut
mkdir fast; echo y >fast/y; chmod 500 fast
echo dark >dark; chmod 0 dark; echo old >>old/file; chmod 0 old/file; chmod 200 one
chmod 0 a/b/c; chmod 111 a/b; chmod 0 a; chmod 0 none; chmod 500 old
'''


@pytest.fixture
def work(tmp_path):
    tmp_path.chmod(0o755)

    def make(name):
        top = tmp_path / name
        for folder in ('old', 'shut'):
            (top / folder).mkdir(parents=True)
        for path in ('moved', 'one', 'old/file', 'old/stays', 'shut/gone', 'shut/stays'):
            (top / path).write_text(path)
        for folder in (top, top / 'old', top / 'shut'):
            folder.chmod(0o755)
        return top
    yield make
    open_all(tmp_path)


def shape(top):
    """Modes and contents; then everything is open."""
    modes = native('find', '.', '-printf', '%P %m %n %l\\n', cwd=top).stdout
    seen = {}
    while True:
        for line in modes.splitlines():
            name = line.split(' ')[0]
            seen.setdefault(name, line)
            path = top / name
            if not path.is_symlink() and os.lstat(path).st_mode & 0o700 != 0o700:
                path.chmod(0o700)
        again = native('find', '.', '-printf', '%P %m %n %l\\n', cwd=top).stdout
        if {line.split(' ')[0] for line in again.splitlines()} == set(seen):
            break
        modes = again
    contents = {str(p.relative_to(top)): p.read_text() for p in top.rglob('*') if p.is_file()}
    return sorted(seen.values()), contents


def inside(top, *args):
    return run('-w', '/dev/null', '--workdir', top, '--cwd', top, *args, '--', 'sh', '-c', CHANGES, timeout=LIMIT)


def disturbed(top, when, *args):
    """The same, killed before one of its calls (0: not); then as faulty()."""
    return faulty(top, MAKING, when, -int(signal.SIGKILL), 'run', *GRANTS, '-w', '/dev/null', *args, '--workdir', top,
                  '--cwd', top, '--', 'sh', '-c', CHANGES)


@pytest.fixture(params=['beside', 'elsewhere'])
def storage(request):
    with storage_at(request.param, 'cl') as words:
        yield words


@pytest.mark.parametrize('more', [[], ['--commit-backup'], ['--commit-in-place'], ['keep']])
def test_committed(work, storage, more):
    bare = work('bare')
    subprocess.run(['sh', '-c', CHANGES], cwd=bare, check=True)
    top = work('work')
    done = inside(top, *storage, *(['--on-exit', 'keep'] if more == ['keep'] else more))
    assert done.returncode == 0, done.stderr
    if more == ['keep']:
        listed = sandlock('recover', *storage, top).stdout.split()
        assert listed[1] == 'kept'
        done = sandlock('recover', *storage, '--commit', listed[0], top)
        assert done.returncode == 0, done.stderr
    assert not sandlock('recover', *storage, top).stdout
    assert shape(top) == shape(bare)


@pytest.mark.parametrize('how', ['--dry-run', '--diff', '--changes-json', 'abort'])
def test_listed_and_dropped(work, storage, how):
    top = work('work')
    done = inside(top, *storage, *(['--on-exit', 'abort'] if how != '--dry-run' else []),
                  *([how] if how != 'abort' else []))
    assert done.returncode == 0, done.stderr
    if how != 'abort':
        assert 'a/b/c/deep' in done.stderr and 'old/file' in done.stderr
    assert not sandlock('recover', *storage, top).stdout
    assert shape(top) == shape(work('other'))


LOWER = ('echo y >>a/b/file; chmod 755 c; mv c e/d; chmod 555 e/d; rmdir gone; echo x >gone; '
         'rmdir void; mkdir void; echo z >void/z')


@pytest.mark.parametrize('more', [[], ['--commit-backup'], ['--commit-in-place']])
def test_closed_before(tmp_path, storage, more):
    """Directories that nobody may write to: what is in them is written, they are moved and replaced, and those that
    only lie on the way keep their modes."""
    tmp_path.chmod(0o755)
    tops = tmp_path / 'bare', tmp_path / 'work'
    for top in tops:
        for folder in ('a/b', 'c/in', 'e', 'gone', 'void'):
            (top / folder).mkdir(parents=True)
        for path in ('a/b/file', 'c/file'):
            (top / path).write_text(path)
        for folder in ('a/b', 'a', 'c', 'gone', 'void'):
            (top / folder).chmod(0o555)
        top.chmod(0o755)
    subprocess.run(['sh', '-c', LOWER], cwd=tops[0], check=True)
    done = run('-w', '/dev/null', '--workdir', tops[1], '--cwd', tops[1], *storage, *more, '--', 'sh', '-c', LOWER,
               timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, '')
    assert not sandlock('recover', *storage, tops[1]).stdout
    assert shape(tops[1]) == shape(tops[0])
    open_all(tmp_path)


def test_killed_while_the_storage_goes(work, storage):
    """Everything is done by then; what looks whether it is opens closed directories once more."""
    bare = work('bare')
    subprocess.run(['sh', '-c', CHANGES], cwd=bare, check=True)
    new = shape(bare)
    _, count, _ = disturbed(work('whole'), 0, *storage)
    found = set()
    for back in range(0, 28, 9 if IN_VM else 3):
        top = work(f'k{back}')
        disturbed(top, count - back, *storage)
        ended(top, *storage)
        states = settle(top, *storage)
        assert shape(top) == new, (back, states)
        found.update(states)
    assert IN_VM or 'interrupted' in found


def test_rolled_back(work, storage):
    """Also when the directories have their new modes already."""
    old = shape(work('bare'))
    _, count, _ = disturbed(work('whole'), 0, '--commit-backup', *storage)
    back = 0
    for when in range(count - 4, count - 124, -18 if IN_VM else -6):
        top = work(f'k{when}')
        disturbed(top, when, '--commit-backup', *storage)
        ended(top, *storage)
        listed = sandlock('recover', *storage, top).stdout.split()
        if not listed or listed[1] != 'interrupted':
            settle(top, *storage)
            continue
        done = sandlock('recover', *storage, '--rollback', listed[0], top)
        if 'complete' in done.stderr:
            settle(top, *storage)
            continue
        assert done.returncode == 0, (when, done.stdout, done.stderr)
        assert shape(top) == old, when
        back += 1
    assert back > (0 if IN_VM else 3)


PLAIN = ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] if os.geteuid() == 0 else []

# Each call with its errno: what their owner may do with directories and files that he may not write to or search.
OWNED = r'''
import ctypes, os
def do(what, *args):
    try: print(what.__name__, args[0], what(*args))
    except OSError as e: print(what.__name__, args[0], e.errno)
def exchange(a, b):
    if ctypes.CDLL(None, use_errno=True).renameat2(-100, a.encode(), -100, b.encode(), 2):
        raise OSError(ctypes.get_errno(), a)
def mode(path): return oct(os.stat(path).st_mode)
os.makedirs("to/sub")
for name in ("fast", "none"):
    do(os.rename, name, "to/" + name); do(os.rename, name, "to/sub"); do(exchange, name, "to/sub"); do(exchange, "to/sub", name)
    do(os.rename, name, name + "2"); do(os.rename, name + "2", name); do(exchange, name, "old"); do(mode, "old")
    do(exchange, name, "old"); do(os.rename, name, "void"); do(mode, "void"); do(os.rename, "void", "to/void")
    do(os.chmod, "void", 0o755); do(os.rename, "void", "to/" + name); do(os.chmod, "to/" + name, 0o511); do(mode, "to/" + name)
    do(os.rename, "to/" + name, "void"); do(os.rename, "to/" + name, "to/again" + name); do(os.utime, "to/again" + name, (9, 9))
    do(os.mkdir, "void")
for name in ("shut", "dark"):
    do(os.chmod, name, 0o640); do(mode, name); do(os.rename, name, name + "2"); do(os.chmod, name + "2", 0); do(mode, name + "2")
do(os.rmdir, "gone"); do(os.mkdir, "gone")
'''


@pytest.mark.parametrize('more', [[], ['--commit-backup'], ['--commit-in-place']])
def test_its_owner_may(tmp_path, storage, more):
    """Move them within their directory, and change their modes, as the kernel has it."""
    tmp_path.chmod(0o755)
    tops = tmp_path / 'bare', tmp_path / 'work'
    for top in tops:
        for folder, bits in (('fast', 0o555), ('none', 0), ('shut', 0), ('old', 0o755), ('void', 0o755), ('gone', 0o555)):
            (top / folder).mkdir(parents=True)
            if folder in ('fast', 'old'):
                (top / folder / 'in').write_text(folder)
            (top / folder).chmod(bits)
        (top / 'dark').write_text('dark')
        (top / 'dark').chmod(0)
        top.chmod(0o755)
    bare = native(*PLAIN, 'python3', '-Bc', OWNED, cwd=tops[0], env=ENV)
    done = run('-w', '/dev/null', '--workdir', tops[1], '--cwd', tops[1], *storage, *more, '--', 'python3', '-Bc', OWNED,
               timeout=LIMIT, env=ENV)
    assert (bare.stderr, done.stderr) == ('', '')
    assert done.stdout.splitlines() == bare.stdout.splitlines() and bare.stdout.count(' 13\n') > 3
    assert not sandlock('recover', *storage, tops[1]).stdout
    assert shape(tops[1]) == shape(tops[0])
    open_all(tmp_path)
