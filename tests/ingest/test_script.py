"""The snippet over HTTP: cacheable, with this deployment's paths, small."""

import re
from hashlib import sha256

import pytest
from support.edge import HOST, edge, run

from ingest.script import SOURCE, script_of
from schemas.settings import load


def get(*lines, method=b"GET", path=b"/pixel.js"):
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def test_it_is_served_cached_and_revalidated(tmp_path):
    async def main():
        async with edge(tmp_path) as box:
            ((whole, head, post, other), open_) = await box.probed(
                get(), get(method=b"HEAD"), get(method=b"POST"), get(path=b"/pixel.jsx"), heads=(1,)
            )
            assert open_
            etag = whole.headers[b"etag"]
            known = [etag, b'W/"x", W/' + etag, b"*", b'"x" , ' + etag]
            (again, _) = await box.probed(*(get(b"If-None-Match: " + tags) for tags in known))
            ((changed,), _) = await box.probed(get(b'If-None-Match: "0123456789abcdef"'))
            assert box.hits() == []
        assert (whole.status, head.status, post.status, other.status, changed.status) == (200, 200, 405, 404, 200)
        assert whole.headers[b"content-type"] == b"text/javascript; charset=utf-8"
        assert whole.headers[b"cross-origin-resource-policy"] == b"cross-origin"
        assert whole.headers[b"cache-control"] == b"public, max-age=3600"
        assert b"set-cookie" not in whole.headers
        assert whole.body.startswith(b"((w, d, n) => {")
        assert head.headers == whole.headers
        assert [answer.status for answer in again] == [304] * len(known)
        for answer in again:
            assert (answer.body, answer.headers[b"etag"]) == (b"", etag)
            assert b"content-length" not in answer.headers
        assert post.headers[b"allow"] == b"GET, HEAD"

    run(main)


def test_the_script_has_less_than_2_kib_and_nothing_but_comments_and_indentation_is_missing():
    script = script_of(load())
    body = script.whole.partition(b"\r\n\r\n")[2].decode()
    assert len(body) < 2048
    lines = [line.strip() for line in SOURCE.read_text().splitlines()]
    code = "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"
    assert re.sub(r"/pixel\.js|/e(?=\")|/p\.gif", "PATH", body) == re.sub(r"\$[A-Z]+\$", "PATH", code)


@pytest.mark.parametrize(
    ("setting", "path"), [("script_path", "/hs.js"), ("events_path", "/in"), ("pixel_path", "/x.gif")]
)
def test_renamed_paths_stand_in_it_and_change_the_etag(setting, path):
    usual, renamed = script_of(load()), script_of(load(**{setting: path}))
    assert f'"{path}'.encode() in renamed.whole
    assert renamed.etag != usual.etag
    assert b"$" not in renamed.whole
    body = renamed.whole.partition(b"\r\n\r\n")[2]
    assert renamed.etag == b'"%b"' % sha256(body).hexdigest()[:16].encode()
