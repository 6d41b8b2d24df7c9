# SPDX-License-Identifier: Apache-2.0
"""--chroot against programs that change names, links, descriptors and directories while a call is
decided, and against others that rearrange the root meanwhile: nothing outside is ever reached."""
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'run'))
from chroot_tree import make_root  # noqa: E402  pylint: disable=wrong-import-position
from common import GRANTS, IN_VM, LIMIT, NR, SLOW, Script, helper, native, sandlock  # noqa: E402

SECONDS = float(os.environ.get('SANDLOCK_RACE_SECONDS',
                               '10' if os.environ.get('SANDLOCK_LONG') else '2')) * (2 if IN_VM else 1)
MODES = ['text', 'exec', 'cwd'] if IN_VM else ['text', 'link', 'tree', 'exec', 'execlink', 'cwd', 'fds']


def make_race(tmp_path):
    """The same path inside and outside: what begins with 'G' is outside only."""
    host = tmp_path / 'race'
    root = make_root(tmp_path / 'root', programs=['sh'], helpers=('fs_race', 'rawcall'))
    inner = root / str(host).lstrip('/')
    for top in (host, inner):
        for folder in ('gd', 'x/a/b'):
            (top / folder).mkdir(parents=True)
        (top / 'plain').write_text('plain')
        (top / 'gd' / 'file').write_text('plain')
        shutil.copy('/usr/bin/true', top / 'pprog')
    shutil.rmtree(host / 'x' / 'a')
    (host / 'bd').mkdir()
    (host / 'bd' / 'file').write_text('GUARD')
    (host / 'guard').write_text('GUARD')
    (host / 'x' / 'plain').write_text('GUARD')
    (inner / 'x' / 'plain').write_text('plain')
    (host / 'gprog').write_text('#!/bin/sh\nexit 77\n')
    (host / 'gprog').chmod(0o755)
    for path in (inner, *inner.parents):
        if path == root:
            break
        path.chmod(0o755)
    # true wants its libraries too.
    from chroot_tree import install  # pylint: disable=import-outside-toplevel
    install(root, '/usr/bin/true', '/bin/true')
    return host, root, inner


@pytest.mark.parametrize('mode', MODES)
def test_race(mode, tmp_path):
    """Not one look outside. Where that is possible the host's tree is even granted, under another
    name, so that only the resolution stands between."""
    host, root, inner = make_race(tmp_path)
    seconds = SECONDS
    grants = ['-r', '/', '-w', host]
    if not mode.startswith('exec'):
        grants += ['--fs-mount', f'/shown:{host}']
    result = sandlock('run', '--chroot', root, *grants, '--', '/fs_race', mode, host, seconds,
                      timeout=120 * SLOW + seconds * 4)
    assert result.returncode == 0, result.stdout + result.stderr
    print(result.stdout)
    text = result.stdout.split()
    allowed, refused = int(text[1]), int(text[3])
    assert allowed > 0, result.stdout
    if mode != 'fds' and not IN_VM:  # emulated, one thread may never meet the other's moment
        # Where a link leads nowhere, O_CREAT makes what it names, inside: refused no more.
        assert refused > 0 or (inner / 'guard').exists(), result.stdout
        control = native(helper('fs_race'), mode, host, seconds)
        assert control.returncode == 9, control.stdout
    assert (host / 'guard').read_text() == 'GUARD' and (inner / 'plain').exists()


@pytest.mark.parametrize('mode', MODES[:1] if IN_VM else ['text', 'link', 'tree', 'exec', 'cwd'])
def test_race_beneath_a_mount(mode, tmp_path):
    """The same without another root: what a mount covers is never seen, though the policy grants where it lies,
    and what is mounted read-only is never opened for writing."""
    host, _, _ = make_race(tmp_path)
    (tmp_path / 'empty').write_text('')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / 'file').write_text('plain')
    mounts = [f'{host}/guard:{tmp_path}/empty:ro', f'{host}/bd:{tmp_path}/folder:ro', f'{host}/gprog:{host}/pprog:ro']
    result = sandlock('run', *GRANTS, '-w', host, *(w for m in mounts for w in ('--fs-mount', m)), '--',
                      helper('fs_race'), mode, host, SECONDS, timeout=120 * SLOW + SECONDS * 4)
    assert result.returncode == 0, result.stdout + result.stderr
    allowed, refused = map(int, result.stdout.split()[1::2])
    print(result.stdout)
    assert allowed > 0 and (IN_VM or refused > 0 or mode in ('exec', 'cwd')), result.stdout
    assert (host / 'guard').read_text() == 'GUARD'
    if not IN_VM:
        control = native(helper('fs_race'), mode, host, SECONDS)
        assert control.returncode == 9, control.stdout


def test_directories_moved_from_outside(tmp_path):
    """RC-02: somebody moves a directory out of the root and back while '..' is walked in it. What would be
    found there is granted, so that the kernel does not help."""
    host, root, inner = make_race(tmp_path)
    stop = threading.Event()

    def mover():
        while not stop.is_set():
            os.rename(inner / 'x' / 'a', host / 'x' / 'a')
            os.rename(host / 'x' / 'a', inner / 'x' / 'a')

    thread = threading.Thread(target=mover)
    thread.start()
    seconds = SECONDS
    try:
        result = sandlock('run', '--chroot', root, '-r', '/', '-w', host, '--fs-mount',
                          f'/shown:{host}/x/plain', '--', '/fs_race', 'up', host, seconds, timeout=120 * SLOW + seconds * 4)
    finally:
        stop.set()
        thread.join()
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(result.stdout.split()[1]) > 0


def test_every_path_call_is_mediated_or_refused(tmp_path):
    """A path that exists on the host only leads nowhere, by every call of this machine that takes one;
    natively the same lines find it."""
    _, root, _ = make_race(tmp_path)
    (tmp_path / 'host').mkdir()
    outside = tmp_path / 'host' / 'outside'
    outside.write_text('outside')
    calls = Script()
    made = {}
    for name, arguments in path_calls(str(outside)).items():
        if name in NR:
            made[name] = calls.call(name, *arguments)
    done = sandlock('run', '--chroot', root, '-r', '/', '-w', '/', '--', '/rawcall', input=calls.text())
    answers = calls._answers(done)
    fine = {'ENOENT', 'EPERM', 'ENOSYS', 'EACCES', 'ENOTDIR', 'ENOTSUP', 'EINVAL', 'EFAULT'}
    assert {n: answers[i].name for n, i in made.items() if answers[i].name not in fine} == {}
    assert outside.read_text() == 'outside'
    native_answers = calls.native()
    assert any(native_answers[i].name == 'OK' for i in made.values())


def path_calls(path):
    """Arguments of every call of the table whose recipe has a path."""
    top = pathlib.Path(__file__).resolve().parents[2]
    found = {}
    for line in (top / 'gen' / 'syscalls.tbl').read_text().splitlines():
        words = line.split('#')[0].split()
        if len(words) < 5 or 'path' not in words[4].split(','):
            continue
        if words[3] in ('mount', 'umount', 'swap', 'acct', 'reboot', 'kexec', 'quota'):
            continue
        found[words[0]] = [path if role == 'path' else -100 if role == 'dirfd' else 0
                           for role in words[4].split(',')]
    return found


def test_no_native_right_to_write(tmp_path):
    """FG-07: what the command could do by itself, were a call not mediated, is to read: a shell with the
    same Landlock domain but the host's tree in view cannot be had, so the proof is in
    tests/unit/test_landlock_kernel.c; here, that a writable descriptor comes from the supervisor."""
    _, root, inner = make_race(tmp_path)
    calls = Script()
    fd = calls.open(f'{tmp_path}/race/plain', os.O_RDWR)
    wrote = calls.call('ftruncate', fd, 1)
    done = sandlock('run', '--chroot', root, '-r', '/', '-w', f'{tmp_path}/race', '--', '/rawcall',
                    input=calls.text())
    assert calls._answers(done)[wrote].name == 'OK' and (inner / 'plain').read_text() == 'p'


def test_two_sandboxes_over_one_root(tmp_path):
    """One renames what the other walks through."""
    host, root, _ = make_race(tmp_path)
    seconds = SECONDS
    command = ['run', '--chroot', str(root), '-r', '/', '-w', str(host), '--fs-mount', f'/shown:{host}', '--',
               '/fs_race', 'tree', str(host), str(seconds)]
    from common import SANDLOCK  # pylint: disable=import-outside-toplevel
    other = subprocess.Popen([SANDLOCK, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    result = sandlock(*command, timeout=120 * SLOW + seconds * 4)
    assert other.wait() in (0, 3) and result.returncode in (0, 3), result.stdout


@pytest.mark.parametrize('mode', ['signals', 'threads'])
def test_storm(mode, tmp_path):
    """Calls that are made again by descriptor: right results, and no descriptor left, while signals
    arrive, the process is stopped and continued, and other threads do the same."""
    root = make_root(tmp_path / 'root', programs=[], helpers=('call_storm',))
    count = 60 if IN_VM else 400
    command = ['run', '--chroot', root, '-r', '/', '--', '/call_storm', mode, count, 80000 if IN_VM else 1000]
    result = sandlock(*command, timeout=LIMIT)
    assert result.stdout == 'fine\n', result.stdout + result.stderr
