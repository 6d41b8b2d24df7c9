# SPDX-License-Identifier: Apache-2.0
"""Attacks on the rules per host by options: every number at every level, with every structure that could name another
host, on sockets that then send to the one that is allowed; and every kind of ancillary data. In a network namespace of the
test's own no frame may have the other host as its destination. The control is the same program without the sandbox.
"""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from common import IN_VM, SLOW, SYSTEM

ROOT = pathlib.Path(__file__).resolve().parents[2]
SANDLOCK = pathlib.Path(os.environ.get('SANDLOCK', ROOT / 'build' / 'sandlock')).resolve()
PYTHON = '/usr/bin/python3' if os.path.exists('/usr/bin/python3') else shutil.which('python3')

ATTACK = '''
import os, socket, struct, sys
PORT, LEVELS, TOP = int(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
GOOD = {socket.AF_INET: '10.77.0.2', socket.AF_INET6: 'fd77::2'}
four, six = socket.inet_aton('10.77.0.3'), socket.inet_pton(socket.AF_INET6, 'fd77::3')
good6 = socket.inet_pton(socket.AF_INET6, 'fd77::2')
LABEL = 0x10000 | os.getpid() & 0xffff

def message(level, kind, data):
    return struct.pack('=QII', 16 + len(data), level, kind) + data + bytes(-len(data) % 8)

loose = bytes([1, 131, 7, 4]) + four                                  # IPv4: a loose source route, a strict one
strict = bytes([1, 137, 7, 4]) + four
mobile = struct.pack('BBBB4x', 0, 2, 2, 1) + six                      # IPv6: routing headers of types 0, 2, 3 and 4
classic = struct.pack('BBBB4x', 0, 2, 0, 1) + six
lossy = struct.pack('BBBB4x', 0, 2, 3, 1) + six
segments = struct.pack('BBBBBBH', 0, 2, 4, 0, 0, 0, 0) + six
segments2 = struct.pack('BBBBBBH', 0, 4, 4, 1, 1, 0, 0) + good6 + six
routes = [mobile, classic, lossy, segments, segments2]
label = good6 + struct.pack('!I', LABEL) + struct.pack('=BBHHHI', 0, 255, 1, 60, 6, 0)
PAYLOADS = [loose, strict, *routes, message(41, 57, mobile), message(41, 5, classic),
            *(label + message(41, 57, r) for r in (mobile, segments)), label, struct.pack('=i', 1),
            struct.pack('=HH4s8x', 2, socket.htons(PORT), four), struct.pack('=HHI16sI', 10, socket.htons(PORT), 0, six, 0),
            four + four + struct.pack('=i', 1), six + struct.pack('=i', 1)]

def send(s, family, kind, rights=()):
    to = (GOOD[family], PORT) if family == socket.AF_INET else (GOOD[family], PORT, LABEL, 0)
    try:
        if kind == socket.SOCK_STREAM:
            s.setblocking(False)
            s.connect_ex(to)
        elif rights:
            s.sendmsg([b'x'], rights, socket.MSG_DONTWAIT, to)
        else:
            s.sendto(b'x', socket.MSG_DONTWAIT, to)
    except OSError:
        return 0
    return 1

def new(family, kind):
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    if family == socket.AF_INET6:
        s.setsockopt(41, 33, 1)  # IPV6_FLOWINFO_SEND
    return s

taken = went = 0
for family in (socket.AF_INET, socket.AF_INET6):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        for level in LEVELS:
            for option in range(TOP):
                for payload in PAYLOADS:
                    with new(family, kind) as s:
                        try:
                            s.setsockopt(level, option, payload)
                        except OSError:
                            continue
                        taken += 1
                        went += send(s, family, kind)
    with new(family, socket.SOCK_DGRAM) as s:
        for level in LEVELS:
            for option in range(TOP):
                for payload in PAYLOADS:
                    went += send(s, family, socket.SOCK_DGRAM, [(level, option, payload)])
print(json.dumps({'taken': taken, 'went': went}))
'''

WORLD = '''
import ctypes, json, select, socket, struct, subprocess, sys
attack, fronts = sys.argv[1], json.loads(sys.argv[2])
port = 4711
def call(*argv):
    return any(shut(front, argv) for front in ((), ('busybox',)))
def shut(front, argv):
    try:
        return subprocess.run([*front, *argv], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
ready = call('ip', 'link', 'set', 'lo', 'up')
for host in (2, 3):
    ready = ready and call('ip', 'addr', 'add', f'10.77.0.{host}/32', 'dev', 'lo')
    ready = ready and (call('ip', 'addr', 'add', f'fd77::{host}/128', 'dev', 'lo', 'nodad') or
                       call('ip', 'addr', 'add', f'fd77::{host}/128', 'dev', 'lo'))
if not ready:
    print('no addresses to be had here')
    sys.exit(77)
keep = []
for family, host in ((socket.AF_INET, '10.77.0.2'), (socket.AF_INET6, 'fd77::2')):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        s = socket.socket(family, kind)
        while s.fileno() >= 0:
            try:
                s.bind((host, port))
                break
            except OSError:  # an address of IPv6 is tentative at first
                select.select([], [], [], 0.1)
        if kind == socket.SOCK_STREAM:
            s.listen(9)
        keep.append(s)
# Only frames to the other host reach this socket: it is never full of others.
lines = [(0x28, 0, 0, 12), (0x15, 0, 2, 0x800), (0x20, 0, 0, 30), (0x15, 5, 6, 0x0a4d0003), (0x15, 0, 5, 0x86dd),
         (0x20, 0, 0, 38), (0x15, 0, 3, 0xfd770000), (0x20, 0, 0, 50), (0x15, 0, 1, 3), (6, 0, 0, 2048), (6, 0, 0, 0)]
code = ctypes.create_string_buffer(b''.join(struct.pack('=HBBI', *l) for l in lines))
frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
frames.setsockopt(socket.SOL_SOCKET, 26, struct.pack('HxxxxxxP', len(lines), ctypes.addressof(code)))
frames.bind(('lo', 0))
def drain(s):
    n = 0
    while select.select([s], [], [], 0.2)[0]:
        n += s.recv(2048)[:0] == b''
    return n
drain(frames)
runs = []
for front in fronts:
    done = subprocess.run([*front, attack, '-c', 'import json\\n' + sys.argv[3], str(port), *sys.argv[4:]],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    runs.append({'code': done.returncode, 'said': done.stdout, 'elsewhere': drain(frames),
                 'arrived': [drain(s) for s in keep if s.type == socket.SOCK_DGRAM]})
print(json.dumps(runs))
'''


def test_no_option_leads_elsewhere():
    enter = ['unshare', '-n'] if os.getuid() == 0 else ['unshare', '-Urn']
    if subprocess.run([*enter, 'true'], check=False, stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip('no network namespaces here')
    levels, top = ('[0, 41]', 70) if IN_VM else ('[0, 1, 6, 17, 41, 58, 255]', 130)
    box = [str(SANDLOCK), 'run', *map(str, SYSTEM), '--net-allow', '10.77.0.2', '--net-allow', '[fd77::2]']
    deny = [str(SANDLOCK), 'run', *map(str, SYSTEM), '--net-deny', '10.77.0.3', '--net-deny', '[fd77::3]']
    bare = ['setpriv', '--inh-caps=-all', '--bounding-set=-all']  # as little as the command has
    fronts = [bare, [*box, '--'], [*deny, '--']]
    done = subprocess.run([*enter, PYTHON, '-c', WORLD, PYTHON, json.dumps(fronts), ATTACK, levels, str(top)], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=240 * SLOW)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    native, *boxed = json.loads(done.stdout)
    assert native['code'] == 0 and all(native['arrived']), native
    if not native['elsewhere']:
        pytest.skip('the control leads nowhere: this kernel has no routing headers')
    for run in boxed:
        assert run['code'] == 0, (run, done.stderr)
        assert json.loads(run['said'])['taken'] > 0 and all(run['arrived']), run
        assert run['elsewhere'] == 0, run
