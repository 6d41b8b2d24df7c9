# SPDX-License-Identifier: Apache-2.0
"""The public C API for work directories: actions, the list of changes, and a decision left for later."""
import ctypes
import os

import pytest

import common
from test_capi import EXITED, argv, build, lib  # pylint: disable=unused-import

COMMIT, ABORT, KEEP, DEFER = range(4)
FILE, DIR, SYMLINK, OTHER = range(4)
TEXT = 'echo new > file; mkdir d; ln -s there d/link; rm gone; mv old moved; mv over same; chmod 600 mode; exit '


class Entry(ctypes.Structure):
    """sandlock_entry_t"""
    _fields_ = [('kind', ctypes.c_uint32), ('mode', ctypes.c_uint32), ('size', ctypes.c_uint64),
                ('has_digest', ctypes.c_uint8), ('digest', ctypes.c_uint8 * 32)]


@pytest.fixture(name='api')
def api_fixture(lib):  # pylint: disable=redefined-outer-name
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    for name in ('commit_backup', 'commit_in_place'):
        setter = getattr(lib, f'sandlock_sandbox_builder_{name}')
        setter.argtypes, setter.restype = [pointer, ctypes.c_bool], pointer
    for name in ('workdir', 'fs_storage', 'max_disk'):
        f = getattr(lib, f'sandlock_sandbox_builder_{name}')
        f.argtypes, f.restype = [pointer, text], pointer
    for name in ('on_exit', 'on_error'):
        f = getattr(lib, f'sandlock_sandbox_builder_{name}')
        f.argtypes, f.restype = [pointer, ctypes.c_uint8], pointer
    for name in ('pending', 'commit', 'abort'):
        getattr(lib, f'sandlock_handle_{name}').argtypes = [pointer]
    lib.sandlock_handles_commit.argtypes = [pointer, ctypes.c_uint]
    lib.sandlock_handle_upper_dir.argtypes, lib.sandlock_handle_upper_dir.restype = [pointer], pointer
    lib.sandlock_result_changes_len.argtypes = [pointer]
    lib.sandlock_result_changes_len.restype = number
    lib.sandlock_result_change_path.argtypes = [pointer, number]
    lib.sandlock_result_change_path.restype = pointer
    lib.sandlock_result_change_entry.argtypes = [pointer, number, ctypes.c_int, ctypes.POINTER(Entry)]
    lib.sandlock_result_change_target.argtypes = [pointer, number, ctypes.c_int]
    lib.sandlock_result_change_target.restype = pointer
    return lib


def made(top):
    """A directory with something to change, and with more to leave alone."""
    top.mkdir()
    for name in ('file', 'gone', 'old', 'mode', 'over', 'same'):
        (top / name).write_text(name)
        (top / name).chmod(0o644)
    for path in (top.parent, top):
        path.chmod(0o755)
    return top


@pytest.fixture
def work(tmp_path):
    return made(tmp_path / 'work')


def owned(lib, pointer):  # pylint: disable=redefined-outer-name
    words = ctypes.string_at(pointer) if pointer else None
    lib.sandlock_string_free(pointer)
    return words


def side(api, result, i, which):
    entry = Entry()
    if api.sandlock_result_change_entry(result, i, which, ctypes.byref(entry)) < 0:
        assert owned(api, api.sandlock_result_change_target(result, i, which)) is None
        return None
    target = owned(api, api.sandlock_result_change_target(result, i, which))
    return entry.kind, entry.mode, entry.size, target


def changes(api, result):
    return {owned(api, api.sandlock_result_change_path(result, i)).decode():
            (side(api, result, i, 0), side(api, result, i, 1))
            for i in range(api.sandlock_result_changes_len(result))}


EXPECTED = {'d': (None, (DIR, 0o755, 0, None)), 'd/link': (None, (SYMLINK, 0o777, 5, b'there')),
            'file': ((FILE, 0o644, 4, None), (FILE, 0o644, 4, None)), 'gone': ((FILE, 0o644, 4, None), None),
            'mode': ((FILE, 0o644, 4, None), (FILE, 0o600, 4, None)),
            'moved': (None, (FILE, 0o644, 3, None)), 'old': ((FILE, 0o644, 3, None), None),
            'over': ((FILE, 0o644, 4, None), None), 'same': ((FILE, 0o644, 4, None), (FILE, 0o644, 4, None))}


def policy_of(api, work, *more):
    policy, code, words = build(api, ('workdir', str(work)), ('cwd', str(work)), *more)
    assert policy, (code, words)
    return policy


def run(api, work, code, *more):
    policy = policy_of(api, work, *more)
    old = os.umask(0o022)
    result = api.sandlock_run(policy, None, *argv('sh', '-c', f'{TEXT}{code}'))
    os.umask(old)
    assert result
    found = api.sandlock_result_exit_code(result), changes(api, result)
    api.sandlock_result_free(result)
    api.sandlock_sandbox_free(policy)
    return found


def names(work):
    return sorted(os.listdir(work))


BEFORE = ['file', 'gone', 'mode', 'old', 'over', 'same']
AFTER = ['d', 'file', 'mode', 'moved', 'same']


def test_actions(api, work):
    """Defaults, each action after each kind of end, and the list whatever becomes of it."""
    assert run(api, work, 3) == (3, EXPECTED) and names(work) == BEFORE
    assert run(api, work, 0, ('on_exit', ABORT)) == (0, EXPECTED) and names(work) == BEFORE
    assert run(api, work, 0, ('on_exit', KEEP)) == (0, EXPECTED) and names(work) == BEFORE
    (line,) = common.sandlock('recover', work).stdout.splitlines()
    assert line.split()[1] == 'kept'
    common.sandlock('recover', '--abort', line.split()[0], work)
    assert run(api, work, 0) == (0, EXPECTED) and names(work) == AFTER
    assert not common.sandlock('recover', work).stdout


def waited(api, work):
    policy = policy_of(api, work, ('on_exit', DEFER))
    handle = api.sandlock_create_for_run(policy, None, *argv('sh', '-c', TEXT + '0'))
    assert api.sandlock_handle_pending(handle) == 0 and api.sandlock_handle_commit(handle) == -2
    assert api.sandlock_start(handle) == 0
    for _ in range(2):
        result = api.sandlock_handle_wait(handle)
        assert changes(api, result).keys() == EXPECTED.keys()
        api.sandlock_result_free(result)
    assert api.sandlock_handle_pending(handle) == 1 and names(work) == BEFORE
    assert os.path.isdir(owned(api, api.sandlock_handle_upper_dir(handle)))
    return policy, handle


def test_defer(api, work):
    policy, handle = waited(api, work)
    assert api.sandlock_handle_abort(handle) == 0 and api.sandlock_handle_pending(handle) == 0
    assert names(work) == BEFORE and api.sandlock_handle_upper_dir(handle) is None
    api.sandlock_handle_free(handle)
    api.sandlock_sandbox_free(policy)
    policy, handle = waited(api, work)
    assert api.sandlock_handle_commit(handle) == 0 and names(work) == AFTER
    assert api.sandlock_handle_commit(handle) == -2 and (work / 'file').read_text() == 'new\n'
    api.sandlock_handle_free(handle)
    api.sandlock_sandbox_free(policy)
    assert not common.sandlock('recover', work).stdout


def test_deferred_and_forgotten(api, work):
    """Nobody decided: the changes lie there for `sandlock recover`."""
    policy, handle = waited(api, work)
    api.sandlock_handle_free(handle)
    api.sandlock_sandbox_free(policy)
    (line,) = common.sandlock('recover', work).stdout.splitlines()
    assert line.split()[1] == 'kept' and '(deferred)' in line and names(work) == BEFORE
    assert common.sandlock('recover', '--commit', line.split()[0], work).returncode == 0
    assert names(work) == AFTER


def test_conflict(api, work):
    policy, handle = waited(api, work)
    (work / 'file').write_text('theirs')
    assert api.sandlock_handle_commit(handle) < 0 and api.sandlock_handle_pending(handle) == 0
    assert names(work) == BEFORE and (work / 'file').read_text() == 'theirs'
    api.sandlock_handle_free(handle)
    api.sandlock_sandbox_free(policy)
    assert 'conflict' in common.sandlock('recover', work).stdout
    policy = policy_of(api, work)
    result = api.sandlock_run(policy, None, *argv('sh', '-c', 'exit 0'))
    assert api.sandlock_result_exit_code(result) == 0 and api.sandlock_result_reason(result) == EXITED
    assert api.sandlock_result_changes_len(result) == 0
    api.sandlock_result_free(result)
    api.sandlock_sandbox_free(policy)


def test_transaction(api, tmp_path):
    """All or none, over two work directories; what was refused as such is still to be decided."""
    trees = [made(tmp_path / name) for name in ('one', 'two')]
    (pa, a), (pb, b) = (waited(api, work) for work in trees)
    pair = (ctypes.c_void_p * 2)(a, b)
    assert api.sandlock_handles_commit((ctypes.c_void_p * 2)(a, a), 2) == -22
    (trees[1] / 'file').write_text('theirs')
    assert api.sandlock_handles_commit(pair, 2) == -116 and [names(w) for w in trees] == [BEFORE] * 2
    assert api.sandlock_handles_commit(pair, 2) == -2
    for handle in (a, b):
        api.sandlock_handle_free(handle)
    (pc, c), (pd, d) = (waited(api, trees[0]), waited(api, trees[1]))
    assert api.sandlock_handles_commit((ctypes.c_void_p * 2)(c, d), 2) == 0
    assert [names(w) for w in trees] == [AFTER] * 2
    for handle in (c, d):
        api.sandlock_handle_free(handle)
    for policy in (pa, pb, pc, pd):
        api.sandlock_sandbox_free(policy)


def test_wrong_arguments(api, work):
    assert build(api, ('workdir', str(work)), ('on_exit', 4))[2].startswith('on_exit')
    assert build(api, ('workdir', str(work)), ('max_disk', '1X'))[2].startswith('max_disk')
    assert build(api, ('on_exit', ABORT))[0] is None
    assert api.sandlock_handle_pending(None) == api.sandlock_handle_commit(None) == -1
    assert api.sandlock_handle_upper_dir(None) is None
    assert api.sandlock_result_changes_len(None) == 0
    assert api.sandlock_result_change_path(None, 0) is None
    assert api.sandlock_result_change_entry(None, 0, 0, None) == -1


def test_quota(api, work):
    policy = policy_of(api, work, ('max_disk', '1M'))
    result = api.sandlock_run(policy, None, *argv('sh', '-c', 'head -c 3000000 /usr/bin/* > big'))
    assert api.sandlock_result_exit_code(result) == 1
    api.sandlock_result_free(result)
    api.sandlock_sandbox_free(policy)
    assert not (work / 'big').exists()
