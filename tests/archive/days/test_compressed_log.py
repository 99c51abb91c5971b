"""Compressed logs are read by the offsets of the uncompressed log, whichever program compressed them."""

import random
import shutil
from contextlib import closing
from pathlib import Path

import pytest
import pyzstd
from harness.compressors import compressor

from relay.archive.days import compressed_log
from relay.archive.days.compressed_log import FRAME, OPTIONS, CompressedLog
from relay.errors import DataError, NoInputError

LOG = b"".join(b"<13>1 2026-11-27T10:00:00Z host app - - - line %d %x\n" % (n, n * n) for n in range(40_000))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same log, compressed by relay's library, and by zstd(1), gzip(1) and xz(1)."""
    folder = tmp_path_factory.mktemp("logs")
    plain = folder / "plain.log"
    plain.write_bytes(LOG)
    with pyzstd.SeekableZstdFile(
        folder / "seekable.log.zst", "w", level_or_option=OPTIONS, max_frame_content_size=FRAME
    ) as file:
        file.write(LOG)
    compressor("zstd", "-q", plain, "-o", folder / "zstd.log.zst")
    half = len(LOG) // 2
    for name, piece in (("a", LOG[:half]), ("b", LOG[half:])):
        (folder / name).write_bytes(piece)
        compressor("gzip", "-k", folder / name)
    (folder / "gzip.log.gz").write_bytes((folder / "a.gz").read_bytes() + (folder / "b.gz").read_bytes())
    compressor("xz", "-k", "-0", plain)
    (folder / "plain.log.xz").rename(folder / "xz.log.xz")
    return folder


NAMES = ("seekable.log.zst", "zstd.log.zst", "gzip.log.gz", "xz.log.xz")


@pytest.mark.parametrize("name", NAMES)
def test_every_piece_is_the_same_as_of_the_plain_log(folder: Path, name: str) -> None:
    with closing(CompressedLog(str(folder / name))) as log:
        assert log.size() == len(LOG)
        forward = b"".join(log.read(offset, 100_001) for offset in range(0, len(LOG), 100_001))
        assert forward == LOG
        for begin in range(len(LOG) // 300_000 * 300_000, -1, -300_000):
            assert log.read(begin, 300_000) == LOG[begin : begin + 300_000]
        chance = random.Random(7)
        for _ in range(200):
            offset, length = chance.randrange(len(LOG) + 10), chance.choice((0, 1, 80, 5000, FRAME, 3 * FRAME))
            assert log.read(offset, length) == LOG[offset : offset + length]
        log.close()


def test_a_piece_of_a_seekable_log_needs_one_frame(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    with closing(CompressedLog(str(folder / "seekable.log.zst"))) as log:
        whole = log._decompressed

        def counted(begin: int, end: int) -> bytes:
            asked.append((begin, end))
            return whole(begin, end)

        monkeypatch.setattr(log, "_decompressed", counted)
        for offset in range(FRAME + 90_000, FRAME, -90):
            assert log.read(offset, 90) == LOG[offset : offset + 90]
    assert asked == [(FRAME, 2 * FRAME)]


def test_a_stream_without_room_for_its_copy_is_read_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed_log, "SPOOL_FOLDER", str(folder / "missing"))
    with closing(CompressedLog(str(folder / "xz.log.xz"))) as log:
        assert log.read(FRAME * 2, 10) == LOG[FRAME * 2 : FRAME * 2 + 10]
        assert log.read(0, 10) == LOG[:10]


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_reported_with_the_files_name(folder: Path, tmp_path: Path, name: str) -> None:
    octets = (folder / name).read_bytes()
    middle = len(octets) // 2
    cases = {
        "cut": octets[:middle],
        "harmed": octets[:middle] + bytes(byte ^ 0x55 for byte in octets[middle : middle + 64]) + octets[middle + 64 :],
        "other": b"this is not compressed at all, whatever its name says\n" * 10,
        "empty": b"",
    }
    for case, content in cases.items():
        path = tmp_path / f"{case}-{name}"
        path.write_bytes(content)
        with (
            pytest.raises(DataError, match=f"{path}: its compressed data is damaged"),
            closing(CompressedLog(str(path))) as log,
        ):
            log.read(0, len(LOG))


def test_an_xz_that_needs_too_much_memory_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.log.xz"
    options = "--lzma2=dict=256MiB,mode=fast,mf=hc3,nice=8"
    path.write_bytes(compressor("xz", "-c", options, folder / "plain.log"))
    with pytest.raises(DataError, match=r"large.log.xz.*[Mm]emory"):
        CompressedLog(str(path))


def test_a_missing_log_and_a_link_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "gzip.log.gz", tmp_path / "real.log.gz")
    (tmp_path / "link.log.gz").symlink_to(tmp_path / "real.log.gz")
    for name in ("none.log.gz", "link.log.gz"):
        with pytest.raises(NoInputError, match=name):
            CompressedLog(str(tmp_path / name))
