# SPDX-License-Identifier: Apache-2.0
"""Random file calls with a seed, one line of outcome each: run natively and inside, the output must be
the same. Arguments: directory to work in, seed, number of calls, call numbers as JSON."""
import ctypes
import errno
import fcntl
import json
import os
import random
import shutil
import stat
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
TOP, SEED, COUNT, NR = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
AT = -100
rnd = random.Random(SEED)
os.chdir(TOP)
BASE = os.getcwd()
os.umask(0o027)


def call(name, *args):
    values = [ctypes.c_long(a) if isinstance(a, int) else
              ctypes.c_char_p(a.encode()) if isinstance(a, str) else a for a in args]
    result = libc.syscall(NR[name], *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def room(content):
    return ctypes.create_string_buffer(content, len(content))


def seen(info):
    size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
    return (oct(info.st_mode), info.st_nlink, info.st_uid, info.st_gid, size, info.st_rdev,
            info.st_blksize)


def fresh():
    for name in os.listdir('.'):
        if os.path.isdir(name) and not os.path.islink(name):
            for folder, _, _ in os.walk(name):
                os.chmod(folder, 0o755)
            shutil.rmtree(name)
        else:
            os.unlink(name)
    os.makedirs('d/e')
    for name in ('f', 'd/g', 'd/e/h'):
        with open(name, 'w', encoding='ascii') as stream:
            stream.write(name)
    for name, target in (('l', 'f'), ('ld', 'd'), ('dl', 'dangle'), ('loop', 'loop'),
                         ('al', BASE + '/d/g')):
        os.symlink(target, name)
    os.mkfifo('p')
    os.mkdir('ro', 0o555)
    os.mkdir('st', 0o1777)


NAMES = ['f', 'd', 'd/g', 'd/e', 'd/e/h', 'l', 'ld', 'dl', 'loop', 'al', 'p', 'ro', 'ro/x', 'st/n', 'new',
         'd/new', 'ld/new', 'nope/x', 'f/x', 'f/', 'd/', 'new/', 'ld/', 'l/', '.', 'd/..', 'd/.', '', 'dl/',
         'p/', 'l/x', './f', 'd//g', 'st/', 'd/e/../g', 'ld/e/h', 'al/']
ACCESS = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, 3]
EXTRA = [0, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_CREAT | os.O_TRUNC, os.O_APPEND,
         os.O_NOFOLLOW, os.O_DIRECTORY, os.O_CREAT | os.O_NOFOLLOW, os.O_PATH, os.O_TMPFILE,
         os.O_PATH | os.O_NOFOLLOW, os.O_NOATIME, os.O_CLOEXEC, os.O_PATH | os.O_DIRECTORY, os.O_SYNC]


def opened(fd):
    try:
        # O_NOFOLLOW is not kept on descriptors made on behalf (README of src/fs).
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NOFOLLOW
        return seen(os.fstat(fd)), oct(flags), fcntl.fcntl(fd, fcntl.F_GETFD)
    finally:
        os.close(fd)


def op_open(path):
    flags = rnd.choice(ACCESS) | rnd.choice(EXTRA) | os.O_NONBLOCK
    mode = rnd.choice([0o666, 0o755, 0o4777, 0])
    return opened(call('openat', AT, path, flags, mode))


def op_openat2(path):
    flags = rnd.choice(ACCESS[:3]) | rnd.choice(EXTRA) | os.O_NONBLOCK
    size = rnd.choice([24, 24, 24, 32, 20, 5000])
    how = struct.pack('QQQ', flags, rnd.choice([0, 0o644]), rnd.choice([0, 1, 2, 4, 8, 16, 24, 64]))
    return opened(call('openat2', AT, path, room((how + bytes(5000))[:size]), size))


def op_creat(path):
    if 'creat' not in NR or (os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode)):
        return None  # it would wait for a reader
    return opened(call('creat', path, 0o666))


def op_stat(path):
    return seen(os.stat(path))


def op_lstat(path):
    return seen(os.lstat(path))


def op_statx(path):
    out = room(bytes(256))
    call('statx', AT, path, rnd.choice([0, 0x100, 0x1000, 0x6000]), rnd.choice([0x7ff, 1 << 31]), out)
    return struct.unpack_from('IIQIIIH', out.raw)[3:]


def op_access(path):
    return call('faccessat2', AT, path, rnd.choice([0, 1, 2, 4, 7, 9]),
                rnd.choice([0, 0x200, 0x100, 0x1000, 1]))


def op_readlink(path):
    out, size = room(bytes(100)), rnd.choice([0, 3, 100])
    n = call('readlinkat', AT, path, out, size)
    return out.raw[:n].replace(BASE.encode(), b'')


def op_mkdir(path):
    os.mkdir(path, rnd.choice([0o777, 0o2755, 0o1777]))
    return seen(os.lstat(path))


def op_mknod(path):
    mode = rnd.choice([0o100666, 0o10666, 0o140666, 0o40777, 0o666, 0o110000])
    call('mknodat', AT, path, mode, rnd.choice([0, 0x103]))
    return seen(os.lstat(path))


def op_symlink(path):
    text = rnd.choice(['f', '', 'zz', 'y' * 4096, 'y' * 4000])
    call('symlinkat', text, AT, path)
    return len(os.readlink(path))


def op_unlink(path):
    return call('unlinkat', AT, path, rnd.choice([0, 0x200, 0, 1]))


def op_rename(path):
    return call('renameat2', AT, path, AT, rnd.choice(NAMES), rnd.choice([0, 0, 0, 1, 2, 3, 8]))


def op_link(path):
    return call('linkat', AT, path, AT, rnd.choice(NAMES), rnd.choice([0, 0x400, 1]))


def op_truncate(path):
    return call('truncate', path, rnd.choice([0, 3, -1]))


def op_chmod(path):
    return os.chmod(path, 0o755 if path in ('.', 'd/..') else rnd.choice([0o644, 0o755]))


def op_times(path):
    os.utime(path, (1, 2), follow_symlinks=rnd.choice([True, False]))
    return min(os.lstat(path).st_mtime, 1e9)


def op_getxattr(path):
    return os.listxattr(path), os.getxattr(path, 'user.q')


def op_setxattr(path):
    return os.setxattr(path, 'user.q', b'v')


def op_statfs(path):
    info = os.statvfs(path)
    return info.f_bsize, info.f_namemax


def op_chdir(path):
    os.chdir(path)
    place = os.getcwd().replace(BASE, '')
    os.chdir(BASE)
    return place


def op_exec(path):
    child = os.fork()
    if child == 0:
        try:
            os.execv(path or 'absent', ['x'])
        except OSError as error:
            os._exit(error.errno)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def op_watch(path):
    fd = call('inotify_init1', 0)
    try:
        return call('inotify_add_watch', fd, path, rnd.choice([0x100, 0x2000100, 0x1000100, 0]))
    finally:
        os.close(fd)


def op_list(path):
    return sorted(os.listdir(path))


OPS = [value for name, value in sorted(globals().items()) if name.startswith('op_')]
for i in range(COUNT):
    if i % 40 == 0:
        fresh()
    op, name = rnd.choice(OPS), rnd.choice(NAMES)
    try:
        outcome = op(name)
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    print(i, op.__name__[3:], repr(name), outcome)
    os.chmod('.', 0o755)
    for name in ('d', 'd/e'):
        if os.path.isdir(name) and not os.path.islink(name):
            os.chmod(name, 0o755)
