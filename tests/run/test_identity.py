# SPDX-License-Identifier: Apache-2.0
"""The sandbox's name is the host's name wherever it is looked up (process.md PV-01)."""
import os
import platform

import pytest

from common import MACHINE, NR, Script, buffer, native, run, shell

ETC = '/etc/hostname'
pytestmark = pytest.mark.skipif(not os.access(ETC, os.R_OK), reason='the system has no /etc/hostname')
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


def test_every_place_agrees(tmp_path):
    (tmp_path / 'in').mkdir()
    result = run('--name', 'a-box', '-r', '/proc', '-w', tmp_path / 'in', '--', PYTHON, '-c', SPELLINGS,
                 tmp_path / 'in')
    assert result.stdout.split() == ['a-box'] * 15, result.stderr
    (tmp_path / 'out').mkdir()
    control = native(PYTHON, '-c', SPELLINGS, tmp_path / 'out').stdout.split()
    assert len(control) == 15 and control.count(platform.node()) >= 4 and 'a-box' not in control


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
