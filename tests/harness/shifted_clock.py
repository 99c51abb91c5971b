"""A clock ahead of this machine's for real programs: days pass in a moment, and a midnight comes when a test needs it.

The wall clock and the boot clock are shifted together, so time seems to have passed; timers run on, as the monotonic
clock is real. Debian's libfaketime cannot do that: time.sleep() fails where it leaves the monotonic clock alone.
"""

import datetime as dt
import os
import subprocess
import time
from pathlib import Path

_SOURCE = Path(__file__).with_name("shifted_clock.c")


class ShiftedClock:
    """Set it before a program starts with its `environment`, and at any time afterwards."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        library = folder / "shifted_clock.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)], check=True)
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._file)}
        self._shift = 0

    def set(self, moment: dt.datetime) -> None:
        """Let it be this moment now; not earlier than the real one."""
        self._shift = int(moment.timestamp() * 1_000_000_000) - time.time_ns()
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(self._shift))
        fresh.rename(self._file)

    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp((time.time_ns() + self._shift) / 1_000_000_000, dt.UTC)
