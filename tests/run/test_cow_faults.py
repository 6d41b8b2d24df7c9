# SPDX-License-Identifier: Apache-2.0
"""The supervisor of a --workdir run, disturbed: its calls fail, or it is killed before one of them. The
helper `faults` traces the command under test itself, not what it runs."""
import errno
import os
import shutil
import signal
import subprocess

import pytest

from common import GRANTS, IN_VM, LIMIT, NR, SANDLOCK, helper, sandlock, storage_at, tree_state, wait_until

ENV = {'PATH': '/usr/bin:/bin', 'LC_ALL': 'C', 'HOME': '/nonexistent'}

# Of each kind of change one, and a renamed directory with changes in it.
CHANGES = r'''
import os, sys
def do(what, *args):
    try: what(*args)
    except OSError as e: print(what.__name__, e.errno, flush=True)
def write(path, text, flags=os.O_TRUNC):
    f = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    try: os.write(f, text)
    finally: os.close(f)
do(write, "file", b"other"); do(write, "log", b"more", os.O_APPEND); do(write, "new", b"n" * 5000)
do(os.mkdir, "fresh"); do(write, "fresh/in", b"in"); do(os.symlink, "../file", "fresh/link")
do(os.mkfifo, "fresh/fifo"); do(os.link, "log", "log2"); do(os.rename, "dir", "moved")
do(write, "moved/inner", b"changed"); do(os.unlink, "moved/gone"); do(os.rename, "a", "b")
do(os.chmod, "mode", 0o600); do(os.utime, "times", (5, 5)); do(os.unlink, "away"); do(os.rmdir, "empty")
do(os.truncate, "cut", 1); do(os.listdir, "."); do(os.stat, "moved/inner")
'''

MAKING = ['renameat2', 'renameat', 'rename', 'linkat', 'link', 'unlinkat', 'unlink', 'rmdir', 'mkdirat', 'mkdir',
          'symlinkat', 'symlink', 'mknodat', 'mknod', 'fsync', 'syncfs', 'utimensat', 'fchmodat', 'fchmodat2',
          'fchmod', 'fchown', 'fchownat', 'copy_file_range', 'ftruncate', 'flock', 'pwrite64', 'write']
LOOKING = ['openat', 'openat2', 'open', 'statx', 'newfstatat', 'fstat', 'getdents64', 'readlinkat', 'readlink',
           'pread64', 'read', 'mmap', 'brk', 'fcntl', 'pidfd_getfd', 'process_vm_readv', 'lseek', 'faccessat2',
           'fgetxattr', 'getxattr', 'listxattr']  # no ioctl: of notifications it fails for dead callers only


@pytest.fixture
def tree(tmp_path):
    """Makes a work directory of its own for each attempt."""
    tmp_path.chmod(0o755)

    def make(name):
        top = tmp_path / name
        for folder in ('dir', 'empty'):
            (top / folder).mkdir(parents=True)
        for path in ('file', 'log', 'a', 'mode', 'times', 'away', 'cut', 'dir/inner', 'dir/gone', 'dir/stays'):
            (top / path).write_text(path * 100)
            (top / path).chmod(0o644)
        top.chmod(0o755)
        return top
    return make


def numbers(names):
    return ','.join(str(NR[n]) for n in names if n in NR)


def faulty(work, calls, when, fault, *words, **options):
    """sandlock with these words, disturbed at one of its calls (0: not); then as disturbed()."""
    counts = work.parent / 'counts'
    options.setdefault('env', ENV)
    done = subprocess.run([helper('faults'), numbers(calls), str(when), str(fault), counts, '--', SANDLOCK, *words],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=LIMIT, check=False, **options)
    seen, happened, _ = counts.read_text().split()
    return done, int(seen), happened == '1'


def disturbed(work, calls, when, fault, *args):
    """Exit code, output, (how many such calls, did it happen)."""
    return faulty(work, calls, when, fault, 'run', *GRANTS, '--workdir', work, '--cwd', work, *args, '--',
                  'python3', '-Bc', CHANGES)


def everything(top):
    """Change times and inodes as well. (Not the top's: copies from another file system are prepared there.)"""
    inodes = {p: (os.lstat(p).st_ino, os.lstat(p).st_ctime_ns)
              for d, ds, fs in os.walk(top) for p in (os.path.join(d, n) for n in ds + fs)}
    return tree_state(top), inodes


def shape(top):
    return {k: v[:5] + v[6:] for k, v in tree_state(top).items()}


def ended(work, *storage):
    """Waits until nothing of a killed run holds its layer."""
    assert wait_until(lambda: 'running' not in sandlock('recover', *storage, work).stdout)


def settle(work, *storage):
    """What a user does after a crash. The states that were found."""
    done = sandlock('recover', *storage, work)
    assert done.returncode == 0, done.stderr
    found = []
    for line in done.stdout.splitlines():
        ident, state = line.split()[:2]
        found.append(state)
        assert state in ('orphan', 'interrupted', 'kept'), line
        done = sandlock('recover', *storage, '--commit' if state == 'interrupted' else '--abort', ident, work)
        assert done.returncode == 0, (state, done.stderr)
    assert not sandlock('recover', *storage, work).stdout
    return found


def points(count, wanted, shift=0.0):
    """Evenly spread; shifted by a part of their distance."""
    wanted = 3 if IN_VM else wanted
    return sorted({min(count, 1 + int((i + shift) * (count - 1) / (wanted - 1))) for i in range(wanted)})


@pytest.mark.parametrize('how,where,more', [
    (signal.SIGKILL, 'beside', []), (signal.SIGKILL, 'elsewhere', []),
    (signal.SIGKILL, 'beside', ['--commit-in-place']), (signal.SIGKILL, 'elsewhere', ['--commit-in-place']),
    (signal.SIGINT, 'beside', []), (signal.SIGTERM, 'elsewhere', [])])
def test_killed(tree, tmp_path, where, how, more):
    """Before any call that makes something: afterwards the old tree or, from the decision on, the new one."""
    with storage_at(where, f't{how}') as storage:
        work = tree('whole')
        old = shape(work)
        done, count, _ = disturbed(work, MAKING, 0, 0, *storage, *more)
        new = shape(work)
        assert done.returncode == 0 and not done.stdout and count > 60 and new != old, (count, done.stderr)
        ends = set()
        for when in points(count, 28 if how == signal.SIGKILL else 8):
            work = tree(f'k{when}')
            before = everything(work)
            done, _, happened = disturbed(work, MAKING, when, -int(how), *storage, *more)
            if how == signal.SIGKILL:
                assert not happened or done.returncode == 128 + how
            ended(work, *storage)
            states = settle(work, *storage)
            after = shape(work)
            if states in ([], ['interrupted']) or after == new:
                assert after in (old, new), when
            else:
                assert everything(work) == before, when
            ends.add((after == new, tuple(states)))
            shutil.rmtree(work)
        assert (False, ('orphan',)) in ends or how != signal.SIGKILL or IN_VM
        assert (True, ('interrupted',)) in ends or IN_VM


ERRORS = ['ENOSPC', 'EIO', 'ENOMEM', 'EMFILE']


@pytest.mark.parametrize('error', ERRORS[:2] if IN_VM else ERRORS)
def test_failing(tree, error):
    """Whatever fails in the supervisor: the command gets an errno or is not started, and nothing of the tree
    changes. Then the same with a commit: old or new, and what is in between can be finished."""
    work = tree('whole')
    old = shape(work)
    done, count, _ = disturbed(work, MAKING + LOOKING, 0, 0)
    new = shape(work)
    assert done.returncode == 0 and not done.stdout and count > 300, count
    number = getattr(errno, error)
    told = 0
    for when in points(count, 14, ERRORS.index(error) / len(ERRORS)):
        work = tree(f'f{when}')
        before = everything(work)
        done, _, happened = disturbed(work, MAKING + LOOKING, when, number, '--on-exit', 'abort')
        assert everything(work) == before, (when, done.stderr)
        assert done.returncode in (0, 1, 125, 126, 127, 137), (when, done.returncode, done.stderr)
        told += happened and (done.returncode != 0 or bool(done.stdout))
        settle(work)
        done, _, happened = disturbed(work, MAKING + LOOKING, when, number)
        told += happened and (done.returncode != 0 or bool(done.stdout))
        if done.returncode == 0 and not done.stdout:
            assert shape(work) == new, (when, done.stderr)
        states = settle(work)
        if done.returncode == 125:
            assert shape(work) in (old, new), (when, states, done.stderr)
        shutil.rmtree(work)
    assert told or IN_VM


def rolled_back(work, ident, when, *storage):
    """`recover --rollback`, killed before one of its calls (0: not); its exit code and what it said."""
    done, _, _ = faulty(work, MAKING, when, -int(signal.SIGKILL), 'recover', *storage, '--rollback', ident, work)
    return done.returncode, done.stderr


@pytest.mark.parametrize('where', ['beside', 'elsewhere'])
def test_rolled_back(tree, tmp_path, where):
    """A commit killed anywhere is taken back where it has a backup, and a rollback killed anywhere can be
    repeated: the old tree with its times, or where all was done the new one. Without a backup it is refused."""
    seen = []
    with storage_at(where, 'r') as storage:
        work = tree('whole')
        done, count, _ = disturbed(work, MAKING, 0, 0, *storage, '--commit-backup')
        new = shape(work)
        assert done.returncode == 0 and not sandlock('recover', *storage, work).stdout, done.stderr
        for n, when in enumerate(points(count, 24)):
            work = tree(f'r{when}')
            before = tree_state(work)
            backup = ['--commit-backup'] if n % 6 else []
            disturbed(work, MAKING, when, -int(signal.SIGKILL), *storage, *backup)
            assert wait_until(lambda w=work: 'running' not in sandlock('recover', *storage, w).stdout)
            for line in sandlock('recover', *storage, work).stdout.splitlines():
                ident, state = line.split()[:2]
                if state == 'interrupted' and backup:
                    rolled_back(work, ident, 1 + n * 3 % 40, *storage)
                code, said = rolled_back(work, ident, 0, *storage)
                left = sandlock('recover', *storage, work).stdout
                if code == 0:
                    assert backup and tree_state(work) == before and not left, when
                    seen.append('back')
                elif 'complete' in said:
                    assert backup, when  # and what is left goes with the storage, links to the new files too
                    settle(work, *storage)
                    assert shape(work) == new, when
                    seen.append('complete')
                elif left:
                    want = 'no backup' if state == 'interrupted' and not backup else 'no commit of it has begun'
                    assert code == 125 and want in said, (when, said)
                    seen.append(want)
                else:  # the first one, which was killed, had done all
                    assert tree_state(work) == before, (when, said)
            settle(work, *storage)
            shutil.rmtree(work)
        assert {'back', 'no commit of it has begun'} <= set(seen) or IN_VM, seen
