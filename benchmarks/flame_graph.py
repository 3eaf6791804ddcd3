"""A flame graph as one small SVG: what a process did, by call, as wide as the time it took. Pure.

Frames stand on their callers; equal calls of one caller are one frame, callees in the order of their names. A frame
below `NARROWEST` of the whole is left out with all that it called, and only the widest `FRAMES_MAX` are drawn: so a
picture stays small whatever was sampled. Hovering shows a frame's whole name and share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from typing import NamedTuple
from zlib import crc32

WIDTH, ROW, LEFT, TOP = 1200, 17, 4, 40
NARROWEST = 0.003
DEPTH_MAX = 64
FRAMES_MAX = 1_000
LETTER = 6.3  # width of a letter, px

Stacks = Mapping[tuple[str, ...], int]


class Frame(NamedTuple):
    """One frame: its name, depth from 0, and where it begins and how wide it is, in samples."""

    name: str
    depth: int
    begin: int
    samples: int


def collapsed(lines: Iterable[str]) -> dict[tuple[str, ...], int]:
    """Return stacks of lines like `outer;inner 12`, as py-spy's raw format has them; others are passed over."""
    found: dict[tuple[str, ...], int] = {}
    for line in lines:
        stack, _, count = line.rstrip().rpartition(" ")
        if stack and count.isdigit():
            key = tuple(stack.split(";"))
            found[key] = found.get(key, 0) + int(count)
    return found


def frames(stacks: Stacks) -> list[Frame]:
    """Return the frames that are wide enough, widest first and callers before what they called."""
    least = max(int(sum(stacks.values()) * NARROWEST), 1)
    found = _level(sorted(stacks.items()), 0, 0, least)
    return sorted(found, key=lambda frame: (-frame.samples, frame.depth, frame.begin))[:FRAMES_MAX]


def _level(stacks: list[tuple[tuple[str, ...], int]], depth: int, begin: int, least: int) -> Iterator[Frame]:
    place = 0
    while place < len(stacks) and depth < DEPTH_MAX:
        if len(stacks[place][0]) <= depth:  # ended here: the caller's own time
            begin += stacks[place][1]
            place += 1
            continue
        name, first = stacks[place][0][depth], place
        while place < len(stacks) and len(stacks[place][0]) > depth and stacks[place][0][depth] == name:
            place += 1
        samples = sum(count for _, count in stacks[first:place])
        if samples >= least:
            yield Frame(name, depth, begin, samples)
            yield from _level(stacks[first:place], depth + 1, begin, least)
        begin += samples


def shares(stacks: Stacks, name_of: Callable[[tuple[str, ...]], str], most: int = 6) -> dict[str, float]:
    """Return the share of all samples of each name that stacks go by, the greatest `most` of them, greatest first."""
    whole = sum(stacks.values()) or 1
    found: dict[str, int] = {}
    for stack, count in stacks.items():
        name = name_of(stack)
        found[name] = found.get(name, 0) + count
    greatest = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    return {name: round(count / whole, 3) for name, count in greatest}


def drawn(title: str, stacks: Stacks) -> str:
    """Return the picture."""
    whole = sum(stacks.values())
    made = frames(stacks)
    height = TOP + ROW * (max((frame.depth for frame in made), default=0) + 1) + LEFT
    scale = (WIDTH - 2 * LEFT) / max(whole, 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        "<style>text{pointer-events:none;font:11px monospace}rect{stroke:#fff;stroke-width:.5}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20">{escape(title)}</text>',
    ]
    for frame in made:
        x, wide = LEFT + frame.begin * scale, frame.samples * scale
        y = height - LEFT - ROW * (frame.depth + 1)
        lines.append(
            f"<g><title>{escape(frame.name)}: {frame.samples / whole:.1%}</title>"
            f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 1}" fill="{_colour(frame.name)}"/>'
        )
        letters = int(wide / LETTER) - 1
        if letters > 2:
            lines.append(f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(frame.name[:letters])}</text>')
        lines.append("</g>")
    return "\n".join([*lines, "</svg>", ""])


def _colour(name: str) -> str:
    """Return a warm colour, the same for the same name."""
    drawn_from = crc32(name.encode())
    return f"hsl({10 + drawn_from % 40} {70 + drawn_from // 40 % 25}% {62 + drawn_from // 1000 % 14}%)"
