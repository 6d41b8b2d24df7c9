# SPDX-License-Identifier: Apache-2.0
"""Rules per host, address and port: what is allowed arrives and everything else is refused before a
packet leaves; calls behave as native; names; denied binds; the private port space; real programs.
Loopback only. Each denial has its control, the same program without the sandbox or with the rule.
"""
import contextlib
import os
import re
import socket
import subprocess
import textwrap
import time

import pytest

from common import DOCKER, IN_VM, SANDLOCK, SLOW, SYSTEM as COMMON
from net_common import PYTHON, Server, execute, free_ports

SYSTEM = [*COMMON, '-r', '/dev/null', '-r', '/dev/urandom']

PRELUDE = '''
import array, errno, os, socket, struct, sys
def t(f):
    """Prints the result, or the name of the error."""
    try:
        r = f()
        print('ok' if r is None else r, flush=True)
    except OSError as e:
        print(errno.errorcode.get(e.errno, repr(e)), flush=True)
def tcp(port, host='127.0.0.1', family=socket.AF_INET):
    with socket.socket(family) as s:
        s.connect((host, port))
        return s.recv(10).decode()
def udp(port, host='127.0.0.1', family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        return s.sendto(b'udp', (host, port))
P = [int(a) for a in sys.argv[1:] if a.isdigit()]
'''


def bare(code, *args):
    r = execute([PYTHON, '-c', PRELUDE + textwrap.dedent(code), *args])
    assert r.code == 0, r.err
    return r.lines


def boxed(policy, code, *args, **options):
    r = execute([SANDLOCK, 'run', *SYSTEM, *policy, '--stats', '--', PYTHON, '-c',
                 PRELUDE + textwrap.dedent(code), *args], **options)
    assert r.code == 0, r.err
    return r


@pytest.fixture
def near():
    s = Server('127.0.0.1', b'near')
    yield s
    s.close()


@pytest.fixture
def far(near):
    for _ in range(20):
        with contextlib.suppress(OSError):
            s = Server('127.0.0.2', b'far', near.port)
            break
    else:
        pytest.skip('the port is taken on 127.0.0.2')
    yield s
    s.close()


HAS_IPV6 = os.path.exists('/proc/net/if_inet6') and '0000000000000001' in open('/proc/net/if_inet6').read()

# ---- what arrives ----

REACH = '''
for host in ('127.0.0.1', '127.0.0.2'):
    t(lambda: tcp(P[0], host))
    t(lambda: udp(P[0], host))
'''
ALL = ['near', '3', 'far', '3']
REFUSED = 'ECONNREFUSED'


@pytest.mark.parametrize('policy, want', [
    (['--net-allow', '127.0.0.1:{}'], ['near', '3', REFUSED, REFUSED]),
    (['--net-allow', '127.0.0.1'], ['near', '3', REFUSED, REFUSED]),
    (['--net-allow', 'tcp://127.0.0.1:{}'], ['near', 'EACCES', REFUSED, 'EACCES']),
    (['--net-allow', 'udp://127.0.0.1:{}'], ['EACCES', '3', 'EACCES', REFUSED]),
    (['--net-allow', '127.0.0.1:1'], [REFUSED] * 4),
    (['--net-allow', '127.0.0.0/8'], ALL),
    (['--net-allow', '127.0.0.0/31:{}'], ['near', '3', REFUSED, REFUSED]),
    (['--net-allow', '*:{}'], ALL),
    (['--net-allow', '*'], ALL),
    (['--net-allow', '[::ffff:127.0.0.1]:{}'], ['near', '3', REFUSED, REFUSED]),
    (['--net-deny', '127.0.0.2'], ['near', '3', REFUSED, REFUSED]),
    (['--net-deny', '127.0.0.2:1'], ALL),
    (['--net-deny', 'udp://127.0.0.1'], ['near', REFUSED, 'far', '3']),
    (['--net-allow', '127.0.0.0/8', '--net-deny', '127.0.0.2/32:{}'], ['near', '3', REFUSED, REFUSED]),
    (['--net-allow', ':{}', '--net-deny', '127.0.0.2'], ['near', 'EACCES', REFUSED, 'EACCES']),
    (['--net-allow', ':{}'], ['near', 'EACCES', 'far', 'EACCES']),
    ([], ['EACCES'] * 4),
], ids=lambda v: ' '.join(v)[:60] if v and v[0].startswith('--') else '')
def test_who_is_reached(near, far, policy, want):
    assert bare(REACH, str(near.port)) == ALL
    near.datagrams(), far.datagrams()
    accepted = near.accepted, far.accepted
    r = boxed([p.format(near.port) for p in policy], REACH, str(near.port))
    assert r.lines == want
    time.sleep(0.05)
    assert (near.accepted - accepted[0], far.accepted - accepted[1]) == \
        (want[0] == 'near', want[2] == 'far')
    assert [len(s.datagrams()) for s in (near, far)] == [want[1] == '3', want[3] == '3']
    if policy in ([], ['--net-allow', ':{}'], ['--net-allow', '*']):
        assert r.notified('connect') == 0 == r.notified('sendto'), 'the kernel alone'


def test_forms_of_an_address(near, far):
    if not HAS_IPV6:
        pytest.skip('no IPv6 here')
    code = '''
    for host in ('::ffff:127.0.0.1', '::ffff:127.0.0.2'):
        t(lambda: tcp(P[0], host, socket.AF_INET6))
        t(lambda: udp(P[0], host, socket.AF_INET6))
    t(lambda: tcp(P[0], '0.0.0.0'))
    t(lambda: tcp(0))
    '''
    assert bare(code, str(near.port)) == ALL + ['near', 'ECONNREFUSED']
    assert boxed(['--net-allow', f'127.0.0.1:{near.port}'], code, str(near.port)).lines == \
        ['near', '3', REFUSED, REFUSED, 'near', REFUSED]
    assert boxed(['--net-deny', '127.0.0.2', '--net-deny', '0.0.0.0/8'], code,
                 str(near.port)).lines == ['near', '3', REFUSED, REFUSED, 'near', REFUSED]


def test_explain_names_what_would_allow_it(near, far):
    r = boxed(['--explain', '--net-allow', f'127.0.0.1:{near.port}', '--net-deny', '127.0.0.3'],
              REACH + "t(lambda: tcp(P[0], '127.0.0.3'))", str(near.port))
    assert r.lines == ['near', '3', REFUSED, REFUSED, REFUSED]
    said = [l for l in r.err.splitlines() if 'denied: connect' in l or 'denied: sendto' in l]
    assert len(said) == 3
    assert said[0].endswith(f'allow with: --net-allow tcp://127.0.0.2:{near.port}')
    assert said[1].endswith(f'allow with: --net-allow udp://127.0.0.2:{near.port}')
    assert 'denied by --net-deny' in said[2]


# ---- as native ----

MESSAGES = '''
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def mmsg(fd, hosts):
    """sendmmsg with one message to each; the result and the lengths."""
    n = len(hosts)
    head, names = bytearray(), []
    data = ctypes.create_string_buffer(b'message')
    iov = ctypes.create_string_buffer(struct.pack('QQ', ctypes.addressof(data), 7))
    for h in hosts:
        a = struct.pack('=HH4s8x', socket.AF_INET, socket.htons(P[0]), socket.inet_aton(h))
        names.append(ctypes.create_string_buffer(a, 16))
        head += struct.pack('QIxxxxQQQQIxxxxIxxxx', ctypes.addressof(names[-1]), 16,
                            ctypes.addressof(iov), 1, 0, 0, 0, 99)
    buf = ctypes.create_string_buffer(bytes(head), len(head))
    ctypes.set_errno(0)
    r = libc.sendmmsg(fd, buf, n, 0)
    lens = [struct.unpack_from('I', buf, 64 * i + 56)[0] for i in range(n)]
    return r, errno.errorcode.get(ctypes.get_errno()), lens
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a, b = '127.0.0.1', '127.0.0.2'
print(mmsg(s.fileno(), [a, a]))
print(mmsg(s.fileno(), [a, b, a]))
print(mmsg(s.fileno(), [b, a]))
t(lambda: s.sendmsg([b'x' * 1000, b'y' * 500], [], 0, (a, P[0])))
t(lambda: s.sendto(b'x' * 65507, (a, P[0])))
t(lambda: s.sendto(b'x' * 65508, (a, P[0])))
t(lambda: s.sendto(b'x' * 100000, (a, P[0])))
t(lambda: s.sendmsg([b'x'], [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack('i', 5))], 0, (a, P[0])))
s.connect((a, P[0]))
t(lambda: s.send(b'connected'))
t(lambda: s.sendmsg([b'connected']))
t(lambda: s.sendto(b'x', (b, P[0])))
'''


def test_messages(near, far):
    native = bare(MESSAGES, str(near.port))
    assert native[:2] == ["(2, None, [7, 7])", "(3, None, [7, 7, 7])"]
    near.datagrams(), far.datagrams()
    ours = boxed(['--net-allow', '127.0.0.1'], MESSAGES, str(near.port)).lines
    assert ours == ["(2, None, [7, 7])", "(1, None, [7, 99, 99])", "(-1, 'ECONNREFUSED', [99, 99])",
                    *native[3:-1], REFUSED]
    assert [len(d) for d in near.datagrams()] == [7, 7, 7, 1500, 65507, 1, 9, 9]
    assert far.datagrams() == []
    assert boxed(['--net-allow', '127.0.0.0/8'], MESSAGES, str(near.port)).lines == native


def test_established_traffic_is_not_notified(near):
    code = '''
    a, b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    a.connect(('127.0.0.1', P[0])); b.connect(('127.0.0.1', P[0]))
    for _ in range(50):
        a.send(b'x')
    b.recv(10)
    '''
    r = boxed(['--net-allow', '127.0.0.1'], code, str(near.port))
    assert r.notified('connect') == 2
    assert r.notified('sendto') == 0 == r.notified('recvfrom')


STREAM = '''
import signal, threading
a, b = socket.socketpair()
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(1)
c = socket.socket(); c.connect(l.getsockname()); d, _ = l.accept()
def drain(s, n):
    got = 0
    while got < n:
        got += len(s.recv(65536))
    print(got, flush=True)
for x, y in ((a, b), (c, d)):
    th = threading.Thread(target=drain, args=(y, 3000000), daemon=True); th.start() # no wait after a failure
    sent = 0
    big = memoryview(bytes(3000000))
    while sent < 3000000:
        sent += x.sendmsg([big[sent:sent + 100], big[sent + 100:]])
    th.join()
    x.setblocking(False)
    n = 0
    try:
        while True:
            n += x.sendmsg([big])
    except BlockingIOError:
        print('full', n > 0)
    y.close()
    t(lambda: x.sendmsg([b'x']))
    t(lambda: [x.sendmsg([b'x']) for _ in range(3)])
a, b = socket.socketpair()
r, w = os.pipe()
socket.send_fds(a, [b'fd'], [w, w])
_, fds, _, _ = socket.recv_fds(b, 10, 4)
os.write(fds[1], b'through'); print(len(fds), os.read(r, 10))
t(lambda: a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [999]))]))
signal.signal(signal.SIGPIPE, lambda *_: print('SIGPIPE', flush=True))
b.close()
t(lambda: a.sendmsg([b'x']))
'''


def test_streams_where_sendmsg_is_mediated():
    native = bare(STREAM)
    r = boxed(['--net-allow', '127.0.0.1', '--net-allow-bind', '0'], STREAM)
    assert r.notified('sendmsg') > 0
    assert r.lines == native


WAITING = '''
import select, signal, time
s = socket.socket()
s.setblocking(False)
t(lambda: s.connect(('127.0.0.1', P[0])))
select.select([], [s], [], 10)
print(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
t(lambda: s.connect(('127.0.0.1', P[0])))
t(lambda: s.connect(('127.0.0.1', P[0])))
u = socket.socket()
t(lambda: u.connect(('127.0.0.1', P[1])))
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 200000))
t(lambda: s.connect(('127.0.0.1', P[2])))
n = socket.socket()
n.setblocking(False)
t(lambda: n.connect(('127.0.0.1', P[2])))
t(lambda: n.connect(('127.0.0.1', P[2])))
class Alarm(Exception): pass
def ring(*_): raise Alarm
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    socket.socket().connect(('127.0.0.1', P[2]))
    print('connected')
except Alarm:
    print('alarm')
'''


def test_waiting_connects_are_as_native(near):
    with socket.socket() as deaf, socket.socket() as silent, contextlib.ExitStack() as keep:
        deaf.bind(('127.0.0.1', 0))  # bound, not listening
        silent.bind(('127.0.0.1', 0))
        silent.listen(0)
        for _ in range(4):
            c = keep.enter_context(socket.socket())
            c.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                c.connect(silent.getsockname())
        time.sleep(0.1)
        ports = [str(p) for p in (near.port, deaf.getsockname()[1], silent.getsockname()[1])]
        native = bare(WAITING, *ports)
        assert native == ['EINPROGRESS', '0', 'ok', 'EISCONN', 'ECONNREFUSED', 'EINPROGRESS',
                          'EINPROGRESS', 'EALREADY', 'alarm']
        assert boxed(['--net-allow', 'tcp://127.0.0.1'], WAITING, *ports).lines == native


def test_many_waiting_connects(near):
    """As many threads of a client as a crawler has, each in a connect that does not come about."""
    code = '''
    import threading
    got = []
    def one():
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 1, 0))
        try:
            s.connect(('127.0.0.1', P[0]))
            got.append(0)
        except OSError as e:
            got.append(e.errno)
    all = [threading.Thread(target=one) for _ in range(int(P[1]))]
    for th in all: th.start()
    for th in all: th.join()
    print(len(got), set(got) <= {0, errno.EINPROGRESS})
    '''
    with socket.socket() as silent, contextlib.ExitStack() as keep:
        silent.bind(('127.0.0.1', 0))
        silent.listen(0)
        for _ in range(4):
            c = keep.enter_context(socket.socket())
            c.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                c.connect(silent.getsockname())
        port = str(silent.getsockname()[1])
        many = '40' if IN_VM else '150'
        assert bare(code, port, many) == [f'{many} True']
        assert boxed(['--net-allow', 'tcp://127.0.0.1'], code, port, many).lines == [f'{many} True']


def test_options_that_route_elsewhere_are_refused(near):
    code = '''
    s = socket.socket()
    t(lambda: s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 131, 7, 4, 127, 0, 0, 2])))
    t(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262))
    t(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136))
    t(lambda: s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 9))
    six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    t(lambda: six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RTHDR, bytes([0, 2, 4, 0, 0, 0, 0, 0, 0xfd, *[0] * 14, 3])))
    '''
    native = bare(code)
    # Source routes of IPv4 are for those with rights, segments of IPv6 for everybody whose kernel has them.
    assert native[0] in ('ok', 'EPERM') and native[3] == 'ok' and native[4] in ('ok', 'EINVAL')
    if os.geteuid() and native[4] != 'ok':
        pytest.skip('nothing can be routed here without the sandbox either')
    assert boxed(['--net-allow', '127.0.0.1'], code).lines == ['EPERM', 'EACCES', 'EACCES', 'ok', 'EPERM']


def test_flow_labels_bring_no_options():
    """Behind the request for a label there may be a routing header (type 2, where the kernel has mobile IPv6: it refuses
    others itself), with which each datagram that names the label goes somewhere else first."""
    code = '''
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    def label(number, behind):
        request = socket.inet_pton(socket.AF_INET6, '::1') + struct.pack('!I', number) + struct.pack('=BBHHHI', 0, 1, 3, 60, 6, 0)
        s.setsockopt(socket.IPPROTO_IPV6, 32, request + behind)
    route = struct.pack('=BBBB4x', 0, 2, 2, 1) + socket.inet_pton(socket.AF_INET6, 'fd77::3')
    mine = os.getpid() & 0xffff | 0x10000
    t(lambda: label(mine, b''))
    t(lambda: label(mine + 1, struct.pack('=QIIii', 20, socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, 9, 0)))
    t(lambda: label(mine + 2, struct.pack('=QII', 40, socket.IPPROTO_IPV6, socket.IPV6_RTHDR) + route))
    '''
    native = bare(code)
    if 'ok' not in native:
        pytest.skip(f'no flow labels here: {native}')
    assert native[:2] == ['ok', 'ok'] and native[2] in ('ok', 'EINVAL')
    for rule in ('[::1]', 'udp://[::1]:9'):
        assert boxed(['--net-allow', rule], code).lines == ['ok', 'EPERM', 'EPERM']


# ---- where pidfd_getfd is refused (Docker's default profile; 438 on every machine) ----


def contained(policy, code, *args):
    r = execute([PYTHON, '-c', DOCKER, SANDLOCK, 'run', *SYSTEM, *policy, '--', PYTHON, '-c',
                 PRELUDE + textwrap.dedent(code), *args])
    assert r.code == 0, r.err
    return r.lines


def test_in_a_container(near, far):
    port = str(near.port)
    assert contained(['--net-allow', f'127.0.0.1:{port}'], REACH, port) == ['near', '3', REFUSED, REFUSED]
    assert contained(['--net-deny', '127.0.0.2'], REACH, port) == ['near', '3', REFUSED, REFUSED]
    a, b = free_ports(2)
    assert contained(['--net-deny-bind', b], BIND, a, b) == ['ok', 'EACCES', 'EACCES', 'ok', 'ok']
    assert contained(['--net-allow-bind', a], BIND, a, b) == ['ok', 'EACCES', 'EACCES', 'EACCES', 'EACCES']
    code = '''
    import select
    s = socket.socket(); s.setblocking(False)
    try:
        s.connect(('127.0.0.1', P[0]))
    except BlockingIOError:
        print('EINPROGRESS')
    select.select([], [s], [], 10)
    print(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    for _ in range(1200): # more than are kept at once
        socket.socket().close()
    t(lambda: tcp(P[0]))
    '''
    assert contained(['--net-allow', f'tcp://127.0.0.1:{port}'], code, port) == ['EINPROGRESS', '0', 'near']


def test_a_kept_socket_does_not_outlive_its_last_descriptor():
    code = '''
    s = socket.socket(); s.connect(('127.0.0.1', P[0])); s.close()
    import time
    time.sleep(60)
    '''
    with socket.create_server(('127.0.0.1', 0)) as server:
        p = subprocess.Popen([str(a) for a in (
            PYTHON, '-c', DOCKER, SANDLOCK, 'run', *SYSTEM, '--net-allow', '127.0.0.1', '--', PYTHON, '-c', PRELUDE + textwrap.dedent(code),
            server.getsockname()[1])], stdout=subprocess.PIPE, text=True)
        try:
            server.settimeout(30 * SLOW)
            c, _ = server.accept()
            c.settimeout(30 * SLOW)
            assert c.recv(1) == b'', 'closed while the sandbox runs'
            c.close()
        finally:
            p.kill()
            p.wait()
            p.stdout.close()


# ---- names ----

NAMES = '''
def resolve(name):
    try:
        return sorted({i[4][0] for i in socket.getaddrinfo(name, 80, socket.AF_INET)})
    except socket.gaierror as e:
        return {socket.EAI_NONAME: 'unknown', socket.EAI_AGAIN: 'again'}.get(e.errno, str(e))
def dns(name, server='10.255.255.53'):
    """What a program asks that does not read /etc/hosts: a query over a connected socket."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.connect((server, 53))
    q = b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0'
    q += b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0\\0\\1\\0\\1'
    s.send(q)
    a = s.recv(512)
    return a[3] & 15, socket.inet_ntoa(a[-4:]) if a[7] else None
'''


def test_denials_win_over_names(near):
    """Whoever owns a name may give it the address of this machine."""
    code = NAMES + "t(lambda: tcp(P[0], 'localhost'))"
    rule = ['--net-allow', f'localhost:{near.port}']
    assert boxed(rule, code, str(near.port)).lines == ['near']
    for denial in ('127.0.0.1', '127.0.0.0/8', f'127.0.0.1:{near.port}'):
        assert boxed([*rule, '--net-deny', denial], code, str(near.port)).lines == [REFUSED]


def test_names_are_pinned_and_shown(near):
    code = NAMES + '''
    print(resolve('localhost'), resolve('other.example'))
    t(lambda: tcp(P[0], 'localhost'))
    print(dns('localhost'), dns('other.example'))
    print('localhost' in open('/etc/hosts').read(), len(open('/etc/hosts').readlines()) < 6)
    f = open('/etc/hosts')
    print(len(f.read()) == os.stat('/etc/hosts').st_size == os.lstat('/etc/hosts').st_size
          == os.fstat(f.fileno()).st_size, os.stat('/etc/hosts').st_ino == os.fstat(f.fileno()).st_ino)
    t(lambda: open('/etc/hosts', 'a'))
    '''.replace('\n    ', '\n')
    r = boxed(['--net-allow', f'localhost:{near.port}'], code, str(near.port))
    assert r.lines == ["['127.0.0.1'] unknown", 'near', "(0, '127.0.0.1') (3, None)", 'True True',
                       'True True', 'EACCES']
    r = boxed(['--net-allow', f'localhost:{near.port}', '--explain'], NAMES + "dns('other.example')")
    assert 'sandlock: denied: host name other.example: no rule names it; allow with: ' \
        '--net-allow other.example' in r.err
    # No UDP rule: nobody can be asked, and the name is in the file.
    code = NAMES + "print(resolve('localhost'))\nt(lambda: tcp(P[0], 'localhost'))"
    assert boxed(['--net-allow', f'tcp://localhost:{near.port}'], code, str(near.port)).lines == \
        ["['127.0.0.1']", 'near']


def test_answers_come_from_who_was_asked(near):
    """As musl and c-ares ask: unconnected, and an answer from anybody else is dropped."""
    code = NAMES + '''
    server = ('10.255.255.53', 53)
    q = b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\x09localhost\\0\\0\\1\\0\\1'
    for blocking in (True, False):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.setblocking(blocking)
        s.sendto(q, server)
        if not blocking:
            import select
            select.select([s], [], [], 20)
        data, ancillary, flags, source = s.recvmsg(512)
        print(len(data), ancillary, flags, source == server)
        s.sendto(q, server)
        data, source = s.recvfrom(20) if blocking else (select.select([s], [], [], 20) and s.recvfrom(20))
        print(len(data), source == server)
    t(lambda: s.recvfrom(10))
    '''.replace('\n    ', '\n')
    r = boxed(['--net-allow', f'localhost:{near.port}'], code)
    assert r.lines == ['43 [] 0 True', '20 True'] * 2 + ['EAGAIN']


def test_own_answers_only_without_a_rule_for_the_server(near):
    """A rule that opens a name server is used as it is."""
    code = NAMES + "t(lambda: dns('localhost', '127.0.0.1'))"
    r = boxed(['--net-allow', 'localhost:53'], code)
    assert r.lines == [REFUSED], 'sent there, where nobody listens'
    r = boxed(['--net-allow', f'localhost:{near.port}', '--net-deny', '10.0.0.0/8'], NAMES +
              "t(lambda: dns('localhost'))")
    assert r.lines == [REFUSED], 'a denial is no redirection'


def test_unresolvable_name_starts_nothing(tmp_path):
    witness = tmp_path / 'ran'
    r = execute([SANDLOCK, 'run', *SYSTEM, '-w', tmp_path, '--net-allow', 'nowhere.invalid:80', '--',
                 'touch', witness])
    assert r.code == 125 and len(r.err.splitlines()) == 1
    assert '--net-allow: cannot resolve "nowhere.invalid"' in r.err
    assert not witness.exists()


@pytest.mark.parametrize('option, rule', [
    ('--net-allow', 'localhost:80x'), ('--net-allow', '10.0.0.0/33'), ('--net-allow', 'ftp://localhost'),
    ('--net-allow', 'icmp://localhost:1'), ('--net-allow', '[::1'), ('--net-allow', 'localhost:*,80'),
    ('--net-allow', '::1:80'), ('--net-deny', 'udp://fd00::1:53'), ('--net-deny', 'localhost'),
    ('--net-allow-bind', '70000'), ('--net-deny-bind', '9-1')])
def test_a_wrong_rule_starts_nothing(option, rule, tmp_path):
    witness = tmp_path / 'ran'
    command = ['-w', tmp_path, '--', 'touch', witness]
    r = execute([SANDLOCK, 'run', *SYSTEM, option, rule, *command])
    assert r.code == 2 and len(r.err.splitlines()) == 1 and option in r.err, r.err
    assert rule.partition(':')[2] in r.err
    assert not witness.exists()
    assert execute([SANDLOCK, 'run', *SYSTEM, '--net-allow', 'localhost:80', *command]).code == 0 and witness.exists()


def test_proc_net_shows_the_own_sockets(near):
    code = '''
    l = socket.socket(); l.bind(('127.0.0.1', P[0])); l.listen(1)
    for name in ('tcp', 'udp', 'dev', 'route', 'if_inet6', 'unix'):
        text = open('/proc/net/' + name).read()
        print(name, len(text.splitlines()), 'eth' in text, f'0100007F:{P[0]:04X}' in text)
    '''
    rows = bare('print(open("/proc/net/tcp").read().count("\\n"))')
    assert int(rows[0]) >= 2, 'the control shows the listener of this test'
    r = boxed(['-r', '/proc', '--port-remap', '--net-allow-bind', '*'], code, str(near.port))
    inet6 = f'if_inet6 {int(HAS_IPV6)} False False'
    assert r.lines[:4] == ['tcp 2 False True', 'udp 1 False False', 'dev 3 False False',
                           'route 1 False False']
    assert r.lines[4] == inet6


def test_names_are_looked_up_again(tmp_path):
    """In a mount namespace whose /etc/hosts is ours to change."""
    hosts = tmp_path / 'hosts'
    hosts.write_text('127.0.0.1 moving.test\n')
    inside = ['unshare', '-m', 'sh', '-c', f'mount --bind {hosts} /etc/hosts && exec "$@"', 'sh']
    if os.getuid() != 0 or execute([*inside, 'true']).code != 0:
        pytest.skip('cannot mount here')
    code = PRELUDE + '''
import time
def now():
    return {i[4][0] for i in socket.getaddrinfo('moving.test', 80, socket.AF_INET)}
print(now(), flush=True)
while '127.0.0.2' not in now():
    time.sleep(0.1)
print(sorted(now()))
t(lambda: tcp(P[0], '127.0.0.2'))
t(lambda: tcp(P[0], '127.0.0.3'))
'''
    server = Server('127.0.0.2', b'far')
    p = subprocess.Popen([str(a) for a in (
        *inside, SANDLOCK, 'run', *SYSTEM, '--net-allow', f'moving.test:{server.port}',
        '--dns-refresh', '0.2', '-t', 60 * SLOW, '--', PYTHON, '-c', code, server.port)],
        stdout=subprocess.PIPE, text=True)
    with p:
        assert p.stdout.readline() == "{'127.0.0.1'}\n"
        hosts.write_text('127.0.0.2 moving.test\n')
        assert p.stdout.read().split('\n')[:-1] == ["['127.0.0.1', '127.0.0.2']", 'far', REFUSED]
    assert p.returncode == 0
    server.close()


# ---- binding ----

BIND = '''
def bind(port, kind=socket.SOCK_STREAM, listen=True):
    s = socket.socket(socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('127.0.0.1', port))
    if kind == socket.SOCK_STREAM:
        s.listen(1)
for p in P[:2]:
    t(lambda: bind(p))
t(lambda: bind(P[1], socket.SOCK_DGRAM))
t(lambda: bind(0))
t(lambda: socket.socket().listen(1))
'''


def test_denied_binds():
    a, b = free_ports(2)
    assert bare(BIND, a, b) == ['ok'] * 5
    no = 'EACCES'
    for policy, want in (
            (['--net-deny-bind', b], ['ok', no, no, 'ok', 'ok']),
            (['--net-deny-bind', f'{b},1-1024', '--net-allow', 'udp://*'], ['ok', no, no, 'ok', 'ok']),
            (['--net-allow-bind', f'{a},{b}', '--net-deny-bind', b], ['ok', no, no, no, no]),
            (['--net-allow-bind', f'0,{a}', '--net-deny-bind', b], ['ok', no, no, 'ok', 'ok']),
            (['--net-allow-bind', f'0,{a}'], ['ok', no, no, 'ok', 'ok']),
            (['--net-allow-bind', '0'], [no, no, no, 'ok', 'ok']),
            (['--net-deny-bind', '*'], [no] * 5)):
        assert boxed(policy, BIND, a, b).lines == want, policy


@pytest.mark.parametrize('write', [False, True])
def test_listen_where_any_port_will_do(write, tmp_path):
    """bind to port 0 and listen, with a rule for 0 alone; also where connect is performed on behalf."""
    code = 's = socket.socket(); s.bind(("127.0.0.1", 0)); t(lambda: s.listen(1))'
    policy = ['-w', tmp_path] if write else []
    assert boxed([*policy, '--net-allow-bind', '0'], code).lines == ['ok']


REMAP = '''
a = socket.socket()
t(lambda: a.bind(('127.0.0.1', P[0])))
a.listen(5)
print(a.getsockname()[1] == P[0])
t(lambda: socket.socket().bind(('127.0.0.1', P[0])))
c = socket.socket()
c.connect(('127.0.0.1', P[0]))
d, _ = a.accept()
d.sendall(b'inside')
print(c.recv(10).decode(), c.getpeername()[1] == P[0], d.getsockname()[1] == P[0])
for s in (a, c, d):
    s.close()
r = [socket.socket() for _ in range(2)]
for s in r:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    t(lambda: s.bind(('127.0.0.1', P[1])))
    s.listen(1)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(('127.0.0.1', P[0]))
t(lambda: v.sendto(b'self', ('127.0.0.1', P[0])))
print(u.recv(10))
z = socket.socket(); z.bind(('127.0.0.1', 0)); z.listen(1)
t(lambda: socket.socket().connect(z.getsockname()))
t(lambda: socket.socket().bind(('127.0.0.1', 1)))
'''


def test_port_space_of_its_own(near):
    """The port is taken outside, the command gets it all the same, and outsiders keep theirs."""
    other, = free_ports(1)
    args = [str(near.port), other]
    bad = execute([SANDLOCK, 'run', *SYSTEM, '--net-allow-bind', '*', '--', PYTHON, '-c',
                   PRELUDE + 't(lambda: socket.socket().bind(("127.0.0.1", P[0])))', *args])
    assert bad.lines == ['EADDRINUSE']
    r = boxed(['--port-remap', '--net-allow-bind', '*', '--net-allow', '127.0.0.1'], REMAP, *args)
    assert r.lines == ['ok', 'True', 'EADDRINUSE', 'inside True True', 'ok', 'ok', '4', "b'self'",
                       'ok', 'ok']
    shown = re.search(r'^sandlock: ports: (.*)$', r.err, re.M)[1]
    real = dict(re.findall(r'tcp (\d+) -> (\d+)', shown))
    assert real[str(near.port)] != str(near.port) and real[other] == other
    assert bare('t(lambda: tcp(P[0]))', args[0]) == ['near']


def test_port_remap_keeps_the_rules(near):
    a, b = free_ports(2)
    taken = str(near.port)
    code = 's = socket.socket(); s.bind(("", P[0])); s.listen(5); t(s.getsockname)'
    r = boxed(['--port-remap', '--net-allow-bind', taken], code, taken)
    assert r.lines == [f"('0.0.0.0', {taken})"]
    code = 'for p in P: t(lambda: socket.socket().bind(("127.0.0.1", p)))'
    assert boxed(['--port-remap', '--net-allow-bind', a], code, a, b).lines == ['ok', 'EACCES']
    assert boxed(['--port-remap', '--net-deny-bind', b], code, a, b).lines == ['ok', 'EACCES']
    assert boxed(['--port-remap', '--net-allow-bind', '*'], 't(lambda: tcp(P[0]))',
                 str(near.port)).lines == ['EACCES']
    assert boxed(['--port-remap', '--net-allow', f':{near.port}'], 't(lambda: tcp(P[0]))',
                 str(near.port)).lines == ['near']


def test_a_mapping_ends_with_its_socket(near):
    """And is about the address that was bound: what else has the real port is somebody else's."""
    code = '''
import select
def mapped(s):
    """The real port, as whoever started us reads it while we run."""
    print('bound', flush=True)
    return int(sys.stdin.readline())
a = socket.socket(); a.bind(('127.0.0.1', P[0])); a.listen(5)
real = mapped(a)
t(lambda: tcp(P[0], '127.0.0.2'))
b = socket.create_connection(('127.0.0.1', P[0]))
c = a.accept()[0]
print(c.getsockname()[1] == P[0])
b.close(); c.recv(1); c.close(); a.close() # the client's side waits, not the real port
print('closed', flush=True); sys.stdin.readline()
t(lambda: tcp(P[0]))
t(lambda: tcp(real))
a = socket.socket(); a.bind(('127.0.0.1', P[0])); a.listen(5)
print(a.getsockname()[1] == P[0])
t(lambda: socket.create_connection(a.getsockname()) and None)
'''
    p = subprocess.Popen([str(x) for x in (
        SANDLOCK, 'run', *SYSTEM, '--stats', '--port-remap', '--net-allow-bind', '*', '--net-allow',
        f'127.0.0.0/8:{near.port}', '-t', 60 * SLOW, '--', PYTHON, '-u', '-c', PRELUDE + code, near.port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with p:
        assert p.stdout.readline() == 'bound\n'
        seen, real = map(int, re.fullmatch(r'sandlock: port: tcp (\d+) -> (\d+)\n',
                                           p.stderr.readline()).groups())
        assert seen == near.port != real
        other = Server('127.0.0.2', b'other', real)
        p.stdin.write(f'{real}\n')
        p.stdin.flush()
        got = [p.stdout.readline() for _ in range(3)]
        assert got == ['ECONNREFUSED\n', 'True\n', 'closed\n'] and other.accepted == 0
        time.sleep(0.1)
        thief = Server('127.0.0.1', b'thief', real)
        out, err = p.communicate('\n', timeout=60 * SLOW)
        # Nobody inside has the port: the name means what it means outside, and the rules hold.
        assert out.splitlines() == ['near', REFUSED, 'True', 'ok'], err
        assert thief.accepted == 0
    other.close()
    thief.close()


# ---- ICMP ----

PING = '''
def ping(host):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    s.settimeout(10)
    s.sendto(struct.pack('!BBHHH', 8, 0, 0, 0, 1) + b'ping', (host, 0))
    return s.recv(100)[-4:].decode()
for h in ('127.0.0.1', '127.0.0.2'):
    t(lambda: ping(h))
t(lambda: udp(9))
t(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
'''


def test_icmp_echo():
    """In a network of its own, where ping sockets may be opened to everybody."""
    inner = '{ ip link set lo up || busybox ip link set lo up; } 2>/dev/null; ' \
            'echo "0 2147483647" > /proc/sys/net/ipv4/ping_group_range; exec "$@"'
    inside = ['unshare', '-n', 'sh', '-c', inner, 'sh']
    if os.getuid() != 0 or execute([*inside, 'true']).code != 0:
        pytest.skip('cannot make a network here')
    code = PRELUDE + PING
    control = execute([*inside, PYTHON, '-c', code])
    if control.lines[:2] != ['ping', 'ping']:
        pytest.skip(f'no ping sockets here: {control.lines}')

    def ask(*policy):
        return execute([*inside, SANDLOCK, 'run', *SYSTEM, *policy, '--', PYTHON, '-c', code]).lines

    assert ask('--net-allow', 'icmp://127.0.0.1') == ['ping', REFUSED, 'EACCES', 'EACCES']
    assert ask('--net-allow', 'icmp://*', '--net-deny', 'icmp://127.0.0.2') == \
        ['ping', REFUSED, 'EACCES', 'EACCES']
    assert ask('--net-allow', '*') == ['EACCES', 'EACCES', '3', 'EACCES']
    assert ask('--net-allow', 'icmp://*') == ['ping', 'ping', 'EACCES', 'EACCES']
