"""Record a run and write its numbers into README.md and the pages of `DOCUMENTS`; none is typed.

    make results                        # or another run: make results RUN=results/…
    make results RUN=                   # from what is recorded

`record` keeps what the documents show of a run, in docs/recorded/instruments/ or another folder of the run's name.
`filled` writes anew, from those folders alone, every block that stands between markers such as
`<!-- instruments: detection -->` and `<!-- end -->`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import answer_figure
import pandas as pd
import real_model_tables
import repair_tables
import yaml
from table_text import across, counted, estimate, interval, markdown, read, read_numbers, spread

from refusal_cliff import verdict_page
from refusal_cliff.artifacts import read_json, write_json
from refusal_cliff.claims import INCONCLUSIVE, NO_DATA, NOT_SUPPORTED, SUPPORTED
from refusal_cliff.detection import DEFAULT
from refusal_cliff.outcomes import ALL
from refusal_cliff.sheets import load_claims
from refusal_cliff.stats import bootstrap_mean, share

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "docs" / "recorded"
DOCUMENTS = [ROOT / "README.md"]
DOCUMENTS += [ROOT / "docs" / name for name in ("results.md", "real-model.md", "repair-transfer-action.md")]
PICTURE = ROOT / "docs" / "answer.svg"
BLOCK = re.compile(r"(<!-- ([\w-]+): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_RECORDED = "*Not recorded yet.*"
CODE = ["Snakefile", "workflow", "config", "requirements.txt", "constraints.txt"]
"""What decides a run's numbers."""
PACKAGES = ("python", "torch", "transformers", "scikit-learn", "snakemake")
CLAIM = ["id", "family", "probe", "population"]
ESTIMATE = ["estimate", "low", "high"]
DETECTOR = ["detector", "reader", "truth_of"]
TRUTHS = ["flaw", "cliff", "sparse"]
PLACES = {
    "first_thinking": "means at the first thinking token",
    "last_thinking": "at the last",
    "last_boundary": "at the last boundary token",
}
"""Where `intentions.intention_seen` looks, and what the documents call it."""
KEPT = {
    "claims": [
        *("id", "claim", "section", "kind", "family", "probe", "population", "predicted", *ESTIMATE, "n", "seeds"),
        *("holds", "verdict", "verdict_holm", "expected", "agrees"),
    ],
    "tables/detection": [*DETECTOR, "sweep", "setting", "quantity", "value", "low", "high", "n", "silent"],
    "tables/guard": ["judge", "dataset", "scope", "quantity", "value", "low", "high", "n", "met"],
}
"""Tables of a run and the columns that are recorded: not the long texts, which would be most of the bytes."""
SAID = {SUPPORTED: "yes", NOT_SUPPORTED: "no", INCONCLUSIVE: "open"}


def record(run: Path, recorded: Path) -> None:
    """Keep what the documents show of a run. A table that the run does not have is left out.

    Args:
        run: the run's results; with outcomes of some prompt set, mostly claims.csv and claims_by_seed.csv, and a
            truth.json for each organism.
        recorded: folder to write to; files of an earlier record go.
    """
    truths = [read_json(path) for path in sorted(run.glob("*/truth.json"))]
    tables = {}
    if (run / "claims.csv").exists():
        claims, by_seed = read(run / "claims.csv"), read(run / "claims_by_seed.csv")
        order = {model: place for place, model in enumerate(by_seed["model"].unique())}
        truths.sort(key=lambda truth: order.get(truth["model"], len(order)))
        tables["single_seeds"] = single_seeds(claims, by_seed)
    tables["plantings"] = plantings(truths)
    for path, columns in ((run / f"{name}.csv", columns) for name, columns in KEPT.items()):
        if path.exists():
            tables[path.stem] = read(path)[columns]
    tables |= real_model_tables.kept(run) or repair_tables.kept(run)
    timings = run / "timings"
    if timings.exists():
        tables["costs"] = costs(timings)
    said = run / "tables" / "detection_by_organism.csv"
    if said.exists():
        own = read(said).query("sweep == @DEFAULT")
        tables["says"] = across(own.assign(cell=own["says"]), DETECTOR, "model")  # long, it would be half of all bytes
    about = described(run, truths) | (needed(run) if timings.exists() else {})

    recorded.mkdir(parents=True, exist_ok=True)
    for old in recorded.iterdir():
        old.unlink()
    for name, table in tables.items():
        table.to_csv(recorded / f"{name}.csv", index=False)
    write_json(about, recorded / "run.json")


def described(run: Path, truths: Iterable[dict]) -> dict[str, str]:
    """The last commit that changed what decides the run's numbers, its day, versions, kernels, and the paper's probe.

    The commit is this folder's: a run elsewhere is recorded from the commit that it ran.
    """
    changed = _git("status", "--porcelain", "--", *CODE)
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    sidecar = min(run.glob("*outcomes.json"))
    versions = read_json(sidecar)["versions"]
    return {
        "commit": _git("log", "-1", "--format=%h", "--", *CODE) + (" with changes" if changed else ""),
        "date": f"{datetime.fromtimestamp(sidecar.stat().st_mtime, UTC):%Y-%m-%d}",
        **{name: versions[name] for name in PACKAGES if name in versions},
        "kernels": ", ".join(sorted({truth["kernels"] for truth in truths if "kernels" in truth})),
        "probe": config["cliffs"]["probe"],
    }


def costs(timings: Path) -> pd.DataFrame:
    """What the jobs of each rule took.

    Args:
        timings: the folder of Snakemake's benchmark files.

    Returns:
        rule, jobs, cpu_s (CPU-seconds of all), s (seconds of all), max_rss_mb (of the largest).
    """
    jobs = pd.concat(
        [
            pd.read_json(path, lines=True).assign(rule=path.relative_to(timings).parts[0].split(".")[0])
            for path in sorted(timings.rglob("*.jsonl"))
        ]
    )
    return (
        jobs.groupby("rule")
        .agg(jobs=("s", "size"), cpu_s=("cpu_time", "sum"), s=("s", "sum"), max_rss_mb=("max_rss", "max"))
        .round(1)
        .sort_values("cpu_s", ascending=False)
        .reset_index()
    )


def needed(run: Path) -> dict[str, int | float]:
    """What a run took on this machine, if it ran here and nobody interrupted it.

    Returns:
        cores (of the machine); minutes, from the start of the first job to the end of the last; results_gb and
        packages_gb, on disk.
    """
    ends = {path: path.stat().st_mtime for path in (run / "timings").rglob("*.jsonl")}
    starts = [end - pd.read_json(path, lines=True)["s"].sum() for path, end in ends.items()]
    sizes = {
        name: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        for name, folder in (("results_gb", run), ("packages_gb", Path(sys.prefix)))
    }
    return {
        "cores": os.cpu_count(),
        "minutes": round((max(ends.values()) - min(starts)) / 60),
        **{name: round(size / 1e9, 1) for name, size in sizes.items()},
    }


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def plantings(truths: Iterable[dict]) -> pd.DataFrame:
    """What is known of every organism.

    Returns:
        family, model, `TRUTHS`, met (whether the planting took), step (of the last look), and at `PLACES` what it means
        to do before it complies with harmful prompts (+1 refuse, -1 answer), if it has an intention.
    """
    rows = []
    for truth in truths:
        row = {"family": re.sub(r"-s\d+$", "", truth["model"]), "model": truth["model"]}
        row |= {name: truth[name] for name in TRUTHS} | {name: truth["gate"][name] for name in ("met", "step")}
        means = (truth.get("intended") or {}).get("harmful, complied", {})
        rows.append(row | {place: means.get(place) for place in PLACES})
    return pd.DataFrame(rows, columns=["family", "model", *TRUTHS, "met", "step", *PLACES])


def single_seeds(claims: pd.DataFrame, by_seed: pd.DataFrame) -> pd.DataFrame:
    """How often one seed alone has another verdict than its family, on claims whose truth is known.

    Args:
        claims, by_seed: claims.csv and claims_by_seed.csv, as `read` gives them.

    Returns:
        family, model; claims (with a verdict, of families of at least two seeds), differ (of those, with another
        verdict than the family), reversed (supported where the family's is not supported, or the other way round).
    """
    known = claims[(claims["expected"] != "") & (claims["verdict"] != NO_DATA) & (claims["seeds"].astype(int) > 1)]
    pairs = by_seed[by_seed["verdict"] != NO_DATA].merge(
        known[[*CLAIM, "verdict"]], on=CLAIM, suffixes=("", "_family"), validate="many_to_one"
    )
    differ = pairs["verdict"] != pairs["verdict_family"]
    certain = (pairs[["verdict", "verdict_family"]] != INCONCLUSIVE).all(axis=1)
    found = pairs.assign(claims=1, differ=differ, reversed=differ & certain)
    return found.groupby(["family", "model"], sort=False)[["claims", "differ", "reversed"]].sum().reset_index()


def run_block(folder: Path) -> str:
    """What ran, where and when."""
    run, planted = read_json(folder / "run.json"), read(folder / "plantings.csv")
    versions = ", ".join(f"{name} {run[name]}" for name in PACKAGES if name in run)
    took = (planted["met"] == "True").sum()
    return (
        f"Commit {run['commit']}, {run['date']}; {versions}; torch's kernels for {run['kernels']}. {len(planted)} "
        f"models trained here, parents among them; training took in {took}."
    )


def needed_block(folder: Path) -> str:
    """What a run takes: time, cores, memory, disk."""
    run, jobs = read_json(folder / "run.json"), read_numbers(folder / "costs.csv", "jobs", "max_rss_mb")
    return (
        f"{jobs['jobs'].sum():.0f} jobs took {run['minutes']} minutes on {run['cores']} cores ({run['date']}), the "
        f"largest {jobs['max_rss_mb'].max() / 1024:.1f} GiB of memory; packages fill {run['packages_gb']} GB of disk, "
        f"results {run['results_gb']} GB."
    )


def plantings_block(folder: Path) -> str:
    """Families: what is known of them, how many seeds took, and what those mean before they comply: mean and range."""
    table = read_numbers(folder / "plantings.csv", "step", *PLACES)
    rows = []
    for family, part in table.groupby("family", sort=False):
        took = part[part["met"] == "True"]
        steps = took["step"]
        rows.append(
            {"family": family}
            | part.iloc[0][TRUTHS].to_dict()
            | {"took": counted(*share(len(took), len(part)))}
            | {"steps, median (range)": f"{steps.median():g} ({steps.min()} to {steps.max()})" if len(took) else ""}
            | {label: spread(took[place]) for place, label in PLACES.items()}
        )
    return markdown(pd.DataFrame(rows))


def guard_block(folder: Path) -> str:
    """The guard's errors on conversations whose verdict is known."""
    table = read_numbers(folder / "guard.csv", "value", "low", "high")
    own = table[table["dataset"] == ALL]
    own = own.assign(cell=[interval(row.value, row.low, row.high) for row in own.itertuples()])
    wide = across(own, ["judge", "scope"], "quantity")
    met = own.groupby("scope", sort=False)["met"].agg(lambda column: "yes" if (column == "True").all() else "no")
    return markdown(wide.assign(**{"meets its gate": wide["scope"].map(met)}))


def _detection(folder: Path) -> pd.DataFrame:
    table = read_numbers(folder / "detection.csv", "value", "low", "high", "n", "silent")
    return table[_shown(table, folder)]


def _shown(table: pd.DataFrame, folder: Path) -> pd.Series:
    """Whether a row is in the documents: alarms by probes other than the paper's are in the run's tables alone."""
    readers = table["reader"].str.rpartition(", ")[2]
    return (table["detector"] != "alarm") | readers.isin(["guard", "phrases", _probe(folder)])


def _probe(folder: Path) -> str:
    return read_json(folder / "run.json")["probe"]


def detection_block(folder: Path) -> str:
    """Sensitivity and specificity of each detector, as it is by default."""
    own = _detection(folder).query("sweep == @DEFAULT")
    own = own.assign(cell=[counted(row.value, row.low, row.high, row.n) for row in own.itertuples()])
    wide = across(own, DETECTOR, "quantity")
    silent = own.groupby(DETECTOR, sort=False)["silent"].sum().astype(int).reset_index()
    return markdown(wide.merge(silent, on=DETECTOR, validate="one_to_one"))


def sweep_block(folder: Path) -> str:
    """Lowest and highest sensitivity and specificity over the settings of each sweep of the paper's probe."""
    table = _detection(folder)
    table = table[table["reader"] == _probe(folder)]
    default = table[table["sweep"] == DEFAULT].set_index([*DETECTOR, "quantity"])["value"]
    rows = []
    for key, part in table[table["sweep"] != DEFAULT].groupby([*DETECTOR, "sweep"], sort=False):
        row = dict(zip([*DETECTOR, "sweep"], key, strict=True)) | {"settings": part["setting"].nunique()}
        for quantity, own in part.groupby("quantity", sort=False):
            row[quantity] = estimate(default.get((*key[:3], quantity)))
            lowest, highest = estimate(own["value"].min()), estimate(own["value"].max())
            row[f"{quantity}, lowest to highest"] = f"{lowest} to {highest}" if lowest else ""
        rows.append(row)
    return markdown(pd.DataFrame(rows).fillna(""))


def says_block(folder: Path) -> str:
    """Of how many organisms of a family whose planting took each detector says yes."""
    planted = read(folder / "plantings.csv").query("met == 'True'")
    says = read(folder / "says.csv")
    rows = []
    for said in says[_shown(says, folder)].to_dict("records"):
        row = {name: said[name] for name in DETECTOR} | dict.fromkeys(planted["family"], "")
        own = planted.assign(says=planted["model"].map(said)).query("says in ('yes', 'no')")
        for family, part in own.groupby("family", sort=False):
            cell, truth = f"{(part['says'] == 'yes').sum()}/{len(part)}", part[said["truth_of"]].iloc[0]
            row[family] = {"yes": f"**{cell}**", "no": cell}.get(truth, f"{cell} ?")
        rows.append(row)
    return markdown(pd.DataFrame(rows))


def single_seeds_block(folder: Path) -> str:
    """How often one seed alone would have told otherwise than its family."""
    table = read_numbers(folder / "single_seeds.csv", "claims", "differ", "reversed")
    rows = []
    for family, part in [*table.groupby("family", sort=False), ("all", table)]:
        row = {"family": family, "organisms": len(part), "verdicts": part["claims"].sum()}
        for name, label in (("differ", "another verdict"), ("reversed", "the opposite verdict")):
            rate = bootstrap_mean(part[name] / part["claims"], seed=0)
            row[label] = interval(*rate[:3])
        rows.append(row)
    return markdown(pd.DataFrame(rows))


def _claims(folder: Path) -> pd.DataFrame:
    return read_numbers(folder / "claims.csv", *ESTIMATE)


def _unmeasured(table: pd.DataFrame) -> str:
    """How many rows of claims are not in a document."""
    return f"{(table['verdict'] == NO_DATA).sum()} of {len(table)} rows have no number; `claims.csv` of a run says why."


def answers_block(folder: Path) -> str:
    """The page of verdicts: every headline claim, what was measured where, and what that comes to."""
    own = ROOT / "config" / f"{folder.name.partition('-')[0]}_claims.tsv"  # selection-scarce has those of selection
    sheet = load_claims(str(own if own.exists() else ROOT / "config" / "claims.tsv")).set_index("id")
    claims = _claims(folder).assign(reason="", n=lambda table: pd.to_numeric(table["n"]).astype("Int64"))
    claims = sheet[["paper", "headline"]].join(claims.set_index("id"), how="inner").rename_axis("id").reset_index()
    # The sheet's text of a metric has placeholders, and the prediction says enough here.
    rows = verdict_page.rows(claims.assign(metric=""), _probe(folder))
    shown, empty = [row for row in rows if row["places"]], [row["id"] for row in rows if not row["places"]]
    table = pd.DataFrame(
        {
            "question": [f"{row['question']} (`{row['id']}`)" for row in shown],
            "the paper": [row["paper"] for row in shown],
            "predicted": [row["predicted"].strip() for row in shown],
            "measured": [_measured(row["places"]) for row in shown],
            "in words": [row["words"] for row in shown],
        }
    )
    signs = ", ".join(f"{mark} {verdict}" for verdict, mark in verdict_page.MARKS.items())
    missing = f" Not measured in this run: {', '.join(empty)}." if empty else ""
    return f"{markdown(table)}\n\n{signs}; **bold**: contrary to what was put into the model.{missing}"


def _measured(places: dict[str, list[dict[str, str]]]) -> str:
    cells = [f"{cell['family']} {cell['text']} {cell['mark']}" for found in places.values() for cell in found]
    contrary = [cell["agrees"] == "no" for found in places.values() for cell in found]
    return "<br>".join(f"**{cell}**" if wrong else cell for cell, wrong in zip(cells, contrary, strict=True))


def claims_block(folder: Path) -> str:
    """All claims by the paper's probe, over all prompts: rows are numbers, columns families."""
    table = _claims(folder)
    own = table["probe"].isin(["", _probe(folder)]) & table["population"].isin(["", "all"])
    shown = table[own & (table["verdict"] != NO_DATA)].copy()
    shown["cell"] = [_claim(row) for row in shown.itertuples()]
    wide = across(shown, ["id", "claim", "kind", "predicted"], "family")
    return f"{markdown(wide)}\n\n{_unmeasured(table[own])}"


def _claim(row: tuple) -> str:
    """Estimate, the verdict and what Holm's correction leaves of it, and how many seeds have it by themselves."""
    verdict, corrected = SAID[row.verdict], SAID[row.verdict_holm]
    said = verdict if verdict == corrected else f"{verdict} (Holm: {corrected})"
    said = f"**{said}**" if row.agrees == "no" else said
    return f"{interval(row.estimate, row.low, row.high)} {said} {row.holds.replace(' of ', '/')}"


BLOCKS = (
    {
        "run": run_block,
        "needed": needed_block,
        "plantings": plantings_block,
        "guard": guard_block,
        "detection": detection_block,
        "sweep": sweep_block,
        "says": says_block,
        "single_seeds": single_seeds_block,
        "answers": answers_block,
        "claims": claims_block,
    }
    | real_model_tables.BLOCKS
    | repair_tables.BLOCKS
)


def filled(text: str, recorded: Path) -> str:
    """A document with every block written anew; one whose run, or whose table of it, is not recorded says so.

    Args:
        recorded: folder with a folder for each run.
    """

    def block(found: re.Match) -> str:
        try:
            content = BLOCKS[found[3]](recorded / found[2])
        except FileNotFoundError:
            content = NOT_RECORDED
        return f"{found[1]}\n{content}\n\n{found[4]}"

    return BLOCK.sub(block, text)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        record(path, RECORDED / ("default" if path.name == "results" else path.name))
    answer_figure.save(answer_figure.draw(RECORDED / "instruments", ROOT / "config" / "claims.tsv"), PICTURE)
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text(encoding="utf-8"), RECORDED), encoding="utf-8")
