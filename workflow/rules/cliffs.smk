# The refusal score along traces: cliffs, what they depend on, and what watching the thinking alone would miss.


rule score_cliffs:
    input:
        prompts="<results>/prompts/{prompts}.parquet",
        traces="<results>/{model}/{variant}/traces/{prompts}.parquet",
        checkpoint=checkpoint_of,
        edit="<results>/{model}/variants/{variant}/edit.json",
        probes=expand("<results>/{{model}}/probes/{probe}.safetensors", probe=PROBES),
    output:
        table="<results>/{model}/{variant}/cliffs/{prompts}.parquet",
        refits="<results>/{model}/{variant}/cliffs/{prompts}_refits.parquet",
        sidecars=multiext(
            "<results>/{model}/{variant}/cliffs/{prompts}", ".json", "_refits.json"
        ),
    log:
        "<logs>/score_cliffs/{model}.{variant}.{prompts}.log",
    benchmark:
        "<benchmarks>/score_cliffs/{model}.{variant}.{prompts}.jsonl"
    conda:
        "../../envs/inference.yaml"
    threads: 1
    resources:
        gpu=model_gpus,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        model=model_row,
        cliffs=config["cliffs"],
        code=code_hash("score_cliffs"),
    script:
        "../scripts/score_cliffs.py"


rule tabulate_cliffs:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=expand("<results>/{model}/base/cliffs/test.parquet", model=MODELS),
        refits=expand("<results>/{model}/base/cliffs/test_refits.parquet", model=MODELS),
    output:
        csv=report(
            "<results>/tables/cliffs.csv",
            caption="../report/table_cliffs.rst",
            category="2. Tables",
            labels={"table": "Height and place of the cliff"},
        ),
        markdown="<results>/tables/cliffs.md",
        differences_csv=report(
            "<results>/tables/cliff_differences.csv",
            caption="../report/table_cliff_differences.rst",
            category="2. Tables",
            labels={"table": "Cliffs between groups and models"},
        ),
        differences_markdown="<results>/tables/cliff_differences.md",
        refits_csv=report(
            "<results>/tables/cliff_refits.csv",
            caption="../report/table_cliff_refits.rst",
            category="2. Tables",
            labels={"table": "Cliff over refits of the probe"},
        ),
        refits_markdown="<results>/tables/cliff_refits.md",
        length_csv=report(
            "<results>/tables/cliff_length.csv",
            caption="../report/table_cliff_length.rst",
            category="2. Tables",
            labels={"table": "Cliff and length of the thinking"},
        ),
        length_markdown="<results>/tables/cliff_length.md",
    log:
        "<logs>/tabulate_cliffs/all.log",
    benchmark:
        "<benchmarks>/tabulate_cliffs/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        models=MODELS,
        seed=config["seed"],
        code=code_hash("tabulate_cliffs"),
    script:
        "../scripts/tabulate_cliffs.py"


rule tabulate_kept_thinking:
    input:
        outcomes="<results>/{grid}outcomes.parquet",
        cliffs=kept_cliffs,
    output:
        csv=report(
            "<results>/tables/{grid}kept_thinking.csv",
            caption="../report/table_kept_thinking.rst",
            category="2. Tables",
            labels={"table": "Kept thinking fraction"},
        ),
        markdown="<results>/tables/{grid}kept_thinking.md",
    log:
        "<logs>/tabulate_kept_thinking/{grid}all.log",
    benchmark:
        "<benchmarks>/tabulate_kept_thinking/{grid}all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        runs=kept_runs,
        seed=config["seed"],
        code=code_hash("tabulate_kept_thinking"),
    script:
        "../scripts/tabulate_kept_thinking.py"


rule tabulate_monitors:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=expand("<results>/{model}/base/cliffs/test.parquet", model=MODELS),
    output:
        csv=report(
            "<results>/tables/monitors.csv",
            caption="../report/table_monitors.rst",
            category="2. Tables",
            labels={"table": "False reassurance and monitors"},
        ),
        markdown="<results>/tables/monitors.md",
        roc_csv="<results>/tables/monitor_roc.csv",
        roc_markdown="<results>/tables/monitor_roc.md",
    log:
        "<logs>/tabulate_monitors/all.log",
    benchmark:
        "<benchmarks>/tabulate_monitors/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        models=MODELS,
        seed=config["seed"],
        code=code_hash("tabulate_monitors"),
    script:
        "../scripts/tabulate_monitors.py"
