"""The control socket: what a running relay adds to `relay status`."""

import asyncio
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from relay.config.mistake import ConfigLocation, Mistake, MistakesError
from relay.errors import TemporaryError, UnavailableError
from relay.program.status.control_socket import NAME, Reloaded, answering, ask, ask_to_reload
from relay.program.status.live import Live, LiveDestination

LIVE = Live(pid=7, started=1, destinations=(LiveDestination(name="s", state="delivering"),))


def ask_patiently(folder: Path) -> Live | None:
    """The answer, however slow this process is to answer itself."""
    return ask(str(folder), timeout=60)


def test_a_client_gets_the_status_and_only_the_owner_may_connect(tmp_path: Path) -> None:
    async def main() -> tuple[Live | None, int]:
        async with answering(str(tmp_path), lambda: LIVE):
            mode = stat.S_IMODE((tmp_path / NAME).stat().st_mode)
            return await asyncio.to_thread(ask_patiently, tmp_path), mode

    assert asyncio.run(main()) == (LIVE, 0o600)
    assert not (tmp_path / NAME).exists()


def test_without_a_running_relay_there_is_no_status(tmp_path: Path) -> None:
    assert ask(str(tmp_path)) is None
    assert ask(str(tmp_path / "missing")) is None


def test_a_socket_that_a_killed_relay_left_behind_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / NAME))
    assert ask(str(tmp_path)) is None

    async def main() -> Live | None:
        async with answering(str(tmp_path), lambda: LIVE):
            return await asyncio.to_thread(ask_patiently, tmp_path)

    assert asyncio.run(main()) == LIVE


def test_a_deep_folder_works(tmp_path: Path) -> None:
    """unix(7) allows 108 octets for a socket's path."""
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)

    async def main() -> Live | None:
        async with answering(str(folder), lambda: LIVE):
            return await asyncio.to_thread(ask_patiently, folder)

    assert asyncio.run(main()) == LIVE


def test_an_answer_that_is_not_relays_is_no_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Live | None:
        monkeypatch.chdir(tmp_path)
        async with await asyncio.start_unix_server(_garbage, NAME):
            return await asyncio.to_thread(ask_patiently, tmp_path)

    assert asyncio.run(main()) is None


async def _garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\xff not json")
    writer.close()


def test_a_reload_is_answered_when_it_is_over_with_its_changes_or_its_error(tmp_path: Path) -> None:
    changed = Reloaded(changes=("server s exchanged",))
    wrong = MistakesError((Mistake(ConfigLocation("relay.toml", 3, ("spool", "max-size")), "is not a size"),))
    answers = [changed, Reloaded.refused(wrong), Reloaded.refused(UnavailableError("tcp://h:1", "taken", "free it"))]

    async def reload() -> Reloaded:
        return answers.pop(0)

    async def main() -> list[Reloaded]:
        async with answering(str(tmp_path), lambda: LIVE, reload):
            return [await asyncio.to_thread(ask_to_reload, str(tmp_path)) for _ in range(3)]

    first, second, third = asyncio.run(main())
    first.raise_refusal()
    assert first == changed
    with pytest.raises(MistakesError) as mistakes:
        second.raise_refusal()
    assert mistakes.value.found == wrong.found
    with pytest.raises(UnavailableError, match="tcp://h:1: taken; free it"):
        third.raise_refusal()


def test_before_a_program_is_ready_it_reloads_nothing(tmp_path: Path) -> None:
    async def main() -> Reloaded:
        async with answering(str(tmp_path), lambda: LIVE):
            return await asyncio.to_thread(ask_to_reload, str(tmp_path))

    with pytest.raises(TemporaryError, match="while it starts"):
        asyncio.run(main()).raise_refusal()


def test_a_client_that_requests_nothing_gets_the_status(tmp_path: Path) -> None:
    """As `relay status` of an earlier version does."""

    def connect() -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(tmp_path / NAME))
            return b"".join(iter(lambda: client.recv(65536), b""))

    async def main() -> bytes:
        async with answering(str(tmp_path), lambda: LIVE):
            return await asyncio.to_thread(connect)

    assert msgspec.json.decode(asyncio.run(main()), type=Live) == LIVE
