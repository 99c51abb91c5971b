"""A place to log in to: a mount namespace with its own /run, /var/log and utmp, and an sshd with Debian's PAM.

A user who logs in there is listed by `who`, is reached by `wall`, and sees the login message, as on a separate machine.
Nothing of this is visible outside. Only root can make one.
"""

import os
import pty
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.debian import OPENSSH, fetch
from harness.openssh import generate_key, sshd_command
from harness.ports import LOOPBACK, free_port
from harness.process import Process, Workplace
from harness.waiting import wait_until

TRUSTED = "/usr/sbin:/usr/bin:/sbin:/bin"
_SETUP = """
mount --make-rprivate /
mount -t tmpfs none /run
mount -t tmpfs none /var/log
mkdir -m 755 /run/sshd /run/relay
: >/run/utmp
cp -a /etc "$1/etc"
grep -q ^sshd: "$1/etc/passwd" || echo sshd:x:105:65534::/run/sshd:/usr/sbin/nologin >>"$1/etc/passwd"
sed -i 's,^root:.*,root:x:0:0::/:/bin/sh,' "$1/etc/passwd"
cp "$2" "$1/etc/pam.d/sshd"
mount --bind "$1/etc" /etc
echo ready
exec sleep infinity
"""


class LoginMachine:
    """The place, in the `with` block. A command that begins with `prefix` runs there."""

    def __init__(self) -> None:
        self._root = fetch(OPENSSH)
        self._place = Workplace("login")
        self._port = free_port()
        self._environment = {**self._root.environment(), "PATH": TRUSTED}
        self.folder = self._place.path

    def __enter__(self) -> Self:
        pam = self._root.file("etc/pam.d/sshd")
        argv = ["unshare", "--mount", "sh", "-ec", _SETUP, "sh", str(self.folder), pam]
        self._holder = Process(argv, self.folder / "holder.log")
        self._holder.wait_for_log("ready")
        self.prefix = ["nsenter", "--target", str(self._holder.pid), "--mount"]
        self._key = generate_key(self.folder / "key")
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self._port}\nListenAddress {LOOPBACK}\nHostKey {generate_key(self.folder / 'host')}\n"
            f"AuthorizedKeysFile {self._key}.pub\nUsePAM yes\nStrictModes no\nPidFile none\nPrintMotd no\n"
            "PermitRootLogin prohibit-password\n"
        )
        argv = [*self.prefix, *sshd_command(self._root, config)]
        self._sshd = Process(argv, self.folder / "sshd.log", self._environment)
        self._sshd.wait_for_log("Server listening on")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sshd.kill()
        self._holder.kill()
        self._place.remove()

    def run(self, *command: str) -> str:
        """Run a command there and return its output."""
        argv = [*self.prefix, *command]
        return subprocess.run(
            argv, env=self._environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    def start(self, argv: list[str], log: Path) -> Process:
        """Run a program there, without the tests' stubs on its PATH."""
        return Process([*self.prefix, *argv], log, {**os.environ, "PATH": TRUSTED})

    def log_in(self) -> "Terminal":
        """Log in as root, at a terminal of its own."""
        argv = [
            *(self._root.file("usr/bin/ssh"), "-F", "none", "-tt", "-i", str(self._key), "-p", str(self._port)),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentityAgent=none"),
            *("-o", "LogLevel=ERROR", f"root@{LOOPBACK}"),
        ]
        return Terminal(argv, self._environment)


class Terminal:
    """A person's terminal, in the `with` block; `shown` is everything that was printed on it."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self._argv = argv
        self._environment = environment
        self._shown = b""

    def __enter__(self) -> Self:
        self._screen, terminal = pty.openpty()
        self._ssh = subprocess.Popen(
            self._argv, env=self._environment, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
        )
        os.close(terminal)
        os.set_blocking(self._screen, False)
        wait_until(lambda: "# " in self.shown, 60, lambda: self.shown)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ssh.kill()
        self._ssh.wait()
        os.close(self._screen)

    @property
    def shown(self) -> str:
        try:
            while data := os.read(self._screen, 65536):
                self._shown += data
        except OSError:
            pass  # no more output at present, or the session is over
        return self._shown.decode(errors="replace")

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Return when the text was shown."""
        wait_until(lambda: text in self.shown, seconds, lambda: f"{text!r} on the terminal:\n{self.shown}")
