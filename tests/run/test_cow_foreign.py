# SPDX-License-Identifier: Apache-2.0
"""An ordinary user's commit where files and directories are somebody else's, who lets him write."""
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from common import LIMIT, run, sandlock

USER = 65534
ORDINARY = {'user': USER, 'group': USER, 'extra_groups': [], 'env': {'PATH': '/usr/bin:/bin', 'HOME': '/'}}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='needs files of two owners')


@pytest.fixture
def work():
    top = Path(tempfile.mkdtemp(prefix='sandlock-cf.', dir='/tmp'))
    for folder, mode in ((top, 0o755), (top / 'state', 0o700), (top / 'work', 0o777)):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    os.chown(top / 'state', USER, USER)
    for name, mode in (('shared', 0o666), ('theirs', 0o644)):
        (top / 'work' / name).write_text('old\n')
        (top / 'work' / name).chmod(mode)
    yield top / 'work'
    shutil.rmtree(top)


def inside(work, text, *args):
    storage = ['--fs-storage', work.parent / 'state']
    done = run('-w', '/dev/null', '--workdir', work, '--cwd', work, *storage, *args, '--', 'sh', '-c', text,
               timeout=LIMIT, **ORDINARY)
    assert done.returncode == 0, done.stderr
    assert not sandlock('recover', *storage, work, **ORDINARY).stdout
    return done


@pytest.mark.parametrize('args', [[], ['--commit-in-place'], ['--commit-backup']])
def test_directory(work, args):
    """New names in it: its mode is as it was, and its times are those of the commit."""
    inside(work, 'echo new >made; mkdir d; mv shared d/', *args)
    assert sorted(os.listdir(work)) == ['d', 'made', 'theirs']
    assert (work.stat().st_mode & 0o7777, work.stat().st_uid) == (0o777, 0)


@pytest.mark.parametrize('args', [[], ['--commit-backup']])
@pytest.mark.parametrize('what', ['mv theirs moved', 'mv theirs shared', 'mkdir d; mv theirs d/x; echo new >theirs'])
def test_moved(work, what, args):
    """What may not be linked (fs.protected_hardlinks) may be moved, and stays the same file."""
    ino = (work / 'theirs').stat().st_ino
    inside(work, what, *args)
    to = next(p for p in (work / 'moved', work / 'd/x', work / 'shared') if p.exists())
    assert (to.read_text(), to.stat().st_uid, to.stat().st_ino) == ('old\n', 0, ino)
    assert (work / 'theirs').exists() == (to.name == 'x')


def test_in_place(work):
    """It stays the owner's; nothing is said."""
    before = (work / 'shared').stat()
    done = inside(work, 'echo new >shared; mv shared moved', '--commit-in-place')
    now = (work / 'moved').stat()
    assert done.stderr == '' and (work / 'moved').read_text() == 'new\n'
    assert (now.st_uid, now.st_ino, now.st_mode) == (0, before.st_ino, before.st_mode)


@pytest.mark.parametrize('args', [[], ['--commit-in-place']])
def test_directory_of_theirs(work, args):
    """That the user may not write to: an empty one can be removed and replaced, and is not moved."""
    (work / 'closed').mkdir(mode=0o755)
    (work / 'stays').mkdir(mode=0o755)
    inside(work, 'rmdir closed; mkdir closed; echo x >closed/new; mkdir d; ! mv stays d/ && ! mv stays other', *args)
    assert (work / 'closed').stat().st_uid == USER and (work / 'closed/new').read_text() == 'x\n'
    assert (work / 'stays').stat().st_uid == 0 and not os.listdir(work / 'd')
