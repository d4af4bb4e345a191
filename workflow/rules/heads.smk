rule rank_heads:
    input:
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        checkpoint=checkpoint_of,
        probe=f"<results>/{{model}}/probes/{config['heads']['probe']}.safetensors",
    output:
        table="<results>/{model}/heads/{ranking}.parquet",
        effects="<results>/{model}/heads/{ranking}_effects.safetensors",
        sidecars=multiext("<results>/{model}/heads/{ranking}", ".json", "_effects.json"),
    log:
        "<logs>/rank_heads/{model}.{ranking}.log",
    benchmark:
        "<benchmarks>/rank_heads/{model}.{ranking}.jsonl"
    wildcard_constraints:
        ranking="direct|causal|gradient",
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=model_gpus,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        model=model_row,
        heads=config["heads"],
        seed=config["seed"],
        code=code_hash("rank_heads"),
    script:
        "../scripts/rank_heads.py"


rule average_heads:
    input:
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        verdicts="<results>/{model}/base/verdicts/fit.parquet",
        checkpoint=checkpoint_of,
    output:
        means="<results>/{model}/heads/means.safetensors",
        sidecar="<results>/{model}/heads/means.json",
    log:
        "<logs>/average_heads/{model}.log",
    benchmark:
        "<benchmarks>/average_heads/{model}.jsonl"
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=model_gpus,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        model=model_row,
        heads=config["heads"],
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("average_heads"),
    script:
        "../scripts/average_heads.py"


rule rank_controls:
    input:
        unpack(control_inputs),
    output:
        table="<results>/{model}/heads/{ranking}.parquet",
        sidecar="<results>/{model}/heads/{ranking}.json",
    log:
        "<logs>/rank_controls/{model}.{ranking}.log",
    benchmark:
        "<benchmarks>/rank_controls/{model}.{ranking}.jsonl"
    wildcard_constraints:
        ranking=r"promoting|(random|matched)\d+",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=500,
        runtime=10,
    params:
        seed=random_seed,
        fraction=matched_fraction(),
        code=code_hash("rank_controls"),
    script:
        "../scripts/rank_controls.py"
