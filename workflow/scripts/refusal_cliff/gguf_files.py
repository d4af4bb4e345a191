"""Models that are one GGUF file, as llama.cpp reads them: unpacked into a folder such as every other model has."""

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import gguf

from refusal_cliff.checkpoints import save_checkpoint
from refusal_cliff.errors import UserError
from refusal_cliff.packages import check_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def convert(path: str | Path, row: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """Unpack a GGUF file into a Hugging Face folder, whole or not at all.

    Args:
        path: the file.
        row: of the model sheet: model, source, location, revision, file, sha256 (empty takes any), licence, dtype
            (`auto` is float32, which holds whatever a block of quantised weights unpacks to).
        folder: config, generation config, weights as safetensors, tokenizer with its chat template.

    Returns:
        Where the weights are from: source; package and version, or location; file, sha256, licence; quantisation (type
        -> number of tensors of that type); versions of what unpacked them.

    Raises:
        UserError: another file than the sheet says, no GGUF file that can be unpacked, or one that would be another
            model then.
    """
    name = row["file"] or row["location"]
    sha256 = check_sha256(path, row, name)
    where = f"model {row['model']!r}: {name}"
    try:
        reader = gguf.GGUFReader(path)
        model, tokenizer = _load(Path(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError) as error:
        reason = shorten(f"{type(error).__name__}: {' '.join(str(error).split())}", 240, placeholder=" …")
        raise UserError(
            f"{where}: transformers cannot unpack it ({reason}); take a whole, unsplit file of an architecture that it "
            "knows, or the model's own folder (source path or hub)"
        ) from error
    _check_whole(reader, model, where)
    if not tokenizer.chat_template:
        raise UserError(f"{where}: there is no chat template in it, as in a base model; take the file of a chat model")
    save_checkpoint(model if row["dtype"] == "auto" else model.to(_dtype(row["dtype"])), tokenizer, folder)
    packaged = row["source"] == "package"
    origin = {"package": row["location"], "version": row["revision"]} if packaged else {}
    return {
        "source": row["source"],
        **origin,
        "file": name,
        "sha256": sha256,
        "licence": row["licence"],
        "quantisation": Counter(tensor.tensor_type.name for tensor in reader.tensors),
        "versions": {package: version(package) for package in ("gguf", "transformers")},
    }


def _load(path: Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Model in float32, and tokenizer.

    Without `dequantize` transformers marks even unpacked weights as quantised, and refuses to save them.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    options = {"gguf_file": path.name, "local_files_only": True}
    model, found = AutoModelForCausalLM.from_pretrained(
        path.parent,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
        **options,
    )
    if found["missing_keys"]:
        raise ValueError(f"{len(found['missing_keys'])} tensors are missing (first: {min(found['missing_keys'])})")
    return model, AutoTokenizer.from_pretrained(path.parent, **options)


def _check_whole(reader: gguf.GGUFReader, model: "PreTrainedModel", where: str) -> None:
    """Refuse a file of which transformers leaves something out without a word, as it does with what scales positions.

    Llama 3.1 and longrope keep that in tensors of their own, YaRN in the metadata.
    """
    held, taken = sum(int(tensor.n_elements) for tensor in reader.tensors), model.num_parameters()
    scaling = [key for key in reader.fields if ".rope.scaling." in key and reader.fields[key].contents() != "none"]
    if held != taken or scaling:
        what = (
            f"its {scaling[0]}" if scaling else f"{held - taken} of its {held} weights (such as rope_freqs or a bias)"
        )
        raise UserError(
            f"{where}: transformers would leave out {what}, and run another model; take the model's own folder "
            "(source path or hub)"
        )


def _dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)
