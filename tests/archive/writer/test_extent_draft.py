"""What an extent says of its lines, and when it is full."""

from relay.archive.writer.extent_draft import MAX_ENTRIES, MAX_OCTETS, ExtentDraft
from relay.syslog.rfc5424 import Identity
from relay.values.provenance import Provenance

SENDER = Provenance("192.0.2.7", "SHA256:x", "tcp://0.0.0.0:514", "relp")


def identity(number: int, part: int = 1, parts: int = 1, kind: bytes = b"audit") -> Identity:
    return Identity(b"5f", kind, number, part, parts)


def test_identities_and_marks_are_ranges_also_where_types_alternate() -> None:
    draft = ExtentDraft(SENDER, 10)
    for number in (1, 2):
        draft.add(b"a", 10 + number, 5 - number, identity(number), ())
        draft.add(b"b", 9, None, identity(number, kind=b"admin"), ("cut",))
    draft.add(b"c", 9, 100, identity(7), ("cut",))
    draft.add(b"d", 9, None, identity(8, 2, 3), ("cut", "no-pri"))
    extent = draft.extent(50)
    assert (extent.at, extent.time, extent.off, extent.len, extent.n) == ((9, 12), (3, 100), 50, 12, 6)
    assert (extent.sender, extent.identity, extent.via) == ("192.0.2.7", "SHA256:x", "tcp://0.0.0.0:514 relp")
    assert extent.id == (
        ("5f", "audit", 1, 2),
        ("5f", "admin", 1, 2),
        ("5f", "audit", 7, 7),
        ("5f", "audit", 8, 8, 2, 3),
    )
    assert extent.marks == {"1": ("cut",), "3-4": ("cut",), "5": ("cut", "no-pri")}
    assert draft.data() == b"a\nb\na\nb\nc\nd\n"


def test_octets_identities_and_marks_have_ceilings() -> None:
    by_octets, by_identities, by_parts, by_marks = (ExtentDraft(SENDER, 0) for _ in range(4))
    by_octets.add(bytes(MAX_OCTETS), 0, None, None, ())
    for number in range(MAX_ENTRIES):
        assert not any(draft.is_full for draft in (by_identities, by_parts, by_marks))
        by_identities.add(b"", 0, None, identity(2 * number), ())
        by_parts.add(b"", 0, None, identity(number, 1, 2), ())
        by_marks.add(b"", 0, None, None, ("cut",) if number % 2 else ("no-pri",))
    assert by_octets.is_full
    assert by_identities.is_full
    assert by_parts.is_full
    assert by_marks.is_full


def test_an_event_of_another_year_belongs_to_another_extent() -> None:
    draft = ExtentDraft(SENDER, 0)
    day = 86_400_000_000
    assert draft.takes(5 * day)
    draft.add(b"", 0, 5 * day, None, ())
    assert draft.takes(None)
    assert draft.takes(6 * day)
    assert not draft.takes(6 * day + 1)
    assert not draft.takes(0)
