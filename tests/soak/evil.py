#!/usr/bin/env python3
"""evil.py - every hostile thing of tests/tools/evil_state.py done to a watched folder, with what must hold as code.

  evil.py [CASE...]

Each case has a daemon and folders of its own, and two bystanders that run before it: `by`, which stands under the same file name in
every case, and `a` (where the case speaks of a.yaml). For every case: the bystander keeps its process, a file that is put into the
folder afterwards is applied, the API answers within a second all the time, the daemon neither grows nor spins, nothing of
/etc/shadow shows up anywhere, and the canary is untouched.
"""
import os, re, shutil, subprocess, sys, threading, time
from lab import TOOLS, Failed, Lab, close_with, run, say, start_times, wait_for

CANARY = '/tmp/evil-canary'
GOOD = 'name: {{name}}\nservices:\n  run:\n    image: %s\n    network_mode: none\n    restart: always\n    command: [work, tick, "500"]\n    stop_grace_period: 1s\n'
MIB = 1024


class Watch(threading.Thread):
    """Asks the API and measures the daemon, all the time."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.host, self.pid, self.stop = daemon, daemon.child.pid, False
        self.slowest = self.refused = 0
        self.rss = [rss_kb(self.pid)]
        self.cpu = cpu_seconds(self.pid)

    def run(self):
        while not self.stop:
            begun = time.monotonic()
            code, _ = self.host.get('/api/v1/status', timeout=10)
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.refused += code != 200
            self.rss.append(rss_kb(self.pid))
            time.sleep(0.05)


def rss_kb(pid):
    try:
        return int(re.search(r'VmRSS:\s*(\d+)', open('/proc/%d/status' % pid).read()).group(1))
    except (OSError, AttributeError):
        return 0


def cpu_seconds(pid):
    fields = open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


class Seen:
    """What there is after a case, in the words that the expectations use."""

    def __init__(self, daemon, before, extra):
        self.host, self.before, self.extra = daemon, before, extra
        self.failures, self.notes = [], []
        self.refresh()

    def refresh(self):
        self.status = self.host.status() or {'projects': [], 'problems': [], 'folder': {'held': None}}
        self.projects = {p['name']: p for p in self.status['projects']}
        self.now = start_times(self.host.pids())

    def must(self, holds, what):
        if not holds:
            self.failures.append(what)

    def runs(self, *names):
        for name in names:
            try:
                wait_for(name, 15, lambda: self.refresh() or name + '-run-1' in self.now)
            except Failed:
                self.failures.append('%s does not run' % name)

    def same(self, *names):
        for name in names:
            key = name + '-run-1'
            self.must(key in self.before and self.now.get(key) == self.before[key], '%s is another process (%s -> %s)' % (name, self.before.get(key), self.now.get(key)))

    def only(self, *names):
        """These projects, by, after and no other one."""
        wanted = {'by', 'after', *names}
        try:
            wait_for('exactly', 20, lambda: self.refresh() or {n.split('-run-')[0] for n in self.now} == wanted)
        except Failed:
            running = {n.split('-run-')[0] for n in self.now}
            self.failures.append('runs too: %s; does not run: %s' % (sorted(running - wanted)[:5], sorted(wanted - running)[:5]))

    def problem(self, file, *words, position=False):
        def ask():
            self.refresh()
            return [p for p in self.status['problems'] if p['file'].split('/')[-1] == file]
        try:
            found = wait_for('a problem', 5, ask)
        except Failed:
            found = self.failures.append('no problem names %s' % file) or []
        for p in found[:1]:
            text = p['message'] + ' ' + str(p.get('hint') or '')
            self.notes.append('%s:%s:%s %s' % (file, p['line'] or '', p['column'] or '', p['message']))
            self.must(not position or p['line'], '%s: no line is named' % file)
            self.must(not words or any(w in text for w in words), '%s: none of %s in "%s"' % (file, words, text))
            told = [l for l in self.host.log_text().splitlines() if p['message'][:60] in l and file in l]
            self.must(1 <= len(told) <= 3, '%s: told %d times in the log' % (file, len(told)))

    def no_problem(self):
        self.must(not [p for p in self.status['problems'] if p['severity'] == 'error'], 'a problem is left: %s' % [p['message'] for p in self.status['problems']][:2])

    def events(self, kind, what):
        return sum('kind="%s"' % kind in l and what in l for l in self.host.log_text().splitlines())

    def starts(self, project, at_most):
        count = self.events('container.started', 'what="%s-run-1"' % project)
        self.must(count <= at_most, '%s was started %d times' % (project, count))


# What must hold, by case. `s.only(...)` says which projects run beside the bystander and the file that comes after.
def applied_once(s): s.only('a'), s.starts('a', 1), s.no_problem()
def unchanged(s): s.only('a'), s.same('a'), s.starts('a', 1), s.no_problem()
def refused(file='e.yaml', *words, position=True):
    def check(s): s.only(), s.problem(file, *words, position=position)
    return check
def same_name(s): s.only('same'), s.same('same'), s.problem('a.yaml', 'same'), s.problem('b.yaml', 'same')
def moved_away(s): s.only('a', 'b'), s.same('a', 'by'), s.must('cannot be read' in s.host.log_text(), 'the log does not say that the folder is gone'), s.must(not s.status['folder']['held'], 'still held'), s.no_problem()
def names(s):
    s.refresh()
    valid = {p for p in s.projects} - {'by', 'after'}
    s.must(not valid, 'accepted: %s' % valid)
    s.only()
    for i in range(13):
        s.problem('n%d.yaml' % i)
    del s.notes[2:]
    s.must(not os.path.exists('/etc/pwned-name'), '/etc/pwned-name was made')
def out(s): s.only(), s.problem('s.yaml', 'leads out')
def loops(s): s.only(), [s.problem(f) for f in ('l1.yaml', 'l2.yaml', 'self.yaml')]
def storm(s):
    files = sorted(f[:-5] for f in os.listdir(s.host.state) if re.fullmatch(r's\d+\.yaml', f))
    # A file that was renamed over another holds another one's name; the last loop of the case gives each its own again.
    s.only(*files)
    s.notes.append('%d files are there' % len(files))
def gone(s):
    s.only()
    s.must(not [n for n in s.projects if n.startswith('m')], 'projects are left')
    s.must(s.extra.get('held'), 'the fuse did not hold')
    s.notes.append('fuse: ' + s.extra.get('held', '')[:70])
def checkout(s): s.only(*['git-%03d' % i for i in range(200)]), s.no_problem(), [s.starts('git-%03d' % i, 1) for i in (0, 99, 199)]
def tags(s): s.problem('e.yaml', position=True), s.only()
def either(s):
    # Merges are bounded by what they define; taking the file or refusing it are both right, as long as it is said.
    s.refresh()
    if 'e' in s.projects: s.only('e'), s.notes.append('applied')
    else: s.only(), s.problem('e.yaml')
def fifo(s): s.only(), s.problem('p.yaml', 'not a regular file')
def folder_yaml(s): s.only(), s.problem('x.yaml', 'folder')
def unreadable(s): s.runs('u') if os.access(s.host.state + '/u.yaml', os.R_OK) else s.problem('u.yaml'), s.only('u')

CASES = {
    'byte-by-byte': applied_once, 'touch-only': unchanged, 'comment-only-change': unchanged, 'emacs': applied_once, 'rsync': applied_once,
    'configmap-swap': applied_once, 'remove-recreate': lambda s: (s.only('a'), s.starts('a', 2), s.no_problem()), 'dir-moved-away': moved_away,
    'comments-only': refused(position=False), 'not-utf8': refused('e.yaml', 'UTF-8', 'utf-8'), 'crlf': lambda s: (s.only('e'), s.no_problem(), carriage(s)),
    'nul-byte': refused(), 'unknown-field': refused('e.yaml', 'did you mean', 'image'), 'alias-bomb': refused(), 'merge-bomb': either,
    'deep-block': refused(position=False), 'deep-json': refused('e.json'), 'tags': tags, 'huge-int': refused(), 'same-name-two-files': same_name,
    'name-traversal': names, 'symlink-in': lambda s: (s.only('ln'), s.no_problem()), 'symlink-out': out, 'symlink-loop': loops,
    'symlink-dangling': lambda s: (s.only('dang'), s.no_problem()), 'symlink-dir': lambda s: (s.only(), s.no_problem()), 'fifo': fifo,
    'dir-named-yaml': folder_yaml, 'unreadable': unreadable, '1gb': refused('big.yaml', 'larger than', position=False),
    '1gb-comment': refused('bigc.yaml', 'larger than', position=False), '10000-files-gone': gone, 'storm': storm, 'git-checkout': checkout,
}
# What a case may cost beyond what the daemon had: MiB of memory, seconds of CPU.
COSTS = {'storm': (100, 120), 'git-checkout': (60, 60), '10000-files-gone': (400, 120), 'deep-json': (50, 5), '1gb': (50, 3), '1gb-comment': (50, 20), 'alias-bomb': (100, 3)}
BEFORE = {'same-name-two-files': 'same', 'dir-moved-away': 'a'}  # runs before, from a.yaml


def carriage(s):
    for spec in s.host.specs().values():
        s.must('\r' not in str(spec), 'a \\r got through')


def fingerprint():
    return sorted((f, os.stat(os.path.join(CANARY, f)).st_mtime_ns) for f in os.listdir(CANARY))


def secrets():
    """Parts of /etc/shadow that cannot be anywhere by chance."""
    text = open('/etc/shadow').read()
    return [line for line in text.splitlines() if len(line) > 12] + re.findall(r'\$[^:]{12,}', text)


def do(lab, case, check, good):
    daemon = lab.daemon(case)
    daemon.start().ready()
    daemon.put('by.yaml', good.replace('{{name}}', 'by'))
    extra = {}
    if case in BEFORE or check is unchanged:
        daemon.put('a.yaml', good.replace('{{name}}', BEFORE.get(case, 'a')))
    if case == '10000-files-gone':
        # Held services: ten thousand projects, but no ten thousand containers.
        for i in range(10000):
            with open(daemon.state + '/m%05d.yaml' % i, 'w') as out:
                out.write('name: m%05d\nservices: {run: {image: x, scale: 0}}\n' % i)
        wait_for('all are in force', 120, lambda: len((daemon.status() or {'projects': ()})['projects']) == 10001, 0.5)
    wait_for('the bystanders run', 60, lambda: 'by-run-1' in daemon.pids() and (not os.path.exists(daemon.state + '/a.yaml') or len(daemon.pids()) == 2))
    daemon.settle(120)
    before = start_times(daemon.pids())
    good_file = lab.path('good')
    open(good_file, 'w').write(good)
    watch = Watch(daemon)
    watch.start()
    begun = time.monotonic()
    subprocess.run([sys.executable, os.path.join(TOOLS, 'evil_state.py'), 'do', case, daemon.state, '--good', good_file], check=True, capture_output=True, timeout=300)
    if case == '10000-files-gone':
        try:
            extra['held'] = wait_for('the fuse', 20, lambda: ((daemon.status() or {'folder': {'held': None}})['folder']['held'] or {}).get('reason'))
        except Failed:
            pass
        daemon.cli('confirm')
    daemon.put('after.yaml', good.replace('{{name}}', 'after'))
    seen = Seen(daemon, before, extra)
    seen.runs('after')
    check(seen)
    seen.same('by')
    # Quiet, it costs nothing.
    time.sleep(0.5)
    quiet = cpu_seconds(daemon.child.pid)
    time.sleep(1.5)
    quiet = (cpu_seconds(daemon.child.pid) - quiet) / 1.5
    watch.stop = True
    watch.join()
    grown, cpu = (max(watch.rss) - watch.rss[0]) / MIB, cpu_seconds(daemon.child.pid) - watch.cpu
    most, most_cpu = COSTS.get(case, (40, 10))
    seen.must(grown < most, 'memory grew by %.0f MiB' % grown)
    seen.must(cpu < most_cpu, '%.1f s of CPU' % cpu)
    seen.must(quiet < 0.25, 'spins: %.0f %% of a CPU when nothing happens' % (quiet * 100))
    seen.must(watch.slowest < 1, 'the API took %.1f s' % watch.slowest)
    seen.must(not watch.refused, 'the API refused %d times' % watch.refused)
    log = daemon.log_text()
    seen.must('panicked' not in log, 'a panic')
    # A line for each change is right, and those two cases make very many.
    lines = {'10000-files-gone': 100000, 'storm': 100000}.get(case, 3000)
    seen.must(len(log.splitlines()) < lines, 'the log has %d lines' % len(log.splitlines()))
    everything = log + daemon.get('/api/v1/status')[1].decode(errors='replace') + daemon.cli('status')[1]
    seen.must(not any(secret in everything for secret in secrets()), 'a line of /etc/shadow is shown')
    cost = '%+.0f MiB, %.1f s CPU, API %.0f ms' % (grown, cpu, watch.slowest * 1000)
    daemon.destroy()
    lab.daemons.remove(daemon)
    shutil.rmtree(daemon.dir)
    return seen, cost, time.monotonic() - begun


def main():
    listed = [line.split()[0] for line in run(sys.executable, os.path.join(TOOLS, 'evil_state.py'), 'list').splitlines()]
    failures = ['%s: no expectation is written for it' % case for case in listed if case not in CASES]
    expected = {line.split()[0]: line.split(None, 1)[1] for line in run(sys.executable, os.path.join(TOOLS, 'evil_state.py'), 'list').splitlines()}
    wanted = sys.argv[1:] or listed
    made = not os.path.isdir(CANARY)
    os.makedirs(CANARY, exist_ok=True)
    with open(CANARY + '/soak', 'w') as out:
        out.write('untouched')
    canary = fingerprint()
    with Lab() as lab:
        good = GOOD % lab.image('soak/work')
        for case in wanted:
            try:
                seen, cost, took = do(lab, case, CASES[case], good)
                bad, notes = seen.failures, seen.notes
            except (Failed, subprocess.SubprocessError) as error:
                bad, notes, cost, took = [str(error)], [], '', 0
            if fingerprint() != canary:
                bad.append('the canary was touched: %s' % fingerprint())
            say('%-20s %-6s %4.1f s  %s' % (case, 'ok' if not bad else 'FAILED', took, cost))
            say('    expected  %s' % expected.get(case, '')[:150])
            say('    seen      %s' % ('; '.join(notes)[:230] or 'as expected'))
            for text in bad:
                say('    FAILED    %s' % text[:400])
            failures += ['%s: %s' % (case, text) for text in bad]
    shutil.rmtree(CANARY) if made else os.unlink(CANARY + '/soak')
    close_with(failures, 'evil.py: %d cases' % len(wanted))


main()
