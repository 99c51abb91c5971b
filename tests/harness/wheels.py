"""What an installation of relay needs: a checkout, and the packages of an index as wheels in a folder.

`wheels()` makes the folder with a fresh Debian's Python, `/usr/bin/python3`, and keeps it in the cache beside the
unpacked Debian packages, until deploy/requirements.txt or that Python changes. pip verifies the hash of each.
"""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Final

from harness.debian import cache

DEBIANS_PYTHON: Final = "/usr/bin/python3"
_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_OF_THE_CHECKOUT: Final = ("relay", "deploy", "pyproject.toml", "README.md", "LICENSE")


def copy_of_the_checkout(into: Path) -> None:
    """Copy the files that `pip install .` and deploy/README.md read into a folder, because pip writes beside them."""
    into.mkdir(exist_ok=True)
    for name in _OF_THE_CHECKOUT:
        source = _CHECKOUT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, into / name)


def for_pip(wheels: str) -> dict[str, str]:
    """Return the environment in which pip takes everything from the folder of wheels."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels, "PIP_NO_COMPILE": "1", "PIP_ROOT_USER_ACTION": "ignore"}


def wheels() -> Path:
    """Return the folder with the wheels of everything that relay needs, except relay itself."""
    wanted = (_CHECKOUT / "deploy/requirements.txt").read_bytes()
    version = subprocess.run([DEBIANS_PYTHON, "--version"], capture_output=True, check=True).stdout
    folder = cache().parent / "wheels" / hashlib.sha256(version + wanted).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build(folder)
    return folder


def _build(folder: Path) -> None:
    shutil.rmtree(folder.parent / "new", ignore_errors=True)
    environment, fresh = folder.parent / "new/venv", folder.parent / "new/wheels"
    _run(DEBIANS_PYTHON, "-m", "venv", str(environment))
    fetch = ("download", "-q", "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:")
    _run(f"{environment}/bin/pip", *fetch, "-d", str(fresh), "-r", str(_CHECKOUT / "deploy/requirements.txt"))
    fresh.rename(folder)
    shutil.rmtree(folder.parent / "new")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
