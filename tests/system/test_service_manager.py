"""Notifications to the service manager, received by a socket of the test (sd_notify(3))."""

import logging
import socket
from pathlib import Path

import pytest

from relay.system import service_manager


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_notified_of_ready_and_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address if is_abstract else address)
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + address if is_abstract else address)
        with service_manager.serving():
            assert manager.recv(100) == b"READY=1"
            with pytest.raises(BlockingIOError):
                manager.recv(100)
        assert manager.recv(100) == b"STOPPING=1"


def test_a_failed_notification_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with caplog.at_level(logging.WARNING), service_manager.serving():
        pass
    assert ["READY=1" in each for each in caplog.messages] == [True, False]
    assert "No such file" in caplog.messages[0]


def test_without_a_service_manager_there_is_no_notification(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with service_manager.serving():
        pass
    assert caplog.messages == []
