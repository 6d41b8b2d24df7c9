# SPDX-License-Identifier: Apache-2.0
"""Where features meet: each test combines options that were safe alone."""
import shutil

from common import HELPERS, native, sandlock


def test_the_mark_of_an_exec_is_worth_nothing(tmp_path):
    """Filters of the command's own tell it the mark by which the filter knows the supervisor's execs; with
    it, it must not execute what --fs-deny closes."""
    root = tmp_path / 'root'
    root.mkdir()
    for name in ('exec_mark', 'probe_fds'):
        shutil.copy(HELPERS / name, root / name)
    denied = root / 'probe_fds'
    base = ['run', '--chroot', root, '-r', '/']
    usage = 2
    assert native(denied).returncode == usage, 'control: it runs'
    assert sandlock(*base, '--', '/probe_fds').returncode == usage, 'control: inside, when not denied'
    done = sandlock(*base, '--fs-deny', '/probe_fds', '--', '/exec_mark', '/exec_mark', denied)
    assert 'mark: learned' in done.stdout, 'control: the attack gets as far as that'
    assert 'exec: ENOSYS' in done.stdout and done.returncode == 4, done
