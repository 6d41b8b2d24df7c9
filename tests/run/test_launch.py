# SPDX-License-Identifier: Apache-2.0
"""What a command finds when it starts: arguments, environment, descriptors, signals, limits,
identity; and how the run ends (process.md sections 1, 2, 4, 12, 13)."""
import json
import os
import platform
import re
import signal
import subprocess

import pytest

from common import (GRANTS, IN_VM, LIMIT, SANDLOCK, SYSTEM, helper, native, run, sandlock, shell)


def state(text):
    """Output of the helper `state` as a dictionary."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(' ')
        found[key] = value
    return found


def state_inside(*args, **options):
    result = run(*args, '--', helper('state'), **options)
    assert result.returncode == 0, result.stderr
    return state(result.stdout)


def state_outside(**options):
    return state(native(helper('state'), **options).stdout)


# ---- arguments, environment, directory ----

def test_arguments_arrive_byte_by_byte():
    words = ['', ' ', 'a b', '--', '-r', '/etc', '*', "'\"$x`", '\\', '\t\n', 'é', 'x' * 70000]
    result = run('--', helper('state'), *words)
    assert result.stdout.partition('arg ')[2] == ''.join(
        ('arg ' if i else '') + w + '\n' for i, w in enumerate([helper('state'), *words]))
    raw = subprocess.run([SANDLOCK, 'run', *GRANTS, '--', 'printf', '%s', b'\xff\xfe'],
                         stdout=subprocess.PIPE, check=True, timeout=LIMIT)
    assert raw.stdout == b'\xff\xfe'


def test_argv0_is_what_the_caller_gave():
    assert run('--', 'sh', '-c', 'echo $0').stdout == 'sh\n'
    assert run('--', '/bin/sh', '-c', 'echo $0').stdout == '/bin/sh\n'


def test_many_arguments():
    words = [str(i) for i in range(20000)]
    assert run('--', 'echo', *words).stdout == ' '.join(words) + '\n'


def test_environment_is_inherited_and_changed():
    env = {'PATH': os.environ['PATH'], 'A': '1', 'B': 'x y=z', 'HOME': '/h', 'USER': 'u',
           'TERM': 'dumb', 'LANG': 'C', 'EMPTY': ''}
    inside = run('--', 'env', '-0', env=env).stdout.split('\0')[:-1]
    assert sorted(inside) == sorted(f'{k}={v}' for k, v in env.items())
    inside = run('--env', 'A=2', '--env', 'C=a=b', '--', 'env', '-0', env=env).stdout.split('\0')
    assert inside.count('A=2') == 1 and 'A=1' not in inside and 'C=a=b' in inside
    clean = run('--clean-env', '--', 'env', '-0', env=env).stdout.split('\0')[:-1]
    assert sorted(clean) == sorted(f'{k}={env[k]}' for k in ('PATH', 'HOME', 'USER', 'TERM', 'LANG'))


def test_path_is_searched_in_the_commands_environment(tmp_path):
    (tmp_path / 'prog').write_text('#!/bin/sh\necho mine\n')
    (tmp_path / 'prog').chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    assert run('-r', tmp_path, '--env', f'PATH={path}', '--', 'prog').stdout == 'mine\n'
    assert run('-r', tmp_path, '--', 'prog').returncode == 127


def test_cwd(tmp_path):
    (tmp_path / 'a b').mkdir()
    assert shell('pwd', '-r', tmp_path, '--cwd', tmp_path / 'a b').stdout == f'{tmp_path}/a b\n'
    assert shell('pwd', '-r', tmp_path, cwd=tmp_path).stdout == f'{tmp_path}\n'
    missing = shell('pwd', '--cwd', tmp_path / 'missing')
    assert missing.returncode == 125 and str(tmp_path / 'missing') in missing.stderr
    # Relative words of the policy belong to the caller's directory, a relative command to --cwd.
    (tmp_path / 'a b' / 'prog').write_text('#!/bin/sh\necho here\n')
    (tmp_path / 'a b' / 'prog').chmod(0o755)
    result = sandlock('run', *GRANTS, '-r', 'a b', '--cwd', 'a b', '--', './prog', cwd=tmp_path)
    assert (result.stdout, result.returncode) == ('here\n', 0), result.stderr


def test_directory_removed_meanwhile(tmp_path):
    (tmp_path / 'gone').mkdir()
    script = f'cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec "$@"'
    result = native('sh', '-c', script, 'sh', SANDLOCK, 'run', *GRANTS, '--', 'echo', 'ran')
    assert (result.returncode, result.stdout) == (0, 'ran\n'), result.stderr


# ---- descriptors ----

@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow'], ['--explain'],
                                     ['--no-supervisor']], ids=lambda o: ' '.join(o) or 'default')
def test_no_descriptor_leaks(options):
    keep = [os.open('/etc/passwd', os.O_RDONLY) for _ in range(5)]
    for fd in keep:
        os.set_inheritable(fd, True)
    try:
        outside = state(subprocess.run([helper('state')], stdout=subprocess.PIPE, check=True,
                                       text=True, close_fds=False).stdout)
        assert set(map(str, keep)) <= set(outside['fds'].split())
        result = subprocess.run([SANDLOCK, 'run', *GRANTS, *options, '--', helper('state')],
                                stdout=subprocess.PIPE, check=True, text=True, close_fds=False,
                                stdin=subprocess.DEVNULL, timeout=LIMIT)
        assert state(result.stdout)['fds'] == '0 1 2'
    finally:
        for fd in keep:
            os.close(fd)


def test_status_descriptor_does_not_leak():
    reader, writer = os.pipe()
    found = state_inside('--status-fd', writer, pass_fds=[writer])
    os.close(writer)
    os.close(reader)
    assert found['fds'] == '0 1 2'


def test_descriptors_seen_through_proc():
    result = run('-r', '/proc', '--', 'ls', '/proc/self/fd')
    # ls itself opens the directory.
    assert set(result.stdout.split()) <= {'0', '1', '2', '3'}, result.stderr


@pytest.mark.parametrize('closed', [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)],
                         ids=lambda c: ''.join(map(str, c)))
@pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow', '--stats']],
                         ids=['default', 'mediated'])
def test_closed_standard_streams_stay_closed(closed, options, tmp_path):
    """The helper writes to a file when stdout is closed: through a shell inside."""
    out = tmp_path / 'out'
    closing = ' '.join(f'{fd}<&-' if fd == 0 else f'{fd}>&-' for fd in closed)
    inner = f'exec {helper("probe_fds")} {out}'
    command = ' '.join([SANDLOCK, 'run', *GRANTS, '-w', str(tmp_path), *options, '--',
                        'sh', '-c', f"'{inner}'", closing])
    done = subprocess.run(['sh', '-c', command], timeout=LIMIT, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL)
    assert done.returncode == 0
    still_open = {0, 1, 2} - set(closed)
    assert out.read_text() == ''.join(f'{fd}\n' for fd in sorted(still_open))


# ---- signals and inherited attributes ----

def with_signals(ignored=(), blocked=()):
    def prepare():
        for n in ignored:
            signal.signal(n, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    return prepare


@pytest.mark.parametrize('options', [[], ['--no-supervisor'], ['-t', '100', '--fs-deny', '/etc/x']],
                         ids=['default', 'no-supervisor', 'mediated'])
def test_signal_state_is_the_callers(options):
    """subprocess sets SIGPIPE back to default; Python's own ignored SIGPIPE must not show."""
    assert state_inside(*options)['ignored'] == state_outside()['ignored'] == ''
    assert state_inside(*options)['blocked'] == ''
    prepare = with_signals([signal.SIGHUP, signal.SIGUSR1], [signal.SIGUSR2, signal.SIGTERM])
    outside = state_outside(preexec_fn=prepare)
    inside = state_inside(*options, preexec_fn=prepare)
    assert outside['ignored'] == f'{int(signal.SIGHUP)} {int(signal.SIGUSR1)}'
    assert inside['ignored'] == outside['ignored']
    assert inside['blocked'] == outside['blocked'] == f'{int(signal.SIGUSR2)} {int(signal.SIGTERM)}'
    assert inside['caught'] == ''


def test_nohup_stays():
    result = native('nohup', SANDLOCK, 'run', *GRANTS, '--', helper('state'))
    assert state(result.stdout)['ignored'] == str(int(signal.SIGHUP))


def test_sigpipe_ends_the_writer():
    """`yes | head -1` inside ends; yes dies by SIGPIPE rather than seeing an error."""
    result = shell('yes 2>&1 | head -1')
    assert result.stdout == 'y\n' and result.returncode == 0
    # Control: an ignored SIGPIPE does show.
    ignored = subprocess.run([SANDLOCK, 'run', *GRANTS, '--', helper('state')], check=True,
                             stdout=subprocess.PIPE, text=True, restore_signals=False)
    assert str(int(signal.SIGPIPE)) in state(ignored.stdout)['ignored'].split()


def test_nice_umask_and_limits_are_unchanged():
    nice = min(os.nice(0) + 3, 19)

    def prepare():
        os.nice(3)
        os.umask(0o027)
    outside = state_outside(preexec_fn=prepare)
    inside = state_inside(preexec_fn=prepare)
    assert (inside['nice'], inside['umask']) == (outside['nice'], outside['umask'])
    assert outside['nice'] == str(nice) and outside['umask'] == '027'
    for key in ('nofile', 'core', 'thp-disabled', 'cpus', 'personality', 'dumpable', 'cwd'):
        assert inside[key] == outside[key], key


def test_own_process_group():
    assert state_inside()['group-leader'] == '1'


# ---- options that set an attribute ----

def test_max_open_files():
    assert state_inside('--max-open-files', '64')['nofile'] == '64 64'
    assert state_outside()['nofile'] != '64 64'
    # Never raised above what was inherited.
    import resource
    lower = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 50))
    assert state_inside('--max-open-files', '1000', preexec_fn=lower)['nofile'] == '40 50'
    assert state_inside(preexec_fn=lower)['nofile'] == '40 50'
    result = run('--max-open-files', '64', '--', '/usr/bin/python3', '-c', 'import resource as r\n'
                 'try: r.setrlimit(r.RLIMIT_NOFILE, (65, 65)); print("raised")\n'
                 'except (ValueError, OSError): print("held")')
    assert result.stdout == 'held\n', result.stderr


def test_open_files_limit_under_mediation():
    """Injected descriptors respect the limit and the errno is EMFILE."""
    program = ('import os, errno\nn = 0\ntry:\n  while n < 200: os.open("/etc/passwd", 0); n += 1\n'
               'except OSError as e: print(errno.errorcode[e.errno], n < 64)')
    for options in ([], ['--fs-deny', '/etc/shadow']):
        result = run('--max-open-files', '64', *options, '--', '/usr/bin/python3', '-c', program)
        assert result.stdout == 'EMFILE True\n', result.stderr


def test_cpu_cores():
    mine = sorted(os.sched_getaffinity(0))
    assert state_inside('--cpu-cores', mine[-1])['cpus'] == str(mine[-1])
    assert state_outside()['cpus'] == ' '.join(map(str, mine))
    assert shell('nproc', '--cpu-cores', mine[0]).stdout == '1\n'


def test_coredump_and_huge_pages():
    inside = state_inside('--no-coredump', '--no-huge-pages')
    assert inside['core'] == '0' and inside['thp-disabled'] == '1'
    assert inside['dumpable'] == '1'
    outside = state_outside()
    assert outside['thp-disabled'] == '0'


def test_no_randomize_memory():
    """Two runs see identical addresses; without the option they differ."""
    command = ['--', '/usr/bin/python3', '-c',
               'print(open("/proc/self/maps").read().replace("\\n", "|"))']
    fixed = {re.sub(r'\[v\w+\]', '', run('-r', '/proc', '--no-randomize-memory', *command).stdout)
             for _ in range(3)}
    assert len(fixed) == 1 and 'stack' in next(iter(fixed))
    states = [state_inside('--no-randomize-memory') for _ in range(2)]
    assert states[0]['stack'] == states[1]['stack'] and states[0]['heap'] == states[1]['heap']
    free = {state_inside()['stack'] for _ in range(3)}
    assert len(free) > 1
    # Read-modify-write: the rest of the personality stays, and the command cannot undo it.
    assert int(states[0]['personality'], 16) == int(state_outside()['personality'], 16) | 0x40000


def test_name_is_the_host_name():
    inside = state_inside('--name', 'box-1.a')
    assert inside['uname'].split() == ['Linux', 'box-1.a', platform.machine()]
    assert run('--name', 'box', '--', 'uname', '-n').stdout == 'box\n'
    assert state_outside()['uname'].split()[1] == platform.node()
    assert run('--', 'uname', '-n').stdout.strip() == platform.node()


@pytest.mark.parametrize('name', ['', '.', '..', 'a/b', 'a b', 'a\nb', 'x' * 65])
def test_bad_names(name):
    result = run('--name', name, '--', 'true')
    assert result.returncode in (2, 125) and '--name' in result.stderr
    assert run('--name', 'x' * 64, '--', 'true').returncode == 0


# ---- privileges ----

def test_no_privileges_inside():
    inside = state_inside()
    assert inside['nnp'] == '1' and inside['seccomp'] == '2'
    effective, permitted, inheritable = inside['caps'].split()
    assert int(effective, 16) == int(permitted, 16) == int(inheritable, 16) == 0
    if os.getuid() == 0:
        assert inside['bounding'] == '0'
        assert int(state_outside()['caps'].split()[0], 16) != 0
    ids = f'{os.getuid()} {os.geteuid()} {os.getgid()} {os.getegid()}'
    assert inside['ids'] == ids


def test_status_file_inside():
    """The kernel's own account, through a granted /proc."""
    text = run('-r', '/proc', '--', 'cat', '/proc/self/status').stdout
    fields = dict(line.split(':\t', 1) for line in text.splitlines() if ':\t' in line)
    assert fields['NoNewPrivs'] == '1' and fields['Seccomp'] == '2'
    sets = ('CapInh', 'CapPrm', 'CapEff', 'CapAmb') + (('CapBnd',) if os.getuid() == 0 else ())
    for name in sets:
        assert int(fields[name], 16) == 0, name
    # Control: as root they are there outside.
    outside = dict(line.split(':\t', 1) for line in
                   native('cat', '/proc/self/status').stdout.splitlines() if ':\t' in line)
    assert outside['Seccomp'] != '2' or IN_VM
    assert (int(outside['CapEff'], 16) != 0) == (os.geteuid() == 0)


def namespaces_work():
    return native('unshare', '-U', 'true').returncode == 0


def test_user():
    if not namespaces_work():
        pytest.skip('this kernel refuses user namespaces to this user')
    inside = state_inside('--user', '0:0')
    assert inside['ids'] == '0 0 0 0'
    assert inside['caps'].split()[0].strip('0') == ''
    assert state_inside('--user', '1234:4321')['ids'] == '1234 1234 4321 4321'
    # The mapping shows in files too, and gives no right: a file of root stays closed.
    same = f'{os.getuid()}:{os.getgid()}'
    assert state_inside('--user', same)['ids'] == state_inside()['ids']
    assert run('--user', '0:0', '--', 'id', '-u').stdout == '0\n'


def test_user_needs_both():
    for word in ('0', '0:', ':0', 'a:b', '-1:0', '0:99999999999'):
        result = run('--user', word, '--', 'true')
        assert result.returncode == 2 and '--user' in result.stderr, word


# ---- how a run ends ----

def test_every_exit_code():
    """256 codes in one shell of ours each; the control is the same shell outside."""
    step = 16 if IN_VM else 1
    for code in sorted({*range(0, 256, step), 1, 2, 124, 125, 126, 127, 128, 255}):
        result = run('--', 'sh', '-c', f'exit {code}')
        assert (result.returncode, result.stderr) == (code, '')


def test_signals_become_128_plus_n():
    for number in (1, 2, 3, 4, 6, 9, 11, 13, 15, 31, 34, 64, *(() if IN_VM else (5, 7, 8, 10, 12, 24))):
        result = shell(f'kill -{number} $$')
        assert result.returncode == 128 + number, result.stderr


def test_command_not_found_and_not_executable(tmp_path):
    plain = tmp_path / 'plain'
    plain.write_text('data')
    directory = tmp_path / 'dir'
    directory.mkdir()
    for word, code in (('no-such-command-x', 127), (tmp_path / 'missing', 127), (plain, 126),
                       (directory, 126), ('/etc/passwd', 126), (plain / 'below', 126)):
        result = run('-r', tmp_path, '--', word)
        # A path through a file is "not a directory": not found is as true.
        assert result.returncode == code or (word == plain / 'below' and result.returncode == 127)
        assert result.stderr.startswith('sandlock: ') and result.stderr.count('\n') == 1
        assert str(word) in result.stderr
    assert result.stdout == ''


def test_program_outside_every_grant(tmp_path):
    program = tmp_path / 'prog'
    program.write_text('#!/bin/sh\necho ran\n')
    program.chmod(0o755)
    result = run('--', program)
    assert result.returncode == 126 and result.stdout == ''
    assert 'grant' in result.stderr and str(program) in result.stderr
    assert '-r' in result.stderr or '--fs-read' in result.stderr
    assert run('-r', program, '--', program).stdout == 'ran\n'


def test_interpreter_missing(tmp_path):
    program = tmp_path / 'prog'
    program.write_text('#!/no/such/interpreter\n')
    program.chmod(0o755)
    result = run('-r', tmp_path, '--', program)
    assert result.returncode in (126, 127)
    assert result.stderr.startswith('sandlock: ') and str(program) in result.stderr


def test_script_without_header(tmp_path):
    """As execvp and every shell do: /bin/sh runs it."""
    program = tmp_path / 'prog'
    program.write_text('echo script $1\n')
    program.chmod(0o755)
    result = run('-r', tmp_path, '--', program, 'word')
    assert (result.returncode, result.stdout) == (0, 'script word\n'), result.stderr
    # Control, by execvp itself.
    assert native('env', program, 'word').stdout == 'script word\n'


def test_exec_shell():
    assert run('-e', 'echo $((6*7)) | cat').stdout == '42\n'
    assert run('-e', 'exit 3').returncode == 3
    result = run('-e', 'true', '--', 'true')
    assert result.returncode == 2


def status_of(*args, **options):
    reader, writer = os.pipe()
    result = run('--status-fd', writer, *args, pass_fds=[writer], **options)
    os.close(writer)
    with os.fdopen(reader) as stream:
        return result, json.loads(stream.read())


def test_status_line_under_mediation():
    """Every ending, with a supervisor that has something to do."""
    deny = ['--fs-deny', '/etc/shadow']
    assert status_of(*deny, '--', 'true')[1] == {'exit_code': 0, 'signal': None}
    assert status_of(*deny, '--', 'sh', '-c', 'exit 9')[1] == {'exit_code': 9, 'signal': None}
    assert status_of(*deny, '--', 'sh', '-c', 'kill -9 $$')[1] == {'exit_code': -1, 'signal': 9}
    result, line = status_of(*deny, '--', 'no-such-command-x')
    assert result.returncode == 127 and line['exit_code'] == -1
    result, line = status_of(*deny, '-t', '0.2', '--', 'sleep', '100')
    assert result.returncode == 124 and line['exit_code'] == -1
    assert result.stderr.startswith('sandlock: timeout after 0.2s')


def test_missing_grant_is_an_error(tmp_path):
    for flag in ('-r', '-w'):
        result = run(flag, tmp_path / 'missing', '--', 'touch', tmp_path / 'ran')
        assert result.returncode == 125 and str(tmp_path / 'missing') in result.stderr
        assert flag.strip('-') in result.stderr or '--fs' in result.stderr
    assert not (tmp_path / 'ran').exists()


# ---- without a supervisor, nesting ----

def test_no_supervisor_confines():
    """NS-01: it becomes the command, and the wall stands."""
    result = shell('head -c1 /etc/passwd', '--no-supervisor')
    assert (result.returncode, result.stdout) == (0, 'r')
    denied = run('--no-supervisor', '--', 'ls', '/var')
    assert denied.returncode != 0 and 'Permission denied' in denied.stderr
    assert native('ls', '/var').returncode == 0
    inside = state_inside('--no-supervisor')
    assert inside['nnp'] == '1' and inside['seccomp'] == '2'
    assert inside['caps'].split()[0].strip('0') == ''


@pytest.mark.parametrize('option', [['--fs-deny', '/etc/shadow'], ['-t', '5'], ['--explain'],
                                    ['--stats'], ['--name', 'x'], ['--linger'],
                                    ['--stop-grace', '1']], ids=lambda o: o[0])
def test_no_supervisor_refuses_by_name(option, tmp_path):
    result = run('--no-supervisor', *option, '-w', tmp_path, '--', 'touch', tmp_path / 'ran')
    assert result.returncode in (2, 125)
    name = {'-t': 'timeout'}.get(option[0], option[0])
    assert name in result.stderr and 'no-supervisor' in result.stderr
    assert not (tmp_path / 'ran').exists()


def test_nesting_under_no_supervisor(tmp_path):
    """NS-02: a full sandbox inside, which only narrows."""
    outer = [SANDLOCK, 'run', '--no-supervisor', *GRANTS, '-r', '/proc', '-r', SANDLOCK,
             '-w', str(tmp_path), '-w', '/dev/null', '--']
    inner = [SANDLOCK, 'run', *SYSTEM, '--']
    result = native(*outer, *inner, 'sh', '-c', 'echo inside')
    assert (result.returncode, result.stdout) == (0, 'inside\n'), result.stderr
    result = native(*outer, *inner, 'touch', tmp_path / 'x')
    assert result.returncode != 0 and not (tmp_path / 'x').exists()
    control = native(*outer, 'touch', tmp_path / 'x')
    assert control.returncode == 0 and (tmp_path / 'x').exists()
    result = native(*outer, *inner[:-1], '-w', tmp_path, '--fs-deny', tmp_path / 'x', '--', 'sh',
                    '-c', f'cat {tmp_path}/x; echo new >{tmp_path}/y')
    assert 'ermission denied' in result.stderr and (tmp_path / 'y').exists(), result.stderr


@pytest.mark.parametrize('inner', [['--fs-deny', '/etc/passwd'], ['--explain'], ['--name', 'x']],
                         ids=lambda i: i[0])
def test_nesting_under_a_supervisor_is_explained(inner):
    result = native(SANDLOCK, 'run', *GRANTS, '-r', '/proc', '-r', SANDLOCK, '-w', '/dev/null',
                    '--fs-deny', '/etc/shadow', '--', SANDLOCK, 'run', *SYSTEM, *inner, '--', 'true')
    assert result.returncode == 125, result.stderr
    assert result.stderr.count('\n') == 1 and result.stderr.startswith('sandlock: ')
    assert '--no-supervisor' in result.stderr
