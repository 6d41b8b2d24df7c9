# SPDX-License-Identifier: Apache-2.0
"""sandlock-image: OCI layouts made here, good and hostile, unpacked into a cache of their own."""
import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile
import threading

import pytest

from common import BUILD, run, sandlock, tree_state

PROGRAM = BUILD / 'sandlock-image'
ARCH = {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(os.uname().machine, os.uname().machine)
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason='built without libarchive')


def entry(name, kind=tarfile.REGTYPE, data=b'', mode=0o644, link=''):
    """One member of a layer."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, len(data)
    info.mtime = 1000000000
    return info, data


def tar(*entries, compress=True):
    """A layer's bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w', format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue()) if compress else out.getvalue()


class Layout:
    """An OCI image layout in a directory."""

    def __init__(self, top):
        self.top = top
        (top / 'blobs' / 'sha256').mkdir(parents=True)
        (top / 'oci-layout').write_text('{"imageLayoutVersion": "1.0.0"}')
        self.manifests = []

    def blob(self, data, kind='application/octet-stream'):
        digest = hashlib.sha256(data).hexdigest()
        (self.top / 'blobs' / 'sha256' / digest).write_bytes(data)
        return {'mediaType': kind, 'digest': 'sha256:' + digest, 'size': len(data)}

    def add(self, *layers, tag=None, arch=ARCH, platform=True, **settings):
        """An image of these layers; returns its descriptor."""
        config = json.dumps({'architecture': arch, 'os': 'linux', 'config': settings}).encode()
        manifest = {'schemaVersion': 2, 'config': self.blob(config),
                    'layers': [self.blob(layer) for layer in layers]}
        made = self.blob(json.dumps(manifest).encode(), 'application/vnd.oci.image.manifest.v1+json')
        if platform:
            made['platform'] = {'architecture': arch, 'os': 'linux'}
        if tag:
            made['annotations'] = {'org.opencontainers.image.ref.name': tag}
        self.manifests.append(made)
        self.write()
        return made

    def write(self):
        (self.top / 'index.json').write_text(json.dumps(
            {'schemaVersion': 2, 'manifests': self.manifests}))


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / 'layout')


def unpack(tmp_path, reference, ok=True):
    """The records as a dictionary of lists, or the error line."""
    done = subprocess.run([PROGRAM, '--cache', tmp_path / 'cache', reference], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600, check=False)
    err = done.stderr.decode(errors='replace')
    if not ok:
        assert done.returncode in (1, 2) and not done.stdout, err
        assert err.count('\n') == 1, err
        assert not [n for n in os.listdir(tmp_path / 'cache') if n.startswith('tmp.')]
        return err
    assert done.returncode == 0, err
    words = done.stdout.split(b'\0')[:-1]
    records = {}
    for key, value in zip(words[::2], words[1::2]):
        records.setdefault(key.decode(), []).append(value.decode())
    return records


def tree(root):
    """Name -> content, link target or kind."""
    found = {}
    for top, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(top, name)
            key = os.path.relpath(path, root)
            if os.path.islink(path):
                found[key] = '-> ' + os.readlink(path)
            elif os.path.isdir(path):
                found[key] = '/'
            elif stat.S_ISREG(os.lstat(path).st_mode):
                found[key] = open(path, encoding='latin1').read()
            else:
                found[key] = 'special'
    return found


def test_layers_in_order(layout, tmp_path):
    layout.add(
        tar(entry('etc/', tarfile.DIRTYPE, mode=0o755), entry('etc/a', data=b'1'),
            entry('etc/b', data=b'2'), entry('etc/sub/deep', data=b'3'), entry('d/x', data=b'x'),
            entry('d/y', data=b'y'), entry('kind', data=b'file')),
        tar(entry('etc/.wh.a'), entry('etc/b', data=b'new'), entry('d/.wh..wh..opq'),
            entry('d/z', data=b'z'), entry('kind/', tarfile.DIRTYPE, mode=0o750),
            entry('etc/.wh.sub'), compress=False),
        Entrypoint=['/bin/sh', '-c'], Cmd=['echo hi'], Env=['A=1', 'B=2 3'], WorkingDir='/d',
        User='7:8')
    got = unpack(tmp_path, f'oci:{layout.top}')
    assert tree(got['root'][0]) == {'etc': '/', 'etc/b': 'new', 'd': '/', 'd/z': 'z', 'kind': '/'}
    assert got['entrypoint'] == ['/bin/sh', '-c'] and got['cmd'] == ['echo hi']
    assert got['env'] == ['A=1', 'B=2 3'] and got['workdir'] == ['/d'] and got['user'] == ['7:8']
    assert os.stat(got['root'][0] + '/etc/b').st_mtime == 1000000000


def test_opaque_marker_after_its_siblings(layout, tmp_path):
    """The marker hides lower layers only, wherever it stands in its own."""
    layout.add(tar(entry('d/old', data=b'o'), entry('d/s/old', data=b'o')),
               tar(entry('d/new', data=b'n'), entry('d/s/', tarfile.DIRTYPE, mode=0o755),
                   entry('d/.wh..wh..opq')))
    assert tree(unpack(tmp_path, f'oci:{layout.top}')['root'][0]) == {
        'd': '/', 'd/new': 'n', 'd/s': '/'}


def test_kinds(layout, tmp_path):
    layout.add(tar(entry('f', data=b'F', mode=0o4755), entry('h', tarfile.LNKTYPE, link='f'),
                   entry('s', tarfile.SYMTYPE, link='/f'), entry('p', tarfile.FIFOTYPE),
                   entry('null', tarfile.CHRTYPE), entry('closed', data=b'c', mode=0),
                   entry('n\u00e4me', data=b'utf8')))
    root = unpack(tmp_path, f'oci:{layout.top}')['root'][0]
    assert tree(root) == {'f': 'F', 'h': 'F', 's': '-> /f', 'p': 'special', 'closed': 'c',
                          'n\u00e4me': 'utf8'}
    assert os.stat(root + '/f').st_ino == os.stat(root + '/h').st_ino
    assert os.stat(root + '/f').st_mode & 0o7777 == 0o755


def test_links_of_lower_layers_are_meant_inside(layout, tmp_path):
    """Debian's /lib -> usr/lib, and absolute ones: resolved beneath the root."""
    layout.add(tar(entry('usr/lib/', tarfile.DIRTYPE, mode=0o755),
                   entry('lib', tarfile.SYMTYPE, link='usr/lib'),
                   entry('abs', tarfile.SYMTYPE, link='/usr/lib')),
               tar(entry('lib/one', data=b'1'), entry('abs/two', data=b'2')))
    got = tree(unpack(tmp_path, f'oci:{layout.top}')['root'][0])
    assert got['usr/lib/one'] == '1' and got['usr/lib/two'] == '2' and got['lib'] == '-> usr/lib'


ESCAPES = {
    'dotdot': [entry('a/../../escaped', data=b'x')],
    'dotdot-link': [entry('up', tarfile.SYMTYPE, link='../../../..'),
                    entry('up/{top}/escaped', data=b'x')],
    'absolute-link': [entry('l', tarfile.SYMTYPE, link='{top}'), entry('l/escaped', data=b'x')],
    'absolute': [entry('{top}/escaped', data=b'x')],
    'hard-link': [entry('h', tarfile.LNKTYPE, link='../../secret'), entry('h', data=b'x')],
    'hard-link-through-link': [entry('l', tarfile.SYMTYPE, link='{top}'),
                               entry('h', tarfile.LNKTYPE, link='l/secret')],
    'whiteout': [entry('l', tarfile.SYMTYPE, link='{top}'), entry('l/.wh.secret')],
    'whiteout-dots': [entry('d/.wh...')],
    'opaque': [entry('l', tarfile.SYMTYPE, link='{top}'), entry('l/.wh..wh..opq')],
    'file-over-link': [entry('l', tarfile.SYMTYPE, link='{top}/secret'), entry('l', data=b'x')],
}


@pytest.mark.parametrize('name', ESCAPES)
def test_escapes(layout, tmp_path, name):
    """Refused, or it happens inside. Control: a plain extraction of the same archive writes there."""
    outside = tmp_path / 'outside'
    outside.mkdir()
    (outside / 'secret').write_text('SECRET')
    entries = []
    for info, data in ESCAPES[name]:
        copy = tarfile.TarInfo(info.name.replace('{top}', str(outside)))
        copy.type, copy.mode, copy.size = info.type, info.mode, len(data)
        copy.linkname = info.linkname.replace('{top}', str(outside))
        entries.append((copy, data))
    layout.add(tar(*entries))
    done = subprocess.run([PROGRAM, '--cache', tmp_path / 'cache', f'oci:{layout.top}'],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert tree(outside) == {'secret': 'SECRET'}
    assert sorted(os.listdir(tmp_path)) == ['cache', 'layout', 'outside']
    if done.returncode == 0:
        root = done.stdout.split(b'\0')[1].decode()
        for top, _, files in os.walk(root):
            for file in files:
                path = os.path.join(top, file)
                assert os.path.islink(path) or 'SECRET' not in open(path, encoding='latin1').read()


def test_escape_control(tmp_path):
    """What 'absolute-link' does with a tool that trusts the archive."""
    outside = tmp_path / 'outside'
    outside.mkdir()
    (tmp_path / 'root').mkdir()
    layer = tar(entry('l', tarfile.SYMTYPE, link=str(outside)), entry('l/escaped', data=b'x'))
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        for member in archive:
            archive.extract(member, tmp_path / 'root')
    assert (outside / 'escaped').exists()


def damage_layer(layout, made):
    path = layout.top / 'blobs' / 'sha256' / made['digest'][7:]
    manifest = json.loads(path.read_text())
    blob = layout.top / 'blobs' / 'sha256' / manifest['layers'][0]['digest'][7:]
    blob.write_bytes(tar(entry('other', data=b'x')))


def damage_config(layout, made):
    manifest = json.loads((layout.top / 'blobs/sha256' / made['digest'][7:]).read_text())
    (layout.top / 'blobs/sha256' / manifest['config']['digest'][7:]).write_text('{}')


def damage_manifest(layout, made):
    (layout.top / 'blobs/sha256' / made['digest'][7:]).write_text('{}')


def damage_digest(layout, made):
    made['digest'] = 'sha256:../../../../etc/passwd'
    layout.write()


def damage_json(layout, _made):
    (layout.top / 'index.json').write_text('{"manifests": [')


def damage_truncate(layout, made):
    manifest = json.loads((layout.top / 'blobs/sha256' / made['digest'][7:]).read_text())
    blob = layout.top / 'blobs/sha256' / manifest['layers'][0]['digest'][7:]
    blob.write_bytes(blob.read_bytes()[:-20])


@pytest.mark.parametrize('damage', [damage_layer, damage_config, damage_manifest, damage_digest,
                                    damage_json, damage_truncate])
def test_damage_is_noticed(layout, tmp_path, damage):
    made = layout.add(tar(entry('f', data=b'F' * 5000)))
    damage(layout, made)
    unpack(tmp_path, f'oci:{layout.top}', ok=False)
    # Control: the same image undamaged.
    fine = Layout(tmp_path / 'fine')
    fine.add(tar(entry('f', data=b'F' * 5000)))
    assert unpack(tmp_path, f'oci:{fine.top}')['root']


def test_words_of_an_archive_do_not_drive_the_terminal(layout, tmp_path):
    name = '../\x1b]0;title\x07'
    layout.add(tar(entry(name)))
    assert '\x1b' in name, 'control'
    said = unpack(tmp_path, f'oci:{layout.top}', ok=False)
    assert '../?]0;title?' in said and '\x1b' not in said, said


def test_tags_and_machines(layout, tmp_path):
    layout.add(tar(entry('v', data=b'1')), tag='one')
    layout.add(tar(entry('v', data=b'2')), tag='two')
    layout.add(tar(entry('v', data=b'3')), tag='two', arch='s390x')
    layout.add(tar(entry('v', data=b'4')), tag='other', arch='s390x')
    layout.add(tar(entry('v', data=b'5')), tag='lies', arch='s390x', platform=False)

    def value(tag):
        return tree(unpack(tmp_path, f'oci:{layout.top}:{tag}')['root'][0])['v']
    assert value('one') == '1' and value('two') == '2'
    assert 'no image has the tag "three"' in unpack(tmp_path, f'oci:{layout.top}:three', ok=False)
    assert 'no variant for this machine' in unpack(tmp_path, f'oci:{layout.top}:other', ok=False)
    assert 'the image is for s390x' in unpack(tmp_path, f'oci:{layout.top}:lies', ok=False)
    assert 'by its tag' in unpack(tmp_path, f'oci:{layout.top}', ok=False)


def test_nested_index(layout, tmp_path):
    made = layout.add(tar(entry('v', data=b'1')))
    inner = json.dumps({'schemaVersion': 2, 'manifests': [made]}).encode()
    layout.manifests = [layout.blob(inner, 'application/vnd.oci.image.index.v1+json')]
    layout.write()
    assert tree(unpack(tmp_path, f'oci:{layout.top}')['root'][0]) == {'v': '1'}


def test_archive(layout, tmp_path):
    layout.add(tar(entry('v', data=b'1')), tag='latest')
    with tarfile.open(tmp_path / 'image.tar', 'w') as archive:
        archive.add(layout.top, arcname='.')
    got = unpack(tmp_path, f'oci-archive:{tmp_path}/image.tar:latest')
    assert tree(got['root'][0]) == {'v': '1'}
    assert sorted(n for n in os.listdir(tmp_path / 'cache') if not n.endswith('.lock')) == got['digest']


def test_cache_is_shared(layout, tmp_path):
    """Ten at once and one later: unpacked once, the same directory for all."""
    layout.add(tar(*[entry(f'f{i}', data=b'x' * 100) for i in range(300)]))
    results = []
    threads = [threading.Thread(target=lambda: results.append(unpack(tmp_path, f'oci:{layout.top}')))
               for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inode = os.stat(results[0]['root'][0]).st_ino
    again = unpack(tmp_path, f'oci:{layout.top}')
    assert len({r['root'][0] for r in results + [again]}) == 1 and len(results) == 10
    assert os.stat(again['root'][0]).st_ino == inode and len(os.listdir(again['root'][0])) == 300


def test_bad_words(tmp_path):
    (tmp_path / 'cache').mkdir(mode=0o700)
    assert 'accepted: docker://REF' in unpack(tmp_path, 'debian', ok=False)
    assert 'No such file' in unpack(tmp_path, 'oci:/nonexistent', ok=False)
    (tmp_path / 'empty').mkdir()
    assert 'index.json' in unpack(tmp_path, f'oci:{tmp_path}/empty', ok=False)


def test_skopeo_is_named(tmp_path):
    """docker:// without skopeo: what is missing and how to get it."""
    (tmp_path / 'cache').mkdir(mode=0o700)
    done = subprocess.run([PROGRAM, '--cache', tmp_path / 'cache', 'docker://debian'],
                          env={**os.environ, 'PATH': str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=600, check=False)
    assert done.returncode == 1 and 'apt-get install skopeo' in done.stderr
    assert os.listdir(tmp_path / 'cache') == []


def test_skopeo_brings_a_layout(layout, tmp_path):
    """What it is asked for, and that its layout is used and thrown away. Stands in for skopeo: here
    is no registry."""
    layout.add(tar(entry('v', data=b'1')))
    (tmp_path / 'bin').mkdir()
    fake = tmp_path / 'bin' / 'skopeo'
    fake.write_text('#!/bin/sh\necho "$@" >"$0.said"\nfor last; do :; done\n'
                    f'cp -r {layout.top}/. "${{last#oci:}}"\n')
    fake.chmod(0o755)
    done = subprocess.run([PROGRAM, '--cache', tmp_path / 'cache', 'docker://example/image:1'],
                          env={**os.environ, 'PATH': f'{tmp_path}/bin:/usr/bin:/bin'}, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / 'bin' / 'skopeo.said').read_text().split()
    assert said[:4] == ['--override-os', 'linux', '--override-arch', ARCH]
    assert said[-2] == 'docker://example/image:1'
    assert tree(done.stdout.split('\0')[1]) == {'v': '1'}
    assert not [n for n in os.listdir(tmp_path / 'cache') if n.startswith('tmp.')]


def test_cache_of_somebody_else(layout, tmp_path):
    layout.add(tar(entry('v', data=b'1')))
    (tmp_path / 'cache').mkdir()
    os.chmod(tmp_path / 'cache', 0o777)
    assert 'writable by others' in unpack(tmp_path, f'oci:{layout.top}', ok=False)


# ---- run --image ----

def busybox(layout, *more, **settings):
    """An image with a static shell."""
    data = open('/bin/busybox', 'rb').read()
    layout.add(tar(entry('bin/busybox', data=data, mode=0o755),
                   *[entry(f'bin/{name}', tarfile.SYMTYPE, link='busybox')
                     for name in ('sh', 'ls', 'cat', 'id', 'env', 'pwd', 'head', 'touch')],
                   entry('tmp', tarfile.DIRTYPE, mode=0o1777), entry('srv/f', data=b'data\n'),
                   entry('etc/passwd', data=b'root:x:0:0::/:/bin/sh\napp:x:1234:99::/:/bin/sh\n'),
                   entry('etc/group', data=b'staff:x:55:\n'), *more), **settings)
    return f'oci:{layout.top}'


def inside(*args):
    """Nothing of the host granted."""
    return run(*args, grants=[])


needs_busybox = pytest.mark.skipif(not os.path.exists('/bin/busybox'), reason='no busybox-static')


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))


@needs_busybox
def test_run_with_defaults(layout):
    ref = busybox(layout, Entrypoint=['sh', '-c'], Cmd=['pwd; cat f; echo $GREETING; ls -1 /'],
                  Env=['PATH=/bin', 'GREETING=hi there'], WorkingDir='/srv')
    done = inside('--image', ref)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == ['/srv', 'data', 'hi there']
    assert {'bin', 'etc', 'srv', 'tmp'} <= set(done.stdout.splitlines()[3:])
    done = inside('--image', ref, '--env', 'GREETING=mine', '--cwd', '/', '--', 'sh', '-c', 'echo $GREETING; pwd')
    assert (done.returncode, done.stdout) == (0, 'mine\n/\n'), done.stderr


@needs_busybox
def test_run_leaves_the_shared_image_alone(layout, tmp_path):
    """Nothing inside can be changed; a mounted directory can. Two runs see the same tree."""
    ref = busybox(layout, Env=['PATH=/bin'])
    (tmp_path / 'out').mkdir()
    script = ('for f in /tmp/x /srv/f /new; do echo bad >$f || echo refused; done; busybox rm /srv/f || echo kept;'
              ' busybox chmod 777 /srv || echo kept; echo good >/out/x; head -c 4 /dev/zero | busybox wc -c')
    done = inside('--image', ref, '--fs-mount', f'/out:{tmp_path}/out', '--', 'sh', '-c', script)
    assert done.stdout.split() == ['refused'] * 3 + ['kept'] * 2 + ['4'], done.stderr
    assert (tmp_path / 'out' / 'x').read_text() == 'good\n'
    done = inside('--image', ref, '--', 'sh', '-c', 'cat /srv/f; ls /tmp')
    assert done.stdout == 'data\n', done.stderr
    # Control: the same files are the caller's own and writable outside.
    root = next((tmp_path / 'xdg' / 'sandlock' / 'images').glob('*/srv/f'))
    root.write_text('changed\n')
    assert inside('--image', ref, '--', 'cat', '/srv/f').stdout == 'changed\n'


@needs_busybox
def test_changes_of_an_image_end_with_the_run(layout, tmp_path):
    """--workdir / : everything can be changed, for this run; the cache is never written to, not even by recover."""
    ref = busybox(layout, Env=['PATH=/bin'])
    script = ('echo new >/srv/x; echo more >>/srv/f; busybox rm /etc/passwd; busybox mv /tmp /t2; cat /srv/f /srv/x;'
              ' busybox cp /bin/busybox /srv/echo; /srv/echo ran; ls /; echo hi >/dev/null')
    inside('--image', ref, '--', 'sh', '-c', ':')
    cached = tmp_path / 'xdg' / 'sandlock' / 'images'
    before = tree_state(cached)
    for more in ([], ['--dry-run'], ['--on-exit', 'keep']):
        done = inside('--image', ref, '--workdir', '/', '--fs-storage', tmp_path / 'store', *more, '--', 'sh', '-c', script)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[:4] == ['data', 'more', 'new', 'ran'] and 't2' in done.stdout.split()
        assert tree_state(cached) == before
    done = sandlock('recover', '--fs-storage', tmp_path / 'store')
    (ident, what), = [line.split()[:2] for line in done.stdout.splitlines()]
    done = sandlock('recover', '--fs-storage', tmp_path / 'store', '--commit', ident)
    assert what == 'kept' and done.returncode == 125 and 'image' in done.stderr
    assert tree_state(cached) == before
    for flag in ('--on-exit', '--on-error'):
        done = inside('--image', ref, '--workdir', '/', flag, 'commit', '--', 'sh', '-c', script)
        assert done.returncode == 125 and flag in done.stderr and len(done.stderr.splitlines()) == 1
    (tmp_path / 'out').mkdir()
    done = inside('--image', ref, '--fs-mount', f'/out:{tmp_path}/out', '--workdir', '/out', '--', 'sh', '-c',
                  'echo x > /out/x')
    assert done.returncode == 0 and (tmp_path / 'out' / 'x').exists(), done.stderr


@needs_busybox
def test_run_does_not_see_the_host(layout, tmp_path):
    """Control: the file is readable outside."""
    (tmp_path / 'secret').write_text('SECRET')
    ref = busybox(layout, entry('to', tarfile.SYMTYPE, link=str(tmp_path / 'secret')),
                  entry('up', tarfile.SYMTYPE, link='../../../../../../..'), Env=['PATH=/bin'])
    done = inside('--image', ref, '--', 'sh', '-c',
               f'cat /to; cat {tmp_path}/secret; cat /up{tmp_path}/secret; ls {tmp_path}; echo done')
    assert done.stdout == 'done\n' and 'SECRET' not in done.stderr
    assert (tmp_path / 'secret').read_text() == 'SECRET'


@needs_busybox
@pytest.mark.parametrize('user, ids', [('app', '1234:99'), ('1234', '1234:99'), ('77', '77:0'),
                                       ('app:staff', '1234:55'), ('5:6', '5:6')])
def test_user_of_the_image(layout, tmp_path, user, ids):
    busybox(layout, User=user)
    assert unpack(tmp_path, f'oci:{layout.top}')['user'] == [ids]


def test_unknown_user(layout, tmp_path):
    layout.add(tar(entry('f', data=b'')), User='nobody-here')
    assert 'which it does not have' in unpack(tmp_path, f'oci:{layout.top}', ok=False)


def test_run_errors(layout):
    """One line, nothing started, the codes of other errors."""
    layout.add(tar(entry('f', data=b'')))
    ref = f'oci:{layout.top}'
    for options, code, words in ((['--image', 'nothing', '--', 'x'], 2, 'is not an image'),
                                 (['--image', 'oci:/nonexistent', '--', 'x'], 125, 'No such file'),
                                 (['--image', ref], 2, 'names no command'),
                                 (['--image', ref, '-w', '/tmp', '--', 'x'], 125, '--fs-mount'),
                                 (['--image', ref, '--chroot', '/', '--', 'x'], 125, '--chroot'),
                                 (['--image', ref, '--', 'x'], 127, '')):
        done = inside(*options)
        assert done.returncode == code and words in done.stderr, done.stderr
        assert done.stderr.count('\n') == 1, done.stderr
