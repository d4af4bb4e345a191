rule train_probe:
    input:
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        verdicts="<results>/{model}/base/verdicts/fit.parquet",
        resid="<results>/{model}/activations/fit.safetensors",
        rows="<results>/{model}/activations/fit_rows.parquet",
        checkpoint=checkpoint_of,
    output:
        probe="<results>/{model}/probes/{probe}.safetensors",
        sidecar="<results>/{model}/probes/{probe}.json",
    log:
        "<logs>/train_probe/{model}.{probe}.log",
    benchmark:
        "<benchmarks>/train_probe/{model}.{probe}.jsonl"
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        recipe=probe_recipe,
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("train_probe"),
    script:
        "../scripts/train_probe.py"


rule evaluate_probes:
    input:
        prompts=expand("<results>/prompts/{prompts}.parquet", prompts=["fit", "test"]),
        verdicts=expand(
            "<results>/{{model}}/base/verdicts/{prompts}.parquet",
            prompts=["fit", "test"],
        ),
        resid=expand(
            "<results>/{{model}}/activations/{prompts}.safetensors",
            prompts=["fit", "test"],
        ),
        rows=expand(
            "<results>/{{model}}/activations/{prompts}_rows.parquet",
            prompts=["fit", "test"],
        ),
        probes=expand("<results>/{{model}}/probes/{probe}.safetensors", probe=PROBES),
    output:
        table="<results>/{model}/probes.parquet",
        calibration="<results>/{model}/calibration.parquet",
        sidecars=multiext("<results>/{model}/", "probes.json", "calibration.json"),
    log:
        "<logs>/evaluate_probes/{model}.log",
    benchmark:
        "<benchmarks>/evaluate_probes/{model}.jsonl"
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        recipes=config["probes"],
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("evaluate_probes"),
    script:
        "../scripts/evaluate_probes.py"


rule tabulate_probes:
    input:
        probes=expand("<results>/{model}/probes.parquet", model=MODELS),
        calibrations=expand("<results>/{model}/calibration.parquet", model=MODELS),
    output:
        csv=report(
            "<results>/tables/probes.csv",
            caption="../report/table_probes.rst",
            category="2. Tables",
            labels={"table": "Probes"},
        ),
        markdown="<results>/tables/probes.md",
        calibration_csv=report(
            "<results>/tables/calibration.csv",
            caption="../report/table_calibration.rst",
            category="2. Tables",
            labels={"table": "Calibration of the probes"},
        ),
        calibration_markdown="<results>/tables/calibration.md",
    log:
        "<logs>/tabulate_probes/all.log",
    benchmark:
        "<benchmarks>/tabulate_probes/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        models=MODELS,
        code=code_hash("tabulate_probes"),
    script:
        "../scripts/tabulate_probes.py"
