"""`python -m relay` and the console script `relay`."""

import sys


def main() -> None:
    """Run the command line and exit with a code of sysexits.h."""
    from relay import cli  # noqa: PLC0415  the console script imports this file before it knows what is asked

    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
