"""Which architectures are supported, and whether a folder holds such a model: asked before any weights are loaded."""

from pathlib import Path

from refusal_cliff.artifacts import read_json
from refusal_cliff.errors import UserError

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
        UserError: no config.json, unsupported architecture of a subject, no safetensors weights, or no chat template.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: no config.json; a model row's location must be a Hugging Face model folder")
    if role == "subject":
        check_architecture(read_json(folder / "config.json", FETCH_AGAIN).get("model_type", "unknown"), folder)
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder}: no *.safetensors weights; pickled weights are never loaded, save the model with "
            "save_pretrained first"
        )
    tokenizer_config = folder / "tokenizer_config.json"
    has_template = (folder / "chat_template.jinja").is_file() or (
        tokenizer_config.is_file() and bool(read_json(tokenizer_config, FETCH_AGAIN).get("chat_template"))
    )
    if not has_template:
        raise UserError(f"{folder}: the tokenizer has no chat template; add a chat_template.jinja file to the folder")
