# SPDX-License-Identifier: Apache-2.0
"""--workdir: what is staged, what the command sees of it, and what becomes of it."""
import json
import os
import shutil
import signal
import subprocess

import pytest

from common import IN_VM, LIMIT, ROOT, SANDLOCK, native, run, sandlock, tree_state, wait_until

ENV = {'PATH': '/usr/bin:/bin', 'LC_ALL': 'C'}
DEVICES = ['-r', '/dev/urandom', '-w', '/dev/null']


@pytest.fixture
def work(tmp_path):
    """A work directory with one of each kind; its storage comes beside it, into a directory of ours."""
    top = tmp_path / 'work'
    (top / 'dir' / 'deep').mkdir(parents=True)
    (top / 'file').write_text('one\ntwo\n')
    (top / 'dir' / 'inner').write_text('inner\n')
    (top / 'dir' / 'deep' / 'leaf').write_text('leaf\n')
    (top / 'link').symlink_to('dir/inner')
    os.link(top / 'file', top / 'hard')
    os.mkfifo(top / 'fifo')
    for path in (tmp_path, top):
        path.chmod(0o755)
    return top


def inside(work, text, *args, **options):
    options.setdefault('env', {'PATH': '/usr/bin:/bin', 'HOME': str(work), 'LC_ALL': 'C'})
    return run(*DEVICES, '--workdir', work, '--cwd', work, *args, '--', 'sh', '-c', text, **options)


def state(work):
    """Everything, change times and inode numbers included."""
    numbers = {}
    for folder, folders, files in os.walk(work):
        for name in folders + files + ['.']:
            info = os.lstat(os.path.join(folder, name))
            numbers[os.path.join(folder, name)] = (info.st_ino, info.st_ctime_ns)
    return tree_state(work), numbers


def dry(work, text, *args, **options):
    """A dry run: the lines of its list. The tree is what it was to the last bit."""
    before = state(work)
    done = inside(work, text, '--dry-run', *args, **options)
    assert state(work) == before
    lines = done.stderr.splitlines()
    assert any(line.startswith('sandlock: dry-run: ') for line in lines), done.stderr
    return done, [line for line in lines if line[1:3] == '  ']


CHANGES = {
    'write': 'echo x > file', 'append through a link': 'echo x >> link', 'create': 'echo x > new',
    'unlink': 'rm file', 'rmdir': 'rm -r dir', 'mkdir': 'mkdir n', 'symlink': 'ln -s /etc s',
    'hard link': 'ln file l2', 'rename': 'mv dir other', 'rename over': 'mv dir/inner file',
    'chmod': 'chmod 600 file', 'truncate': 'truncate -s 1 file', 'fifo': 'mkfifo f2',
    'touch': 'touch -d 2001-01-01 file'}


@pytest.mark.parametrize('change', CHANGES)
def test_abort_and_commit_against_native(work, tmp_path, change):
    """Aborted: nothing happened. Committed: what the same command does without a sandbox."""
    control = tmp_path / 'twin'
    subprocess.run(['cp', '-a', work, control], check=True)
    before = state(work)
    done = inside(work, CHANGES[change], '--on-exit', 'abort')
    assert done.returncode == 0, done.stderr
    assert state(work) == before
    assert native('sh', '-c', CHANGES[change], cwd=control).returncode == 0
    assert inside(work, CHANGES[change]).returncode == 0

    def shape(top):
        return {k: v[:5] + v[6:] for k, v in tree_state(top).items()}  # times are not the same
    assert shape(work) == shape(control)
    assert shape(work) != {k: v[:5] + v[6:] for k, v in before[0].items()} or change == 'touch'
    assert not any((tmp_path / n).is_dir() and os.listdir(tmp_path / n)
                   for n in os.listdir(tmp_path) if n.startswith('.sandlock'))


def test_by_descriptor(work):
    """O_PATH and read-only descriptors, re-opened and changed (CW-01, CW-21)."""
    program = '''
import os
f = os.open("file", os.O_RDONLY)
os.fchmod(f, 0o600); os.utime(f, (1, 1))
print(oct(os.fstat(f).st_mode), oct(os.stat("file").st_mode), os.fstat(f).st_ino == os.stat("file").st_ino)
g = os.open(f"/proc/self/fd/{f}", os.O_WRONLY | os.O_TRUNC); os.write(g, b"new")
p = os.open("dir/inner", os.O_PATH)
h = os.open(f"/proc/self/fd/{p}", os.O_WRONLY | os.O_APPEND); os.write(h, b"more")
print(open("file").read(), open("dir/inner").read().split(), os.readlink(f"/proc/self/fd/{h}"))
'''
    done, lines = dry(work, f"python3 -c '{program}'")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['0o100600 0o100600 True',
                                        f"new ['inner', 'more'] {work}/dir/inner"]
    assert lines == ['M  dir/inner', 'M  file', 'M  hard']


def test_view(work):
    done, _ = dry(work, 'mkdir n; echo a > n/a; rm file; mv dir moved; cd moved/deep; pwd; cat leaf;'
                        'cat ../../n/a; ls -A ../..; cd ../../n; pwd; test -e ../file || echo gone;'
                        'readlink /proc/self/cwd; ls -ai . | head -2 | wc -l')
    assert done.stdout.split() == [f'{work}/moved/deep', 'leaf', 'a', 'fifo', 'hard', 'link',
                                   'moved', 'n', f'{work}/n', 'gone', f'{work}/n', '2']


@pytest.mark.parametrize('seed', range(2 if IN_VM else 8))
def test_random_operations(work, tmp_path, seed):
    """Each result and errno is the kernel's, and so is the tree that is committed."""
    control = tmp_path / 'twin'
    (work / 'fifo').unlink()
    subprocess.run(['cp', '-a', work, control], check=True)
    program = ROOT / 'tests' / 'run' / 'cow_random.py'
    words = ['python3', '-B', program, seed, 150 if IN_VM else 400]
    plain = native(*words, cwd=control, env=ENV)
    done = run(*DEVICES, '-r', '/proc', '-r', program, '--workdir', work, '--', *words, cwd=work, env=ENV,
               timeout=LIMIT * 4)
    assert plain.returncode == 0 and done.returncode == 0, (plain.stderr, done.stderr)
    assert done.stdout.splitlines() == plain.stdout.splitlines()

    def shape(top):
        return {k: v[:2] + v[3:5] + (str(v[6]).replace(str(top), 'TOP'),)
                for k, v in tree_state(top).items() if k != '.'}
    got, want = shape(work), shape(control)
    for states in (got, want):  # lengths of links with an absolute target
        for k, v in states.items():
            states[k] = v[:3] + v[4:] if 'TOP' in v[-1] else v
    assert got == want


def test_large_listing(work):
    """Names removed between two reads cause no loss; offsets stay."""
    done, lines = dry(work, 'mkdir m; cd m; seq 3000 | xargs touch; ls | wc -l; ls -U | sort -u | wc -l;'
                            'cd ..; rm -r m; ls -d m 2>&1 | wc -l')
    assert done.stdout.split() == ['3000', '3000', '1'] and not lines


def test_sorted_listing(work):
    done, _ = dry(work, 'touch zz aa mm; python3 -c "import os; print(os.listdir())"',
                  '--deterministic-dirs')
    names = json.loads(done.stdout.replace("'", '"'))
    assert names == sorted(names) and {'aa', 'mm', 'zz'} <= set(names)


def test_exec_of_staged(work):
    done, _ = dry(work, 'printf "#!/bin/sh\\necho \\$0 \\$1\\n" > s; chmod +x s; ./s 1;'
                        'cp /bin/sleep p; ./p 0 && echo ran; ln -s p q; ./q 0 && echo ran; mv dir d2;'
                        'cp /bin/readlink d2/r; d2/r /proc/self/exe')
    assert done.stdout.splitlines() == ['./s 1', 'ran', 'ran', f'{work}/d2/r']


def test_sockets(work):
    """A UNIX socket's name appears in the layer only."""
    done, lines = dry(work, '''python3 -c "
import os, socket
s = socket.socket(socket.AF_UNIX); s.bind('sock'); s.listen()
print(os.path.exists('sock'))"''')
    assert done.stdout == 'True\n', done.stderr


def test_outside_is_another_place(work, tmp_path):
    """EXDEV both ways; a link out of the layer would be a way to write to lower."""
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'x').write_text('x')
    done, _ = dry(work, f'''python3 -c "
import os
for call, a, b in ((os.link, 'file', '{out}/l'), (os.rename, 'file', '{out}/r'),
                   (os.link, '{out}/x', 'l'), (os.rename, '{out}/x', 'r')):
    try: call(a, b); print('done')
    except OSError as e: print(e.errno)"''', '-w', out)
    assert done.stdout.split() == ['18'] * 4
    assert os.listdir(out) == ['x']


def test_storage_cannot_be_reached(work, tmp_path):
    done, _ = dry(work, f'echo secret > new; ls {tmp_path}; cd {tmp_path}/.sandlock-* 2>/dev/null;'
                        'pwd; find / -name index -path "*sandlock*" 2>/dev/null', '-r', tmp_path)
    assert done.stdout.splitlines()[-1] == str(work)


def test_restricted_walks(work):
    """openat2's own restrictions mean the view: its top, its links, what was staged on the way."""
    program = '''
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def openat2(at, path, resolve, flags=0):
    how = ctypes.create_string_buffer(struct.pack("QQQ", flags, 0, resolve))
    fd = libc.syscall(437, at, path.encode(), how, 24)
    return os.read(fd, 9) if fd >= 0 else ctypes.get_errno()
d = os.open("dir", os.O_RDONLY)
open("dir/new", "w").write("new"); os.symlink("/inner", "dir/abs"); os.symlink("../file", "dir/up")
NO_XDEV, NO_LINKS, BENEATH, IN_ROOT = 1, 4, 8, 16
print(openat2(d, "new", BENEATH), openat2(d, "deep/../new", BENEATH), openat2(d, "../file", BENEATH),
      openat2(d, "up", BENEATH), openat2(d, "abs", IN_ROOT), openat2(d, "../../new", IN_ROOT),
      openat2(d, "abs", NO_LINKS), openat2(d, "../file", NO_XDEV))
'''
    expected = "b'new' b'new' 18 18 b'inner\\n' b'new' 40 b'one\\ntwo\\n'\n"
    done, _ = dry(work, f"python3 -c '{program}'")
    assert done.stdout == expected, (done.stdout, done.stderr)
    assert native('python3', '-c', program, cwd=work).stdout == expected


def test_ends(work):
    assert inside(work, 'echo a > made; exit 3').returncode == 3
    assert not (work / 'made').exists()
    assert inside(work, 'echo a > made; kill -9 $$').returncode == 137
    assert not (work / 'made').exists()
    assert inside(work, 'echo a > made; exit 3', '--on-error', 'commit').returncode == 3
    assert (work / 'made').exists()
    assert inside(work, 'echo a > timed; sleep 30', '-t', '0.5').returncode == 124
    assert not (work / 'timed').exists()
    assert run('--workdir', work, '--', work / 'nothing').returncode == 127


def test_interrupted(work):
    """The signal of a user ends the command, and its changes with it. (Not SIGINT: a test run in the
    background has it ignored.)"""
    with subprocess.Popen([SANDLOCK, 'run', *DEVICES, '-r', '/usr', '-r', '/bin', '-r', '/lib',
                           '-r', '/lib64', '--workdir', work, '--cwd', work, '--', 'sh', '-c',
                           'echo a > made; echo ready; sleep 60'], stdout=subprocess.PIPE) as p:
        assert p.stdout.readline() == b'ready\n'
        p.send_signal(signal.SIGTERM)
        assert p.wait(LIMIT) == 143
    assert not (work / 'made').exists()


def layers(work):
    done = sandlock('recover', work)
    assert done.returncode == 0, done.stderr
    return [line.split()[:2] for line in done.stdout.splitlines()]


def test_keep_and_recover(work):
    before = state(work)
    done = inside(work, 'echo a > made; rm file', '--on-exit', 'keep')
    assert done.returncode == 0 and 'changes kept in ' in done.stderr
    assert state(work) == before
    (ident, what), = layers(work)
    assert what == 'kept'
    assert sandlock('recover', '--commit', ident, work).returncode == 0
    assert (work / 'made').exists() and not (work / 'file').exists() and not layers(work)
    inside(work, 'echo a > again', '--on-exit', 'keep')
    (ident, what), = layers(work)
    assert sandlock('recover', '--abort', ident, work).returncode == 0
    assert not (work / 'again').exists() and not layers(work)
    assert sandlock('recover', '--abort', 'nonsense', work).returncode == 125


def test_killed_supervisor_leaves_an_orphan(work):
    before = state(work)
    with subprocess.Popen([SANDLOCK, 'run', *DEVICES, '-r', '/usr', '-r', '/bin', '-r', '/lib',
                           '-r', '/lib64', '--workdir', work, '--cwd', work, '--', 'sh', '-c',
                           'echo a > made; echo ready; sleep 60'], stdout=subprocess.PIPE) as p:
        assert p.stdout.readline() == b'ready\n'
        assert layers(work)[0][1] == 'running'
        p.kill()
        p.wait()
    assert wait_until(lambda: [s for _, s in layers(work)] == ['orphan'])
    assert state(work) == before
    assert sandlock('recover', '--abort', layers(work)[0][0], work).returncode == 0


def test_conflict(work):
    """What others changed meanwhile is not overwritten, and the changes are kept."""
    with subprocess.Popen([SANDLOCK, 'run', *DEVICES, '-r', '/usr', '-r', '/bin', '-r', '/lib',
                           '-r', '/lib64', '--workdir', work, '--cwd', work, '--', 'sh', '-c',
                           'echo a >> file; echo ready; read x'], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        assert p.stdout.readline() == b'ready\n'
        (work / 'file').write_text('theirs')
        _, err = p.communicate(b'go\n', LIMIT)
        assert p.returncode == 125 and b'file' in err
    assert (work / 'file').read_text() == 'theirs'
    assert layers(work)[0][1] == 'kept'


def test_nothing_changed(work):
    done, lines = dry(work, 'cat file; ls -lR; echo x >> file; truncate -s -2 file')
    assert not lines and 'sandlock: dry-run: no filesystem changes' in done.stderr
    done, lines = dry(work, 'python3 -c "open(\'file\', \'r+\')"')
    assert not lines


def test_diff_and_json(work):
    done, lines = dry(work, 'echo three >> file; rm -r dir', '--diff', '--changes-json')
    assert '+three' in done.stderr.splitlines()
    found = json.loads(done.stderr[done.stderr.index('\n[') + 1:])
    assert {(c['change'], c['path']) for c in found} >= {('M', 'file'), ('D', 'dir')}


def test_names_forge_nothing(work):
    """A name with line ends, or that is no text, in the list, the diff and the JSON."""
    name = b'n\n+++ b\tq"\xff'
    text = f'open({name!r}, "w").write("new\\n"); open("two words", "w").write("x\\n")'
    done = run('--workdir', work, '--dry-run', '--diff', '--changes-json', '--', 'python3', '-c', text, cwd=work, env=ENV)
    lines = done.stderr.splitlines()
    quoted = r'n\n+++ b\tq\"\377"'
    assert f'A  "{quoted}' in lines and f'+++ "b/{quoted}\t' in lines and '+++ b/two words\t' in lines
    assert sum(line.startswith('+++ ') for line in lines) == 2
    found = json.loads(done.stderr[done.stderr.index('\n[') + 1:])
    exact = {bytes.fromhex(c['path_hex']) if 'path_hex' in c else c['path'].encode() for c in found}
    assert exact == {name, b'two words'}


TOOLS = {
    'make': ('printf "all: o\\no: file\\n\\tcp file o\\n" > Makefile; make -s', ['A  Makefile', 'A  o']),
    'sed': ('sed -i s/one/ONE/ dir/inner file', ['M  file']),
    'tar': ('mkdir t && tar cf a.tar dir && tar xf a.tar -C t && cat t/dir/deep/leaf && rm a.tar',
            ['A  t', 'A  t/dir', 'A  t/dir/deep', 'A  t/dir/deep/leaf', 'A  t/dir/inner']),
    'sqlite3': ('sqlite3 db "create table t(a); insert into t values(7); select a from t"', ['A  db']),
    'cp': ('cp -a dir c && diff -r dir c && rm -r dir && mv c dir && cat dir/deep/leaf', None),
    'git': ('git init -q . && git add dir file && git -c user.name=n -c user.email=a@b commit -qm m &&'
            'git mv dir d2 && git status -s && git log --oneline | wc -l', None),
}


@pytest.mark.parametrize('tool', TOOLS)
def test_tools(work, tmp_path, tool):
    """Programs of every day run as without a sandbox; the tree stays."""
    text, expected = TOOLS[tool]
    if not shutil.which(tool):
        pytest.skip(f'{tool} is not installed')
    control = tmp_path / 'twin'
    subprocess.run(['cp', '-a', work, control], check=True)
    plain = native('sh', '-c', text, cwd=control)
    done, lines = dry(work, text)
    assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), done.stderr
    if expected is not None:
        assert [line for line in lines if 'hard' not in line] == expected


def test_refusals(work, tmp_path):
    other = tmp_path / 'other'
    other.mkdir()
    for args, flag in ((['--dry-run'], '--dry-run'), (['--on-exit', 'keep'], '--on-exit'),
                       (['--diff'], '--diff'), (['--fs-storage', other], '--fs-storage'),
                       (['--workdir', work, '-w', tmp_path], '--fs-write'),
                       (['--workdir', work, '--fs-mount', f'/m:{tmp_path}'], '--fs-mount'),
                       (['--workdir', work, '--fs-mount', f'/m:{work / "dir"}:ro'], '--fs-mount'),
                       (['--workdir', '/proc/self'], '--workdir'),
                       (['--workdir', '/sys'], '--workdir'),
                       (['--workdir', tmp_path / 'none'], '--workdir'),
                       (['--workdir', work, '--on-exit', 'keep', '--dry-run'], '--on-exit'),
                       (['--workdir', work, '--on-exit', 'maybe'], '--on-exit'),
                       (['--workdir', work, '--no-supervisor'], '--workdir')):
        done = run(*args, '--', 'true')
        assert done.returncode in (2, 125) and flag in done.stderr, (args, done.stderr)
        assert len(done.stderr.splitlines()) == 1
    os.chmod(other, 0o777)
    done = run('--workdir', work, '--fs-storage', other, '--', 'true')
    assert done.returncode == 125 and '--fs-storage' in done.stderr
    os.chmod(other, 0o700)
    done = run('--workdir', work, '--fs-storage', other, '--', 'sh', '-c', f'echo x > {work}/new')
    assert done.returncode == 0 and (work / 'new').exists() and not os.listdir(other)


def test_write_grant_inside_is_staged(work):
    """CW-02: a grant of the same tree gives no way around the layer."""
    before = state(work)
    done = inside(work, 'echo x > file; touch dir/new; chmod 700 dir', '-w', work, '-w', work / 'dir',
                  '--on-exit', 'abort')
    assert done.returncode == 0, done.stderr
    assert state(work) == before
