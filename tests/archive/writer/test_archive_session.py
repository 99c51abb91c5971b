"""The archive as a destination: which thread closes it, and what shows that it is not stuck."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from archive.messages import NOON_US, foreign
from archive.plain_reader import read_archive

from relay.archive.writer.archive_writer import ArchiveWriter
from relay.delivery.sessions.archive_session import ArchiveSession
from relay.spool.cursor import Cursor
from relay.values.histogram import Histogram


def test_a_program_that_stops_closes_no_file_under_a_commit(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        writer = thread.submit(ArchiveWriter, str(tmp_path), "spool").result()
        session = thread.submit(ArchiveSession, writer, Histogram((1.0,))).result()
        writer.write(foreign(1), NOON_US)
        session.close()  # by another thread, which has waited long enough
        assert thread.submit(session.prove, Cursor()).result() == Cursor()
        thread.submit(session.close).result()
    assert [line.message for line in read_archive(tmp_path)] == [foreign(1)]
    with ArchiveWriter(str(tmp_path), "spool") as again:
        assert again.cursor == Cursor().encode()


def test_each_call_of_a_long_commit_shows_that_the_archive_is_not_stuck(tmp_path: Path) -> None:
    with ArchiveWriter(str(tmp_path), "spool") as writer:
        session = ArchiveSession(writer, Histogram((1.0,)))
        before = session.heard
        writer.write(foreign(1), NOON_US)
        writer.commit(b"1")
        assert before < session.heard <= time.monotonic()
