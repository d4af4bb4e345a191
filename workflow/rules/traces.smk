rule generate_traces:
    input:
        unpack(continued_traces),
        prompts="<results>/prompts/{prompts}.parquet",
        checkpoint=checkpoint_of,
        edit="<results>/{model}/variants/{variant}/edit.json",
    output:
        table="<results>/{model}/{variant}/traces/{prompts}.parquet",
        sidecar="<results>/{model}/{variant}/traces/{prompts}.json",
    log:
        "<logs>/generate_traces/{model}.{variant}.{prompts}.log",
    benchmark:
        "<benchmarks>/generate_traces/{model}.{variant}.{prompts}.jsonl"
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=model_gpus,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        model=model_row,
        generation=config["generation"],
        seed=config["seed"],
        code=code_hash("generate_traces"),
    script:
        "../scripts/generate_traces.py"
