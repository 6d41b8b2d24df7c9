# SPDX-License-Identifier: Apache-2.0
"""What the supervisor does in fewer calls has to be answered as ever: a file that was opened before is
opened at once, a walk that stays on one file system says that nothing is there, fstat asks by number. Each
script also runs without a sandbox, which is the control: what it prints there is what it must print."""
import os

import pytest

from common import native, run, sandlock

PYTHON = '/usr/bin/python3'
BOXES = {'deny': ['--fs-deny', '/etc/shadow'], 'chroot': ['--chroot', '/'],
         'both': ['--chroot', '/', '--fs-deny', '/etc/shadow']}

CHANGING = '''
import errno, fcntl, os, stat, threading
top = os.environ['TOP']
p = top + '/name'

def look(flags=os.O_RDONLY):
    try:
        fd = os.open(p, flags)
    except OSError as e:
        return errno.errorcode[e.errno]
    st = os.fstat(fd)
    kept = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_ACCMODE | os.O_APPEND)
    what = os.read(fd, 9) if stat.S_ISREG(st.st_mode) else stat.S_IFMT(st.st_mode)
    os.close(fd)
    return what, kept

def put(make, *words):
    make(*words, top + '/new')
    os.rename(top + '/new', p)

def write(text, where):
    with open(where, 'w') as f:
        f.write(text)

for text in 'one', 'two':
    put(write, text)
    print(look(), look(), look(os.O_RDONLY | os.O_NONBLOCK), look(os.O_RDONLY | os.O_NOFOLLOW))
print(look(os.O_RDWR), look(os.O_RDONLY | os.O_APPEND), look(os.O_RDONLY | os.O_DIRECTORY))
put(os.symlink, 'other')
write('other', top + '/other')
print(look(), look(), look(os.O_RDONLY | os.O_NOFOLLOW))
os.unlink(top + '/other')
print(look())
write('again', top + '/other')
print(look(), look())
os.chmod(top + '/other', 0)
print(look() if os.geteuid() else 'EACCES')
os.unlink(p)
print(look())
os.mkdir(p)
print(look())
os.rmdir(p)
write('last', p)
print(look(), look())
put(os.mkfifo)
began = []

def writer():
    began.append(1)
    os.close(os.open(p, os.O_WRONLY))

threading.Timer(0.2, writer).start()
print(look(), began)  # it waited for the writer
'''


@pytest.mark.parametrize('box', BOXES)
def test_what_was_a_file_is_something_else(tmp_path, box):
    """The path is opened until it is known, then it leads elsewhere."""
    tmp_path.chmod(0o777)
    env = {**os.environ, 'TOP': str(tmp_path)}
    control = native(PYTHON, '-c', CHANGING, env=env)
    assert control.returncode == 0 and control.stdout.count('\n') == 11, control
    for name in os.listdir(tmp_path):
        os.unlink(tmp_path / name)
    result = run(*BOXES[box], '-w', tmp_path, '--', PYTHON, '-c', CHANGING, env=env)
    assert result.returncode == 0 and result.stdout == control.stdout, result


def test_known_file_becomes_denied(tmp_path):
    """The path is known as a file that may be read; then it is a link to the denied one, and the denied
    one's own name, known to nobody, stays closed. Control: without --fs-deny the script reads it."""
    script = ('import os\nt = os.environ["TOP"]\n'
              'def read(p):\n'
              '    try:\n        return open(p).read()\n'
              '    except OSError as e:\n        return type(e).__name__\n'
              'print(read(t + "/p"), read(t + "/p"))\n'
              'os.unlink(t + "/p"); os.symlink("secret", t + "/p")\n'
              'print(read(t + "/p"), read(t + "/p"), read(t + "/secret"), read(t + "/secret"))\n')
    env = {**os.environ, 'TOP': str(tmp_path)}
    seen = {}
    for box in ([], ['--fs-deny', tmp_path / 'secret'],
                ['--fs-deny', tmp_path / 'secret', '--chroot', '/']):
        for name in ('p', 'secret'):
            (tmp_path / name).unlink(missing_ok=True)
            (tmp_path / name).write_text(name)
        result = run(*box, '-w', tmp_path, '--', PYTHON, '-c', script, env=env)
        assert result.returncode == 0, result
        seen[len(box)] = result.stdout
    assert seen[0] == 'p p\nsecret secret secret secret\n'
    assert seen[2] == seen[4] == 'p p\n' + ' '.join(['PermissionError'] * 4) + '\n'


NOTHING = '''
import errno, os
for p in os.environ['PATHS'].split(':'):
    said = []
    for call in os.stat, os.lstat, os.readlink, os.listdir, lambda q: os.close(os.open(q, os.O_RDONLY)):
        try:
            call(p)
            said.append('yes')
        except OSError as e:
            said.append(errno.errorcode[e.errno])
    print(p, *said)
'''


def test_nothing_there(tmp_path):
    """Names that are not there, in every way to get to them, from / and from the working directory."""
    (tmp_path / 'd' / 'e').mkdir(parents=True)
    (tmp_path / 'f').write_text('f')
    os.symlink('d/e', tmp_path / 'l')
    os.symlink(tmp_path, tmp_path / 'd' / 'abs')
    os.symlink('/proc/self', tmp_path / 'p')
    names = ['x', 'd/x', 'd/e/../x', 'd/e/../../f', 'f/x', 'f/', 'f/..', 'l/x', 'l/../x', 'l/../e',
             'd/abs/x', 'd/abs/f', 'd/abs/d/../f/x', 'p/x', 'p/x/y', 'p/cwd/f', 'p/cwd/x', 'x/../f',
             'x/', 'd/x/', '../x', '../x/y', './/d//x', 'n' * 256, 'd/' + 'n' * 255]
    names += [f'{tmp_path}/{n}' for n in names]
    names += ['/proc/self/x', '/proc/x', '/dev/x', '/dev/null/x', '/sys/x', '/usr/bin/x', '/x', '/usr/x/y']
    env = {**os.environ, 'PATHS': ':'.join(names)}
    control = native(PYTHON, '-c', NOTHING, env=env, cwd=tmp_path)
    assert control.returncode == 0 and control.stdout.count('ENOENT') > 100
    for words in (['--chroot', '/'], ['--fs-mount', f'{tmp_path}/d/x2:{tmp_path}/f']):
        result = sandlock('run', '--cwd', tmp_path, *words, '-r', '/', '--', PYTHON, '-c', NOTHING,
                          env=env, cwd=tmp_path)
        assert result.returncode == 0 and result.stdout == control.stdout, result


def test_only_a_mount_is_there(tmp_path):
    """Where the tree has nothing, or something else, and a mount is: found by each way to write its name. The
    control is the same without the mounts."""
    (tmp_path / 'd').mkdir()
    (tmp_path / 'src').mkdir()
    (tmp_path / 'src' / 'f').write_text('f')
    (tmp_path / 'd' / 'full').mkdir()
    (tmp_path / 'd' / 'full' / 'hidden').write_text('h')
    os.symlink('d', tmp_path / 'l')
    os.symlink('d/new', tmp_path / 'tonew')
    os.symlink('d/full', tmp_path / 'tofull')
    names = [f'{tmp_path}/{n}' for n in (
        'd/new/f', 'd/./new/f', 'd/../d/new/f', 'l/new/f', 'tonew/f', 'd/new/../new/f', 'd/full/f',
        'l/full/f', 'tofull/f')] + ['d/new/f', 'l/new/f', 'tonew/f', 'tofull/f']
    gone = [f'{tmp_path}/{n}' for n in ('d/full/hidden', 'l/full/hidden', 'tofull/hidden')]
    env = {**os.environ, 'PATHS': ':'.join(names + gone)}
    mounts = ['--fs-mount', f'{tmp_path}/d/new:{tmp_path}/src', '--fs-mount',
              f'{tmp_path}/d/full:{tmp_path}/src:ro']
    for words in (mounts[:2], mounts):
        if len(words) == 4:
            words = [*mounts[:1], mounts[1] + ':ro', *mounts[2:]]
        result = sandlock('run', '--cwd', tmp_path, *words, '-r', '/', '--', PYTHON, '-c', NOTHING,
                          env=env, cwd=tmp_path)
        said = dict(line.split(' ', 1) for line in result.stdout.splitlines())
        assert result.returncode == 0 and len(said) == len(names) + len(gone), result
        for name in names:
            there = len(words) == 4 or 'full' not in name
            assert said[name] == ('yes yes EINVAL ENOTDIR yes' if there else
                                  'ENOENT ENOENT ENOENT ENOENT ENOENT'), (name, said[name])
        for name in gone:
            assert said[name].startswith('ENOENT' if len(words) == 4 else 'yes'), (name, said[name])
    control = native(PYTHON, '-c', NOTHING, env=env, cwd=tmp_path)
    assert f'{names[0]} ENOENT' in control.stdout and f'{gone[0]} yes' in control.stdout


FSTAT = '''
import os, socket, sys
a, b = os.pipe()
s = socket.socket(socket.AF_UNIX)
fds = {'pipe': a, 'socket': s.fileno(), 'null': os.open('/dev/null', os.O_RDONLY),
       'file': os.open(os.environ['TOP'] + '/f', os.O_RDONLY), 'dir': os.open('/usr', os.O_RDONLY),
       'memory': os.memfd_create('m')}
t = os.open(os.environ['TOP'] + '/gone', os.O_RDWR | os.O_CREAT)
os.write(t, b'12345')
os.unlink(os.environ['TOP'] + '/gone')
fds['gone'] = t
for name, fd in fds.items():
    st = os.fstat(fd)
    print(name, oct(st.st_mode), st.st_size, st.st_nlink, st.st_uid, st.st_blksize, st.st_rdev,
          name in ('file', 'dir', 'null') and (st.st_dev, st.st_ino, st.st_mtime_ns, st.st_ctime_ns))
for bad in (999, 1000000):
    try:
        os.fstat(bad)
    except OSError as e:
        print(e.errno)
'''


@pytest.mark.parametrize('box', BOXES)
def test_fstat(tmp_path, box):
    """The C library makes fstat of newfstatat with an empty path."""
    (tmp_path / 'f').write_text('abc')
    env = {**os.environ, 'TOP': str(tmp_path)}
    control = native(PYTHON, '-c', FSTAT, env=env)
    result = run(*BOXES[box], '-w', tmp_path, '--', PYTHON, '-c', FSTAT, env=env)
    assert control.returncode == result.returncode == 0 and control.stdout == result.stdout, result
