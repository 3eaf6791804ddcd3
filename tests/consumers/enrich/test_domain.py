"""Registrable domains, from the public suffix list, without network."""

from __future__ import annotations

import socket

import pytest

from consumers.enrich.domain import registrable_domain


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("shop.example.com", "example.com"),
        ("example.com", "example.com"),
        ("a.b.c.example.co.uk", "example.co.uk"),
        ("a.b.github.io", "b.github.io"),
        ("one.myshopify.com", "one.myshopify.com"),
        ("www.xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("a.unknown-suffix", "a.unknown-suffix"),
        ("www.shop.example", "shop.example"),
        ("a.b.corp", "b.corp"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("co.uk", "co.uk"),
        ("", ""),
        ("a." * 200 + "example.com", "a." * 200 + "example.com"),
    ],
)
def test_registrable_domain(host, domain):
    assert registrable_domain(host) == domain


def test_the_suffix_list_needs_no_network(monkeypatch):
    def refuse(*_arguments, **_named):
        raise AssertionError("the public suffix list went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert registrable_domain("never.seen.before.example.org") == "example.org"
