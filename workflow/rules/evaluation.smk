# Outcomes of every response, and the tables made from them.

RELEASED_RUNS = [
    (model, variant)
    for model in ABLATED
    for variant in [
        "base",
        *(f"{kind}-{OPERATING_POINT}" for kind in ("ablate", "released")),
    ]
]
TUNING_RUNS = [(model, variant) for model in TUNED for variant in TUNINGS]


rule collect_outcomes:
    input:
        unpack(outcome_inputs),
        prompts="<results>/prompts/test.parquet",
    output:
        table="<results>/{grid}outcomes.parquet",
        sidecar="<results>/{grid}outcomes.json",
    log:
        "<logs>/collect_outcomes/{grid}all.log",
    benchmark:
        "<benchmarks>/collect_outcomes/{grid}all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        runs=outcome_runs,
        harm_judge=config["judges"]["harm"],
        refusal_judge=config["judges"]["refusal"],
        code=code_hash("collect_outcomes"),
    script:
        "../scripts/collect_outcomes.py"


rule tabulate_ablation:
    input:
        outcomes="<results>/{grid}outcomes.parquet",
        edits=head_edits,
        means=expand("<results>/{model}/heads/means.safetensors", model=ABLATED),
        perplexities=perplexities,
    output:
        csv=report(
            "<results>/tables/{grid}ablation.csv",
            caption="../report/table_ablation.rst",
            category="2. Tables",
            labels={"table": "Interventions on heads"},
        ),
        markdown="<results>/tables/{grid}ablation.md",
    log:
        "<logs>/tabulate_ablation/{grid}all.log",
    benchmark:
        "<benchmarks>/tabulate_ablation/{grid}all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        runs=head_runs,
        models=ABLATED,
        seed=config["seed"],
        code=code_hash("tabulate_ablation"),
    script:
        "../scripts/tabulate_ablation.py"


rule tabulate_comparisons:
    input:
        outcomes="<results>/{grid}outcomes.parquet",
        perplexities=perplexities,
    output:
        csv=report(
            "<results>/tables/{grid}comparisons.csv",
            caption="../report/table_comparisons.rst",
            category="2. Tables",
            labels={"table": "Variants against base and controls, paired"},
        ),
        markdown="<results>/tables/{grid}comparisons.md",
    log:
        "<logs>/tabulate_comparisons/{grid}all.log",
    benchmark:
        "<benchmarks>/tabulate_comparisons/{grid}all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        models=ABLATED,
        seed=config["seed"],
        code=code_hash("tabulate_comparisons"),
    script:
        "../scripts/tabulate_comparisons.py"


rule tabulate_as_released:
    input:
        prompts="<results>/prompts/test.parquet",
        verdicts=run_files(RELEASED_RUNS, "{model}/{variant}/verdicts/test.parquet"),
    output:
        csv=report(
            "<results>/tables/as_released.csv",
            caption="../report/table_as_released.rst",
            category="2. Tables",
            labels={"table": "The released code's choices"},
        ),
        markdown="<results>/tables/as_released.md",
    log:
        "<logs>/tabulate_as_released/all.log",
    benchmark:
        "<benchmarks>/tabulate_as_released/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        runs=RELEASED_RUNS,
        seed=config["seed"],
        code=code_hash("tabulate_as_released"),
    script:
        "../scripts/tabulate_as_released.py"


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
