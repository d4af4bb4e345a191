# The paper's claims and its reviewers' questions, decided on every model.

CLAIM_TABLES = [
    "probes",
    "cliffs",
    "cliff_differences",
    "cliff_length",
    "cliff_refits",
    "sparsity",
    "comparisons",
    "head_agreement",
    "head_stability",
    "judges",
    "monitors",
]


rule evaluate_claims:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=expand("<results>/{model}/base/cliffs/test.parquet", model=MODELS),
        edits=[
            f"<results>/{model}/variants/{variant}/edit.json"
            for model, variant in ABLATION_RUNS
        ],
        truths=truth_files(),
        tables=expand("<results>/tables/{table}.csv", table=CLAIM_TABLES),
    output:
        csv=report(
            "<results>/claims.csv",
            caption="../report/claims.rst",
            category="1. Claims",
            labels={"table": "Claims"},
        ),
        markdown="<results>/claims.md",
    log:
        "<logs>/evaluate_claims/all.log",
    benchmark:
        "<benchmarks>/evaluate_claims/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        models=MODELS,
        runs=ABLATION_RUNS,
        probe=config["cliffs"]["probe"],
        claims=config["claims"],
        seed=config["seed"],
        code=code_hash("evaluate_claims"),
    script:
        "../scripts/evaluate_claims.py"
