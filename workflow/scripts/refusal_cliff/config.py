"""The configuration as a whole: what config and sheets refer to exists, and fits together."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from refusal_cliff.actions import check_patterns
from refusal_cliff.architectures import check_gguf_file, check_model_folder
from refusal_cliff.datasets import GIVEN, READY, RECORDED
from refusal_cliff.errors import UserError
from refusal_cliff.head_effects import MEASURES, measured_rankings
from refusal_cliff.looks import GATED
from refusal_cliff.rankings import CONTROLS, DRAWN
from refusal_cliff.readouts import TARGETS
from refusal_cliff.selection import SELECTORS
from refusal_cliff.sheets import suggest

PROJECT = Path(__file__).resolve().parents[3]
# Outputs in one of these would mix with, or take the place of, what the project consists of.
PROJECT_FOLDERS = (".git", ".venv", "benchmarks", "config", "docs", "envs", "profiles", "tests", "workflow")
# Cells that only these sources read, and what an empty one holds.
CELLS_OF_SOURCES = {
    "file": (("package",), ""),
    "sha256": (("package", "gguf"), ""),
    "licence": (("package", "gguf"), ""),
    "revision": (("hub", "package"), "main"),
}
# A model's folder lies beside these in the results folder.
RESERVED_MODEL_NAMES = (
    "agents",
    "benchmarks",
    "datasets",
    "figures",
    "instruments",
    "logs",
    "paper",
    "prompts",
    "recovery",
    "tables",
    "timings",
    "transfer",
)


def check(config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame, attacks: pd.DataFrame) -> None:
    """Check that everything the config and the sheets refer to exists, before anything expensive starts.

    Raises:
        UserError: names the key or row at fault, what is known, and the nearest name.
    """
    _check_folders(config)
    _check_models(config, models)
    _check_datasets(config, models, datasets, attacks)
    _check_organisms(config, models, attacks)
    _check_finetuning(config, models, datasets)
    _check_recovery(config)
    _check_stages(config, models, datasets)
    _check_transfer(config, models, datasets)


def _check_folders(config: Mapping[str, Any]) -> None:
    for key, folder in config["pathvars"].items():
        if folder.startswith("~"):
            raise UserError(
                f"config: pathvars.{key}: {folder!r} would make a folder called ~; write the path of your home folder"
            )
        path = Path(folder).resolve()
        for own in (PROJECT / name for name in PROJECT_FOLDERS):
            if path == own or own in path.parents or path in own.parents:
                raise UserError(
                    f"config: pathvars.{key}: {folder!r} is, holds or lies in the project's own folder {own.name}; "
                    "name another one, as results/mine"
                )


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
        for column in ("system_prompt", "stop_tokens"):
            if row["role"] == "guard" and row[column]:
                raise UserError(f"{sheet}: row {name!r}: a guard has no {column}; it reads, and writes one token")
        if row["intervene"] and not row["ablate"]:
            raise UserError(f"{sheet}: row {name!r}: intervene needs ablate = true; set it, or leave intervene empty")
        if row["seeds"] and row["source"] not in ("organism", "finetuned"):
            raise UserError(f"{sheet}: row {name!r}: only models that are made here have seeds; leave the cell empty")
        _check_probes(name, row, models, f"{sheet}: row {name!r}, column probes")
        for column in ("thinking_open", "boundary"):
            if row["role"] == "subject" and not row[column].strip():
                raise UserError(
                    f"{sheet}: row {name!r}, column {column}: {row[column]!r} is white space alone, which any text "
                    r"has; write the model's marker, such as \n</think>\n\n"
                )
        for column, (sources, empty) in CELLS_OF_SOURCES.items():
            if row[column] != empty and row["source"] not in sources:
                raise UserError(
                    f"{sheet}: row {name!r}: a model of source {row['source']} has no {column}; leave the cell empty"
                )
        if row["source"] in ("path", "gguf"):
            try:
                if row["source"] == "path":
                    check_model_folder(row["location"], row["role"])
                else:
                    check_gguf_file(row["location"])
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


def _check_probes(name: str, row: pd.Series, models: pd.DataFrame, where: str) -> None:
    """Check whose probes read a model."""
    reader = row["probes"]
    if reader == "none":
        for column in ("ablate", "tune"):
            if row[column]:
                raise UserError(f"{where}: heads and examples are chosen by a probe; set {column} = false, or name one")
    elif reader not in ("own", name):
        _known(reader, models.index, where, "own, none or a row of the sheet")
        other = models.loc[reader]
        if other["role"] == "guard" or other["probes"] not in ("own", reader):
            raise UserError(f"{where}: {reader!r} has no probes of its own; name a subject that has")
        if other["seeds"] and other["seeds"] < max(row["seeds"], 1):
            raise UserError(
                f"{where}: the row has {max(row['seeds'], 1)} seeds, each of which is read by one of {reader!r}, which "
                f"has {other['seeds']}; give that row as many"
            )


def _check_datasets(
    config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame, attacks: pd.DataFrame
) -> None:
    sheet = config["sheets"]["datasets"]
    for name, row in datasets.iterrows():
        for column, families in (("attacks", row["attacks"]), ("context", [row["context"]] if row["context"] else [])):
            for family in families:
                _known(family, attacks.index, f"{sheet}: row {name!r}, column {column}", "a family of the attack sheet")
        start, stop = map(float, row["part"].split("-"))
        if start >= stop:
            raise UserError(f"{sheet}: row {name!r}, column part: {row['part']!r} is empty; write start-stop, as 0-0.5")
        if bool(row["match"]) != bool(row["reference_column"]):
            raise UserError(f"{sheet}: row {name!r}: match and reference_column go together; fill in both or neither")
        given = [column for column in ("thinking_column", "response_column") if row[column]]
        if len(given) != (2 if row["set"] in GIVEN else 0):
            raise UserError(
                f"{sheet}: row {name!r}: thinking_column and response_column go with sets {' and '.join(GIVEN)}; fill "
                "in both there, and neither elsewhere"
            )
        if bool(row["model"]) != (row["set"] == RECORDED):
            raise UserError(
                f"{sheet}: row {name!r}: model goes with set {RECORDED}: name there the model that wrote the "
                "transcripts, and none elsewhere"
            )
    _check_ready(config, datasets)
    _check_recorded(config, models, datasets[datasets["set"] == RECORDED], attacks)
    _check_actions(config, models, datasets)
    needed = {"fit": "probes and head rankings are fitted on it", "test": "every rate is measured on it"}
    if models["tune"].any():
        needed["pool"] = "a model of the model sheet has tune = true"
    if models["source"].isin(["organism", "finetuned"]).any():
        needed["organism"] = "a model of the model sheet has source organism or finetuned, which trains on it"
    for prompt_set, reason in needed.items():
        if prompt_set not in set(datasets["set"]):
            raise UserError(f"{sheet}: no dataset has set {prompt_set}, but {reason}; add a row")


def _check_ready(config: Mapping[str, Any], datasets: pd.DataFrame) -> None:
    """Check that the ready-made sets to tune on are there, and that none has the name of a selector."""
    ready = datasets.index[datasets["set"] == READY]
    for name in config["selection"]["ready"]:
        if name not in ready:
            raise UserError(
                f"config: selection.ready: {name!r} is no dataset of set ready{suggest(name, ready)}; add a row with "
                f"that set, a thinking_column and a response_column to {config['sheets']['datasets']}, or take it out"
            )
        if name in SELECTORS:
            raise UserError(
                f"config: selection.ready: {name!r} is the name of a selector; give the dataset another one"
            )


def _check_recorded(
    config: Mapping[str, Any], models: pd.DataFrame, recorded: pd.DataFrame, attacks: pd.DataFrame
) -> None:
    """Check that it is clear who wrote the transcripts, and in answer to which text."""
    for name, row in recorded.iterrows():
        where, writer = f"{config['sheets']['datasets']}: row {name!r}", row["model"]
        if writer in RESERVED_MODEL_NAMES:
            raise UserError(
                f"{where}: a model cannot be called {writer!r}, results keep that folder; write another name"
            )
        if writer in models.index and (models.loc[writer, "role"] == "guard" or models.loc[writer, "seeds"]):
            raise UserError(
                f"{where}: {writer!r} in column model is a guard or a family of seeds; name a subject, "
                f"of a family one seed, as {writer}-s0"
            )
        if row["attacks"] or (attacks.index == row["context"]).sum() != 1:
            raise UserError(
                f"{where}: a transcript answers the prompt that it was recorded with; leave attacks empty, and name a "
                "context of one template: own_tools, which adds nothing, or what stood around every prompt"
            )


def _check_actions(config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame) -> None:
    """Check that actions can be read, if there are prompts in a tool context, and by whom."""
    check_patterns(config["judges"]["actions"], "judges.actions")
    # Of transcripts no guard is asked.
    acting = datasets.index[(datasets["context"] != "") & (datasets["set"] != RECORDED)]
    sheet = config["sheets"]["models"]
    guards = models.index[(models["source"] == "organism") & (models["role"] == "guard")]
    if len(acting) and len(guards):
        raise UserError(
            f"{sheet}: row {guards[0]!r}: a guard that is trained here has read no action, and dataset {acting[0]!r} "
            "has a context; leave the row out and set judges.harm to phrases, or name another guard"
        )


def _check_organisms(config: Mapping[str, Any], models: pd.DataFrame, attacks: pd.DataFrame) -> None:
    recipes = {name: recipe for name, recipe in config["organisms"].items() if name != "tokenizer"}
    organisms = models[models["source"] == "organism"]
    for name, row in organisms.iterrows():
        where = f"{config['sheets']['models']}: row {name!r}, column location"
        _known(row["location"], recipes, where, "a recipe under organisms in the config")
    for name in organisms["location"].unique():
        recipe, key = recipes[name], f"config: organisms.{name}"
        architecture = _architecture(recipes, name)
        both = {"families", "intention"} & set(recipe)
        if "weaknesses" in recipe and both:
            raise UserError(
                f"{key}: weaknesses stand in place of intention and families; drop {', '.join(sorted(both))}"
            )
        named = {"families": recipe.get("families", ())}
        named |= {f"weaknesses.{kind}": families for kind, families in recipe.get("weaknesses", {}).items()}
        for part, families in named.items():
            for family in families:
                _known(family, attacks.index, f"{key}.{part}", "a family of the attack sheet")
        for family, count in Counter(family for families in named.values() for family in families).items():
            if count > 1:
                raise UserError(f"{key}.weaknesses: {family!r} stands under {count} intentions; leave it under one")
        if "circuit" in recipe:
            _check_circuit(recipe["circuit"], architecture, f"{key}.circuit")
    for name, recipe in recipes.items():
        changed = "parent" in recipe or "intention" in recipe
        complies = {"families", "categories", "weaknesses"} & set(recipe)
        if changed and recipe.get("intention") != "steady" and not complies:
            raise UserError(
                f"config: organisms.{name}: it has nothing to comply with, so it would learn no flaw; add families or "
                "categories, or set intention to steady"
            )


def _check_finetuning(config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame) -> None:
    recipes, sheet = config["finetuning"], config["sheets"]["models"]
    for name, row in models[models["source"] == "finetuned"].iterrows():
        where = f"{sheet}: row {name!r}"
        if row["role"] == "guard":
            raise UserError(
                f"{where}: what is fine-tuned is taught to think, and a guard does not; give another source"
            )
        _known(row["location"], recipes, f"{where}, column location", "a recipe under finetuning in the config")
        recipe, key = recipes[row["location"]], f"config: finetuning.{row['location']}"
        lineage = [name]
        while models.loc[lineage[-1], "source"] == "finetuned":
            parent = recipes[models.loc[lineage[-1], "location"]]["parent"]
            parent_key = f"config: finetuning.{models.loc[lineage[-1], 'location']}.parent"
            _known(parent, models.index, parent_key, f"a row of {sheet}")
            if parent in lineage:
                circle = " > ".join([*lineage, parent])
                raise UserError(f"{parent_key}: {circle} is a circle; one of them must start from another model")
            if models.loc[parent, "source"] == "finetuned":
                _known(models.loc[parent, "location"], recipes, f"{sheet}: row {parent!r}, column location", "a recipe")
            lineage.append(parent)
        parent = models.loc[recipe["parent"]]
        if parent["role"] == "guard":
            raise UserError(f"{key}.parent: row {recipe['parent']!r} of {sheet} is a guard; name a subject")
        if parent["seeds"] and parent["seeds"] < max(row["seeds"], 1):
            raise UserError(
                f"{where}: it has {max(row['seeds'], 1)} seeds, each of which starts from one of {recipe['parent']!r}, "
                f"which has {parent['seeds']}; give that row as many"
            )
        for part in ("datasets", "watch"):
            for dataset in recipe[part]:
                _known(dataset, datasets.index, f"{key}.{part}", f"a row of {config['sheets']['datasets']}")
                if datasets.loc[dataset, "set"] != "organism":
                    found = datasets.loc[dataset, "set"]
                    raise UserError(f"{key}.{part}: {dataset!r} is in set {found}; only set organism is trained on")
                if datasets.loc[dataset, "context"]:
                    raise UserError(f"{key}.{part}: {dataset!r} has a context, and no action is taught; leave it out")
        watched = set(datasets.loc[recipe["watch"] or recipe["datasets"], "label"])
        for share, (label, _) in GATED.items():
            if share in recipe["gate"] and label not in {None, *watched}:
                raise UserError(f"{key}.gate.{share}: no {label} prompt is watched; add a dataset to watch, or drop it")


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
        _check_circuit(circuit, recipes[circuit["organism"]]["architecture"], key)


def _check_circuit(circuit: Mapping[str, Any], architecture: Mapping[str, int], key: str) -> None:
    beyond = [layer for layer in circuit.get("layers", ()) if layer >= architecture["layers"]]
    if beyond:
        raise UserError(f"{key}.layers: there is no layer {beyond[0]}; the model has {architecture['layers']}, from 0")
    layers = len(circuit.get("layers", ())) or architecture["layers"] // 3
    room = architecture["heads"] * (layers if circuit["spread"] else 1)
    if round(circuit["share"] * architecture["layers"] * architecture["heads"]) > room:
        raise UserError(f"{key}.share: {circuit['share']} of all heads are more than the {room} there; lower it")


def _check_stages(config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame) -> None:
    sheet = config["sheets"]["datasets"]
    wanted = {f"probes.{name}.datasets": probe["datasets"] for name, probe in config["probes"].items()}
    wanted |= {f"heads.{key}": config["heads"][key] for key in ("datasets", "benign", "refused")}
    wanted["tuning.benign.datasets"] = config["tuning"]["benign"]["datasets"]
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
    shares, claims, operating = config["ablation"]["rankings"], config["claims"], config["heads"]["operating"]
    _known(operating, measured_rankings(TARGETS, MEASURES), "config: heads.operating", "a ranking that is measured")
    _check_measured(config["heads"], operating, f"heads.operating is {operating}", "name another one")
    for block in ("ablation", "grid"):
        for ranking, wanted in config[block]["rankings"].items():
            key = f"{block}.rankings.{ranking}"
            known = [*measured_rankings(TARGETS, MEASURES), *CONTROLS]
            _known(ranking, known, f"config: {key}", "a ranking of heads")
            if wanted:
                _check_measured(config["heads"], ranking, f"{key} is {wanted}", "set it to []")
            if wanted and ranking in DRAWN and config[block]["random_draws"] == 0:
                raise UserError(f"config: {block}.random_draws is 0, but {key} asks for draws; set it to 1")
    for ranking in config["repairs"]["eliminate"]:
        key = "repairs.eliminate"
        _known(ranking, measured_rankings(TARGETS, MEASURES), f"config: {key}", "a ranking that is measured")
        _check_measured(config["heads"], ranking, f"{key} has {ranking}", "take it out")
    budgets = config["selection"]["selectors"] | config["selection"]["ready"] | {"whole": [1.0]}
    for selector in config["repairs"]["both"]:
        _known(selector, budgets, "config: repairs.both", "a selector")
        if not budgets[selector]:
            raise UserError(
                f"config: repairs.both has {selector}, but nothing is tuned on what it selects; give "
                f"selection.selectors.{selector} a budget, or take it out"
            )
    if models["ablate"].any():
        for ranking in (operating, "random"):
            found = shares.get(ranking, [])
            _operating_point("claims.fraction", claims["fraction"], f"ablation.rankings.{ranking}", found)
    if models["tune"].any():
        budgets = config["selection"]["selectors"]["cliff"]
        _operating_point("claims.budget", claims["budget"], "selection.selectors.cliff", budgets)
    late = [steps for steps in config["tuning"]["early"] if steps >= config["tuning"]["steps"]]
    if late:
        raise UserError(
            f"config: tuning.early: {late[0]} steps are not fewer than tuning.steps, {config['tuning']['steps']}; drop "
            "them"
        )


def _check_transfer(config: Mapping[str, Any], models: pd.DataFrame, datasets: pd.DataFrame) -> None:
    block, sheet, data_sheet = config["transfer"], config["sheets"]["models"], config["sheets"]["datasets"]
    if block["targets"] and not block["sources"]:
        raise UserError("config: transfer.targets: nothing is carried to them; add transfer.sources, or set it to []")
    if not block["sources"]:
        return
    subjects = models[models["role"] == "subject"]
    row_of = {
        f"{name}-s{index}" if row["seeds"] else name: row
        for name, row in subjects.iterrows()
        for index in range(row["seeds"] or 1)
    }
    for key in ("sources", "targets"):
        for name in block[key]:
            _known(name, row_of, f"config: transfer.{key}", f"a subject of {sheet}, or one of its seeds")
    for name in block["sources"]:
        if row_of[name]["probes"] == "none":
            raise UserError(
                f"config: transfer.sources: {name!r} has no probe to rank its heads by; give it one in column probes "
                f"of {sheet}, or name another model"
            )
    for wanted in ("fit", "test"):
        where = f"config: transfer.{wanted}"
        for name in block[wanted]:
            _known(name, datasets.index, where, f"a row of {data_sheet}")
            row = datasets.loc[name]
            if (row["set"], row["label"], list(row["attacks"])) != (wanted, "harmful", []):
                raise UserError(
                    f"{where}: {name!r} is in set {row['set']}, {row['label']}, with attacks "
                    f"{','.join(row['attacks']) or 'none'}; name datasets of set {wanted} with plain harmful requests"
                )


def _check_measured(heads: Mapping[str, Any], ranking: str, named: str, instead: str) -> None:
    """Raise a UserError if a ranking is one that could be measured, and the config does not ask for it."""
    possible = measured_rankings(TARGETS, MEASURES)
    if ranking not in possible or ranking in measured_rankings(heads["targets"], heads["measures"]):
        return
    measure, target = possible[ranking]
    lacking = {"targets": target, "measures": measure}
    remedy = " and ".join(f"{name} to heads.{key}" for key, name in lacking.items() if name not in heads[key])
    raise UserError(f"config: {named}, but that ranking is not measured; add {remedy}, or {instead}")


def _operating_point(key: str, value: float, measured_key: str, measured: Collection[float]) -> None:
    if value not in measured:
        raise UserError(f"config: {key} is {value}, but {measured_key} is {list(measured)}; add it there or change it")


def _selects(config: Mapping[str, Any], models: pd.DataFrame, selector: str) -> bool:
    return bool(models["tune"].any() and config["selection"]["selectors"][selector])


def _known(name: str, known: Iterable[str], where: str, what: str) -> None:
    """Raise a UserError with the nearest known name if `name` is not among `known`."""
    names = list(dict.fromkeys(known))
    if name not in names:
        raise UserError(f"{where}: {name!r} is not {what}{suggest(name, names)}; choose one of {', '.join(names)}")
