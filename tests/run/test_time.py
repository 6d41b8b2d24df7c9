# SPDX-License-Identifier: Apache-2.0
"""--time-start (TV-01 to TV-07): one wall clock by every way to it, from the first instruction of every
program; waits last as long as they should; files and clock agree."""
import ctypes
import os
import shutil
import subprocess
import sys

import pytest

from common import GRANTS, IN_VM, SANDLOCK, SLOW, Script, buffer, helper, native, run, shell

CLOCKS = helper('clocks')
PAST, FUTURE = '2000-01-01T00:00:00Z', '2100-01-01T00:00:00Z'
START = {PAST: 946684800, FUTURE: 4102444800}
NS = 10**9
WALL = ['realtime', 'coarse', 'tai', 'gettimeofday', 'time']
# What a start and a few calls may take; a real clock is decades away.
NEAR = 300 * SLOW
PYTHON = '/usr/bin/python3' if os.path.exists('/usr/bin/python3') else shutil.which('python3')


def read(text):
    return {w: int(v) for w, v in (line.split() for line in text.splitlines() if ' ' in line)}


def check(clocks, start, prefix=''):
    """Every reading of the wall clock lies shortly after the start, and they go forwards."""
    base = clocks[prefix + 'libc-realtime'] / NS
    assert start <= base < start + NEAR
    tai = clocks[prefix + 'libc-tai'] - clocks[prefix + 'libc-realtime']
    for way in ('libc', 'raw'):
        for name in WALL:
            key = f'{prefix}{way}-{name}'
            if key in clocks:
                value = clocks[key] - (round(tai / NS) * NS if name == 'tai' else 0)
                assert start * NS <= value < (start + NEAR) * NS, (key, value)


def test_control_outside():
    clocks = read(native(CLOCKS, 'read').stdout)
    for start in START.values():
        assert abs(clocks['libc-realtime'] / NS - start) > 10**8


@pytest.mark.parametrize('start', START)
def test_every_way(start):
    """vDSO, raw calls, a static program, a thread."""
    clocks = read(run('--time-start', start, '--', CLOCKS, 'read').stdout)
    check(clocks, START[start])
    check(clocks, START[start], 'thread-')
    if not IN_VM:
        assert 'raw-time' in clocks or os.uname().machine != 'x86_64'


def test_monotonic_is_real():
    before = read(native(CLOCKS, 'read').stdout)
    inside = read(run('--time-start', PAST, '--', CLOCKS, 'read').stdout)
    after = read(native(CLOCKS, 'read').stdout)
    for name in ('monotonic', 'boottime'):
        assert before[name] < inside[name] < after[name]


@pytest.mark.parametrize('form', ['1234567890.5', '2009-02-13T23:31:30.5Z', '2009-02-14T01:31:30.5+02:00'])
def test_forms(form):
    clocks = read(run('--time-start', form, '--', CLOCKS, 'read').stdout)
    # Not before, to the nanosecond, and it starts there.
    assert clocks['libc-coarse'] >= 1234567890_500000000
    assert clocks['libc-realtime'] < (1234567890.5 + NEAR) * NS


@pytest.mark.parametrize('bad', ['yesterday', '2024-01-01', '-5', '2300-01-01T00:00:00Z', ''])
def test_bad_values(bad):
    result = run('--time-start', bad, '--', 'true')
    assert result.returncode == 2
    assert '--time-start' in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize('how', range(4))
@pytest.mark.parametrize('layout', [[], ['--no-randomize-memory']])
def test_after_exec(how, layout):
    """fork, vfork, posix_spawn and an exec by another thread than the leader; ASLR on and off. Twice, so
    that the second program is not the first that is rewritten."""
    words = [CLOCKS, 'exec', how, CLOCKS, 'exec', how, CLOCKS, 'read']
    clocks = read(run('--time-start', PAST, *layout, '--', *words).stdout)
    check(clocks, START[PAST])


def test_dynamic_programs():
    for command in (['date', '+%Y'], ['sh', '-c', 'exec env date +%Y'],
                    [PYTHON, '-S', '-c', 'import time; print(time.gmtime(time.time()).tm_year)']):
        assert native(*command).stdout.strip() not in ('2000', '2100')
        assert run('--time-start', PAST, '--', *command).stdout.strip() == '2000', command


@pytest.mark.skipif(IN_VM or not shutil.which('gcc'), reason='no compiler')
@pytest.mark.parametrize('compiler', ['gcc', 'musl-gcc'])
@pytest.mark.parametrize('static', [True, False])
def test_c_libraries(tmp_path, compiler, static):
    """Both C libraries, linked either way."""
    if not shutil.which(compiler):
        pytest.skip(f'no {compiler}')
    (tmp_path / 'y.c').write_text('#include <stdio.h>\n#include <time.h>\n#include <sys/time.h>\n'
                                  'int main(void) { struct timespec t; struct timeval v;'
                                  'clock_gettime(CLOCK_REALTIME, &t); gettimeofday(&v, 0);'
                                  'printf("%ld %ld %ld\\n", (long)time(0), (long)t.tv_sec,'
                                  '(long)v.tv_sec); return 0; }')
    subprocess.run([compiler, *(['-static'] if static else []), '-o', tmp_path / 'y',
                    tmp_path / 'y.c'], check=True)
    result = run('-r', tmp_path, '--time-start', PAST, '--', tmp_path / 'y')
    values = [int(v) for v in result.stdout.split()]
    assert len(values) == 3 and all(START[PAST] <= v < START[PAST] + NEAR for v in values), result


# ---- waits ----

def waits(text):
    return {w[0]: w[1:] for w in (line.split() for line in text.splitlines())}



def message_queue():
    """An empty one without a name. Nobody opens one inside, but it can be handed in."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = f'/sl-time-{os.getpid()}'.encode()
    fd = libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None)
    if fd < 0:
        pytest.skip('no message queues: ' + os.strerror(ctypes.get_errno()))
    libc.mq_unlink(name)
    return fd


CONTROL = waits(native(CLOCKS, 'wait', 'all', '200').stdout)


@pytest.mark.parametrize('start', START)
def test_waits_last_as_intended(start):
    """Each absolute deadline on the wall clock, 200 ms ahead: it returns as natively, not before and not
    years later, and the caller's memory is as it was."""
    queue = message_queue()
    got = waits(run('--time-start', start, '--', CLOCKS, 'wait', 'all', '200', stdin=queue).stdout)
    os.close(queue)
    assert set(got) == set(CONTROL)
    for name, (result, elapsed, memory) in got.items():
        assert result == CONTROL[name][0], (name, got)
        if result not in ('ENOSYS', 'EPERM'):
            assert int(elapsed) >= 199, (name, elapsed)
        assert memory == CONTROL[name][2] == 'kept'


@pytest.mark.parametrize('name', ['nanosleep', 'futex', 'timer', 'futex2', 'waitv'])
def test_a_signal_interrupts_a_wait(name):
    want = waits(native(CLOCKS, 'signal', name).stdout)[name]
    got = waits(run('--time-start', PAST, '--', CLOCKS, 'signal', name).stdout)[name]
    assert got[0] == want[0] == ('ENOSYS' if want[0] == 'ENOSYS' else 'EINTR')
    assert int(got[1]) < 15000


def test_many_waiters_at_once():
    """No thread of ours waits for them: more than there are workers."""
    code = ('import threading, time\n'
            'c = threading.Condition()\n'
            'import ctypes\n'
            'libc = ctypes.CDLL(None)\n'
            'class T(ctypes.Structure): _fields_ = [("s", ctypes.c_long), ("n", ctypes.c_long)]\n'
            'end = T(int(time.time()) + 2, 0)\n'
            'def f(): assert libc.clock_nanosleep(0, 1, ctypes.byref(end), None) == 0\n'
            't = [threading.Thread(target=f) for _ in range(100)]\n'
            'for x in t: x.start()\n'
            'for x in t: x.join()\n'
            'print(time.time() >= end.s)\n')
    result = run('--time-start', PAST, '--', PYTHON, '-S', '-c', code)
    assert result.stdout == 'True\n', result.stderr


@pytest.mark.parametrize('start', START)
def test_python_sleeps(start):
    """The known failure: a sleep that never returns, or EINVAL."""
    code = 'import time; a = time.time(); time.sleep(0.3); print(0.29 < time.time() - a)'
    result = run('--time-start', start, '--', PYTHON, '-S', '-c', code)
    assert result.stdout == 'True\n', result.stderr


# ---- errors ----

def test_errors_are_the_kernels():
    want = native(CLOCKS, 'errors').stdout.splitlines()
    got = run('--time-start', PAST, '--', CLOCKS, 'errors').stdout.splitlines()
    setters = ('settime', 'settimeofday', 'adjtimex', 'clock_adjtime')
    assert len(want) == len(got)
    for one, other in zip(want, got):
        if one.split()[0] in setters:
            assert other.split()[1:] == ['EPERM', 'untouched']
        else:
            assert one == other


# ---- files ----

def test_files_show_virtual_time(tmp_path):
    for start, first in START.items():
        result = shell(f'cd {tmp_path}; rm -f f; : > f; stat -c "%X %Y %Z" f; stat -L -c %Y .; date +%s; exec 3<f;'
                       ' stat -c %Y /dev/fd/3', '-w', tmp_path, '-r', '/proc', '--time-start', start)
        for value in result.stdout.split():
            assert first <= int(value) < first + NEAR, (result.stdout, result.stderr)
    assert abs(os.stat(tmp_path / 'f').st_mtime - 946684800) > 10**8


def test_every_form_of_stat(tmp_path):
    """fstat, newfstatat with and without a path, statx, and the old calls where there are some."""
    (tmp_path / 'f').write_text('x')
    real = os.stat(tmp_path / 'f').st_mtime_ns
    shifts = set()

    def ask(script):
        fd = script.open(str(tmp_path / 'f'))
        made = [script.call('stat', str(tmp_path / 'f'), buffer(144)),
                script.call('lstat', str(tmp_path / 'f'), buffer(144)),
                script.call('fstat', fd, buffer(144)),
                script.call('newfstatat', fd, '', buffer(144), 0x1000),
                script.call('newfstatat', -100, str(tmp_path / 'f'), buffer(144), 0)]
        x = [script.call('statx', fd, '', 0x1000, 0xfff, buffer(256)),
             script.call('statx', -100, str(tmp_path / 'f'), 0, 0xfff, buffer(256))]
        return [m for m in made if m is not None], x

    def time_of(data, at, size):
        return int.from_bytes(data[at:at + 8], 'little', signed=True) * NS + \
            int.from_bytes(data[at + 8:at + 8 + size], 'little')

    script = Script()
    old, new = ask(script)
    for answers, outside in ((script.native(), True),
                             (script.run('-r', tmp_path, '--time-start', PAST), False)):
        for i in old:
            mtime = time_of(answers[i].buffers[0], 88, 8)
            shifts.add((outside, mtime - real))
        for i in new:
            shifts.add((outside, time_of(answers[i].buffers[0], 112, 4) - real))
    shifts = sorted(shifts)
    assert len(shifts) == 2 and shifts[1] == (True, 0), shifts
    assert shifts[0][1] % 1000 == 0 and shifts[0][1] < -10**17


def test_what_is_set_is_seen(tmp_path):
    result = shell(f'cd {tmp_path}; : > f; touch -d "2001-02-03 04:05:06.789 UTC" f; date -u -r f +%s.%N; '
                   'touch f; date -u -r f +%Y', '-w', tmp_path, '--time-start', FUTURE)
    assert result.stdout.split() == ['981173106.789000000', '2100'], result.stderr


@pytest.mark.skipif(not shutil.which('make'), reason='no make')
@pytest.mark.parametrize('start', START)
def test_make_sees_no_skew(tmp_path, start):
    """Sources of before, results of now: made once, made again after a change, otherwise left alone."""
    (tmp_path / 'Makefile').write_text('out: in\n\tcp in out\n')
    (tmp_path / 'in').write_text('x')
    result = shell(f'cd {tmp_path}; make; make; sleep 0.05; touch in; make; make', '-w', tmp_path,
                   '--time-start', start)
    assert result.stdout.count('cp in out') == 2, result.stdout + result.stderr
    assert 'kew' not in result.stderr and 'future' not in result.stderr, result.stderr


# ---- beside other features ----

def test_beside_deny(tmp_path):
    """Two features at the exec stop; the refusal stands."""
    (tmp_path / 'tool').write_text('#!/bin/sh\ndate +%Y\n')
    (tmp_path / 'tool').chmod(0o755)
    shutil.copy(shutil.which('date'), tmp_path / 'date')
    args = ['-r', tmp_path, '--fs-deny', tmp_path / 'date', '--time-start', PAST]
    assert run(*args, '--', tmp_path / 'tool').stdout == '2000\n'
    assert run(*args, '--', 'sh', '-c', f'{tmp_path}/date +%Y').returncode == 126
    # Through the loader, which is no exec of it but opens it.
    assert run('-r', tmp_path, '--time-start', PAST, '--', tmp_path / 'date', '+%Y').stdout == '2000\n'


def test_explain_still_says_why(tmp_path):
    (tmp_path / 'tool').write_text('#!/bin/sh\n')
    (tmp_path / 'tool').chmod(0o755)
    result = shell(f'{tmp_path}/tool', '--explain', '--time-start', PAST)
    assert f'{tmp_path}/tool' in result.stderr and 'exec' in result.stderr, result.stderr


def test_needs_ptrace():
    """Fail closed where programs cannot be stopped: inside another sandbox."""
    result = run('-r', SANDLOCK, '-r', '/proc', '--', SANDLOCK, 'run', *GRANTS, '--time-start', PAST, '--',
                 'date')
    assert result.returncode == 125 and 'ptrace' in result.stderr and not result.stdout


def test_unused_costs_nothing():
    """Nothing is asked of the supervisor without the option; with it no reading by the vDSO is."""
    plain = run('--stats', '--', CLOCKS, 'wait', 'relative')
    shifted = run('--stats', '--time-start', PAST, '--', CLOCKS, 'wait', 'relative')
    assert 'notifications: 0\n' in plain.stderr
    assert 'exec 1' in shifted.stderr and 'clock' not in shifted.stderr


def test_no_supervisor():
    for words in (['--time-start', '5'], ['--random-seed', '5']):
        result = run('--no-supervisor', *words, '--', 'true')
        assert result.returncode == 125 and words[0] in result.stderr


def test_machine_was_started_in_virtual_time():
    """btime of /proc/stat moves with the clock, with and without a number of processors."""
    program = 'import time; print(time.time() - int(open("/proc/stat").read().split("btime ")[1].split()[0]))'
    real = float(subprocess.run(['python3', '-c', program], stdout=subprocess.PIPE, check=True).stdout)
    for options in ([], ['--num-cpus', '1']):
        done = run('-r', '/', '--time-start', '2001-01-01T00:00:00Z', *options, '--', sys.executable, '-c', program)
        assert done.returncode == 0, done.stderr
        assert abs(float(done.stdout) - real) < 60 * SLOW


@pytest.mark.skipif(os.geteuid() != 0, reason='needs a file of somebody else')
def test_unreadable_program_is_killed(tmp_path):
    """It can be executed but not rewritten: fail closed, and say so."""
    shutil.copy(shutil.which('date'), tmp_path / 'date')
    os.chown(tmp_path / 'date', 12345, 12345)
    os.chmod(tmp_path / 'date', 0o711)
    assert run('-r', tmp_path, '--', tmp_path / 'date').returncode == 0
    result = run('-r', tmp_path, '--explain', '--time-start', PAST, '--', tmp_path / 'date')
    assert result.returncode == 137 and not result.stdout
    assert '--time-start' in result.stderr and 'rewritten' in result.stderr
