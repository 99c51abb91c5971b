"""Whose message it is, and in which folder the archive files it. Pure, but it remembers the folders that exist.

The originator is the message's HOSTNAME, else the name that is bound to its sender (`bound_names`), else the sender's
address. The HOSTNAME that relay itself gives to a record of auditd without `node=` is the sender's address, so it does
not count as one.

- A message under a name that is bound to another sender goes to `~disputed/NAME`.
- Names have three budgets of `most_originators` each (`name_budget`): those that a binding covers and their senders
  prove, those of other verified senders, and those of the unverified. So a stranger's names never cost a verified
  sender its folder, and no sender uses up a budget alone. Folders of earlier runs count as unverified until a verified
  sender uses them.
- Beyond its budget, a message with a new name is filed by the sender's address; beyond `most_originators` of those, in
  `~others`. Names below `~disputed` have ceilings of the same kind.
- A sender that begins too many new names at a time (`new_originators`) is treated in the same way until it may begin
  one again. Bound and proven names are exempt.
- A message that came through a router's relay from another program (FORWARDED) keeps its HOSTNAME, but an identity in
  it is not that relay's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Final, NamedTuple, Self

from relay.archive.filing.bound_names import BoundNames, NameBinding
from relay.archive.filing.claimed_name import ClaimedName, claimed_name
from relay.archive.filing.name_budget import NameBudget
from relay.archive.filing.new_originators import NewOriginators, Sender
from relay.archive.filing.originator import NAMELESS, folder_name
from relay.archive.layout import DISPUTED, OTHERS
from relay.syslog.lenient.reader import glance
from relay.syslog.lenient.reading import NOTHING_MARKED, FormMark
from relay.syslog.rfc5424 import Identity
from relay.values.address import LOOPBACK, canonical_host, is_in, source_of
from relay.values.provenance import Provenance, ReceiptMark
from relay.values.text import decoded

MOST_ORIGINATORS: Final = 10_000
MOST_DISPUTED: Final = 1_000
_REMEMBERED: Final = 20_000
LONGEST_NAME: Final = 255
"""Octets of a HOSTNAME (RFC 5424 section 6). A longer one is filed by all its octets, but not kept in memory."""
_NOTHING: Final = ReceiptMark(0)
_FORM_MARKS: Final = tuple(FormMark(bits).labels for bits in range(16))


class Filing(NamedTuple):
    """Where one message belongs, and what is known about it."""

    folder: str
    """Below the archive, such as "fw1" or "~disputed/fw1"."""
    originator: str
    """Its name as it was sent, at most `LONGEST_NAME` octets of it; octets that are not UTF-8 are written `\\xHH`."""
    time: int | None
    """Of the event, in microseconds since the epoch; None: it has no usable time."""
    identity: Identity | None
    """relay's own identity in it."""
    marks: tuple[str, ...] = ()
    """What the ledger notes about it, besides the marks of its reception."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilingTerms:
    """What the configuration says about filing."""

    zone: tzinfo = UTC
    """Of time stamps without one."""
    bindings: tuple[NameBinding, ...] = ()
    most_originators: int = MOST_ORIGINATORS
    most_disputed: int = MOST_DISPUTED


@dataclass(slots=True)
class FilingCounters:
    """Counts since the start. Only the archive's thread writes; others may read."""

    disputed: int = 0
    """Messages under a name that is bound to another sender."""
    by_address: int = 0
    """Messages filed by the sender's address because of a ceiling."""
    others: int = 0
    """Messages filed in the shared folder because of every ceiling."""
    last_dispute: str = field(default="")
    """Name and sender of the last disputed message."""
    last_by_address: str = field(default="")
    """Sender of the last message that a ceiling kept from its name's folder."""


class _Place(NamedTuple):
    """Where the messages of one HOSTNAME and sender belong."""

    folder: str
    originator: str
    marks: tuple[str, ...]
    counter: str = ""
    claimed: str = ""
    """The disputed name."""
    for_now: bool = False
    """Whether the next message of this name may belong elsewhere, because its sender may begin a name then."""


class _Rules(NamedTuple):
    """The terms, and what follows from them; exchanged as a whole, because another thread does so."""

    terms: FilingTerms
    names: BoundNames
    places: dict[tuple[bytes | None, Provenance | None], _Place]
    """What was decided for each HOSTNAME and sender."""

    @classmethod
    def of(cls, terms: FilingTerms) -> Self:
        """The rules of these terms."""
        return cls(terms, BoundNames(terms.bindings), {})


class FilingPolicy:
    """Decides where messages belong. `exchange` may be called by another thread than `file`."""

    def __init__(
        self,
        terms: FilingTerms | None = None,
        folders: Iterable[str] = (),
        new_originators: NewOriginators | None = None,
    ) -> None:
        self.counters = FilingCounters()
        self._new_originators = new_originators or NewOriginators()
        self._rules = _Rules.of(terms or FilingTerms())
        self._bound, self._verified, self._unverified = NameBudget(), NameBudget(), NameBudget()
        self._disputed = NameBudget()
        self.know(folders)

    def know(self, folders: Iterable[str]) -> None:
        """These folders exist already: "fw1", "~disputed/fw1"; they count towards the ceilings."""
        for folder in folders:
            if folder.startswith(f"{DISPUTED}/"):
                self._disputed.add(folder)
            elif not folder.startswith("~"):
                self._unverified.add(folder)

    @property
    def zone(self) -> tzinfo:
        """The zone of time stamps without one."""
        return self._rules.terms.zone

    def exchange(self, terms: FilingTerms) -> None:
        """File by other terms from the next message on."""
        self._rules = _Rules.of(terms)

    def file(
        self, message: bytes, provenance: Provenance | None, received: int, receipt_marks: ReceiptMark = _NOTHING
    ) -> Filing:
        """Where a message belongs that was received then; provenance None: relay made it, or an old spool held it."""
        rules = self._rules
        host, time, identity, form_marks = glance(message, received, rules.terms.zone)
        place = rules.places.get((host, provenance))
        if place is None:
            place = self._new_place(rules, host, provenance, received)
        if place.counter:
            self._count(place, provenance)
        # Compared by identity first: an operation of an IntFlag takes as long as all the rest.
        if receipt_marks is not _NOTHING and identity is not None and receipt_marks & ReceiptMark.FORWARDED:
            identity = None
        marks = place.marks
        if form_marks is not NOTHING_MARKED:
            marks = _FORM_MARKS[form_marks] + marks
        return Filing(place.folder, place.originator, time, identity, marks)

    def plain_folder(self, host: bytes, provenance: Provenance | None, received: int) -> tuple[str, str] | None:
        """Folder and originator of messages with this HOSTNAME; None when each is counted or marked for its sender."""
        rules = self._rules
        place = rules.places.get((host, provenance)) or self._new_place(rules, host, provenance, received)
        return None if place.counter or place.marks else (place.folder, place.originator)

    def _new_place(self, rules: _Rules, host: bytes | None, sender: Provenance | None, received: int) -> _Place:
        if len(rules.places) >= _REMEMBERED:
            rules.places.clear()
        place = self._place(rules, host, sender, received)
        if not place.for_now and (host is None or len(host) <= LONGEST_NAME):
            rules.places[host, sender] = place
        return place

    def _place(self, rules: _Rules, host: bytes | None, sender: Provenance | None, received: int) -> _Place:
        claimed = claimed_name(rules.names, host, sender)
        marks = () if claimed.is_own else ("no-host",)
        octets = claimed.octets or NAMELESS.encode()
        name = decoded(octets[:LONGEST_NAME])
        folder = folder_name(octets if octets != NAMELESS.encode() else None)
        if claimed.disputed and sender is not None:
            return self._disputed_place(rules.terms.most_disputed, folder, name, sender, received, (*marks, "disputed"))
        if any(folder in budget for budget in (self._bound, self._verified, self._unverified)):
            if sender is not None and sender.identity and folder in self._unverified:
                self._note_verified(folder, sender, rules.terms.most_originators)
            return _Place(folder, name, marks)
        return self._new_folder(rules, claimed, folder, sender, received)._replace(marks=marks)

    def _note_verified(self, folder: str, sender: Provenance, most: int) -> None:
        """An earlier run, or a stranger, began a folder that a verified sender uses."""
        if self._verified.has_room_for(_label(sender), most, is_exempt=False):
            self._unverified.discard(folder)
            self._verified.add(folder, _label(sender))

    def _new_folder(
        self, rules: _Rules, claimed: ClaimedName, folder: str, sender: Provenance | None, received: int
    ) -> _Place:
        """The folder of a name that has none, without marks."""
        name, most = decoded((claimed.octets or NAMELESS.encode())[:LONGEST_NAME]), rules.terms.most_originators
        label, peer = _label(sender), canonical_host(sender.peer) if sender is not None else ""
        is_bound, is_verified = rules.names.is_bound(claimed.text), sender is None or bool(sender.identity)
        budget = self._bound if is_bound else self._verified if is_verified else self._unverified
        is_exempt = is_bound or sender is None or is_in(peer, LOOPBACK)
        has_room = budget.has_room_for(label, most, is_exempt=is_exempt)
        by_address = folder_name(peer.encode() or None)
        needs_no_allowance = is_bound or sender is None or folder == by_address
        if has_room and (needs_no_allowance or self._new_originators.may_begin(label, received)):
            budget.add(folder, label)
            return _Place(folder, name, ())
        if by_address in self._unverified or by_address in self._verified or len(self._unverified) < 2 * most:
            self._unverified.add(by_address)
            return _Place(by_address, peer, (), "by_address", for_now=has_room)
        return _Place(OTHERS, OTHERS, (), "others")

    def _disputed_place(
        self, most: int, folder: str, name: str, sender: Provenance, received: int, marks: tuple[str, ...]
    ) -> _Place:
        candidate, peer, label = f"{DISPUTED}/{folder}", canonical_host(sender.peer), _label(sender)
        is_known = candidate in self._disputed
        has_room = is_known or self._disputed.has_room_for(label, most, is_exempt=False)
        if is_known or (has_room and self._new_originators.may_begin(label, received)):
            self._disputed.add(candidate, label)
            return _Place(candidate, name, marks, "disputed", name)
        candidate = f"{DISPUTED}/{folder_name(peer.encode())}"
        if candidate in self._disputed or len(self._disputed) < 2 * most:
            self._disputed.add(candidate)
            return _Place(candidate, peer, marks, "disputed", name, for_now=has_room)
        return _Place(f"{DISPUTED}/{OTHERS}", OTHERS, marks, "disputed", name)

    def _count(self, place: _Place, sender: Provenance | None) -> None:
        counters = self.counters
        if place.counter == "disputed":
            counters.disputed += 1
            if sender is not None:
                counters.last_dispute = f"{place.claimed} from {_described(sender)}"
            return
        if place.counter == "by_address":
            counters.by_address += 1
        else:
            counters.others += 1
        counters.last_by_address = "" if sender is None else _described(sender)


def _label(sender: Provenance | None) -> Sender:
    return ("", "") if sender is None else (sender.identity, source_of(canonical_host(sender.peer)))


def _described(sender: Provenance) -> str:
    identity = f" with {sender.identity}" if sender.identity else ""
    return f"{sender.peer}{identity} by {sender.listener}"
