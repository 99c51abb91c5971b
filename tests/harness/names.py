"""Host names for one command: in a mount namespace, /etc/hosts is another file for it."""

import os
from collections.abc import Sequence
from pathlib import Path


def with_addresses(folder: Path, name: str, addresses: Sequence[str]) -> list[str]:
    """Return the beginning of a command for which the host `name` has these addresses."""
    hosts = folder / "hosts"
    hosts.write_text("".join(f"{address} {name}\n" for address in addresses))
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "sh", "-ec", 'mount --bind "$0" /etc/hosts; exec "$@"', str(hosts)]
