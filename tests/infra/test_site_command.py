"""`hitstream site`: tables and keys in the settings file, the user's comments kept, nothing wrong in its place."""

import json
import multiprocessing
import re
import stat
import tomllib
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from infra.command.errors import UserError
from infra.command.main import app
from infra.command.settings_file import edit
from infra.command.sites import add
from schemas.server_key import key_id, matches
from schemas.settings import load
from schemas.settings_error import SettingsError
from schemas.site import Site

FILE = """# our box
port = 8081  # not 8080

# the shop
[sites.shop]  # sells
# where it is
domains = ["shop.example"]

# all others
[default_site]
consent = "opt-in"
"""
NOW = datetime.now(UTC)


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "hitstream.toml"
    monkeypatch.setenv("HITSTREAM_CONFIG", str(path))
    return path


def site(*arguments, code=0):
    """Run `hitstream site` in this process; return what it printed, or the error's words."""
    done = CliRunner().invoke(app, ["site", *arguments])
    if code:
        assert isinstance(done.exception, UserError | SettingsError), done.output
        return str(done.exception)
    assert done.exception is None, done.exception
    return done.stdout


def test_a_site_is_added_to_no_file_shown_changed_and_removed(file):
    site("add", "shop", "--domain", "www.Shop.example", "--domain", "shop.test", "--consent", "opt-in")
    shop = load().sites["shop"]
    assert (shop.domains, shop.consent) == (("shop.example", "shop.test"), "opt-in")
    assert len(shop.link_key) == 43
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "it holds a secret"
    site("set", "shop", "--timezone", "Europe/Berlin", "--domain", "shop.example", "--retention-days", "30")
    shop = load().sites["shop"]
    assert (shop.domains, shop.timezone, shop.consent) == (("shop.example",), "Europe/Berlin", "opt-in")
    site("set", "shop", "--unset", "timezone", "--unset", "origins")
    shown = json.loads(site("show", "shop", "--format", "json"))
    assert (shown["timezone"], shown["retention_days"], shown["link_key"]) == ("UTC", 30, "(set)")
    assert shop.link_key in site("show", "shop", "--secrets", "--format", "json")
    assert shop.link_key not in site("show", "shop") + site("list") + site("list", "--format", "json")
    assert "every well-formed site id" in site("remove", "shop")
    assert load().sites == {}


def test_two_sites_have_two_link_keys(file):
    for name in ("a", "b.example"):
        site("add", name)
    assert load().sites["a"].link_key != load().sites["b.example"].link_key


def test_comments_order_rights_and_everything_else_stay(file):
    file.write_text(FILE)
    file.chmod(0o644)
    site("set", "shop", "--timezone", "UTC")
    site("add", "blog", "--identity", "cookieless")
    key = f'link_key = "{load().sites["blog"].link_key}"'
    expected = FILE.replace(
        'shop.example"]\n', f'shop.example"]\ntimezone = "UTC"\n\n[sites.blog]\nidentity = "cookieless"\n{key}\n'
    )
    assert file.read_text() == expected
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    site("remove", "blog")
    site("set", "shop", "--unset", "timezone")
    assert file.read_text() == FILE
    site("remove", "shop")
    assert file.read_text() == FILE.replace('[sites.shop]  # sells\n# where it is\ndomains = ["shop.example"]\n\n', "")
    assert list(file.parent.iterdir()) == [file], "nothing is left beside it"


def test_a_link_to_the_file_stays_a_link(file, tmp_path):
    target = tmp_path / "elsewhere" / "settings.toml"
    target.parent.mkdir()
    target.write_text(FILE)
    file.symlink_to(target)
    site("add", "blog")
    assert file.is_symlink()
    assert "blog" in tomllib.loads(target.read_text())["sites"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "a b"], "sites.a b: no site id: write 1 to 64 letters, digits"),
        (["add", "shop"], "is there already"),
        (["add", "x", "--consent", "perhaps"], "consent: Input should be 'opt-in', 'opt-out' or 'none'"),
        (["add", "x", "--domain", "https://x.example/"], "is no host name: write it without scheme"),
        (["add", "x", "--domain", "*.x.example"], "subdomains are included, write 'x.example'"),
        (["add", "x", "--origin", "x.example"], "is no origin: write scheme://host"),
        (["add", "x", "--redirect-host", "x.example/path"], "is no host name"),
        (["add", "x", "--timezone", "Mars/Olympus"], "is no IANA time zone"),
        (["add", "x", "--retention-days", "0"], "greater than or equal to 1"),
        (["add", "x", "--retention-days", "1"], "shorter than a session may last: at least 2"),
        (["add", "x", "--session-gap-s", "0"], "session_gap_s"),
        (["set", "shop"], "nothing to change"),
        (["set", "shop", "--unset", "nonsense"], "use one of domains, origins"),
        (["set", "none", "--consent", "none"], "is not defined; defined: shop"),
        (["remove", "none"], "is not defined; defined: shop"),
        (["show", "none"], "`hitstream site add none` defines it"),
        (["key", "add", "none"], "is not defined"),
        (["key", "remove", "shop", "k"], "has no key 'k'; its keys: none"),
        (["key", "rotate", "shop", "--overlap", "soon"], "is no duration"),
        (["list", "--format", "xml"], "use table, json"),
    ],
)
def test_nonsense_is_refused_with_its_reason_and_the_file_stays(file, arguments, words):
    file.write_text(FILE)
    assert words in site(*arguments, code=2)
    assert file.read_text() == FILE
    assert list(file.parent.iterdir()) == [file]


def test_a_broken_file_is_not_touched(file):
    file.write_text("[sites.shop\n")
    assert "line 1" in site("add", "x", code=2)
    assert file.read_text() == "[sites.shop\n"


@pytest.mark.parametrize("text", ['sites.shop.consent = "none"\n', "[sites]\n", FILE + "[sites.b]\n"])
def test_sites_apart_from_each_other_or_in_other_forms_are_edited(file, text):
    file.write_text(text)
    before = tomllib.loads(text)["sites"]
    add("new", {"consent": "none"})
    after = tomllib.loads(file.read_text())["sites"]
    assert after.pop("new")["consent"] == "none"
    assert after == before


def test_what_cannot_be_edited_is_said(file):
    file.write_text('sites = {shop = {consent = "none"}}\n')
    assert "write each site as a [sites.ID] table" in site("add", "new", code=2)


def test_a_variable_that_would_win_is_named(file, monkeypatch):
    monkeypatch.setenv("HITSTREAM_SITES", "{}")
    assert "HITSTREAM_SITES" in site("add", "shop", code=2)


def test_what_cannot_be_written_is_said(file, monkeypatch):
    monkeypatch.setenv("HITSTREAM_CONFIG", str(file.parent / "none" / "hitstream.toml"))
    assert "No such file or directory" in site("add", "shop", code=2)


def test_a_key_is_shown_once_kept_as_its_hash_and_rotated_with_overlap(file):
    file.write_text(FILE)
    first = site("key", "add", "shop").strip()
    (kept,) = load().sites["shop"].keys
    assert matches(first, kept, NOW)
    assert first not in file.read_text()
    second = site("key", "rotate", "shop", "--overlap", "12h").strip()
    old, new = load().sites["shop"].keys
    assert matches(second, new, NOW + timedelta(days=9))
    assert matches(first, old, NOW + timedelta(hours=11))
    assert not matches(first, old, NOW + timedelta(hours=13))
    third = site("key", "rotate", "shop", "--overlap", "0s").strip()
    assert [key.expires is None for key in load().sites["shop"].keys] == [False, False, True]
    assert "expired" in site("key", "list", "shop")
    site("key", "rotate", "shop")
    assert key_id(third) in [key.id for key in load().sites["shop"].keys]
    assert len(load().sites["shop"].keys) == 2, "those that had expired are gone"
    site("key", "remove", "shop", key_id(third))
    (last,) = json.loads(site("key", "list", "shop", "--format", "json"))
    assert last["expires"] is None
    assert tomllib.loads(file.read_text())["default_site"] == {"consent": "opt-in"}


def test_keys_written_as_tables_are_edited_as_such(file):
    file.write_text(FILE + '[sites.b]\n[[sites.b.keys]]\n# from Ann\nid = "ann"\nsha256 = "' + "0" * 64 + '"\n')
    site("key", "rotate", "b")
    ann, new = load().sites["b"].keys
    assert (ann.id, new.expires) == ("ann", None)
    assert ann.expires is not None
    assert "# from Ann" in file.read_text()


def test_two_keys_of_one_id_are_refused():
    key = {"id": "a", "sha256": "0" * 64}
    with pytest.raises(SettingsError, match=r"sites\.b\.keys\.0\.id: site 'a' has a key 'a', too"):
        load(sites={"a": {"keys": [key]}, "b": {"keys": [key]}})


def _add(number):
    add(f"site{number}", {})


def test_edits_at_once_take_turns(file):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(_add, range(12))
    assert sorted(load().sites) == sorted(f"site{number}" for number in range(12))


def test_a_death_before_the_rename_leaves_the_old_file(file):
    file.write_text(FILE)

    def die(_):
        raise SystemExit

    with pytest.raises(SystemExit):
        edit(die)
    assert file.read_text() == FILE


def test_the_snippet_is_html_for_this_site_and_these_paths(file, monkeypatch):
    monkeypatch.setenv("HITSTREAM_SCRIPT_PATH", "/hs.js")
    html = site("snippet", "shop", "--base-url", "https://hits.example/", "--format", "html")
    assert html.startswith(
        '<script async src="https://hits.example/hs.js" data-site="shop"></script>\n<noscript><img src='
    )
    assert html.count("<script") == html.count("<img") == html.count("\n") - 1 == 1, "no example goes into every page"
    text = site("snippet", "shop")
    assert 'src="http://localhost:8080/p.gif?s=shop&amp;e=EmailOpen&amp;id=MESSAGE' in text
    assert "docs/tls.md" in text
    assert "http://localhost:8080/hs.js" in text
    assert "load nothing over http" in text
    file.write_text(FILE)
    assert "is not defined; defined: shop" in site("snippet", "blog", code=2)
    for base in ("hits.example", 'https://a"onload="x', "https://a/?b"):
        assert "is no http(s) URL" in site("snippet", "shop", "--base-url", base, code=2)


@pytest.mark.parametrize(
    ("consent", "says"),
    [("opt-in", "nothing is kept that names the visitor"), ("opt-out", "unless a signal says no"), ("none", "whole.")],
)
def test_the_snippet_gives_nobodys_consent(file, consent, says):
    file.write_text(f'[sites.shop]\nconsent = "{consent}"\n')
    text = site("snippet", "shop")
    assert says in text
    assert re.findall(r'"consent", (.*)\)', text) == ["CHOICE"]
    assert ("add &amp;c=1 where the reader agreed" in text) == (consent == "opt-in")


def test_secrets_are_in_no_message_and_no_listing(file):
    with pytest.raises(SettingsError) as caught:
        load(sites={"shop": {"link_key": "s3cret"}}, clickhouse_password=7)
    assert "s3cret" not in str(caught.value)
    assert "link_key" in str(caught.value)
    file.write_text('[default_site]\nlink_key = "' + "s3cret" * 6 + '"\n')
    assert "s3cret" not in CliRunner().invoke(app, ["settings"], env={"COLUMNS": "300"}).stdout


def test_every_wrong_value_is_named_with_its_line(file):
    file.write_text(FILE + 'timezone = "Mars"\n[sites.b]\nretention_days = 1\nnonsense = 1\n')
    with pytest.raises(SettingsError) as caught:
        load()
    text = str(caught.value)
    assert "line 12: default_site.timezone: 'Mars' is no IANA time zone" in text
    assert "line 15: sites.b.nonsense: Extra inputs are not permitted" in text
    assert str(file) in text


def test_a_file_that_cannot_be_read_is_said(file):
    file.write_bytes(b'port = 1\n\na = "\xff"')
    with pytest.raises(SettingsError, match=r"hitstream\.toml: line 3: it is not written in UTF-8"):
        load()


def test_options_are_the_fields_of_a_site():
    names = {"domains": "domain", "origins": "origin", "redirect_hosts": "redirect-host"}
    fields = [names.get(name, name).replace("_", "-") for name in Site.model_fields if name not in ("keys", "link_key")]
    for command in ("add", "set"):
        text = CliRunner().invoke(app, ["site", command, "--help"], env={"COLUMNS": "200"}).stdout
        assert [name for name in fields if f"--{name} " not in text] == []
