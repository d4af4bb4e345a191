"""A model's folder: written whole, and what it says without importing torch, its unembedding and its tokens."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from refusal_cliff.artifacts import LazyTensor, whole_folder
from refusal_cliff.errors import UserError


def save_checkpoint(model: Any, tokenizer: Any, folder: str | Path) -> None:
    """Write a model and its tokenizer in Hugging Face's format, whole or not at all."""
    with whole_folder(folder) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)


def unembedding(folder: str | Path) -> LazyTensor:
    """The matrix [vocabulary, d_model] that reads the next token off the final state; nothing else is loaded.

    Models that tie it to the embedding store that alone.

    Raises:
        UserError: no weight file has either.
    """
    from safetensors import safe_open

    holders = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            holders |= dict.fromkeys(file.keys(), path)
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        if name in holders:
            return LazyTensor(holders[name], name)
    raise UserError(
        f"{folder}: neither lm_head.weight nor model.embed_tokens.weight in its *.safetensors; save the model with "
        "save_pretrained"
    )


def first_tokens(folder: str | Path, texts: Iterable[str]) -> dict[str, int]:
    """First token of each different text, tokenised by itself as segments of a trace are; an empty text has none.

    Raises:
        UserError: the folder has no tokenizer.json.
    """
    from tokenizers import Tokenizer

    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; load the tokenizer with AutoTokenizer and save it there again")
    tokenizer = Tokenizer.from_file(str(path))
    encoded = {text: tokenizer.encode(text, add_special_tokens=False).ids for text in set(texts)}
    return {text: ids[0] for text, ids in encoded.items() if ids}
