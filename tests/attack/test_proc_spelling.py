# SPDX-License-Identifier: Apache-2.0
"""Processes outside by every spelling and every call that takes a path (process.md PV-02, PV-05), and the listing of
/proc through descriptors that were got in odd ways."""
import os
import threading

import pytest

from common import IN_VM, Answer, Raw, Script, buffer, data, helper, native, run, shell, words

O_PATH = 0o10000000
AT_FDCWD = -100
NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH, IN_ROOT = 1, 2, 4, 8, 16
PYTHON = '/usr/bin/python3'


@pytest.fixture
def stranger():
    """(process, thread of another process) outside, of the same user: ourselves."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    yield os.getpid(), thread.native_id
    stop.set()
    thread.join()


def spellings(script, top, pid):
    """[(directory descriptor, path)] that lead to /proc/<pid>; the links are made by the command."""
    script.call('symlinkat', '/proc', AT_FDCWD, top / 'proc')
    script.call('symlinkat', f'/proc/{pid}', AT_FDCWD, top / 'direct')
    script.call('symlinkat', '../' * 12 + f'proc/self/../{pid}', AT_FDCWD, top / 'relative')
    proc = script.open('/proc', os.O_RDONLY | os.O_DIRECTORY)
    bare = script.open('/proc', O_PATH)
    own = script.open('/proc/self', O_PATH)
    root = script.open('/', O_PATH)
    script.call('chdir', '/proc/self')
    return [(AT_FDCWD, f'/proc/{pid}'), (AT_FDCWD, f'//proc/./{pid}'), (AT_FDCWD, f'/proc/self/../{pid}'),
            (AT_FDCWD, f'/proc/self/root/proc/{pid}'), (AT_FDCWD, f'/proc/thread-self/../../../{pid}'),
            (AT_FDCWD, f'/proc/self/cwd/../{pid}'), (AT_FDCWD, f'../{pid}'), (proc, str(pid)),
            (bare, str(pid)), (own, f'../{pid}'), (root, f'proc/{pid}'),
            (AT_FDCWD, f'{top}/proc/{pid}'), (AT_FDCWD, f'{top}/direct'), (AT_FDCWD, f'{top}/relative'),
            (AT_FDCWD, f'/proc/self/root/proc/self/root/proc/{pid}'), (99, f'/proc/{pid}')]


def how(flags, resolve):
    return data(flags.to_bytes(8, 'little') + bytes(8) + resolve.to_bytes(8, 'little'))


def questions(script, at, base):
    """Every call that takes a path, about the process and what it has; [(name, index)]."""
    made = []

    def add(name, *args, **options):
        index = script.call(name, *args, **options)
        if index is not None:
            made.append((f'{name} {base} {args}', index))

    status, exe = base + '/status', base + '/exe'
    stat_buffer, text = Raw('b:256'), Raw('b:64')
    for path in (base, status, base + '/cwd/', base + '/root/etc'):
        add('openat', at, path, os.O_RDONLY, 0)
        add('openat', at, path, O_PATH, 0)
        add('openat2', at, path, how(os.O_RDONLY, 0), 24)
        add('newfstatat', at, path, script.keep(stat_buffer), 0)
    for resolve in (NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH, IN_ROOT):
        add('openat2', at, status, how(os.O_RDONLY, resolve), 24)
    add('statx', at, status, 0, 0x7ff, script.keep(stat_buffer))
    add('faccessat', at, status, os.R_OK)
    add('faccessat2', at, status, os.R_OK, 0)
    add('readlinkat', at, exe, script.keep(text), 64)
    add('readlinkat', at, base + '/ns/mnt', script.keep(text), 64)
    add('name_to_handle_at', at, status, script.keep(data((128).to_bytes(4, 'little') + bytes(140))),
        script.keep(Raw('b:4')), 0)
    add('execveat', at, base + '/root/bin/true', words('true', 0), words(0), 0, fork=True)
    if at == AT_FDCWD:
        add('open', status, os.O_RDONLY)
        add('stat', status, script.keep(stat_buffer))
        add('lstat', status, script.keep(stat_buffer))
        add('access', status, 0)
        add('readlink', base + '/cwd', script.keep(text), 64)
        add('statfs', status, script.keep(Raw('b:120')))
        add('listxattr', status, 0, 0)
        add('chdir', base + '/task')
        add('inotify_add_watch', script.keep(Raw('0')), status, 1)
        add('truncate', status, 0)
        add('execve', base + '/root/bin/true', words('true', 0), words(0), fork=True)
    return made


@pytest.mark.parametrize('which', ['process', 'thread'])
@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow']], ids=['default', 'fs-deny'])
def test_every_spelling_by_every_call(which, options, stranger, tmp_path):
    if IN_VM and options:
        pytest.skip('natively only: slow')
    pid = stranger[which == 'thread']
    (tmp_path / 'in').mkdir()
    script = Script()
    asked = []
    for at, base in spellings(script, tmp_path / 'in', pid):
        asked += questions(script, at, base)
    answers = script.run('-r', '/proc', '-r', '/', '-w', tmp_path / 'in', *options)
    reached = [label for label, i in asked if answers[i].name == 'OK' or answers[i].exit == 0]
    assert reached == []
    # A thread's number is not listed, but it opens. Our own directory of links is made again.
    for link in ('proc', 'direct', 'relative'):
        os.unlink(tmp_path / 'in' / link)
    control = script.native()
    opened = [label for label, i in asked if control[i].name == 'OK' or control[i].exit == 0]
    assert len(opened) > len(asked) / 2


def test_listing_by_odd_descriptors(stranger):
    """The root of /proc by its links, through a second description, in small pieces, and in both layouts."""
    script = Script()
    calls = []
    for path in ('/proc', '/proc/self/..', '/proc/self/root/proc', '/proc/thread-self/../../..'):
        fd = script.open(path)
        for layout in ('getdents64', 'getdents'):
            script.call('lseek', fd, 0, 0)
            for _ in range(40):
                calls.append(script.call(layout, fd, buffer(512), 512))
    fd = script.open('/proc', O_PATH)
    script.call('openat', fd, '.', os.O_RDONLY, 0, save='again')
    calls.append(script.call('getdents64', Raw('$again'), buffer(65536), 65536))
    calls = [c for c in calls if c is not None]
    for options in ([], ['--deterministic-dirs']):
        answers = script.run('-r', '/proc', *options)
        seen = b''.join(b for i in calls for b in answers[i].buffers)
        assert b'loadavg' in seen and str(stranger[0]).encode() + b'\0' not in seen
    outside = script.native()
    control = b''.join(b for i in calls for b in outside[i].buffers)
    assert str(stranger[0]).encode() + b'\0' in control


def test_inherited_root_of_proc(stranger):
    """The caller's own descriptor of /proc: the same view, and nobody is reached through it."""
    pid = stranger[0]
    program = f'''
import os
print(str({pid}) in os.listdir(3))
for name in ("{pid}/status", "self/../{pid}/status"):
    try: os.close(os.open(name, os.O_RDONLY, dir_fd=3)); print("open")
    except OSError: print("closed")
'''
    text = f"exec 3<&0 </dev/null; exec {PYTHON} -c '{program}'"
    def listed(start, *arguments, **options):
        stdin = os.open('/proc', os.O_RDONLY)
        try:
            return start(*arguments, stdin=stdin, **options).stdout
        finally:
            os.close(stdin)

    for options in ([], ['--deterministic-dirs']):
        assert listed(shell, text, '-r', '/proc', *options) == 'False\nclosed\nclosed\n'
    assert listed(native, 'sh', '-c', text) == 'True\nopen\nopen\n'


def test_program_that_cannot_be_looked_into(stranger, tmp_path):
    """Its descriptors cannot be had by the supervisor: the root of /proc, inherited, is not listed natively."""
    program = tmp_path / 'unreadable'
    program.write_bytes(open(helper('rawcall'), 'rb').read())
    shown = []
    for mode in (0o111, 0o555):
        program.chmod(mode)
        if mode == 0o111 and os.access(program, os.R_OK):
            pytest.skip('root reads every program')
        script = Script()
        script.call('getdents64', 3, buffer(65536), 65536)
        result = shell(f'exec 3< /proc; {program}', '-r', '/proc', '-r', tmp_path, input=script.text())
        shown.append(b''.join(Answer(result.stdout).buffers))
    assert b'loadavg' not in shown[0] and b'loadavg' in shown[1]
    assert all(str(stranger[0]).encode() + b'\0' not in s for s in shown)


def test_listing_leaves_nothing_in_the_padding(stranger):
    """Bytes between a name and the next record: not the names that were left out, nor our memory."""
    script = Script()
    fd = script.open('/proc')
    call = script.call('getdents64', fd, buffer(65536), 65536)
    content = script.run('-r', '/proc')[call].buffers[0]
    at = 0
    while at < len(content) and content[at + 16:at + 18] != b'\0\0':
        length = int.from_bytes(content[at + 16:at + 18], 'little')
        name, _, padding = content[at + 19:at + length].partition(b'\0')
        assert set(padding) <= {0}, name
        at += length
    assert at > 1000


@pytest.mark.parametrize('options', [[], ['--deterministic-dirs']], ids=['default', 'sorted'])
def test_thread_with_tables_of_its_own(options, stranger, tmp_path):
    """Its descriptors and its working directory are meant, not those of the group's leader."""
    if not thread_pidfds():
        pytest.skip('a kernel before 6.9: descriptors of such threads are looked up at the leader')
    pid = stranger[0]
    (tmp_path / 'leader').mkdir()
    (tmp_path / 'leader' / 'wrong').touch()
    (tmp_path / 'thread').mkdir()
    for name in ('b', 'a', 'c'):
        (tmp_path / 'thread' / name).touch()
    words_ = [helper('thread_view'), tmp_path / 'leader', tmp_path / 'thread', 'a', 'wrong']
    result = run('-r', '/proc', '-r', tmp_path, *options, '--', *words_)
    names = result.stdout.split()
    assert sorted(names[:5]) == ['.', '..', 'a', 'b', 'c'] and names[5:] == ['--', 'open', '2'], result
    assert not options or names[:5] == sorted(names[:5])
    control = native(*words_).stdout.split()
    assert sorted(control) == sorted(names)
    words_ = [helper('thread_view'), tmp_path / 'leader', '/proc', 'self/status', f'{pid}/status',
              f'self/../{pid}/status', 'self/mounts']
    result = run('-r', '/proc', '-r', tmp_path, *options, '--', *words_)
    listed, opened = result.stdout.split('--\n')
    assert str(pid) not in listed.split() and 'uptime' in listed.split()
    assert opened.split() == ['open', '2', '2', 'open']
    assert native(*words_).stdout.split('--\n')[1].split() == ['open'] * 4


def thread_pidfds():
    return tuple(map(int, os.uname().release.split('-')[0].split('.')[:2])) >= (6, 9)
