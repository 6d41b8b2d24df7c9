# SPDX-License-Identifier: Apache-2.0
"""Doors of /proc, when it is granted: other processes' memory, environment, roots and descriptors; the
supervisor and the anchor above all (process.md L-04, filesystem.md FG-04)."""
import os
import subprocess

import pytest

from common import GRANTS, SANDLOCK, native, run, shell, wait_until

PYTHON = '/usr/bin/python3'


@pytest.fixture
def outsider(tmp_path):
    """A process of the same user, outside, with a secret in its environment and directory."""
    (tmp_path / 'private').mkdir()
    (tmp_path / 'private' / 'file').write_text('SECRET')
    process = subprocess.Popen(['sleep', '300'], env={'TOKEN': 'SECRET'}, cwd=tmp_path / 'private',
                               stdin=open(tmp_path / 'private' / 'file', encoding='ascii'))
    yield process.pid
    process.kill()
    process.wait()


DOORS = '''
import os, sys
pid = sys.argv[1]
for door in ("environ", "cmdline", "maps", "mem", "cwd/file", "root" + sys.argv[2] + "/file", "fd/0",
             "task/" + pid + "/environ", "stack", "syscall", "auxv", "pagemap", "io", "status"):
    try:
        with open(f"/proc/{pid}/{door}", "rb") as f:
            f.read(1)
        print(door, "open")
    except OSError as e:
        print(door, "closed")
for link in ("cwd", "root", "exe", "fd/0"):
    try: os.readlink(f"/proc/{pid}/{link}"); print(link, "open")
    except OSError: print(link, "closed")
print("listed", pid in os.listdir("/proc"))
'''


@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow']], ids=['default', 'fs-deny'])
def test_processes_outside(options, outsider, tmp_path):
    arguments = [PYTHON, '-c', DOORS, outsider, tmp_path / 'private']
    result = run('-r', '/proc', *options, '--', *arguments)
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if line.endswith((' open', 'True'))] == []
    control = native(*arguments).stdout.splitlines()
    assert {'environ open', 'cmdline open', 'cwd/file open', 'fd/0 open', 'listed True',
            'cwd open', 'status open'} <= set(control)


@pytest.mark.parametrize('options', [['--fs-deny', '/etc/shadow'], ['--explain'], []],
                         ids=['fs-deny', 'explain', 'default'])
def test_supervisor_and_anchor(options, tmp_path):
    """The parent of the command and its parent: no descriptor, no memory, no signal, no trace."""
    program = DOORS + '''
import signal
for n in (0, 9, 19):
    try: os.kill(int(pid), n); print("kill open")
    except OSError: print("kill closed")
'''
    ready, go, pid_file = tmp_path / 'ready', tmp_path / 'go', tmp_path / 'pid'
    process = subprocess.Popen(
        [SANDLOCK, 'run', *GRANTS, '-r', '/proc', '-w', str(tmp_path), *options, '--', 'sh', '-c',
         f'echo $PPID >{ready}; while [ ! -e {go} ]; do sleep 0.05; done; '
         f'for p in $PPID $(cat {pid_file}); do {PYTHON} -c "$0" $p /nowhere; done', program],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    assert wait_until(lambda: ready.exists() and ready.read_text())
    pid_file.write_text(str(process.pid))
    anchor = int(ready.read_text())
    assert os.path.exists(f'/proc/{anchor}')
    go.write_text('')
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert [line for line in out.splitlines() if line.endswith((' open', 'True'))] == []
    assert out.count('kill closed') == 6 and out.count('listed False') == 2


def test_own_children_are_no_door_to_denied_files(tmp_path):
    """/proc/CHILD/cwd and the like, of processes that are inside."""
    top = tmp_path / 'top'
    top.mkdir()
    (top / 'secret').write_text('SECRET')
    (top / 'plain').write_text('plain')
    script = f'''cd {top}; sleep 300 <. & p=$!
for door in cwd fd/0 root{top} task/$p/cwd; do cat /proc/$p/$door/secret; cat /proc/$p/$door/plain; done
kill $p'''
    result = shell(script, '-w', top, '-r', '/proc', '--fs-deny', top / 'secret')
    assert 'SECRET' not in result.stdout and result.stdout.count('plain') >= 3, result
    assert native('sh', '-c', script).stdout.count('SECRET') == 4


def test_nothing_of_proc_without_its_grant():
    for path in ('/proc/self/status', '/proc/1/cmdline', '/proc/meminfo', '/proc'):
        result = run('--', 'head', '-c1', path)
        assert result.returncode != 0 and result.stdout == '', path
        assert native('ls', path).returncode == 0
