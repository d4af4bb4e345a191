"""What every script does first: send all it says to the rule's log file, and turn bad input into one clear message."""

import errno
import logging
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from refusal_cliff.errors import PassingError, UserError
from refusal_cliff.gpus import claim_gpus

USER_ERROR = "UserError: "
"""How the line of a log begins that tells the user what to do."""
REMEDIES = {
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space within your quota",
    errno.EROFS: "make that folder writable",
    errno.EACCES: "make that file or folder accessible",
}

SAID = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT)}
"""What every library says when a disk or a quota is full, whatever it raises."""


def job(snakemake: Any) -> None:
    """Set up logging for the script of one Snakemake job, and take the GPUs that it asks for.

    Whatever the script, its libraries and their child processes print goes to the rule's log file, so that the console
    shows the run. A `UserError` shows its message there too, without our stack: the user needs the remedy. So does a
    disk that takes nothing more.
    """
    console = os.fdopen(os.dup(sys.stderr.fileno()), "w")
    sys.excepthook = partial(_log_exception, console)
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
    claim_gpus(snakemake.resources.get("gpu", 0))


def _log_exception(
    console: TextIO, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    message = str(error) if issubclass(kind, UserError) else _unwritable(error)
    prefix = "" if issubclass(kind, PassingError) else USER_ERROR
    if message is None:
        logging.error("unexpected error", exc_info=(kind, error, trace))
        return
    print(f"error: {message}", file=console, flush=True)
    # By itself at the end of the log, so that it is found there: by people, and by `retries`. A full disk has no log.
    with suppress(OSError):
        print(f"{prefix}{message}", file=sys.stderr, flush=True)


def _unwritable(error: BaseException | None) -> str | None:
    """What to do about a disk that takes no more, which every library says in its own words; None of other errors."""
    while error is not None:
        told = (number for text, number in SAID.items() if text in str(error))
        number = next(told, getattr(error, "errno", None))
        if remedy := REMEDIES.get(number):
            return (
                f"{error}: {remedy}, or set other folders under pathvars in the config, and run the same command again"
            )
        error = error.__cause__ or error.__context__
    return None
