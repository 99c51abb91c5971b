"""An administrator's day at the log server: each command as typed, with its real output.

Run by ./scripts/day. The machines of the day are folders: `log-server`, `edge1` (a router), `web1` (a web server with
rsyslog), `sw1` (a switch) and `auditor`, each with a shell of its own. The log server has a small disk of its own, a
tmpfs in a mount namespace, where the machine allows it. `SCENES` is the day; each scene is one block of the page
docs/a-day-at-the-log-server.md, and a test compares the two.
"""

import argparse
import contextlib
import datetime as dt
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from archive.days.closed_archive import ClosedArchive
from harness.debian import OPENSSH, RSYSLOG, fetch
from harness.ports import free_port
from harness.process import descendants, signal_all
from harness.small_disk import SmallDisk

from relay.program.watch.age_rule import AgeRule
from relay.spool.slots import Slots
from relay.system.clock import read_clocks
from relay.system.disk import Disk
from scripts.demo import events, port

CHECKOUT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = CHECKOUT / "docs" / "a-day-at-the-log-server.md"
DISK_SIZE: Final = "32m"
PATIENCE: Final = 40.0
"""Seconds for a command to print what is waited for."""


@dataclass(frozen=True)
class Typed:
    """A command on one of the machines."""

    machine: str
    text: str
    until: str = ""
    """The command is typed again until this regular expression is found in its output."""


@dataclass(frozen=True)
class Happens:
    """Something that nobody types."""

    text: str
    act: Callable[["Day"], None]


class Shell:
    """A shell on one machine; commands in the background end with it."""

    def __init__(self, folder: Path, prefix: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603  our own commands
            [*prefix, "bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
        )
        self.run(f"cd {folder}")  # nsenter may have left it

    def run(self, text: str) -> str:
        """Type a command; returns what it prints on stdout and stderr."""
        mark = b"\x00done\n"
        self._type(f"{{ {text}\n}} </dev/null; printf '\\0done\\n'\n")
        output = b""
        stdout = self._process.stdout
        if stdout is None:
            raise TypeError("it is a pipe")
        deadline = time.monotonic() + PATIENCE
        while not output.endswith(mark):
            if not select.select([stdout], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise SystemExit(f"day: {text} did not end within {PATIENCE:.0f} s: {output!r}")
            data = os.read(stdout.fileno(), 65536)
            if not data:
                raise SystemExit(f"day: the shell ended: {text}: {output!r}")
            output += data
        return output.removesuffix(mark).decode("utf-8", "replace")

    def _type(self, text: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()

    def end(self) -> None:
        """End what runs in the background, and the shell."""
        with contextlib.suppress(OSError):
            self._type("kill $(jobs -p) 2>/dev/null; wait\nexit\n")
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            signal_all([*reversed(descendants(self._process.pid)), self._process.pid], signal.SIGKILL)


def receiver_configuration(folder: Path, ports: dict[str, int]) -> str:
    """Return the configuration that deploy/README.md writes on a log server, for a folder and for ports above 1023."""
    page = (CHECKOUT / "deploy" / "README.md").read_text()
    found = re.search(r"cat >/etc/relay-receive/relay\.toml <<'END'\n(.*?)END\n", page, re.DOTALL)
    if found is None:
        raise SystemExit("day: deploy/README.md has no configuration")
    text = found[1]
    for former, new in {
        "/etc/relay-receive": str(folder),
        "/var/lib/relay-receive": f"{folder}/disk/spool",
        "/var/log/relay": f"{folder}/disk/archive",
        "0.0.0.0:514": f"0.0.0.0:{ports['syslog']}",
        ":9999": f":{ports['local']}",
        ":2222": f":{ports['ssh']}",
        # Others than this machine need not reach a log server that is only shown.
        "0.0.0.0": "127.0.0.1",  # noqa: S104  it is replaced
        "port 514": f"port {ports['syslog']}",
    }.items():
        text = text.replace(former, new)
    text += '\n[audit]\nspace-left = "4MiB"\n\n[spool]\nsegment-size = "1MiB"\nmax-size = "8MiB"\n'
    return text.replace("[relay]\n", f'[relay]\nhostname = "log-server"\nalarm-command = ["{folder}/report-alarm"]\n')


ROUTER: Final = """\
[relay]
hostname = "edge1"
state-directory = "{folder}/spool"

[[source]]
name = "audit"
path = "{folder}/audit.log"

[[port-forwarding]]
local-port = {forward}
remote-port = {local}
server-address = "127.0.0.1"
server-port = {ssh}
private-key = "{folder}/id_ed25519"
known-hosts = "{folder}/known_hosts"

[[remote-logging-server]]
address = "127.0.0.1"
port = {forward}
"""

WEB_SERVER: Final = """\
module(load="imptcp")
module(load="omrelp")
template(name="ours" type="string" string="<%pri%>%timereported:::date-rfc3339% web1 %programname%: %msg%")
input(type="imptcp" address="127.0.0.1" port="{web}")
action(type="omrelp" target="127.0.0.1" port="{syslog}" template="ours"
       action.resumeRetryCount="-1" action.resumeInterval="1")
"""

REPORT_ALARM: Final = """\
#!/bin/sh
echo "$RELAY_STATE $RELAY_SEVERITY $RELAY_ALARM $RELAY_SUBJECT" >>{folder}/alarms
"""

Step = Typed | Happens
PROVEN: Final = r"0 wait"


def an_old_day(folder: Path) -> None:
    """Make what the log server has from before: two old days of a firewall, and a clock that ran for long enough."""
    archive = ClosedArchive(folder / "disk" / "archive")
    today = dt.datetime.now(dt.UTC)
    for age in (60, 10):
        day = today - dt.timedelta(days=age)
        lines = [
            f"<134>1 {day:%Y-%m-%d}T{hour:02}:00:00Z fw9 filter - - - denied 192.0.2.{hour}\n" for hour in range(24)
        ]
        archive.add("fw9", f"{day:%Y-%m-%d}", "".join(lines).encode())
    spool = folder / "disk" / "spool"
    spool.mkdir(mode=0o700)
    now = read_clocks()
    Slots(Disk(), f"{spool}/slots").put("clock", AgeRule(wall=now.wall, boot=now.boot, hold=0).encode())


def typed(machine: str, *commands: str, until: str = "") -> list[Step]:
    """Return steps on one machine; `until` is for the last one."""
    return [Typed(machine, each, until if each is commands[-1] else "") for each in commands]


def log_audit_events(day: "Day") -> None:
    """Let auditd on edge1 log the events of the demo."""
    with day.audit_log.open("ab") as log:
        for event in events(1):
            day.serial += 1
            stamp = b" msg=audit(%.3f:%d)" % (time.time(), day.serial)
            log.write(b"".join(stamp.join(parts) + b"\n" for parts in event))


FULL_DISK: Final[list[Step]] = [
    *typed("log-server", "cat /dev/zero >disk/core; df -h disk"),
    *typed("web1", 'seq -f "order %g paid, $(printf %0400d)" 2001 5000 >orders'),
    *typed("web1", "logger -n 127.0.0.1 -P {web} -T -t shop -p local3.info -f orders"),
    *typed("log-server", "relay status --check", until="CRITICAL - alarm spool-full"),
    *typed("log-server", "tail -n 1 receive.log", until="space"),
    Happens("auditd on edge1 logs 26 events", log_audit_events),
    *typed("edge1", "relay status", until="events wait"),
    *typed("log-server", "rm disk/core"),
    *typed("log-server", "relay events --archive disk/archive --originator web1 --grep paid, | wc -l", until="^3000"),
    *typed("log-server", "relay events --archive disk/archive --originator edge1 --type audit | wc -l", until="^52"),
    *typed("log-server", "relay status --check", until=r"alarms=1;"),
]

SCENES: Final[list[list[Step]]] = [
    # Install
    [
        *typed("log-server", "cat relay.toml", "cat report-alarm"),
        *typed("log-server", 'ssh-keygen -q -t ed25519 -N "" -f ssh_host_ed25519_key'),
        *typed("log-server", "install -m 0640 /dev/null authorized_keys"),
        *typed("log-server", "relay config check", "relay receive 2>receive.log &"),
        *typed("log-server", "cat receive.log", until="ready: "),
        *typed("log-server", "relay status --check", until="OK"),
    ],
    # A router
    [
        *typed("edge1", "cat relay.toml", "relay key generate >line-for-the-log-server", "cat line-for-the-log-server"),
        *typed("log-server", "cat ../edge1/line-for-the-log-server >>authorized_keys"),
        *typed("log-server", "ssh-keygen -lf ssh_host_ed25519_key.pub | tee fingerprint"),
        *typed("edge1", 'relay key trust 127.0.0.1 --fingerprint "$(cut -d" " -f2 ../log-server/fingerprint)"'),
        *typed("edge1", "relay test-connection", "relay run 2>run.log &"),
        Happens("auditd on edge1 logs 26 events", log_audit_events),
        *typed("edge1", "relay status", until=r"27 events proven .* nothing waits"),
    ],
    # rsyslog
    [
        *typed("web1", "cat rsyslog.conf", "rsyslogd -n -f rsyslog.conf -i pid &"),
        *typed(
            "web1",
            "logger -n 127.0.0.1 -P {web} -T -t shop -p local3.info order 1001 paid",
            until=r"\A\Z",  # no error, once rsyslogd listens
        ),
        *typed(
            "web1",
            "logger -n 127.0.0.1 -P {web} -T -t shop -p local3.err order 1002 refused by the bank",
        ),
    ],
    # A switch
    [
        *typed(
            "sw1",
            'echo "<189>29: sw1: $(date "+%b %e %T"): %SYS-5-CONFIG_I: Configured from console by alice" '
            ">/dev/udp/127.0.0.1/{syslog}",
            'echo "<187>30: sw1: $(date "+%b %e %T"): %LINK-3-UPDOWN: Interface Gi1/0/7, changed state to down" '
            ">/dev/udp/127.0.0.1/{syslog}",
        ),
    ],
    # Search
    [
        *typed("log-server", "relay events --archive disk/archive --originator sw1", until="state to down"),
        *typed("log-server", "relay events --archive disk/archive --originator 'web*'", until="refused"),
        *typed("log-server", "relay events --archive disk/archive --originator edge1 --failed"),
        *typed("log-server", "relay events --archive disk/archive --severity err"),
        *typed("log-server", "relay events --archive disk/archive --grep 'order 1001' --received-from -10m"),
        *typed("log-server", "relay events --archive disk/archive --msgid USER_AUTH --limit 1 --full"),
    ],
    # Feed another program
    [
        *typed(
            "log-server",
            "relay events --archive disk/archive --originator web1 --follow --json --bookmark shipped >siem.json &",
        ),
        *typed("log-server", "wc -l siem.json", until="^2 "),
        *typed("log-server", "kill $!; wait $!"),
        *typed("web1", "logger -n 127.0.0.1 -P {web} -T -t shop -p local3.info order 1003 paid"),
        *typed(
            "log-server",
            "relay events --archive disk/archive --originator web1 --follow --json --bookmark shipped >>siem.json &",
        ),
        *typed("log-server", "wc -l siem.json", until="^3 "),
        *typed("log-server", "kill $!; wait $!"),
    ],
    # Who sent it
    [
        *typed("log-server", "relay events --archive disk/archive --originator sw1 --full --limit 1"),
        *typed("log-server", "tail -n 1 disk/archive/edge1/*.ledger", until='"by":"SHA256:'),
        *typed("log-server", "ssh-keygen -lf authorized_keys"),
        *typed(
            "log-server",
            """cat >>relay.toml <<END

[[receiver.originator]]
name = ["edge1"]
ssh-keys = ["$(ssh-keygen -lf authorized_keys | cut -d' ' -f2)"]
END""",
            "relay reload",
        ),
        *typed("sw1", "echo '<38>1 - edge1 sshd - - - Accepted password for root' >/dev/udp/127.0.0.1/{syslog}"),
        *typed(
            "log-server",
            "relay events --archive disk/archive --originator '~disputed/*' --full",
            until="; no-time, disputed",
        ),
        *typed("log-server", "cat alarms", until="name-disputed"),
    ],
    # Silence
    [
        *typed(
            "log-server",
            """cat >>relay.toml <<END

[[receiver.expect]]
originator = "edge*"
within = "4s"
END""",
            "relay reload",
        ),
        *typed("edge1", "kill -KILL $!; wait $!"),
        *typed("log-server", "relay fleet", until="nothing for|no heartbeat|silent"),
        *typed("log-server", "relay fleet --check", until="WARNING"),
        *typed("log-server", "relay status --check; echo $?", until="originator-silent"),
        *typed("log-server", "cat alarms", until="originator-silent"),
        *typed("edge1", "relay run 2>run.log &"),
        *typed("log-server", "cat alarms", until="cleared .* originator-silent"),
        *typed("log-server", """sed -i 's/within = "4s"/within = "10m"/' relay.toml""", "relay reload"),
    ],
    FULL_DISK,
    # Retention
    [
        *typed("log-server", "ls disk/archive/fw9", until=r"zst\n.*\n.*zst"),
        *typed("log-server", """printf '\\n[receiver.retention]\\nage = "30d"\\n' >>relay.toml""", "relay reload"),
        *typed("log-server", "ls disk/archive/fw9", until=r"^[^.]*\.ledger\n[^.]*\.ledger\n[^.]*\.log\S*\n$"),
        *typed("log-server", "relay events --archive disk/archive --originator fw9 --from -90d --to -20d"),
        *typed("log-server", "relay events --archive disk/archive --msgid REMOVAL", until="REMOVAL|retention"),
        *typed("log-server", "relay archive verify", until="retention"),
    ],
    # The auditor
    [
        *typed(
            "log-server",
            "relay archive export --from today --originator edge1 --originator web1 --output ../auditor/package.tar",
        ),
        *typed(
            "auditor",
            "tar -xf package.tar && cd relay-export",
            "sha256sum --check --quiet SHA256SUMS && relay archive verify .",
            "sed -i 's/order 1002 refused/order 1002 granted/' web1/*.log",
            "relay archive verify .; echo $?",
            until="NOT WHOLE",
        ),
    ],
]


class Day:
    """The machines, and what happens on them."""

    def __init__(self, folder: Path, *, any_ports: bool = False) -> None:
        self.folder = folder
        self.serial = 1000
        self.audit_log = folder / "edge1" / "audit.log"
        wanted = {"local": 9999, "ssh": 2222, "syslog": 5514, "forward": 7777, "web": 5140}
        self.ports = {name: free_port() if any_ports else port(number) for name, number in wanted.items()}
        self._disk: SmallDisk | None = None
        self._shells: dict[str, Shell] = {}

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def _begin(self) -> None:
        for machine in ("log-server", "edge1", "web1", "sw1", "auditor", "bin"):
            (self.folder / machine).mkdir()
        server = self.folder / "log-server"
        with contextlib.suppress(AssertionError):
            self._disk = SmallDisk(server / "disk", DISK_SIZE)
        prefix = self._disk.prefix if self._disk else []
        (server / "relay.toml").write_text(receiver_configuration(server, self.ports))
        (server / "report-alarm").write_text(REPORT_ALARM.format(folder=server))
        (server / "report-alarm").chmod(0o755)
        (self.folder / "edge1" / "relay.toml").write_text(ROUTER.format(folder=self.folder / "edge1", **self.ports))
        self.audit_log.touch()
        (self.folder / "web1" / "rsyslog.conf").write_text(WEB_SERVER.format(**self.ports))
        self._make_programs()
        environment = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
        environment["PYTHONPATH"] = f"{CHECKOUT}/tests:{CHECKOUT}"
        subprocess.run(  # noqa: S603  this script, where the disk is
            [*prefix, sys.executable, __file__, str(server), "--old-day"], env=environment, check=True
        )
        for machine in ("log-server", "edge1", "web1", "sw1", "auditor"):
            folder = self.folder / machine
            here = {**environment, "RELAY_CONFIG": str(folder / "relay.toml")}
            self._shells[machine] = Shell(folder, prefix if machine == "log-server" else [], here)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for shell in self._shells.values():
            shell.end()
        if self._disk is not None:
            self._disk.__exit__(None, None, None)

    def _make_programs(self) -> None:
        """Programs that need not be installed: relay of this checkout, rsyslog and OpenSSH of the harness."""
        rsyslog, openssh = fetch(RSYSLOG), fetch(OPENSSH)
        modules = rsyslog.file(f"lib/{os.uname().machine}-linux-gnu/rsyslog")
        commands = {
            "relay": ({}, str(Path(sys.executable).parent / "relay")),
            "rsyslogd": (rsyslog.environment(), f"{rsyslog.file('usr/sbin/rsyslogd')} -M {modules}"),
            "ssh-keygen": (openssh.environment(), openssh.file("usr/bin/ssh-keygen")),
        }
        for name, (environment, command) in commands.items():
            libraries = environment.get("LD_LIBRARY_PATH", "")
            program = self.folder / "bin" / name
            program.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec env {command} "$@"\n')
            program.chmod(0o755)

    def play(self) -> Iterator[str]:
        """Yield the transcript of each scene."""
        for number, scene in enumerate(SCENES):
            if number:
                print()
            if scene is FULL_DISK and self._disk is None:
                print("(No disk fills: this machine lets only root mount a small one.)")
                continue
            lines = []
            for step in scene:
                for text in self._step(step):
                    print(text, end="", flush=True)
                    lines.append(text)
            yield "".join(lines)

    def _step(self, step: Step) -> Iterator[str]:
        if isinstance(step, Happens):
            yield f"({step.text})\n"
            step.act(self)
            return
        text = step.text
        for name, number in self.ports.items():
            text = text.replace(f"{{{name}}}", str(number))
        yield f"{step.machine}$ " + text.replace("\n", "\n> ").replace("> \n", ">\n") + "\n"
        shell = self._shells[step.machine]
        deadline = time.monotonic() + PATIENCE
        while step.until and not re.search(step.until, output := shell.run(text)):
            if time.monotonic() > deadline:
                raise SystemExit(f'day: "{text}" did not print "{step.until}" within {PATIENCE:.0f} s, but: {output}')
            time.sleep(0.3)
        yield output if step.until else shell.run(text)


def main() -> int:
    """Play in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where everything happens; emptied first")
    parser.add_argument("--any-ports", action="store_true", help="use any free ports")
    parser.add_argument("--write-page", action="store_true", help=f"write the transcript into {PAGE.name}")
    parser.add_argument("--old-day", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.old_day:
        an_old_day(arguments.folder)
        return 0
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)
    with Day(arguments.folder.resolve(), any_ports=arguments.any_ports) as day:
        scenes = list(day.play())
    if arguments.write_page:
        here = {str(day.folder): "/srv/day", f"@{socket.gethostname()}": "@example"}
        for former, new in here.items():
            scenes = [re.sub(r" +\n", "\n", scene.replace(former, new)) for scene in scenes]
        PAGE.write_text(with_transcript(PAGE.read_text(), scenes))
    return 0


def with_transcript(page: str, scenes: list[str]) -> str:
    """Return the page with these scenes as its blocks."""
    remaining = iter(scenes)
    return re.sub(r"(?ms)^```console\n.*?^```$", lambda _: f"```console\n{next(remaining)}```", page)


if __name__ == "__main__":
    raise SystemExit(main())
