# SPDX-License-Identifier: Apache-2.0
"""Limits held by a cgroup of the run's own (process.md section 5, backend K): where root may make one, and
where a subtree was handed to a user. The others are in test_limits.py, wherever it runs."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import uuid

import pytest

from common import GRANTS, IN_VM, SANDLOCK, helper, native, run, sandlock, wait_until

TOP = pathlib.Path('/sys/fs/cgroup')
LIMITS = helper('limits')
BIG, SMALL = (48, 16) if IN_VM else (256, 64)
USER = 1000


def controllers():
    try:
        words = set((TOP / 'cgroup.controllers').read_text().split())
    except OSError:
        return set()
    return words & {'memory', 'cpu'} if os.geteuid() == 0 and os.access(TOP, os.W_OK) else set()


pytestmark = pytest.mark.skipif(
    controllers() != {'memory', 'cpu'} or pathlib.Path('/run/systemd/system').exists(),
    reason='no cgroup v2 of ours to make groups in')


def ours(top=TOP):
    """Groups of runs."""
    return sorted(p.name for p in top.iterdir() if p.name.startswith('sandlock-'))


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not ours()


def test_check_says_so():
    limits = json.loads(sandlock('check', '--json').stdout)['limits']
    assert limits['memory'].startswith('cgroup v2') and limits['cpu'].startswith('cgroup v2')
    assert 'notification' in limits['processes']


@pytest.mark.parametrize('how', ['anonymous', 'memfd-write', 'closed'])
def test_memory(how, tmp_path):
    """The kernel kills, the reason is told; files that nobody has open count too."""
    path = f'/dev/shm/sandlock-test-{uuid.uuid4().hex[:8]}'
    args = ['-w', '/dev/shm', '--', LIMITS, how, BIG, path]
    try:
        assert run('-m', f'{4 * BIG}M', *args).stdout == 'used\n'
        pathlib.Path(path).unlink(missing_ok=True)
        with open(tmp_path / 'status', 'w', encoding='ascii') as status:
            result = run('--stats', '-m', f'{SMALL}M', '--status-fd', status.fileno(), *args,
                         pass_fds=[status.fileno()])
    finally:
        pathlib.Path(path).unlink(missing_ok=True)
    assert result.returncode == 128 + signal.SIGKILL, result.stderr
    assert f'memory limit of {SMALL * 1024} kB exceeded' in result.stderr
    assert 'by cgroup v2' in result.stderr
    assert json.loads((tmp_path / 'status').read_text())['limit'] == 'memory'


def test_others_go_on_and_the_peak_is_told():
    script = f'{LIMITS} anonymous {BIG}; {LIMITS} anonymous 4; echo end'
    result = run('--stats', '-m', f'{SMALL}M', '--', 'sh', '-c', script)
    assert result.stdout.endswith('used\nend\n'), result.stderr
    peak = int(result.stderr.partition('memory: peak ')[2].split()[0])
    assert SMALL * 512 < peak <= SMALL * 1024


def test_processor():
    """Only above counts, and roughly: an emulated processor that waits for a real one seems to run."""
    def share(text):
        words = text.split()
        return float(words[1]) / float(words[3])

    assert share(native(LIMITS, 'burn', 4, 1).stdout) > 0.6
    result = run('--stats', '-c', '5', '--', LIMITS, 'burn', 4, 4)
    assert share(result.stdout) < 0.4, result.stdout
    assert 'by cgroup v2 (cpu.max)' in result.stderr
    assert int(result.stderr.partition('held for ')[2].split()[0]) > 0


def test_who_may_write_there_is_held_otherwise():
    """It could leave the group."""
    result = run('--stats', '-w', '/sys', '-m', f'{SMALL}M', '--', LIMITS, 'anonymous', BIG)
    assert result.returncode == 128 + signal.SIGKILL and 'by sampling' in result.stderr


def test_members_stay():
    """Everybody is in the group, and nobody gets out."""
    script = 'cat /proc/self/cgroup; (setsid cat /proc/self/cgroup); echo 0 > /sys/fs/cgroup/cgroup.procs'
    result = run('-r', '/proc', '-r', '/sys', '-m', '64M', '--', 'sh', '-c', script)
    groups = [line for line in result.stdout.splitlines() if line.startswith('0::')]
    assert len(groups) == 2 and groups[0] == groups[1] and '/sandlock-' in groups[0], result.stderr
    assert 'ermission' in result.stderr


def test_left_behind_is_removed_by_the_next(background):
    """The supervisor was killed: nobody removes the group but the next run."""
    one = background(SANDLOCK, 'run', *GRANTS, '-m', '64M', '--', 'sleep', 1000)
    left = wait_until(ours)
    # A run that lives is left alone.
    assert run('-m', '64M', '--', 'true').returncode == 0
    assert ours() == left
    one.kill()
    one.wait()
    assert wait_until(lambda: not (TOP / left[0] / 'cgroup.procs').read_text())
    assert ours() == left
    assert run('-m', '64M', '--', 'true').returncode == 0
    assert not ours()


def test_taken_away_means_sampling(background):
    """Who manages the hierarchy may undo a limit: then we hold it."""
    one = background(SANDLOCK, 'run', *GRANTS, '--stats', '-m', f'{SMALL}M', '--', 'sh', '-c',
                     f'read x; {LIMITS} anonymous {BIG}; echo $?', stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    group = TOP / wait_until(ours)[0]
    (group / 'memory.max').write_text('max')
    out, err = one.communicate('x\n')
    assert out == '137\n' and 'by sampling' in err, err


@contextlib.contextmanager
def delegated():
    """A subtree of a user's, as a service manager hands it over; the user's processes are in a leaf."""
    (TOP / 'cgroup.subtree_control').write_text('+memory +cpu')
    top = TOP / f'test-{uuid.uuid4().hex[:8]}'
    leaf = top / 'leaf'
    leaf.mkdir(parents=True)
    for path in (top, top / 'cgroup.procs', top / 'cgroup.subtree_control', leaf, leaf / 'cgroup.procs'):
        os.chown(path, USER, USER)
    try:
        yield top, leaf
    finally:
        wait_until(lambda: not (leaf / 'cgroup.procs').read_text())
        leaf.rmdir()
        top.rmdir()


def test_delegated_to_a_user():
    with delegated() as (top, leaf):
        command = (f'echo $$ > {leaf}/cgroup.procs; exec setpriv --reuid {USER} --regid {USER} '
                   '--clear-groups -- "$@"')
        args = ['sh', '-c', command, '-', SANDLOCK, 'run', *GRANTS, '--stats', '-m', f'{SMALL}M', '-c',
                '90', '--', LIMITS, 'anonymous']
        result = native(*args, 4)
        assert result.stdout == 'used\n', result.stderr
        assert result.stderr.count('by cgroup v2') == 2, result.stderr
        result = native(*args, BIG)
        assert result.returncode == 128 + signal.SIGKILL, result.stderr
        assert not ours(top)
