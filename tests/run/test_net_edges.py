# SPDX-License-Identifier: Apache-2.0
"""The network side at its edges: ports that somebody else has, machines that refuse pidfd_getfd, programs
that ask for interfaces. Loopback only; each denial has its control.
"""
import contextlib
import os
import subprocess
import textwrap

import pytest

from common import DOCKER, SANDLOCK, SLOW, SYSTEM as COMMON
from net_common import PRELUDE, PYTHON, Server, bare, execute, free_ports

SYSTEM = [*COMMON, '-r', '/dev/null', '-r', '/dev/urandom']


def inside(policy, code, *args, front=(), timeout=60):
    return execute([*front, SANDLOCK, 'run', *SYSTEM, *policy, '--', PYTHON, '-c', PRELUDE + textwrap.dedent(code),
                    *args], timeout=timeout)


# Where pidfd_getfd is refused, as in Docker.
CONTAINED = (PYTHON, '-c', DOCKER)


@pytest.fixture
def near():
    s = Server('127.0.0.1', b'near')
    yield s
    s.close()


# ---- ports that somebody has ----

TAKEN = '''
def bind(port, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(('127.0.0.1', port))
near, free = map(int, sys.argv[1:])
t(lambda: bind(near))
t(lambda: bind(near, socket.SOCK_DGRAM))
t(lambda: bind(free))
'''


@pytest.mark.parametrize('policy', ['--net-allow-bind {0},{1}', '--net-deny-bind 1',
                                    '--net-allow-bind * --net-deny-bind 1', '--port-remap --net-allow-bind *'])
def test_a_taken_port_is_the_commands_to_hear_of(near, policy):
    """EADDRINUSE as natively and nothing of ours on stderr; --port-remap gives another port."""
    free, = free_ports(1)
    want = ['EADDRINUSE', 'EADDRINUSE', 'ok']
    assert bare(TAKEN, str(near.port), free).lines == want
    if '--port-remap' in policy:
        want = ['ok'] * 3
    policy = [*policy.format(near.port, free).split(), '--net-allow', 'udp://127.0.0.1:1']
    for front in ((), CONTAINED):
        r = inside(policy, TAKEN, near.port, free, front=front)
        assert (r.code, r.lines, r.err) == (0, want, ''), front
    assert bare(f'print(socket.create_connection(("127.0.0.1", {near.port})).recv(9))').lines == ["b'near'"]


def internet_sockets(pid):
    """The ports of the internet sockets that a process holds, by inode."""
    rows = [line.split() for name in ('tcp', 'tcp6', 'udp', 'udp6') if os.path.exists('/proc/net/' + name)
            for line in open('/proc/net/' + name).readlines()[1:]]
    ports = {f'socket:[{row[9]}]': int(row[1].rpartition(':')[2], 16) for row in rows}
    held = set()
    for fd in os.listdir(f'/proc/{pid}/fd'):
        with contextlib.suppress(OSError):
            held.add(os.readlink(f'/proc/{pid}/fd/{fd}'))
    return {name: ports[name] for name in held & set(ports)}


def test_no_port_is_ours_at_the_start(near):
    """So none can be taken: the name server comes with the first question, at a port of the kernel's choice."""
    assert near.port in internet_sockets(os.getpid()).values(), 'the control'
    code = '''
print('ready', flush=True)
sys.stdin.readline()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(('10.255.255.53', 53))
s.send(b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\x09localhost\\0\\0\\1\\0\\1')
print(socket.inet_ntoa(s.recv(512)[-4:]), flush=True)
sys.stdin.readline()
'''
    with subprocess.Popen([str(x) for x in (
            SANDLOCK, 'run', *SYSTEM, '--net-allow', f'localhost:{near.port}', '--port-remap', '--net-allow-bind',
            near.port, '-t', 60 * SLOW, '--', PYTHON, '-c', PRELUDE + code)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as p:
        assert p.stdout.readline() == 'ready\n'
        assert internet_sockets(p.pid) == {}
        p.stdin.write('\n')
        assert p.stdout.readline() == '127.0.0.1\n'
        ours = internet_sockets(p.pid)
        assert 1 <= len(ours) <= 2 and min(ours.values()) > 1023, ours
        p.stdin.write('\n')
    assert p.returncode == 0
