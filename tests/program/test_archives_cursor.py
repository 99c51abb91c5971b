"""Where `relay receive` continues when archive and spool do not agree: one of them is new, or an older copy."""

from pathlib import Path

import pytest
from program.history.spools import event, filled, opened, segments

from relay.program.receiver import beginning, is_outdated
from relay.spool.cursor import Cursor
from relay.values.configuration.receiver_settings import ARCHIVE

SMALL = 1024
BLOCKS = 6


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with a segment for each of its blocks, all of them archived."""
    filled(tmp_path, *([event("x" * 600)] for _ in range(BLOCKS)), segment_size=SMALL)
    assert len(segments(tmp_path)) == BLOCKS
    with opened(tmp_path) as store:
        store.restore_cursor(ARCHIVE, Cursor(retained=BLOCKS + 1, delivered=BLOCKS))
    return tmp_path


def test_an_older_journal_is_obeyed_while_the_spool_has_what_follows_it(state: Path) -> None:
    older = Cursor(retained=3, delivered=2).encode()
    passed_damage_only = Cursor(retained=3, delivered=BLOCKS).encode()
    with opened(state) as store:
        assert is_outdated(store, older)  # the destination does not go back
        assert not is_outdated(store, older, comes_again=True)
        assert not is_outdated(store, passed_damage_only)
        assert not is_outdated(store, Cursor(retained=BLOCKS + 1, delivered=BLOCKS).encode())
    for path in segments(state)[:3]:
        path.unlink()
    with opened(state) as store:
        assert is_outdated(store, older, comes_again=True)


def test_a_new_archive_gets_what_the_spool_has_and_reports_nothing_as_lost(state: Path) -> None:
    for path in segments(state)[:3]:
        path.unlink()
    with opened(state) as store:
        assert beginning(store).retained == 4
    for path in segments(state):
        path.unlink()
    with opened(state) as store:
        assert beginning(store).retained == BLOCKS + 1


def test_what_the_spool_lost_before_it_was_archived_is_lost(state: Path) -> None:
    with opened(state) as store:
        store.restore_cursor(ARCHIVE, Cursor(retained=3, delivered=2))
    for path in segments(state)[:4]:
        path.unlink()
    with opened(state) as store:
        assert beginning(store).retained == 3
