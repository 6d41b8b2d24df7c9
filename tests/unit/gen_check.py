#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares gen/syscalls.tbl with the kernel headers on this machine (A-10).

Usage: gen_check.py [--headers MACHINE=DIR]... [-- CC...]

Every number a header knows must be in the table under the header's name; the table may know more.
Also checks that a deliberately wrong table is noticed, that the generator is deterministic and that
it refuses broken rows. Exit status 0, 1, or 77 when there are no headers at all.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "gen"))
sys.dont_write_bytecode = True
import gen  # noqa: E402

# Where distributions put the headers of a machine; the first that has them is taken.
PLACES = {
    "x86_64": ("/usr/include/x86_64-linux-gnu", "/usr/x86_64-linux-gnu/include"),
    "aarch64": ("/usr/include/aarch64-linux-gnu", "/usr/aarch64-linux-gnu/include",
                "/usr/include"),
}
# What arm64's asm/unistd.h asks of asm-generic; used when only the generic header is there.
GENERIC = {
    "aarch64": ["__BITS_PER_LONG=64", "__ARCH_WANT_RENAMEAT", "__ARCH_WANT_NEW_STAT",
                "__ARCH_WANT_SET_GET_RLIMIT", "__ARCH_WANT_TIME32_SYSCALLS",
                "__ARCH_WANT_SYS_CLONE3", "__ARCH_WANT_MEMFD_SECRET"],
}
NOT_CALLS = {"syscalls", "arch_specific_syscall"}


def preprocess_generic(cc, machine, directory):
    """asm-generic's header alone; its one include from asm/ is replaced by GENERIC's width."""
    with tempfile.TemporaryDirectory() as tmp:
        os.mkdir(os.path.join(tmp, "asm"))
        with open(os.path.join(tmp, "asm/bitsperlong.h"), "w", encoding="ascii"):
            pass
        return preprocess(cc, machine, "asm-generic/unistd.h", [tmp, directory], GENERIC[machine])


def preprocess(cc, machine, header, dirs, defines):
    cmd = [*cc, "-E", "-dM", "-undef", "-nostdinc", f"-D__{machine}__", "-x", "c", "-"]
    cmd += [f"-D{d}" for d in defines] + [f"-I{d}" for d in dirs]
    done = subprocess.run(cmd, input=f"#include <{header}>\n", text=True, capture_output=True)
    return done.stdout if done.returncode == 0 else None


def header_numbers(text):
    """{name: number} of the __NR_ macros, through one level of indirection (__NR3264_*)."""
    macros = dict(re.findall(r"^#define (__NR\w+) (\S+)$", text, re.M))
    found = {}
    for name, value in macros.items():
        if name.startswith("__NR_") and name[5:] not in NOT_CALLS:
            value = macros.get(value, value)
            if value.isdigit():
                found[name[5:]] = int(value)
    return found


def find_headers(cc, machine, given):
    """(directory, {name: number}) or None."""
    for d in [given] if given else PLACES[machine]:
        text = None
        if os.path.exists(os.path.join(d, "asm/unistd.h")):
            text = preprocess(cc, machine, "asm/unistd.h", [d, "/usr/include"], [])
        elif machine in GENERIC and os.path.exists(os.path.join(d, "asm-generic/unistd.h")):
            text = preprocess_generic(cc, machine, d)
        if text:
            return d, header_numbers(text)
    return None


def differences(calls, machine, numbers):
    table = {c["nr"][machine]: c["name"] for c in calls if c["nr"][machine] is not None}
    return [f"{machine} {nr}: header says {name}, table says {table.get(nr, 'nothing')}"
            for name, nr in sorted(numbers.items(), key=lambda i: i[1]) if table.get(nr) != name]


def check_headers(cc, given, calls):
    bad, seen = [], 0
    for machine in gen.MACHINES:
        found = find_headers(cc, machine, given.get(machine))
        if not found:
            print(f"{machine}: no headers here")
            if machine in given:
                bad.append(f"{machine}: cannot use the headers in {given[machine]}")
            continue
        where, numbers = found
        seen += 1
        print(f"{machine}: {len(numbers)} numbers in {where}, newest {max(numbers.values())}")
        if len(numbers) < 280:
            bad.append(f"{machine}: only {len(numbers)} numbers understood")
        bad += differences(calls, machine, numbers)
        # The control: without one row, and with one renamed, the comparison must object.
        name = next(iter(numbers))
        less = [c for c in calls if c["name"] != name]
        if len(differences(less, machine, numbers)) <= len(differences(calls, machine, numbers)):
            bad.append(f"{machine}: a missing row goes unnoticed")
    return bad, seen


def check_generator():
    bad = []
    with tempfile.TemporaryDirectory() as tmp:
        texts = []
        for seed in ("1", "2"):
            out = os.path.join(tmp, seed)
            subprocess.run([sys.executable, os.path.join(ROOT, "gen/gen.py"), out], check=True,
                           env=dict(os.environ, PYTHONHASHSEED=seed, PYTHONDONTWRITEBYTECODE="1"))
            texts.append({n: open(os.path.join(out, n), encoding="ascii").read()
                          for n in sorted(os.listdir(out))})
        if texts[0] != texts[1]:
            bad.append("generator: two runs differ")
        rows = ["read 0 63 read fd,ptr", "read 0 - - - - -", "read x - - - -", "Read 0 - - - -",
                "read 0 - - fd,fd,fd,fd,fd,fd,fd -", "read 0 - - wrong -", "read 0 - - - wrong",
                "read 513 - - - -", "read 500 501 - - -", "a 0 - - - -\na 1 - - - -",
                "a 0 - - - -\nb 0 - - - -", "read - - - - -", "read 0 - - - sockaddr"]
        for row in rows:
            path = os.path.join(tmp, "bad.tbl")
            with open(path, "w", encoding="ascii") as f:
                f.write(row + "\n")
            try:
                gen.load_calls(path)
                bad.append(f"generator: accepts {row!r}")
            except (gen.TableError, ValueError):
                pass
    return bad


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("cc", nargs="*", default=["cc"])
    ap.add_argument("--headers", action="append", default=[], metavar="MACHINE=DIR")
    args = ap.parse_args()
    given = dict(h.split("=", 1) for h in args.headers)
    calls = gen.load_calls(os.path.join(ROOT, "gen/syscalls.tbl"))
    gen.load_aliases(os.path.join(ROOT, "gen/aliases.tbl"), calls)
    bad, seen = check_headers(args.cc, given, calls)
    bad += check_generator()
    for line in bad:
        print("FAIL", line)
    return 1 if bad else 0 if seen else 77


if __name__ == "__main__":
    sys.exit(main())
