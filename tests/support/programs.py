"""Programs from Debian's packages that tests marked `outside` start. A missing one fails the test and is named."""

import shutil

import pytest


def needed(program, package):
    """Return the path of a program."""
    path = shutil.which(program)
    if path is None:
        pytest.fail(f"{program} is missing: apt-get install {package}", pytrace=False)
    return path
