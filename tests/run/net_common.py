# SPDX-License-Identifier: Apache-2.0
"""What the tests of the network side share: programs inside and outside, and listeners that see what arrives."""
import contextlib
import os
import re
import shutil
import socket
import subprocess
import textwrap
import threading

from common import SANDLOCK, SYSTEM

SLOW = int(os.environ.get('SANDLOCK_SLOW', '1'))
PYTHON = '/usr/bin/python3' if os.path.exists('/usr/bin/python3') else shutil.which('python3')
SECONDS = '10' if os.environ.get('SANDLOCK_LONG') else '2'

PRELUDE = '''
import errno, os, socket, struct, sys
def t(f):
    """Prints the result, or the name of the error."""
    try:
        r = f()
        print('ok' if r is None else r, flush=True)
    except OSError as e:
        print(errno.errorcode.get(e.errno, repr(e)), flush=True)
'''


class Result:
    """What one program printed, a word a line, and what sandlock said about it."""

    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout
        self.lines = done.stdout.split('\n')[:-1]
        self.err = done.stderr

    @property
    def denied(self):
        return [l for l in self.err.splitlines() if l.startswith('sandlock: denied: ')
                and not re.fullmatch(r'sandlock: denied: \d+', l)]

    def notified(self, op=None):
        if op is None:
            return int(re.search(r'^sandlock: notifications: (\d+)$', self.err, re.M)[1])
        m = re.search(rf'^sandlock: notifications by operation: .*\b{op} (\d+)', self.err, re.M)
        return int(m[1]) if m else 0


def execute(argv, timeout=60, **options):
    options.setdefault('stdin', subprocess.DEVNULL)
    return Result(subprocess.run([str(a) for a in argv], timeout=timeout * SLOW, capture_output=True, text=True,
                                 **options))


def bare(code, *args, prelude=PRELUDE):
    """The control: the program without the sandbox."""
    r = execute([PYTHON, '-c', prelude + textwrap.dedent(code), *args])
    assert r.code == 0, r.err
    return r


def boxed(policy, code, *args, prelude=PRELUDE, **options):
    r = execute([SANDLOCK, 'run', *SYSTEM, *policy, '--', PYTHON, '-c', prelude + textwrap.dedent(code),
                 *args], **options)
    assert r.code == 0, r.err
    return r


class Words:
    """A listening socket that answers every connection with a word and closes it."""

    def __init__(self, sock, word):
        self.sock, self.word, self.accepted = sock, word, 0
        sock.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            self.accepted += 1
            with contextlib.suppress(OSError), c:
                c.sendall(self.word)

    @property
    def port(self):
        return self.sock.getsockname()[1]

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


@contextlib.contextmanager
def server(address, word, family=socket.AF_INET):
    with socket.socket(family) as s:
        s.bind(address)
        w = Words(s, word)
        yield w
        w.close()


class Server:
    """TCP that says a word, UDP that collects, on one port of one address."""

    def __init__(self, address, word, port=0):
        family = socket.AF_INET6 if ':' in address else socket.AF_INET
        tcp, self.udp = socket.socket(family), socket.socket(family, socket.SOCK_DGRAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind((address, port))
            self.port = tcp.getsockname()[1]
            self.udp.bind((address, self.port))
        except OSError:
            tcp.close()
            self.udp.close()
            raise
        self.udp.settimeout(0.1)
        self.words = Words(tcp, word)

    @property
    def accepted(self):
        return self.words.accepted

    def datagrams(self):
        got = []
        with contextlib.suppress(OSError):
            while True:
                got.append(self.udp.recv(70000))
        return got

    def close(self):
        self.words.close()
        self.udp.close()


def free_ports(n):
    """As text: nobody had them a moment ago."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in found:
            s.bind(('127.0.0.1', 0))
        return [str(s.getsockname()[1]) for s in found]
