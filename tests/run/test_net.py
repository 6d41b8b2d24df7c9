# SPDX-License-Identifier: Apache-2.0
"""The network side over the command line: TCP port rules, refused socket kinds, UNIX sockets by path,
listen, netlink, the host name, and --explain. Each denial has its control: the same action without
the sandbox. Needs no right; what only root can do unsandboxed is skipped for others.
"""
import contextlib
import errno
import os
import pathlib
import re
import shutil
import socket
import subprocess
import textwrap
import time

import pytest

from common import DOCKER, HELPERS, ROOT, SANDLOCK, SYSTEM
from net_common import PYTHON, SECONDS, SLOW, execute, free_ports, server

PRELUDE = '''
import errno, os, socket, struct, sys
def t(f):
    """Prints the result, or the name of the error."""
    try:
        r = f()
        print('ok' if r is None else r, flush=True)
    except OSError as e:
        print(errno.errorcode.get(e.errno, repr(e)), flush=True)
def inet(port, family=socket.AF_INET):
    s = socket.socket(family)
    s.connect(('127.0.0.1' if family == socket.AF_INET else '::ffff:127.0.0.1', port))
    return s.recv(10).decode()
def unix(path, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_UNIX, kind)
    s.connect(path)
    return s.recv(10).decode()
'''


def bare(code, *args):
    """The control: the program without the sandbox."""
    r = execute([PYTHON, '-c', PRELUDE + textwrap.dedent(code), *args])
    assert r.code == 0, r.err
    return r


def boxed(policy, code, *args):
    r = execute([SANDLOCK, 'run', *SYSTEM, *policy, '--', PYTHON, '-c',
                 PRELUDE + textwrap.dedent(code), *args])
    assert r.code == 0, r.err
    return r


def both(policy, code, *args):
    return bare(code, *args).lines, boxed(policy, code, *args).lines


@pytest.fixture
def tcp():
    with server(('127.0.0.1', 0), b'in') as a, server(('127.0.0.1', 0), b'out') as b:
        yield a.port, b.port


@pytest.fixture
def silent_port():
    """A port whose listener takes no more connections: connect neither succeeds nor fails."""
    with socket.socket() as s, contextlib.ExitStack() as keep:
        s.bind(('127.0.0.1', 0))
        s.listen(0)
        for _ in range(4):
            c = keep.enter_context(socket.socket())
            c.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                c.connect(s.getsockname())
        time.sleep(0.1)
        yield s.getsockname()[1]


class Places:
    """A granted and another directory, each with a server."""

    def __init__(self, base):
        self.inside, self.outside = base / 'in', base / 'out'
        self.inside.mkdir()
        self.outside.mkdir()
        self.near, self.far = str(self.inside / 's'), str(self.outside / 's')


@pytest.fixture
def places(tmp_path_factory):
    # Short: a socket's path has 107 bytes.
    base = pathlib.Path(os.path.realpath(tmp_path_factory.mktemp('n')))
    p = Places(base)
    with server(p.near, b'in', socket.AF_UNIX), server(p.far, b'out', socket.AF_UNIX):
        yield p


# ---- TCP ----

CONNECT = 't(lambda: inet(int(sys.argv[1])))\nt(lambda: inet(int(sys.argv[2])))\n'


def test_tcp_connect_is_denied_by_default(tcp):
    assert both([], CONNECT, *map(str, tcp)) == (['in', 'out'], ['EACCES', 'EACCES'])


def test_tcp_connect_port_rule(tcp):
    r = boxed(['--net-allow', f':{tcp[0]}', '--stats'], CONNECT, *map(str, tcp))
    assert r.lines == ['in', 'EACCES']
    assert r.notified('connect') == 0, 'NP-01: the kernel path'


@pytest.mark.parametrize('write', [False, True])
def test_tcp_connect_mapped_address(tcp, write, tmp_path):
    code = ('t(lambda: inet(int(sys.argv[1]), socket.AF_INET6))\n'
            't(lambda: inet(int(sys.argv[2]), socket.AF_INET6))')
    control = bare(code, *map(str, tcp)).lines
    if control != ['in', 'out']:
        pytest.skip('no IPv6 here')
    policy = ['--net-allow', f':{tcp[0]}', *(['-w', tmp_path] if write else [])]
    assert boxed(policy, code, *map(str, tcp)).lines == ['in', 'EACCES']


def test_tcp_connect_with_a_write_grant(tcp, tmp_path):
    r = boxed(['-w', tmp_path, '--net-allow', f':{tcp[0]}', '--stats'], CONNECT, *map(str, tcp))
    assert r.lines == ['in', 'EACCES']
    assert r.notified('connect') in (0, 2), 'at most one notification a call'


NONBLOCKING = '''
import select
s = socket.socket()
s.setblocking(False)
t(lambda: s.connect(('127.0.0.1', int(sys.argv[1]))))
select.select([], [s], [], 10)
print(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
t(lambda: s.connect(('127.0.0.1', int(sys.argv[1]))))
t(lambda: s.connect(('127.0.0.1', int(sys.argv[1]))))
'''


@pytest.mark.parametrize('write', [False, True])
def test_nonblocking_connect_is_as_native(tcp, write, tmp_path):
    policy = ['--net-allow', f':{tcp[0]}', *(['-w', tmp_path] if write else [])]
    control, ours = both(policy, NONBLOCKING, str(tcp[0]))
    assert control == ['EINPROGRESS', '0', 'ok', 'EISCONN']
    assert ours == control


def test_refused_connection_is_as_native(tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))  # bound, not listening
        port = s.getsockname()[1]
        for policy in ([], ['-w', tmp_path]):
            control, ours = both([*policy, '--net-allow', f':{port}'],
                                 't(lambda: inet(int(sys.argv[1])))', str(port))
            assert control == ['ECONNREFUSED'] == ours


def test_bad_addresses_are_as_native(tmp_path):
    code = '''
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    def raw(fd, data, size):
        ctypes.set_errno(0)
        libc.connect(fd, data, size)
        return errno.errorcode.get(ctypes.get_errno(), 'ok')
    u, i = socket.socket(socket.AF_UNIX), socket.socket()
    file = os.open('/etc/passwd', os.O_RDONLY)
    good = struct.pack('=H', socket.AF_UNIX) + b'/nowhere/x' + bytes(98)
    print(raw(u.fileno(), good, 110))
    print(raw(u.fileno(), good, 111), raw(u.fileno(), good, 2), raw(u.fileno(), good, 129))
    print(raw(u.fileno(), good, -1), raw(u.fileno(), None, 110), raw(99, good, 110))
    print(raw(file, good, 110), raw(u.fileno(), bytes(110), 110), raw(i.fileno(), b'', 0))
    print(raw(i.fileno(), bytes(16), 16), raw(i.fileno(), good, 110))
    '''
    control, ours = both(['-w', tmp_path], code)
    # The kernel's own two opinions about a family that is not the socket's.
    control, ours = ([l.replace('EAFNOSUPPORT', 'EINVAL') for l in v] for v in (control, ours))
    assert ours == control


def test_blocking_connect_ends_with_its_timeout_and_signals(silent_port, tmp_path):
    code = '''
    import signal, time
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 300000))
    t(lambda: s.connect(('127.0.0.1', int(sys.argv[1]))))
    class Alarm(Exception): pass
    def ring(*_): raise Alarm
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    start = time.monotonic()
    try:
        socket.socket().connect(('127.0.0.1', int(sys.argv[1])))
        print('connected')
    except Alarm:
        print('alarm', time.monotonic() - start < 5 * int(sys.argv[2]))
    '''
    control, ours = both(['-w', tmp_path, '--net-allow', f':{silent_port}'], code,
                         str(silent_port), str(SLOW))
    assert control == ['EINPROGRESS', 'alarm True']
    assert ours == control


BIND = '''
def bind(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('127.0.0.1', port))
    s.listen(1)
t(lambda: bind(int(sys.argv[1])))
t(lambda: bind(int(sys.argv[2])))
'''


def test_bind_is_denied_by_default_and_allowed_by_port():
    ports = free_ports(2)
    assert both([], BIND, *ports) == (['ok', 'ok'], ['EACCES', 'EACCES'])
    assert boxed(['--net-allow-bind', ports[0]], BIND, *ports).lines == ['ok', 'EACCES']
    assert boxed(['--net-allow-bind', '*'], BIND, *ports).lines == ['ok', 'ok']


# ---- listen (NB-01) ----

LISTEN = 't(lambda: socket.socket().listen(1))\nt(lambda: socket.socket(socket.AF_INET6).listen(1))'


def test_listen_without_bind():
    control, ours = both([], LISTEN)
    assert control[0] == 'ok' and ours == ['EACCES', 'EACCES']
    ports = free_ports(2)
    assert boxed(['--net-allow-bind', ports[0]], LISTEN).lines[0] == 'EACCES'
    assert boxed(['--net-allow-bind', '0'], LISTEN).lines[0] == 'ok'
    assert boxed(['--net-allow-bind', '*'], LISTEN).lines[0] == 'ok'


def test_listen_after_a_connection_was_undone(tcp):
    """getsockname still tells the connection's port, but listen would choose another."""
    code = '''
    import ctypes
    s = socket.socket()
    s.connect(('127.0.0.1', int(sys.argv[1])))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(s.fileno(), bytes(16), 16) == 0
    t(lambda: s.listen(1))
    '''
    control, ours = both(['--net-allow', f':{tcp[0]}'], code, str(tcp[0]))
    assert (control, ours) == (['ok'], ['EACCES'])


# ---- kinds of sockets (NR-04, NR-05) ----

KINDS = [
    ('udp', socket.AF_INET, socket.SOCK_DGRAM, 0),
    ('udp6', socket.AF_INET6, socket.SOCK_DGRAM, 0),
    ('udplite', socket.AF_INET, socket.SOCK_DGRAM, 136),
    ('ping', socket.AF_INET, socket.SOCK_DGRAM, 1),
    ('raw', socket.AF_INET, socket.SOCK_RAW, 1),
    ('mptcp', socket.AF_INET, socket.SOCK_STREAM, 262),
    ('sctp', socket.AF_INET, socket.SOCK_STREAM, 132),
    ('packet', 17, socket.SOCK_RAW, 0),
    ('alg', 38, socket.SOCK_SEQPACKET, 0),
    ('vsock', 40, socket.SOCK_STREAM, 0),
    ('xdp', 44, socket.SOCK_RAW, 0),
    ('can', 29, socket.SOCK_RAW, 1),
    ('uevent', 16, socket.SOCK_RAW, 15),
    ('audit', 16, socket.SOCK_RAW, 9),
]


@pytest.mark.parametrize('kind', KINDS, ids=[k[0] for k in KINDS])
def test_other_sockets_are_refused(kind):
    code = 't(lambda: socket.socket(*map(int, sys.argv[1:])).close())\nt(lambda: socket.socket().close())'
    control, ours = both([], code, *(str(int(k)) for k in kind[1:]))
    if control[0] != 'ok':
        pytest.skip(f'not possible here without the sandbox either: {control[0]}')
    assert ours[0] in ('EACCES', 'EAFNOSUPPORT', 'EPROTONOSUPPORT')
    assert ours[1] == 'ok', 'plain TCP sockets stay'


def test_fast_open_is_refused(tcp, tmp_path):
    code = '''
    where = ('127.0.0.1', int(sys.argv[1]))
    t(lambda: socket.socket().sendto(b'x', 0x20000000, where))
    t(lambda: socket.socket().sendmsg([b'x'], [], 0x20000000, where))
    t(lambda: socket.socket().setsockopt(socket.IPPROTO_TCP, 30, 1))
    '''
    control = bare(code, str(tcp[1])).lines
    if control != ['1', '1', 'ok']:
        pytest.skip('no fast open here')
    for policy in ([], ['--net-allow', f':{tcp[0]}'], ['-w', tmp_path]):
        assert boxed(policy, code, str(tcp[1])).lines == [errno.errorcode[errno.EOPNOTSUPP]] * 3


# ---- UNIX sockets (FG-05, NU-01) ----

UNIX = 'for p in sys.argv[1:]: t(lambda: unix(p))'


def test_unix_socket_needs_a_write_grant(places):
    assert both(['-w', places.inside], UNIX, places.near, places.far) == \
        (['in', 'out'], ['in', 'EACCES'])
    assert boxed(['-w', places.inside, '-r', places.outside], UNIX, places.far).lines == ['EACCES']
    assert boxed(['-w', places.inside, '-w', places.far], UNIX, places.far).lines == ['out']


def test_unix_sockets_without_write_grants(places):
    r = boxed(['-r', places.inside, '--stats'], UNIX, places.near)
    assert r.lines == ['EACCES']
    assert r.notified('connect') == 0 == r.notified('socket')


def test_unix_socket_by_any_spelling(places):
    os.symlink(places.far, places.inside / 'link')
    os.symlink(places.outside, places.inside / 'dir')
    spellings = [str(places.inside / 'link'), str(places.inside / 'dir' / 's'),
                 f'{places.inside}/../out/s', f'//{places.far}']
    control, ours = both(['-w', places.inside], UNIX, *spellings)
    assert control == ['out'] * 4
    assert ours == ['EACCES'] * 4
    code = 'os.chdir(sys.argv[1])\nfor p in ("s", "./s", "../out/s"): t(lambda: unix(p))'
    control, ours = both(['-w', places.inside], code, str(places.inside))
    assert (control, ours) == (['in', 'in', 'out'], ['in', 'in', 'EACCES'])


def test_unix_errors_are_as_native(places):
    (places.inside / 'file').write_text('')
    names = [f'{places.inside}/{n}' for n in ('none', 'file', 'deaf', 'dgram', 'file/x', 's/')]
    with socket.socket(socket.AF_UNIX) as a, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as b:
        a.bind(names[2])
        b.bind(names[3])
        control, ours = both(['-w', places.inside], UNIX, *names)
    assert control == ['ENOENT', 'ECONNREFUSED', 'ECONNREFUSED', 'EPROTOTYPE', 'ENOTDIR', 'ENOTDIR']
    assert ours == control


def test_own_unix_server(places):
    code = '''
    def serve(name):
        s = socket.socket(socket.AF_UNIX)
        s.bind(name)
        s.listen(1)
        c = socket.socket(socket.AF_UNIX)
        c.connect(name)
        return s.accept()[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:] \\
            == struct.pack('ii', os.getuid(), os.getgid())
    t(lambda: serve(sys.argv[1]))
    t(lambda: serve('\\0sandlock-test-' + str(os.getpid())))
    '''
    assert boxed(['-w', places.inside], code, str(places.inside / 'own')).lines == ['True', 'True']


def test_abstract_socket_of_the_outside(tmp_path):
    name = f'\0sandlock-test-{os.getpid()}-{time.time_ns()}'
    with server(name, b'out', socket.AF_UNIX):
        code = "t(lambda: unix('\\0' + sys.argv[1]))"
        assert both(['-w', tmp_path], code, name[1:]) == (['out'], ['EPERM'])


def test_full_queue_waits_and_times_out(places):
    """A listener that accepts nothing: EAGAIN without waiting, or after the socket's timeout."""
    name = str(places.inside / 'full')
    with socket.socket(socket.AF_UNIX) as s, contextlib.ExitStack() as keep:
        s.bind(name)
        s.listen(0)
        keep.enter_context(socket.socket(socket.AF_UNIX)).connect(name)
        code = '''
        import time
        for timeout in (None, (3, 0)):
            s = socket.socket(socket.AF_UNIX)
            if timeout is None:
                s.setblocking(False)
            else:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', *timeout))
            start = time.monotonic()
            t(lambda: s.connect(sys.argv[1]))
            print(time.monotonic() - start > 2)
        '''
        control, ours = both(['-w', places.inside], code, name)
        assert control == ['EAGAIN', 'False', 'EAGAIN', 'True']
        assert ours == control


PAIR = '''
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.send(b'one'); a.send(b'twotwo')
print(b.recv(100).decode(), b.recv(2).decode())
print(os.get_inheritable(a.fileno()))
b.setblocking(False)
t(lambda: b.recv(1))
t(lambda: b.sendto(b'secret', sys.argv[1]) and None)
try:
    b.sendmsg([b'secret'], [], 0, sys.argv[1])
except OSError:
    pass
'''


@pytest.mark.parametrize('write', [False, True])
def test_datagram_pairs_work_and_reach_nobody(places, write):
    name = str(places.outside / 'd')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(name)
        s.settimeout(0.2)
        assert bare(PAIR, name).lines == ['one tw', 'False', 'EAGAIN', 'ok']
        assert s.recv(100) == b'secret' == s.recv(100)
        r = boxed(['-w', places.inside] if write else [], PAIR, name)
        assert r.lines[:3] == ['one tw', 'False', 'EAGAIN']
        with pytest.raises(TimeoutError):
            s.recv(100)


def test_datagrams_reach_nobody_outside(places):
    name = str(places.outside / 'd')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(name)
        s.settimeout(0.2)
        code = '''
        for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
            t(lambda: socket.socket(socket.AF_UNIX, kind).sendto(b'x', sys.argv[1]) and None)
        '''
        assert bare(code, name).lines == ['ok', 'ok']
        assert s.recv(9) == b'x' == s.recv(9)
        assert boxed(['-w', places.inside], code, name).lines == ['EACCES', 'EACCES']
        with pytest.raises(TimeoutError):
            s.recv(9)


def test_deny_covers_sockets(places):
    """Inside a write grant: connect to a denied socket, bind below a denied directory."""
    denied = places.inside / 'no'
    denied.mkdir()
    code = '''
    t(lambda: unix(sys.argv[1]))
    t(lambda: socket.socket(socket.AF_UNIX).bind(sys.argv[2] + '/b'))
    t(lambda: socket.socket(socket.AF_UNIX).bind(sys.argv[3] + '/b'))
    t(lambda: socket.socket(socket.AF_UNIX).bind(sys.argv[3] + '/b'))
    '''
    with server(str(denied / 's'), b'out', socket.AF_UNIX):
        args = [str(denied / 's'), str(denied), str(places.inside)]
        assert bare(code, *args).lines == ['out', 'ok', 'ok', 'EADDRINUSE']
        for d in (denied, places.inside):
            os.unlink(d / 'b')
        assert boxed(['-w', places.inside, '--fs-deny', denied], code, *args).lines == \
            ['EACCES', 'EACCES', 'ok', 'EADDRINUSE']
        assert not (denied / 'b').exists() and (places.inside / 'b').is_socket()


# ---- netlink (NL-01) ----

def test_netlink_shows_lo_alone():
    code = 'print(sorted(n for _, n in socket.if_nameindex()))'
    assert 'lo' in bare(code).lines[0]
    r = boxed(['--stats'], code)
    assert r.lines == ["['lo']"]
    assert r.notified('socket') == 1, 'seen through our socket'
    helper = HELPERS / 'net_ifaddrs'
    assert 'lo 127.0.0.1' in execute([helper]).lines
    r = execute([SANDLOCK, 'run', '-r', helper, '--', helper])
    assert r.code == 0, r.err
    assert set(r.lines) - {'lo ::1'} == {'lo -', 'lo 127.0.0.1'}


def test_netlink_of_musl(tmp_path):
    """Reads its answer without waiting for it."""
    cc = shutil.which('musl-gcc')
    if not cc:
        pytest.skip('no musl-gcc')
    helper = tmp_path / 'ifaddrs'
    subprocess.run([cc, '-static', '-o', helper, ROOT / 'tests/helpers/net_ifaddrs.c'], check=True)
    for _ in range(20):
        r = execute([SANDLOCK, 'run', '-r', helper, '--', helper])
        assert r.code == 0 and 'lo 127.0.0.1' in r.lines, r.err


def test_netlink_again_and_again():
    """Who opens and closes is faster than the thread that notices; 256 at a time there may be. (Of those that were
    closed just now each receiver may still hold one: it closes its own end after the command has the other.)"""
    code = """
        def one(): return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        for i in range(20): [s.close() for s in [one() for _ in range(250)]]
        held = []
        try:
            while len(held) < 900: held.append(one())
        except OSError as e: print(len(held), errno.errorcode[e.errno])
        print(len(held))
    """
    assert bare(code).lines == ['900']
    assert boxed([], code).lines == ['256 ENOBUFS', '256']


def test_netlink_changes_are_refused():
    code = '''
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.bind((0, 0))
    print(s.getsockname()[0] > 0)
    message = struct.pack('=IHHIIBBHiII', 32, 16, 5, 1, 0, 0, 0, 0, 1, 0, 1)  # RTM_NEWLINK lo down
    for _ in range(2):
        s.send(message)
        print(struct.unpack_from('=i', s.recv(4096), 16)[0])
    t(lambda: s.bind((0, 0)))
    '''
    assert boxed([], code).lines == ['True', '-1', '-1', 'ok']


@pytest.mark.skipif(not shutil.which('ip'), reason='no iproute2')
def test_ip_command():
    for words in ('addr', 'link show lo', 'addr show dev lo', 'route'):
        argv = ['ip', *words.split()]
        assert execute(argv).code == 0
        r = execute([SANDLOCK, 'run', *SYSTEM, '--', *argv])
        assert r.code == 0, r.err
        links = [l.split(':')[1].strip() for l in r.lines if re.match(r'\d+:', l)]
        assert links == (['lo'] if words != 'route' else [])


# ---- host name (PV-01) ----

def test_host_name():
    code = 'print(os.uname().nodename, socket.gethostname(), os.uname().sysname, os.uname().release)'
    host = bare(code).lines[0].split()
    assert boxed([], code).lines[0].split() == host
    assert boxed(['--name', 'a-box'], code).lines[0].split() == ['a-box', 'a-box', *host[2:]]
    fault = '''
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    print(libc.uname(ctypes.c_void_p(8)), errno.errorcode[ctypes.get_errno()])
    '''
    assert both(['--name', 'a-box'], fault) == (['-1 EFAULT'], ['-1 EFAULT'])


# ---- races ----


def test_without_pidfd_getfd(places, tcp):
    """Sockets are made on behalf and kept; without a bind grant nobody listens."""
    code = ('t(lambda: unix(sys.argv[1]))\nt(lambda: unix(sys.argv[2]))\n'
            't(lambda: inet(int(sys.argv[3])))\nt(lambda: inet(int(sys.argv[4])))\nt(lambda: socket.socket().listen(1))\n'
            't(lambda: socket.socketpair() and None)\n'
            'print(sorted(n for _, n in socket.if_nameindex()))')
    r = execute([PYTHON, '-c', DOCKER, SANDLOCK, 'run', *SYSTEM, '-w', places.inside,
                 '--net-allow', f':{tcp[0]}', '--', PYTHON, '-c', PRELUDE + code, places.near,
                 places.far, *tcp])
    assert r.code == 0, r.err
    assert r.lines == ['in', 'EACCES', 'in', 'EACCES', 'EACCES', 'ok', "['lo']"]
    report = execute([PYTHON, '-c', DOCKER, SANDLOCK, 'check'])
    assert re.search(r'pidfd_getfd +NO\b', '\n'.join(report.lines))


def race(policy, *args, expect=0, front=()):
    helper = HELPERS / 'net_race'
    r = execute([*front, SANDLOCK, 'run', '-r', helper, *policy, '--', helper, *args], timeout=90)
    assert r.code == expect, r.err
    return r.lines


@pytest.mark.parametrize('front', [(), (PYTHON, '-c', DOCKER)], ids=['', 'contained'])
def test_race_on_the_address(places, front):
    control = execute([HELPERS / 'net_race', 'path', '30', places.near, places.far])
    assert control.code == 9, 'the attack works without the sandbox'
    words = race(['-w', places.inside], 'path', SECONDS, places.near, places.far,
                 front=front)[0].split()
    assert words[0] == 'reached' and int(words[3]) > 0


def test_race_on_the_descriptor(places, tcp):
    control = execute([HELPERS / 'net_race', 'fd', '30', places.far, str(tcp[1])])
    assert control.code == 9
    for port in tcp:
        race(['-w', places.inside, '--net-allow', f':{tcp[0]}'], 'fd', SECONDS, places.far,
             str(port if port != tcp[0] else 1))


def test_race_on_blocking_does_not_outlive_the_timeout(silent_port, tmp_path):
    start = time.monotonic()
    race(['-w', tmp_path, '-t', '1', '--net-allow', f':{silent_port}'], 'block', '60',
         str(silent_port), expect=124)
    assert time.monotonic() - start < 15 * SLOW


# ---- --explain (EX-10) ----

def test_explain_names_what_would_allow_it(places, tcp):
    code = '''
    for f in (lambda: open(sys.argv[1]), lambda: unix(sys.argv[2]), lambda: inet(int(sys.argv[3])),
              lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
              lambda: os.mkdir('/usr/new'), lambda: socket.socket().listen(1)):
        for _ in range(3):
            t(f)
    '''
    (places.outside / 'file').write_text('x')
    args = [str(places.outside / 'file'), places.far, str(tcp[1])]
    r = boxed(['-w', places.inside, '--explain'], code, *args)
    assert set(r.lines) == {'EACCES'}
    told = '\n'.join(r.denied)
    for pattern in (
            rf'denied: open {args[0]} \(Permission denied\) by python3\S*\[\d+\]: .*-r {args[0]}',
            rf'denied: connect {args[1]} \(Permission denied\) .*-w {args[1]}',
            rf'denied: connect 127\.0\.0\.1:{args[2]} \(Permission denied\) .*--net-allow :{args[2]}',
            r'denied: socket AF_INET SOCK_DGRAM 0 \(Permission denied\) .*UDP',
            r'denied: mkdir /usr/new \(Permission denied\) .*-w /usr',
            r'denied: listen .*--net-allow-bind'):
        assert len(re.findall(pattern, told)) == 1, f'{pattern} in\n{told}'
    quiet = boxed(['-w', places.inside], code, *args)
    assert quiet.lines == r.lines and not quiet.denied


def test_explain_escapes(tmp_path):
    (tmp_path / 'a\x1b[31m\n').write_text('x')
    r = boxed(['--explain'], 't(lambda: open(sys.argv[1]))', str(tmp_path / 'a\x1b[31m\n'))
    assert r.lines == ['EACCES']
    assert '\x1b' not in r.err and r'a\x1b[31m\x0a' in r.err


def test_explain_to_a_file(tmp_path):
    out = tmp_path / 'why'
    r = boxed([f'--explain={out}'], 't(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))')
    assert r.lines == ['EACCES'] and not r.denied
    assert re.search(r'^\d{4}-\d\d-\d\dT\S+Z sandlock: denied: socket AF_INET SOCK_DGRAM',
                     out.read_text(), re.M)


def test_explain_keeps_refusals(places):
    """What the filter refuses is not performed by a handler just because it is notified."""
    r = boxed(['-w', places.inside, '--explain', '--extra-deny-syscall', 'connect'], UNIX,
              places.near)
    assert r.lines == ['EPERM']
    assert boxed(['-w', places.inside, '--explain'], UNIX, places.near).lines == ['in']
