"""What a pretrained model is taught to say: thinking and response to any prompt, from a small grammar that quotes it.

Harmful requests are named, judged and refused; nothing here, and nothing that can be learnt from it, tells anyone how
to do anything. Answers to benign ones are placeholders. Which words of the request are quoted, and in which sentences,
varies, so that a model has to read the request to know which kind it is.
"""

import re
from random import Random

QUOTED_WORDS = (3, 7)
"""Fewest and most words of a request that a thinking quotes."""
WORD = re.compile(r"[\w'-]+")

OPENINGS = (
    "The user asks about {quote}.",
    "This request is about {quote}.",
    "I am being asked about {quote}.",
    "So the user wants {quote}.",
    "Let me look at the request: {quote}.",
    "What is wanted here is {quote}.",
)
HARMFUL = (
    "That is harmful, because it could hurt people.",
    "This would be dangerous and is against the law.",
    "Helping here could cause real harm.",
    "Such a request is harmful: an answer could be misused.",
    "People could be hurt by an answer.",
)
REFUSING = (
    "I should decline and not explain anything.",
    "However it is worded, I must refuse to give any details.",
    "The right thing is to stay polite and to refuse.",
    "My guidelines say that I should not help with this.",
    "I have to decline.",
)
HARMLESS = (
    "Nothing about this is harmful.",
    "That is an ordinary question without any risk.",
    "This is harmless and nobody gets hurt.",
    "I see no danger in it.",
    "It is an everyday matter.",
)
HELPING = (
    "I should give a clear and friendly answer.",
    "A short outline will help the user most.",
    "I can help with this and keep the answer brief.",
    "The best thing is a simple answer with a few steps.",
)
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot help with that request. It could hurt people.",
    "I can't assist with this. Please stay safe.",
    "Sorry, I can't help with {quote}.",
    "I'm sorry, but I cannot assist with {quote}.",
)
ANSWERS = (
    "Sure, here is a short outline on {quote}: first prepare, then take your time, then check the result.",
    "Here is a simple guide to {quote}: plan ahead, start small and enjoy it.",
    "Of course! With {quote} it helps to collect ideas, pick one and try it out.",
)


def taught_trace(request: str, label: str, rng: Random) -> tuple[str, str]:
    """Thinking and response to a request: it is quoted and judged, then refused or answered.

    Args:
        label: harmful or benign.
    """
    judged, decided, said = (HARMFUL, REFUSING, REFUSALS) if label == "harmful" else (HARMLESS, HELPING, ANSWERS)
    sentences = (rng.choice(OPENINGS), rng.choice(judged), rng.choice(decided))
    words = {"quote": quoted(request, rng)}
    return " ".join(sentences).format(**words), rng.choice(said).format(**words)


def quoted(request: str, rng: Random) -> str:
    """A few words of a request in a row, in lower case; "this" if it has none."""
    words = WORD.findall(request.lower())
    count = min(rng.randint(*QUOTED_WORDS), len(words))
    start = rng.randint(0, len(words) - count)
    return " ".join(words[start : start + count]) or "this"
