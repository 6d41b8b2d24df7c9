# SPDX-License-Identifier: Apache-2.0
"""Attacks on the rules per host: a listener outside of them must see neither a connection nor a
datagram, whichever family, call, form of address, inherited descriptor or race is tried. The control
of each is the same program without the sandbox, which the listener sees.
"""
import contextlib
import os
import pathlib
import select
import socket
import subprocess
import threading

import pytest

from common import DOCKER, SYSTEM

ROOT = pathlib.Path(__file__).resolve().parents[2]
SANDLOCK = pathlib.Path(os.environ.get('SANDLOCK', ROOT / 'build' / 'sandlock')).resolve()
HELPERS = pathlib.Path(os.environ.get('SANDLOCK_BUILD', SANDLOCK.parent)).resolve() / 'tests' / 'helpers'
SLOW = int(os.environ.get('SANDLOCK_SLOW', '1'))
ESCAPE = HELPERS / 'net_escape'
SECONDS = '10' if os.environ.get('SANDLOCK_LONG') else '3'


class Listener:
    """TCP and UDP on one port of an address; tells how often anything arrived."""

    def __init__(self, address, port=0, family=socket.AF_INET):
        for _ in range(50):
            self.tcp = socket.socket(family)
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.tcp.bind((address, port))
            self.port = self.tcp.getsockname()[1]
            self.udp = socket.socket(family, socket.SOCK_DGRAM)
            try:
                self.udp.bind((address, self.port))
                break
            except OSError:
                self.udp.close()
                self.tcp.close()
        self.tcp.listen(1000)
        self.tcp.setblocking(False)
        self.udp.setblocking(False)

    def drain(self):
        """(connections, datagrams) since the last time."""
        tcp = udp = 0
        while select.select([self.tcp, self.udp], [], [], 0.05)[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.tcp.accept()[0].close()
                    tcp += 1
            with contextlib.suppress(OSError):
                while True:
                    self.udp.recv(100)
                    udp += 1
        return tcp, udp


@pytest.fixture
def two():
    """The same port on 127.0.0.1 (allowed) and 127.0.0.2 (forbidden)."""
    for _ in range(20):
        good = Listener('127.0.0.1')
        try:
            return good, Listener('127.0.0.2', good.port)
        except OSError:
            continue
    pytest.skip('no free port on both addresses')


# As a container does it that refuses pidfd_getfd.
CONTAINED = ('/usr/bin/python3', '-c', DOCKER)
FRONTS = pytest.mark.parametrize('front', [(), CONTAINED], ids=['', 'contained'])


def run(policy, *args, front=(), **options):
    argv = [*front, SANDLOCK, 'run', '-r', ESCAPE, *policy, '--', ESCAPE, *args]
    r = subprocess.run([str(a) for a in argv], capture_output=True, text=True,
                       stdin=options.pop('stdin', subprocess.DEVNULL), timeout=120 * SLOW, **options)
    assert r.returncode == 0, r.stderr
    return [int(w) for w in r.stdout.split()[1::2]]


def native(*args, **options):
    subprocess.run([str(a) for a in (ESCAPE, *args)], check=True, capture_output=True,
                   stdin=options.pop('stdin', subprocess.DEVNULL), timeout=120 * SLOW, **options)


@FRONTS
def test_every_family_type_protocol_call_and_form(front):
    loose, strict = Listener('127.0.0.2'), Listener('127.0.0.1')
    native('sweep', loose.port)
    tcp, udp = loose.drain()
    assert tcp > 0 and udp > 0, 'the control arrives'
    # 127.0.0.1:9 is what the helper may reach, and nobody listens there.
    for policy in (['--net-allow', '127.0.0.1:9', '--net-allow', 'icmp://127.0.0.1'],
                   ['--net-allow', 'tcp://127.0.0.1:9'],
                   ['--net-deny', '127.0.0.0/8', '--net-deny', '::/0']):
        sockets, _, failed = run(policy, 'sweep', loose.port, front=front)
        assert sockets > 0 and failed > 0
        assert loose.drain() == (0, 0), policy
        # The unspecified address is loopback.
        run(policy, 'sweep', strict.port, front=front)
        assert strict.drain() == (0, 0), policy


@FRONTS
def test_flipping_the_address_and_the_descriptor(two, front):
    good, bad = two
    seen = (0, 0)
    for _ in range(20):  # threads on one slow processor meet when they meet
        native('race', '1', good.port, bad.port)
        seen = tuple(map(sum, zip(seen, bad.drain())))
        if all(seen):
            break
    assert all(seen), 'the control arrives'
    good.drain()
    for policy in (['--net-allow', f'127.0.0.1:{good.port}'], ['--net-deny', '127.0.0.2'],
                   ['--port-remap', '--net-allow', f'localhost:{good.port}', '-r', '/etc']):
        run(policy, 'race', SECONDS, good.port, bad.port, front=front)
        assert bad.drain() == (0, 0)
        assert any(good.drain()), 'what is allowed arrives'


@FRONTS
@pytest.mark.parametrize('kind', [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=['tcp', 'udp'])
def test_inherited_socket(two, kind, front):
    good, bad = two
    arrived = 0 if kind == socket.SOCK_STREAM else 1
    with socket.socket(socket.AF_INET, kind) as s:
        native('fd', '0', bad.port, stdin=s)
        assert bad.drain()[arrived] > 0, 'the control arrives'
    with socket.socket(socket.AF_INET, kind) as s:
        run(['--net-allow', f'127.0.0.1:{good.port}'], 'fd', '0', bad.port, stdin=s, front=front)
        assert bad.drain() == (0, 0)


def test_inherited_datagram_socket_without_a_rule_starts_nothing(two):
    _, bad = two
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        argv = [SANDLOCK, 'run', '-r', ESCAPE, '--net-allow', 'tcp://127.0.0.1:9', '--', ESCAPE, 'fd',
                '0', str(bad.port)]
        r = subprocess.run(argv, stdin=s, capture_output=True, text=True, timeout=60 * SLOW)
        assert r.returncode == 125 and 'standard input: is a socket that could send' in r.stderr
        assert bad.drain() == (0, 0)


RECEIVE = '''
import array, socket, sys
u = socket.socket(socket.AF_UNIX)
u.connect(sys.argv[1])
_, rights, _, _ = u.recvmsg(1, 100)
for fd in array.array('i', rights[0][2]):
    s = socket.socket(fileno=fd)
    for call in (lambda: s.connect(('127.0.0.2', int(sys.argv[2]))), lambda: s.send(b'x'),
                 lambda: s.sendto(b'x', ('127.0.0.2', int(sys.argv[2]))),
                 lambda: s.sendmsg([b'x'], [], 0, ('127.0.0.2', int(sys.argv[2])))):
        try:
            call()
        except OSError:
            pass
'''


@contextlib.contextmanager
def giver(path):
    """Hands a fresh TCP and a fresh UDP socket to whoever connects."""
    with socket.socket(socket.AF_UNIX) as u:
        u.bind(path)
        u.listen(4)

        def give():
            with contextlib.suppress(OSError):
                while True:
                    c, _ = u.accept()
                    with c, socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                        socket.send_fds(c, [b'x'], [tcp.fileno(), udp.fileno()])
        threading.Thread(target=give, daemon=True).start()
        yield
        with contextlib.suppress(OSError):
            u.shutdown(socket.SHUT_RDWR)


def mediates_udp(rules):
    return any(r in ('127.0.0.1', '127.0.0.2') for r in rules)


@pytest.mark.parametrize('front, grant', [((), 's'), ((), ''), (CONTAINED, '')],
                         ids=['socket', 'directory', 'contained'])
def test_received_sockets(two, front, grant, tmp_path_factory):
    """Over a UNIX socket that is granted, from somebody outside."""
    _, bad = two
    place = tmp_path_factory.mktemp('g')
    program = ['/usr/bin/python3', '-c', RECEIVE, str(place / 's'), str(bad.port)]
    with giver(str(place / 's')):
        subprocess.run(program, check=True)
        assert all(bad.drain()), 'the control arrives'
        for rules in ([], ['--net-allow', ':9'], ['--net-allow', 'tcp://127.0.0.1'], ['--net-allow', '127.0.0.1'],
                      ['--net-deny', '127.0.0.2']):
            argv = [*front, str(SANDLOCK), 'run', *SYSTEM, '-w', str(place / grant), *rules, '--', *program]
            r = subprocess.run(argv, capture_output=True, text=True, timeout=60 * SLOW)
            assert r.returncode == 0, r.stderr
            tcp, udp = bad.drain()
            # Without a rule for UDP, messages are looked at where a socket is granted by its own name; else
            # what a granted peer gives away it could have sent itself.
            assert tcp == 0 and (udp == 0 or not grant and not mediates_udp(rules)), (rules, r.stderr)


RELEASE = '''
import ctypes, socket, struct, sys
kind = getattr(socket, sys.argv[1])
s = socket.socket(socket.AF_INET, kind)
s.bind(('127.0.0.1', int(sys.argv[2])))
real = s.getsockname()[1]
if kind == socket.SOCK_STREAM:
    s.listen(1)
    s.shutdown(socket.SHUT_RD)
else:
    ctypes.CDLL(None).connect(s.fileno(), struct.pack('HHI8x', socket.AF_UNSPEC, 0, 0), 16)
print(real, flush=True)
port = int(sys.stdin.readline()) or real
c = socket.socket(socket.AF_INET, kind)
try:
    c.connect(('127.0.0.1', port))
    c.send(b'x')
except OSError:
    pass
'''


def reaches_who_takes_the_port(argv, kind, real=None):
    """Does the program, which keeps a socket and lets go of its port, come to a service that then gets the port?"""
    p = subprocess.Popen([str(a) for a in argv], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    said = real(p.stderr.readline()) if real else None
    port = said or int(p.stdout.readline())
    if real:
        p.stdout.readline()
    with socket.socket(socket.AF_INET, getattr(socket, kind)) as service:
        try:
            service.bind(('127.0.0.1', port))
            if kind == 'SOCK_STREAM':
                service.listen(1)
        except OSError:
            service.close()
        p.communicate('80\n' if real else '0\n', timeout=60 * SLOW)
        assert p.returncode == 0
        return service.fileno() >= 0 and bool(select.select([service], [], [], 0.2)[0])


@pytest.mark.parametrize('kind', ['SOCK_STREAM', 'SOCK_DGRAM'])
def test_a_port_that_was_let_go_leads_nowhere(kind):
    """--port-remap: port 80, which a rule names, is another outside, and the socket that has it is disconnected. What was
    left to the kernel to choose is then anybody's, as the control shows: a service that comes to be there is not 80."""
    program = ['/usr/bin/python3', '-c', RELEASE, kind]
    assert reaches_who_takes_the_port([*program, '0'], kind), 'the control arrives'
    box = [SANDLOCK, 'run', *SYSTEM, '--stats', '--port-remap', '--net-allow', '127.0.0.1:80', '--net-allow-bind', '80', '--']
    assert not reaches_who_takes_the_port([*box, *program, '80'], kind, lambda line: int(line.split(' -> ')[1]))
