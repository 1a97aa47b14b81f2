"""The command ``topwork``: parse, call, print. Heavy modules are imported by the commands that need them."""

import sys

from topwork.cli.app import run


def main() -> None:
    """Entry point of the command."""
    sys.exit(run(sys.argv[1:]))
