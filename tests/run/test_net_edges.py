# SPDX-License-Identifier: Apache-2.0
"""The network side at its edges: ports that somebody else has, machines that refuse pidfd_getfd, programs
that ask for interfaces. Loopback only; each denial has its control.
"""
import contextlib
import os
import shutil
import socket
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


OTHERS = '''
import array
def rights(fd):
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))]
r, w = os.pipe()
given = socket.socket(fileno=0)
l = socket.socket(socket.AF_UNIX); l.bind(sys.argv[1]); l.listen(1)
c = socket.socket(socket.AF_UNIX); t(lambda: c.connect(sys.argv[1])); d, _ = l.accept()
for s in (c, d, given):
    t(lambda: s.sendmsg([b'plain']))
    t(lambda: s.sendmsg([b'fd'], rights(w)))
    t(lambda: s.send(b'send'))
'''


def test_what_needs_a_duplicate(tmp_path):
    """The table of docs/network.md: descriptors over UNIX connections, sockets that were accepted or inherited."""
    for front, policy, want in (((), None, ['5', '2', '4'] * 3),
                                ((), ['--net-allow', '127.0.0.1'], ['5', '2', '4'] * 3),
                                (CONTAINED, ['--net-allow', 'tcp://127.0.0.1'], ['5', '2', '4'] * 3),
                                (CONTAINED, ['--net-allow', '127.0.0.1'],
                                 ['5', 'EPERM', '4', *['EACCES', 'EACCES', '4'] * 2])):
        near, far = socket.socketpair()
        name = tmp_path / f'{len(os.listdir(tmp_path))}'
        box = [] if policy is None else [SANDLOCK, 'run', *SYSTEM, '-w', tmp_path, *policy, '--']
        if front == () and box and 'pidfd_getfd                 yes' not in execute([SANDLOCK, 'check']).out:
            continue
        r = execute([*front, *box, PYTHON, '-c', PRELUDE + OTHERS, name], stdin=near)
        near.close()
        far.close()
        assert (r.code, r.lines) == (0, ['ok', *want]), (front, policy, r.err)


# ---- interfaces (NL-01, SIOCGIF*) ----

IFREQ = '''
import fcntl
def ask(s, cmd, name=b'lo', index=0):
    r = fcntl.ioctl(s, cmd, struct.pack('16si20x', name, index))
    return r[16:].rstrip(b'\\0') if cmd != 0x8910 else r[:16].rstrip(b'\\0')
s = socket.socket()
other = ([n.encode() for n in sys.argv[1:]] or [b'eth0'])[0]
'''
LO = {0x8933: b'\1', 0x8913: b'\x49', 0x8921: b'\0\0\1', 0x8927: b'\4\3', 0x8942: b'\xe8\3', 0x891d: b'', 0x8970: b'',
      0x8915: b'\2\0\0\0\x7f\0\0\1', 0x8917: b'\2\0\0\0\x7f\0\0\1', 0x891b: b'\2\0\0\0\xff', 0x8919: b'\2'}


def test_ioctl_tells_of_lo_as_netlink_does():
    code = IFREQ + f'''
for cmd in {sorted(LO)}:
    t(lambda: (hex(cmd), ask(s, cmd)))
t(lambda: ask(s, 0x8910, index=1))
'''
    want = [str((hex(cmd), LO[cmd])) for cmd in sorted(LO)] + ["b'lo'"]
    native = bare(code).lines
    assert len(native) == len(want) and "('0x8933', b'\\x01')" in native and native[-1] == "b'lo'", 'the control'
    for front in ((), CONTAINED):
        r = inside([], code, front=front)
        assert (r.code, r.lines) == (0, want), r.err
    # A netlink socket, or what stands for one, tells of the link and of no address.
    code = code.replace('s = socket.socket()', 's = socket.socket(16, socket.SOCK_RAW)')
    assert inside([], code).lines == [w if not w.startswith("('0x891") or w[4:8] in ('8913', '891d') else 'ENOTTY'
                                      for w in want]


def test_ioctl_tells_of_nothing_else():
    """Nor does it answer for what is no socket; commands that change something are refused."""
    names = [n for n in os.listdir('/sys/class/net') if n != 'lo']
    code = IFREQ + '''
t(lambda: ask(s, 0x8933, other) and None)
t(lambda: ask(s, 0x8933, b'nosuch'))
t(lambda: ask(s, 0x8910, index=9999))
t(lambda: ask(s, 0x8933, b'lo:1'))
t(lambda: ask(s, 0x8915, b'lo:1'))
t(lambda: ask(s, 0x8933, b'l'))
t(lambda: ask(s, 0x8933, b'lox'))
t(lambda: ask(os.open('/dev/null', 0), 0x8933))
t(lambda: ask(999, 0x8933))
'''
    want = ['ENODEV', 'ENODEV', r"b'\x01'", 'EADDRNOTAVAIL', 'ENODEV', 'ENODEV', 'ENOTTY', 'EBADF']
    native = bare(code, *names[:1]).lines
    assert native[1:] == want
    assert not names or native[0] == 'ok', 'the control sees another interface'
    # Changes are tried inside alone: without the sandbox they would be made, by root.
    code += "t(lambda: ask(s, 0x8914, struct.pack('16sh', b'lo', 0x49)) and None)"
    assert inside([], code, *names[:1]).lines == ['ENODEV', *want, 'ENODEV']


def test_ioctl_lists_interfaces():
    code = IFREQ + '''
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def conf(room, buffer=True):
    data = ctypes.create_string_buffer(max(room, 0) + 8)
    c = ctypes.create_string_buffer(struct.pack('i4xP', room, ctypes.addressof(data) if buffer else 0))
    r = libc.ioctl(s.fileno(), 0x8912, c)
    n = struct.unpack_from('i', c)[0]
    return r, n, data.raw[:2].strip(bytes(1)), data.raw[16:24].strip(bytes(1))
for room in (40, 100, 39, 0, -1):
    print(conf(room))
print(conf(1, False)[:2])
print(libc.ioctl(s.fileno(), 0x8912, ctypes.c_void_p(8)), errno.errorcode[ctypes.get_errno()])
'''
    one = r"(0, 40, b'lo', b'\x02\x00\x00\x00\x7f\x00\x00\x01')"
    none = "(0, 0, b'', b'')"
    assert bare(code).lines[-1] == '-1 EFAULT'
    assert inside([], code).lines == [one, one, none, none, none, '(0, 40)', '-1 EFAULT']


PYTHON_NAMES = 'import socket; print(socket.if_nameindex(), socket.if_nametoindex("lo"), socket.if_indextoname(1))'


@pytest.mark.parametrize('policy, program, want', [
    ([], ('node', '-p', 'JSON.stringify(Object.keys(require("os").networkInterfaces()))'), '["lo"]\n'),
    ([], (PYTHON, '-c', 'import socket; print(socket.if_nameindex())'), "[(1, 'lo')]\n"),
    # These two ask on datagram sockets.
    (['--net-allow', '127.0.0.1'], (PYTHON, '-c', PYTHON_NAMES), "[(1, 'lo')] 1 lo\n"),
    (['--net-allow', '127.0.0.1'], ('ifconfig', '-s'), 'lo'),
], ids=['node', 'python', 'names', 'ifconfig'])
def test_programs_list_interfaces(policy, program, want):
    if not shutil.which(program[0]):
        pytest.skip(f'no {program[0]} here')
    assert execute(program).code == 0
    r = execute([SANDLOCK, 'run', '-r', '/', *policy, '--', *program])
    assert r.code == 0 and r.err == '' and (r.out == want or want == 'lo' in r.out), (r.out, r.err)
