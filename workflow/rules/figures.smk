# Figures: SVG for the report, PDF for papers.


rule plot_curves:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=expand("<results>/{model}/base/cliffs/test.parquet", model=MODELS),
    output:
        svg=report(
            "<results>/figures/curves.svg",
            caption="../report/figure_curves.rst",
            category="3. Figures",
            labels={"figure": "Refusal score along a trace"},
        ),
        pdf="<results>/figures/curves.pdf",
    log:
        "<logs>/plot_curves/all.log",
    benchmark:
        "<benchmarks>/plot_curves/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        models=MODELS,
        tail=config["cliffs"]["tail"],
        seed=config["seed"],
        code=code_hash("plot_curves"),
    script:
        "../scripts/plot_curves.py"


rule plot_layers:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=expand("<results>/{model}/base/cliffs/test.parquet", model=MODELS),
    output:
        svg=report(
            "<results>/figures/layers.svg",
            caption="../report/figure_layers.rst",
            category="3. Figures",
            labels={"figure": "Refusal score by layer and position"},
        ),
        pdf="<results>/figures/layers.pdf",
    log:
        "<logs>/plot_layers/all.log",
    benchmark:
        "<benchmarks>/plot_layers/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        models=MODELS,
        tail=config["cliffs"]["tail"],
        code=code_hash("plot_layers"),
    script:
        "../scripts/plot_layers.py"


rule plot_heads:
    input:
        causal=expand("<results>/{model}/heads/causal.parquet", model=MODELS),
        direct=expand("<results>/{model}/heads/direct.parquet", model=MODELS),
        truths=truth_files(),
    output:
        svg=report(
            "<results>/figures/heads.svg",
            caption="../report/figure_heads.rst",
            category="3. Figures",
            labels={"figure": "Effect of every head"},
        ),
        pdf="<results>/figures/heads.pdf",
    log:
        "<logs>/plot_heads/all.log",
    benchmark:
        "<benchmarks>/plot_heads/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        models=MODELS,
        code=code_hash("plot_heads"),
    script:
        "../scripts/plot_heads.py"


rule plot_ablation:
    input:
        ablation="<results>/tables/ablation.csv",
    output:
        svg=report(
            "<results>/figures/ablation.svg",
            caption="../report/figure_ablation.rst",
            category="3. Figures",
            labels={"figure": "Dose and response of ablation"},
        ),
        pdf="<results>/figures/ablation.pdf",
    log:
        "<logs>/plot_ablation/all.log",
    benchmark:
        "<benchmarks>/plot_ablation/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code_hash("plot_ablation"),
    script:
        "../scripts/plot_ablation.py"


rule plot_selection:
    input:
        selection="<results>/tables/selection.csv",
    output:
        svg=report(
            "<results>/figures/selection.svg",
            caption="../report/figure_selection.rst",
            category="3. Figures",
            labels={"figure": "Tuning on selected examples"},
        ),
        pdf="<results>/figures/selection.pdf",
    log:
        "<logs>/plot_selection/all.log",
    benchmark:
        "<benchmarks>/plot_selection/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code_hash("plot_selection"),
    script:
        "../scripts/plot_selection.py"


rule plot_tradeoffs:
    input:
        ablation="<results>/tables/ablation.csv",
        selection="<results>/tables/selection.csv",
    output:
        svg=report(
            "<results>/figures/tradeoffs.svg",
            caption="../report/figure_tradeoffs.rst",
            category="3. Figures",
            labels={"figure": "ASR, over-refusal and utility"},
        ),
        pdf="<results>/figures/tradeoffs.pdf",
    log:
        "<logs>/plot_tradeoffs/all.log",
    benchmark:
        "<benchmarks>/plot_tradeoffs/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        claims=config["claims"],
        code=code_hash("plot_tradeoffs"),
    script:
        "../scripts/plot_tradeoffs.py"
