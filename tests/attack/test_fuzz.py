# SPDX-License-Identifier: Apache-2.0
"""Random system calls inside (tests/fuzz/fuzz_syscalls.c): the supervisor never crashes, hangs or
grows, and the run ends when it must."""
import os
import subprocess
import time

import pytest

from common import GRANTS, IN_VM, LIMIT, SANDLOCK, gone, helper, native

SECONDS = float(os.environ.get('SANDLOCK_FUZZ_SECONDS', '6' if IN_VM else '3'))
SEED = os.environ.get('SANDLOCK_FUZZ_SEED') or str(int.from_bytes(os.urandom(4), 'little'))
# kB; sanitizers keep shadow memory of their own.
LARGEST = 400000 if {'ASAN_OPTIONS', 'TSAN_OPTIONS'} & set(os.environ) else 4000
POLICIES = {
    'write': lambda d: [],
    'deny': lambda d: ['--fs-deny', d / 'denied'],
    'root': lambda d: ['-r', '/'],
    'explain': lambda d: ['--explain=/dev/null', '--name', 'fuzz'],
    'all': lambda d: ['-r', '/', '--fs-deny', d / 'denied', '--name', 'fuzz', '--deterministic-dirs',
                      '--explain=/dev/null', '--net-allow', ':1', '--net-allow-bind', '1'],
}


def make(top):
    (top / 'denied').mkdir()
    (top / 'denied' / 'x').write_text('SECRET')
    return top


def footprint(pid):
    """kB resident, descriptors, threads; None while there is none, also before the exec: on one
    processor Popen() returns while the child still has this interpreter's memory (measured)."""
    try:
        with open(f'/proc/{pid}/status', encoding='ascii', errors='replace') as stream:
            fields = dict(line.split(':\t', 1) for line in stream.read().splitlines() if ':\t' in line)
        if fields['Name'] != 'sandlock':
            return None
        return (int(fields['VmRSS'].split()[0]), len(os.listdir(f'/proc/{pid}/fd')),
                int(fields['Threads']))
    except (OSError, KeyError):
        return None


@pytest.fixture
def start():
    """Starts a fuzzer; whatever happens, none is left."""
    started = []

    def begin(top, policy, seconds, *options):
        command = [SANDLOCK, 'run', *GRANTS, '-w', top, *POLICIES[policy](top), '--no-coredump',
                   *options, '--', helper('fuzz_syscalls'), seconds, SEED, top]
        started.append(subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        errors='replace'))
        return started[-1]
    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.parametrize('policy', ['deny', 'all'] if IN_VM else POLICIES)
def test_random_calls(policy, start, tmp_path):
    """Ends by itself; the footprint is sampled meanwhile."""
    top = make(tmp_path)
    process = start(top, policy, SECONDS)
    largest = [0, 0, 0]
    end = time.monotonic() + SECONDS + LIMIT
    while process.poll() is None and time.monotonic() < end:
        now = footprint(process.pid)
        if now:
            largest = [max(a, b) for a, b in zip(largest, now)]
        time.sleep(0.05)
    assert process.poll() is not None, f'hangs, seed {SEED}'
    out, err = process.communicate()
    assert process.returncode == 0, (SEED, process.returncode, err[-2000:])
    words = out.split()
    assert words[0] == 'calls' and int(words[1]) > 200 and int(words[3]) > 10, out
    assert 0 < largest[0] < LARGEST and largest[1] < 400 and largest[2] < 200, (largest, SEED)
    os.chmod(top, 0o755)
    if policy in ('deny', 'all'):
        assert os.stat(top / 'denied').st_mode & 0o7777 == 0o755
        assert (top / 'denied' / 'x').read_text() == 'SECRET'
    assert gone(str(top))


@pytest.mark.parametrize('policy', ['write', 'all'])
def test_timeout_in_the_middle(policy, start, tmp_path):
    """124, and nothing is left, whatever the calls did to signals and sessions."""
    top = make(tmp_path)
    process = start(top, policy, 100000, '-t', 8 if IN_VM else 1.5)
    out, err = process.communicate(timeout=LIMIT * 2)
    assert process.returncode == 124, (SEED, out, err[-2000:])
    assert gone(str(top))


def test_refuses_to_run_outside(tmp_path):
    """A control of another kind: it would not be a sandbox's test."""
    assert native(helper('fuzz_syscalls'), 1, 1, tmp_path).returncode == 2
