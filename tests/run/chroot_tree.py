# SPDX-License-Identifier: Apache-2.0
"""Roots for the tests of --chroot: small trees with programs of the host and what these load."""
import os
import pathlib
import re
import shutil
import subprocess

from common import HELPERS, MACHINE, ROOTS

PROGRAMS = ['sh', 'bash', 'cat', 'ls', 'env', 'mkdir', 'mv', 'cp', 'rm', 'ln', 'readlink', 'pwd', 'stat',
            'touch', 'tar', 'find']


def libraries(program):
    """What the loader maps for a dynamic program, the loader included."""
    with open(program, 'rb') as stream:
        loader = re.search(rb'/lib[^\0]*/ld-[^\0]*\0', stream.read(4096))
    if not loader:
        return []
    name = loader.group()[:-1].decode()
    listed = subprocess.run([name, '--list', program], check=False, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL).stdout
    return [name, *re.findall(r'(/[^ ]+) \(0x', listed)]


def install(root, program, at=None):
    """Copies a program with its libraries to the same places below the root."""
    at = pathlib.Path(root) / (at or program).lstrip('/')
    at.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, at)
    for library in libraries(program):
        place = pathlib.Path(root) / library.lstrip('/')
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copy(library, place)


def make_root(root, programs=PROGRAMS, helpers=('rawcall',)):
    """A root with dynamic programs in /bin, static helpers in /, and a writable /tmp."""
    root = pathlib.Path(root)
    for folder in ('bin', 'etc', 'tmp', 'proc', 'dev'):
        (root / folder).mkdir(parents=True)
    for name in programs:
        found = shutil.which(name)
        if found:
            install(root, os.path.realpath(found), f'/bin/{name}')
    for name in helpers:
        shutil.copy(HELPERS / name, root / name)
    (root / 'etc' / 'motd').write_text('inside\n')
    return root


def can_chroot(root):
    """Words before a command that runs it natively in that root, or None where that is refused."""
    for prefix in ([], ['unshare', '-r']):
        words = [*prefix, '/usr/sbin/chroot', str(root)]
        try:
            done = subprocess.run([*words, '/rawcall'], check=False, input='', text=True,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            continue
        if done.returncode == 0:
            return words
    return None


def real_chroot(root, binds):
    """Words before a command that runs it in that root as the same user, natively: the oracle. binds: (what,
    where inside). As under sandlock it has no rights, but for the one that chroot needs."""
    space = ['-m'] if os.geteuid() == 0 else ['-c', '--keep-caps', '-m']
    only = '-all,+sys_chroot'
    mounts = ''.join(f'mount --rbind {what} {root}{where} && ' for what, where in binds)
    return ['unshare', *space, 'sh', '-c', f'{mounts}exec setpriv --inh-caps={only} --ambient-caps={only} '
            f'--bounding-set={only} /usr/sbin/chroot {root} "$@"', 'sh']


def debian_root():
    """A root of unpacked Debian packages. It is shared: what is written goes to mounts."""
    assert (ROOTS / 'complete').exists(), f'{ROOTS} is missing: ./dev test makes it (tests/vm/roots.py)'
    return ROOTS / 'debian'


def musl_root(root):
    """What a small distribution on musl looks like: busybox, musl's loader, and links to where a glibc
    can be mounted beside it, at /usr."""
    root = pathlib.Path(root)
    for folder in ('bin', 'etc', 'lib', 'tmp', 'dev', 'proc', 'usr', 'work'):
        (root / folder).mkdir(parents=True)
    shutil.copy(shutil.which('busybox'), root / 'bin' / 'busybox')
    names = subprocess.run([root / 'bin' / 'busybox', '--list'], check=True, text=True, stdout=subprocess.PIPE)
    for name in names.stdout.split():
        if name != 'busybox':
            (root / 'bin' / name).symlink_to('busybox')
    debian = debian_root()
    loader = f'ld-musl-{MACHINE}.so.1'
    shutil.copy(debian / 'usr' / 'lib' / loader, root / 'lib' / loader)
    if (debian / 'usr' / 'lib64').is_dir():
        (root / 'lib64').symlink_to('usr/lib64')
    for path in (debian / 'usr' / 'lib').glob('ld-linux*'):
        (root / 'lib' / path.name).symlink_to(f'/usr/lib/{path.name}')
    (root / 'lib' / f'{MACHINE}-linux-gnu').symlink_to(f'/usr/lib/{MACHINE}-linux-gnu')
    for name in ('passwd', 'group', 'nsswitch.conf'):
        shutil.copy(debian / 'etc' / name, root / 'etc' / name)
    return root
