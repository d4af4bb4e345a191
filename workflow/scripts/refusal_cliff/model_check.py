"""What a run will ask of a model, tried before it starts: without weights, on the CPU, in seconds.

What stands in the folder's weight files is compared by name and shape; the template is rendered and tokenised; tokens,
lengths and end tokens are held against config.json. Beside errors there is a page for a person to read.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from refusal_cliff.errors import UserError
from refusal_cliff.judges import check_guard
from refusal_cliff.templates import Rendered, control_tokens, encode, end_of_turn, render, visible
from refusal_cliff.traces import ChatFormat, render_prompt

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

SAMPLE = "Which herbs go well with tomatoes?"
ANSWER = "Basil and oregano."
NOT_SAMPLING = (
    "_from_model_config",
    "transformers_version",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "output_attentions",
    "output_hidden_states",
    "use_cache",
)
"""What a generation_config.json has beside settings that change what is sampled."""


def check_model(
    folder: str | Path,
    row: Mapping[str, Any],
    answers: dict[str, Any] | None = None,
    weights: bool = True,
) -> str:
    """Try everything that a run will ask of a model short of running it.

    Args:
        folder: a Hugging Face model folder.
        row: of the model sheet: role, and what `load_model` and `ChatFormat.of` read.
        answers: of the guard that judges, how it answers: safe_token, unsafe_token, prefix.
        weights: False where the folder has no weights yet.

    Returns:
        A page in Markdown: the rendered prompt and its tokens, the boundary, what ends a turn, and which settings of
        the model's own are not used.

    Raises:
        UserError: all that was found wrong, a line each.
    """
    from refusal_cliff.models import load_config, load_model, load_tokenizer

    # Without these nothing else can be tried.
    config, tokenizer = load_config(folder, row), load_tokenizer(folder, row)
    faults = [*_config_faults(config, folder), *_vocabulary_faults(tokenizer, config, folder)]
    faults += _date_faults(tokenizer, folder)
    if weights:
        try:
            load_model(folder, row, weights=False)
        except UserError as error:
            faults.append(str(error))
    chat = ChatFormat.of(row)
    rendered, ends = Rendered(""), set()
    try:
        if row["role"] == "subject":
            rendered = render_prompt(tokenizer, SAMPLE, chat)
            ends = _ends(folder, tokenizer, config, chat)
            faults += _subject_faults(tokenizer, folder, chat, ends)
        else:
            messages = [{"role": "user", "content": SAMPLE}, {"role": "assistant", "content": ANSWER}]
            rendered = render(tokenizer, messages, arguments=chat.arguments)
            if answers is not None:
                check_guard(tokenizer, answers | {"template_arguments": chat.arguments})
    except UserError as error:
        faults.append(str(error))
    if faults:
        raise UserError("\n".join(faults))
    return _page(tokenizer, config, folder, row, chat, rendered, ends)


def check_prompts(folder: str | Path, row: Mapping[str, Any], prompts: pd.DataFrame, max_new_tokens: int) -> str:
    """Render and tokenise every prompt, and hold its length against the positions of the model.

    Args:
        folder, row: as for `check_model`.
        prompts: columns dataset, prompt.
        max_new_tokens: how much the model may answer.

    Returns:
        A page in Markdown: how many tokens the prompts of each dataset have, and how many mention a control token.

    Raises:
        UserError: a prompt cannot be rendered, or leaves too little room.
    """
    from refusal_cliff.models import load_config, load_tokenizer

    config, tokenizer, chat = load_config(folder, row), load_tokenizer(folder, row), ChatFormat.of(row)
    control = control_tokens(tokenizer)
    table = prompts[["dataset"]].assign(
        tokens=[len(encode(tokenizer, render_prompt(tokenizer, prompt, chat))) for prompt in prompts["prompt"]],
        control=[any(token in prompt for token in control) for prompt in prompts["prompt"]],
    )
    longest, positions = table["tokens"].max(), getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions and longest + max_new_tokens > positions:
        dataset = table.loc[table["tokens"].idxmax(), "dataset"]
        raise UserError(
            f"{folder}: the longest prompt, of dataset {dataset}, has {longest} tokens, and with "
            f"generation.max_new_tokens = {max_new_tokens} more a trace may exceed the model's {positions} positions; "
            f"lower it to {max(positions - longest, 0)}, or leave long prompts out"
        )
    found = table.groupby("dataset", sort=False).agg(
        prompts=("tokens", "size"),
        median=("tokens", "median"),
        longest=("tokens", "max"),
        mention=("control", "sum"),
    )
    lines = [
        f"# Prompts as {row['model']} reads them",
        "",
        "With the chat template. *mention*: how many write out a control token, which is split into ordinary ones.",
        "",
        "| dataset | prompts | tokens, median | tokens, longest | mention |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| {name} | {n} | {median:g} | {most} | {times} |" for name, n, median, most, times in found.itertuples()),
        "",
    ]
    return "\n".join(lines)


def _config_faults(config: "PretrainedConfig", folder: str | Path) -> Iterator[str]:
    """What is known to load and then to fail in the first pass."""
    if getattr(config.get_text_config(), "attention_chunk_size", 1) is None:
        yield (
            f"{folder}: config.json has attention_chunk_size: null, with which no pass works; set column "
            'config_override of the model sheet to {"text_config.attention_chunk_size": 8192}'
        )


def _date_faults(tokenizer: "PreTrainedTokenizerBase", folder: str | Path) -> Iterator[str]:
    template = str(tokenizer.chat_template)
    if "strftime_now" in template and "date_string" not in template:
        yield (
            f"{folder}: its chat template writes today's date into every prompt, so a run of tomorrow would be "
            "another; write a date in place of strftime_now(…) in chat_template.jinja"
        )


def _vocabulary_faults(
    tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", folder: str | Path
) -> Iterator[str]:
    rows = config.get_text_config().vocab_size
    highest = max(tokenizer.get_vocab().values())
    if highest >= rows:
        token = tokenizer.convert_ids_to_tokens(highest)
        yield (
            f"{folder}: the tokenizer has token {token!r} with id {highest}, but the embedding has {rows} rows; take "
            "the tokenizer that belongs to these weights, or resize the embedding (model.resize_token_embeddings)"
        )
    # A library that takes one kind of tokenizer for another drops spaces without a word, in what is read or written.
    ids = tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if back.strip() != SAMPLE:
        yield (
            f"{folder}: the tokenizer reads {SAMPLE!r} and gives back {back!r}; correct tokenizer_class in "
            "tokenizer_config.json (PreTrainedTokenizerFast takes tokenizer.json as it is)"
        )


def _subject_faults(
    tokenizer: "PreTrainedTokenizerBase", folder: str | Path, chat: ChatFormat, ends: set[int]
) -> Iterator[str]:
    if len(encode(tokenizer, Rendered(chat.boundary))) == 0:
        yield f"{folder}: the boundary {chat.boundary!r} has no token; correct column boundary of the model sheet"
    end = end_of_turn(tokenizer, chat.arguments)
    if end is not None and tokenizer.convert_tokens_to_ids(end) not in ends:
        yield (
            f"{folder}: the chat template ends a turn with {end!r}, but the model stops at "
            f"{', '.join(map(repr, tokenizer.convert_ids_to_tokens(sorted(ends)))) or 'nothing'}, so responses would "
            "run on; name it in column stop_tokens of the model sheet"
        )
    if not ends:
        yield f"{folder}: nothing ends a response; name a token in column stop_tokens of the model sheet"


def _ends(
    folder: str | Path, tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", chat: ChatFormat
) -> set[int]:
    from refusal_cliff.generation import end_tokens

    declared = _generation_settings(folder).get("eos_token_id", config.get_text_config().eos_token_id)
    return end_tokens(declared, tokenizer, chat.stops)


def _generation_settings(folder: str | Path) -> dict[str, Any]:
    """What the model's own generation_config.json sets."""
    from refusal_cliff.artifacts import read_json

    path = Path(folder) / "generation_config.json"
    return read_json(path) if path.is_file() else {}


def _page(
    tokenizer: "PreTrainedTokenizerBase",
    config: "PretrainedConfig",
    folder: str | Path,
    row: Mapping[str, Any],
    chat: ChatFormat,
    rendered: Rendered,
    ends: set[int],
) -> str:
    name = row["model"]
    unused = {key: value for key, value in _generation_settings(folder).items() if key not in NOT_SAMPLING}
    lines = [
        f"# What {name} will be asked, and how",
        "",
        f"`{config.model_type}`, {config.get_text_config().vocab_size} rows of the embedding, {len(tokenizer)} tokens. "
        "Spaces and line breaks are written as ␣ and ↵; control tokens are **bold**.",
        "",
        "## A prompt in the chat template",
        "",
        _tokens(tokenizer, encode(tokenizer, rendered)),
        "",
    ]
    if row["role"] == "subject":
        stops = [f"`{token}`" for token in tokenizer.convert_ids_to_tokens(sorted(ends))]
        end = end_of_turn(tokenizer, chat.arguments)
        boundary = encode(tokenizer, Rendered(chat.boundary), rendered.text + ANSWER)
        lines += [
            "## The boundary, at the end of the thinking",
            "",
            _tokens(tokenizer, boundary),
            "",
            "## What ends a response",
            "",
            f"{', '.join(stops)}. The template itself ends a turn with "
            f"{f'`{end}`' if end else 'no control token that could be found'}.",
            "",
        ]
    lines += [
        "## Settings of the model's own that are not used",
        "",
        "Traces are sampled with what the config says under `generation` and with nothing else."
        + (f" Left out: {', '.join(f'{key} = {value}' for key, value in unused.items())}." if unused else ""),
        "",
    ]
    return "\n".join(lines)


def _tokens(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """A Markdown table of tokens."""
    control = set(control_tokens(tokenizer))
    rows = ["| position | id | token |", "| ---: | ---: | --- |"]
    for place, token in enumerate(ids):
        text = tokenizer.decode([token], skip_special_tokens=False)
        shown = visible(text).replace("|", "\\|").replace("<", "&lt;")
        rows.append(f"| {place} | {token} | {f'**{shown}**' if text in control else shown} |")
    return "\n".join(rows)
