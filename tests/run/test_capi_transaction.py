# SPDX-License-Identifier: Apache-2.0
"""Transactions of the public C API: stages that share one layer, and one commit for all of them."""
import ctypes
import errno
import os
import signal
import subprocess
import threading
import time

import pytest

import common
from test_capi import EXITED, KILLED, SIGNALED, TIMEOUT, argv, build, lib, output  # pylint: disable=unused-import
from test_capi_outcome import BEFORE, KEEP, api_fixture, changes, made, names, owned  # pylint: disable=unused-import

COMMITTED, DRY_RUN, ABORTED, FAILED = range(4)
LIMIT = int(common.LIMIT * 1000)  # bounds a failure


@pytest.fixture(name='tx')
def tx_fixture(api):
    pointer, number = ctypes.c_void_p, ctypes.c_size_t
    api.sandlock_transaction_new.restype = pointer
    api.sandlock_transaction_add.argtypes = [pointer, pointer, ctypes.c_char_p,
                                             ctypes.POINTER(ctypes.c_char_p), ctypes.c_uint]
    api.sandlock_transaction_set_dry_run.argtypes = [pointer, ctypes.c_bool]
    api.sandlock_transaction_set_timeout.argtypes = [pointer, ctypes.c_uint64]
    api.sandlock_transaction_run.argtypes, api.sandlock_transaction_run.restype = [pointer], pointer
    for name in ('kill', 'free', 'result_disposition', 'result_exit_code', 'result_free'):
        getattr(api, f'sandlock_transaction_{name}').argtypes = [pointer]
    for name in ('free', 'result_free'):
        getattr(api, f'sandlock_transaction_{name}').restype = None
    for name in ('message', 'kept', 'whole'):
        f = getattr(api, f'sandlock_transaction_result_{name}')
        f.argtypes, f.restype = [pointer], pointer
    api.sandlock_transaction_result_stages_len.argtypes = [pointer]
    api.sandlock_transaction_result_stages_len.restype = number
    api.sandlock_transaction_result_stage.argtypes = [pointer, number]
    api.sandlock_transaction_result_stage.restype = pointer
    return api


@pytest.fixture
def work(tmp_path):
    return made(tmp_path / 'work')


class Transaction:
    """Stages as (shell text, more setters...), run at once; what is there afterwards as attributes."""

    def __init__(self, tx, work, *stages, dry_run=False, timeout=LIMIT, during=None):
        self.tx, self.handle, self.policies = tx, tx.sandlock_transaction_new(), []
        for stage in stages:
            text, *more = (stage,) if isinstance(stage, str) else stage
            if not any(s[0] == 'workdir' for s in more):
                more.append(('workdir', str(work)))
            policy, code, words = build(tx, ('cwd', str(work)), ('fs_write', '/dev/null'), *[s for s in more if s[1] is not None])
            assert policy, (code, words)
            self.policies.append(policy)
            command = text if isinstance(text, list) else ['sh', '-c', text]
            assert tx.sandlock_transaction_add(self.handle, policy, None, *argv(*command)) == 0
        tx.sandlock_transaction_set_dry_run(self.handle, dry_run)
        tx.sandlock_transaction_set_timeout(self.handle, timeout)
        thread = threading.Thread(target=during, args=(self,)) if during else None
        if thread:
            thread.start()
        result = tx.sandlock_transaction_run(self.handle)
        if thread:
            thread.join()
        assert result and tx.sandlock_transaction_run(self.handle) is None
        tx.sandlock_transaction_free(self.handle)
        for policy in self.policies:
            tx.sandlock_sandbox_free(policy)
        self.read(result)

    def read(self, result):
        tx = self.tx
        self.disposition = tx.sandlock_transaction_result_disposition(result)
        self.code = tx.sandlock_transaction_result_exit_code(result)
        self.message = (owned(tx, tx.sandlock_transaction_result_message(result)) or b'').decode()
        self.kept = owned(tx, tx.sandlock_transaction_result_kept(result))
        stages = [tx.sandlock_transaction_result_stage(result, i)
                  for i in range(tx.sandlock_transaction_result_stages_len(result))]
        self.stages = [(tx.sandlock_result_reason(s), tx.sandlock_result_exit_code(s),
                        tx.sandlock_result_signal(s)) for s in stages]
        self.stderr = [output(tx, s, 'stderr') for s in stages]
        assert tx.sandlock_transaction_result_stage(result, len(stages)) is None
        whole = tx.sandlock_transaction_result_whole(result)
        self.changes = changes(tx, whole)
        self.whole = tx.sandlock_result_exit_code(whole)
        tx.sandlock_transaction_result_free(result)

    def kind(self):
        """path: '+', '-' or '~'"""
        return {path: '~' if a and b else '+' if b else '-' for path, (a, b) in self.changes.items()}


def stored(work):
    """Nothing is left behind, not even for a moment's recovery."""
    return common.sandlock('recover', work).stdout


GOOD = (EXITED, 0, 0)


def test_success(tx, work):
    """Each stage reads, renames, removes and executes what those before it made; one commit."""
    t = Transaction(tx, work,
                    'echo one > made; mkdir d; echo deep > d/deep; rm gone; mv old moved; ln file hard;'
                    ' printf "#!/bin/sh\\necho ran > by-tool\\n" > tool; chmod 755 tool; echo more >> file',
                    'set -e; test "$(cat made)" = one; mv d e; cat e/deep; rm made; ./tool; echo again >> moved;'
                    ' test ! -e gone; echo back > gone; test "$(cat hard)" = "$(cat file)"; echo link >> hard',
                    'set -e; mv e/deep .; rmdir e; rm tool; test "$(cat by-tool)" = ran; chmod 600 mode; mv moved old')
    assert (t.disposition, t.code, t.stages, t.message) == (COMMITTED, 0, [GOOD] * 3, ''), t.stderr
    assert t.kind() == {'by-tool': '+', 'deep': '+', 'file': '~', 'gone': '~', 'hard': '+', 'mode': '~', 'old': '~'}
    assert names(work) == sorted(BEFORE + ['by-tool', 'deep', 'hard'])
    assert (work / 'old').read_text() == 'oldagain\n' and (work / 'gone').read_text() == 'back\n'
    assert (work / 'file').read_text() == 'filemore\nlink\n'
    assert (work / 'file').stat().st_ino == (work / 'hard').stat().st_ino
    assert not stored(work)


def test_same_without_transaction(tx, work, tmp_path):
    """The control: the same commands on a plain copy give the same tree."""
    plain = made(tmp_path / 'plain')
    texts = ['echo a > new; mv file dir-less; mkdir -p x/y; cp mode x/y', 'mv x z; rm old; ln z/y/mode also',
             'echo b >> also; mv also over; rm -r z']
    for text in texts:
        subprocess.run(['sh', '-c', text], cwd=plain, check=True)
    assert Transaction(tx, work, *texts).disposition == COMMITTED
    assert {n: (work / n).read_bytes() for n in names(work)} == {n: (plain / n).read_bytes() for n in names(plain)}


ENDINGS = {
    'code': ('exit 3', 3, (EXITED, 3, 0)),
    'signal': ('kill -TERM $$', 128 + signal.SIGTERM, (SIGNALED, -1, signal.SIGTERM)),
    'killed': ('kill -KILL $$', 128 + signal.SIGKILL, (KILLED, -1, signal.SIGKILL)),
    'not found': (['no-such-program'], 127, (EXITED, 127, 0)),
    'not executable': (['./file'], 126, (EXITED, 126, 0)),
}


@pytest.mark.parametrize('how', ENDINGS)
def test_failure_in_the_middle(tx, work, how):
    text, code, stage = ENDINGS[how]
    text = f'echo b > second; {text}' if isinstance(text, str) else text
    t = Transaction(tx, work, 'echo a > first; rm gone', text, 'echo c > third')
    assert (t.disposition, t.code, t.stages, t.message) == (ABORTED, code, [GOOD, stage], '')
    assert t.whole == stage[1]
    expected = {'first': '+', 'gone': '-', 'second': '+'}
    if not isinstance(text, str):
        del expected['second']
    assert t.kind() == expected and names(work) == BEFORE
    assert not stored(work)


@pytest.mark.parametrize('first', [True, False])
def test_timeout(tx, work, first):
    """Of all stages together: what the first took is not the second's."""
    stages = ['echo a > a; sleep 600', 'true'] if first else ['echo a > a; sleep 1.5', 'sleep 600']
    start = time.monotonic()
    t = Transaction(tx, work, *stages, timeout=20000 if common.IN_VM else 2500)
    assert time.monotonic() - start < 30 * common.SLOW
    assert (t.disposition, t.code) == (ABORTED, 124) and names(work) == BEFORE and t.kind() == {'a': '+'}
    assert t.stages == ([] if first else [GOOD]) + [(TIMEOUT, -1, t.stages[-1][2])]
    assert not stored(work)


def test_background_descendant(tx, work):
    """It neither holds the next stage nor changes anything after its own: without us it would."""
    text = '(trap "" TERM HUP; i=1000; while [ $i -lt 1400 ]; do echo $i > late; sleep 0.05; i=$((i+1)); done) >/dev/null 2>&1 &'
    start = time.monotonic()
    t = Transaction(tx, work, text + ' while [ ! -e late ]; do sleep 0.02; done',
                    'a=$(cat late); sleep 0.5; test "$(cat late)" = "$a"')
    assert time.monotonic() - start < 15
    assert (t.disposition, t.stages) == (COMMITTED, [GOOD, GOOD]), t.stderr
    control = subprocess.Popen(['sh', '-c', text + ' sleep 0.3; a=$(cat late); sleep 0.5; test "$(cat late)" != "$a"'],
                               cwd=work, start_new_session=True)
    assert control.wait() == 0
    os.killpg(control.pid, signal.SIGKILL)


def test_dry_run(tx, work):
    t = Transaction(tx, work, 'echo a > new', 'mv new newer; rm gone', dry_run=True)
    assert (t.disposition, t.code, t.stages) == (DRY_RUN, 0, [GOOD, GOOD]) and names(work) == BEFORE
    assert t.kind() == {'newer': '+', 'gone': '-'} and not stored(work)
    t = Transaction(tx, work, 'echo a > new', 'exit 4', dry_run=True)
    assert (t.disposition, t.code, t.kind()) == (ABORTED, 4, {'new': '+'}) and names(work) == BEFORE


def test_nothing_changed(tx, work):
    t = Transaction(tx, work, 'echo a > new', 'rm new')
    assert (t.disposition, t.changes) == (COMMITTED, {}) and not stored(work)


def test_stages_have_their_own_policies(tx, work, tmp_path):
    """The first may read a secret, the second not; and only the second may write beside."""
    (tmp_path / 'secret').write_text('s\n')
    (tmp_path / 'beside').mkdir()
    t = Transaction(tx, work, (f'cat ../secret > copy; ! echo > {tmp_path}/beside/a', ('fs_read', f'{tmp_path}/secret')),
                    (f'! cat ../secret; echo > {tmp_path}/beside/b', ('fs_write', f'{tmp_path}/beside')))
    assert (t.disposition, t.stages) == (COMMITTED, [GOOD, GOOD]), t.stderr
    assert (work / 'copy').read_text() == 's\n' and os.listdir(tmp_path / 'beside') == ['b']


def test_work_directory_by_identity(tx, work, tmp_path):
    (tmp_path / 'other-name').symlink_to(work)
    t = Transaction(tx, work, 'echo a > a', ('mv a b', ('workdir', str(tmp_path / 'other-name'))))
    assert t.disposition == COMMITTED and (work / 'b').exists()


REFUSED = {
    'one stage': ([('true',)], 'transaction'),
    'none': ([], 'transaction'),
    'another directory': ([('true',), ('true', ('workdir', '{}/other'))], 'stage 2: --workdir'),
    'no directory': ([('true',), ('true', ('workdir', None))], 'stage 2: --workdir'),
    'storage': ([('true', ('fs_storage', '{}/s')), ('true', ('fs_storage', '{}/t'))], 'stage 2: --fs-storage'),
    'quota': ([('true', ('max_disk', '1M')), ('true', ('max_disk', '2M'))], 'stage 2: --max-disk'),
    'backup': ([('true',), ('true', ('commit_backup', True))], 'stage 2: --commit-backup'),
    'chroot': ([('true',), ('true', ('chroot', '/'), ('workdir', '{}/work'))], 'stage 2: --chroot'),
    'action': ([('true', ('on_exit', KEEP)), ('true',)], 'stage 1: --on-exit'),
    'error action': ([('true',), ('true',), ('true', ('on_error', KEEP))], 'stage 3: --on-error'),
}


@pytest.mark.parametrize('what', REFUSED)
def test_refused(tx, work, tmp_path, what):
    """Nothing runs and nothing is stored, not even the directory of the storage."""
    stages, where = REFUSED[what]
    (tmp_path / 'other').mkdir()
    stages = [(f'echo a > a; {text}', *[(n, v.format(tmp_path) if isinstance(v, str) else v) for n, v in more])
              for text, *more in stages]
    before = sorted(os.listdir(tmp_path))
    t = Transaction(tx, work, *stages)
    assert (t.disposition, t.code, t.stages, t.changes) == (FAILED, 78, [], {})
    assert t.message.startswith(where) and '\n' not in t.message
    assert sorted(os.listdir(tmp_path)) == before and names(work) == BEFORE


def test_stage_cannot_be_driven(tx, work, tmp_path):
    t = Transaction(tx, work, 'echo a > a', ('true', ('fs_read', str(tmp_path / 'missing'))))
    assert (t.disposition, t.code, t.kind()) == (FAILED, 70, {'a': '+'})
    assert t.stages == [GOOD, (EXITED, 70, 0)] and t.whole == 70
    assert 'missing' in t.message and names(work) == BEFORE and not stored(work)


def test_with_backup(tx, work):
    """The control of its refusal: all stages ask for it."""
    t = Transaction(tx, work, ('echo a >> file', ('commit_backup', True)), ('rm gone', ('commit_backup', True)))
    assert (t.disposition, t.kind()) == (COMMITTED, {'file': '~', 'gone': '-'})
    assert (work / 'file').read_text() == 'filea\n' and not stored(work)


def test_conflict(tx, work):
    """Others change what the first stage changed, before the second is done: try again."""
    def during(_):
        time.sleep(1)
        (work / 'file').write_text('theirs')
    t = Transaction(tx, work, 'echo a > file', 'sleep 3', during=during)
    assert (t.disposition, t.code, t.kind()) == (FAILED, 75, {'file': '~'})
    assert (work / 'file').read_text() == 'theirs' and os.path.isdir(t.kept)
    assert 'kept' in stored(work)


def test_killed_by_the_caller(tx, work):
    def during(t):
        time.sleep(1)
        assert tx.sandlock_transaction_kill(t.handle) == 0
    t = Transaction(tx, work, 'echo a > a', 'sleep 60', 'echo b > b', during=during)
    assert (t.disposition, t.code, t.stages[-1][0]) == (ABORTED, 137, KILLED)
    assert t.kind() == {'a': '+'} and names(work) == BEFORE and not stored(work)


def test_stderr_is_capped(tx, work):
    """Its beginning and its end; the stage is never held up by it."""
    size = 1000000
    t = Transaction(tx, work, 'echo short >&2',
                    f'echo begin >&2; yes 2>/dev/null | head -c {size} >&2; echo end >&2; echo stdout > out')
    assert t.disposition == COMMITTED and t.stderr[0] == b'short\n'
    head, marker, tail = t.stderr[1].partition(b'\n[%d bytes left out]\n' % (size + 10 - 65536))
    assert marker and len(head) == len(tail) == 32768
    assert head.startswith(b'begin\ny\n') and tail.endswith(b'y\nend\n')
    for many in (32768, 65536):  # where the two halves meet
        t = Transaction(tx, work, f'yes 12345 2>/dev/null | head -c {many} >&2', 'true')
        assert t.stderr[0] == (b'12345\n' * 11000)[:many]


def test_quota_over_both_stages(tx, work):
    """What the first took is not there for the second, unless it gives it back."""
    big = 'yes 2>/dev/null | head -c 700000 > big{}'
    quota = ('max_disk', '1M')
    t = Transaction(tx, work, (big.format(1), quota), (big.format(2), quota))
    assert (t.disposition, t.code) == (ABORTED, 1) and b'No space' in t.stderr[1], t.stderr
    t = Transaction(tx, work, (big.format(1), quota), ('rm big1; ' + big.format(2), quota))
    assert t.disposition == COMMITTED and (work / 'big2').stat().st_size == 700000, t.stderr


# ---- kill -9 ----

def in_a_child(act):
    """A process of its own that does this."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)  # pylint: disable=protected-access
    return pid


def killed(pid):
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_kill_in_a_stage(tx, work, tmp_path):
    """Nothing happened; the layer is an orphan and the next run takes it away."""
    (tmp_path / 'beside').mkdir()
    mark = tmp_path / 'beside' / 'mark'
    beside = ('fs_write', str(tmp_path / 'beside'))
    pid = in_a_child(lambda: Transaction(tx, work, 'echo a > a; rm gone', (f'mv a b; echo > {mark}; sleep 60', beside)))
    assert common.wait_until(mark.exists)
    assert 'running' in stored(work)
    killed(pid)
    assert common.wait_until(lambda: 'orphan' in stored(work)) and names(work) == BEFORE
    assert Transaction(tx, work, 'true', 'true').disposition == COMMITTED
    assert not stored(work) and names(work) == BEFORE


def test_kill_of_a_parked_one(tx, work):
    """Created, not started: the command shares our descriptors still, and ends with us all the same."""
    def act():
        assert tx.sandlock_create(build(tx, ('workdir', str(work)))[0], None, *argv('sleep', '12345.25'))
        (work / 'mark').write_text('')
        time.sleep(60)
    pid = in_a_child(act)
    assert common.wait_until((work / 'mark').exists) and 'running' in stored(work)
    killed(pid)
    assert common.wait_until(lambda: 'orphan' in stored(work))


def test_kill_anywhere(tx, work, tmp_path):
    """Between stages, and within the commit: recovery gives the old tree or the new one."""
    (tmp_path / 'beside').mkdir()
    mark = tmp_path / 'beside' / 'mark'
    beside = ('fs_write', str(tmp_path / 'beside'))
    numbers, seen = range(60 if common.IN_VM else 400), set()
    delays = (0, .1, .5, 2, 5) if common.IN_VM else (0, .002, .005, .01, .02, .03, .05, .08, .12, .2, .4, 1)
    for delay in delays:
        for name in names(work):
            (work / name).unlink()
        for i in numbers:
            (work / f'f{i}').write_text('old')
        mark.unlink(missing_ok=True)
        pid = in_a_child(lambda: Transaction(
            tx, work, 'for i in f*; do echo new > $i; done',
            (f'for i in f*; do echo new > $i.new; done; echo > {mark}', beside), 'rm *0.new'))
        assert common.wait_until(mark.exists)
        time.sleep(delay)
        killed(pid)
        assert common.wait_until(lambda: 'running' not in stored(work))
        for line in stored(work).splitlines():
            what = '--commit' if line.split()[1] == 'interrupted' else '--abort'
            seen.add(line.split()[1])
            assert common.sandlock('recover', what, line.split()[0], work).returncode == 0
        tree = {n: (work / n).read_text() for n in names(work)}
        old = {f'f{i}': 'old' for i in numbers}
        new = {f'f{i}': 'new\n' for i in numbers} | {f'f{i}.new': 'new\n' for i in numbers if i % 10}
        assert tree in (old, new)
        seen.add('old' if tree == old else 'new')
        assert not stored(work)
    assert {'old', 'new'} <= seen or common.IN_VM, seen


def test_wrong_arguments(tx, work):
    assert tx.sandlock_transaction_add(None, None, None, *argv('true')) == -1
    assert tx.sandlock_transaction_run(None) is None and tx.sandlock_transaction_kill(None) == -1
    t = tx.sandlock_transaction_new()
    assert tx.sandlock_transaction_add(t, None, None, *argv('true')) == -errno.EINVAL
    policy = build(tx, ('workdir', str(work)))[0]
    for words in (('',), ()):
        assert tx.sandlock_transaction_add(t, policy, None, *argv(*words)) == -errno.EINVAL
    assert tx.sandlock_transaction_add(t, policy, b'a/b', *argv('true')) == -errno.EINVAL
    tx.sandlock_transaction_free(t)
    tx.sandlock_transaction_free(None)
    tx.sandlock_transaction_result_free(None)
    assert tx.sandlock_transaction_result_disposition(None) == FAILED
    assert tx.sandlock_transaction_result_exit_code(None) == -1
    assert tx.sandlock_transaction_result_whole(None) is None
    tx.sandlock_sandbox_free(policy)
