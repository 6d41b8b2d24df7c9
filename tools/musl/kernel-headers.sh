#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Usage: kernel-headers.sh DIR COMPILER...: fills DIR with links to the kernel's user-space headers
# (linux, asm, asm-generic) that COMPILER would use, and to nothing else.
set -eu
dir=$1
shift
mkdir -p "$dir"


for sub in linux asm asm-generic; do
    case $sub in
    linux) header=linux/landlock.h ;;
    *) header=$sub/errno.h ;;
    esac
    path=$(printf '#include <%s>\n' "$header" | "$@" -E -M - | tr ' ' '\n' |
        grep "/$header\$" | head -n 1)
    [ -n "$path" ] || {
        echo "kernel-headers.sh: $* finds no <$header>" >&2
        exit 1
    }
    ln -sfn "$(dirname "$path")" "$dir/$sub"
done
