#!/usr/bin/env python3
"""names.py - a container's name asked for: Longshore's resolver, dnsmasq and aardvark-dns (podman's) on the same machine.

  names.py [--rounds N] [--seconds S] [--serve PROGRAM] [--engines NAMES] [--replicas N]

The engines take turns, each in a network namespace of its own, asked on its loopback interface: for Longshore through the rules that
lead port 53 to its port, as in a container. An engine that is missing leaves its column empty. `load.c` asks with 1 question under way
(how long one takes) and with 64 (how many are answered). CPU: of the server, for one question. Needs root and gcc.

PROGRAM is `serve.rs`: cargo build --release --bench names (its path is target/release/deps/names-*).
"""
import argparse, glob, json, os, shutil, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
TICKS = os.sysconf('SC_CLK_TCK')
AARDVARK = '/usr/lib/podman/aardvark-dns'
ASKING = (1, 64)
INSIDE = 'LONGSHORE_BENCH_INSIDE'


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=2)
    parser.add_argument('--replicas', type=int, default=3)
    parser.add_argument('--engines', default='longshore,dnsmasq,aardvark')
    parser.add_argument('--serve', help='what serve.rs became; else the newest below target/')
    return parser.parse_args()


def newest():
    found = [p for p in glob.glob(TOP + '/target/*/deps/names-*') if os.access(p, os.X_OK) and '.' not in os.path.basename(p)]
    return max(found, key=os.path.getmtime, default=None)


def addresses(replicas):
    return ['10.89.0.%d' % (2 + n) for n in range(replicas)]


class Engine:
    """One server in a namespace. `command` is what is run there, `server` where it is asked, `source` from where."""
    def __init__(self, name, program, work, replicas, serve):
        self.name, self.program, self.server, self.source = name, program, '127.0.0.1', None
        self.query = 'web'
        if name == 'longshore':
            self.program, self.server = serve, '127.0.0.11'
            self.command = [serve, str(replicas)] if serve else None
        elif name == 'dnsmasq':
            hosts = os.path.join(work, 'hosts')
            with open(hosts, 'w') as file:
                file.writelines('%s web\n' % address for address in addresses(replicas))
            self.command = [program, '--no-daemon', '--no-resolv', '--no-hosts', '--addn-hosts=' + hosts, '--conf-file=/dev/null',
                            '--port=53', '--listen-address=127.0.0.1', '--bind-interfaces', '--pid-file=', '--user=root']
        else:
            self.query = 'web.dns.podman'
            self.server, self.source = '10.89.0.1', addresses(replicas)[0]
            folder = os.path.join(work, 'aardvark')
            os.mkdir(folder)
            with open(os.path.join(folder, 'shop'), 'w') as file:
                file.write('10.89.0.1\n')
                for number, address in enumerate(addresses(replicas)):
                    file.write('%064x %s  web,shop-web-%d\n' % (number, address, number))
            self.command = [program, '--config', folder, '-p', '53', 'run']

    def start(self, work):
        script = 'ip link set lo up; ip address add 10.89.0.1/24 dev lo; ip address add 10.89.0.2/24 dev lo; exec "$@"'
        log = open(os.path.join(work, self.name + '.log'), 'w')
        self.process = subprocess.Popen(['unshare', '--net', 'sh', '-c', script, 'sh', *self.command],
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = self.process.pid
        for _ in range(200):
            if self.process.poll() not in (None, 0):
                raise SystemExit('%s ended: %s' % (self.name, open(log.name).read()))
            if self.process.poll() == 0:  # aardvark-dns goes on as another process
                self.pid = int(open(os.path.join(work, self.name, 'aardvark.pid')).read())
            if self.ask(work, 1, 0.02, check=False).get('answers'):
                return
            time.sleep(0.05)
        raise SystemExit('%s does not answer: %s' % (self.name, open(log.name).read()))

    def ask(self, work, asking, seconds, check=True):
        command = ['nsenter', '--net=/proc/%d/ns/net' % self.pid, os.path.join(work, 'load')]
        command += ['-b', self.source] if self.source else []
        command += [self.server, self.query, '1', str(self.replicas), str(asking), str(seconds)]
        before = self.cpu()
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            return {} if not check else sys.exit('load: ' + done.stderr)
        seen = json.loads(done.stdout)
        if check and (seen['wrong'] or not seen['answers']):
            sys.exit('%s answers wrongly: %s' % (self.name, seen))
        seen['cpu'] = (self.cpu() - before) / max(seen['answers'], 1) * 1e6
        return seen

    def cpu(self):
        """Of the server, in seconds."""
        fields = open('/proc/%d/stat' % self.pid).read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def main():
    args = arguments()
    if INSIDE not in os.environ:  # once more, in a process namespace: all in it ends with this program, however it ends
        spaces = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
        sys.exit(subprocess.run(['unshare', *spaces, sys.executable, *sys.argv], env={**os.environ, INSIDE: '1'}).returncode)
    serve = args.serve or newest()
    programs = {'longshore': serve, 'dnsmasq': shutil.which('dnsmasq'), 'aardvark': AARDVARK if os.path.exists(AARDVARK) else None}
    runs = {}
    with tempfile.TemporaryDirectory(prefix='longshore-bench.') as work:
        subprocess.run(['gcc', '-O2', '-o', os.path.join(work, 'load'), os.path.join(HERE, 'load.c')], check=True)
        engines = [Engine(name, programs[name], work, args.replicas, serve) for name in args.engines.split(',') if programs[name]]
        for engine in engines:
            engine.replicas = args.replicas
            engine.start(work)
        for _ in range(args.rounds):
            for asking in ASKING:
                for engine in engines:
                    runs.setdefault((engine.name, asking), []).append(engine.ask(work, asking, args.seconds))
    print('%-10s %7s %10s %8s %8s %8s %8s %6s   %s' % ('', 'asking', 'per s', 'p50 us', 'p99 us', 'p99.9', 'cpu us', 'lost', 'per s, beside longshore'))
    for asking in ASKING:
        for engine in engines:
            seen = runs[engine.name, asking]
            middle = {key: statistics.median(run[key] for run in seen) for key in seen[0]}
            ratio = ''
            if engine.name != 'longshore' and ('longshore', asking) in runs:
                pairs = zip(runs['longshore', asking], seen)
                ratio = '%.2f' % statistics.median(other['per_second'] / own['per_second'] for own, other in pairs)
            print('%-10s %7d %10.0f %8.1f %8.1f %8.1f %8.2f %6d   %s' % (engine.name, asking, middle['per_second'], middle['p50'], middle['p99'],
                  middle['p999'], middle['cpu'], sum(run['lost'] for run in seen), ratio))


if __name__ == '__main__':
    main()
