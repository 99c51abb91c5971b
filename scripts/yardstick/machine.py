"""The machine of a table, and the peers on it: what a reader needs to compare, without names or paths."""

import os
import platform
import re
import subprocess
import tempfile
from pathlib import Path

from harness.debian import OPENSSH, RSYSLOG, SYSLOG_NG, Component, fetch


def machine() -> str:
    """Cores, processor, memory, file system of the temporary folder, kernel, Python, load; one line."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cores} cores of {_processor()}, {memory:.0f} GiB, {_file_system()}, "
        f"Linux {platform.release()}, Python {platform.python_version()}; load {os.getloadavg()[0]:.1f}"
    )


def peers() -> str:
    """The versions of the programs that are measured beside relay; one line."""
    return ", ".join(
        (
            f"OpenSSH {_version(OPENSSH, 'usr/bin/ssh', '-V')}",
            f"rsyslog {_version(RSYSLOG, 'usr/sbin/rsyslogd', '-v')}",
            f"syslog-ng {_version(SYSLOG_NG, 'usr/sbin/syslog-ng', '-V')}",
        )
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system() -> str:
    """Return the type of the file system of spools and queues."""
    device = Path(tempfile.gettempdir()).stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    # proc_pid_mountinfo(5): the third word is the device; the file system's type follows a lone hyphen.
    rows = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return next((row[row.index("-") + 1] for row in rows if row[2] == wanted), "an unknown file system")


def _version(component: Component, program: str, option: str) -> str:
    root = fetch(component)
    environment = root.environment()
    environment["LD_LIBRARY_PATH"] += f":{root.path / 'usr/lib/syslog-ng'}"
    argv = [root.file(program), option]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  a fetched peer
    found = re.search(r"\d+\.\d+\S*", done.stdout + done.stderr)
    return found[0].strip(",()") if found else "?"
