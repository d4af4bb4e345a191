rule select_examples:
    input:
        traces="<results>/{model}/base/traces/pool.parquet",
        verdicts="<results>/{model}/base/verdicts/pool.parquet",
        cliffs="<results>/{model}/base/cliffs/pool.parquet",
    output:
        table="<results>/{model}/selections/{selector}-{budget}-s{seed}.parquet",
        sidecar="<results>/{model}/selections/{selector}-{budget}-s{seed}.json",
    log:
        "<logs>/select_examples/{model}.{selector}-{budget}-s{seed}.log",
    benchmark:
        "<benchmarks>/select_examples/{model}.{selector}-{budget}-s{seed}.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        selector="{selector}",
        budget=selected_share,
        seed=selection_seed,
        probe=config["cliffs"]["probe"],
        judges=config["judges"],
        code=code_hash("select_examples"),
    script:
        "../scripts/select_examples.py"
