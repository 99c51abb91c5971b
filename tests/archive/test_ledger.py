"""The ledger's lines: pinned octets, and the chain computed without relay's code."""

import hashlib
import json

import pytest

from relay.archive.ledger import Closing, Extent, Heading, LedgerError, Removal, decode, encode, verifying

LOG = b"<13>1 - a - - - - one\n<13>1 - a - - - - two\n"
EXTENT = Extent(
    at=(1_790_000_000_000_000, 1_790_000_000_500_000),
    sender="192.0.2.7",
    identity=None,
    via="tcp://127.0.0.1:9999 relp",
    off=0,
    len=len(LOG),
    n=2,
    time=(1, 2),
    id=(("ab12", "audit", 7, 8),),
    marks={"1": ("cut", "no-pri")},
)


def test_the_octets_of_a_ledger() -> None:
    """The lines are JSON in this order of keys, and anybody can compute the chain."""
    heading = encode(Heading(originator="fw1", log="2026-11-30.log", after=None), b"")
    extent = encode(EXTENT, heading, [LOG])
    bare = b'{"format":2,"originator":"fw1","log":"2026-11-30.log","after":null}'
    assert heading == bare[:-1] + b',"sha256":"%b"}\n' % hashlib.sha256(bare).hexdigest().encode()
    bare = (
        b'{"at":[1790000000000000,1790000000500000],"from":"192.0.2.7","by":null,"via":"tcp://127.0.0.1:9999 relp",'
        b'"off":0,"len":44,"n":2,"time":[1,2],"id":[["ab12","audit",7,8]],"marks":{"1":["cut","no-pri"]}}'
    )
    assert extent == bare[:-1] + b',"sha256":"%b"}\n' % hashlib.sha256(heading + bare + LOG).hexdigest().encode()
    assert json.loads(extent)["n"] == 2


@pytest.mark.parametrize(
    "line",
    [
        Heading(originator="fw1", log="2026-11-30.2.jsonl", after="2026-11-30.ledger"),
        EXTENT,
        Closing(closed=5, len=44, n=2, time=(1, 2), outliers=((0, 0),)),
        Closing(closed=5, len=0, n=0),
        Removal(removed=6, cause="age"),
    ],
    ids=lambda line: type(line).__name__,
)
def test_a_line_comes_back_and_is_verified(line: Heading | Extent | Closing | Removal) -> None:
    """Reading gives the same values; a changed octet anywhere gives another hash."""
    written = encode(line, b"before\n", [LOG])
    found = decode(written)
    assert type(found) is type(line)
    digest = verifying(written, b"before\n")
    digest.update(LOG)
    assert digest.hexdigest() == found.sha256
    assert verifying(written, b"befose\n").hexdigest() != found.sha256
    assert verifying(written.replace(b":", b": ", 1), b"before\n").hexdigest() != found.sha256


@pytest.mark.parametrize("line", [b"", b"{}", b'{"at":[1,2]}', b'{"format":"x"}', b"\xff"])
def test_other_octets_are_refused(line: bytes) -> None:
    """A line that is not a ledger's is an error with a cause."""
    with pytest.raises(LedgerError):
        decode(line)
