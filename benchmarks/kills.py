"""Kill a run again and again, at a moment of every rule: are its results those of a run that nobody disturbed?

Runs a small workflow twice, in folders of their own: once in peace, once with SIGKILL to Snakemake and all its jobs.
Run it from the repository's root. Writes `benchmarks/kills.csv`, one row per kill, and a table of docs/reliability.md.
"""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from refusal_cliff.resuming import WHOLE

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_suffix(".csv")
PAGE = ROOT / "docs" / "reliability.md"
COPIED = ("Snakefile", "workflow", "config", "profiles", "envs", "tests/config")
CONFIGS, TARGETS = ("tests/config/small.yaml", "tests/config/kills.yaml"), ("all", "grid", "recovery")
SHARES = (0, 0.5, 0.25, 0.1)
ALIKE = {"plot_": 2, "tabulate_": 4}
"""Of rules that begin so, which are one script of one form each, so many are killed."""
UNLIKE = ("report.html", "logs", "timings")
"""Under `results/`: what tells the time. All else has to be the same to the byte."""
PATIENCE = 0.02


class Moment(NamedTuple):
    """When to kill: a share of a rule's run time after its first job began, and once so much is kept (`kept`)."""

    rule: str
    share: float
    batches: int = 0


class Kill(NamedTuple):
    """What a kill hit: rules whose jobs were running, how many of their outputs, and how much was kept (`kept`)."""

    rule: str
    share: float
    wanted: int
    running: str
    outputs: int
    batches: int


def copy_project(folder: Path) -> Path:
    """A copy of the project without results."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", *CONFIGS, *arguments]


def run(project: Path, targets: Iterable[str], *options: str) -> None:
    """Run the workflow in peace.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    done = subprocess.run(
        command(*options, "--", *targets), cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-6000:])


def moments(project: Path) -> list[Moment]:
    """A moment in every rule of a finished run, in the order in which the rules began, and six amid long jobs."""
    began = {}
    for record in records(project).values():
        began[record["rule"]] = min(record["starttime"], began.get(record["rule"], float("inf")))
    rules = sorted(began, key=began.get)
    for prefix, count in ALIKE.items():
        alike = [rule for rule in rules if rule.startswith(prefix)]
        rules = [rule for rule in rules if rule not in alike[count:]]
    chosen = [Moment(rule, SHARES[place % len(SHARES)]) for place, rule in enumerate(rules)]
    amid = {"generate_traces": (1, 2, 3, 1), "tune_adapter": (1, 2)}
    return [*chosen, *(Moment(rule, 0, batches) for rule, kept in amid.items() for batches in kept)]


def disturb(project: Path, targets: Iterable[str], peaceful: Path, planned: Iterable[Moment]) -> list[Kill]:
    """Run the workflow, killing it at the planned moments, until it ends by itself.

    Args:
        peaceful: where the same run was finished: tells which rule makes which file, and how long it takes.

    Returns:
        The kills, in order. A moment that has passed, because its rule had nothing left to do, is not among them.

    Raises:
        RuntimeError: a run failed instead of being killed.
    """
    known = records(peaceful)
    seconds = {}
    for record in known.values():
        seconds[record["rule"]] = max(record["endtime"] - record["starttime"], seconds.get(record["rule"], 0))
    left, kills = list(planned), []
    while True:
        with started(project, targets) as process:
            since = time.time()
            while process.poll() is None and not (hit := due(project, known, since, left)):
                time.sleep(PATIENCE)
            if process.poll() is not None:
                if process.returncode:
                    raise RuntimeError(Path(project, "said").read_text()[-6000:])
                return kills
            time.sleep(hit.share * seconds[hit.rule])
            os.killpg(process.pid, signal.SIGKILL)
        running = [known[path]["rule"] for path in unfinished(project, since) if path in known]
        kills.append(Kill(*hit, " ".join(sorted(set(running))), len(running), kept(project)))
        print(f"kill {len(kills)}: {kills[-1]}", flush=True)
        left.remove(hit)
        subprocess.run(command("--unlock"), cwd=project, check=True, capture_output=True)


@contextmanager
def started(project: Path, targets: Iterable[str]) -> Iterator[subprocess.Popen]:
    """A run in a process group of its own, which is gone at the end."""
    with Path(project, "said").open("w") as said:
        process = subprocess.Popen(
            command("--", *targets), cwd=project, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def due(project: Path, known: Mapping[str, dict], since: float, left: Iterable[Moment]) -> Moment | None:
    """The first of the moments left whose rule is running, with as many batches kept as it wants."""
    running = {known[path]["rule"] for path in unfinished(project, since) if path in known}
    enough = kept(project, since)
    return next((moment for moment in left if moment.rule in running and enough >= moment.batches), None)


def kept(project: Path, since: float = 0) -> int:
    """How much was kept since then to go on from: batches of traces, and checkpoints of tunings."""
    patterns = ("_batches/*/*.json", f"_steps/*/checkpoint-*/{WHOLE}")
    found = 0
    for path in (path for pattern in patterns for path in project.glob(f"results/**/.*{pattern}")):
        with suppress(FileNotFoundError):  # its job has finished meanwhile
            found += path.stat().st_mtime > since
    return found


def records(project: Path) -> dict[str, dict]:
    """What Snakemake noted of every finished output: rule, starttime, endtime, and more."""
    folder = project / ".snakemake" / "metadata"
    return {_path(folder, file): json.loads(file.read_text()) for file in folder.rglob("*") if file.is_file()}


def unfinished(project: Path, since: float) -> list[str]:
    """Outputs of the jobs that Snakemake began since then and did not finish."""
    found, folder = [], project / ".snakemake" / "incomplete"
    for file in folder.rglob("*"):
        try:
            if file.is_file() and file.stat().st_mtime >= since:
                found.append(_path(folder, file))
        except FileNotFoundError:
            continue  # finished meanwhile
    return found


def _path(folder: Path, file: Path) -> str:
    """The output that a file of Snakemake's is about: its name is the path in base64, long ones in several parts."""
    name = "".join(part.removeprefix("@") for part in file.relative_to(folder).parts)
    return base64.urlsafe_b64decode(name).decode()


def differences(one: Path, other: Path) -> dict[str, str]:
    """Files below `results/` that two runs do not have alike, hidden ones included: path -> how they differ."""
    ours, theirs = ({path.relative_to(run): path for path in files(run)} for run in (one, other))
    found = {str(path): "in one run alone" for path in ours.keys() ^ theirs.keys()}
    for path in sorted(ours.keys() & theirs.keys()):
        if ours[path].read_bytes() != theirs[path].read_bytes():
            found[str(path)] = "other content"
    return found


def files(project: Path) -> list[Path]:
    """Every result of a run that does not tell the time."""
    results = project / "results"
    return [
        path for path in results.rglob("*") if path.is_file() and not set(path.relative_to(results).parts) & set(UNLIKE)
    ]


def page(text: str, kills: pd.DataFrame) -> str:
    """The page with what was measured between its markers."""
    hit = set(" ".join(kills["running"].dropna()).split())
    said, different = kills.loc[0, ["files", "different"]]
    shown = pd.DataFrame(
        {
            "rule": kills["rule"],
            "moment": [said_of(*kill) for kill in kills[["share", "wanted"]].itertuples(index=False)],
            "running when killed": kills["running"].fillna("nothing").str.replace(" ", ", "),
            "their outputs": kills["outputs"],
            "batches or checkpoints kept": kills["batches"],
        }
    )
    made = (
        f"{len(kills)} kills hit jobs of {len(hit)} rules. Of {said} results, {different} differ from those of the run "
        f"that nobody disturbed.\n\n{shown.to_markdown(index=False, disable_numparse=True)}"
    )
    marked = r"(<!-- kills -->\n).*(<!-- end of kills -->)"
    return re.sub(marked, lambda found: f"{found[1]}\n{made}\n\n{found[2]}", text, flags=re.DOTALL)


def said_of(share: float, batches: int) -> str:
    """A moment in words."""
    return f"{batches} kept" if batches else f"{share:.0%} of its time" if share else "just begun"


def measure() -> pd.DataFrame:
    """One row for each kill; all have the number of results, and of those that differ."""
    with tempfile.TemporaryDirectory() as scratch:
        peaceful, disturbed = (copy_project(Path(scratch, name)) for name in ("peaceful", "disturbed"))
        run(peaceful, TARGETS)
        planned = moments(peaceful)
        kills = disturb(disturbed, TARGETS, peaceful, planned)
        different = differences(peaceful, disturbed)
        print(different)
        return pd.DataFrame(kills).assign(files=len(files(peaceful)), different=len(different))


def main() -> None:
    measure().to_csv(RESULTS, index=False)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), pd.read_csv(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
