"""Backward elimination finds a planted minimal set, and its gains are those of whole runs with the heads ablated."""

import numpy as np
import pandas as pd
import pytest
import torch

from refusal_cliff.elimination import Gains, eliminate, needed
from refusal_cliff.hooks import boundary_heads
from refusal_cliff.models import run_decoder
from refusal_cliff.rankings import eliminated_ranking, minimal_set
from refusal_cliff.readouts import NotMeasurableError
from refusal_cliff.repairs import minimal_table
from refusal_cliff.traces import EncodedTrace, pad_left

BOUNDARY = 3
RANKED = [(0, 1), (2, 3), (1, 0), (1, 4), (2, 5)]


def planted(sets):
    """Of a toy where (2, 3) and (1, 4) suppress together, (0, 1) does what (1, 4) does, and the others a little."""
    gains = []
    for heads in sets:
        pair = (2, 3) in heads and ((1, 4) in heads or (0, 1) in heads)
        gains.append(1.0 * pair + 0.02 * ((1, 0) in heads) + 0.01 * ((2, 5) in heads))
    return gains


def test_elimination_finds_the_planted_set_and_says_when_the_others_went():
    table = eliminate(planted, RANKED, kept=[0.9])
    # Of two heads that do the same the one that is ranked behind goes.
    assert minimal_set(table) == [(0, 1), (2, 3)]
    assert table[["layer", "head"]].to_numpy().tolist() == [list(head) for head in RANKED]
    assert table["step"].fillna(0).tolist() == [0, 0, 3, 1, 2]
    assert table["gain"].tolist() == pytest.approx([1.0, 1.0, 1.0, 1.03, 1.02])
    assert table["share"].tolist() == pytest.approx([gain / 1.03 for gain in table["gain"]])


def test_a_bound_that_is_stricter_keeps_more_heads():
    assert minimal_set(eliminate(planted, RANKED, kept=[0.99])) == [(0, 1), (2, 3), (1, 0)]
    assert minimal_set(eliminate(planted, RANKED, kept=[1.0])) == [(0, 1), (2, 3), (1, 0), (2, 5)]


def test_a_looser_bound_takes_more_steps_and_leaves_the_minimal_set_as_it_is():
    strict, loose = (eliminate(planted, RANKED, kept) for kept in ([0.99], [0.99, 0.5]))
    assert minimal_set(loose) == minimal_set(strict) == [(0, 1), (2, 3), (1, 0)]
    assert loose["step"].count() == 3 and strict["step"].count() == 2
    for kept in (0.5, 0.9, 0.975, 1.0):
        assert needed(loose, kept).tolist() == eliminate(planted, RANKED, [kept])["minimal"].tolist()


def test_sizes_are_tabulated_at_every_bound_and_over_seeds():
    found = [
        eliminate(planted, heads, [0.9, 0.99]).assign(model=f"cliff-s{seed}", ranking="causal")
        for seed, heads in enumerate((RANKED, RANKED[:3]))
    ]
    truths = [{"model": "cliff-s0", "heads": [[2, 3], [1, 4]]}, {"model": "cliff-s1", "heads": []}]
    families = {"cliff-s0": "cliff", "cliff-s1": "cliff"}
    table = minimal_table(pd.concat(found), [0.9, 0.99], truths, families, 0).set_index(["model", "kept", "quantity"])
    # Of the two that suppress, a copy of one is kept in its place; the first two heads hold the same ones.
    one = table["value"].loc["cliff-s0", 0.9]
    assert one.to_dict() == pytest.approx({"heads": 2, "start": 5, "share": 1 / 1.03, "planted": 0.5, "first": 0.5})
    assert table.loc[("cliff-s0", 0.99, "heads"), "value"] == 3 and table.loc[("cliff-s1", 0.99, "heads"), "value"] == 3
    assert "planted" not in table.loc["cliff-s1", 0.9].index
    both = table.loc[("all", 0.9, "start")]
    assert both[["value", "low", "high", "n"]].tolist() == [4, 3, 5, 2]
    assert table.groupby("kept")["operating"].first().to_dict() == {0.9: True, 0.99: False}


def test_one_head_always_stays():
    assert minimal_set(eliminate(lambda sets: [1.0] * len(list(sets)), RANKED, kept=[0.5])) == [(0, 1)]


def test_heads_that_do_not_move_the_readout_have_no_minimal_set():
    with pytest.raises(NotMeasurableError, match="the first 5 heads together does not move"):
        eliminate(lambda sets: [0.0] * len(list(sets)), RANKED, kept=[0.9])


def test_as_many_first_heads_are_those_of_the_ranking():
    table = eliminate(planted, RANKED[1:], kept=[0.9])
    ranking = pd.DataFrame({"layer": [0, 1, 2], "head": [1, 4, 3], "rank": [2, 1, 3]})
    own, first = (eliminated_ranking(kind, ranking, table) for kind in ("minimal", "first"))
    assert own[["layer", "head"]].to_numpy().tolist() == [[2, 3], [1, 4]]
    assert first[["layer", "head"]].to_numpy().tolist() == [[1, 4], [0, 1]]
    nothing = eliminated_ranking("minimal", ranking, table.head(0))
    assert nothing.empty and eliminated_ranking("first", ranking, table.head(0)).empty


@pytest.mark.parametrize("batch_size", [1, 4])
def test_gains_are_those_of_whole_runs_with_the_heads_ablated_at_the_boundary(tiny_model, batch_size):
    ids = torch.randint(10, 300, (4, 17), generator=torch.Generator().manual_seed(2))
    encoded = [
        EncodedTrace(row[:n].tolist(), {"thinking": (1, n - BOUNDARY), "boundary": (n - BOUNDARY, n)})
        for row, n in zip(ids, (17, 9, 5, 12), strict=True)
    ]
    w = torch.as_tensor(np.random.default_rng(0).normal(size=48))
    sets = [[(0, 1)], [(0, 1), (1, 4), (1, 2)], [(2, 5)]]

    def read(trace, heads):
        with torch.inference_mode():
            if not heads:
                return float(run_decoder(tiny_model, *pad_left([trace.ids], 0)).last_hidden_state[0, -1].double() @ w)
            with boundary_heads(tiny_model, dict.fromkeys(heads, 0.0), BOUNDARY):
                return float(run_decoder(tiny_model, *pad_left([trace.ids], 0)).last_hidden_state[0, -1].double() @ w)

    expected = [np.mean([read(trace, heads) - read(trace, []) for trace in encoded]) for heads in sets]
    gains = Gains(tiny_model, encoded, lambda states: states @ w, pad_id=0, batch_size=batch_size)
    np.testing.assert_allclose(gains(sets), expected, rtol=1e-3, atol=1e-3)
    # The prefix is read again and again.
    np.testing.assert_allclose(gains(sets), expected, rtol=1e-3, atol=1e-3)
