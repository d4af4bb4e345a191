"""Jobs that failed on bad input are not tried again.

Snakemake counts attempts and asks no reason. That is right for a job that was killed for memory, and wrong for one
whose input is bad: on a cluster it would wait in the queue again, to say the same sentence.
"""

import logging
import time
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from refusal_cliff.job import USER_ERROR


class NoRetryOfUserErrors(logging.Handler):
    """Listens to Snakemake's own messages: where a failed job's log ends in a `UserError`, this attempt was its last.

    Snakemake reports an error before it looks whether an attempt is left, so the count of the running job can be raised
    in between. It works wherever jobs write their log to a file that this process sees.
    """

    def __init__(self, workflow: Any) -> None:
        super().__init__()
        self.workflow = workflow
        self.started = time.time()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) != LogEvent.JOB_ERROR:
            return
        if not any(ends_in_user_error(Path(log), self.started) for log in record.log):
            return
        for running in list(self.workflow.scheduler.running):
            members = running.jobs if running.is_group() else [running]
            if record.jobid in {member.jobid for member in members}:
                running.attempt = running.restart_times + 1


def ends_in_user_error(log: Path, since: float) -> bool:
    """Whether a job says in its log, written after `since` (seconds since the epoch), that its input is bad."""
    if not log.is_file() or log.stat().st_mtime < since:
        return False
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.startswith(USER_ERROR) for line in lines)
