"""Places out of databases' records of every shape, and the look-up in force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.place_database import BERLIN, FRANCE

from consumers.enrich.network import (
    NAME_CHARS_MAX,
    NETWORKS_CACHED_MAX,
    NO_NETWORK,
    NO_PLACE,
    Network,
    Networks,
    Place,
    network_cached,
    place_of,
)


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (BERLIN, ("DE", "Land Berlin", "Berlin")),
        (FRANCE, ("FR", "", "")),
        ({"country": "US", "region": "Texas", "city": "Austin"}, ("US", "Texas", "Austin")),
        ({"country": "United States", "country_code": "US"}, ("US", "", "")),
        ({"country_code": "NL", "state1": "Utrecht", "city": "Zeist"}, ("NL", "Utrecht", "Zeist")),
        ({"country": {"iso_code": "DE"}, "subdivisions": [{"iso_code": "BY"}]}, ("DE", "BY", "")),
        ({"country": {"iso_code": "DE"}, "subdivisions": []}, ("DE", "", "")),
        ({"autonomous_system_number": 64500}, ("", "", "")),
        ({"country": {"iso_code": 7}, "city": {"names": ["Berlin"]}, "subdivisions": "x"}, ("", "", "")),
        ({"country": {"iso_code": "de"}, "city": "x" * 200}, ("", "", "x" * NAME_CHARS_MAX)),
        ("Berlin", ("", "", "")),
        (None, ("", "", "")),
    ],
)
def test_places_of_records(record, place):
    assert place_of(record) == Place(*place)


KEYS = st.sampled_from(["country", "country_code", "region", "city", "names", "en", "iso_code", "subdivisions", "x"])
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.sampled_from(["DE", b"DE", 1.5, True]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_any_record_has_a_place_or_none(record):
    assert all(isinstance(name, str) for name in place_of(record))


def test_a_replaced_lookup_is_asked_at_once_and_answers_are_cached():
    asked = []

    def berlin(address):
        asked.append(address)
        return Network(Place("DE", "", "Berlin"), is_datacentre=False)

    networks = Networks()
    assert networks.of("192.0.2.0") == NO_NETWORK
    networks.replace(berlin)
    assert [networks.of("192.0.2.0").place.city for _ in range(3)] == ["Berlin"] * 3
    assert networks.of("") == NO_NETWORK
    assert asked == ["192.0.2.0"]
    assert network_cached.cache_info().maxsize == NETWORKS_CACHED_MAX
    networks.replace(lambda _address: NO_NETWORK)
    assert networks.of("192.0.2.0").place == NO_PLACE
