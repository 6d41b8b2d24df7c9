# SPDX-License-Identifier: Apache-2.0
"""The umask of whoever makes something on behalf (PR-12): it is the caller's at that very call, whoever else the
supervisor served a moment ago. Each program runs natively as well, and its modes must be the same."""
import os
import subprocess
import sys

import pytest

from common import IN_VM, NR, run

COUNT = 300 if IN_VM else 3000

PRELUDE = '''
import ctypes, os, signal, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
COUNT = int(sys.argv[2])
os.umask(0o022)

def make(name, i):
    if i % 3 == 0:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o666))
    elif i % 3 == 1:
        os.mkdir(name, 0o777)
    else:
        os.mknod(name, 0o777)

def show(names):
    print(*(oct(os.lstat(name).st_mode) for name in names))

def wanted(name, mask, i):
    mode = os.lstat(name).st_mode & 0o7777
    right = (0o666 if i % 3 == 0 else 0o777) & ~mask
    assert mode == right, (name, oct(mask), oct(mode))
'''
ENDS = '\nsys.stdout.flush()\nprint("done")\n'

PROGRAMS = {
    # A mask before each name, which changes all the time.
    'in turns': '''
masks = [0, 0o077, 0o022, 0o777, 0o027, 0o277]
for i in range(COUNT):
    os.umask(masks[i % len(masks)])
    make(f't{i}', i)
    wanted(f't{i}', masks[i % len(masks)], i)
show(f't{i}' for i in range(60))
''',
    # Threads have one mask: each file is made after a change by another thread, which says so by a lock.
    'threads': '''
turn, masks, wrong = threading.Barrier(2), [0o077, 0, 0o027], []

def change():
    for i in range(COUNT // 3):
        turn.wait()
        os.umask(masks[i % 3])
        turn.wait()

other = threading.Thread(target=change)
other.start()
for i in range(COUNT // 3):
    turn.wait()
    turn.wait()
    make(f'h{i}', i)
    wanted(f'h{i}', masks[i % 3], i)
other.join()
show(f'h{i}' for i in range(60))
''',
    # A child begins with its parent's mask and then has its own.
    'children': '''
for i in range(COUNT // 30):
    os.umask([0, 0o077][i % 2])
    make(f'p{i}', i)
    pid = os.fork()
    if pid == 0:
        make(f'c{i}', i)
        os.umask(0o007)
        make(f'd{i}', i)
        os._exit(0)
    os.waitpid(pid, 0)
    make(f'q{i}', i)
    for name, mask in (('p', [0, 0o077][i % 2]), ('c', [0, 0o077][i % 2]), ('d', 0o007), ('q', [0, 0o077][i % 2])):
        wanted(f'{name}{i}', mask, i)
show(f'{name}{i}' for name in 'pcdq' for i in range(10))
''',
    # Two processes with one mask: CLONE_FS without CLONE_THREAD.
    'shared': '''
CLONE_FS, NR = 0x200, int(sys.argv[3])
to_child, from_child = os.pipe(), os.pipe()
pid = libc.syscall(NR, CLONE_FS | signal.SIGCHLD, 0, 0, 0, 0)
assert pid >= 0
masks = [0o077, 0, 0o027]
if pid == 0:
    for i in range(COUNT // 3):
        os.read(to_child[0], 1)
        os.umask(masks[i % 3])
        os.write(from_child[1], b'x')
    os._exit(0)
for i in range(COUNT // 3):
    os.write(to_child[1], b'x')
    os.read(from_child[0], 1)
    make(f's{i}', i)
    wanted(f's{i}', masks[i % 3], i)
os.waitpid(pid, 0)
show(f's{i}' for i in range(60))
''',
    # Many short lives, each with another mask: a number of a process that ended tells nothing. (A directory that is
    # closed to its owner could not be committed.)
    'lives': '''
for i in range(COUNT // 30):
    pid = os.fork()
    if pid == 0:
        os.umask(i * 5 & 0o077)
        os.execvp('sh', ['sh', '-c', f'> l{i}; mkdir m{i}'])
    os.waitpid(pid, 0)
    wanted(f'l{i}', i * 5 & 0o077, 0)
    wanted(f'm{i}', i * 5 & 0o077, 1)
show(f'{name}{i}' for name in 'lm' for i in range(10))
''',
}


@pytest.mark.parametrize('how', ['layer', 'root'])
@pytest.mark.parametrize('what', PROGRAMS)
def test_it_is_the_callers(what, how, tmp_path):
    for name in ('bare', 'work'):
        (tmp_path / name).mkdir()
    tmp_path.chmod(0o755)
    program = [sys.executable, '-B', '-c', PRELUDE + PROGRAMS[what] + ENDS]
    options = {'layer': ['--workdir', tmp_path / 'work', '--on-exit', 'commit'],
               'root': ['--chroot', '/', '-w', tmp_path / 'work']}[how]
    args = [str(COUNT), str(NR['clone'])]
    bare = subprocess.run([*program, tmp_path / 'bare', *args], capture_output=True, text=True, check=True)
    inside = run(*options, '-r', '/etc', '-w', '/dev/null', '--', *program, tmp_path / 'work', *args, timeout=300)
    assert (inside.returncode, inside.stderr) == (0, '')
    assert inside.stdout == bare.stdout and bare.stdout.endswith('done\n')
    modes = [{name: os.lstat(tmp_path / top / name).st_mode for name in os.listdir(tmp_path / top)}
             for top in ('bare', 'work')]
    assert modes[0] == modes[1] and len(modes[0]) >= 20
