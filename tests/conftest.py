"""Tiny random models of every supported architecture, and a small tokenizer with a chat template."""

import os
import textwrap
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# One thread, as a job has: torch's threads spin while they wait for a core that the other worker has, and tests of tiny
# models took twelve times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LONGEST = ["workflow", "small_runs", "agents", "reruns", "slurm", "gguf", "transfer_workflow", "kills", "documents"]
"""Files that take minutes: they come first, so that no worker is left alone with them at the end."""

BENCHMARKS = Path(os.environ.get("BENCHMARK_DATA", Path(__file__).parents[1] / "data"))
needs_benchmarks = pytest.mark.skipif(
    not BENCHMARKS.is_dir(),
    reason="reads AdvBench, JailbreakBench, XSTest, Alpaca or GSM8K, which the project may not contain (licences, "
    f"harmful requests); there is no folder {BENCHMARKS}: set BENCHMARK_DATA to the folder of config/README.md's files",
)


def pytest_collection_modifyitems(items):
    names = [f"test_{name}" for name in LONGEST]
    items.sort(key=lambda item: names.index(item.path.stem) if item.path.stem in names else len(names))


SIZE = {
    "vocab_size": 320,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# The head dimension differs from hidden_size / heads where the architecture allows it.
ARCHITECTURES = {
    "llama": {},
    "mistral": {"head_dim": 16, "sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "phi3": {},
    "gemma": {"head_dim": 16},
}


@pytest.fixture(scope="session")
def tiny_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<pad>", "<bos>", "<eos>", "<think>", "</think>", "safe", "unsafe"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator([], trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, vocab_size=300))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        padding_side="left",
        chat_template="{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]",
    )


@pytest.fixture(scope="session", params=sorted(ARCHITECTURES))
def tiny_model(request):
    return make_tiny_model(request.param)


@pytest.fixture(scope="session")
def tiny_llama():
    return make_tiny_model("llama")


def make_tiny_model(architecture):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **SIZE, **ARCHITECTURES[architecture])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval().requires_grad_(False)
    # Default initialisation is so small that heads hardly matter: make every weight count, norms included.
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(parameter + 0.15 * noise)
    return model


@pytest.fixture
def ids():
    """Token ids of three sequences of one length, for a tiny model."""
    import torch

    return torch.randint(10, 300, (3, 17), generator=torch.Generator().manual_seed(2))


def logits(model, ids, mask=None):
    """What a model predicts behind every token; without a mask, of sequences without padding."""
    import torch

    from refusal_cliff.models import run

    with torch.inference_mode():
        return run(model, ids, torch.ones_like(ids) if mask is None else mask).logits


def write_script(path, text):
    """A stand-in for a command: a shell script that can be run."""
    path.write_text("#!/bin/bash\n" + textwrap.dedent(text))
    path.chmod(0o755)
