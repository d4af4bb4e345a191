# What else could repair a model: a direction to add, and the heads that are needed. Found on set fit.


rule find_direction:
    input:
        unpack(model_inputs),
        unpack(fit_inputs),
        probe=ranking_probe,
        resid="<results>/{model}/activations/fit.safetensors",
        rows="<results>/{model}/activations/fit_rows.parquet",
    output:
        directions="<results>/{model}/repairs/directions.safetensors",
        sweep="<results>/{model}/repairs/sweep.parquet",
        costs="<results>/{model}/repairs/direction_costs.parquet",
        sidecars=multiext("<results>/{model}/repairs/", "directions.json", "sweep.json", "direction_costs.json"),
    log:
        "<logs>/find_direction/{model}.log",
    benchmark:
        "<benchmarks>/find_direction/{model}.jsonl"
    conda:
        "../../envs/inference.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        heads={key: config["heads"][key] for key in ("datasets", "benign")},
        repairs={key: config["repairs"][key] for key in ("steer", "random_draws", "traces", "kl")}
        | {"over_refusal": config["repairs"]["over_refusal"][0]},
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("find_direction"),
    script:
        "../scripts/find_direction.py"


rule eliminate_heads:
    input:
        unpack(model_inputs),
        unpack(fit_inputs),
        probe=ranking_probe,
        rankings=expand("<results>/{{model}}/heads/{ranking}.parquet", ranking=RANKINGS),
    output:
        elimination="<results>/{model}/repairs/elimination.parquet",
        costs="<results>/{model}/repairs/elimination_costs.parquet",
        sidecars=multiext("<results>/{model}/repairs/", "elimination.json", "elimination_costs.json"),
    log:
        "<logs>/eliminate_heads/{model}.log",
    benchmark:
        "<benchmarks>/eliminate_heads/{model}.jsonl"
    conda:
        "../../envs/inference.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        heads={key: config["heads"][key] for key in ("targets", "measures", "datasets")},
        repairs={key: config["repairs"][key] for key in ("eliminate", "start", "kept", "traces")},
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("eliminate_heads"),
    script:
        "../scripts/eliminate_heads.py"
