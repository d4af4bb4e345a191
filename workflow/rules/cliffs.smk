rule score_cliffs:
    input:
        prompts="<results>/prompts/{prompts}.parquet",
        traces="<results>/{model}/{variant}/traces/{prompts}.parquet",
        checkpoint=checkpoint_of,
        edit="<results>/{model}/variants/{variant}/edit.json",
        probes=expand("<results>/{{model}}/probes/{probe}.safetensors", probe=PROBES),
    output:
        table="<results>/{model}/{variant}/cliffs/{prompts}.parquet",
        sidecar="<results>/{model}/{variant}/cliffs/{prompts}.json",
    log:
        "<logs>/score_cliffs/{model}.{variant}.{prompts}.log",
    benchmark:
        "<benchmarks>/score_cliffs/{model}.{variant}.{prompts}.jsonl"
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=model_gpus,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        model=model_row,
        cliffs=config["cliffs"],
        code=code_hash("score_cliffs"),
    script:
        "../scripts/score_cliffs.py"
