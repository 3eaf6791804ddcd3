"""The line that said it, whatever form of TOML it was said in."""

import tomllib

import pytest

from schemas.toml_lines import line_of

TEXT = '''# settings
port = 8080
clickhouse_url = """
http://127.0.0.1
"""

[default_site]
consent = "opt-in"

# the shop
[sites.shop]
# its zone
timezone = "Europe/Berlin" # where it is
domains = [
    "shop.example",
    "shop.test",
]
  [[sites.shop.keys]]
  id = "a"
  [[sites.shop.keys]]
  id = "b"

[sites."blog.de"]
session_gap_s = 60
sites.x = 1
'''


@pytest.mark.parametrize(
    ("loc", "line"),
    [
        (("port",), 2),
        (("clickhouse_url",), 3),
        (("default_site", "consent"), 8),
        (("sites", "shop"), 11),
        (("sites", "shop", "timezone"), 13),
        (("sites", "shop", "domains"), 14),
        (("sites", "shop", "domains", 1), 14),
        (("sites", "shop", "keys", 0, "id"), 19),
        (("sites", "shop", "keys", 1), 20),
        (("sites", "shop", "keys", 1, "sha256"), 20),
        (("sites", "blog.de", "session_gap_s"), 24),
        (("sites", "blog.de", "timezone"), 23),
        (("sites", "none"), 11),
        (("nothing",), 0),
    ],
)
def test_the_statement_is_found(loc, line):
    assert line_of(TEXT, loc) == line


def test_a_text_that_does_not_parse_has_no_such_line():
    assert line_of("a = 1\nb = ", ("a",)) == 0


def test_a_large_file_takes_no_long_time():
    sites = [f'[sites.s{n}]\ndomains = [\n  "{n}.example",\n]\nsession_gap_s = {n + 1}\n' for n in range(1000)]
    text = "\n".join(sites)
    tomllib.loads(text)
    assert line_of(text, ("sites", "s777", "session_gap_s")) == 777 * 6 + 5
