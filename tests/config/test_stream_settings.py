"""The keys of [receiver] that concern streams: max-message-size, proxy-protocol and proxies; and their reload."""

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from relay.config.toml_text import settings_document, toml_text
from relay.program.reload.reload_plan import compare, parts_of_receive
from relay.values.configuration.receiver_settings import ReceiverSettings
from relay.values.configuration.settings import Settings


def receiver(**keys: Any) -> ReceiverSettings:
    return Settings.model_validate({"receiver": {key.replace("_", "-"): value for key, value in keys.items()}}).receiver


def test_a_proxy_is_an_address_or_a_network() -> None:
    settings = receiver(proxy_protocol=True, proxies=["192.0.2.7", "2001:db8::/64"])
    assert settings.proxies == (ip_network("192.0.2.7/32"), ip_network("2001:db8::/64"))
    assert 'proxies = ["192.0.2.7/32", "2001:db8::/64"]' in toml_text(settings_document(Settings(receiver=settings)))


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"proxy_protocol": True}, "needs `proxies`"),
        ({"proxies": ["192.0.2.7"]}, "has an effect with `proxy-protocol = true` only"),
        ({"proxy_protocol": True, "proxies": ["192.0.2.7/24"]}, '"192.0.2.7/24" must be an address or a network'),
        ({"proxy_protocol": True, "proxies": ["host"]}, '"host" must be an address or a network'),
        ({"proxy_protocol": True, "proxies": [5]}, "5 must be an address or a network"),
        ({"max_message_size": "479B"}, "must be from 480B to 1MiB"),
        ({"max_message_size": "1025KiB"}, "must be from 480B to 1MiB"),
    ],
)
def test_a_mistake_is_named(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        receiver(**keys)
    assert sentence in str(caught.value)


def test_a_reload_names_what_changed() -> None:
    former, new = Settings(), Settings(receiver=receiver(max_message_size="8KiB", proxy_protocol=True, proxies=["::1"]))
    changes = compare(parts_of_receive(former, {}), parts_of_receive(new, {}))
    assert changes.policies.exchanged == ("receiver.max-message-size", "receiver.proxies")
    assert not changes.listeners.exchanged
