"""Keys for server events: made, found by their id, known by their hash, refused once they have expired."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from schemas.server_key import key_hash, key_id, make_key, matches
from schemas.site import ServerKey

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = make_key("k3x", bytes(range(32)))
KEPT = ServerKey(id="k3x", sha256=key_hash(KEY))


def test_a_key_says_its_id_and_nothing_that_is_kept_says_the_key():
    assert KEY == "hs_k3x_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert key_id(KEY) == "k3x"
    assert KEY not in repr(KEPT)


def test_letters_of_base64url_that_look_like_separators_do_not_move_the_id():
    text = make_key("a", b"\xff" * 32)
    assert "_" in text.removeprefix("hs_a_")
    assert key_id(text) == "a"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hs_",
        KEY[:-1],
        KEY + "A",
        KEY + "\n",
        KEY.upper(),
        KEY.replace("k3x", "K"),
        f" {KEY}",
        "hs__" + KEY[7:],
        "ü",
    ],
)
def test_what_has_not_the_form_of_a_key_has_no_id_and_matches_nothing(text):
    assert key_id(text) == ""
    assert not matches(text, KEPT, NOW)


def test_only_the_key_itself_matches():
    assert matches(KEY, KEPT, NOW)
    assert not matches(make_key("k3x", bytes(32)), KEPT, NOW)
    assert not matches(KEY, KEPT.model_copy(update={"sha256": "0" * 64}), NOW)
    assert not matches(KEY, None, NOW)


def test_a_key_is_refused_from_the_moment_it_expires():
    key = KEPT.model_copy(update={"expires": NOW})
    assert matches(KEY, key, NOW - timedelta(microseconds=1))
    assert not matches(KEY, key, NOW)


def test_an_expiry_without_a_time_zone_is_refused():
    with pytest.raises(ValidationError, match="timezone"):
        ServerKey(id="a", sha256="0" * 64, expires=datetime(2026, 1, 1))  # noqa: DTZ001  the point


@pytest.mark.parametrize(("ident", "secret"), [("A", bytes(32)), ("", bytes(32)), ("a" * 17, bytes(32)), ("a", b"x")])
def test_a_key_is_made_of_an_id_and_256_bits(ident, secret):
    with pytest.raises(ValueError, match="key"):
        make_key(ident, secret)
