"""`relay archive export`: a package that another machine can check."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive.messages import DAY_US, NOON_US, foreign
from archive.relay_events import numbered

from relay.archive.ledgers.ledger_end import LocatedLine
from relay.archive.ledgers.ledger_reader import LedgerReader
from relay.archive.writer.archive_writer import ArchiveWriter
from relay.cli import main


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    with ArchiveWriter(str(folder), "spool") as writer:
        for day in range(3):
            for message in (*numbered(day * 2 + 1, day * 2 + 2), foreign(day)):
                writer.write(message, NOON_US + day * DAY_US)
            writer.commit(b"%d" % day)
    return folder


def unpacked(package: Path, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["tar", "-C", str(folder), "-xf", str(package)], check=True)
    return folder / "relay-export"


@pytest.mark.parametrize("name", ["part.tar", "part.tar.zst"])
def test_a_package_is_checked_by_sha256sum_and_by_relay(
    archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """The open day's log has a line that is being written; it is left out."""
    with (archive / "router1" / "2024-03-08.log").open("ab") as file:
        file.write(b"<13>1 half")
    package = tmp_path / name
    arguments = ["archive", "export", str(archive), "--from", "2024-03-07", "--output", str(package)]
    assert main(arguments) == 0
    assert f"{package}: 8 files of 2 originators, " in capfd.readouterr().out
    folder = unpacked(package, tmp_path / "elsewhere")
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    manifest = json.loads((folder / "relay-export.json").read_text())
    assert (manifest["schema"], manifest["first_day"], manifest["last_day"]) == (
        "relay.export/1", "2024-03-07", "2024-03-08",
    )  # fmt: skip
    assert len(manifest["files"]) == 8
    assert main(["archive", "verify", str(folder)]) == 0
    shown = capfd.readouterr().out
    assert "router1: whole; 4 messages (4 numbered in 1 run), received 2024-03-07 to 2024-03-08" in shown
    assert "the chain begins in the middle: it continues 2024-03-06.ledger, which is not here" in shown
    assert "not made by relay" not in shown
    log = folder / "router1" / "2024-03-07.log"
    log.write_bytes(log.read_bytes().replace(b"LOGIN", b"LOGOU", 1))
    assert main(["archive", "verify", str(folder)]) == 65


def test_changed_files_are_exported_as_they_are_and_nothing_outside(
    archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = archive / "switch1"
    ledger, log = folder / "2024-03-07.ledger", folder / "2024-03-08.log"
    ledger.write_bytes(ledger.read_bytes().splitlines(keepends=True)[0] + b"torn")
    log.write_bytes(log.read_bytes()[:-9])
    assert main(["archive", "export", str(archive), "--output", str(tmp_path / "part.tar")]) == 0
    exported = unpacked(tmp_path / "part.tar", tmp_path / "elsewhere") / "switch1"
    for path in folder.iterdir():
        assert (exported / path.name).read_bytes() == path.read_bytes(), path.name
    log.unlink()
    log.symlink_to("/etc/passwd")
    assert main(["archive", "export", str(archive), "--output", str(tmp_path / "link.tar")]) == 66
    assert "2024-03-08.log: it is not a file" in capfd.readouterr().err
    assert not list(tmp_path.glob("link*"))


def test_an_extent_that_is_written_meanwhile_does_not_empty_the_log(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer appends an extent whenever the export has looked at the end of a ledger."""
    log = archive / "switch1/2024-03-08.log"
    exported = log.read_bytes()
    with ArchiveWriter(str(archive), "spool") as writer:
        looked = LedgerReader.lines_backward

        def lines_backward(reader: LedgerReader) -> Iterator[LocatedLine]:
            lines = looked(reader)
            yield next(lines)
            writer.write(foreign(9), NOON_US + 2 * DAY_US)
            writer.commit(b"9")
            yield from lines

        monkeypatch.setattr(LedgerReader, "lines_backward", lines_backward)
        assert main(["archive", "export", str(archive), "--output", str(tmp_path / "part.tar")]) == 0
    folder = unpacked(tmp_path / "part.tar", tmp_path / "elsewhere")
    assert (folder / "switch1/2024-03-08.log").read_bytes().startswith(exported)
    monkeypatch.undo()
    assert main(["archive", "verify", str(folder)]) == 0


def test_days_and_originators_are_chosen(archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "part.tar"
    arguments = ["--to", "2024-03-06", "--originator", "switch*", "--output", str(package)]
    assert main(["archive", "export", str(archive), *arguments, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["originators"] == ["switch1"]
    assert sorted(path.name for path in (unpacked(package, tmp_path / "x") / "switch1").iterdir()) == [
        "2024-03-06.ledger",
        "2024-03-06.log",
    ]


def test_mistakes_leave_nothing_behind(archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "part.tar"
    assert main(["archive", "export", str(archive), "--from", "2030-01-01", "--output", str(package)]) == 66
    assert "no day of the archive is selected" in capfd.readouterr().err
    assert main(["archive", "export", str(archive), "--output", str(tmp_path / "none" / "part.tar")]) == 74
    package.touch()
    assert main(["archive", "export", str(archive), "--output", str(package)]) == 73
    assert "the file exists already" in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "part.tar"]
