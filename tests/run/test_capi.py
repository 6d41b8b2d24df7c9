# SPDX-License-Identifier: Apache-2.0
"""The public C API of libsandlock.so, used as a program in another language would: builder, runs,
handles, results, and what happens to wrong arguments."""
import ctypes
import errno
import os
import threading
import time

import pytest

import common
import socket

LIBRARY = common.BUILD / 'libsandlock.so'
READABLE = [p for p in ('/usr', '/lib', '/lib64', '/bin', '/etc') if os.path.exists(p)]
EXITED, SIGNALED, KILLED, TIMEOUT = range(4)


@pytest.fixture(scope='module')
def lib():
    if not LIBRARY.exists():
        pytest.skip(f'{LIBRARY} is not here: only the command was installed')
    try:
        api = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        if 'sanitizer' in str(error) or 'runtime' in str(error):
            pytest.skip('the library needs a sanitizer runtime that Python does not have')
        raise
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint
    names = ('fs_read', 'fs_write', 'fs_deny', 'chroot', 'cwd', 'net_allow', 'net_allow_bind',
             'net_deny', 'net_deny_bind', 'dns_refresh', 'extra_deny_syscalls', 'time_start', 'max_memory',
             'memory_mode', 'rlimit')
    for name in names:
        f = getattr(api, f'sandlock_sandbox_builder_{name}')
        f.argtypes, f.restype = [pointer, text], pointer
    api.sandlock_sandbox_builder_deterministic_dirs.argtypes = [pointer, ctypes.c_bool]
    api.sandlock_sandbox_builder_deterministic_dirs.restype = pointer
    for name in ('env_var', 'fs_mount', 'fs_mount_ro'):
        f = getattr(api, f'sandlock_sandbox_builder_{name}')
        f.argtypes, f.restype = [pointer, text, text], pointer
    api.sandlock_sandbox_builder_random_seed.argtypes = [pointer, ctypes.c_uint64]
    api.sandlock_sandbox_builder_random_seed.restype = pointer
    api.sandlock_sandbox_builder_port_remap.argtypes = [pointer, ctypes.c_bool]
    api.sandlock_sandbox_builder_port_remap.restype = pointer
    for name, number in (('max_processes', ctypes.c_uint32), ('max_cpu', ctypes.c_uint8)):
        f = getattr(api, f'sandlock_sandbox_builder_{name}')
        f.argtypes, f.restype = [pointer, number], pointer
    for name, number in (('memory', ctypes.c_uint64), ('processes', ctypes.c_uint32),
                         ('cpu', ctypes.c_uint32)):
        getattr(api, f'sandlock_handle_restrict_max_{name}').argtypes = [pointer, number]
    api.sandlock_result_memory_kills.argtypes = [pointer]
    api.sandlock_result_memory_kills.restype = ctypes.c_uint64
    api.sandlock_sandbox_builder_new.restype = pointer
    api.sandlock_sandbox_build.argtypes = [pointer, ctypes.POINTER(ctypes.c_int),
                                           ctypes.POINTER(pointer)]
    api.sandlock_sandbox_build.restype = pointer
    vector = ctypes.POINTER(ctypes.c_char_p)
    for name in ('run', 'create', 'create_for_run'):
        f = getattr(api, f'sandlock_{name}')
        f.argtypes, f.restype = [pointer, text, vector, size], pointer
    api.sandlock_popen.argtypes = ([pointer, text, vector, size] + [ctypes.c_uint32] * 3 +
                                   [ctypes.POINTER(ctypes.c_int)] * 3)
    api.sandlock_popen.restype = pointer
    for name in ('sandbox_free', 'handle_free', 'result_free', 'string_free'):
        f = getattr(api, f'sandlock_{name}')
        f.argtypes, f.restype = [pointer], None
    api.sandlock_handle_wait.argtypes, api.sandlock_handle_wait.restype = [pointer], pointer
    api.sandlock_handle_wait_timeout.argtypes = [pointer, ctypes.c_uint64]
    api.sandlock_handle_wait_timeout.restype = pointer
    for name in ('start', 'handle_kill', 'handle_pid', 'result_exit_code', 'result_reason',
                 'result_signal'):
        getattr(api, f'sandlock_{name}').argtypes = [pointer]
    for name in ('stdout', 'stderr'):
        f = getattr(api, f'sandlock_result_{name}_bytes')
        f.argtypes, f.restype = [pointer, ctypes.POINTER(ctypes.c_size_t)], pointer
    api.sandlock_syscall_nr.argtypes, api.sandlock_syscall_nr.restype = [text], ctypes.c_int64
    return api


def argv(*words):
    return (ctypes.c_char_p * len(words))(*[os.fsencode(w) for w in words]), len(words)


def build(lib, *setters):
    builder = lib.sandlock_sandbox_builder_new()
    for path in READABLE:
        lib.sandlock_sandbox_builder_fs_read(builder, path.encode())
    for name, *values in setters:
        getattr(lib, f'sandlock_sandbox_builder_{name}')(
            builder, *[v.encode() if isinstance(v, str) else v for v in values])
    code, message = ctypes.c_int(), ctypes.c_void_p()
    policy = lib.sandlock_sandbox_build(builder, ctypes.byref(code), ctypes.byref(message))
    words = ctypes.string_at(message.value).decode() if message.value else ''
    lib.sandlock_string_free(message.value)
    return policy, code.value, words


@pytest.fixture
def policy(lib):
    made, code, words = build(lib)
    assert made, (code, words)
    yield made
    lib.sandlock_sandbox_free(made)


def output(lib, result, stream='stdout'):
    length = ctypes.c_size_t()
    data = getattr(lib, f'sandlock_result_{stream}_bytes')(result, ctypes.byref(length))
    return ctypes.string_at(data, length.value) if length.value else b''


def finished(lib, result):
    """(reason, code, signal, stdout) of a result, which is freed."""
    assert result
    row = (lib.sandlock_result_reason(result), lib.sandlock_result_exit_code(result),
           lib.sandlock_result_signal(result), output(lib, result))
    lib.sandlock_result_free(result)
    return row


def test_run_captures(lib, policy):
    result = lib.sandlock_run(policy, None, *argv('sh', '-c', 'echo out; echo err >&2; exit 3'))
    assert output(lib, result, 'stderr') == b'err\n'
    assert finished(lib, result) == (EXITED, 3, 0, b'out\n')


def test_network_rules(lib):
    """By name (the resolver's process must not disturb the caller), denied, and a port of its own."""
    code = """
import socket, sys
a = socket.socket()
a.bind(('127.0.0.1', int(sys.argv[1])))
a.listen(1)
socket.create_connection(('localhost', int(sys.argv[1])))
for bad in (lambda: socket.create_connection(('127.0.0.2', int(sys.argv[1]))),
            lambda: socket.socket().bind(('', 81))):
    try:
        bad()
    except OSError as e:
        print(e.errno)
"""
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        made, number, words = build(lib, ('net_allow', f'localhost:{port}'), ('net_deny', '127.0.0.2'),
                                    ('net_deny_bind', '81'), ('port_remap', True), ('dns_refresh', '0.1'))
        assert made, (number, words)
        result = lib.sandlock_run(made, None, *argv('/usr/bin/python3', '-c', code, port))
        assert finished(lib, result) == (EXITED, 0, 0, b'111\n13\n')
        lib.sandlock_sandbox_free(made)


def test_run_confines(lib, policy, tmp_path):
    secret = tmp_path / 'secret'
    secret.write_text('top')
    assert common.native('cat', secret).stdout == 'top'  # control
    reason, code, _, text = finished(lib, lib.sandlock_run(policy, None, *argv('cat', secret)))
    assert (reason, text) == (EXITED, b'') and code != 0


def test_large_output_does_not_block(lib, policy):
    result = lib.sandlock_run(policy, None, *argv('head', '-c', '3000000', '/usr/bin/env',
                                                  *['/usr/bin/env'] * 60))
    assert lib.sandlock_result_reason(result) == EXITED
    assert len(output(lib, result)) > 1_000_000
    lib.sandlock_result_free(result)


def test_name_is_the_host_name_of_one_run(lib, policy):
    for name in (b'one', b'two'):
        row = finished(lib, lib.sandlock_run(policy, name, *argv('uname', '-n')))
        assert row == (EXITED, 0, 0, name + b'\n')


def test_signals_and_missing_commands(lib, policy):
    row = finished(lib, lib.sandlock_run(policy, None, *argv('sh', '-c', 'kill -11 $$')))
    assert row[:3] == (SIGNALED, -1, 11)
    row = finished(lib, lib.sandlock_run(policy, None, *argv('no-such-command')))
    assert row[:2] == (EXITED, 127)
    row = finished(lib, lib.sandlock_run(policy, None, *argv('/etc/passwd')))
    assert row[:2] == (EXITED, 126)


def test_phases(lib, policy):
    handle = lib.sandlock_create_for_run(policy, None, *argv('echo', 'hello'))
    assert handle and lib.sandlock_handle_pid(handle) > 1
    assert lib.sandlock_handle_wait(handle) is None  # not started
    assert lib.sandlock_start(handle) == 0
    assert lib.sandlock_start(handle) < 0  # once
    first = finished(lib, lib.sandlock_handle_wait(handle))
    assert first == (EXITED, 0, 0, b'hello\n')
    assert finished(lib, lib.sandlock_handle_wait(handle)) == first  # EX-03: stable
    assert lib.sandlock_handle_kill(handle) == 0  # already dead
    lib.sandlock_handle_free(handle)


def test_parked_command_never_runs_when_freed(lib, tmp_path):
    policy, *_ = build(lib, ('fs_write', str(tmp_path)))
    for start in (False, True):
        seen = tmp_path / f'seen{start}'
        handle = lib.sandlock_create(policy, None, *argv('touch', seen))
        assert handle
        if start:  # control
            assert lib.sandlock_start(handle) == 0
            lib.sandlock_result_free(lib.sandlock_handle_wait(handle))
        else:
            time.sleep(0.2)
        lib.sandlock_handle_free(handle)
        assert seen.exists() is start
    lib.sandlock_sandbox_free(policy)


def test_timeout_kills_the_tree(lib, policy):
    handle = lib.sandlock_create_for_run(
        policy, None, *argv('sh', '-c', 'echo begun; setsid sleep 1000 <&2 & exec sleep 1000'))
    lib.sandlock_start(handle)
    row = finished(lib, lib.sandlock_handle_wait_timeout(handle, int(500 * common.SLOW)))
    assert row[0] == TIMEOUT and row[3] == b'begun\n'
    lib.sandlock_handle_free(handle)


def test_kill_from_another_thread(lib, policy):
    handle = lib.sandlock_create_for_run(policy, None, *argv('sleep', '1000'))
    lib.sandlock_start(handle)
    timer = threading.Timer(0.3, lib.sandlock_handle_kill, [handle])
    timer.start()
    assert finished(lib, lib.sandlock_handle_wait(handle))[:3] == (KILLED, -1, 9)
    timer.join()
    lib.sandlock_handle_free(handle)


def test_popen_streams(lib, policy):
    ends = [ctypes.c_int(-1) for _ in range(3)]
    handle = lib.sandlock_popen(policy, None, *argv('cat'), 1, 1, 2,
                                *[ctypes.byref(e) for e in ends])
    assert handle and ends[0].value > 2 and ends[1].value > 2 and ends[2].value == -1
    os.write(ends[0].value, b'through')
    os.close(ends[0].value)
    with os.fdopen(ends[1].value, 'rb') as stream:
        assert stream.read() == b'through'
    assert finished(lib, lib.sandlock_handle_wait(handle))[:2] == (EXITED, 0)
    lib.sandlock_handle_free(handle)


def test_mediation_works_before_anybody_waits(lib, tmp_path):
    """A supervised call made while the caller is busy elsewhere is answered all the same."""
    policy, *_ = build(lib, ('fs_write', str(tmp_path)))
    target = tmp_path / 'file'
    target.write_text('')
    handle = lib.sandlock_create(policy, None, *argv('chmod', '600', target))
    lib.sandlock_start(handle)
    end = time.monotonic() + common.LIMIT
    while target.stat().st_mode & 0o777 != 0o600 and time.monotonic() < end:
        time.sleep(0.02)
    assert target.stat().st_mode & 0o777 == 0o600
    lib.sandlock_result_free(lib.sandlock_handle_wait(handle))
    lib.sandlock_handle_free(handle)
    lib.sandlock_sandbox_free(policy)


def test_many_at_once_from_threads(lib, policy):
    rows = []

    def one(number):
        word = str(number)
        row = finished(lib, lib.sandlock_run(policy, None, *argv('echo', word)))
        rows.append(row == (EXITED, 0, 0, word.encode() + b'\n'))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert rows == [True] * 24


def test_errors_name_the_field(lib):
    for setter, field in ((('net_allow', 'example.com:80x'), 'net_allow'), (('net_deny', '::1:80'), 'net_deny'),
                          (('extra_deny_syscalls', 'opne'), 'extra_deny_syscalls'),
                          (('net_allow_bind', '99999'), 'net_allow_bind'),
                          (('dns_refresh', '0'), 'dns_refresh')):
        policy, code, words = build(lib, setter)
        assert policy is None and code < 0 and words.startswith(field), words


def test_null_never_crashes(lib, policy):
    assert lib.sandlock_run(None, None, *argv('true')) is None
    assert lib.sandlock_run(policy, None, None, 0) is None
    assert lib.sandlock_run(policy, b'bad/name', *argv('true')) is None
    assert lib.sandlock_start(None) == -1 and lib.sandlock_handle_kill(None) == -1
    assert lib.sandlock_handle_wait(None) is None
    assert lib.sandlock_result_exit_code(None) == -1
    assert lib.sandlock_sandbox_build(None, None, None) is None
    for name in ('sandbox_free', 'handle_free', 'result_free', 'string_free'):
        getattr(lib, f'sandlock_{name}')(None)


def test_machine_facts(lib):
    assert lib.sandlock_syscall_nr(b'openat') in (257, 56)
    assert lib.sandlock_syscall_nr(b'nonsense') == -1
    assert lib.sandlock_min_landlock_abi() == 6


def test_deterministic_dirs(lib, tmp_path):
    for i in range(40):
        (tmp_path / f'{i * 7 % 40}').touch()
    shown = {}
    for on in (True, False):
        policy, code, words = build(lib, ('fs_read', str(tmp_path)), ('deterministic_dirs', on))
        assert policy, (code, words)
        result = lib.sandlock_run(policy, None, *argv('/bin/ls', '-U', tmp_path))
        reason, code, _, out = finished(lib, result)
        assert (reason, code) == (EXITED, 0)
        shown[on] = out.split()
        lib.sandlock_sandbox_free(policy)
    assert shown[True] == sorted(shown[False]) != shown[False]


def test_mounts_and_root(lib, tmp_path):
    (tmp_path / 'file').write_text('mounted')
    policy, *_ = build(lib, ('fs_mount_ro', '/seen', str(tmp_path)), ('chroot', '/'))
    result = lib.sandlock_run(policy, None, *argv('cat', '/seen/file'))
    assert output(lib, result) == b'mounted'
    lib.sandlock_result_free(result)
    lib.sandlock_sandbox_free(policy)
    for bad in (('fs_mount', 'relative', '/'), ('fs_mount', '/a:b', '/'), ('chroot', '')):
        policy, code, words = build(lib, bad)
        assert not policy and code and bad[0].split('_ro')[0] in words


def test_time_and_randomness(lib):
    """The same clock and the same bytes as from the command line; wrong values name the field."""
    made, code, words = build(lib, ('fs_read', '/dev'), ('time_start', '2001-02-03T04:05:06Z'),
                              ('random_seed', 7))
    assert made, (code, words)
    program = ('sh', '-c', 'date +%F; head -c 8 /dev/urandom | od -An -tx1')
    outputs = {finished(lib, lib.sandlock_run(made, None, *argv(*program))) for _ in range(2)}
    lib.sandlock_sandbox_free(made)
    assert len(outputs) == 1
    reason, status, _, text = outputs.pop()
    assert (reason, status) == (EXITED, 0) and text.startswith(b'2001-02-03\n') and len(text) > 20
    made, code, words = build(lib, ('time_start', 'soon'))
    assert not made and code == -22 and 'time_start' in words


def test_limits(lib):
    """The setters hold, and the result says what happened."""
    pointer = ctypes.c_void_p
    helper = common.helper('limits')
    for name, kind in (('max_memory', ctypes.c_char_p), ('max_processes', ctypes.c_uint32),
                       ('max_cpu', ctypes.c_uint8), ('num_cpus', ctypes.c_uint32)):
        f = getattr(lib, f'sandlock_sandbox_builder_{name}')
        f.argtypes, f.restype = [pointer, kind], pointer
    for name in ('memory_kills', 'memory_peak', 'processes_refused'):
        f = getattr(lib, f'sandlock_result_{name}')
        f.argtypes, f.restype = [pointer], ctypes.c_uint64

    def end(*words, limit=None, number=None):
        b = lib.sandlock_sandbox_builder_new()
        for path in [*READABLE, os.path.dirname(helper)]:
            lib.sandlock_sandbox_builder_fs_read(b, path.encode())
        if limit:
            getattr(lib, f'sandlock_sandbox_builder_{limit}')(b, number)
        policy = lib.sandlock_sandbox_build(b, None, None)
        argv = (ctypes.c_char_p * 4)(helper.encode(), *[str(w).encode() for w in words])
        result = lib.sandlock_run(policy, None, argv, 1 + len(words))
        seen = (lib.sandlock_result_reason(result), lib.sandlock_result_memory_kills(result),
                lib.sandlock_result_processes_refused(result),
                lib.sandlock_result_memory_peak(result))
        lib.sandlock_result_free(result)
        lib.sandlock_sandbox_free(policy)
        return seen

    hog = 24 if common.IN_VM else 96
    assert end('anonymous', hog)[:3] == (EXITED, 0, 0)
    reason, kills, _, peak = end('anonymous', hog, limit='max_memory', number=b'12M')
    assert (reason, kills) == (KILLED, 1) and peak > 12 << 20
    assert end('crowd', 9, 'clone', limit='max_processes', number=4)[:3] == (EXITED, 0, 6)
    b = lib.sandlock_sandbox_builder_max_cpu(lib.sandlock_sandbox_builder_new(), 101)
    message = ctypes.c_void_p()
    assert lib.sandlock_sandbox_build(b, None, ctypes.byref(message)) is None
    assert b'max_cpu' in ctypes.string_at(message.value)
    lib.sandlock_string_free(message)


# ---- limits of a running sandbox ----

def popen(lib, policy, *words):
    """A started command with pipes to its stdin and from its stdout."""
    to, back = ctypes.c_int(), ctypes.c_int()
    words, n = argv(*words)
    handle = lib.sandlock_popen(policy, None, words, n, 1, 1, 0, ctypes.byref(to), ctypes.byref(back), None)
    assert handle
    return handle, os.fdopen(to.value, 'wb', 0), os.fdopen(back.value, 'rb')


def limited(lib, *setters):
    made, code, words = build(lib, ('fs_read', str(common.HELPERS)), ('fs_read', '/dev/null'), *setters)
    assert made, (code, words)
    return made


def test_memory_is_tightened(lib):
    """RM-05: what would have been allowed is killed from then on; never the other way."""
    big, small = (24, 12) if common.IN_VM else (100, 40)
    script = f'for i in 1 2; do read x; {common.helper("limits")} anonymous {big}; echo $?; done'
    policy = limited(lib, ('max_memory', f'{4 * big}M'))
    handle, to, back = popen(lib, policy, 'sh', '-c', script)
    restrict = lib.sandlock_handle_restrict_max_memory
    to.write(b'x\n')
    assert back.readline() + back.readline() == b'used\n0\n'
    assert restrict(handle, 0) == restrict(handle, 8 * big << 20) == -errno.EINVAL
    assert restrict(handle, small << 20) == 0
    assert restrict(handle, 4 * big << 20) == -errno.EINVAL
    assert lib.sandlock_handle_restrict_max_processes(handle, 1) == -errno.EOPNOTSUPP
    assert lib.sandlock_handle_restrict_max_cpu(handle, 1) == -errno.EOPNOTSUPP
    to.write(b'x\n')
    assert back.readline() == b'137\n'
    result = lib.sandlock_handle_wait(handle)
    assert lib.sandlock_result_memory_kills(result) == 1
    assert finished(lib, result)[:2] == (EXITED, 0)
    lib.sandlock_handle_free(handle)
    lib.sandlock_sandbox_free(policy)
    to.close()
    back.close()


def test_processes_are_tightened(lib):
    """RP-03: those that live stay, and no more come."""
    script = f'for i in 1 2; do read x; {common.helper("limits")} crowd 20; done'
    policy = limited(lib, ('max_processes', 30))
    handle, to, back = popen(lib, policy, 'sh', '-c', script)
    to.write(b'x\n')
    assert back.readline() == b'alive 20\n'
    assert lib.sandlock_handle_restrict_max_processes(handle, 31) == -errno.EINVAL
    assert lib.sandlock_handle_restrict_max_processes(handle, 6) == 0
    to.write(b'x\n')
    assert back.readline() == b'alive 4\n'  # beside the shell and itself
    assert finished(lib, lib.sandlock_handle_wait(handle))[:2] == (EXITED, 0)
    lib.sandlock_handle_free(handle)
    lib.sandlock_sandbox_free(policy)
    to.close()
    back.close()


def test_processor_is_tightened(lib):
    """From nearly all to nearly nothing. Only above counts: a busy machine gives less."""
    seconds = 4 if common.IN_VM else 1
    script = f'for i in 1 2; do read x; {common.helper("limits")} burn 1 {2 * seconds}; done'
    policy = limited(lib, ('max_cpu', 99))
    handle, to, back = popen(lib, policy, 'sh', '-c', script)
    to.write(b'x\n')
    before = float(back.readline().split()[1]) / (2 * seconds)
    assert lib.sandlock_handle_restrict_max_cpu(handle, 100) == -errno.EINVAL
    assert lib.sandlock_handle_restrict_max_cpu(handle, 5) == 0
    to.write(b'x\n')
    words = back.readline().split()
    assert float(words[1]) / float(words[3]) < 0.2, words
    if before < 0.3:
        pytest.skip('the machine is too busy to show a difference')
    assert finished(lib, lib.sandlock_handle_wait(handle))[:2] == (EXITED, 0)
    lib.sandlock_handle_free(handle)
    lib.sandlock_sandbox_free(policy)
    to.close()
    back.close()


def test_nothing_is_tightened_of_nothing(lib):
    for name in ('memory', 'processes', 'cpu'):
        assert getattr(lib, f'sandlock_handle_restrict_max_{name}')(None, 1) == -1
