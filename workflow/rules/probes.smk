rule train_probe:
    input:
        prompts="<results>/prompts/fit.parquet",
        verdicts="<results>/{model}/base/verdicts/fit.parquet",
        resid="<results>/{model}/activations/fit.safetensors",
        rows="<results>/{model}/activations/fit_rows.parquet",
    output:
        probe="<results>/{model}/probes/{probe}.safetensors",
        sidecar="<results>/{model}/probes/{probe}.json",
        metrics="<results>/{model}/probes/{probe}.csv",
    log:
        "<logs>/train_probe/{model}.{probe}.log",
    benchmark:
        "<benchmarks>/train_probe/{model}.{probe}.jsonl"
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=4000,
        runtime=60,
    params:
        recipe=probe_recipe,
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("train_probe"),
    script:
        "../scripts/train_probe.py"
