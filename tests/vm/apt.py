# SPDX-License-Identifier: Apache-2.0
"""Debian packages of any machine without touching this one: a private apt state below the cache
directory (own lists, empty dpkg status, no root). Names are resolved at run time, nothing is pinned;
apt checks the signatures."""
import os
import pwd
import re
import subprocess
import sys
import time
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = os.environ.get("SANDLOCK_DEBIAN_MIRROR", "http://deb.debian.org")
LISTS_MAX_AGE = 7 * 24 * 3600

# What each set of lists contains. Kernels live apart from user space so that a backport is never
# picked up as somebody's dependency.
SUITES = {
    "user": [("debian", "bookworm"), ("debian", "bookworm-updates"),
             ("debian-security", "bookworm-security")],
    "kernel": [("debian", "bullseye"), ("debian-security", "bullseye-security"),
               ("debian", "bookworm"), ("debian-security", "bookworm-security"),
               ("debian", "trixie-backports")],
}


def cache_root():
    """Where downloads and images are kept: $XDG_CACHE_HOME/sandlock-vm or .cache/vm in the tree."""
    xdg = os.environ.get("XDG_CACHE_HOME")
    if xdg:
        return Path(xdg) / "sandlock-vm"
    return Path(__file__).resolve().parents[2] / ".cache" / "vm"


class Apt:
    """One private apt state: a Debian architecture and a set of suites."""

    def __init__(self, arch, suites):
        self.arch = arch
        self.root = cache_root() / "apt" / f"{suites}-{arch}"
        self.suites = SUITES[suites]
        self.archives = cache_root() / "archives" / arch
        for sub in ("lists/partial", "etc/preferences.d", "etc/apt.conf.d", "log"):
            (self.root / sub).mkdir(parents=True, exist_ok=True)
        (self.archives / "partial").mkdir(parents=True, exist_ok=True)
        (self.root / "status").touch()
        sources = "".join(f"deb [arch={arch} signed-by={KEYRING}] {MIRROR}/{path} {suite} main\n"
                          for path, suite in self.suites)
        listing = self.root / "sources.list"
        if not listing.exists() or listing.read_text() != sources:
            listing.write_text(sources)
            (self.root / "updated").unlink(missing_ok=True)

    def _options(self):
        user = pwd.getpwuid(os.getuid()).pw_name
        pairs = {
            "APT::Architecture": self.arch,
            "APT::Architectures": self.arch,
            "APT::Sandbox::User": user,
            "APT::Install-Recommends": "false",
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::Check-Valid-Until": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "5",
            "Debug::NoLocking": "true",
            "Dir::State": self.root,
            "Dir::State::lists": self.root / "lists",
            "Dir::State::status": self.root / "status",
            "Dir::Cache": self.root,
            "Dir::Cache::archives": self.archives,
            "Dir::Etc": self.root / "etc",
            "Dir::Etc::sourcelist": self.root / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::trustedparts": "/dev/null",
            "Dir::Log": self.root / "log",
        }
        args = []
        for key, value in pairs.items():
            args += ["-o", f"{key}={value}"]
        return args

    def _run(self, tool, *args, capture=False):
        command = [tool, *self._options(), *args]
        env = dict(os.environ, LC_ALL="C", DEBIAN_FRONTEND="noninteractive")
        result = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, text=True, check=False,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode != 0 and not capture:
            raise SystemExit(f"vm: {tool} {' '.join(map(str, args))}:\n{result.stdout}")
        return result.stdout

    def update(self):
        """Fetches the package lists when there are none or they are a week old."""
        stamp = self.root / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_MAX_AGE:
            return
        print(f"vm: fetching package lists ({self.root.name})", file=sys.stderr, flush=True)
        self._run("apt-get", "-q", "update")
        stamp.touch()

    def closure(self, names):
        """Downloads the packages and all they depend on; returns the paths of the archives."""
        self.update()
        plan = self._run("apt-get", "install", "-q", "-y", "--print-uris", "-d", *names)
        files = re.findall(r"^'[^']+' (\S+\.deb) ", plan, re.M)
        if any(not (self.archives / f).exists() for f in files) or not files:
            print(f"vm: downloading {len(files)} packages for {self.arch}", file=sys.stderr,
                  flush=True)
            self._run("apt-get", "install", "-q", "-y", "-d", *names)
            # What was there before is not printed again: ask the complete list anew.
        return self._files(names)

    def _files(self, names):
        plan = self._run("apt-get", "install", "-q", "-s", *names)
        found = []
        for name, version in re.findall(r"^Inst (\S+) \((\S+) ", plan, re.M):
            name = name.split(":")[0]
            escaped = version.replace(":", "%3a")
            matches = list(self.archives.glob(f"{name}_{escaped}_*.deb"))
            if not matches:
                raise SystemExit(f"vm: {name} {version} was not downloaded")
            found.append(matches[0])
        return sorted(found)

    def names(self):
        """All package names of the lists."""
        self.update()
        return self._run("apt-cache", "pkgnames").split()

    def version(self, name):
        """Candidate version of a package, or None."""
        text = self._run("apt-cache", "policy", name)
        match = re.search(r"Candidate: (\S+)", text)
        return match.group(1) if match and match.group(1) != "(none)" else None

    def download(self, name, missing_ok=False):
        """One package without what it depends on; None when the mirror lacks it and may."""
        self.update()
        uris = self._run("apt-get", "download", "-q", "--print-uris", name)
        match = re.search(r"^'[^']+' (\S+\.deb) ", uris, re.M)
        if not match:
            raise SystemExit(f"vm: no package {name}: {uris}")
        path = self.archives / match.group(1)
        if not path.exists():
            print(f"vm: downloading {name}", file=sys.stderr, flush=True)
            cwd = os.getcwd()
            os.chdir(self.archives)  # apt-get download writes here
            try:
                output = self._run("apt-get", "download", "-q", name, capture=missing_ok)
            finally:
                os.chdir(cwd)
            if not path.exists():
                if missing_ok and "404" in output:
                    return None
                raise SystemExit(f"vm: cannot download {name}: {output}")
        return path


def unpack(debs, target):
    """Extracts archives into a directory."""
    target.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        subprocess.run(["dpkg-deb", "-x", str(deb), str(target)], check=True)


def main():
    """apt.py sysroot ARCH DIR PACKAGE...: unpacks packages (without what they depend on) into DIR."""
    if len(sys.argv) < 5 or sys.argv[1] != "sysroot":
        raise SystemExit(main.__doc__)
    arch, target, names = sys.argv[2], Path(sys.argv[3]), sys.argv[4:]
    apt = Apt(arch, "user")
    unpack([apt.download(name) for name in names], target)


if __name__ == "__main__":
    main()
