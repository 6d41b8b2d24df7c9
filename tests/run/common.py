# SPDX-License-Identifier: Apache-2.0
"""What the tests over the command share: where things are, starting sandboxes, and calls by name
(`Script`) through the helper rawcall, so that one test covers every form a machine has."""
import contextlib
import errno
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get('SANDLOCK_BUILD', str(ROOT / 'build')))
SANDLOCK = os.environ.get('SANDLOCK', str(BUILD / 'sandlock'))
HELPERS = pathlib.Path(os.environ.get('SANDLOCK_HELPERS', str(BUILD / 'tests' / 'helpers')))
# Made by ./dev test (tests/vm/roots.py): a Debian root, and the same as an OCI layout.
ROOTS = pathlib.Path(os.environ.get('SANDLOCK_ROOTS', str(ROOT / 'build' / 'roots')))
SLOW = float(os.environ.get('SANDLOCK_SLOW', '1'))
IN_VM = bool(os.environ.get('SANDLOCK_VM'))
MACHINE = platform.machine()
LIMIT = 60 * SLOW

SYSTEM = [a for p in ('/usr', '/lib', '/lib64', '/bin', '/etc') if os.path.exists(p)
          for a in ('-r', p)]
# Shells give background jobs /dev/null to read.
GRANTS = [*SYSTEM, '-r', str(HELPERS), '-r', '/dev/null']


def helper(name):
    """Path of a helper program."""
    path = HELPERS / name
    assert path.exists(), f'{path} is missing: build first (./dev build), or set SANDLOCK_HELPERS'
    return str(path)


def sandlock(*args, **options):
    """Runs the command; output is text unless told otherwise."""
    options.setdefault('timeout', LIMIT)
    options.setdefault('text', True)
    if 'input' not in options:
        options.setdefault('stdin', subprocess.DEVNULL)
    options.setdefault('stdout', subprocess.PIPE)
    options.setdefault('stderr', subprocess.PIPE)
    return subprocess.run([SANDLOCK, *map(str, args)], check=False, **options)


def run(*args, grants=None, **options):
    """`sandlock run` with the system directories and the helpers granted."""
    return sandlock('run', *(GRANTS if grants is None else grants), *args, **options)


def shell(text, *args, **options):
    """A shell command inside."""
    return run(*args, '--', 'sh', '-c', text, **options)


def native(*args, **options):
    """The control: the same without a sandbox."""
    options.setdefault('timeout', LIMIT)
    if 'input' not in options:
        options.setdefault('stdin', subprocess.DEVNULL)
    return subprocess.run([*map(str, args)], check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **options)


def open_all(top):
    """Directories may have been closed; pytest must be able to remove them."""
    subprocess.run(['chmod', '-R', 'u+rwX', top], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def storage_at(where, name):
    """The words that put it there: beside the work directory, or on another file system."""
    if where != 'elsewhere':
        yield []
        return
    folder = f'/dev/shm/sandlock-{name}.{os.getpid()}'
    os.mkdir(folder, 0o700)
    try:
        yield ['--fs-storage', folder]
    finally:
        open_all(folder)
        shutil.rmtree(folder)


def wait_until(condition, seconds=30):
    """Polls; the limit only bounds a failure."""
    end = time.monotonic() + seconds * SLOW
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    return condition()


def processes(marker):
    """Pids of live processes with this text in their command line or environment's markers."""
    found = []
    for entry in os.listdir('/proc'):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f'/proc/{entry}/cmdline', 'rb') as stream:
                words = stream.read()
            with open(f'/proc/{entry}/stat', encoding='ascii', errors='replace') as stream:
                state = stream.read().rpartition(')')[2].split()[0]
        except OSError:
            continue
        if marker.encode() in words and state not in 'ZX':
            found.append(int(entry))
    return found


def gone(marker, seconds=30):
    """No process with the marker is left, at the latest soon."""
    return wait_until(lambda: not processes(marker), seconds)


def _content(path):
    try:
        with open(path, 'rb') as stream:
            return stream.read()
    except PermissionError:
        return 'closed'


def tree_state(top):
    """Everything observable about a tree: names, kinds, modes, owners, links, times, contents."""
    state = {}
    for folder, folders, files in os.walk(top):
        for name in sorted(folders + files) + (['.'] if folder == os.fspath(top) else []):
            path = os.path.join(folder, name)
            info = os.lstat(path)
            content = None
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                content = _content(path)
            attributes = sorted(os.listxattr(path, follow_symlinks=False))
            state[os.path.relpath(path, top)] = (
                oct(info.st_mode), info.st_uid, info.st_gid, info.st_nlink, info.st_size,
                info.st_mtime_ns, content, attributes)
    return state


# ---- calls by name ----

def _numbers():
    table = {}
    column = 1 if MACHINE == 'x86_64' else 2
    for line in (ROOT / 'gen' / 'syscalls.tbl').read_text().splitlines():
        words = line.split('#')[0].split()
        if len(words) > 2 and words[column].isdigit():
            table[words[0]] = int(words[column])
    assert len(table) > 250
    return table


NR = _numbers()
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_REMOVEDIR = 0x200
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000


class Raw(str):
    """An argument in the helper's own notation."""


FAULT = Raw('f:')
KERNEL = Raw('k:')


def quoted(text):
    """A string with everything but letters, digits and a few signs escaped."""
    data = os.fsencode(text)
    return ''.join(chr(b) if chr(b).isalnum() and b < 128 or b in b'/._-' else f'%{b:02x}'
                   for b in data)


def unterminated(text):
    """A string whose next byte is not mapped."""
    return Raw('e:' + quoted(text))


def tagged(text):
    """A string whose address carries a tag in the top byte."""
    return Raw('t:' + quoted(text))


def words(*values):
    """An array of machine words, as argv or an iovec is."""
    return Raw('m(' + ','.join(_argument(v) for v in values) + ')')


def buffer(size):
    """An output buffer; its contents come back with the answer."""
    return Raw(f'b:{size}')


def data(content):
    """A pointer to bytes."""
    return Raw('x:' + content.hex())


def _argument(value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, (str, bytes, os.PathLike)):
        return 's:' + quoted(value)
    return str(int(value))


class Answer:
    """Result of one call."""

    def __init__(self, text):
        self.text = text
        fields = text.split()
        self.signal = self.exit = None
        self.result = self.error = None
        self.buffers = []
        if fields[0] == 'signal':
            self.signal = int(fields[1])
        elif fields[0] == 'exit':
            self.exit = int(fields[1])
        else:
            self.result, self.error = int(fields[0]), int(fields[1])
            self.buffers = [b'' if f == '-' else bytes.fromhex(f) for f in fields[2:]]

    @property
    def name(self):
        """'OK', an errno's name, or what happened instead."""
        if self.result is None:
            return self.text
        return errno.errorcode.get(self.error, str(self.error)) if self.error else 'OK'

    def __repr__(self):
        return self.text if self.result is None else f'{self.name}({self.result})'


class Script:
    """Lines for rawcall. call() returns an index into the answers of run(); a call that this machine
    does not have gives None, and an absent answer."""

    def __init__(self):
        self.lines = []
        self.saved = 0

    def number(self, nr, *args, fork=False, save=None):
        """One call by number."""
        assert save is None or not fork
        head = (f'{save}=' if save else '') + ('!' if fork else '') + str(nr)
        self.lines.append(' '.join([head, *map(_argument, args)]))
        return len(self.lines) - 1

    def call(self, name, *args, **options):
        """One call by kernel name."""
        if name not in NR:
            return None
        return self.number(NR[name], *args, **options)

    def keep(self, value, name=None):
        """A buffer or string that several lines use; returns the argument."""
        self.saved += 1
        name = name or f'kept{self.saved}'
        self.lines.append(f'{name}=={_argument(value)}')
        return Raw('$' + name)

    def open(self, path, flags=os.O_RDONLY, mode=0o600, dirfd=AT_FDCWD):
        """Opens and returns the argument that stands for the descriptor."""
        self.saved += 1
        name = f'fd{self.saved}'
        self.call('openat', dirfd, path, flags, mode, save=name)
        return Raw('$' + name)

    def text(self):
        """What goes to the helper's stdin."""
        return ''.join(line + '\n' for line in self.lines)

    def _answers(self, result):
        assert result.returncode == 0, (result.returncode, result.stderr)
        answers = [Answer(line) for line in result.stdout.splitlines()]
        assert len(answers) == len(self.lines), (result.stdout[-500:], result.stderr)
        return answers

    def run(self, *args, **options):
        """Inside a sandbox with these options."""
        return self._answers(run(*args, '--', helper('rawcall'), input=self.text(), **options))

    def native(self, prefix=(), **options):
        """Outside."""
        return self._answers(native(*prefix, helper('rawcall'), input=self.text(), **options))




def metadata_calls(script, path, fd=None, dirfd=AT_FDCWD):
    """Adds every call that changes metadata of a path, and of a descriptor; [(name, index)]."""
    uid, gid = os.geteuid(), os.getegid()
    old = 1000000000
    value = script.keep(Raw('s:v'))
    timespecs = script.keep(words(old, 0, old, 0))
    xattr_args = script.keep(data((0).to_bytes(16, 'little')))
    fsxattr_attr = script.keep(data(bytes(24)))
    made = []

    def add(label, name, *args):
        index = script.call(name, *args)
        if index is not None:
            made.append((label, index))

    if path is not None:
        add('chmod', 'chmod', path, 0o750)
        add('fchmodat', 'fchmodat', dirfd, path, 0o750)
        add('fchmodat2', 'fchmodat2', dirfd, path, 0o750, 0)
        add('chown', 'chown', path, uid, gid)
        add('lchown', 'lchown', path, uid, gid)
        add('fchownat', 'fchownat', dirfd, path, uid, gid, 0)
        add('utime', 'utime', path, words(old, old))
        add('utimes', 'utimes', path, timespecs)
        add('futimesat', 'futimesat', dirfd, path, timespecs)
        add('utimensat', 'utimensat', dirfd, path, timespecs, 0)
        add('utimensat-now', 'utimensat', dirfd, path, 0, 0)
        add('setxattr', 'setxattr', path, 'user.sandlock', value, 1, 0)
        add('lsetxattr', 'lsetxattr', path, 'user.sandlock', value, 1, 0)
        add('setxattrat', 'setxattrat', dirfd, path, 0, 'user.sandlock', xattr_args, 16)
        add('removexattr', 'removexattr', path, 'user.sandlock')
        add('setxattr-2', 'setxattr', path, 'user.sandlock', value, 1, 0)
        add('lremovexattr', 'lremovexattr', path, 'user.sandlock')
        add('setxattr-3', 'setxattr', path, 'user.sandlock', value, 1, 0)
        add('removexattrat', 'removexattrat', dirfd, path, 0, 'user.sandlock')
        add('file_setattr', 'file_setattr', dirfd, path, fsxattr_attr, 24, 0)
    if fd is not None:
        add('fchmod', 'fchmod', fd, 0o750)
        add('fchmodat2-empty', 'fchmodat2', fd, '', 0o750, AT_EMPTY_PATH)
        add('fchown', 'fchown', fd, uid, gid)
        add('fchownat-empty', 'fchownat', fd, '', uid, gid, AT_EMPTY_PATH)
        add('futimens', 'utimensat', fd, 0, timespecs, 0)
        add('futimesat-null', 'futimesat', fd, 0, timespecs)
        add('fsetxattr', 'fsetxattr', fd, 'user.sandlock', value, 1, 0)
        add('setxattrat-empty', 'setxattrat', fd, '', AT_EMPTY_PATH, 'user.sandlock', xattr_args, 16)
        add('fremovexattr', 'fremovexattr', fd, 'user.sandlock')
        add('fsetxattr-2', 'fsetxattr', fd, 'user.sandlock', value, 1, 0)
        add('removexattrat-empty', 'removexattrat', fd, '', AT_EMPTY_PATH, 'user.sandlock')
        # No dump, and the extents flag: ext4 would otherwise convert the file.
        add('setflags', 'ioctl', fd, 0x40086602, script.keep(data((0x80040).to_bytes(8, 'little'))))
        add('fssetxattr', 'ioctl', fd, 0x401c5820, script.keep(Raw('b:28')))
        add('file_setattr-empty', 'file_setattr', fd, '', fsxattr_attr, 24, AT_EMPTY_PATH)
    return made


def scratch_dir(**options):
    """A directory outside pytest's own, removed by the caller."""
    return tempfile.TemporaryDirectory(prefix='sandlock-t.', **options)


# Where pidfd_getfd is refused, as by Docker's default profile (438 on every machine): a program in
# front of the command.
DOCKER = '''
import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 438), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)]
raw = b''.join(struct.pack('=HBBI', *i) for i in code)
keep = ctypes.create_string_buffer(raw)
prog = struct.pack('HxxxxxxP', len(code), ctypes.addressof(keep))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, prog, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
'''
