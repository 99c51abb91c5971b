"""`relay events --archive` as a user calls it: search, and a bookmark that survives every end of the process."""

import gzip
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.made_archive import SECOND, MadeDay
from harness.relay import RELAY
from harness.waiting import wait_until

from relay.archive.layout import begin_of
from relay.cli import main

BEGIN = begin_of("2026-11-29")


def own(number: int, host: str = "router1", kind: str = "audit", text: str = "") -> bytes:
    return (
        f"<109>1 2026-11-29T16:34:{number % 60:02}.347Z {host} auditd - LOGIN "
        f'[128T relayRun="5f" relaySeq="{number}" type="{kind}" router="r"] {text or number}'
    ).encode()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    first = MadeDay("router1", "2026-11-29")
    first.extent(BEGIN, [own(1, text="one"), own(2, text="two")], sender="192.0.2.7", identity="SHA256:abc")
    second = MadeDay("fw1", "2026-11-29")
    second.extent(BEGIN + SECOND, [b"%ASA-6-302013: Built outbound", b"<30>Nov 29 01:02:03 fw1 sshd[7]: three"])
    for day in (first, second):
        day.save(tmp_path / "archive")
    return tmp_path / "archive"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["one", "two", "outbound", "three"]),
        (["--reverse"], ["three", "outbound", "two", "one"]),
        (["--reverse", "--limit", "2"], ["three", "outbound"]),
        (["--limit", "2"], ["outbound", "three"]),
        (["--originator", "router*"], ["one", "two"]),
        (["--peer", "192.0.2.0/29"], ["one", "two", "outbound", "three"]),
        (["--peer", "192.0.2.7"], ["one", "two"]),
        (["--identity", "SHA256:*"], ["one", "two"]),
        (["--received-from", "2026-11-29T00:00:01Z"], ["outbound", "three"]),
        (["--received-to", "2026-11-29T00:00:00Z"], ["one", "two"]),
        (["--grep", "t"], ["one", "two", "outbound", "three"]),
        (["--regex", "^<30>|two$"], ["two", "three"]),
        (["--router", "fw1"], ["three"]),
        (["--program", "%ASA-*", "--program", "sshd"], ["outbound", "three"]),
        (["--field", "router=r"], ["one", "two"]),
    ],
)
def test_each_option_selects_in_an_archive(
    archive: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], expected: list[str]
) -> None:
    assert main(["events", "--archive", str(archive), *arguments]) == 0
    assert [line.rpartition(" ")[2] for line in capfd.readouterr().out.splitlines()] == expected


def test_every_command_takes_the_archive_from_the_configuration(
    archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "receive.toml"
    config.write_text(f'[receiver]\nlisten = ["tcp://127.0.0.1:1514"]\narchive = "{archive}"\n')
    package = str(tmp_path / "all.tar")
    for arguments, expected in (
        (["events", "--archive", "--limit", "1"], "three"),
        (["events", "--limit", "1", "--archive"], "three"),
        (["events", "--originator", "router1"], "  two"),
        (["events", "--peer", "192.0.2.7"], "  two"),
        (["events", "--identity", "SHA*"], "  two"),
        (["events", "--received-to", "2026-11-29T00:00:00Z"], "  two"),
        (["events", "--received-from", "2026-11-29T00:00:01Z"], "three"),
        (["fleet"], f"{archive}: 2 originators"),
        (["archive", "verify"], f"{archive}: not verifiable"),  # the writer's journal is not made here
        (["archive", "export", "--output", package], "4 files of 2 originators"),
    ):
        assert main([*arguments, "-c", str(config)]) == (65 if "verify" in arguments else 0), arguments
        assert expected in capfd.readouterr().out
    config.write_text(f'[receiver]\nlisten = ["tcp://127.0.0.1:1514"]\narchive = "{archive}x"\n')
    for arguments in (["events", "--originator", "fw1"], ["fleet"], ["archive", "verify"]):
        assert main([*arguments, "-c", str(config)]) == 66
        assert f'{archive}x: there is no such folder; did you mean "{archive}"?' in capfd.readouterr().err


def test_an_unknown_router_is_an_error(archive: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "--archive", str(archive), "--router", "fw2"]) == 66
    assert main(["events", "--archive", str(archive), "--router", "fw1", "--received-to", "2026-11-28"]) == 0
    assert 'router "fw2": no event here has it' in capfd.readouterr().err


def test_lines_for_people(archive: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "--archive", str(archive)]) == 0
    shown = capfd.readouterr().out.splitlines()
    assert shown[0] == "2026-11-29T16:34:01.347Z  router1     audit       LOGIN       one"
    assert shown[2] == "~2026-11-29T00:00:01.000Z  fw1         log         -           %ASA-6-302013: Built outbound"
    assert shown[3].endswith("fw1         log         -           sshd[7]: three")


def test_an_object_has_receipt_provenance_and_marks(archive: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "--archive", str(archive), "--json"]) == 0
    first, *_, last = map(json.loads, capfd.readouterr().out.splitlines())
    assert (first["schema"], first["run"], first["number"]) == ("relay.events/2", "5f", 1)
    assert {name: first[name] for name in ("originator", "received", "peer", "identity", "via", "marks")} == {
        "originator": "router1",
        "received": ["2026-11-29T00:00:00.000Z", "2026-11-29T00:00:00.000Z"],
        "peer": "192.0.2.7",
        "identity": "SHA256:abc",
        "via": "tcp://0.0.0.0:514 syslog",
        "marks": [],
    }
    assert (last["app_name"], last["procid"], last["message"], last["severity"]) == ("sshd", "7", "three", 6)


class Shipper:
    """`relay events --follow --json --bookmark` into a file that grows over all its lives."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.out = folder / "out"
        self.bookmark = folder / "bookmark"
        with self.out.open("ab") as file:
            self.child = subprocess.Popen(
                [*RELAY, "events", "--archive", archive, "--follow", "--json", "--bookmark", self.bookmark],
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def texts(self) -> list[str]:
        lines: list[dict[str, Any]] = [json.loads(line) for line in self.out.read_text().splitlines()]
        return [line["message"] for line in lines]

    def wait_for(self, *expected: str) -> None:
        wait_until(lambda: self.texts() == list(expected), 60, lambda: f"{expected}, not {self.texts()}")

    def end(self, number: int) -> int:
        self.child.send_signal(number)
        return self.child.wait(60)


def test_a_bookmark_continues_after_an_end_a_kill_a_closed_a_compressed_and_a_removed_day(tmp_path: Path) -> None:
    archive, texts = tmp_path / "archive", ["1", "2"]
    day = MadeDay("router1", "2026-11-29")
    day.extent(BEGIN, [own(1), own(2)])
    folder = day.save(archive)
    shipper = Shipper(archive, tmp_path)
    shipper.wait_for(*texts)
    day.extent(BEGIN + SECOND, [own(3)])
    day.save(archive)
    shipper.wait_for(*texts, "3")
    assert shipper.end(signal.SIGTERM) == 0

    day.extent(BEGIN + 2 * SECOND, [own(4)])
    day.close(BEGIN + 86_400 * SECOND)
    day.save(archive)
    following = MadeDay("router1", "2026-11-30", day)
    following.extent(BEGIN + 86_400 * SECOND, [own(5)])
    following.save(archive)
    (folder / "2026-11-29.log.gz").write_bytes(gzip.compress(day.log))
    (folder / "2026-11-29.log").unlink()
    shipper = Shipper(archive, tmp_path)
    shipper.wait_for("1", "2", "3", "4", "5")
    wait_until(lambda: '"2026-11-30"' in shipper.bookmark.read_text(), 60, "the bookmark")
    shipper.end(signal.SIGKILL)

    following.extent(BEGIN + 86_401 * SECOND, [own(6)])
    following.close(BEGIN + 2 * 86_400 * SECOND)
    following.remove(BEGIN + 9 * 86_400 * SECOND)
    following.save(archive, log=False)
    (folder / "2026-11-30.log").unlink()
    last = MadeDay("router1", "2026-12-01", following)
    last.extent(BEGIN + 2 * 86_400 * SECOND, [own(7)])
    last.save(archive)
    other = MadeDay("fw1", "2026-12-01")
    other.extent(BEGIN + 2 * 86_400 * SECOND + 1, [own(1, "fw1", text="other")])
    other.save(archive)
    done = subprocess.run(
        [*RELAY, "events", "--archive", archive, "--json", "--bookmark", shipper.bookmark],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert [json.loads(line)["message"] for line in done.stdout.splitlines()] == ["7", "other"]
    assert "2026-11-30" in done.stderr
    assert "removed by retention (age) on 2026-12-08" in done.stderr
    assert done.returncode == 0


def test_a_wrong_bookmark_is_an_error(archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bookmark").write_text("{}")
    assert main(["events", "--archive", str(archive), "--bookmark", str(tmp_path / "bookmark")]) == 65
    assert "it is not a bookmark" in capfd.readouterr().err
    assert main(["events", "--archive", str(archive), "--bookmark", str(tmp_path / "none" / "bookmark")]) == 66


@pytest.mark.parametrize(
    ("zone", "expected"), [("+02:00", "2026-11-29T07:00:01.000Z"), ("Asia/Tokyo", "2026-11-29T00:00:01.000Z")]
)
def test_a_time_without_a_zone_is_in_that_of_the_configuration(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], zone: str, expected: str
) -> None:
    day = MadeDay("h1", "2026-11-29")
    day.extent(BEGIN, [b"<13>Nov 29 09:00:01 h1 app: text"])
    day.save(tmp_path / "archive")
    configuration = tmp_path / "relay.toml"
    configuration.write_text(f'[receiver]\nzone = "{zone}"\n')
    assert main(["-c", str(configuration), "events", "--archive", str(tmp_path / "archive")]) == 0
    assert capfd.readouterr().out.startswith(expected)


def test_people_see_the_program_of_a_log_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    day = MadeDay("web1", "2026-11-29")
    forms = (
        b"<30>Nov 29 01:02:03 web1 shop[7]: old form",
        b"<30>1 2026-11-29T01:02:03Z web1 shop 7 - -  new form",
        b"<30>1 2026-11-29T01:02:03Z web1 shop - - - \xef\xbb\xbfno number",
        b"<30>1 2026-11-29T01:02:03Z web1 - - - - no program",
    )
    day.extent(BEGIN, list(forms), via="")
    day.save(tmp_path / "archive")
    assert main(["events", "--archive", str(tmp_path / "archive"), "--full"]) == 0
    lines = capfd.readouterr().out.splitlines()
    shown = ["shop[7]: old form", "shop[7]: new form", "shop: no number", "no program"]
    assert [line.strip() for line in lines[1::3]] == shown
    assert all(line.endswith("Z, without a recorded sender") for line in lines[2::3])
