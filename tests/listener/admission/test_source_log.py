"""Warnings by source: one a minute for each, and a ceiling for all together."""

import logging

import pytest

from relay.listener.admission.source_log import A_MINUTE, MOST_LINES, SourceLog

_log = logging.getLogger("relay.test")


def test_a_source_has_one_line_a_minute_of_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    lines = SourceLog(_log, lambda: now[0])
    logged = [lines.warn("192.0.2.1", kind, "%s from %s", kind, "192.0.2.1") for kind in ("tls", "http", "tls", "tls")]
    assert logged == [True, True, False, False]
    assert lines.warn("192.0.2.2", "tls", "another")
    now[0] = A_MINUTE
    assert lines.warn("192.0.2.1", "tls", "again")
    assert [record.getMessage() for record in caplog.records] == [
        "tls from 192.0.2.1",
        "http from 192.0.2.1",
        "another",
        "similar lines of one minute are not logged: 2 from 192.0.2.1",
        "again",
    ]


def test_a_thousand_sources_have_a_bounded_number_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    lines = SourceLog(_log, lambda: 0.0)
    for number in range(1000):
        lines.warn(str(number), "tls", "line")
    lines.close()
    lines.close()
    assert len(caplog.records) == MOST_LINES + 1
    assert caplog.records[-1].getMessage().endswith(f"not logged: {1000 - MOST_LINES} from further senders")
