#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs inside the virtual machine, as root and as an ordinary user: what must hold on a kernel that
# has less (no Landlock, ABI 2) or more than the one sandlock is developed on. Prints "ok NAME",
# "not ok NAME" or "skip NAME" a check; vm.py counts them. Usage: smoke.sh [KERNEL]
set -u
sandlock=${SANDLOCK:-build/sandlock}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
status=0
echo secret >"$dir/secret"
mkdir -m 777 "$dir/open"

ok() { echo "ok $1"; }
bad() {
    echo "not ok $1"
    sed 's/^/  /' "$dir/out" "$dir/err" 2>/dev/null
    status=1
}
# expect NAME STATUS COMMAND...
expect() {
    name=$1 want=$2
    shift 2
    "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    if [ $got = "$want" ]; then ok "$name"; else
        echo "  exit status $got, not $want: $*"
        bad "$name"
    fi
}
# says NAME PATTERN: the last command's messages contain it.
says() {
    if cat "$dir/out" "$dir/err" | grep -Eq -- "$2"; then ok "$1"; else
        echo "  no /$2/ in:"
        bad "$1"
    fi
}

# What the kernel itself says, not by way of sandlock (444 is landlock_create_ruleset).
abi=$(python3 -c 'import ctypes; print(max(0, ctypes.CDLL(None).syscall(444, None, 0, 1)))')
echo "kernel $(uname -r), Landlock ABI $abi, $(uname -m), uid $(id -u)"

expect version 0 "$sandlock" --version
"$sandlock" check --json >"$dir/check.json" 2>"$dir/err"
# field EXPRESSION: of the JSON report, c.
field() { python3 -c 'import json, sys; c = json.load(open(sys.argv[1])); print('"$1"')' \
    "$dir/check.json" 2>>"$dir/err"; }
field 'c["landlock_abi"]' >"$dir/out"
says check-json "^$abi\$"
# ABI 6 has everything that the default policy insists on.
field 'c["default_policy"]["can_run"]' >"$dir/out"
if [ "$abi" -ge 6 ]; then says check-can-run '^True$'; else says check-cannot-run '^False$'; fi
"$sandlock" check >"$dir/out" 2>"$dir/err"
says check-names-abi "Landlock ABI $abi"

set -- -r /usr -r /lib -r /bin -r /etc
[ ! -e /lib64 ] || set -- "$@" -r /lib64

if [ "$abi" = 0 ]; then
    expect no-landlock-refused 125 "$sandlock" run "$@" -- sh -c "echo ran >$dir/open/ran"
    says no-landlock-named '[Ll]andlock'
    if [ -e "$dir/open/ran" ]; then bad nothing-ran; else ok nothing-ran; fi
    # No option makes a sandbox without Landlock look like one.
    waive=
    for protection in $(field '*[p["name"] for p in c["protections"]]'); do
        waive="$waive --allow-degraded $protection"
    done
    # shellcheck disable=SC2086
    expect no-landlock-never-waived 125 "$sandlock" run $waive "$@" -- true
    exit $status
fi

if [ "$abi" -ge 6 ]; then
    expect strict-default 0 "$sandlock" run "$@" -- true
else
    # It must say which protection, which ABI and how to waive it, and the advice must work.
    expect strict-refused 125 "$sandlock" run "$@" -- true
    says missing-names-abi 'ABI [0-9]'
    says missing-says-how '--allow-degraded [a-z-]+'
    advice=$(grep -Eoh -e '--allow-degraded [a-z-]+' "$dir/out" "$dir/err" | sort -u)
    # shellcheck disable=SC2086
    set -- $advice "$@"
    echo "  waived: $advice" | tr '\n' ' '
    echo
fi

expect run 0 "$sandlock" run "$@" -- python3 -c 'print(6*7)'
says run-output '^42$'
expect control-read 0 cat "$dir/secret"
expect read-denied 1 "$sandlock" run "$@" -- cat "$dir/secret"
says read-denied-errno 'Permission denied'
expect write-denied 2 "$sandlock" run "$@" -- sh -c "echo x >$dir/open/x"
expect write-granted 0 "$sandlock" run "$@" -w "$dir/open" -- sh -c "echo x >$dir/open/x"
expect pipeline 0 "$sandlock" run "$@" -- sh -c 'echo abc | cat | cat'
says pipeline-output '^abc$'
expect exit-status 7 "$sandlock" run "$@" -- sh -c 'exit 7'
expect signal-status 143 "$sandlock" run "$@" -- sh -c 'kill -TERM $$'
expect timeout 124 "$sandlock" run -t 2 "$@" -- sleep 60
expect not-found 127 "$sandlock" run "$@" -- /usr/bin/no-such-command
expect chmod-granted 0 "$sandlock" run "$@" -w "$dir/open" -- chmod 600 "$dir/open/x"
echo x >"$dir/open/y"
expect deny 1 "$sandlock" run "$@" -w "$dir/open" --fs-deny "$dir/open/y" -- cat "$dir/open/y"
expect deny-other-file 0 "$sandlock" run "$@" -w "$dir/open" --fs-deny "$dir/open/y" -- \
    cat "$dir/open/x"

# Calls that this kernel has and the table does not know, and numbers that nobody has.
cat >"$dir/calls.py" <<'EOF'
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
def answers(nr):
    ctypes.set_errno(0)
    libc.syscall(nr, -1, -1, -1, -1, -1, -1)
    return ctypes.get_errno()
print(*[nr for nr in map(int, sys.argv[1:]) if answers(nr) != 38])
EOF
unknown=$(python3 - gen/syscalls.tbl "$(uname -m)" <<'EOF'
import sys
known = set()
for line in open(sys.argv[1]):
    fields = line.split("#")[0].split()
    column = 1 if sys.argv[2] == "x86_64" else 2
    if len(fields) > 2 and fields[column].isdigit():
        known.add(int(fields[column]))
assert len(known) > 250
print(*[nr for nr in list(range(440, 560)) + [1000, 4095] if nr not in known])
EOF
)
# shellcheck disable=SC2086
native=$(python3 "$dir/calls.py" $unknown)
echo "  the kernel has, the table has not: ${native:-none}"
# shellcheck disable=SC2086
expect newer-calls-run 0 "$sandlock" run "$@" -r "$dir/calls.py" -- python3 "$dir/calls.py" $unknown
says newer-calls-refused '^$'
exit $status
