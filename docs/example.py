"""Put what a reader sees of a run into one folder, with versions and hashes: the example that a release carries.

make example                        # of the default run; or: make example RUN=results/…
"""

import shutil
import sys
from pathlib import Path

from results_tables import described

from refusal_cliff.artifacts import read_json, whole_folder, write_json
from refusal_cliff.hashes import file_sha256

SHOWN = (
    *("verdicts.html", "report.html", "tables.html", "claims.csv", "claims_by_seed.csv", "config.yaml"),
    *("tables/*.csv", "figures/*.svg", "figures/*.pdf"),
)
"""Numbers and pictures: no prompts, traces or weights. A config may make traces.html show texts, so it is left out."""


def collect(run: Path, folder: Path) -> None:
    """Copy `SHOWN` of a run to `folder`, and write manifest.json: what ran, and size and SHA-256 of every file.

    Raises:
        SystemExit: the run has not come to its end.
    """
    if not (run / "report.html").is_file():
        sys.exit(
            f"{run}: no report.html; finish the run first, with snakemake, or name another: make example RUN=results/…"
        )
    files = sorted(path for pattern in SHOWN for path in run.glob(pattern))
    with whole_folder(folder) as draft:
        hashes = {}
        for path in files:
            name = path.relative_to(run)
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, draft / name)
            hashes[name.as_posix()] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        truths = [read_json(path) for path in sorted(run.glob("*/truth.json"))]
        write_json({"run": described(run, truths), "files": hashes}, draft / "manifest.json")


if __name__ == "__main__":
    collect(Path(sys.argv[1]), Path("example"))
