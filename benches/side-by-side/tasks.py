"""What is measured, each in a space of its own with one engine in it. A task gives {what: a value, or a list of values}, in seconds, kB,
counts or shares; tables.py says what they are called and what is aimed at."""
import json, os, signal, threading, time

from sides import IMAGE, SIDES, STAY, Failed, began, glob, wait_for
from lab import pss_kb, start_times


# ---- what the kernel knows of processes

def cpu_of(pids):
    """Seconds of CPU of these processes so far, to the nanosecond: the clock that the kernel has for each."""
    total = 0
    for pid in pids:
        try:
            total += time.clock_gettime((~pid << 3) | 2)
        except OSError:
            continue
    return total


def switches_of(pids):
    """{thread: how often it was put on a CPU so far}."""
    found = {}
    for pid in pids:
        for status in glob.glob('/proc/%d/task/*/status' % pid):
            try:
                found[status] = sum(int(line.split()[1]) for line in open(status) if 'ctxt_switches' in line)
            except OSError:
                continue
    return found


def woken(early, late):
    """How often threads ran between two looks. One that has ended meanwhile did so at least once."""
    return sum(count - early.get(thread, 0) for thread, count in late.items()) + len(set(early) - set(late))


def ours(engine):
    return [*engine.daemon_pids(), *engine.container_pids()]


def rest(engine, seconds=0.0):
    if hasattr(engine, 'calm'):
        engine.calm()
    time.sleep(seconds)


# ---- one, and many

def first(space, engine, network, times):
    """From the rename of the file, or before the first command, to the first instruction in the container."""
    engine, took, cpu = SIDES[engine](space), [], []
    engine.on(network)
    engine.many_and_when(1)
    engine.none()
    for _ in range(times):
        rest(engine, 0.1)
        meter = space.meter(engine.cpu_places)
        took.append(engine.many_and_when(1)[0])
        engine.none()
        cpu.append(meter.read())
    return {'first ' + network: took, 'first cpu ' + network: cpu}


def many(space, engine, network, counts):
    """Until the last of them has begun; and until all are gone again."""
    engine, found = SIDES[engine](space), {}
    engine.on(network)
    engine.many_and_when(1)
    engine.none()
    for count in counts:
        rest(engine, 0.5)
        meter = space.meter(engine.cpu_places)
        found['%d %s' % (count, network)] = engine.many_and_when(count)[0]
        found['%d cpu %s' % (count, network)] = meter.read()
        rest(engine, 0.5)
        begun = time.monotonic()
        engine.none()
        found['%d gone %s' % (count, network)] = time.monotonic() - begun
    return found


# ---- what one file with many services costs

def services(count, changed=None, network=True):
    every = {'image': IMAGE, 'command': STAY, 'restart': 'always', **({} if network else {'network_mode': 'none'})}
    return json.dumps({'services': {'s%03d' % n: {**every, 'environment': {'CHANGED': changed}} if n == 0 and changed else every for n in range(count)}})


def file(space, engine, count):
    """The services of one file from nothing, and the same file once more."""
    engine = SIDES[engine](space)
    engine.many_and_when(1)
    engine.none()
    if engine.name == 'docker-compose':
        engine.services(count)
        begun = time.monotonic()
        engine.up()
        wait_for('all began', 30, lambda: len(engine.firsts()) >= count)
        up = max(engine.firsts()) - begun
        time.sleep(1)
        meter, begun = space.meter(engine.cpu_places), time.monotonic()
        engine.up()
        return {'up': up, 'again': time.monotonic() - begun, 'again cpu': meter.read()}
    begun = engine.drop('bench.json', services(count))
    wait_for('all began', 60, lambda: len(engine.firsts()) >= count)
    up = max(engine.firsts()) - begun
    return {'up': up, **nothing_to_do(engine, services(count))}


def nothing_to_do(engine, text):
    """The same content once more: CPU of the daemon until nothing happens any more, beyond what it uses anyway; and the time until
    somebody who asks is told that all is as the file says."""
    cpu, took = [], []
    for _ in range(5):
        rest(engine, 1)
        pids = engine.daemon_pids()
        before = cpu_of(pids)
        time.sleep(1)
        alone = cpu_of(pids)
        engine.drop('bench.json', text)
        time.sleep(1)
        cpu.append(max(0, cpu_of(pids) - alone - (alone - before)))
    for _ in range(3):
        begun = engine.drop('bench.json', text)
        code, said = engine.host.cli('status', '--wait')
        if code:
            raise Failed('status --wait: %d %s' % (code, said[-200:]))
        took.append(time.monotonic() - begun)
    return {'again': took, 'again cpu': cpu}


def edit(space, engine, count):
    """One service of many is changed: its container is made again, and no other is touched. What the same file costs, too."""
    engine, took, cpu, touched = SIDES[engine](space), [], [], 0
    engine.on('none')
    text = lambda changed=None: services(count, changed, network=False)
    engine.drop('bench.json', text())
    wait_for('all began', 200, lambda: len(engine.firsts()) >= count, 0.2)
    rest(engine, 2)
    found = nothing_to_do(engine, text())
    for number in range(5):
        rest(engine, 1)
        before, pids = start_times(engine.running()), engine.daemon_pids()
        known, used = set(glob.glob(engine.logs())), cpu_of(pids)
        begun = engine.drop('bench.json', text(str(number)))

        def again():
            return [at for log in set(glob.glob(engine.logs())) - known for at in began(log)]
        took.append(wait_for('the changed one began', 30, again, 0.005)[0] - begun)
        rest(engine, 1)
        cpu.append(cpu_of(pids) - used)
        after = start_times(engine.running())
        others = [name for name in before if '-s000-' not in name]
        if len(others) != count - 1:
            raise Failed('%d of %d others run' % (len(others), count - 1))
        touched += sum(before[name] != after.get(name) for name in others)
    return {**found, 'edit': took, 'edit cpu': cpu, 'touched': touched}


# ---- what it costs that they are there

def memory(space, engine, counts):
    engine, found = SIDES[engine](space), {}
    engine.on('none')
    engine.many_and_when(1)
    engine.none()
    for count in (0, *counts):
        if count:
            engine.many_and_when(count)
        rest(engine, 3)
        beside = list(map(pss_kb, engine.container_pids()))
        if engine.daemon_pids():
            found['daemon %d' % count] = sum(map(pss_kb, engine.daemon_pids()))
        if count:
            found['beside %d' % count] = sum(beside) / count
            engine.none()
    return found


def idle(space, engine, count, length):
    """A minute in which nothing happens. Nobody asks the engine anything."""
    engine = SIDES[engine](space)
    engine.many_and_when(count)
    rest(engine, 8)
    daemon, beside = engine.daemon_pids(), engine.container_pids()
    before = [(cpu_of(pids), switches_of(pids)) for pids in (daemon, beside)]
    time.sleep(length)
    after = [(cpu_of(pids), switches_of(pids)) for pids in (daemon, beside)]
    if ours(engine) != [*daemon, *beside]:
        raise Failed('other processes run now')
    (daemon_cpu, daemon_wakes), (beside_cpu, beside_wakes) = ((late[0] - early[0], woken(early[1], late[1])) for early, late in zip(before, after))
    minute = 60 / length
    return {'idle cpu': (daemon_cpu + beside_cpu) * minute, 'idle wakes': (daemon_wakes + beside_wakes) * minute,
            'idle daemon cpu': daemon_cpu * minute, 'idle daemon wakes': daemon_wakes * minute}


# ---- when something goes wrong

def adopt(space, engine, count, times):
    engine, took, lost = SIDES[engine](space), [], 0
    engine.on('none')
    engine.many_and_when(count)
    before = start_times(engine.running())
    for _ in range(times):
        rest(engine, 0.5)
        took.append(engine.again())
        rest(engine, 0.5)
        after = start_times(engine.running())
        lost += sum(after.get(name) != process for name, process in before.items())
    return {'adopted %d' % count: took, 'adopted lost %d' % count: lost}


ALWAYS = {'docker': {'RestartPolicy': {'Name': 'always'}}, 'podman+crun': ('--restart=always',), 'podman+runc': ('--restart=always',)}


def killed(space, engine, count):
    """Each main process is killed once; until another one of the container runs."""
    engine, took = SIDES[engine](space), []
    engine.on('none')
    engine.more = ALWAYS.get(engine.name, engine.more)
    engine.many_and_when(count)
    rest(engine, 1)
    for pid in map(int, engine.running().values()):
        begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)

        def again():
            return [at for log in glob.glob(engine.logs()) for at in began(log) if at > begun]
        took.append(wait_for('it runs again', 30, again, 0.005)[0] - begun)
        time.sleep(0.3)
    return {'killed': took}


# ---- under load

def logs(space, engine, lines):
    """One container writes as fast as it is read. 100 bytes a line."""
    engine, at = SIDES[engine](space), space.work + '/w'
    os.makedirs(at)
    engine.on('none')
    text = 'x' * 99
    script = 'while [ ! -e /w/go ]; do sleep 0.05; done; first > /w/begin; yes %s | head -n %d; first > /w/end; exec first stay' % (text, lines)
    engine.noisy(['sh', '-c', script], at)
    wait_for('it waits', 30, engine.running)
    rest(engine, 0.5)
    pids = ours(engine)
    before = cpu_of(pids)
    open(at + '/go', 'w').close()
    end = wait_for('all is written', 120, lambda: os.path.exists(at + '/end') and began(at + '/end'))[0]
    # The last line of the log is that of `first stay`.
    wait_for('the log is whole', 60, lambda: any(began_in_tail(log) for log in glob.glob(engine.logs())))
    took = end - began(at + '/begin')[0]
    cpu = cpu_of(pids) - before
    return {'lines': lines / took, 'lines cpu': cpu / lines, 'lines memory': sum(map(pss_kb, engine.daemon_pids())) or None}


def began_in_tail(log):
    with open(log, 'rb') as file:
        file.seek(max(0, os.path.getsize(log) - 300))
        return b'first ' in file.read()


def asking(space, engine, count, times):
    """How long somebody waits who asks, while containers come and go."""
    engine, found, over = SIDES[engine](space), {}, threading.Event()
    engine.on('none')
    engine.many_and_when(count)
    rest(engine, 1)
    failed = []

    def churn():
        while not over.is_set():
            try:
                engine.churn()
            except Exception as error:  # it is told below
                failed.append(str(error))
                return
    thread = threading.Thread(target=churn)
    thread.start()
    try:
        time.sleep(1)
        for what, call in engine.asked().items():
            took = []
            for _ in range(times):
                begun = time.monotonic()
                call()
                took.append(time.monotonic() - begun)
                time.sleep(0.02)
            found['%s %d' % (what, count)] = took
    finally:
        over.set()
        thread.join()
    if failed:
        raise Failed('nothing came and went: %s' % failed[0])
    return found


def folder(space, engine, count):
    """Many state files, of which none wants a container: how long they take to be read, and what one edit costs."""
    engine, took, cpu = SIDES[engine](space), [], []
    pages = lambda scale: json.dumps({'services': {'s': {'image': IMAGE, 'command': STAY, 'network_mode': 'none', 'scale': scale}}})
    host = engine.host
    host.kill()
    for n in range(count):
        with open('%s/p%05d.json' % (host.state, n), 'w') as out:
            out.write(pages(0))
    host.start()
    read = host.ready(120)
    engine.calm(120)
    settled = time.monotonic() - host.started
    started = cpu_of(engine.daemon_pids())
    rest(engine, 3)
    memory, pids = pss_kb(host.child.pid), engine.daemon_pids()
    for n in range(5):
        known, used = set(glob.glob(engine.logs())), cpu_of(pids)
        begun = engine.drop('p%05d.json' % (n * 7), pages(1))

        def again():
            return [at for log in set(glob.glob(engine.logs())) - known for at in began(log)]
        took.append(wait_for('the edited one began', 30, again, 0.005)[0] - begun)
        rest(engine, 1)
        cpu.append(cpu_of(pids) - used)
    return {'files read': read, 'files settled': settled, 'files cpu': started, 'files memory': memory, 'files edit': took, 'files edit cpu': cpu}
