# SPDX-License-Identifier: Apache-2.0
"""--image: what its settings become, what killed runs leave in the cache, and a real registry."""
import fcntl
import os
import re
import shutil
import subprocess

import pytest

from common import LIMIT, ROOTS, wait_until
from test_image import PROGRAM, busybox, cache, entry, inside, layout, needs_busybox, tar, unpack  # noqa: F401

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason='built without libarchive')
PASSWD = (b'root:x:0:0::/root:/bin/sh\napp:x:1234:99::/srv:/bin/sh\nbad:x:5:5::relative:/bin/sh\nshort:x:6\n'
          b'same:x:1234:1::/second:\nlong:x:8:8::/' + b'x' * 5000 + b':/bin/sh\nlast:x:9:9::/end')


@pytest.mark.parametrize('user, home', [(None, '/root'), ('', '/root'), ('0', '/root'), ('app', '/srv'), ('1234:7', '/srv'),
                                        ('77', '/'), ('5', '/'), ('8', '/'), ('9', '/end'), ('6', '/')])
def test_home_of_the_user(layout, tmp_path, user, home):  # noqa: F811
    """As in the image's own list of users; where it says nothing, or nothing usable, the root."""
    layout.add(tar(entry('etc/passwd', data=PASSWD)), **({} if user is None else {'User': user}))
    assert unpack(tmp_path, f'oci:{layout.top}')['home'] == [home]


def test_home_without_a_list(layout, tmp_path):  # noqa: F811
    layout.add(tar(entry('f', data=b'')))
    assert unpack(tmp_path, f'oci:{layout.top}')['home'] == ['/']


STANDARD = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'


@needs_busybox
@pytest.mark.parametrize('env, options, want', [
    (None, [], ['/', STANDARD, 'host']),
    (['HOME=/own', 'PATH=/bin', 'WORD=image'], [], ['/own', '/bin', 'image']),
    (['PATH=/bin'], ['--env', 'HOME=/mine', '--env', 'PATH=/bin:/x'], ['/mine', '/bin:/x', 'host']),
    (['PATH=/bin'], ['--clean-env'], ['/', '/bin', '']),
])
def test_environment(layout, monkeypatch, env, options, want):  # noqa: F811
    """HOME and PATH are the image's, and not the host's, unless somebody names them."""
    monkeypatch.setenv('WORD', 'host')
    monkeypatch.setenv('HOME', '/host')
    ref = busybox(layout, **({} if env is None else {'Env': env}))
    done = inside('--image', ref, *options, '--', 'sh', '-c', 'echo "$HOME"; echo "$PATH"; echo "$WORD"')
    assert done.stdout.split('\n')[:3] == want, done.stderr


def test_what_a_killed_run_left(layout, tmp_path):  # noqa: F811
    """Removed by the next run, unless somebody works on it or it is quite new."""
    place = tmp_path / 'cache'
    place.mkdir(mode=0o700)
    for name in ('tmp.1.old', 'tmp.2.used', 'tmp.3.new', 'other'):
        (place / name / 'deep').mkdir(parents=True)
        (place / name / 'deep' / 'file').write_text('x')
        (place / name / 'deep').chmod(0o500)
        if name != 'tmp.3.new':
            os.utime(place / name, (1000, 1000))
    (place / 'tmp.4.link').symlink_to(tmp_path)
    layout.add(tar(entry('f', data=b'')))
    used = os.open(place / 'tmp.2.used', os.O_RDONLY)
    fcntl.flock(used, fcntl.LOCK_EX)
    unpack(tmp_path, f'oci:{layout.top}')
    assert sorted(n for n in os.listdir(place) if 'tmp.' in n or n == 'other') == [
        'other', 'tmp.2.used', 'tmp.3.new', 'tmp.4.link']
    os.close(used)
    unpack(tmp_path, f'oci:{layout.top}')
    assert sorted(n for n in os.listdir(place) if 'tmp.' in n) == ['tmp.3.new', 'tmp.4.link']


@pytest.fixture
def registry(tmp_path, background, monkeypatch):
    """HOST:PORT of a registry of our own, which skopeo is told to speak plain HTTP with."""
    program = shutil.which('docker-registry') or ROOTS / 'tools' / 'usr' / 'bin' / 'docker-registry'
    if not shutil.which('skopeo') or not os.path.exists(program):
        pytest.skip('no skopeo or no docker-registry on this machine (too large for the virtual one)')
    (tmp_path / 'config.yml').write_text(
        f'version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/store}}}}\n'
        'http: {addr: "127.0.0.1:0"}\n')
    log = tmp_path / 'registry.log'
    with open(log, 'wb') as stream:
        background(program, 'serve', tmp_path / 'config.yml', stdout=stream, stderr=stream)
    found = wait_until(lambda: re.search(r'listening on (127\.0\.0\.1:[0-9]+)', log.read_text()))
    assert found, log.read_text()
    home = tmp_path / 'home'
    (home / '.config' / 'containers').mkdir(parents=True)
    (home / '.config' / 'containers' / 'policy.json').write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    (home / '.config' / 'containers' / 'registries.conf').write_text(f'[[registry]]\nlocation = "{found[1]}"\ninsecure = true\n')
    monkeypatch.setenv('HOME', str(home))
    monkeypatch.delenv('XDG_CONFIG_HOME', raising=False)
    return found[1]


@needs_busybox
def test_registry(layout, tmp_path, registry):  # noqa: F811
    """An image that was pushed runs; a tag that was not is an error that says so, and leaves nothing."""
    ref = busybox(layout, Env=['PATH=/bin', 'WORD=pushed'], Cmd=['sh', '-c', 'echo $WORD; cat /srv/f'])
    pushed = subprocess.run(['skopeo', 'copy', '--quiet', ref, f'docker://{registry}/some/image:one'], check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
    assert pushed.returncode == 0, pushed.stdout
    done = inside('--image', f'docker://{registry}/some/image:one')
    assert (done.returncode, done.stdout) == (0, 'pushed\ndata\n'), done.stderr
    done = inside('--image', f'docker://{registry}/some/image:two')
    assert done.returncode == 125 and 'skopeo could not copy' in done.stderr and not done.stdout
    images = tmp_path / 'xdg' / 'sandlock' / 'images'
    assert len([n for n in os.listdir(images) if not n.endswith('.lock')]) == 1


@needs_busybox
def test_registry_over_plain_http_must_be_named(layout, registry, tmp_path):  # noqa: F811
    """Nothing is fetched without TLS unless the user's own configuration of skopeo says so."""
    (tmp_path / 'home' / '.config' / 'containers' / 'registries.conf').unlink()
    done = inside('--image', f'docker://{registry}/some/image:one')
    assert done.returncode == 125 and 'HTTP' in done.stderr.upper(), done.stderr
