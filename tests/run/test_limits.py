# SPDX-License-Identifier: Apache-2.0
"""Limits of the whole sandbox (process.md section 5): memory, processes, processor time, what it sees of
the machine. Each case runs without a sandbox too, where it must get what is refused inside."""
import json
import os
import re
import resource
import shlex
import shutil

import pytest

import common
from common import IN_VM, helper, native, run

LIMITS = 'limits'
BIG = 24 if IN_VM else 128   # MiB used against a limit of SMALL
SMALL = 12 if IN_VM else 64


def value(text, name):
    """The number behind a word of the helper's answer."""
    return float(re.search(rf'\b{name} (-?[0-9.]+)', text).group(1))


@pytest.fixture(scope='module')
def zeroes(tmp_path_factory):
    """A file to map."""
    path = tmp_path_factory.mktemp('limits') / 'zeroes'
    path.write_bytes(bytes(BIG << 20))
    path.parent.chmod(0o755)
    path.chmod(0o644)
    return path


# ---- memory ----

@pytest.mark.parametrize('how', ['anonymous', 'memfd-map', 'memfd-write', 'file', 'shared'])
def test_memory_hog_is_killed_and_the_reason_is_told(how, zeroes, tmp_path):
    """RM-01, RM-04: every kind of memory counts."""
    args = [helper(LIMITS), how, BIG, zeroes]
    assert native(*args).stdout == 'used\n'
    assert run('-r', zeroes, '-m', f'{4 * BIG}M', '--', *args).stdout == 'used\n'
    with open(tmp_path / 'status', 'w', encoding='ascii') as status:
        result = run('-r', zeroes, '-m', f'{SMALL}M', '--status-fd', status.fileno(), '--', *args,
                     pass_fds=[status.fileno()])
    assert result.returncode == 128 + 9, result.stderr
    assert 'used' not in result.stdout
    assert f'memory limit of {SMALL * 1024} kB exceeded' in result.stderr
    answer = json.loads((tmp_path / 'status').read_text())
    assert answer == {'exit_code': -1, 'signal': 9, 'limit': 'memory'}


def test_dirtied_pages_of_children_count_and_the_parent_lives():
    """RM-01, RM-04: who writes is killed, not who was there before."""
    args = [helper(LIMITS), 'forked', 2 * BIG]
    assert native(*args).stdout == 'killed 0\nused\n'
    result = run('-m', f'{SMALL}M', '--', *args)
    assert result.returncode == 0, result.stderr
    assert value(result.stdout, 'killed') >= 6, result.stdout


def test_reservations_cost_nothing():
    """RM-03."""
    args = [helper(LIMITS), 'reserve', 16384]
    assert native(*args).stdout == 'used\n'
    assert run('-m', f'{SMALL}M', '--', *args).stdout == 'used\n'


def test_a_runtime_like_java():
    """RM-03: reserved, committed in place, given back, many stacks. In either mode."""
    args = [helper(LIMITS), 'runtime', 0]
    assert native(*args).stdout == 'used\n'
    assert run('-m', f'{SMALL}M', '--', *args).stdout == 'used\n'
    # Stacks count as data: what is mapped and not used yet must not be taken for used.
    result = run('-m', '128M', '--memory-mode', 'enomem', '--', *args)
    assert result.stdout == 'used\n', result.stderr


def test_instead_of_being_killed():
    """RM-01, --memory-mode enomem: the call fails, nobody dies, what can be had comes near the limit."""
    args = [helper(LIMITS), 'until-refused', BIG]
    assert native(*args).stdout == f'had {BIG}\nused\n'
    result = run('-m', f'{SMALL}M', '--stats', '--memory-mode', 'enomem', '--', *args)
    assert result.returncode == 0, result.stderr
    assert SMALL / 2 < value(result.stdout, 'had') <= SMALL, result.stdout
    assert ', 0 killed' in result.stderr


def test_several_that_are_refused():
    """What one has the others cannot have; shared memory no call can refuse: that kills."""
    script = f'for i in 1 2 3; do {helper(LIMITS)} until-refused {BIG} & done; wait'
    outside = native('sh', '-c', script).stdout.splitlines()
    assert outside.count(f'had {BIG}') == 3
    result = run('-m', f'{SMALL}M', '--memory-mode', 'enomem', '--', 'sh', '-c', script)
    had = [int(line.split()[1]) for line in result.stdout.splitlines() if line.startswith('had')]
    assert sum(had) < 2 * SMALL, result.stdout + result.stderr
    result = run('-m', f'{SMALL}M', '--memory-mode', 'enomem', '--', helper(LIMITS), 'shared', BIG)
    assert result.returncode == 128 + 9 and 'exceeded' in result.stderr


OWN_LIMIT = '''
import mmap, os, resource, subprocess, sys, time
LIMIT, own, more = (int(a) << 20 for a in sys.argv[1:4])
def soft():
    return resource.getrlimit(resource.RLIMIT_DATA)[0]
def set_soft(to):
    resource.setrlimit(resource.RLIMIT_DATA, (to, resource.getrlimit(resource.RLIMIT_DATA)[1]))
def room(size):
    try:
        mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        return 'room'
    except OSError:
        return 'refused'
def settle(what, then=0.2):
    """Until it is so, and whether it still is a while later."""
    end = time.monotonic() + 30
    while not what() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(then)
    return bool(what())
print(room(more))
set_soft(own)
print(settle(lambda: soft() == own), room(more), room(own // 8))
code = 'import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0])'
print(subprocess.run([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True).stdout.strip() == str(own))
# Less than its own is left while somebody else has much, and then its own again.
code = ("import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (-1, -1)); "
        "data = b'x' * int(sys.argv[1]); print(flush=True); sys.stdin.read()")
hog = subprocess.Popen([sys.executable, '-c', code, str(LIMIT - own)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
hog.stdout.readline()
print(settle(lambda: soft() < own) if '--bare' not in sys.argv else True)
hog.communicate()
print(settle(lambda: soft() == own))
set_soft(-1)
print(settle(lambda: room(more) == 'room'))
'''


def test_a_lower_limit_of_the_programs_own_stays():
    """--memory-mode enomem moves the soft RLIMIT_DATA, but not above what a program chose (ulimit -Sd)."""
    python = system_python()
    limit, own, more = '256', '128', '160'
    want = ['room', 'True refused room', 'True', 'True', 'True', 'True']
    assert native(python, '-c', OWN_LIMIT, limit, own, more, '--bare').stdout.splitlines() == want
    words = ['-m', f'{limit}M', '--memory-mode', 'enomem', '--']
    result = run(*words, python, '-c', OWN_LIMIT, limit, own, more)
    assert result.stdout.splitlines() == want, result.stdout + result.stderr
    # The one that sandlock itself was started with.
    shell = f'ulimit -Sd {100 << 10}; exec "$@"'
    code = 'import resource, time; time.sleep(0.3); print(resource.getrlimit(resource.RLIMIT_DATA)[0])'
    result = native('sh', '-c', shell, 'sh', common.SANDLOCK, 'run', *common.SYSTEM, *words, python, '-c', code)
    assert result.stdout == f'{100 << 20}\n', result.stderr


@pytest.mark.parametrize('words', [['--memory-mode', 'strict', '-m', '64M'], ['--memory-mode', 'enomem']])
def test_bad_modes(words):
    result = run(*words, '--', 'true')
    assert result.returncode in (2, 125) and '--memory-mode' in result.stderr


def test_a_hog_does_not_get_far():
    """RM-01: ended while it grows, long before it has what it wants. How far is a question of time: a
    bound that a busy machine keeps too."""
    want, limit = (200, 12) if IN_VM else (2048, 64)
    script = f'{helper(LIMITS)} anonymous {want}; echo ended $?; {helper(LIMITS)} anonymous 2'
    result = run('-m', f'{limit}M', '--stats', '--', 'sh', '-c', script)
    assert result.stdout.splitlines()[-2:] == ['ended 137', 'used'], result.stdout + result.stderr
    peak = int(re.search(r'memory: peak (\d+) kB', result.stderr).group(1))
    assert peak < want * 1024 / 2, result.stderr


def test_one_mapping_beyond_the_limit_fails_without_asking():
    """A writable mapping that cannot be filled is ENOMEM at once."""
    program = 'import mmap; mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)'
    python = system_python()
    assert native(python, '-c', program).returncode == 0
    result = run('-m', '256M', '--', python, '-c', program)
    assert 'Cannot allocate memory' in result.stderr
    assert result.returncode == 1


def test_memory_that_was_given_back_is_forgotten():
    """RM-02: many processes in turn, each with most of the limit."""
    amount = SMALL * 5 // 8
    loop = f'for i in 1 2 3 4; do {helper(LIMITS)} anonymous {amount} || exit 1; done; echo all'
    result = run('-m', f'{SMALL}M', '--', 'sh', '-c', loop)
    assert result.stdout.endswith('all\n'), result.stderr


def test_allocation_is_not_notified():
    """Neither mappings nor waits nor threads: nothing but what is asked of us."""
    result = run('-m', '512M', '-c', '100', '--stats', '--', helper(LIMITS), 'anonymous', 8)
    assert 'notifications: 0' in result.stderr
    result = run('-P', '10', '--stats', '--', helper(LIMITS), 'threads', 20)
    assert result.stdout == 'threads 20\n'
    assert 'notifications: 0' in result.stderr


def system_python():
    """The interpreter below a granted directory."""
    if not os.path.exists('/usr/bin/python3'):
        pytest.skip('no /usr/bin/python3 on this machine')
    return '/usr/bin/python3'


@pytest.mark.parametrize('name,args', [
    ('node', ['-e', 'console.log("started")']), ('python3', ['-c', 'print("started")']),
    ('java', ['Hello.java'])])
def test_runtimes_start_under_256_mib(name, args, tmp_path):
    """They reserve far more than they use."""
    path = shutil.which(name, path='/usr/bin')
    if not path:
        pytest.skip(f'no {name} in /usr/bin on this machine')
    if 'Hello.java' in args:
        if not shutil.which('javac', path='/usr/bin'):
            pytest.skip('no Java compiler on this machine')
        (tmp_path / 'Hello.java').write_text('class Hello { public static void main(String[] a) {'
                                             'System.out.println("started"); } }\n')
    result = run('-r', '/proc', '-r', tmp_path, '-w', '/tmp', '-m', '256M', '--', path, *args, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert 'started' in result.stdout, result.stderr


def test_go_starts_under_256_mib():
    """Its arenas are reservations. The go command is a Go program."""
    go = shutil.which('go') or '/usr/local/go/bin/go'
    if not os.access(go, os.X_OK):
        pytest.skip('no go on this machine')
    go = os.path.realpath(go)
    root = os.path.dirname(os.path.dirname(go))
    result = run('-r', root, '-m', '256M', '--', go, 'version')
    assert result.returncode == 0 and 'go version' in result.stdout, result.stderr


# ---- processes ----

@pytest.mark.parametrize('how', [['clone'], ['fork'], ['clone', 'bogus'], ['clone3']])
def test_processes_alive_at_a_time(how):
    """RP-01, RP-02: raw calls and waits for nonsense change nothing."""
    args = [helper(LIMITS), 'crowd', 40, *how]
    assert native(*args).stdout == 'alive 40\n'
    result = run('-P', '10', '--stats', '--', *args)
    # clone3 does not exist inside: libraries fall back to clone.
    assert result.stdout == ('alive 0\n' if how == ['clone3'] else 'alive 9\n'), result.stderr
    if how != ['clone3']:
        assert 'peak at most 10 of 10, 31 refused' in result.stderr


@pytest.mark.parametrize('reap', ['wait', 'nohang', 'ignored'])
def test_processes_in_turn_are_unlimited(reap):
    """RP-01, RP-02: however they are reaped."""
    count = 30 if IN_VM else 100
    args = [helper(LIMITS), 'sequence', count, reap]
    assert native(*args).stdout == f'made {count}\n'
    assert run('-P', '3', '--', *args).stdout == f'made {count}\n'


def test_fork_fails_with_eagain_and_daemons_count():
    """Who left its parent and its session is counted all the same."""
    script = 'for i in 1 2 3 4 5 6; do setsid -f sleep 1; done; echo end'
    if not shutil.which('setsid'):
        pytest.skip('no setsid')
    assert native('sh', '-c', script).stderr == ''
    result = run('-P', '4', '--', 'sh', '-c', script)
    assert 'Resource temporarily unavailable' in result.stderr or 'Cannot fork' in result.stderr


# ---- each process's own limits ----

def test_other_limits_only_go_down():
    """RF-02: soft and hard, inherited ones stay where they are lower; root cannot raise them again."""
    program = ('import resource as r\n'
               'for n in ("FSIZE", "STACK", "MEMLOCK", "MSGQUEUE", "SIGPENDING"):\n'
               '    print(n, *r.getrlimit(getattr(r, "RLIMIT_" + n, 12)))\n'
               'try: r.setrlimit(r.RLIMIT_FSIZE, (1 << 30, 1 << 30)); print("raised")\n'
               'except (ValueError, OSError): print("refused")\n')
    program = program.replace('getattr(r, "RLIMIT_" + n, 12)',
                              'getattr(r, "RLIMIT_" + n, 11 if n == "SIGPENDING" else 12)')
    words = [w for limit in ('fsize=1M', 'stack=512K', 'memlock=0', 'msgqueue=4K', 'sigpending=7', 'fsize=2M')
             for w in ('--rlimit', limit)]
    python = system_python()
    outside = native(python, '-c', program).stdout.splitlines()
    inside = run(*words, '--', python, '-c', program).stdout.splitlines()
    assert inside == ['FSIZE 2097152 2097152', 'STACK 524288 524288', 'MEMLOCK 0 0', 'MSGQUEUE 4096 4096',
                      'SIGPENDING 7 7', 'refused']
    assert not set(inside[:-1]) & set(outside)
    assert outside[-1] == ('raised' if outside[0].endswith(' -1') else outside[-1])

    def lower():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 2000))
    assert 'FSIZE 1000 2000' in run(*words, '--', python, '-c', program, preexec_fn=lower).stdout


def test_no_file_beyond_its_size(tmp_path):
    words = ['dd', 'if=/dev/zero', f'of={tmp_path}/f', 'bs=64k', 'count=32']
    args = ['-r', '/dev/zero', '-w', tmp_path]
    assert run(*args, '--', *words).returncode == 0
    assert (tmp_path / 'f').stat().st_size == 2 << 20
    result = run('--rlimit', 'fsize=1M', '--no-supervisor', *args, '--', *words)
    assert result.returncode != 0 and (tmp_path / 'f').stat().st_size == 1 << 20


@pytest.mark.parametrize('limit', ['', 'fsize', 'fsize=', 'fsize=x', 'nproc=3', 'sigpending=4M', '=1', 'fsize=-1'])
def test_bad_rlimits(limit):
    result = run('--rlimit', limit, '--', 'true')
    assert result.returncode == 2 and '--rlimit' in result.stderr


# ---- processor ----

@pytest.mark.parametrize('args', [['burn', 1], ['burn', 8], ['burn-setsid', 1]],
                         ids=['1', '8', 'setsid'])
def test_processor_share(args):
    """RC-01: of the whole, whatever the number of threads and sessions. Only above counts here: how
    much a busy machine gives is not ours."""
    seconds = 6 if IN_VM else 2
    control = native(helper(LIMITS), *args, 1).stdout
    inside = run('-c', '5', '--', helper(LIMITS), *args, seconds).stdout
    share = value(inside, 'cpu') / value(inside, 'wall')
    if value(control, 'cpu') / value(control, 'wall') < 0.2:
        pytest.skip('the machine is too busy to show a difference')
    assert share < 0.15, inside


def test_holding_is_invisible():
    """RC-02: no stops, no SIGCONT, and who stopped itself stays stopped."""
    if 'ptrace' not in common.sandlock('check').stdout.partition('\n  cpu ')[2].splitlines()[0]:
        pytest.skip('threads cannot be traced here')
    assert native(helper(LIMITS), 'watch', '0.5').stdout == 'stops 0 continued 0 signals 1\n'
    result = run('-c', '10', '--stats', '--', helper(LIMITS), 'watch', '1')
    assert result.stdout == 'stops 0 continued 0 signals 1\n'
    assert int(re.search(r'held for (\d+) ms', result.stderr).group(1)) > 0
    assert native(helper(LIMITS), 'paused').stdout == 'moved no\n'
    assert run('-c', '10', '--', helper(LIMITS), 'paused').stdout == 'moved no\n'


def test_holding_beside_exec_guards():
    """Who is traced by others is held otherwise; execs succeed, and on a terminal the job goes on."""
    script = 'for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true || exit 1; done; echo end'
    burn = f'{helper(LIMITS)} burn 1 1'
    args = [common.SANDLOCK, 'run', *common.GRANTS, '--fs-deny', '/etc/shadow', '-c', '10', '--', 'sh',
            '-c', f'{burn}; {script}']
    assert 'end' in native(*args).stdout
    if shutil.which('script'):
        result = native('script', '-qec', ' '.join(map(shlex.quote, args)), '/dev/null')
        assert 'end' in result.stdout, result.stdout


def test_held_sandbox_ends_at_once(marker):
    """A timeout reaches who is held."""
    script = f': {marker}; while :; do :; done'
    result = run('-c', '1', '-t', '1', '--', 'sh', '-c', script)
    assert result.returncode == 124
    assert common.gone(marker)


# ---- the view ----

def test_the_view_agrees():
    """RC-03, RM-05, E-03."""
    outside = native(helper(LIMITS), 'show').stdout
    result = run('-m', '64M', '--num-cpus', '1', '--', helper(LIMITS), 'show')
    assert value(result.stdout, 'cpus') == 1
    assert value(result.stdout, 'ram') == 64 << 20 < value(outside, 'ram')
    assert value(result.stdout, 'swap') == 0
    script = ('grep -c ^processor /proc/cpuinfo; grep -c "^cpu[0-9]" /proc/stat; '
              'cat /sys/devices/system/cpu/online /sys/devices/system/cpu/possible '
              '/sys/devices/system/cpu/present; grep ^MemTotal /proc/meminfo')
    args = ['-r', '/proc', '-r', '/sys', '--', 'sh', '-c', script]
    real = run(*args).stdout.splitlines()
    assert real[0] == native('sh', '-c', script).stdout.splitlines()[0]
    seen = run('--num-cpus', '1', '-m', '64M', *args)
    assert seen.stdout.splitlines()[:5] == ['1', '1', '0', '0', '0'], seen.stderr
    assert seen.stdout.split()[-2:] == [str(64 << 10), 'kB']


def test_more_processors_than_there_are():
    """Shown, and every program that counts them agrees."""
    script = 'nproc; grep -c ^processor /proc/cpuinfo; cat /sys/devices/system/cpu/online'
    result = run('-r', '/proc', '-r', '/sys', '--num-cpus', '7', '--', 'sh', '-c', script)
    assert result.stdout.split() == ['7', '7', '0-6'], result.stderr


def test_files_keep_their_fields():
    """Programs that parse them go on working: the host's fields, in its order."""
    args = ['-r', '/proc', '--', 'cat']
    limits = ['-m', '64M', '--num-cpus', '2']

    def fields(text):
        return [line.split(':')[0].split()[0] for line in text.splitlines() if line.strip()]

    for path in ('/proc/meminfo', '/proc/cpuinfo'):
        real, seen = native('cat', path).stdout, run(*limits, *args, path).stdout
        # One processor's block, and all of meminfo.
        assert fields(real.split('\n\n')[0]) == fields(seen.split('\n\n')[0]), path


@pytest.mark.parametrize('flag', [['-m', '64M'], ['-P', '4'], ['-c', '10'], ['--num-cpus', '1']],
                         ids=lambda f: f[0])
def test_refused_without_a_supervisor(flag):
    """Nobody could hold them (NS-01)."""
    result = run('--no-supervisor', *flag, '--', 'true')
    assert result.returncode == 125
    assert 'needs a supervisor' in result.stderr


def test_check_names_the_mechanisms():
    """U8."""
    limits = json.loads(common.sandlock('check', '--json').stdout)['limits']
    assert set(limits) == {'memory', 'processes', 'cpu'}
