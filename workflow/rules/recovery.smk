# Do rankings find circuits that were planted? Many organisms, by seed, depth and size of the circuit: target recovery.


rule measure_planting:
    input:
        unpack(parent_files),
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        checkpoint="<results>/{model}/checkpoint",
        truth="<results>/{model}/truth.json",
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
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        phrases=config["judges"]["phrases"],
        generation=SAMPLING,
        seed=organism_seed,
        code=code_hash("measure_planting"),
    script:
        "../scripts/measure_planting.py"
