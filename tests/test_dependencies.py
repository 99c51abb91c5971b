"""What relay depends on: bounded in pyproject.toml, exact and hashed in deploy/requirements.txt, listed in the bill."""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Final

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CHECKOUT: Final = Path(__file__).parents[1]
PROJECT: Final = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
NEEDED: Final = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")


def exact() -> dict[str, tuple[Requirement, list[str]]]:
    """The requirements of deploy/requirements.txt by name, with their hashes."""
    text = (CHECKOUT / "deploy/requirements.txt").read_text()
    entries = [entry.split() for entry in text.replace("\\\n", " ").splitlines()]
    hashed = [word for words in entries for word in words if word.startswith("--hash=")]
    assert len(hashed) == text.count("sha256:"), "every hash belongs to a requirement"
    found: dict[str, tuple[Requirement, list[str]]] = {}
    for words in entries:
        hashes = [word.removeprefix("--hash=sha256:") for word in words if word.startswith("--hash=")]
        requirement = Requirement(" ".join(word for word in words if not word.startswith("--hash=")))
        found[canonicalize_name(requirement.name)] = requirement, hashes
    return found


def environment_of(python: str) -> dict[str, str]:
    """The values of markers on this machine under a Python."""
    own = {name: str(value) for name, value in default_environment().items()}
    return {**own, "python_version": python, "python_full_version": f"{python}.0", "extra": ""}


def needed_by(requirements: list[str], python: str) -> Iterator[Requirement]:
    """These requirements, and those of the libraries that they name, under a Python; as this environment has them."""
    environment = environment_of(python)
    seen: set[str] = set()
    waiting = [Requirement(each) for each in requirements]
    while waiting:
        requirement = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        yield requirement
        if requirement.name not in seen:
            seen.add(requirement.name)
            waiting += map(Requirement, requires(requirement.name) or ())


@pytest.mark.parametrize("text", NEEDED)
def test_every_dependency_is_bounded_above(text: str) -> None:
    operators = {each.operator for each in Requirement(text).specifier}
    assert operators & {"<", "==", "~="}, f"{text} admits releases that nobody has tried"


def test_what_only_tests_need_is_exact() -> None:
    for text in PROJECT["project"]["optional-dependencies"]["test"]:
        assert re.fullmatch(r"[a-z-]+==[0-9.]+", text)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_exact_releases_satisfy_pyproject_and_each_other(python: str) -> None:
    locked = exact()
    environment = environment_of(python)
    for wanted in needed_by(NEEDED, python):
        requirement, _ = locked[canonicalize_name(wanted.name)]
        (release,) = requirement.specifier
        assert release.operator == "=="
        assert Version(release.version) in wanted.specifier, f"{requirement} does not satisfy {wanted}"
        assert requirement.marker is None or requirement.marker.evaluate(environment), str(requirement)


def test_every_file_of_a_release_is_named_by_its_hash_and_no_index_is() -> None:
    locked = exact()
    assert {canonicalize_name(Requirement(each).name) for each in NEEDED} <= locked.keys()
    for _, hashes in locked.values():
        assert hashes
        assert all(re.fullmatch("[0-9a-f]{64}", each) for each in hashes)
    assert "//" not in (CHECKOUT / "deploy/requirements.txt").read_text()


def test_the_installation_verifies_the_hashes() -> None:
    page = (CHECKOUT / "deploy/README.md").read_text()
    installing = re.findall(r"/opt/relay/bin/pip install (.*)", page)
    assert "--require-hashes -r deploy/requirements.txt" in installing
    assert {"-r", "--no-build-isolation"} & {word for line in installing for word in line.split()}
    for line in installing:
        assert "--require-hashes" in line or "--no-deps --no-build-isolation" in line, line


def test_the_bill_of_materials_has_relay_and_each_library_with_its_hashes(tmp_path: Path) -> None:
    """The tool validates it by CycloneDX's schema, and fails where it is not valid."""
    command = [str(CHECKOUT / "scripts/materials"), str(tmp_path / "bill.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    bill = json.loads((tmp_path / "bill.json").read_text())
    itself = bill["metadata"]["component"]
    assert (itself["name"], itself["version"]) == (PROJECT["project"]["name"], PROJECT["project"]["version"])
    locked = exact()
    assert {canonicalize_name(each["name"]) for each in bill["components"]} == locked.keys()
    for component in bill["components"]:
        requirement, hashes = locked[canonicalize_name(component["name"])]
        assert requirement.specifier.contains(component["version"])
        (source,) = component["externalReferences"]
        assert sorted(each["content"] for each in source["hashes"]) == sorted(hashes)
