# SPDX-License-Identifier: Apache-2.0
"""Where the file system shares blocks between files (reflinks), the layer and the commit do: on an XFS image
in a mount namespace of the test's own."""
import os
import shlex
import shutil
import subprocess

import pytest

from common import GRANTS, LIMIT, SANDLOCK

MIB = 1 << 20
SIZE = 96 * MIB  # of the file; the image must be large enough for three copies
IMAGE = 512 * MIB

def can_mount():
    if os.geteuid() != 0:
        return 'mounting needs root'
    if not shutil.which('mkfs.xfs'):
        return 'no mkfs.xfs'
    with open('/proc/filesystems', encoding='ascii') as f:
        if '\txfs\n' not in f.read():
            return 'this kernel has no XFS'
    probe = ['unshare', '-m', 'sh', '-c', 'losetup -f']
    return '' if subprocess.run(probe, check=False, capture_output=True).returncode == 0 else 'no loop devices'


REASON = can_mount()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp('reflink') / 'image'
    with open(path, 'wb') as f:
        f.truncate(IMAGE)
    subprocess.run(['mkfs.xfs', '-q', '-m', 'reflink=1', path], check=True)
    yield path
    path.unlink()


def on_image(image, text, uid=0):
    """Runs a script where the image is mounted and has `work/large`; the numbers that it printed."""
    box = shlex.join([SANDLOCK, 'run', *GRANTS, '-w', '/dev/null', '--workdir', '/mnt/work', '--fs-storage',
                      '/mnt/store'])
    prefix = f'setpriv --reuid {uid} --regid {uid} --clear-groups ' if uid else ''
    script = f'''set -e
mount -o loop {shlex.quote(str(image))} /mnt
cd /mnt
rm -rf ./*
mkdir -m 755 work; mkdir -m 700 store
head -c {SIZE} /dev/urandom >work/large
chown -R {uid}:{uid} work store
used() {{ sync -f .; echo $(($(stat -f -c '(%b-%f)*%S' .))); }}
box() {{ {prefix}{box} "$@"; }}
{text}
'''
    done = subprocess.run(['unshare', '-m', '--propagation', 'private', 'sh', '-c', script], check=False, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT * 2)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize('uid', [0, 65534])
def test_first_write_and_commit_share(image, uid):
    """A byte changed in a large file costs neither the layer nor the commit its size; a copy does."""
    change = 'printf x | dd bs=1 seek=500000 conv=notrunc status=none of='
    before, kept, committed, copied = on_image(image, f'''
cp work/large expected; {change}expected
used
box --on-exit keep -- sh -c '{change}/mnt/work/large'; used
box -- sh -c '{change}/mnt/work/large'; cmp work/large expected; used
cp --reflink=never work/large copy; used
''', uid)
    assert kept - before < SIZE / 8
    assert committed - kept < SIZE / 8
    assert copied - committed > SIZE / 2  # the control: the measure sees a copy


def test_command_shares_in_the_layer(image):
    """FICLONE by the command: into a new file of the layer, from lower's."""
    before, after = on_image(image, '''
used
box -- cp --reflink=always /mnt/work/large /mnt/work/twin
cmp work/large work/twin; used
''')
    assert after - before < SIZE / 8
