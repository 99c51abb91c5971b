"""`python -m relay` and the console script `relay`."""

import sys

from relay import cli


def main() -> None:
    """Run the command line and exit with a code of sysexits.h."""
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
