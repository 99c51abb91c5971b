"""A machine under the real systemd: Debian's, as process 1 of a pid namespace, with its own journal and D-Bus.

It has its own processes, mounts, host name, network (loopback alone) and cgroups. Its /usr is this machine's,
read-only, with Debian's systemd and dbus over it. relay is in /usr/local/bin as if it were installed. Everything else
is in a folder of the test. Units are found only in /etc/systemd/system, and of Debian's units only `_UNITS` exist.

Nothing in it can halt anything: it has no poweroff.target, and no process in it has CAP_SYS_BOOT. Clock, kernel modules
and /proc/sys are out of its reach too. The kernel's audit belongs to the whole machine: no process in another pid
namespace is allowed to read its status or change it, but systemd sends it a record of every start and stop. So a test
that needs the audit alone waits for the others (`kernel_auditd.LOCK`).

The end of the `with` block kills every process and removes the cgroups. Only root can make such a machine, where it is
allowed to make namespaces and cgroups; elsewhere an AssertionError reports that at once.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import relay
from harness.debian import DBUS, SYSTEMD, fetch
from harness.kernel_auditd import LOCK
from harness.process import Process, Workplace, descendants
from harness.waiting import wait_until

_TRUSTED: Final = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNITS: Final = (
    *("basic.target", "sysinit.target", "sockets.target", "paths.target", "multi-user.target", "network.target"),
    *("dbus.service", "dbus.socket", "systemd-journald.service", "systemd-journald.socket"),
)
"""The machine has no unit that shuts it down: neither poweroff.target nor shutdown.target."""
_WANTED: Final = (
    "sysinit.target.wants/systemd-journald.service",
    "sockets.target.wants/systemd-journald.socket",
    "sockets.target.wants/dbus.socket",
)
_AUTHORITIES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
"""Debian's pip reads them at its start, even when it uses no index."""
_NEVER: Final = "-sys_boot,-sys_time,-sys_module"
_FOLDERS: Final = (
    *("etc/systemd/system", "usr", "proc", "sys", "dev", "run", "tmp", "home", "root", "outside"),
    *("opt/bin", "opt/relay", "opt/python", "opt/packages", "var/lib", "var/log", "var/tmp", "var/mail"),
)
_FILES: Final = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nmessagebus:x:101:101::/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nmessagebus:x:101:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "etc/hosts": "127.0.0.1 localhost router\n",
    "etc/hostname": "router\n",
    "etc/machine-id": "128128128128128128128128128128ab\n",
    "etc/os-release": "ID=debian\n",
    "etc/login.defs": "SYS_UID_MIN 100\nSYS_UID_MAX 999\nSYS_GID_MIN 100\nSYS_GID_MAX 999\nUSERGROUPS_ENAB yes\n",
    # Whether the kernel audits is decided by the whole machine: the journal leaves it unchanged.
    "etc/systemd/journald.conf": "[Journal]\nStorage=volatile\nAudit=\n",
}
_PROGRAM: Final = """#!/bin/sh
export LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt:/opt/packages
exec /opt/python/bin/python3 {}"$@"
"""
_PROGRAMS: Final = {"relay": _PROGRAM.format("-m relay "), "python-of-relay": _PROGRAM.format("")}
# $1 the root; $2, $3, $4: relay, Python and its packages. Then the overlays: for each the path and its layers.
_SET_UP: Final = f"""
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
mount --bind "$2" opt/relay
mount --bind "$3" opt/python
mount --bind "$4" opt/packages
shift 4
while [ $# -gt 0 ]; do mount -t overlay -o "ro,lowerdir=$2" none "$1"; shift 2; done
mount -t tmpfs -o mode=755 none usr/local
mkdir usr/local/bin
cp opt/bin/* usr/local/bin
mount -t proc none proc
mount --bind proc/sys proc/sys
for place in opt/relay opt/python opt/packages proc/sys; do mount -o remount,bind,ro $place; done
mount -t sysfs -o ro none sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
mkdir dev/pts dev/shm
for device in null zero full random urandom tty; do : >dev/$device; mount --bind /dev/$device dev/$device; done
mount -t devpts -o newinstance,ptmxmode=0666 none dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 none dev/shm
mount -t tmpfs -o mode=755 none run
pivot_root . outside
umount -l outside
cd /
exec env -i PATH={_TRUSTED} container=relay-test SYSTEMD_UNIT_PATH=/etc/systemd/system \\
    setpriv --bounding-set={_NEVER} /lib/systemd/systemd --system --unit=multi-user.target
"""
_NEEDS: Final = (
    "to make a machine under systemd one must be root, and may make namespaces and cgroups "
    "(a container must have been started with --privileged)"
)
_INTO_CGROUP: Final = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
_NAMESPACES: Final = ("--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup")


class SystemdMachine:
    """It runs in the `with` block. `root` holds its files, except those in /usr and those in memory."""

    def __init__(self) -> None:
        self._layers = [fetch(DBUS).path, fetch(SYSTEMD).path, Path("/")]
        self._place = Workplace("systemd")
        self._empty = self._place.path / "empty"
        self.root = self._place.path / "root"
        self.units = self.root / "etc/systemd/system"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._place.remove)
            assert os.geteuid() == 0, _NEEDS
            fcntl.flock(undo.enter_context(LOCK.open("a")), fcntl.LOCK_SH)
            self._furnish()
            cgroup = _inner_cgroup(self._place.path.name)
            undo.callback(_remove, cgroup)
            unshare = ["setpriv", "--pdeathsig=KILL", "unshare", *_NAMESPACES, "--fork", "--kill-child"]
            argv = ["sh", "-ec", _INTO_CGROUP, "sh", str(cgroup), *unshare, "sh", "-ec", _SET_UP, "sh", *self._set_up()]
            self._holder = undo.enter_context(Process(argv, self._place.path / "holder.log"))
            self._init = _first_process(self._holder)
            wait_until(self._is_up, 60, lambda: f"a system that runs:\n{self._holder.log}{self.journal()}")
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _furnish(self) -> None:
        self._empty.mkdir()
        for name in _FOLDERS:
            (self.root / name).mkdir(parents=True)
        for name, text in _FILES.items():
            (self.root / name).write_text(text)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.root / name).symlink_to(f"usr/{name}")
        (self.root / "var/run").symlink_to("/run")
        shutil.copy("/etc/ld.so.cache", self.root / "etc")
        if _AUTHORITIES.exists():
            (self.root / _AUTHORITIES.relative_to("/")).parent.mkdir(parents=True)
            shutil.copy(_AUTHORITIES, self.root / _AUTHORITIES.relative_to("/"))
        for name, script in _PROGRAMS.items():
            program = self.root / "opt/bin" / name
            program.write_text(script)
            program.chmod(0o755)
        for name in _UNITS:
            shutil.copy(self._debian(f"lib/systemd/system/{name}"), self.units)
        for name in _WANTED:
            (self.units / name).parent.mkdir(exist_ok=True)
            (self.units / name).symlink_to(f"../{Path(name).name}")

    def _debian(self, name: str) -> Path:
        """Return a file of the packages, or else of this machine."""
        places = [layer / place for layer in self._layers for place in (name, f"usr/{name}")]
        found = next((place for place in places if place.exists()), None)
        assert found is not None, f"none of {places} exists"
        return found

    def _set_up(self) -> list[str]:
        """Return the arguments of `_SET_UP`."""
        words = [str(self.root), str(Path(relay.__file__).parent), sys.base_prefix, sysconfig.get_path("purelib")]
        # Packages differ in whether /lib is spelled /usr/lib. Each overlay is on real folders, not on an overlay.
        for place in ("usr", "usr/bin", "usr/sbin", "usr/lib"):
            parts = {place, place.removeprefix("usr/")}
            folders = [layer / part for layer in self._layers for part in sorted(parts)]
            folders.append(self._empty)  # an overlay needs two layers, and the packages may have nothing at a path
            words += [place, ":".join(dict.fromkeys(str(folder.resolve()) for folder in folders if folder.is_dir()))]
        return words

    def _is_up(self) -> bool:
        assert self._holder.running, f"{_NEEDS}; here: {self._holder.log}"
        try:
            begun = os.readlink(f"/proc/{self._init}/exe").endswith("/systemd")
        except OSError:  # it has just ended, and its parent is about to
            return False
        return begun and self.ask("systemctl", "is-system-running").stdout == "running\n"

    def ask(
        self, *command: str, user: str = "root", stdin: str = "", seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end, with `stdin` as standard input; the caller checks the exit code."""
        rights = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        return subprocess.run(
            ["nsenter", "--target", str(self._init), "--all", *rights, *command],
            env={"PATH": _TRUSTED, "LC_ALL": "C.UTF-8"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def run(self, *command: str, user: str = "root", stdin: str = "", seconds: float = 60) -> str:
        """Run a command there, which must succeed, and return its output."""
        done = self.ask(*command, user=user, stdin=stdin, seconds=seconds)
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def has(self, path: str) -> bool:
        """Return whether that file exists there."""
        return self.ask("test", "-e", path).returncode == 0

    def add(self, unit: str, text: str) -> None:
        """Write a unit, or a drop-in, of the test's."""
        path = self.units / unit
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.run("systemctl", "daemon-reload")

    def property_of(self, unit: str, key: str) -> str:
        """Return one property of a unit, as systemd reports it."""
        return self.run("systemctl", "show", "--value", f"--property={key}", unit).strip()

    def wait_until_property(self, unit: str, key: str, value: str) -> None:
        """Return when a property of a unit has this value."""
        wait_until(
            lambda: self.property_of(unit, key) == value,
            60,
            lambda: f"{key}={value} of {unit}; it is {self.property_of(unit, key)}:\n{self.journal()}",
        )

    def journal(self, unit: str = "") -> str:
        """Return the journal of all units, or of one: lines of user, priority and message."""
        which = ["--unit", unit] if unit else []
        lines = self.ask("journalctl", "--quiet", "--output=json", *which).stdout.splitlines()
        return "".join("{_UID} <{PRIORITY}> {MESSAGE}\n".format(**json.loads(line)) for line in lines)


def _inner_cgroup(name: str) -> Path:
    """Make a new cgroup in that of this process."""
    cgroup = _own_cgroup() / name
    try:
        cgroup.mkdir()
    except OSError as error:
        raise AssertionError(f"{_NEEDS}; here: {error}") from error
    return cgroup


def _own_cgroup() -> Path:
    """Return this process's cgroup, where the second hierarchy is mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    place = next((words[1] for words in mounts if words[2] == "cgroup2"), None)
    assert place is not None, "systemd needs cgroup2, and it is not mounted on this machine"
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line for line in lines if line.startswith("0::/")), "0::/")
    return Path(place) / own.removeprefix("0::/")


def _remove(cgroup: Path) -> None:
    """Remove an empty cgroup, the inner ones first."""
    events = cgroup / "cgroup.events"
    wait_until(lambda: "populated 0" in events.read_text(), 60, "the end of every process of the machine")
    for folder, _, _ in os.walk(cgroup, topdown=False):
        Path(folder).rmdir()


def _first_process(parent: Process) -> int:
    """Return the process that is process 1 of the new namespace."""
    wait_until(lambda: descendants(parent.pid) or not parent.running, 60, "the namespace's first process")
    found = descendants(parent.pid)
    assert found, f"{_NEEDS}; here: {parent.log}"
    return found[0]
