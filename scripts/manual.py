"""Write the manual from the commands' help and the sample configuration; with --check only check it.

The exit code is 1 when --check finds a file that is out of date, or when a command or an option has no help.
"""

import sys
from pathlib import Path

from relay.cli.commands import root
from scripts.manual_pages import man_page, settings_page, undocumented, with_table

ROOT = Path(__file__).parent.parent
COMMANDS = ROOT / "docs" / "commands.md"
SAMPLE = ROOT / "deploy" / "relay.toml"


def made() -> dict[Path, str]:
    """Every file of the manual, with its text."""
    return {
        COMMANDS: with_table(COMMANDS.read_text(), root),
        ROOT / "deploy" / "relay.1": man_page(root),
        ROOT / "deploy" / "relay.toml.5": settings_page(SAMPLE.read_text()),
    }


def main() -> int:
    """Write, or with --check only compare."""
    check = "--check" in sys.argv[1:]
    complaints = [f"{name}: has no help" for name in undocumented(root)]
    for path, text in made().items():
        if path.exists() and path.read_text() == text:
            continue
        if check:
            complaints.append(f"{path.relative_to(ROOT)}: is out of date; run ./scripts/manual")
        else:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
