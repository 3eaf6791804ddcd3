"""The README's charts, each drawn from a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

EDGE = Path(__file__).parent / "results" / "edge.svg"
END_TO_END = EDGE.with_name("end_to_end.svg")
OURS, THEIRS = "#0b7285", "#adb5bd"


def draw_edge(parts: dict[str, dict[str, dict[str, Any]]]) -> Path:
    """Draw CPU per hit of every server of `edge.json` and return the picture's path."""
    plt = _pyplot()
    titles = {"edge": "to disk, answered", "kafka": "until it is in Kafka"}
    sizes = [len(parts[part]) for part in titles]
    figure, axes = plt.subplots(len(titles), 1, figsize=(9, 0.42 * sum(sizes) + 1.6), height_ratios=sizes)
    for axis, (part, title) in zip(axes, titles.items(), strict=True):
        rows = parts[part]
        names = list(rows)[::-1]
        values = [rows[name]["cpu_us_per_hit"] for name in names]
        colours = [OURS if name.startswith("hitstream") else THEIRS for name in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.set_title(f"CPU µs per hit, {title}", loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.12)
    return _saved(plt, figure, EDGE)


def draw_end_to_end(rows: dict[str, dict[str, Any]]) -> Path:
    """Draw CPU per hit by role of every pipeline of `end_to_end.json` and return the picture's path."""
    plt = _pyplot()
    names = list(rows)[::-1]
    roles = list(dict.fromkeys(role for name in rows for role in rows[name]["cpu_us_per_hit"]))
    figure, axis = plt.subplots(figsize=(9, 0.5 * len(names) + 1.6))
    left = [0.0] * len(names)
    for number, role in enumerate(roles):
        widths = [rows[name]["cpu_us_per_hit"].get(role, 0.0) for name in names]
        axis.barh(names, widths, left=left, label=role, color=f"C{number}")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, name in enumerate(names):
        axis.text(left[place], place, f" {rows[name]['hits_per_s']:,} hits/s", va="center", fontsize=9)
    axis.set_title("CPU µs per hit from HTTP to ClickHouse, and hits/s held on two cores", loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.16)
    axis.legend(ncols=5, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.12))
    return _saved(plt, figure, END_TO_END)


def _pyplot() -> Any:  # noqa: ANN401  a module
    import matplotlib as mpl  # noqa: PLC0415  slow to load, and only `make bench` has it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the backend is chosen

    mpl.rcParams["svg.fonttype"] = "none"  # text stays text: a smaller file, readable in a diff
    mpl.rcParams["svg.hashsalt"] = "hitstream"  # the same figures give the same file
    return plt


def _saved(plt: Any, figure: Any, path: Path) -> Path:  # noqa: ANN401  a module and its figure
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    return path
