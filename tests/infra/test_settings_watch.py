"""A settings file that changes under a running process: what is taken up, what is not, and what is said about it."""

import logging

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from infra.command.settings_watch import SettingsWatch, SettingsWatchMetrics, changes
from schemas.errors import FatalError, RetryError
from schemas.settings import load

SHOP = '[sites.shop]\ndomains = ["shop.example"]\n'
BLOG = '[sites.blog]\nconsent = "opt-in"\n'


class Process:
    """A process with a watch; `taken` are the settings it was given, `fail` what it raises first."""

    def __init__(self, file):
        self.file = file
        self.taken = []
        self.fail = []
        self.watch = SettingsWatch(load())
        self.look(2)

    def look(self, times=1):
        for _ in range(times):
            self.watch.look(self._take_up)

    def write(self, text):
        fresh = self.file.with_name("fresh")
        fresh.write_text(text)
        fresh.replace(self.file)

    def sites(self):
        return [sorted(settings.sites) for settings in self.taken]

    def _take_up(self, settings):
        if self.fail:
            raise self.fail.pop()
        self.taken.append(settings)


@pytest.fixture
def process(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "hitstream")
    file = tmp_path / "hitstream.toml"
    file.write_text(SHOP)
    monkeypatch.setenv("HITSTREAM_CONFIG", str(file))
    return Process(file)


def metrics(watch):
    registry = CollectorRegistry()
    registry.register(SettingsWatchMetrics(watch))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if line[0] != "#")}


def test_a_file_that_stays_is_read_once_and_changes_nothing(process, monkeypatch):
    monkeypatch.setattr("infra.command.settings_watch.load", lambda: pytest.fail("read again"))
    process.look(3)
    assert process.taken == []


def test_a_change_is_taken_up_once_it_has_been_there_for_a_look(process, caplog):
    process.write(SHOP + BLOG)
    process.look()
    assert process.taken == []
    process.look(3)
    assert process.sites() == [["blog", "shop"]]
    assert process.watch.settings.sites["blog"].consent == "opt-in"
    assert "taken up: site blog added" in caplog.text
    assert metrics(process.watch)["hitstream_settings_taken_up_total"] == 1


def test_a_file_that_is_being_written_is_not_taken_for_whole(process):
    process.file.write_text("")
    process.look()
    process.file.write_text(SHOP)
    process.look()
    process.file.write_text(SHOP + BLOG)
    process.look(2)
    assert process.sites() == [["blog", "shop"]]


def test_a_file_that_changes_while_it_is_read_is_read_again(process, monkeypatch):
    def slow_load():
        settings = load()
        process.write(SHOP + BLOG)
        monkeypatch.undo()
        monkeypatch.setenv("HITSTREAM_CONFIG", str(process.file))
        return settings

    process.write(BLOG)
    process.look()
    monkeypatch.setattr("infra.command.settings_watch.load", slow_load)
    process.look()
    assert process.taken == []
    process.look(2)
    assert process.sites() == [["blog", "shop"]]


def test_what_was_changed_between_the_processs_start_and_the_first_look_is_taken_up(process):
    late = Process.__new__(Process)
    late.file, late.taken, late.fail = process.file, [], []
    late.watch = SettingsWatch(load())
    late.write(BLOG)
    late.look(2)
    assert late.sites() == [["blog"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHOP + '[sites.blog]\ntimezone = "Mars"\n', "line 4: sites.blog.timezone: 'Mars' is no IANA time zone"),
        (SHOP + "[sites.blog\n", "(at line 3, column 12)"),
        (SHOP + "[sites.blog]\nlink_key = 'too-short'\n", "line 4: sites.blog.link_key"),
    ],
)
def test_a_broken_file_keeps_what_was_read_before_and_the_line_is_named(process, caplog, text, said):
    process.write(text)
    process.look(4)
    assert process.taken == []
    assert said in process.watch.problem
    assert caplog.text.count(said) == 1
    assert "too-short" not in caplog.text
    assert metrics(process.watch)["hitstream_settings_unusable"] == 1
    process.write(BLOG)
    process.look(2)
    assert (process.sites(), process.watch.problem) == ([["blog"]], "")
    assert "can be used again" in caplog.text
    assert metrics(process.watch)["hitstream_settings_unusable"] == 0


def test_a_file_that_is_gone_takes_no_site_with_it(process):
    process.file.unlink()
    process.look(3)
    assert (process.taken, process.watch.problem) == ([], f"{process.file} is gone")


def test_without_a_file_from_the_start_nothing_is_amiss_until_there_is_one(tmp_path, monkeypatch):
    file = tmp_path / "hitstream.toml"
    monkeypatch.setenv("HITSTREAM_CONFIG", str(file))
    process = Process(file)
    assert (process.taken, process.watch.problem) == ([], "")
    process.write(SHOP)
    process.look(2)
    assert process.sites() == [["shop"]]


def test_other_settings_wait_for_the_next_start_and_are_named(process, caplog):
    process.write("partitions = 3\nport = 1\n" + SHOP + BLOG)
    process.look(4)
    assert process.watch.settings.partitions == 12
    assert process.sites() == [["blog", "shop"]]
    assert caplog.text.count("changed port, partitions; that holds from the next start on") == 1
    assert metrics(process.watch)["hitstream_settings_waiting"] == 2
    process.write(SHOP + BLOG)
    process.look(2)
    assert metrics(process.watch)["hitstream_settings_waiting"] == 0


def test_what_cannot_be_taken_up_yet_is_tried_again(process, caplog):
    process.fail = [RetryError("no ClickHouse"), RetryError("no ClickHouse")]
    process.write(BLOG)
    process.look(3)
    assert (process.sites(), sorted(process.watch.settings.sites)) == ([], ["shop"])
    assert process.watch.problem == "sites cannot be taken up yet, those before hold on: no ClickHouse"
    assert metrics(process.watch)["hitstream_settings_unusable"] == 1
    process.look(2)
    assert (process.sites(), sorted(process.watch.settings.sites)) == ([["blog"]], ["blog"])
    assert caplog.text.count("cannot be taken up yet") == 1
    assert (process.watch.problem, metrics(process.watch)["hitstream_settings_unusable"]) == ("", 0)


def test_a_file_that_goes_back_takes_back_what_was_half_taken_up(process):
    process.fail = [RetryError("no ClickHouse")]
    process.write(BLOG)
    process.look(2)
    process.write(SHOP)
    process.fail = [RetryError("no ClickHouse")]
    process.look(4)
    assert process.sites() == [["shop"]]
    assert process.watch.problem == ""


def test_what_can_never_be_taken_up_whole_is_said_once(process, caplog):
    process.fail = [FatalError("no right to alter")]
    process.write(BLOG)
    process.look(4)
    assert sorted(process.watch.settings.sites) == ["blog"]
    assert caplog.text.count("not taken up whole: no right to alter") == 1


def test_the_last_site_that_leaves_is_worth_a_warning(process, caplog):
    process.write("")
    process.look(2)
    assert process.sites() == [[]]
    assert "no site is defined any more" in caplog.text


def test_changes_name_fields_and_no_values(process):
    before = load(sites={"a": {"link_key": "k" * 40}, "b": {}}, default_site={})
    after = load(sites={"a": {"link_key": "l" * 40, "timezone": "Asia/Tokyo"}}, default_site={"consent": "none"})
    assert list(changes(before, after)) == ["site a: timezone, link_key", "site b removed", "default_site: consent"]
