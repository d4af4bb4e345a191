"""A page to look at traces token by token: text coloured by refusal score, its curve, two variants side by side."""

import base64
import json
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from refusal_cliff.pages import render_page
from refusal_cliff.templates import visible
from refusal_cliff.token_scores import SEGMENTS
from refusal_cliff.traces import TRACE_KEY

HIDDEN = "▪"
VARIANT = ["model", "variant"]


def page(scores: pd.DataFrame, outcomes: pd.DataFrame, probe: str, open_datasets: Collection[str]) -> str:
    """The viewer: one HTML document that loads nothing, and escapes every text that it shows.

    Args:
        scores: model, variant, and columns of `token_scores.score_tokens`.
        outcomes: model, variant, prompt_id, sample, dataset, refused, harmful.
        probe: shown first.
        open_datasets: whose texts may be read; of the others only the boundary is, and every other token is a square.
    """
    known = outcomes.set_index([*VARIANT, *TRACE_KEY])
    models: dict[str, dict[str, Any]] = {}
    for (model, variant), own in scores.groupby(VARIANT, sort=False):
        entry = models.setdefault(model, {"curves": [], "variants": {}})
        traces = []
        for key, rows in sorted(own.groupby(TRACE_KEY, sort=False), key=lambda trace: _fall(trace[1], probe)):
            entry["curves"] = [[row.probe, row.layer] for row in rows.itertuples()]
            outcome = known.loc[(model, variant, *key)]
            traces.append(_trace(rows, outcome, readable=outcome["dataset"] in open_datasets))
        entry["variants"][variant] = traces
    # A text may hold what would end the script that it stands in.
    data = json.dumps({"models": models, "probe": probe}, separators=(",", ":"), ensure_ascii=False).replace(
        "<", "\\u003c"
    )
    return render_page(TITLE, STYLE, BODY, data=data)


def _fall(rows: pd.DataFrame, probe: str) -> float:
    """How far the score falls by the probe's last layer, below zero: what falls furthest is shown first."""
    last = rows[rows["probe"] == probe].iloc[-1]
    thought = last["scores"][last["prompt_stop"] : last["thinking_stop"]]
    return float(last["scores"][last["boundary_stop"] - 1] - np.mean(thought)) if len(thought) else 0.0


def _trace(rows: pd.DataFrame, outcome: pd.Series, readable: bool) -> dict[str, Any]:
    """What the page knows of a trace; scores are bytes of 255 steps, curve after curve."""
    first = rows.iloc[0]
    stops = [int(first[f"{segment}_stop"]) for segment in SEGMENTS]
    tokens = [token if readable else HIDDEN for token in first["tokens"]]
    # Of the boundary line breaks are half, and would not be seen.
    tokens[stops[1] : stops[2]] = [*map(visible, first["tokens"][stops[1] : stops[2]])]
    steps = np.rint(255 * np.stack([*rows["scores"]])).astype(np.uint8)
    return {
        "id": f"{first['prompt_id']}.{first['sample']}",
        "dataset": outcome["dataset"],
        "said": _said(outcome),
        "tokens": tokens,
        "stops": stops,
        "scores": base64.b64encode(steps.tobytes()).decode(),
    }


def _said(outcome: pd.Series) -> str:
    """The verdicts in words; one that is missing is not judged."""
    words = {"refused": ("refused", "not refused"), "harmful": ("harmful", "not harmful")}
    return ", ".join(
        f"{name} not judged" if pd.isna(outcome[name]) else (yes if outcome[name] else no)
        for name, (yes, no) in words.items()
    )


TITLE = "Traces, token by token"
STYLE = """\
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin-bottom: 1rem; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 2rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; font-family: ui-monospace, monospace; line-height: 1.9; }
.text span { padding: .15em 0; }
.prompt, .response { opacity: .65; }
.boundary { outline: 1px solid #333; }
svg { width: 100%; height: 9rem; display: block; }
small { color: #666; }
"""
BODY = """\
<p>Blue: the probe reads a refusal; red: it does not. The outlined tokens are the boundary, after which the answer
begins; prompt and answer are pale. The curve is the score, from 0 to 1, over thinking and boundary; dashed lines are
the plateau by the largest score and by the mean of the last half of the thinking. Traces that fall furthest stand
first. Point at a token to see its score.</p>
<nav></nav>
<main></main>
<script type="application/json" id="data">{{ data|safe }}</script>
<script>
const data = JSON.parse(document.getElementById("data").textContent);
const nav = document.querySelector("nav"), main = document.querySelector("main"), picked = {};
function element(name, parent, attributes = {}, text = "") {
  const space = ["svg", "path", "line", "rect"].includes(name) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const made = document.createElementNS(space, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  made.textContent = text;
  return parent.appendChild(made);
}
function choose(name, values, wanted) {
  const label = element("label", nav, {}, name + " "), select = element("select", label, {name});
  values.forEach(value => element("option", select, {}, value));
  select.value = values.includes(picked[name]) ? picked[name] : values.includes(wanted) ? wanted : values[0];
  picked[name] = select.value;
  select.onchange = () => { picked[name] = select.value; draw(); };
}
function colour(score) {
  const strength = Math.abs(score - .5) * 1.3;
  return score > .5 ? `rgba(31, 119, 180, ${strength})` : `rgba(214, 39, 40, ${strength})`;
}
function show(model, variant, trace, curve) {
  const pane = element("section", main), count = trace.tokens.length;
  element("h2", pane, {}, variant);
  element("small", pane, {}, `${trace.dataset}; ${trace.said}`);
  const bytes = Uint8Array.from(atob(trace.scores), letter => letter.charCodeAt(0));
  const scores = Array.from(bytes.slice(curve * count, (curve + 1) * count), byte => byte / 255);
  const [prompt, thinking, boundary] = trace.stops;
  const svg = element("svg", pane, {viewBox: "0 0 600 120", preserveAspectRatio: "none"});
  const x = place => 600 * (place - prompt) / Math.max(1, boundary - 1 - prompt), y = score => 115 - 110 * score;
  element("rect", svg, {x: x(thinking), y: 0, width: 600 - x(thinking), height: 120, fill: "#f1f3f5"});
  const thought = scores.slice(prompt, thinking);
  if (thought.length) {
    const half = thought.slice(Math.floor(thought.length / 2));
    for (const level of [Math.max(...thought), half.reduce((a, b) => a + b) / half.length])
      element("line", svg, {x1: 0, x2: 600, y1: y(level), y2: y(level), stroke: "#999", "stroke-dasharray": "4 4"});
  }
  const points = scores.slice(prompt, boundary).map((score, place) => `${x(place + prompt)} ${y(score)}`);
  element("path", svg, {d: "M" + points.join("L"), fill: "none", stroke: "#1a1a1a", "stroke-width": 1.5,
    "vector-effect": "non-scaling-stroke"});
  const text = element("div", pane, {class: "text"});
  trace.tokens.forEach((token, place) => element("span", text, {
    class: place < prompt ? "prompt" : place < thinking ? "thinking" : place < boundary ? "boundary" : "response",
    style: place < prompt || place >= boundary ? "" : `background: ${colour(scores[place])}`,
    title: scores[place].toFixed(2),
  }, token));
}
function draw() {
  nav.replaceChildren(); main.replaceChildren();
  choose("model", Object.keys(data.models));
  const {curves, variants} = data.models[picked.model], names = Object.keys(variants);
  choose("dataset", [...new Set(variants[names[0]].map(trace => trace.dataset))]);
  choose("trace", variants[names[0]].filter(trace => trace.dataset === picked.dataset).map(trace => trace.id));
  choose("probe", [...new Set(curves.map(curve => curve[0]))], data.probe);
  const layers = curves.filter(curve => curve[0] === picked.probe).map(curve => String(curve[1]));
  choose("layer", layers, layers.at(-1));
  choose("left", names);
  choose("right", names, names.at(-1));
  const curve = curves.findIndex(found => found[0] === picked.probe && String(found[1]) === picked.layer);
  for (const variant of new Set([picked.left, picked.right])) {
    const trace = variants[variant].find(found => found.id === picked.trace);
    if (trace) show(picked.model, variant, trace, curve);
    else element("section", main, {}, `${variant}: this trace never closes its thinking`);
  }
}
draw();
</script>
"""
