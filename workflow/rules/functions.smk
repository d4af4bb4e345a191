# Inputs, outputs and parameters that depend on wildcards: first what several files of rules use, then by file.


def variants_of(model, grid=""):
    """A model's variants, base first; under grid_, base and those of the finer ablations alone."""
    if grid:
        return ["base", *plan.ablation_variants(config, model_sheet, model, "grid")]
    return plan.variants(config, model_sheet, model)


def runs(grid="", kinds=None):
    """Every (model, variant) of a run, or those of some kinds."""
    return [
        (model, variant)
        for model in (ABLATED if grid else MODELS)
        for variant in variants_of(model, grid)
        if kinds is None or Variant.parse(variant).kind in kinds
    ]


def run_files(pairs, path):
    """One file for each (model, variant)."""
    return [f"<results>/{path.format(model=model, variant=variant)}" for model, variant in pairs]


def model_gpus(wildcards):
    return int(model_sheet.loc[wildcards.model, "gpus"])


def growing(amount):
    """Memory or run time that grows with every attempt: a job that was killed for too little gets more."""
    return lambda wildcards, attempt: attempt * amount


def of_model(column):
    return lambda wildcards, attempt: attempt * int(model_sheet.loc[wildcards.model, column])


MODEL_RESOURCES = {"gpu": model_gpus, "mem_mb": of_model("mem_mb"), "runtime": of_model("runtime_min")}


LOADING = ["dtype", "trust_remote_code", "config_override", "system_prompt", "template_arguments", "stop_tokens"]
LOADING += ["thinking_open", "boundary", "thinks", "batch_size"]


def loading(model):
    """What a script reads of a model's row; memory and run time are not among it, so that they rerun nothing."""
    return sheets.record(model_sheet[LOADING], model)


def model_loading(wildcards):
    return loading(wildcards.model)


def checkpoint(model):
    """Where a model's weights are: a folder of the user's own, or one that the workflow makes."""
    row = model_sheet.loc[model]
    if row["source"] == "path":
        # Local: a prefix that an importing workflow sets is for what is made here.
        return local(row["location"])
    return f"<results>/{model}/checkpoint"


def model_files(model):
    """The files of a folder of the user's own: a folder's time stamp does not tell that one was overwritten."""
    row = model_sheet.loc[model]
    if row["source"] != "path":
        return []
    return [local(str(path)) for path in sorted(Path(row["location"]).iterdir()) if path.is_file()]


def model_check(model):
    """The page that says that a model not made here is as it should be."""
    return [f"<results>/{model}/check.md"] if model in CHECKED else []


def prompts_check(wildcards):
    """And that it can read a set of prompts. Never `ancient`: Snakemake forgets what waits for an old file made anew."""
    return [f"<results>/{wildcards.model}/check_{wildcards.prompts}.md"] if wildcards.model in CHECKED else []


def model_inputs(wildcards):
    model = wildcards.model
    return {"checkpoint": checkpoint(model), "files": model_files(model), "checked": model_check(model)}


def guard_inputs(wildcards):
    """The guard's folder and files; nothing for verdicts that it has no part in."""
    if not guarded(wildcards):
        return {"guard": []}
    return {"guard": checkpoint(GUARD), "files": model_files(GUARD), "checked": model_check(GUARD)}


def edit_of(wildcards):
    """The edit of a variant; the base model has none."""
    if wildcards.variant == "base":
        return []
    return f"<results>/{wildcards.model}/variants/{wildcards.variant}/edit.json"


def truth_files(models=MODELS):
    """What is known of models that are made here; no other has such a file."""
    return [f"<results>/{model}/truth.json" for model in [*ORGANISMS, *FINETUNED] if model in models]


def organism_recipe(wildcards):
    # No one looks at a guard while it is trained.
    unread = {"check_every"} if wildcards.model in GUARD_ORGANISMS else set()
    recipe = config["organisms"]["tokenizer"] | RECIPES[wildcards.model]
    return {key: value for key, value in recipe.items() if key not in unread}


def organism_seed(wildcards):
    return RECIPES[wildcards.model]["seed"]


def finetuning_recipe(wildcards):
    unread = {"parent", "seed"}
    return {key: value for key, value in FINETUNED[wildcards.model].items() if key not in unread}


def finetuning_seed(wildcards):
    return FINETUNED[wildcards.model]["seed"]


def finetuned_row(wildcards):
    """What fine-tuning reads of a model's row: how it is spoken to, and how its parent is loaded, but for the dtype."""
    columns = [column for column in LOADING if column not in ("dtype", "thinks", "batch_size")]
    return sheets.record(model_sheet[columns], wildcards.model)


def finetuned_from(wildcards):
    """The model that one is fine-tuned from."""
    parent = model_sheet.loc[wildcards.model, "parent"]
    return {"parent": checkpoint(parent), "files": model_files(parent), "checked": model_check(parent)}


def parent_files(wildcards):
    """Checkpoint and truth of the organism that one is trained from; nothing for one from scratch."""
    parent = model_sheet.loc[wildcards.model, "parent"]
    return {"parent": checkpoint(parent), "parent_truth": f"<results>/{parent}/truth.json"} if parent else {}


def uses(name):
    """Which script a job runs, and the hash of the code that it uses."""
    return {"script": name, "code": code_hash(name)}


# prompts.smk


def templates(wildcards):
    """Jailbreak templates of a dataset's families."""
    families = dataset_sheet.loc[wildcards.dataset, "attacks"]
    return {family: attack_sheet.loc[[family], "template"].tolist() for family in families}


def context(wildcards):
    """The tool context of a dataset with its templates; nothing for chat."""
    name = dataset_sheet.loc[wildcards.dataset, "context"]
    return {name: attack_sheet.loc[[name], "template"].tolist()} if name else {}


def dataset_row(wildcards):
    """What a script reads of a dataset's row: its licence, say, reruns nothing."""
    row = sheets.record(dataset_sheet, wildcards.dataset)
    unread = {"set", "model", "attacks", "context", "licence", "url"}
    if row["source"] != "hub":
        unread |= {"revision", "subset", "hub_split"}
    cells = {column: cell for column, cell in row.items() if column not in unread}
    readers = {READY: TUNED, RECORDED: [row["model"]]}
    return cells | ({"markers": thinking_markers(readers[row["set"]])} if row["set"] in GIVEN else {})


def thinking_markers(models):
    """What those of the sheet put around a thinking."""
    rows = model_sheet[model_sheet.index.isin(models)]
    return sorted({text.strip() for text in [*rows["thinking_open"], *rows["boundary"]]} | {"<think>", "</think>"})


def data_file(wildcards):
    """The user's file that a dataset is read from; the grammar has none."""
    row = dataset_sheet.loc[wildcards.dataset]
    # Local: a prefix that an importing workflow sets is for what is made here.
    return {"file": local(str(Path(config["data_dir"]) / row["location"]))} if row["source"] == "file" else {}


def data_checksum(wildcards):
    return [checksum(file) for file in data_file(wildcards).values()]


def assembled_sets(wildcards):
    """The set of each dataset of a prompt set, and of those before it, which keep what both hold."""
    sets, read = dataset_sheet["set"], {*SETS[: SETS.index(wildcards.prompts) + 1]}
    # Pool and ready-made sets are both trained on, and compared; transcripts are kept from what was learnt before alone.
    shared = {READY: {"pool"}, RECORDED: {"test", "pool", READY}}.get(wildcards.prompts, set())
    return sets[sets.isin(read - shared)].to_dict()


def assembled_datasets(wildcards):
    return [f"<results>/datasets/{name}.parquet" for name in assembled_sets(wildcards)]


# models.smk


def model_source(wildcards):
    return sheets.record(model_sheet[["role", "location", "revision", "trust_remote_code"]], wildcards.model)


def package_source(wildcards):
    return sheets.record(model_sheet[["location", "revision", "file", "sha256"]], wildcards.model)


def gguf_source(wildcards):
    columns = ["source", "location", "revision", "file", "sha256", "licence", "dtype"]
    return sheets.record(model_sheet[columns], wildcards.model)


def gguf_file(wildcards):
    """The file that a model is unpacked from: the user's own, or one of a package."""
    row = model_sheet.loc[wildcards.model]
    return local(row["location"]) if row["source"] == "gguf" else f"<results>/{wildcards.model}/weights.gguf"


def checked_files(wildcards):
    """What of a model is there to be checked; of one on the hub that is fetched."""
    if wildcards.model in CONVERTED:
        return {"checkpoint": checkpoint(wildcards.model)}
    return {"files": model_files(wildcards.model)}


def checked_row(wildcards):
    """What is checked of a model's row: all that is read of it to get and to load the model."""
    columns = ["role", "source", "location", "revision", *(column for column in LOADING if column != "batch_size")]
    return sheets.record(model_sheet[columns], wildcards.model)


# traces.smk


def asked_prompts(wildcards):
    """A prompt set; repaired variants are attacked by what was searched on their own model alone."""
    if wildcards.prompts == ATTACK and wildcards.variant != "base":
        return f"<results>/{wildcards.model}/own_attacks.parquet"
    return f"<results>/prompts/{wildcards.prompts}.parquet"


def continued_traces(wildcards):
    """The traces whose thinking is kept: those of the base model, by some kinds of variants, or what was prefilled."""
    if wildcards.prompts == PREFILL:
        return f"<results>/{wildcards.model}/prefilled.parquet"
    if Variant.parse(wildcards.variant).kind not in CONTINUED:
        return []
    return f"<results>/{wildcards.model}/base/traces/{wildcards.prompts}.parquet"


def guarded(wildcards):
    """Whether the guard reads the traces. Probes and heads go by phrases, transcripts by actions: of those it reads none."""
    return GUARDED and wildcards.get("prompts") not in ("fit", RECORDED)


def judging(wildcards):
    """What decides the verdicts of a job; which judge is believed is decided by the tables."""
    acts = wildcards.get("prompts", "test") in ACTING
    texts = ["phrases", "intentions", *(["actions"] if acts else []), *(["guard"] if guarded(wildcards) else [])]
    return {name: config["judges"][name] for name in texts}


def test_traces(wildcards):
    return expand(
        "<results>/{{model}}/{variant}/traces/test.parquet",
        variant=variants_of(wildcards.model, wildcards.grid),
    )


# heads.smk


def edit_inputs(wildcards):
    """What a variant is made from: a ranking, means that it puts in place of heads, what elimination left, directions, a tuning."""
    variant = Variant.parse(wildcards.variant)
    heads = f"<results>/{wildcards.model}/heads"
    if variant.kind == "steer":
        return {"directions": f"<results>/{wildcards.model}/repairs/directions.safetensors"}
    if variant.ranking is None:
        return {}
    measured = variant.ranking if variant.ranking in RANKINGS else OPERATING
    inputs = {"ranking": f"{heads}/{measured}.parquet"}
    if variant.kind in REPLACEMENTS:
        inputs["means"] = f"{heads}/means.safetensors"
    if variant.kind == "both":
        tuned = replace(variant, kind="tune")
        inputs["tuned"] = f"<results>/{wildcards.model}/variants/{tuned}/edit.json"
    if variant.kind in ELIMINATED:
        inputs["elimination"] = f"<results>/{wildcards.model}/repairs/elimination.parquet"
    return inputs


def matched_fraction():
    """The largest share of heads that a matched control stands for."""
    blocks = (config["ablation"], config["grid"])
    shares = [block["rankings"].get("matched", []) for block in blocks]
    return max([config["claims"]["fraction"], *sum(shares, [])])


def drawn(wildcards):
    """What the heads of a control depend on besides the ranking; other variants on nothing."""
    ranking = Variant.parse(wildcards.variant).ranking or ""
    matched = {"fraction": matched_fraction()} if ranking.startswith("matched") else {}
    return matched | ({"seed": config["seed"]} if ranking.startswith(DRAWN) else {})


def everywhere_edits(wildcards):
    """Edits of a model's variants that are models of their own; tuned ones only where repairs are compared."""
    kinds = set(EVERYWHERE) & {*ON_HEADS, "steer", *(["tune", "both"] if wildcards.model in REPAIRED else [])}
    own = [run for run in runs(wildcards.grid, kinds) if run[0] == wildcards.model]
    return run_files(own, "{model}/variants/{variant}/edit.json")


def ranking_probe(wildcards):
    """The probe that heads are ranked by."""
    reader = model_sheet.loc[wildcards.model, "probes"]
    return f"<results>/{reader}/probes/{config['heads']['probe']}.safetensors"


# probes.smk


def reading_probes(wildcards):
    """The probes that read a model: its own, or those of another."""
    reader = model_sheet.loc[wildcards.model, "probes"]
    return [f"<results>/{reader}/probes/{probe}.safetensors" for probe in PROBES]


# tuning.smk


def fit_inputs(wildcards):
    """What the base model did with the prompts of set fit."""
    base = f"<results>/{wildcards.model}/base"
    return {
        "fit_prompts": "<results>/prompts/fit.parquet",
        "fit_traces": f"{base}/traces/fit.parquet",
        "fit_verdicts": f"{base}/verdicts/fit.parquet",
    }


def chosen_from(wildcards):
    """What has the training examples: the pool with the model's own traces, or a ready-made set, which needs none."""
    if wildcards.selector in READY_MADE:
        return {"prompts": f"<results>/prompts/{READY}.parquet"}
    traces = f"<results>/{wildcards.model}/base/traces/pool.parquet"
    return {"prompts": "<results>/prompts/pool.parquet", "traces": traces}


def scored_by(wildcards):
    """What selectors go by, some of them by gradients too; of a ready-made set nothing is scored."""
    if wildcards.selector in READY_MADE:
        return {}
    base = f"<results>/{wildcards.model}/base"
    scores = {"verdicts": f"{base}/verdicts/pool.parquet", "cliffs": f"{base}/cliffs/pool.parquet"}
    gradients = {"gradients": f"<results>/{wildcards.model}/gradients.parquet"}
    return scores | (gradients if wildcards.selector in DIFFERENTIATED else {})


# tables.smk


def csv_files(name, prefix="", caption=None, category=None, label=None):
    """The files of a table, with its place in the report if it has one; several from one job have a prefix each."""
    suffixes = {"csv": "csv", "markdown": "md", "sidecar": "json"}
    files = {f"{prefix}{part}": f"<results>/{name}.{suffix}" for part, suffix in suffixes.items()}
    if caption:
        place = {"caption": f"../report/{caption}.rst", "category": category, "labels": {"table": label}}
        files[f"{prefix}csv"] = report(files[f"{prefix}csv"], **place)
    return files


def table(name, label, prefix=""):
    """The files of a table that the targets tables and grid ask for."""
    TABLES.append(f"<results>/tables/{name}.csv")
    return csv_files(f"tables/{name}", prefix, f"table_{name.removeprefix('{grid}')}", "2. Tables", label)


def outcome_traces(wildcards):
    return run_files(runs(wildcards.grid), "{model}/{variant}/traces/test.parquet")


def outcome_verdicts(wildcards):
    models = dict.fromkeys(model for model, _ in runs(wildcards.grid))
    return [f"<results>/{model}/{wildcards.grid}verdicts.parquet" for model in models]


def head_edits(wildcards):
    return run_files(runs(wildcards.grid, ON_HEADS), "{model}/variants/{variant}/edit.json")


def repair_edits(wildcards):
    """The edit of every variant that repairs are compared by."""
    own = [run for run in runs(kinds=DOSES) if run[0] in REPAIRED]
    return run_files(own, "{model}/variants/{variant}/edit.json")


def perplexities(wildcards):
    measured = [model for model in ABLATED if model in FIRST + REPAIRED]
    return [f"<results>/{model}/{wildcards.grid}perplexity.parquet" for model in measured]


def harness_edits(wildcards):
    """What the claims are about: the operating ablation, and the first tuning by cliff."""
    points = config["claims"]
    asked = [f"ablate-{OPERATING}-{format_number(points['fraction'])}"]
    asked += [f"tune-cliff-{format_number(points['budget'])}-s{config['selection']['seeds'][0]}"]
    own = variants_of(wildcards.model)
    return [f"<results>/{wildcards.model}/variants/{name}/edit.json" for name in asked if name in own]


def viewed():
    """What the trace viewer shows: the first model of each family, and the operating ablation of those that have one."""
    ablation = f"ablate-{OPERATING}-{format_number(config['claims']['fraction'])}"
    return [
        (model, variant)
        for model in FIRST
        if model in PROBED
        for variant in ("base", ablation)
        if variant in variants_of(model)
    ]


def readable_datasets():
    """Those whose texts the trace viewer shows."""
    open_to_all = config["viewer"]["show_text"]
    return [name for name in dataset_sheet.index if open_to_all or dataset_sheet.loc[name, "source"] == "grammar"]


def repair_costs():
    """What it took to find repairs; a direction is looked for only if it is to be added."""
    found = ["elimination", *(["direction"] if config["repairs"]["steer"] else [])]
    return expand("<results>/{model}/repairs/{found}_costs.parquet", model=REPAIRED, found=found)


def kept_cliffs(wildcards):
    kept = [run for run in runs(wildcards.grid, ("base", "keep")) if run[0] in ABLATED]
    return run_files(kept, "{model}/{variant}/cliffs/test.parquet")


def recorded_datasets(wildcards):
    """The datasets that a model wrote."""
    return expand("<results>/datasets/{name}.parquet", name=TRANSCRIPTS[wildcards.model])


def recorded_verdicts(wildcards):
    if not TRANSCRIPTS:
        raise WorkflowError(f"{config['sheets']['datasets']}: no dataset has set recorded; add a row with transcripts")
    return expand("<results>/{model}/base/verdicts/recorded.parquet", model=TRANSCRIPTS)


# transfer.smk


def attacked_variants(model):
    """Sources are attacked as they are and repaired; of other targets it is asked what carries over to them."""
    repaired = variants_of(model) if model in SOURCES else ["base"]
    return [variant for variant in repaired if Variant.parse(variant).kind in ("base", "ablate", "tune")]


def attacked_traces(wildcards):
    """The traces of a model and its variants on a prompt set of attacks."""
    runs = [(wildcards.model, variant) for variant in attacked_variants(wildcards.model)]
    return run_files(runs, f"{{model}}/{{variant}}/traces/{wildcards.prompts}.parquet")


def all_attacked_traces(wildcards):
    runs = [(model, variant) for model in ATTACKED for variant in attacked_variants(model)]
    return run_files(runs, f"{{model}}/{{variant}}/traces/{wildcards.prompts}.parquet")


def searched_datasets(wildcards):
    """The datasets of every source, each in the order of the objectives."""
    if not SOURCES:
        raise WorkflowError(
            "config: transfer.sources is empty, so there is nothing to search; name models, or add --configfile "
            "config/transfer.yaml"
        )
    path = "<results>/datasets/attack.{source}.{objective}.parquet"
    return expand(path, source=SOURCES, objective=OBJECTIVES)


def oldest_ancestor(model):
    """The model from random weights that one comes from, or the model itself."""
    while parent := model_sheet.loc[model, "parent"]:
        model = parent
    return model


# figures.smk


# Sections of the paper, as the report orders figures.
SECTION_3 = "3. The refusal cliff (section 3)"
SECTION_4 = "4. Heads (section 4)"
SECTION_5 = "5. Selection and tuning (section 5)"
APPENDIX = "6. Appendix"


LETTERS = {section: iter("abcdefghijklmnop") for section in (SECTION_3, SECTION_4, SECTION_5, APPENDIX)}


def figure(name, label, section):
    """The files of a figure, with its place in the report, which sorts by label; a job may draw several."""
    bare = name.removeprefix("{grid}")
    files = {suffix: f"<results>/figures/{name}.{suffix}" for suffix in ("svg", "pdf")}
    FIGURES.extend(files.values())
    place = {"caption": f"../report/figure_{bare}.rst", "category": section}
    place["labels"] = {"figure": f"{section[0]}{next(LETTERS[section])} {label}"}
    return {f"{bare}_svg": report(files["svg"], **place), f"{bare}_pdf": files["pdf"]}


# report.smk


def family_of():
    """The family of each subject: the row of the model sheet that describes it."""
    return model_sheet.loc[MODELS, "family"].to_dict()


def print_claims():
    """Show what held and where all of it is, if this run decided claims."""
    claims = Path(workflow.pathvars.apply("<results>/claims.csv"))
    if claims.is_file() and claims.stat().st_mtime >= STARTED:
        from refusal_cliff.verdict_page import screen

        by_seed = claims.with_name("claims_by_seed.csv")
        print(screen(pd.read_csv(claims), pd.read_csv(by_seed), config["cliffs"]["probe"]))
        print(
            f"\nWhat held, and where: {claims.with_name('verdicts.html')}\nEverything: {claims.with_name('report.html')}"
        )
