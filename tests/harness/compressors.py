"""zstd(1), xz(1) and gzip(1), as Debian has them."""

import os
import subprocess
from typing import Final

from harness.debian import XZ, ZSTD, fetch

_COMPONENTS: Final = {"zstd": ZSTD, "xz": XZ}


def compressor(name: str, *arguments: str | os.PathLike[str], content: bytes | None = None) -> bytes:
    """Run one, which must succeed, and return its output."""
    program, environment = name, dict(os.environ)  # gzip is essential: every Debian has it
    if name in _COMPONENTS:
        root = fetch(_COMPONENTS[name])
        program, environment = root.file(f"bin/{name}"), root.environment()
    argv = [program, *arguments]
    return subprocess.run(argv, input=content, env=environment, capture_output=True, check=True, timeout=60).stdout
