# SPDX-License-Identifier: Apache-2.0
"""roots.py DIR: a Debian root made of unpacked packages of this machine in DIR/debian, and the same as an
OCI image layout in DIR/oci, for the tests of --chroot and --image. Made once; again when the list changes."""
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cpio
import image
from apt import Apt, cache_root
from apt import unpack as unpack_debs

FORMAT = "3"  # raise it when what is made from the packages changes
PACKAGES = ["apt", "base-files", "bash", "coreutils", "dash", "diffutils", "ed", "findutils", "gcc", "git", "grep",
            "gzip", "libc6-dev", "make", "musl-tools", "python3", "python3-pip", "python3-setuptools",
            "python3-wheel", "rsync", "sed", "tar", "vim-tiny"]
# Needed by no program of the tests, and most of the size: link time optimisation, sanitizers, profilers.
UNWANTED = re.compile(r"^(libasan.*|libtsan.*|liblsan.*|libubsan.*|libitm.*|libhwasan.*|libquadmath.*|linux-libc-.*-"
                      r"cross|adduser|passwd|libpam.*|openssl|ca-certificates|media-types|mailcap|libsystemd-shared|"
                      r"gpgv|debian-archive-keyring|manpages.*)$")
DROP = re.compile(r"^usr/(lib/gcc/[^/]*/[^/]*/(lto1|g\+\+.*|plugin/include)|lib/gcc/.*san.*|bin/[^/]*(lto-dump|gcov|"
                  r"gp-|gprof|dwp|gold).*|lib/[^/]*/libc\.a|lib/[^/]*-musl/libc\.a|"
                  r"lib/python3/dist-packages/[^/]*/tests)(/|$)")
SETTINGS = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "FROM_IMAGE=yes"], "Cmd": ["/bin/bash"],
            "WorkingDir": "/usr/share"}


def key():
    """What a finished root is the result of."""
    return hashlib.sha256(" ".join([FORMAT, image.FORMAT, DROP.pattern, *PACKAGES]).encode()).hexdigest()[:16]


def wanted(package):
    """The compiler needs one that the virtual machine does without."""
    return package == "libgmp10" or not (image.UNWANTED.match(package) or UNWANTED.match(package))


def unpack(machine, target):
    """The Debian root, readable for everybody."""
    apt = Apt(image.DEBIAN[machine], "user")
    debs = [d for d in apt.closure(PACKAGES) if wanted(d.name.split("_")[0])]
    image.log(f"making a {machine} root from {len(debs)} packages")
    image.unpack_merged(debs, target)
    for folder, folders, files in os.walk(target):
        for name in folders + files:
            path = Path(folder, name)
            rel = str(path.relative_to(target))
            if image.DROP.match(rel) or DROP.match(rel):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                    folders.remove(name)
                else:
                    path.unlink()
    image.compile_python(target)
    for name in ("proc", "dev", "sys", "tmp", "home", "work"):
        (target / name).mkdir(exist_ok=True)
    (target / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n"
                                       "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")
    (target / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (target / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    for link, to in (("vi", "vim.tiny"), ("ex", "vim.tiny")):
        if not (target / "usr/bin" / link).exists():
            (target / "usr/bin" / link).symlink_to(to)
    subprocess.run(["chmod", "-R", "a+rX,u+w", str(target)], check=True)


def pack(machine, root, layout):
    """The root as an image of one layer, with the tag `latest`."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layer = layout / "layer"
    plain = hashlib.sha256()
    with subprocess.Popen(["tar", "-c", "--numeric-owner", "--owner=0", "--group=0", "--sort=name", "-C", str(root),
                           "."], stdout=subprocess.PIPE) as source, \
            open(layer, "wb") as file, gzip.GzipFile("", "wb", 1, file, 0) as out:
        while chunk := source.stdout.read(1 << 20):
            plain.update(chunk)
            out.write(chunk)
    if source.returncode != 0:
        raise SystemExit("vm: cannot pack the root")

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": "sha256:" + digest, "size": len(data)}

    # Names of Go, as images use them.
    made = {"architecture": image.DEBIAN[machine], "os": "linux", "config": SETTINGS,
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + plain.hexdigest()]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(json.dumps(made).encode(), "config.v1+json"),
                "layers": [blob(layer.read_bytes(), "layer.v1.tar+gzip")]}
    top = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    layer.unlink()
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))


def make(machine, target, tools=()):
    """Both below `target`, unless they are there; packages of `tools` in DIR/tools."""
    stamp = target / "complete"
    if stamp.exists() and stamp.read_text() == key():
        return
    partial = target.with_name(target.name + ".new")
    for old in (partial, target):
        if old.exists():
            shutil.rmtree(old)
    (partial / "debian").mkdir(parents=True)
    unpack(machine, partial / "debian")
    pack(machine, partial / "debian", partial / "oci")
    if tools:
        unpack_debs([Apt(image.DEBIAN[machine], "user").download(name) for name in tools], partial / "tools")
    (partial / "complete").write_text(key())
    os.rename(partial, target)


def archive(machine):
    """The same as a cached part of an initramfs, below /roots."""
    with image.cache_lock():
        path = cache_root() / "images" / f"roots-{machine}-{key()}.cpio"
        if path.exists():
            return path
        scratch = path.with_name(path.name + f".{os.getpid()}.d")
        path.parent.mkdir(parents=True, exist_ok=True)
        make(machine, scratch)
        partial = path.with_name(path.name + f".{os.getpid()}")
        with open(partial, "wb") as out:
            writer = cpio.Writer(out)
            writer.tree(scratch, "roots")
            writer.close()
        os.replace(partial, path)
        shutil.rmtree(scratch)
        return path


def main():
    """Command line."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    os.umask(0o022)
    # Unpacked, not installed: the package would start a server on the machine of whoever runs the tests.
    make(os.uname().machine, Path(sys.argv[1]).absolute(), ["docker-registry"])


if __name__ == "__main__":
    main()
