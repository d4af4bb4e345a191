"""Which architectures are supported, and whether a folder holds such a model: asked before any weights are loaded."""

from pathlib import Path

from refusal_cliff.artifacts import read_json
from refusal_cliff.errors import UserError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
LFS_POINTER = b"version https://git-lfs"
GGUF_START = b"GGUF"
# `model_type` of pre-norm decoders with `self_attn.o_proj` writing straight into the residual stream and an RMS norm
# before the unembedding. Gemma 2 and later norm the attention output first, so a head's write is not linear there.
SUPPORTED = ("gemma", "llama", "mistral", "phi3", "qwen2", "qwen3", "qwen3_moe")
FETCH_AGAIN = "fetch the model again"


def check_architecture(model_type: str, source: str | Path) -> None:
    """Raise a UserError if `model_type` is not supported."""
    if model_type not in SUPPORTED:
        raise UserError(
            f"{source}: architecture {model_type!r} is not supported (supported: {', '.join(SUPPORTED)}); "
            "add it to refusal_cliff/architectures.py and its parts to refusal_cliff/models.py"
        )


def check_model_folder(folder: str | Path, role: str) -> None:
    """Check a Hugging Face model folder without loading weights.

    Args:
        role: `subject` or `guard`; a guard is only asked, never probed, so any architecture will do.

    Raises:
        UserError: no config.json, unsupported architecture of a subject, weights that are missing or no weights, no
            tokenizer, or no chat template.
    """
    folder = Path(folder)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise UserError(
            f"{folder}: an adapter alone, not a model; merge it into its base model (peft: merge_and_unload, then "
            "save_pretrained) and name that folder"
        )
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no config.json; a model row's location must be a Hugging Face model folder")
    if role == "subject":
        check_architecture(read_json(folder / "config.json", FETCH_AGAIN).get("model_type", "unknown"), folder)
    _check_weight_files(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"{folder}: no tokenizer ({' or '.join(TOKENIZER_FILES)}); copy it from where the weights are from, or "
            "save it with tokenizer.save_pretrained"
        )
    tokenizer_config = folder / "tokenizer_config.json"
    has_template = (folder / "chat_template.jinja").is_file() or (
        tokenizer_config.is_file() and bool(read_json(tokenizer_config, FETCH_AGAIN).get("chat_template"))
    )
    if not has_template:
        raise UserError(f"{folder}: the tokenizer has no chat template; add a chat_template.jinja file to the folder")


def check_gguf_file(path: str | Path) -> None:
    """Check that a file is there and begins as a GGUF file does.

    Raises:
        UserError: it is not, or does not.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; paths are relative to the working directory")
    with Path(path).open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise UserError(f"{path}: a pointer of Git LFS, not the weights; run `git lfs pull` where it is from")
    if not start.startswith(GGUF_START):
        raise UserError(f"{path}: no GGUF file, it does not begin with {GGUF_START.decode()}; download it again")


def _check_weight_files(folder: Path) -> None:
    """Check that weights are there, every part of them, and are more than the note that git leaves in their place."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        raise UserError(
            f"{folder}: no *.safetensors weights; pickled weights are never loaded, save the model with "
            "save_pretrained first"
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        parts = set(read_json(index)["weight_map"].values())
        if missing := sorted(parts - {path.name for path in found}):
            raise UserError(f"{folder}: {len(missing)} of {len(parts)} weight files are missing (first: {missing[0]})")
    for path in found:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            raise UserError(f"{path}: a pointer of Git LFS, not the weights; run `git lfs pull` in {folder}")
        if len(start) < 8:
            raise UserError(f"{path}: empty; download it again")
