"""Chat templates: conversations as text and as token ids, in which what users and models say is text and nothing else.

A template is code of the model's maker, and can leave out what it is given: some render contents only if these come as
parts, some drop the system prompt, some cut an assistant's turn at `</think>`. So every conversation is rendered twice,
with its contents and with slots in their place, and what is handed on is known to hold each content whole. A control
token that a content writes out, as `<|assistant|>`, is tokenised as the text that it is.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from refusal_cliff.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[dict[str, str]]
"""Turns of a conversation: role and content."""
# Private-use characters, so that no template has one of its own.
SLOT = "\ue0f0{}\ue0f1"
SLOTS = re.compile(SLOT.format(r"(\d+)"))
# Makers do not flag all their control tokens as special, `</think>` least of all: these are told by their shape. Other
# added tokens are words, white space or digits that texts hold all the time.
MARKUP = re.compile(r"<.+>|\[.+\]", re.DOTALL)


def render(
    tokenizer: "PreTrainedTokenizerBase", messages: Messages, add_generation_prompt: bool = True, **arguments: Any
) -> str:
    """A conversation in the tokenizer's chat template, which holds the content of every message.

    Contents are given as strings and, to a template that leaves them out, as parts `[{"type": "text", "text": …}]`.
    White space around a content is the template's to strip; what it does to a content beside is undone.

    Args:
        arguments: the template's own, as `enable_thinking`.

    Raises:
        UserError: there is no chat template, or it fails, or leaves out what one of the messages says.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"tokenizer {tokenizer.name_or_path!r} has no chat template; name a chat model in the model sheet, or add "
            "a chat_template.jinja file to its folder"
        )
    options = {"add_generation_prompt": add_generation_prompt, **arguments}
    faults = []
    for given in (str, _as_parts):
        try:
            pieces = SLOTS.split(_apply(tokenizer, _slots(messages), given, options))
        except _template_errors() as error:
            faults.append(f"fails ({error})")
            continue
        missing = set(range(len(messages))) - set(map(int, pieces[1::2]))
        if not missing:
            return _fill(tokenizer, pieces, messages, given, options)
        faults.append(f"leaves out what the {messages[min(missing)]['role']} says")
    raise UserError(
        f"tokenizer {tokenizer.name_or_path!r}: its chat template {faults[0]}, also with content given as parts; mend "
        "chat_template.jinja in the model's folder, ask nothing of it that it does not take (as a system prompt), or "
        "name another model in the model sheet"
    )


def encode(
    tokenizer: "PreTrainedTokenizerBase", messages: Messages, add_generation_prompt: bool = True, **arguments: Any
) -> list[int]:
    """Token ids of a conversation: those of `render`, with control tokens where the template puts them and no others.

    A conversation whose contents write out no control token has the ids of its text, tokenised as a whole.

    Raises:
        UserError: as `render`, or the tokenizer makes a control token of plain text.
    """
    marked = [message | {"content": _marked(tokenizer, message["content"])} for message in messages]
    return _encode_marked(tokenizer, render(tokenizer, marked, add_generation_prompt, **arguments))


def encode_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a text by itself, none of them a control token.

    Raises:
        UserError: the tokenizer makes a control token of plain text.
    """
    return _encode_marked(tokenizer, _marked(tokenizer, text))


def has_special(tokenizer: "PreTrainedTokenizerBase", text: str) -> bool:
    """Whether a text writes out a control token of the tokenizer."""
    return any(token in text for token in control_tokens(tokenizer))


def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Added tokens that tell the model something instead of saying it: special ones, and those in <…> or […]."""
    added = tokenizer.added_tokens_decoder.values()
    return [token.content for token in added if token.special or MARKUP.fullmatch(token.content)]


def _slots(messages: Messages) -> list[dict[str, str]]:
    return [message | {"content": SLOT.format(place)} for place, message in enumerate(messages)]


def _as_parts(content: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}]


def _apply(
    tokenizer: "PreTrainedTokenizerBase", messages: Messages, given: Callable[[str], Any], options: dict[str, Any]
) -> str:
    turns = [message | {"content": given(message["content"])} for message in messages]
    return tokenizer.apply_chat_template(turns, tokenize=False, **options)


def _fill(
    tokenizer: "PreTrainedTokenizerBase",
    pieces: list[str],
    messages: Messages,
    given: Callable[[str], Any],
    options: dict[str, Any],
) -> str:
    """The conversation as the template renders it, if that differs from its `pieces` in white space around contents.

    Else the template reads what it shall only pass on, and the contents are put into the slots as they are.

    Args:
        pieces: the template's text, and between two such the number of the message that stands there.
    """
    contents = [message["content"] for message in messages]
    pattern = re.escape(pieces[0])
    for place, after in zip(pieces[1::2], pieces[2::2], strict=True):
        pattern += rf"\s*{re.escape(contents[int(place)].strip())}\s*{re.escape(after)}"
    try:
        text = _apply(tokenizer, messages, given, options)
    except _template_errors():
        text = ""
    if re.fullmatch(pattern, text):
        return text
    return "".join(contents[int(piece)] if place % 2 else piece for place, piece in enumerate(pieces))


def _template_errors() -> tuple[type[Exception], ...]:
    """What a template, someone else's code, raises."""
    from jinja2 import TemplateError

    return TemplateError, TypeError, ValueError, LookupError, AttributeError


def _marked(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    from transformers.utils.chat_template_utils import mark_control_tokens

    longest_first = sorted(control_tokens(tokenizer), key=len, reverse=True)
    return mark_control_tokens(text, re.compile("|".join(map(re.escape, longest_first)) or "(?!)"))


def _encode_marked(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    from transformers.utils.chat_template_utils import encode_marked_chat

    try:
        return encode_marked_chat(tokenizer, text)
    except ValueError as error:
        raise UserError(
            f"tokenizer {tokenizer.name_or_path!r}: {error}; leave out the prompt that has it, or name another model "
            "in the model sheet"
        ) from None
