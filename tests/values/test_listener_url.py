"""The URLs of listeners."""

import re

import pytest

from relay.values.address import Address
from relay.values.configuration.listener_url import ListenerUrl


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("127.0.0.1:9999", ListenerUrl("tcp", Address("127.0.0.1", 9999)), "tcp://127.0.0.1:9999"),
        ("tcp://[::1]:601", ListenerUrl("tcp", Address("::1", 601)), "tcp://[::1]:601"),
        ("udp://0.0.0.0:514", ListenerUrl("udp", Address("0.0.0.0", 514)), "udp://0.0.0.0:514"),
        ("udp://[::]:514", ListenerUrl("udp", Address("::", 514)), "udp://[::]:514"),
        ("unix:///run/relay/s", ListenerUrl("unix", path="/run/relay/s"), "unix:///run/relay/s"),
        ("unix-datagram:///dev/log", ListenerUrl("unix-datagram", path="/dev/log"), "unix-datagram:///dev/log"),
    ],
)
def test_a_url_is_read_and_written(text: str, url: ListenerUrl, shown: str) -> None:
    assert ListenerUrl.parse(text) == url
    assert str(url) == shown
    assert ListenerUrl.parse(shown) == url
    assert url.is_for_datagrams == text.startswith(("udp", "unix-datagram"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("udp://514", "is not an address"),
        ("udp://:514", "is not a host name"),
        ("http://a:80", "relay listens on tcp://, udp://, unix:/// and unix-datagram:///"),
        ("relp://a:20514", "use tcp://, which accepts RELP too"),
        ("tls://a:6514", "[receiver.tls]"),
        ("unix://run/x", "absolute path"),
        ("unix:///run/", "absolute path"),
        ("unix:///" + "x" * 107, "108 bytes"),
        ("unix-datagram:///a\0b", "absolute path"),
    ],
)
def test_another_text_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        ListenerUrl.parse(text)
