# SPDX-License-Identifier: Apache-2.0
"""Processes that are killed at bad moments: the one who started them must always be able to wait for them,
also where the supervisor was tracing them just then."""
import os

import pytest

from common import HELPERS, IN_VM, native, sandlock

ROUNDS = '400' if os.environ.get('SANDLOCK_LONG') else '20' if IN_VM else '200'
POLICIES = {
    'deny': ['--fs-deny', '/etc/shadow'],
    'chroot': ['--chroot', '/'],
    'workdir': ['--on-exit', 'abort', '--workdir'],
    'repeat': ['--time-start', '1000000', '--random-seed', '1'],
    'limits': ['-P', '50', '-m', '1G', '--net-allow', '127.0.0.1:1'],
}


@pytest.mark.parametrize('policy', POLICIES)
def test_killed_while_the_supervisor_acts(policy, tmp_path):
    work = tmp_path / 'work'
    work.mkdir()
    command = HELPERS / 'endings'
    options = [*POLICIES[policy], *([work] if policy == 'workdir' else [])]
    for what in ('exec', 'thread-exec', 'chdir', 'path', 'many', 'spawn'):
        words = [command, what, ROUNDS, work]
        if policy == 'deny':
            assert native(*words).stdout == f'ended {ROUNDS}\n', 'control: without a sandbox'
        done = sandlock('run', '-r', command, '-r', work, *options, '--', *words)
        assert done.stdout == f'ended {ROUNDS}\n', (what, done)
