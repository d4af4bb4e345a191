# Figures: SVG for the report, PDF for papers; what shares its tables is drawn by one job. Rules inherit here: `grep
# "rule.*plot_heads" workflow/rules/*` finds one.

FIGURES = []  # what the targets figures and grid ask for


rule plot_curves:
    input:
        curves="<results>/tables/curves.csv",
        layers="<results>/tables/cliff_layers.csv",
        heights="<results>/tables/cliffs.csv",
    output:
        **figure("curves", "Refusal score along a trace", SECTION_3),
        **figure("probe_curves", "Refusal score along a trace, by probe", APPENDIX),
        **figure("layers", "Cliff by layer, and the last tokens", SECTION_3),
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
        probe=config["cliffs"]["probe"],
    script:
        "../scripts/{params.script}.py"


use rule plot_curves as plot_cliffs with:
    input:
        cliffs="<results>/tables/cliffs.csv",
        refits="<results>/tables/cliff_refits.csv",
        correlations="<results>/tables/cliff_length.csv",
    output:
        **figure("cliffs", "Height of the cliff", SECTION_3),
        **figure("families", "Plateau and final score, by attack", SECTION_3),
        **figure("cliff_length", "Cliff and length of the thinking", APPENDIX),
    pathvars:
        job="plot_cliffs",
    params:
        **uses("plot_cliffs"),
        probe=config["cliffs"]["probe"],


use rule plot_curves as plot_kept_thinking with:
    input:
        kept="<results>/tables/{grid}kept_thinking.csv",
    output:
        **figure("{grid}kept_thinking", "Kept thinking fraction", SECTION_3),
    pathvars:
        job="plot_kept_thinking.{grid}all",
    params:
        **uses("plot_kept_thinking"),


if FINETUNED:

    use rule plot_curves as plot_finetuning with:
        input:
            looks="<results>/tables/finetuning.csv",
        output:
            **figure("finetuning", "What is learnt, and lost, first", APPENDIX),
        pathvars:
            job="plot_finetuning",
        params:
            **uses("plot_finetuning"),


if WORN:

    use rule plot_curves as plot_changes with:
        input:
            changes="<results>/tables/changes.csv",
        output:
            **figure("changes", "What fine-tuning changed, by layer and position", APPENDIX),
        pathvars:
            job="plot_changes",
        params:
            **uses("plot_changes"),
            probe=config["cliffs"]["probe"],
            families=family_of(),


if "test" in ACTING:

    use rule plot_curves as plot_agent with:
        input:
            agent="<results>/tables/agent.csv",
        output:
            **figure("agent", "Plans and actions", APPENDIX),
        pathvars:
            job="plot_agent",
        params:
            **uses("plot_agent"),
            families=family_of(),


use rule plot_curves as plot_heads with:
    input:
        heads="<results>/tables/heads.csv",
        agreement="<results>/tables/head_agreement.csv",
        attention="<results>/tables/attention.csv",
    output:
        **figure("heads", "Effect of every head", SECTION_4),
        **figure("head_intervals", "First heads of every ranking", SECTION_4),
        **figure("head_agreement", "Agreement of the head rankings", APPENDIX),
        **figure("attention", "What heads attend to", SECTION_4),
    pathvars:
        job="plot_heads",
    params:
        **uses("plot_heads"),
        operating=OPERATING,


if len(config["heads"]["targets"]) > 1:

    use rule plot_curves as plot_targets with:
        input:
            targets="<results>/tables/targets.csv",
        output:
            **figure("targets", "Moving the probe and moving the behaviour", SECTION_4),
        pathvars:
            job="plot_targets",
        params:
            **uses("plot_targets"),


use rule plot_curves as plot_ablation with:
    input:
        ablation="<results>/tables/{grid}ablation.csv",
    output:
        **figure("{grid}ablation", "Dose and response of ablation", SECTION_4),
    pathvars:
        job="plot_ablation.{grid}all",
    params:
        **uses("plot_ablation"),


use rule plot_curves as plot_interventions with:
    input:
        ablation="<results>/tables/ablation.csv",
        selection="<results>/tables/selection.csv",
    output:
        **figure("interventions", "All interventions side by side", SECTION_4),
    pathvars:
        job="plot_interventions",
    params:
        **uses("plot_interventions"),
        operating=OPERATING,
        fraction=config["claims"]["fraction"],
        budget=config["claims"]["budget"],


use rule plot_curves as plot_selection with:
    input:
        selection="<results>/tables/selection.csv",
    output:
        **figure("selection", "Tuning on selected examples", SECTION_5),
    pathvars:
        job="plot_selection",
    params:
        **uses("plot_selection"),


if TUNED and config["tuning"]["early"]:

    use rule plot_curves as plot_tuning with:
        input:
            selection="<results>/tables/selection.csv",
        output:
            **figure("tuning", "Tuning, step by step", SECTION_5),
        pathvars:
            job="plot_tuning",
        params:
            **uses("plot_tuning"),


if REPAIRED:

    use rule plot_curves as plot_repairs with:
        input:
            repairs="<results>/tables/repairs.csv",
            matched="<results>/tables/repairs_matched.csv",
        output:
            **figure("repairs", "Repairs side by side", SECTION_5),
        pathvars:
            job="plot_repairs",
        params:
            **uses("plot_repairs"),
            families=family_of(),


use rule plot_curves as plot_detection with:
    input:
        readings="<results>/tables/cliff_readings.csv",
        said="<results>/tables/detection_by_organism.csv",
    output:
        **figure("detection", "What is taken for a cliff", APPENDIX),
    pathvars:
        job="plot_detection",
    params:
        **uses("plot_detection"),


use rule plot_curves as plot_monitors with:
    input:
        monitors="<results>/tables/monitors.csv",
        curves="<results>/tables/monitor_roc.csv",
    output:
        **figure("monitors", "Monitors of harmful responses", SECTION_3),
        **figure("monitor_roc", "ROC curves of the monitors", APPENDIX),
    pathvars:
        job="plot_monitors",
    params:
        **uses("plot_monitors"),
        probe=config["cliffs"]["probe"],


use rule plot_curves as plot_probes with:
    input:
        probes="<results>/tables/probes.csv",
        calibration="<results>/tables/calibration.csv",
    output:
        **figure("probe_positions", "What probes read, by position", SECTION_3),
        **figure("probe_accuracy", "Accuracy of the probes", APPENDIX),
        **figure("probe_directions", "Probes and the next token", APPENDIX),
        **figure("calibration", "Calibration of the probes", APPENDIX),
    pathvars:
        job="plot_probes",
    params:
        **uses("plot_probes"),
