"""The argument parser that the commands in tools/ start from."""

import argparse


def command_parser(description: str) -> argparse.ArgumentParser:
    """An argument parser for a command.

    Its ``--help`` prints the description as it is written. Flags cannot be abbreviated: a typing
    error must not select another flag.

    Args:
        description: docstring of the command.
    """
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
