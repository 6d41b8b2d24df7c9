# SPDX-License-Identifier: Apache-2.0
"""Runs the tests, or one command, on another kernel: `./dev vm` calls it. See docs/howto-test.md."""
import argparse
import os
import re
import secrets
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import image
import roots
from apt import cache_root
from image import TREE, log

sys.path.append(str(TREE / "tests"))
from suite import Count  # noqa: E402  (lives one folder up)

USER = 1000
SLOW = 20  # factor for time limits of tests under emulation

QEMU = {
    "aarch64": ["qemu-system-aarch64", "-M", "virt,gic-version=3"],
    "x86_64": ["qemu-system-x86_64", "-M", "q35"],
}
PROCESSOR = {"aarch64": "max,pauth-impdef=on", "x86_64": "max,arch-capabilities=off"}
# Signing pointers takes a sixth of all time: the complete suite does without, the smoke set has it.
QUICK_PROCESSOR = {**PROCESSOR, "aarch64": "max,pauth=off"}
CONSOLE = {"aarch64": "console=ttyAMA0", "x86_64": "console=ttyS0 reboot=t"}


class Machine:
    """One start of one kernel with one job."""

    def __init__(self, machine, kernel, append="", memory=2048, smp=None, quick=False):
        self.machine = machine
        self.kernel, self.kernel_name = image.kernel(machine, kernel)
        # 6.1 and older lose time when two emulated processors share one real one.
        self.smp = smp or (1 if kernel in ("5.10", "6.1") else 2)
        self.processor = (QUICK_PROCESSOR if quick else PROCESSOR)[machine]
        self.append = append
        self.memory = memory
        self.build = TREE / ("build-aarch64" if machine == "aarch64" else "build")

    def command(self, initrd):
        """The emulator's command line."""
        line = (f"{CONSOLE[self.machine]} rdinit=/init quiet loglevel=3 panic=-1 "
                f"random.trust_cpu=on {self.append}").strip()
        return [*QEMU[self.machine], "-cpu", self.processor, "-accel", "tcg,thread=multi",
                "-smp", str(self.smp), "-m", str(self.memory), "-nodefaults", "-display", "none", "-no-reboot",
                "-serial", "stdio", "-kernel", str(self.kernel), "-initrd", initrd,
                "-append", line]

    def run(self, job, uid=0, files=None, timeout=600, sink=sys.stdout, with_tree=True, parts=()):
        """Runs the shell script `job` inside. Returns (status, text); status None: no answer. `parts` are
        more archives."""
        nonce = secrets.token_hex(8)
        contents = {
            "init": ((image.HERE / "init.sh").read_bytes(), 0o755),
            "vm/nonce": (nonce.encode(), 0o600),
            "vm/uid": (str(uid).encode(), 0o600),
            "vm/job": (job.encode(), 0o755),
            **(files or {}),
        }
        folder = cache_root() / "run"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".cpio") as initrd:
            for part in (image.base(self.machine), *parts):
                with open(part, "rb") as source:
                    shutil.copyfileobj(source, initrd, 16 << 20)
            image.job(initrd, contents, self.build if with_tree else None)
            initrd.flush()
            return self._boot(self.command(initrd.name), nonce, timeout, sink)

    def _boot(self, command, nonce, timeout, sink):
        marker = re.compile(rf"^vm-{nonce} status (\d+)\r?$")
        deadline = time.monotonic() + timeout
        status, lines = None, []
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) as process:
            os.set_blocking(process.stdout.fileno(), False)
            pending = b""
            while status is None:
                chunk = self._read(process, deadline)
                if not chunk:
                    break
                pending += chunk
                *done, pending = pending.split(b"\n")
                for raw in done:
                    line = raw.decode(errors="replace").rstrip("\r")
                    match = marker.match(line)
                    if match:
                        status = int(match.group(1))
                        break
                    lines.append(line)
                    if sink:
                        print(line, file=sink, flush=True)
            if status is None:
                if pending and sink:
                    print(pending.decode(errors="replace"), file=sink, flush=True)
                over = time.monotonic() >= deadline
                log(f"the machine {'ran out of time' if over else 'ended without an answer'}")
            process.kill()
        return status, lines

    @staticmethod
    def _read(process, deadline):
        wait = deadline - time.monotonic()
        if wait <= 0 or not select.select([process.stdout], [], [], wait)[0]:
            return b""
        return process.stdout.read(65536) or b""


def inner_env(machine, share=""):
    """Variables every job starts with. SANDLOCK_SLOW is the factor for time limits of tests."""
    build = TREE / ("build-aarch64" if machine == "aarch64" else "build")
    return (f"export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8 "
            f"SANDLOCK_VM={machine} SANDLOCK_SLOW={SLOW} SANDLOCK_SHARE={share} "
            f"SANDLOCK={shlex.quote(str(build / 'sandlock'))} "
            f"SANDLOCK_BUILD={shlex.quote(str(build))} SANDLOCK_ROOTS=/roots\ncd {shlex.quote(str(TREE))}\n")


def root_parts(options):
    """The archive with the Debian root, for those who use it: half a gigabyte while a machine starts."""
    if options.exec:
        used = "/roots" in options.exec
    else:
        used = any("root" in w for w in options.extra) or not any(".py" in w for w in options.extra)
    return [roots.archive(options.machine)] if used else []


def run_command(options):
    """--exec: one command inside; its status is ours."""
    vm = Machine(options.machine, options.kernel, options.append, options.memory, options.smp)
    job = "#!/bin/sh\n" + inner_env(options.machine) + options.exec + "\n"
    status, _ = vm.run(job, options.uid, timeout=options.timeout, parts=root_parts(options))
    return 125 if status is None else status


def unit_list(build):
    """What Meson knows as tests, for machines that have no Meson; paths are the same inside."""
    listing = subprocess.run(["meson", "introspect", "--tests", str(build)], check=True,
                             stdout=subprocess.PIPE, text=True)
    (build / "tests.json").write_text(listing.stdout)


def run_full(options):
    """The complete suite as root and as an ordinary user, each in a machine of its own. Divided: all of it
    as root, and what may depend on the user as an ordinary one (tests/conftest.py), in two rows of machines."""
    build = TREE / ("build-aarch64" if options.machine == "aarch64" else "build")
    unit_list(build)
    image.base(options.machine)
    parts = root_parts(options)
    total = Count()
    lock = threading.Lock()
    units = not options.extra

    def one(name, uid, units, share):
        try:
            suite_of(name, uid, units, share)
        except BaseException as error:  # SystemExit as well: a thread would end silently
            log(f"{name}: {error!r}")
            with lock:
                total.add(Count(failed=1))

    def suite_of(name, uid, units, share):
        vm = Machine(options.machine, options.kernel, options.append, options.memory, smp=1,
                     quick=True)
        job = ("#!/bin/sh\n" + inner_env(options.machine, share) +
               f"exec python3 -B tests/suite.py {'--units ' if units else ''}--slow {SLOW} "
               f"--build {build} "
               f"--label vm-{name} {' '.join(map(shlex.quote, options.extra))}\n")
        status, lines = vm.run(job, uid, timeout=options.timeout, sink=Prefixed(name, lock), parts=parts)
        counts = [Count.parse(line) for line in lines if line.startswith(f"suite vm-{name}:")]
        count = counts[-1] if counts else Count(failed=1)
        if status != 0 and count.failed == 0:
            count.failed = 1
        with lock:
            total.add(count)

    if options.divided:
        rows = [[(f"root-{k}", 0, units and k == 0, f"root:{k}/2"),
                 (f"user-{k}", USER, False, f"user:{k}/2")] for k in range(2)]
    else:
        rows = [[("root", 0, units, "")], [("user", USER, units, "")]]
    threads = [threading.Thread(target=lambda row: [one(*job) for job in row], args=(row,)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"suite vm-{options.machine}-{options.kernel}: {total}", flush=True)
    return 0 if total.good() else 1


class Prefixed:
    """Output of one of several machines."""

    def __init__(self, name, lock):
        self.name, self.lock, self.start = name, lock, True

    def write(self, text):
        """Whole lines only: the caller prints line by line."""
        with self.lock:
            for part in text.splitlines(keepends=True):
                sys.stdout.write((f"[{self.name}] " if self.start else "") + part)
                self.start = part.endswith("\n")

    def flush(self):
        """Passes on."""
        sys.stdout.flush()


def run_smoke(options):
    """The smoke set: what must hold on a kernel with fewer or more abilities."""
    vm = Machine(options.machine, options.kernel, options.append, options.memory)
    log(f"smoke: {vm.kernel_name}")
    total = Count()
    label = f"smoke-{options.machine}-{options.kernel}"
    for uid in (0, USER):
        job = ("#!/bin/sh\n" + inner_env(options.machine) +
               f"exec sh tests/vm/smoke.sh {options.kernel}\n")
        status, lines = vm.run(job, uid, timeout=options.timeout)
        count = Count(sum(line.startswith("ok ") for line in lines),
                      sum(line.startswith("not ok ") for line in lines),
                      sum(line.startswith("skip ") for line in lines))
        if status != 0 and count.failed == 0:
            count.failed = 1
        total.add(count)
    print(f"suite {label}: {total}", flush=True)
    return 0 if total.good() else 1


def main():
    """Command line."""
    parser = argparse.ArgumentParser(prog="./dev vm")
    parser.add_argument("machine", choices=sorted(QEMU))
    parser.add_argument("kernel", nargs="?", default="6.12",
                        help="5.10, 6.1, 6.12 ... or newest (default 6.12)")
    parser.add_argument("--exec", metavar="COMMAND", help="run this shell command, nothing else")
    parser.add_argument("--full", action="store_true", help="all tests (the default on 6.12)")
    parser.add_argument("--divided", action="store_true", help="all tests as root, some as a user as well")
    parser.add_argument("--smoke", action="store_true", help="smoke set (the default elsewhere)")
    parser.add_argument("--uid", type=int, default=0, help="user of --exec (1000: an ordinary one)")
    parser.add_argument("--append", default="", help="more kernel command line")
    parser.add_argument("--memory", type=int, default=2560, help="MB")
    parser.add_argument("--smp", type=int, default=0, help="processors of --exec")
    parser.add_argument("--timeout", type=int, default=0, help="seconds")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    parser.epilog = "after --: arguments of pytest for the complete suite"
    options = parser.parse_args(words[:split])
    options.extra = words[split + 1:]
    if options.exec:
        options.timeout = options.timeout or 600
        return run_command(options)
    if options.smoke or (options.kernel != "6.12" and not options.full):
        options.timeout = options.timeout or 300
        return run_smoke(options)
    options.timeout = options.timeout or 4700
    return run_full(options)


if __name__ == "__main__":
    sys.exit(main())
