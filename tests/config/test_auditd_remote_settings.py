"""[[source]] of type auditd-remote, and protocol = "auditd" for a server."""

import pytest
from pydantic import ValidationError

from relay.config.toml_text import settings_document
from relay.values.address import Address
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.configuration.settings import RemoteLoggingServer, Settings
from relay.values.configuration.source_settings import AuditdRemoteSource


def source(**keys: object) -> AuditdRemoteSource:
    (made,) = Settings.model_validate({"source": [{"name": "a", "type": "auditd-remote", **keys}]}).source
    assert isinstance(made, AuditdRemoteSource)
    return made


def test_the_default_is_loopback_and_not_the_port_of_the_forwarding() -> None:
    assert source().listen == (ListenerUrl("tcp", Address("127.0.0.1", 7778)),)
    assert source().origin == "tcp://127.0.0.1:7778"


def test_it_can_listen_on_several_loopback_addresses() -> None:
    listen = ["tcp://127.0.0.2:60", "[::1]:60", "localhost:60"]
    assert source(listen=listen).origin == "tcp://127.0.0.2:60, tcp://[::1]:60, tcp://localhost:60"


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:60", "192.0.2.1:60", "[::]:60", "example.org:60"])
def test_it_cannot_listen_on_any_other_address(address: str) -> None:
    """The protocol has no authentication: any client that can connect could write to the audit trail."""
    with pytest.raises(ValidationError, match="is not on loopback, and this protocol cannot prove who the sender is"):
        source(listen=[address])


def test_an_empty_list_of_listeners_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="must name at least one"):
        source(listen=[])


def test_config_show_prints_it_as_a_file_has_it() -> None:
    shown = settings_document(Settings(source=({"name": "a", "type": "auditd-remote"},)))["source"]
    assert shown == [{"name": "a", "type": "auditd-remote", "listen": ["tcp://127.0.0.1:7778"]}]


def test_the_auditd_protocol_is_legal_over_tcp_only() -> None:
    assert RemoteLoggingServer(protocol="auditd").transport == "tcp"
    with pytest.raises(ValidationError, match='use "tcp"'):
        RemoteLoggingServer(protocol="auditd", transport="udp")
