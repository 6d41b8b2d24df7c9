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


# ---- where pidfd_getfd is refused ----

STREAMS = '''
import array, signal
signal.alarm(30)
def rights(fd):
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))]
r, w = os.pipe()
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(1)
c = socket.socket(); c.connect(l.getsockname()); d, _ = l.accept()
for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
    a, b = socket.socketpair(socket.AF_UNIX, kind)
    t(lambda: a.sendmsg([b'plain', b'data']))
    t(lambda: a.sendmsg([b'fd'], rights(w)))
    a.setblocking(False)
    t(lambda: a.sendmsg([b'fd'], rights(w)))
    t(lambda: a.send(b'send'))
    t(lambda: os.writev(a.fileno(), [b'wri', b'te']))
    b.setblocking(False)
    got = 0
    try:
        while True:
            got += len(b.recv(99))
    except BlockingIOError:
        print('arrived', got, flush=True)
for s in (d, c):
    t(lambda: s.sendmsg([b'plain']))
    t(lambda: s.send(b'send'))
'''


def test_sends_without_duplicates_fail_at_once():
    """sendmsg where UDP may leave: on sockets that sandlock made alone; EACCES on others, never a wait."""
    pair = ['9', '2', '2', '4', '5', 'arrived 22']
    native = bare(STREAMS).lines
    assert native == [*pair, *pair, '5', '4', '5', '4']
    policy = ['--net-allow', '127.0.0.1', '--net-allow-bind', '0']
    if 'pidfd_getfd                 yes' in execute([SANDLOCK, 'check']).out:
        assert inside(policy, STREAMS).lines == native
    pair = ['EACCES'] * 3 + ['4', '5', 'arrived 9']
    r = inside(policy, STREAMS, front=CONTAINED, timeout=20)
    assert (r.code, r.lines) == (0, [*pair, *pair, 'EACCES', '4', '5', '4'])
    # Rules for tcp:// leave sendmsg to the kernel.
    r = inside(['--net-allow', 'tcp://127.0.0.1', '--net-allow-bind', '0'], STREAMS, front=CONTAINED)
    assert (r.code, r.lines) == (0, native)
