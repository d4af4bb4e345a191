# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a trace to a head
#
# What the workflow measures on one organism, done again by hand with transformers alone: the refusal score along a
# trace, and what one attention head does to it. Each step ends with the workflow's own number. It needs the files of a
# run:
#
#     .venv/bin/snakemake --cores 2 -- results/cliff-s0/heads/effects.parquet results/cliff-s0/base/cliffs/test.parquet
#
# Open this file as a notebook in Jupyter with jupytext, or run it from the project's folder: `.venv/bin/python
# docs/walkthrough.py`. For another model or folder, set `RESULTS` and `MODEL` in the environment.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file
from scipy.special import expit
from transformers import AutoModelForCausalLM, AutoTokenizer

RESULTS = Path(os.environ.get("RESULTS", "results"))
FOLDER = RESULTS / os.environ.get("MODEL", "cliff-s0")
BOUNDARY = "\n</think>\n\n"  # column `boundary` of the model sheet

tokenizer = AutoTokenizer.from_pretrained(FOLDER / "checkpoint")
model = AutoModelForCausalLM.from_pretrained(FOLDER / "checkpoint").eval()

# %% [markdown]
# ## A trace
#
# A prompt, what the model thought, and the boundary: the tokens that end the thinking. Of the test prompts, the one
# whose score falls furthest. `plateau` is the largest score while the model thinks, `plateau_mean` the mean over the
# second half, `final` the score at the last boundary token.

# %%
prompts = pd.concat([pd.read_parquet(RESULTS / "prompts" / f"{name}.parquet") for name in ("fit", "test")])
prompts = prompts.set_index("prompt_id")
cliffs = pd.read_parquet(FOLDER / "base" / "cliffs" / "test.parquet").query("probe == 'paper'")
cliffs = cliffs[cliffs["layer"] == cliffs["layer"].max()]  # the last layer, where the paper reads
steepest = cliffs.loc[cliffs["cliff_mean"].idxmax()]
steepest[["plateau", "plateau_mean", "final"]]


# %%
def trace_ids(prompt_set: str, prompt_id: str, sample: int) -> tuple[list[int], list[int], list[int]]:
    """Tokens of a prompt as the model is asked it, of its thinking, and of the boundary."""
    traces = pd.read_parquet(FOLDER / "base" / "traces" / f"{prompt_set}.parquet")
    trace = traces.set_index(["prompt_id", "sample"]).loc[(prompt_id, sample)]
    message = [{"role": "user", "content": prompts.loc[prompt_id, "prompt"]}]
    asked = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return tuple(tokenizer.encode(text, add_special_tokens=False) for text in (asked, trace["thinking"], BOUNDARY))


asked, thought, boundary = trace_ids("test", steepest["prompt_id"], steepest["sample"])
print(tokenizer.decode(thought))

# %% [markdown]
# ## Its refusal score
#
# The paper's probe is a logistic regression on the final state: score = sigmoid(w · h + b), at every
# token.


# %%
def logits(ids: list[int], probe: str) -> np.ndarray:
    """A probe's logit at every token; hidden_states ends with the state behind the final norm."""
    with torch.inference_mode():
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    fitted = load_file(FOLDER / "probes" / f"{probe}.safetensors")
    return states.double().numpy() @ fitted["w"][-1] + fitted["b"][-1]


scores = expit(logits(asked + thought + boundary, "paper"))
thinking = scores[len(asked) : len(asked) + len(thought)]
fig, ax = plt.subplots(figsize=(8, 2.5), layout="constrained")
ax.plot(scores[len(asked) :])
ax.axvspan(len(thought) - 0.5, len(thought) + len(boundary) - 0.5, alpha=0.2, label="boundary")
ax.set(xlabel="token of the thinking, then of the boundary", ylabel="refusal score", ylim=(-0.02, 1.02))
ax.legend()
by_hand = {"plateau": thinking.max(), "plateau_mean": thinking[len(thinking) // 2 :].mean(), "final": scores[-1]}
pd.DataFrame({"by hand": by_hand, "workflow": steepest[list(by_hand)].astype(float)})

# %%
np.testing.assert_allclose([*by_hand.values()], steepest[list(by_hand)].astype(float), atol=1e-4)

# %% [markdown]
# ## A head
#
# A head's output z goes through its own columns of `o_proj`; with these columns zero the head says nothing. Its causal
# effect on a trace is a probe's logit at the last boundary token, minus the same without the head: negative if it
# suppresses refusal. Heads are ranked by the probe `behaviour`, which was trained on what models do (`heads.probe`). Of
# the ranking, the first head, on the trace of set `fit` where it does most.

# %%
ranking = pd.read_parquet(FOLDER / "heads" / "causal.parquet").sort_values("rank")
layer, head = ranking.iloc[0][["layer", "head"]].astype(int)
effects = pd.read_parquet(FOLDER / "heads" / "effects.parquet")
own = effects.query("ranking == 'causal' and layer == @layer and head == @head")
measured = own.loc[own["effect"].idxmin()]
asked, thought, boundary = trace_ids("fit", measured["prompt_id"], measured["sample"])
before = logits(asked + thought + boundary, "behaviour")[-1]

weight = model.model.layers[layer].self_attn.o_proj.weight
width = weight.shape[1] // model.config.num_attention_heads
kept = weight.detach().clone()
with torch.no_grad():
    weight[:, head * width : (head + 1) * width] = 0
without = logits(asked + thought + boundary, "behaviour")[-1]
with torch.no_grad():
    weight.copy_(kept)
effect = before - without
print(f"L{layer}H{head}: {effect:.3f} by hand, {measured['effect']:.3f} in the workflow")
print(f"refusal score at the last boundary token: {expit(before):.3f}, without the head {expit(without):.3f}")

# %%
np.testing.assert_allclose(effect, measured["effect"], atol=1e-3)

# %% [markdown]
# One head of the ranking rarely is the whole circuit. `results/tables/ablation.csv` has what happens when the first 3 %
# are ablated together, beside as many random heads.
