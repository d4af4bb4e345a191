"""An edit says what its variant does, survives its file, and is a change of weights or a hook, never both."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import logits

from refusal_cliff.edits import Edit
from refusal_cliff.errors import UserError

RANKING = pd.DataFrame({"layer": [0, 1], "head": [3, 2], "rank": [2, 1]})
N_BOUNDARY = 3
D_HEAD = 8  # of the tiny models of conftest


def means(*shape):
    values = np.random.default_rng(0).normal(size=(*shape, 3, 6, D_HEAD)).astype(np.float32)
    return {"benign_mean": values, "refused_boundary": np.stack([values, 2 * values, 3 * values])}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("keep-0.5", {"keep": 0.5}),
        ("ablate-causal-0.05", {"head_scales": ((1, 2, 0.0),)}),
        ("scale-causal-0.05-2", {"head_scales": ((1, 2, 2.0),)}),
        ("both-causal-0.05-cliff-15-s0", {"head_scales": ((1, 2, 0.0),), "adapter": True}),
        ("boundary-causal-0.05", {"head_scales": ((1, 2, 0.0),), "positions": "boundary"}),
        ("released-causal-0.05", {"head_scales": ((1, 2, 0.0),), "renormalise": True}),
    ],
)
def test_an_edit_says_what_its_variant_does(name, said):
    assert Edit.of("planted", name, RANKING) == Edit("planted", name, **said)


@pytest.mark.parametrize("kind", ["ablate", "mean", "boundary", "restore"])
def test_what_could_not_be_ranked_is_no_variant_and_the_edit_says_why(tmp_path, kind):
    nothing = RANKING.assign(rank=np.nan)
    edit = Edit.of("planted", f"{kind}-openers_causal-0.05", nothing, means(), "it refused nothing")
    assert (edit.missing, edit.heads) == ("it refused nothing", frozenset())
    edit.write(tmp_path / "edit.json", {})
    assert Edit.read(tmp_path / "edit.json").missing == "it refused nothing"
    assert Edit.of("planted", "ablate-causal-0.05", RANKING).missing == ""


def test_values_are_those_of_the_edited_heads_and_a_missing_reference_is_named():
    given = means()
    mean, restore = (Edit.of("planted", f"{kind}-causal-1", RANKING, given) for kind in ("mean", "restore"))
    assert np.array_equal(mean.head_values, given["benign_mean"][[1, 0], [2, 3]])
    assert restore.head_values.shape == (3, 2, D_HEAD)
    assert np.array_equal(restore.head_values[2, 1], given["refused_boundary"][2, 0, 3])
    with pytest.raises(UserError, match=r"heads\.benign.*take mean out"):
        Edit.of("planted", "mean-causal-1", RANKING, {})
    with pytest.raises(UserError, match=r"heads\.refused.*take restore out"):
        Edit.of("planted", "restore-causal-1", RANKING, {})


@pytest.mark.parametrize("kind", ["ablate", "mean", "restore", "boundary", "released"])
def test_an_edit_on_disk_is_weights_or_a_hook_and_never_both(tiny_llama, ids, tmp_path, kind):
    written = Edit.of("planted", f"{kind}-causal-0.05", RANKING, means())
    written.write(tmp_path / "edit.json", {})
    edit = Edit.read(tmp_path / "edit.json")
    assert (edit.model, edit.variant) == ("planted", f"{kind}-causal-0.05")
    assert edit.heads == {(1, 2)}
    in_weights = kind in ("ablate", "mean")
    model = edit.apply(copy.deepcopy(tiny_llama))
    plain = logits(tiny_llama, ids)
    assert torch.equal(logits(model, ids), plain) != in_weights
    with edit.hooked(model, N_BOUNDARY):
        changed = logits(model, ids)
    assert not torch.allclose(changed, plain, atol=1e-3)
    assert torch.allclose(changed[:, :-N_BOUNDARY], plain[:, :-N_BOUNDARY]) == (kind in ("boundary", "restore"))


def test_the_base_model_has_no_edit_and_stays_as_it_is(tiny_llama, ids):
    edit = Edit.read(None)
    assert edit == Edit() and edit.variant == "base"
    model = edit.apply(copy.deepcopy(tiny_llama))
    with edit.hooked(model, N_BOUNDARY):
        assert torch.equal(logits(model, ids), logits(tiny_llama, ids))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_scale": []}, "unknown key 'head_scale'"),
        ({"positions": "bondary"}, "positions is 'bondary', expected one of all, boundary"),
        ({"positions": ["all"]}, "positions is"),
        ({"head_scales": [[1, 2]]}, "head_scales is"),
        ({"head_scales": [[1, 2, "0"]]}, "head_scales is"),
        ({"head_scales": [[1, 2.0, 0]]}, "head_scales is"),
        ({"head_scales": [[1, 2, float("nan")]]}, "head_scales is"),
        ({"head_scales": [[1, 2, 0.5], [1, 2, 0.5]]}, "no head twice"),
        ({"head_scales": "none"}, "head_scales is"),
        ({"renormalise": "false"}, "renormalise is 'false', expected true or false"),
        ({"adapter": 0}, "adapter is 0"),
        ({"keep": 1.5}, "keep is 1.5, expected a share"),
        ({"keep": True}, "keep is True"),
        ({"variant": None}, "variant is None"),
    ],
)
def test_a_word_that_no_edit_knows_is_refused(tmp_path, change, message):
    path = tmp_path / "edit.json"
    Edit.of("planted", "ablate-causal-0.05", RANKING).write(path, {})
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=rf"edit\.json.*{message}.*snakemake --cores 1 --force"):
        Edit.read(path)


def test_an_edit_that_lacks_a_word_is_refused(tmp_path):
    path = tmp_path / "edit.json"
    Edit.of("planted", "ablate-causal-0.05", RANKING).write(path, {})
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "positions"}))
    with pytest.raises(UserError, match="lacks 'positions'"):
        Edit.read(path)


def test_values_of_other_heads_or_damaged_ones_are_refused(tmp_path):
    path = tmp_path / "edit.json"
    Edit.of("planted", "mean-causal-1", RANKING, means()).write(path, {})
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"head_scales": said["head_scales"][:1]}))
    with pytest.raises(UserError, match=r"values\.safetensors beside it is of other heads"):
        Edit.read(path)
    values = tmp_path / "values.safetensors"
    values.write_bytes(values.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"values\.safetensors: damaged.*--force .*edit\.json"):
        Edit.read(path)
