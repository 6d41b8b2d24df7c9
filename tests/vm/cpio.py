# SPDX-License-Identifier: Apache-2.0
"""Writes newc cpio archives, the format of an initramfs. Everything belongs to root: the tree that is
packed may have been unpacked by an ordinary user."""
import os
import stat


class Writer:
    """Entries go to `out` in the order they are added; parents must be added before children."""

    def __init__(self, out):
        self.out = out
        self.ino = 0
        self.seen = set()
        self.links = {}

    def _entry(self, name, mode, data, nlink=1, rdev=(0, 0), ino=None):
        if ino is None:
            self.ino += 1
            ino = self.ino
        raw = name.encode() + b"\0"
        fields = (ino, mode, 0, 0, nlink, 0, len(data), 0, 0, *rdev, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        self.out.write(head + b"\0" * (-len(head) % 4))
        self.out.write(data)
        self.out.write(b"\0" * (-len(data) % 4))

    def directory(self, name, mode=0o755):
        """A directory and those above it; twice is once."""
        name = name.strip("/")
        if not name or name in self.seen:
            return
        self.directory(os.path.dirname(name))
        self.seen.add(name)
        self._entry(name, stat.S_IFDIR | mode, b"", 2)

    def file(self, name, data, mode=0o644):
        """A regular file made of bytes."""
        self.directory(os.path.dirname(name))
        self._entry(name.strip("/"), stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        """A symbolic link."""
        self.directory(os.path.dirname(name))
        self._entry(name.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor, mode=0o600):
        """A character device."""
        self.directory(os.path.dirname(name))
        self._entry(name.strip("/"), stat.S_IFCHR | mode, b"", rdev=(major, minor))

    def path(self, source, name):
        """One file, link or directory (not what is in it) of this machine."""
        info = os.lstat(source)
        if stat.S_ISDIR(info.st_mode):
            self.directory(name, stat.S_IMODE(info.st_mode))
        elif stat.S_ISLNK(info.st_mode):
            self.symlink(name, os.readlink(source))
        elif stat.S_ISREG(info.st_mode):
            self._regular(source, name, info)

    def _regular(self, source, name, info):
        if info.st_nlink == 1:
            with open(source, "rb") as file:
                self.file(name, file.read(), stat.S_IMODE(info.st_mode))
            return
        # The kernel takes the content from the first of several links when the others are empty.
        key = (info.st_dev, info.st_ino)
        self.directory(os.path.dirname(name))
        mode = stat.S_IFREG | stat.S_IMODE(info.st_mode)
        if key in self.links:
            self._entry(name.strip("/"), mode, b"", info.st_nlink, ino=self.links[key])
            return
        with open(source, "rb") as file:
            self._entry(name.strip("/"), mode, file.read(), info.st_nlink)
        self.links[key] = self.ino

    def tree(self, source, name="", skip=lambda relative: False):
        """A directory with everything in it, except what skip(relative path) names."""
        for folder, dirs, files in os.walk(source):
            rel = os.path.relpath(folder, source)
            rel = "" if rel == "." else rel
            dirs[:] = sorted(d for d in dirs if not skip(os.path.join(rel, d)))
            for entry in dirs + sorted(files):
                inner = os.path.join(rel, entry)
                if not skip(inner):
                    self.path(os.path.join(folder, entry), os.path.join(name, inner))

    def close(self):
        """The trailer, padded so that another archive may follow."""
        self._entry("TRAILER!!!", 0, b"")
        self.out.write(b"\0" * (-self.out.tell() % 512))
