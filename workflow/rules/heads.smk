# Which heads write for or against refusal at the boundary, how far the rankings agree, and what the heads look at.

HEAD_RUNS = [(model, ranking) for model in MODELS for ranking in RANKINGS]


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


rule tabulate_heads:
    input:
        tables=[
            f"<results>/{model}/heads/{ranking}.parquet"
            for model, ranking in HEAD_RUNS
        ],
        effects=[
            f"<results>/{model}/heads/{ranking}_effects.safetensors"
            for model, ranking in HEAD_RUNS
        ],
        truths=truth_files(),
    output:
        csv=report(
            "<results>/tables/heads.csv",
            caption="../report/table_heads.rst",
            category="2. Tables",
            labels={"table": "Every head"},
        ),
        markdown="<results>/tables/heads.md",
        agreement_csv=report(
            "<results>/tables/head_agreement.csv",
            caption="../report/table_head_agreement.rst",
            category="2. Tables",
            labels={"table": "Agreement of the head rankings"},
        ),
        agreement_markdown="<results>/tables/head_agreement.md",
        stability_csv=report(
            "<results>/tables/head_stability.csv",
            caption="../report/table_head_stability.rst",
            category="2. Tables",
            labels={"table": "Stability of the head rankings"},
        ),
        stability_markdown="<results>/tables/head_stability.md",
    log:
        "<logs>/tabulate_heads/all.log",
    benchmark:
        "<benchmarks>/tabulate_heads/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        runs=HEAD_RUNS,
        fraction=config["claims"]["fraction"],
        seed=config["seed"],
        code=code_hash("tabulate_heads"),
    script:
        "../scripts/tabulate_heads.py"


rule tabulate_sparsity:
    input:
        outcomes="<results>/outcomes.parquet",
        effects=[
            f"<results>/{model}/heads/{ranking}_effects.safetensors"
            for model, ranking in HEAD_RUNS
        ],
    output:
        csv=report(
            "<results>/tables/sparsity.csv",
            caption="../report/table_sparsity.rst",
            category="2. Tables",
            labels={"table": "Is the circuit sparse?"},
        ),
        markdown="<results>/tables/sparsity.md",
    log:
        "<logs>/tabulate_sparsity/all.log",
    benchmark:
        "<benchmarks>/tabulate_sparsity/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        runs=HEAD_RUNS,
        fraction=config["claims"]["fraction"],
        seed=config["seed"],
        code=code_hash("tabulate_sparsity"),
    script:
        "../scripts/tabulate_sparsity.py"


rule measure_attention:
    input:
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        checkpoint=checkpoint_of,
    output:
        table="<results>/{model}/attention.parquet",
        sidecar="<results>/{model}/attention.json",
    log:
        "<logs>/measure_attention/{model}.log",
    benchmark:
        "<benchmarks>/measure_attention/{model}.jsonl"
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
        intentions=config["judges"]["intentions"],
        seed=config["seed"],
        code=code_hash("measure_attention"),
    script:
        "../scripts/measure_attention.py"


rule tabulate_attention:
    input:
        attention=expand("<results>/{model}/attention.parquet", model=MODELS),
        causal=expand("<results>/{model}/heads/causal.parquet", model=MODELS),
    output:
        csv=report(
            "<results>/tables/attention.csv",
            caption="../report/table_attention.rst",
            category="2. Tables",
            labels={"table": "What heads attend to"},
        ),
        markdown="<results>/tables/attention.md",
    log:
        "<logs>/tabulate_attention/all.log",
    benchmark:
        "<benchmarks>/tabulate_attention/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        models=MODELS,
        fraction=config["claims"]["fraction"],
        seed=config["seed"],
        code=code_hash("tabulate_attention"),
    script:
        "../scripts/tabulate_attention.py"
