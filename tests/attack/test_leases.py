# SPDX-License-Identifier: Apache-2.0
"""A lease (F_SETLEASE) makes the opens of others wait for its holder, up to 45 s: the supervisor's must not,
for everybody's calls would wait with them."""
import sys

import pytest

from common import SYSTEM, native, sandlock

PROGRAM = """
import fcntl, os, signal, sys, time
folder, how = sys.argv[1:]
file = folder + '/leased'
content = {'script': b'#!/bin/sh\\nexit 0\\n', 'program': open('/bin/true', 'rb').read()}.get(how, b'0123456789')
with open(file, 'wb') as stream:
    stream.write(content)
os.chmod(file, 0o755)
signal.signal(signal.SIGIO, signal.SIG_IGN)
held = os.open(file, os.O_RDONLY if how in ('script', 'program') else os.O_RDWR)
for _ in range(2000):  # the supervisor may not have closed its descriptor of the first open yet
    try:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        break
    except BlockingIOError:
        time.sleep(0.005)
how = {'read': lambda: os.read(os.open(file, os.O_RDONLY), 4) == b'0123',
       'append': lambda: fcntl.fcntl(os.open(file, os.O_WRONLY | os.O_APPEND), fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK) == os.O_APPEND,
       'script': lambda: os.execv(file, [file]), 'program': lambda: os.execv(file, [file]),
       'truncate': lambda: os.truncate(file, 5) is None and os.stat(file).st_size == 5}[how]
children = []
for _ in range(6):
    child = os.fork()
    if child == 0:
        os._exit(0 if how() else 1)
    children.append(child)
for _ in range(200):
    os.close(os.open(folder, os.O_RDONLY))
    os.stat(folder)
print('waiting', sum(os.waitpid(child, os.WNOHANG)[0] == 0 for child in children))
fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
print('states', [os.waitpid(child, 0)[1] for child in children])
"""
EXPECTED = f'waiting 6\nstates {[0] * 6}\n'


@pytest.mark.parametrize('how', ['read', 'append', 'truncate', 'script', 'program'])
def test_waiting_for_a_lease_keeps_nobody_else(how, tmp_path):
    (tmp_path / 'native').mkdir()
    control = native(sys.executable, '-c', PROGRAM, tmp_path / 'native', how)
    assert control.stdout == EXPECTED, control
    # In a layer a new file, and one that was there.
    for name in ('new', 'old'):
        (tmp_path / name).mkdir()
    (tmp_path / 'old' / 'leased').write_text('before')
    for options, where in ((['-w', tmp_path, '--fs-deny', '/etc/shadow'], ''), (['-w', tmp_path, '--chroot', '/'], ''),
                           (['--workdir', tmp_path], 'new'), (['--workdir', tmp_path], 'old')):
        done = sandlock('run', *SYSTEM, '-r', sys.prefix, *options, '--',
                        sys.executable, '-c', PROGRAM, tmp_path / where, how)
        assert done.stdout == EXPECTED, (options, where, done)
