"""The README's chart, drawn from a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

EDGE = Path(__file__).parent / "results" / "edge.svg"
OURS, THEIRS = "#0b7285", "#adb5bd"


def draw_edge(parts: dict[str, dict[str, dict[str, Any]]]) -> Path:
    """Draw CPU per hit of every server of `edge.json` and return the picture's path."""
    import matplotlib as mpl  # noqa: PLC0415  slow to load, and only `make bench` has it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the backend is chosen

    mpl.rcParams["svg.fonttype"] = "none"  # text stays text: a smaller file, readable in a diff
    mpl.rcParams["svg.hashsalt"] = "hitstream"  # the same figures give the same file
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
    figure.tight_layout()
    figure.savefig(EDGE, metadata={"Date": None})
    plt.close(figure)
    return EDGE
