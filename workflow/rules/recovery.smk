# Do rankings find circuits that were planted? Many organisms, by seed, depth and size of the circuit: target recovery.


rule measure_planting:
    input:
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        checkpoint="<results>/{model}/checkpoint",
        truth="<results>/{model}/truth.json",
        parent=parent_checkpoint,
    output:
        table="<results>/{model}/planting.parquet",
        sidecar="<results>/{model}/planting.json",
    log:
        "<logs>/measure_planting/{model}.log",
    benchmark:
        "<benchmarks>/measure_planting/{model}.jsonl"
    wildcard_constraints:
        model=one_of(RECOVERY.index),
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=model_gpus,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        model=model_row,
        phrases=config["judges"]["phrases"],
        generation=config["generation"],
        seed=organism_seed,
        code=code_hash("measure_planting"),
    script:
        "../scripts/measure_planting.py"


rule tabulate_recovery:
    input:
        prompts="<results>/prompts/fit.parquet",
        truths=expand("<results>/{model}/truth.json", model=RECOVERY.index),
        verdicts=expand(
            "<results>/{model}/base/verdicts/fit.parquet", model=RECOVERY.index
        ),
        plantings=expand("<results>/{model}/planting.parquet", model=RECOVERY.index),
        direct=expand("<results>/{model}/heads/direct.parquet", model=RECOVERY.index),
        causal=expand("<results>/{model}/heads/causal.parquet", model=RECOVERY.index),
        gradient=expand(
            "<results>/{model}/heads/gradient.parquet", model=RECOVERY.index
        ),
    output:
        csv="<results>/tables/recovery.csv",
        markdown="<results>/tables/recovery.md",
        summary_csv="<results>/tables/recovery_summary.csv",
        summary_markdown="<results>/tables/recovery_summary.md",
        pooled_csv="<results>/tables/recovery_pooled.csv",
        pooled_markdown="<results>/tables/recovery_pooled.md",
        heads_csv="<results>/tables/recovery_heads.csv",
        heads_markdown="<results>/tables/recovery_heads.md",
        plantings_csv="<results>/tables/recovery_plantings.csv",
        plantings_markdown="<results>/tables/recovery_plantings.md",
    log:
        "<logs>/tabulate_recovery/all.log",
    benchmark:
        "<benchmarks>/tabulate_recovery/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        organisms=RECOVERY.reset_index().to_dict("records"),
        rankings=["direct", "causal", "gradient"],
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("tabulate_recovery"),
    script:
        "../scripts/tabulate_recovery.py"
