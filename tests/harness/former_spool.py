"""A state directory with a spool of format 1, written by relay 0.1.0 and pinned as octets: a backlog before an upgrade.

Its run 1111111111111111 wrote 12 audit events, 2 system events (retained) and 2 traffic events (transient). The cursor
of "collector" is behind the first block's 6 audit events and the first system event. Run 2222222222222222 wrote 6 more
audit events, a traffic event, a message without PRI (type log) and a system event, in several segments. Half a block of
two more system events is a torn tail: no source was told that they are accepted. The position of source "audit" is
behind the 18 audit events, which are the first 20 records of `SEED`.
"""

import tarfile
from pathlib import Path

FORMER_SPOOL = Path(__file__).parent.parent / "spool" / "format_1.tar.gz"
LAST_BLOCK = 6
"""Of the retained spool."""
TORN_OCTETS = 291


def unpack_former_spool(folder: Path) -> Path:
    """Return the state directory, made in `folder`."""
    with tarfile.open(FORMER_SPOOL) as archive:
        archive.extractall(folder, filter="data")
    state = folder / "state"
    state.chmod(0o700)
    return state
