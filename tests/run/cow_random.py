# SPDX-License-Identifier: Apache-2.0
"""Random operations on the current directory, each with its result or errno, and the tree at the end.
Usage: cow_random.py SEED COUNT"""
import os
import random
import stat
import sys

rnd = random.Random(int(sys.argv[1]))
NAMES = ['a', 'b', 'c', 'd', 'l', 'file', 'hard', 'dir']


def path():
    head = '/'.join(rnd.choice(NAMES) for _ in range(rnd.choice((1, 1, 2, 2, 3))))
    return head + rnd.choice(('', '', '', '', '/', '/.', '/..'))


def data(name, flags):
    fd = os.open(name, flags, 0o644)
    try:
        return os.write(fd, b'x' * rnd.randrange(9)) if flags & 3 else os.read(fd, 99)
    finally:
        os.close(fd)


def show(name):
    s = os.lstat(name)
    kind = stat.S_IFMT(s.st_mode)
    return kind, s.st_mode & 0o777, None if kind == stat.S_IFDIR else (s.st_size, s.st_nlink)


def temporary(name):
    fd = os.open(name, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        os.write(fd, b'tmp')
        os.link(f'/proc/self/fd/{fd}', path(), src_dir_fd=fd, follow_symlinks=True)
    finally:
        os.close(fd)


def reopen(name):
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW)
    try:
        return data(f'/proc/self/fd/{fd}', os.O_WRONLY | os.O_APPEND), os.fstat(fd).st_size
    finally:
        os.close(fd)


def by_descriptor(name):
    fd = os.open(name, os.O_RDONLY)
    try:
        os.fchmod(fd, rnd.choice((0o700, 0o755, 0o711)))
        return os.fstat(fd).st_mode
    finally:
        os.close(fd)


def stand(name):
    old = os.open('.', os.O_PATH)
    try:
        os.chdir(name)
        return os.path.relpath(os.getcwd(), TOP), sorted(os.listdir('.')), show('.')
    finally:
        os.fchdir(old)
        os.close(old)


def kinds(name):
    with os.scandir(name) as found:
        return sorted((e.name, e.is_dir(follow_symlinks=False)) for e in found)


TOP = os.getcwd()
W, C = os.O_WRONLY, os.O_CREAT
OPERATIONS = [
    lambda: os.mkdir(path(), 0o755), lambda: os.rmdir(path()), lambda: os.unlink(path()),
    lambda: os.rename(path(), path()), lambda: os.rename(path(), path()),
    lambda: os.link(path(), path(), follow_symlinks=rnd.random() < .5),
    lambda: os.symlink(rnd.choice(('', TOP + '/')) + path().rstrip('/'), path()),
    lambda: data(path(), W | C), lambda: data(path(), W | C | os.O_EXCL),
    lambda: data(path(), os.O_RDWR | os.O_TRUNC), lambda: data(path(), W | C | os.O_APPEND),
    lambda: data(path(), os.O_RDONLY), lambda: data(path(), os.O_RDONLY | os.O_NOFOLLOW),
    lambda: sorted(os.listdir(path())), lambda: show(path()), lambda: show(path()),
    lambda: os.path.relpath(os.path.join('/', os.readlink(path())), TOP),
    lambda: os.truncate(path(), rnd.randrange(20)),
    lambda: os.chmod(path(), rnd.choice((0o700, 0o755, 0o775))), lambda: os.utime(path(), (5, 6)),
    lambda: reopen(path()), lambda: os.mknod(path(), 0o100600), lambda: by_descriptor(path()),
    lambda: temporary(path()), lambda: os.access(path(), rnd.randrange(8)), lambda: kinds(path()),
    lambda: os.path.relpath(os.path.realpath(path()), TOP), lambda: stand(path()),
]


def main():
    for i in range(int(sys.argv[2])):
        which = rnd.randrange(len(OPERATIONS))
        try:
            result = OPERATIONS[which]()
        except OSError as e:
            result = f'errno {e.errno}'
        print(i, which, result)
    for folder, folders, files in os.walk('.'):
        folders.sort()
        for name in sorted(folders + files):
            print(os.path.join(folder, name), show(os.path.join(folder, name)))


main()
