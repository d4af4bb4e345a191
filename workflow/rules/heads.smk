# Heads that write for or against refusal at the boundary, and the variants made from their rankings.


# Everything that is measured on the traces of set fit, head by head: the model is loaded once for all of it.
rule measure_heads:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        verdicts="<results>/{model}/base/verdicts/fit.parquet",
        probe=ranking_probe,
    output:
        effects="<results>/{model}/heads/effects.parquet",
        rankings=expand("<results>/{{model}}/heads/{ranking}.parquet", ranking=RANKINGS),
        means="<results>/{model}/heads/means.safetensors",
        attention="<results>/{model}/attention.parquet",
        sidecars=expand(
            "<results>/{{model}}/{artifact}.json",
            artifact=[
                "attention",
                *(f"heads/{name}" for name in ("effects", "means", *RANKINGS)),
            ],
        ),
    log:
        "<logs>/measure_heads/{model}.log",
    benchmark:
        "<benchmarks>/measure_heads/{model}.jsonl"
    conda:
        "../../envs/inference.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        heads={key: value for key, value in config["heads"].items() if key != "operating"},
        refusal_judge=config["judges"]["refusal"],
        intentions=config["judges"]["intentions"],
        seed=config["seed"],
        code=code_hash("measure_heads"),
    script:
        "../scripts/measure_heads.py"


rule write_edit:
    input:
        unpack(edit_inputs),
    output:
        edit="<results>/{model}/variants/{variant}/edit.json",
    log:
        "<logs>/write_edit/{model}.{variant}.log",
    benchmark:
        "<benchmarks>/write_edit/{model}.{variant}.jsonl"
    wildcard_constraints:
        variant=rf"({'|'.join([*ON_HEADS, 'steer', 'both', 'keep'])})-[^/]+",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        drawn=drawn,
        code=code_hash("write_edit"),
    script:
        "../scripts/write_edit.py"


rule measure_perplexity:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/test.parquet",
        traces="<results>/{model}/base/traces/test.parquet",
        edits=everywhere_edits,
    output:
        table="<results>/{model}/{grid}perplexity.parquet",
        sidecar="<results>/{model}/{grid}perplexity.json",
    log:
        "<logs>/measure_perplexity/{model}.{grid}all.log",
    benchmark:
        "<benchmarks>/measure_perplexity/{model}.{grid}all.jsonl"
    conda:
        "../../envs/inference.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        code=code_hash("measure_perplexity"),
    script:
        "../scripts/measure_perplexity.py"
