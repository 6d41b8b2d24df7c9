# SPDX-License-Identifier: Apache-2.0
"""Mediation changes nothing for what is granted: a program of random file calls prints the same lines
natively, under --fs-deny, under the virtual /proc and with the own tree as another root. The control is the native run itself."""
import json
import os
import pathlib
import shutil

import pytest

from common import IN_VM, NR, SYSTEM, native, sandlock

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = '/usr/bin/python3' if os.path.exists('/usr/bin/python3') else shutil.which('python3')
COUNT = 1500
NAMES = ('openat openat2 creat statx faccessat2 readlinkat mknodat symlinkat unlinkat renameat2 linkat '
         'truncate inotify_init1 inotify_add_watch').split()


# Root keeps no capability inside (design.md §5); nor may the control.
BARE = ['setpriv', '--inh-caps=-all', '--bounding-set=-all'] if os.geteuid() == 0 else []


def program(top, seed):
    os.makedirs(top)
    numbers = json.dumps({name: NR[name] for name in NAMES if name in NR})
    return [PYTHON, str(HERE / 'same_program.py'), str(top), str(seed), str(COUNT), numbers]


SEEDS = (1,) if IN_VM else (1, 2)


@pytest.mark.parametrize('mode, seed', [
    *((m, s) for m in ('deny', 'deny-directory', 'proc-view', 'both') for s in SEEDS),
    ('root', 3), ('mount', 4)])
def test_random_calls(tmp_path, mode, seed):
    closed = tmp_path / 'closed'
    closed.mkdir()
    grants = [*SYSTEM, '-r', HERE, '-r', '/dev/null', '-r', tmp_path, '-w', tmp_path / 'inside']
    if mode in ('proc-view', 'both'):
        grants += ['-r', '/proc']
    if mode == 'deny':
        grants += ['--fs-deny', tmp_path / 'absent']
    elif mode == 'root':
        grants += ['--chroot', '/']
    elif mode == 'mount':
        grants += ['--fs-mount', f'/elsewhere:{closed}']
    elif mode != 'proc-view':
        grants += ['--fs-deny', closed]
    # Under the granted directory, so that the top itself behaves alike.
    want = native(*BARE, *program(tmp_path / 'native' / 'top', seed))
    inside = program(tmp_path / 'inside' / 'top', seed)
    got = sandlock('run', *grants, '--', *inside)
    assert want.returncode == 0, want.stderr
    assert got.returncode == 0, got.stderr
    wanted, lines = want.stdout.splitlines(), got.stdout.splitlines()
    assert len(wanted) == COUNT
    for one, other in zip(wanted, lines):
        assert one == other
    assert len(lines) == COUNT
