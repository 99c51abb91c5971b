"""`relay archive export`: a package that another machine can check."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive.messages import DAY_US, NOON_US, foreign
from archive.relay_events import numbered
from harness.made_archive import MadeDay

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
    assert "the package begins here: the days up to 2024-03-06.ledger were not chosen" in shown
    assert f"an exported package, made on {manifest['made']} from {archive}" in shown
    for defect in ("not made by relay", "begins in the middle", "there is no journal"):
        assert defect not in shown
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


def test_a_package_has_what_belongs_to_an_originator(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Messages that were stored aside have some of its numbers, and somebody else may have used its name."""
    for name, messages in (
        ("router1", numbered(1, 2)),
        ("~aside/router1", numbered(3, 4)),
        ("~disputed/router1", [foreign(1, host="router1")]),
        ("~aside/~disputed~router1", [foreign(2, host="router1")]),
        ("router2", [foreign(3, host="router2")]),
        ("~aside/router2", [foreign(4, host="router2")]),
    ):
        day = MadeDay(name.rpartition("/")[2].rpartition("~")[2], "2024-03-06")
        day.extent(NOON_US, messages)
        shutil.move(day.save(tmp_path / "made"), tmp_path / "archive" / name)
    archive, package = tmp_path / "archive", tmp_path / "router1.tar"
    assert main(["archive", "export", str(archive), "--originator", "router1", "--output", str(package), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["originators"] == [
        "router1", "~aside/router1", "~aside/~disputed~router1", "~disputed/router1",
    ]  # fmt: skip
    folder = unpacked(package, tmp_path / "elsewhere")
    assert main(["archive", "verify", str(folder)]) == 0
    shown = capfd.readouterr().out
    assert "stored here because the originator's own folder could not be written" in shown
    assert "messages under a name that is bound to another sender" in shown
    # The originator's history has what was stored aside, and not what others sent under its name.
    assert main(["events", "--archive", str(archive), "--originator", "router1"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 4


def test_a_file_that_left_a_package_is_missed(archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without the newest day, what is left is whole: only the description knows that day."""
    package = tmp_path / "part.tar"
    assert main(["archive", "export", str(archive), "--output", str(package)]) == 0
    folder = unpacked(package, tmp_path / "elsewhere")
    for name in ("2024-03-08.log", "2024-03-08.ledger"):
        (folder / "switch1" / name).unlink()
    assert main(["archive", "verify", str(folder)]) == 65
    captured = capfd.readouterr()
    assert f"{folder}/switch1/2024-03-08.log: missing" in captured.err
    assert "not whole, 2 files missing" in captured.out
    (folder / "relay-export.json").write_text("{")
    assert main(["archive", "verify", str(folder)]) == 65
    assert "relay-export.json: cannot be read: it is not a package's description" in capfd.readouterr().err


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
