"""Programs from Debian's packages that tests marked `outside` start. A missing one fails the test and is named."""

import os
import shutil

import pytest


def needed(program, package):
    """Return the path of a program; servers stand where only root looks."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        pytest.fail(f"{program} is missing: apt-get install {package}", pytrace=False)
    return path
