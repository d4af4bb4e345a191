rule measure_perplexity:
    input:
        prompts="<results>/prompts/{prompts}.parquet",
        traces="<results>/{model}/base/traces/{prompts}.parquet",
        checkpoint=checkpoint_of,
        edit="<results>/{model}/variants/{variant}/edit.json",
    output:
        table="<results>/{model}/{variant}/perplexity/{prompts}.parquet",
        sidecar="<results>/{model}/{variant}/perplexity/{prompts}.json",
    log:
        "<logs>/measure_perplexity/{model}.{variant}.{prompts}.log",
    benchmark:
        "<benchmarks>/measure_perplexity/{model}.{variant}.{prompts}.jsonl"
    wildcard_constraints:
        variant="base|(ablate|scale|mean|released|tune)-[^/]+",
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=model_gpus,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        model=model_row,
        code=code_hash("measure_perplexity"),
    script:
        "../scripts/measure_perplexity.py"
