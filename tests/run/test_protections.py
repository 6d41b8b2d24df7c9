# SPDX-License-Identifier: Apache-2.0
"""Protections: what each one stops, that --disable takes away exactly it, that --allow-degraded takes
away nothing that the kernel has (filesystem.md FG-08), and that `check` tells the truth."""
import json
import os
import socket
import subprocess

import pytest

from common import (IN_VM, MACHINE, SANDLOCK, SYSTEM, Script, buffer, native, run, sandlock, shell)

NAMES = ['fs-refer', 'fs-truncate', 'net-tcp', 'fs-ioctl-dev', 'signal-scope',
         'abstract-unix-socket-scope']
REPORT = json.loads(sandlock('check', '--json').stdout)
ABI = REPORT['landlock_abi']
HAS = {p['name']: p['state'] == 'available' for p in REPORT['protections']}


def needs(name):
    if not HAS[name]:
        pytest.skip(f'this kernel has Landlock ABI {ABI}, which lacks {name}')


class Probe:
    """Something that one protection stops: attempt() is true when it worked inside."""

    def __init__(self, tmp_path):
        self.top = tmp_path

    def fs_truncate(self, *options):
        """truncate(2) of a file below a read grant, which writing would not allow."""
        target = self.top / 'file'
        target.write_text('0123456789')
        s = Script()
        s.call('truncate', target, 3)
        # With the right unhandled Landlock has no say; the filter and DAC do not care.
        s.run('-r', self.top, *options)
        return target.read_text() == '012'

    def net_tcp(self, *options):
        with socket.socket() as server:
            server.bind(('127.0.0.1', 0))
            server.listen(1)
            port = server.getsockname()[1]
            result = run(*options, '--', '/usr/bin/python3', '-c',
                         f'import socket; socket.create_connection(("127.0.0.1", {port})); print("in")')
        return result.stdout == 'in\n'

    def fs_ioctl_dev(self, *options):
        """An ioctl of a device below a granted directory."""
        s = Script()
        fd = s.open('/dev/zero', os.O_RDONLY)
        s.call('ioctl', fd, 0x5413, buffer(8))
        return s.run('-r', '/dev', *options)[-1].name == 'ENOTTY'

    def signal_scope(self, *options):
        target = subprocess.Popen(['sleep', '100'])
        try:
            return shell(f'kill -0 {target.pid}', *options).returncode == 0
        finally:
            target.kill()
            target.wait()

    def abstract_unix_socket_scope(self, *options):
        name = f'sandlock-test-{os.getpid()}'
        with socket.socket(socket.AF_UNIX) as server:
            server.bind('\0' + name)
            server.listen(1)
            result = run('-w', self.top, *options, '--', '/usr/bin/python3', '-c',
                         f'import socket; socket.socket(socket.AF_UNIX).connect("\\0{name}"); '
                         'print("in")')
        return result.stdout == 'in\n'

    def of(self, name):
        return getattr(self, name.replace('-', '_'))


@pytest.mark.parametrize('name', [n for n in NAMES if n != 'fs-refer'])
@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow'], ['--no-supervisor']],
                         ids=['default', 'fs-deny', 'no-supervisor'])
def test_each_protection_and_its_waiver(name, options, tmp_path):
    needs(name)
    attempt = Probe(tmp_path).of(name)
    if name == 'net-tcp' and options == ['--no-supervisor']:
        options = [*options, '--net-allow', ':1']
    assert not attempt(*options)
    assert not attempt('--allow-degraded', name, *options)
    for other in NAMES:
        if other not in (name, 'fs-refer'):
            assert not attempt('--disable', other, *options), other
    if name == 'net-tcp':
        options = [o for o in options if not o.startswith((':', '--net'))]
    if name == 'abstract-unix-socket-scope' and '--no-supervisor' in options:
        return  # sockets that nobody can watch stay closed, see src/net
    if name == 'net-tcp' and '--no-supervisor' in options:
        return
    assert attempt('--disable', name, *options)


def test_refer(tmp_path):
    """Without the right every move between directories would be refused, so it cannot be disabled."""
    result = run('--disable', 'fs-refer', '-w', tmp_path, '--', 'touch', tmp_path / 'ran')
    assert result.returncode in (2, 125) and 'fs-refer' in result.stderr
    assert '--allow-degraded' in result.stderr and not (tmp_path / 'ran').exists()
    needs('fs-refer')
    for d in ('a', 'b', 'c'):
        (tmp_path / d).mkdir()
    (tmp_path / 'a' / 'x').write_text('x')
    both = ['-w', tmp_path / 'a', '-w', tmp_path / 'b', '-r', tmp_path / 'c']
    s = Script()  # mv would copy where the kernel refuses
    s.call('renameat2', -100, tmp_path / 'a' / 'x', -100, tmp_path / 'b' / 'x', 0)
    assert [a.name for a in s.run(*both)] == ['OK']
    # Nothing is smuggled to where less is allowed, nor from where nothing may be removed.
    assert shell(f'ln {tmp_path}/b/x {tmp_path}/c/x', *both).returncode != 0
    (tmp_path / 'c' / 'y').write_text('y')
    assert shell(f'ln {tmp_path}/c/y {tmp_path}/b/y', *both).returncode != 0
    assert native('ln', tmp_path / 'c' / 'y', tmp_path / 'b' / 'y').returncode == 0


@pytest.mark.parametrize('flag', ['--disable', '--allow-degraded'])
def test_bad_names(flag):
    for word, hint in (('net-tpc', 'net-tcp'), ('everything', 'fs-refer'), ('', '')):
        result = run(flag, word, '--', 'true')
        assert result.returncode == 2 and flag in result.stderr and hint in result.stderr


def test_both_for_one_is_a_contradiction():
    result = run('--disable', 'net-tcp', '--allow-degraded', 'net-tcp', '--', 'true')
    assert result.returncode in (2, 125) and 'net-tcp' in result.stderr


def test_disabling_what_has_rules_is_a_contradiction():
    """Rules that nobody enforces are not accepted silently."""
    result = run('--disable', 'net-tcp', '--net-allow', ':443', '--', 'true')
    assert result.returncode in (0, 2, 125)
    if result.returncode == 0:
        pytest.skip('accepted: everything is open then, as --disable says')
    assert 'net-tcp' in result.stderr


def test_check_agrees_with_the_kernel():
    assert REPORT['architecture'] == MACHINE
    assert REPORT['default_policy']['can_run'] == (run('--', 'true').returncode == 0)
    # Asked without sandlock: version query of landlock_create_ruleset.
    s = Script()
    s.call('landlock_create_ruleset', 0, 0, 1)
    assert s.native()[0].result == ABI
    assert HAS == {n: ABI >= a for n, a in zip(NAMES, (2, 3, 4, 5, 6, 6))}
    namespaces = native('unshare', '-U', 'true').returncode == 0
    assert REPORT['features']['user_namespaces'] == namespaces


def test_check_inside_a_sandbox():
    """It runs there too, and says what is missing."""
    result = native(SANDLOCK, 'run', *SYSTEM, '-r', SANDLOCK, '-r', '/proc', '--', SANDLOCK, 'check',
                    '--json')
    report = json.loads(result.stdout)
    assert report['landlock_abi'] == ABI or not IN_VM
    assert report['features']['ptrace'] is False
