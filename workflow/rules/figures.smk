# Figures: SVG for the report, PDF for papers. Rules inherit here; `grep "rule.*plot_layers" workflow/rules/*` finds one.

FIRST_CLIFFS = expand("<results>/{model}/base/cliffs/test.parquet", model=[model for model in FIRST if model in PROBED])

FIGURES = []  # what the targets figures and grid ask for


rule plot_curves:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=FIRST_CLIFFS,
    output:
        **figure("curves", "Refusal score along a trace"),
    log:
        "<logs>/<job>.log",
    benchmark:
        "<benchmarks>/<job>.jsonl"
    pathvars:
        job="plot_curves",
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        **uses("plot_curves"),
        tail=config["cliffs"]["tail"],
        seed=config["seed"],
    script:
        "../scripts/{params.script}.py"


use rule plot_curves as plot_family_curves with:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=FIRST_CLIFFS,
    output:
        **figure("family_curves", "Refusal score along a trace, by attack"),
    pathvars:
        job="plot_family_curves",
    params:
        **uses("plot_family_curves"),
        probe=config["cliffs"]["probe"],
        tail=config["cliffs"]["tail"],
        seed=config["seed"],


use rule plot_curves as plot_layers with:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=FIRST_CLIFFS,
    output:
        **figure("layers", "Refusal score by layer and position"),
    pathvars:
        job="plot_layers",
    params:
        **uses("plot_layers"),
        tail=config["cliffs"]["tail"],


if FINETUNED:

    use rule plot_curves as plot_finetuning with:
        input:
            looks="<results>/tables/finetuning.csv",
        output:
            **figure("finetuning", "What is learnt, and lost, first"),
        pathvars:
            job="plot_finetuning",
        params:
            **uses("plot_finetuning"),


if WORN:

    use rule plot_curves as plot_changes with:
        input:
            changes="<results>/tables/changes.csv",
        output:
            **figure("changes", "What fine-tuning changed, by layer and position"),
        pathvars:
            job="plot_changes",
        params:
            **uses("plot_changes"),
            probe=config["cliffs"]["probe"],
            families=family_of(),


use rule plot_curves as plot_heads with:
    input:
        heads="<results>/tables/heads.csv",
    output:
        **figure("heads", "Effect of every head"),
    pathvars:
        job="plot_heads",
    params:
        **uses("plot_heads"),


use rule plot_curves as plot_head_agreement with:
    input:
        heads="<results>/tables/heads.csv",
        agreement="<results>/tables/head_agreement.csv",
    output:
        **figure("head_agreement", "Agreement of the head rankings"),
    pathvars:
        job="plot_head_agreement",
    params:
        **uses("plot_head_agreement"),
        operating=OPERATING,


use rule plot_curves as plot_head_intervals with:
    input:
        heads="<results>/tables/heads.csv",
    output:
        **figure("head_intervals", "First heads of every ranking"),
    pathvars:
        job="plot_head_intervals",
    params:
        **uses("plot_head_intervals"),


if len(config["heads"]["targets"]) > 1:

    use rule plot_curves as plot_targets with:
        input:
            targets="<results>/tables/targets.csv",
        output:
            **figure("targets", "Moving the probe and moving the behaviour"),
        pathvars:
            job="plot_targets",
        params:
            **uses("plot_targets"),


use rule plot_curves as plot_attention with:
    input:
        attention="<results>/tables/attention.csv",
    output:
        **figure("attention", "What heads attend to"),
    pathvars:
        job="plot_attention",
    params:
        **uses("plot_attention"),


use rule plot_curves as plot_ablation with:
    input:
        ablation="<results>/tables/{grid}ablation.csv",
    output:
        **figure("{grid}ablation", "Dose and response of ablation"),
    pathvars:
        job="plot_ablation.{grid}all",
    params:
        **uses("plot_ablation"),


use rule plot_curves as plot_interventions with:
    input:
        ablation="<results>/tables/{grid}ablation.csv",
    output:
        **figure("{grid}interventions", "Interventions on the same heads"),
    pathvars:
        job="plot_interventions.{grid}all",
    params:
        **uses("plot_interventions"),
        operating=OPERATING,
        fraction=config["claims"]["fraction"],


use rule plot_curves as plot_selection with:
    input:
        selection="<results>/tables/selection.csv",
    output:
        **figure("selection", "Tuning on selected examples"),
    pathvars:
        job="plot_selection",
    params:
        **uses("plot_selection"),


if TUNED and config["tuning"]["early"]:

    use rule plot_curves as plot_tuning with:
        input:
            selection="<results>/tables/selection.csv",
        output:
            **figure("tuning", "Tuning, step by step"),
        pathvars:
            job="plot_tuning",
        params:
            **uses("plot_tuning"),


use rule plot_curves as plot_tradeoffs with:
    input:
        ablation="<results>/tables/ablation.csv",
        selection="<results>/tables/selection.csv",
    output:
        **figure("tradeoffs", "ASR, over-refusal and utility"),
    pathvars:
        job="plot_tradeoffs",
    params:
        **uses("plot_tradeoffs"),
        claims=config["claims"],


use rule plot_curves as plot_cliffs with:
    input:
        cliffs="<results>/tables/cliffs.csv",
        refits="<results>/tables/cliff_refits.csv",
    output:
        **figure("cliffs", "Cliffs by group and attack"),
    pathvars:
        job="plot_cliffs",
    params:
        **uses("plot_cliffs"),


use rule plot_curves as plot_detection with:
    input:
        readings="<results>/tables/cliff_readings.csv",
        said="<results>/tables/detection_by_organism.csv",
    output:
        **figure("detection", "What is taken for a cliff"),
    pathvars:
        job="plot_detection",
    params:
        **uses("plot_detection"),


use rule plot_curves as plot_cliff_length with:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=FIRST_CLIFFS,
        correlations="<results>/tables/cliff_length.csv",
    output:
        **figure("cliff_length", "Cliff and length of the thinking"),
    pathvars:
        job="plot_cliff_length",
    params:
        **uses("plot_cliff_length"),


use rule plot_curves as plot_kept_thinking with:
    input:
        kept="<results>/tables/{grid}kept_thinking.csv",
    output:
        **figure("{grid}kept_thinking", "Kept thinking fraction"),
    pathvars:
        job="plot_kept_thinking.{grid}all",
    params:
        **uses("plot_kept_thinking"),


use rule plot_curves as plot_monitors with:
    input:
        monitors="<results>/tables/monitors.csv",
        curves="<results>/tables/monitor_roc.csv",
    output:
        **figure("monitors", "Monitors of harmful responses"),
    pathvars:
        job="plot_monitors",
    params:
        **uses("plot_monitors"),
        probe=config["cliffs"]["probe"],


use rule plot_curves as plot_probes with:
    input:
        probes="<results>/tables/probes.csv",
    output:
        **figure("probes", "What probes read"),
    pathvars:
        job="plot_probes",
    params:
        **uses("plot_probes"),


use rule plot_curves as plot_calibration with:
    input:
        calibration="<results>/tables/calibration.csv",
    output:
        **figure("calibration", "Calibration of the probes"),
    pathvars:
        job="plot_calibration",
    params:
        **uses("plot_calibration"),
