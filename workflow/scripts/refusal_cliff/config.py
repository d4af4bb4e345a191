"""The configuration: config and sheets against their schemas, references between them, and the names of variants."""

import csv
import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import yaml
from jsonschema import Draft202012Validator, ValidationError

from refusal_cliff.architectures import check_model_folder
from refusal_cliff.errors import UserError

SCHEMAS = Path(__file__).parents[2] / "schemas"
# A model's folder lies beside these in the results folder.
RESERVED_MODEL_NAMES = (
    "benchmarks",
    "datasets",
    "figures",
    "logs",
    "paper",
    "prompts",
    "recovery",
    "tables",
    "timings",
)
# What a variant of these kinds does holds at every position of every text: it is a model of its own.
EVERYWHERE = ("base", "ablate", "scale", "mean", "released", "tune")
# These keep the thinking of the base model's trace, or a share of it, and answer anew.
CONTINUED = ("boundary", "restore", "keep")
ESCAPES = {r"\n": "\n", r"\t": "\t"}

Schema = dict[str, Any]


def validate(config: dict[str, Any]) -> None:
    """Check `config` against its schema and fill in defaults, in place.

    Raises:
        UserError: unknown or missing keys, or values out of range; all of them in one message.
    """
    schema = _schema("config")
    _fill_defaults(config, schema)
    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.path)))
    if errors:
        raise UserError("\n".join(_explain(error, "config") for error in errors))


def load_sheets(config: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The model, dataset and attack sheets named under `sheets`, checked row by row.

    Returns:
        models and datasets, indexed by name, and attacks, indexed by family with one row per template. Empty cells hold
        the schema's defaults, escaped line breaks are decoded, comma lists are lists.

    Raises:
        UserError: a sheet, column or value is missing or wrong, or a row occurs twice.
    """
    sheets = config["sheets"]
    models = _read_sheet(sheets["models"], "models", unique=["model"])
    datasets = _read_sheet(sheets["datasets"], "datasets", unique=["dataset"])
    attacks = _read_sheet(sheets["attacks"], "attacks", unique=["family", "template"])
    for column in ("thinking_open", "boundary"):
        models[column] = models[column].map(_decode)
    attacks["template"] = attacks["template"].map(_decode)
    return models.set_index("model"), datasets.set_index("dataset"), attacks.set_index("family")


def record(sheet: pd.DataFrame, name: str) -> dict[str, Any]:
    """One row of a sheet as plain values, its name included: what a rule hands to its script as a parameter."""
    return {sheet.index.name: name} | sheet.loc[[name]].astype(object).to_dict("records")[0]


def templates(attacks: pd.DataFrame, families: Iterable[str]) -> dict[str, list[str]]:
    """The templates of each of `families`, in the order of the sheet."""
    return {family: attacks.loc[[family], "template"].tolist() for family in families}


def check(config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame, attacks: pd.DataFrame) -> None:
    """Check that everything the config and the sheets refer to exists, before anything expensive starts.

    Raises:
        UserError: names the key or row at fault, what is known, and the nearest name.
    """
    _check_models(config, models)
    _check_datasets(config, models, datasets, attacks)
    _check_organisms(config, models, attacks)
    _check_recovery(config)
    _check_stages(config, models, datasets)


def ablation_variants(
    config: Mapping[str, Any], models: pd.DataFrame, model: str, block: str = "ablation"
) -> list[str]:
    """Names of a subject's variants that change heads or thinking, e.g. `ablate-causal-0.03` or `keep-0.5`.

    Args:
        block: `ablation`, what a run makes by default, or `grid`.
    """
    if not models.loc[model, "ablate"]:
        return []
    plan, top = config[block], f"causal-{format_number(config['claims']['fraction'])}"
    zeroed = [
        f"ablate-{ranking}-{format_number(share)}" for ranking, shares in _fractions(plan).items() for share in shares
    ]
    if config["as_released"]:
        zeroed.append(f"released-{top}")
    if not models.loc[model, "intervene"]:
        return zeroed
    return [
        *zeroed,
        *(f"{intervention}-{top}" for intervention in plan["interventions"]),
        *(f"scale-{top}-{format_number(scale)}" for scale in plan["scales"]),
        *(f"keep-{format_number(share)}" for share in plan["kept_thinking"]),
    ]


def tuning_variants(config: Mapping[str, Any]) -> list[str]:
    """Names of the tuned variants, e.g. `tune-cliff-0.017-s0`; the whole pool once, with the first seed."""
    selection = config["selection"]
    chosen = [
        f"tune-{selector}-{format_number(budget)}-s{seed}"
        for selector, budgets in selection["selectors"].items()
        for budget in budgets
        for seed in selection["seeds"]
    ]
    return [*chosen, f"tune-whole-1-s{selection['seeds'][0]}"]


def with_recovery(models: pd.DataFrame, recovery: pd.DataFrame) -> pd.DataFrame:
    """The model sheet with rows for the recovery organisms and their parents, each like the first organism's row."""
    names = [*recovery["parent"].unique(), *recovery.index]
    organisms = models[(models["source"] == "organism") & (models["role"] == "subject")]
    if organisms.empty or not names:
        return models
    rows = pd.concat([organisms.head(1)] * len(names)).assign(location=names, ablate=False, intervene=False, tune=False)
    return pd.concat([models, rows.set_axis(pd.Index(names, name=models.index.name))])


def variants(config: Mapping[str, Any], models: pd.DataFrame, model: str) -> list[str]:
    """Every variant of a subject: base, and ablations and tunings if its row says so."""
    tunings = tuning_variants(config) if models.loc[model, "tune"] else []
    return ["base", *ablation_variants(config, models, model), *tunings]


def parse_variant(variant: str) -> dict[str, Any]:
    """What the name of a variant says.

    Returns:
        kind, and what goes with it:
            base: nothing.
            ablate, mean, boundary, restore, released (see docs/methods.md): ranking, fraction.
            scale: ranking, fraction, scale.
            keep: kept, the kept thinking fraction.
            tune: selector, budget, seed.

    Raises:
        UserError: not the name of a variant.
    """
    if variant == "base":
        return {"kind": "base"}
    number = r"\d+(?:\.\d+)?(?:e-\d+)?"
    if found := re.fullmatch(rf"(ablate|mean|boundary|restore|released)-([a-z]+\d*)-({number})", variant):
        return {"kind": found[1], "ranking": found[2], "fraction": float(found[3])}
    if found := re.fullmatch(rf"scale-([a-z]+\d*)-({number})-({number})", variant):
        return {"kind": "scale", "ranking": found[1], "fraction": float(found[2]), "scale": float(found[3])}
    if found := re.fullmatch(rf"keep-({number})", variant):
        return {"kind": "keep", "kept": float(found[1])}
    if found := re.fullmatch(rf"tune-([a-z]+)-({number})-s(\d+)", variant):
        return {"kind": "tune", "selector": found[1], "budget": float(found[2]), "seed": int(found[3])}
    raise UserError(
        f"{variant!r} names no variant; write base, {{kind}}-{{ranking}}-{{fraction}} such as ablate-causal-0.03 "
        "(kinds: ablate, mean, boundary, restore, released), scale-{ranking}-{fraction}-{factor}, keep-{fraction}, or "
        "tune-{selector}-{budget}-s{seed} such as tune-cliff-0.017-s0"
    )


def pooled_ranking(ranking: str) -> str:
    """The random control that a ranking is a draw of, `random` for `random3`; any other ranking is its own."""
    return re.sub(r"^(random|matched)\d+$", r"\1", ranking)


def format_number(value: float) -> str:
    """A share as it stands in file names: the shortest text that reads back as the same number, `1` for 1.0."""
    return str(int(value)) if value == int(value) else repr(float(value))


def _fractions(plan: Mapping[str, Any]) -> dict[str, list[float]]:
    """The fractions at which each ranking is ablated, each draw of a random control a ranking of its own."""
    shares = dict(plan["rankings"])
    for control in ("random", "matched"):
        drawn = shares.pop(control)
        shares |= {f"{control}{draw}": drawn for draw in range(plan["random_draws"])}
    return {ranking: values for ranking, values in shares.items() if values}


def recovery_organisms(config: Mapping[str, Any]) -> pd.DataFrame:
    """The organisms of the target `recovery`, one row for each seed and circuit, indexed by `model`.

    Returns:
        organism, seed, circuit (layer or spread), depth, share, heads ([[layer, head], …]), parent.
    """
    plan, rows = config["recovery"], []
    for circuit in plan["circuits"]:
        architecture = config["organisms"][circuit["organism"]]["architecture"]
        shape = "spread" if circuit["spread"] else "layer"
        for seed in plan["seeds"]:
            parent = f"recovery/{circuit['organism']}-s{seed}"
            rows.append(
                {
                    "model": f"{parent}-{circuit['depth']}-{shape}-{format_number(circuit['share'])}",
                    "organism": circuit["organism"],
                    "seed": seed,
                    "circuit": shape,
                    "depth": circuit["depth"],
                    "share": circuit["share"],
                    "heads": draw_circuit(architecture, circuit, seed),
                    "parent": parent,
                }
            )
    columns = ["model", "organism", "seed", "circuit", "depth", "share", "heads", "parent"]
    return pd.DataFrame(rows, columns=columns).set_index("model")


def draw_circuit(architecture: Mapping[str, int], circuit: Mapping[str, Any], seed: int) -> list[list[int]]:
    """Heads [[layer, head], …] of a circuit, by seed: `share` of all heads, at least one, in a third of the layers.

    Without `spread` all lie in one layer of that third; with it, they take its layers in turn.
    """
    n_layers, n_heads = architecture["layers"], architecture["heads"]
    rng = Random(f"{circuit['depth']} {circuit['share']} {seed}")
    third = ("early", "middle", "late").index(circuit["depth"])
    layers = list(range(third * n_layers // 3, (third + 1) * n_layers // 3))
    rng.shuffle(layers)
    if not circuit["spread"]:
        layers = layers[:1]
    count = max(1, round(circuit["share"] * n_layers * n_heads))
    free = {layer: rng.sample(range(n_heads), n_heads) for layer in layers}
    return sorted([layers[turn % len(layers)], free[layers[turn % len(layers)]].pop()] for turn in range(count))


def recovery_recipes(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Recipes of the recovery organisms and of their parents, by model name, as under `organisms`."""
    organisms, planted = config["organisms"], recovery_organisms(config)
    recipes = {
        row.parent: dict(organisms[row.organism]) | {"seed": row.seed}
        for row in planted.drop_duplicates("parent").itertuples()
    }
    for row in planted.itertuples():
        changed = {"parent": row.parent, "heads": row.heads, "seed": row.seed}
        recipes[row.Index] = dict(organisms[config["recovery"]["recipe"]]) | changed
    return recipes


def _check_models(config: Mapping[str, Any], models: pd.DataFrame) -> None:
    sheet = config["sheets"]["models"]
    if not (models["role"] == "subject").any():
        raise UserError(f"{sheet}: no row with role subject; add the model to study")
    for name, row in models.iterrows():
        if name in RESERVED_MODEL_NAMES:
            raise UserError(f"{sheet}: a model cannot be called {name!r}, results keep that folder for something else")
        for column in ("ablate", "intervene", "tune"):
            if row["role"] == "guard" and row[column]:
                raise UserError(f"{sheet}: row {name!r}: a guard cannot have {column} = true; leave the cell empty")
        if row["intervene"] and not row["ablate"]:
            raise UserError(f"{sheet}: row {name!r}: intervene needs ablate = true; set it, or leave intervene empty")
        if row["source"] == "path":
            try:
                check_model_folder(row["location"], row["role"])
            except UserError as error:
                raise UserError(f"{sheet}: row {name!r}, column location: {error}") from None
    if config["judges"]["harm"] == "guard" or _selects(config, models, "guard"):
        guard = config["judges"]["guard"]["model"]
        where = "config: judges.guard.model"
        _known(guard, models.index, where, f"a row of {sheet}")
        if models.loc[guard, "role"] != "guard":
            raise UserError(
                f"{where}: row {guard!r} of {sheet} has role subject; give it role guard, or name another row"
            )


def _check_datasets(
    config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame, attacks: pd.DataFrame
) -> None:
    sheet = config["sheets"]["datasets"]
    for name, row in datasets.iterrows():
        for family in row["attacks"]:
            _known(family, attacks.index, f"{sheet}: row {name!r}, column attacks", "a family of the attack sheet")
        start, stop = map(float, row["part"].split("-"))
        if start >= stop:
            raise UserError(f"{sheet}: row {name!r}, column part: {row['part']!r} is empty; write start-stop, as 0-0.5")
        if bool(row["match"]) != bool(row["reference_column"]):
            raise UserError(f"{sheet}: row {name!r}: match and reference_column go together; fill in both or neither")
    needed = {"fit": "probes and head rankings are fitted on it", "test": "every rate is measured on it"}
    if models["tune"].any():
        needed["pool"] = "a model of the model sheet has tune = true"
    if (models["source"] == "organism").any():
        needed["organism"] = "a model of the model sheet has source organism, which trains on it"
    for prompt_set, reason in needed.items():
        if prompt_set not in set(datasets["set"]):
            raise UserError(f"{sheet}: no dataset has set {prompt_set}, but {reason}; add a row")


def _check_organisms(config: Mapping[str, Any], models: pd.DataFrame, attacks: pd.DataFrame) -> None:
    recipes = {name: recipe for name, recipe in config["organisms"].items() if name != "tokenizer"}
    organisms = models[models["source"] == "organism"]
    for name, row in organisms.iterrows():
        where = f"{config['sheets']['models']}: row {name!r}, column location"
        _known(row["location"], recipes, where, "a recipe under organisms in the config")
    for name in organisms["location"].unique():
        recipe, key = recipes[name], f"config: organisms.{name}"
        architecture = _architecture(recipes, name)
        parent = recipe.get("parent")
        if parent and organisms["location"].get(parent) != parent:
            sheet = config["sheets"]["models"]
            raise UserError(f"{key}.parent: no row of {sheet} trains it; add a row with model and location {parent!r}")
        for family in recipe.get("families", ()):
            _known(family, attacks.index, f"{key}.families", "a family of the attack sheet")
        for layer, head in recipe.get("heads", ()):
            if layer >= architecture["layers"] or head >= architecture["heads"]:
                size = f"{architecture['layers']} layers of {architecture['heads']} heads"
                raise UserError(f"{key}.heads: [{layer}, {head}] does not exist in {size}; both count from 0")


def _architecture(recipes: Mapping[str, Any], name: str) -> Mapping[str, int]:
    """The architecture of a recipe, or of the ancestor that it is trained from."""
    lineage = [name]
    while parent := recipes[lineage[-1]].get("parent"):
        key = f"config: organisms.{lineage[-1]}.parent"
        _known(parent, recipes, key, "a recipe under organisms")
        if parent in lineage:
            raise UserError(
                f"{key}: {' > '.join([*lineage, parent])} is a circle; one recipe must have an architecture"
            )
        lineage.append(parent)
    if "architecture" not in recipes[lineage[-1]]:
        raise UserError(f"config: organisms.{lineage[-1]}: give either parent or architecture")
    return recipes[lineage[-1]]["architecture"]


def _check_recovery(config: Mapping[str, Any]) -> None:
    recipes, plan = config["organisms"], config["recovery"]
    if not plan["circuits"]:
        return
    _known(plan["recipe"], recipes, "config: recovery.recipe", "a recipe under organisms")
    for number, circuit in enumerate(plan["circuits"]):
        key = f"config: recovery.circuits.{number}"
        _known(circuit["organism"], recipes, f"{key}.organism", "a recipe under organisms")
        if "architecture" not in recipes[circuit["organism"]]:
            raise UserError(f"{key}.organism: {circuit['organism']!r} has a parent; name a recipe with an architecture")
        size = recipes[circuit["organism"]]["architecture"]
        room = size["heads"] * (size["layers"] // 3 if circuit["spread"] else 1)
        if round(circuit["share"] * size["layers"] * size["heads"]) > room:
            raise UserError(f"{key}.share: {circuit['share']} of all heads are more than the {room} there; lower it")


def _check_stages(config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame) -> None:
    sheet = config["sheets"]["datasets"]
    wanted = {f"probes.{name}.datasets": probe["datasets"] for name, probe in config["probes"].items()}
    wanted |= {f"heads.{key}": config["heads"][key] for key in ("datasets", "benign", "refused")}
    for key, names in wanted.items():
        for name in names:
            _known(name, datasets.index, f"config: {key}", f"a row of {sheet}")
            if datasets.loc[name, "set"] != "fit":
                found = datasets.loc[name, "set"]
                raise UserError(f"config: {key}: {name!r} is in set {found}; only datasets of set fit may be fitted on")
    for stage in ("cliffs", "heads"):
        name = config[stage]["probe"]
        _known(name, config["probes"], f"config: {stage}.probe", "a key under probes")
        layers = config["probes"][name]["layers"]
        if layers and -1 not in layers:
            raise UserError(
                f"config: {stage}.probe is {name}, but probes.{name}.layers is {layers}; it must read the last layer: "
                "add -1"
            )
    shares, claims = config["ablation"]["rankings"], config["claims"]
    for block in ("ablation", "grid"):
        for control in ("random", "matched"):
            if config[block]["rankings"][control] and config[block]["random_draws"] == 0:
                key = f"{block}.rankings.{control}"
                raise UserError(f"config: {block}.random_draws is 0, but {key} asks for draws; set it to 1")
    if models["ablate"].any():
        for ranking in ("causal", "random"):
            _operating_point("claims.fraction", claims["fraction"], f"ablation.rankings.{ranking}", shares[ranking])
    if models["tune"].any():
        budgets = config["selection"]["selectors"]["cliff"]
        _operating_point("claims.budget", claims["budget"], "selection.selectors.cliff", budgets)


def _operating_point(key: str, value: float, measured_key: str, measured: Collection[float]) -> None:
    if value not in measured:
        raise UserError(f"config: {key} is {value}, but {measured_key} is {list(measured)}; add it there or change it")


def _selects(config: Mapping[str, Any], models: pd.DataFrame, selector: str) -> bool:
    return bool(models["tune"].any() and config["selection"]["selectors"][selector])


def _known(name: str, known: Iterable[str], where: str, what: str) -> None:
    """Raise a UserError with the nearest known name if `name` is not among `known`."""
    names = list(dict.fromkeys(known))
    if name not in names:
        raise UserError(f"{where}: {name!r} is not {what}{_suggest(name, names)}; choose one of {', '.join(names)}")


def _suggest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _schema(name: str) -> Schema:
    return yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def _decode(text: str) -> str:
    """Line breaks and tabs of a cell, which a sheet can only hold escaped."""
    for escaped, character in ESCAPES.items():
        text = text.replace(escaped, character)
    return text


def _fill_defaults(value: dict[str, Any], schema: Schema) -> None:
    """Fill absent keys of a nested mapping with the defaults of its schema, in place."""
    for key, part in schema.get("properties", {}).items():
        if part.get("type") == "object" and "default" in part:
            value.setdefault(key, dict(part["default"]))
        elif "default" in part:
            value.setdefault(key, part["default"])
    others = schema.get("additionalProperties") or {}
    for key, child in value.items():
        part = schema.get("properties", {}).get(key, others)
        if isinstance(child, dict):
            _fill_defaults(child, part)
        elif isinstance(child, list):
            for item in child:
                if isinstance(item, dict):
                    _fill_defaults(item, part.get("items", {}))


def _explain(error: ValidationError, source: str) -> str:
    """One line on a schema error: where, what, and an example that would pass."""
    path = [str(part) for part in error.path]
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in allowed]
        wrong = ", ".join(f"unknown key {'.'.join([*path, key])!r}{_suggest(key, allowed)}" for key in unknown)
        nearest = get_close_matches(unknown[0], allowed, n=1) or allowed[:1]
        example = _example([*path, nearest[0]], error.schema["properties"][nearest[0]])
        return f"{source}: {wrong}; allowed here: {', '.join(allowed)}.{example}"
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        part = error.schema.get("properties", {}).get(missing[0], {})
        keys = ", ".join(".".join([*path, key]) for key in missing)
        return f"{source}: missing {keys}. {_about(part)}{_example([*path, missing[0]], part)}".rstrip()
    return f"{source}: {'.'.join(path)}: {error.message}. {_about(error.schema)}{_example(path, error.schema)}".rstrip()


def _about(schema: Schema) -> str:
    return schema.get("description", "")


def _example(path: list[str], schema: Schema) -> str:
    """A corrected line, if the schema has a default or an example."""
    value = schema.get("default", schema.get("examples", [None])[0])
    if value is None:
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    return f" Example: {'.'.join(path)}: {text}"


def _read_sheet(path: str, kind: str, unique: list[str]) -> pd.DataFrame:
    """A tab-separated sheet, validated row by row; columns in the order of the schema.

    Args:
        unique: columns that together name a row.
    """
    schema = _schema(kind)
    try:
        cells = pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE, encoding="utf-8-sig"
        )
    except FileNotFoundError:
        raise UserError(
            f"config: sheets.{kind}: no file {path!r}; paths are relative to the working directory"
        ) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a tab-separated sheet in UTF-8 ({error})") from None
    for column in cells.columns:
        if column not in schema["properties"]:
            near = _suggest(column, schema["properties"])
            raise UserError(f"{path}: unknown column {column!r}{near}; allowed: {', '.join(schema['properties'])}")
    for column in schema["required"]:
        if column not in cells.columns:
            raise UserError(f"{path}: no column {column!r}. {_about(schema['properties'][column])}")
    if cells.empty:
        raise UserError(f"{path}: no rows; add at least one under the header")
    rows = [_parse_row(row, schema, f"{path}: row {row[unique[0]]!r}") for row in cells.to_dict("records")]
    table = pd.DataFrame(rows, columns=list(schema["properties"]))
    twice = table.duplicated(unique)
    if twice.any():
        name = ", ".join(repr(cell) for cell in table.loc[twice, unique].iloc[0])
        raise UserError(f"{path}: {' and '.join(unique)} {name} occur twice; rename or delete one of the rows")
    return table


def _parse_row(cells: Mapping[str, str], schema: Schema, source: str) -> dict[str, Any]:
    """Typed values of one row, with defaults for its empty cells.

    Raises:
        UserError: a value does not fit the schema.
    """
    row = {column: _parse_cell(text, schema["properties"][column]) for column, text in cells.items() if text != ""}
    _fill_defaults(row, schema)
    errors = list(Draft202012Validator(schema).iter_errors(row))
    if errors:
        raise UserError("\n".join(_explain(error, source) for error in errors))
    return row


def _parse_cell(text: str, schema: Schema) -> Any:
    """The text of a cell in the type of its column; left as text where it does not fit, for the schema to reject."""
    match schema.get("type"):
        case "boolean":
            return {"true": True, "false": False}.get(text.lower(), text)
        case "integer":
            return int(text) if re.fullmatch(r"\d+", text) else text
        case "array":
            return [item.strip() for item in text.split(",")]
        case _:
            return text
