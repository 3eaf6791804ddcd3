"""`hitstream site link` signs what a collector follows, and says what is wrong with what it cannot sign."""

import pytest
from support.edge import closing, edge, run
from typer.testing import CliRunner

from infra.command.errors import UserError
from infra.command.main import app
from schemas.settings import load

TARGET = "https://shop.example/straße?a=b&c=d e#top"


def link(*arguments):
    return CliRunner().invoke(app, ["site", "link", *arguments])


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "hitstream.toml"
    monkeypatch.setenv("HITSTREAM_CONFIG", str(path))
    path.write_text(f'[sites.shop]\nlink_key = "{"k" * 43}"\n[sites.blog]\n')
    return path


def test_the_collector_follows_it(tmp_path, file):
    address = link("shop", TARGET, "--at", "https://hits.example/").stdout.rstrip("\n")
    assert address.startswith("https://hits.example/c?s=shop&u=https%3A%2F%2Fshop.example%2F")
    assert link("shop", TARGET).stdout == address.removeprefix("https://hits.example") + "\n"
    path = address.removeprefix("https://hits.example").encode()

    async def main():
        async with edge(tmp_path / "box", sites=load().sites) as box:
            (answer,) = await box.exchange(closing(b"HEAD " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n"), heads=(0,))
            assert answer.status == 302
            assert answer.headers[b"location"] == b"https://shop.example/stra%C3%9Fe?a=b&c=d%20e#top"

    run(main)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nobody", TARGET), "nobody"),
        (("blog", TARGET), "no link key: put this line under [sites.blog] in "),
        (("shop", TARGET, "--at", "hits.example"), "write it like https://hits.example"),
        (("shop", "javascript:alert(1)"), "no target"),
        (("shop", "https://user@shop.example/"), "no target"),
    ],
)
def test_what_it_cannot_sign(file, arguments, says):
    done = link(*arguments)
    assert isinstance(done.exception, UserError)
    assert says in str(done.exception)


def test_the_line_that_it_asks_for_gives_the_site_a_key(file):
    line = str(link("blog", TARGET).exception).partition("\n")[2]
    assert str(file) in str(link("blog", TARGET).exception)
    file.write_text(file.read_text() + line.strip() + "\n")
    assert link("blog", TARGET).stdout.startswith("/c?s=blog&u=")


def test_without_sites_the_default_sites_key_signs_for_any(file):
    file.write_text(f'[default_site]\nlink_key = "{"k" * 43}"\n')
    assert link("any", TARGET).stdout.startswith("/c?s=any&u=")
