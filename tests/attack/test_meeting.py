# SPDX-License-Identifier: Apache-2.0
"""Where features meet: each test combines options that were safe alone."""
import os
import pathlib
import re
import resource
import shutil
import stat
import subprocess

import pytest

import common
from chroot_tree import make_root
from common import HELPERS, native, sandlock


def test_the_mark_of_an_exec_is_worth_nothing(tmp_path):
    """Filters of the command's own tell it the mark by which the filter knows the supervisor's execs; with
    it, it must not execute what --fs-deny closes."""
    root = tmp_path / 'root'
    root.mkdir()
    for name in ('exec_mark', 'probe_fds'):
        shutil.copy(HELPERS / name, root / name)
    denied = root / 'probe_fds'
    base = ['run', '--chroot', root, '-r', '/']
    usage = 2
    assert native(denied).returncode == usage, 'control: it runs'
    assert sandlock(*base, '--', '/probe_fds').returncode == usage, 'control: inside, when not denied'
    done = sandlock(*base, '--fs-deny', '/probe_fds', '--', '/exec_mark', '/exec_mark', denied)
    assert 'mark: learned' in done.stdout, 'control: the attack gets as far as that'
    assert 'exec: ENOSYS' in done.stdout and done.returncode == 4, done


def test_a_change_of_directory_gives_no_listing_of_proc(tmp_path):
    """The supervisor hands over a descriptor for chdir, and its receivers may read /proc: another thread
    of the command must not keep one that lists it."""
    root = tmp_path / 'root'
    (root / 'bin').mkdir(parents=True)
    (root / 'other').mkdir()
    shutil.copy(HELPERS / 'meeting', root / 'bin' / 'meeting')
    control = sandlock('run', '--chroot', root, '-r', '/bin', '--', '/bin/meeting', 'chdir', '/bin')
    assert control.stdout.startswith(('listed', 'nothing')), control  # a race, which it mostly wins
    for place in ('/proc', '/proc/1', '/other'):
        done = sandlock('run', '--chroot', root, '-r', '/bin', '--', '/bin/meeting', 'chdir', place)
        assert done.stdout == 'nothing\n', (place, done)


def deep_tree(base):
    (base / 'data' / 'cfg').mkdir(parents=True)
    file = base / 'data' / 'cfg' / 'file'
    file.write_text('as it was')
    return file


def test_read_only_mounts_hold_below_any_depth(tmp_path):
    """Whether a file lies on a read-only mount is found out by its place: one that is too deep to be told
    must count as read-only."""
    trees = [tmp_path / 'native', tmp_path / 'confined']
    for tree in trees:
        deep_tree(tree)
    assert native(HELPERS / 'meeting', 'deep', trees[0]).stdout == 'written\n'
    held = open(trees[1] / 'data' / 'cfg' / 'file', encoding='utf-8')
    done = sandlock('run', '-r', '/', '-w', trees[1], '--fs-mount', f'/cfg:{trees[1]}/data/cfg:ro', '--',
                    HELPERS / 'meeting', 'deep', trees[1])
    with held:
        assert done.stdout == 'EROFS\n' and held.read() == 'as it was', done


def shared_memory():
    with open('/proc/meminfo', encoding='ascii') as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('Shmem:'))


def test_a_copied_program_costs_no_more_than_its_file(tmp_path):
    """Programs of another root are executed as copies in memory: a file of holes must not become memory
    that -m does not see, and one that is larger than all copies may be is refused."""
    root = make_root(tmp_path / 'root', programs=['sh', 'sleep'], helpers=())
    mib = 1 << 20
    for name, size in (('holes', 500 * mib), ('huge', 600 * mib)):
        shutil.copy(root / 'bin' / 'sleep', root / 'bin' / name)
        os.truncate(root / 'bin' / name, size)
    assert native(root / 'bin' / 'holes', '0').returncode == 0, 'control: it is a program'
    before = shared_memory()
    base = [common.SANDLOCK, 'run', '-m', '64M', '--chroot', root, '-r', '/', '--']
    with subprocess.Popen([*base, 'sh', '-c', 'holes 0 && echo up && holes 600'],
                          stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b'up\n'
            # The whole machine's: others may use some meanwhile.
            assert shared_memory() - before < 250 * mib
        finally:
            process.kill()
    assert native(root / 'bin' / 'huge', '0').returncode == 0
    done = sandlock(*base[1:], 'huge', '0')
    assert done.returncode == 126, done


def test_copies_of_programs_that_run_are_bounded(tmp_path):
    """What runs stays in memory: who executes one large program after another must not get any amount of it.
    What nobody runs any more goes."""
    root = make_root(tmp_path / 'root', programs=['sh', 'sleep', 'readlink'], helpers=())
    for name in 'abcd':
        shutil.copy(root / 'bin' / 'sleep', root / 'bin' / name)
        os.truncate(root / 'bin' / name, 400 << 20)
        assert native(root / 'bin' / name, '0').returncode == 0, 'control: it is a program'
    script = """
for p in a b; do
    $p 600 &
    until [ "$(readlink /proc/$!/exe)" = /bin/$p ]; do :; done
    set -- $! $@
done
c 0; echo third $?
kill $1; wait $1; c 0; echo then $?
kill $2; wait $2
for p in a b c d a b c d; do $p 0 || echo $p $?; done"""
    done = sandlock('run', '-m', '64M', '--chroot', root, '-r', '/', '--fs-mount',
                    '/dev/null:/dev/null', '--', 'sh', '-c', script)
    assert done.stdout == 'third 126\nthen 0\n' and 'Cannot allocate memory' in done.stderr, done


@pytest.mark.skipif(os.geteuid() != 0, reason='device nodes belong to root')
def test_device_nodes_stay_as_they_are(tmp_path):
    """An image has some of the host's devices, and many policies grant /dev/null for writing: whoever owns
    the node must not close it to the whole machine."""
    nodes = [tmp_path / 'native', tmp_path / 'confined']
    for node in nodes:
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        node.chmod(0o666)
    assert native('chmod', '600', nodes[0]).returncode == 0 and nodes[0].stat().st_mode & 0o777 == 0o600
    for where in (['-w', nodes[1]], ['--fs-mount', f'{nodes[1]}:{nodes[1]}']):
        done = sandlock('run', '-r', '/', *where, '--', 'sh', '-c',
                        f'echo data > {nodes[1]} && chmod 600 {nodes[1]}; touch {nodes[1]}')
        assert 'Operation not permitted' in done.stderr and done.returncode != 0, done
        assert nodes[1].stat().st_mode & 0o777 == 0o666, where


def test_limits_hold_while_the_supervisor_has_no_descriptors(tmp_path):
    """Opens that wait cost the supervisor descriptors. Whoever fills its table must not blind the thread
    that looks how much memory is used."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    for limit in ([], ['-m', '64M']):
        place = tmp_path / f'place{len(limit)}'
        place.mkdir()
        done = sandlock('run', '-r', '/', '-w', place, *limit, '--', HELPERS / 'meeting', 'memory', place,
                        preexec_fn=few)
        if limit:
            assert done.stdout == '' and 'memory limit' in done.stderr, done
        else:
            assert done.stdout == 'holding\n', ('control', done)


def most_memory(pid):
    """What the process has held at most, in bytes."""
    status = pathlib.Path(f'/proc/{pid}/status').read_text(encoding='ascii')
    return int(re.search(r'VmHWM:\s*(\d+)', status).group(1)) << 10


def test_listing_again_and_again_costs_the_supervisor_little(tmp_path):
    """Each rewind of a directory of the layer makes a snapshot of it: as many as somebody likes, in memory that
    -m does not see. 48 of these would be 130 MB."""
    work, names = tmp_path / 'work', 10000
    work.mkdir()
    for i in range(names):
        (work / f'{i:0250}').touch()
    held = []
    for rewinds in (False, True):
        words = [HELPERS / 'meeting', 'rewind', work] if rewinds else ['sh', '-c', 'echo up && sleep 600']
        with subprocess.Popen([common.SANDLOCK, 'run', *common.GRANTS, '-m', '64M', '--workdir', work, '--', *words],
                              stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout.readline() == (b'listed %d\n' % (names + 2) if rewinds else b'up\n')
                held.append(most_memory(process.pid))
            finally:
                process.kill()
    assert held[1] - held[0] < 100 << 20, held


def test_long_maps_cost_the_supervisor_little(tmp_path):
    """/proc/PID/maps is shown as a copy in memory. Programs make theirs as long as they like and keep as many
    as they may have descriptors: -m does not see that memory."""
    places = [tmp_path / name for name in ('native', 'confined')]
    for place in places:
        place.mkdir()

    def numbers(done):
        found = re.fullmatch(r'read (\d+) held (\d+) last (\d+)\n', done.stdout)
        assert found, done
        return map(int, found.groups())

    read, _, last = numbers(native(HELPERS / 'meeting', 'maps', places[0]))
    assert read > 100 << 20 and last > 8 << 20, 'control: as long as that'
    read, held, last = numbers(sandlock('run', '-r', '/', '--fs-mount', f'{places[1]}:{places[1]}', '--',
                                        HELPERS / 'meeting', 'maps', places[1]))
    assert read > 100 << 20 and last > 8 << 20, 'each is complete when it is opened'
    assert held <= 64 << 20, held
