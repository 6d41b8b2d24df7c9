# SPDX-License-Identifier: Apache-2.0
"""Real programs under rules: what is named is reached, everything else is refused, on loopback and
between hosts in network namespaces of the test's own, where the forbidden host counts what arrives.
Each denial has its control: the same program with the rule, or without the sandbox.
"""
import json
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import sys
import textwrap
import time

import pytest

from common import SANDLOCK, SLOW, SYSTEM as COMMON
from net_common import PYTHON, Server, execute, free_ports

SYSTEM = [*COMMON, '-r', '/dev/null', '-r', '/dev/urandom']
WORLD = pathlib.Path(__file__).with_name('net_world.py')


def need(program):
    """Its path; Debian keeps servers where an ordinary PATH does not look."""
    path = shutil.which(program, path=os.environ['PATH'] + ':/usr/sbin:/sbin:/usr/local/go/bin')
    if not path:
        pytest.skip(f'{program} is not installed')
    return path


@pytest.fixture
def web(tmp_path):
    """A directory over HTTP on 127.0.0.1, with a git repository in it."""
    (tmp_path / 'www').mkdir()
    (tmp_path / 'www' / 'page').write_text('hello\n')
    p = subprocess.Popen([PYTHON, '-u', '-m', 'http.server', '--bind', '127.0.0.1', '0'],
                         cwd=tmp_path / 'www', stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         text=True)
    port = re.search(r'port (\d+)', p.stdout.readline())[1]
    yield tmp_path, port
    p.kill()
    p.wait()
    p.stdout.close()


CLIENTS = {
    'curl': ['curl', '-s', '-m', '60', '{}/page'],
    'wget': ['wget', '-q', '-t', '1', '-O', '-', '{}/page'],
    'busybox': ['busybox', 'wget', '-q', '-O', '-', '{}/page'],
    'node': ['node', '-e', 'require("http").get("{}/page",r=>r.on("data",d=>process.stdout.write(d)))'
                           '.on("error",e=>process.exit(7))'],
    'python3': [PYTHON, '-c', 'import urllib.request as u; print(u.urlopen("{}/page").read().decode(),'
                              ' end="")'],
}


@pytest.mark.parametrize('name', CLIENTS)
@pytest.mark.parametrize('rule', ['localhost:{}', 'tcp://127.0.0.1:{}'])
def test_http_clients(web, name, rule):
    base, port = web
    if not shutil.which(name):
        pytest.skip(f'{name} is not installed')
    argv = [a.replace('{}', f'http://localhost:{port}') for a in CLIENTS[name]]
    box = [SANDLOCK, 'run', *SYSTEM, '-r', '/proc', '-w', base]
    if execute(argv).out != 'hello\n':
        pytest.skip(f'{name} cannot fetch a page here, without a sandbox either')
    assert execute([*box, '--net-allow', rule.format(port), '--', *argv]).out == 'hello\n'
    r = execute([*box, '--net-allow', rule.format(1), '--', *argv])
    assert r.out == '' and r.code != 0


def quiet_home(base):
    """An environment in which neither git nor pip reads what the user has configured."""
    return {k: v for k, v in os.environ.items() if not k.startswith('PIP_')} | {
        'HOME': str(base), 'TMPDIR': str(base), 'GIT_CONFIG_NOSYSTEM': '1', 'GIT_CONFIG_GLOBAL': '/dev/null',
        'PIP_CONFIG_FILE': '/dev/null', 'GIT_TERMINAL_PROMPT': '0'}


def need_git():
    if not os.path.exists('/usr/lib/git-core/git-remote-http'):
        pytest.skip('git has no HTTP here')


def need_pip():
    if execute([PYTHON, '-m', 'pip', '--version']).code != 0:
        pytest.skip('python3-pip is not installed')


def test_git_over_http(web):
    base, port = web
    www = base / 'www'
    quiet = quiet_home(base)
    box = [SANDLOCK, 'run', *SYSTEM, '-r', '/proc', '-w', base, '-w', '/dev/null', '--net-allow',
           f'localhost:{port}', '--']
    need_git()
    for argv in (['git', 'init', '-q', www / 'w'],
                 ['git', '-C', www / 'w', '-c', 'user.name=a', '-c', 'user.email=b', 'commit', '-q',
                  '--allow-empty', '-m', 'first'],
                 ['git', 'clone', '-q', '--bare', www / 'w', www / 'r.git'],
                 ['git', '-C', www / 'r.git', 'update-server-info']):
        assert execute(argv, env=quiet).code == 0
    r = execute([*box, 'git', 'clone', '-q', f'http://localhost:{port}/r.git', base / 'c'], env=quiet)
    assert r.code == 0, r.err
    assert (base / 'c' / '.git').is_dir()


def test_pip_from_a_local_index(web):
    base, port = web
    need_pip()
    www = base / 'www'
    box = [SANDLOCK, 'run', *SYSTEM, '-r', '/proc', '-w', base, '-w', '/dev/null', '--net-allow',
           f'localhost:{port}', '--']
    (www / 'simple' / 'tiny').mkdir(parents=True)
    wheel = www / 'simple' / 'tiny' / 'tiny-1-py3-none-any.whl'
    subprocess.run([sys.executable, '-c', textwrap.dedent('''
        import sys, zipfile
        z = zipfile.ZipFile(sys.argv[1], 'w')
        z.writestr('tiny.py', 'x = 1')
        z.writestr('tiny-1.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n')
        z.writestr('tiny-1.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
        z.writestr('tiny-1.dist-info/RECORD', '')
        '''), wheel], check=True)
    (www / 'simple' / 'tiny' / 'index.html').write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    r = execute([*box, PYTHON, '-m', 'pip', '-q', '--disable-pip-version-check', 'install', '--target',
                 base / 'site', '--index-url', f'http://localhost:{port}/simple', 'tiny'], env=quiet_home(base))
    assert r.code == 0, r.err
    assert (base / 'site' / 'tiny.py').exists()


def test_redis_inside_and_outside(tmp_path):
    need('redis-server')
    port, = free_ports(1)
    server = ['redis-server', '--port', port, '--save', '', '--dir', tmp_path, '--bind', '127.0.0.1']
    ask = ['redis-cli', '-p', port]
    box = [SANDLOCK, 'run', *SYSTEM, '-r', '/proc', '-w', tmp_path, '-w', '/dev/null']

    def ready():
        for _ in range(int(200 * SLOW)):
            if execute([*ask, 'ping']).out == 'PONG\n':
                return True
            time.sleep(0.05)
        return False

    p = subprocess.Popen([str(a) for a in [*box, '--port-remap', '--net-allow-bind', port, '--',
                                           *server]], stdout=subprocess.DEVNULL)
    try:
        assert ready()
        assert execute([*box, '--net-allow', f'localhost:{port}', '--', *ask, 'set', 'k', 'v']).out == 'OK\n'
        bench = ['redis-benchmark', '-p', port, '-q', '-n', '500', '-t', 'set,get']
        r = execute([*box, '--net-allow', f'127.0.0.1:{port}', '--stats', '--', *bench])
        assert r.code == 0 and r.out.count('requests per second') == 2, r.err
        assert r.notified('sendto') == 0 and r.notified('connect') >= 50, 'per connection, not per request'
        r = execute([*box, '--net-allow', 'localhost:1', '--', *ask, 'get', 'k'])
        assert 'Connection refused' in r.err + r.out
    finally:
        p.terminate()
        p.wait()


@pytest.fixture
def near():
    s = Server('127.0.0.1', b'near')
    yield s
    s.close()


def test_ssh(tmp_path, near):
    """A client inside, a server of the test outside; -W asks for no shell, which nobody may lack."""
    sshd, ssh, keygen = need('sshd'), need('ssh'), need('ssh-keygen')
    port, = free_ports(1)
    for name in ('host', 'mine'):
        subprocess.run([keygen, '-q', '-t', 'ed25519', '-N', '', '-f', tmp_path / name], check=True)
    (tmp_path / 'config').write_text('')
    os.makedirs('/run/sshd', exist_ok=True) if os.getuid() == 0 else None
    server = subprocess.Popen([
        sshd, '-D', '-f', tmp_path / 'config', '-p', port, '-o', 'ListenAddress=127.0.0.1', '-o',
        f'HostKey={tmp_path}/host', '-o', 'PidFile=none', '-o', 'StrictModes=no', '-o', 'UsePAM=no', '-o',
        f'AuthorizedKeysFile={tmp_path}/mine.pub', '-o', 'PermitRootLogin=yes'],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    ask = [ssh, '-F', 'none', '-i', tmp_path / 'mine', '-p', port, '-o', 'BatchMode=yes', '-o',
           'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'GlobalKnownHostsFile=/dev/null',
           '-W', f'127.0.0.1:{near.port}', '127.0.0.1']
    try:
        for _ in range(100):
            control = execute(ask)
            if control.out == 'near' or server.poll() is not None:
                break
            time.sleep(0.1)
        if control.out != 'near':
            server.kill()
            pytest.skip(f'sshd serves nobody here: {control.err[-200:]} {server.stderr.read()[-200:]}')
        box = [SANDLOCK, 'run', *SYSTEM, '-r', '/proc', '-w', tmp_path, '-w', '/dev/null']
        r = execute([*box, '--net-allow', f'127.0.0.1:{port}', '--', *ask])
        assert r.out == 'near', r.err
        r = execute([*box, '--net-allow', '127.0.0.1:1', '--', *ask])
        assert r.code == 255 and 'Connection refused' in r.err
        r = execute([*box, '--', *ask])
        assert r.code == 255 and 'Permission denied' in r.err
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


NGINX = '''daemon off; master_process off; pid {0}/pid; error_log stderr; {2}
events {{}}
http {{ access_log off; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;
uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; server {{ listen 127.0.0.1:{1}; root {0}; }} }}
'''


def test_nginx_inside(tmp_path):
    nginx = need('nginx')
    mine, other = free_ports(2)
    (tmp_path / 'page').write_text('hello\n')
    user = f'user {pwd.getpwuid(os.getuid()).pw_name};' if os.getuid() == 0 else ''
    for port in (mine, other):
        (tmp_path / port).write_text(NGINX.format(tmp_path, port, user))
    box = [SANDLOCK, 'run', *SYSTEM, '-w', tmp_path, '-w', '/dev/null', '--net-allow-bind', mine, '--']
    r = execute([*box, nginx, '-p', tmp_path, '-e', 'stderr', '-c', tmp_path / other])
    assert r.code == 1 and re.search(r'bind\(\) to .* failed \(13: Permission denied\)', r.err), r.err
    server = subprocess.Popen([str(a) for a in (*box, nginx, '-p', tmp_path, '-e', 'stderr', '-c', tmp_path / mine)],
                              stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(100):
            page = execute(['curl', '-s', f'http://127.0.0.1:{mine}/page'])
            if page.out or server.poll() is not None:
                break
            time.sleep(0.1)
        assert page.out == 'hello\n'
        assert execute([SANDLOCK, 'run', *SYSTEM, '--net-allow', f'127.0.0.1:{mine}', '--', 'curl', '-s',
                        f'http://127.0.0.1:{mine}/page']).out == 'hello\n'
    finally:
        server.terminate()
        server.wait()
        server.stderr.close()


GO = '''package main
import ("errors"; "fmt"; "io"; "net"; "os"; "syscall")
func main() {
    for _, to := range os.Args[1:] {
        c, err := net.Dial("tcp", to)
        var e syscall.Errno
        if errors.As(err, &e) { fmt.Println(int(e)); continue }
        if err != nil { fmt.Println(err); continue }
        b, _ := io.ReadAll(c)
        fmt.Println(string(b))
    }
}
'''
JAVA = '''import java.net.*;
class Client {
    public static void main(String[] to) {
        for (String t : to) {
            String[] p = t.split(":");
            try (Socket s = new Socket(p[0], Integer.parseInt(p[1]))) {
                System.out.println(new String(s.getInputStream().readAllBytes()));
            } catch (Exception e) {
                System.out.println(e.getMessage().contains("refused") ? 111 : e.toString());
            }
        }
    }
}
'''


def dials(argv, near, policy):
    """Through a name, an address, and where no rule leads."""
    to = [f'localhost:{near.port}', f'127.0.0.1:{near.port}', f'127.0.0.2:{near.port}']
    r = execute([SANDLOCK, 'run', *SYSTEM, '-r', '/proc', '-r', '/sys', '-r', pathlib.Path(argv[-1]).parent,
                 *policy, '--net-allow', f'localhost:{near.port}', '--', *argv, *to], timeout=120)
    assert r.lines == ['near', 'near', '111'], r.out + r.err


@pytest.fixture
def both_near(near):
    try:
        far = Server('127.0.0.2', b'far', near.port)
    except OSError:
        pytest.skip('the port is taken on 127.0.0.2')
    yield near
    assert far.accepted <= 1  # the control's
    far.close()


def test_go_client(tmp_path, both_near):
    """Its resolver and its poller are its own; the program is static."""
    go = need('go')
    if os.getuid() == 65534:
        pytest.skip('done as another user: Go compiles its library first, which takes a while')
    (tmp_path / 'main.go').write_text(GO)
    r = execute([go, 'build', '-o', tmp_path / 'dial', tmp_path / 'main.go'], timeout=600,
                env={**os.environ, 'CGO_ENABLED': '0'})
    if r.code:
        pytest.skip(f'go builds nothing here: {r.err[-200:]}')
    assert execute([tmp_path / 'dial', f'127.0.0.2:{both_near.port}']).out == 'far\n'
    dials([tmp_path / 'dial'], both_near, [])


def test_java_client(tmp_path, both_near):
    java = os.path.realpath(need('java'))
    (tmp_path / 'Client.java').write_text(JAVA)
    main = [java, '-Xshare:auto', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData', tmp_path / 'Client.java']
    control = execute([*main, f'127.0.0.2:{both_near.port}'], timeout=120)
    if control.out != 'far\n':
        pytest.skip(f'java runs no source here: {control.err[-200:]}')
    dials(main, both_near, ['-w', '/dev/null', '-w', tmp_path, '-r', os.path.dirname(os.path.dirname(java))])


JAVALIKE = '''
import errno, select, socket, sys, threading
def dial(at, to):
    """As java does: an IPv6 socket for every address, a connect that does not wait, then poll and SO_ERROR."""
    host, port = to.split(':')
    address = '::ffff:' + socket.gethostbyname(host)
    with socket.socket(socket.AF_INET6) as s:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.setblocking(False)
        error = s.connect_ex((address, int(port)))
        if error == errno.EINPROGRESS:
            select.select([], [s], [], 60)
            error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not error:
            select.select([s], [], [], 60)
        said[at] = s.recv(99).decode() if not error else error
said = [None] * len(sys.argv[1:])
threads = [threading.Thread(target=dial, args=a) for a in enumerate(sys.argv[1:])]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(*said, sep='\\n')
'''


def test_a_client_like_java(tmp_path, both_near):
    """Always, since java is not everywhere."""
    (tmp_path / 'client.py').write_text(JAVALIKE)
    assert execute([PYTHON, tmp_path / 'client.py', f'127.0.0.2:{both_near.port}']).out == 'far\n'
    dials([PYTHON, tmp_path / 'client.py'], both_near, [])


# ---- no packet to anybody else ----

@pytest.fixture
def two():
    """One port: 127.0.0.1, which the rules name, and 127.0.0.2, which counts who comes."""
    for _ in range(20):
        near = Server('127.0.0.1', b'near')
        try:
            far = Server('127.0.0.2', b'far', near.port)
        except OSError:
            near.close()
            continue
        yield near, far
        near.close()
        far.close()
        return
    pytest.skip('no port is free on both addresses')


# The far listener speaks no protocol: that a program comes to it is the control, and it may fail of what it hears.
GOING = {
    'curl': ['curl', '-s', '-m', '20', 'http://127.0.0.2:{}/'],
    'wget': ['wget', '-q', '-O', '-', 'http://127.0.0.2:{}/'],
    'busybox': ['busybox', 'wget', '-q', '-O', '-', 'http://127.0.0.2:{}/'],
    'node': CLIENTS['node'],
    'python3': CLIENTS['python3'],
    'git': ['git', 'ls-remote', 'http://127.0.0.2:{}/r.git'],
    'pip': [PYTHON, '-m', 'pip', '-q', '--disable-pip-version-check', 'download', '--retries', '0', '--timeout', '20',
            '--no-cache-dir', '--index-url', 'http://127.0.0.2:{}/simple', 'tiny'],
    'ssh': ['ssh', '-F', 'none', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=20', '-p', '{}', '127.0.0.2', 'true'],
    'redis-cli': ['redis-cli', '-h', '127.0.0.2', '-p', '{}', 'ping'],
}


@pytest.mark.parametrize('name', GOING)
def test_no_program_reaches_another_host(tmp_path, two, name):
    near, far = two
    {'git': need_git, 'pip': need_pip}.get(name, lambda: need(name))()
    argv = [a.replace('{}/page', f'http://127.0.0.2:{far.port}/page').replace('{}', str(far.port)) for a in GOING[name]]
    options = {'env': quiet_home(tmp_path), 'cwd': tmp_path, 'timeout': 120}
    # The other wget, BusyBox's, knows no such options.
    (tmp_path / '.wgetrc').write_text('tries = 1\ntimeout = 20\n')
    execute(argv, **options)
    came = far.accepted
    assert came > 0, 'the control comes to the other host'
    box = [SANDLOCK, 'run', *SYSTEM, '-r', '/proc', '-w', tmp_path, '-w', '/dev/null']
    for rules in (['--net-allow', f'127.0.0.1:{near.port}'], ['--net-allow', f'tcp://localhost:{near.port}'],
                  ['--net-deny', '127.0.0.2'], []):
        r = execute([*box, *rules, '--', *argv], **options)
        assert r.code not in (0, 125, 126, 127) or name == 'redis-cli', (rules, r.err)
        assert 'far' not in r.out
        assert far.accepted == came and not far.datagrams(), (rules, r.err)
    assert near.accepted == 0


def test_no_server_reaches_another_host(tmp_path, two):
    """redis as a replica, nginx as a proxy: who listens inside goes out by the same rules."""
    near, far = two
    box = [SANDLOCK, 'run', *SYSTEM, '-r', '/proc', '-w', tmp_path, '-w', '/dev/null', '--net-allow',
           f'127.0.0.1:{near.port}', '--net-allow-bind', '*', '--']
    port, port2 = free_ports(2)
    argv = [need('redis-server'), '--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', tmp_path, '--replicaof',
            '127.0.0.2', far.port]
    for front, came in (([], True), (box, False)):
        before = far.accepted
        p = subprocess.Popen([str(a) for a in (*front, *argv)], stdout=subprocess.PIPE, text=True)
        try:
            tries = (line for line in p.stdout if 'Connecting to MASTER' in line)
            assert next(tries) and next(tries), 'the first is over when the second begins'
            assert (far.accepted > before) == came
        finally:
            p.terminate()
            p.wait()
            p.stdout.close()
    nginx, user = need('nginx'), f'user {pwd.getpwuid(os.getuid()).pw_name};' if os.getuid() == 0 else ''
    ways = ''.join(f'location /{name} {{ proxy_pass http://{host}:{near.port}; }}'
                   for name, host in (('near', '127.0.0.1'), ('far', '127.0.0.2')))
    (tmp_path / 'conf').write_text(NGINX.format(tmp_path, port2, user).replace(f'root {tmp_path};', ways))

    def ask(name):
        return execute(['curl', '-s', '-m', '60', '-o', '/dev/null', '-w', '%{http_code}', f'http://127.0.0.1:{port2}/{name}']).out

    for front, came in (([], True), (box, False)):
        before, nearer = far.accepted, near.accepted
        p = subprocess.Popen([str(a) for a in (*front, nginx, '-p', tmp_path, '-e', 'stderr', '-c', tmp_path / 'conf')],
                             stderr=subprocess.DEVNULL)
        try:
            for _ in range(int(200 * SLOW)):
                ask('near')
                if near.accepted > nearer or p.poll() is not None:
                    break
                time.sleep(0.05)
            assert near.accepted > nearer, 'what is allowed is reached'
            code = ask('far')
            assert (far.accepted > before) == came and (came or code == '502'), code
        finally:
            p.terminate()
            p.wait()


# ---- hosts of the test's own ----

def test_hosts_in_namespaces(tmp_path):
    """10.77.0.2 and fd77::2 may be reached, .3 and ::3 not: of what goes there no packet is ever sent."""
    enter = ['unshare', '-n'] if os.getuid() == 0 else ['unshare', '-Urn']
    if execute([*enter, 'true']).code != 0:
        pytest.skip('no network namespaces here')
    r = execute([*enter, PYTHON, WORLD, SANDLOCK, *SYSTEM], timeout=120)
    if r.code == 77:
        pytest.skip(r.err.strip())
    assert r.code == 0, r.err
    got = json.loads(r.out)
    refused, word = 'ECONNREFUSED', 'hello'
    hosts = got['hosts']
    control = got['runs'].pop('bare')
    assert all(control['said'][h] == [word, word] for h in hosts), control
    assert all(control['seen'][h] > 0 for h in hosts), 'the counter counts'
    open_hosts = {'both': hosts[::2], 'cidr': hosts[::2], 'deny': hosts[::2], 'tcp': hosts[::2], 'none': []}
    assert set(got['runs']) == set(open_hosts)
    for name, run in got['runs'].items():
        for h in hosts:
            if h in open_hosts[name]:
                assert run['said'][h] == [word, 'EACCES' if name == 'tcp' else word], (name, h, run)
                assert run['seen'][h] > 0
            else:
                wrong = {'none': ['EACCES', 'EACCES'], 'tcp': [refused, 'EACCES']}.get(name, [refused] * 2)
                assert run['said'][h] == wrong, (name, h, run)
                assert run['seen'][h] == 0, (name, h, run)
