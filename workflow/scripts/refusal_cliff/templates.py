"""Chat templates: render a conversation, and tokenise it so that what users and models wrote stays text.

A template is a program that came with a model. What it made of the messages is looked at: each has to be found in the
text. A marker that a message only mentions, such as `</think>` or `<|assistant|>`, is tokenised like any other text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from refusal_cliff.errors import UserError

# Private use characters, so that no template has one of its own.
SLOT = "\ue000{}\ue001"
SLOTS = re.compile(SLOT.format(r"(\d+)"))
DAY = "07 Oct 2025"
"""What templates that write a date into the prompt (Llama 3) are told, or a run of the next day would be another."""
BRACKETED = re.compile(r"<.+>|\[[A-Z_/]+\]", re.DOTALL)
"""What control tokens look like that a tokenizer does not declare special, as `<think>` and `[INST]` often are."""

SPACES = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})


@dataclass(frozen=True)
class Rendered:
    """A conversation in a chat template, and the half-open spans [start, stop) of what messages say in it."""

    text: str
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """The text in parts, and whether each is the content of a message."""
        parts, start = [], 0
        for first, last in self.spans:
            parts += [(self.text[start:first], False), (self.text[first:last], True)]
            start = last
        return [part for part in [*parts, (self.text[start:], False)] if part[0]]


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, str]],
    add_generation_prompt: bool = True,
    arguments: Mapping[str, Any] | None = None,
) -> Rendered:
    """Messages in the tokenizer's chat template, which holds the content of each.

    Some templates read content as text and others as parts (`[{"type": "text", "text": …}]`, as Llama Guard 3 and 4),
    and either kind renders an empty message for the other without a word; so both are tried. White space around a
    content is the template's to strip; what else it does to one is undone.

    Args:
        messages: role and content (text) of each.
        arguments: what else the template knows, such as `enable_thinking`.

    Raises:
        UserError: there is no template, or it fails, or leaves out what one of the messages says.
    """
    name = f"tokenizer {tokenizer.name_or_path!r}"
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"{name} has no chat template; name a chat model in the model sheet, or add a chat_template.jinja file to "
            "its folder"
        )
    options = {"tokenize": False, "add_generation_prompt": add_generation_prompt, "date_string": DAY}
    options |= arguments or {}
    contents, faults = [message["content"] for message in messages], []
    for given in (str, _as_parts):

        def fill(texts: Sequence[str], given: Callable[[str], Any] = given) -> str:
            filled = [message | {"content": given(text)} for message, text in zip(messages, texts, strict=True)]
            return tokenizer.apply_chat_template(filled, **options)

        try:
            pieces = SLOTS.split(fill([SLOT.format(place) for place in range(len(messages))]))
        except Exception as error:
            faults.append(f"fails ({type(error).__name__}: {' '.join(str(error).split())})")
            continue
        missing = set(range(len(messages))) - set(map(int, pieces[1::2]))
        if not missing:
            said = [contents[int(place)] for place in pieces[1::2]]
            return _filled(fill, contents, pieces[::2], said)
        faults.append(f"leaves out what the {messages[min(missing)]['role']} says")
    raise UserError(
        f"{name}: its chat template {faults[0]}, also with content given as parts; correct chat_template.jinja in the "
        "model's folder, or the columns system_prompt and template_arguments of the model sheet"
    )


def encode(tokenizer: Any, rendered: Rendered, before: str = "") -> list[int]:
    """Token ids of a rendered conversation; control tokens in the content of messages are split."""
    return [token for token, _ in encode_with_offsets(tokenizer, rendered, before, offsets=False)]


def encode_with_offsets(
    tokenizer: Any, rendered: Rendered, before: str = "", offsets: bool = True
) -> list[tuple[int, tuple[int, int]]]:
    """Each token of a rendered conversation: its id, and the half-open span of its characters.

    Text is tokenised as a whole wherever no message mentions a control token, as the model saw it in training.

    Args:
        before: text that stands in front of it, of which no token is returned: some tokenizers write a space in front
            of whatever comes first.
        offsets: False leaves out the spans, which slow tokenizers do not know: (0, 0) for all.
    """
    control = control_tokens(tokenizer)
    pieces = [
        piece
        for text, is_content in _joined(rendered, control)
        for piece in (split_control(text, control) if is_content else [text])
    ]
    tokens, place = [], 0
    for piece in pieces:
        found = _continued(tokenizer, before + rendered.text[:place], piece, offsets)
        tokens += [(token, (place + start, place + stop)) for token, (start, stop) in found]
        place += len(piece)
    return tokens


@cache
def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Tokens that a text must not turn into: those declared special, and added ones that look like markers."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    found = {*tokenizer.all_special_tokens, *filter(BRACKETED.fullmatch, added)}
    # A character alone cannot be split; it is one that texts have, or it is never met.
    return tuple(sorted((token for token in found if len(token) > 1), key=len, reverse=True))


def split_control(text: str, control: Sequence[str]) -> list[str]:
    """Text in pieces that hold no control token: each that occurs is cut after its first character."""
    for token in control:
        start = text.find(token)
        if start >= 0:
            return [*split_control(text[: start + 1], control), *split_control(text[start + 1 :], control)]
    return [text] if text else []


def visible(text: str) -> str:
    """The text of a token, with signs for spaces, line breaks and tabs."""
    return text.translate(SPACES)


def end_of_turn(tokenizer: Any, arguments: Mapping[str, Any] | None = None) -> str | None:
    """The control token that the template writes after what the assistant says; None where it writes none, or fails."""
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Welcome"}]
    try:
        rendered = render(tokenizer, turns, add_generation_prompt=False, arguments=arguments)
    except UserError:
        return None
    after = rendered.text[rendered.spans[-1][1] :].lstrip()
    return next((token for token in control_tokens(tokenizer) if after.startswith(token)), None)


def _as_parts(content: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}]


def _filled(
    fill: Callable[[Sequence[str]], str], contents: Sequence[str], around: Sequence[str], said: Sequence[str]
) -> Rendered:
    """The conversation as the template renders it, if that is `said` with `around` between, white space aside.

    Else the template reads what it shall only pass on, and contents are put where they belong as they are.
    """
    try:
        text = fill(contents)
    except Exception:
        text = ""
    pattern = re.escape(around[0])
    for content, after in zip(said, around[1:], strict=True):
        pattern += rf"\s*({re.escape(content.strip())})\s*{re.escape(after)}"
    if found := re.fullmatch(pattern, text):
        return Rendered(text, tuple(found.span(group + 1) for group in range(len(said))))
    text, spans = around[0], []
    for content, after in zip(said, around[1:], strict=True):
        spans.append((len(text), len(text) + len(content)))
        text += content + after
    return Rendered(text, tuple(spans))


def _joined(rendered: Rendered, control: Sequence[str]) -> list[tuple[str, bool]]:
    """Parts of a conversation, whole again if no message mentions a control token."""
    if any(token in text for text, is_content in rendered.parts if is_content for token in control):
        return rendered.parts
    return [(rendered.text, False)] if rendered.text else []


def _continued(tokenizer: Any, before: str, text: str, offsets: bool) -> list[tuple[int, tuple[int, int]]]:
    """Tokens of `text`, as they are after `before`."""
    alone = _tokens(tokenizer, text, offsets)
    if not (before and text and _writes_space_first(tokenizer)):
        return alone
    # A line break is never merged with what follows it, so what comes after one is what comes within a text.
    for context in (before, "\n"):
        lead, both = _tokens(tokenizer, context, offsets), _tokens(tokenizer, context + text, offsets)
        if [token for token, _ in both[: len(lead)]] == [token for token, _ in lead]:
            cut = len(context)
            return [(token, (max(start - cut, 0), max(stop - cut, 0))) for token, (start, stop) in both[len(lead) :]]
    return alone


def _tokens(tokenizer: Any, text: str, offsets: bool) -> list[tuple[int, tuple[int, int]]]:
    if not offsets:
        return [(token, (0, 0)) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(zip(found["input_ids"], found["offset_mapping"], strict=True))


@cache
def _writes_space_first(tokenizer: Any) -> bool:
    """Whether it begins a text with a space that is not there, as SentencePiece's do (Llama 2, Mistral, Phi-3)."""
    return tokenizer.convert_ids_to_tokens(tokenizer("x", add_special_tokens=False)["input_ids"])[0].startswith(
        "\u2581"
    )
