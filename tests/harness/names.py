"""Host names of a test's own: /etc/hosts is another file for one command alone, in a mount namespace."""

import os
from collections.abc import Sequence
from pathlib import Path


def with_addresses(folder: Path, name: str, addresses: Sequence[str]) -> list[str]:
    """What begins a command for which the host `name` has these addresses."""
    hosts = folder / "hosts"
    hosts.write_text("".join(f"{address} {name}\n" for address in addresses))
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "sh", "-ec", 'mount --bind "$0" /etc/hosts; exec "$@"', str(hosts)]
