# SPDX-License-Identifier: Apache-2.0
"""Whole roots: unpacked Debian packages, busybox with musl, and the Debian root as an OCI image. The same
programs work in each, and what they print is known beforehand."""
import os
import shutil
import tarfile

import pytest

from chroot_tree import debian_root, libraries, musl_root
from common import BUILD, IN_VM, MACHINE, ROOTS, SLOW, native, sandlock

LIMIT = 200 * max(SLOW / 4, 1)
DEVICES = [w for d in ('null', 'zero', 'urandom') for w in ('--fs-mount', f'/dev/{d}:/dev/{d}')]
ENVIRONMENT = {'PATH': '/usr/local/bin:/bin:/usr/bin', 'HOME': '/work', 'GIT_CONFIG_NOSYSTEM': '1', 'LC_ALL': 'C'}

# What is run, and what it prints.
PROGRAMS = {
    'sh': ('''printf 'b\\na\\n' | sort; (exit 3); echo $?; cat <<X
$(basename "$PWD") $((6 * 7))
X
mkdir -p a/b && cd a/b && pwd && cd .. && for i in *; do echo $i; done
printf '#!/bin/sh -e\\necho "$0 $#"\\n' >s && chmod +x s && ./s 1 2 && PATH=.:$PATH s x
''', 'a\nb\n3\nwork 42\n/work/a/b\nb\n./s 2\n./s 1\n'),
    'python3': ('''cat >p.py <<X
import hashlib, json, os, subprocess, sys, tempfile, threading, zlib
with tempfile.TemporaryDirectory() as top:
    open(top + "/x", "w").write("text")
    print(os.listdir(top), os.path.dirname(os.path.dirname(json.__file__)) in sys.path)
out = []
threads = [threading.Thread(target=lambda: out.append(subprocess.check_output(["echo", "x"]))) for _ in range(3)]
[t.start() for t in threads], [t.join() for t in threads]
print(out, os.getcwd(), os.path.realpath(sys.executable).startswith("/usr/bin/python3."))
X
TMPDIR=/work python3 p.py; python3 -m compileall -q p.py; ls __pycache__ | wc -l
''', "['x'] True\n[b'x\\n', b'x\\n', b'x\\n'] /work True\n1\n"),
    'apt-config': ('''eval $(apt-config shell DIR Dir::Etc/d PARTS Dir::Etc::Parts NONE No::Such)
echo $DIR $PARTS $NONE; echo 'Own::Word "yes";' >apt.conf; APT_CONFIG=/work/apt.conf apt-config dump | grep Own
''', '/etc/apt/ apt.conf.d\nOwn "";\nOwn::Word "yes";\n'),
    'gcc': ('''cat >main.c <<X
#include <stdio.h>
#include <math.h>
int twice(int);
int main(int c, char **v) { printf("%s %d %.1f\\\\n", v[0], twice(c), sqrt(c * 4.0)); return 5; }
X
echo 'int twice(int n) { return 2 * n; }' >twice.c
gcc -O1 -Wall -c twice.c && /usr/bin/ar rcs libtwice.a twice.o && gcc -O1 main.c -o prog -L. -ltwice -lm && ./prog x y z
echo $?
''', './prog 8 4.0\n5\n'),
    'git': ('''git init -q one && cd one && git config user.email a@b && git config user.name n &&
mkdir d && echo x >d/f && ln -s d/f l && git add . && git commit -qm first && git mv d e && echo y >>e/f &&
git commit -qam second && cd .. && git clone -q one two && cd two && git log --format=%s && cat e/f &&
git status --porcelain && git fsck --full && readlink l && git diff --stat HEAD~1 | tail -n 1
''', 'second\nfirst\nx\ny\nd/f\n 1 file changed, 1 insertion(+)\n'),
}


@pytest.fixture
def work(tmp_path):
    """What is mounted at /work, beside what is mounted at /tmp."""
    for name in ('work', 'temporary'):
        (tmp_path / name).mkdir()
    return tmp_path / 'work'


def places(work):
    """Options that mount both, and start in the first."""
    return ['--fs-mount', f'/work:{work}', '--fs-mount', f'/tmp:{work.parent}/temporary', '--cwd', '/work']


@pytest.fixture(scope='module')
def musl(tmp_path_factory):
    """The small root, and nothing beside it."""
    box = shutil.which('busybox')
    assert box and not libraries(box), 'busybox-static is missing: ./dev test installs it'
    return musl_root(tmp_path_factory.mktemp('musl') / 'root')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """References by name, and a cache that they are unpacked to once."""
    assert (BUILD / 'sandlock-image').exists(), 'sandlock-image is missing: ./dev test builds it'
    debian_root()
    top = tmp_path_factory.mktemp('images')
    archive = top / 'archive.tar'
    with tarfile.open(archive, 'w') as out:
        out.add(ROOTS / 'oci', '.')
    return {'image': f'oci:{ROOTS}/oci:latest', 'archive': f'oci-archive:{archive}:latest',
            'cache': top / 'cache'}


def options(kind, request):
    """The command line that makes the root, and the environment that sandlock itself gets."""
    environment = {**os.environ, **ENVIRONMENT}
    if kind in ('image', 'archive'):
        images = request.getfixturevalue('images')
        environment['XDG_CACHE_HOME'] = str(images['cache'])
        return ['--image', images[kind]], environment
    if kind == 'debian':
        return ['--chroot', debian_root(), '-r', '/', *DEVICES], environment
    return ['--chroot', request.getfixturevalue('musl'), '-r', '/', '--fs-mount',
            f'/usr:{debian_root()}/usr:ro', *DEVICES], environment


# Where everything is emulated: all programs in one root, the shell in each; an archive's image is the layout's.
@pytest.mark.parametrize('kind, program', [
    (k, p) for k in ('debian', 'musl', 'image', 'archive') for p in PROGRAMS
    if p == 'sh' or k == 'debian' or not IN_VM])
def test_programs_of_a_root(kind, program, request, work):
    """Control: none of it is what the host has; the work directory is the only one that is shared."""
    root, environment = options(kind, request)
    text, output = PROGRAMS[program]
    environ = [w for name, value in ENVIRONMENT.items() for w in ('--env', f'{name}={value}')]
    done = sandlock('run', *root, *environ, *places(work), '--', '/bin/sh', '-c', text, env=environment,
                    timeout=LIMIT)
    assert done.returncode == 0 and done.stdout == output, done.stdout + done.stderr


def test_root_is_not_the_host(tmp_path):
    """What the programs load is the root's own; the same names of the host are out of reach."""
    (tmp_path / 'secret').write_text('SECRET')
    assert native('cat', tmp_path / 'secret').stdout == 'SECRET'
    done = sandlock('run', '--chroot', debian_root(), '-r', '/', '--', '/bin/sh', '-c',
                    f'cat /proc/self/maps; cat {tmp_path}/secret /..{tmp_path}/secret /proc/1/root{tmp_path}/secret',
                    timeout=LIMIT)
    names = {line.split(None, 5)[5] for line in done.stdout.splitlines() if '/' in line}
    assert names and all((debian_root() / n.lstrip('/')).exists() for n in names), names
    assert 'SECRET' not in done.stdout and str(debian_root()) not in done.stdout + done.stderr


def test_program_of_musl(musl, work):
    """A dynamic program for musl, compiled inside the Debian root: it runs where musl is the C library, from
    a script as well, and says what its loader is."""
    (work / 'a.c').write_text('#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n'
                                  'int main(int c, char **v) { char line[512]; FILE *f = fopen("/proc/self/maps", "r");\n'
                                  'for (int i = 0; i < c; i++) printf("%s ", v[i]);\n'
                                  'while (fgets(line, sizeof line, f)) if (strstr(line, "r-xp") && strstr(line, ".so"))\n'
                                  'fputs(strchr(line, 47), stdout); return system("exit 4") >> 8; }\n')
    inside = [*places(work), *DEVICES]
    done = sandlock('run', '--chroot', debian_root(), '-r', '/', *inside, '--', '/usr/bin/musl-gcc', '-O1', 'a.c', '-o',
                    'prog', timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    loader = f'/lib/ld-musl-{MACHINE}.so.1'
    assert loader in libraries_of(work / 'prog')
    (work / 'script').write_text('#!/work/prog -x\n')
    (work / 'script').chmod(0o755)
    for command, words in ((['/work/prog', 'a'], '/work/prog a'), (['./script', 'b'], '/work/prog -x ./script b')):
        done = sandlock('run', '--chroot', musl, '-r', '/', *inside, '--', *command, timeout=LIMIT)
        assert done.returncode == 4 and done.stdout == f'{words} {loader}\n', done.stdout + done.stderr
    done = sandlock('run', '--chroot', musl, '-r', '/', *inside, '--', '/bin/sh', '-c',
                    './prog c; echo $?; find /work -name "*.c" | xargs wc -l | busybox awk "{print \\$1}"; ls /usr',
                    timeout=LIMIT)
    assert done.stdout == f'./prog c {loader}\n4\n7\n'.replace('7', str((work / 'a.c').read_text().count('\n'))), \
        done.stderr


def libraries_of(program):
    """The loader's name in a dynamic program."""
    return program.read_bytes()[:4096].decode('latin1').split('\0')
