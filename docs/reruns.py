"""Which rules run again when one key of the config or one cell of a sheet changes: the table of docs/reliability.md.

Plans are made by Snakemake itself, from the small config of the tests, and no job runs. A rule runs again if one of its
jobs has other params or other inputs than before, or is new; and then whatever reads what it writes.
"""

import csv
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from joblib import Parallel, delayed

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from refusal_cliff import sheets
from refusal_cliff.selection import SELECTORS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
TARGETS = ("all", "grid", "recovery", "harness", "transfer", "recorded", "trace_viewer")
ALWAYS = {"build_report", *TARGETS}
"""The report shows the config, so any key makes it anew."""


class Job(NamedTuple):
    """What Snakemake goes by: a job is done again if its params or inputs are others."""

    rule: str
    params: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Change(NamedTuple):
    """A key and another value for it."""

    key: str
    value: Any


def project(folder: Path) -> dict[str, Any]:
    """Make a folder to plan in, with a model and datasets of every source; its config, with defaults."""
    from snakemake.utils import update_config

    for name in ("config", "tests/config"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("data", "data2"):
        (folder / name).mkdir()
        (folder / name / "own.csv").write_text("prompt,other,kind,answer\na,b,c,1\n")
        (folder / name / "own2.csv").write_text("prompt,other,kind,answer\na,b,c,1\n")
    config: dict[str, Any] = {}
    for path in CONFIGS:
        update_config(config, yaml.safe_load((ROOT / path).read_text(encoding="utf-8")))
    for keys, value in USED.items():
        config = with_value(config, keys, value)
    sheets.validate(config)
    for sheet, rows in ADDED.items():
        path = folder / config["sheets"][sheet]
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
        whole = pd.concat([table, pd.DataFrame(rows)]).fillna("")
        write_sheet(whole, path)
    return config


def write_sheet(table: pd.DataFrame, path: Path) -> None:
    lines = ["\t".join(table.columns), *("\t".join(row) for row in table.itertuples(index=False))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plan(folder: Path, config: Mapping[str, Any]) -> list[Job]:
    """Every job of a run with this config, in a folder without results."""
    from snakemake.api import SnakemakeApi
    from snakemake.io import is_flagged
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        OutputSettings,
        Quietness,
        ResourceSettings,
        WorkflowSettings,
    )

    with chdir(folder), SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        given = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=deepcopy(dict(config))),
            workflow_settings=WorkflowSettings(),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        given.dag(DAGSettings(targets=set(TARGETS)))
        # Snakemake has no public way to a plan that is not printed.
        given._workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True)
        given._workflow._build_dag()
        return [
            Job(
                job.rule.name,
                repr(sorted(job.params.items())),
                tuple(sorted(str(path) for path in job.input if not is_flagged(path, "ancient"))),
                tuple(sorted(map(str, job.output))),
            )
            for job in given._workflow.dag.jobs
        ]


def consequences(before: list[Job], after: list[Job]) -> tuple[set[str], set[str]]:
    """Rules with a job that a change does again for its own sake, and rules that follow because of what they read."""
    same = set(before)
    own = [job for job in after if job not in same]
    waiting, again = {path for job in own for path in job.outputs}, set(own)
    while new := [job for job in after if job not in again and waiting & set(job.inputs)]:
        again |= set(new)
        waiting = {path for job in new for path in job.outputs}
    first = {job.rule for job in own} - ALWAYS
    return first, {job.rule for job in again} - ALWAYS - first


def of_config(config: Mapping[str, Any]) -> Iterator[Change]:
    """A change of every key of a config that has its defaults filled in; of organisms, of one recipe of each kind."""
    for key, value in leaves(config):
        recipe = key.split(".")[1] if key.startswith("organisms.") else "tokenizer"
        if key not in KEPT and recipe in ("tokenizer", "aligned", "planted", "guard"):
            yield Change(key, OTHER[key] if key in OTHER else other(value))


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every key below a nested mapping, dotted, and its value."""
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, (*path, key))
    else:
        yield ".".join(path), value


def other(value: Any) -> Any:
    """A value of the same type that is as good as this one."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return round(value * 0.9, 6)
        case [_, *_]:
            return value[:-1]
        case _:
            raise ValueError(f"no other value for {value!r}; name one in OTHER")


def with_value(config: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    changed = deepcopy(dict(config))
    *parents, last = key.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[last] = value
    return changed


def of_sheets(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[Change, dict[str, Any]]]:
    """A change of a cell in every column of every sheet, and the config that names the changed sheet."""
    for sheet, cells in CELLS.items():
        path = config["sheets"][sheet]
        table = pd.read_csv(folder / path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
        for column, (row, value) in cells.items():
            changed = table.assign(**{column: table.get(column, "")})
            changed.loc[table.index[table.iloc[:, 0] == row][0], column] = value
            new = Path(path).with_name(f"{sheet}_{column}.tsv")
            write_sheet(changed, folder / new)
            yield Change(f"{sheet}.{column}", value), with_value(config, f"sheets.{sheet}", str(new))


def effects(folder: Path) -> dict[str, tuple[set[str], set[str]]]:
    """What every key reruns: key -> `consequences`."""
    config = project(folder)
    before = plan(folder, config)
    changes = [*of_sheets(folder, config), *((change, with_value(config, *change)) for change in of_config(config))]
    plans = Parallel(n_jobs=-1)(delayed(plan)(folder, changed) for _, changed in changes)
    return {change.key: consequences(before, after) for (change, _), after in zip(changes, plans, strict=True)}


def page(text: str, found: Mapping[str, tuple[set[str], set[str]]]) -> str:
    """The page with a row for all keys that rerun the same, between its markers."""
    rows: dict[tuple[str, str], list[str]] = {}
    for key, (first, then) in found.items():
        heavy = sorted(then & HEAVY)
        light = [name for name, prefix in LIGHT.items() if any(rule.startswith(prefix) for rule in then)]
        rows.setdefault((", ".join(sorted(first)) or "nothing", ", ".join([*heavy, *light])), []).append(f"`{key}`")
    lines = ["| key or column | rules that read it | what follows |", "| --- | --- | --- |"]
    lines += [f"| {', '.join(keys)} | {first} | {then} |" for (first, then), keys in rows.items()]
    made = "\n".join(lines)
    marked = r"(<!-- reruns -->\n).*(<!-- end of reruns -->)"
    return re.sub(marked, lambda found: f"{found[1]}\n{made}\n\n{found[2]}", text, flags=re.DOTALL)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), effects(Path(folder))), encoding="utf-8")


CONFIGS = ("config/config.yaml", "tests/config/small.yaml", "tests/config/kills.yaml")
HEAVY = {
    "train_organism",
    "train_guard",
    "finetune_model",
    "download_model",
    "convert_gguf",
    "generate_traces",
    "judge_traces",
    "judge_variants",
    "extract_activations",
    "train_probes",
    "score_cliffs",
    "score_test_traces",
    "measure_heads",
    "measure_perplexity",
    "evaluate_harness",
    "score_tokens",
    "measure_planting",
    "measure_gradients",
    "find_direction",
    "eliminate_heads",
    "tune_adapter",
}
"""Rules that load a model or read its states: the table names them one by one."""
LIGHT = {"tables": "tabulate_", "figures": "plot_", "claims": "evaluate_claims"}
HUB = {"source": "hub", "revision": "main"}
LABELLED = {"label": "harmful", "licence": "MIT"}
ADDED = {
    "models": [
        HUB
        | {"model": "own", "role": "subject", "location": "me/own", "thinking_open": "<think>"}
        | {"boundary": "\\n</think>"},
        {"model": "packaged", "role": "subject", "source": "package", "location": "mine", "revision": "1.0"}
        | {"file": "mine/weights.gguf", "sha256": 64 * "0", "licence": "MIT"}
        | {"thinking_open": "<think>", "boundary": "\\n</think>"},
        {"model": "tuned", "role": "subject", "source": "finetuned", "location": "mine"}
        | {"thinking_open": "<think>", "boundary": "\\n</think>"},
    ],
    "datasets": [
        HUB | {"dataset": "hub", "set": "test", "location": "me/hub", "prompt_column": "prompt"} | LABELLED,
        {"dataset": "own", "set": "test", "source": "file", "location": "own.csv", "prompt_column": "prompt"}
        | {"reference_column": "answer", "match": "contains"}
        | LABELLED,
        {"dataset": "made", "set": "ready", "source": "file", "location": "own2.csv", "prompt_column": "prompt"}
        | {"thinking_column": "other", "response_column": "answer"}
        | LABELLED,
        {"dataset": "told", "set": "recorded", "source": "file", "location": "own2.csv", "prompt_column": "prompt"}
        | {"thinking_column": "other", "response_column": "answer", "context": "own_tools", "model": "aligned"}
        | LABELLED,
    ],
}
"""Rows added to the sheets, so that every column is read."""
CELLS = {
    "models": {
        "model": ("own", "own2"),
        "role": ("own", "guard"),
        "location": ("own", "me/own2"),
        "revision": ("own", "v2"),
        "file": ("packaged", "mine/other.gguf"),
        "sha256": ("packaged", 64 * "1"),
        "licence": ("packaged", "CC0"),
        "dtype": ("planted", "bfloat16"),
        "trust_remote_code": ("own", "true"),
        "thinks": ("planted", "false"),
        "thinking_open": ("planted", "<think>"),
        "boundary": ("planted", "\\n</think>\\n"),
        "system_prompt": ("planted", "Be brief."),
        "template_arguments": ("planted", '{"enable_thinking": true}'),
        "stop_tokens": ("planted", "<|end|>"),
        "config_override": ("planted", '{"rms_norm_eps": 0.1}'),
        "seeds": ("planted", "2"),
        "probes": ("tuned", "aligned"),
        "ablate": ("aligned", "true"),
        "intervene": ("planted", "false"),
        "tune": ("aligned", "true"),
        "batch_size": ("planted", "61"),
        "gpus": ("planted", "1"),
        "mem_mb": ("planted", "3000"),
        "runtime_min": ("planted", "60"),
    },
    "datasets": {
        "dataset": ("own", "own2"),
        "set": ("own", "pool"),
        "location": ("own", "own2.csv"),
        "revision": ("hub", "v2"),
        "subset": ("hub", "train.csv"),
        "hub_split": ("hub", "test"),
        "prompt_column": ("own", "other"),
        "category_column": ("own", "kind"),
        "reference_column": ("own", "kind"),
        "thinking_column": ("made", "kind"),
        "response_column": ("made", "kind"),
        "model": ("told", "elsewhere"),
        "match": ("own", "number"),
        "where": ("own", "kind=c"),
        "label": ("own", "benign"),
        "attacks": ("own", "roleplay"),
        "part": ("own", "0-0.5"),
        "max_prompts": ("own", "5"),
        "licence": ("own", "CC0"),
        "url": ("own", "https://example.org"),
    },
    "attacks": {"family": ("roleplay", "hypothetical"), "template": ("roleplay", "Play a role. {prompt}")},
    "claims": {
        "id": ("asr_before", "asr"),
        "claim": ("asr_before", "It complies"),
        "section": ("asr_before", "section 3"),
        "kind": ("asr_before", "control"),
        "table": ("asr_before", "rates"),
        "where": ("asr_before", "n > 1"),
        "value": ("asr_before", "low"),
        "metric": ("asr_before", "ASR"),
        "paper": ("asr_before", "They do"),
        "headline": ("asr_before", "true"),
        "lower": ("asr_before", "0.2"),
        "upper": ("asr_before", "0.9"),
        "about": ("asr_before", "poor"),
        "judge": ("asr_before", "thinking"),
        "expected": ("asr_before", "cliff"),
    },
}
"""Sheet -> column -> the first cell of the row that is changed, and the other value."""
USED = {
    "ablation.rankings.causal": [0.03, 0.1],
    "ablation.rankings.direct": [0.03],
    "ablation.rankings.random": [0.03, 0.1],
    "selection.selectors.cliff": [0.1, 0.3],
    "selection.ready": {"made": [1]},
    "grid.rankings.matched": [0.03],
    "repairs.steer": [1],
    "repairs.eliminate": ["causal"],
    "repairs.both": ["cliff"],
    "transfer": {"sources": ["aligned"], "targets": ["aligned"]},
    "finetuning": {"mine": {"parent": "aligned", "datasets": ["harmful_train", "benign_train"], "steps": 2}},
}
"""Values by which more keys are read: a drawn control, and another ranking, fraction and budget for claims to go by."""
KEPT = {
    "pathvars.results": "another folder is another run",
    "pathvars.logs": "another folder is another run",
    "pathvars.benchmarks": "another folder is another run",
    "judges.refusal": "phrases alone judge refusal",
    "judges.guard.model": "names another row of the model sheet",
    "sheets.models": "see its columns",
    "sheets.datasets": "see its columns",
    "sheets.attacks": "see its columns",
    "sheets.claims": "see its columns",
    "datasets.context": "no guard that is trained here reads actions",
    "transfer.fit": "there is one such dataset; it is read where transfer.requests is",
    "models.source": "changes with location",
    "datasets.source": "changes with location",
}
"""Keys that the table does not show, and why."""
OTHER: dict[str, Any] = {
    "claims.fraction": 0.1,
    "claims.budget": 0.3,
    "data_dir": "data2",
    "judges.harm": "phrases",
    "judges.actions.run": "RUN .+",
    "judges.actions.decline": "NO",
    "judges.guard.safe_token": "fine",
    "judges.guard.unsafe_token": "bad",
    "judges.guard.prefix": "It is ",
    "cliffs.probe": "behaviour",
    "heads.probe": "paper",
    "heads.targets": ["probe", "openers"],
    "heads.operating": "direct",
    "heads.datasets": ["jailbreak_fit", "harmful_fit"],
    "heads.benign": ["benign_fit", "facts_fit"],
    "heads.refused": ["harmful_fit", "jailbreak_fit"],
    "ablation.scales": [2, 3],
    "ablation.kept_thinking": [0.5, 0.25],
    "grid.interventions": ["mean"],
    "grid.scales": [0.5],
    "recovery.recipe": "cliff",
    "recovery.seeds": [1, 2],
    "recovery.circuits": [{"organism": "aligned", "depth": "early", "share": 0.03}],
    "repairs.steer": [0.5],
    "repairs.eliminate": ["direct"],
    "repairs.both": ["gradient"],
    "transfer.sources": ["planted"],
    "transfer.targets": ["planted"],
    "transfer.test": ["own"],
    "selection.seeds": [0, 1],
    "tuning.refusals": ["No."],
    "finetuning.mine.parent": "planted",
    "finetuning.mine.watch": ["harmful_train", "benign_train"],
    "finetuning.mine.gate": {"closed": 0.5},
    "harness.tasks": ["gsm8k_cot_zeroshot"],
    "organisms.planted.parent": "base",
    "organisms.planted.circuit.depth": "early",
}
OTHER |= {f"probes.{name}.label": "recognition" for name in ("paper", "behaviour", "thinking")}
OTHER |= {"probes.recognition.label": "behaviour", "probes.thinking.positions": "last_boundary"}
OTHER |= {f"probes.{name}.positions": "thinking" for name in ("paper", "behaviour")}
OTHER |= {"probes.recognition.positions": "last_boundary"}
OTHER |= {f"probes.{name}.layers": [0, -1] for name in ("paper", "behaviour", "thinking", "recognition")}
OTHER |= {
    f"{block}.rankings.{name}": [0.03, 0.2]
    for block in ("ablation", "grid")
    for name in ("causal", "causal_boundary", "direct", "gradient", "promoting", "random", "matched")
}
OTHER |= {f"selection.selectors.{name}": [0.1, 0.5] for name in SELECTORS if name != "whole"}
OTHER |= {"selection.ready.made": [0.5]}
"""Config keys whose other value does not follow from the present one."""


if __name__ == "__main__":
    main()
