"""What a receiver hands on to a server: by originator, by the type in relay's identity, by priority."""

from ipaddress import ip_network

import pytest
from delivery.blocks import RUN, encode_contents

from relay.archive.filing.bound_names import BoundNames, NameBinding
from relay.delivery.message_selection import MessageSelection
from relay.delivery.route import received_selection_of
from relay.delivery.sessions.syslog_encoder import SyslogEncoder
from relay.spool.block import Block, Span
from relay.syslog.framing import octet_counted
from relay.values.configuration.settings import RemoteLoggingServer
from relay.values.event import EventType
from relay.values.provenance import Provenance, ReceiptMark

FIREWALL = Provenance("10.0.0.7", "", "udp://0.0.0.0:514")
OTHER = Provenance("2001:db8::1", "", "tcp://0.0.0.0:514")


def event(kind: str, host: str = "Combo1", priority: int = 109) -> bytes:
    head = f"<{priority}>1 2026-06-21T00:00:00Z {host} auditd - LOGIN"
    return f'{head} [128T relayRun="0123456789abcdef" relaySeq="7" type="{kind}"] text'.encode()


AUDIT, ADMIN, BEAT = event("audit"), event("admin", "combo2"), event("relay", priority=46)
FOREIGN = b"<27>1 2026-06-21T00:00:00Z web01 nginx - - - [error] failed"
BSD = b"<190>Jun 21 00:00:00 fw-1 %ASA-6-302013: Built"
BARE = b"no header at all"
OWN = b"<46>1 2026-06-21T00:00:00Z loghost relay - ALARM - the receiver's own"
EVERYTHING = [AUDIT, ADMIN, BEAT, FOREIGN, BSD, BARE, OWN]


def received() -> Block:
    """The messages of two senders, and one of the receiver's own."""
    spans = [Span(EventType.LOG, 1, 4, OTHER), Span(EventType.LOG, 5, 2, FIREWALL), Span(EventType.RELAY, 1, 1)]
    return encode_contents(spans, EVERYTHING)


def selected(*bindings: NameBinding, **keys: object) -> MessageSelection:
    return received_selection_of(RemoteLoggingServer.model_validate(keys), BoundNames(bindings))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, EVERYTHING),
        ({"types": ["audit"]}, [AUDIT, BEAT, OWN]),
        ({"types": ["log"]}, [BEAT, FOREIGN, BSD, BARE, OWN]),
        ({"types": ["admin", "traffic"]}, [ADMIN, BEAT, OWN]),
        ({"originators": ["combo1"]}, [AUDIT, BEAT, OWN]),
        ({"originators": ["COMBO?", "fw-*"]}, [AUDIT, ADMIN, BEAT, BSD, OWN]),
        ({"originators": ["10.0.0.*"]}, [BARE, OWN]),
        ({"originators": ["nobody"]}, [OWN]),
        ({"originators": ["combo*"], "types": ["admin"]}, [ADMIN, BEAT, OWN]),
        ({"facilities": ["user"]}, [BEAT, BARE, OWN]),
        ({"severity": "err"}, [BEAT, FOREIGN, OWN]),
        ({"facilities": ["local7", "daemon"], "severity": "info"}, [BEAT, FOREIGN, BSD, OWN]),
        ({"facilities": ["audit"], "severity": "debug", "types": ["audit", "log"]}, [AUDIT, BEAT, OWN]),
    ],
)
def test_the_chosen_messages_are_handed_on_in_their_order(keys: dict[str, object], expected: list[bytes]) -> None:
    selection = selected(**keys)
    block = received()
    assert [message for _, _, message in selection.messages(block)] == expected
    assert selection.count(block) == len(expected)
    sent = b"".join(SyslogEncoder(selection, 1 << 20).framed(block))
    assert sent == b"".join(octet_counted(b"<13>" * (each is BARE) + each) for each in expected)


def test_numbers_and_run_are_those_of_the_receivers_spool() -> None:
    selection = selected(originators=["fw-1"])
    block = received()
    assert [(kind, number) for kind, number, _ in selection.messages(block)] == [
        (EventType.LOG, 5),
        (EventType.RELAY, 1),
    ]
    assert block.header.run == RUN


def test_the_originator_is_the_one_by_which_the_archive_files_a_message() -> None:
    firewalls = NameBinding(names=("Edge",), networks=(ip_network("10.0.0.0/24"),))
    sent = [message for _, _, message in selected(firewalls, originators=["edge"]).messages(received())]
    assert sent == [BARE, OWN]  # by the name that is bound to the sender's network
    combo = NameBinding(names=("combo?",), ssh_keys=frozenset({"SHA256:abc"}))
    disputed = [message for _, _, message in selected(combo, originators=["combo*"]).messages(received())]
    assert disputed == [OWN]  # the sender has not proven that it is combo1
    assert [message for _, _, message in selected(combo).messages(received())] == EVERYTHING


def test_an_identity_in_what_another_program_sent_through_a_relay_has_no_effect() -> None:
    block = encode_contents([Span(EventType.LOG, 1, 1, OTHER, int(ReceiptMark.FORWARDED))], [AUDIT])
    assert selected(types=["audit"]).count(block) == 0
    assert selected(types=["log"]).count(block) == 1


def test_a_server_that_gets_everything_is_sent_the_block_as_it_lies() -> None:
    selection = selected()
    assert selection.all_of(received().header)
    assert selection.received is None


@pytest.mark.parametrize("message", [b"", b"\0\xff", b"<13>", b"<999>x", b"{}"])
def test_a_message_of_any_form_has_an_originator(message: bytes) -> None:
    selection = selected(originators=["10.0.0.7"])
    block = encode_contents([Span(EventType.LOG, 1, 1, FIREWALL), Span(EventType.LOG, 2, 1)], [message, message])
    assert selection.count(block) == 1  # by the sender's address; a message of format 1 has none
