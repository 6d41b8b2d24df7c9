# SPDX-License-Identifier: Apache-2.0
"""Roots for the tests of --chroot: small trees with programs of the host and what these load."""
import os
import pathlib
import re
import shutil
import subprocess

from common import HELPERS

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
        words = [*prefix, 'chroot', str(root)]
        try:
            done = subprocess.run([*words, '/rawcall'], check=False, input='', text=True,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            continue
        if done.returncode == 0:
            return words
    return None
