# SPDX-License-Identifier: Apache-2.0
"""Nothing survives: timeouts, dying supervisors, daemons, fork bombs; and what runs many at once
(process.md section 3; the known failures in users.md)."""
import json
import os
import signal
import subprocess
import time

import pytest

from common import (GRANTS, IN_VM, LIMIT, SANDLOCK, SLOW, SYSTEM, gone, helper, native,
                    processes, run, shell, wait_until)

MEDIATED = ['--fs-deny', '/etc/shadow']
# Emulation is slow: there the mediated policy stands for both.
POLICIES = pytest.mark.parametrize('options', [[], MEDIATED, ['--explain']][:2 if IN_VM else 3],
                                   ids=['default', 'fs-deny', 'explain'][:2 if IN_VM else 3])


def beats(path):
    """How many daemons have reported."""
    return os.path.getsize(path) if os.path.exists(path) else 0


# ---- daemons ----

@POLICIES
def test_timeout_ends_daemons(options, tmp_path, marker):
    """setsid and double fork do not help, nor does ignoring every signal."""
    out = tmp_path / 'beats'
    result = shell(f'{helper("procs")} daemons 20 {out} {marker}; sleep 100', '-w', tmp_path,
                   '-t', SLOW if IN_VM else 3, *options)
    assert result.returncode == 124 and result.stdout == 'ready\n'
    assert beats(out) == 20
    assert gone(marker)


def test_control_daemons_survive_outside(tmp_path, marker):
    out = tmp_path / 'beats'
    assert subprocess.run([helper('procs'), 'daemons', '3', str(out), marker], check=False,
                          stdout=subprocess.DEVNULL, timeout=LIMIT).returncode == 0
    assert wait_until(lambda: beats(out) == 3)
    alive = processes(marker)
    assert len(alive) == 3
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert gone(marker)


@POLICIES
def test_end_of_the_leader_ends_daemons(options, tmp_path, marker):
    out = tmp_path / 'beats'
    result = run('-w', tmp_path, *options, '--', helper('procs'), 'daemons', 20, out, marker)
    assert (result.returncode, result.stdout) == (0, 'ready\n')
    assert not processes(marker)


def test_background_jobs_end_with_the_leader(marker):
    hold = f'{helper("procs")} deep 1 {marker}'
    result = shell(f'{hold} & (setsid {hold} &) ; exit 6')
    assert result.returncode == 6
    assert not processes(marker)


def test_grace_lets_the_rest_finish(tmp_path):
    """SIGTERM first: a daemon that catches it has its time, bounded by --stop-grace."""
    script = (f"sh -c 'trap \"echo bye >{tmp_path}/bye; exit\" TERM; echo up >{tmp_path}/up; "
              f"while :; do sleep 0.05; done' & while [ ! -e {tmp_path}/up ]; do sleep 0.05; done")
    result = shell(script, '-w', tmp_path, '--stop-grace', 20 * SLOW)
    assert result.returncode == 0
    assert (tmp_path / 'bye').read_text() == 'bye\n'
    (tmp_path / 'bye').unlink()
    (tmp_path / 'up').unlink()
    assert shell(script, '-w', tmp_path, '--stop-grace', 0).returncode == 0
    assert not (tmp_path / 'bye').exists()


def test_linger_waits(tmp_path):
    script = f'(sleep 1; echo late >{tmp_path}/late) & exit 4'
    result = shell(script, '-w', tmp_path, '--linger')
    assert result.returncode == 4
    assert (tmp_path / 'late').read_text() == 'late\n'
    (tmp_path / 'late').unlink()
    assert shell(script, '-w', tmp_path).returncode == 4
    time.sleep(1.5)
    assert not (tmp_path / 'late').exists()


def test_linger_obeys_the_timeout(tmp_path, marker):
    out = tmp_path / 'beats'
    result = run('-w', tmp_path, '--linger', '-t', SLOW if IN_VM else 1, '--', helper('procs'),
                 'daemons', 5, out, marker)
    assert result.returncode == 124 and beats(out) == 5
    assert gone(marker)


def test_output_of_a_descendant_does_not_hold_the_result(marker):
    """IO-05: the pipe stays open in a daemon; the run ends all the same."""
    result = shell(f'setsid {helper("procs")} threads 0 {marker} >&2 & echo first')
    assert (result.returncode, result.stdout) == (0, 'first\n')


# ---- the supervisor dies ----

def start_sleeper(background, marker, *options, count=10):
    process = background(SANDLOCK, 'run', *GRANTS, *options, '--', helper('procs'), 'deep', count,
                         marker, stdout=subprocess.PIPE)
    assert process.stdout.readline() == 'ready\n'
    return process


@POLICIES
def test_killed_supervisor_takes_everything_along(options, background, marker):
    process = start_sleeper(background, marker, *options)
    assert len(processes(marker)) >= 11
    process.kill()
    assert process.wait(LIMIT) == -signal.SIGKILL
    assert gone(marker)


def test_killed_supervisor_under_load(background, marker):
    """Threads inside a mediated call while their supervisor vanishes."""
    process = background(SANDLOCK, 'run', *GRANTS, *MEDIATED, '--', helper('procs'), 'threads', '8',
                         marker, stdout=subprocess.PIPE)
    assert process.stdout.readline() == 'ready\n'
    time.sleep(0.2)
    process.kill()
    process.wait(LIMIT)
    assert gone(marker)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'])
def test_signals_to_the_supervisor_reach_the_command(name, background, tmp_path, marker):
    """An MCP client that stops its server by a signal gets the server's own answer (U13)."""
    number = name[3:]
    ready = tmp_path / 'ready'
    script = (f'trap "echo caught; exit 42" {number}; echo {marker} >{ready}; '
              'while :; do sleep 0.05; done')
    process = background(SANDLOCK, 'run', *GRANTS, '-w', tmp_path, '--', 'sh', '-c', script,
                         stdout=subprocess.PIPE)
    assert wait_until(ready.exists)
    process.send_signal(getattr(signal, name))
    assert process.wait(LIMIT) == 42
    assert process.stdout.read() == 'caught\n'


@POLICIES
def test_a_signal_at_once_is_passed_on_as_well(options, background, tmp_path):
    """It may come before we wait for the command, which runs already: it is the command's all the same."""
    script = 'trap "exit 42" TERM; echo ready; while :; do :; done'
    for _ in range(5 if IN_VM else 20):
        process = background(SANDLOCK, 'run', *GRANTS, *options, '--', 'sh', '-c', script,
                             stdout=subprocess.PIPE)
        assert process.stdout.readline() == 'ready\n'
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 42


def test_default_disposition_of_a_forwarded_signal(background, marker):
    process = start_sleeper(background, marker, count=3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 128 + signal.SIGTERM
    assert gone(marker)


@POLICIES
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGSYS, signal.SIGSEGV,
                                    signal.SIGABRT, signal.SIGALRM][:3 if IN_VM else 6])
def test_any_signal_to_the_command_from_outside(options, number, background, marker):
    process = background(SANDLOCK, 'run', *GRANTS, *options, '--no-coredump', '--status-fd', '1',
                         '--', 'sh', '-c', f': {marker}; exec sleep 100',
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    leader = wait_until(lambda: [p for p in children_of(process.pid) if comm(p) == 'sleep'])
    os.kill(leader[0], number)
    assert process.wait(LIMIT) == 128 + number
    assert json.loads(process.stdout.read()) == {'exit_code': -1, 'signal': int(number)}


def comm(pid):
    try:
        with open(f'/proc/{pid}/comm', encoding='ascii', errors='replace') as stream:
            return stream.read().strip()
    except OSError:
        return ''


def children_of(top):
    """All descendants."""
    parents = {}
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            try:
                with open(f'/proc/{entry}/stat', encoding='ascii', errors='replace') as stream:
                    parents[int(entry)] = int(stream.read().rpartition(')')[2].split()[1])
            except OSError:
                pass
    found, new = set(), {top}
    while new:
        new = {p for p, parent in parents.items() if parent in new} - found
        found |= new
    return found


def test_stopped_command_is_killed_by_the_timeout(marker):
    result = shell(f': {marker}; kill -STOP $$', '-t', 1 * SLOW if IN_VM else 1)
    assert result.returncode == 124


def test_killed_anchor_is_noticed(background, marker):
    """Somebody kills the safety net: the run ends and nothing is left running unsupervised."""
    process = start_sleeper(background, marker, count=3)
    anchor = [p for p in children_of(process.pid) if comm(p) == 'sl-anchor']
    assert anchor
    os.kill(anchor[0], signal.SIGKILL)
    assert process.wait(LIMIT) not in (0, None)
    assert gone(marker)


def test_other_sandboxes_and_the_host_are_not_hit(background, marker):
    """Ending one sandbox ends neither its neighbour nor a process of ours."""
    neighbour = start_sleeper(background, marker, count=1)
    ours = background('sleep', '100')
    for _ in range(5):
        assert shell('sleep 50 & sleep 51 & exit 0').returncode == 0
        assert shell('kill -9 -1; exit 3', '-t', '20').returncode in (3, 137, 124)
    assert neighbour.poll() is None and ours.poll() is None
    neighbour.kill()
    neighbour.wait(LIMIT)
    assert gone(marker)


def test_signals_do_not_leave(background):
    """Landlock's signal scope; the control is the same kill outside."""
    target = background('sleep', '100')
    result = shell(f'kill -0 {target.pid}; echo $?; kill -9 {target.pid}; echo $?')
    assert result.stdout.split() == ['1', '1'], result.stderr
    assert target.poll() is None
    assert native('sh', '-c', f'kill -9 {target.pid}').returncode == 0
    target.wait(LIMIT)


# ---- floods ----

@POLICIES
def test_fork_bomb_under_a_timeout(options, marker):
    """Bounded by the helper; without a sandbox it would live for two minutes."""
    result = run('-t', SLOW if IN_VM else 1, *options, '--', helper('procs'), 'bomb',
                 60 if IN_VM else 300, marker)
    assert result.returncode == 124, result.stderr
    assert gone(marker)


@POLICIES
def test_large_output_through_pipelines(options):
    """A megabyte and more, with both streams."""
    result = shell('yes abcdefghi | head -100000 | cat | (cat; yes error | head -20000 >&2) | cat',
                   *options)
    assert result.returncode == 0
    assert result.stdout == 'abcdefghi\n' * 100000
    assert result.stderr == 'error\n' * 20000


def test_large_input():
    text = 'x' * 99 + '\n'
    result = shell('cat | cat | wc -c', input=text * 20000)
    assert result.stdout.strip() == '2000000'


@POLICIES
def test_many_pipelines(options):
    """The existing implementation hangs one time in three."""
    count = int(os.environ.get('SANDLOCK_PIPELINES', '10' if IN_VM else '300' if not options else '60'))
    for _ in range(count):
        result = run(*options, '--', 'sh', '-c', 'echo abc | cat | cat')
        assert (result.returncode, result.stdout) == (0, 'abc\n'), result.stderr


@POLICIES
def test_pipelines_inside_one_sandbox(options):
    count = 20 if IN_VM else 200
    result = shell(f'i=0; while [ $i -lt {count} ]; do echo abc | cat | cat; i=$((i+1)); done',
                   *options)
    assert result.stdout == 'abc\n' * count


@POLICIES
def test_make_in_parallel(options, tmp_path):
    names = [f't{i}' for i in range(12 if IN_VM else 60)]
    (tmp_path / 'Makefile').write_text(
        f'all: {" ".join(names)}\n' + ''.join(
            f'{n}:\n\t@echo {n} | cat | cat > $@; sh -c "cat $@" >/dev/null\n' for n in names))
    for jobs in ('-j2', '-j8'):
        result = run('-w', tmp_path, '-w', '/dev/null', *options, '--', 'make', '-C', tmp_path, '-s',
                     jobs)
        assert result.returncode == 0, result.stderr
        assert all((tmp_path / n).read_text() == n + '\n' for n in names)
        assert run('-w', tmp_path, *options, '--', 'make', '-C', tmp_path, '-q').returncode == 0
        for n in names:
            (tmp_path / n).unlink()


SPAWN = '''
import os, sys, threading
failed = []
def work(me):
    for i in range(int(sys.argv[2])):
        try:
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {i % 7 + 1}"], os.environ)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code != i % 7 + 1: failed.append(code)
        except OSError as e:
            failed.append(e)
threads = [threading.Thread(target=work, args=(n,)) for n in range(int(sys.argv[1]))]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(failed), failed[:3])
'''


@POLICIES
def test_concurrent_posix_spawn(options):
    result = run(*options, '--', '/usr/bin/python3', '-c', SPAWN, 4 if IN_VM else 16,
                 5 if IN_VM else 20)
    assert (result.returncode, result.stdout) == (0, '0 []\n'), result.stderr


@pytest.mark.parametrize('options', [[], MEDIATED], ids=['default', 'fs-deny'])
def test_many_sandboxes_at_once(options):
    count = int(os.environ.get('SANDLOCK_MANY', '12' if IN_VM else '200'))
    started = [subprocess.Popen([SANDLOCK, 'run', *SYSTEM, *options, '--', 'sh', '-c',
                                 f'echo {i} | cat; exit {i % 100}'], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for i in range(count)]
    for i, process in enumerate(started):
        out, err = process.communicate(timeout=LIMIT * 4)
        assert (process.returncode, out, err) == (i % 100, f'{i}\n', '')


def test_signals_during_mediated_calls():
    """EINTR must not reach calls that nobody retries. With nothing notified not even a handler
    without SA_RESTART shows; with mediation the kernel itself restarts the call."""
    program = '''
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *a: None)
signal.siginterrupt(signal.SIGALRM, sys.argv[2] == "interrupt")
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for i in range(int(sys.argv[1])):
    fd = os.open("/etc/passwd", os.O_RDONLY)
    os.close(fd)
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
    os.stat("/etc/hostname")
print("done")
'''
    for options, how in (([], 'interrupt'), (MEDIATED, 'restart')):
        result = run(*options, '--', '/usr/bin/python3', '-c', program, 20 if IN_VM else 300, how)
        assert result.stdout == 'done\n', result.stderr


@pytest.mark.parametrize('how', ['timeout', 'leader', 'supervisor'])
def test_nothing_survives_without_signal_scopes(how, background, tmp_path, marker):
    """The walk through /proc that older kernels need."""
    out = tmp_path / 'beats'
    scope = ['--disable', 'signal-scope', '-w', tmp_path]
    command = [helper('procs'), 'daemons', '20', str(out), marker]
    if how == 'leader':
        assert run(*scope, '--', *command).returncode == 0
    elif how == 'timeout':
        assert shell(' '.join(command) + '; sleep 100', *scope, '-t',
                     SLOW if IN_VM else 2).returncode == 124
    else:
        process = background(SANDLOCK, 'run', *GRANTS, *map(str, scope), '--', 'sh', '-c',
                             ' '.join(command) + '; sleep 100', stdout=subprocess.DEVNULL)
        assert wait_until(lambda: beats(out) == 20)
        process.kill()
        process.wait(LIMIT)
    assert beats(out) == 20 or how == 'leader'
    assert gone(marker)
