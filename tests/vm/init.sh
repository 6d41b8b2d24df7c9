#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: Apache-2.0
# First process of the virtual machine: mounts, network, then /vm/job as the user of /vm/uid. The
# last line carries the nonce and the status; nothing the job prints can imitate it.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev 2>/dev/null
# The initramfs itself cannot be pivoted away from; a bind mount of it can.
if [ "$1" != inside ]; then
    busybox umount /dev /sys /proc 2>/dev/null
    busybox mount --bind / /newroot
    cd /newroot || exit 1
    busybox mount --move . /
    exec busybox chroot . /bin/busybox sh /init inside
fi
exec </dev/console >/dev/console 2>&1
busybox stty -F /dev/console raw -echo 2>/dev/null
busybox mkdir -p /dev/pts /dev/shm
busybox mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
busybox mount -t devpts -o mode=620,gid=5,ptmxmode=666 devpts /dev/pts
busybox mount -t tmpfs -o mode=1777 shm /dev/shm
# The tree may lie below /tmp: then it stays visible.
[ -n "$(busybox ls -A /tmp)" ] || busybox mount -t tmpfs tmp /tmp
busybox chmod 1777 /tmp
busybox mount -t tmpfs -o mode=755 run /run
busybox ln -sf /proc/self/fd /dev/fd
busybox ln -sf /proc/self/fd/0 /dev/stdin
busybox ln -sf /proc/self/fd/1 /dev/stdout
busybox ln -sf /proc/self/fd/2 /dev/stderr
busybox ip link set lo up
# A fork bomb may fill the process table, not the memory of this small machine.
echo 3000 >/proc/sys/kernel/pid_max
busybox hostname vm
busybox mkdir -p /home/user
busybox chown 1000:1000 /home/user
nonce=$(busybox cat /vm/nonce)
uid=$(busybox cat /vm/uid)
busybox chmod 700 /vm
busybox cp /vm/job /run/job
busybox chmod 755 /run/job
if [ "$uid" = 0 ]; then
    HOME=/root USER=root /run/job </dev/null
else
    HOME=/home/user USER=user /usr/bin/setpriv --reuid "$uid" --regid "$uid" --clear-groups \
        /run/job </dev/null
fi
status=$?
echo
echo "vm-$nonce status $status"
busybox sync
busybox poweroff -f
