# Examples chosen from the safety-training pool, and adapters tuned on them.


rule select_examples:
    input:
        traces="<results>/{model}/base/traces/pool.parquet",
        verdicts="<results>/{model}/base/verdicts/pool.parquet",
        cliffs="<results>/{model}/base/cliffs/pool.parquet",
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


rule tune_adapter:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/pool.parquet",
        traces="<results>/{model}/base/traces/pool.parquet",
        selection="<results>/{model}/selections/tune-{selector}-{budget}-s{seed}.parquet",
    output:
        adapter=directory("<results>/{model}/variants/tune-{selector}-{budget}-s{seed}/adapter"),
        edit="<results>/{model}/variants/tune-{selector}-{budget}-s{seed}/edit.json",
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
        seed=config["seed"],
        code=code_hash("tune_adapter"),
    script:
        "../scripts/tune_adapter.py"
