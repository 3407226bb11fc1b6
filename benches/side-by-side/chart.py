"""The chart of the README: a panel for each figure, a bar for each engine, the aim as a line."""
from xml.sax.saxutils import escape

from tables import median, number, values

# (task, row): what is drawn, in this order.
PANELS = [('first', 'first none'), ('first', 'first bridge'), ('many', '100 none'), ('many', '100 bridge'), ('many', '100 gone none'), ('file', 'up'),
          ('memory', 'daemon 100'), ('memory', 'beside 100'), ('adopt', 'adopted 100'), ('killed', 'killed')]
TITLES = {'first none': 'first instruction, no network', 'first bridge': 'first instruction, bridge', '100 none': '100 containers, no network', '100 bridge': '100 containers, bridge',
          '100 gone none': 'removal of 100', 'up': '50 services of one file', 'daemon 100': 'memory of the daemon, 100 containers', 'beside 100': 'memory beside each container',
          'adopted 100': 'daemon killed, until it knows 100 again', 'killed': 'process killed, until it runs again'}
WIDTH, COLUMNS, LEFT, BAR, GAP, HEAD = 460, 2, 108, 15, 4, 34
OURS, THEIRS, BARE, LINE = '#1f6feb', '#8b949e', '#c9d1d9', '#d1242f'


def panel(x, y, title, unit, aim, bars):
    top = max(value for _, value in bars)
    scale = (WIDTH - LEFT - 90) / top
    out = ['<text x="%d" y="%d" class="t">%s, %s</text>' % (x, y + 14, escape(title), unit[2])]
    for at, (engine, value) in enumerate(bars):
        row = y + HEAD - 10 + at * (BAR + GAP)
        colour = OURS if engine == 'longshore' else BARE if engine in ('runc', 'crun', 'floor') else THEIRS
        out.append('<text x="%d" y="%d" class="n">%s</text>' % (x + LEFT - 8, row + 12, escape(engine)))
        out.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (x + LEFT, row, max(1, value * scale), BAR, colour))
        out.append('<text x="%.1f" y="%d" class="v">%s</text>' % (x + LEFT + max(1, value * scale) + 5, row + 12, number(value, unit)))
    if aim is not None and aim * scale < WIDTH - LEFT:
        at = x + LEFT + aim * scale
        out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s" stroke-dasharray="3 2"/>' % (at, at, y + HEAD - 13, y + HEAD - 10 + len(bars) * (BAR + GAP), LINE))
    return out


def chart(tables, runs, machine):
    """The SVG; None when there is nothing to draw."""
    found = []
    for task, key in PANELS:
        table = tables[task]
        (row,) = [row for row in table.rows if row.key == key]
        engines = dict.fromkeys(engine for one in table.runs for engine in one.engines)
        bars = [(engine, median(values(runs, task, engine, key))) for engine in engines if values(runs, task, engine, key)]
        if bars:
            found.append((TITLES[key], row.unit, row.aim, bars))
    if not found:
        return None
    out, y = [], 8
    for at in range(0, len(found), COLUMNS):
        line = found[at:at + COLUMNS]
        for column, (title, unit, aim, bars) in enumerate(line):
            out += panel(10 + column * WIDTH, y, title, unit, aim, bars)
        y += HEAD + 6 + max(len(bars) for *_, bars in line) * (BAR + GAP)
    out.append('<text x="10" y="%d" class="v">Medians; less is better. Dashed: the aim. %s</text>' % (y + 14, escape(machine)))
    width, height = 20 + COLUMNS * WIDTH, y + 26
    return '\n'.join(['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif">' % (width, height, width, height),
                      '<style>.t{font-size:13px;font-weight:600;fill:#1f2328}.n{font-size:12px;fill:#1f2328;text-anchor:end}.v{font-size:11px;fill:#59636e}</style>',
                      '<rect width="%d" height="%d" fill="#ffffff"/>' % (width, height), *out, '</svg>', ''])
