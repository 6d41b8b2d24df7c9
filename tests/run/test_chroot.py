# SPDX-License-Identifier: Apache-2.0
"""--chroot: programs, working directory, names and permissions inside another root."""
import os
import shutil
import socket
import subprocess

import pytest

from chroot_tree import libraries, make_root
from common import (AT_EMPTY_PATH, AT_FDCWD, LIMIT, MACHINE, SANDLOCK, Raw, Script, buffer, native, sandlock)

O_PATH = os.O_PATH


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    """The root that tests copy, or use when they change nothing but /tmp."""
    top = tmp_path_factory.mktemp('chroot')
    top.chmod(0o755)
    return make_root(top / 'root')


def inside(root, *command, grants=('-r', '/', '-w', '/tmp'), **options):
    return sandlock('run', '--chroot', root, *grants, '--', *command, **options)


def script(root, text, *args, **options):
    return inside(root, '/bin/sh', '-c', text, *args, **options)


def raw(root, calls, grants=('-r', '/', '-w', '/tmp')):
    done = inside(root, '/rawcall', grants=grants, input=calls.text())
    return calls._answers(done)


# ---- programs ----

def test_static_and_dynamic(base):
    assert script(base, 'echo hello').stdout == 'hello\n'
    assert inside(base, '/rawcall', input='').returncode == 0


def test_nothing_of_the_host(base):
    """Control: the same path names the host's file without --chroot."""
    assert native('cat', '/etc/passwd').returncode == 0
    done = inside(base, '/bin/cat', '/etc/passwd')
    assert done.returncode == 1 and 'No such file' in done.stderr
    assert inside(base, '/bin/cat', '/../../../../etc/motd').stdout == 'inside\n'


def test_path_search(base):
    done = inside(base, 'cat', '/etc/motd', env={'PATH': '/nope:/bin'})
    assert done.stdout == 'inside\n'
    assert inside(base, 'python3-not-here').returncode == 127


def test_loader_is_the_roots(base):
    """No host library is mapped: all names are of the root, and the files are its own."""
    done = inside(base, '/bin/cat', '/proc/self/maps')
    paths = {line.split(None, 5)[5] for line in done.stdout.splitlines() if '/' in line}
    assert paths and all((base / p.lstrip('/')).exists() for p in paths), paths
    assert str(base) not in done.stdout


def test_missing_loader(tmp_path):
    root = tmp_path / 'r'
    (root / 'bin').mkdir(parents=True)
    shutil.copy(os.path.realpath(shutil.which('cat')), root / 'bin' / 'cat')
    done = inside(root, '/bin/cat', '/etc/passwd', grants=('-r', '/'))
    assert done.returncode == 127 and 'interpreter' in done.stderr


def test_names_of_a_program(base):
    done = script(base, 'cat /proc/self/comm; readlink /proc/self/exe /proc/$$/exe; '
                        'exec cat /proc/self/cmdline')
    assert done.stdout == 'cat\n/bin/readlink\n/bin/sh\ncat\0/proc/self/cmdline\0'


def write_script(root, name, text):
    path = root / 'tmp' / name
    path.write_text(text)
    path.chmod(0o755)
    return f'/tmp/{name}'


def test_scripts(base):
    write_script(base, 'one', '#!/bin/sh -e\necho "$0 $1 $2"; cat /proc/self/comm\n')
    write_script(base, 'two', '#! /tmp/one  an argument \nnot read\n')
    write_script(base, 'env', '#!/bin/env -S cat\nme\n')
    assert inside(base, '/tmp/one', 'a', 'b').stdout == '/tmp/one a b\ncat\n'
    assert script(base, 'cd /tmp; ./one a').stdout == './one a \ncat\n'
    assert inside(base, '/tmp/two', 'x').stdout == '/tmp/one an argument /tmp/two\ncat\n'
    assert inside(base, '/tmp/env').stdout == '#!/bin/env -S cat\nme\n'
    for name, text, error in (('bad', '#!/nope\n', 'not found'), ('dir', '#!/etc\n', 'denied')):
        write_script(base, name, text)
        assert error in script(base, f'/tmp/{name}').stderr
    write_script(base, 'loop', '#!/tmp/loop\n')
    calls = Script()
    i = calls.call('execve', '/tmp/loop', 0, 0)
    assert raw(base, calls)[i].name == 'ELOOP'


def test_exec_errors(base):
    write_script(base, 'text', 'no header')
    (base / 'tmp' / 'plain').write_text('x')
    (base / 'tmp' / 'foreign').write_bytes(b'\x7fELF\x01\x01\x01' + bytes(100))
    (base / 'tmp' / 'foreign').chmod(0o755)
    calls = Script()
    want = {}
    for path, error in (('/nope', 'ENOENT'), ('/etc', 'EACCES'), ('/tmp/plain', 'EACCES'),
                        ('/etc/motd/x', 'ENOTDIR'), ('', 'ENOENT'), ('/tmp/text', 'ENOEXEC'),
                        ('/tmp/foreign', 'ENOEXEC')):
        want[calls.call('execve', path, 0, 0)] = error
    fd = calls.open('/tmp/plain')
    want[calls.call('execveat', fd, '', 0, 0, AT_EMPTY_PATH)] = 'EACCES'
    want[calls.call('execveat', fd, '', 0, 0, 0)] = 'ENOENT'
    want[calls.call('execveat', 99, 'x', 0, 0, 0)] = 'EBADF'
    want[calls.call('execveat', AT_FDCWD, '/tmp/plain', 0, 0, 0x8000)] = 'EINVAL'
    after = calls.call('dup', 0)
    answers = raw(base, calls)
    assert {i: answers[i].name for i in want} == want
    # A failed exec leaves no descriptor behind: 0-2, and the one that was opened.
    assert answers[after].result == 4


def test_no_descriptor_too_many(base):
    assert script(base, 'ls /proc/self/fd').stdout.split() == ['0', '1', '2', '3']


def test_execfn_and_fexecve(base):
    """By descriptor, as fexecve does, also of a program whose path is gone."""
    shutil.copy(base / 'rawcall', base / 'tmp' / 'prog')
    calls = Script()
    fd = calls.open('/tmp/prog')
    calls.call('unlinkat', AT_FDCWD, '/tmp/prog', 0)
    i = calls.call('execveat', fd, '', 0, 0, AT_EMPTY_PATH, fork=True)
    assert raw(base, calls)[i].exit in (0, 2)


# ---- working directory ----

def test_working_directory(base):
    long = 'd' * 200
    done = script(base, f'cd /tmp; mkdir -p {long}/{long}/{long}; cd {long}; cd {long}/{long}; pwd -P;'
                        'cd ../..; cd ..; pwd -P; cd ../../..; pwd -P; cd /bin; pwd -P;'
                        '(cd /etc; pwd -P; cat motd); pwd -P; cd ../nope; cd ../etc/motd; pwd -P')
    assert done.stdout.split() == [f'/tmp/{long}/{long}/{long}', '/tmp', '/', '/bin', '/etc', 'inside',
                                   '/bin', '/bin']


def test_first_directory(base):
    assert inside(base, '/bin/pwd').stdout == '/\n'
    done = sandlock('run', '--chroot', base, '-r', '/', '--cwd', '/etc', '--', '/bin/cat', 'motd')
    assert done.stdout == 'inside\n'
    done = sandlock('run', '--chroot', base, '-r', '/', '--cwd', '/usr/nope', '--', '/bin/pwd')
    assert done.returncode == 125 and '--cwd' in done.stderr


def test_directory_without_grant(base):
    """To stand in a directory needs no right to read it."""
    grants = [w for p in ('/bin', '/lib', '/lib64', '/usr') if (base / p[1:]).exists()
              for w in ('-r', p)]
    done = script(base, 'cd /etc && pwd -P; ls . || echo closed', grants=grants)
    assert done.stdout == '/etc\nclosed\n'


def test_getcwd(base):
    calls = Script()
    kept = calls.keep(buffer(64))
    calls.call('chdir', '/etc')
    names = [calls.call('getcwd', kept, n) for n in (64, 5, 4, 0)]
    fault = calls.call('getcwd', Raw('f:'), 64)
    calls.call('mkdirat', AT_FDCWD, '/tmp/gone', 0o700)
    calls.call('chdir', '/tmp/gone')
    calls.call('unlinkat', AT_FDCWD, '/tmp/gone', 0x200)
    gone = calls.call('getcwd', kept, 64)
    answers = raw(base, calls)
    assert [answers[i].result for i in names] == [5, 5, -1, -1]
    assert answers[names[0]].name == 'OK'
    assert [answers[i].name for i in (names[2], names[3], fault, gone)] == \
        ['ERANGE', 'ERANGE', 'EFAULT', 'ENOENT']


def test_fchdir(base):
    calls = Script()
    kept = calls.keep(buffer(64))
    plain, path = calls.open('/etc'), calls.open('/bin', O_PATH)
    calls.call('fchdir', plain)
    first = calls.call('readlinkat', AT_FDCWD, '/proc/self/cwd', kept, 64)
    calls.call('fchdir', path)
    second = calls.call('openat', AT_FDCWD, 'sh', 0, 0)
    answers = raw(base, calls)
    assert answers[first].result == 4 and answers[second].name == 'OK'


# ---- names that lead out ----

LINKS = {
    'host-abs': '/etc/passwd', 'host-up': '../../../../../../etc/passwd', 'dangling': '/outside/file',
    'root': '/proc/self/root/etc/passwd', 'cwd': '/proc/self/cwd/../../../../etc/passwd',
    'task': '/proc/thread-self/root/../etc/passwd', 'ring': 'ring', 'ok': '/etc/motd',
}


def test_links_stay_inside(base, tmp_path):
    """X1: whatever a link says, nothing outside is read or changed; and the same names do lead out of
    a process that has the host's root."""
    assert native('cat', '/proc/self/root/etc/passwd').returncode == 0
    outside = tmp_path / 'outside'
    outside.write_text('outside')
    for name, target in {**LINKS, 'secret': str(outside)}.items():
        link = base / 'tmp' / name
        if not link.is_symlink():
            link.symlink_to(target)
    before = outside.stat()
    calls = Script()
    made = []
    for name in [*LINKS, 'secret']:
        path = f'/tmp/{name}'
        if name != 'ok':
            for call in (('openat', AT_FDCWD, path, 0, 0), ('truncate', path, 0),
                         ('fchmodat', AT_FDCWD, path, 0o777), ('utimensat', AT_FDCWD, path, 0, 0),
                         ('newfstatat', AT_FDCWD, path, buffer(144), 0),
                         ('faccessat', AT_FDCWD, path, 0), ('execve', path, 0, 0),
                         ('fchownat', AT_FDCWD, path, 0, 0, 0), ('chdir', path)):
                made.append(calls.call(*call))
    answers = raw(base, calls)
    assert {answers[i].name for i in made if i is not None} <= {'ENOENT', 'ELOOP', 'EACCES', 'EPERM'}
    assert inside(base, '/bin/cat', '/tmp/ok').stdout == 'inside\n'
    after = outside.stat()
    assert outside.read_text() == 'outside'
    assert (before.st_mtime_ns, before.st_mode) == (after.st_mtime_ns, after.st_mode)


def test_create_through_dangling_link(base):
    """PR-13: the target is made inside."""
    link = base / 'tmp' / 'make'
    link.symlink_to('/tmp/made')
    assert script(base, 'echo x > /tmp/make && cat /tmp/made').stdout == 'x\n'
    assert (base / 'tmp' / 'made').read_text() == 'x\n'


def test_grants_are_inside(tmp_path, base):
    """X2, FG-09: a link of the root cannot turn a grant into one on the host's directory."""
    host = tmp_path / 'host'
    host.mkdir()
    root = make_root(tmp_path / 'r', programs=['sh'])
    (root / 'data').symlink_to(host)
    done = inside(root, '/bin/sh', '-c', ':', grants=('-r', '/', '-w', '/data'))
    assert done.returncode == 125 and '--fs-write' in done.stderr
    calls = Script()
    i = calls.call('creat', f'{host}/file', 0o600)
    k = calls.call('openat', AT_FDCWD, f'{host}/file', os.O_CREAT | os.O_WRONLY, 0o600)
    answers = raw(root, calls, grants=('-r', '/', '-w', '/tmp'))
    assert {answers[n].name for n in (i, k) if n is not None} <= {'ENOENT', 'EACCES'}
    assert not list(host.iterdir())


def test_no_name_of_the_host(base):
    done = script(base, 'readlink /proc/self/root /proc/self/cwd /proc/self/fd/9; ls -l /proc/self/fd;'
                        'cat /proc/self/mounts /proc/self/mountinfo /proc/self/maps;'
                        'cd /tmp; pwd -P; exec 9</etc/motd; readlink /proc/self/fd/9')
    assert str(base) not in done.stdout + done.stderr
    assert done.stdout.splitlines()[:2] == ['/', '/'] and done.stdout.endswith('/tmp\n/etc/motd\n')


def test_write_needs_grant(base):
    assert script(base, 'echo x > /etc/new').returncode != 0
    assert not (base / 'etc' / 'new').exists()
    assert script(base, 'echo x > /tmp/new && cat /tmp/new').stdout == 'x\n'


def test_stat_is_the_objects(base):
    done = inside(base, '/bin/stat', '-c', '%i %h %a %s', '/etc/motd')
    st = (base / 'etc' / 'motd').stat()
    assert done.stdout.split() == [str(st.st_ino), str(st.st_nlink), '644', str(st.st_size)]


# ---- O_PATH, descriptors ----

def test_path_descriptors(base):
    (base / 'tmp' / 'plink').symlink_to('/etc/motd')
    calls = Script()
    kept = calls.keep(buffer(64))
    link = calls.open('/tmp/plink', O_PATH | os.O_NOFOLLOW)
    folder = calls.open('/etc', O_PATH)
    text = calls.call('readlinkat', link, '', kept, 64)
    inner = calls.call('openat', folder, 'motd', 0, 0)
    read = calls.call('read', folder, kept, 1)
    wrong = calls.call('openat', AT_FDCWD, '/etc/motd', O_PATH | os.O_DIRECTORY, 0)
    flags = calls.call('fcntl', folder, 3)
    reopened = calls.call('openat', AT_FDCWD, '/proc/self/fd/3', os.O_RDONLY, 0)
    answers = raw(base, calls)
    assert answers[text].result == len('/etc/motd')
    assert answers[inner].name == 'OK' and answers[read].name == 'EBADF'
    assert answers[wrong].name == 'ENOTDIR' and answers[flags].result & O_PATH
    assert answers[reopened].name == 'ELOOP'


def test_standard_streams(base):
    done = script(base, 'cat /dev/stdin; cat /proc/self/fd/0 </etc/motd; echo x >/proc/self/fd/1',
                  input='typed\n')
    assert 'inside\n' in done.stdout and done.stdout.endswith('x\n')


def test_denied_inside(base):
    """--fs-deny names paths inside; a link is denied with what it leads to inside."""
    for name in ('guarded', 'target', 'later'):
        (base / 'tmp' / name).write_text(name) if name != 'later' else None
    (base / 'tmp' / 'dlink').symlink_to('/tmp/target')
    text = ('for i in guarded target dlink plain later; do cat /tmp/$i && echo; done; cp /bin/cat /tmp/later; '
            '/bin/stat -c %s /tmp/guarded')
    (base / 'tmp' / 'plain').write_text('plain')
    control = script(base, text)
    assert control.stdout.split()[:4] == ['guarded', 'target', 'target', 'plain']
    (base / 'tmp' / 'later').unlink()
    denies = [w for name in ('guarded', 'dlink', 'later', 'none/such') for w in ('--fs-deny', f'/tmp/{name}')]
    done = sandlock('run', '--chroot', base, '-r', '/', '-w', '/tmp', *denies, '--fs-deny', '/bin/stat', '--',
                    '/bin/sh', '-c', text)
    assert done.stdout == 'plain\n', done.stdout + done.stderr
    assert not (base / 'tmp' / 'later').exists()


# ---- sockets ----

def test_unix_sockets(base, tmp_path):
    """A socket of the host is not reachable by its host path, one inside is by its inside path."""
    if not shutil.which('python3'):
        pytest.skip('no python3')
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(base / 'tmp')
        server.bind('sock')
        server.listen()
        calls = Script()
        made = []
        for path in (str(base / 'tmp' / 'sock'), '/tmp/sock'):
            calls.call('socket', 1, 1, 0, save=f's{len(made)}')
            address = Raw('x:' + (b'\x01\0' + path.encode() + b'\0').hex())
            made.append(calls.call('connect', Raw(f'$s{len(made)}'), address, 3 + len(path)))
        answers = raw(base, calls)
        assert [answers[i].name for i in made] == ['ENOENT', 'OK']


# ---- errors at the start ----

@pytest.mark.parametrize('args, flag', [
    (['--chroot', '/nonexistent/dir'], '--chroot'), (['--chroot', '/etc/passwd'], '--chroot'),
    (['--chroot', '/', '--fs-mount', 'relative:/tmp'], '--fs-mount'),
    (['--chroot', '/', '--fs-mount', '/a/../b:/tmp'], '--fs-mount'),
    (['--fs-mount', '/:/tmp'], '--fs-mount'), (['--fs-mount', '/x:'], '--fs-mount'),
    (['--fs-mount', '/x:/nonexistent/y'], '--fs-mount'),
    (['--fs-mount', '/x:/usr', '--fs-mount', '/x:/etc'], '--fs-mount'),
    (['--chroot', '/', '--no-supervisor'], '--chroot'),
])
def test_bad_arguments(args, flag):
    done = sandlock('run', *args, '--', '/bin/true')
    assert done.returncode in (2, 125) and flag in done.stderr and done.stderr.count('\n') == 1


def test_busybox_root(tmp_path):
    """A static root of another C library."""
    box = shutil.which('busybox')
    if not box or libraries(box):
        pytest.skip('no static busybox')
    root = tmp_path / 'r'
    for folder in ('bin', 'tmp', 'proc', 'etc'):
        (root / folder).mkdir(parents=True)
    shutil.copy(box, root / 'bin' / 'busybox')
    for name in ('sh', 'ls', 'cat', 'mv', 'find', 'tar', 'ash', 'pwd', 'mkdir', 'rm', 'sort', 'cp'):
        (root / 'bin' / name).symlink_to('busybox')
    done = inside(root, '/bin/sh', '-c',
                  'cd /tmp; mkdir -p a/b; echo 1 >a/b/f; cp -a a c; mv a d; tar cf t d; rm -r d; '
                  'tar xf t; find . | sort; pwd; cat /proc/self/comm', timeout=LIMIT)
    assert done.stdout.split() == ['.', './c', './c/b', './c/b/f', './d', './d/b', './d/b/f', './t',
                                   '/tmp', 'cat']


def test_one_copy_serves_all(base):
    """CR-14: however often a dynamic program is executed, there is one copy of it."""
    process = subprocess.Popen([SANDLOCK, 'run', '--chroot', str(base), '-r', '/', '--', '/bin/sh', '-c',
                                'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do cat /etc/motd; done; read x'],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert [process.stdout.readline() for _ in range(12)] == ['inside\n'] * 12
        folder = f'/proc/{process.pid}/fd'
        links = []
        for name in os.listdir(folder):
            try:
                links.append(os.readlink(f'{folder}/{name}'))
            except OSError:
                pass
        assert sum('memfd:' in link for link in links) == 2, links  # sh and cat
    finally:
        process.communicate('x\n')
    assert process.returncode == 0


def test_another_c_library(tmp_path):
    """The loader is the root's whatever it is called: here musl's, which the host does not have there."""
    compiler, library = shutil.which('musl-gcc'), f'/usr/lib/{MACHINE}-linux-musl/libc.so'
    if not compiler or not os.path.exists(library):
        pytest.skip('no musl')
    root = tmp_path / 'r'
    for folder in ('bin', 'lib', 'tmp', 'proc'):
        (root / folder).mkdir(parents=True)
    shutil.copy(library, root / 'lib' / f'ld-musl-{MACHINE}.so.1')
    source = tmp_path / 'a.c'
    source.write_text('#include <stdio.h>\n#include <sys/auxv.h>\nint main(int c, char **v) {'
                      'printf("%s %d %s\\n", v[0], c, (char *)getauxval(AT_EXECFN)); return 0; }\n')
    assert native(compiler, source, '-o', root / 'bin' / 'prog').returncode == 0
    done = inside(root, '/bin/prog', 'x', grants=('-r', '/'))
    assert done.stdout == '/bin/prog 2 /bin/prog\n', done.stderr


def test_programs_together(base):
    """Pipes, subshells, background jobs, cp -a, tar, find: all at work on one tree."""
    done = script(base, 'cd /tmp; rm -rf w; mkdir w; cd w; for i in 1 2 3 4 5; do mkdir d$i; '
                        'echo $i >d$i/f; ln -s ../d1/f d$i/l; ln d$i/f d$i/h; done; cp -a . ../w2; '
                        'tar cf - . | (mkdir ../w3; cd ../w3; tar xf -); cd ..; '
                        'find w2 w3 | while read x; do [ -e "$x" ] || echo "lost $x"; done; '
                        'cat w3/*/l; rm -r w w2 w3; (sleep 0 & wait) 2>/dev/null; echo end')
    assert done.stdout == '1\n' * 5 + 'end\n', done.stderr


PROGRAM_TESTS = {
    'python3': 'python3 -c "import json, os, subprocess, tempfile; print(subprocess.run([\'echo\', \'x\'], '
               'capture_output=True).stdout, os.getcwd() == os.environ[\'T\'])"',
    'git': 'git init -q r && cd r && git config user.email a@b && git config user.name n && echo x >f && '
           'git add f && git commit -qm m && git gc -q && git log --format=%s && cd .. && git clone -q r s && '
           'cat s/f',
    'make': "printf 'all: a b\\na b:\\n\\techo $@ >$@\\n' >Makefile && make -s -j2 && cat a b",
    'gcc': 'echo "int main(void){return 42;}" >a.c && gcc a.c -o a.out && ./a.out; echo $?',
    'tar': 'mkdir -p d/e && echo 1 >d/e/f && tar cf - d | (mkdir x && cd x && tar xf -) && cat x/d/e/f',
    'rsync': 'mkdir d && echo 1 >d/f && rsync -a d/ e/ && cat e/f',
    'find': 'mkdir -p d/e/f && find . -type d | wc -l && du -s d | cut -f2',
    'sqlite3': 'sqlite3 db "create table t(a); insert into t values(7); select * from t"',
}


@pytest.mark.parametrize('name', PROGRAM_TESTS)
def test_real_programs(name, tmp_path):
    """The host's own root taken as another one: everything goes through the same code."""
    if not shutil.which(name):
        pytest.skip(f'no {name}')
    outputs = []
    for place in ('native', 'inside'):
        folder = tmp_path / place
        folder.mkdir()
        environment = {**os.environ, 'T': str(folder), 'HOME': str(folder), 'GIT_CONFIG_NOSYSTEM': '1'}
        command = ['sh', '-c', f'cd {folder} && {PROGRAM_TESTS[name]}']
        if place == 'inside':
            done = sandlock('run', '--chroot', '/', '-r', '/', '-w', folder, '-w', '/dev/null', '-w', '/tmp',
                            '--', *command, env=environment)
        else:
            done = native(*command, env=environment)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]


FIRST_LINES = [
    '#!/bin/echo\n', '#!/bin/echo a\n', '#! /bin/echo  a b  \n', '#!\t/bin/echo\ta\t\n', '#!/bin/echo', '#!/bin/echo a',
    '#!\n', '#! \n', '#!', '#!/bin/echo\0x\n', '#!/bin/echo a\0b\n', '#!/bin/echo ' + 'x' * 300 + '\n',
    '#!/bin/' + 'x' * 300 + '\n', '#!' + ' ' * 300 + '/bin/echo\n', '#!' + ' ' * 240 + '/bin/echo\n',
    '#!/bin/echo' + ' ' * 300 + '\n', *('#!/bin/echo ' + 'y' * n + '\n' for n in (242, 243, 244)),
    *('#!' + '/' * n + 'bin/echo' + end for n in range(243, 248) for end in ('\n', '')), '#!bin/echo\n',
    '#!./interpreter q\n', '##/bin/echo\n', '#',
]
EXECUTE_ALL = '''
import os, sys
os.chdir(sys.argv[1])
for name in sorted(os.listdir('.')):
    if name != 'interpreter':
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try:
                os.execv(os.path.join(sys.argv[1], name), ['zero', 'one'])
            except OSError as error:
                print('errno', error.errno, flush=True)
                os._exit(1)
        os.waitpid(pid, 0)
'''


def test_first_lines(tmp_path):
    """What the supervisor makes of a script's first line is what the kernel makes of it."""
    python = '/usr/bin/python3'
    if not os.path.exists(python) or not os.path.exists('/bin/echo'):
        pytest.skip('no /usr/bin/python3')
    for number, text in enumerate(FIRST_LINES):
        path = tmp_path / f's{number:02}'
        path.write_text(text)
        path.chmod(0o755)
    (tmp_path / 'interpreter').symlink_to('/bin/echo')
    command = [python, '-c', EXECUTE_ALL, tmp_path]
    want = native(*command)
    done = sandlock('run', '--chroot', '/', '-r', '/', '--', *command)
    assert done.stdout.splitlines() == want.stdout.splitlines() and len(want.stdout.splitlines()) > 20, \
        done.stderr
