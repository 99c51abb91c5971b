"""What `relay run` makes of its settings."""

from pathlib import Path

import pytest

from relay.errors import ConfigurationError
from relay.program import forwarder
from relay.program.forwarder import watches_of
from relay.program.road import new_run
from relay.spool.store import Store
from relay.system.disk import Disk
from relay.values.configuration.settings import Settings


def test_auditd_is_watched_only_with_a_source_that_has_its_records() -> None:
    assert Settings().watched_sources == frozenset()
    assert Settings(source=({"name": "audit"},)).watched_sources == {"audit"}
    assert Settings(source=({"name": "audit"},), audit={"watch-auditd": "never"}).watched_sources == frozenset()


def test_an_audit_log_at_another_path_is_watched_only_with_watch_auditd_always() -> None:
    copy = {"name": "audit", "path": "/srv/copy.log"}
    assert Settings(source=(copy,)).watched_sources == frozenset()
    assert Settings(source=(copy,), audit={"watch-auditd": "always"}).watched_sources == {"audit"}


def test_a_reload_keeps_the_watches_that_it_does_not_change(tmp_path: Path) -> None:
    def settings(**audit: object) -> Settings:
        return Settings(source=({"name": "audit"},), audit=audit)

    with Store(Disk(), str(tmp_path / "state"), segment_size=1 << 16, max_size=1 << 20, run=new_run()) as store:
        first = watches_of(settings(), store, None)
        second = watches_of(settings(retention="2d"), store, first)
        assert first.audit_trail is not None
        assert (second.users, second.halt, second.audit_trail) == (first.users, first.halt, first.audit_trail)
        third = watches_of(settings(**{"watch-auditd": "never", "halt-command": ["true"]}), store, second)
        assert third.audit_trail is None
        assert third.halt is not second.halt
        assert watches_of(settings(), store, third).audit_trail is not None


def test_nothing_starts_without_a_server_or_without_a_source() -> None:
    with pytest.raises(ConfigurationError, match="it has no remote-logging-server"):
        forwarder.check(Settings(source=({"name": "audit"},)))
    with pytest.raises(ConfigurationError, match="it has no source"):
        forwarder.check(Settings(remote_logging_server=({"port": 60},)))
