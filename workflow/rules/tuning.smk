# Examples chosen from the safety-training pool, and adapters tuned on them.


rule select_examples:
    input:
        unpack(chosen_from),
        unpack(scored_by),
    output:
        table="<results>/{model}/selections/tune-{selector}-{budget}-s{seed}.parquet",
        sidecar="<results>/{model}/selections/tune-{selector}-{budget}-s{seed}.json",
    log:
        "<logs>/select_examples/{model}.{selector}-{budget}-s{seed}.log",
    benchmark:
        "<benchmarks>/select_examples/{model}.{selector}-{budget}-s{seed}.jsonl"
    conda:
        "../../envs/analysis.yaml"
    params:
        seed=config["seed"],
        probe=config["cliffs"]["probe"],
        refusal_judge=config["judges"]["refusal"],
        code=code_hash("select_examples"),
    script:
        "../scripts/select_examples.py"


# What selectors need that look at the model itself.
rule measure_gradients:
    input:
        unpack(model_inputs),
        unpack(fit_inputs),
        prompts="<results>/prompts/pool.parquet",
        traces="<results>/{model}/base/traces/pool.parquet",
    output:
        table="<results>/{model}/gradients.parquet",
        sidecar="<results>/{model}/gradients.json",
    log:
        "<logs>/measure_gradients/{model}.log",
    benchmark:
        "<benchmarks>/measure_gradients/{model}.jsonl"
    conda:
        "../../envs/training.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        refusals=config["tuning"]["refusals"],
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("measure_gradients"),
    script:
        "../scripts/measure_gradients.py"


# One training; what it is after fewer steps is kept beside what it is in the end.
rule tune_adapter:
    input:
        unpack(model_inputs),
        unpack(fit_inputs),
        unpack(chosen_from),
        selection="<results>/{model}/selections/tune-{selector}-{budget}-s{seed}.parquet",
    output:
        adapters=directory([f"{variant}/adapter" for variant in TRAININGS]),
        edits=[f"{variant}/edit.json" for variant in TRAININGS],
    log:
        "<logs>/tune_adapter/{model}.{selector}-{budget}-s{seed}.log",
    benchmark:
        "<benchmarks>/tune_adapter/{model}.{selector}-{budget}-s{seed}.jsonl"
    conda:
        "../../envs/training.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        recipe=config["tuning"],
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("tune_adapter"),
    script:
        "../scripts/tune_adapter.py"


# Of kinds that are a change of weights which every architecture can hold; asked for by its name alone.
rule merge_variant:
    input:
        unpack(model_inputs),
        edit="<results>/{model}/variants/{variant}/edit.json",
    output:
        checkpoint=directory("<results>/{model}/variants/{variant}/checkpoint"),
    log:
        "<logs>/merge_variant/{model}.{variant}.log",
    benchmark:
        "<benchmarks>/merge_variant/{model}.{variant}.jsonl"
    wildcard_constraints:
        variant=rf"({'|'.join(MERGED)})-[^/]+",
    conda:
        "../../envs/training.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        code=code_hash("merge_variant"),
    script:
        "../scripts/merge_variant.py"
