# SPDX-License-Identifier: Apache-2.0
"""What a virtual machine boots: a Debian kernel, a base archive with user space (cached) and an archive
with the built tree and the job (made anew for each start)."""
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cpio
from apt import Apt, cache_root, unpack

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]
DEBIAN = {"aarch64": "arm64", "x86_64": "amd64"}
FORMAT = "6"  # part of the cache key: raise it when the layout of the base archive changes

PACKAGES = ["busybox-static", "dash", "bash", "coreutils", "python3", "python3-pytest", "git", "make",
            "procps", "util-linux", "findutils", "grep", "sed", "tar", "gzip", "diffutils", "hostname",
            "libcmocka0", "libseccomp2", "sqlite3", "mount"]
# Dependencies that nothing here uses; perl alone is half of git's closure.
UNWANTED = re.compile(r"^(perl|perl-base|perl-modules.*|libperl.*|lib.*-perl|debconf|usrmerge|git-man|"
                      r"init-system-helpers|libdb5.*|util-linux-extra|readline-common|libcurl.*|"
                      r"libgnutls.*|libp11.*|libunistring.*|libidn2.*|libnettle.*|libhogweed.*|"
                      r"libkrb5.*|libgssapi.*|libk5crypto.*|libldap.*|libsasl.*|libssh2.*|librtmp.*|"
                      r"libpsl.*|libbrotli.*|libnghttp2.*|libtasn1.*|libgmp.*)$")
DROP = re.compile(r"^usr/(share/(doc|man|info|locale|lintian|perl.*|bash-completion|bug|zsh|gcc|i18n|"
                  r"git-core/contrib|common-licenses|menu|doc-base|gitweb)(/|$)|"
                  r"lib/[^/]*/(gconv|perl.*)(/|$)|"
                  r"lib/python3[^/]*/(test|idlelib|lib2to3|tkinter|turtledemo|ensurepip|pydoc_data)"
                  r"(/|$)|lib/valgrind|bin/(scalar|git-shell)$|lib/git-core/(scalar|git-shell|"
                  r"git-(http|imap|remote-|daemon|sh-i18n--)[^/]*)$)")


def log(text):
    """Progress goes to stderr: stdout is the guest's."""
    print(f"vm: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def cache_lock():
    """One process or thread at a time fills the cache."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with open(cache_root() / "lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kernel(machine, wanted):
    """Like find_kernel; several machines may start at once."""
    with cache_lock():
        return find_kernel(machine, wanted)


def base(machine, extra=()):
    """Like make_base; several machines may start at once."""
    with cache_lock():
        return make_base(machine, extra)


def find_kernel(machine, wanted):
    """Path of the newest cloud kernel of a series ("6.12") or of all ("newest"), downloaded."""
    arch = DEBIAN[machine]
    apt = Apt(arch, "kernel")
    apt.update()
    # Asking apt takes seconds: remember the answer until the lists change.
    answer = apt.root / f"newest-{wanted}"
    if answer.exists() and answer.stat().st_mtime > (apt.root / "updated").stat().st_mtime:
        name = answer.read_text()
        path = cache_root() / "kernels" / arch / name / "vmlinuz"
        if path.exists():
            return path, name
    series = r"\d+\.\d+" if wanted == "newest" else re.escape(wanted)
    pattern = re.compile(rf"^linux-(image|binary)-({series}(?!\d)[-+.\w]*)-cloud-{arch}$")
    found = []
    for name in apt.names():
        match = pattern.match(name)
        if not match or "unsigned" in name or "deb11" in name and wanted != "5.10":
            continue
        digits = tuple(int(d) for d in re.findall(r"\d+", match.group(2)))
        if len(digits) > 2:
            # From 6.19 on linux-image depends on linux-binary, which holds the kernel: prefer it.
            found.append((digits, match.group(1) == "binary", name))
    for _, _, name in sorted(found, reverse=True):
        if apt.version(name) is None:
            continue
        target = cache_root() / "kernels" / arch / name
        if not (target / "vmlinuz").exists():
            deb = apt.download(name, missing_ok=True)
            if deb is None:  # named in the lists, but not on the mirror: an older one will do
                continue
            _extract_kernel(deb, target)
        answer.write_text(name)
        return target / "vmlinuz", name
    raise SystemExit(f"vm: Debian has no {wanted} cloud kernel for {arch}")


def _extract_kernel(deb, target):
    scratch = target.with_name(target.name + f".{os.getpid()}")
    unpack([deb], scratch)
    images = [*scratch.glob("boot/vmlinuz-*"), *scratch.glob("usr/lib/modules/*/vmlinuz"),
              *scratch.glob("lib/modules/*/vmlinuz")]
    if not images:
        raise SystemExit(f"vm: {deb.name} contains no kernel")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(images[0], target / "vmlinuz.new")
    os.replace(target / "vmlinuz.new", target / "vmlinuz")
    shutil.rmtree(scratch)


def make_base(machine, extra=()):
    """The cached archive with user space."""
    names = sorted(set(PACKAGES) | set(extra))
    want = hashlib.sha256(" ".join([FORMAT, *names]).encode()).hexdigest()[:16]
    path = cache_root() / "images" / f"{machine}-{want}.cpio"
    if path.exists():
        return path
    apt = Apt(DEBIAN[machine], "user")
    debs = [d for d in apt.closure(names) if not UNWANTED.match(d.name.split("_")[0])]
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + f".{os.getpid()}.d")
    log(f"making the {machine} image from {len(debs)} packages")
    unpack_merged(debs, scratch)
    compile_python(scratch)
    partial = path.with_name(path.name + f".{os.getpid()}")
    with open(partial, "wb") as out:
        _write_base(cpio.Writer(out), scratch)
    os.replace(partial, path)
    subprocess.run(["chmod", "-R", "u+w", str(scratch)], check=False)
    shutil.rmtree(scratch)
    return path


def unpack_merged(debs, scratch):
    for name in ("bin", "sbin", "lib", "lib64"):
        (scratch / "usr" / name).mkdir(parents=True, exist_ok=True)
        (scratch / name).symlink_to("usr/" + name)
    for deb in debs:
        # dpkg-deb -x would replace the links by directories; tar keeps them on request.
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)],
                              stdout=subprocess.PIPE) as source:
            subprocess.run(["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C",
                            str(scratch)], stdin=source.stdout, check=True)
        if source.returncode != 0:
            raise SystemExit(f"vm: cannot unpack {deb.name}")


def compile_python(scratch):
    """Byte code made here saves the guest seconds; only the same Python version can make it."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    lib = scratch / "usr/lib" / version
    if not lib.is_dir():
        return
    for folder in (lib, scratch / "usr/lib/python3/dist-packages"):
        subprocess.run([sys.executable, "-m", "compileall", "-q", "-j", "2", "--invalidation-mode",
                        "unchecked-hash", "-s", str(scratch), "-p", "/", "-x",
                        r"/(test|idlelib|lib2to3|tkinter|turtledemo|ensurepip)/", str(folder)],
                       check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _write_base(writer, scratch):
    for name in ("proc", "sys", "dev", "run", "mnt", "newroot", "root", "home", "vm"):
        writer.directory(name)
    writer.directory("tmp", 0o1777)
    writer.device("dev/console", 5, 1)
    writer.device("dev/null", 1, 3, 0o666)
    writer.tree(scratch, skip=lambda rel: bool(DROP.match(rel)))
    writer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/bash\n"
                b"user:x:1000:1000::/home/user:/bin/bash\n"
                b"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")
    writer.file("etc/group", b"root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n")
    writer.file("etc/hosts", b"127.0.0.1 localhost vm\n::1 localhost\n")
    writer.file("etc/hostname", b"vm\n")
    writer.file("etc/resolv.conf", b"nameserver 127.0.0.1\n")
    writer.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    writer.file("etc/shadow", b"root:*:19000:0:99999:7:::\n", 0o640)
    writer.file("etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n")
    for link in ("awk", "vi", "less", "nc", "xz", "unzip", "wget"):
        if not (scratch / "usr/bin" / link).exists():
            writer.symlink("usr/bin/" + link, "busybox")
    writer.close()


def job(out, files, build, skip_binaries=False):
    """The archive of one start: the tree, the build directory and `files` {name: (bytes, mode)}."""
    writer = cpio.Writer(out)
    inner = str(TREE).strip("/")
    for name in ("tests", "gen", "include", "src", "cli", "bench", "dev", "docs", "README.md",
                 "meson.build"):
        path = TREE / name
        if path.is_dir():
            writer.tree(path, os.path.join(inner, name), _skip_source)
        elif path.exists():
            writer.path(path, os.path.join(inner, name))
    if build is not None and not skip_binaries:
        _job_build(writer, build, inner)
    for name, (data, mode) in files.items():
        writer.file(name, data, mode)
    writer.close()


def _skip_source(rel):
    last = os.path.basename(rel)
    return last in ("__pycache__", ".pytest_cache") or last.startswith(".")


def _job_build(writer, build, inner):
    """What the build made, without debug information, at the same path as here and as build/."""
    name = os.path.join(inner, build.name)
    if build.name != "build":
        writer.symlink(os.path.join(inner, "build"), build.name)
    stripped = build / "vm-stripped"
    for path in sorted(build.rglob("*")):
        rel = path.relative_to(build)
        if rel.parts[0] in ("sysroot", "vm-stripped", "meson-private", "meson-logs"):
            continue
        if any(part.endswith(".p") for part in rel.parts) or path.suffix in (".a", ".o", ".ninja"):
            continue
        if path.is_symlink():
            writer.symlink(os.path.join(name, str(rel)), os.readlink(path))
        elif path.is_file():
            writer.path(_strip(path, stripped / rel), os.path.join(name, str(rel)))


def _strip(path, target):
    info = path.stat()
    if info.st_size < 60000 or path.open("rb").read(4) != b"\x7fELF":
        return path
    if not target.exists() or target.stat().st_mtime < info.st_mtime:
        target.parent.mkdir(parents=True, exist_ok=True)
        tool = "strip"
        if path.open("rb").read(19)[18:] == b"\xb7":  # e_machine EM_AARCH64
            tool = "aarch64-linux-gnu-strip"
        # Several machines may start at once: nobody sees half a file.
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as partial:
            pass
        if subprocess.run([tool, "-g", "-o", partial.name, str(path)], check=False).returncode != 0:
            os.unlink(partial.name)
            return path
        os.chmod(partial.name, info.st_mode & 0o777)
        os.replace(partial.name, target)
    return target
