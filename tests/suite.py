# SPDX-License-Identifier: Apache-2.0
"""Runs the built tests as the current user, here or inside the virtual machine, and ends with one
line `suite LABEL: N passed, N failed, N skipped`. Only the standard library is needed."""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
PYTEST_FOLDERS = ["tests/run", "tests/attack"]
MESON_SKIP, MESON_ERROR = 77, 99
RETRY_MAX = 4
FAILURE, FAILURE_LINES = "failure | ", 30  # how the end of a failed test's text is marked, and its length


class Count:
    """What happened so far."""

    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def add(self, other):
        """Adds another count to this one."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def good(self):
        """Something ran and nothing failed."""
        return self.failed == 0 and self.passed > 0

    @staticmethod
    def parse(text):
        """The count in a line, or None."""
        match = re.search(r"(\d+) passed, (\d+) failed, (\d+) skipped", text)
        return Count(*map(int, match.groups())) if match else None


def count_program(status, output):
    """One unit test program: cmocka says how many tests passed and failed."""
    passed = sum(map(int, re.findall(r"\[  PASSED  \] (\d+) test", output)))
    failed = sum(map(int, re.findall(r"\[  FAILED  \] (\d+) test", output)))
    skipped = sum(map(int, re.findall(r"\[  SKIPPED \] (\d+) test", output)))
    # cmocka reports skipped tests among those that passed as well.
    passed = max(passed - skipped, 0)
    if status == MESON_SKIP:
        return Count(0, 0, 1)
    if status != 0:
        return Count(passed, max(failed, 1), skipped)
    return Count(passed + (passed + skipped == 0), 0, skipped)


def print_failure(name, text):
    """The end of what a failed test said, marked for all.py to say it again at the very end: a CI may
    show no more of a long output."""
    for line in [name, *text.rstrip().splitlines()[-FAILURE_LINES:]]:
        print(FAILURE + line, flush=True)


def run_unit(test, slow):
    """Runs one program of `meson introspect --tests`."""
    env = dict(os.environ)
    if isinstance(test["env"], dict):
        env.update(test["env"])
    try:
        done = subprocess.run(test["cmd"], env=env, cwd=test["workdir"] or TREE, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, errors="replace",
                              timeout=(test["timeout"] or 120) * slow)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        out = error.stdout or b""
        return 1, (out if isinstance(out, str) else out.decode(errors="replace")) + "\ntimed out"
    except OSError as error:
        return 1, str(error)


def run_units(build, slow):
    """All programs that Meson knows as tests; the list was made where Meson is."""
    listing = build / "tests.json"
    tests = json.loads(listing.read_text()) if listing.exists() else []
    total = Count()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for test, (status, output) in zip(tests, pool.map(lambda t: run_unit(t, slow), tests)):
            one = count_program(status, output)
            total.add(one)
            print(f"unit {test['name']}: {one}", flush=True)
            if one.failed:
                print(output, flush=True)
                print_failure(f"unit {test['name']}", output)
    return total


def call_pytest(words, slow, scratch):
    """One run in the directory `scratch`; the count, and what failed: node names and texts."""
    report = os.path.join(scratch, "report.xml")
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", TMPDIR=os.path.join(scratch, "tmp"))
    os.makedirs(env["TMPDIR"])
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rs", "--color=no",
                           "--durations=25", "-o", f"faulthandler_timeout={300 * slow:.0f}",
                           "-p", "no:cacheprovider", "--basetemp", os.path.join(scratch, "base"),
                           f"--junit-xml={report}", *words],
                          cwd=TREE, env=env, stdin=subprocess.DEVNULL, check=False)
    return count_report(report, done.returncode), failures(report)


def run_pytest(folders, extra, slow, label):
    """The pytest part, with a private temporary directory and home. A few failures outside
    tests/attack are given one more try, alone: machines are shared and some tests watch a clock.
    What passes then is named in the output; an attack that succeeds once has succeeded."""
    folders = [f for f in folders if any((TREE / f).rglob("test_*.py"))] if not extra else []
    if not folders and not extra:
        return Count()
    scratch = tempfile.mkdtemp(prefix="sandlock-test.")
    try:
        count, failed = call_pytest([*folders, *extra], slow, scratch)
        again = [node for node in failed if "attack" not in node]
        if 0 < len(failed) == count.failed <= RETRY_MAX and again:
            second, still = call_pytest(again, slow, os.path.join(scratch, "2"))
            if second.passed + len(still) == len(again) and second.failed == len(still):
                passed = [node for node in again if node not in still]
                if passed:
                    print("passed only alone, look at them: " + " ".join(passed), flush=True)
                count.passed += len(passed)
                count.failed -= len(passed)
                failed = {node: text for node, text in failed.items() if node not in passed} | still
        for node, text in failed.items():
            print_failure(f"{label}: {node}", text)
        return count
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def failures(report):
    """Node names of the failed tests in a JUnit file with what they said."""
    if not os.path.exists(report):
        return {}
    return {f'{case.get("classname").replace(".", "/")}.py::{case.get("name")}':
            "\n".join(child.text or child.get("message") or "" for child in case
                      if child.tag in ("failure", "error"))
            for case in ElementTree.parse(report).iter("testcase")
            if {child.tag for child in case} & {"failure", "error"}}


def count_report(report, status):
    """Counts in a JUnit file; a run that left none, or failed without a failure, is one failure."""
    total = Count()
    if os.path.exists(report):
        for case in ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag for child in case}
            if kinds & {"failure", "error"}:
                total.failed += 1
            elif "skipped" in kinds:
                total.skipped += 1
            else:
                total.passed += 1
    if status != 0 and total.failed == 0:
        total.failed = 1
    return total


def main():
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, default=TREE / "build")
    parser.add_argument("--label", default="tests")
    parser.add_argument("--units", action="store_true")
    parser.add_argument("--slow", type=float, default=1, help="factor for time limits")
    parser.add_argument("--no-pytest", action="store_true")
    parser.add_argument("extra", nargs="*", help="arguments of pytest instead of the usual folders")
    options = parser.parse_args()
    os.umask(0o022)
    # A caller in the background (nohup, a CI runner) may ignore these, and that would be inherited.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    build = options.build.resolve()
    os.environ.setdefault("SANDLOCK", str(build / "sandlock"))
    os.environ.setdefault("SANDLOCK_BUILD", str(build))
    total = Count()
    if options.units:
        total.add(run_units(build, options.slow))
    if not options.no_pytest:
        total.add(run_pytest(PYTEST_FOLDERS, options.extra, options.slow, options.label))
    print(f"suite {options.label}: {total}", flush=True)
    return 0 if total.good() else 1


if __name__ == "__main__":
    sys.exit(main())
