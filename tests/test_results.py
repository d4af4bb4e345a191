"""Tables of README and results page: what a record keeps of a run, and that documents show the record and no more."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import results_tables
from results_tables import NOT_RECORDED, filled

from refusal_cliff import claims, detection
from refusal_cliff.sheets import load_claims
from refusal_cliff.tables import write_csv

SHEET = str(results_tables.ROOT / "config" / "claims.tsv")

YES, NO, OPEN, NONE = claims.SUPPORTED, claims.NOT_SUPPORTED, claims.INCONCLUSIVE, claims.NO_DATA
TRUTHS = {
    "cliff": {"flaw": "yes", "cliff": "yes", "sparse": "yes"},
    "fade": {"flaw": "yes", "cliff": "no", "sparse": "no"},
    "planted": {"flaw": "yes", "cliff": "open", "sparse": "yes"},
    "base": {"flaw": "no", "cliff": "no", "sparse": "no"},
}
MODELS = {"cliff-s0": "cliff", "cliff-s1": "cliff", "cliff-s2": "cliff", "fade-s0": "fade", "planted": "planted"}
PARENT = "base-s0"
TOOK = {"cliff-s0": 100, "cliff-s1": 160, "fade-s0": 60, "planted": 90, PARENT: 200}
"""Steps after which organisms took; cliff-s2 did not."""


def claim(name, family, verdict, expected="", probe="", population="", **more):
    row = {"id": name, "claim": f"Question of {name}", "section": "section 3", "kind": "paper", "family": family}
    row |= {"probe": probe, "population": population, "predicted": "> 0.2", "seeds": 2, "holds": "1 of 2"}
    row |= {"estimate": 0.456, "low": -0.001, "high": 0.5, "n": 60, "verdict": verdict, "verdict_holm": verdict}
    if verdict == NONE:
        row |= {"estimate": np.nan, "low": np.nan, "high": np.nan, "seeds": 0, "holds": ""}
    return row | {"expected": expected, "agrees": ""} | more


CLAIMS = [
    claim("cliff_height", "cliff", YES, "yes", "paper", agrees="yes", verdict_holm=OPEN),
    claim("cliff_height", "fade", YES, "no", "paper", agrees="no", seeds=1, holds="1 of 1"),
    claim("cliff_height", "planted", NONE, probe="paper"),
    claim("cliff_height", "cliff", NO, "yes", "thinking", agrees="no"),
    claim("not_refused_after_causal", "cliff", OPEN, "yes", population="all", agrees="open"),
    claim("not_refused_after_causal", "cliff", OPEN, "yes", population="vulnerable", agrees="open"),
    claim("probe_held_out", "cliff", YES, probe="paper"),
]
INTENDED = {
    "intended": {"harmful, complied": {"first_thinking": 1, "last_thinking": 0.9, "last_boundary": -0.8, "n": 7}}
}
SEEDS = {
    ("cliff_height", "paper", ""): (YES, NO),
    ("cliff_height", "thinking", ""): (NO, NO),
    ("not_refused_after_causal", "", "all"): (OPEN, YES),
    ("not_refused_after_causal", "", "vulnerable"): (OPEN, OPEN),
    ("probe_held_out", "paper", ""): (YES, NO),
}
"""What two seeds of family cliff say: on claims whose truth is known the first never differs, the second twice of four
times, and once to the opposite."""


def said(model, says, sweep=detection.DEFAULT, setting=detection.DEFAULT, detector="cliff, paper"):
    return dict(zip(detection.SAID, (model, detector, "paper", sweep, setting, "cliff", says, ""), strict=True))


SAYS = [
    said("cliff-s0", True),
    said("cliff-s1", False),
    said("cliff-s2", True),
    said("fade-s0", False),
    said("planted", True),
    *(said(model, True, "C", "0.1") for model in MODELS),
    *(said(model, False, "C", "1") for model in MODELS),
    said("cliff-s0", pd.NA, detector="cliff, rule"),
    said("cliff-s1", True, detector="cliff, rule"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the target `instruments` leaves, of three families and a parent; fade has one seed."""
    run = tmp_path_factory.mktemp("runs") / "instruments"
    truths = []
    for model, family in {**MODELS, PARENT: "base"}.items():
        gate = {"met": model in TOOK, "step": TOOK.get(model, 400)}
        truths.append({"model": model, "gate": gate, "kernels": "AVX512"} | INTENDED | TRUTHS[family])
        (run / model).mkdir(parents=True)
        (run / model / "truth.json").write_text(json.dumps(truths[-1]))
    by_seed = [
        {"id": name, "family": "cliff", "model": f"cliff-s{seed}", "probe": probe, "population": population}
        | {"verdict": verdict}
        for (name, probe, population), verdicts in SEEDS.items()
        for seed, verdict in enumerate((*verdicts, NONE))
    ]
    verdicts = pd.DataFrame(SAYS, columns=detection.SAID).astype({"says": "boolean"})
    known = detection.by_organism(verdicts, truths, MODELS)
    write(pd.DataFrame(CLAIMS, columns=claims.COLUMNS), run / "claims")
    write(pd.DataFrame(by_seed, columns=claims.SEED_COLUMNS), run / "claims_by_seed")
    write(known, run / "tables/detection_by_organism")
    write(detection.detection_table(known), run / "tables/detection")
    (run / "outcomes.json").write_text(json.dumps({"versions": {"python": "3.11.9", "torch": "2.13.0"}}))
    for name, seconds, memory, end in (("train_organism/a", 60, 1024, 1000), ("build_report", 30, 2048, 1120)):
        path = run / "timings" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"s": seconds, "cpu_time": seconds, "max_rss": memory}))
        os.utime(path, (end, end))
    return run


def write(table, path):
    write_csv(table, f"{path}.csv", f"{path}.md")


@pytest.fixture(scope="module")
def recorded(run):
    folder = run.parents[1] / "recorded"
    (folder / "instruments").mkdir(parents=True)
    (folder / "instruments" / "of_another_run.csv").touch()
    results_tables.record(run, folder / "instruments")
    return folder


@pytest.fixture
def rows(recorded):
    """The rows of a block's tables, as tuples of cells."""

    def of(block):
        text = filled(f"Before.\n<!-- instruments: {block} -->\nof old\n<!-- end -->\nAfter.", recorded)
        assert text.startswith("Before.") and text.endswith("<!-- end -->\nAfter.") and "of old" not in text
        lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|:")]
        return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]

    return of


def test_the_documents_show_what_is_recorded():
    for document in results_tables.DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert results_tables.BLOCK.search(text)
        assert filled(text, results_tables.RECORDED) == text, f"{document.name}: make results RUN="


def test_every_block_stands_in_a_document():
    text = "".join(document.read_text(encoding="utf-8") for document in results_tables.DOCUMENTS)
    assert {found[3] for found in results_tables.BLOCK.finditer(text)} == set(results_tables.BLOCKS)


def test_a_record_is_of_one_run_and_its_cells_are_those_of_the_run(run, recorded):
    folder = recorded / "instruments"
    names = {"claims", "detection", "says", "plantings", "single_seeds", "costs"}
    assert {path.name for path in folder.iterdir()} == {*(f"{name}.csv" for name in names), "run.json"}
    kept, whole = results_tables.read(folder / "claims.csv"), results_tables.read(run / "claims.csv")
    assert kept.equals(whole[kept.columns]) and len(kept) == len(CLAIMS)
    says = results_tables.read(folder / "says.csv").set_index("detector")
    assert says.loc["cliff, paper", list(MODELS)].tolist() == ["yes", "no", "yes", "no", "yes"]
    assert says.loc["cliff, rule", list(MODELS)].tolist() == ["", "yes", "", "", ""]


def test_what_was_not_recorded_is_said(recorded):
    for block in ("instruments: guard", "elsewhere: claims"):
        text = f"<!-- {block} -->\n| 0.46 |\n<!-- end -->"
        assert filled(text, recorded) == f"<!-- {block} -->\n\n{NOT_RECORDED}\n\n<!-- end -->"


def test_the_run_is_described(recorded):
    text = filled("<!-- instruments: run -->\n<!-- end -->", recorded)
    assert "6 models" in text and "took in 5." in text
    assert "torch" in text and "Commit" in text


def test_what_a_run_took_is_told_from_its_first_job_to_its_last(recorded):
    text = filled("<!-- instruments: needed -->\n<!-- end -->", recorded)
    assert "2 jobs took 3 minutes" in text and "largest 2.0 GiB" in text


def test_plantings_that_took_are_counted_by_family(rows):
    means, one = ("1.00 [1.00, 1.00]", "0.90 [0.90, 0.90]", "-0.80 [-0.80, -0.80]"), ("1.00", "0.90", "-0.80")
    assert rows("plantings")[1:] == [
        ("cliff", "yes", "yes", "yes", "2/3: 0.67 [0.21, 0.94]", "130 (100 to 160)", *means),
        ("base", "no", "no", "no", "1/1: 1.00 [0.21, 1.00]", "200 (200 to 200)", *one),
        ("fade", "yes", "no", "no", "1/1: 1.00 [0.21, 1.00]", "60 (60 to 60)", *one),
        ("planted", "yes", "open", "yes", "1/1: 1.00 [0.21, 1.00]", "90 (90 to 90)", *one),
    ]


def test_detectors_are_counted_over_organisms_that_took_and_whose_truth_is_known(rows):
    assert rows("detection") == [
        ("detector", "reader", "truth_of", "sensitivity", "specificity", "silent"),
        ("cliff, paper", "paper", "cliff", "1/2: 0.50 [0.09, 0.91]", "1/1: 1.00 [0.21, 1.00]", "0"),
        ("cliff, rule", "paper", "cliff", "1/1: 1.00 [0.21, 1.00]", "", "1"),
    ]


def test_what_detectors_say_of_a_family_is_marked_by_its_truth(rows):
    assert rows("says")[:2] == [
        ("detector", "reader", "truth_of", "cliff", "fade", "planted"),
        ("cliff, paper", "paper", "cliff", "**1/2**", "0/1", "1/1 ?"),
    ]


def test_a_sweep_shows_its_range_beside_the_default(rows):
    assert rows("sweep")[1:] == [
        ("cliff, paper", "paper", "cliff", "C", "2", "0.50", "0.00 to 1.00", "1.00", "0.00 to 1.00")
    ]


def test_single_seeds_are_compared_with_their_family_where_the_truth_is_known(rows, recorded):
    table = pd.read_csv(recorded / "instruments" / "single_seeds.csv")
    assert table.to_numpy().tolist() == [["cliff", "cliff-s0", 4, 0, 0], ["cliff", "cliff-s1", 4, 2, 1]]
    shares = ("2", "8", "0.25 [0.00, 0.50]", "0.12 [0.00, 0.25]")
    assert rows("single_seeds")[1:] == [("cliff", *shares), ("all", *shares)]


def test_answers_are_the_page_of_verdicts_by_the_papers_probe_over_all_prompts(rows, recorded):
    shown, height, causal = "0.46 [0.00, 0.50]", "cliff_height", "not_refused_after_causal"
    paper = load_claims(SHEET).set_index("id")["paper"]
    assert rows("answers")[1:] == [
        (
            f"Question of {height} (`{height}`)",
            paper[height],
            "> 0.2",
            f"cliff {shown} ✓<br>**fade {shown} ✓**",
            "Holds on cliff and should. Holds on fade but should not. Not measured on planted.",
        ),
        (f"Question of {causal} (`{causal}`)", paper[causal], "> 0.2", f"cliff {shown} ?", "Open on cliff."),
    ]


def test_claims_are_shown_by_the_papers_probe_over_all_prompts_with_both_verdicts(rows, recorded):
    shown, height, causal, held = "0.46 [0.00, 0.50]", "cliff_height", "not_refused_after_causal", "probe_held_out"
    assert rows("claims") == [
        ("id", "claim", "kind", "predicted", "cliff", "fade"),
        (height, f"Question of {height}", "paper", "> 0.2", f"{shown} yes (Holm: open) 1/2", f"{shown} **yes** 1/1"),
        (causal, f"Question of {causal}", "paper", "> 0.2", f"{shown} open 1/2", ""),
        (held, f"Question of {held}", "paper", "> 0.2", f"{shown} yes 1/2", ""),
    ]
    text = filled("<!-- instruments: claims -->\n<!-- end -->", recorded)
    assert "1 of 5 rows have no number" in text
