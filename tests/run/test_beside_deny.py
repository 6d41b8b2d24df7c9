# SPDX-License-Identifier: Apache-2.0
"""Beside a denied path everything goes on as without a sandbox: the semantics of opening compared
call by call, struct stat field by field, and ordinary programs at work (FG-04, A-40)."""
import os
import shutil
import stat
import struct

import pytest

from common import (AT_FDCWD, AT_SYMLINK_FOLLOW, IN_VM, NR, Raw, Script, buffer, data, run,
                    shell, tree_state)

# Rights that root's command does not have inside would make differences of their own.
PLAIN = ['setpriv', '--bounding-set=-all', '--no-new-privs'] if os.getuid() == 0 else []
MODES = {'deny': ['--fs-deny', '/etc/shadow'], 'deny-explain': ['--fs-deny', '/etc/shadow', '--explain'],
         'default': []}


def how(flags, mode=0, resolve=0):
    return data(b''.join(v.to_bytes(8, 'little') for v in (flags, mode, resolve)))


def make(top):
    top.mkdir()
    (top / 'file').write_text('0123456789')
    (top / 'closed').write_text('x')
    (top / 'closed').chmod(0)
    (top / 'dir').mkdir()
    (top / 'dir' / 'inner').write_text('inner')
    os.symlink('file', top / 'link')
    os.symlink('nowhere', top / 'dangling')
    os.symlink('loop', top / 'loop')
    os.symlink('dir', top / 'dlink')
    os.symlink('/', top / 'rootlink')
    os.mkfifo(top / 'fifo')
    return top


def without_atime(line, text):
    """Following a link counts as an access, and on a file system mounted without relatime each run
    moves that time: the access times of links are left out (struct stat 72-88, struct statx 64-80)."""
    nr, _, path = line.partition(' ')
    if not any(f'/{name} ' in path + ' ' for name in ('link', 'loop')) or len(text) < 2 * 144:
        return text
    digits = text.rindex(' ') + 1
    first = digits + 2 * (64 if int(nr) == NR['statx'] else 72)
    return text[:first] + text[first + 32:]


def fcntl_state(s, fd):
    """Flags of the descriptor and of what it refers to, its position."""
    s.call('fcntl', fd, 1)
    s.call('fcntl', fd, 3)
    s.call('lseek', fd, 0, 1)


def opening(s):
    """Relative to the tree; the answers of both runs must be the same, numbers of descriptors too."""
    o = os
    for flags in (o.O_RDONLY, o.O_WRONLY, o.O_RDWR, o.O_WRONLY | o.O_APPEND, o.O_RDWR | o.O_TRUNC,
                  o.O_RDONLY | o.O_CLOEXEC, o.O_RDONLY | o.O_NONBLOCK, o.O_RDONLY | o.O_NOATIME,
                  o.O_RDONLY | o.O_DIRECTORY, o.O_RDONLY | o.O_NOFOLLOW, o.O_PATH, o.O_WRONLY | o.O_SYNC,
                  o.O_PATH | o.O_NOFOLLOW, o.O_RDONLY | o.O_DIRECT, o.O_RDWR | o.O_DSYNC, 3,
                  o.O_RDONLY | 0o200, o.O_RDWR | o.O_ASYNC, o.O_CREAT | o.O_DIRECTORY):
        for path in ('file', 'link', 'dir', 'dlink', 'dlink/inner', 'file/', 'dir/', 'link/', 'fifo',
                     'dangling', 'loop', 'missing', 'closed', '', '.', '..', 'file/x', 'dir/missing/x'):
            if path == 'fifo' and not flags & (o.O_NONBLOCK | o.O_PATH | o.O_DIRECTORY):
                continue
            fd = s.open(path, flags)
            fcntl_state(s, fd)
            s.call('close', fd)
    for n, mode in enumerate((0, 0o600, 0o644, 0o777, 0o4755, 0o2777, 0o1777, 0o7777)):
        for name in ('openat', 'open', 'creat'):
            args = {'openat': (AT_FDCWD, f'c{n}at', o.O_CREAT | o.O_RDWR, mode),
                    'open': (f'c{n}op', o.O_CREAT | o.O_WRONLY | o.O_EXCL, mode),
                    'creat': (f'c{n}cr', mode)}[name]
            s.call(name, *args)
        s.call('mkdirat', AT_FDCWD, f'd{n}', mode)
        s.call('mknodat', AT_FDCWD, f'f{n}', stat.S_IFIFO | mode, 0)
    for path in ('file', 'dangling', 'new1', 'dir', 'link', 'dir/', 'new2/', 'loop', 'dlink/new3'):
        for flags in (o.O_CREAT | o.O_EXCL | o.O_WRONLY, o.O_CREAT | o.O_WRONLY, o.O_CREAT,
                      o.O_CREAT | o.O_NOFOLLOW | o.O_RDWR):
            s.call('openat', AT_FDCWD, path, flags, 0o640)
    for flags, mode, resolve in ((0, 0, 0), (0, 0o600, 0), (o.O_CREAT | o.O_RDWR, 0o600, 0),
                                 (1 << 40, 0, 0), (0, 0, 1 << 20), (o.O_PATH | o.O_CREAT, 0, 0),
                                 (o.O_TMPFILE | o.O_RDWR, 0o600, 0), (0, 0, 1), (0, 0, 2), (0, 0, 4),
                                 (0, 0, 8), (0, 0, 16), (0, 0, 8 | 4), (0, 0, 8 | 16)):
        outside = () if flags else ('rootlink', '/etc/passwd')
        for path in ('file', 'link', 'dir/../file', '../', *outside, 'dir'):
            s.call('openat2', AT_FDCWD, path, how(flags, mode, resolve), 24)
    for size in (0, 8, 23, 25, 32, 4096, 5000):
        s.call('openat2', AT_FDCWD, 'file', s.keep(buffer(8192)), size)


def appending(s):
    fd = s.open('app', os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    other = s.open('app', os.O_WRONLY)
    for text in ('one', 'two'):
        s.call('write', fd, text, 3)
        s.call('pwrite64', other, 'X', 1, 1)
    s.call('lseek', fd, 0, 0)
    s.call('write', fd, 'end', 3)
    s.call('ftruncate', other, 7)
    tmp = s.open('.', os.O_TMPFILE | os.O_RDWR, 0o640)
    s.call('write', tmp, 'temporary', 9)
    s.call('linkat', AT_FDCWD, '/proc/self/fd/5', AT_FDCWD, 'from-tmp', AT_SYMLINK_FOLLOW)
    s.call('linkat', AT_FDCWD, 'link', AT_FDCWD, 'hard-of-link', 0)
    s.call('linkat', AT_FDCWD, 'link', AT_FDCWD, 'hard-of-file', AT_SYMLINK_FOLLOW)
    s.call('truncate', 'link', 4)
    s.call('truncate', 'dir', 4)
    s.call('truncate', 'closed', 4)
    s.call('truncate', 'file', -1)
    for pair in (('file', 'dir'), ('dir', 'file'), ('hard-of-link', 'link'), ('app', 'app'),
                 ('dir', 'dir/inner'), ('dangling', 'moved'), ('missing', 'x'), ('.', 'y'), ('app', '..')):
        for flags in (0, 1, 2, 4, 3):
            s.call('renameat2', AT_FDCWD, pair[0], AT_FDCWD, pair[1], flags)
    for path in ('dir', 'file/', 'missing', '.', 'loop', 'dlink', ''):
        s.call('unlinkat', AT_FDCWD, path, 0)
        s.call('unlinkat', AT_FDCWD, path, 0x200)
        s.call('unlinkat', AT_FDCWD, path, 0x100)
        s.call('mkdirat', AT_FDCWD, path, 0o700)
        s.call('symlinkat', 'target', AT_FDCWD, path)
        s.call('readlinkat', AT_FDCWD, path, buffer(8), 8)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('umask', [0o027] if IN_VM else [0o022, 0, 0o777, 0o027])
@pytest.mark.parametrize('what', [opening, appending], ids=lambda f: f.__name__)
def test_same_answers_and_same_tree(what, umask, mode, tmp_path):
    trees, results = [], []
    for name in ('native', 'inside'):
        (tmp_path / name).mkdir()
        top = make(tmp_path / name / 'tree')
        s = Script()
        s.call('umask', umask)
        what(s)
        answers = s.native(prefix=PLAIN, cwd=top) if name == 'native' else \
            s.run('-w', tmp_path, '-r', '/', *MODES[mode], cwd=top)
        results.append(list(zip(s.lines, map(repr, answers))))
        state = tree_state(top)
        trees.append({k: v[:5] + v[6:] for k, v in state.items()})
    # F_GETFL shows a meaningless O_NOFOLLOW natively; what is opened on behalf was resolved before.
    getfl = f'{NR["fcntl"]} $'
    different = [(a, b[1]) for a, b in zip(*results) if a != b
                 and not (a[0].startswith(getfl) and a[0].endswith(' 3') and
                          int(a[1][3:-1]) ^ int(b[1][3:-1]) == os.O_NOFOLLOW)]
    assert different == [], '\n'.join(map(str, different))
    assert trees[0] == trees[1]


def test_same_stat_field_by_field(tmp_path):
    """Mode, links, block size and every time, by every call: the layouts differ by machine."""
    top = make(tmp_path / 'tree')
    os.utime(top / 'file', ns=(1234567890123456789, 987654321987654321))
    os.link(top / 'file', top / 'second')
    s = Script()
    calls = []
    for path in (top / 'file', top / 'dir', top / 'link', top / 'fifo', top / 'closed', '/etc/passwd',
                 '/dev/null', '/', top / 'missing', top / 'loop'):
        for flags in (0, 0x100, 0x800, 0x2000, 0x100000):
            calls.append(s.call('newfstatat', AT_FDCWD, path, buffer(256), flags))
            calls.append(s.call('statx', AT_FDCWD, path, flags, 0xfff, buffer(256)))
        calls += [s.call('stat', path, buffer(256)), s.call('lstat', path, buffer(256)),
                  s.call('statx', AT_FDCWD, path, 0, 0x2, buffer(256)),
                  s.call('statx', AT_FDCWD, path, 0, 0x80000000, buffer(256)),
                  s.call('file_getattr', AT_FDCWD, path, buffer(24), 24, 0)]
        for mode in range(0, 9):
            calls += [s.call('faccessat', AT_FDCWD, path, mode), s.call('access', path, mode),
                      s.call('faccessat2', AT_FDCWD, path, mode, 0x200),
                      s.call('faccessat2', AT_FDCWD, path, mode, 0x100)]
    fd = s.open(top / 'file', os.O_RDONLY)
    calls += [s.call('fstat', fd, buffer(256)), s.call('newfstatat', fd, '', buffer(256), 0x1000),
              s.call('statx', fd, '', 0x1000, 0xfff, buffer(256)),
              s.call('newfstatat', fd, 0, buffer(256), 0x1000), s.call('readlinkat', fd, '', buffer(8), 8)]
    grants = ['-r', '/', '--fs-deny', '/etc/shadow']
    inside, outside = s.run(*grants), s.native(prefix=PLAIN)
    different = {}
    for i in calls:
        if i is None:
            continue
        a, b = (without_atime(s.lines[i], side[i].text) for side in (outside, inside))
        if a != b:
            different[s.lines[i]] = (a, b)
    assert different == {}
    size = 144 if 'stat' in NR else 128
    first = outside[calls[0]].buffers[0].ljust(size, b'\0')
    assert struct.unpack_from('<Q', first, 48)[0] == 10


# ---- ordinary programs ----

def workspace(tmp_path):
    top = tmp_path / 'work'
    top.mkdir()
    (top / 'secret').write_text('SECRET')
    return top, ['-w', top, '-w', '/dev/null', '-r', '/proc', '-r', '/dev/urandom', '--fs-deny',
                 top / 'secret', '--env', f'HOME={top}']


def test_shell_tools(tmp_path):
    top, policy = workspace(tmp_path)
    script = f'''set -e; cd {top}
mkdir -p a/b/c; echo one >a/b/c/x; cp -a a copy; mv copy moved; ln -s a l; ln a/b/c/x hard
tar cf t.tar a; mkdir out; tar xf t.tar -C out; cmp out/a/b/c/x a/b/c/x
find . -name x | sort; grep -rl one a; chmod 640 hard; touch -d @5 hard; rm -r moved
sed -i s/one/two/ hard; cat hard; sort -o sorted a/b/c/x; dd if=a/b/c/x of=dd bs=1 2>/dev/null; wc -c <dd
'''
    result = shell(script, *policy)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ['./a/b/c/x', './moved/b/c/x', './out/a/b/c/x', 'a/b/c/x', 'two',
                                     '4']
    assert (top / 'secret').read_text() == 'SECRET'
    refused = shell(f'cp {top}/secret {top}/copy; tar cf {top}/s.tar -C {top} secret; rm {top}/secret',
                    *policy)
    assert refused.returncode != 0 and not (top / 'copy').exists()
    assert (top / 'secret').read_text() == 'SECRET'


def test_editors_that_rename_over(tmp_path):
    """Write beside, fsync, keep the mode, rename over; with a backup link, as vi and emacs do."""
    top, policy = workspace(tmp_path)
    (top / 'doc').write_text('old')
    (top / 'doc').chmod(0o640)
    program = f'''
import os
os.chdir("{top}")
st = os.stat("doc")
fd = os.open(".doc.swp", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
os.write(fd, b"new"); os.fchmod(fd, st.st_mode & 0o7777); os.fchown(fd, st.st_uid, st.st_gid); os.fsync(fd)
os.link("doc", "doc~"); os.rename(".doc.swp", "doc"); os.close(fd)
d = os.open(".", os.O_RDONLY | os.O_DIRECTORY); os.fsync(d)
os.utime("doc", ns=(1, 2))
print(open("doc").read(), open("doc~").read(), oct(os.stat("doc").st_mode & 0o777))
try: os.rename("secret", "gone"); print("moved")
except PermissionError: print("kept")
'''
    result = run(*policy, '--', '/usr/bin/python3', '-c', program)
    assert result.stdout == 'new old 0o640\nkept\n', result.stderr


def test_python_standard_library(tmp_path):
    top, policy = workspace(tmp_path)
    program = f'''
import glob, json, os, pathlib, shutil, sqlite3, subprocess, tempfile, zipfile
os.chdir("{top}")
tempfile.tempdir = "{top}"
db = sqlite3.connect("db"); db.execute("create table t(x)"); db.executemany("insert into t values(?)", [(i,) for i in range(100)]); db.commit()
print(db.execute("select sum(x) from t").fetchone()[0]); db.close()
with tempfile.TemporaryDirectory() as d: pathlib.Path(d, "x").write_text("y"); shutil.copytree(d, "tree")
with tempfile.NamedTemporaryFile() as f: f.write(b"x"); f.flush(); print(os.path.exists(f.name))
z = zipfile.ZipFile("z.zip", "w"); z.write("tree/x"); z.close(); print(zipfile.ZipFile("z.zip").namelist())
print(subprocess.run(["sh", "-c", "cat tree/x | cat"], capture_output=True, text=True).stdout)
shutil.rmtree("tree"); os.makedirs("a/b/c", exist_ok=True); os.removedirs("a/b/c"); print(sorted(glob.glob("*.zip")))
json.dump({{}}, open("j", "w"))
'''
    result = run(*policy, '--', '/usr/bin/python3', '-c', program)
    assert result.stdout == "4950\nTrue\n['tree/x']\ny\n['z.zip']\n", result.stderr


def test_git(tmp_path):
    if not shutil.which('git'):
        pytest.skip('no git on this machine')
    top, policy = workspace(tmp_path)
    git = 'git -c user.name=n -c user.email=e@x -c init.defaultBranch=main -c safe.directory=*'
    script = f'''set -e; cd {top}; mkdir repo; cd repo; {git} init -q .
for i in 1 2 3 4 5; do echo $i >f$i; done; {git} add .; {git} commit -q -m first
echo more >>f1; {git} status --short; {git} commit -qam second; {git} log --oneline | wc -l
{git} branch side; {git} checkout -q side; {git} mv f2 g2; {git} commit -qm third
{git} clone -q . ../clone; ls ../clone; {git} gc -q; {git} fsck'''
    result = shell(script, *policy)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ['M', 'f1', '2', 'f1', 'f3', 'f4', 'f5', 'g2']
    # What it may not do.
    refused = shell(f'cd {top}/repo && cp ../secret . && {git} add secret', *policy)
    assert refused.returncode != 0 and 'ermission denied' in refused.stderr


def test_make(tmp_path):
    top, policy = workspace(tmp_path)
    (top / 'Makefile').write_text('all: a b c\n%: %.in\n\t@cat $< secret >$@ 2>/dev/null; '
                                  'cp $< $@\nclean:\n\trm -f a b c\n')
    for n in 'abc':
        (top / f'{n}.in').write_text(n)
    for command in ('make -s -j3', 'make -q', 'make -s clean'):
        assert shell(f'cd {top} && {command}', *policy).returncode == 0, command
    assert shell(f'cd {top} && make -q', *policy).returncode == 1


def test_watching_beside(tmp_path):
    top, policy = workspace(tmp_path)
    (top / 'dir').mkdir()
    s = Script()
    s.call('inotify_init1', os.O_NONBLOCK, save='w')
    s.call('inotify_add_watch', Raw('$w'), top / 'dir', 0x100)
    s.call('openat', AT_FDCWD, top / 'dir' / 'new', os.O_CREAT | os.O_WRONLY, 0o600)
    s.call('read', Raw('$w'), buffer(64), 64)
    s.call('inotify_add_watch', Raw('$w'), top / 'secret', 0x100)
    answers = s.run(*policy)
    assert [a.name for a in answers] == ['OK'] * 4 + ['EACCES']
    assert b'new' in answers[3].buffers[0]
