# SPDX-License-Identifier: Apache-2.0
"""Real programs at their work, each with what it may not do; and that the plain policy costs them
nothing: not one notification (issue 3, "Speed and size")."""
import os
import re
import shutil
import zipfile

import pytest

from common import IN_VM, SYSTEM, native, run, sandlock, shell

PYTHON = '/usr/bin/python3'
DEVICES = ['-w', '/dev/null', '-r', '/dev/urandom']


def needs(*tools):
    for tool in tools:
        if not shutil.which(tool):
            pytest.skip(f'no {tool} on this machine')


def notifications(*args, **options):
    """Number of notifications of a run that must succeed."""
    result = sandlock('run', *SYSTEM, '-r', '/dev/null', '--stats', *args, **options)
    assert result.returncode == 0, result.stderr
    return int(re.search(r'notifications: (\d+)', result.stderr)[1])


# ---- nothing is notified ----

def c_project(top, files=6):
    top.mkdir(exist_ok=True)
    for i in range(files):
        (top / f'f{i}.c').write_text(f'int f{i}(void) {{ return {i}; }}\n')
    calls = ' + '.join(f'f{i}()' for i in range(files))
    decls = ''.join(f'int f{i}(void);\n' for i in range(files))
    (top / 'main.c').write_text(f'#include <stdio.h>\n{decls}int main(void) '
                                f'{{ printf("%d\\n", {calls}); return 0; }}\n')
    objects = ' '.join(f'f{i}.o' for i in range(files)) + ' main.o'
    (top / 'Makefile').write_text(f'CC = gcc\nprog: {objects}\n\t$(CC) -o $@ $^\n')
    return top


def test_zero_notifications_for_reading_programs():
    # Not all of /usr/share: some directories there are closed to root without capabilities.
    assert notifications('--', 'ls', '-lR', '/usr/lib/python3' if IN_VM else '/usr/share/doc') == 0
    assert notifications('--', PYTHON, '-c', 'import json, ssl') == 0
    assert notifications('-e', 'echo abc | cat | cat') == 0


def test_zero_notifications_for_threads_and_forks():
    program = ('import threading, subprocess\n'
               'ts = [threading.Thread(target=lambda: None) for _ in range(50)]\n'
               '[t.start() for t in ts]; [t.join() for t in ts]\n'
               'for _ in range(5): subprocess.run(["true"])')
    assert notifications('--', PYTHON, '-c', program) == 0


def test_zero_notifications_for_git_status(tmp_path):
    needs('git')
    env = {**os.environ, 'HOME': str(tmp_path), 'GIT_CONFIG_NOSYSTEM': '1'}
    repo = tmp_path / 'repo'
    for command in (['init', '-q', repo], ['-C', repo, 'config', 'safe.directory', '*']):
        assert native('git', *command, env=env).returncode == 0
    for i in range(50):
        (repo / f'f{i}').write_text(str(i))
    assert notifications('-r', tmp_path, '-w', '/dev/null', '--', 'git', '-C', repo, '-c', 'safe.directory=*', 'status',
                         env=env) == 0


def test_zero_notifications_for_compiling(tmp_path):
    """GCC changes no mode of what it writes; the linker does, one a program."""
    needs('gcc')
    top = c_project(tmp_path / 'p')
    assert notifications('-w', top, '--env', f'TMPDIR={top}', '--', 'gcc', '-c', top / 'f0.c', '-o',
                         top / 'f0.o') == 0


def test_zero_notifications_for_make(tmp_path):
    names = [f't{i}' for i in range(8)]
    (tmp_path / 'Makefile').write_text(
        f'all: {" ".join(names)}\n' + ''.join(f'{n}:\n\t@echo {n} | cat >$@\n' for n in names))
    assert notifications('-w', tmp_path, '--', 'make', '-s', '-C', tmp_path, '-j4') == 0


def test_metadata_changes_are_the_only_notifications(tmp_path):
    (tmp_path / 'f').write_text('')
    assert notifications('-w', tmp_path, '--', 'chmod', '600', tmp_path / 'f') == 1
    assert notifications('-w', tmp_path, '-e', f'cd {tmp_path}; mkdir d; echo x >d/x; cat d/x; mv d/x y; '
                         'rm -r d y') == 0


# ---- work ----

@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow']], ids=['default', 'fs-deny'])
def test_git_clone_of_a_local_repository(options, tmp_path):
    needs('git')
    source, target, outside = tmp_path / 'source', tmp_path / 'target', tmp_path / 'outside'
    target.mkdir()
    outside.mkdir()
    env = {**os.environ, 'HOME': str(target), 'GIT_CONFIG_NOSYSTEM': '1'}
    script = (f'git init -q {source} && cd {source} && echo hello >file && git add file && '
              'git -c user.name=n -c user.email=e@x commit -qm first')
    assert native('sh', '-c', script, env=env).returncode == 0
    git = 'git -c safe.directory=*'
    policy = ['-r', source, '-w', target, *DEVICES, *options]
    result = shell(f'cd {target} && {git} clone -q {source} copy && cat copy/file && cd copy && '
                   f'{git} log --oneline | wc -l', *policy, env=env)
    assert (result.returncode, result.stdout.split()) == (0, ['hello', '1']), result.stderr
    for command in (f'{git} clone -q {source} {outside}/copy', f'{git} -C {source} commit -q --amend'):
        assert shell(command, *policy, env=env).returncode != 0
    assert not list(outside.iterdir())
    assert native('git', 'clone', '-q', source, outside / 'copy', env=env).returncode == 0


@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow']], ids=['default', 'fs-deny'])
def test_make_of_a_c_project(options, tmp_path):
    needs('gcc', 'make')
    top = c_project(tmp_path / 'p', 12)
    policy = ['-w', top, *DEVICES, '--env', f'TMPDIR={top}', *options]
    result = run(*policy, '--', 'make', '-s', '-C', top, '-j2')
    assert result.returncode == 0, result.stderr
    assert run(*policy, '--', top / 'prog').stdout == '66\n'
    result = run(*policy, '--', 'gcc', '-c', top / 'f0.c', '-o', tmp_path / 'f0.o')
    assert result.returncode != 0 and not (tmp_path / 'f0.o').exists()
    assert native('gcc', '-c', top / 'f0.c', '-o', tmp_path / 'f0.o').returncode == 0


def wheel(folder):
    path = folder / 'sandlocktest-1.0-py3-none-any.whl'
    info = 'sandlocktest-1.0.dist-info'
    with zipfile.ZipFile(path, 'w') as z:
        z.writestr('sandlocktest.py', 'def answer():\n    return 42\n')
        z.writestr(f'{info}/METADATA', 'Metadata-Version: 2.1\nName: sandlocktest\nVersion: 1.0\n')
        z.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n'
                   'Tag: py3-none-any\n')
        z.writestr(f'{info}/RECORD', f'sandlocktest.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n'
                   f'{info}/RECORD,,\n')
    return path


@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow']], ids=['default', 'fs-deny'])
def test_pip_install_of_a_local_wheel(options, tmp_path):
    if native(PYTHON, '-m', 'pip', '--version').returncode != 0:
        pytest.skip('no pip on this machine')
    packages, target, outside = tmp_path / 'packages', tmp_path / 'target', tmp_path / 'outside'
    for folder in (packages, target, outside):
        folder.mkdir()
    path = wheel(packages)
    env = {'PATH': '/usr/bin:/bin', 'HOME': str(target), 'TMPDIR': str(target),
           'PIP_NO_CACHE_DIR': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1', 'LANG': 'C.UTF-8'}
    policy = ['-r', packages, '-w', target, *DEVICES, *options]
    install = [PYTHON, '-m', 'pip', 'install', '-q', '--no-index', '--no-deps', '--target']
    result = run(*policy, '--', *install, target / 'lib', path, env=env)
    assert result.returncode == 0, result.stderr
    result = run(*policy, '--env', f'PYTHONPATH={target}/lib', '--', PYTHON, '-c',
                 'import sandlocktest; print(sandlocktest.answer())', env=env)
    assert result.stdout == '42\n', result.stderr
    assert run(*policy, '--', *install, outside / 'lib', path, env=env).returncode != 0
    assert not list(outside.iterdir())
    assert native(*install, outside / 'lib', path, env=env).returncode == 0


NODE = '''
const fs = require("fs"), cp = require("child_process"), path = process.argv[2];
fs.writeFileSync(path + "/out", "node");
console.log(fs.readFileSync(path + "/out", "utf8"), cp.execSync("echo child").toString().trim());
try { fs.writeFileSync("/var/tmp/sandlock-node", "x"); console.log("escaped"); }
catch (e) { console.log(e.code); }
'''


def test_node(tmp_path):
    node = shutil.which('node')
    if not node:
        pytest.skip('no node on this machine')
    (tmp_path / 'x.js').write_text(NODE)
    for options in ([], ['--fs-deny', '/etc/shadow']):
        result = run('-r', os.path.dirname(os.path.realpath(node)), '-w', tmp_path, *DEVICES,
                     *options, '--', os.path.realpath(node), tmp_path / 'x.js', tmp_path)
        assert result.stdout == 'node child\nEACCES\n', result.stderr


GO = '''package main

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
)

func main() {
	var wg sync.WaitGroup
	for i := 0; i < 20; i++ {
		wg.Add(1)
		go func() { defer wg.Done(); exec.Command("true").Run() }()
	}
	wg.Wait()
	fmt.Println(os.WriteFile(os.Args[1]+"/out", []byte("go"), 0644))
	_, err := os.ReadFile(os.Args[2])
	fmt.Println(err != nil)
}
'''


def test_go(tmp_path):
    """Compiled inside, then run inside: many threads, clone and vfork of another kind than libc's."""
    go = shutil.which('go')
    if not go:
        pytest.skip('no go on this machine')
    if not os.environ.get('SANDLOCK_LONG'):
        pytest.skip('compiles the standard library of Go for minutes: set SANDLOCK_LONG')
    root = native(go, 'env', 'GOROOT').stdout.strip()
    source, secret = tmp_path / 'source', tmp_path / 'secret'
    source.mkdir()
    secret.write_text('x')
    (source / 'main.go').write_text(GO)
    env = {'PATH': f'{root}/bin:/usr/bin:/bin', 'HOME': str(source), 'GOCACHE': str(source / 'cache'),
           'GOTMPDIR': str(source), 'GOFLAGS': '-mod=mod', 'GO111MODULE': 'off', 'TMPDIR': str(source),
           'GOTOOLCHAIN': 'local', 'CGO_ENABLED': '0', 'GOTELEMETRY': 'off'}
    policy = ['-r', root, '-w', source, *DEVICES]
    built = run(*policy, '--', f'{root}/bin/go', 'build', '-o', source / 'prog', source / 'main.go',
                env=env, timeout=1200)
    assert built.returncode == 0, built.stderr
    for options in ([], ['--fs-deny', secret], ['-r', '/proc']):
        result = run(*policy, *options, '--', source / 'prog', source, secret, env=env)
        assert result.stdout == '<nil>\ntrue\n', (options, result.stdout, result.stderr)
    assert native(source / 'prog', source, secret, env=env).stdout == '<nil>\nfalse\n'


def test_python_that_uses_everything(tmp_path):
    program = '''
import asyncio, concurrent.futures, multiprocessing, os, sys, tempfile
async def main():
    p = await asyncio.create_subprocess_exec("sh", "-c", "echo async", stdout=asyncio.subprocess.PIPE)
    print((await p.communicate())[0].decode().strip())
asyncio.run(main())
with concurrent.futures.ThreadPoolExecutor(8) as e: print(sum(e.map(lambda x: x * x, range(100))))
def square(x): return x * x
if hasattr(os, "fork"):
    r, w = os.pipe()
    if os.fork() == 0:
        os.write(w, b"child"); os._exit(0)
    os.wait(); print(os.read(r, 10).decode())
try: open("/var/tmp/sandlock-python", "w"); print("escaped")
except PermissionError: print("refused")
'''
    for options in ([], ['--fs-deny', '/etc/shadow']):
        result = run('-w', tmp_path, *options, '--', PYTHON, '-c', program)
        assert result.stdout == 'async\n328350\nchild\nrefused\n', result.stderr
