"""Private OpenSSH peers: a server for relay's client side, and `ssh -L` for relay's own SSH end.

The server accepts only keys, listens on a free loopback port, runs in the foreground and writes its log beside its
files. An sshd that runs as root needs a user `sshd` and /run/sshd, which a plain machine does not have. So a test that
runs as root starts it as the user `daemon` (not as nobody, which nss-systemd declares locked). In both cases only that
user can log in: `Sshd.user`.
"""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.debian import OPENSSH, Root, fetch
from harness.peer import Peer
from harness.ports import LOOPBACK, free_port
from harness.process import Process, Workplace, descendants, freeze, signal_all, suspend
from relay.values.configuration.settings import PortForwarding

_SESSION = "usr/lib/openssh/sshd-session"
_AUTH = "usr/lib/openssh/sshd-auth"


def _is_root() -> bool:
    return os.geteuid() == 0


def _login() -> pwd.struct_passwd:
    """Return the user that a private sshd runs as and logs in."""
    return pwd.getpwnam("daemon") if _is_root() else pwd.getpwuid(os.geteuid())


def generate_key(path: Path, kind: str = "ed25519", *options: str, passphrase: str = "") -> Path:
    """Make a key pair with ssh-keygen and return the private key's path; the public key's path has `.pub` added."""
    root = fetch(OPENSSH)
    argv = [
        root.file("usr/bin/ssh-keygen"),
        "-q",
        "-t",
        kind,
        "-N",
        passphrase,
        "-C",
        path.name,
        "-f",
        str(path),
        *options,
    ]
    subprocess.run(argv, env=root.environment(), stdin=subprocess.DEVNULL, check=True, capture_output=True)
    return path


def fingerprint(public_key: Path) -> str:
    """Return a public key's fingerprint, as `ssh-keygen -l` prints it: `SHA256:…`."""
    root = fetch(OPENSSH)
    argv = [root.file("usr/bin/ssh-keygen"), "-l", "-f", str(public_key)]
    done = subprocess.run(argv, env=root.environment(), check=True, capture_output=True, text=True)
    return done.stdout.split()[1]


def sshd_command(root: Root, configuration: Path) -> list[str]:
    """Return the command that runs an unpacked sshd in the foreground.

    From version 9.8 on, sshd executes a program for each session, and from 10.0 on another one for the login. It looks
    for them at the paths of the installed package, so it gets the paths of the unpacked ones.
    """
    paths = {"SshdSessionPath": root.path / _SESSION, "SshdAuthPath": root.path / _AUTH}
    options = [word for name, path in paths.items() if path.exists() for word in ("-o", f"{name}={path}")]
    return [root.file("usr/sbin/sshd"), "-D", "-e", "-f", str(configuration), *options]


class Sshd(Peer):
    """A server with its own host keys and `authorized_keys`; it runs in the `with` block.

    `options` are further lines of sshd_config, which override ours ("PermitOpen 127.0.0.1:9999", "RekeyLimit 1M"). Its
    sessions are its descendants, and are killed with it. Files for tests: `client_key` (accepted), `other_key` (not
    accepted), `known_hosts`.
    """

    def __init__(self, options: Sequence[str] = (), host_key_types: Sequence[str] = ("ed25519",)) -> None:
        super().__init__("sshd", fetch(OPENSSH))
        self._options = tuple(options)
        self.user = _login().pw_name
        self.host_keys = [generate_key(self.folder / f"host_{kind}", kind) for kind in host_key_types]
        self.client_key = generate_key(self.folder / "client")
        self.other_key = generate_key(self.folder / "other")
        self.authorized_keys = self.folder / "authorized_keys"
        self.authorized_keys.write_text(self.client_key.with_suffix(".pub").read_text())
        self.known_hosts = self.folder / "known_hosts"
        self._hand_over(*self.host_keys, self.authorized_keys)

    def _hand_over(self, *files: Path) -> None:
        if _is_root():
            for file in files:
                os.chown(file, _login().pw_uid, _login().pw_gid)

    def _command(self) -> list[str]:
        config = self.folder / "sshd_config"
        config.write_text("\n".join(self._configuration()) + "\n")
        self.known_hosts.write_text("".join(self.known_hosts_line(key) for key in self.host_keys))
        argv = sshd_command(self._root, config)
        if _is_root():
            setpriv = shutil.which("setpriv")
            assert setpriv is not None, (
                "a test that is root runs sshd as another user with setpriv (package util-linux)"
            )
            argv = [setpriv, f"--reuid={_login().pw_uid}", f"--regid={_login().pw_gid}", "--clear-groups", *argv]
        return argv

    def _listens(self) -> bool:
        return "Server listening on" in self.log

    def _configuration(self) -> list[str]:
        return [
            *self._options,  # sshd uses the first value of each keyword
            f"Port {self.port}",
            f"ListenAddress {self.host}",
            *(f"HostKey {key}" for key in self.host_keys),
            f"AuthorizedKeysFile {self.authorized_keys}",
            "AuthenticationMethods publickey",
            "StrictModes no",
            "PidFile none",
            "UsePAM no",
            "UseDNS no",
            "LogLevel VERBOSE",
            # From version 9.8 on, sshd closes the connections of an address from which logins have failed.
            *(["PerSourcePenalties no"] if (self._root.path / _SESSION).exists() else []),
        ]

    def known_hosts_line(self, host_key: Path) -> str:
        """Return the known_hosts line for one of its host keys."""
        kind, blob = host_key.with_suffix(".pub").read_text().split()[:2]
        return f"[{self.host}]:{self.port} {kind} {blob}\n"

    def forwarding(self, remote_port: int, **changes: Any) -> PortForwarding:
        """Return the settings with which relay reaches a port of this machine through this server; `changes` win."""
        settings: dict[str, Any] = {
            "remote_host": LOOPBACK,
            "remote_port": remote_port,
            "server_address": self.host,
            "server_port": self.port,
            "username": self.user,
            "private_key": str(self.client_key),
            "known_hosts": str(self.known_hosts),
        }
        return PortForwarding.model_validate(settings | changes)

    def sessions(self) -> list[int]:
        """Return the processes that serve connections now."""
        return descendants(self.pid)

    def kill(self) -> None:
        """Kill the listener and every session."""
        if self._running.running:
            suspend([self.pid])  # it accepts no connection any more
            self.kill_sessions()
        self._running.kill()

    def kill_sessions(self) -> None:
        """Kill the sessions; the listener continues."""
        signal_all(freeze(self.pid), signal.SIGKILL)

    def stop_sessions(self) -> None:
        """Freeze the sessions: they are dead peers whose kernel still accepts octets."""
        freeze(self.pid)

    def resume_sessions(self) -> None:
        """Let frozen sessions continue."""
        signal_all(self.sessions(), signal.SIGCONT)


class SshClient:
    """OpenSSH's `ssh -N -L`: a local port that leads to an address behind an SSH server."""

    def __init__(
        self,
        *,
        port: int,
        key: Path,
        known_hosts: Path,
        destination: str,
        user: str = "relay",
        options: Sequence[str] = (),
    ) -> None:
        self._place = Workplace("ssh")
        self.local_port = free_port()
        root = fetch(OPENSSH)
        argv = [
            *ssh_command(root, key=key, known_hosts=known_hosts, port=port),
            *(word for option in ("ExitOnForwardFailure=yes", *options) for word in ("-o", option)),
            *("-v", "-N", "-T", "-L", f"{LOOPBACK}:{self.local_port}:{destination}", f"{user}@{LOOPBACK}"),
        ]
        self.process = Process(argv, self._place.path / "ssh.log", root.environment())

    def __enter__(self) -> Self:
        self.process.wait_for_log("Local forwarding listening on")
        self.process.wait_for_log("Entering interactive session")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self._place.remove()


def ssh_command(root: Root, *, key: Path, known_hosts: Path, port: int) -> list[str]:
    """Return the beginning of an `ssh` command line that reads none of the user's files."""
    options = (
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={known_hosts}",
        "GlobalKnownHostsFile=none",
    )
    words = [word for option in options for word in ("-o", option)]
    return [root.file("usr/bin/ssh"), "-F", "none", "-i", str(key), "-p", str(port), *words]


def run_ssh(arguments: Sequence[str], *, key: Path, known_hosts: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Run `ssh ARGUMENTS` to its end, for at most 60 s."""
    root = fetch(OPENSSH)
    argv = [*ssh_command(root, key=key, known_hosts=known_hosts, port=port), *arguments]
    return subprocess.run(
        argv, env=root.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
