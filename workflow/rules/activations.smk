rule extract_activations:
    input:
        prompts="<results>/prompts/{prompts}.parquet",
        traces="<results>/{model}/base/traces/{prompts}.parquet",
        checkpoint=checkpoint_of,
    output:
        resid="<results>/{model}/activations/{prompts}.safetensors",
        rows="<results>/{model}/activations/{prompts}_rows.parquet",
        sidecars=multiext(
            "<results>/{model}/activations/{prompts}", ".json", "_rows.json"
        ),
    log:
        "<logs>/extract_activations/{model}.{prompts}.log",
    benchmark:
        "<benchmarks>/extract_activations/{model}.{prompts}.jsonl"
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=model_gpus,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        model=model_row,
        thinking_positions=config["activations"]["thinking_positions"],
        code=code_hash("extract_activations"),
    script:
        "../scripts/extract_activations.py"
