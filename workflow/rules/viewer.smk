# Traces token by token: target trace_viewer.


rule score_tokens:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/test.parquet",
        traces="<results>/{model}/{variant}/traces/test.parquet",
        edit=edit_of,
        probes=reading_probes,
    output:
        table="<results>/{model}/{variant}/tokens.parquet",
        sidecar="<results>/{model}/{variant}/tokens.json",
    log:
        "<logs>/score_tokens/{model}.{variant}.log",
    benchmark:
        "<benchmarks>/score_tokens/{model}.{variant}.jsonl"
    conda:
        "../../envs/inference.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        most=config["viewer"]["prompts"],
        code=code_hash("score_tokens"),
    script:
        "../scripts/score_tokens.py"


rule build_trace_viewer:
    input:
        outcomes="<results>/outcomes.parquet",
        scores=run_files(viewed(), "{model}/{variant}/tokens.parquet"),
    output:
        page=report(
            "<results>/traces.html",
            caption="../report/traces.rst",
            category="1. What held",
            labels={"table": "1e Traces, token by token"},
        ),
    log:
        "<logs>/build_trace_viewer.log",
    benchmark:
        "<benchmarks>/build_trace_viewer.jsonl"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        probe=config["cliffs"]["probe"],
        open_datasets=readable_datasets(),
        code=code_hash("build_trace_viewer"),
    script:
        "../scripts/build_trace_viewer.py"
