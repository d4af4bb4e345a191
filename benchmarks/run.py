"""Time scoring, head rankings and edited generation against bare forward passes and other libraries.

Everything runs on random Qwen2 models in one process. The ways to one result are first checked to agree, then timed in
alternating rounds, so that what else the machine does falls on all of them. Writes one row per way and round to
`benchmarks/results/{device}.csv`, and the machine beside it.
"""

import argparse
import copy
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))
from rivals import RIVALS, hidden_states

from refusal_cliff.activations import project_states
from refusal_cliff.cliffs import score_traces
from refusal_cliff.head_effects import boundary_causal_effects, causal_effects
from refusal_cliff.hooks import attached, scaled_heads
from refusal_cliff.models import output_projection, run, run_decoder, set_heads, split_heads
from refusal_cliff.traces import EncodedTrace

RESULTS = Path(__file__).parent / "results"
FLOOR = "bare pass"
HIDDEN, VOCABULARY, PROBES, BOUNDARY, NEW_TOKENS = 512, 32000, 4, 4, 64
EDITED = [(2, 1, 0.0), (5, 6, 0.0), (9, 3, 0.0)]
"""About 3 % of the heads, as in the workflow."""
EXPERIMENTS = ("scoring", "ranking", "generation", "growth")
Methods = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Setting:
    """What is timed: so many prompts of so many tokens, on a model of so many layers and heads."""

    tokens: int
    prompts: int = 1
    heads: int = 8
    layers: int = 12


def make_model(setting: Setting, device: str) -> PreTrainedModel:
    """A random Qwen2 model of `HIDDEN` dimensions; heads share them, so that their number alone costs nothing."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads,
        num_key_value_heads=setting.heads // 2,
        max_position_embeddings=4096,
        architectures=["Qwen2ForCausalLM"],
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.eval().requires_grad_(False).to(device)


def make_traces(setting: Setting) -> list[EncodedTrace]:
    """Random traces: a quarter prompt, then thinking, and `BOUNDARY` boundary tokens."""
    ids = np.random.default_rng(0).integers(3, VOCABULARY, size=(setting.prompts, setting.tokens))
    stop = setting.tokens - BOUNDARY
    spans = {
        "prompt": (0, setting.tokens // 4),
        "thinking": (setting.tokens // 4, stop),
        "boundary": (stop, setting.tokens),
    }
    return [EncodedTrace(row.tolist(), spans) for row in ids]


def token_ids(traces: list[EncodedTrace], device: str) -> torch.Tensor:
    """[prompt, pos]."""
    return torch.tensor([trace.ids for trace in traces], device=device)


def bare_pass(model: PreTrainedModel, traces: list[EncodedTrace]) -> None:
    """The floor: one forward pass over all prompts in one batch, without logits."""
    ids = token_ids(traces, model.device)
    with torch.inference_mode():
        run_decoder(model, ids, torch.ones_like(ids))


def scoring(setting: Setting, device: str, rivals: list[str]) -> Methods:
    """Scores of four probes in all layers, at every position."""
    model, traces = make_model(setting, device), make_traces(setting)
    ids = token_ids(traces, device)
    weights = np.random.default_rng(1).normal(size=(setting.layers, PROBES, HIDDEN)).astype(np.float32)
    probes = torch.tensor(weights, device=device)
    rows = pd.DataFrame({"prompt_id": range(setting.prompts), "sample": 0})
    layers = np.arange(setting.layers)
    by_name = {f"probe{number}": (weights[:, number], np.zeros(len(layers)), layers) for number in range(PROBES)}

    def scores() -> torch.Tensor:
        found = dict(project_states(model, traces, dict(enumerate(weights)), 0, setting.prompts))
        return torch.tensor(np.stack([found[index] for index in range(len(traces))])).unflatten(1, (-1, PROBES))

    others = {name: RIVALS[name](model, probes) for name in rivals}
    others["all hidden states, prompt by prompt"] = hidden_states(model, probes)
    expected = scores()
    for name, other in others.items():
        check(name, other(ids).cpu(), expected)
    return {
        FLOOR: lambda: bare_pass(model, traces),
        "scores": scores,
        "scores, cliffs and tables": lambda: score_traces(
            model, rows, traces, by_name, {}, {}, 0, setting.prompts, grid=101, tail=32
        ),
        **{name: (lambda other=other: other(ids)) for name, other in others.items()},
    }


def ranking(setting: Setting, device: str, everywhere: bool, one_by_one: bool) -> Methods:
    """The effect of every head, ablated at the boundary alone or everywhere."""
    model, traces = make_model(setting, device), make_traces(setting)
    w = np.random.default_rng(2).normal(size=HIDDEN)
    probe = [lambda states: states @ torch.as_tensor(w)]
    heads = list(np.ndindex(setting.layers, setting.heads))
    some = [heads[place] for place in np.random.default_rng(3).choice(len(heads), 6, replace=False)]
    columns = tuple(zip(*some, strict=True))
    methods = {
        FLOOR: lambda: bare_pass(model, traces),
        "boundary": lambda: boundary_causal_effects(model, traces, probe, 0, setting.prompts)[0],
    }
    exact = whole_passes(model, traces, w, some, slice(-BOUNDARY, None))
    check("boundary", methods["boundary"]()[:, *columns], exact)
    if everywhere:
        methods["everywhere"] = lambda: causal_effects(model, traces, probe, 0, setting.prompts)[0]
        check("everywhere", methods["everywhere"]()[:, *columns], whole_passes(model, traces, w, some, slice(None)))
    if one_by_one:
        methods["one whole pass per head"] = lambda: whole_passes(model, traces, w, heads, slice(None))
    return methods


def whole_passes(
    model: PreTrainedModel, traces: list[EncodedTrace], w: np.ndarray, heads: list[tuple[int, int]], places: slice
) -> np.ndarray:
    """Effects [trace, head] by the plainest way: a bare pass for each head, its z zeroed at `places`."""
    ids, n_heads = token_ids(traces, model.device), model.config.num_attention_heads

    def zero(head: int) -> Callable:
        def function(projection_input: torch.Tensor) -> torch.Tensor:
            z = split_heads(projection_input, n_heads).clone()
            z[:, places, head] = 0
            return z.flatten(-2)

        return function

    def logits(*hooks: Any) -> np.ndarray:
        with torch.inference_mode(), attached(list(hooks)):
            last = run_decoder(model, ids, torch.ones_like(ids)).last_hidden_state[:, -1]
        return last.double().cpu().numpy() @ w

    clean = logits()
    return np.stack([clean - logits((output_projection(model, layer), zero(head))) for layer, head in heads], axis=1)


def generation(setting: Setting, device: str) -> Methods:
    """Greedy generation by the model as it is, and with heads zeroed or replaced by a mean in its weights."""
    model, ids = make_model(setting, device), token_ids(make_traces(setting), device)
    zeroed, replaced = copy.deepcopy(model), copy.deepcopy(model)
    set_heads(zeroed, EDITED)
    set_heads(replaced, EDITED, np.random.default_rng(4).normal(size=(len(EDITED), HIDDEN // setting.heads)))
    scales = {(layer, head): scale for layer, head, scale in EDITED}
    with torch.inference_mode():
        own = run(zeroed, ids, torch.ones_like(ids), logits_to_keep=1).logits
        with scaled_heads(model, scales):
            check("zeroed heads", own, run(model, ids, torch.ones_like(ids), logits_to_keep=1).logits)
    config = GenerationConfig(
        do_sample=False, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, pad_token_id=0, eos_token_id=2
    )

    def generate(subject: PreTrainedModel) -> torch.Tensor:
        return subject.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)

    return {
        "unedited": lambda: generate(model),
        "heads zeroed": lambda: generate(zeroed),
        "heads replaced": lambda: generate(replaced),
    }


def growing(setting: Setting, device: str) -> Methods:
    """What growth is measured of."""
    methods = ranking(setting, device, everywhere=True, one_by_one=False)
    return methods | {"scores": scoring(setting, device, [])["scores"]}


def check(name: str, found: Any, expected: Any) -> None:
    """Raise if two ways to one result disagree by more than 1e-3 of its spread: attention kernels differ by as much."""
    found, expected = (np.asarray(torch.as_tensor(value).cpu()) for value in (found, expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * expected.std(), err_msg=name)


def seconds(method: Callable[[], Any], device: str) -> float:
    """How long a method takes: processor time on a CPU, where all runs on one thread, and wall time on a GPU."""
    if device == "cpu":
        start = time.process_time()
        method()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    method()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def timed(experiment: str, setting: Setting, methods: Methods, rounds: int, device: str) -> pd.DataFrame:
    """Time all methods in alternation, each round in another order: a row per method and round."""
    rng, rows = np.random.default_rng(5), []
    for number in range(rounds):
        for name in rng.permutation(list(methods)):
            rows.append((experiment, *asdict(setting).values(), name, number, seconds(methods[name], device)))
    table = pd.DataFrame(rows, columns=["experiment", *asdict(setting), "method", "round", "seconds"])
    print(experiment, setting, table.groupby("method", sort=False)["seconds"].median().round(4).to_dict(), flush=True)
    return table


def machine(device: str, rivals: list[str]) -> dict[str, Any]:
    """What the timings were made on and with."""
    if device == "cpu":
        lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("Model name")]
        name = f"{os.cpu_count()} cores of {models[0] if models else platform.processor()}, one of them used"
    else:
        name = torch.cuda.get_device_name()
    packages = ["torch", "transformers", *rivals]
    return {"device": name, "versions": {package: importlib.metadata.version(package) for package in packages}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rivals", nargs="+", default=list(RIVALS), choices=[*RIVALS, "none"])
    parser.add_argument(
        "--experiments",
        nargs="+",
        default=EXPERIMENTS,
        choices=EXPERIMENTS,
        help="others keep what was measured before",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of rankings; what is near the floor gets twice as many")
    arguments = parser.parse_args()
    device, rounds = arguments.device, arguments.rounds
    rivals = [name for name in arguments.rivals if name != "none"]
    # One thread: a pool of them would wait for whatever else runs on the machine.
    torch.set_num_threads(1)
    sizes = {128: 4, 512: 2, 2048: 1}
    plan = [("scoring", Setting(tokens, prompts), (scoring, rivals)) for tokens, prompts in sizes.items()]
    # Ablation everywhere takes as many passes at any length: growth in tokens shows that, and long ones take hours.
    plan += [("ranking", Setting(tokens), (ranking, tokens < 512, tokens < 512)) for tokens in sizes]
    plan += [("generation", Setting(128, prompts=8), (generation,))]
    base = Setting(128, layers=4)
    for name, values in {
        "tokens": (64, 128, 256, 512),
        "prompts": (1, 2, 4, 8),
        "heads": (4, 8, 16),
        "layers": (2, 4, 8),
    }.items():
        settings = [Setting(**(asdict(base) | {name: value})) for value in values]
        plan += [(f"growth in {name}", setting, (growing,)) for setting in settings]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{device}.csv"
    path.with_suffix(".json").write_text(json.dumps(machine(device, rivals), indent=1) + "\n")
    tables = []
    if path.exists():
        before = pd.read_csv(path)
        tables.append(before[~before["experiment"].str.split().str[0].isin(arguments.experiments)])
    for experiment, setting, (make, *options) in plan:
        if experiment.split()[0] in arguments.experiments:
            methods = make(setting, device, *options)
            many = 2 * rounds + 1 if experiment in ("scoring", "generation") else rounds
            tables.append(timed(experiment, setting, methods, many, device))
            pd.concat(tables).to_csv(path, index=False, float_format="%.5f")


if __name__ == "__main__":
    main()
