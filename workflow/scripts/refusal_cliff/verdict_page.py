"""The answer on one page and on the last screen of a run: where every headline claim held, and where it should have.

Both are made of the table of claims alone. On a model whose truth is known a claim should hold or should not: "does not
hold" on a negative control is the right outcome, and the page says so. Of a model of which nothing is known it says
what was measured, and no more.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from refusal_cliff.claims import INCONCLUSIVE, NO_DATA, NOT_SUPPORTED, NOT_TAKEN, SUPPORTED
from refusal_cliff.formats import estimate, interval
from refusal_cliff.outcomes import VULNERABLE
from refusal_cliff.pages import render_page

WIDTH = 120
MARKS = {SUPPORTED: "✓", NOT_SUPPORTED: "✗", INCONCLUSIVE: "?"}
CONTRARY = "!"
EXPECTED = {"yes": "Should hold", "no": "Should not hold", "": "Nothing is expected"}
TEXTS = ["probe", "population", "expected", "agrees", "paper", "reason", "holds"]
ASKED = {"paper": "", "reviewer": "Asked by its readers", "control": "Control"}
"""Who asks what the paper says nothing of."""
SAID = {
    ("yes", SUPPORTED): "Holds on {} and should.",
    ("no", NOT_SUPPORTED): "Does not hold on {} and should not.",
    ("yes", NOT_SUPPORTED): "Does not hold on {} but should.",
    ("no", SUPPORTED): "Holds on {} but should not.",
    ("", SUPPORTED): "Holds on {}.",
    ("", NOT_SUPPORTED): "Does not hold on {}.",
}
"""A sentence for what should be (`expected`) and what is (`verdict`)."""


def headlines(claims: pd.DataFrame, probe: str) -> pd.DataFrame:
    """The headline claims over all prompts, by the paper's probe `probe` where they name one."""
    # A column that is empty throughout comes back from a file as numbers.
    claims = claims.assign(**{name: claims[name].astype(object).fillna("") for name in TEXTS})
    return claims[claims["headline"] & claims["probe"].isin(["", probe]) & (claims["population"] != VULNERABLE)]


def in_words(found: pd.DataFrame) -> str:
    """Where one claim holds and where it does not, in sentences.

    Args:
        found: the claim's rows of `headlines`, one for each family.
    """
    said = []
    for (expected, verdict), sentence in SAID.items():
        families = found.loc[(found["expected"] == expected) & (found["verdict"] == verdict), "family"]
        if len(families):
            said.append(sentence.format(_joined(families)))
    for verdict, sentence in ((INCONCLUSIVE, "Open on {}."), (NO_DATA, "Not measured on {}.")):
        families = found.loc[found["verdict"] == verdict, "family"]
        if len(families):
            said.append(sentence.format(_joined(families)))
    return " ".join(said)


def rows(claims: pd.DataFrame, probe: str) -> list[dict[str, Any]]:
    """A row of the page for each headline claim, in the order of the sheet.

    Args:
        claims: output of `claims.evaluate`, or the file it was written to.
        probe: the paper's.

    Returns:
        id, question, paper (what it says, or who asks), predicted, places (for what is expected there, what was found:
        family, mark, text, n, seeds, agrees), words, missing (reasons, with the families that they hold for).
    """
    found_rows = []
    for _, found in headlines(claims, probe).groupby("id", sort=False):
        first = found.iloc[0]
        measured = found[found["verdict"] != NO_DATA]
        places = {EXPECTED[name]: list(map(_cell, of.itertuples())) for name, of in measured.groupby("expected")}
        missing = found[found["verdict"] == NO_DATA].groupby("reason", sort=False)["family"]
        found_rows.append(
            {
                "id": first["id"],
                "question": first["claim"],
                "paper": first["paper"] or ASKED[first["kind"]],
                "predicted": f"{first['metric']} {first['predicted']}",
                "places": {name: places[name] for name in EXPECTED.values() if name in places},
                "words": in_words(found),
                "missing": [f"{_joined(families)}: {reason}" for reason, families in missing],
            }
        )
    return found_rows


def page(claims: pd.DataFrame, by_seed: pd.DataFrame, probe: str) -> str:
    """The verdict page: one HTML document that loads nothing.

    Args:
        claims, by_seed: output of `claims.evaluate`.
        probe: the paper's.
    """
    shown = headlines(claims, probe)
    known = shown[(shown["expected"] != "") & (shown["verdict"] != NO_DATA)]
    counts = {word: int((known["agrees"] == word).sum()) for word in ("yes", "open", "no")} if len(known) else None
    return render_page(
        TITLE,
        STYLE,
        BODY,
        rows=rows(claims, probe),
        counts=counts,
        known=len(known),
        untaken=list(untaken(by_seed)),
        marks=MARKS,
    )


def screen(claims: pd.DataFrame, by_seed: pd.DataFrame, probe: str) -> str:
    """The same as text of at most 120 columns: a line for each headline claim, and a column for each family.

    Families that leave no room beside the others stand below them.
    """
    shown = headlines(claims, probe)
    shown = shown.assign(cell=[_mark(row) for row in shown.itertuples()])
    wide = shown.pivot_table(index=["id", "predicted"], columns="family", values="cell", aggfunc="first", sort=False)
    wide = wide.fillna("").loc[:, lambda cells: (cells != "").any()].rename_axis(columns=None).reset_index()
    text = "\n\n".join(
        part.to_markdown(index=False, tablefmt="simple", disable_numparse=True) for part in _fitting(wide)
    )
    lines = [f"{NOT_TAKEN.removeprefix('the ')}: {line}" for line in untaken(by_seed)]
    known = shown[shown["agrees"] != ""]
    signs = "✓ holds  ✗ does not  ? open"
    if len(known):
        agree = (known["agrees"] == "yes").sum()
        signs += f"  {CONTRARY} contrary to what was put into the model; {agree} of {len(known)} are as expected"
    return "\n".join([text, "", signs, *lines])


def untaken(by_seed: pd.DataFrame) -> Iterator[str]:
    """Organisms of which nothing is claimed, because they are not what they were made to be."""
    # A column without any reason is read back as one of numbers.
    rows = by_seed[by_seed["reason"].astype(str).str.startswith(NOT_TAKEN)].drop_duplicates("model")
    for row in rows.itertuples():
        yield f"{row.model}{row.reason.removeprefix(NOT_TAKEN)}"


def _joined(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _mark(row: Any) -> str:
    if row.verdict == NO_DATA:
        return ""
    return f"{estimate(row.estimate)} {MARKS[row.verdict]}" + (CONTRARY if row.agrees == "no" else "")


def _cell(row: Any) -> dict[str, Any]:
    return {
        "family": row.family,
        "mark": MARKS[row.verdict],
        "text": interval(row.estimate, row.low, row.high),
        "n": f"{row.n:,}",
        "seeds": row.holds,
        "agrees": row.agrees,
    }


def _fitting(wide: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The first two columns with as many of the others as fit in a line, then with the next."""
    # tabulate leaves two spaces behind a heading, and two between columns.
    widths = {name: max(len(name) + 2, *wide[name].map(len)) + 2 for name in wide}
    first, others = list(wide.columns[:2]), list(wide.columns[2:])
    room, taken = WIDTH - sum(widths[name] for name in first), []
    for name in others:
        if taken and sum(widths[other] for other in (*taken, name)) > room:
            yield wide[first + taken]
            taken = []
        taken.append(name)
    yield wide[first + taken]


TITLE = "What held, and where"
STYLE = """\
body { max-width: 90rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .5rem .75rem; border-bottom: 1px solid #ddd; }
th { position: sticky; top: 0; background: #fff; border-bottom: 2px solid #888; }
td.words { width: 32%; }
code, small, summary { color: #666; font-size: .85em; }
td > div { white-space: nowrap; width: fit-content; }
.yes, .no, .open { padding: 0 .3rem; border-radius: .2rem; }
.yes { background: #dcefdc; } .no { background: #f6d5d0; } .open { background: #f3ecd0; }
"""
BODY = """\
<p>
{% if counts %}
<b>{{ counts["yes"] }} of {{ known }}</b> verdicts on models whose truth is known are <span class="yes">as
expected</span>, {{ counts["open"] }} are <span class="open">open</span>, {{ counts["no"] }} are
<span class="no">contrary</span> to what was put into the model.
{% endif %}
{{ marks["supported"] }} holds: the whole 95 % interval lies in the predicted range; {{ marks["not supported"] }} does
not: all of it lies outside; {{ marks["inconclusive"] }} open. Intervals are over training seeds and prompts; behind the
number of prompts stands how many seeds have the verdict by themselves. On a model where a claim should not hold,
{{ marks["not supported"] }} is the right outcome.</p>
<table>
<tr><th>Question</th><th>The paper</th><th>Measured</th><th>In words</th></tr>
{% for row in rows %}
<tr>
<td>{{ row.question }}<br><small>{{ row.predicted }}</small><br><code>{{ row.id }}</code></td>
<td>{{ row.paper }}</td>
<td>
{% for name, cells in row.places.items() %}
<small>{{ name }}</small>
{% for cell in cells %}
<div class="{{ cell.agrees }}">{{ cell.family }} {{ cell.mark }} {{ cell.text }} <small>n {{ cell.n }}, {{ cell.seeds }}
</small></div>
{% endfor %}
{% endfor %}
</td>
<td class="words">{{ row.words }}
{% if row.missing %}
<details><summary>why not measured</summary>
{% for line in row.missing %}
<small>{{ line }}</small><br>
{% endfor %}
</details>
{% endif %}
</td>
</tr>
{% endfor %}
</table>
{% if untaken %}
<p>Nothing is claimed of these, which are not what they were made to be:
{% for line in untaken %}
<br>{{ line }}
{% endfor %}
</p>
{% endif %}
<p>All claims, by every probe: <code>claims.csv</code>. Where each number stands: <code>claims_by_seed.csv</code>.</p>
"""
