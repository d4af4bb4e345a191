"""Train one organism under several settings of a machine: are its weights, and what it says, the same?

Every setting is a process of its own, because kernels are chosen once in a process. Run it from the repository's root.
Writes `benchmarks/reproducibility.csv`, one row per setting, and the table of docs/reproducibility.md.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from refusal_cliff.datasets import SETS, assemble, select_rows, wrap
from refusal_cliff.organisms.language import grammar_prompts
from refusal_cliff.sheets import load_sheets, record, validate

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_suffix(".csv")
PAGE = ROOT / "docs" / "reproducibility.md"
RECIPE, STEPS, PROMPTS = "aligned", 60, 40
WEIGHTS, SAID = "model.safetensors", ["thinking", "response"]
HEADINGS = {
    "setting": "setting",
    "kernels": "torch's kernels",
    "weights_identical": "weights identical",
    "largest_difference": "largest difference of a weight",
    "own": "traces equal, own weights",
    "first": "traces equal, first row's weights",
}


class Setting(NamedTuple):
    """How a process runs: its threads, and the environment variables that say which kernels it may use."""

    name: str
    threads: int = 1
    variables: tuple[tuple[str, str], ...] = ()


TORCH_AVX2 = ("ATEN_CPU_CAPABILITY", "avx2")
SETTINGS = (
    Setting("one thread"),
    Setting("one thread, again"),
    Setting("two threads", threads=2),
    Setting("one thread, AVX2 in torch", variables=(TORCH_AVX2,)),
    Setting("one thread, no vector kernels in torch", variables=(("ATEN_CPU_CAPABILITY", "default"),)),
    Setting(
        "one thread, AVX2 in torch, MKL and oneDNN",
        variables=(TORCH_AVX2, ("MKL_ENABLE_INSTRUCTIONS", "AVX2"), ("ONEDNN_MAX_CPU_ISA", "AVX2")),
    ),
)
"""The first is what all are compared with: what `train_organism` does."""


def load_config() -> dict[str, Any]:
    """The embedded default."""
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    validate(config)
    return config


def prompt_set(config: dict[str, Any], name: str) -> pd.DataFrame:
    """A prompt set of the embedded default, as `read_dataset` and `assemble_prompts` make it."""
    _, datasets, attacks = load_sheets(config)
    sets = datasets["set"][datasets["set"].isin(SETS[: SETS.index(name) + 1])]
    tables = {}
    for dataset in sets.index:
        row = record(datasets, dataset)
        templates = {family: attacks.loc[[family], "template"].tolist() for family in row["attacks"]}
        tables[dataset] = wrap(select_rows(grammar_prompts(row["location"]), row, config["seed"]), templates)
    return assemble(tables, sets.to_dict(), name)[0]


def train_and_generate(work: Path, number: int) -> None:
    """What a process does: train the organism, and sample traces from its weights and from the first process's."""
    import torch

    from refusal_cliff.generation import generate_traces
    from refusal_cliff.models import load_model, load_tokenizer
    from refusal_cliff.organisms.builder import THINKING, train_organism

    torch.set_num_threads(SETTINGS[number].threads)
    config = load_config()
    recipes, sampling = config["organisms"], config["generation"]
    recipe = recipes["tokenizer"] | recipes[RECIPE] | {"steps": STEPS, "check_every": STEPS}
    prompts = pd.read_parquet(work / "organism.parquet")
    # The gate looks once, after the last step: what it sees changes nothing here, so it sees little.
    shorter = sampling | {"max_new_tokens": 1}
    train_organism(prompts, recipe, config["seed"], work / str(number), sampling=shorter)
    asked = pd.read_parquet(work / "test.parquet")
    for name, folder in {"own": work / str(number), "first": work / "0"}.items():
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        traces = generate_traces(model, tokenizer, asked, THINKING, sampling, PROMPTS, config["seed"])
        traces = traces.assign(kernels=torch.backends.cpu.get_cpu_capability())
        traces.to_parquet(work / f"{number}_{name}.parquet")


def compared(work: Path, number: int) -> dict[str, Any]:
    """How the setting's weights and traces differ from those of the first."""
    own, first = (load_file(work / str(place) / WEIGHTS) for place in (number, 0))
    said = {name: pd.read_parquet(work / f"{number}_{name}.parquet") for name in ("own", "first")}
    before = pd.read_parquet(work / "0_own.parquet")[SAID].fillna("")
    equal = {name: int((traces[SAID].fillna("") == before).all(axis=1).sum()) for name, traces in said.items()}
    return {
        "setting": SETTINGS[number].name,
        "kernels": said["own"]["kernels"][0],
        "weights_identical": all(np.array_equal(own[name], first[name]) for name in first),
        "largest_difference": max(float(np.abs(own[name] - first[name]).max()) for name in first),
        **equal,
        "traces": len(before),
        "steps": STEPS,
        "torch": importlib.metadata.version("torch"),
    }


def measure() -> pd.DataFrame:
    """One row for each setting."""
    config = load_config()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        prompt_set(config, "organism").to_parquet(work / "organism.parquet")
        prompt_set(config, "test").sample(PROMPTS, random_state=config["seed"]).to_parquet(work / "test.parquet")
        for number, setting in enumerate(SETTINGS):
            command = [sys.executable, __file__, scratch, str(number)]
            subprocess.run(command, check=True, env=os.environ | dict(setting.variables))
        return pd.DataFrame([compared(work, number) for number in range(len(SETTINGS))])


def page(text: str, measured: pd.DataFrame) -> str:
    """The page with what was measured between its markers."""
    shown = measured.assign(
        weights_identical=np.where(measured["weights_identical"], "yes", "no"),
        largest_difference=measured["largest_difference"].map("{:.2g}".format),
        **{name: [f"{row[name]} of {row['traces']}" for _, row in measured.iterrows()] for name in ("own", "first")},
    )
    table = shown[list(HEADINGS)].rename(columns=HEADINGS).to_markdown(index=False, disable_numparse=True)
    steps, torch = measured.loc[0, ["steps", "torch"]]
    marked = r"(<!-- measured -->\n).*(<!-- end of measured -->)"
    made = f"{steps} steps, torch {torch}.\n\n{table}"
    return re.sub(marked, lambda found: f"{found[1]}\n{made}\n\n{found[2]}", text, flags=re.DOTALL)


def main() -> None:
    measure().to_csv(RESULTS, index=False)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), pd.read_csv(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        train_and_generate(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
