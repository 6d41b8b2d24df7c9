#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the shell completions from the option tables (cli/*_options.def).

Usage: generate.py [--check]    --check: exit 1 when a committed file is out of date.
Options of later features are left out.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROW = re.compile(
    r'^OPT\((\w+), "([^"]+)", (?:\'(.)\'|0), (?:"((?:[^"\\]|\\.)*)"|NULL), ([^,]+), (\w+),\s*'
    r'((?:"(?:[^"\\]|\\.)*"\s*)+)\)', re.M)
PROTECTIONS = ['fs-refer', 'fs-truncate', 'net-tcp', 'fs-ioctl-dev', 'signal-scope',
               'abstract-unix-socket-scope']
GROUPS = ['network', 'process', 'tracing', 'mount', 'mqueue', 'aio', 'memfd', 'watch', 'sched']
WORDS = {
    'allow-degraded': PROTECTIONS,
    'disable': [p for p in PROTECTIONS if p != 'fs-refer'],
    'extra-deny-syscall': GROUPS,
    'extra-allow-syscall': ['sysv_ipc'],
    'print-filter': ['x86_64', 'aarch64'],
    'stop-signal': ['TERM', 'INT', 'HUP', 'QUIT', 'KILL'],
    'gpu': ['all'],
    'on-exit': ['commit', 'abort', 'keep'],
    'on-error': ['commit', 'abort', 'keep'],
}


def options(command):
    """Rows of a table as dictionaries, without those of later features."""
    text = (HERE.parent / f'{command}_options.def').read_text()
    rows = []
    for _, name, letter, value, flags, _, help_text in ROW.findall(text):
        words = ''.join(re.findall(r'"((?:[^"\\]|\\.)*)"', help_text)).replace('\\"', '"')
        rows.append({'name': name, 'letter': letter, 'value': value, 'help': words,
                     'optional': 'OPT_OPTIONAL' in flags, 'repeat': 'OPT_REPEAT' in flags,
                     'later': 'OPT_LATER' in flags})
    declared = len(re.findall(r'^OPT\(', text, re.M))
    if declared != len(rows):
        sys.exit(f'{command}_options.def: {declared} rows, {len(rows)} understood')
    return [r for r in rows if not r['later']]


def kind(row):
    """What the value is: '' none, 'file', 'dir', 'words' or 'any'."""
    if not row['value']:
        return ''
    if row['name'] in WORDS:
        return 'words'
    return {'PATH': 'file', 'FILE': 'file', 'DIR': 'dir'}.get(row['value'], 'any')


def spellings(row, optional_too=False):
    if row['optional'] and not optional_too:
        return []
    return ['--' + row['name']] + (['-' + row['letter']] if row['letter'] else [])


def bash():
    out = ['# SPDX-License-Identifier: Apache-2.0',
           '# bash completion for sandlock; made by cli/completions/generate.py.',
           '# shellcheck shell=bash',
           '_sandlock_run() {', '    local cur=$1 prev=$2', '    case $prev in']
    for row in options('run'):
        patterns = '|'.join(spellings(row))
        k = kind(row)
        if not patterns or not k:
            continue
        action = {'file': 'compgen -f -- "$cur"', 'dir': 'compgen -d -- "$cur"',
                  'words': f'compgen -W "{" ".join(WORDS.get(row["name"], []))}" -- "$cur"',
                  'any': ':'}[k]
        out += [f'    {patterns})',
                f'        {"mapfile -t COMPREPLY < <(" + action + ")" if k != "any" else ":"}',
                '        return', '        ;;']
    names = []
    for row in options('run'):
        names += spellings(row, True)
        if row['optional']:
            names.append(f'--{row["name"]}=')
    checks = [s for row in options('check') for s in spellings(row)]
    recovers = [s for row in options('recover') for s in spellings(row)]
    out += ['    esac',
            f'    mapfile -t COMPREPLY < <(compgen -W "{" ".join(names)}" -- "$cur")', '}', '',
            '_sandlock() {', '    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}',
            '    local i', '    COMPREPLY=()', '    if ((COMP_CWORD == 1)); then',
            '        mapfile -t COMPREPLY < <(compgen -W "run check recover --help --version" -- "$cur")',
            '        return', '    fi', '    case ${COMP_WORDS[1]} in', '    check)',
            f'        mapfile -t COMPREPLY < <(compgen -W "{" ".join(checks)}" -- "$cur")',
            '        ;;', '    recover)',
            f'        mapfile -t COMPREPLY < <(compgen -d -W "{" ".join(recovers)}" -- "$cur")',
            '        ;;', '    run)', '        # Behind -- the command completes as it would alone.',
            '        for ((i = 2; i < COMP_CWORD; i++)); do',
            '            if [[ ${COMP_WORDS[i]} == -- ]]; then',
            '                if declare -F _command_offset >/dev/null; then',
            '                    _command_offset $((i + 1))', '                else',
            '                    mapfile -t COMPREPLY < <(compgen -c -f -- "$cur")', '                fi',
            '                return', '            fi', '        done',
            '        _sandlock_run "$cur" "$prev"', '        ;;', '    esac', '}',
            'complete -o filenames -o bashdefault -F _sandlock sandlock', '']
    return '\n'.join(out)


def zsh_quote(text):
    return text.replace("'", "'\\''").replace('[', '\\[').replace(']', '\\]').replace(':', '\\:')


def zsh_options(command):
    lines = []
    for row in options(command):
        action = {'': '', 'file': f':{row["value"]}:_files', 'dir': f':{row["value"]}:_files -/',
                  'words': f':{row["value"]}:({" ".join(WORDS.get(row["name"], []))})',
                  'any': f':{zsh_quote(row["value"])}: '}[kind(row)]
        equals = '=-' if row['optional'] else '=' if row['value'] else ''
        star = '*' if row['repeat'] else ''
        if row['optional']:
            action = ':' + action
        lines.append(f"        '{star}--{row['name']}{equals}[{zsh_quote(row['help'])}]{action}'")
        if row['letter']:
            plus = '+' if row['value'] else ''
            lines.append(f"        '{star}-{row['letter']}{plus}[{zsh_quote(row['help'])}]{action}'")
    return ' \\\n'.join(lines)


def zsh():
    return f"""#compdef sandlock
# SPDX-License-Identifier: Apache-2.0
# zsh completion for sandlock; made by cli/completions/generate.py.

_sandlock() {{
    local curcontext="$curcontext" state
    _arguments -C '1:command:((run\\:"run a command in a sandbox" check\\:"what this kernel offers" recover\\:"staged changes left behind"))' \\
        '(- *)'{{-h,--help}}'[print help]' '(- *)'{{-V,--version}}'[print the version]' '*::argument:->rest'
    [[ $state == rest ]] || return
    case $words[1] in
    run)
        _arguments -S \\
{zsh_options('run')} \\
        '(-)1:command: _command_names -e' '*::arguments: _normal'
        ;;
    check)
        _arguments \\
{zsh_options('check')}
        ;;
    recover)
        _arguments \\
{zsh_options('recover')} \\
        '1:work directory:_files -/'
        ;;
    esac
}}

_sandlock "$@"
"""


def fish_quote(text):
    return "'" + text.replace('\\', '\\\\').replace("'", "\\'") + "'"


def fish():
    out = ['# SPDX-License-Identifier: Apache-2.0',
           '# fish completion for sandlock; made by cli/completions/generate.py.',
           'complete -c sandlock -f',
           "complete -c sandlock -n __fish_use_subcommand -a run -d 'run a command in a sandbox'",
           "complete -c sandlock -n __fish_use_subcommand -a check -d 'what this kernel offers'",
           "complete -c sandlock -n __fish_use_subcommand -a recover -d 'staged changes left behind'"]
    for command in ('run', 'check', 'recover'):
        for row in options(command):
            line = f"complete -c sandlock -n '__fish_seen_subcommand_from {command}' -l {row['name']}"
            if row['letter']:
                line += f' -s {row["letter"]}'
            # fish knows no optional value: such an option is offered without one.
            if row['value'] and not row['optional']:
                line += ' -r'
                line += {'file': ' -F', 'dir': " -a '(__fish_complete_directories)'",
                         'words': ' -a ' + fish_quote(' '.join(WORDS.get(row['name'], []))),
                         'any': ''}[kind(row)]
            out.append(f'{line} -d {fish_quote(row["help"])}')
    return '\n'.join(out) + '\n'


def main():
    stale = []
    for name, text in (('sandlock.bash', bash()), ('_sandlock', zsh()), ('sandlock.fish', fish())):
        path = HERE / name
        if '--check' in sys.argv[1:]:
            if not path.exists() or path.read_text() != text:
                stale.append(name)
        else:
            path.write_text(text)
    if stale:
        sys.exit(f'out of date: {", ".join(stale)}; run cli/completions/generate.py')


if __name__ == '__main__':
    main()
