#!/usr/bin/env python3
"""postgres.py - PostgreSQL on a volume, under load, while all that happens to a service happens to it: no row is lost.

  postgres.py [--rows N] [--clients N] [--disturbances N] [--cuts N] [--seed S]

Several connections insert one row per transaction, and note each one that the server says is committed. Meanwhile the service is
updated (labels: the same container; environment: another one), stopped and started again (`scale`), its init is killed, the daemon is
killed; then the same in a machine that can lose power (tests/tools/pocket), whose power is cut. In the end every row that was noted has
to be in the table. The server is Debian's, with its own settings for durability: `fsync` and all else as it comes.
"""
import argparse, os, random, shutil, signal, socket, struct, threading, time
from collections import Counter
from lab import TOOLS, Failed, Lab, close_with, median, run, say, wait_for
from machine import Machine

FILE = '''name: shop
services:
  db:
    image: %(image)s
    network_mode: none
    restart: always
    scale: %(scale)d
    stop_grace_period: 20s
    labels: {edited: "%(labels)d"}
    environment: {EDITED: "%(environment)d"}
    volumes: ['data:/var/lib/postgresql/data', './run:/run/postgresql']
volumes:
  data:
'''
ENTRY = '''#!/bin/sh
set -e
[ -s "$PGDATA/PG_VERSION" ] || initdb -U postgres --auth=trust --locale=C --encoding=UTF8 >/dev/null
exec postgres -c listen_addresses= -c unix_socket_directories=/run/postgresql -c jit=off
'''
DATA = '/var/lib/postgresql/data'


def image(lab):
    """PostgreSQL from Debian's packages, and a shell; the first start makes the cluster, as in the images that people use."""
    version = run('apt-cache', 'depends', 'postgresql').split('postgresql-', 1)[1].split()[0]
    home, share = '/usr/lib/postgresql/' + version, '/usr/share/postgresql/' + version
    root = lab.path('root')
    run(os.path.join(TOOLS, 'debian-root.sh'), root, 'postgresql-' + version, 'zlib1g', '--',
        home + '/bin/postgres', home + '/bin/initdb', home + '/lib', share)
    shutil.rmtree(root + home + '/lib/bitcode', ignore_errors=True)
    os.makedirs(root + '/bin', exist_ok=True)
    shutil.copy('/bin/busybox', root + '/bin/sh')
    for name, line in (('passwd', 'postgres:x:70:70::/tmp:/bin/sh\n'), ('group', 'postgres:x:70:\n')):
        with open(root + '/etc/' + name, 'a') as out:
            out.write(line)
    os.makedirs(root + DATA)
    os.chmod(root + DATA, 0o700)
    os.chown(root + DATA, 70, 70)
    with open(root + '/bin/entry', 'w') as out:
        out.write(ENTRY)
    os.chmod(root + '/bin/entry', 0o755)
    return version, lab.image_of('soak/postgres', root, config={
        'User': 'postgres', 'Entrypoint': ['/bin/entry'], 'StopSignal': 'SIGINT', 'Volumes': {DATA: {}},
        'Env': ['PATH=%s/bin:/bin' % home, 'PGDATA=' + DATA, 'LC_ALL=C']})


class Gone(Exception):
    """The connection is."""


class Connection:
    """The little of PostgreSQL's protocol that is needed: simple queries, without a password."""

    def __init__(self, path):
        self.socket, self.left = socket.socket(socket.AF_UNIX), b''
        self.socket.settimeout(30)
        try:
            self.socket.connect(path)
        except OSError as error:
            self.socket.close()
            raise Gone(error)
        text = b'user\0postgres\0database\0postgres\0\0'
        self.send(struct.pack('!ii', 8 + len(text), 196608) + text)
        self.answer()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone(error)

    def take(self, count):
        while len(self.left) < count:
            try:
                more = self.socket.recv(65536)
            except OSError as error:
                raise Gone(error)
            if not more:
                raise Gone('closed')
            self.left += more
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def answer(self):
        """Rows and the tag of what was done, once the server is ready for the next."""
        rows, tag, error = [], None, None
        while True:
            kind, length = struct.unpack('!ci', self.take(5))
            body = self.take(length - 4)
            if kind == b'D':
                row, at = [], 2
                for _ in range(struct.unpack('!h', body[:2])[0]):
                    size = struct.unpack('!i', body[at:at + 4])[0]
                    row.append(body[at + 4:at + 4 + size].decode())
                    at += 4 + size
                rows.append(tuple(row))
            elif kind == b'C':
                tag = body[:-1].decode()
            elif kind == b'E':
                error = ' '.join(field[1:].decode() for field in body.split(b'\0') if field[:1] in (b'S', b'C', b'M'))
                if body.startswith((b'SFATAL', b'SPANIC')):
                    raise Gone(error)
            elif kind == b'Z':
                if error:
                    raise Gone(error)
                return rows, tag

    def ask(self, query):
        text = query.encode() + b'\0'
        self.send(b'Q' + struct.pack('!i', 4 + len(text)) + text)
        return self.answer()

    def close(self):
        self.socket.close()


class Client(threading.Thread):
    """Inserts, one row per transaction, and notes what was acknowledged; goes on with the next row when a connection is lost."""

    def __init__(self, number, path):
        super().__init__(daemon=True)
        self.number, self.path = number, path
        self.noted, self.doubtful, self.next, self.lost, self.stop, self.paused = set(), set(), 0, Counter(), False, False
        self.latest = time.monotonic()

    def run(self):
        connection = None
        while not self.stop:
            try:
                connection = connection or Connection(self.path())
                row = (self.number, self.next)
                self.next += 1
                self.doubtful.add(row)
                _, tag = connection.ask("INSERT INTO rows VALUES (%d, %d, repeat('x', 200))" % row)
                if tag == 'INSERT 0 1':
                    self.noted.add(row)
                    self.doubtful.discard(row)
                    self.latest = time.monotonic()
            except Gone as error:
                self.lost[str(error)[:60]] += 1
                if connection:
                    connection.close()
                connection = None
                time.sleep(0.02)
        if connection:
            connection.close()


class Shop:
    """The service in a daemon, and its clients."""

    def __init__(self, host, image, clients):
        self.host, self.written = host, {'image': image, 'scale': 1, 'labels': 0, 'environment': 0}
        os.makedirs(host.state + '/run')
        os.chmod(host.state + '/run', 0o777)
        self.put()
        self.clients = [Client(number, self.path) for number in range(clients)]

    def path(self):
        return self.host.state + '/run/.s.PGSQL.5432'

    def put(self, **changes):
        self.written.update(changes)
        self.host.put('shop.yaml', FILE % self.written, durable=True)

    def ask(self, query):
        connection = Connection(self.path())
        try:
            return connection.ask(query)[0]
        finally:
            connection.close()

    def up(self, seconds=120):
        """Waits until the server answers; gives the seconds."""
        def ask():
            try:
                return self.ask('SELECT 1') == [('1',)]
            except Gone:
                return False
        begun = time.monotonic()
        wait_for('PostgreSQL answers', seconds, ask, 0.02)
        return time.monotonic() - begun

    def begin(self):
        self.up()
        self.ask('CREATE TABLE rows (client int, number int, filling text, PRIMARY KEY (client, number))')
        for client in self.clients:
            client.start()

    def noted(self):
        return sum(len(client.noted) for client in self.clients)

    def goes_on(self):
        """Waits until every client was told of a new row."""
        since = time.monotonic()
        try:
            wait_for('every client goes on', 120, lambda: all(client.latest > since for client in self.clients))
        except Failed as error:
            raise Failed('%s; clients were told %s' % (error, sum((client.lost for client in self.clients), Counter()).most_common(5)))

    def pid(self):
        """The container that runs, and its first process."""
        found = [(c['id'], c['state']['pid']) for c in self.host.containers().values() if c['state']['status'] == 'running']
        return found[0] if len(found) == 1 else None

    def end(self):
        for client in self.clients:
            client.stop = True
        for client in self.clients:
            client.join(60)

    def compare(self):
        """What is in the table beside what was noted: lines of the table, and what is wrong."""
        found = {(int(client), int(number)) for client, number in self.ask('SELECT client, number FROM rows')}
        noted = set().union(*(client.noted for client in self.clients))
        doubtful = set().union(*(client.doubtful for client in self.clients))
        lost, strange = noted - found, found - noted - doubtful
        lines = [('rows acknowledged', len(noted)), ('rows found', len(found)), ('acknowledged and lost', len(lost)),
                 ('sent, never acknowledged', '%d, of which %d are there' % (len(doubtful), len(doubtful & found))),
                 ('connections lost', sum(sum(client.lost.values()) for client in self.clients))]
        # The index has to agree with the table.
        indexed = int(self.ask('SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM rows WHERE client >= 0')[0][0])
        failures = ['the index has %d rows' % indexed] if indexed != len(found) else []
        failures += ['%d acknowledged rows are lost: %s' % (len(lost), sorted(lost)[:5])] if lost else []
        failures += ['rows that nobody sent: %s' % sorted(strange)[:5]] if strange else []
        return lines, failures


def labels(shop):
    before = shop.pid()
    shop.put(labels=shop.written['labels'] + 1)

    def given():
        found = [c for c in shop.host.containers().values()]
        return shop.host.settled() and shop.host.specs()[found[0]['id']]['service']['labels'].get('edited') == str(shop.written['labels'])
    wait_for('the labels are given', 30, given)
    return [] if shop.pid() == before else ['a change of labels made %s of %s' % (shop.pid(), before)]


def another(shop, what, before, containers):
    """Waits for another process, in another container or in the same one: in one of `containers`."""
    def there():
        now = shop.pid()
        return now if now and now[1] != before[1] else None
    now = wait_for('%s: PostgreSQL runs again' % what, 60, there)
    return [] if ('same' if now[0] == before[0] else 'other') in containers else ['%s: %s after %s' % (what, now, before)]


def environment(shop):
    before = shop.pid()
    shop.put(environment=shop.written['environment'] + 1)
    return another(shop, 'environment', before, 'other')


def restart(shop):
    before = shop.pid()
    shop.put(scale=0)
    wait_for('PostgreSQL has ended', 60, lambda: not shop.host.pids())
    shop.put(scale=1)
    return another(shop, 'stopped and started', before, 'same or other')


def init(shop):
    before = shop.pid()
    os.kill(before[1], signal.SIGKILL)
    return another(shop, 'killed', before, 'same')


def daemon(shop):
    before = shop.pid()
    shop.host.kill()
    time.sleep(0.5)
    shop.host.start().ready()
    wait_for('it is adopted', 30, shop.pid)
    return [] if shop.pid() == before else ['after a kill of the daemon %s runs, not %s' % (shop.pid(), before)]


KINDS = {'labels changed': labels, 'environment changed': environment, 'stopped and started': restart, 'init killed': init, 'daemon killed': daemon}


def loaded(shop, rows, many, disturb):
    """Disturbs it, evenly while the rows are inserted; gives the seconds that the clients had to wait, and what is wrong."""
    waits, failures = [], []
    for number in range(many):
        share = rows * (number + 1) // (many + 1)
        wait_for('rows', 300, lambda: shop.noted() >= share, 0.01)
        begun = time.monotonic()
        failures += disturb(number)
        shop.goes_on()
        waits.append(time.monotonic() - begun)
    wait_for('the last rows', 300, lambda: shop.noted() >= rows, 0.01)
    return waits, failures


def report(shop, title, begun, lines, waits):
    """The table of one part; gives what is wrong."""
    shop.end()
    found, failures = shop.compare()
    say('\n' + title)
    for what, value in [*found, *lines, ('until every client went on', 'median %.1f s, max %.1f s' % (median(waits), max(waits)) if waits else '-'),
                        ('took', '%.0f s' % (time.monotonic() - begun))]:
        say('  %-30s %s' % (what, value))
    log = shop.host.log_text()
    return failures + (['the daemon panicked: ' + log.split('panicked', 1)[1][:300]] if 'panicked' in log else [])


def main():
    options = argparse.ArgumentParser(description='PostgreSQL under load, and all that happens to it')
    options.add_argument('--rows', type=int, default=10000, help='acknowledged, in each of both parts')
    options.add_argument('--clients', type=int, default=4)
    options.add_argument('--disturbances', type=int, default=25)
    options.add_argument('--cuts', type=int, default=10)
    options.add_argument('--seed', type=int, default=1)
    options = options.parse_args()
    dice, failures = random.Random(options.seed), []
    with Lab() as lab:
        version, reference = image(lab)
        if options.disturbances:
            host = lab.daemon()
            shop = Shop(host, reference, options.clients)
            host.start().ready()
            begun, kinds, counts = time.monotonic(), list(KINDS) * options.disturbances, Counter()
            shop.begin()

            def disturb(number):
                time.sleep(dice.uniform(0, 0.1))
                counts[kinds[number]] += 1
                return KINDS[kinds[number]](shop)
            waits, wrong = loaded(shop, options.rows, options.disturbances, disturb)
            failures += wrong
            failures += report(shop, 'PostgreSQL %s, %d connections' % (version, options.clients), begun, sorted(counts.items()), waits)
            host.remove('shop.yaml')
            wait_for('the fuse', 20, lambda: (host.status() or {}).get('folder', {}).get('held') or not host.containers())
            host.cli('confirm')
            wait_for('it is gone', 60, lambda: not host.containers() and host.settled())
            host.terminate()
            failures += ['left over, %s: %s' % (k, v[:5]) for k, v in host.leftovers().items() if v]
        if options.cuts:
            port = int(lab.registry().split(':')[1])
            lab.stop_registry()
            machine = Machine(lab)
            lab.daemons.append(machine)
            machine.boot()
            machine.registry(port)
            shop = Shop(machine, reference, options.clients)
            machine.start().ready()
            begun, back = time.monotonic(), []
            shop.begin()

            def cut(number):
                time.sleep(dice.uniform(0, 0.1))
                machine.cut()
                machine.boot()
                booted = time.monotonic()
                machine.start().ready()
                shop.up()
                back.append(time.monotonic() - booted)
                return []
            waits, wrong = loaded(shop, options.rows, options.cuts, cut)
            failures += wrong
            lines = [('power cuts', options.cuts), ('boot until it answers', 'median %.1f s, max %.1f s' % (median(back), max(back)))]
            failures += report(shop, 'PostgreSQL %s, %d connections, power cuts' % (version, options.clients), begun, lines, waits)
        close_with(failures, 'postgres.py: %d disturbances, %d power cuts' % (options.disturbances, options.cuts))


main()
