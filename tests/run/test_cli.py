# SPDX-License-Identifier: Apache-2.0
"""The command line itself: usage errors, help, exit codes of bad input, what is not built in yet,
the report of `check`. Nothing here needs a right or a sandboxed program beyond /bin/true.
"""
import json
import os
import pathlib
import platform
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SANDLOCK = os.environ.get('SANDLOCK', str(ROOT / 'build' / 'sandlock'))
SYSTEM = [a for p in ('/usr', '/lib', '/lib64', '/bin', '/etc') if os.path.exists(p)
          for a in ('-r', p)]
ROW = re.compile(r'^OPT\(\w+, "([^"]+)", (?:\'(.)\'|0), (?:"((?:[^"\\]|\\.)*)"|NULL), ([^,]+),', re.M)
LATER_COMMANDS = ('ps', 'inspect', 'kill', 'profile', 'learn', 'checkpoint', 'restore',
                  'explain', 'completion')
# cli.md's table of `run`, kept by hand on purpose: a row that vanishes from the program is noticed.
SPECIFIED = '''
fs-read fs-write fs-deny fs-mount chroot image workdir fs-storage on-exit on-error dry-run max-disk commit-backup commit-in-place
max-memory max-processes cpu max-open-files cpu-cores num-cpus gpu net-allow net-deny
net-allow-bind net-deny-bind port-remap http-allow http-deny http-port http-ca http-key
http-inject-ca http-ca-out credential http-auth time-start random-seed deterministic-dirs
no-randomize-memory no-huge-pages no-coredump env clean-env cwd user timeout exec-shell profile
profile-file name status-fd no-supervisor allow-degraded disable extra-deny-syscall
extra-allow-syscall explain events stats print-filter show-policy linger stop-signal stop-grace pty
quiet memory-mode rlimit diff changes-json dns-refresh'''.split()
LETTERS = {'r': 'fs-read', 'w': 'fs-write', 'm': 'max-memory', 'P': 'max-processes', 'c': 'cpu',
           't': 'timeout', 'e': 'exec-shell', 'p': 'profile'}


def table(command):
    text = (ROOT / 'cli' / f'{command}_options.def').read_text()
    rows = ROW.findall(text)
    assert len(rows) == len(re.findall(r'^OPT\(', text, re.M))
    return [{'name': n, 'letter': l, 'value': v, 'later': 'OPT_LATER' in f,
             'optional': 'OPT_OPTIONAL' in f} for n, l, v, f in rows]


def cli(*args, **kwargs):
    kwargs.setdefault('timeout', 60)
    # A PATH of root's with directories we may not search would turn "not found" into "denied".
    kwargs.setdefault('env', {**os.environ, 'PATH': '/usr/local/bin:/usr/bin:/bin'})
    return subprocess.run([SANDLOCK, *map(str, args)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, **kwargs)


def refused(result, code, *words):
    """One line on stderr that begins with our name, nothing on stdout."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ''
    assert result.stderr.startswith('sandlock: ')
    assert result.stderr.count('\n') == 1 and result.stderr.endswith('\n')
    for word in words:
        assert word in result.stderr


# ---- the table ----

def test_every_specified_option_is_in_the_table():
    names = {r['name'] for r in table('run')}
    assert set(SPECIFIED) <= names
    assert names - set(SPECIFIED) == {'help', 'version'}
    letters = {r['letter']: r['name'] for r in table('run') if r['letter']}
    assert letters == {**LETTERS, 'h': 'help', 'V': 'version'}


@pytest.mark.parametrize('row', [r for r in table('run') if r['later']], ids=lambda r: r['name'])
def test_later_options_are_refused_by_name(row, tmp_path):
    witness = tmp_path / 'ran'
    spellings = [[f'--{row["name"]}'] + (['1'] if row['value'] else [])]
    if row['value']:
        spellings.append([f'--{row["name"]}=1'])
    if row['letter']:
        spellings.append([f'-{row["letter"]}', '1'])
    for words in spellings:
        refused(cli('run', *SYSTEM, '-w', tmp_path, *words, '--', 'touch', witness), 125,
                f'--{row["name"]}: not built in yet')
    assert not witness.exists()


@pytest.mark.parametrize('command', LATER_COMMANDS)
def test_later_commands_are_refused_by_name(command):
    refused(cli(command), 125, f'sandlock: {command}: not built in yet')
    refused(cli(command, '--help'), 125, command)


# ---- usage ----

@pytest.mark.parametrize('args, words', [
    ([], ['no command given']),
    (['rnu'], ['rnu: unknown command; did you mean run?']),
    (['xyzzy'], ['xyzzy: unknown command']),
    (['help', 'xyzzy'], ['xyzzy: unknown command']),
    (['help', 'run', 'x'], ['help: unexpected word "x"']),
    (['-r', '/usr', '--', 'true'], ['-r: unknown option']),
    (['run'], ['no command given']),
    (['run', '--'], ['no command given']),
    (['run', '--fs-raed', '/'], ['--fs-raed: unknown option; did you mean --fs-read?']),
    (['run', '--fs', '/'], ['--fs: unknown option']),
    (['run', '-q', 'true'], ['-q: unknown option']),
    (['run', '-r'], ['--fs-read: needs a value']),
    (['run', '-r', '--', 'true'], ['--fs-read: needs a value']),
    (['run', '--clean-env=yes', 'true'], ['--clean-env: takes no value']),
    (['run', '-t', '1', '-t', '2', 'true'], ['--timeout: given more than once']),
    (['run', '-t', 'soon', 'true'], ['--timeout: "soon" is not a time in seconds']),
    (['run', '-t', '0', 'true'], ['--timeout', 'more than 0']),
    (['run', '-t', '-1', 'true'], ['--timeout']),
    (['run', '--net-allow', ':', 'true'], ['--net-allow: the port is missing']),
    (['run', '--net-allow', ':80,*', 'true'], ['mixes * with numbers']),
    (['run', '--net-allow', ':70000', 'true'], ['beyond port 65535']),
    (['run', '--net-allow', 'gopher://x', 'true'], ['unknown protocol']),
    (['run', '--net-deny', 'example.com', 'true'], ['--net-deny', 'names a host']),
    (['run', '--net-allow-bind', 'http', 'true'], ['--net-allow-bind: "http" is not a port']),
    (['run', '--env', 'PATH', 'true'], ['--env: "PATH" is not of the form KEY=VALUE']),
    (['run', '--user', '1000', 'true'], ['--user', 'only one of user and group']),
    (['run', '--user', 'root:root', 'true'], ['--user']),
    (['run', '--max-open-files', '0', 'true'], ['--max-open-files']),
    (['run', '--cpu-cores', 'x', 'true'], ['--cpu-cores']),
    (['run', '--gpu', 'some', 'true'], ['--gpu']),
    (['run', '--name', 'a/b', 'true'], ['--name', 'contains a slash']),
    (['run', '--name', 'x' * 65, 'true'], ['--name', 'longer than 64 bytes']),
    (['run', '--extra-deny-syscall', 'openta', 'true'], ['did you mean "openat"?']),
    (['run', '--extra-allow-syscall', 'ptrace', 'true'], ['--extra-allow-syscall', 'sysv_ipc']),
    (['run', '--allow-degraded', 'net_tcp', 'true'], ['did you mean "net-tcp"?']),
    (['run', '--disable', 'all', 'true'], ['--disable', 'accepted: fs-refer']),
    (['run', '--stop-signal', 'NOPE', 'true'], ['--stop-signal']),
    (['run', '--stop-grace', 'x', 'true'], ['--stop-grace']),
    (['run', '--status-fd', 'x', 'true'], ['--status-fd']),
    (['run', '--status-fd', '99', 'true'], ['--status-fd: descriptor 99 is not open']),
    (['run', '--print-filter=vax', 'true'], ['--print-filter', 'accepted: x86_64, aarch64']),
    (['run', '-e', 'true', '--', 'true'], ['--exec-shell: cannot be combined with a command']),
    (['run', '-e', '', ], ['--exec-shell: the command is empty']),
    (['run', '--quiet', '--stats', 'true'], ['--quiet: contradicts --stats']),
    (['run', '-r', '', 'true'], ['--fs-read: the path is empty']),
    (['check', '--jsno'], ['--jsno: unknown option; did you mean --json?']),
    (['check', 'x'], ['x: check takes no argument']),
], ids=lambda a: ' '.join(a)[:40] if isinstance(a, list) else None)
def test_wrong_usage_is_2_and_names_it(args, words):
    refused(cli(*args), 2, *words)


@pytest.mark.parametrize('args, words', [
    (['--disable', 'fs-refer'], ['--disable: fs-refer cannot be disabled']),
    (['--allow-degraded', 'net-tcp', '--disable', 'net-tcp'], ['both']),
    (['--disable', 'net-tcp', '--net-allow', ':80'], ['--net-allow: restricts nothing']),
    (['--net-allow', 'no-such-host.invalid:443'],
     ['--net-allow: cannot resolve "no-such-host.invalid"']),
    (['--no-supervisor', '--net-allow', '10.0.0.1'], ['--net-allow: a rule for a host']),
    (['--cpu-cores', '8191'], ['--cpu-cores: core 8191 is not available here']),
    (['--extra-deny-syscall', 'execve'], ['without execve no command can run']),
    (['--fs-read', '/no/such/path'], ['--fs-read', '/no/such/path']),
    (['--fs-write', '/no/such/path'], ['--fs-write', '/no/such/path']),
    (['--cwd', '/no/such/path'], ['/no/such/path']),
    (['--explain=/no/such/dir/file'], ['--explain', '/no/such/dir/file']),
], ids=lambda a: ' '.join(a)[:40] if isinstance(a, list) else None)
def test_impossible_policy_is_125_and_starts_nothing(args, words, tmp_path):
    witness = tmp_path / 'ran'
    command = ['touch', witness]
    result = cli('run', *SYSTEM, '-w', tmp_path, *args, '--', *command)
    refused(result, 125, *words)
    assert not witness.exists()
    # Control: the same without the impossible part.
    assert cli('run', *SYSTEM, '-w', tmp_path, '--', *command).returncode == 0
    assert witness.exists()


@pytest.mark.parametrize('flag', [
    ['--fs-deny', '/root'], ['--timeout', '9'], ['--name', 'x'], ['--explain'], ['--stats'],
    ['--status-fd', '2'], ['--linger'], ['--stop-signal', 'TERM'], ['--stop-grace', '0.2']],
    ids=lambda f: f[0])
def test_no_supervisor_refuses_by_name(flag):
    result = cli('run', *SYSTEM, '--no-supervisor', *flag, '--', 'true')
    assert result.returncode == 125
    assert f'sandlock: {flag[0]}: needs a supervisor' in result.stderr


def test_control_bytes_of_a_value_do_not_reach_the_terminal():
    result = cli('run', '--name', 'a\x1b[31m\nb', 'true')
    refused(result, 2, r'\x1b')
    assert '\x1b' not in result.stderr


def test_very_long_values_are_cut_not_fatal():
    for flag in ('-r', '--net-allow', '--env', '--name', '-t', '--extra-deny-syscall', '--disable'):
        result = cli('run', flag, 'x' * 100000, 'true')
        assert result.returncode in (2, 125), flag
        assert len(result.stderr) < 1200
    refused(cli('run', '--' + 'x' * 100000), 2, 'unknown option')


# ---- help and version ----

@pytest.mark.parametrize('command', ['run', 'check'])
def test_help_lists_every_option_and_fits(command):
    for spelling in ('--help', '-h'):
        result = cli(command, spelling)
        assert (result.returncode, result.stderr) == (0, '')
        lines = result.stdout.splitlines()
        assert lines[0].startswith(f'Usage: sandlock {command}')
        assert max(map(len, lines)) < 80
        assert not any(line != line.rstrip() for line in lines)
        built, _, later = result.stdout.partition('Not built in yet:')
        for row in table(command):
            place = later if row['later'] else built
            assert re.search(rf'--{row["name"]}\b', place), row['name']


def test_help_as_a_command():
    for words in ([], ['run'], ['check']):
        said = cli('help', *words)
        assert said.returncode == 0
        assert said.stdout == cli(*words, '--help').stdout
    refused(cli('help', 'ps'), 125, 'ps: not built in yet')


def test_help_and_version_at_the_top():
    for spelling in ('--help', '-h'):
        result = cli(spelling)
        assert result.returncode == 0
        assert 'run' in result.stdout and 'check' in result.stdout
        assert max(map(len, result.stdout.splitlines())) < 80
        for command in LATER_COMMANDS:
            assert command in result.stdout
    for words in (['--version'], ['-V'], ['run', '--version'], ['check', '-V']):
        result = cli(*words)
        assert re.fullmatch(r'sandlock \d+\.\d+\.\d+\n', result.stdout)


def test_help_wins_and_starts_nothing():
    result = cli('run', '-r', '/no/such/path', '--help', '--', 'true')
    assert result.returncode == 0 and result.stdout.startswith('Usage: ')


def test_unwritable_output_is_a_failure():
    with open('/dev/full', 'w') as full:
        result = subprocess.run([SANDLOCK, '--help'], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 125
    assert result.stderr.startswith('sandlock: cannot write')


# ---- documents that must keep up ----

def test_completions_are_current():
    subprocess.run(['python3', '-B', ROOT / 'cli/completions/generate.py', '--check'], check=True)


def test_manual_page_names_every_option():
    page = (ROOT / 'docs/man/sandlock-run.1.scd').read_text()
    for row in table('run'):
        assert (f'*--{row["name"]}*' in page) == (not row['later']), row['name']


# ---- check ----

def test_check_json_schema():
    result = cli('check', '--json')
    report = json.loads(result.stdout)
    assert result.stderr == ''
    assert result.returncode == (0 if report['default_policy']['can_run'] else 1)
    assert (report['default_policy']['reason'] is None) == report['default_policy']['can_run']
    assert report['architecture'] == platform.machine()
    assert report['kernel'] == platform.release()
    abi = report['landlock_abi']
    assert isinstance(abi, int) and isinstance(report['landlock_errno'], int)
    assert (report['landlock_errno'] == 0) == (abi > 0)
    needed = {'fs-refer': 2, 'fs-truncate': 3, 'net-tcp': 4, 'fs-ioctl-dev': 5, 'signal-scope': 6,
              'abstract-unix-socket-scope': 6}
    assert {p['name']: p['min_abi'] for p in report['protections']} == needed
    for p in report['protections']:
        assert p['state'] == ('available' if abi >= p['min_abi'] else 'missing')
        assert p['what']
    assert all(isinstance(v, bool) for v in report['features'].values())
    missing = [k for k, v in report['features'].items() if not v and k != 'ia32']
    assert [f['missing'] for f in report['fallbacks']] == missing
    assert all(f['consequence'] for f in report['fallbacks'])
    for name in ('seccomp_filter', 'notify', 'wait_killable', 'addfd_send', 'pidfd_getfd',
                 'process_vm', 'ptrace', 'user_namespaces'):
        assert name in report['features']


def test_check_table_agrees_with_json():
    report = json.loads(cli('check', '--json').stdout)
    text = cli('check').stdout
    assert f'Landlock ABI {report["landlock_abi"]}' in text
    for p in report['protections']:
        assert re.search(rf'^  {p["name"]} +{"yes" if p["state"] == "available" else "NO"} ', text,
                         re.M)
    for name, there in report['features'].items():
        if name != 'ia32':
            assert re.search(rf'^  {name} +{"yes" if there else "NO"} ', text, re.M), name
    assert ('can run here' in text) == report['default_policy']['can_run']


def test_check_says_what_a_run_finds():
    assert cli('check').returncode == cli('run', *SYSTEM, '--', 'true').returncode


# ---- endings ----

def run_with_status(*args):
    """Result and what arrived on the status descriptor."""
    reader, writer = os.pipe()
    try:
        result = cli('run', *SYSTEM, '--status-fd', writer, *args, pass_fds=[writer])
        os.close(writer)
        with os.fdopen(reader) as stream:
            reader = -1
            return result, stream.read()
    finally:
        if reader >= 0:
            os.close(reader)


@pytest.mark.parametrize('args, code, status', [
    (['--', 'true'], 0, (0, None)),
    (['--', 'sh', '-c', 'exit 7'], 7, (7, None)),
    (['-e', 'exit 255'], 255, (255, None)),
    (['-e', 'kill -TERM $$'], 143, (-1, 15)),
    (['-e', 'kill -KILL $$'], 137, (-1, 9)),
    (['--', 'no-such-command'], 127, (-1, None)),
    (['--', '/no/such/command'], 127, (-1, None)),
    (['--', ''], 127, (-1, None)),
    (['--', '/etc/passwd'], 126, (-1, None)),
    (['--cpu-cores', '8191', '--', 'true'], 125, (-1, None)),
    (['-r', '/no/such/path', '--', 'true'], 125, (-1, None)),
], ids=lambda a: ' '.join(a) if isinstance(a, list) else None)
def test_exit_code_and_status_line(args, code, status):
    result, line = run_with_status(*args)
    assert result.returncode == code, result.stderr
    signal = 'null' if status[1] is None else status[1]
    assert line == f'{{"exit_code":{status[0]},"signal":{signal}}}\n'


def test_timeout_is_reported_everywhere():
    # Long enough for the shell to start: an emulated machine takes its time.
    limit = '0.3' if float(os.environ.get('SANDLOCK_SLOW', '1')) <= 1 else '8.5'
    result, line = run_with_status('-t', limit, '-e', 'echo partial; exec sleep 300')
    assert result.returncode == 124
    assert result.stdout == 'partial\n'
    assert result.stderr == f'sandlock: timeout after {limit}s\n'
    status = json.loads(line)
    assert status['exit_code'] == -1 and line.count('\n') == 1
    assert cli('run', *SYSTEM, '-t', '0.3', '--quiet', '--', 'sleep', '300').stderr == ''
    # Control: the same command in time.
    assert cli('run', *SYSTEM, '-t', '30', '-e', 'echo partial').returncode == 0


def test_status_descriptor_must_be_writable_and_is_not_inherited():
    reader, writer = os.pipe()
    refused(cli('run', *SYSTEM, '--status-fd', reader, '--', 'true', pass_fds=[reader]), 2,
            f'--status-fd: descriptor {reader} is not open for writing')
    result = cli('run', *SYSTEM, '--status-fd', writer, '-e',
                 f'echo x >&{writer} && echo inherited', pass_fds=[writer])
    assert 'inherited' not in result.stdout
    os.close(writer)
    with os.fdopen(reader) as stream:
        assert stream.read() == f'{{"exit_code":{result.returncode},"signal":null}}\n'


def test_reader_of_the_status_line_may_be_gone():
    reader, writer = os.pipe()
    os.close(reader)
    result = cli('run', *SYSTEM, '--status-fd', writer, '-e', 'exit 3', pass_fds=[writer])
    os.close(writer)
    assert result.returncode == 3


def test_stats():
    result = cli('run', *SYSTEM, '--stats', '-e', 'echo out; cat /etc/hostname >/dev/null; exit 4')
    assert (result.returncode, result.stdout) == (4, 'out\n')
    lines = result.stderr.splitlines()
    assert 'sandlock: notifications: 0' in lines
    assert any(re.fullmatch(r'sandlock: denied: \d+', line) for line in lines)
    assert any(re.fullmatch(r'sandlock: max rss: [1-9]\d* kB', line) for line in lines)
    mediated = cli('run', *SYSTEM, '--fs-deny', '/etc/shadow', '--stats', '-e', 'read x </etc/hostname')
    found = re.search(r'^sandlock: notifications: (\d+)$', mediated.stderr, re.M)
    assert found and int(found[1]) > 0


def test_standard_output_belongs_to_the_command():
    result = cli('run', *SYSTEM, '--stats', '--explain', '-e', 'printf x')
    assert result.stdout == 'x'
    assert all(line.startswith('sandlock: ') for line in result.stderr.splitlines())


def test_command_words_are_not_options():
    for words in (['--', 'echo', '-r', '--nonsense', '--'], ['echo', '-r', '--nonsense', '--']):
        assert cli('run', *SYSTEM, *words).stdout == '-r --nonsense --\n'


def test_environment_options():
    env = {**os.environ, 'SECRET': 'x', 'PATH': '/usr/bin:/bin'}
    assert 'SECRET=x' in cli('run', *SYSTEM, '--', 'env', env=env).stdout
    clean = cli('run', *SYSTEM, '--clean-env', '--env', 'A=1', '--env', 'A=2=3', '--', 'env',
                env=env).stdout.splitlines()
    names = {line.partition('=')[0] for line in clean}
    assert 'A=2=3' in clean and 'A=1' not in clean
    assert names <= {'PATH', 'HOME', 'USER', 'TERM', 'LANG', 'A'} and 'PATH' in names


def test_closed_standard_descriptors():
    for closing in ('<&-', '>&-', '2>&-', '<&- >&- 2>&-'):
        words = ' '.join([SANDLOCK, 'run', *SYSTEM, '-e', '"exit 5"', closing])
        assert subprocess.run(['sh', '-c', words], timeout=60).returncode == 5


@pytest.mark.parametrize('machine, other', [('x86_64', 'aarch64'), ('aarch64', 'x86_64')])
def test_print_filter(machine, other):
    result = cli('run', *SYSTEM, f'--print-filter={machine}')
    assert (result.returncode, result.stderr) == (0, '')
    assert len(result.stdout.splitlines()) > 50
    assert result.stdout != cli('run', *SYSTEM, f'--print-filter={other}').stdout
    assert cli('run', '-r', '/no/such/path', '--print-filter', '--', 'touch', '/x').returncode == 0
    if machine == platform.machine():
        assert result.stdout == cli('run', *SYSTEM, '--print-filter').stdout
