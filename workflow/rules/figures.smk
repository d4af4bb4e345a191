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


rule plot_family_curves:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=expand("<results>/{model}/base/cliffs/test.parquet", model=MODELS),
    output:
        svg=report(
            "<results>/figures/family_curves.svg",
            caption="../report/figure_family_curves.rst",
            category="3. Figures",
            labels={"figure": "Refusal score along a trace, by attack"},
        ),
        pdf="<results>/figures/family_curves.pdf",
    log:
        "<logs>/plot_family_curves/all.log",
    benchmark:
        "<benchmarks>/plot_family_curves/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        models=MODELS,
        probe=config["cliffs"]["probe"],
        tail=config["cliffs"]["tail"],
        seed=config["seed"],
        code=code_hash("plot_family_curves"),
    script:
        "../scripts/plot_family_curves.py"


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
        gradient=expand("<results>/{model}/heads/gradient.parquet", model=MODELS),
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


rule plot_head_agreement:
    input:
        heads="<results>/tables/heads.csv",
        agreement="<results>/tables/head_agreement.csv",
    output:
        svg=report(
            "<results>/figures/head_agreement.svg",
            caption="../report/figure_head_agreement.rst",
            category="3. Figures",
            labels={"figure": "Agreement of the head rankings"},
        ),
        pdf="<results>/figures/head_agreement.pdf",
    log:
        "<logs>/plot_head_agreement/all.log",
    benchmark:
        "<benchmarks>/plot_head_agreement/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code_hash("plot_head_agreement"),
    script:
        "../scripts/plot_head_agreement.py"


rule plot_head_intervals:
    input:
        heads="<results>/tables/heads.csv",
    output:
        svg=report(
            "<results>/figures/head_intervals.svg",
            caption="../report/figure_head_intervals.rst",
            category="3. Figures",
            labels={"figure": "First heads of every ranking"},
        ),
        pdf="<results>/figures/head_intervals.pdf",
    log:
        "<logs>/plot_head_intervals/all.log",
    benchmark:
        "<benchmarks>/plot_head_intervals/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code_hash("plot_head_intervals"),
    script:
        "../scripts/plot_head_intervals.py"


rule plot_attention:
    input:
        attention="<results>/tables/attention.csv",
    output:
        svg=report(
            "<results>/figures/attention.svg",
            caption="../report/figure_attention.rst",
            category="3. Figures",
            labels={"figure": "What heads attend to"},
        ),
        pdf="<results>/figures/attention.pdf",
    log:
        "<logs>/plot_attention/all.log",
    benchmark:
        "<benchmarks>/plot_attention/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code_hash("plot_attention"),
    script:
        "../scripts/plot_attention.py"


rule plot_ablation:
    input:
        ablation="<results>/tables/{grid}ablation.csv",
    output:
        svg=report(
            "<results>/figures/{grid}ablation.svg",
            caption="../report/figure_ablation.rst",
            category="3. Figures",
            labels={"figure": "Dose and response of ablation"},
        ),
        pdf="<results>/figures/{grid}ablation.pdf",
    log:
        "<logs>/plot_ablation/{grid}all.log",
    benchmark:
        "<benchmarks>/plot_ablation/{grid}all.jsonl"
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


rule plot_interventions:
    input:
        ablation="<results>/tables/{grid}ablation.csv",
    output:
        svg=report(
            "<results>/figures/{grid}interventions.svg",
            caption="../report/figure_interventions.rst",
            category="3. Figures",
            labels={"figure": "Interventions on the same heads"},
        ),
        pdf="<results>/figures/{grid}interventions.pdf",
    log:
        "<logs>/plot_interventions/{grid}all.log",
    benchmark:
        "<benchmarks>/plot_interventions/{grid}all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        fraction=config["claims"]["fraction"],
        code=code_hash("plot_interventions"),
    script:
        "../scripts/plot_interventions.py"


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


rule plot_cliffs:
    input:
        cliffs="<results>/tables/cliffs.csv",
        refits="<results>/tables/cliff_refits.csv",
    output:
        svg=report(
            "<results>/figures/cliffs.svg",
            caption="../report/figure_cliffs.rst",
            category="3. Figures",
            labels={"figure": "Cliffs by group and attack"},
        ),
        pdf="<results>/figures/cliffs.pdf",
    log:
        "<logs>/plot_cliffs/all.log",
    benchmark:
        "<benchmarks>/plot_cliffs/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code_hash("plot_cliffs"),
    script:
        "../scripts/plot_cliffs.py"


rule plot_cliff_length:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=expand("<results>/{model}/base/cliffs/test.parquet", model=MODELS),
        correlations="<results>/tables/cliff_length.csv",
    output:
        svg=report(
            "<results>/figures/cliff_length.svg",
            caption="../report/figure_cliff_length.rst",
            category="3. Figures",
            labels={"figure": "Cliff and length of the thinking"},
        ),
        pdf="<results>/figures/cliff_length.pdf",
    log:
        "<logs>/plot_cliff_length/all.log",
    benchmark:
        "<benchmarks>/plot_cliff_length/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        models=MODELS,
        code=code_hash("plot_cliff_length"),
    script:
        "../scripts/plot_cliff_length.py"


rule plot_kept_thinking:
    input:
        kept="<results>/tables/{grid}kept_thinking.csv",
    output:
        svg=report(
            "<results>/figures/{grid}kept_thinking.svg",
            caption="../report/figure_kept_thinking.rst",
            category="3. Figures",
            labels={"figure": "Kept thinking fraction"},
        ),
        pdf="<results>/figures/{grid}kept_thinking.pdf",
    log:
        "<logs>/plot_kept_thinking/{grid}all.log",
    benchmark:
        "<benchmarks>/plot_kept_thinking/{grid}all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code_hash("plot_kept_thinking"),
    script:
        "../scripts/plot_kept_thinking.py"


rule plot_monitors:
    input:
        monitors="<results>/tables/monitors.csv",
        curves="<results>/tables/monitor_roc.csv",
    output:
        svg=report(
            "<results>/figures/monitors.svg",
            caption="../report/figure_monitors.rst",
            category="3. Figures",
            labels={"figure": "Monitors of harmful responses"},
        ),
        pdf="<results>/figures/monitors.pdf",
    log:
        "<logs>/plot_monitors/all.log",
    benchmark:
        "<benchmarks>/plot_monitors/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        probe=config["cliffs"]["probe"],
        code=code_hash("plot_monitors"),
    script:
        "../scripts/plot_monitors.py"


rule plot_probes:
    input:
        probes="<results>/tables/probes.csv",
    output:
        svg=report(
            "<results>/figures/probes.svg",
            caption="../report/figure_probes.rst",
            category="3. Figures",
            labels={"figure": "What probes read"},
        ),
        pdf="<results>/figures/probes.pdf",
    log:
        "<logs>/plot_probes/all.log",
    benchmark:
        "<benchmarks>/plot_probes/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code_hash("plot_probes"),
    script:
        "../scripts/plot_probes.py"


rule plot_calibration:
    input:
        calibration="<results>/tables/calibration.csv",
    output:
        svg=report(
            "<results>/figures/calibration.svg",
            caption="../report/figure_calibration.rst",
            category="3. Figures",
            labels={"figure": "Calibration of the probes"},
        ),
        pdf="<results>/figures/calibration.pdf",
    log:
        "<logs>/plot_calibration/all.log",
    benchmark:
        "<benchmarks>/plot_calibration/all.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        code=code_hash("plot_calibration"),
    script:
        "../scripts/plot_calibration.py"
