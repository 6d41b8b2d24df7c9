# SPDX-License-Identifier: Apache-2.0
"""What the sandbox says of itself in the host's place: its name (process.md PV-01), age, load and mounts
(PV-04), by every spelling."""
import os
import platform
import re

import pytest

from common import MACHINE, NR, Script, buffer, native, run, shell

ETC = '/etc/hostname'
has_hostname = pytest.mark.skipif(not os.access(ETC, os.R_OK), reason='the system has no /etc/hostname')
PYTHON = '/usr/bin/python3'

SPELLINGS = '''
import os, sys
def text(fd):
    with os.fdopen(fd) as stream:
        return stream.read().strip()
top = sys.argv[1]
os.symlink("/etc/hostname", top + "/link")
os.symlink("/etc", top + "/etc")
etc = os.open("/etc", os.O_RDONLY)
path = os.open("/etc/hostname", os.O_PATH)
shown = [text(os.open(p, os.O_RDONLY)) for p in (
    "/etc/hostname", "//etc/./hostname", "/etc/../etc/hostname", top + "/link", top + "/etc/hostname",
    f"/proc/self/root/etc/hostname", f"/proc/self/fd/{etc}/hostname", f"/proc/self/fd/{path}",
    f"/proc/thread-self/fd/{etc}/../etc/hostname", "/proc/sys/kernel/hostname",
    "/proc/self/root/proc/sys/kernel/hostname")]
shown.append(text(os.open("hostname", os.O_RDONLY, dir_fd=etc)))
os.chdir("/etc")
shown.append(text(os.open("hostname", os.O_RDONLY)))
shown += [os.uname().nodename, __import__("socket").gethostname()]
print(*shown)
'''


@has_hostname
def test_every_place_agrees(tmp_path):
    (tmp_path / 'in').mkdir()
    result = run('--name', 'a-box', '-r', '/proc', '-w', tmp_path / 'in', '--', PYTHON, '-c', SPELLINGS,
                 tmp_path / 'in')
    assert result.stdout.split() == ['a-box'] * 15, result.stderr
    (tmp_path / 'out').mkdir()
    control = native(PYTHON, '-c', SPELLINGS, tmp_path / 'out').stdout.split()
    assert len(control) == 15 and control.count(platform.node()) >= 4 and 'a-box' not in control


@has_hostname
def test_size_agrees(tmp_path):
    sizes = shell(f'stat -L -c %s {ETC}; wc -c < {ETC}; cp {ETC} {tmp_path}/copy; cat {tmp_path}/copy',
                  '--name', 'a-name-of-some-length', '-w', tmp_path).stdout.split()
    assert sizes == ['22', '22', 'a-name-of-some-length']
    script = Script()
    call = script.call('stat', ETC, buffer(144)) if 'stat' in NR and MACHINE == 'x86_64' else None
    if call is not None:
        seen = script.run('--name', 'box')[call].buffers[0]
        assert int.from_bytes(seen[48:56], 'little') == 4
        real = script.native()[call].buffers[0]
        assert int.from_bytes(real[48:56], 'little') == os.stat(ETC).st_size
        assert seen[16:48] == real[16:48]


@has_hostname
def test_cannot_be_written_or_set(tmp_path):
    """Not even by who may write the real one, and never through a descriptor of the stand-in."""
    script = Script()
    calls = [script.call('openat', -100, ETC, flags, 0) for flags in (os.O_RDWR, os.O_WRONLY,
                                                                     os.O_RDONLY | os.O_TRUNC)]
    fd = script.open(ETC)
    calls.append(script.call('write', fd, 'x', 1))
    calls.append(script.call('ftruncate', fd, 0))
    refused = [script.call('sethostname', 'evil', 4), script.call('setdomainname', 'evil', 4)]
    answers = script.run('--name', 'box')
    assert {answers[i].name for i in calls} <= {'EACCES', 'EBADF', 'EINVAL', 'EPERM'}
    assert {answers[i].name for i in refused} == {'EPERM'}
    assert open(ETC, encoding='utf-8').read().strip() == native('cat', ETC).stdout.strip()


@has_hostname
def test_only_where_it_is_granted():
    grants = [a for p in ('/usr', '/lib', '/lib64', '/bin') if os.path.exists(p) for a in ('-r', p)]
    result = run('--name', 'box', '--stats', '--', 'sh', '-c', f'uname -n; cat {ETC}', grants=grants)
    assert result.stdout == 'box\n' and 'ermission denied' in result.stderr
    # Without the grant no path call is mediated: uname alone.
    assert 'notifications: 1\n' in result.stderr
    # Without a name everything is the host's, and native.
    result = shell(f'uname -n; cat {ETC}', '--stats')
    assert result.stdout == native('sh', '-c', f'uname -n; cat {ETC}').stdout
    assert 'notifications: 0\n' in result.stderr


# ---- mounts ----

MOUNT_SPELLINGS = '''
import os, sys, threading
kind, top = sys.argv[1:]
os.symlink(f"/proc/self/{kind}", top + "/link-" + kind)
me, tid = os.getpid(), threading.get_native_id()
proc = os.open("/proc", os.O_RDONLY)
own = os.open("/proc/self", os.O_RDONLY)
path = os.open(f"/proc/self/{kind}", os.O_PATH)
spelled = [f"/proc/self/{kind}", f"/proc/{me}/{kind}", f"/proc/thread-self/{kind}", f"/proc//self/./{kind}",
    f"/proc/{me}/task/{tid}/{kind}", f"/proc/self/task/{tid}/{kind}", f"/proc/self/root/proc/{me}/{kind}",
    f"/proc/{os.getppid()}/{kind}", f"/dev/../proc/self/{kind}", f"/proc/self/fd/{own}/{kind}",
    f"/proc/self/fd/{path}", f"/proc/self/fd/{proc}/thread-self/{kind}", top + "/link-" + kind,
    f"/proc/self/cwd/proc/self/{kind}"]
if kind == "mounts":
    spelled.append("/proc/mounts")
os.chdir("/")
def read(*a, **k):
    with os.fdopen(os.open(*a, os.O_RDONLY, **k)) as f: return f.read()
texts = [read(p) for p in spelled] + [read(kind, dir_fd=own), read(f"self/{kind}", dir_fd=proc)]
def other():
    texts.append(read(f"/proc/thread-self/{kind}"))
t = threading.Thread(target=other); t.start(); t.join()
print(len(set(texts)), len(texts))
print(texts[0], end="")
'''


@pytest.mark.parametrize('kind', ['mounts', 'mountinfo'])
def test_mounts_by_every_spelling(kind, tmp_path):
    """/proc/<own pid>/mounts and thread-self showed the real table (W of PV-05)."""
    (tmp_path / 'in').mkdir()
    script = [PYTHON, '-c', MOUNT_SPELLINGS, kind]
    # A parent that is a member too.
    result = run('-r', '/proc', '-w', tmp_path / 'in', '--', 'sh', '-c', '"$@"; exit $?', 'sh', *script,
                 tmp_path / 'in')
    head, _, table = result.stdout.partition('\n')
    same, count = map(int, head.split())
    assert same == 1 and count >= 17, result.stderr
    points = [line.split()[1 if kind == 'mounts' else 4] for line in table.splitlines()]
    assert '/' in points and '/proc' in points and '/sys' not in points
    with open(f'/proc/self/{kind}', encoding='utf-8') as real:
        control = real.read()
    # The rows are the host's, whole.
    if kind == 'mounts':
        rows = {tuple(line.split()[:3]) for line in control.splitlines()}
        assert {tuple(line.split()[:3]) for line in table.splitlines()} < rows
        assert sorted(table.splitlines()[0].split()[3].split(',')) in [
            sorted(line.split()[3].split(',')) for line in control.splitlines()]
    else:
        assert set(table.splitlines()) < set(control.splitlines())


def test_mounts_agree_with_statfs():
    """Each shown mount is there, and what was granted lies on one that is shown."""
    result = shell("cat /proc/self/mountstats; df / /proc /usr >/dev/null && echo same; "
                   "stat -f -c %T /proc", '-r', '/proc', '-w', '/dev/null')
    lines = result.stdout.splitlines()
    assert lines[-2:] == ['same', 'proc'], (result.stdout, result.stderr)
    assert all(' mounted on ' in line and ' with fstype ' in line for line in lines[:-2])
    assert 'device proc mounted on /proc with fstype proc' in lines
    everything = shell('cat /proc/mounts', '-r', '/').stdout
    with open('/proc/mounts', encoding='utf-8') as real:
        assert [x.split()[:3] for x in everything.splitlines()] == [x.split()[:3] for x in real]
    if '/sys' in [x.split()[1] for x in everything.splitlines()]:
        hidden = shell('cat /proc/mounts', '-r', '/', '--fs-deny', '/sys').stdout
        assert ' /sys' not in hidden and ' /proc ' in hidden


def test_virtual_proc_files_are_read_only():
    script = Script()
    calls = []
    for name in ('self/mounts', 'self/mountinfo', 'uptime', 'loadavg'):
        calls += [script.call('openat', -100, f'/proc/{name}', flags, 0)
                  for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY | os.O_TRUNC)]
        fd = script.open(f'/proc/{name}')
        calls.append(script.call('write', fd, 'x', 1))
        calls.append(script.call('openat', -100, f'/proc/{name}', os.O_RDONLY | os.O_DIRECTORY, 0))
    answers = script.run('-r', '/proc')
    assert {answers[i].name for i in calls} <= {'EACCES', 'EPERM', 'EBADF', 'ENOTDIR'}
    # Granted in part: only that.
    script = Script()
    mounts, uptime = script.call('openat', -100, '/proc/self/mounts', 0), script.call(
        'openat', -100, '/proc/uptime', 0)
    answers = script.run('-r', '/proc/uptime')
    assert (answers[mounts].name, answers[uptime].name) == ('EACCES', 'OK')


# ---- age and load ----

def test_uptime_is_the_sandboxs_age():
    result = shell('cat /proc/uptime; sleep 0.3; cat /proc/self/root/proc/uptime', '-r', '/proc')
    first, second = [list(map(float, line.split())) for line in result.stdout.splitlines()]
    with open('/proc/uptime', encoding='utf-8') as real:
        host = float(real.read().split()[0])
    assert 0 <= first[0] < host and second[0] >= first[0] + 0.29
    # Both are cut to hundredths, so the age is up to one more than it shows.
    assert all(idle < (age + 0.01) * os.cpu_count() + 0.001 for age, idle in (first, second))
    assert re.fullmatch(r'(\d+\.\d\d \d+\.\d\d\n){2}', result.stdout)


def test_load_is_the_sandboxs_own():
    """Threads and processes of its own are counted, those that run as well, the host's never."""
    program = '''
import os, threading, time
def look():
    with open("/proc/loadavg") as f: return f.read().split()
alone = look()
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        while True: pass
    pids.append(pid)
stop = threading.Event()
for _ in range(4): threading.Thread(target=stop.wait).start()
time.sleep(0.3)
busy = look()
stop.set()
for pid in pids: os.kill(pid, 9); os.waitpid(pid, 0)
print(*alone[3:], *busy[3:], os.getpid(), max(pids), *alone[:3])
'''
    result = run('-r', '/proc', '--', PYTHON, '-c', program)
    assert result.returncode == 0, result.stderr
    alone, last, busy, most, me, newest, *averages = result.stdout.split()
    assert alone == '1/1' and last == me
    running, threads = map(int, busy.split('/'))
    assert 2 <= running <= 4 and threads == 8 and most == newest
    assert all(re.fullmatch(r'\d+\.\d\d', a) for a in averages) and float(averages[0]) < 1
    with open('/proc/loadavg', encoding='utf-8') as real:
        assert int(real.read().split()[3].split('/')[1]) > 8
