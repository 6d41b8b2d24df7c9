# SPDX-License-Identifier: Apache-2.0
"""`./dev test`: unit tests, then the pytest suite as the current user and, when that is root, as an
ordinary user too; with --vm everything again on an arm64 kernel, and a smoke set on other kernels.
The last line is the sum."""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from suite import FAILURE, TREE, Count

NOBODY = 65534
# Machine, kernel and more kernel command line of the smoke set.
LADDER = [(machine, kernel, append) for machine in ("aarch64", "x86_64")
          for kernel, append in (("5.10", ""), ("6.1", ""), ("newest", ""),
                                 ("6.12", "lsm=yama,apparmor"))]
OUTPUT = threading.Lock()
failures = []  # lines of failed tests, said again at the end


def as_nobody(*command):
    """A command as a user without any rights."""
    return ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *command]


def stream(command, prefix="", **options):
    """Runs a suite, passes its output on line by line and returns the count of its last line."""
    last = None
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          errors="replace", **options) as process:
        for line in process.stdout:
            with OUTPUT:
                sys.stdout.write(prefix + line)
                sys.stdout.flush()
                if FAILURE in line:
                    failures.append(prefix + line)
            if line.startswith("suite "):
                last = Count.parse(line) or last
    if last is None:
        return Count(failed=1)
    if process.returncode != 0 and last.failed == 0:
        last.failed = 1
    return last


def readable_by_nobody():
    """Whether an ordinary user can use the tree where it is (a clone below /root cannot be)."""
    check = as_nobody("sh", "-c", 'test -r "$0/tests/suite.py" && test -x "$0/build/sandlock" && '
                      'test -r "$0/build/sandlock"', str(TREE))
    return subprocess.run(check, check=False).returncode == 0


def copy_tree(target):
    """The part of the tree that the pytest suite uses."""
    skip = shutil.ignore_patterns(".git", ".cache", "build-*", "*.p", "meson-*", "__pycache__",
                                  ".pytest_cache")
    shutil.copytree(TREE, target, ignore=skip, symlinks=True)
    subprocess.run(["chmod", "-R", "a+rX", target], check=True)


def pytest_as_nobody(extra):
    """The pytest suite without rights, with a home of its own; the unit tests as well unless the tree must
    be copied, for Meson's list of them has absolute paths."""
    scratch = Path(tempfile.mkdtemp(prefix="sandlock-user."))
    try:
        os.chmod(scratch, 0o755)
        tree = TREE
        if not readable_by_nobody():
            tree = scratch / "tree"
            copy_tree(tree)
        home = scratch / "home"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)
        # Not root's search path: it may lead through directories that are closed to others.
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "USER": "nobody",
               "LANG": "C.UTF-8"}
        if "SANDLOCK_LONG" in os.environ:
            env["SANDLOCK_LONG"] = os.environ["SANDLOCK_LONG"]
        units = ["--units"] if tree == TREE and not extra else []
        return stream(as_nobody(sys.executable, "-B", str(tree / "tests/suite.py"), *units, "--label",
                                "pytest-user", "--", *extra), cwd=tree, env=env)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class Emulated:
    """The complete suite on arm64, divided (tests/conftest.py), and the smoke set on the ladder of
    kernels, beside the tests here: an emulator is always busy, the tests here wait half of the time and
    go before it."""

    def __init__(self):
        self.results = {}
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _one(self, name, *words):
        command = ["nice", "-n", "10", sys.executable, str(TREE / "tests/vm/vm.py"), *words]
        self.results[name] = Count(failed=1)  # what holds should this end in an exception
        self.results[name] = stream(command, prefix=f"[{words[0]} {words[1]}] ")

    def _ladder(self, of):
        for machine, kernel, append in LADDER:
            if machine == of:
                self._one(f"smoke-{machine}-{kernel}{'-' if append else ''}{append}",
                          machine, kernel, "--smoke", f"--append={append}")

    def _run(self):
        self._one("vm-aarch64", "aarch64", "6.12", "--full", "--divided")
        machines = sorted({rung[0] for rung in LADDER})
        threads = [threading.Thread(target=self._ladder, args=(machine,)) for machine in machines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def wait(self):
        """The counts, once all is over."""
        self.thread.join()
        missing = 1 + len(LADDER) - len(self.results)
        return {**self.results, **({"vm": Count(failed=missing)} if missing else {})}


def main():
    """Command line."""
    parser = argparse.ArgumentParser(prog="./dev test")
    parser.add_argument("--vm", action="store_true", help="also on other kernels, emulated")
    parser.add_argument("--unit", action="store_true", help="unit tests only")
    parser.add_argument("extra", nargs="*", metavar="PYTEST-ARGUMENT", help="after --")
    options = parser.parse_args()
    os.chdir(TREE)
    start = time.monotonic()
    results = {}
    emulated = Emulated() if options.vm else None
    suite = [sys.executable, "-B", str(TREE / "tests/suite.py")]
    if not options.extra:
        results["unit"] = stream([*suite, "--units", "--no-pytest", "--label", "unit"])
    if not options.unit:
        user = "root" if os.getuid() == 0 else "user"
        results[f"pytest-{user}"] = stream([*suite, "--label", f"pytest-{user}", "--",
                                            *options.extra])
        if os.getuid() == 0:
            results["pytest-user"] = pytest_as_nobody(options.extra)
    if emulated:
        results.update(emulated.wait())
    total = Count()
    sys.stdout.writelines(failures)
    print(f"---- {time.monotonic() - start:.0f} s ----")
    for name, count in results.items():
        print(f"{name}: {count}")
        total.add(count)
        if not count.good():
            total.failed += count.failed == 0
    print(total, flush=True)
    return 0 if total.good() else 1


if __name__ == "__main__":
    sys.exit(main())
