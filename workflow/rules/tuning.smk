rule tune_adapter:
    input:
        prompts="<results>/prompts/pool.parquet",
        traces="<results>/{model}/base/traces/pool.parquet",
        selection="<results>/{model}/selections/{selector}-{budget}-s{seed}.parquet",
        checkpoint=checkpoint_of,
    output:
        adapter=directory(
            "<results>/{model}/variants/tune-{selector}-{budget}-s{seed}/adapter"
        ),
        edit="<results>/{model}/variants/tune-{selector}-{budget}-s{seed}/edit.json",
    log:
        "<logs>/tune_adapter/{model}.{selector}-{budget}-s{seed}.log",
    benchmark:
        "<benchmarks>/tune_adapter/{model}.{selector}-{budget}-s{seed}.jsonl"
    conda:
        "../../envs/training.yaml"
    threads: 1
    resources:
        gpu=model_gpus,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        model=model_row,
        recipe=config["tuning"],
        seed=selection_seed,
        code=code_hash("tuning", "models"),
    script:
        "../scripts/tune_adapter.py"
