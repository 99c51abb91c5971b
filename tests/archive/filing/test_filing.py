"""Whose message it is: HOSTNAME, bound names, addresses, disputes and ceilings."""

from datetime import timedelta, timezone
from ipaddress import ip_network

import pytest
from harness.sender_forms import EVERYTHING, RECEIVED, us

from relay.archive.filing.bound_names import NameBinding
from relay.archive.filing.filing_policy import Filing, FilingPolicy, FilingTerms
from relay.archive.filing.new_originators import NewOriginators
from relay.syslog.rfc5424 import Identity
from relay.values.provenance import Provenance, ReceiptMark

BEHIND_SSHD = Provenance("127.0.0.1", "", "tcp://127.0.0.1:9999", "syslog")
PEER = Provenance("192.0.2.7", "", "udp://0.0.0.0:514")
KEY = "SHA256:0Zr3C0uEmkYLfV+jkYqVYJmYhKMrcbVqxrqcOqFVOzk"
ROUTER = Provenance("198.51.100.4", KEY, "ssh://0.0.0.0:2222", "relp")
CERTIFICATE = "sha-256:E1:2D:53"
BY_TLS = Provenance("2001:db8::5", f"{CERTIFICATE} web1.example web1", "tls://0.0.0.0:6514")
TUNNEL = Provenance("127.0.0.1", "", "tcp://127.0.0.1:9001")
STAMP = b"2026-11-30T09:01:02Z"
OWN = b'<109>1 %b fw1 relay - - [128T relayRun="ab" relaySeq="7" type="audit"]' % STAMP
IDENTITY = Identity(b"ab", b"audit", 7, 1, 1)


def named(host: bytes) -> bytes:
    return b"<14>1 %b %b app - - - x" % (STAMP, host)


def bound(**proofs: object) -> FilingPolicy:
    """A policy with one binding of "fw*" and what else is given."""
    return FilingPolicy(FilingTerms(bindings=(NameBinding(**{"names": ("fw*",), **proofs}),)))  # type: ignore[arg-type]


def test_the_hostname_is_the_originator() -> None:
    assert FilingPolicy().file(OWN, PEER, RECEIVED) == Filing("fw1", "fw1", us("2026-11-30T09:01:02"), IDENTITY, ())


@pytest.mark.parametrize(
    ("peer", "folder"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:0::1", "2001%3Adb8%3A%3A1"),
        ("fe80::1%eth0", "fe80%3A%3A1%25eth0"),
        ("loghost", "loghost"),
    ],
)
def test_without_a_hostname_the_senders_address_is_the_originator(peer: str, folder: str) -> None:
    filed = FilingPolicy().file(b"no form at all", PEER._replace(peer=peer), RECEIVED)
    assert (filed.folder, filed.time, filed.marks) == (folder, None, ("no-pri", "no-time", "no-host"))


def test_a_message_of_an_unknown_sender_without_a_hostname_has_a_folder_too() -> None:
    assert FilingPolicy().file(b"<14>x", None, RECEIVED).folder == "-"
    assert FilingPolicy().file(named(b"-"), None, RECEIVED).folder == "-"


@pytest.mark.parametrize(
    ("host", "folder"),
    [
        (b"../../x", "%2E.%2F..%2Fx"),
        (b".", "%2E"),
        (b"..", "%2E."),
        (b".relay", "%2Erelay"),
        (b"~disputed", "%7Edisputed"),
        (b"HOST-Case", "HOST-Case"),
        (b"host-case", "host-case"),
        (b"z\xfcrich", "z%FCrich"),
        (b"a" * 300, None),
    ],
)
def test_no_name_leaves_the_archive(host: bytes, folder: str | None) -> None:
    filed = FilingPolicy().file(named(host), PEER, RECEIVED)
    assert folder is None or filed.folder == folder
    assert len(filed.folder) <= 128
    assert "/" not in filed.folder


def test_the_zone_is_that_of_the_terms() -> None:
    policy = FilingPolicy(FilingTerms(zone=timezone(timedelta(hours=1))))
    filed = policy.file(b"<13>Nov 30 10:01:02 h1 a: x", PEER, RECEIVED)
    assert (filed.time, filed.marks) == (us("2026-11-30T09:01:02"), ("inferred",))


def test_an_identity_that_another_program_forwarded_does_not_count() -> None:
    filed = FilingPolicy().file(OWN, ROUTER, RECEIVED, ReceiptMark.FORWARDED | ReceiptMark.CUT)
    assert (filed.folder, filed.identity) == ("fw1", None)


def test_a_record_of_auditd_without_a_node_is_its_senders() -> None:
    sender = Provenance("::ffff:198.51.100.4", "", "tcp://127.0.0.1:9999", "auditd")
    record = named(b"198.51.100.4")
    assert FilingPolicy().file(record, sender, RECEIVED)[::4] == ("198.51.100.4", ("no-host",))
    policy = FilingPolicy(
        FilingTerms(bindings=(NameBinding(names=("fw1",), networks=(ip_network("198.51.100.4/32"),)),))
    )
    assert policy.file(record, sender, RECEIVED)[::4] == ("fw1", ("no-host",))
    assert policy.file(named(b"node1"), sender, RECEIVED)[::4] == ("node1", ())


class TestBoundNames:
    @pytest.mark.parametrize(
        ("proofs", "sender"),
        [
            ({"ssh_keys": frozenset({KEY})}, ROUTER),
            ({"certificates": frozenset({CERTIFICATE.lower()})}, BY_TLS),
            ({"certificates": frozenset({"WEB1.example."})}, BY_TLS),
            ({"networks": (ip_network("192.0.2.0/24"),)}, PEER),
            ({"networks": (ip_network("192.0.2.0/24"),)}, PEER._replace(peer="::ffff:192.0.2.7")),
            ({"networks": (ip_network("fe80::/10"),)}, PEER._replace(peer="fe80::1%eth0")),
            ({"listeners": frozenset({"tcp://127.0.0.1:9001"})}, TUNNEL),
        ],
    )
    def test_belong_to_the_senders_that_have_a_proof(self, proofs: dict[str, object], sender: Provenance) -> None:
        policy = bound(**proofs)
        assert policy.file(OWN, sender, RECEIVED) == Filing("fw1", "fw1", us("2026-11-30T09:01:02"), IDENTITY, ())
        for other in (PEER, ROUTER, BY_TLS, TUNNEL):
            if other.peer != sender.peer.removeprefix("::ffff:"):
                filed = policy.file(OWN, other, RECEIVED)
                assert (filed.folder, filed.originator, filed.marks) == ("~disputed/fw1", "fw1", ("disputed",))
                assert policy.file(named(b"web1"), other, RECEIVED).folder == "web1"  # bound nowhere

    def test_are_not_proven_by_a_certificate_that_is_called_like_another_ones_fingerprint(self) -> None:
        policy = bound(certificates=frozenset({CERTIFICATE, KEY}))
        for identity in (f"sha-256:00:11 {CERTIFICATE}", f"{KEY}x", "sha-256:00:11"):
            assert policy.file(OWN, BY_TLS._replace(identity=identity), RECEIVED).folder == "~disputed/fw1"
        policy = bound(ssh_keys=frozenset({KEY}))
        assert policy.file(OWN, BY_TLS._replace(identity=f"sha-256:00:11 {KEY}"), RECEIVED).folder == "~disputed/fw1"

    def test_are_compared_as_dns_compares_them(self) -> None:
        policy = bound(ssh_keys=frozenset({KEY}))
        for twin in (b"FW1", b"Fw1.", b"fw2"):
            assert policy.file(named(twin), PEER, RECEIVED).folder.startswith("~disputed/")

    def test_may_be_bound_to_several(self) -> None:
        both = (
            NameBinding(names=("fw*",), ssh_keys=frozenset({KEY})),
            NameBinding(names=("fw1",), listeners=frozenset({TUNNEL.listener})),
        )
        policy = FilingPolicy(FilingTerms(bindings=both))
        assert [policy.file(named(b"fw1"), each, RECEIVED).folder for each in (ROUTER, TUNNEL)] == ["fw1", "fw1"]
        assert policy.file(named(b"fw2"), TUNNEL, RECEIVED).folder == "~disputed/fw2"

    def test_name_a_sender_whose_message_has_no_hostname(self) -> None:
        one = NameBinding(names=("fw1",), ssh_keys=frozenset({KEY}))
        assert FilingPolicy(FilingTerms(bindings=(one,))).file(b"<14>x", ROUTER, RECEIVED).folder == "fw1"
        assert bound(ssh_keys=frozenset({KEY})).file(b"<14>x", ROUTER, RECEIVED).folder == "198.51.100.4"

    def test_are_not_checked_for_what_relay_itself_wrote(self) -> None:
        assert bound(ssh_keys=frozenset({KEY})).file(OWN, None, RECEIVED).folder == "fw1"

    def test_disputes_are_counted_with_the_last_sender(self) -> None:
        policy = bound(ssh_keys=frozenset({KEY}))
        for _ in range(3):
            policy.file(OWN, BY_TLS, RECEIVED)
        assert policy.counters.disputed == 3
        assert policy.counters.last_dispute == (
            "fw1 from 2001:db8::5 with sha-256:E1:2D:53 web1.example web1 by tls://0.0.0.0:6514"
        )

    def test_can_be_exchanged(self) -> None:
        policy = bound(ssh_keys=frozenset({KEY}))
        assert policy.file(OWN, PEER, RECEIVED).folder == "~disputed/fw1"
        policy.exchange(FilingTerms())
        assert policy.file(OWN, PEER, RECEIVED).folder == "fw1"


class TestTheCeiling:
    def test_beyond_it_messages_are_filed_by_address_and_then_together(self) -> None:
        terms = FilingTerms(most_originators=3, bindings=(NameBinding(names=("fw*",), ssh_keys=frozenset({KEY})),))
        policy = FilingPolicy(terms, ["h1", "~others", "~disputed/fw1", "~aside/h9"])

        def folder(host: bytes, sender: Provenance = BEHIND_SSHD) -> str:
            return policy.file(named(host), sender, RECEIVED).folder

        assert [folder(b"h%d" % number) for number in range(1, 6)] == ["h1", "h2", "h3", "127.0.0.1", "127.0.0.1"]
        others = [PEER._replace(peer=f"192.0.2.{number}") for number in range(20, 23)]
        assert [folder(b"h9", each) for each in others] == ["192.0.2.20", "192.0.2.21", "~others"]
        assert folder(b"h2", others[2]) == "h2"
        assert folder(b"fw1", ROUTER) == "fw1"  # what a binding covers and its sender proves
        assert [folder(b"fw%d" % number, ROUTER) for number in range(2, 6)] == ["fw2", "fw3", "~others", "~others"]
        assert (policy.counters.by_address, policy.counters.others) == (4, 3)

    def test_no_stranger_takes_the_last_name_from_the_others(self) -> None:
        policy = FilingPolicy(new_originators=NewOriginators(at_once=20_000))

        def begun(sender: Provenance, prefix: bytes) -> int:
            folders = (policy.file(named(prefix + b"%d" % number), sender, RECEIVED).folder for number in range(20_000))
            return sum(not folder.startswith("192.0.2.") and folder != "~others" for folder in folders)

        strangers = [PEER._replace(peer=f"192.0.2.{number}") for number in range(1, 5)]
        counts = [begun(stranger, b"s%d-" % index) for index, stranger in enumerate(strangers)]
        assert counts == [5_000, 2_500, 1_249, 624]  # the strangers' addresses count too
        assert policy.file(named(b"fw9"), PEER._replace(peer="198.51.100.1"), RECEIVED).folder == "fw9"
        assert policy.file(named(b"fw10"), BEHIND_SSHD, RECEIVED).folder == "fw10"

    def test_unverified_names_never_cost_a_verified_sender_its_folder(self) -> None:
        known = [f"stranger{number}" for number in range(10_000)]
        policy = FilingPolicy(folders=known, new_originators=NewOriginators(at_once=20_000))
        assert policy.file(named(b"fw1"), PEER, RECEIVED).folder == "192.0.2.7"
        assert policy.file(named(b"fw1"), ROUTER, RECEIVED).folder == "fw1"
        for name in (b"stranger5", b"stranger6"):  # which are no longer counted, so one name is free again
            assert policy.file(named(name), ROUTER, RECEIVED).folder == name.decode()
        assert policy.file(named(b"fw2"), PEER, RECEIVED).folder == "fw2"
        assert policy.file(named(b"fw3"), PEER, RECEIVED).folder == "192.0.2.7"

    def test_the_addresses_of_one_ipv6_network_are_one_sender(self) -> None:
        policy = FilingPolicy(new_originators=NewOriginators(at_once=2, a_second=0))
        senders = [PEER._replace(peer=f"2001:db8::{number}") for number in range(1, 4)]
        folders = [
            policy.file(named(b"h%d" % number), sender, RECEIVED).folder for number, sender in enumerate(senders)
        ]
        assert folders == ["h0", "h1", "2001%3Adb8%3A%3A3"]

    def test_one_sender_begins_only_so_many_new_names_at_a_time(self) -> None:
        policy = FilingPolicy(FilingTerms(bindings=(NameBinding(names=("fw*",), ssh_keys=frozenset({KEY})),)))
        own = named(b"h0")
        plain = policy.plain_folder

        def folders(names: range, sender: Provenance, seconds: float = 0) -> list[str]:
            received = RECEIVED + int(seconds * 1_000_000)
            return [policy.file(named(b"h%d" % number), sender, received).folder for number in names]

        assert len(set(folders(range(20_000), PEER))) == 501
        assert (policy.counters.by_address, policy.counters.others) == (19_500, 0)
        assert policy.counters.last_by_address == "192.0.2.7 by udp://0.0.0.0:514"
        assert policy.file(own, PEER, RECEIVED).folder == "h0"
        assert policy.file(b"<14>x", PEER, RECEIVED).folder == "192.0.2.7"
        assert folders(range(20_000, 20_002), BY_TLS) == ["h20000", "h20001"]  # others are not disturbed
        for number in range(2_000):  # nor is what is bound and proven
            assert policy.file(named(b"fw%d" % number), ROUTER, RECEIVED).folder == f"fw{number}"
        assert plain(b"h5000", PEER, RECEIVED) is None
        assert folders(range(5_000, 5_003), PEER, 0.04) == ["h5000", "h5001", "192.0.2.7"]
        assert folders(range(5_000, 5_003), PEER, -3_600) == ["h5000", "h5001", "192.0.2.7"]  # a clock set back
        assert len(set(folders(range(6_000, 9_000), PEER, 3_600))) == 501

    def test_disputed_names_count_among_the_new_names_of_their_sender(self) -> None:
        terms = FilingTerms(bindings=(NameBinding(names=("fw*",), ssh_keys=frozenset({KEY})),))
        policy = FilingPolicy(terms, new_originators=NewOriginators(at_once=2, a_second=1))
        found = [policy.file(named(b"fw%d" % number), PEER, RECEIVED).folder for number in range(3)]
        assert found == ["~disputed/fw0", "~disputed/fw1", "~disputed/192.0.2.7"]
        assert policy.file(named(b"h1"), PEER, RECEIVED).folder == "192.0.2.7"
        later = [policy.file(named(b"fw2"), PEER, RECEIVED + 1_000_000 * second).folder for second in (1, 2)]
        assert later == ["~disputed/fw2", "~disputed/fw2"]

    def test_disputed_names_have_one_too(self) -> None:
        policy = FilingPolicy(
            FilingTerms(most_disputed=2, bindings=(NameBinding(names=("fw*",), ssh_keys=frozenset({KEY})),))
        )
        senders = [PEER._replace(peer=f"192.0.2.{number}") for number in range(1, 5)]
        folders = [policy.file(named(b"fw%d" % number), senders[number], RECEIVED).folder for number in range(4)]
        assert folders == ["~disputed/fw0", "~disputed/fw1", "~disputed/192.0.2.3", "~disputed/192.0.2.4"]
        assert policy.file(named(b"fw9"), PEER, RECEIVED).folder == "~disputed/~others"
        assert policy.counters.last_dispute == "fw9 from 192.0.2.7 by udp://0.0.0.0:514"


def test_no_form_ends_in_a_folder_without_a_sender() -> None:
    """Every vector has its own name or the sender's address, and a time or a mark."""
    policy = FilingPolicy()
    for vector in EVERYTHING:
        filed = policy.file(vector.message, PEER, RECEIVED)
        assert filed.folder != "-"
        assert ("no-host" in filed.marks) == (vector.host is None)
        assert ("no-time" in filed.marks) == (filed.time is None)


def test_names_that_are_too_long_are_apart_and_not_kept_in_memory() -> None:
    policy = FilingPolicy()
    filed = [policy.file(named(b"h" * 60_000 + end), PEER, RECEIVED) for end in (b"1", b"2", b"1")]
    assert filed[0] == filed[2]
    assert filed[0].folder != filed[1].folder
    assert {len(filing.originator) for filing in filed} == {255}
    assert not policy._rules.places


def test_the_senders_whose_allowance_is_remembered_are_limited() -> None:
    allowances = NewOriginators(at_once=1, a_second=1, most_senders=2)
    assert [allowances.may_begin(("", peer), RECEIVED) for peer in "aabca"] == [True, False, True, True, True]
    assert len(allowances._left) == 2
