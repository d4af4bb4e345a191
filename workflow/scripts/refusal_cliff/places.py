"""Where a run finds its files and puts its results: the checkout, the working directory, the Python environment."""

import os
import shlex
import sys
from pathlib import Path

from refusal_cliff.errors import UserError

CHECKOUT = Path(__file__).parents[3]


def shipped(path: str) -> str:
    """A file of the working directory; where that has none (`-d`, or as a module), the one that the workflow brings."""
    own = CHECKOUT / path
    return str(own) if own.is_file() and not Path(path).exists() else path


def check_interpreter(path: str = sys.executable) -> None:
    """Snakemake starts scripts by the name of its own Python, unquoted.

    Raises:
        UserError: the name has a character that a shell reads as something else.
    """
    if shlex.quote(path) != path:
        raise UserError(
            f"{path}: no script can be started by a path with a space or another special character; move the Python "
            "environment (.venv), or the folder it is in, to a path without, and install it there anew"
        )


def check_writable(folders: dict[str, str]) -> None:
    """Folders that a run writes to, by their key under `pathvars`; those that do not exist yet will be made.

    Raises:
        UserError: nothing can be written to one of them.
    """
    for key, folder in folders.items():
        path = Path(folder).absolute()
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise UserError(
                f"{there}: nothing can be written there; make it a writable folder, or name another under "
                f"pathvars.{key} in the config"
            )
