# SPDX-License-Identifier: Apache-2.0
"""What becomes of the changes below --workdir, with the programs of every day and with many at once: the list
is what a run without a sandbox changes, the tree stays to the last bit, orphans go, progress shows."""
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
import zipfile

import pytest

from common import GRANTS, IN_VM, LIMIT, SANDLOCK, native, run, sandlock, tree_state, wait_until

ENV = {'PATH': '/usr/bin:/bin', 'LC_ALL': 'C', 'TZ': 'UTC', 'GIT_CONFIG_NOSYSTEM': '1',
       'GIT_AUTHOR_NAME': 'n', 'GIT_AUTHOR_EMAIL': 'a@b', 'GIT_COMMITTER_NAME': 'n',
       'GIT_COMMITTER_EMAIL': 'a@b', 'PYTHONDONTWRITEBYTECODE': '1'}


def environment(work):
    return {**ENV, 'HOME': str(work)}


@pytest.fixture
def work(tmp_path):
    top = tmp_path / 'work'
    (top / 'src' / 'deep').mkdir(parents=True)
    for name in ('one', 'two', 'src/main', 'src/deep/leaf'):
        (top / name).write_text(f'{name}\nold line\n')
    (top / 'link').symlink_to('src/main')
    for path in (tmp_path, top):
        path.chmod(0o755)
    return top


def inside(work, text, *args, **options):
    options.setdefault('timeout', LIMIT * 2)
    return run('-r', '/dev/urandom', '-w', '/dev/null', '--workdir', work, '--cwd', work, *args, '--', 'sh', '-c',
               text, env=environment(work), **options)


def everything(top):
    """Times of change, inode numbers and the values of extended attributes as well."""
    more = {}
    for folder, folders, files in os.walk(top):
        for path in [folder, *(os.path.join(folder, n) for n in folders + files)]:
            info = os.lstat(path)
            values = [os.getxattr(path, n, follow_symlinks=False)
                      for n in os.listxattr(path, follow_symlinks=False)]
            more[path] = (info.st_ino, info.st_ctime_ns, values)
    return tree_state(top), more


def differences(old, new, touched=()):
    """The lines that a dry run shall print, from two states of a tree. A directory that is gone is one line."""
    lines = set()
    for path in old.keys() | new.keys():
        if path == '.' or os.path.dirname(path) in old and os.path.dirname(path) not in new:
            continue
        was, now = old.get(path), new.get(path)
        if was is None or now is None:
            lines.add(f'{"A" if was is None else "D"}  {path}')
        elif was[0][:-4] != now[0][:-4]:
            lines.update((f'D  {path}', f'A  {path}'))
        else:
            size = slice(3, 5) if now[0].startswith('0o4') else slice(0, 0)  # of directories: says nothing
            left, right = list(was), list(now)
            for v in (left, right):
                v[5] = v[5] if path in touched else None
                v[3] = None
                v[size] = [None] * (size.stop - size.start)
            if left != right:
                lines.add(f'M  {path}')
    return sorted(lines, key=lambda s: (os.fsencode(s[3:]), s[0] == 'A'))


def listed(done):
    lines = done.stderr.splitlines()
    start = [i for i, l in enumerate(lines) if l == 'sandlock: dry-run: filesystem changes:']
    return lines[start[0] + 1:] if start else []


def prepare_git(top):
    native('sh', '-c', 'git init -q . && git add . && git commit -qm first && echo more >> one && git add one',
           cwd=top, env=environment(top))


def prepare_wheel(top):
    with zipfile.ZipFile(top / 'mod-1.0-py3-none-any.whl', 'w') as z:
        z.writestr('mod/__init__.py', 'x = 1\n')
        z.writestr('mod-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: mod\nVersion: 1.0\n')
        z.writestr('mod-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n'
                                              'Tag: py3-none-any\n')
        z.writestr('mod-1.0.dist-info/RECORD', 'mod/__init__.py,,\nmod-1.0.dist-info/METADATA,,\n'
                                               'mod-1.0.dist-info/WHEEL,,\nmod-1.0.dist-info/RECORD,,\n')


def prepare_tar(top):
    native('sh', '-c', 'mkdir t && echo a > t/a && ln -s a t/b && ln t/a t/c && echo x > two && chmod 755 two &&'
                       'tar cf ../it.tar t two && rm -r t && echo old > two && mv ../it.tar it.tar', cwd=top)


def prepare_make(top):
    (top / 'Makefile').write_text('all: out/prog\nout/prog: src/main one\n\tmkdir -p out\n\tcat $^ > $@\n'
                                  '\tchmod +x $@\nclean:\n\trm -rf src/deep\n')


def prepare_sqlite(top):
    native('python3', '-c', 'import sqlite3; c = sqlite3.connect("db"); c.execute("create table t(a)"); c.commit()',
           cwd=top)


def prepare_npm(top):
    (top / 'pkg').mkdir()
    (top / 'pkg' / 'package.json').write_text('{"name": "p", "version": "1.0.0"}')
    (top / 'package.json').write_text('{"name": "q", "version": "1.0.0"}')
    native('tar', 'czf', 'p.tgz', '--transform', 's/^pkg/package/', 'pkg', cwd=top)


PROGRAMS = {
    'make': (prepare_make, 'make -s && make -s clean', ()),
    'git': (prepare_git, 'git commit -qm second && git mv two src/three && git rm -q src/deep/leaf && git gc -q', ()),
    'sed': (None, 'sed -i s/old/new/ one src/main && sed -i s/nothing/x/ two', ()),
    'pip': (prepare_wheel, 'python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir '
                           '--disable-pip-version-check --root-user-action=ignore --target lib mod-*.whl', ()),
    'venv': (None, 'python3 -m venv --without-pip v && v/bin/python -c "import sys; print(sys.prefix)"', ()),
    'sqlite3': (prepare_sqlite, 'python3 -c "import sqlite3; c = sqlite3.connect(\'db\')\n'
                                'for i in range(5): c.execute(\'insert into t values(?)\', (i,)); c.commit()\n'
                                'c.execute(\'pragma journal_mode = wal\'); c.execute(\'delete from t where a = 1\')\n'
                                'c.commit(); print(c.execute(\'select sum(a) from t\').fetchone())"', ()),
    'tar': (prepare_tar, 'tar xf it.tar && rm one && mkdir one && mv src source && cat t/c', ()),
    'npm': (prepare_npm, 'npm install --offline --no-audit --no-fund --silent ./p.tgz', ()),
    'times': (None, 'touch -d 2001-01-01 one && touch -d 2001-01-01 src && touch -h -d 2001-01-01 link && chmod 700 two',
              ('one', 'src', 'link')),
    'mv': (None, 'mv src/main x && rm -r src && mkdir -p a/b && mv x a/b/c && mv a z && mv one two && mkdir y &&'
                 'mv z/b y/b', ()),
    'cp': (None, 'mv src s2 && cp -a s2 s3 && rm s2/main && echo x >> s2/deep/leaf && mv s2/deep s2/d && rm link', ()),
    'perl': (None, 'perl -pi -e "s/old/new/" one; cp -p one two; install -m 755 one src/one; ln -sf two link', ()),
}
NEEDS = {'venv': 'python3', 'times': 'touch'}


@pytest.mark.parametrize('program', PROGRAMS)
def test_programs(work, tmp_path, program):
    """Natively in a copy, and dry: the same answer, the list is what the copy changed, nothing happened."""
    prepare, text, touched = PROGRAMS[program]
    tool = NEEDS.get(program, program)
    found = native('python3', '-m', 'pip', '--version', env=ENV).returncode == 0 if program == 'pip' else \
        shutil.which(tool, path=ENV['PATH']) or (program == 'sqlite3')
    if not found:
        pytest.skip(f'{program} is not installed')
    if prepare:
        prepare(work)
    # The same path for both, so that what programs write down is the same.
    aside = tmp_path / 'aside'
    subprocess.run(['cp', '-a', work, aside], check=True)
    work.rename(tmp_path / 'kept')
    aside.rename(work)
    old = tree_state(work)
    plain = native('sh', '-c', text, cwd=work, env=environment(work), timeout=LIMIT)
    assert plain.returncode == 0, plain.stderr
    expected = differences(old, tree_state(work), touched)
    assert expected
    shutil.rmtree(work)
    (tmp_path / 'kept').rename(work)
    before = everything(work)
    done = inside(work, text, '--dry-run', '-r', '/proc')
    assert (done.returncode, done.stdout) == (0, plain.stdout), done.stderr
    assert everything(work) == before
    names = re.compile(r'objects/(pack/.*|../.{38})|logs.*')  # what git calls by its contents, dates included
    assert sorted({names.sub('*', l) for l in listed(done)}) == sorted({names.sub('*', l) for l in expected})


def test_lines(work):
    """A, M and D alone; what was moved and what became something else are two lines; sorted by the bytes."""
    done = inside(work, 'mv one moved; rm two; mkdir two; mv src other; echo x > other/new; rm link; ln -s one link;'
                        'rm other/main', '--dry-run', '--changes-json')
    lines = [l for l in listed(done) if l[1:3] == '  ']
    assert lines == ['M  link', 'A  moved', 'D  one', 'A  other', 'A  other/deep', 'A  other/deep/leaf', 'A  other/new',
                     'D  src', 'D  two', 'A  two']
    assert '"change":"R","path":"other","from":"src"' in done.stderr and '"change":"T"' in done.stderr


MANY = '''
import os, sys
N, ROUNDS = 64, %d
def one(i):
    f = os.open("shared", os.O_WRONLY | os.O_APPEND)
    g = os.open("old", os.O_RDWR)
    for k in range(ROUNDS):
        os.write(f, b"%%03d %%05d\\n" %% (i, k))
        os.pwrite(g, b"%%03d\\n" %% k, 4 * i)
        name = f"d{i %% 8}/n{i}.{k}"
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)); os.rename(name, name + ".x")
        if k %% 2: os.unlink(name + ".x")
    os._exit(0)
for i in range(8): os.mkdir(f"d{i}")
pids = []
for i in range(N):
    pid = os.fork()
    if not pid: one(i)
    pids.append(pid)
bad = sum(os.waitpid(p, 0)[1] != 0 for p in pids)
print(bad)
'''


def test_many_writers(work):
    """64 processes append to one file, write places of another, make, move and remove names: nothing is lost."""
    rounds = 4 if IN_VM else 40
    (work / 'shared').write_text('first\n')
    (work / 'old').write_bytes(b'\n' * 256)
    (work / 'many.py').write_text(MANY % rounds)
    done = inside(work, 'python3 many.py', timeout=LIMIT * 4)
    assert done.stdout == '0\n', done.stderr
    lines = (work / 'shared').read_text().splitlines()
    assert lines[0] == 'first'
    assert sorted(lines[1:]) == [f'{i:03} {k:05}' for i in range(64) for k in range(rounds)]
    assert (work / 'old').read_bytes() == b'%03d\n' % (rounds - 1) * 64
    for i in range(8):
        assert sorted(os.listdir(work / f'd{i}')) == sorted(f'n{n}.{k}.x' for n in range(i, 64, 8)
                                                            for k in range(0, rounds, 2))


def killed_run(work, *args):
    with subprocess.Popen([SANDLOCK, 'run', *GRANTS, '--workdir', work, '--cwd', work, *args, '--', 'sh', '-c',
                           'echo a > made; echo ready; sleep 60'], stdout=subprocess.PIPE, env=ENV) as p:
        assert p.stdout.readline() == b'ready\n'
        p.kill()
        p.wait()


def states(work):
    return sorted(line.split()[1] for line in sandlock('recover', work).stdout.splitlines())


def test_orphans_go(work):
    """What a killed run left goes with the next run, unless it was asked to be kept; a running one stays."""
    killed_run(work, '--on-error', 'keep')
    killed_run(work)
    assert wait_until(lambda: states(work) == ['kept', 'orphan'])
    with subprocess.Popen([SANDLOCK, 'run', *GRANTS, '--workdir', work, '--', 'sh', '-c', 'echo ready; read x'],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENV) as p:
        assert p.stdout.readline() == b'ready\n'
        assert states(work) == ['kept', 'running']
        assert inside(work, 'true').returncode == 0
        assert states(work) == ['kept', 'running']
        p.communicate(b'\n', LIMIT)
    assert states(work) == ['kept'] and not (work / 'made').exists()


FILES = 300 if IN_VM else 2000


def stopped_commit(work):
    """A commit of many steps on a terminal, stopped in its midst; (pid, master of the terminal, layer)."""
    for i in range(FILES):
        (work / f'f{i}').write_text(str(i))
    for attempt in range(20):
        mode = 0o600 if attempt % 2 else 0o640
        assert inside(work, f'ls | grep ^f | xargs chmod {mode:o}', '--on-exit', 'keep').returncode == 0
        ident, = [l.split()[0] for l in sandlock('recover', work).stdout.splitlines()]
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(SANDLOCK, [SANDLOCK, 'recover', '--commit', ident, str(work)], environment(work))

        def changed():
            return sum((os.lstat(work / f'f{i}').st_mode & 0o777) == mode for i in range(FILES))
        while not changed() and os.waitpid(pid, os.WNOHANG) == (0, 0):
            pass
        try:
            os.kill(pid, signal.SIGSTOP)
            if 0 < changed() < FILES:
                return pid, fd, mode
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except ProcessLookupError:
            pass
        os.close(fd)
        if states(work):
            assert sandlock('recover', '--commit', ident, work).returncode == 0
    raise AssertionError('never in the midst of a commit')


def said(fd):
    text = b''
    while select.select([fd], [], [], LIMIT)[0]:
        try:
            piece = os.read(fd, 65536)
        except OSError:  # the other end is closed
            break
        text += piece
    os.close(fd)
    return text.decode()


def modes(work):
    return {os.lstat(work / f'f{i}').st_mode & 0o777 for i in range(FILES)}


def test_progress(work):
    """On a terminal a commit that takes longer than a second says so, and takes its words away."""
    pid, fd, mode = stopped_commit(work)
    time.sleep(1.2)
    os.kill(pid, signal.SIGCONT)
    shown = said(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert 'sandlock: committing: ' in shown and shown.endswith('\r\033[K'), shown
    assert modes(work) == {mode} and not states(work)


def test_no_progress(work):
    """Short work, and work that no terminal watches, is silent."""
    assert inside(work, 'echo short > made', '--on-exit', 'keep').returncode == 0
    ident, = [l.split()[0] for l in sandlock('recover', work).stdout.splitlines()]
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(SANDLOCK, [SANDLOCK, 'recover', '--commit', ident, str(work)], environment(work))
    assert said(fd) == '' and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert inside(work, 'echo more > made').stderr == ''


def test_interrupt_key(work):
    """Ctrl-C in the midst of a commit: it can be finished."""
    pid, fd, mode = stopped_commit(work)
    os.write(fd, b'\x03')
    os.kill(pid, signal.SIGCONT)
    said(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
    assert states(work) == ['interrupted'] and len(modes(work)) == 2
    ident, = [l.split()[0] for l in sandlock('recover', work).stdout.splitlines()]
    assert sandlock('recover', '--abort', ident, work).returncode == 125  # it has begun
    assert sandlock('recover', '--commit', ident, work).returncode == 0
    assert modes(work) == {mode} and not states(work)


@pytest.mark.parametrize('what', ['mv one moved; rm two; mkdir two; echo x >src/new; chmod 600 src/main', 'touch one; chmod 700 src',
                                  'mkdir -p a/b; echo x >a/b/c; chmod 0 a/b'])
def test_recover_shows_what_was_kept(work, what):
    """What the run itself listed: nothing is changed by looking."""
    before = everything(work)
    done = inside(work, what, '--diff', '--changes-json', '--on-exit', 'keep')
    assert done.returncode == 0
    listed = inside(work, what, '--dry-run').stderr.split('\n', 1)[1]
    told = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith('sandlock: ')]
    layers = sandlock('recover', work).stdout.splitlines()
    ident = layers[0].split()[0]
    for _ in range(2):
        assert sandlock('recover', '--changes', ident, work).stdout == listed
        shown = [sandlock('recover', option, ident, work).stdout for option in ('--diff', '--changes-json')]
        assert [re.sub(r'mtime":[0-9.]+', '', s) for s in shown] == [
            re.sub(r'mtime":[0-9.]+', '', s) for s in (''.join(t for t in told if t[0] not in '[]{'),
                                                     ''.join(t for t in told if t[0] in '[]{'))]
    assert everything(work) == before
    assert sandlock('recover', '--abort', ident, work).returncode == 0
    gone = sandlock('recover', '--diff', ident, work)
    assert gone.returncode == 125 and gone.stderr == f'sandlock: {ident}: there is no such layer\n'
    assert sandlock('recover', '--diff', '../x', work).returncode == 125


def test_recover_shows_nothing_of_elsewhere(work, tmp_path):
    """Others put a link where a directory was, or took it away: a conflict, which is told, and no way out of DIR."""
    (work / 'gone').mkdir()
    (work / 'gone' / 'in').write_text('in\n')
    assert inside(work, 'echo more >>src/main; mv gone moved', '--on-exit', 'keep').returncode == 0
    ident = sandlock('recover', work).stdout.split()[0]
    shutil.copytree(work / 'src', tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'main').write_text('secret\n')
    shutil.move(work / 'src', tmp_path / 'was')
    os.symlink(tmp_path / 'elsewhere', work / 'src')
    shutil.rmtree(work / 'gone')
    shown = {option: sandlock('recover', option, ident, work) for option in ('--diff', '--changes', '--changes-json')}
    assert [s.returncode for s in shown.values()] == [0, 0, 0]
    assert 'secret' not in shown['--diff'].stdout and 'Unreadable file src/main' in shown['--diff'].stdout
    assert 'A  moved' in shown['--changes'].stdout
    assert sandlock('recover', '--commit', ident, work).returncode == 125


# Of a small process, whose own pages are counted for what it starts.
MEASURED = 'import resource, subprocess, sys; print(subprocess.call(sys.argv[1:]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'


@pytest.mark.skipif(IN_VM or 'asan' in os.fspath(SANDLOCK), reason='much output, and memory that is only the command\'s')
def test_diff_is_not_held_in_memory(tmp_path):
    """It is printed as it is made, after the list and before the JSON."""
    top = tmp_path / 'work'
    top.mkdir()
    for folder in (tmp_path, top):
        folder.chmod(0o755)
    text = 'i=0; while [ $i -lt 40 ]; do seq 130000 >n$i; i=$((i+1)); done'
    done = native('python3', '-Ic', MEASURED, SANDLOCK, 'run', *GRANTS, '-w', '/dev/null', '--workdir', top, '--cwd', top,
                  '--dry-run', '--diff', '--changes-json', '--', 'sh', '-c', text)
    code, peak = map(int, done.stdout.split())
    said = done.stderr
    assert code == 0 and len(said) > 35 << 20 and peak < 30 << 10
    places = [said.index(word) for word in ('dry-run: filesystem changes', 'A  n0\n', 'A  n9\n', '+++ b/n0\n', '+++ b/n9\n', '{"')]
    assert places == sorted(places)
