"""`python -m relay` and the console script `relay`."""

import sys

from relay import cli
from relay.system import operational_log


def main() -> None:
    """Run the command line and exit with a code of sysexits.h."""
    operational_log.hook_bugs()
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
