"""What every script does first: send its log to the rule's log file and turn bad input into one clear message."""

import logging
import sys
from types import TracebackType
from typing import Any

from refusal_cliff.errors import UserError


def job(snakemake: Any) -> None:
    """Set up logging for the script of one Snakemake job.

    The log, warnings and uncaught tracebacks go to the rule's log file. A `UserError` shows its message
    alone: the user needs the remedy, not our stack.
    """
    logging.basicConfig(
        filename=snakemake.log[0], filemode="w", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.captureWarnings(True)
    sys.excepthook = _log_exception


def _log_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, UserError):
        logging.error("%s", error)
        print(f"error: {error}", file=sys.stderr)
    else:
        logging.error("unexpected error", exc_info=(kind, error, trace))
        sys.__excepthook__(kind, error, trace)
