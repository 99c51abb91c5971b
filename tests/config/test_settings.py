from typing import Any

import pytest
from pydantic import ValidationError

from relay.values.address import Address
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.configuration.receiver_settings import ReceiverSettings
from relay.values.configuration.retention_settings import RetentionSettings
from relay.values.configuration.settings import PortForwarding, RemoteLoggingServer, Settings, SpoolSettings


def sentences(error: ValidationError) -> str:
    return "; ".join(str(one["ctx"].get("sentence") or one["ctx"].get("error")) for one in error.errors())


def test_without_any_key_the_settings_are_the_documented_defaults() -> None:
    settings = Settings()
    assert settings.relay.state_directory == "/var/lib/relay"
    assert (settings.spool.max_size, settings.spool.segment_size) == (2 * 1024**3, 16 * 1024**2)
    assert settings.spool.commit_interval == 0.01
    assert settings.audit.security.persist
    assert not settings.audit.traffic.enabled
    assert settings.source == ()
    assert settings.receiver.listen == (ListenerUrl("tcp", Address("127.0.0.1", 9999)),)
    assert settings.receiver.ssh is None


@pytest.mark.parametrize("name", ["max_size", "other"])
def test_settings_cannot_be_changed_once_made(name: str) -> None:
    with pytest.raises(ValidationError, match=r"frozen|no field"):
        setattr(Settings().spool, name, 1)


def test_traffic_that_is_enabled_is_still_not_kept_unless_asked() -> None:
    """Traffic has a high volume, so its persist is false by default."""
    audit = Settings.model_validate({"audit": {"traffic": {"enabled": True}}}).audit
    assert (audit.traffic.enabled, audit.traffic.persist) == (True, False)


def test_a_server_is_known_by_its_name_or_else_by_its_address() -> None:
    assert RemoteLoggingServer(name="main").display_name == "main"
    assert RemoteLoggingServer(address="10.0.0.1", port=601).display_name == "10.0.0.1:601"
    assert RemoteLoggingServer(address="::1", port=601).display_name == "[::1]:601"


@pytest.mark.parametrize(
    ("local", "address", "same"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("::1", "LocalHost", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("127.0.0.2", "localhost", False),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "log.example", False),
    ],
)
def test_a_server_at_a_forwardings_local_end_is_delivered_through_it(local: str, address: str, *, same: bool) -> None:
    forwarding = PortForwarding(server_address="172.18.4.99", local_address=local)
    elsewhere = PortForwarding(server_address="172.18.4.99", local_port=7778, local_address=local)
    server = RemoteLoggingServer(address=address)
    settings = Settings(port_forwarding=(elsewhere, forwarding), remote_logging_server=(server,))
    assert settings.forwarding_of(server) == (forwarding if same else None)


def test_a_spool_of_less_than_four_segments_is_rejected() -> None:
    assert SpoolSettings(max_size="64MiB", segment_size="16MiB").max_size == 64 * 1024**2
    with pytest.raises(ValidationError) as refused:
        SpoolSettings(max_size="63MiB", segment_size="16MiB")
    assert sentences(refused.value) == "must be at least 64MiB, 4 segments of 16MiB (segment-size), not 63MiB"


def test_retention_is_off_by_default_and_empty_texts_mean_never() -> None:
    assert RetentionSettings() == RetentionSettings.model_validate({"age": "", "size": "", "ledgers": ""})
    off = RetentionSettings.model_validate({"compress-after": ""})
    assert off.model_dump(mode="json") == {"age": "", "size": "", "ledgers": "", "compress-after": ""}
    given = {"age": "400d", "size": "100GiB", "ledgers": "3650d", "compress-after": "0s"}
    assert RetentionSettings.model_validate(given).model_dump(mode="json") == given
    assert (RetentionSettings.model_validate(given).age, off.age) == (400 * 86_400, float("inf"))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("age", "1h", "must be from 1d to 36500d, or empty, not 1h"),
        ("age", "soon", '"soon" is not a duration'),
        ("age", 400, "must be a duration in quotes"),
        ("age", [], "must be a duration in quotes"),
        ("size", "1KiB", "must be from 1MiB to 1024TiB, or empty, not 1KiB"),
        ("size", True, "must be a size"),
        ("compress-after", "40000d", "must be from 0s to 36500d, or empty, not 40000d"),
    ],
)
def test_retention_that_cannot_be_meant_is_rejected(key: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        RetentionSettings.model_validate({key: value})
    assert words in sentences(refused.value)


def test_two_tables_of_one_name_are_rejected() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(
            {
                "source": [{"name": "audit"}, {"name": "b"}, {"name": "audit"}],
                "remote-logging-server": [{}, {"name": "127.0.0.1:7777"}],
                "port-forwarding": [{"server-address": "a"}, {"server-address": "b"}],
            }
        )
    assert [error["loc"] for error in refused.value.errors()] == [
        ("source", 2, "name"),
        ("port-forwarding", 1, "local-port"),
        ("remote-logging-server", 1, "name"),
    ]
    assert '"audit" occurs a second time' in sentences(refused.value)


@pytest.mark.parametrize(
    ("model", "key", "value", "sentence"),
    [
        (RemoteLoggingServer, "port", 0, "must be from 1 to 65535, not 0"),
        (RemoteLoggingServer, "max_message_size", "479B", "must be from 480B to 1MiB, not 479B"),
        (RemoteLoggingServer, "types", [], "must name at least one"),
        (RemoteLoggingServer, "types", ["log", "audit", "log"], "names log more than once"),
        (RemoteLoggingServer, "address", "172.18.4.99:22", "is not a host name or an IP address"),
        (RemoteLoggingServer, "address", "172.18.4", "is not a host name or an IP address"),
        (RemoteLoggingServer, "address", "[::1]", "is not a host name or an IP address"),
        (RemoteLoggingServer, "name", "a b", "must be at most 64 letters"),
        (RemoteLoggingServer, "name", "x" * 65, "must be at most 64 letters"),
        (ReceiverSettings, "listen", [], "must name at least one"),
        (ReceiverSettings, "listen", ["tls://127.0.0.1:514"], "use [receiver.tls], or [source.tls] of a source"),
        (ReceiverSettings, "listen", [514], "must be a URL in quotes"),
        (ReceiverSettings, "listen", ["udp://[::]:514"] * 2, "names udp://[::]:514 more than once"),
        (ReceiverSettings, "socket_mode", 666, 'must be a mode in quotes, as chmod writes it: "0640" or "0666"'),
        (ReceiverSettings, "socket_mode", "0888", 'must be a mode in quotes, as chmod writes it: "0640" or "0666"'),
        (ReceiverSettings, "receive_buffer", "1KiB", "must be from 64KiB to 1GiB, not 1KiB"),
        (ReceiverSettings, "max_connections", 0, "must be from 1 to 60000, not 0"),
        (ReceiverSettings, "listen", ["tcp://127.0.0.1"], "is not an address; write HOST:PORT"),
        (ReceiverSettings, "archive", "var/log", 'must be an absolute path, not "var/log"'),
        (SpoolSettings, "commit_interval", "11s", "must be from 0s to 10s, not 11s"),
        (SpoolSettings, "commit_interval", 10, "must be a duration in quotes, with its unit"),
        (SpoolSettings, "max_size", 1.5, 'must be a size, as in "16MiB", or a number of bytes'),
        (SpoolSettings, "max_size", True, 'must be a size, as in "16MiB", or a number of bytes'),
        (SpoolSettings, "segment_size", 1024, "must be from 1MiB to 1GiB, not 1KiB"),
    ],
)
def test_a_value_that_breaks_its_rule_is_rejected_with_a_plain_sentence(
    model: Any, key: str, value: object, sentence: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        model(**{key: value})
    assert sentence in sentences(refused.value)


@pytest.mark.parametrize("sd_id", ["128T", "128T@2636", "ssr@2636.1.0.0", "x" * 32, "a[b"])
def test_an_sd_id_is_any_name_of_rfc_5424(sd_id: str) -> None:
    assert Settings.model_validate({"audit": {"sd-id": sd_id}}).audit.sd_id == sd_id


@pytest.mark.parametrize("sd_id", ["", "x" * 33, "a=b", "a b", "a]", 'a"', "é", "timeQuality", "origin", "meta"])
def test_an_sd_id_that_rfc_5424_forbids_or_reserves_is_rejected(sd_id: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"audit": {"sd-id": sd_id}})


@pytest.mark.parametrize("hostname", ["a b", "é", "a\tb", "x" * 256])
def test_a_hostname_that_would_break_a_message_is_rejected(hostname: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"relay": {"hostname": hostname}})


def test_a_private_key_pasted_in_place_of_its_path_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as refused:
        PortForwarding(server_address="a", private_key="-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r")
    assert sentences(refused.value) == "must be the path of a file, not the content of the file"
