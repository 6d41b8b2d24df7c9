# SPDX-License-Identifier: Apache-2.0
"""--random-seed and --no-randomize-memory (RN-01 to RN-03, AS-01): the same seed gives the same bytes by
every way to them, each process has its own, and two runs of a program are the same to the byte."""
import os
import shutil
import subprocess

import pytest

from common import IN_VM, ROOT, Script, helper, native, run, words

DRAWS = helper('draws')
DEV = ['-r', '/dev', '-r', '/proc']
PYTHON = '/usr/bin/python3' if os.path.exists('/usr/bin/python3') else shutil.which('python3')


def draws(seed, *words, grants=DEV):
    result = run(*grants, '--random-seed', seed, '--', DRAWS, *words)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_every_way():
    """System call, vDSO, AT_RANDOM, both devices, uuid: the same again, different with another seed."""
    control = [native(DRAWS, 'all').stdout.splitlines() for _ in range(2)]
    first, again, other = draws(1, 'all'), draws(1, 'all'), draws(2, 'all')
    assert first == again
    assert [line.split()[0] for line in first] == [line.split()[0] for line in control[0]]
    for i, line in enumerate(first):
        way, value = line.split()
        if value in ('none', 'no-params'):
            continue
        assert value != other[i].split()[1], way
        if not way.endswith('boot_id'):
            assert control[0][i] != control[1][i], way
        assert 'ENOENT' not in value and len(value) >= 32, line
    # No two draws of a run are the same.
    assert len({line.split()[1] for line in first}) == len(first)


@pytest.mark.parametrize('mode', ['forks', 'vforks', 'failing', 'big'])
def test_streams_of_processes(mode):
    """Concurrent processes: the place in the tree decides, not who is first. Also by vfork and
    posix_spawn, after forks that failed, and where a fork takes long."""
    runs = [sorted(draws(7, mode)) for _ in range(2 if IN_VM else 4)]
    assert all(r == runs[0] for r in runs)
    assert len(set(runs[0])) == len(runs[0]) and 'did not fail' not in runs[0]
    assert sorted(native(DRAWS, mode).stdout.splitlines()) != runs[0]


def test_errors():
    want = dict(line.split() for line in native(DRAWS, 'errors').stdout.splitlines())
    got = dict(line.split() for line in draws(1, 'errors'))
    assert got.pop('write') == 'EACCES' and want.pop('write')
    assert got.pop('hwrng') in ('EACCES', 'ENOENT') and want.pop('hwrng')
    assert got.pop('untraced') == 'EPERM' and want.pop('untraced') != 'EPERM'
    assert got == want


@pytest.mark.parametrize('size', [4096, 4097, 3000000])
def test_one_large_request(size):
    got = draws(3, 'large', size)
    assert got == draws(3, 'large', size)
    assert got[0].split()[1] == str(size)


@pytest.mark.parametrize('path', ['/dev/urandom', '/dev/random', '/proc/self/root/dev/urandom',
                                  '/dev/../dev/./urandom'])
def test_devices_have_no_end(path):
    """1 MiB was the end of a stand-in once. Any spelling."""
    size = 1200000 if IN_VM else 5000000
    got = draws(3, 'device', path, size)
    assert got[0].split()[1] == str(size)
    # The same bytes, whichever spelling and device.
    assert got == draws(3, 'device', '/dev/urandom', size)


def test_device_by_descriptor_and_by_link(tmp_path):
    (tmp_path / 'link').symlink_to('/dev/urandom')
    code = (f'cd /dev; head -c 16 urandom | od -An -tx1; head -c 16 {tmp_path}/link | od -An -tx1;'
            'head -c 2000000 /dev/urandom | cksum')
    runs = [run(*DEV, '-r', tmp_path, '--random-seed', 5, '--', 'sh', '-c', code).stdout
            for _ in range(2)]
    assert runs[0] == runs[1] and len(runs[0].splitlines()) == 3


def test_device_needs_its_grant():
    result = run('--random-seed', 1, '--', 'head', '-c', 1, '/dev/urandom')
    assert result.returncode != 0 and 'denied' in result.stderr


def test_threads_share_the_stream():
    code = ('import os, threading\n'
            'got = set()\n'
            't = [threading.Thread(target=lambda: got.add(os.urandom(8))) for _ in range(8)]\n'
            'for x in t: x.start()\n'
            'for x in t: x.join()\n'
            'print(sorted(g.hex() for g in got))')
    one, other = (run('--random-seed', 1, '--', PYTHON, '-S', '-c', code) for _ in range(2))
    assert one.stdout == other.stdout and one.stdout.count("'") == 16, one.stderr


@pytest.mark.parametrize('bad', ['', '-1', '0x1', '18446744073709551616', 'seed'])
def test_bad_seeds(bad):
    result = run('--random-seed', bad, '--', 'true')
    assert result.returncode == 2
    assert '--random-seed' in result.stderr and len(result.stderr.splitlines()) == 1


# ---- addresses ----

MAPS = ['--no-randomize-memory', '-r', '/proc', '--', 'cat', '/proc/self/maps']


@pytest.mark.parametrize('words', [[], ['--time-start', '2000-01-01T00:00:00Z'], ['--random-seed', '4']])
def test_maps_are_the_same(words):
    """Stack and vDSO included; control: with ASLR they differ."""
    one, other = (run(*words, *MAPS).stdout for _ in range(2))
    assert one == other and '[vdso]' in one and '[stack]' in one
    assert run(*words, *MAPS[1:]).stdout != run(*words, *MAPS[1:]).stdout


def test_personality_stays():
    script = Script()
    query, plain, other = (script.call('personality', v) for v in (0xffffffff, 0, 0x0040000))
    answers = script.run('--no-randomize-memory')
    assert answers[query].result == 0x0040000
    assert answers[plain].name == answers[other].name == 'EPERM'
    assert script.native()[plain].name == 'OK'


# ---- everything at once ----

PROGRAM = '''
import os, subprocess, sys, time, uuid
print(time.strftime("%F %T", time.gmtime(int(time.time()) // 60 * 60)), os.urandom(16).hex(), uuid.uuid4())
print(os.listdir(sys.argv[1]))
print(hash("text"), list({"a", "b", "c", "d", "e"}), id(object()), id(sys))
print(open("/proc/sys/kernel/random/uuid").read(), open("/proc/sys/kernel/random/boot_id").read())
print(open("/dev/urandom", "rb").read(100000)[-16:].hex(), open("/proc/self/maps").read())
sys.stdout.flush()
for i in range(3):
    if os.fork() == 0:
        print(i, os.getrandom(8).hex(), uuid.uuid4(), flush=True)
        os._exit(0)
    os.wait()
subprocess.run(["sh", "-c", "head -c 8 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid"])
'''


@pytest.fixture
def twins(tmp_path):
    """Two directories of the same names, made in opposite orders, one after the other at one path: what the
    file system lists differs."""
    names = [f'{i * 7919 % 1009:x}' for i in range(60)]

    def make(order):
        shutil.rmtree(tmp_path / 'names', ignore_errors=True)
        (tmp_path / 'names').mkdir()
        for name in names[::order]:
            (tmp_path / 'names' / name).write_text('')
        return tmp_path / 'names'
    return make


def twice(twins, *command, dev=tuple(DEV)):
    """The output of two runs, each on its own directory."""
    words = ['--clean-env', '--time-start', '2020-02-02T02:02:02Z', '--random-seed', 99,
             '--no-randomize-memory', '--deterministic-dirs', '--env', 'PYTHONDONTWRITEBYTECODE=1', *dev]
    made = []
    for order in (1, -1):
        folder = twins(order)
        made.append(run(*words, '-r', folder, '--', *command, folder))
    assert made[0].returncode == 0 and not made[0].stderr, made[0]
    return [m.stdout for m in made]


def test_two_runs_are_identical(twins):
    """Time, random bytes, uuid, directory order, hash order, addresses."""
    one, other = twice(twins, PYTHON, '-S', '-c', PROGRAM)
    assert one == other and len(one.splitlines()) > 20
    assert one.startswith('2020-02-02 02:02:00')
    bare = [native(PYTHON, '-S', '-c', PROGRAM, twins(order)).stdout for order in (1, -1)]
    assert bare[0] != bare[1]


@pytest.mark.parametrize('build', ['helper', 'gcc', 'gcc -static', 'musl-gcc', 'musl-gcc -static'])
def test_two_runs_of_a_c_program(twins, build, tmp_path):
    """Static and dynamic, with either C library."""
    program = helper('same')
    if build != 'helper':
        compiler = build.split()[0]
        if IN_VM or not shutil.which(compiler):
            pytest.skip(f'no {compiler}')
        program = tmp_path / 'same'
        subprocess.run([*build.split(), '-o', program, ROOT / 'tests' / 'helpers' / 'same.c'], check=True)
    one, other = twice(twins, program, dev=(*DEV, '-r', tmp_path))
    assert one == other and len(one.splitlines()) == 9
    bare = [native(program, twins(order)).stdout.splitlines() for order in (1, -1)]
    # Each line but the time's differs outside; names only where the file system keeps an order.
    for i in (1, 2, 3, 4, 6, 7, 8):
        assert bare[0][i] != bare[1][i], bare


def test_unused_costs_nothing():
    """Nothing is asked of the supervisor without the option."""
    plain = run('--stats', '--', DRAWS, 'one', 'x')
    seeded = run('--stats', '--random-seed', 1, '--', DRAWS, 'one', 'x')
    assert 'notifications: 0\n' in plain.stderr
    assert 'getrandom' in seeded.stderr and 'exec 1' in seeded.stderr


def test_many_at_once():
    """More forks at a time than the supervisor has workers; forks by threads."""
    count = 40 if IN_VM else 300
    result = run('--random-seed', 1, '--', 'xargs', '-P', count, '-I{}', DRAWS, 'one', '{}',
                 input=''.join(f'{i}\n' for i in range(count)))
    assert result.returncode == 0 and len(set(result.stdout.splitlines())) == count, result.stderr
    code = ('import subprocess, threading\n'
            'def f():\n'
            '    for _ in range(10): subprocess.run(["true"], check=True)\n'
            't = [threading.Thread(target=f) for _ in range(4)]\n'
            'for x in t: x.start()\n'
            'for x in t: x.join()\n'
            'print("done")')
    result = run('--random-seed', 1, '--time-start', '5', '--', PYTHON, '-S', '-c', code)
    assert result.stdout == 'done\n' and not result.stderr


@pytest.mark.parametrize('option', ['--random-seed', '--time-start'])
def test_proc_is_not_writable(option):
    """The receivers may write below /proc then; the command may not, in any way of opening."""
    script, made = Script(), []
    flags = [os.O_WRONLY, os.O_RDWR, 3, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT]
    for path in ('/proc/self/comm', '/proc/self/mem', '/proc/thread-self/comm',
                 '/proc/self/oom_score_adj'):
        for flag in flags:
            made.append(script.call('openat', -100, path, flag, 0))
        made.append(script.call('openat2', -100, path, words(os.O_RDWR, 0, 0), 24))
        if script.call('creat', path, 0o600) is not None:
            made.append(len(script.lines) - 1)
    answers = script.run('-r', '/proc', option, 5)
    assert {answers[i].name for i in made} == {'EACCES'}, answers
    # Control: with the grant, and outside.
    granted = script.run('-w', '/proc', option, 5)
    assert {granted[i].name for i in made[:2]} == {'OK'}, granted
    assert {script.native()[i].name for i in made[:2]} == {'OK'}
