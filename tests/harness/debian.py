"""Debian packages, unpacked into a cache folder beside the checkout: nothing is installed and no daemon is started.

`fetch(OPENSSH)` returns the folder with a component's files, laid out as under `/`. The first call downloads with
`apt-get download` and unpacks with `dpkg -x`; later calls find the marker file and take a millisecond. Works as root
and as an ordinary user. The machine's own package lists are tried first. When they are empty or too old for the
archive, fresh ones are fetched into the cache. The cache is `.cache/debian`, or `$RELAY_TEST_CACHE`. A failure is an
AssertionError that quotes apt: a missing component never skips a test.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

_CHECKOUT = Path(__file__).resolve().parents[2]
_MARKER = ".complete"
_TIME_LIMIT = 600  # seconds for one call of apt-get
# One line of `apt-get --print-uris`: 'URI' FILE SIZE [HASH]; FILE is NAME_VERSION_ARCHITECTURE.deb, quoted like a URI.
_PRINTED = re.compile(r"^'[^']+' ([a-z0-9][a-z0-9+.-]*)_([^_ ]+)_[a-z0-9]+\.deb ", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Packages that are unpacked together, with the dependencies that the machine does not have."""

    name: str
    packages: tuple[str, ...]


OPENSSH = Component(name="openssh", packages=("openssh-server", "openssh-client"))
RSYSLOG = Component(name="rsyslog", packages=("rsyslog", "rsyslog-relp", "rsyslog-gnutls", "rsyslog-openssl"))
SYSLOG_NG = Component(name="syslog-ng", packages=("syslog-ng-core",))
AUDITD = Component(name="auditd", packages=("auditd", "audispd-plugins"))
AUPARSE = Component(name="python3-audit", packages=("python3-audit", "libaudit1", "libauparse0"))
SYSTEMD = Component(name="systemd", packages=("systemd",))
DBUS = Component(name="dbus", packages=("dbus",))
IPROUTE = Component(name="iproute", packages=("iproute2",))
OPENSSL = Component(name="openssl", packages=("openssl",))
HAPROXY = Component(name="haproxy", packages=("haproxy",))
PROMETHEUS = Component(name="prometheus", packages=("prometheus",))
NAGIOS = Component(name="nagios", packages=("nagios4-core",))
LNAV = Component(name="lnav", packages=("lnav",))
ZSTD = Component(name="zstd", packages=("zstd",))
XZ = Component(name="xz", packages=("xz-utils",))
ALL = (
    *(OPENSSH, RSYSLOG, SYSLOG_NG, AUDITD, AUPARSE, SYSTEMD, DBUS),
    *(IPROUTE, OPENSSL, HAPROXY, PROMETHEUS, NAGIOS, LNAV, ZSTD, XZ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A component's files, laid out as under `/`."""

    path: Path

    def file(self, *names: str) -> str:
        """Return the path of one file, given without the leading slash; AssertionError when the packages lack it.

        Give several names when Debian's releases name the file differently.
        """
        for name in names:
            for place in (name, f"usr/{name}"):  # packages differ in whether /sbin is spelled /usr/sbin
                if (self.path / place).exists():
                    return str(self.path / place)
        raise AssertionError(f"the packages in {self.path} do not contain {' or '.join(names)}")

    def library_folders(self) -> list[Path]:
        """Return every folder with a shared library, without the folders of modules."""
        return sorted(
            {found.parent for place in ("lib", "usr/lib") for found in (self.path / place).glob("*/lib*.so.*")}
        )

    def environment(self) -> dict[str, str]:
        """Return this process's environment with the paths where the unpacked programs find their libraries."""
        return {**os.environ, "LC_ALL": "C.UTF-8", "LD_LIBRARY_PATH": ":".join(map(str, self.library_folders()))}


def cache() -> Path:
    """Return the folder for everything fetched."""
    return Path(os.environ.get("RELAY_TEST_CACHE") or _CHECKOUT / ".cache" / "debian")


def fetch(component: Component) -> Root:
    """Return the component's files, and download them first if necessary; safe in several processes at once."""
    root = cache() / component.name
    if not _is_complete(root, component):
        with _locked(cache() / f"{component.name}.lock"):
            if not _is_complete(root, component):
                _build(root, component)
    return Root(path=root)


def _is_complete(root: Path, component: Component) -> bool:
    marker = root / _MARKER
    return marker.exists() and marker.read_text() == " ".join(component.packages)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(root: Path, component: Component) -> None:
    packages = cache() / f"{component.name}.packages"
    fresh = cache() / f"{component.name}.new"
    for folder in (root, packages, fresh):
        shutil.rmtree(folder, ignore_errors=True)
        if folder is not root:
            folder.mkdir()
    _download(component, packages)
    for package in sorted(packages.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(fresh)])
    (fresh / _MARKER).write_text(" ".join(component.packages))
    fresh.chmod(0o755)
    fresh.rename(root)
    shutil.rmtree(packages)


def _download(component: Component, into: Path) -> None:
    if shutil.which("apt-get") is None:
        raise AssertionError("the peers of the tests are Debian packages, and this machine has no apt-get")
    try:
        _download_with(_apt(), component, into)
    except AssertionError:
        # The lists are empty, or have versions that the archive has replaced (404).
        private = _apt(lists=cache() / "apt" / "lists")
        _run([*private, "update"])
        _download_with(private, component, into)


def _download_with(apt: Sequence[str], component: Component, into: Path) -> None:
    planned = _run(
        [*apt, "install", "--print-uris", "--reinstall", "--yes", "--no-install-recommends", *component.packages]
    )
    wanted = [f"{name}={unquote(version)}" for name, version in _PRINTED.findall(planned)]
    _run([*apt, "download", *wanted], folder=into)
    assert len(list(into.glob("*.deb"))) == len(wanted), f"{component.name}: apt-get did not download {wanted}"


def _apt(lists: Path | None = None) -> list[str]:
    """Return the apt-get command with caches, and package lists if a folder for them is given, in our folder."""
    caches = cache() / "apt" / "cache"
    (caches / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    options = [f"Dir::Cache={caches}", "Debug::NoLocking=1", f"APT::Sandbox::User={_user()}", "Acquire::Retries=3"]
    if lists is not None:
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        options.append(f"Dir::State::lists={lists}")
    return ["apt-get", *(word for option in options for word in ("-o", option))]


def _user() -> str:
    return "root" if os.geteuid() == 0 else ""


def _run(argv: Sequence[str], folder: Path | None = None) -> str:
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIME_LIMIT,
        check=False,
    )
    assert done.returncode == 0, (
        f"{' '.join(argv)} failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    )
    return done.stdout


def main() -> int:
    """Fetch every component, so that no test's time limit includes a download."""
    for component in ALL:
        sys.stdout.write(f"{component.name}: {fetch(component).path}\n")
    return 0
