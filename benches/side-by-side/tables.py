"""What is measured and shown: a table for each task, with what is aimed at. No measuring here, and no drawing."""
import collections

from statistics import median

# How a value is written: (factor, digits, unit).
MS, S, MB, KB, US, COUNT, RATE = (1000, 1, 'ms'), (1, 2, 's'), (1 / 1024, 1, 'MB'), (1, 0, 'kB'), (1e6, 2, 'µs'), (1, 0, ''), (1 / 1000, 0, 'thousand/s')
CPU = (1000, 2, 'ms')

Row = collections.namedtuple('Row', 'key text unit aim', defaults=[None])
Table = collections.namedtuple('Table', 'title note rows runs')
# Engines, and what each run of their task is told.
Runs = collections.namedtuple('Runs', 'engines rounds more')

ENGINES = ['docker', 'podman+crun', 'podman+runc']
BARE = ['runc', 'crun', 'floor']


def tables(quick):
    few = lambda normal, fewer: fewer if quick else normal
    times, rounds = few(10, 3), few(3, 1)
    return {
        'first': Table(
            'The first instruction', 'From the rename of the state file, or before the first command or call, until the program in the container runs; the image is here. '
            'runc and crun have a bundle that is ready and mount no layers; the floor is what the kernel asks for.',
            [Row('first none', 'no network', MS, 0.020), Row('first bridge', 'on a bridge', MS, 0.035),
             Row('first cpu none', 'CPU from start to removal, no network', MS), Row('first cpu bridge', 'CPU from start to removal, bridge', MS)],
            [Runs(['longshore', *ENGINES, *BARE], rounds, {'network': 'none', 'times': times}), Runs(['longshore', *ENGINES], rounds, {'network': 'bridge', 'times': times})]),
        'many': Table(
            'Many containers from nothing', 'From the rename of one file, or the first call, until the last of them runs; the others are asked for 8 at a time. Removal: until the engine says that none is left.',
            [*(Row('%d %s' % (count, network), '%d, %s' % (count, word), S, aim) for network, word, aims in (('none', 'no network', 1.2), ('bridge', 'bridge', 2.5))
               for count, aim in ((10, None), (50, None), (100, aims), (500, None))),
             Row('100 cpu none', 'CPU of 100, no network', S), Row('100 cpu bridge', 'CPU of 100, bridge', S),
             Row('100 gone none', 'removal of 100, no network', S, 1.0), Row('100 gone bridge', 'removal of 100, bridge', S, 1.0), Row('500 gone none', 'removal of 500, no network', S)],
            [runs for network in ('none', 'bridge') for runs in (
                Runs(['longshore'], rounds, {'network': network, 'counts': [10, 50, 100, 500]}),
                Runs([*ENGINES, *(BARE if network == 'none' else [])], rounds, {'network': network, 'counts': few([10, 50, 100], [10, 100])}))]),
        'file': Table(
            '50 services of one file', 'On one network. The second time nothing has changed: with docker-compose `up -d` again, with Longshore the file is renamed into place again and '
            '`status --wait` asked. CPU: of the daemon (docker-compose: of everything).',
            [Row('up', 'until the last runs', S, 1.5), Row('again', 'the same file again, until it is told that all is right', MS), Row('again cpu', 'the same file again, CPU', CPU, 0.005)],
            [Runs(['longshore', 'docker-compose'], rounds, {'count': 50})]),
        'edit': Table(
            'One of 500 services changes', 'All in one file, no network.',
            [Row('again cpu', 'the same file again, CPU', CPU), Row('again', 'the same file again, until it is told that all is right', MS),
             Row('edit', 'one variable changed, until the new container runs', MS), Row('edit cpu', 'CPU of the daemon for it', CPU), Row('touched', 'other containers touched', COUNT, 0)],
            [Runs(['longshore'], rounds, {'count': 500})]),
        'memory': Table(
            'Memory', 'PSS. Of the daemon (dockerd with its containerd), and of what runs beside each container (the follower, containerd-shim, conmon).',
            [Row('daemon 0', 'daemon, no container', MB), Row('daemon 100', 'daemon, 100', MB, 15 * 1024), Row('daemon 500', 'daemon, 500', MB),
             Row('beside 100', 'each container, of 100', KB, 64), Row('beside 500', 'each container, of 500', KB)],
            [Runs(['longshore'], 1, {'counts': [100, 500]}), Runs(ENGINES, 1, {'counts': [100]})]),
        'idle': Table(
            '100 idle containers on a bridge', 'A minute in which nobody asks for anything: the daemon and all that runs beside containers.',
            [Row('idle cpu', 'CPU in a minute', CPU, 0.001), Row('idle wakes', 'wake-ups in a minute', COUNT, 60), Row('idle daemon cpu', 'of that the daemon, CPU', CPU), Row('idle daemon wakes', 'of that the daemon, wake-ups', COUNT)],
            [Runs(['longshore', *ENGINES], 1, {'count': 100, 'length': few(60, 20)})]),
        'adopt': Table(
            'The daemon is killed', 'kill -9, and started again: from its exec until it answers and knows of all containers (docker: with live-restore).',
            [Row('adopted 100', '100 containers', MS, 0.100), Row('adopted 500', '500 containers', MS), Row('adopted lost 100', 'of 100 not the same process', COUNT, 0),
             Row('adopted lost 500', 'of 500 not the same process', COUNT, 0)],
            [Runs(['longshore', *ENGINES], 1, {'count': 100, 'times': few(10, 3)}), Runs(['longshore'], 1, {'count': 500, 'times': few(10, 3)})]),
        'killed': Table(
            'A container\'s main process is killed', 'kill -9 from outside, until it runs again. Longshore and docker wait 100 ms before that, as a rule; podman does not.',
            [Row('killed', 'until it runs again', MS, 0.120)], [Runs(['longshore', *ENGINES], 1, {'count': few(15, 5)})]),
        'logs': Table(
            'Logs at full speed', 'One container writes lines of 100 bytes as fast as they are read.',
            [Row('lines', 'lines', RATE), Row('lines cpu', 'CPU of a line', US), Row('lines memory', 'memory of the daemon', MB)],
            [Runs(['longshore', *ENGINES], rounds, {'lines': few(1000000, 300000)})]),
        'asking': Table(
            'Questions while containers come and go', '`ps` and `status` are whole commands; the API is asked on its socket, by a new connection each.',
            [row for count in (100, 500) for row in (
                Row('ps %d' % count, '`ps`, %d containers' % count, MS), Row('status %d' % count, '`status`, %d' % count, MS), Row('list %d' % count, 'API: list, %d' % count, MS),
                Row('api status %d' % count, 'API: status, %d' % count, MS), Row('health %d' % count, 'API: ping, %d' % count, MS))],
            [Runs(['longshore', *ENGINES], 1, {'count': 100, 'times': few(30, 5)}), Runs(['longshore'], 1, {'count': 500, 'times': few(30, 5)})]),
        'folder': Table(
            '10,000 state files', 'A service each, of which no container is wanted (`scale: 0`).',
            [Row('files read', 'start of the daemon until it answers', S), Row('files settled', 'until it is settled', S), Row('files cpu', 'CPU until then', S), Row('files memory', 'memory', MB),
             Row('files edit', 'one file changed, until its container runs', MS), Row('files edit cpu', 'CPU of the daemon for it', CPU)],
            [Runs(['longshore'], rounds, {'count': 10000})]),
    }


def values(runs, task, engine, key):
    found = []
    for one in runs:
        if one['task'] == 'tasks:' + task and one['engine'] == engine and one.get(key) is not None:
            found += one[key] if isinstance(one[key], list) else [one[key]]
    return found


def better(unit):
    """Whether more is better, or less."""
    return max if unit is RATE else min


def number(value, unit):
    factor, digits, _ = unit
    value *= factor
    # Three figures tell enough.
    return '%.*f' % (0 if value >= 100 else min(digits, 1) if value >= 10 else digits, value)


def goal(row, own):
    """What is aimed at, and whether it is met."""
    if row.aim is None:
        return '', ''
    aim = '0' if row.aim == 0 else '≤ ' + ('%g %s' % (round(row.aim * row.unit[0], 3), row.unit[2])).strip()
    return aim, ('yes' if median(own) <= row.aim else '**no**') if own else '–'


def cells(table, task, runs, absent):
    """The columns and the rows of a table, as text. Median (best), and how many times Longshore's median that is."""
    engines = list(dict.fromkeys(engine for one in table.runs for engine in one.engines))
    lines = []
    for row in table.rows:
        own = values(runs, task, 'longshore', row.key)
        line = ['%s, %s' % (row.text, row.unit[2]) if row.unit[2] else row.text, *goal(row, own)]
        for engine in engines:
            found = values(runs, task, engine, row.key)
            if not found:
                line.append('–')
                continue
            cell = number(median(found), row.unit)
            if len(found) > 1:
                cell += ' (%s)' % number(better(row.unit)(found), row.unit)
            if engine != 'longshore' and own and median(own) > 0:
                cell += ' ×%.*f' % (1 if median(found) < 10 * median(own) else 0, median(found) / median(own))
            line.append(cell)
        if any(cell != '–' for cell in line[3:]):
            lines.append(line)
    notes = ['%s: %s' % (engine, reason) for engine, reason in absent.get(task, {}).items()]
    return ['', 'aim', 'met', *engines], lines, notes
