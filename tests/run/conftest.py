# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests over the command. Tests run as root and as an ordinary user, natively and in
the virtual machine; whatever they leave is ended here."""
import os
import pathlib
import signal
import subprocess
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import common  # noqa: E402


def pytest_configure():
    """Tests do not depend on the umask they are started with."""
    os.umask(0o022)


@pytest.fixture(autouse=True)
def no_core_files(tmp_path, monkeypatch):
    """Programs that are killed on purpose leave nothing in the tree."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def marker():
    """A word for command lines; whoever carries it at the end is killed, and the test failed."""
    word = f'mark{uuid.uuid4().hex[:12]}'
    yield word
    left = common.processes(word)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    assert not left, f'processes survived: {left}'


@pytest.fixture
def background():
    """Starts commands that are killed when the test ends."""
    started = []

    def start(*args, **options):
        options.setdefault('stdin', subprocess.DEVNULL)
        options.setdefault('text', True)
        process = subprocess.Popen([*map(str, args)], **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                try:
                    stream.close()
                except OSError:
                    pass
