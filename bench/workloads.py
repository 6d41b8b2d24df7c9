# SPDX-License-Identifier: Apache-2.0
"""The programs of the benchmark: how to prepare, reset and start each, and what it is granted."""
import dataclasses
import pathlib
import shutil
import subprocess
import sys
import time
import typing

PYTHON = '/usr/bin/python3'
IMPORTS = ('json, ssl, asyncio, argparse, collections, csv, ctypes, datetime, decimal, email, '
           'html, http.client, logging, multiprocessing, pathlib, random, sqlite3, subprocess, '
           'tempfile, urllib.request')


@dataclasses.dataclass
class Workload:
    name: str
    argv: list
    read: list = dataclasses.field(default_factory=list)
    write: list = dataclasses.field(default_factory=list)
    env: dict = dataclasses.field(default_factory=dict)
    cwd: typing.Any = '/'
    reset: typing.Any = lambda: None


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def c_project(root, files):
    """A header, `files` sources that use it, a main program and a Makefile."""
    root.mkdir()
    (root / 'tmp').mkdir()
    body = '\n'.join(f'int f{i}(int x);' for i in range(files))
    (root / 'all.h').write_text(f'#include <stdio.h>\n#include <stdlib.h>\n{body}\n')
    for i in range(files):
        (root / f'f{i}.c').write_text(
            f'#include "all.h"\nint f{i}(int x)\n{{\n    int s = {i};\n'
            '    for (int k = 0; k < x; k++)\n        s = s * 31 + (k ^ s);\n    return s;\n}\n')
    calls = ' + '.join(f'f{i}(9)' for i in range(files))
    (root / 'main.c').write_text(f'#include "all.h"\nint main(void)\n{{\n    return ({calls}) & 0;\n}}\n')
    names = ' '.join(f'out/f{i}.o' for i in range(files))
    (root / 'Makefile').write_text(
        f'out/program: {names} out/main.o\n\tgcc -o $@ $^\n'
        'out/%.o: %.c all.h\n\t@mkdir -p out\n\tgcc -O1 -c -o $@ $<\n')


def make(root, name, jobs):
    return Workload(f'{name}', ['make', '-s', f'-j{jobs}'], write=[root, '/dev/null'], cwd=root,
                    env={'TMPDIR': str(root / 'tmp')}, reset=lambda: remove(root / 'out'))


def git_repository(root, files):
    root.mkdir()
    for i in range(files):
        d = root / f'd{i % 20}'
        d.mkdir(exist_ok=True)
        (d / f'f{i}').write_text(f'{i}\n')
    for words in (['init', '-q'], ['add', '.'],
                  ['-c', 'user.name=b', '-c', 'user.email=b@b', 'commit', '-q', '-m', 'all']):
        subprocess.run(['git', '-C', root, *words], check=True, env=git_env(root))
    # Files as old as the index are read again each time: write the index anew, a second later.
    time.sleep(1.1)
    for words in (['update-index', '--really-refresh'], ['status']):
        (root / 'd0' / 'f0').touch()
        subprocess.run(['git', '-C', root, *words], check=True, env=git_env(root),
                       stdout=subprocess.DEVNULL)
    return Workload('git status', ['git', '--no-optional-locks', 'status'], read=[root], cwd=root,
                    write=['/dev/null'], env=git_env(root))


def git_env(root):
    return {'HOME': str(root), 'PATH': '/usr/bin:/bin', 'GIT_CONFIG_NOSYSTEM': '1'}


def sqlite(root, commits):
    root.mkdir()
    script = root / 'commits.sql'
    script.write_text('CREATE TABLE t(a);\n' +
                      ''.join(f'INSERT INTO t VALUES({i});\n' for i in range(commits)))
    return Workload(f'{commits} sqlite commits', ['sh', '-c', f'sqlite3 {root}/db < {script}'],
                    write=[root], cwd=root, reset=lambda: remove(root / 'db'))


def redis(root):
    root.mkdir()
    sock = root / 's'
    script = (f'redis-server --port 0 --unixsocket {sock} --save "" --dir {root} >/dev/null & '
              f'until redis-cli -s {sock} ping >/dev/null 2>&1; do sleep 0.01; done; '
              f'redis-benchmark -s {sock} -q -n 40000 -t set,get; '
              f'redis-cli -s {sock} shutdown nosave; wait')
    return Workload('redis-benchmark over a unix socket', ['sh', '-c', script], cwd=root,
                    write=[root, '/dev/null'], reset=lambda: remove(sock))


def first_that_exists(*tools):
    missing = [t for t in tools if not shutil.which(t)]
    if missing:
        print(f'not installed: {", ".join(missing)}', file=sys.stderr)
    return not missing


def prepare(work, only=('make', 'git', 'sqlite', 'python', 'redis')):
    work = pathlib.Path(work)
    memory = pathlib.Path('/dev/shm') / work.name
    if 'make' in only and first_that_exists('make', 'gcc'):
        c_project(work / 'make', 200)
        yield make(work / 'make', 'make -j2, 200 files', 2)
    if 'git' in only and first_that_exists('git'):
        # Twenty in one sandbox: one alone takes 4 ms, and would measure the start.
        w = git_repository(work / 'git', 1000)
        w.name = '20 × git status, 1,000 files'
        w.argv = ['sh', '-c', f'for i in $(seq 20); do {" ".join(w.argv)}; done']
        yield w
    if 'sqlite' in only and first_that_exists('sqlite3'):
        # On tmpfs: waiting for a disk would hide what the sandbox costs.
        yield sqlite(memory if memory.parent.is_dir() else work / 'sqlite', 2000)
        remove(memory)
    if 'python' in only:
        yield Workload('python, 20 imports', [PYTHON, '-B', '-c', f'import {IMPORTS}'])
    if 'redis' in only and first_that_exists('redis-server', 'redis-benchmark'):
        yield redis(work / 'redis')


def prepare_staged(root, work):
    """In a work directory that is empty before each."""
    root, work = pathlib.Path(root), pathlib.Path(work)
    if first_that_exists('make', 'gcc'):
        def again():
            shutil.rmtree(root)
            c_project(root, 100)
        w = make(root, 'make -j2, 100 files', 2)
        w.reset = again
        yield w
    if first_that_exists('git'):
        source = work / 'clone-source'
        git_repository(source, 1000)
        yield Workload('git clone, 1,000 files', ['git', 'clone', '-q', str(source), str(root / 'clone')],
                       env=git_env(root))
    pack = work / 'pack.tar'
    if not pack.exists():
        subprocess.run(['tar', 'cf', pack, '-C', '/usr/share', 'doc'], check=True)
    yield Workload('tar x of /usr/share/doc', ['tar', 'xf', str(pack), '-C', str(root)])


def prepare_counted(work):
    """The commands that must not notify anything."""
    work = pathlib.Path(work) / 'counted'
    work.mkdir()
    yield Workload('ls -lR /usr/share', ['ls', '-lR', '/usr/share'])
    if first_that_exists('git'):
        yield git_repository(work / 'git', 100)
    yield Workload("python3 -c 'import json,ssl'", [PYTHON, '-B', '-c', 'import json,ssl'])
    if first_that_exists('make', 'gcc'):
        c_project(work / 'make', 20)
        w = make(work / 'make', 'gcc -c', 1)
        w.argv = ['gcc', '-c', '-o', 'tmp/f0.o', 'f0.c']
        yield w
        yield make(work / 'make', 'make -j4', 4)
    yield Workload("sh -c 'a|b|c'", ['sh', '-c', 'echo a | cat | cat'])
