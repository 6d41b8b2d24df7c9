# SPDX-License-Identifier: Apache-2.0
"""--commit-in-place: what is changed stays the file it was, for those who have it open or linked elsewhere."""
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

from common import GRANTS, LIMIT, SANDLOCK, run, sandlock, storage_at, tree_state, wait_until
from test_cow_faults import MAKING, ended, faulty, settle

MB = 1 << 20


@pytest.fixture
def work(tmp_path):
    top = tmp_path / 'work'
    top.mkdir()
    for folder in (tmp_path, top):
        folder.chmod(0o755)
    (top / 'file').write_text('long old text\n')
    (top / 'other').write_text('other\n')
    os.link(top / 'file', tmp_path / 'outside')
    return top


def inside(work, text, *args, **options):
    options.setdefault('timeout', LIMIT)
    return run('-w', '/dev/null', '--workdir', work, '--cwd', work, *args, '--', 'sh', '-c', text, **options)


def committed(work, text, *args):
    done = inside(work, text, '--commit-in-place', *args)
    assert (done.returncode, done.stderr) == (0, '')
    assert not sandlock('recover', *(args if '--fs-storage' in args else ()), work).stdout


@pytest.mark.parametrize('in_place', [True, False])
@pytest.mark.parametrize('what', ['printf new >file', 'echo more >>file', 'truncate -s 5 file',
                                  'printf x | dd of=file bs=1 seek=3 conv=notrunc status=none', ': >file'])
def test_links_outside_see_it(work, tmp_path, what, in_place):
    """And who has it open does. By default a changed file is another one: the control."""
    outside = tmp_path / 'outside'
    old, ino, folder = outside.read_bytes(), outside.stat().st_ino, os.stat(work)
    shutil.copy(outside, tmp_path / 'copy')
    subprocess.run(['sh', '-c', what.replace('file', str(tmp_path / 'copy'))], check=True)
    want = (tmp_path / 'copy').read_bytes()
    with open(work / 'file', 'rb') as reader:
        if in_place:
            committed(work, what)
        else:
            assert inside(work, what).returncode == 0
        assert reader.read() == (want if in_place else old)
    assert (work / 'file').read_bytes() == want != old
    assert outside.read_bytes() == (want if in_place else old)
    assert ((work / 'file').stat().st_ino == ino) == in_place
    now = os.stat(work)
    assert now.st_mtime_ns == folder.st_mtime_ns
    assert sorted(os.listdir(work)) == ['file', 'other']


def test_attributes_follow(work):
    """Mode, times, extended attributes, and a directory's mode and times."""
    (work / 'dir').mkdir()
    (work / 'dir' / 'in').write_text('old')
    committed(work, 'echo new >dir/in; chmod 600 dir/in; touch -d 2001-01-01 dir/in; chmod 700 dir; '
                    'touch -d 2002-02-02 dir; echo y >other; chmod 444 other')
    assert (work / 'dir/in').read_text() == 'new\n' and (work / 'other').read_text() == 'y\n'
    modes = {n: os.stat(work / n).st_mode & 0o777 for n in ('dir', 'dir/in', 'other')}
    assert modes == {'dir': 0o700, 'dir/in': 0o600, 'other': 0o444}
    assert time.gmtime(os.stat(work / 'dir/in').st_mtime)[0] in (2000, 2001)
    assert time.gmtime(os.stat(work / 'dir').st_mtime)[0] == 2002


def test_closed_to_the_owner(work):
    """A file that may not be written, before or after: a user's own."""
    (work / 'other').chmod(0o444)
    ino = (work / 'other').stat().st_ino
    committed(work, 'chmod 644 other; echo x >other; chmod 0 other; chmod 0 file; chmod 600 file; echo y >file; chmod 0 file')
    for name, text in (('other', 'x\n'), ('file', 'y\n')):
        assert (work / name).stat().st_mode & 0o777 == 0
        (work / name).chmod(0o600)
        assert (work / name).read_text() == text
    assert (work / 'other').stat().st_ino == ino


def test_moved_and_linked(work, tmp_path):
    """It may have other names by then, in new places, and its old one may be another file."""
    ino = (work / 'file').stat().st_ino
    committed(work, 'echo new >file; mkdir d; mv file d/moved; ln d/moved again; echo else >file; mv other d/')
    assert (tmp_path / 'outside').read_text() == (work / 'd/moved').read_text() == 'new\n'
    assert {(work / n).stat().st_ino for n in ('d/moved', 'again')} == {ino}
    assert (work / 'file').read_text() == 'else\n' and (work / 'file').stat().st_ino != ino
    assert (tmp_path / 'outside').stat().st_nlink == 3
    assert (work / 'd/other').read_text() == 'other\n' and not (work / 'other').exists()


def test_holes(work, tmp_path):
    """Stay holes, also where there were bytes."""
    with open(work / 'file', 'wb') as f:
        f.write(b'a' * 4 * MB)
    committed(work, 'fallocate -p -o 1M -l 2M file; printf end | dd of=file bs=1M seek=9 conv=notrunc status=none')
    data = (work / 'file').read_bytes()
    assert data == b'a' * MB + bytes(2 * MB) + b'a' * MB + bytes(5 * MB) + b'end'
    assert (tmp_path / 'outside').read_bytes() == data
    assert (work / 'file').stat().st_blocks * 512 < 4 * MB


def test_elsewhere(work, tmp_path):
    """From a storage on another file system."""
    with storage_at('elsewhere', 'ip') as storage:
        committed(work, 'echo new >file; mv file moved; echo x >other', *storage)
    assert (tmp_path / 'outside').read_text() == (work / 'moved').read_text() == 'new\n'
    assert (work / 'other').read_text() == 'x\n' and sorted(os.listdir(work)) == ['moved', 'other']


def executed(path, background):
    """It is, from now on."""
    process = background(path, '1000')
    assert wait_until(lambda: os.readlink(f'/proc/{process.pid}/exe') == str(path))
    return process


def test_what_is_executed_is_replaced(work, background):
    """And said so: the kernel does not let anybody write into it."""
    program = shutil.which('sleep')
    shutil.copy(program, work / 'program')
    process = executed(work / 'program', background)
    with pytest.raises(OSError, match='busy'):
        open(work / 'program', 'r+b')
    done = inside(work, 'cp program new; echo x >>new; cat new >program; rm new', '--commit-in-place')
    assert done.returncode == 0
    assert 'program: not written in place but replaced' in done.stderr
    assert (work / 'program').read_bytes() == pathlib.Path(program).read_bytes() + b'x\n'
    assert process.poll() is None


def test_other_names_follow_what_is_replaced(work, background):
    """One file by all its names in the work directory, as without a sandbox, and nothing of its directory's times."""
    shutil.copy(shutil.which('sleep'), work / 'program')
    (work / 'd').mkdir()
    for name in ('d/second', 'third'):
        os.link(work / 'program', work / name)
    folder = os.stat(work / 'd')
    process = executed(work / 'program', background)
    done = inside(work, 'cp program new; echo x >>new; cat new >program; mv third moved; rm new', '--commit-in-place')
    assert done.returncode == 0 and done.stderr.count('replaced') == 1
    for name in ('program', 'd/second', 'moved'):
        assert (work / name).read_bytes().endswith(b'x\n') and (work / name).stat().st_nlink == 3
    assert os.stat(work / 'd').st_mtime_ns == folder.st_mtime_ns
    assert process.poll() is None


def test_in_a_closed_directory(work, tmp_path):
    """What was moved into a directory that the command closed to its owner."""
    committed(work, 'echo new >file; mkdir d; mv file d/; chmod 0 d')
    assert (work / 'd').stat().st_mode & 0o777 == 0
    (work / 'd').chmod(0o700)
    assert (tmp_path / 'outside').read_text() == (work / 'd/file').read_text() == 'new\n'


def test_kept_and_committed_later(work, tmp_path):
    """`recover --commit` knows that it was asked for; a conflict is one still."""
    before = tree_state(work)
    done = inside(work, 'echo new >file', '--commit-in-place', '--on-exit', 'keep')
    assert done.returncode == 0 and tree_state(work) == before
    ident = sandlock('recover', work).stdout.split()[0]
    (tmp_path / 'outside').write_text('changed by others\n')
    refused = sandlock('recover', '--commit', ident, work)
    assert refused.returncode != 0 and (work / 'file').read_text() == 'changed by others\n'
    assert sandlock('recover', '--abort', ident, work).returncode == 0
    inside(work, 'echo new >file', '--commit-in-place', '--on-exit', 'keep')
    ident = sandlock('recover', work).stdout.split()[0]
    assert sandlock('recover', '--commit', ident, work).returncode == 0
    assert (tmp_path / 'outside').read_text() == 'new\n'


def test_refused():
    for args, word in ((['--commit-in-place'], 'needs --workdir'),
                       (['--workdir', '/tmp', '--commit-in-place', '--commit-backup'], '--commit-backup')):
        done = subprocess.run([SANDLOCK, 'run', *args, '--', 'true'], capture_output=True, text=True, check=False)
        assert done.returncode in (2, 125) and word in done.stderr and done.stderr.count('\n') == 1, done


@pytest.mark.parametrize('change,more', [('echo new >file; mv file moved', ['--commit-in-place']),
                                         ('mv file moved; chmod 600 moved', []), ('mv file moved', [])])
def test_replaced_by_others_in_the_middle(work, change, more):
    """A commit that was killed is finished whatever others have put in the place of what it was to move."""
    def attempt(when):
        (work / 'moved').unlink(missing_ok=True)
        (work / 'file').write_text('old')
        _, count, _ = faulty(work, MAKING, when, -int(signal.SIGKILL), 'run', *GRANTS, *more, '--workdir', work,
                             '--cwd', work, '--', 'sh', '-c', change)
        ended(work)
        return count, 'interrupted' in sandlock('recover', work).stdout

    count, _ = attempt(0)
    found = 0
    for when in range(count - 14, count - 34, -1):
        if not attempt(when)[1] or (work / 'moved').exists() or not (work / 'file').exists():
            settle(work)
            continue
        (work / 'theirs').write_text('by others')
        (work / 'theirs').rename(work / 'file')
        ident = sandlock('recover', work).stdout.split()[0]
        done = sandlock('recover', '--commit', ident, work)
        assert done.returncode == 0 and not sandlock('recover', work).stdout, done
        assert (work / 'file').read_text() == 'by others'
        if (work / 'moved').exists():
            assert (work / 'moved').read_text() == ('new\n' if 'new' in change else 'old')
        else:
            assert 'new' not in change and 'moved: what was to be moved there' in done.stdout + done.stderr
        found += 1
    assert found
