"""Probe scores by other means, each in the best form that its documentation shows.

Every function returns one that computes, for token ids [prompt, pos] of a Qwen2 model, the products of the states of
all layers with probes [layer, probe, d_model]: [prompt, layer, probe, pos].
"""

import copy
import tempfile
from collections.abc import Callable

import torch
from transformers import PreTrainedModel

Score = Callable[[torch.Tensor], torch.Tensor]


def hidden_states(model: PreTrainedModel, probes: torch.Tensor) -> Score:
    """Ask transformers for all hidden states, one prompt at a time."""

    @torch.inference_mode()
    def score(ids: torch.Tensor) -> torch.Tensor:
        found = []
        for prompt in ids:
            states = model(prompt[None], output_hidden_states=True).hidden_states[1:]
            found.append(torch.stack([probe @ state[0].T for probe, state in zip(probes, states, strict=True)]))
        return torch.stack(found)

    return score


def nnsight(model: PreTrainedModel, probes: torch.Tensor) -> Score:
    """A trace of the decoder alone, which has no unembedding, with the products taken inside."""
    import nnsight as library

    decoder = library.NNsight(model.get_decoder())
    last = len(probes) - 1

    @torch.inference_mode()
    def score(ids: torch.Tensor) -> torch.Tensor:
        with decoder.trace(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False):
            found = library.save([])
            for layer in range(last):
                found.append(decoder.layers[layer].output @ probes[layer].T)
            found.append(decoder.norm.output @ probes[last].T)
        return torch.stack(list(found), dim=1).transpose(-1, -2)

    return score


def transformer_lens(model: PreTrainedModel, probes: torch.Tensor) -> Score:
    """`run_with_hooks` of a bridge, with logits of one position only; it always computes attention eagerly."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<pad>")),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
    )
    with tempfile.TemporaryDirectory() as folder:
        # A bridge wants a tokenizer that came from a folder, though none is used here.
        tokenizer.save_pretrained(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(
            "benchmark", hf_model=copy.deepcopy(model), tokenizer=tokenizer, device=str(model.device)
        )
    last = len(probes) - 1
    names = [f"blocks.{layer}.hook_out" for layer in range(last)] + ["ln_final.hook_out"]

    @torch.inference_mode()
    def score(ids: torch.Tensor) -> torch.Tensor:
        found = {}

        def keep(state: torch.Tensor, hook: object) -> None:
            found[hook.name] = state @ probes[names.index(hook.name)].T

        hooks = [(name, keep) for name in names]
        bridge.run_with_hooks(ids, return_type=None, fwd_hooks=hooks, logits_to_keep=1)
        return torch.stack([found[name] for name in names], dim=1).transpose(-1, -2)

    return score


RIVALS = {"nnsight": nnsight, "transformer_lens": transformer_lens}
