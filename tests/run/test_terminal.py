# SPDX-License-Identifier: Apache-2.0
"""Interactive use on a pseudo terminal: foreground, Ctrl-C, Ctrl-Z and fg, modes put back (IO-06,
U7). Each terminal belongs to a shell or to sandlock alone, as a real one does."""
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time

import pytest

from common import GRANTS, LIMIT, SANDLOCK, SLOW, gone, helper, native, wait_until

BASH = shutil.which('bash')
TTY = ['-w', '/dev/tty', '-r', '/dev/null']


class Terminal:
    """A session of its own with a controlling terminal."""

    def __init__(self, *command, env=None):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 200, 0, 0))
        self.modes = termios.tcgetattr(slave)
        self.text = ''

        def prepare():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen([*map(str, command)], stdin=slave, stdout=slave,
                                        stderr=slave, preexec_fn=prepare, env=env)
        self.slave = slave

    def send(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern, seconds=30):
        """Waits for a pattern and removes everything up to it."""
        end = time.monotonic() + seconds * SLOW
        while True:
            match = re.search(pattern, self.text)
            if match:
                self.text = self.text[match.end():]
                return match
            left = end - time.monotonic()
            assert left > 0, f'no {pattern!r} in {self.text!r}'
            if select.select([self.master], [], [], min(left, 0.5))[0]:
                try:
                    self.text += os.read(self.master, 65536).decode(errors='replace')
                except OSError:
                    assert re.search(pattern, self.text), f'ended; no {pattern!r} in {self.text!r}'

    def wait(self):
        """Exit status; reads on, so that nobody blocks writing."""
        end = time.monotonic() + LIMIT
        while self.process.poll() is None and time.monotonic() < end:
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode(errors='replace')
                except OSError:
                    time.sleep(0.05)
        return self.process.wait(1)

    def attributes(self):
        return termios.tcgetattr(self.slave)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture
def terminal():
    made = []

    def start(*command, **options):
        made.append(Terminal(*command, **options))
        return made[-1]
    yield start
    for one in made:
        one.close()


def inside(*command, options=()):
    return [SANDLOCK, 'run', *GRANTS, *TTY, *options, '--', *command]


POLICIES = pytest.mark.parametrize('options', [[], ['--fs-deny', '/etc/shadow']],
                                   ids=['default', 'fs-deny'])


@POLICIES
def test_reading_from_the_terminal(options, terminal):
    """No SIGTTIN: the command's group is in the foreground."""
    t = terminal(*inside('sh', '-c', 'echo ask; read x; echo "got <$x>"', options=options))
    t.expect('ask')
    t.send('word\n')
    t.expect('got <word>')
    assert t.wait() == 0


@POLICIES
def test_python_changes_modes_and_reads(options, terminal):
    """The existing implementation stops here with SIGTTOU."""
    program = ('import sys, termios, tty\nold = termios.tcgetattr(0)\ntty.setcbreak(0)\n'
               'print("ready", flush=True)\nc = sys.stdin.read(1)\n'
               'termios.tcsetattr(0, termios.TCSADRAIN, old)\nprint("key", c)')
    t = terminal(*inside('/usr/bin/python3', '-c', program, options=options))
    t.expect('ready')
    t.send('q')
    t.expect('key q')
    assert t.wait() == 0
    assert t.attributes() == t.modes


@POLICIES
def test_interrupt_key(options, terminal):
    t = terminal(*inside('sh', '-c', 'echo ready; exec sleep 100', options=options))
    t.expect('ready')
    t.send('\x03')
    assert t.wait() == 128 + signal.SIGINT
    t = terminal(*inside('sh', '-c', 'trap "echo caught; exit 9" INT; echo ready; '
                         'while :; do sleep 0.1; done', options=options))
    t.expect('ready')
    t.send('\x03')
    t.expect('caught')
    assert t.wait() == 9


def test_quit_key(terminal):
    t = terminal(*inside('sh', '-c', 'echo ready; exec sleep 100', options=['--no-coredump']))
    t.expect('ready')
    t.send('\x1c')
    assert t.wait() == 128 + signal.SIGQUIT


def test_interrupt_reaches_the_whole_job_only_once(terminal):
    """Key and forwarding together would count two."""
    program = ('import signal, time\nn = 0\ndef on(*a):\n  global n; n += 1\n'
               'signal.signal(signal.SIGINT, on)\nprint("ready", flush=True)\n'
               'end = time.monotonic() + 1\nwhile time.monotonic() < end: time.sleep(0.05)\n'
               'print("count", n)')
    t = terminal(*inside('/usr/bin/python3', '-c', program))
    t.expect('ready')
    t.send('\x03')
    t.expect(r'count 1\b')
    assert t.wait() == 0


@POLICIES
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_modes_are_put_back_after_a_killed_command(options, number, terminal):
    t = terminal(*inside('sh', '-c', f'stty raw -echo; echo set; kill -{int(number)} $$',
                         options=options))
    t.expect('set')
    assert t.wait() == 128 + number
    assert t.attributes() == t.modes


def test_modes_are_put_back_after_a_timeout(terminal):
    t = terminal(*inside('sh', '-c', 'stty raw -echo; echo set; sleep 100',
                         options=['-t', str(max(2, SLOW))]))
    t.expect('set')
    assert t.attributes() != t.modes
    assert t.wait() == 124
    assert t.attributes() == t.modes


def test_modes_of_a_normal_end_stay(terminal):
    """stty itself works: only what a killed program leaves is undone."""
    t = terminal(*inside('stty', '-echo'))
    assert t.wait() == 0
    assert not t.attributes()[3] & termios.ECHO and t.modes[3] & termios.ECHO


def test_window_size_signal(terminal):
    t = terminal(*inside('sh', '-c', 'trap "stty size; exit 5" WINCH; echo ready; '
                         'while :; do sleep 0.1; done'))
    t.expect('ready')
    fcntl.ioctl(t.master, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 111, 0, 0))
    t.expect('33 111')
    assert t.wait() == 5


# ---- under a shell with job control ----

@pytest.fixture
def shell(terminal):
    if not BASH:
        pytest.skip('no bash here: the other shells in reach have no job control to test')
    t = terminal(BASH, '--norc', '--noprofile', '--noediting', '-i',
                 env={**os.environ, 'PS1': 'prompt> ', 'TERM': 'dumb', 'HISTFILE': ''})
    t.expect('prompt> ')
    t.send('stty -echo\n')
    t.expect('prompt> ')
    return t


def command_line(*command, options=()):
    return ' '.join("'" + str(w).replace("'", "'\\''") + "'" for w in inside(*command,
                                                                             options=options))


@POLICIES
def test_stop_key_and_fg(options, shell):
    shell.send(command_line('sh', '-c', 'echo ready; read x; echo "got <$x>"; exit 7',
                            options=options) + '\n')
    shell.expect('ready')
    shell.send('\x1a')
    shell.expect('Stopped')
    shell.expect('prompt> ')
    shell.send('echo between $((40+2))\n')
    shell.expect('between 42')
    shell.send('fg\n')
    time.sleep(0.2 * SLOW)
    shell.send('word\n')
    shell.expect('got <word>')
    shell.expect('prompt> ')
    shell.send('echo code=$?\n')
    shell.expect('code=7')


def test_stop_key_bg_and_wait(shell, tmp_path):
    """The shell blocks in a builtin: stopped between vfork and exec, dash cannot be seen as stopped,
    without a sandbox either."""
    out, fifo = tmp_path / 'out', tmp_path / 'fifo'
    os.mkfifo(fifo)
    shell.send(command_line('sh', '-c', f'echo ready; read x <{fifo}; echo "$x" >{out}',
                            options=['-w', str(tmp_path)]) + '\n')
    shell.expect('ready')
    shell.send('\x1a')
    shell.expect('Stopped')
    shell.expect('prompt> ')
    shell.send('bg\n')
    shell.expect('prompt> ')
    fifo.write_text('done\n')
    shell.send('wait %1; echo code=$?\n')
    shell.expect('code=0')
    assert out.read_text() == 'done\n'


def test_nothing_runs_while_stopped(shell, marker):
    """A program that stops itself does not win time for its friends: they stop too."""
    script = (f'{helper("procs")} threads 1 {marker} & sleep 0.3; echo ready; kill -STOP $$; exit 3')
    shell.send(command_line('sh', '-c', script) + '\n')
    shell.expect('Stopped')
    shell.expect('prompt> ')

    def states():
        pids = native('pgrep', '-f', f'^{helper("procs")} threads 1 {marker}').stdout.split()
        return [open(f'/proc/{p}/stat', encoding='ascii').read().rpartition(')')[2].split()[0]
                for p in pids]
    assert wait_until(lambda: states() == ['T']), states()
    shell.send('fg; echo code=$?\n')
    shell.expect('code=3')
    assert gone(marker)


def test_background_job_that_reads_is_stopped(shell):
    shell.send(command_line('sh', '-c', 'read x; echo "got <$x>"') + ' &\n')
    shell.expect('prompt> ')
    time.sleep(0.3 * SLOW)
    shell.send('\n')
    shell.expect(r'Stopped|suspended')
    shell.send('fg\n')
    time.sleep(0.3 * SLOW)
    shell.send('late\n')
    shell.expect('got <late>')


@POLICIES
def test_killed_supervisor_leaves_a_working_terminal(options, shell, marker):
    """SIGKILL: nothing survives, and the shell has its terminal and modes back."""
    shell.send(command_line('sh', '-c', f'stty raw -echo; echo ready {marker[:4]}; : {marker}; '
                            'sleep 100', options=options) + '\n')
    shell.expect('ready')
    pids = native('pgrep', '-f', f'{SANDLOCK} run .*{marker}').stdout.split()
    assert pids
    os.kill(min(map(int, pids)), signal.SIGKILL)
    shell.expect('Killed')
    shell.expect('prompt> ')
    assert gone(marker)
    shell.send('echo code=$?\n')
    shell.expect('code=137')
    shell.send('stty -a\n')
    shell.expect(r'[^-]icanon')


@POLICIES
def test_captured_output_leaves_the_terminal_alone(options, shell):
    """In a pipeline the terminal stays with the shell's job, and Ctrl-C still ends it."""
    shell.send(command_line('sh', '-c', 'echo piped; exit 3', options=options) + ' | cat\n')
    shell.expect('piped')
    shell.expect('prompt> ')
    shell.send(command_line('sh', '-c', 'echo ready; exec sleep 100', options=options) + ' | cat\n')
    shell.expect('ready')
    shell.send('\x03')
    shell.expect('prompt> ')
    shell.send('echo still here\n')
    shell.expect('still here')


PAGER = """
import os, sys, termios, tty
key = os.open("/dev/tty", os.O_RDWR)
old = termios.tcgetattr(key)
tty.setcbreak(key)
print("pager ready", flush=True)
c = os.read(key, 1)
termios.tcsetattr(key, termios.TCSADRAIN, old)
print("key", c.decode())
"""


def test_pager_behind_the_sandbox(shell, tmp_path):
    """`sandlock run ... | less`: the terminal stays with the pager, which is outside."""
    (tmp_path / 'pager.py').write_text(PAGER)
    shell.send(command_line('sh', '-c', 'echo data; sleep 3') +
               f' | /usr/bin/python3 {tmp_path}/pager.py\n')
    shell.expect('pager ready')
    shell.send('k')
    shell.expect('key k')
    shell.expect('prompt> ')


def test_pager_in_the_sandbox(shell, tmp_path):
    """`cat | sandlock run -- less`: it gets the terminal when it asks for it."""
    (tmp_path / 'pager.py').write_text(PAGER)
    shell.send('echo data | ' + command_line('/usr/bin/python3', tmp_path / 'pager.py',
                                             options=['-r', str(tmp_path)]) + '\n')
    shell.expect('pager ready')
    shell.send('k')
    shell.expect('key k')
    shell.expect('prompt> ')


def test_typing_into_a_pipeline(shell):
    """`sandlock run -- cat | cat` reads what is typed."""
    shell.send(command_line('sh', '-c', 'echo ready; read x; echo "got <$x>"') + ' | cat\n')
    shell.expect('ready')
    time.sleep(0.2 * SLOW)
    shell.send('word\n')
    shell.expect('got <word>')
    shell.expect('prompt> ')


def test_shell_inside_has_job_control(terminal):
    """An interactive shell in the sandbox: no complaint about job control, its own Ctrl-Z works."""
    if not BASH:
        pytest.skip('no bash here: the other shells in reach have no job control to test')
    t = terminal(*inside(BASH, '--norc', '--noprofile', '-i', options=['--env', 'PS1=in> ',
                                                                     '--env', 'TERM=dumb']))
    assert 'job control' not in t.expect('in> ').string
    t.send('sleep 100\n')
    time.sleep(0.5 * SLOW)
    t.send('\x1a')
    t.expect('Stopped')
    t.send('kill %1; exit 4\n')
    t.expect('exit|in> ')
    t.send('exit 4\n') if t.process.poll() is None else None
    assert t.wait() == 4
