# One target per stage: `snakemake --cores 2 heads` stops after the head rankings.

TABLES = [
    "ablation",
    "selection",
    "rates",
    "comparisons",
    "judges",
    "heads",
    "head_agreement",
    "head_stability",
    "sparsity",
    "attention",
    "cliffs",
    "cliff_differences",
    "cliff_refits",
    "cliff_length",
    "kept_thinking",
    "monitors",
    "probes",
    "calibration",
]
if config["as_released"]:
    TABLES.append("as_released")
FIGURES = [
    "curves",
    "family_curves",
    "layers",
    "heads",
    "ablation",
    "interventions",
    "selection",
    "tradeoffs",
    "head_agreement",
    "head_intervals",
    "attention",
    "cliffs",
    "cliff_length",
    "kept_thinking",
    "monitors",
    "probes",
    "calibration",
]


rule prompts:
    input:
        expand("<results>/prompts/{prompts}.parquet", prompts=PROMPT_SETS),


rule organisms:
    input:
        expand("<results>/{model}/checkpoint", model=ORGANISMS),


rule traces:
    input:
        expand(
            "<results>/{model}/base/traces/{prompts}.parquet",
            model=MODELS,
            prompts=["fit", "test"],
        ),


rule verdicts:
    input:
        expand(
            "<results>/{model}/base/verdicts/{prompts}.parquet",
            model=MODELS,
            prompts=["fit", "test"],
        ),


rule activations:
    input:
        expand("<results>/{model}/activations/fit.safetensors", model=MODELS),


rule probes:
    input:
        expand("<results>/{model}/probes.parquet", model=MODELS),


rule cliffs:
    input:
        expand("<results>/{model}/base/cliffs/test.parquet", model=MODELS),


rule heads:
    input:
        expand(
            "<results>/{model}/heads/{ranking}.parquet",
            model=MODELS,
            ranking=RANKINGS,
        ),


rule ablations:
    input:
        run_files(ABLATION_RUNS, "{model}/{variant}/verdicts/test.parquet"),


rule selections:
    input:
        [
            f"<results>/{model}/selections/{variant.removeprefix('tune-')}.parquet"
            for model in TUNED
            for variant in TUNINGS
        ],


rule tunings:
    input:
        expand(
            "<results>/{model}/{variant}/verdicts/test.parquet",
            model=TUNED,
            variant=TUNINGS,
        ),


rule tables:
    input:
        [f"<results>/tables/{table}.csv" for table in TABLES],


rule figures:
    input:
        [
            f"<results>/figures/{figure}.{suffix}"
            for figure in FIGURES
            for suffix in ("svg", "pdf")
        ],


rule claims:
    input:
        "<results>/claims.csv",


rule grid:
    input:
        "<results>/tables/grid_ablation.csv",
        "<results>/tables/grid_comparisons.csv",
        "<results>/tables/grid_kept_thinking.csv",
        expand(
            "<results>/figures/grid_{figure}.{suffix}",
            figure=["ablation", "interventions", "kept_thinking"],
            suffix=["svg", "pdf"],
        ),


rule recovery:
    input:
        "<results>/tables/recovery.csv",
