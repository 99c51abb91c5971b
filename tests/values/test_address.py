"""Hosts and ports as people write them."""

import pytest

from relay.values.address import Address, canonical_host


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9999", "127.0.0.1", 9999),
        ("[::1]:22", "::1", 22),
        ("[fe80::1%eth0]:22", "fe80::1%eth0", 22),
        ("log_server.example.:0", "log_server.example.", 0),
    ],
)
def test_an_address_is_a_host_and_a_port_and_reads_back(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == (host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:65536", "::1:22", "[]:1", "a b:1", "[host]1", "h:1:2"]
)
def test_another_text_is_rejected_as_an_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an? "):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("loghost", "loghost"),
    ],
)
def test_an_address_has_one_spelling(text: str, expected: str) -> None:
    assert canonical_host(text) == expected
