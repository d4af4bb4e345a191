# What else could repair a model: a direction to add, and the heads that are needed. Found on set fit.


rule measure_repairs:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        verdicts="<results>/{model}/base/verdicts/fit.parquet",
        probe=ranking_probe,
        resid="<results>/{model}/activations/fit.safetensors",
        rows="<results>/{model}/activations/fit_rows.parquet",
        rankings=expand("<results>/{{model}}/heads/{ranking}.parquet", ranking=RANKINGS),
    output:
        directions="<results>/{model}/repairs/directions.safetensors",
        sweep="<results>/{model}/repairs/sweep.parquet",
        elimination="<results>/{model}/repairs/elimination.parquet",
        costs="<results>/{model}/repairs/costs.parquet",
        sidecars=multiext(
            "<results>/{model}/repairs/",
            "directions.json",
            "sweep.json",
            "elimination.json",
            "costs.json",
        ),
    log:
        "<logs>/measure_repairs/{model}.log",
    benchmark:
        "<benchmarks>/measure_repairs/{model}.jsonl"
    conda:
        "../../envs/inference.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        heads={key: config["heads"][key] for key in ("targets", "measures", "datasets", "benign")},
        repairs={key: value for key, value in config["repairs"].items() if key not in ("both", "over_refusal")}
        | {"over_refusal": config["repairs"]["over_refusal"][0]},
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("measure_repairs"),
    script:
        "../scripts/measure_repairs.py"
