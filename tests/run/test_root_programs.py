# SPDX-License-Identifier: Apache-2.0
"""Programs that people use, once in a real chroot and once under --chroot, in the same Debian root: equal
output, exit status and files."""
import os
import shlex
import shutil
import zipfile

import pytest

from chroot_tree import debian_root, real_chroot
from common import SLOW, native, open_all, sandlock

LIMIT = 200 * max(SLOW / 4, 1)
OLD = '2001-02-03T04:05:06'
ENVIRONMENT = {'PATH': '/usr/local/bin:/usr/bin:/bin', 'HOME': '/work', 'LC_ALL': 'C', 'TZ': 'UTC',
               'GIT_CONFIG_NOSYSTEM': '1', 'GIT_AUTHOR_DATE': OLD, 'GIT_COMMITTER_DATE': OLD,
               'GIT_AUTHOR_NAME': 'n', 'GIT_AUTHOR_EMAIL': 'a@b', 'GIT_COMMITTER_NAME': 'n',
               'GIT_COMMITTER_EMAIL': 'a@b', 'PYTHONDONTWRITEBYTECODE': '1'}

# Everything a tree can hold that an ordinary user may make, with times of long ago.
TREE = f'''
mkdir -p t/d/e 't/with space' t/empty; i=0
while [ $i -lt 30 ]; do echo "line $i" >"t/d/f$i"; i=$((i + 1)); done
printf 'one\\ntwo\\nthree\\n' >t/text; : >t/d/e/nothing; echo x >'t/with space/a b'; echo s >t/.hidden
dd if=/dev/zero of=t/sparse bs=1 count=1 seek=1000000 2>&1 | tail -n 0; cp t/text "t/$(printf 'odd\\377')"
ln t/text t/d/hard; ln -s ../text t/d/link; ln -s /work/t/d t/absolute; ln -s nowhere t/dangling; mkfifo t/pipe
chmod 600 t/text; chmod 755 t/d/f1; chmod 4711 t/d/f2; chmod 2750 t/empty; chmod 500 't/with space'
find t -depth -exec touch -h -d {OLD} {{}} +
'''

PROGRAMS = {
    'cp': TREE + 'cp -a t copy; diff -r --no-dereference t copy; cp -r t plain 2>&1 | tail -n 0; cp -al t hard && '
                 'cp -u t/text copy/text && cp --backup=numbered t/.hidden copy/text && cp -P t/d/link l && '
                 'cp -L t/d/link deref && mv copy/d moved && mv -n t/text moved/text && install -m 640 moved/text installed && '
                 'rm -r plain/d && stat -c "%n %h %a %s %F" copy/* hard/d/* moved/link',
    'tar': TREE + 'tar -cf a.tar t && tar -tvf a.tar | tr -s " " | cut -d" " -f1,3- | sort && mkdir x && '
                  'tar -xpf a.tar -C x && diff -r --no-dereference t x/t; rm a.tar; '
                  'tar -C t -cSzf - --exclude=d . | (mkdir y; tar -C y -xzpf -); '
                  'tar -cf b.tar --listed-incremental=/dev/null t/d; tar --delete -f b.tar t/d/f3; tar -tf b.tar | sort; rm b.tar',
    'rsync': TREE + 'chmod 700 "t/with space"; rsync -aH t/ a/ && rsync -aHi --delete t/ a/; echo more >>t/text; rm t/d/f4; mkdir t/d/f4; '
                    'rsync -aHi --delete --inplace t/ a/ | sort; rsync -a --link-dest=../a t/ b/ && '
                    'rsync -rtS --checksum --exclude="f1*" t/ c/ && rsync -an --itemize-changes --delete t/ c/ | sort',
    'git': TREE + 'rm t/pipe; chmod 700 "t/with space"; cd t && git init -q && git add -A && git commit -qm one && '
                  'git checkout -qb side && git mv d moved && echo 4 >>text && git commit -qam two && '
                  'git checkout -q master && echo 0 >zero && git add zero && git commit -qm three && '
                  'git merge -q side -m merged && git rev-parse HEAD && git stash list && echo dirty >>zero && '
                  'git stash -q && git stash pop -q && git reset -q --hard && git tag -am t v1 && git gc -q && '
                  'git clone -q . ../clone && git -C ../clone submodule status && git worktree add -q ../tree side && '
                  'git -C ../clone log --format="%H %s" && git -C ../tree status -sb && git fsck --full; '
                  'git grep -c three; git clean -nfdx; git archive HEAD | tar -t | sort | tail -n 3; '
                  'cd ..; rm -r t/.git clone/.git',
    'pip': '''mkdir -p pkg/src/mod; cd pkg; cat >pyproject.toml <<X
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "mod"
version = "1.5"
scripts = {say = "mod:say"}
X
echo 'def say(): print("said", __name__)' >src/mod/__init__.py; cd ..
P="pip --disable-pip-version-check --no-cache-dir -q"
$P install --no-index --no-build-isolation --no-compile --no-deps --target out ./pkg && ls out && rm -r out/bin out/*-info pkg/build pkg/src/*-info
python3 -m venv --without-pip --system-site-packages env && $P --python env/bin/python install --no-index --no-compile /work/wheel/thing-2.0-py3-none-any.whl &&
env/bin/python -c 'import thing; print(thing.WORD, thing.__file__)' && env/bin/thing && $P --python env/bin/python list | grep thing &&
$P --python env/bin/python uninstall -y thing && ls env/bin; PYTHONPATH=out python3 -c 'import mod; mod.say()'; rm -r env''',
    'find': TREE + 'find t | sort; find t -type f -size +1 | sort; find t -name "f1*" -newermt 2000-01-01 -delete; '
                   'find . -links +1 -type f -printf "%p %n %s %m %y %l\\n" | sort; find -L t -type l; '
                   'find t -type d -exec sh -c \'cd "$1" && pwd\' x {} \\; | sort; find t -maxdepth 1 -print0 | sort -z | '
                   'xargs -0 ls -ld --time-style=+%s | tr -s " " | cut -d" " -f1,2,5,7-; find t -samefile t/text | sort; '
                   'find t -perm -4000; find t -empty | sort; find -P t -xtype l',
    'du': TREE + 'du -ab --exclude=pipe t | sort -k2; du -sl --apparent-size -d1 t | cut -f2 | sort; '
                 'du --inodes t | sort -k2; df t | wc -l; ls -iR t | wc -l',
    'vi': 'printf "one\\ntwo\\n" >f; chmod 640 f; ln -s f l; vi -es -c "%s/two/2/" -c "normal Gothree" -c wq f; cat f; '
          'vi -es -c "set backup" -c "normal Ax" -c wq l; cat f; ls -A; mkfifo p; '
          'vi -es -c "r !echo from shell" -c "w new" -c "q!" f <>p; rm p; '  # at the end of its input it would not wait
          'cat new; mkdir d; vi -es -c "w d/made" -c "q" f; ls d; stat -c %a f',
    'ed': 'printf "one\\ntwo\\n" >f; printf "1s/one/1/\\n2r !echo three\\nw\\nw other\\n,n\\nE other\\n,p\\nQ\\n" | ed -s f; cat f',
    'make': '''printf '#include "b.h"\\nint main(void) { return B; }\\n' >a.c; echo '#define B 7' >b.h
cat >Makefile <<'X'
all: prog sub/out
prog: a.o
\t$(CC) -o $@ $^
a.o: a.c b.h
sub/out: | sub
\t@for i in 1 2 3; do echo $$i; done >$@.new && mv $@.new $@
sub:
\tmkdir $@
clean:
\trm -rf *.o prog sub
.PHONY: all clean
X
make -j2 >log 2>&1; sort log; ./prog; echo $?; make; echo '#define B 8' >b.h; touch -d '+1 hour' b.h; make -s 2>/dev/null; ./prog
echo $?; touch -d '-1 hour' b.h; ls; make clean >/dev/null; ls -F; rm log''',
}


def wheel(path):
    """A wheel with a script, made without any tool."""
    files = {'thing.py': 'WORD = "thing"\ndef main():\n    print("called")\n',
             'thing-2.0.dist-info/METADATA': 'Metadata-Version: 2.1\nName: thing\nVersion: 2.0\n',
             'thing-2.0.dist-info/WHEEL': 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n'
                                          'Tag: py3-none-any\n',
             'thing-2.0.dist-info/entry_points.txt': '[console_scripts]\nthing = thing:main\n'}
    files['thing-2.0.dist-info/RECORD'] = ''.join(f'{name},,\n' for name in files)
    path.parent.mkdir()
    with zipfile.ZipFile(path, 'w') as out:
        for name, text in files.items():
            out.writestr(zipfile.ZipInfo(name, (2001, 2, 3, 4, 5, 6)), text)  # two of them shall be equal


def files_of(top):
    """Names, kinds, modes, links, sizes, contents, and times when they are of long ago."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        for name in folders + files:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            old = info.st_mtime_ns if info.st_mtime < 1.2e9 else 'new'
            directory = os.path.isdir(path) and not os.path.islink(path)
            content = os.readlink(path) if os.path.islink(path) else None
            if os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.R_OK):
                with open(path, 'rb') as stream:
                    content = stream.read()
            found[os.path.relpath(path, os.fsencode(top))] = (
                oct(info.st_mode), info.st_uid, info.st_gid, 0 if directory else info.st_nlink,
                0 if directory else info.st_size, old, content)
    return found


def command(text):
    """As words of env."""
    return [*(f'{n}={v}' for n, v in ENVIRONMENT.items()), '/bin/sh', '-c', f'umask 022; cd /work; {text}']


@pytest.mark.parametrize('name', PROGRAMS)
def test_as_in_a_real_chroot(name, tmp_path):
    root, words = debian_root(), command(PROGRAMS[name])
    places = {kind: [tmp_path / kind, tmp_path / f'{kind}-tmp'] for kind in ('real', 'inside')}
    for work, temporary in places.values():
        work.mkdir()
        temporary.mkdir()
        if name == 'pip':
            wheel(work / 'wheel' / 'thing-2.0-py3-none-any.whl')
    work, temporary = places['real']
    binds = [(work, '/work'), (temporary, '/tmp'), ('/dev', '/dev'), ('/proc', '/proc')]
    want = native(*real_chroot(root, binds), '/usr/bin/env', '-i', *words, timeout=LIMIT, errors='surrogateescape')
    if want.returncode and any(w in want.stderr for w in ('unshare:', 'mount:', 'chroot:')):
        pytest.skip(f'no real chroot here: {want.stderr[-200:]}')
    work, temporary = places['inside']
    mounts = [f'/work:{work}', f'/tmp:{temporary}', *(f'/dev/{d}:/dev/{d}' for d in ('null', 'zero', 'urandom'))]
    got = sandlock('run', '--chroot', root, '-r', '/', *(w for m in mounts for w in ('--fs-mount', m)), '--',
                   '/usr/bin/env', '-i', *words, timeout=LIMIT, errors='surrogateescape')
    try:
        assert want.stdout.count('\n') > 2, want.stderr
        assert got.stdout == want.stdout, got.stderr
        assert (got.returncode, got.stderr) == (want.returncode, want.stderr)
        assert want.returncode == 0, want.stderr
        files, wanted = files_of(work), files_of(places['real'][0])
        assert files.keys() == wanted.keys()
        assert {n: v for n, v in files.items() if wanted[n] != v} == {}
    finally:
        for top in (work, places['real'][0]):
            open_all(top)


NPM = '''mkdir pkg && cd pkg && cat >package.json <<X
{"name": "thing", "version": "1.2.3", "main": "m.js", "bin": {"thing": "b.js"},
 "scripts": {"test": "echo tested && node m.js", "postinstall": "echo made >made"}}
X
echo 'console.log("loaded", require("fs").readdirSync(".").length); exports.word = "w"' >m.js
printf '#!/usr/bin/env node\\nconsole.log("called", require("thing").word)\\n' >b.js; npm pack --silent && npm test --silent && cd .. &&
mkdir app && cd app && echo '{"name": "app", "version": "1.0.0"}' >package.json &&
npm install --silent --offline --no-audit --no-fund ../pkg/thing-1.2.3.tgz && node -p 'require("thing").word' &&
npx --offline thing && npm ls --offline && cat node_modules/thing/made && npm uninstall --silent --offline thing &&
ls -A && cd .. && rm -r .npm'''


def test_npm(tmp_path):
    """Debian's npm is 270 MB, too much for a root of the tests: the host's, with the host's own root as another."""
    if not shutil.which('npm'):
        pytest.skip('no npm on this machine, and Debian\'s is left out of the root (270 MB)')
    seen = []
    for kind in ('native', 'inside'):
        work = tmp_path / 'work'
        work.mkdir()
        words = ['env', '-i', f'HOME={work}', f'PATH={os.environ["PATH"]}', f'TMPDIR={work}', 'sh', '-c',
                 f'cd {shlex.quote(str(work))}; {NPM}']
        if kind == 'native':
            done = native(*words, timeout=LIMIT)
        else:
            done = sandlock('run', '--chroot', '/', '-r', '/', '-w', work, '-w', '/dev/null', '--', *words, timeout=LIMIT)
        seen.append((done.returncode, done.stdout, done.stderr, files_of(work)))
        shutil.rmtree(work)
    assert seen[0][0] == 0 and 'called w' in seen[0][1], seen[0]
    assert seen[1] == seen[0]
