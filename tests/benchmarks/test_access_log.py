"""The log reader: odd lines decoded, bad ones counted, and the real log whole when it is there."""

import gzip
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from benchmarks.access_log import LINE_BYTES_MAX, AccessLog, parse, visitor_of

REAL_LOG = Path(__file__).parents[3] / "shared/data/semicomplete_access.log.gz"  # beside the repository, not in it
LINE = b'192.0.2.7 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=1 HTTP/1.0" 200 2326 "%b" "%b"\n'
BEST = LINE % (b"http://www.example.com/start.html", b"Mozilla/4.08 [en] (Win98; I ;Nav)")


def read(tmp_path, *lines, **options):
    path = tmp_path / "access.log"
    path.write_bytes(b"".join(lines))
    log = AccessLog(path, **options)
    return list(log), log


def parameters(request):
    return {name: values[0] for name, values in parse_qs(request.target.split(b"?", 1)[1].decode("ascii")).items()}


def test_a_line_becomes_the_hit_of_a_pixel_on_its_page(tmp_path):
    (request,), log = read(tmp_path, BEST, host="shop.example.com", site="shop")
    assert parameters(request) == {
        "s": "shop",
        "u": "https://shop.example.com/a?b=1",
        "r": "http://www.example.com/start.html",
        "id": "line-1",
        "t": "971211336000",  # 2000-10-10 20:55:36 UTC
    }
    headers = dict(request.headers)
    assert headers[b"User-Agent"] == b"Mozilla/4.08 [en] (Win98; I ;Nav)"
    assert headers[b"Cookie"] == b"_hs=%016x.971211335" % request.visitor
    assert (request.client_ip, request.events, request.expect) == ("192.0.2.7", 1, 200)
    assert (log.lines, log.malformed) == (1, 0)


def test_a_dash_is_nothing(tmp_path):
    (request,), _ = read(tmp_path, LINE % (b"-", b"-"))
    assert "r" not in parameters(request)
    assert b"User-Agent" not in dict(request.headers)


def test_one_pair_of_address_and_agent_is_one_visitor_born_before_its_first_line(tmp_path):
    later = BEST.replace(b"13:55:36", b"14:00:00")
    other = LINE % (b"-", b"curl/8")
    requests, _ = read(tmp_path, BEST, other, later)
    assert requests[0].visitor == requests[2].visitor != requests[1].visitor
    assert dict(requests[0].headers)[b"Cookie"] == dict(requests[2].headers)[b"Cookie"]
    assert visitor_of("192.0.2.7", b"curl/8") == requests[1].visitor


def test_escapes_are_undone_and_bytes_read_as_utf8_else_latin1():
    line = parse(LINE % (rb"http://x/\xc3\xa4?q=\"a\\b\"", rb"say \"hi\"\t\x01 \xfc"), 1)
    assert line.referrer == 'http://x/ä?q="a\\b"'
    assert line.user_agent == b'say "hi"\t  \xfc'
    assert parse(LINE % (rb"http://\xe4.example/", b"x"), 1).referrer == "http://ä.example/"


def test_spaces_and_control_characters_of_a_url_are_percent_encoded_as_a_browser_does():
    line = parse((LINE % (b"-", b"-")).replace(b"/a?b=1", rb"/a b?c=\x00\x0a%20"), 1)
    assert line.target == "/a%20b?c=%00%0A%20"


def test_an_absolute_target_keeps_its_path_and_a_line_cut_in_its_last_field_counts():
    assert parse(LINE.replace(b"/a?b=1", b"HTTP://x.example/y?z") % (b"-", b"-"), 1).target == "/y?z"
    assert parse(LINE.replace(b"/a?b=1", b"http://x.example") % (b"-", b"-"), 1).target == "/"
    assert parse((LINE % (b"-", b"Googlebot/2.1 (+http"))[:-2], 1).user_agent == b"Googlebot/2.1 (+http"


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"not a log line\n",
        LINE.replace(b"GET /a?b=1 HTTP/1.0", b"-") % (b"-", b"-"),
        LINE.replace(b"GET /a?b=1 HTTP/1.0", rb"\x16\x03\x01") % (b"-", b"-"),
        LINE.replace(b"GET /a?b=1", b"OPTIONS *") % (b"-", b"-"),
        LINE.replace(b"10/Oct", b"32/Oct") % (b"-", b"-"),
        LINE % (b"-", b"x" * LINE_BYTES_MAX),
    ],
)
def test_what_is_no_request_for_a_page_is_counted_and_passed_over(tmp_path, line):
    requests, log = read(tmp_path, BEST, line, BEST)
    assert [parameters(request)["id"] for request in requests] == ["line-1", "line-3"]
    assert (log.lines, log.malformed) == (3, 1)
    assert [request.number for request in requests] == [0, 2]


def test_gzip_and_plain_read_alike_and_each_reading_starts_anew(tmp_path):
    plain, _ = read(tmp_path, BEST, BEST)
    path = tmp_path / "access.log.gz"
    path.write_bytes(gzip.compress(BEST + BEST))
    log = AccessLog(path)
    assert list(log) == list(log) == plain
    assert log.lines == 2


def test_10000_lines_give_10000_requests_in_file_order(tmp_path):
    """The real log where it stands beside the repository; else one of its shape."""
    path = REAL_LOG
    if not path.exists():
        path = tmp_path / "made.log"
        path.write_bytes(b"".join(BEST.replace(b"192.0.2.7", b"192.0.%d.7" % (n % 200)) for n in range(10_000)))
    log = AccessLog(path)
    requests = list(log)
    assert (len(requests), log.lines, log.malformed) == (10_000, 10_000, 0)
    assert [request.number for request in requests] == list(range(10_000))
    assert all(len(request.target) < 8192 and request.visitor for request in requests)
    assert len({request.client_ip for request in requests}) == (1_753 if path == REAL_LOG else 200)
    if path == REAL_LOG:
        assert parameters(requests[5850])["r"] == "http://äåãòÿðíîå-ìûëî.ðô/"
        assert dict(requests[8898].headers)[b"User-Agent"].startswith(b"Mozilla/5.0 (compatible; Googlebot/2.1")
