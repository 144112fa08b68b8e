"""One step as an animation: messages on their way between ranks.   python -m dsgd.plots.animation RUN [--step T]

It is an SVG that a browser plays, without a script: a few kilobytes of text, the same for the same trace.
"""

import argparse
import sys
from html import escape
from math import cos, pi, sin
from pathlib import Path

from matplotlib.ticker import EngFormatter

from dsgd.command import run_command
from dsgd.errors import UsageError
from dsgd.plots.command import check_output
from dsgd.plots.steps import read_steps
from dsgd.plots.style import COLOURS
from dsgd.plots.timeline import read

WIDTH, HEIGHT, RADIUS, RANK = 420, 416, 125, 26  # pixels
PLAYED, REST = 6.0, 1.5  # s of the animation, and until it starts over
COMPUTE, WAIT, MESSAGE = COLOURS[5], "#dddddd", COLOURS[1]
STYLE = "font: 13px sans-serif; text-anchor: middle"


def draw(events, step=1, title=""):
    """The text of an SVG: ranks on a circle, a server in its middle, and what they send in this step.

    Args:
        events: of a trace, as Result.events has them.  title: a line above.
    Raises:
        UsageError: the trace does not reach so far.
    """
    part = read_steps(events, step)
    places = place(part.names)
    sent = sum(arrow.nbytes for arrow in part.arrows)
    took = (part.stop - part.start) / 1e6
    caption = f"step {step}: {len(part.arrows)} messages, {EngFormatter('B', places=1)(sent)}, {EngFormatter('s', places=0)(took)}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2:g}" y="22" style="{STYLE}; font-weight: bold">{escape(title)}</text>',
        *_links(part, places),
        *(line for rank in places for line in _rank(part, rank, places[rank])),
        *(line for arrow in part.arrows for line in _message(part, arrow, places)),
        *(line for rank in places for line in _name(part, rank, places[rank])),  # over the messages that arrive
        *_clock(),
        f'<text x="{WIDTH / 2:g}" y="{HEIGHT - 30}" style="{STYLE}">{escape(caption)}</text>',
        f'<text x="{WIDTH / 2:g}" y="{HEIGHT - 10}" style="{STYLE}; font-size: 11px">'
        "blue: computes a gradient; orange: a message, small: one without data</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def place(names):
    """{rank: (x, y)}: on a circle, the first on top; the only server in the middle of it."""
    servers = [rank for rank, name in names.items() if name.endswith(", server")]
    middle = servers if len(servers) == 1 else []
    around = [rank for rank in sorted(names) if rank not in middle]
    x, y = WIDTH / 2, 200
    angles = {rank: 2 * pi * i / len(around) - pi / 2 for i, rank in enumerate(around)}
    found = {rank: (x + RADIUS * cos(angle), y + RADIUS * sin(angle)) for rank, angle in angles.items()}
    return found | dict.fromkeys(middle, (x, y))


def _links(part, places):
    """A line between ranks that send each other something."""
    for a, b in sorted({tuple(sorted((arrow.sender, arrow.receiver))) for arrow in part.arrows}):
        (x1, y1), (x2, y2) = places[a], places[b]
        yield f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#bbb" stroke-width="1.5"/>'


def _rank(part, rank, at):
    """A circle that is blue while the rank computes."""
    busy = [(bar.start, bar.stop) for bar in part.bars if bar.rank == rank and bar.kind == "compute"]
    times = [(0.0, WAIT)]
    for start, stop in busy:
        times += [(_when(part, start), COMPUTE), (_when(part, stop), WAIT)]
    yield f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{RANK}" fill="{WAIT}" stroke="#444">'
    yield _animate("fill", times, discrete=True)
    yield "</circle>"


def _name(part, rank, at):
    """What the rank is, and its number."""
    who = part.names[rank].partition(", ")[2] or part.names[rank]
    what, _, number = who.partition(" ")
    for y, text in ((at[1] - 1, what), (at[1] + 14, number)):
        size = "; font-size: 11px"
        yield (
            f'<text x="{at[0]:.1f}" y="{y if number else y + 5:.1f}" style="{STYLE}{size}">{escape(text)}</text>'
            if text
            else ""
        )


def _message(part, arrow, places):
    """A dot from sender to receiver; without data a small one."""
    sent, arrived = _when(part, arrow.sent), _when(part, arrow.arrived)
    (x1, y1), (x2, y2) = places[arrow.sender], places[arrow.receiver]
    radius = 7 if arrow.nbytes else 3
    yield f'<circle cx="{x1:.1f}" cy="{y1:.1f}" r="{radius}" fill="{MESSAGE}" stroke="white" opacity="0">'
    yield _animate("opacity", [(0.0, "0"), (sent, "1"), (arrived, "0")], discrete=True)
    for axis, a, b in (("cx", x1, x2), ("cy", y1, y2)):
        yield _animate(axis, [(0.0, f"{a:.1f}"), (sent, f"{a:.1f}"), (arrived, f"{b:.1f}"), (1.0, f"{b:.1f}")])
    yield "</circle>"


def _clock():
    """A bar that fills while the step takes place."""
    yield f'<rect x="60" y="{HEIGHT - 56}" width="{WIDTH - 120}" height="5" fill="#eee"/>'
    yield f'<rect x="60" y="{HEIGHT - 56}" width="0" height="5" fill="#444">'
    yield _animate("width", [(0.0, "0"), (PLAYED / (PLAYED + REST), f"{WIDTH - 120}"), (1.0, f"{WIDTH - 120}")])
    yield "</rect>"


def _when(part, time):
    """A time of the trace (µs) as a part of the animation, 0 to 1."""
    inside = min(max(time, part.start), part.stop) - part.start
    return inside / (part.stop - part.start) * PLAYED / (PLAYED + REST)


def _animate(attribute, times, discrete=False):
    """An endless animation of an attribute through [(time, value)]; times rise, and some may coincide."""
    keys, values = zip(*times)
    mode = ' calcMode="discrete"' if discrete else ""
    return (
        f'<animate attributeName="{attribute}" dur="{PLAYED + REST:g}s" repeatCount="indefinite"{mode} '
        f'keyTimes="{";".join(f"{key:.4f}" for key in keys)}" values="{";".join(values)}"/>'
    )


def main(argv):
    parser = argparse.ArgumentParser(prog="python -m dsgd.plots.animation", description=__doc__.partition("   ")[0])
    parser.add_argument("run", metavar="RUN", help="folder of a run with --trace")
    parser.add_argument("--output", default="animation.svg", metavar="FILE", help="an .svg; default: animation.svg")
    parser.add_argument("--step", type=int, default=1, metavar="T", help="the step, from 1 (default: 1)")
    parser.add_argument("--title", default="", metavar="TEXT", help="a line above; default: the algorithm")
    given = parser.parse_args(argv)
    if Path(given.output).suffix != ".svg":
        raise UsageError(f"--output {given.output}: an animation is an .svg")
    output = check_output(given.output)
    facts, events = read(given.run)
    output.write_text(draw(events, given.step, given.title or facts["algorithm"]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
