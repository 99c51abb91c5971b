"""For every test: no program that could halt this machine, or talk to its users, is to be found."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

DANGEROUS = ("shutdown", "poweroff", "halt", "reboot", "telinit", "wall")
ALLOWED = "wall"
"""A full spool tells all users; the stub is told instead."""


@pytest.fixture(scope="session", autouse=True)
def no_real_halt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stubs first on PATH; at the end of the session none of those that halt may have been run."""
    folder = tmp_path_factory.mktemp("stubs")
    calls = folder / "calls"
    for name in DANGEROUS:
        stub = folder / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@" >> {calls}\n')
        stub.chmod(0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{path}"
    yield
    os.environ["PATH"] = path
    ran = _lines(calls)
    assert [line for line in ran if line.split()[0] != ALLOWED] == []


def _lines(calls: Path) -> list[str]:
    return calls.read_text().splitlines() if calls.exists() else []
