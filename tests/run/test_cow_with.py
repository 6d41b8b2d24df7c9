# SPDX-License-Identifier: Apache-2.0
"""--workdir together with the rest: --fs-deny, --fs-mount, --chroot, the root, limits, other sandboxes."""
import os
import pathlib
import shutil
import socket
import subprocess
import threading

import pytest

from chroot_tree import make_root
from common import IN_VM, LIMIT, ROOT, SANDLOCK, native, run, tree_state
from test_cow import DEVICES, ENV, dry, inside, state, work  # pylint: disable=unused-import

PROGRAMS = ['sh', 'cat', 'ls', 'mv', 'ln', 'rm', 'mkdir', 'readlink', 'touch']


def attempts(*lines):
    """Each line's word, if it succeeds; what it says on stderr is of no interest."""
    return '\n'.join(f'({line}) 2>/dev/null && echo {word}' for word, line in lines) + '\n:'


# ---- --fs-deny ----

DENIED = attempts(
    ('read', 'cat file'), ('absolute', 'cat $PWD/file'), ('dots', 'cat dir/../file'), ('link', 'cat tofile'),
    ('hard', 'cat hard'), ('write', 'echo x >> file'), ('trunc', ': > file'), ('ln', 'ln file l2'),
    ('mv', 'mv file f2'), ('over', 'touch x && mv x file'), ('chmod', 'chmod 600 file'), ('rm', 'rm file'),
    ('cp', 'cp file f3'), ('create', 'echo x > dir/never'), ('into', 'echo x > y; mv y dir/never'),
    ('lninto', 'echo x > z; ln z dir/never'), ('mkdir', 'mkdir dir/never'), ('above', 'mv dir d2'),
    ('beneath', 'cat dir/deep/leaf'), ('list', 'ls dir/deep'), ('inside', 'echo x > dir/deep/new'),
    ('exchange', 'mkdir e && mv -T --exchange e dir'), ('cwd', 'cd dir && cat ../file'),
    ('fd', 'exec 3< file && cat /proc/self/fd/3'), ('bind', 'test -S dir/never'))


def test_denied_names(work):
    """Closed by every spelling, before and after other things of the directory were staged; nothing of it is
    copied up, nothing is made in a denied place."""
    os.symlink('file', work / 'tofile')
    deny = ['--fs-deny', work / 'file', '--fs-deny', work / 'dir' / 'never', '--fs-deny', work / 'dir' / 'deep']
    for before in ('', 'touch new dir/new; echo x >> dir/inner; rm link;')[IN_VM:]:
        done, lines = dry(work, before + DENIED, *deny, '-r', '/proc')
        assert done.stdout == '', before
        assert not [line for line in lines if 'file' in line or 'never' in line or 'deep' in line]
    done, lines = dry(work, 'ls; ls dir; cat dir/inner; touch dir/new', *deny)
    assert {'file', 'hard', 'inner', 'deep'} <= set(done.stdout.split()) and lines == ['A  dir/new']
    control, _ = dry(work, DENIED, '-r', '/proc')
    assert {'read', 'write', 'ln', 'create', 'above'} <= set(control.stdout.split())


def test_denied_programs(work):
    """Programs of the layer run as ever; a denied one does not, nor a copy of what cannot be read."""
    shutil.copy('/bin/true', work / 'tool')
    text = attempts(('staged', 'cp /bin/true p && ./p'), ('moved', 'mv p q && ./q'), ('tool', './tool'),
                    ('copy', 'cp tool t2 && ./t2'), ('link', 'ln -s tool t3; ./t3'), ('script', 'echo "#!$PWD/tool" > s; chmod +x s; ./s'))
    done, _ = dry(work, text, '--fs-deny', work / 'tool')
    assert done.stdout.split() == ['staged', 'moved']
    done, _ = dry(work, text)
    assert done.stdout.split() == ['staged', 'moved', 'tool', 'copy', 'link', 'script']


def test_denied_after_moves(work):
    """Directories of the layer may be moved, but not to where a denied name would come to be open."""
    text = attempts(('made', 'mkdir -p a/b && echo x > a/b/secret && cat a/b/secret'),
                    ('moved', 'mv a late'), ('read', 'cat late/b/secret'), ('back', 'mv late a'),
                    ('again', 'cat a/b/secret'))
    done, _ = dry(work, text, '--fs-deny', work / 'late' / 'b' / 'secret')
    assert done.stdout.split()[:3] == ['x', 'made', 'moved'] and 'read' not in done.stdout.split()
    done, _ = dry(work, text)
    assert 'read' in done.stdout.split()


# ---- --fs-mount ----

@pytest.fixture
def other(tmp_path):
    top = tmp_path / 'other'
    (top / 'd').mkdir(parents=True)
    (top / 'inner').write_text('other\n')
    top.chmod(0o755)
    return top


def test_mounts_in_it(work, other, tmp_path):
    """The mount wins over what lies beneath and is not staged; it is another file system, and stays."""
    shut = tmp_path / 'shut'
    shut.mkdir()
    (shut / 'x').write_text('shut\n')
    mounts = ['--fs-mount', f'{work}/dir:{other}', '--fs-mount', f'{work}/virt/sub:{shut}:ro',
              '--fs-mount', f'{work}/one:{other}/inner']
    text = '''cat dir/inner; echo new > dir/new; echo x >> file; echo z > free
(ln file dir/l || ln dir/inner l2 || mkdir dir || rmdir dir || rm one || mv dir q || mv one q || rmdir virt || rmdir virt/sub ||
 echo x > virt/sub/x || touch virt/y || touch virt/sub/y || mkdir virt || mv free one/x || mv -T free dir) 2>/dev/null && echo done
cd dir; pwd; cd ../virt/sub; pwd; cat x; cd ../..; pwd; ls; ls virt; cat one; cat dir/../file; cat virt/sub/../../free
mv free dir/moved; cat dir/moved; cd dir/d/../..; pwd
'''
    done, lines = dry(work, text, *mounts)
    assert done.stdout.split() == ['other', f'{work}/dir', f'{work}/virt/sub', 'shut', str(work), 'dir', 'fifo',
                                   'file', 'free', 'hard', 'link', 'one', 'virt', 'sub', 'other', 'one', 'two',
                                   'x', 'z', 'z', str(work)], done.stderr
    assert lines == ['M  file', 'M  hard']
    assert sorted(os.listdir(other)) == ['d', 'inner', 'moved', 'new'] and os.listdir(shut) == ['x']
    assert (work / 'dir' / 'inner').read_text() == 'inner\n'


@pytest.mark.parametrize('call', ['rename', 'link'])
def test_across_mounts(work, other, call):
    program = f'''
import os
for a, b in (("file", "m/x"), ("m/inner", "x"), ("hard", "{other}/x")):
    try: os.{call}(a, b); print("done")
    except OSError as e: print(e.errno)'''
    done, _ = dry(work, f"python3 -c '{program}'", '--fs-mount', f'{work}/m:{other}')
    assert done.stdout.split()[:2] == ['18', '18'] and done.stdout.split()[2] in ('18', '13')
    (work / 'm').symlink_to(other)
    assert native('python3', '-c', program.replace(f'{other}/x', 'y'), cwd=work).stdout.split() == ['done'] * 3


def test_mount_is_the_work_directory(work, other):
    """Staged under the mount's name and under its own; read-only or not, the mount itself is not changed."""
    for mode in ('', ':ro'):
        before = state(work)
        done = run(*DEVICES, '--fs-mount', f'/src:{work}{mode}', '--fs-mount', f'/o:{other}', '--workdir', '/src',
                   '--on-exit', 'abort', '--', 'sh', '-c',
                   'cd /src; echo x > new; echo y >> file; cat /src/dir/../file; pwd; cd ..; pwd; ls src;'
                   f'cat {work}/new; cd src/dir; pwd; cat ../new; rmdir /src 2>/dev/null || echo busy')
        assert done.stdout.split() == ['one', 'two', 'y', '/src', '/', 'dir', 'fifo', 'file', 'hard', 'link', 'new',
                                       'x', '/src/dir', 'x', 'busy'], done.stderr
        assert state(work) == before
    done = run(*DEVICES, '--fs-mount', f'/src:{work}', '--workdir', '/src', '--', 'sh', '-c', 'echo x > /src/new')
    assert done.returncode == 0 and (work / 'new').read_text() == 'x\n'


def test_below_a_read_only_mount(work, tmp_path):
    done = run(*DEVICES, '--fs-mount', f'/up:{tmp_path}:ro', '--workdir', '/up/work', '--dry-run', '--', 'sh', '-c',
               'cd /up/work; echo x > new; cat new; pwd; echo x > ../no || echo shut; cat ../work/new')
    assert done.stdout.split() == ['x', '/up/work', 'shut', 'x'] and not (tmp_path / 'no').exists()
    assert 'A  new' in done.stderr


@pytest.mark.parametrize('seed', range(1 if IN_VM else 3))
def test_random_operations_beside_others(work, other, tmp_path, seed):
    """Results and errnos stay the kernel's while mounts and denied names are looked for at each step."""
    control = tmp_path / 'twin'
    (work / 'fifo').unlink()
    subprocess.run(['cp', '-a', work, control], check=True)
    program = ROOT / 'tests' / 'run' / 'cow_random.py'
    words = ['python3', '-B', program, 100 + seed, 120 if IN_VM else 400]
    plain = native(*words, cwd=control, env=ENV)
    done = run(*DEVICES, '-r', '/proc', '-r', program, '--workdir', work, '--fs-mount', f'/beside/a:{other}',
               '--fs-mount', f'/beside/b:{other}', '--fs-deny', work / 'never', '--', *words, cwd=work, env=ENV,
               timeout=LIMIT * 4)
    assert plain.returncode == 0 and done.returncode == 0, (plain.stderr, done.stderr)
    assert done.stdout.splitlines() == plain.stdout.splitlines()


# ---- --chroot ----

@pytest.fixture(scope='module', name='tree')
def made_tree(tmp_path_factory):
    root = make_root(tmp_path_factory.mktemp('root') / 'R', PROGRAMS, ())
    (root / 'home').mkdir()
    (root / 'home' / 'f').write_text('f\n')
    for path in (root.parent, root, root / 'home'):
        path.chmod(0o755)
    return root


def rooted(tree, text, *args):
    return run('--chroot', tree, '--fs-mount', '/dev/null:/dev/null', '-r', '/', *args, '--', '/bin/sh', '-c', text,
               grants=[], env={'PATH': '/bin'})


def test_whole_root(tree):
    """The whole root is staged: programs, directories, links that mean another thing on the host."""
    before = tree_state(tree)
    text = '''cd /; echo x > etc/new; cat etc/new ../etc/new; mv bin/cat /kitty; /kitty etc/new; mkdir -p a/b; cd a/b
readlink /proc/self/cwd; pwd; echo in > /a/passwd; ln -s /a/passwd l; /kitty l; echo more >> l; /kitty ../passwd; cd ../../..; pwd
ls /etc; rm -r /home; ls /home 2>/dev/null || echo gone; ln -s ../../../../etc/motd m; /kitty m; mv /dev /d 2>/dev/null || echo busy
cd /etc; mv /etc /e2; /kitty motd; readlink /proc/self/cwd; /kitty /e2/new; touch -d 2001-01-01 /e2/motd; /kitty < /dev/null'''
    done = rooted(tree, text, '--workdir', '/', '--dry-run')
    assert done.stdout.split() == ['x', 'x', 'x', '/a/b', '/a/b', 'in', 'in', 'more', '/', 'motd', 'new', 'gone',
                                   'inside', 'busy', 'inside', '/e2', 'x'], done.stderr
    assert tree_state(tree) == before
    listed = {line for line in done.stderr.splitlines() if line[1:3] == '  '}
    assert {'A  a', 'D  home', 'D  bin/cat', 'A  kitty', 'D  etc', 'A  e2', 'A  e2/new'} <= listed


def test_part_of_a_root(tree, tmp_path):
    (tmp_path / 'store').mkdir(mode=0o700)
    before = tree_state(tree)
    text = '''cd /home; echo x > new; echo y >> f; cat f ../home/new; ls /; echo no > /etc/no || echo shut
ln -s /etc/motd l; cat l; echo x > l || echo shut; mv f /tmp/f 2>/dev/null && echo moved; rm -r /etc 2>/dev/null; cd ..; pwd; cat home/f'''
    done = rooted(tree, text, '--workdir', '/home', '--on-exit', 'abort', '--fs-storage',
                  tmp_path / 'store')
    words = [w for w in done.stdout.split() if w not in os.listdir(tree)]
    assert words == ['f', 'y', 'x', 'shut', 'inside', 'shut', '/', 'f', 'y'], done.stderr
    assert tree_state(tree) == before


def test_commit_of_a_root(tree, tmp_path):
    copy = tmp_path / 'R'
    subprocess.run(['cp', '-a', tree, copy], check=True)
    assert rooted(copy, 'echo x > /etc/new; rm /etc/motd', '--workdir', '/').returncode == 0
    assert os.listdir(copy / 'etc') == ['new']
    assert sorted(os.listdir(copy)) == sorted(os.listdir(tree))


def test_links_of_the_layer_stay_inside(tree):
    """CR-13: a link that exists only in the layer means the command's root, also for calls that set something."""
    outside = pathlib.Path('/etc/passwd')

    def state():
        at = outside.stat()
        return outside.read_bytes(), at.st_ino, at.st_mode, at.st_mtime_ns, at.st_ctime_ns  # reading sets atime
    before = state()
    done = rooted(tree, 'ln -s /etc/passwd l; cat l || echo none; echo x > l; cat /etc/passwd; touch -d 2001-01-01 l;'
                        'chmod 600 l; cat < l; ls /etc', '--workdir', '/', '--dry-run')
    assert done.stdout.split() == ['none', 'x', 'x', 'motd', 'passwd'], done.stderr
    assert state() == before


# ---- the root, and a home ----

def test_the_hosts_root(tmp_path, monkeypatch):
    """Everything of the file system is staged; other file systems, and devices, are what the grants say."""
    (tmp_path / 'state').mkdir(mode=0o700)
    monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))
    one_fs = os.stat(tmp_path).st_dev == os.stat('/').st_dev
    name = tmp_path / 'made'
    text = (f'echo x > {name} && cat {name}; echo hi > /dev/null && echo null; ls {tmp_path}/state/sandlock/layers/*/ '
            '2>/dev/null && echo seen; cd /; pwd; cd ..; pwd; ls -d usr')
    done = run('--workdir', '/', '-w', '/dev/null', '--on-exit', 'abort', '--', 'sh', '-c', text)
    assert done.stdout.split() == (['x'] if one_fs else []) + ['null', '/', '/', 'usr'], done.stderr
    assert not name.exists()
    done = run('--workdir', '/', '-w', '/dev/null', '-w', tmp_path, '--on-exit', 'abort', '--', 'sh', '-c', text)
    assert done.stdout.split()[:2] == ['x', 'null'] and name.exists() != one_fs
    control = native('sh', '-c', f'echo x > {name}')
    assert control.returncode == 0 and name.exists()


def test_home(tmp_path, monkeypatch):
    """The storage may lie in the work directory: it is not to be seen, and not committed."""
    home = tmp_path / 'home'
    home.mkdir()
    (home / 'doc').write_text('d')
    monkeypatch.setenv('XDG_STATE_HOME', str(home / '.local'))
    tmp_path.chmod(0o777)  # so that nothing is stored beside it
    done = run('--workdir', home, '--', 'sh', '-c',
               f'cd {home}; echo x > new; ls -A; ls -AR .local | grep -c index; find . -name objects')
    assert done.returncode == 0 and '0' in done.stdout.split() and './' not in done.stdout, done.stderr
    assert (home / 'new').exists() and not list((home / '.local').rglob('index'))


# ---- several at once, limits, repeatable runs ----

def test_two_at_once(work):
    """They never see each other; the second to commit finds what the first has done."""
    words = [SANDLOCK, 'run', *DEVICES, '-r', '/usr', '-r', '/bin', '-r', '/lib', '-r', '/lib64', '--workdir', work,
             '--cwd', work, '--', 'sh', '-c']
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    with subprocess.Popen([*words, 'echo one >> file; echo a > mine1; mv dir d1; echo; read x; ls; cat file'],
                          **pipes) as first:
        assert first.stdout.readline() == '\n'
        with subprocess.Popen([*words, 'ls; cat file; cat dir/inner; echo two >> file; echo; read x; ls'],
                              **pipes) as second:
            seen = [second.stdout.readline().strip() for _ in range(9)]
            assert seen == ['dir', 'fifo', 'file', 'hard', 'link', 'one', 'two', 'inner', '']
            out, err = first.communicate('\n', LIMIT)
            assert first.returncode == 0, err
            assert out.split() == ['d1', 'fifo', 'file', 'hard', 'link', 'mine1', 'one', 'two', 'one']
            committed = tree_state(work)
            out, err = second.communicate('\n', LIMIT)
            assert second.returncode == 125 and 'nothing is committed' in err and 'file' in err
            assert 'kept' in err
    assert tree_state(work) == committed


@pytest.mark.parametrize('args', [
    ['-m', '256M', '-P', '20', '-c', '50', '-t', '600'], ['--time-start', '2001-01-01T00:00:00Z'],
    ['--random-seed', '7', '--deterministic-dirs'],
    ['--num-cpus', '1', '-m', '256M', '--time-start', '2001-01-01T00:00:00Z', '--random-seed', '7',
     '--deterministic-dirs']], ids=['limits', 'time', 'random', 'all'])
def test_limits_and_repeatable_runs(work, args):
    text = ('mkdir n; for i in 3 1 2; do echo $i > n/$i; done; mv dir d2; ls -U n; cat d2/inner; cp /bin/cat n/cat;'
            'n/cat n/1; date +%Y; echo x >> file; cat file; find . -name leaf')
    done, lines = dry(work, text, *args, '-r', '/proc')
    words = done.stdout.split()
    year = words.pop(5)
    assert sorted(words[:3]) == ['1', '2', '3'] and words[3:] == ['inner', '1', 'one', 'two', 'x', './d2/deep/leaf']
    assert words[:3] == ['1', '2', '3'] or '--deterministic-dirs' not in args
    assert (year == '2001') == ('--time-start' in args)
    assert lines == ['A  d2', 'A  d2/deep', 'A  d2/deep/leaf', 'A  d2/inner', 'D  dir', 'M  file', 'M  hard', 'A  n',
                     'A  n/1', 'A  n/2', 'A  n/3', 'A  n/cat']


def test_process_limit_holds(work):
    text = 'for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; echo x > late'
    done = inside(work, text, '-P', '4', '--on-error', 'commit')
    assert done.returncode != 0 and 'fork' in done.stderr and not (work / 'late').exists()
    assert inside(work, text, '-P', '20', '--on-error', 'commit').returncode == 0 and (work / 'late').exists()


# ---- special files ----

def test_fifos_of_the_layer(work):
    done, lines = dry(work, 'mkfifo p; cat p & echo hi > p; wait; (echo yo > p) & cat p; wait; mv p q; cat q & '
                            'echo moved > q; wait; echo both <> q; rm q; mkfifo dir/r')
    assert done.stdout.split() == ['hi', 'yo', 'moved', 'both'] and lines == ['A  dir/r'], done.stderr


def test_fifos_of_the_tree(work):
    """What is behind one is no file: reading is granted by --workdir, writing by a grant of the FIFO itself."""
    def other_side(mode, result):
        with open(work / 'fifo', mode, encoding='utf-8') as stream:
            result.append(stream.read() if mode == 'r' else stream.write('out'))
    before, got = state(work), []
    peer = threading.Thread(target=other_side, args=('w', got))
    peer.start()
    assert inside(work, 'cat fifo', '--on-exit', 'abort').stdout == 'out'
    peer.join(LIMIT)
    assert inside(work, 'echo in > fifo', '--on-exit', 'abort').returncode != 0
    got.clear()
    peer = threading.Thread(target=other_side, args=('r', got))
    peer.start()
    done = inside(work, 'echo in > fifo', '-w', work / 'fifo', '--on-exit', 'abort')
    peer.join(LIMIT)
    assert done.returncode == 0 and got == ['in\n'], done.stderr
    after = state(work)
    for found in (before[0], after[0]):
        found.pop('fifo')  # whose times are those of what went through it
    assert after[0] == before[0] and (work / 'fifo').is_fifo()


def test_sockets_of_the_layer(work):
    program = '''
import os, socket, stat
def connect(name):
    c = socket.socket(socket.AF_UNIX)
    try: c.connect(name); return c
    except OSError as e: return e.errno
s = socket.socket(socket.AF_UNIX); s.bind("sock"); s.listen()
c = connect("sock"); a, _ = s.accept(); c.send(b"hi"); print(a.recv(9), stat.S_ISSOCK(os.stat("sock").st_mode))
try: socket.socket(socket.AF_UNIX).bind("sock")
except OSError as e: print(e.errno)
os.rename("sock", "dir/s2"); print(connect("sock"), connect("dir/s2") is not None)
os.unlink("dir/s2"); print(connect("dir/s2"), os.path.exists("dir/s2"))
t = socket.socket(socket.AF_UNIX); t.bind("left"); open("made", "w").write("x")
'''
    expected = "b'hi' True\n98\n2 True\n2 False\n"
    done = inside(work, f"python3 -c '{program}'")
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    assert 'left: a socket is not committed' in done.stderr
    assert (work / 'made').exists() and not (work / 'left').exists()
    assert native('python3', '-c', program, cwd=work).stdout == expected


def test_sockets_of_the_tree(work):
    """Of the host: connecting needs a write grant, as without a layer."""
    text = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"s\"); print(1)'"
    with socket.socket(socket.AF_UNIX) as server:
        old = os.getcwd()
        os.chdir(work)
        try:
            server.bind('s')
        finally:
            os.chdir(old)
        server.listen()
        assert inside(work, text, '--on-exit', 'abort').stdout == ''
        assert inside(work, text, '--on-exit', 'abort', '-w', work / 's').stdout == '1\n'


WATCH = '''
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init1(os.O_NONBLOCK)
def watch(name):
    return 0 if libc.inotify_add_watch(fd, name.encode(), 0x3c2) > 0 else ctypes.get_errno()
def events():
    try: data = os.read(fd, 65536)
    except BlockingIOError: return []
    out = []
    while data:
        _, mask, _, n = struct.unpack_from("iIII", data)
        out.append((hex(mask & 0xffff), data[16:16 + n].rstrip(b"\\0").decode())); data = data[16 + n:]
    return out
'''


def test_watches(work):
    """What the layer alone has is watched as natively. The rest is refused: what happens there happens in places
    that no watch covers, so none would be told."""
    own = WATCH + '''
os.mkdir("n"); open("n/log", "w").write("a"); print(watch("n"), watch("n/log"))
open("n/log", "a").write("b"); print(events())
open("n/x", "w").close(); os.rename("n/x", "n/y"); os.unlink("n/y"); print(events())
os.rename("n/log", "dir/log"); print(events()); open("dir/log", "a").write("c"); print(events())
'''
    (work / 'own.py').write_text(own)
    done, _ = dry(work, 'python3 -B own.py')
    twin = native('python3', '-B', 'own.py', cwd=work)
    assert twin.stdout.startswith('0 0\n') and done.stdout == twin.stdout, (done.stdout, done.stderr)
    program = WATCH + '''
open("file", "a").write("x"); os.chmod("dir/inner", 0o600)
print(watch("."), watch("dir"), watch("dir/inner"), watch("link"), watch("file"))
open("file", "a").write("y"); print([m for m, _ in events()])
'''
    done, _ = dry(work, f"python3 -c '{program}'")
    assert done.stdout.split() == ['95', '95', '95', '95', '0', "['0x2']"], done.stderr
