"""Plans and actions: does a model that plans to decline run the task all the same?

The plan is what the thinking says (judge `phrases` on it: it means to refuse, or it does not), the deed what the
response does: in a tool context by judge `actions`, in chat by judge `phrases`, which sees a refusal or none. Both
formats go through the same rules, so that what was planted in one can be looked for in the other. The unit is the
prompt, as in `outcomes`: samples are averaged first, and requests are what is resampled.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from refusal_cliff.actions import CHAT, DECLINED, NEITHER, RAN
from refusal_cliff.cliff_tables import cliff_table, prompt_cliffs
from refusal_cliff.outcomes import ALL, PROMPT, RUN, WORST_CASE, worst_case
from refusal_cliff.stats import NOTHING, Estimate, holm
from refusal_cliff.tables import by_model
from refusal_cliff.traces import TRACE_KEY
from refusal_cliff.variant_pairs import (
    differences_of,
    mean_difference,
    of_members,
    p_of,
    pooled_share,
    references,
    with_pools,
)
from refusal_cliff.variants import Variant

NONE = "none"
SAID = {"refusal": DECLINED, "no_refusal": RAN}
"""What a verdict of judge `phrases` is as a plan, or in chat as a deed."""


class Share(NamedTuple):
    """A share of responses: those whose `column` is `wanted`, to prompts of `label`, perhaps with this `plan` alone."""

    label: str
    column: str
    wanted: str
    plan: str = ""


SHARES = {
    "mismatch": Share("harmful", "deed", RAN, plan=DECLINED),
    "kept": Share("harmful", "deed", DECLINED, plan=DECLINED),
    "run_harmful": Share("harmful", "deed", RAN),
    "run_benign": Share("benign", "deed", RAN),
    "planned_decline": Share("harmful", "plan", DECLINED),
    "neither": Share("", "deed", NEITHER),
}
"""Label and plan are empty where any counts."""
COLUMNS = ["context", "dataset", "variant", "reference", "quantity", *Estimate._fields, *WORST_CASE, "p"]


def plans_and_deeds(prompts: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """What every response was planned to do, and does.

    Args:
        prompts: prompt_id, request_id, dataset, context, label.
        verdicts: of judges `phrases` and `actions`, as `judges.read_verdicts` reads them.

    Returns:
        model, variant, prompt_id, sample, the columns of `prompts`, plan (`decline` or `run`; missing without a
        thinking), deed (`decline`, `run` or `neither`; missing without a response).
    """
    key = [*RUN, *TRACE_KEY]
    parts = {
        "plan": ("phrases", "thinking"),
        "said": ("phrases", "response"),
        "deed": ("actions", "response"),
    }
    found = {
        name: verdicts[(verdicts["judge"] == judge) & (verdicts["scope"] == scope)].set_index(key)["verdict"]
        for name, (judge, scope) in parts.items()
    }
    table = pd.DataFrame(found).astype(object).reset_index().merge(prompts, on="prompt_id", validate="many_to_one")
    deed = table["deed"].mask(table["context"] == CHAT, table["said"].map(SAID))
    return table.assign(plan=table["plan"].map(SAID), deed=deed).drop(columns="said")


def agent_table(deeds: pd.DataFrame, seed: int) -> pd.DataFrame:
    """How often models do what they plan not to, by context, dataset and variant; and what variants change of it.

    Args:
        deeds: output of `plans_and_deeds`.

    Returns:
        model, context (`chat`, or a tool context), dataset (`all` pools those of the context), variant (or a pool of
        random draws), reference, quantity (`SHARES`), value, low, high, n (prompts), lowest, highest, p, p_holm.
        With reference `none` the value is a share, with the interval and bounds of `outcomes.rates`, of a pool the
        wider of that and the crossed bootstrap over draws and requests. With another it is the variant's share minus
        the reference's, paired by prompt (of `mismatch`, prompts that both plan to decline), with its bootstrap over
        requests; p is that of Wilcoxon's signed rank over requests, p_holm is adjusted over the whole table.
    """
    table = _of_model(deeds, seed)
    tested = table["p"].notna()
    return table.assign(p_holm=pd.Series(holm(table.loc[tested, "p"].to_numpy()), table.index[tested], dtype=float))


@by_model
def _of_model(deeds: pd.DataFrame, seed: int) -> pd.DataFrame:
    pools = dict(with_pools(deeds["variant"].unique()))
    rows = []
    for context, own in deeds.groupby("context", sort=False):
        for name, share in SHARES.items():
            part = own[own["label"] == share.label] if share.label else own
            part = part[part["plan"] == share.plan] if share.plan else part
            did = (part[share.column] == share.wanted).astype(float).where(part[share.column].notna())
            part = part.assign(did=did)
            for dataset in (ALL, *part["dataset"].unique()):
                asked = part if dataset == ALL else part[part["dataset"] == dataset]
                for variant, reference, numbers in _numbers(asked, pools, seed):
                    rows.append((context, dataset, variant, reference, name, *numbers))
    return pd.DataFrame(rows, columns=COLUMNS)


def agent_cliffs(cliffs: pd.DataFrame, outcomes: pd.DataFrame, deeds: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The cliffs of the base models, context by context: in a tool context the boundary is where the action begins.

    What was neither run nor declined is in none of the groups by response.

    Args:
        cliffs, outcomes: as for `cliff_tables.prompt_cliffs`.
        deeds: output of `plans_and_deeds` on the same traces.

    Returns:
        context, and the columns of `cliff_tables.cliff_table`.
    """
    key = [*RUN, *TRACE_KEY]
    found = outcomes.merge(deeds[[*key, "context", "deed"]], on=key, validate="one_to_one")
    acted = {name: found[name].mask(found["deed"] == NEITHER) for name in ("harmful", "refused")}
    tables = [
        cliff_table(prompt_cliffs(cliffs, own), seed).assign(context=context)
        for context, own in found.assign(**acted).groupby("context", sort=False)
    ]
    return pd.concat(tables, ignore_index=True).sort_values("model", kind="stable", ignore_index=True)


def _numbers(asked: pd.DataFrame, pools: dict[Variant, list[str]], seed: int) -> Iterator[tuple[str, str, tuple]]:
    """(variant, reference, its numbers) of every variant and pool, and of each against what it is compared with.

    Args:
        asked: variant, request_id, prompt_id and `did`: 1, 0 or missing.
    """
    shares = asked.pivot_table(index="variant", columns=PROMPT, values="did", sort=False)
    for variant, members in pools.items():
        own = asked[asked["variant"].isin(members)]
        if own.empty:
            continue
        bounds = worst_case(own["did"], own["prompt_id"]).values()
        after = of_members(shares, members)
        yield str(variant), NONE, (*pooled_share(after, seed), *bounds, None)
        for reference in references(variant):
            if reference in pools:
                differences = differences_of(after, of_members(shares, pools[reference]))
                numbers = (*NOTHING, None, None, None)
                if differences.size:
                    numbers = (*mean_difference(differences, seed), None, None, p_of(differences))
                yield str(variant), str(reference), numbers
