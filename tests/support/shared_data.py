"""Real input that stands beside the checkout, in ../shared/data."""

from __future__ import annotations

from pathlib import Path

SHARED = Path(__file__).parents[3] / "shared" / "data"


def shared(name: str) -> Path:
    """Return the path of a file of ../shared/data; fail with what is missing when it is not there."""
    path = SHARED / name
    assert path.exists(), (
        f"{path} is missing: the tests read real traffic from shared/, which stands beside the checkout"
    )
    return path
