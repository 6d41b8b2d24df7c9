# SPDX-License-Identifier: Apache-2.0
"""Grants and what lies outside them (filesystem.md section 1): reading, every way of changing a tree,
and metadata, which Landlock does not govern (FG-03). Every refusal is repeated without a sandbox."""
import errno
import os
import shutil
import stat
import subprocess

import pytest

from common import (AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, GRANTS, LIMIT, SANDLOCK, SYSTEM, Script, buffer, data,
                    metadata_calls, native, run, shell, tree_state, wait_until, words)

REFUSED = {'EACCES', 'EPERM'}


def make_tree(top):
    """The objects that the calls below name."""
    top.mkdir(exist_ok=True)
    (top / 'file').write_text('content')
    (top / 'dir').mkdir()
    (top / 'dir' / 'inner').write_text('inner')
    (top / 'empty').mkdir()
    (top / 'other').write_text('other')
    os.symlink('file', top / 'link')
    os.symlink('dir', top / 'dirlink')
    os.mkfifo(top / 'fifo')
    (top / 'prog').write_text('#!/bin/sh\nexit 0\n')
    (top / 'prog').chmod(0o755)
    return top


# ---- every way to change a tree ----

O_WRONLY, O_RDWR, O_CREAT, O_TRUNC = os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC


def how(flags, mode=0, resolve=0):
    return data(b''.join(v.to_bytes(8, 'little') for v in (flags, mode, resolve)))


def changing_calls(s, t):
    """{label: index}: each changes the fresh tree t when it is allowed to; none needs another."""
    made = {}

    def add(label, name, *args):
        index = s.call(name, *args)
        if index is not None:
            made[label] = index

    for label, flags in (('wronly', O_WRONLY), ('rdwr', O_RDWR), ('append', O_WRONLY | os.O_APPEND),
                         ('trunc', O_WRONLY | O_TRUNC), ('rdonly-trunc', os.O_RDONLY | O_TRUNC),
                         ('creat-existing', O_WRONLY | O_CREAT)):
        add(f'open-{label}', 'open', t / 'file', flags, 0o600)
        add(f'openat-{label}', 'openat', AT_FDCWD, t / 'file', flags, 0o600)
        add(f'openat2-{label}', 'openat2', AT_FDCWD, t / 'file',
            how(flags, 0o600 if flags & O_CREAT else 0), 24)
        add(f'link-openat-{label}', 'openat', AT_FDCWD, t / 'link', flags, 0o600)
    for n, flags in enumerate((O_WRONLY | O_CREAT, os.O_RDONLY | O_CREAT,
                               O_WRONLY | O_CREAT | os.O_EXCL)):
        add(f'create-open-{n}', 'open', t / f'new-open{n}', flags, 0o600)
        add(f'create-openat-{n}', 'openat', AT_FDCWD, t / f'new-openat{n}', flags, 0o600)
        add(f'create-openat2-{n}', 'openat2', AT_FDCWD, t / f'new-openat2{n}', how(flags, 0o600), 24)
    add('tmpfile', 'openat', AT_FDCWD, t, O_WRONLY | os.O_TMPFILE, 0o600)
    add('creat', 'creat', t / 'file', 0o600)
    add('creat-new', 'creat', t / 'new-creat', 0o600)
    add('truncate', 'truncate', t / 'file', 1)
    add('mkdir', 'mkdir', t / 'new-mkdir', 0o700)
    add('mkdirat', 'mkdirat', AT_FDCWD, t / 'new-mkdirat', 0o700)
    add('mknod', 'mknod', t / 'new-mknod', stat.S_IFREG | 0o600, 0)
    add('mknodat', 'mknodat', AT_FDCWD, t / 'new-mknodat', stat.S_IFIFO | 0o600, 0)
    add('mknodat-socket', 'mknodat', AT_FDCWD, t / 'new-sock', stat.S_IFSOCK | 0o600, 0)
    add('symlink', 'symlink', 'target', t / 'new-symlink')
    add('symlinkat', 'symlinkat', 'target', AT_FDCWD, t / 'new-symlinkat')
    add('link', 'link', t / 'file', t / 'new-link')
    add('linkat', 'linkat', AT_FDCWD, t / 'file', AT_FDCWD, t / 'new-linkat', 0)
    add('rename', 'rename', t / 'file', t / 'new-rename')
    add('rename-back', 'rename', t / 'new-rename', t / 'file')
    add('renameat', 'renameat', AT_FDCWD, t / 'file', AT_FDCWD, t / 'new-renameat')
    add('renameat-back', 'renameat', AT_FDCWD, t / 'new-renameat', AT_FDCWD, t / 'file')
    add('renameat2', 'renameat2', AT_FDCWD, t / 'file', AT_FDCWD, t / 'new-renameat2', 1)
    add('renameat2-back', 'renameat2', AT_FDCWD, t / 'new-renameat2', AT_FDCWD, t / 'file', 1)
    add('exchange', 'renameat2', AT_FDCWD, t / 'file', AT_FDCWD, t / 'other', 2)
    add('rename-dir', 'renameat2', AT_FDCWD, t / 'dir', AT_FDCWD, t / 'new-dir', 0)
    add('rename-dir-back', 'renameat2', AT_FDCWD, t / 'new-dir', AT_FDCWD, t / 'dir', 0)
    # Between directories of one grant: a kernel right of its own (refer), and no EXDEV.
    add('link-across', 'linkat', AT_FDCWD, t / 'other', AT_FDCWD, t / 'dir' / 'linked', 0)
    add('rename-across', 'renameat2', AT_FDCWD, t / 'dir' / 'linked', AT_FDCWD, t / 'empty' / 'x', 0)
    add('rename-across-back', 'renameat2', AT_FDCWD, t / 'empty' / 'x', AT_FDCWD, t / 'x', 0)
    add('unlink', 'unlink', t / 'other')
    add('unlinkat', 'unlinkat', AT_FDCWD, t / 'fifo', 0)
    add('unlinkat-link', 'unlinkat', AT_FDCWD, t / 'link', 0)
    add('rmdir', 'rmdir', t / 'empty')
    add('unlinkat-dir', 'unlinkat', AT_FDCWD, t / 'dir', AT_REMOVEDIR)
    return made


POLICIES = pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow'], ['--explain'],
                                               ['--no-supervisor']],
                                   ids=['default', 'fs-deny', 'explain', 'no-supervisor'])


@POLICIES
def test_nothing_outside_write_grants_changes(options, tmp_path):
    tree = make_tree(tmp_path / 'tree')
    s = Script()
    calls = changing_calls(s, tree)
    before = tree_state(tree)
    inside = s.run('-r', tmp_path, *options)
    allowed = {k for k, i in calls.items() if inside[i].name not in REFUSED}
    # Names that do not exist because the step before them was refused.
    allowed -= {k for k in allowed if inside[calls[k]].name == 'ENOENT'
                and (k.endswith('-back') or k == 'rename-across')}
    # link(2) across nothing granted may say EXDEV (refer), which is a refusal as well.
    assert {k: inside[calls[k]].name for k in allowed
            if inside[calls[k]].name not in ('EXDEV', 'EROFS')} == {}
    assert tree_state(tree) == before
    # Control: with a write grant, and without a sandbox, every one of them works.
    outside = s.native()
    expected = {k: outside[i].name for k, i in calls.items()}
    assert {k: v for k, v in expected.items() if v != 'OK'} == {'unlinkat-dir': 'ENOTEMPTY'}
    shutil.rmtree(tree)
    make_tree(tree)
    granted = s.run('-w', tmp_path, *options)
    assert {k: granted[i].name for k, i in calls.items()} == expected


@POLICIES
def test_nothing_readable_without_a_grant(options, tmp_path):
    tree = make_tree(tmp_path / 'tree')
    s = Script()
    reading = {
        'open': s.call('open', tree / 'file', os.O_RDONLY),
        'openat': s.call('openat', AT_FDCWD, tree / 'file', os.O_RDONLY),
        'openat2': s.call('openat2', AT_FDCWD, tree / 'file', how(os.O_RDONLY), 24),
        'link': s.call('openat', AT_FDCWD, tree / 'link', os.O_RDONLY),
        'dir': s.call('openat', AT_FDCWD, tree, os.O_RDONLY | os.O_DIRECTORY),
        'exec': s.call('execve', tree / 'prog', 0, 0, fork=True),
        'execveat': s.call('execveat', AT_FDCWD, tree / 'prog', 0, 0, 0, fork=True),
    }
    reading = {k: i for k, i in reading.items() if i is not None}
    # O_PATH and stat are not governed (FG-06); what O_PATH gives cannot be opened again.
    path_fd = s.call('openat', AT_FDCWD, tree / 'file', os.O_PATH)
    seen = s.call('newfstatat', AT_FDCWD, tree / 'file', buffer(144), 0)
    answers = s.run(*options)
    assert {k: answers[i].name for k, i in reading.items()} == dict.fromkeys(reading, 'EACCES')
    assert answers[seen].name == answers[path_fd].name == 'OK'
    outside = s.native()
    assert {outside[i].name for k, i in reading.items() if 'exec' not in k} == {'OK'}
    assert all(outside[i].exit == 0 for k, i in reading.items() if 'exec' in k)
    granted = s.run('-r', tree, *options)
    assert {granted[i].name for k, i in reading.items() if 'exec' not in k} == {'OK'}


def test_nothing_is_implicit():
    """FG-02: not even /dev/null."""
    for device in ('/dev/null', '/dev/zero', '/dev/urandom', '/dev/tty', '/proc/self/status'):
        result = run('--', 'head', '-c1', device, grants=SYSTEM, errors='replace')
        assert result.returncode == 1 and 'Permission denied' in result.stderr, device
        if device != '/dev/tty':
            assert run('-r', device.replace('/self/status', ''), '--', 'head', '-c1', device,
                       grants=SYSTEM, errors='replace').returncode == 0, device


# ---- kinds of grants ----

def test_grant_on_a_file(tmp_path):
    tree = make_tree(tmp_path / 'tree')
    assert run('-r', tree / 'file', '--', 'cat', tree / 'file').stdout == 'content'
    assert run('-r', tree / 'file', '--', 'cat', tree / 'other').returncode == 1
    result = shell(f'echo more >>{tree}/file; echo >{tree}/other; rm {tree}/file',
                   '-w', tree / 'file')
    assert 'other: Permission denied' in result.stderr and result.returncode != 0
    assert (tree / 'file').read_text() == 'contentmore\n' and (tree / 'other').read_text() == 'other'


def test_grant_on_a_fifo_does_not_block(tmp_path):
    tree = make_tree(tmp_path / 'tree')
    result = shell(f'cat {tree}/fifo & echo through >{tree}/fifo; wait', '-w', tree / 'fifo')
    assert result.stdout == 'through\n', result.stderr


def test_grant_on_devices():
    result = shell('echo x >/dev/null && head -c 4 /dev/zero | wc -c', '-w', '/dev/null', '-r',
                   '/dev/zero')
    assert (result.returncode, result.stdout.strip()) == (0, '4')
    assert shell('echo x >/dev/null').returncode != 0


def test_grant_on_a_symbolic_link_is_its_target(tmp_path):
    tree = make_tree(tmp_path / 'tree')
    for link, target in (('link', 'file'), ('dirlink', 'dir/inner')):
        assert run('-r', tree / link, '--', 'cat', tree / target).returncode == 0
    assert run('-r', tree / 'dirlink', '--', 'cat', tree / 'other').returncode == 1
    os.symlink(tree / 'nowhere', tree / 'dangling')
    result = run('-r', tree / 'dangling', '--', 'true')
    assert result.returncode == 125 and 'dangling' in result.stderr


def test_overlapping_grants_are_a_union(tmp_path):
    tree = make_tree(tmp_path / 'tree')
    for order in (['-r', tree, '-w', tree / 'dir'], ['-w', tree / 'dir', '-r', tree],
                  ['-r', tree, '-r', tree / 'dir', '-w', tree / 'dir', '-r', tree / 'dir']):
        result = shell(f'echo x >{tree}/dir/inner && cat {tree}/file && echo y >{tree}/other', *order)
        assert result.stdout == 'content' and 'other' in result.stderr
        assert (tree / 'dir' / 'inner').read_text() == 'x\n'
        assert (tree / 'other').read_text() == 'other'


def test_grant_of_the_root(tmp_path):
    assert run('-r', '/', '--', 'cat', '/etc/passwd', grants=[]).returncode == 0
    result = shell(f'echo x >{tmp_path}/x', '-r', '/')
    assert result.returncode != 0 and not (tmp_path / 'x').exists()
    assert shell(f'echo x >{tmp_path}/x', '-w', '/').returncode == 0 and (tmp_path / 'x').exists()


def test_many_grants(tmp_path):
    for i in range(1000):
        (tmp_path / str(i)).write_text(str(i))
    grants = [w for i in range(0, 1000, 2) for w in ('-r', tmp_path / str(i))]
    assert run(*grants, '--', 'cat', tmp_path / '998', tmp_path / '0').stdout == '9980'
    assert run(*grants, '--', 'cat', tmp_path / '999').returncode == 1


def test_relative_and_odd_grants(tmp_path):
    tree = make_tree(tmp_path / 'tree')
    (tree / 'a b').mkdir()
    (tree / 'a b' / 'ü\n').write_text('odd')
    for word in ('a b', './a b', f'{tree}/dir/../a b', f'{tree}//a b/', 'a b/ü\n'):
        assert run('-r', word, '--', 'cat', tree / 'a b' / 'ü\n', cwd=tree).stdout == 'odd', word
    assert run('-r', '', '--', 'true').returncode in (2, 125)
    result = run('-r', tree / 'missing', '--', 'true')
    assert result.returncode == 125 and 'missing' in result.stderr


def test_grants_follow_the_object(tmp_path):
    """FG-10."""
    tree = make_tree(tmp_path / 'tree')
    ready, go = tree / 'empty' / 'ready', tree / 'empty' / 'go'
    process = subprocess.Popen(
        [SANDLOCK, 'run', *GRANTS, '-r', str(tree / 'dir'), '-w', str(tree / 'empty'), '--', 'sh',
         '-c', f'echo >{ready}; while [ ! -e {go} ]; do sleep 0.05; done; cat {tree}/moved/inner; '
         f'cat {tree}/dir/inner'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert wait_until(ready.exists)
    os.rename(tree / 'dir', tree / 'moved')
    (tree / 'dir').mkdir()
    (tree / 'dir' / 'inner').write_text('new')
    go.write_text('')
    out, _ = process.communicate(timeout=LIMIT)
    assert out == 'inner' and process.returncode == 1


# ---- rights that travel in descriptors ----

def test_truncation_and_device_control_need_a_grant(tmp_path):
    tree = make_tree(tmp_path / 'tree')
    s = Script()
    fd = s.open(tree / 'file', os.O_RDWR)
    s.call('ftruncate', fd, 2)
    answers = s.run('-w', tree)
    assert answers[-1].name == 'OK' and (tree / 'file').read_text() == 'co'
    assert s.run('-r', tree)[0].name == 'EACCES'
    # TIOCGWINSZ is answered by the device: readable as one of many it may not be asked.
    s = Script()
    fd = s.open('/dev/zero', os.O_RDONLY)
    s.call('ioctl', fd, 0x5413, buffer(8))
    assert s.native()[-1].name == 'ENOTTY'
    assert s.run('-r', '/dev')[-1].name == 'EACCES'
    for grant in (['-w', '/dev'], ['-r', '/dev/zero']):
        assert s.run(*grant)[-1].name == 'ENOTTY'


def test_reopening_through_proc_is_judged_again(tmp_path):
    """FG-07: a descriptor opened for reading does not open for writing."""
    tree = make_tree(tmp_path / 'tree')
    script = f'exec 3<{tree}/file; cat /proc/self/fd/3; echo x >/proc/self/fd/3'
    result = shell(script, '-r', tree, '-r', '/proc')
    assert result.stdout == 'content' and result.returncode != 0
    assert (tree / 'file').read_text() == 'content'
    assert native('sh', '-c', script).returncode == 0


# ---- metadata (FG-03) ----

def xattrs_work(path):
    try:
        os.setxattr(path, 'user.test', b'1')
        os.removexattr(path, 'user.test')
        return True
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        return False


@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow'], ['--explain']],
                         ids=['default', 'fs-deny', 'explain'])
@pytest.mark.parametrize('kind', ['file', 'dir'])
@pytest.mark.parametrize('grant', ['read', 'none', 'write-elsewhere'])
def test_metadata_outside_write_grants(options, kind, grant, tmp_path):
    """Every legacy and modern form, by path and through descriptors opened for reading."""
    tree = make_tree(tmp_path / 'tree')
    (tmp_path / 'elsewhere').mkdir()
    s = Script()
    flags = os.O_RDONLY if grant != 'none' else os.O_PATH
    fd = s.open(tree / kind, flags)
    calls = metadata_calls(s, tree / kind, fd if grant != 'none' else None)
    calls += metadata_calls(s, f'{tree}/dir/../{kind}')
    calls += [(n, i) for n, i in metadata_calls(s, f'{tree}/link') if kind == 'file']
    before = tree_state(tree)
    policy = {'read': ['-r', tmp_path], 'none': [],
              'write-elsewhere': ['-r', tree, '-w', tmp_path / 'elsewhere']}[grant]
    inside = s.run(*policy, *options)
    passed = {n: inside[i] for n, i in calls if inside[i].name not in REFUSED}
    # A number that this kernel does not know, or a file system that has no such attribute, is no
    # pass; anything else is.
    unknown = {n for n, a in passed.items() if a.name in ('ENOSYS',)}
    assert {n: a for n, a in passed.items() if n not in unknown} == {}
    assert tree_state(tree) == before
    # Control: without a sandbox, what the kernel and the file system have works.
    outside = s.native()
    works = {n for n, i in calls if outside[i].name == 'OK'}
    assert {'fchmodat', 'fchownat', 'utimensat'} <= works
    assert ('setxattr' in works) == xattrs_work(tree / kind)
    for n, i in calls:
        if n in unknown:
            assert outside[i].name in ('ENOSYS', 'EOPNOTSUPP', 'ENOTTY'), n
    if grant != 'none':
        assert {'fchmod', 'fchown', 'futimens'} <= works
    assert tree_state(tree) != before


@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow'], ['--explain']],
                         ids=['default', 'fs-deny', 'explain'])
@pytest.mark.parametrize('kind', ['file', 'dir'])
def test_metadata_inside_write_grants(options, kind, tmp_path):
    """The same calls give the same answers as without a sandbox, and the same tree."""
    results = []
    for name, inside in (('a', False), ('b', True)):
        top = tmp_path / name
        top.mkdir()
        tree = make_tree(top / 'tree')
        os.utime(tree / kind, ns=(5, 5))
        s = Script()
        fd = s.open(tree / kind, os.O_RDONLY)
        calls = metadata_calls(s, tree / kind, fd)
        relative_dir = s.open(tree, os.O_RDONLY | os.O_DIRECTORY)
        calls += [('rel-' + n, i) for n, i in metadata_calls(s, kind, dirfd=relative_dir)
                  if n.endswith('at') or n.endswith('at2')]
        s.call('utimensat', AT_FDCWD, tree / kind, words(7, 8, 9, 10), 0)
        answers = s.run('-w', tree, *options) if inside else s.native()
        info = os.stat(tree / kind)
        results.append(({n: answers[i].name for n, i in calls}, oct(info.st_mode), info.st_atime_ns,
                        info.st_mtime_ns, os.listxattr(tree / kind)))
    different = {n: (v, results[1][0][n]) for n, v in results[0][0].items()
                 if v not in (results[1][0][n], 'ENOSYS')}  # made on behalf on older kernels
    assert not different
    assert results[0][1:] == results[1][1:]
    assert results[1][2:4] == (7000000008, 9000000010)


def test_metadata_of_links_themselves(tmp_path):
    results = []
    for name, inside in (('a', False), ('b', True)):
        top = tmp_path / name
        top.mkdir()
        tree = make_tree(top / 'tree')
        s = Script()
        s.call('lchown', tree / 'link', os.getuid(), os.getgid())
        s.call('fchownat', AT_FDCWD, tree / 'link', os.getuid(), os.getgid(), 0x100)
        s.call('utimensat', AT_FDCWD, tree / 'link', data(bytes(32)), 0x100)
        s.call('fchmodat2', AT_FDCWD, tree / 'link', 0o600, 0x100)
        s.call('lsetxattr', tree / 'link', 'user.x', data(b'1'), 1, 0)
        answers = s.run('-w', tree) if inside else s.native()
        results.append(([a.name for a in answers], os.lstat(tree / 'link').st_mtime_ns,
                        os.stat(tree / 'file').st_mode))
    assert results[0] == results[1]
    assert results[1][1] == 0


def test_metadata_through_link_out_of_the_grant(tmp_path):
    """A link inside the write grant to a file outside: the object decides."""
    tree = make_tree(tmp_path / 'tree')
    outside = tmp_path / 'outside'
    outside.write_text('x')
    outside.chmod(0o600)
    os.symlink(outside, tree / 'out')
    s = Script()
    calls = metadata_calls(s, tree / 'out')
    before = os.stat(outside)
    answers = s.run('-w', tree, '-r', tmp_path)
    # l-forms act on the link, which lies inside.
    follow = [(n, i) for n, i in calls if not n.startswith('l')]
    assert {n: answers[i].name for n, i in follow if answers[i].name not in REFUSED | {'ENOSYS'}} == {}
    after = os.stat(outside)
    assert (after.st_mode, after.st_mtime_ns, after.st_ctime_ns) == \
        (before.st_mode, before.st_mtime_ns, before.st_ctime_ns)


def test_ordinary_programs_keep_working_with_metadata(tmp_path):
    """cp -a, tar, touch, install, mv, chmod -R within a write grant."""
    tree = make_tree(tmp_path / 'tree')
    (tree / 'fifo').unlink()
    script = f'''set -e; cd {tree}
cp -a dir copy; touch -d @1000 copy/inner; chmod -R go-w .; install -m 640 file installed
tar cf t.tar dir; mkdir x; tar xf t.tar -C x; mv x/dir moved; cp -p file kept; ln -s file s
rm -rf x'''
    result = shell(script, '-w', tree)
    assert result.returncode == 0, result.stderr
    assert os.stat(tree / 'copy' / 'inner').st_mtime == 1000
    assert oct(os.stat(tree / 'installed').st_mode & 0o777) == '0o640'
    assert (tree / 'moved' / 'inner').read_text() == 'inner'
    result = shell(f'chmod 777 {tree}/file; touch {tree}/file', '-r', tree)
    assert result.returncode != 0


def test_temporary_file_with_a_name(tmp_path):
    """A file that was made without a name and given one can still be changed by its descriptor. Control: what was
    opened for reading and is granted for reading cannot."""
    (tmp_path / 'w').mkdir()
    (tmp_path / 'kept').write_text('x')
    (tmp_path / 'kept').chmod(0o600)
    s = Script()
    fd = s.open(tmp_path / 'w', os.O_TMPFILE | os.O_RDWR)
    made = [s.call('linkat', AT_FDCWD, '/proc/self/fd/3', AT_FDCWD, tmp_path / 'w' / 'named', AT_SYMLINK_FOLLOW),
            s.call('fchmod', fd, 0o640), s.call('utimensat', fd, 0, 0, 0)]
    refused = s.call('fchmod', s.open(tmp_path / 'kept'), 0o640)
    answers = s.run('-r', tmp_path, '-r', '/proc', '-w', tmp_path / 'w')
    assert [answers[i].name for i in made] == ['OK'] * 3 and answers[refused].name == 'EPERM'
    assert (tmp_path / 'w' / 'named').stat().st_mode & 0o777 == 0o640
    assert (tmp_path / 'kept').stat().st_mode & 0o777 == 0o600


def test_a_name_that_ends_as_the_kernels_mark_is_no_temporary_file(tmp_path):
    """"x (deleted)" as a real name: who may only write to it through its standard output may not change its mode."""
    (tmp_path / 'granted').mkdir()
    program = 'import os\ntry:\n os.fchmod(1, 0o640); os.write(2, b"changed")\nexcept OSError as e: os.write(2, e.strerror.encode())'
    python = '/usr/bin/python3'
    if not os.path.exists(python):
        pytest.skip('no /usr/bin/python3 here')
    for name in ('out', 'out (deleted)'):
        path = tmp_path / name
        with open(path, 'wb') as out:
            path.chmod(0o600)
            control = subprocess.run([python, '-c', program], stdout=out, stderr=subprocess.PIPE, text=True, check=False)
            assert control.stderr == 'changed' and path.stat().st_mode & 0o777 == 0o640
            path.chmod(0o600)
            done = run('-w', tmp_path / 'granted', '--', python, '-c', program, stdout=out)
        assert done.stderr == 'Operation not permitted' and path.stat().st_mode & 0o777 == 0o600, name
    # What was unlinked and has another name is still its writer's.
    program = ("import os; os.chdir(%r); fd = os.open('a', os.O_RDWR | os.O_CREAT); os.link('a', 'b'); os.unlink('a'); "
               "os.fchmod(fd, 0o640)" % str(tmp_path / 'granted'))
    assert run('-w', tmp_path / 'granted', '--', python, '-c', program).returncode == 0
