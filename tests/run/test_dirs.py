# SPDX-License-Identifier: Apache-2.0
"""--deterministic-dirs (process.md DD-01): names in bytewise order, whatever is done with the descriptor
between two calls. Each answer is compared with what lstat says, and with the same calls outside."""
import ast
import errno
import os
import re
import stat
import struct

import pytest

from common import (GRANTS, IN_VM, MACHINE, NR, SANDLOCK, Raw, Script, buffer, helper, native, run,
                    sandlock, shell)

SORTED = '--deterministic-dirs'
LAYOUTS = ['getdents64'] + (['getdents'] if 'getdents' in NR and MACHINE == 'x86_64' else [])
SEEK_SET, SEEK_CUR = 0, 1
PYTHON = '/usr/bin/python3'


def records(content, layout='getdents64'):
    """[(name, inode, type, offset)] of one answer."""
    found, at = [], 0
    while at < len(content):
        inode, offset, length = struct.unpack_from('<QqH', content, at)
        record = content[at:at + length]
        if layout == 'getdents64':
            kind, name = record[18], record[19:]
        else:
            kind, name = record[-1], record[18:-1]
        found.append((name.split(b'\0')[0], inode, kind, offset))
        at += length
    return found


def names(answer, layout='getdents64'):
    return [r[0] for r in records(answer.buffers[0][:max(answer.result, 0)], layout)]


def expected(path):
    return [b'.', b'..', *sorted(os.listdir(os.fsencode(path)))]


@pytest.fixture
def folder(tmp_path):
    """Every kind of object, names that sort differently by bytes, by locale and by creation."""
    top = tmp_path / 'folder'
    top.mkdir()
    base = os.fsencode(top) + b'/'
    for name in (b'z', b'a', b'Z', b'-', b'~', b'.hidden', b'..x', b'10', b'9', b'a b', b'\xff\xfe',
                 b'\x01', b'\xc3\xa9', b'new\nline', b'x' * 255, b'prefix-prefix-2', b'prefix-prefix-10',
                 b'prefix-prefix-1'):
        with open(base + name, 'wb'):
            pass
    os.mkdir(base + b'directory')
    os.symlink('nowhere', base + b'link')
    os.mkfifo(base + b'fifo')
    for i in range(40):
        with open(base + b'f%d' % (i * 7 % 40), 'wb'):
            pass
    return top


def listing(path, layout, size, count, inside=True):
    """`count` calls in a row."""
    script = Script()
    fd = script.open(path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(count):
        script.call(layout, fd, buffer(size), size)
    answers = script.run(SORTED, '-r', path) if inside else script.native()
    return answers[1:]


@pytest.mark.parametrize('layout', LAYOUTS)
def test_sorted_and_right(folder, layout):
    first, second = listing(folder, layout, 32768, 2)
    assert names(first, layout) == expected(folder) and second.result == 0
    for name, inode, kind, _ in records(first.buffers[0][:first.result], layout):
        info = os.lstat(os.path.join(os.fsencode(folder), name))
        assert kind == stat.S_IFMT(info.st_mode) >> 12, name
        assert inode == info.st_ino, name
    control, _ = listing(folder, layout, 32768, 2, inside=False)
    assert names(control, layout) != expected(folder)
    assert sorted(records(control.buffers[0][:control.result], layout))[0][0:3] == \
        sorted(records(first.buffers[0][:first.result], layout))[0][0:3]
    assert sorted(r[:3] for r in records(control.buffers[0][:control.result], layout)) == \
        sorted(r[:3] for r in records(first.buffers[0][:first.result], layout))


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('size', [280, 300, 600])
def test_small_buffers(folder, layout, size):
    answers = listing(folder, layout, size, 70)
    assert sum((names(a, layout) for a in answers), []) == expected(folder)
    assert {a.result for a in answers[-3:]} == {0}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_buffer_for_less_than_one(folder, layout):
    """EINVAL, and the position stays."""
    script = Script()
    fd = script.open(folder)
    small = [script.call(layout, fd, buffer(64), n) for n in (0, 1, 23)]
    one = script.call(layout, fd, buffer(64), 24)
    again = script.call(layout, fd, buffer(64), 23)
    two = script.call(layout, fd, buffer(64), 24)
    for answers in (script.run(SORTED, '-r', folder), script.native()):
        assert [answers[i].name for i in small] == ['EINVAL'] * 3
        assert answers[again].name == 'EINVAL'
    answers = script.run(SORTED, '-r', folder)
    assert names(answers[one], layout) + names(answers[two], layout) == [b'.', b'..']


def test_rewind_seek_dup_and_fork(folder):
    script = Script()
    fd = script.open(folder)
    all_of_it = script.call('getdents64', fd, buffer(32768), 32768)
    script.call('lseek', fd, 0, SEEK_SET)
    rewound = script.call('getdents64', fd, buffer(32768), 32768)
    script.call('lseek', fd, 0, SEEK_SET)
    script.call('dup', fd, save='copy')
    parts = []
    for i in range(7):
        parts.append(script.call('getdents64', Raw('$copy') if i % 2 else fd, buffer(300), 300))
        told = script.call('lseek', fd, 0, SEEK_CUR)
    answers = script.run(SORTED, '-r', folder)
    whole = names(answers[all_of_it])
    assert whole == names(answers[rewound]) == expected(folder)
    together = sum((names(answers[i]) for i in parts), [])
    assert together == whole[:len(together)] and len(together) > 20
    assert answers[told].result == records(answers[parts[-1]].buffers[0][
        :answers[parts[-1]].result])[-1][3]

    # Every position that was told leads to the entry behind it, forwards and backwards.
    offsets = [r[3] for r in records(answers[all_of_it].buffers[0][:answers[all_of_it].result])]
    script = Script()
    fd = script.open(folder)
    script.call('getdents64', fd, buffer(32768), 32768)
    visits = []
    for i in [*range(len(offsets)), *reversed(range(len(offsets)))]:
        script.call('lseek', fd, offsets[i], SEEK_SET)
        visits.append((i, script.call('getdents64', fd, buffer(280), 280)))
    answers = script.run(SORTED, '-r', folder)
    for i, call in visits:
        assert names(answers[call])[:1] == whole[i + 1:i + 2]

    # A child moves the shared position.
    script = Script()
    fd = script.open(folder)
    a = script.call('getdents64', fd, buffer(600), 600)
    script.call('getdents64', fd, script.keep(buffer(600)), 600, fork=True)
    b = script.call('getdents64', fd, buffer(32768), 32768)
    answers = script.run(SORTED, '-r', folder)
    seen, rest = names(answers[a]), names(answers[b])
    assert rest == whole[-len(rest):] and 0 < len(whole) - len(seen) - len(rest) < 30


def test_close_and_open_again(folder):
    """The weakness: the second listing of the same number and path was empty."""
    script = Script()
    calls = []
    for _ in range(3):
        fd = script.open(folder)
        calls.append(script.call('getdents64', fd, buffer(32768), 32768))
        script.call('close', fd)
    script.call('unlinkat', -100, os.path.join(folder, 'a'), 0)
    fd = script.open(folder)
    after = script.call('getdents64', fd, buffer(32768), 32768)
    whole = expected(folder)
    answers = script.run(SORTED, '-w', folder)
    assert [names(answers[i]) for i in calls] == [whole] * 3
    assert names(answers[after]) == [n for n in whole if n != b'a']


def test_changes_between_calls(folder):
    """What was not touched is seen exactly once; a new beginning sees the new state; two readers in
    different states go on, each in its own."""
    script = Script()
    old = script.open(folder)
    first = script.call('getdents64', old, buffer(600), 600)
    for name in ('.hidden', '10', 'z'):
        script.call('unlinkat', -100, os.path.join(folder, name), 0)
    for name in ('!first', 'middle', '~~last'):
        script.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY)
    new = script.open(folder)
    start = script.call('getdents64', new, buffer(600), 600)
    rest_old = script.call('getdents64', old, buffer(32768), 32768)
    rest_new = script.call('getdents64', new, buffer(32768), 32768)
    end = [script.call('getdents64', fd, buffer(600), 600) for fd in (old, new)]
    before = expected(folder)
    answers = script.run(SORTED, '-w', folder)
    after = expected(folder)
    assert names(answers[first]) + names(answers[rest_old]) == before
    assert names(answers[start]) + names(answers[rest_new]) == after != before
    assert [answers[i].result for i in end] == [0, 0]


def test_errors_are_the_kernels(folder):
    script = Script()
    file_fd = script.open(folder / 'a')
    path_fd = script.open(folder, 0o10000000)
    fd = script.open(folder)
    gone = script.open(folder / 'directory')
    script.call('unlinkat', -100, os.path.join(folder, 'directory'), 0x200)
    calls = [script.call('getdents64', n, buffer(600), 600) for n in (file_fd, path_fd, 999, -1, gone)]
    calls += [script.call('getdents64', fd, Raw('f:'), 600), script.call('getdents64', fd, Raw('k:'), 600)]
    still = script.call('getdents64', fd, buffer(32768), 32768)
    answers = script.run(SORTED, '-w', folder)
    (folder / 'directory').mkdir()
    control = script.native()
    assert [answers[i].name for i in calls] == [control[i].name for i in calls] == [
        'ENOTDIR', 'EBADF', 'EBADF', 'EBADF', 'ENOENT', 'EFAULT', 'EFAULT']
    assert names(answers[still])[0] == b'.' and len(names(answers[still])) == len(names(control[still]))


def test_more_directories_than_are_remembered(tmp_path):
    """Half-read listings whose state was dropped go on where they were; memory stays bounded."""
    count = 600 if not IN_VM else 530
    script, fds = Script(), []
    for i in range(count):
        (tmp_path / f'{i}').mkdir()
        for name in 'cab':
            (tmp_path / f'{i}' / name).touch()
        fds.append(script.open(tmp_path / f'{i}'))
    first = [script.call('getdents64', fd, script.keep(buffer(72)), 72) for fd in fds]
    rest = [script.call('getdents64', fd, buffer(600), 600) for fd in fds]
    result = script.run(SORTED, '-r', tmp_path, timeout=600)
    assert {result[i].result for i in first} == {72}
    assert {tuple(names(result[i])) for i in rest} == {(b'b', b'c')}


def test_shared_by_processes(tmp_path):
    """Four at once through one description: each entry goes to one of them."""
    for i in range(1000 if not IN_VM else 200):
        (tmp_path / f'{i * 77 % 1000}').touch()
    result = run(SORTED, '-r', tmp_path, '--', helper('dirs_race'), tmp_path)
    assert result.returncode == 0
    assert sorted(result.stdout.split()) == sorted(['.', '..', *os.listdir(tmp_path)])
    control = native(helper('dirs_race'), tmp_path)
    assert sorted(control.stdout.split()) == sorted(result.stdout.split())
    # Seeking under the reader's hands: no error, no endless call, and the sandbox ends.
    result = run(SORTED, '-r', tmp_path, '--', helper('dirs_race'), tmp_path, 500 if not IN_VM else 20)
    assert result.stdout == 'done\n' and result.returncode == 0


def test_larger_than_a_window(tmp_path):
    """Nothing lost or repeated where one window ends and the next is made, nor when seeking back."""
    if IN_VM:
        pytest.skip('tens of thousands of files: natively only')
    count = 34000
    name = 'n%05d-' + 'x' * 240
    for i in range(count):
        os.close(os.open(f'{tmp_path}/{name}' % (i * 7919 % count), os.O_CREAT | os.O_WRONLY))
    program = f'''
import os
found = os.listdir({str(tmp_path)!r})
print(len(found), found == sorted(found), len(set(found)))
'''
    result = run(SORTED, '-r', tmp_path, '--', PYTHON, '-c', program)
    assert result.stdout.split() == [str(count), 'True', str(count)], result.stderr
    control = native(PYTHON, '-c', program)
    assert control.stdout.split() == [str(count), 'False', str(count)]
    # Removing while reading: the window that follows is found by the last name, not by number.
    result = shell(f'cd {tmp_path} && find . -mindepth 1 -delete; ls -A | wc -l', SORTED, '-w', tmp_path)
    assert result.stdout == '0\n', result.stderr


@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow']], ids=['alone', 'fs-deny'])
def test_proc_is_sorted_and_filtered(options):
    result = shell('ls -aU /proc; echo --; ls -aU /proc/self/task | wc -l; ls -U /proc/self/fd',
                   SORTED, '-r', '/proc', *options)
    listed, rest = result.stdout.split('--\n')
    listed = listed.splitlines()
    assert listed[:2] == ['.', '..'] and listed[2:] == sorted(listed[2:])
    assert 0 < sum(n.isdigit() for n in listed) < 6 and 'self' in listed
    assert str(os.getpid()) not in listed and str(os.getpid()) in os.listdir('/proc')
    assert rest.split()[:2] == ['3', '0']


@pytest.mark.parametrize('options', [[], ['-r', '/proc']], ids=['plain', 'in the domain'])
def test_inherited_directory(folder, options):
    """A directory that the caller gives as standard input and that is not granted."""
    program = 'import os; print(ascii(os.listdir(3)))'
    script = f'exec 3<&0 </dev/null; exec {PYTHON} -c "{program}"'
    stdin = os.open(folder, os.O_RDONLY)
    result = shell(script, SORTED, *options, stdin=stdin)
    os.close(stdin)
    assert result.returncode == 0, result.stderr
    assert [os.fsencode(n) for n in ast.literal_eval(result.stdout)] == expected(folder)[2:]


def test_programs(folder):
    """Walks, removals and copies do what they do."""
    program = ('import os, sys; print(ascii([(d, f) for d, _, f in os.walk(sys.argv[1])])); '
               'print(ascii([e.name for e in os.scandir(sys.argv[1])]))')
    result = run(SORTED, '-r', folder, '--', PYTHON, '-c', program, folder)
    again = run(SORTED, '-r', folder, '--', PYTHON, '-c', program, folder)
    assert result.returncode == 0 and result.stdout == again.stdout
    result = shell(f'cp -a {folder} {folder}.copy && rm -r {folder} && find {folder}.copy -type f | wc -l',
                   SORTED, '-w', folder.parent)
    assert result.stdout == '59\n', result.stderr
    assert not folder.exists()


def test_off_nothing_is_notified(folder):
    def stats(*options):
        result = shell(f'ls -R {folder} >/dev/null', '-w', '/dev/null', '--stats', '-r', folder, *options)
        return int(re.search('notifications: ([0-9]+)', result.stderr)[1])
    assert stats() == 0
    assert stats(SORTED) == 4  # two directories, each with an end


def test_where_descriptors_cannot_be_had(folder):
    """The outer sandbox refuses pidfd_getfd as containers do: an error at the start, not a random order."""
    outer = ['run', '--no-supervisor', *GRANTS, '-r', os.path.dirname(SANDLOCK), '-r', '/proc', '-r', folder,
             '-r', '/dev']
    inner = [SANDLOCK, 'run', *GRANTS, '-r', folder, SORTED, '--', 'ls', '-b', folder]
    result = sandlock(*outer, '--extra-deny-syscall', 'pidfd_getfd', '--', *inner)
    assert result.returncode == 125 and 'pidfd_getfd' in result.stderr and not result.stdout
    assert SORTED in result.stderr
    control = sandlock(*outer, '--', *inner)
    assert control.returncode == 0, control.stderr


def test_needs_a_supervisor():
    result = run(SORTED, '--no-supervisor', '--', 'true')
    assert result.returncode == 125 and SORTED in result.stderr


def test_a_program_that_cannot_be_read(folder, tmp_path):
    """Its descriptors cannot be had: an error, never the other order. Root reads everything."""
    program = tmp_path / 'unreadable'
    program.write_bytes(open(helper('rawcall'), 'rb').read())
    program.chmod(0o111)
    if os.access(program, os.R_OK):
        pytest.skip('root reads every program')
    script = Script()
    script.call('getdents64', 3, buffer(600), 600)
    shown = []
    for mode in (0o111, 0o555):
        program.chmod(mode)
        result = shell(f'exec 3< {folder}; {program}', SORTED, '-r', tmp_path, '-r', folder,
                       input=script.text())
        shown.append(result.stdout.split()[:2])
    assert shown[0] == ['-1', str(errno.EPERM)], shown
    assert int(shown[1][0]) > 0 and shown[1][1] == '0', shown
