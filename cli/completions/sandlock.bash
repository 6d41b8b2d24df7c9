# SPDX-License-Identifier: Apache-2.0
# bash completion for sandlock; made by cli/completions/generate.py.
# shellcheck shell=bash
_sandlock_run() {
    local cur=$1 prev=$2
    case $prev in
    --fs-read|-r)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --fs-write|-w)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --fs-deny)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --fs-mount)
        :
        return
        ;;
    --chroot)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --image)
        :
        return
        ;;
    --workdir)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --fs-storage)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --on-exit)
        mapfile -t COMPREPLY < <(compgen -W "commit abort keep" -- "$cur")
        return
        ;;
    --on-error)
        mapfile -t COMPREPLY < <(compgen -W "commit abort keep" -- "$cur")
        return
        ;;
    --max-disk)
        :
        return
        ;;
    --net-allow)
        :
        return
        ;;
    --net-allow-bind)
        :
        return
        ;;
    --net-deny)
        :
        return
        ;;
    --net-deny-bind)
        :
        return
        ;;
    --dns-refresh)
        :
        return
        ;;
    --timeout|-t)
        :
        return
        ;;
    --max-open-files)
        :
        return
        ;;
    --cpu-cores)
        :
        return
        ;;
    --max-memory|-m)
        :
        return
        ;;
    --max-processes|-P)
        :
        return
        ;;
    --cpu|-c)
        :
        return
        ;;
    --num-cpus)
        :
        return
        ;;
    --memory-mode)
        :
        return
        ;;
    --rlimit)
        :
        return
        ;;
    --exec-shell|-e)
        :
        return
        ;;
    --env)
        :
        return
        ;;
    --cwd)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    --user)
        :
        return
        ;;
    --name)
        :
        return
        ;;
    --gpu)
        mapfile -t COMPREPLY < <(compgen -W "all" -- "$cur")
        return
        ;;
    --time-start)
        :
        return
        ;;
    --random-seed)
        :
        return
        ;;
    --extra-deny-syscall)
        mapfile -t COMPREPLY < <(compgen -W "network process tracing mount mqueue aio memfd watch sched" -- "$cur")
        return
        ;;
    --extra-allow-syscall)
        mapfile -t COMPREPLY < <(compgen -W "sysv_ipc" -- "$cur")
        return
        ;;
    --allow-degraded)
        mapfile -t COMPREPLY < <(compgen -W "fs-refer fs-truncate net-tcp fs-ioctl-dev signal-scope abstract-unix-socket-scope" -- "$cur")
        return
        ;;
    --disable)
        mapfile -t COMPREPLY < <(compgen -W "fs-truncate net-tcp fs-ioctl-dev signal-scope abstract-unix-socket-scope" -- "$cur")
        return
        ;;
    --status-fd)
        :
        return
        ;;
    --stop-signal)
        mapfile -t COMPREPLY < <(compgen -W "TERM INT HUP QUIT KILL" -- "$cur")
        return
        ;;
    --stop-grace)
        :
        return
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "--fs-read -r --fs-write -w --fs-deny --fs-mount --chroot --image --workdir --fs-storage --on-exit --on-error --dry-run --diff --changes-json --max-disk --commit-backup --commit-in-place --net-allow --net-allow-bind --net-deny --net-deny-bind --dns-refresh --port-remap --timeout -t --max-open-files --cpu-cores --max-memory -m --max-processes -P --cpu -c --num-cpus --memory-mode --rlimit --exec-shell -e --env --clean-env --cwd --user --name --gpu --no-randomize-memory --no-huge-pages --no-coredump --time-start --random-seed --deterministic-dirs --extra-deny-syscall --extra-allow-syscall --allow-degraded --disable --no-supervisor --explain --explain= --stats --status-fd --print-filter --print-filter= --quiet --linger --stop-signal --stop-grace --help -h --version -V" -- "$cur")
}

_sandlock() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local i
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "run check recover --help --version" -- "$cur")
        return
    fi
    case ${COMP_WORDS[1]} in
    check)
        mapfile -t COMPREPLY < <(compgen -W "--json --help -h --version -V" -- "$cur")
        ;;
    recover)
        mapfile -t COMPREPLY < <(compgen -d -W "--commit --rollback --abort --changes --diff --changes-json --fs-storage --help -h --version -V" -- "$cur")
        ;;
    run)
        # Behind -- the command completes as it would alone.
        for ((i = 2; i < COMP_CWORD; i++)); do
            if [[ ${COMP_WORDS[i]} == -- ]]; then
                if declare -F _command_offset >/dev/null; then
                    _command_offset $((i + 1))
                else
                    mapfile -t COMPREPLY < <(compgen -c -f -- "$cur")
                fi
                return
            fi
        done
        _sandlock_run "$cur" "$prev"
        ;;
    esac
}
complete -o filenames -o bashdefault -F _sandlock sandlock
