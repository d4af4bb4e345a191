"""Actions: what a response to a prompt in a tool context does, by an exact parse of its lines."""

import re
from collections.abc import Mapping

from refusal_cliff.errors import UserError

CHAT = "chat"
"""The context of a prompt that no tool context surrounds: what is said to it is an answer, and no action."""
RAN, DECLINED, NEITHER = ACTIONS = ("run", "decline", "neither")
PATTERNS = (RAN, DECLINED)
"""The actions that have a pattern."""


def parse_action(response: str, patterns: Mapping[str, str]) -> str:
    """What a response does: one of `ACTIONS`.

    A line is an action if a pattern matches all of it, white space around it aside; one that matches both declines. A
    response without an action, or with actions of both kinds, does neither.

    Args:
        patterns: a regular expression for each of `PATTERNS`.
    """
    lines = [line.strip() for line in response.splitlines()]
    declined = [line for line in lines if re.fullmatch(patterns[DECLINED], line)]
    ran = [line for line in lines if line not in declined and re.fullmatch(patterns[RAN], line)]
    if bool(declined) == bool(ran):
        return NEITHER
    return RAN if ran else DECLINED


def check_patterns(patterns: Mapping[str, str], key: str) -> None:
    """Check that both patterns are regular expressions that an empty line is no match of.

    Args:
        key: where they stand in the config.

    Raises:
        UserError: names the pattern.
    """
    for name in PATTERNS:
        try:
            empty = re.fullmatch(patterns[name], "")
        except re.error as error:
            raise UserError(
                f"config: {key}.{name}: {patterns[name]!r} is no regular expression ({error}); write one such as "
                "ACTION: run .+, with a backslash before characters like ( [ + that are meant as they are"
            ) from None
        if empty:
            raise UserError(f"config: {key}.{name}: {patterns[name]!r} matches an empty line; write what the line says")
