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


def loading(model):
    """What a script reads of a model's row; memory and run time are not among it, so that they rerun nothing."""
    columns = ["dtype", "trust_remote_code", "thinking_open", "boundary", "batch_size"]
    return model_sheet.loc[[model], columns].astype(object).to_dict("records")[0]


def model_loading(wildcards):
    return loading(wildcards.model)


def checkpoint(model):
    """Where a model's weights are: a folder of the user's own, or one that the workflow makes."""
    row = model_sheet.loc[model]
    if row["source"] == "path":
        # Local: a prefix that an importing workflow sets is for what is made here.
        return local(row["location"])
    return f"<results>/{model}/checkpoint"


def checkpoint_of(wildcards):
    return checkpoint(wildcards.model)


def edit_of(wildcards):
    """The edit of a variant; the base model has none."""
    if wildcards.variant == "base":
        return []
    return f"<results>/{wildcards.model}/variants/{wildcards.variant}/edit.json"


def truth_files():
    """Ground truth of the organisms; no other model has such a file."""
    return [f"<results>/{model}/truth.json" for model in ORGANISMS if model in MODELS]


def organism_recipe(wildcards):
    return config["organisms"]["tokenizer"] | RECIPES[wildcards.model]


def organism_seed(wildcards):
    return RECIPES[wildcards.model]["seed"]


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


def dataset_row(wildcards):
    return sheets.record(dataset_sheet, wildcards.dataset)


def assembled_sets(wildcards):
    """The set of each dataset of a prompt set, and of those before it, which keep what both hold."""
    sets = dataset_sheet["set"]
    return sets[sets.isin(SETS[: SETS.index(wildcards.prompts) + 1])].to_dict()


def assembled_datasets(wildcards):
    return [f"<results>/datasets/{name}.parquet" for name in assembled_sets(wildcards)]


# models.smk


def model_source(wildcards):
    columns = ["role", "location", "revision", "trust_remote_code"]
    row = model_sheet.loc[[wildcards.model], columns].astype(object)
    return {"model": wildcards.model} | row.to_dict("records")[0]


# traces.smk


def continued_traces(wildcards):
    """The base traces whose thinking a variant keeps, if it is of a kind that does."""
    if Variant.parse(wildcards.variant).kind not in CONTINUED:
        return []
    return f"<results>/{wildcards.model}/base/traces/{wildcards.prompts}.parquet"


def guarded(wildcards):
    """Whether the guard reads the traces. Probes and heads go by phrases, so of set fit it reads none."""
    return GUARDED and wildcards.get("prompts") != "fit"


def test_traces(wildcards):
    return expand(
        "<results>/{{model}}/{variant}/traces/test.parquet",
        variant=variants_of(wildcards.model, wildcards.grid),
    )


# heads.smk


def edit_inputs(wildcards):
    """The ranking that a variant takes its heads from, and the means that it puts in their place."""
    variant = Variant.parse(wildcards.variant)
    heads = f"<results>/{wildcards.model}/heads"
    if variant.ranking is None:
        return {}
    measured = variant.ranking if variant.ranking in RANKINGS else CONTROLLED
    inputs = {"ranking": f"{heads}/{measured}.parquet"}
    if variant.kind in REPLACEMENTS:
        inputs["means"] = f"{heads}/means.safetensors"
    return inputs


def matched_fraction():
    """The largest share of heads that a matched control stands for."""
    blocks = (config["ablation"], config["grid"])
    shares = [block["rankings"].get("matched", []) for block in blocks]
    return max([config["claims"]["fraction"], *sum(shares, [])])


def everywhere_edits(wildcards):
    """Edits of a model's variants that are models of their own; tuned ones are measured by their rates alone."""
    kinds = set(EVERYWHERE) & set(ON_HEADS)
    own = [run for run in runs(wildcards.grid, kinds) if run[0] == wildcards.model]
    return run_files(own, "{model}/variants/{variant}/edit.json")


# tables.smk


def table(name, label, prefix=""):
    """The files of a table, with its place in the report; where several come from one job, each has a prefix."""
    TABLES.append(f"<results>/tables/{name}.csv")
    return {
        f"{prefix}csv": report(
            TABLES[-1],
            caption=f"../report/table_{name.removeprefix('{grid}')}.rst",
            category="2. Tables",
            labels={"table": label},
        ),
        f"{prefix}markdown": f"<results>/tables/{name}.md",
    }


def outcome_traces(wildcards):
    return run_files(runs(wildcards.grid), "{model}/{variant}/traces/test.parquet")


def outcome_verdicts(wildcards):
    models = dict.fromkeys(model for model, _ in runs(wildcards.grid))
    return [f"<results>/{model}/{wildcards.grid}verdicts.parquet" for model in models]


def head_edits(wildcards):
    return run_files(runs(wildcards.grid, ON_HEADS), "{model}/variants/{variant}/edit.json")


def perplexities(wildcards):
    return [f"<results>/{model}/{wildcards.grid}perplexity.parquet" for model in ABLATED if model in FIRST]


def kept_cliffs(wildcards):
    kept = [run for run in runs(wildcards.grid, ("base", "keep")) if run[0] in ABLATED]
    return run_files(kept, "{model}/{variant}/cliffs/test.parquet")


# figures.smk


def figure(name, label):
    """The files of a figure, with its place in the report."""
    FIGURES.extend(f"<results>/figures/{name}.{suffix}" for suffix in ("svg", "pdf"))
    return {
        "svg": report(
            f"<results>/figures/{name}.svg",
            caption=f"../report/figure_{name.removeprefix('{grid}')}.rst",
            category="3. Figures",
            labels={"figure": label},
        ),
        "pdf": f"<results>/figures/{name}.pdf",
    }


# report.smk


def family_of():
    """The family of each subject: the row of the model sheet that describes it."""
    return model_sheet.loc[MODELS, "family"].to_dict()


def print_claims():
    """Show the claims that matter and where all of them are, if this run decided them."""
    claims = Path(workflow.pathvars.apply("<results>/claims.csv"))
    if claims.is_file() and claims.stat().st_mtime >= STARTED:
        from refusal_cliff.claims import format_for_console

        by_seed = claims.with_name("claims_by_seed.csv")
        print(format_for_console(pd.read_csv(claims), pd.read_csv(by_seed), config["cliffs"]["probe"]))
        print(f"\nAll claims: {claims}\nReport: {claims.with_name('report.html')}")
