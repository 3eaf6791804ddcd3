"""`hitstream salt`: made once, carried to other edges, never replaced by accident; and a box that lacks it says so."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.command.doctor import examine
from infra.command.errors import UserError
from infra.command.main import app
from ingest.cookieless import Salt, day_of, parsed_salt, salt_line
from ingest.salt_file import SaltError, SaltFile

TODAY = day_of(time.time())


def salt(data_dir, *arguments, given="", error=None):
    """Run `hitstream salt` in this process; return what it printed, or the error's words."""
    done = CliRunner().invoke(app, ["salt", *arguments], input=given, env={"HITSTREAM_DATA_DIR": str(data_dir)})
    if error:
        assert isinstance(done.exception, error), done.output
        return str(done.exception)
    assert done.exception is None, done.exception
    return done.stdout


def test_two_edges_share_one_salt(tmp_path):
    salt(tmp_path / "one", "init")
    line = salt(tmp_path / "one", "export")
    salt(tmp_path / "two", "import", given=line)
    assert salt(tmp_path / "two", "export") == line == (tmp_path / "one" / "salt").read_text()
    assert parsed_salt(line).day in (TODAY - 1, TODAY), "yesterday's, from which today's follows"


def test_two_salts_are_two(tmp_path):
    lines = []
    for _ in range(2):
        salt(tmp_path, "init", "--force")
        lines.append(salt(tmp_path, "export"))
    assert lines[0].split()[1] != lines[1].split()[1]


def test_an_old_salt_goes_on_to_yesterday(tmp_path):
    old = Salt(TODAY - 500, bytes(32))
    salt(tmp_path, "import", given=salt_line(old))
    assert SaltFile(tmp_path).read().day >= TODAY - 1
    old_one = Salt(TODAY - 300, bytes(32))
    SaltFile(tmp_path).put(old_one, force=True)
    assert parsed_salt(salt(tmp_path, "export")) in (old_one.of(TODAY - 1), old_one.of(TODAY))


@pytest.mark.parametrize("command", ["init", "import"])
def test_nothing_is_replaced_without_force(tmp_path, command):
    kept = Salt(TODAY - 1, bytes(32))
    other = salt_line(Salt(TODAY - 1, bytes(range(32))))
    SaltFile(tmp_path).put(kept, force=False)
    assert "is there already" in salt(tmp_path, command, given=other, error=SaltError)
    assert SaltFile(tmp_path).read() == kept
    salt(tmp_path, command, "--force", given=other)
    assert SaltFile(tmp_path).read() != kept


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "standard input holds no salt"),
        (salt_line(Salt(TODAY - 1, bytes(32)))[:-3], "standard input holds no salt"),
        (salt_line(Salt(TODAY + 2, bytes(32))), "UTC here: set the clock"),
    ],
)
def test_an_import_of_nothing_half_or_the_future_writes_nothing(tmp_path, given, words):
    assert words in salt(tmp_path, "import", given=given, error=UserError)
    assert not (tmp_path / "salt").exists()


def test_export_needs_a_salt(tmp_path):
    assert "is missing" in salt(tmp_path, "export", error=SaltError)


def test_who_makes_a_site_cookieless_and_who_asks_the_doctor_hears_of_the_salt(tmp_path, monkeypatch):
    monkeypatch.setenv("HITSTREAM_CONFIG", str(tmp_path / "hitstream.toml"))
    monkeypatch.setenv("HITSTREAM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["site", "add", "shop", "--identity", "cookieless"]).stdout
    assert "cookieless visitors need a salt: `hitstream salt init`" in said
    (finding,) = [one for one in examine() if one.what == "salt"]
    assert (finding.good, "is missing" in finding.remedy) == (False, True)
    salt(tmp_path / "data", "init")
    assert "salt" not in CliRunner().invoke(app, ["site", "set", "shop", "--domain", "shop.example"]).stdout
    (finding,) = [one for one in examine() if one.what == "salt"]
    assert finding.good
    CliRunner().invoke(app, ["site", "set", "shop", "--identity", "cookie"])
    assert not [one for one in examine() if one.what == "salt"]


@pytest.mark.parametrize("command", ["up", "collect"])
def test_a_box_with_a_cookieless_site_does_not_start_without_a_salt(tmp_path, command):
    config = tmp_path / "hitstream.toml"
    config.write_text('[sites.shop]\nidentity = "cookieless"\n')
    program = str(Path(sys.executable).with_name("hitstream"))
    environment = {**os.environ, "HITSTREAM_CONFIG": str(config), "HITSTREAM_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run([program, command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "salt is missing, and a cookieless site needs it: `hitstream salt init` makes one" in done.stderr
