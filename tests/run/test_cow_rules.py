# SPDX-License-Identifier: Apache-2.0
"""Rules of the layer (spec §4 CW-*, and §10) as programs that say the same inside as without a sandbox, in a twin
of the tree. The table in src/fs/cow/README.md says which test is for which rule."""
import os
import subprocess

import pytest

from common import native
from test_cow import dry, inside, state, work  # pylint: disable=unused-import

HEAD = '''
import ctypes, errno, fcntl, mmap, os, socket, stat, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def name(e): return errno.errorcode[e.errno]
def does(f, *args, **kw):
    try: r = f(*args, **kw); return r if isinstance(r, (bool, str, bytes)) else "ok"
    except OSError as e: return name(e)
def text(p): return open(p).read()
def put(p, t, mode="w"):
    with open(p, mode) as f: f.write(t)
def rename2(a, b, flags):
    return "ok" if libc.renameat2(-100, a.encode(), -100, b.encode(), flags) == 0 else errno.errorcode[ctypes.get_errno()]
'''

RULES = {
    # CW-03: dots, kinds and numbers in listings, also after the first change
    'listing': '''
put("new", "x"); os.mkfifo("pipe2"); os.symlink("gone", "dang"); os.mkdir("nd"); os.unlink("link")
kinds = {}
for e in os.scandir("."): kinds[e.name] = (e.is_file(follow_symlinks=False), e.is_dir(), e.is_symlink(), e.inode() == os.lstat(e.name).st_ino)
print(sorted(kinds.items()))
print(os.stat("file").st_ino == os.stat("hard").st_ino, sorted(os.popen("ls -a").read().split())[:2])
i = os.stat("file").st_ino; put("file", "zz", "a"); print(os.stat("file").st_ino == i)
put("dir/x", "x"); print(does(os.rmdir, "dir")); os.system("rm -r dir"); print(os.path.exists("dir"))
''',
    # CW-04: names in all combinations; re-created names; directories are all or nothing
    'names': '''
NOREPLACE, EXCHANGE = 1, 2
print(rename2("file", "hard", NOREPLACE), rename2("file", "nothing", EXCHANGE), rename2("dir", "dir/deep/x", 0))
put("b", "b"); print(rename2("file", "b", EXCHANGE), text("file"), text("b"))
print(rename2("dir", "b", EXCHANGE), text("dir"), sorted(os.listdir("b")), rename2("b", "dir", EXCHANGE))
print(does(os.mkdir, "dir"), does(os.mkdir, "file"), does(os.mkdir, "no/where"), does(os.mkdir, "link"))
os.mkdir("m", 0o700); print(oct(os.stat("m").st_mode))
os.unlink("hard"); print(does(os.open, "hard", os.O_RDONLY), does(os.open, "hard", os.O_RDONLY | os.O_DIRECTORY), does(os.access, "hard", os.W_OK))
fd = os.open("hard", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640); print(oct(os.fstat(fd).st_mode), os.fstat(fd).st_size)
print(does(os.open, "hard", os.O_CREAT | os.O_EXCL)); os.system("cp -a dir copy; cp -a copy copy2"); print(sorted(os.listdir("copy2")))
os.system("rm -r dir"); os.mkdir("dir"); print(os.listdir("dir"), does(os.stat, "dir/inner"))
put("dir/inner", "again"); os.rename("dir", "d3"); print(os.listdir("d3"), does(os.stat, "dir/deep"), text("d3/inner"))
print(does(os.rename, "copy", "d3"), does(os.rename, "copy", "copy2/deep"), does(os.rename, "file", "copy"), does(os.rename, "copy", "b"))
os.mkdir("e"); print(does(os.rename, "copy", "e"), sorted(os.listdir("e")))
os.symlink("/absolute/../x", "s1"); os.symlink("x" * 300, "s2"); print(os.readlink("s1"), len(os.readlink("s2")))
''',
    # CW-05, CW-22: data calls, locks, shared maps
    'data': '''
f = os.open("file", os.O_RDWR | os.O_APPEND); os.write(f, b"app"); print(text("hard"))
r = os.open("dir/inner", os.O_RDONLY)
print(does(mmap.mmap, r, 0, mmap.MAP_SHARED, mmap.PROT_WRITE))
w = os.open("dir/inner", os.O_RDWR); m = mmap.mmap(w, 0, mmap.MAP_SHARED); m[0:2] = b"IN"; print(text("dir/inner"))
os.pwrite(w, b"N", 2); print(m[:4]); os.ftruncate(w, 3); print(text("dir/inner"))
print(os.copy_file_range(f, w, 3, 0, 3), text("dir/inner"), os.sendfile(w, f, 0, 2))
print(does(os.posix_fallocate, w, 0, 10000), os.stat("dir/inner").st_size)
a, b = os.open("file", os.O_RDWR), os.open("hard", os.O_RDWR)
fcntl.flock(a, fcntl.LOCK_EX); print(does(fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB))
fcntl.lockf(a, fcntl.LOCK_EX)
if os.fork() == 0: print(does(fcntl.lockf, b, fcntl.LOCK_EX | fcntl.LOCK_NB)); sys.stdout.flush(); os._exit(0)
os.wait()
t = os.open("dir", os.O_TMPFILE | os.O_RDWR); os.write(t, b"tmp"); os.link(f"/proc/self/fd/{t}", "dir/t", src_dir_fd=t, follow_symlinks=True); print(text("dir/t"))
print(fcntl.fcntl(a, fcntl.F_GETFD), os.get_inheritable(a))
''',
    # CW-15: links are followed in the view
    'links': '''
os.symlink("file", "tofile"); put("tofile", "more", "a"); print(os.path.islink("tofile"), text("file"))
put("link", "more", "a"); print(os.path.islink("link"), text("dir/inner"))
os.symlink("dir", "todir"); os.rename("dir", "dir2"); print(does(os.stat, "todir/inner")); os.rename("dir2", "dir"); put("todir/new", "n"); print(text("dir/new"))
os.symlink("missing", "dang"); print(does(os.mkdir, "dang"), does(os.open, "dang", os.O_CREAT | os.O_EXCL)); put("dang", "made"); print(text("missing"))
os.symlink("l2", "l1"); os.symlink("l1", "l2"); print(does(os.stat, "l1"), does(os.open, "tofile", os.O_WRONLY | os.O_NOFOLLOW))
''',
    # CW-17: the permissions of lower hold
    'permissions': '''
os.chmod("dir", 0o555); os.chmod("file", 0o444)
print(does(put, "dir/x", "x"), does(put, "file", "x"), does(os.access, "file", os.W_OK), does(os.access, "dir", os.W_OK), does(os.unlink, "dir/inner"), does(os.rename, "dir/inner", "x"))
print(oct(os.stat("dir").st_mode), oct(os.stat("dir/deep").st_mode)); put("dir/deep/new", "x"); print(oct(os.stat("dir").st_mode), oct(os.stat("dir/deep").st_mode))
os.chmod("dir/deep", 0); print(does(os.listdir, "dir/deep"), does(text, "dir/deep/new")); os.chmod("dir/deep", 0o700); print(sorted(os.listdir("dir/deep")))
''',
    # CW-18, CW-21: owners, and attributes by descriptors that were opened before
    'attributes': '''
f = os.open("file", os.O_RDONLY); os.fchmod(f, 0o604); print(oct(os.fstat(f).st_mode), oct(os.stat("hard").st_mode))
print(does(os.fchown, f, os.getuid(), os.getgid()), does(os.chown, "file", 1, 1), os.stat("file").st_uid == (1 if os.getuid() == 0 else os.getuid()))
os.utime(f, (5, 6)); print(os.stat("file").st_mtime, os.fstat(f).st_mtime, os.stat("hard").st_mtime)
try: os.setxattr(f, "user.k", b"v"); print(os.getxattr("hard", "user.k"), os.listxattr("file"))
except OSError as e: print(name(e))
''',
    # CW-19: special files
    'special': '''
print(does(os.open, "fifo", os.O_RDONLY | os.O_NONBLOCK))
os.mkfifo("p"); r = os.open("p", os.O_RDONLY | os.O_NONBLOCK); w = os.open("p", os.O_WRONLY); os.write(w, b"x"); print(os.read(r, 9))
os.rename("p", "dir/p"); print(stat.S_ISFIFO(os.stat("dir/p").st_mode), does(os.open, "dir/p", os.O_WRONLY | os.O_NONBLOCK))
print(does(os.mkfifo, "file"), does(os.unlink, "fifo"), does(os.stat, "fifo"))
''',
    # CW-24: link groups, unlinked but open
    'groups': '''
os.link("file", "third"); print(os.stat("file").st_nlink, os.stat("hard").st_nlink)
put("third", "all", "a"); print(text("file"), text("hard")); os.unlink("file"); print(os.stat("hard").st_nlink, os.stat("third").st_ino == os.stat("hard").st_ino)
f = os.open("hard", os.O_RDWR); os.unlink("hard"); os.unlink("third"); os.write(f, b"still"); print(os.fstat(f).st_nlink, os.pread(f, 5, 0))
g = os.open(f"/proc/self/fd/{f}", os.O_RDONLY); print(os.read(g, 5)); os.rename("dir/inner", "dir/deep/inner"); os.link("dir/deep/inner", "inner2"); print(os.stat("inner2").st_nlink)
''',
    # §10: exec of staged programs, chdir into the layer, relative names, two levels deep
    'places': '''
os.makedirs("a/b/c"); os.chdir("a/b/c"); put("f", "1"); print(os.path.relpath(os.getcwd(), os.environ["TOP"])); os.chdir(".."); os.rename("c", "../c2"); print(does(os.stat, "c"), os.listdir("../c2"))
os.chdir("../c2"); os.rename("../../a", "../../a2"); print(os.path.relpath(os.getcwd(), os.environ["TOP"]), text("f")); d = os.open(".", os.O_PATH); os.chdir("/"); print(os.open("f", os.O_RDONLY, dir_fd=d) > 0)
os.fchdir(d); os.unlink("f"); os.rmdir("../c2"); print(does(os.getcwd), does(os.stat, "x"), does(os.mkdir, "x"), does(os.listdir, "."))
os.chdir(os.environ["TOP"]); os.system("cp /bin/echo e; ./e ran; mkdir -p x/y; cp e x/y; x/y/e deep; mv x z; z/y/e moved"); print(os.stat("z/y/e").st_mode & 0o111)
''',
}


# The command never has root's capabilities; its control then has none either.
PLAIN = ['setpriv', '--bounding-set=-all', '--inh-caps=-all'] if os.geteuid() == 0 else []


@pytest.mark.parametrize('rule', RULES)
def test_rule(work, tmp_path, rule):
    twin = tmp_path / 'twin'
    subprocess.run(['cp', '-a', work, twin], check=True)
    program = tmp_path / 'program.py'
    program.write_text(HEAD + RULES[rule])
    env = {'PATH': '/usr/bin:/bin', 'LC_ALL': 'C'}
    plain = native(*PLAIN, 'python3', '-B', program, cwd=twin, env={**env, 'TOP': str(twin)})
    assert plain.returncode == 0, plain.stderr
    done, lines = dry(work, f'python3 -B {program}', '-r', program, '-r', '/proc', env={**env, 'TOP': str(work)})
    assert (done.returncode, done.stdout) == (0, plain.stdout), done.stderr
    assert lines


def test_devices(work):
    """No device can be made, whoever asks; the control is that root can without a layer."""
    done, lines = dry(work, 'mknod d c 1 3 || echo c; mknod b b 7 0 || echo b; mknod w c 0 0 || echo w')
    assert done.stdout.split() == ['c', 'b', 'w'] and not lines
    if os.geteuid() == 0:
        assert native('mknod', work / 'd', 'c', '1', '3').returncode == 0


def test_unreadable_parents(work):
    """A directory of lower that may be searched but not read: names in it work, its listing does not."""
    (work / 'dir').chmod(0o311)
    before = state(work)
    done = inside(work, 'echo x > dir/new; cat dir/new dir/inner; rm dir/inner; cat dir/inner || echo gone;'
                        'chmod 711 dir/deep; mv dir/new dir/deep; cat dir/deep/new', '--on-exit', 'abort')
    assert done.stdout.split() == ['x', 'inner', 'gone', 'x'] and done.returncode == 0, done.stderr
    assert state(work) == before
    (work / 'dir').chmod(0o755)
