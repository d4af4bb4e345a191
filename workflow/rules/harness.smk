# Utility by lm-evaluation-harness, which has an environment of its own: target harness.


rule evaluate_harness:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/test.parquet",
        edits=harness_edits,
    output:
        table="<results>/{model}/harness.parquet",
        sidecar="<results>/{model}/harness.json",
    log:
        "<logs>/evaluate_harness/{model}.log",
    benchmark:
        "<benchmarks>/evaluate_harness/{model}.jsonl"
    conda:
        "../../envs/harness.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        harness=config["harness"],
        max_new_tokens=config["generation"]["max_new_tokens"],
        seed=config["seed"],
        code=code_hash("evaluate_harness"),
    script:
        "../scripts/evaluate_harness.py"


rule tabulate_harness:
    input:
        expand("<results>/{model}/harness.parquet", model=[model for model in MODELS if model in ABLATED + TUNED]),
    output:
        **csv_files("tables/harness"),
    log:
        "<logs>/tabulate_harness.log",
    benchmark:
        "<benchmarks>/tabulate_harness.jsonl"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        seed=config["seed"],
        code=code_hash("tabulate_harness"),
    script:
        "../scripts/tabulate_harness.py"
