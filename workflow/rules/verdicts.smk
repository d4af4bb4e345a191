rule judge_traces:
    input:
        prompts="<results>/prompts/{prompts}.parquet",
        traces="<results>/{model}/{variant}/traces/{prompts}.parquet",
        guard=checkpoint(GUARD["model"]),
    output:
        table="<results>/{model}/{variant}/verdicts/{prompts}.parquet",
        sidecar="<results>/{model}/{variant}/verdicts/{prompts}.json",
    log:
        "<logs>/judge_traces/{model}.{variant}.{prompts}.log",
    benchmark:
        "<benchmarks>/judge_traces/{model}.{variant}.{prompts}.jsonl"
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=GUARD["gpus"],
        mem_mb=GUARD["mem_mb"],
        runtime=GUARD["runtime_min"],
    params:
        model=GUARD,
        judges=config["judges"],
        guard_scopes=guard_scopes,
        as_released=config["as_released"],
        code=code_hash("judge_traces"),
    script:
        "../scripts/judge_traces.py"
