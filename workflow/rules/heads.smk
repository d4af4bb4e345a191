rule rank_direct:
    input:
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        checkpoint=checkpoint_of,
        probe=f"<results>/{{model}}/probes/{config['heads']['probe']}.safetensors",
    output:
        table="<results>/{model}/heads/direct.parquet",
        sidecar="<results>/{model}/heads/direct.json",
    log:
        "<logs>/rank_direct/{model}.log",
    benchmark:
        "<benchmarks>/rank_direct/{model}.jsonl"
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
        code=code_hash("rank_direct"),
    script:
        "../scripts/rank_direct.py"


rule rank_causal:
    input:
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        checkpoint=checkpoint_of,
        probe=f"<results>/{{model}}/probes/{config['heads']['probe']}.safetensors",
    output:
        table="<results>/{model}/heads/causal.parquet",
        sidecar="<results>/{model}/heads/causal.json",
    log:
        "<logs>/rank_causal/{model}.log",
    benchmark:
        "<benchmarks>/rank_causal/{model}.jsonl"
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
        code=code_hash("rank_causal"),
    script:
        "../scripts/rank_causal.py"


rule rank_controls:
    input:
        causal="<results>/{model}/heads/causal.parquet",
    output:
        table="<results>/{model}/heads/{ranking}.parquet",
        sidecar="<results>/{model}/heads/{ranking}.json",
    log:
        "<logs>/rank_controls/{model}.{ranking}.log",
    benchmark:
        "<benchmarks>/rank_controls/{model}.{ranking}.jsonl"
    wildcard_constraints:
        ranking=r"promoting|random\d+",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=500,
        runtime=10,
    params:
        seed=random_seed,
        code=code_hash("rank_controls"),
    script:
        "../scripts/rank_controls.py"
