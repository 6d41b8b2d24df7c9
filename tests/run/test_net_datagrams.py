# SPDX-License-Identifier: Apache-2.0
"""UNIX datagrams by path (FG-05, NU-01): what the write grants name is reached by every sending call,
nothing else is, whatever flips meanwhile. The control of each is the same without the sandbox.
"""
import array
import contextlib
import os
import pathlib
import re
import shutil
import socket

import pytest

from common import DOCKER, HELPERS, SANDLOCK, SYSTEM
from net_common import PYTHON, SECONDS, bare, boxed, execute

# All of it needs the kernel to let us look at a socket.
RACE = HELPERS / 'net_race'


class Mailbox:
    """A datagram socket with a name; what came into it."""

    def __init__(self, path):
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        os.chmod(self.path, 0o777)
        self.sock.setblocking(False)

    def take(self):
        got = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, rights, _, sender = self.sock.recvmsg(1 << 17, 4096)
                for _, _, fds in rights:
                    numbers = array.array('i')
                    numbers.frombytes(fds[:len(fds) - len(fds) % 4])
                    for fd in numbers:
                        data += b':' + os.read(fd, 9)
                        os.close(fd)
                got.append((data, sender) if sender else data)
        return got


class Places:
    def __init__(self, base):
        self.inside, self.outside = base / 'in', base / 'out'
        self.inside.mkdir()
        self.outside.mkdir()
        self.near, self.far = Mailbox(self.inside / 'd'), Mailbox(self.outside / 'd')


@pytest.fixture
def places(tmp_path_factory):
    base = pathlib.Path(os.path.realpath(tmp_path_factory.mktemp('u')))
    p = Places(base)
    yield p
    p.near.sock.close()
    p.far.sock.close()


CALLS = '''
import array, ctypes
libc = ctypes.CDLL(None, use_errno=True)
class iovec(ctypes.Structure):
    _fields_ = [('base', ctypes.c_char_p), ('len', ctypes.c_size_t)]
class msghdr(ctypes.Structure):
    _fields_ = [('name', ctypes.c_char_p), ('namelen', ctypes.c_uint), ('iov', ctypes.POINTER(iovec)),
                ('iovlen', ctypes.c_size_t), ('control', ctypes.c_void_p), ('controllen', ctypes.c_size_t),
                ('flags', ctypes.c_int)]
class mmsghdr(ctypes.Structure):
    _fields_ = [('hdr', msghdr), ('len', ctypes.c_uint)]
def mmsg(s, *paths):
    v = (mmsghdr * len(paths))()
    for m, p in zip(v, paths):
        name = struct.pack('H', socket.AF_UNIX) + p.encode() + bytes(1)
        m.hdr = msghdr(name, len(name), ctypes.pointer(iovec(b'mm', 2)), 1, None, 0, 0)
    n = libc.sendmmsg(s.fileno(), v, len(paths), 0)
    if n < 0:
        raise OSError(ctypes.get_errno(), '')
    return n
def d(kind=socket.SOCK_DGRAM):
    return socket.socket(socket.AF_UNIX, kind)
def connected(p):
    s = d(); s.connect(p); s.send(b'send'); s.sendmsg([b'se', b'nt']); return os.write(s.fileno(), b'write')
'''
EVERY = CALLS + '''
for p in sys.argv[1:3]:
    t(lambda: d().sendto(b'to', p))
    t(lambda: d(socket.SOCK_RAW).sendto(b'raw', p))
    t(lambda: d().sendmsg([b'm', b'sg'], [], 0, p))
    t(lambda: mmsg(d(), p, p))
    t(lambda: connected(p))
'''
WORDS = [b'to', b'raw', b'msg', b'mm', b'mm', b'send', b'sent', b'write']


def test_every_call_reaches_what_is_granted(places):
    assert bare(EVERY, places.near.path, places.far.path).lines == ['2', '3', '3', '2', '5'] * 2
    assert places.near.take() == places.far.take() == WORDS
    link = places.outside / 'log'
    link.symlink_to(places.near.path)
    for grant in (['-w', places.near.path], ['-w', places.inside, '-w', link]):
        r = boxed(grant, EVERY, places.near.path, places.far.path)
        assert r.lines == ['2', '3', '3', '2', '5'] + ['EACCES'] * 5
        assert places.near.take() == WORDS and places.far.take() == []


def test_where_no_socket_is_granted(places, tmp_path):
    """Of what a directory holds, streams alone; messages of others are then the kernel's alone (--stats)."""
    (tmp_path / 'f').touch()
    for policy in ([], ['-w', '/dev/null'], ['-w', tmp_path / 'f'], ['-w', places.inside]):
        assert boxed(policy, EVERY, places.near.path, places.far.path).lines == ['EACCES'] * 10
    assert places.near.take() == places.far.take() == []


def test_messages_are_the_kernels_alone(places):
    code = 'import socket\na, b = socket.socketpair()\nfor _ in range(50): a.sendmsg([b"x"]); b.recv(1)'
    for grant, seen in ((places.inside, False), (places.near.path, True)):
        r = execute([SANDLOCK, 'run', *SYSTEM, '-w', grant, '--stats', '--', PYTHON, '-c', code])
        assert r.code == 0 and ('sendmsg' in r.err) == seen, r.err


def test_partial_sendmmsg(places):
    code = CALLS + 't(lambda: mmsg(d(), sys.argv[1], sys.argv[2], sys.argv[1]))'
    assert bare(code, places.near.path, places.far.path).lines == ['3']
    assert (len(places.near.take()), len(places.far.take())) == (2, 1)
    assert boxed(['-w', places.near.path], code, places.near.path, places.far.path).lines == ['1']
    assert (len(places.near.take()), len(places.far.take())) == (1, 0)


def test_spelling_links_and_denials(places):
    (places.inside / 'link').symlink_to(places.far.path)
    (places.outside / 'back').symlink_to(places.near.path)
    code = CALLS + '''
os.chdir(sys.argv[1])
for p in ('d', './../in/d', 'link', '../out/back', 'missing', 'd/', sys.argv[1]):
    t(lambda: d().sendto(b'x', p) and None)
'''
    assert bare(code, places.inside).lines == ['ok', 'ok', 'ok', 'ok', 'ENOENT', 'ENOTDIR', 'ECONNREFUSED']
    assert (len(places.near.take()), len(places.far.take())) == (3, 1)
    assert boxed(['-w', places.near.path, '-w', places.inside, '-r', places.outside], code, places.inside).lines == \
        ['ok', 'ok', 'EACCES', 'ok', 'ENOENT', 'ENOTDIR', 'ECONNREFUSED']
    assert (len(places.near.take()), len(places.far.take())) == (3, 0)
    assert boxed(['-w', places.near.path, '-w', places.inside, '--fs-deny', places.near.path], code, places.inside).lines[0] == 'EACCES'
    assert places.near.take() == []


def test_own_server_knows_its_senders(places):
    """Both ends inside: a server answers the name a client has bound; queues that are full."""
    code = CALLS + '''
os.chdir(sys.argv[1])
a, b = d(), d()
a.bind('a%s' % os.getpid()); b.bind('b%s' % os.getpid())
b.sendto(b'question', a.getsockname())
data, sender = a.recvfrom(100)
print(data.decode(), sender == b.getsockname())
a.sendmsg([b'answer'], [], 0, sender)
print(b.recv(100).decode())
b.setblocking(False)
def fill():
    while True:
        b.sendto(b'x', a.getsockname())
t(fill)
b.settimeout(None)
b.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 200000))
t(lambda: b.sendto(b'x', a.getsockname()))
b.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 0))
import threading, time
threading.Timer(0.2, lambda: a.recv(10)).start()
t(lambda: b.sendto(b'x', a.getsockname()))
x, y = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
x.send(b'pair'); print(y.recv(9).decode(), y.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))

t(lambda: d().send(b'x'))
t(lambda: socket.socket(socket.AF_UNIX).sendto(b'x', sys.argv[1]))
u, v = socket.socketpair()
t(lambda: u.sendto(b'x', sys.argv[1]))
'''
    control = bare(code, places.inside).lines
    assert control[:2] == ['question True', 'answer'] and control[2:5] == ['EAGAIN', 'EAGAIN', '1']
    assert boxed(['-w', places.inside, '-w', places.near.path], code, places.inside).lines == control


def test_descriptors_go_along(places):
    code = CALLS + '''
r, w = os.pipe(); os.write(w, b'word')
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [r]))]
for p in sys.argv[1:3]:
    t(lambda: d().sendmsg([b'fd'], rights, 0, p))
t(lambda: d().sendmsg([b'bad'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [r, 999]))], 0, sys.argv[1]))
x, y = socket.socketpair()
x.sendmsg([b'p'], rights)
os.write(w, b'again')
_, got, _, _ = y.recvmsg(1, 100)
print(os.read(struct.unpack('i', got[0][2])[0], 9).decode())
'''
    assert bare(code, places.near.path, places.near.path).lines == ['2', '2', 'EBADF', 'wordagain']
    [places.near.sock.recvmsg(9, 0) for _ in range(2)]  # a pipe that nobody writes to would hold us
    r = boxed(['-w', places.near.path], code, places.near.path, places.far.path)
    assert r.lines == ['2', 'EACCES', 'EBADF', 'wordagain']
    assert len([places.near.sock.recvmsg(9, 0)]) == 1 and places.far.take() == places.near.take() == []


def test_abstract_names_are_the_scopes(places):
    if 'abstract-unix-socket-scope' not in execute([SANDLOCK, 'check']).out:
        pytest.skip('sandlock check does not name the scope')
    name = f'\0sandlock-{os.getpid()}-{places.inside.parent.name}'
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(name)
        s.setblocking(False)
        code = CALLS + '''
p = bytes(1) + sys.argv[1].encode()
t(lambda: d().sendto(b'x', p))
t(lambda: d().sendmsg([b'x'], [], 0, p))
t(lambda: d().connect(p))
own = d(); own.bind(p + b'o')
t(lambda: d().sendto(b'x', p + b'o'))
'''
        assert bare(code, name[1:]).lines == ['1', '1', 'ok', '1']
        assert s.recv(1) == s.recv(1) == b'x'
        scoped = int(re.search(r'Landlock ABI (\d+)', execute([SANDLOCK, 'check']).out)[1]) >= 6
        policy = ['-w', places.near.path] + ([] if scoped else ['--allow-degraded', 'abstract-unix-socket-scope'])
        got = boxed(policy, code, name[1:]).lines
        assert got == (['EPERM'] * 3 + ['1'] if scoped else ['1', '1', 'ok', '1'])


# ---- programs ----

def test_logger_and_friends(places):
    """What logs to /dev/log and tells systemd that it is ready."""
    notify = CALLS + "d().sendmsg([b'READY=1'], [], 0, os.environ['NOTIFY_SOCKET'])"
    syslog = ('import logging, logging.handlers as h, sys\n'
              'l = logging.getLogger("x"); l.addHandler(h.SysLogHandler(address=sys.argv[1]))\n'
              'l.error("from python")')
    programs = [[PYTHON, '-c', syslog, '{}']]
    if shutil.which('logger'):
        programs.append(['logger', '-u', '{}', '--socket-errors=on', 'from', 'logger'])
    if shutil.which('systemd-notify'):
        programs.append(['env', 'NOTIFY_SOCKET={}', 'systemd-notify', '--no-block', 'STATUS=x'])
    for argv in programs:
        near, far = ([a.replace('{}', m.path) for a in argv] for m in (places.near, places.far))
        assert execute(far).code == 0
        assert len(places.far.take()) == 1, argv
        # A message from an allowed socket.
        r = execute([SANDLOCK, 'run', *SYSTEM, '-r', '/proc', '-w', places.near.path, '--', *near])
        assert r.code == 0, r.err
        assert len(places.near.take()) == 1, argv
        execute([SANDLOCK, 'run', *SYSTEM, '-r', '/proc', '-w', places.near.path, '--', *far])
        assert places.far.take() == [], argv
    r = execute(['env', f'NOTIFY_SOCKET={places.near.path}', SANDLOCK, 'run', *SYSTEM, '-w', places.near.path,
                 '--', PYTHON, '-c', 'import os, socket, struct, sys\n' + notify])
    assert r.code == 0 and places.near.take() == [b'READY=1'], r.err


def test_explain(places):
    code = 'import socket, sys\ntry: socket.socket(1, 2).sendto(b"x", sys.argv[1])\nexcept OSError: pass'
    r = execute([SANDLOCK, 'run', *SYSTEM, '-w', places.near.path, '--explain', '--', PYTHON, '-c', code, places.far.path])
    closed = execute([SANDLOCK, 'run', *SYSTEM, '-w', places.inside, '--explain', '--', PYTHON, '-c', code,
                      places.far.path])
    assert 'granted by its own name; allow with: -w SOCKET' in closed.err, closed.err
    assert f'{places.far.path}: EACCES: unix socket outside the write grants' in r.err or \
        (places.far.path in r.err and 'unix socket outside the write grants' in r.err), r.err


def test_without_pidfd_getfd_there_are_none(places):
    r = execute([PYTHON, '-c', DOCKER, SANDLOCK, 'run', *SYSTEM, '-w', places.near.path, '--', PYTHON, '-c',
                 'import socket\ntry: socket.socket(1, 2)\nexcept OSError as e: print(e.errno)'])
    assert r.lines == ['13'] or int(re.search(r'Landlock ABI (\d+)', execute([SANDLOCK, 'check']).out)[1]) >= 9


# ---- attacks ----

@pytest.mark.parametrize('what', ['dgram', 'link'])
def test_nothing_that_flips_gets_out(places, what):
    link = [str(places.inside / 'l')] if what == 'link' else []
    args = [what, '1', places.near.path, places.far.path, *link]
    escaped = 0
    for _ in range(20):
        assert execute([RACE, *args]).code == 0
        escaped += len(places.far.take())
        if escaped:
            break
    assert escaped, 'the attack works without the sandbox'
    places.near.take()
    args[1] = SECONDS
    r = execute([SANDLOCK, 'run', '-r', RACE, '-w', places.inside, '-w', places.near.path, '--', RACE, *args], timeout=90)
    assert r.code == 0, r.err
    assert places.far.take() == [] and int(r.out.split()[1]) > 0, r.out
    assert places.near.take() != []
