"""What every script does first: send all it says to the rule's log file, and turn bad input into one clear message."""

import errno
import logging
import os
import sys
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from refusal_cliff.errors import UserError

NO_SPACE = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]
"""What every library says when a disk or a quota is full, whatever it raises."""


def job(snakemake: Any) -> None:
    """Set up logging for the script of one Snakemake job.

    Whatever the script, its libraries and their child processes print goes to the rule's log file, so that the console
    shows the run. A `UserError` shows its message there too, without our stack: the user needs the remedy.
    """
    console = os.fdopen(os.dup(sys.stderr.fileno()), "w")
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    sys.stdout.flush()
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    os.close(log)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.captureWarnings(True)
    logging.info("%s %s", snakemake.rule, dict(snakemake.wildcards.items()))
    sys.excepthook = partial(_log_exception, console)


def _log_exception(
    console: TextIO, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if any(text in str(error) for text in NO_SPACE):
        kind, error = UserError, UserError(f"{error}: free some space and start again; what is finished is kept")
    if issubclass(kind, UserError):
        logging.error("%s", error)
        print(f"error: {error}", file=console, flush=True)
    else:
        logging.error("unexpected error", exc_info=(kind, error, trace))
