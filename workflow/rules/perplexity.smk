rule measure_perplexity:
    input:
        prompts="<results>/prompts/test.parquet",
        traces="<results>/{model}/base/traces/test.parquet",
        checkpoint=checkpoint_of,
        edits=perplexity_edits,
    output:
        table="<results>/{model}/{grid}perplexity.parquet",
        sidecar="<results>/{model}/{grid}perplexity.json",
    log:
        "<logs>/measure_perplexity/{model}.{grid}all.log",
    benchmark:
        "<benchmarks>/measure_perplexity/{model}.{grid}all.jsonl"
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=model_gpus,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        model=model_row,
        variants=perplexity_variants,
        code=code_hash("measure_perplexity"),
    script:
        "../scripts/measure_perplexity.py"
