# Outcomes of every response, and the tables made from them.

RUNS = [(model, variant) for model in MODELS for variant in variants_of(model)]
ABLATION_RUNS = [(model, variant) for model in ABLATED for variant in ABLATIONS]
TUNING_RUNS = [(model, variant) for model in TUNED for variant in TUNINGS]


rule collect_outcomes:
    input:
        prompts="<results>/prompts/test.parquet",
        traces=[
            f"<results>/{model}/{variant}/traces/test.parquet"
            for model, variant in RUNS
        ],
        verdicts=[
            f"<results>/{model}/{variant}/verdicts/test.parquet"
            for model, variant in RUNS
        ],
    output:
        table="<results>/outcomes.parquet",
        sidecar="<results>/outcomes.json",
    log:
        "<logs>/collect_outcomes/all.log",
    benchmark:
        "<benchmarks>/collect_outcomes/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        runs=RUNS,
        harm_judge=config["judges"]["harm"],
        refusal_judge=config["judges"]["refusal"],
        code=code_hash("collect_outcomes"),
    script:
        "../scripts/collect_outcomes.py"


rule tabulate_ablation:
    input:
        outcomes="<results>/outcomes.parquet",
        edits=[
            f"<results>/{model}/variants/{variant}/edit.json"
            for model, variant in ABLATION_RUNS
        ],
    output:
        csv=report(
            "<results>/tables/ablation.csv",
            caption="../report/table_ablation.rst",
            category="2. Tables",
            labels={"table": "Ablation of heads"},
        ),
        markdown="<results>/tables/ablation.md",
    log:
        "<logs>/tabulate_ablation/all.log",
    benchmark:
        "<benchmarks>/tabulate_ablation/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        runs=ABLATION_RUNS,
        code=code_hash("tabulate_ablation"),
    script:
        "../scripts/tabulate_ablation.py"


rule tabulate_selection:
    input:
        outcomes="<results>/outcomes.parquet",
        selections=[
            f"<results>/{model}/selections/{variant.removeprefix('tune-')}.parquet"
            for model, variant in TUNING_RUNS
        ],
    output:
        csv=report(
            "<results>/tables/selection.csv",
            caption="../report/table_selection.rst",
            category="2. Tables",
            labels={"table": "Tuning on selected examples"},
        ),
        markdown="<results>/tables/selection.md",
    log:
        "<logs>/tabulate_selection/all.log",
    benchmark:
        "<benchmarks>/tabulate_selection/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        runs=TUNING_RUNS,
        code=code_hash("tabulate_selection"),
    script:
        "../scripts/tabulate_selection.py"


rule tabulate_rates:
    input:
        outcomes="<results>/outcomes.parquet",
    output:
        csv=report(
            "<results>/tables/rates.csv",
            caption="../report/table_rates.rst",
            category="2. Tables",
            labels={"table": "All rates, by dataset and family"},
        ),
        markdown="<results>/tables/rates.md",
        comparisons_csv=report(
            "<results>/tables/comparisons.csv",
            caption="../report/table_comparisons.rst",
            category="2. Tables",
            labels={"table": "Variants against base, paired"},
        ),
        comparisons_markdown="<results>/tables/comparisons.md",
    log:
        "<logs>/tabulate_rates/all.log",
    benchmark:
        "<benchmarks>/tabulate_rates/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        seed=config["seed"],
        code=code_hash("tabulate_rates"),
    script:
        "../scripts/tabulate_rates.py"


rule tabulate_judges:
    input:
        outcomes="<results>/outcomes.parquet",
    output:
        csv=report(
            "<results>/tables/judges.csv",
            caption="../report/table_judges.rst",
            category="2. Tables",
            labels={"table": "Agreement of the judges"},
        ),
        markdown="<results>/tables/judges.md",
    log:
        "<logs>/tabulate_judges/all.log",
    benchmark:
        "<benchmarks>/tabulate_judges/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        code=code_hash("tabulate_judges"),
    script:
        "../scripts/tabulate_judges.py"
