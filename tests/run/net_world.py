# SPDX-License-Identifier: Apache-2.0
"""Run in an empty network namespace: makes two hosts with two addresses each, on a pair of interfaces
where the kernel has such, otherwise on loopback's own; serves TCP and UDP on all; counts the frames
that carry one of the addresses; runs the same program bare and in sandboxes; prints JSON.

    net_world.py SANDLOCK GRANTS...     77: this machine cannot, with the reason on stderr
"""
import ctypes
import json
import os
import select
import socket
import subprocess
import sys

HOSTS = ['10.77.0.2', '10.77.0.3', 'fd77::2', 'fd77::3']
PORT = 4711
ASK = '''
import errno, json, socket, sys
def t(f):
    try:
        return f()
    except OSError as e:
        return errno.errorcode.get(e.errno, repr(e))
def tcp(h):
    with socket.socket(socket.AF_INET6 if ':' in h else socket.AF_INET) as s:
        s.settimeout(30)
        s.connect((h, %d))
        return s.recv(9).decode()
def udp(h):
    with socket.socket(socket.AF_INET6 if ':' in h else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(30)
        s.sendto(b'x', (h, %d))
        return s.recv(9).decode()
print(json.dumps({h: [t(lambda: tcp(h)), t(lambda: udp(h))] for h in sys.argv[1:]}))
''' % (PORT, PORT)
CLONE_NEWNET = 0x40000000


def call(*argv):
    for front in ((), ('busybox',)):
        try:
            if subprocess.run([*front, *argv], capture_output=True).returncode == 0:
                return True
        except FileNotFoundError:
            pass
    return False


def addresses(device, numbers):
    for n in numbers:
        if not call('ip', 'addr', 'add', f'10.77.0.{n}/24', 'dev', device):
            return False
        # No waiting for duplicates; busybox knows no "nodad".
        if not (call('ip', 'addr', 'add', f'fd77::{n}/64', 'dev', device, 'nodad') or
                call('ip', 'addr', 'add', f'fd77::{n}/64', 'dev', device)):
            return False
    return True


def give_up(why):
    print(why, file=sys.stderr)
    sys.exit(77)


class Other:
    """The other host: a process, in a namespace of its own when it can be reached there."""

    def __init__(self):
        self.ask, ask = socket.socketpair()
        ready, told = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            apart = ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
            told.send(b'y' if apart else b'n')
            device = ask.recv(9).decode()
            try:
                serve(ask, device)
            finally:
                os._exit(1)
        apart = ready.recv(1) == b'y'
        pair = apart and call('ip', 'link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far', 'netns',
                              str(self.pid))
        call('ip', 'link', 'set', 'lo', 'up')
        if pair:
            if not addresses('near', [1]) or not call('ip', 'link', 'set', 'near', 'up'):
                give_up('cannot give a veth an address')
            self.ask.send(b'far')
        else:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
            self.ask, ask = socket.socketpair()
            self.pid = os.fork()
            if self.pid == 0:
                try:
                    serve(ask, 'lo')
                finally:
                    os._exit(1)
        if self.ask.recv(9) != b'ok':
            give_up('no addresses to be had here (ip, IPv6 and packet sockets are needed)')

    def seen(self):
        """Frames with each address since the last time."""
        self.ask.send(b'?')
        return json.loads(self.ask.recv(4096))


def serve(ask, device):
    call('ip', 'link', 'set', device, 'up')
    if not addresses(device, [2, 3]):
        ask.send(b'no')
        return
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    frames.bind((device, 0))
    tcp, udp = [], []
    for h in HOSTS:
        family = socket.AF_INET6 if ':' in h else socket.AF_INET
        s = socket.socket(family)
        wait_for(lambda: s.bind((h, PORT)))
        s.listen(64)
        tcp.append(s)
        u = socket.socket(family, socket.SOCK_DGRAM)
        u.bind((h, PORT))
        udp.append(u)
    wanted = {h: socket.inet_pton(socket.AF_INET6 if ':' in h else socket.AF_INET, h) for h in HOSTS}
    count = dict.fromkeys(HOSTS, 0)
    ask.send(b'ok')
    while True:
        for s in select.select([frames, ask, *tcp, *udp], [], [])[0]:
            if s is frames:
                frame, place = s.recvfrom(65536)
                for h, raw in wanted.items():
                    count[h] += raw in frame
            elif s is ask:
                if not s.recv(9):
                    return
                while select.select([frames], [], [], 0.1)[0]:
                    frame = frames.recv(65536)
                    for h, raw in wanted.items():
                        count[h] += raw in frame
                s.send(json.dumps(count).encode())
                count = dict.fromkeys(HOSTS, 0)
            elif s in tcp:
                c, _ = s.accept()
                c.sendall(b'hello')
                c.close()
            else:
                _, who = s.recvfrom(9)
                s.sendto(b'hello', who)


def wait_for(what):
    """An address of IPv6 is tentative at first."""
    for _ in range(300):
        try:
            return what()
        except OSError:
            select.select([], [], [], 0.1)
    return what()


def main():
    sandlock, grants = sys.argv[1], sys.argv[2:]
    other = Other()
    policies = {
        'both': ['--net-allow', '10.77.0.2', '--net-allow', '[fd77::2]'],
        'cidr': ['--net-allow', f'10.77.0.2/31:{PORT}', '--net-deny', '10.77.0.3', '--net-allow', '[fd77::2/127]',
                 '--net-deny', '[fd77::3]'],
        'deny': ['--net-deny', '10.77.0.3', '--net-deny', '[fd77::3]'],
        'tcp': ['--net-allow', f'tcp://10.77.0.2:{PORT}', '--net-allow', 'tcp://[fd77::2]'],
        'none': [],
    }
    runs = {}
    wait_for(lambda: subprocess.run([sys.executable, '-c', ASK, *HOSTS], check=True, capture_output=True))
    other.seen()
    for name, front in [('bare', []), *((n, [sandlock, 'run', *grants, *p, '--']) for n, p in policies.items())]:
        r = subprocess.run([*front, sys.executable, '-c', ASK, *HOSTS], stdout=subprocess.PIPE,
                           stdin=subprocess.DEVNULL, check=True)
        runs[name] = {'said': json.loads(r.stdout), 'seen': other.seen()}
    print(json.dumps({'hosts': HOSTS, 'runs': runs}))
    os.kill(other.pid, 9)


main()
