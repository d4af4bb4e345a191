"""Each of the paper's models, and its guard, has a small stand-in: same architecture, template, kind of tokenizer.

The short form tries what is known of a model without a run. The long form (`make stand-ins`) trains the stand-ins and
takes them through every rule of config/paper.yaml up to the report.
"""

import csv
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from project import ROOT, copy_project, snakemake
from stand_ins import BAR, EOS, GUARD, STAND_INS, SUBJECTS, build, paper_row, train

from refusal_cliff.architectures import check_model_folder
from refusal_cliff.errors import UserError
from refusal_cliff.judges import answer_tokens, guard_question, read_verdicts
from refusal_cliff.model_check import check_model, check_prompts
from refusal_cliff.models import head_counts, load_model, load_tokenizer, run, run_decoder, run_prefix, set_heads
from refusal_cliff.templates import control_tokens, encode
from refusal_cliff.traces import ChatFormat, encode_trace, length_switch, pad_left, render_prompt

CONFIG = ROOT / "config" / "paper.yaml"
ANSWERS = {"safe_token": "safe", "unsafe_token": "unsafe"} | yaml.safe_load(CONFIG.read_text())["judges"]["guard"]
TEXT = "Which herbs, say: basil & thyme?\n\n  2 cups of café crème."
SUBJECT_NAMES = [stand_in.name for stand_in in SUBJECTS]
# How each marks its thinking, token by token, and the token that ends a turn.
MARKED = {
    "r1-7b": (["<think>", "\n"], ["\n", "</think>", "\n\n"], EOS),
    "r1-8b": (["<think>", "\n"], ["\n", "</think>", "\n\n"], EOS),
    "qwq-32b": (["<think>", "\n"], ["\n", "</think>", "\n\n"], "<|im_end|>"),
    "qwen3-4b": (["<think>", "\n"], ["\n", "</think>", "\n\n"], "<|im_end|>"),
    "qwen3-30b": (["<think>", "\n"], ["\n", "</think>", "\n\n"], "<|im_end|>"),
    "hermes-14b": (["<think>", "\n"], ["\n", "</think>", "\n\n"], "<|im_end|>"),
    "phi4-mini": (["<think", ">\n"], ["\n", "</", "think", ">\n\n"], "<|end|>"),
    "phi4": (["<think>"], ["</think>"], "<|im_end|>"),
}


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """A folder for each stand-in, with random weights."""
    root = tmp_path_factory.mktemp("stand_ins")
    return {name: build(stand_in, root / name) for name, stand_in in STAND_INS.items()}


def test_every_model_of_the_paper_has_a_stand_in_and_one_only():
    rows = pd.read_csv(ROOT / "config" / "paper_models.tsv", sep="\t")["model"]
    assert sorted(row for stand_in in STAND_INS.values() for row in stand_in.rows) == sorted(rows)


@pytest.mark.parametrize("row", [row for stand_in in STAND_INS.values() for row in stand_in.rows])
def test_the_cells_of_the_paper_sheet_fit_the_kind_of_model(untrained, row):
    name = next(name for name, stand_in in STAND_INS.items() if row in stand_in.rows)
    cells = paper_row(row)
    check_model_folder(untrained[name], cells["role"])
    page = check_model(untrained[name], cells, ANSWERS)
    if cells["role"] == "subject":
        prompts = pd.DataFrame({"dataset": ["own"], "prompt": [TEXT]})
        assert "| own | 1 |" in check_prompts(untrained[name], cells, prompts, 800)
        end = MARKED[name][2]
        assert f"The template itself ends a turn with `{end}`" in page
        assert f"`{end}`" in page.split("## What ends a response")[1].split(". The template")[0]
        shown = page.split("## The boundary")[1].split("## What ends")[0].count("\n| ") - 2  # its head
        assert shown == len(MARKED[name][1])
    for setting in STAND_INS[name].settings:
        assert f"{setting} = " in page


@pytest.mark.parametrize("name", STAND_INS)
def test_a_tokenizer_gives_back_what_it_reads(untrained, name):
    tokenizer = load_tokenizer(untrained[name])
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == TEXT
    assert len(tokenizer) <= json.loads((untrained[name] / "config.json").read_text()).get("vocab_size", len(tokenizer))


@pytest.mark.parametrize("name", SUBJECT_NAMES)
def test_the_thinking_is_marked_as_the_kind_marks_it(untrained, name):
    tokenizer, chat = load_tokenizer(untrained[name]), ChatFormat.of(paper_row(name))
    opening, boundary, _ = MARKED[name]
    prompt = render_prompt(tokenizer, TEXT, chat)
    trace = encode_trace(tokenizer, prompt, "I should decline.", chat.boundary, "I'm sorry.")

    def spelt(start, stop):
        return [tokenizer.decode([token]) for token in trace.ids[start:stop]]

    start, stop = trace.spans["prompt"]
    assert spelt(start, stop)[-len(opening) :] == opening
    assert spelt(*trace.spans["boundary"]) == boundary
    assert prompt.text.endswith(chat.opening) and not prompt.text.endswith(chat.opening * 2)
    assert tokenizer.decode(trace.ids).endswith("I'm sorry.")


@pytest.mark.parametrize("name", STAND_INS)
def test_no_control_token_comes_from_what_a_user_says(untrained, name):
    tokenizer, row = load_tokenizer(untrained[name]), paper_row(name)
    control = set(tokenizer.convert_tokens_to_ids(list(control_tokens(tokenizer))))
    assert {token.text for token in STAND_INS[name].added} <= set(control_tokens(tokenizer))
    said = " and ".join(control_tokens(tokenizer))

    def count(text):
        if name == GUARD.name:
            ids = guard_question(tokenizer, text, text, ANSWERS)
        else:
            ids = encode(tokenizer, render_prompt(tokenizer, text, ChatFormat.of(row)))
        return sum(token in control for token in ids)

    assert count(said) == count("Hello") > 0


def test_the_guard_reads_prompt_and_response_and_writes_a_blank_line_first(untrained):
    tokenizer = load_tokenizer(untrained[GUARD.name])
    ids = guard_question(tokenizer, TEXT, "Basil.", ANSWERS)
    read = tokenizer.decode(ids)
    assert f"User: {TEXT}\n\nAgent: Basil.\n\n<END CONVERSATION>" in read
    assert "'Agent' messages" in read
    assert read.endswith("<|header_start|>assistant<|header_end|>\n\n")
    assert tokenizer.decode(ids[-1:]) == "\n\n"
    assert [tokenizer.decode([token]) for token in answer_tokens(tokenizer, ANSWERS)] == ["safe", "unsafe"]


def test_the_guards_config_needs_what_the_paper_sheet_overrides(untrained):
    row = paper_row(GUARD.name) | {"config_override": {}}
    with pytest.raises(UserError, match="attention_chunk_size: null"):
        check_model(untrained[GUARD.name], row, ANSWERS)
    model = load_model(untrained[GUARD.name], paper_row(GUARD.name))
    ids, mask = pad_left([guard_question(load_tokenizer(untrained[GUARD.name]), "a", "b", ANSWERS)], 0)
    assert torch.isfinite(run(model, ids, mask).logits).all()


@pytest.mark.parametrize("arguments", [{}, {"thinking": False}])
def test_hermes_is_told_to_think_or_the_row_is_refused(untrained, arguments):
    row = paper_row("hermes-14b") | {"template_arguments": arguments}
    with pytest.raises(UserError, match="closed thinking"):
        check_model(untrained["hermes-14b"], row)


@pytest.mark.parametrize("name", SUBJECT_NAMES)
def test_heads_scaled_by_one_change_nothing_and_ablated_ones_something(untrained, name):
    ids, mask = pad_left([list(range(5, 40)), list(range(7, 20))], 0)

    def logits(scale):
        model = load_model(untrained[name], paper_row(name))
        layers, heads, _ = head_counts(model)
        set_heads(model, [(layer, head, scale) for layer in range(layers) for head in range(heads)])
        with torch.inference_mode():
            return run(model, ids, mask).logits[:, -1]

    plain = logits(1.0)
    torch.testing.assert_close(plain, run(load_model(untrained[name], paper_row(name)), ids, mask).logits[:, -1])
    assert not torch.allclose(plain, logits(0.0))


@pytest.mark.parametrize("length", [95, 96, 97, 98, 99, 100, 101])
def test_a_pass_in_two_parts_sees_one_set_of_rotary_frequencies(untrained, length):
    """Where a trace is just longer than the switch of longrope, and its part before the boundary is not."""
    model = load_model(untrained["phi4-mini"], paper_row("phi4-mini"))
    assert length_switch(model) == 96
    ids, mask = pad_left([list(range(3, 3 + length)), list(range(9, 7 + length))], 0)
    with torch.inference_mode():
        whole = run_decoder(model, ids, mask).last_hidden_state[:, -4:]
        parts = model.get_decoder()(**run_prefix(model, ids, mask, 4)).last_hidden_state
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


def test_a_tokenizer_that_does_not_give_back_what_it_reads_is_told(untrained, tmp_path):
    """As byte-level tokenizers that some versions of the library read as SentencePiece's."""
    folder = shutil.copytree(untrained["r1-8b"], tmp_path / "model")
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["decoder"] = None
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(UserError, match=r"reads .* and gives back .*tokenizer_class"):
        check_model(folder, paper_row("r1-8b"))


# Prompts of the grammar under the names of the paper's datasets: set, kind, attacks, part, prompts.
DATASETS = {
    "advbench_fit": ("fit", "harmful", "", "0-0.3", 24),
    "advbench_wrapped_fit": ("fit", "harmful", "roleplay,authority", "0-0.3", 24),
    "ultrachat_fit": ("fit", "benign", "", "0-0.5", 24),
    "wildjailbreak_plain_pool": ("pool", "harmful", "", "0.3-0.6", 20),
    "wildjailbreak_adversarial_pool": ("pool", "harmful", "roleplay,hypothetical", "0.3-0.6", 20),
    "advbench": ("test", "harmful", "", "0.6-0.8", 20),
    "wildjailbreak": ("test", "harmful", "roleplay,hypothetical", "0.8-1", 20),
    "ultrachat": ("test", "benign", "", "0.5-1", 20),
    "gsm8k": ("test", "facts", "", "0-1", 12),
}
SMALLER = {
    "generation": {"max_new_tokens": 96},
    "heads": {"traces": 16},
    "ablation": {
        "rankings": {"causal": [0.1], "direct": [], "promoting": [], "random": [0.1]},
        "random_draws": 1,
        "scales": [],
    },
    "claims": {"fraction": 0.1, "budget": 0.1},
    "selection": {"selectors": {"cliff": [0.1], "random": [0.1], "rule": [], "guard": []}},
    "tuning": {"steps": 5, "early": [2], "learning_rate": 0.002},
}
ALL = "r1-8b"
"""The one that is also intervened on and tuned."""


def lay_out(project: Path, folders: dict[str, Path]) -> list[str]:
    """Write a config with sheets of stand-ins into a copy of the project.

    Args:
        folders: of each stand-in.

    Returns:
        Options for Snakemake.
    """
    sheet = pd.read_csv(project / "config" / "paper_models.tsv", sep="\t", dtype=str, keep_default_na=False)
    sheet = sheet[sheet["model"].isin(folders)]
    sheet = sheet.assign(
        source="path",
        location=sheet["model"].map(lambda name: str(folders[name])),
        dtype="float32",
        gpus="0",
        mem_mb="1500",
        batch_size="64",
    )
    sheet.loc[sheet["model"] != ALL, ["intervene", "tune"]] = ""
    datasets = pd.DataFrame(
        [
            {
                "dataset": name,
                "set": prompt_set,
                "source": "grammar",
                "location": kind,
                "category_column": "category",
                "reference_column": "reference" if kind == "facts" else "",
                "match": "contains" if kind == "facts" else "",
                "label": "harmful" if kind == "harmful" else "benign",
                "attacks": attacks,
                "part": part,
                "max_prompts": count,
            }
            for name, (prompt_set, kind, attacks, part, count) in DATASETS.items()
        ]
    )
    sheets = {}
    for name, table in (("models", sheet), ("datasets", datasets)):
        sheets[name] = f"config/stand_ins_{name}.tsv"
        table.to_csv(project / sheets[name], sep="\t", index=False, quoting=csv.QUOTE_NONE)
    (project / "config" / "stand_ins.yaml").write_text(yaml.safe_dump(SMALLER | {"sheets": sheets}))
    return ["--configfile", "config/paper.yaml", "config/stand_ins.yaml"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Trained stand-ins, taken through all rules."""
    root = tmp_path_factory.mktemp("trained")
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        folders = dict(zip(STAND_INS, pool.map(train, STAND_INS, [root / name for name in STAND_INS]), strict=True))
    project = copy_project(root / "project")
    options = lay_out(project, folders)
    snakemake(project, *options, "--", "check")
    snakemake(project, *options)
    return project / "results" / "paper"


@pytest.mark.long
def test_all_go_through_every_rule_to_the_report(finished):
    check_results(finished)


def check_results(results: Path) -> None:
    """What a finished run of the stand-ins has to show."""
    assert (results / "report.html").stat().st_size > 100_000
    empty = {table.stem for table in (results / "tables").glob("*.csv") if not len(pd.read_csv(table))}
    assert empty <= {"detection", "detection_by_organism"}, "only what speaks of organisms may be empty"
    claims = pd.read_csv(results / "claims.csv")
    assert claims["verdict"].notna().all()
    for name in STAND_INS:
        assert (results / name / "check.md").is_file()
    sheet = pd.read_csv(ROOT / "config" / "paper_models.tsv", sep="\t").set_index("model")
    for name in SUBJECT_NAMES:
        own = results / name
        traces = {
            path.parts[-3]: pd.read_parquet(path).assign(model=name, variant=path.parts[-3])
            for path in own.glob("*/traces/test.parquet")
        }
        base = traces["base"]
        assert (base["finish_reason"] == "stop").mean() > 0.8, name
        assert not base["response"].dropna().str.contains(rf"<\||<{BAR}|think>").any(), name
        # Reading checks that every trace has a row of every judge.
        verdicts = read_verdicts(own / "verdicts.parquet", pd.concat(traces.values(), ignore_index=True))
        assert {"guard", "phrases"} == set(verdicts["judge"])
        assert verdicts.loc[verdicts["judge"] == "guard", "verdict"].notna().mean() > 0.8, name
        prompts = pd.read_parquet(results / "prompts" / "test.parquet").set_index("prompt_id")["dataset"]
        said = verdicts[(verdicts["judge"] == "phrases") & (verdicts["scope"] == "response")]
        said = said[said["variant"] == "base"].assign(dataset=said["prompt_id"].map(prompts))
        refused = said["verdict"].eq("refusal").groupby(said["dataset"]).mean()
        assert refused["advbench"] > refused["ultrachat"], name
        ablated = {variant for variant in traces if variant.startswith("ablate-")}
        assert bool(ablated) == (sheet.loc[name, "ablate"] is True or sheet.loc[name, "ablate"] == "true"), name
    kinds = {path.name.partition("-")[0] for path in (results / ALL / "variants").iterdir()}
    assert {"ablate", "mean", "boundary", "restore", "keep", "tune"} <= kinds
