# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of sandlock, each a ratio against the same thing bare in the same run.

Prints Markdown. Nothing here asserts: the numbers are for people. See bench/README.md.
"""
import argparse
import contextlib
import os
import pathlib
import re
import resource
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import workloads

ROOT = pathlib.Path(__file__).resolve().parent.parent
TREES = [d for d in ('/usr', '/lib', '/lib64', '/bin', '/etc') if os.path.exists(d)]
CLOCK = os.sysconf('SC_CLK_TCK')


class Bench:
    def __init__(self, options):
        self.build = pathlib.Path(options.build).resolve()
        self.rounds = options.rounds
        self.against = shlex.split(options.against) if options.against else None
        self.work = pathlib.Path(tempfile.mkdtemp(prefix='sandlock-bench-', dir=options.dir))
        self.work.chmod(0o755)
        (self.work / 'file').write_text('x' * 256)
        (self.work / 'link').symlink_to('file')
        # As installed: without the debugging sections.
        self.sandlock_bin = self.work / 'sandlock'
        self.confine_bin = self.work / 'confine'
        for source, target in ((self.build / 'sandlock', self.sandlock_bin),
                               (self.build / 'bench' / 'confine', self.confine_bin),
                               (self.build / 'bench' / 'nothing', self.work / 'nothing')):
            shutil.copy(source, target)
            if shutil.which('strip'):
                subprocess.run(['strip', target], check=True)

    def program(self, name):
        return str(self.build / 'bench' / name)

    def sandlock(self, *words, read=(), write=()):
        grants = [w for d in [*TREES, *read] for w in ('-r', str(d))]
        grants += [w for d in write for w in ('-w', str(d))]
        return [str(self.sandlock_bin), 'run', *grants, *words, '--']

    def confine(self, *words, read=()):
        return [str(self.confine_bin), *words, *TREES, *map(str, read), '--']


def pin(argv):
    """One core, the last: the first one takes most interrupts."""
    return ['taskset', '-c', str(max(os.sched_getaffinity(0))), *argv]


def title(text):
    print(f'\n### {text}\n')


def table(head, rows):
    print('| ' + ' | '.join(head) + ' |')
    print('|' + '---|' * len(head))
    for row in rows:
        print('| ' + ' | '.join(str(c) for c in row) + ' |')
    sys.stdout.flush()


def times(ratio):
    return f'{ratio:.2f}×'


def median_ratio(base, other):
    """Pairs of neighbours in time: the machine's load hits both."""
    return statistics.median(o / b for b, o in zip(base, other))


# ---- single calls ----

def tcp_pair():
    with socket.create_server(('127.0.0.1', 0)) as server:
        a = socket.create_connection(server.getsockname())
        b, _ = server.accept()
    for s in (a, b):
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return a, b


def micro(bench, prefix, names=(), pinned=False):
    argv = [*prefix, bench.program('micro'), str(bench.work), *names]
    a, b = tcp_pair()
    with a, b:
        r = subprocess.run(pin(argv) if pinned else argv, stdin=a, stdout=b,
                           stderr=subprocess.PIPE, text=True)
    if r.returncode != 0:
        sys.exit(f'{shlex.join(argv)}: {r.stderr}')
    lines = (line.split('\t') for line in r.stderr.splitlines() if '\t' in line)
    return {name: float(ns) for name, ns in lines}


def micro_rounds(bench, prefixes, names=(), pinned=False):
    """For each prefix: name -> values, one a round, prefixes in turns."""
    results = [{} for _ in prefixes]
    for _ in range(bench.rounds):
        for prefix, result in zip(prefixes, results):
            for name, ns in micro(bench, prefix, names, pinned).items():
                result.setdefault(name, []).append(ns)
    return results


def section_micro(bench):
    own = [bench.work, bench.build]
    prefixes = [[], bench.confine(read=own), bench.confine('-s', read=own),
                bench.sandlock(read=own)]
    title('Single calls, default policy')
    free = micro_rounds(bench, prefixes)
    pinned = micro_rounds(bench, prefixes, pinned=True)
    rows = []
    for name in free[0]:
        row = [name, f'{statistics.median(free[0][name]) / 1000:.2f}']
        for results in (free, pinned):
            row += [times(median_ratio(results[0][name], r[name])) for r in results[1:]]
            row.append(times(median_ratio(results[1][name], results[3][name])))
        rows.append(row)
    columns = ['Landlock', '+ empty filter', 'sandlock', 'of Landlock']
    table(['call', 'bare µs', *columns, 'one core: Landlock', *columns[1:]], rows)


# ---- start-up ----

def spawn(bench, commands, rounds, at_once=1, pinned=False):
    """Of each command, in turns: wall median and minimum, processor time median and minimum (µs),
    median ratio to the first of both."""
    argv = [bench.program('spawn'), '-n', str(rounds), '-p', str(at_once)]
    for command in commands:
        argv += [':::', *command]
    out = subprocess.run(pin(argv) if pinned else argv, check=True, stdout=subprocess.PIPE,
                         text=True).stdout
    return [tuple(map(float, line.split())) for line in out.splitlines()]


def start_commands(bench):
    commands = {
        'bare': [],
        'a static launcher: Landlock rules, vfork, wait': bench.confine('-w'),
        'sandlock --no-supervisor': bench.sandlock('--no-supervisor'),
        'sandlock': bench.sandlock(),
        'sandlock --fs-deny /etc/shadow': bench.sandlock('--fs-deny', '/etc/shadow'),
    }
    if shutil.which('bwrap'):
        commands['bwrap'] = ['bwrap', *[w for d in TREES for w in ('--ro-bind', d, d)],
                             '--unshare-all', '--die-with-parent', '--']
    if bench.against:
        commands['the other one'] = bench.against
    return {k: [*v, '/bin/true'] for k, v in commands.items()}


def section_start(bench):
    commands = start_commands(bench)
    title('Start and end of /bin/true')
    for name, command in list(commands.items()):
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            print(f'{name}: does not run here\n')
            del commands[name]
    runs = [spawn(bench, commands.values(), 30 * bench.rounds, pinned=p) for p in (False, True)]
    rows = [[name, f'{free[0]:.0f}', times(free[4]), times(free[1] / runs[0][0][1]),
             times(pinned[1] / runs[1][0][1]), f'{pinned[2]:.0f}', times(pinned[5])]
            for name, free, pinned in zip(commands, *runs)]
    table(['command', 'wall µs', 'of bare, paired median', 'of bare, minima', 'minima, one core',
           'CPU µs', 'of bare'], rows)

    title('200 at once')
    both = spawn(bench, [['/bin/true'], [*bench.sandlock(), '/bin/true']], bench.rounds, 200)
    table(['200 × /bin/true', 'ms', 'of bare'],
          [['bare', f'{both[0][0] / 1000:.0f}', ''],
           ['sandlock', f'{both[1][0] / 1000:.0f}', times(both[1][4])]])

    title('Starting from a process that holds memory')
    out = subprocess.run([bench.program('hold'), '3', *TREES, '--',
                          '/bin/true'], stdout=subprocess.PIPE, text=True)
    if out.returncode:
        print('does not run here')
        return
    small, large = map(float, out.stdout.split())
    table(['the caller holds', 'µs (first decile)', 'ratio'],
          [['10 MB', f'{small:.0f}', ''], ['2 GB', f'{large:.0f}', times(large / small)]])


# ---- what a supervised call costs ----

def section_floors(bench):
    own = [bench.work, bench.build]
    chroot = bench.sandlock('--chroot', '/', read=own)
    kinds = [
        ('answered: a netlink socket refused, default policy', 'netlink socket',
         [bench.program('notify')], bench.sandlock(read=own)),
        ('answered and written: uname under --name', 'uname', [bench.program('notify')],
         bench.sandlock('--name', 'box', read=own)),
        ('opened on behalf: open+close under --fs-deny', 'open+close',
         [bench.program('notify'), '-o'],
         bench.sandlock('--fs-deny', str(bench.work / 'denied'), read=own)),
        ('opened on behalf: open+close under --chroot', 'open+close',
         [bench.program('notify'), '-o'], chroot),
        ('stat under --chroot, against a call that is only answered', 'stat',
         [bench.program('notify'), '-s'], chroot),
        ('stat under --chroot, against a stat on behalf', 'stat',
         [bench.program('notify'), '-b'], chroot),
        ('stat of nothing under --chroot, against a stat on behalf', 'stat, missing',
         [bench.program('notify'), '-b'], chroot),
    ]
    title('Supervised calls against the least a supervisor can do')
    rows = []
    for what, name, floor, sand in kinds:
        for pinned in (True, False):
            bare, least, ours = micro_rounds(bench, [[], floor, sand], [name], pinned)
            rows.append([what, 'one core' if pinned else 'free',
                         f'{statistics.median(bare[name]) / 1000:.2f}',
                         f'{statistics.median(least[name]) / 1000:.1f}',
                         f'{statistics.median(ours[name]) / 1000:.1f}',
                         times(median_ratio(least[name], ours[name]))])
    table(['call', 'cores', 'bare µs', 'floor µs', 'sandlock µs', 'of the floor'], rows)


def section_chroot(bench):
    title('Programs under `--chroot /`')
    rows = []
    for w in workloads.prepare(bench.work, ('make', 'python')):
        prefixes = [[], bench.sandlock('--cwd', str(w.cwd), '--chroot', '/', read=w.read,
                                       write=w.write)]
        rows.append(program_row(bench, w, prefixes))
    table(PROGRAM_COLUMNS, rows)

    title('Two busy processes against one: calls of stat in a tenth of a second')
    file = str(bench.work / 'file')
    own = [bench.work, bench.build]
    boxes = {'bare': [], 'the floor: one thread that only answers': [bench.program('notify'), '-s'],
             'sandlock --chroot /': bench.sandlock('--chroot', '/', read=own)}
    rows = []
    for name, box in boxes.items():
        found = {1: [], 2: []}
        for _ in range(bench.rounds):
            for n, values in found.items():
                out = subprocess.run([*box, bench.program('busy'), 'stat', str(n), file],
                                     check=True, stdout=subprocess.PIPE, text=True).stdout
                values.append(int(out))
        rows.append([name, max(found[1]), max(found[2]), times(max(found[2]) / max(found[1])),
                     times(median_ratio(found[1], found[2]))])
    table(['sandbox', 'one', 'two', 'of one, best', 'paired median'], rows)


# ---- sorted directories ----

def section_dirs(bench):
    top = bench.work / 'entries'
    top.mkdir()
    for i in range(10000):
        (top / f'{i * 7919 % 10000}.txt').touch()
    small = bench.work / 'few'
    small.mkdir()
    title('Listing a directory, `ls -f`')
    rows = []
    for what, folder in (('10,000 entries', top), ('none', small)):
        words = ['ls', '-f', str(folder)]
        prefixes = [[], bench.sandlock(read=[folder]),
                    bench.sandlock('--deterministic-dirs', read=[folder])]
        results = [[], [], []]
        for _ in range(4 * bench.rounds):
            for prefix, result in zip(prefixes, results):
                result.append(wall([*prefix, *words], None, '/')[0])
        rows.append([what, f'{statistics.median(results[0]) * 1000:.1f}',
                     *(f'{statistics.median(r) * 1000:.1f}' for r in results[1:]),
                     *(times(median_ratio(results[0], r)) for r in results[1:])])
    table(['entries', 'bare ms', 'sandlock ms', 'sorted ms', 'of bare', 'sorted, of bare'], rows)


def section_determinism(bench):
    own = [bench.work, bench.build]
    names = ['clock_gettime', 'gettimeofday', 'clock_gettime, system call',
             'wait for a moment that has passed', 'getrandom', 'stat', 'open+close', 'fork+wait',
             'spawn+exec, static', 'spawn+exec']
    prefixes = [[], bench.sandlock(read=own),
                bench.sandlock('--time-start', '2000-01-01T00:00:00Z', read=own),
                bench.sandlock('--random-seed', '1', read=own)]
    title('Time and randomness')
    rows = []
    for pinned in (True, False):
        results = micro_rounds(bench, prefixes, names, pinned)
        for name in results[0]:
            row = [name, 'one core' if pinned else 'free',
                   *(f'{statistics.median(r[name]) / 1000:.3f}' for r in results)]
            row += [times(median_ratio(results[1][name], r[name])) for r in results[2:]]
            rows.append(row)
    table(['call', 'cores', 'bare µs', 'sandlock', '--time-start', '--random-seed',
           'time: of sandlock', 'seed: of sandlock'], rows)


# ---- programs ----

def wall(argv, env, cwd):
    """Seconds on the clock, and of the processor in the whole tree: the second survives a loaded
    machine."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    r = subprocess.run(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if r.returncode:
        sys.exit(f'{shlex.join(argv)}: {r.stderr}')
    return (time.monotonic() - start,
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


PROGRAM_COLUMNS = ['program', 'bare ms', 'sandlock ms', 'of bare, paired median',
                   'of bare, minima', 'CPU time of bare']


def program_row(bench, w, prefixes):
    env = {**os.environ, **w.env}
    results, used = [[], []], [[], []]
    for i in range(bench.rounds + 1):
        for prefix, result, cpu in zip(prefixes, results, used):
            w.reset()
            seconds = wall([*prefix, *w.argv], env, w.cwd)
            if i > 0:  # the first one warms
                result.append(seconds[0])
                cpu.append(seconds[1])
    return [w.name, f'{statistics.median(results[0]) * 1000:.0f}',
            f'{statistics.median(results[1]) * 1000:.0f}',
            times(median_ratio(*results)), times(min(results[1]) / min(results[0])),
            times(median_ratio(*used))]


def section_workloads(bench):
    title('Programs, default policy')
    rows = []
    for w in workloads.prepare(bench.work):
        rows.append(program_row(bench, w, [[], bench.sandlock(read=w.read, write=w.write)]))
    table(PROGRAM_COLUMNS, rows)


# ---- staged changes ----

# What `files` does, with how many names; what makes the names that exist before, and what makes them again
# after a bare run. A staged one, which is aborted, leaves the directory as it was: there they take turns
# staged first.
STAGED = [('create', 10000, None, 'empty', 'create, write, close'),
          ('rename', 3000, 'fill', 'back', "rename lower's file"),
          ('rename-new', 3000, None, 'empty', 'rename a new file'), ('mkdir', 3000, None, 'empty', 'mkdir'),
          ('unlink', 3000, 'fill', 'fill', "unlink lower's file"),
          ('change', 3000, 'fill', None, "first write to a small file"),
          ('list', 100000, 'names', None, 'list, each entry'),
          ('stream', 131072, None, 'empty', 'write and read through one descriptor')]
COMMITTED = 3000


def fresh(top):
    for d in ('work', 'store'):
        workloads.remove(top / d)
        (top / d).mkdir(mode=0o700, parents=True)


def staging(bench, top, *words):
    return bench.sandlock('--workdir', str(top / 'work'), '--fs-storage', str(top / 'store'), '-w', '/dev/null',
                          *(words or ('--on-exit', 'abort')), read=[bench.build])


def files_ns(bench, prefix, what, top, n, writers):
    argv = [*prefix, bench.program('files'), what, str(top / 'work'), str(n), str(writers)]
    return float(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout)


def prepare_again(bench, top, how, n):
    if how == 'empty':
        fresh(top)
    elif how:
        files_ns(bench, [], how, top, n, 1)


def staged_calls(bench, top):
    rows, one, two = [], [], []
    for what, n, made_by, again, label in STAGED:
        found = [[], []]
        fresh(top)
        prepare_again(bench, top, made_by, n)
        for i in range(bench.rounds):
            if i:
                prepare_again(bench, top, again, n)
            found[1].append(files_ns(bench, staging(bench, top), what, top, n, 1))
            if what == 'create':
                two.append(files_ns(bench, staging(bench, top), what, top, n, 2))
                one = found[1]
            found[0].append(files_ns(bench, [], what, top, n, 1))
        rows.append([label, f'{min(found[0]) / 1000:.1f}', f'{min(found[1]) / 1000:.1f}',
                     times(median_ratio(*found)), times(min(found[1]) / min(found[0]))])
    table(['each name', 'bare µs', 'staged µs', 'of bare, paired median', 'minima'], rows)
    print(f'\ntwo writers make {min(one) / min(two):.2f} times as many files a second as one')


def staged_looks(bench, top):
    """Of lower's own objects, which nothing staged touches, once something is staged elsewhere."""
    fresh(top)
    for name in ('file', 'link'):
        shutil.copy(bench.work / name, top / 'work' / name, follow_symlinks=False)
    shell = ['sh', '-c', f'echo > {top}/work/new; exec "$@"', 'sh']
    program = [bench.program('micro'), str(top / 'work')]
    rows = []
    for name, floor, of in (('stat', [bench.program('notify')], 'uname'),
                            ('readlink', [bench.program('notify')], 'uname'),
                            ('open+close', [bench.program('notify'), '-o'], 'open+close')):
        values = [[], [], []]
        for _ in range(bench.rounds):
            for argv, test, result in (([], name, values[0]), (floor, of, values[1]),
                                       ([*staging(bench, top), *shell], name, values[2])):
                r = subprocess.run([*argv, *program, test], check=True, stderr=subprocess.PIPE, text=True)
                result.append(float(r.stderr.split('\t')[-1]))
        rows.append([name, *(f'{statistics.median(v) / 1000:.1f}' for v in values),
                     times(median_ratio(values[1], values[2]))])
    table(['untouched, something staged', 'bare µs', 'floor µs', 'staged µs', 'of the floor'], rows)


def staged_programs(bench, top):
    rows = []
    for w in workloads.prepare_staged(top / 'work', bench.work):
        results = [[], []]
        for _ in range(bench.rounds):
            for prefix, result in zip(([], staging(bench, top)), results):
                fresh(top)
                w.reset()
                result.append(wall([*prefix, *w.argv], {**os.environ, **w.env}, w.cwd)[0])
        rows.append([w.name, f'{min(results[0]) * 1000:.0f}', f'{min(results[1]) * 1000:.0f}',
                     times(median_ratio(*results)), times(min(results[1]) / min(results[0]))])
    table(['program', 'bare ms', 'staged ms', 'of bare, paired median', 'minima'], rows)


def staged_large(bench, top):
    """The first write to a large file against a copy of it, and a commit against cp -a."""
    rows, results, rounds = [], [[], [], [], []], max(2, bench.rounds // 3)
    fresh(top)
    with open(top / 'work' / 'large', 'wb') as f:
        for _ in range(1024):
            f.write(b'x' * (1 << 20))
    for _ in range(rounds):
        write = ['sh', '-c', f'echo >> {top}/work/large']
        copy = ['cp', '--reflink=auto', str(top / 'work' / 'large'), str(top / 'copy')]
        results[0].append(wall(copy, None, '/')[0])
        (top / 'copy').unlink()
        results[1].append(wall([*staging(bench, top), *write], None, '/')[0])
    fresh(top)
    files_ns(bench, [], 'fill', top, COMMITTED, 1)
    for _ in range(rounds):
        results[2].append(wall(['cp', '-a', str(top / 'work'), str(top / 'copy')], None, '/')[0])
        workloads.remove(top / 'copy')
    for _ in range(rounds):
        fresh(top)
        made = [[], []]
        for how, result in zip(('abort', 'commit'), made):
            argv = [*staging(bench, top, '--on-exit', how), bench.program('files'), 'create',
                    str(top / 'work'), str(COMMITTED)]
            result.append(wall(argv, None, '/')[0])
        results[3].append(max(made[1][0] - made[0][0], 0))
    for label, a, b in (('first write to 1 GiB, against cp --reflink=auto', 0, 1),
                        (f'commit of {COMMITTED:,} files (over abort), against cp -a', 2, 3)):
        rows.append([label, f'{min(results[a]) * 1000:.0f}', f'{min(results[b]) * 1000:.0f}',
                     times(min(results[b]) / min(results[a]))])
    table(['what', 'the other ms', 'staged ms', 'minima'], rows)


def section_workdir(bench):
    title('Staged changes: --workdir')
    top = bench.work / 'staged'
    top.mkdir()
    for part in (staged_calls, staged_looks, staged_programs, staged_large):
        part(bench, top)
        print()


BUSY = [('malloc and free', ['alloc', '3000000'], ['-m', '1G']),
        ('mmap, 16 pages, munmap', ['map', '60000'], ['-m', '1G']),
        ('fork and wait', ['fork', '4000'], ['-P', '64']),
        ('posix_spawn of /bin/true', ['spawn', '1000'], ['-P', '64']),
        ('posix_spawn of /bin/true', ['spawn', '1000'], ['-m', '1G']),
        ('malloc and free', ['alloc', '3000000'], ['-c', '99'])]


def section_limits(bench):
    title('Limits: a sandbox with the limit against one without')
    rows = []
    busy = shutil.copy(bench.program('busy'), bench.work / 'busy')
    for name, words, limit in BUSY:
        prefixes = [bench.sandlock(read=[busy]), bench.sandlock(*limit, read=[busy])]
        results, used = [[], []], [[], []]
        for i in range(bench.rounds + 1):
            for prefix, result, cpu in zip(prefixes, results, used):
                seconds = wall([*prefix, str(busy), *words], dict(os.environ), '/')
                if i > 0:
                    result.append(seconds[0])
                    cpu.append(seconds[1])
        rows.append([name, '`' + ' '.join(limit) + '`', f'{statistics.median(results[0]) * 1000:.0f}',
                     f'{statistics.median(results[1]) * 1000:.0f}', times(median_ratio(*results)),
                     times(min(results[1]) / min(results[0])), times(median_ratio(*used))])
    table(['program', 'limit', 'without ms', 'with ms', 'paired median', 'minima', 'CPU time'], rows)
    limits_hog(bench)


HOG_LIMIT = 256  # MiB


def limits_hog(bench):
    """Who crosses the memory limit: how long until it is gone, and what it had by then."""
    busy = shutil.copy(bench.program('busy'), bench.work / 'busy')
    rows = []
    for name, pause, words in (('as fast as it can', 0, []), ('1 MiB a millisecond', 1000, []),
                               ('as fast as it can', 0, ['--memory-mode', 'enomem'])):
        argv = bench.sandlock('-m', f'{HOG_LIMIT}M', '--stats', *words, read=[busy])
        took, peaks, ends = [], [], set()
        for _ in range(bench.rounds):
            # Its own pages are nearly all that there is: a MiB less is no later than the crossing.
            r = subprocess.run([*argv, str(busy), 'hog', str(HOG_LIMIT - 1), str(pause)], text=True,
                               capture_output=True, stdin=subprocess.DEVNULL)
            end = time.monotonic()
            took += [(end - float(r.stdout)) * 1000] if r.stdout else []
            peaks += map(int, re.findall(r'memory: peak (\d+) kB', r.stderr))
            ends.add({137: 'killed', 3: 'refused'}.get(r.returncode, f'exit {r.returncode}'))
        rows.append([name, '`' + ' '.join(['-m', f'{HOG_LIMIT}M', *words]) + '`', ', '.join(sorted(ends)),
                     f'{statistics.median(took):.1f}' if took else 'never crossed',
                     f'{max(took):.1f}' if took else '', times(max(peaks, default=0) / 1024 / HOG_LIMIT)])
    title('Limits: from crossing the memory limit to the end of the run')
    table(['a hog fills memory', 'limit', 'it was', 'ms, median', 'ms, most', 'sampled peak of the limit'], rows)


def section_notifications(bench):
    title('Notifications in the default policy')
    rows = []
    for w in workloads.prepare_counted(bench.work):
        w.reset()
        argv = [*bench.sandlock('--stats', read=w.read, write=w.write), *w.argv]
        r = subprocess.run(argv, env={**os.environ, **w.env}, cwd=w.cwd, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        stats = dict(line.removeprefix('sandlock: ').split(': ', 1)
                     for line in r.stderr.splitlines()
                     if line.startswith('sandlock: ') and ': ' in line[10:])
        count = stats.get('notifications', '?')
        by = stats.get('notifications by operation', '')
        failed = f' (exit {r.returncode})' if r.returncode else ''
        rows.append([f'`{w.name}`', f'{count}{failed}', by])
    table(['command', 'notifications', ''], rows)


# ---- sizes ----

def status_kb(pid, field):
    for line in pathlib.Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith(field + ':'):
            return int(line.split()[1])
    return 0


def ticks(pid):
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return int(fields[11]) + int(fields[12])


def children(pid):
    return [int(p) for p in pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def idle(bench, words, seconds):
    with subprocess.Popen([*bench.sandlock(*words), 'sleep', str(seconds + 2)]) as p:
        time.sleep(1)
        pids = [p.pid, *children(p.pid)]
        before = sum(map(ticks, pids))
        time.sleep(seconds)
        used = sum(map(ticks, pids)) - before
        rss, threads = status_kb(p.pid, 'VmRSS'), status_kb(p.pid, 'Threads')
        p.terminate()
    return rss, threads, used


# ---- rules per host ----

@contextlib.contextmanager
def sink(bench):
    """Takes connections on 127.0.0.1 and reads what comes."""
    with subprocess.Popen([bench.program('connect'), 'serve'], stdout=subprocess.PIPE,
                          text=True) as p:
        yield int(p.stdout.readline())
        p.kill()


def section_network(bench):
    title('TCP on loopback')
    with sink(bench) as port:
        rule = ['--net-allow', f'tcp://127.0.0.1:{port}']
        many = [w for i in range(1, 1000)
                for w in ('--net-allow', f'tcp://10.{i % 250}.{i // 250}.1:{i}')]
        boxes = [[], bench.sandlock('--net-allow', f':{port}', read=[bench.build]),
                 bench.sandlock(*rule, read=[bench.build]),
                 bench.sandlock(*many, *rule, read=[bench.build])]
        rows = []
        for label, n, extra in (('connect and close', 2000, []), ('send on a connection', 50000, ['send'])):
            argv = [bench.program('connect'), str(port), str(n), *extra]
            found = [[] for _ in boxes]
            for _ in range(bench.rounds):
                for box, values in zip(boxes, found):
                    values.append(float(subprocess.run([*box, *argv], check=True, text=True,
                                                       stdout=subprocess.PIPE).stdout))
            rows.append([label, f'{min(found[0]) / 1000:.1f} µs',
                         *(times(min(v) / min(found[0])) for v in found[1:]),
                         times(min(found[3]) / min(found[2]))])
    table(['what', 'bare', 'port rule (kernel)', 'host rule', '1,000 host rules', '1,000 against 1'],
          rows)
    print()
    network_redis(bench)


def ports(n):
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(('127.0.0.1', 0))) for _ in range(n)]
        return [s.getsockname()[1] for s in found]


@contextlib.contextmanager
def redis_server(prefix, core, port, top):
    top.mkdir()
    argv = ['taskset', '-c', str(core), *prefix, 'redis-server', '--bind', '127.0.0.1', '--port', str(port),
            '--save', '', '--dir', str(top)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as p:
        try:
            for _ in range(1000):
                with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port)) as s:
                    s.sendall(b'PING\r\n')
                    if s.recv(7) == b'+PONG\r\n':
                        break
                time.sleep(0.01)
            else:
                sys.exit(f'{shlex.join(argv)}: does not answer')
            yield port
        finally:
            p.terminate()


def redis_requests(prefix, core, port, count):
    """Requests a second, set and get together."""
    argv = ['taskset', '-c', str(core), *prefix, 'redis-benchmark', '-h', '127.0.0.1', '-p', str(port), '-q',
            '-n', str(count), '-t', 'set,get']
    out = subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
    found = [float(n) for n in re.findall(r'([0-9.]+) requests per second', out)]
    return len(found) / sum(1 / n for n in found)


def network_redis(bench):
    """Server on the first core, client on the last; all servers wait while one is asked."""
    if not workloads.first_that_exists('redis-server', 'redis-benchmark'):
        return
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    bare, bound, mapped = ports(3)
    top = bench.work / 'redis-tcp'
    top.mkdir()
    dirs = [top / name for name in ('bare', 'bound', 'mapped')]
    inside = [[], *(bench.sandlock('--net-allow-bind', str(p), *words, read=['/proc'], write=[d, '/dev/null'])
                    for p, d, words in ((bound, dirs[1], []), (mapped, dirs[2], ['--port-remap'])))]
    client = bench.sandlock('--net-allow', f'tcp://127.0.0.1:{bare}')
    with contextlib.ExitStack() as stack:
        for prefix, port, d in zip(inside, (bare, bound, mapped), dirs):
            stack.enter_context(redis_server(prefix, first, port, d))
        kinds = [('', [], bare), ('the server inside, bind rule', [], bound),
                 ('the server inside, `--port-remap`', [], mapped), ('the client inside, host rule', client, bare)]
        # The servers are warmed, and a run is to take a second on a busy machine too.
        slowest = min(redis_requests([], last, port, 1000) for port in (bare, bound, mapped))
        count = int(min(max(slowest / 2, 1000), 20000))
        found = [[] for _ in kinds]
        for _ in range(bench.rounds):
            for (_, prefix, port), values in zip(kinds, found):
                values.append(redis_requests(prefix, last, port, count))
    table(['redis-benchmark over TCP', 'requests/s', 'rate of bare, paired median', 'maxima'],
          [['bare', f'{statistics.median(found[0]):.0f}', '', ''],
           *([label, f'{statistics.median(v):.0f}', times(median_ratio(found[0], v)), times(max(v) / max(found[0]))]
             for (label, _, _), v in zip(kinds[1:], found[1:]))])


def section_sizes(bench):
    title('Sizes')
    rows = [['command, stripped', f'{bench.sandlock_bin.stat().st_size / 1000:.0f} kB']]
    for words in ([], ['--fs-deny', '/etc/shadow'], ['--name', 'box']):
        rss, threads, used = idle(bench, words, 5)
        label = ' '.join(words) or 'default policy'
        rows.append([f'supervisor, idle, {label}',
                     f'{rss} kB resident, {threads} thread(s), {used} of {5 * CLOCK} ticks in 5 s'])
    table(['what', 'size'], rows)


SECTIONS = {
    'start': section_start,
    'micro': section_micro,
    'floors': section_floors,
    'chroot': section_chroot,
    'determinism': section_determinism,
    'workloads': section_workloads,
    'dirs': section_dirs,
    'workdir': section_workdir,
    'limits': section_limits,
    'notifications': section_notifications,
    'network': section_network,
    'sizes': section_sizes,
}


def main():
    parser = argparse.ArgumentParser(prog='./dev bench', description=__doc__.splitlines()[0])
    parser.add_argument('--build', default=ROOT / 'build', help='build directory')
    parser.add_argument('--dir', default='/var/tmp', help='where everything is made (/var/tmp)')
    parser.add_argument('--rounds', type=int, default=7, help='each measurement so many times')
    parser.add_argument('--only', action='append', choices=SECTIONS, help='this section (repeat)')
    parser.add_argument('--against', metavar='PREFIX',
                        help='start another sandbox as well: its words in front of the command')
    options = parser.parse_args()
    bench = Bench(options)
    try:
        u = os.uname()
        print(f'{os.cpu_count()} cores, Linux {u.release} {u.machine}, '
              f'load {os.getloadavg()[0]:.1f} at the start, uid {os.geteuid()}; command: '
              f'`./dev bench {shlex.join(sys.argv[1:])}`')
        for name, section in SECTIONS.items():
            if not options.only or name in options.only:
                section(bench)
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)


if __name__ == '__main__':
    main()
