# SPDX-License-Identifier: Apache-2.0
"""The short way of paths below --workdir (cow_path(), staged_resolve()): the same answers as the kernel's, by every
spelling; and races in which other threads move, exchange and replace what a path leads through."""
import os

import pytest

from common import IN_VM, LIMIT, native, run, tree_state

SECONDS = '10' if os.environ.get('SANDLOCK_LONG') else '1' if IN_VM else '3'


@pytest.fixture
def work(tmp_path):
    top = tmp_path / 'work'
    (top / 'dir' / 'sub' / 'deep').mkdir(parents=True)
    (top / 'still' / 'sub').mkdir(parents=True)
    for name in ('file', 'dir/inner', 'dir/never', 'dir/sub/leaf', 'dir/sub/deep/x', 'still/sub/leaf'):
        (top / name).write_text(name)
    os.link(top / 'file', top / 'still' / 'sub' / 'hard')
    (top / 'way').symlink_to('dir/sub')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'x').write_text('outside')
    for path in (tmp_path, top):
        path.chmod(0o755)
    return top


SPELLINGS = r'''
import itertools, os, shutil, sys
top = sys.argv[1]
os.chdir(top)
os.mkdir('new'); os.mkdir('new/sub'); open('new/sub/leaf', 'w').write('n')
os.unlink('dir/inner')
os.rename('dir/sub/deep', 'new/deep')            # of the tree, in a new directory
os.rename('dir/sub', 'moved')
shutil.rmtree('still/sub'); os.mkdir('still/sub')  # opaque
open('file', 'a').write('more')
os.link('file', 'new/hard'); os.symlink('../new', 'still/link'); os.mkdir('dir/sub')
names = ['dir', 'sub', 'deep', 'new', 'moved', 'still', 'leaf', 'x', 'hard', 'way', 'link', 'inner', 'file', '..', '.', '']
places = [(top + '/', None), ('', os.open('.', os.O_RDONLY)), ('../', os.open('new', os.O_RDONLY)), ('', os.open('new/deep', os.O_RDONLY))]
above = [os.stat(top + '/..' * n).st_ino for n in range(1, 12)]  # no grant to list them
count = 0
for n in (1, 2, 3):
    for parts in itertools.product(names, repeat=n):
        count += 1
        if n == 3 and count % STEP:
            continue
        for before, fd in places:
            path = before + '/'.join(parts)
            told, outside = [], False
            for follow in (True, False):
                try:
                    st = os.stat(path, dir_fd=fd, follow_symlinks=follow)
                    outside = st.st_ino in above
                    told.append((oct(st.st_mode), 0 if oct(st.st_mode).startswith('0o4') else (st.st_size, st.st_nlink)))
                except OSError as e:
                    told.append(e.errno)
            try:
                if outside:
                    raise PermissionError(13, '')
                got = os.open(path, os.O_RDONLY, dir_fd=fd)
                told.append(os.read(got, 9) if not os.path.isdir('/proc/self/fd/%d' % got) else sorted(os.listdir(got)))
                os.close(got)
            except OSError as e:
                told.append(e.errno)
            print(parts, fd is None, told)
'''


@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow']], ids=['short', 'by hand'])
def test_spellings(work, options, tmp_path):
    """Links, "..", ".", slashes, hard links, whiteouts, opaque and renamed directories, from several places."""
    text = SPELLINGS.replace('STEP', '97' if IN_VM else '7')
    before = tree_state(work)
    done = run('--workdir', work, '-r', '/proc', *options, '--on-exit', 'abort', '--', 'python3', '-c', text, work,
               cwd=work, timeout=LIMIT * 4, env={'PATH': '/usr/bin:/bin'})
    assert done.returncode == 0, done.stderr
    assert tree_state(work) == before
    control = native('python3', '-c', text, work, cwd=work)
    assert control.stdout.count('\n') > 1000
    want, have = control.stdout.splitlines(), done.stdout.splitlines()
    assert [(a, b) for a, b in zip(want, have) if a != b] == [] and len(want) == len(have)


RACE = r'''
import ctypes, os, sys, threading, time
top, out = sys.argv[1:]
os.chdir(top)
end = time.monotonic() + SECONDS
libc = ctypes.CDLL(None, use_errno=True)
def swap(a, b): libc.renameat2(-100, a.encode(), -100, b.encode(), 2)
def loop(*steps):
    def body():
        while time.monotonic() < end:
            for step in steps:
                try: step()
                except OSError: pass
    return body
os.mkdir('new'); os.mkdir('new/sub'); os.symlink(out, 'to'); open('new/sub/x', 'w').close()
dirs = [os.open(d, os.O_RDONLY) for d in ('.', 'dir/sub/deep')]
bodies = [
    loop(lambda: swap('new', 'dir'), lambda: os.rename('dir/sub', 'new/m'), lambda: os.rename('new/m', 'dir/sub')),
    loop(lambda: swap('way', 'to'), lambda: swap('new/sub', 'to')),
    loop(lambda: os.link('file', 'dir/h'), lambda: os.unlink('dir/h'), lambda: os.link('dir/never', 'n'), lambda: os.unlink('n')),
    loop(lambda: os.mkdir('gone'), lambda: os.chdir('gone'), lambda: os.rmdir('../gone'), lambda: os.chdir(top),
         lambda: os.chdir('dir/sub/deep'), lambda: os.chdir('../../..'), lambda: os.chdir(top)),
]
threads = [threading.Thread(target=b) for b in bodies]
for t in threads: t.start()
opened, seen = 0, set()
paths = ['way/x', 'dir/sub/x', 'new/sub/x', 'to/x', 'dir/sub/deep/x', 'dir/never', 'new/never', 'n', 'gone/x', 'dir/../to/x',
         '../out/x', '../../out/x', 'dir/sub/../../../out/x', 'dir/h']
# Where a second is nothing (an emulator under load) until one was opened: the others let go at `end`.
while time.monotonic() < end or (not opened and time.monotonic() < end + 100):
    for path in paths:
        for full, fd in ((top + '/' + path, None), (path, None), (path, dirs[-1]), (path, dirs[0])):
            try:
                got = os.open(full, os.O_RDONLY, dir_fd=fd)
                seen.add(os.read(got, 9)); os.close(got)
            except OSError: pass
            try:
                st = os.stat(full, dir_fd=fd, follow_symlinks=False)
                got = os.open(full, os.O_WRONLY | (os.O_TRUNC if CUT else 0), dir_fd=fd)
                os.write(got, b'raced'); opened += 1
                libc.linkat(got, b'', -100, b'byfd', 0x1000); libc.unlinkat(-100, b'byfd', 0)
                os.close(got)
                os.chmod(full, 0o640, dir_fd=fd) if fd is not None else os.chmod(full, 0o640)
            except OSError: pass
for t in threads: t.join()
print('opened' if opened else 'none', 'outside' if b'outside' in seen else '', 'never' if b'dir/never' in seen else '')
'''


@pytest.mark.parametrize('with_', ['plain', 'deny', 'chroot', 'mount'])
def test_races(work, with_, tmp_path):
    out, extra = tmp_path / 'out', tmp_path / 'mounted'
    extra.mkdir()
    options = {'plain': [], 'deny': ['--fs-deny', work / 'dir' / 'never'], 'chroot': ['--chroot', '/'],
               'mount': ['--fs-mount', f'{work}/still:{extra}:ro']}[with_]
    before, before_out = tree_state(work), tree_state(out)
    text = RACE.replace('SECONDS', SECONDS).replace('CUT', 'False')
    done = run('--workdir', work, *options, '--on-exit', 'abort', '--', 'python3', '-c', text, work, out, cwd=work,
               timeout=LIMIT * 4, env={'PATH': '/usr/bin:/bin'})
    words = done.stdout.split()
    assert done.returncode == 0 and words[:1] == ['opened'], done
    assert 'outside' not in words
    if with_ == 'deny':
        assert 'never' not in words
    assert tree_state(work) == before and tree_state(out) == before_out
    if with_ == 'plain':
        assert 'outside' in native('python3', '-c', text.replace('b\'raced\'', 'b\'\''), work, out, cwd=work).stdout
