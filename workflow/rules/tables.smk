# Outcomes of every response, and the tables made from what was measured.
# Rules inherit here; `grep "rule.*tabulate_heads" workflow/rules/*` finds one.

TEST_CLIFFS = expand("<results>/{model}/base/cliffs/test.parquet", model=PROBED)


# A process for every sixteen models: fewer are tabulated faster than another process starts.
TABLE_THREADS = max(1, len(MODELS) // 16)

TABLES = []  # what the targets tables and grid ask for


rule collect_outcomes:
    input:
        prompts="<results>/prompts/test.parquet",
        traces=outcome_traces,
        verdicts=outcome_verdicts,
    output:
        table="<results>/{grid}outcomes.parquet",
        sidecar="<results>/{grid}outcomes.json",
    log:
        "<logs>/<job>.log",
    benchmark:
        "<benchmarks>/<job>.jsonl"
    pathvars:
        job="collect_outcomes.{grid}all",
    conda:
        "../../envs/analysis.yaml"
    params:
        **uses("collect_outcomes"),
        harm_judge=config["judges"]["harm"],
        refusal_judge=config["judges"]["refusal"],
    script:
        "../scripts/{params.script}.py"


rule tabulate_rates:
    input:
        outcomes="<results>/outcomes.parquet",
    output:
        **table("rates", "All rates, by dataset and family"),
        **table("alignment", "How well base models are aligned", "alignment_"),
    log:
        "<logs>/<job>.log",
    benchmark:
        "<benchmarks>/<job>.jsonl"
    pathvars:
        job="tabulate_rates",
    conda:
        "../../envs/analysis.yaml"
    params:
        **uses("tabulate_rates"),
    script:
        "../scripts/{params.script}.py"


use rule tabulate_rates as tabulate_judges with:
    output:
        **table("judges", "Agreement of the judges"),
    pathvars:
        job="tabulate_judges",
    params:
        **uses("tabulate_judges"),
        harm_judge=config["judges"]["harm"],
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],


if GUARDED:

    rule evaluate_guard:
        input:
            prompts="<results>/prompts/test.parquet",
            guard=checkpoint(GUARD),
            files=model_files(GUARD),
            checked=model_check(GUARD),
        output:
            **table("guard", "Error of the guard"),
        log:
            "<logs>/evaluate_guard.log",
        benchmark:
            "<benchmarks>/evaluate_guard.jsonl"
        conda:
            "../../envs/inference.yaml"
        resources:
            gpu=GUARD_ROW["gpus"],
            mem_mb=growing(GUARD_ROW["mem_mb"]),
            runtime=growing(GUARD_ROW["runtime_min"]),
        params:
            guard=GUARD,
            model=loading(GUARD),
            answers=config["judges"]["guard"],
            seed=config["seed"],
            code=code_hash("evaluate_guard"),
        script:
            "../scripts/evaluate_guard.py"


use rule tabulate_rates as tabulate_ablation with:
    input:
        outcomes="<results>/{grid}outcomes.parquet",
        edits=head_edits,
        heads=expand("<results>/{model}/heads/{ranking}.parquet", model=ABLATED, ranking=OPERATING),
        perplexities=perplexities,
    output:
        **table("{grid}ablation", "Interventions on heads"),
    pathvars:
        job="tabulate_ablation.{grid}all",
    params:
        **uses("tabulate_ablation"),
        seed=config["seed"],


use rule tabulate_rates as tabulate_comparisons with:
    input:
        outcomes="<results>/{grid}outcomes.parquet",
        perplexities=perplexities,
    output:
        **table("{grid}comparisons", "Variants against base and controls, paired"),
    pathvars:
        job="tabulate_comparisons.{grid}all",
    params:
        **uses("tabulate_comparisons"),
        seed=config["seed"],


if config["as_released"] and GUARDED:

    use rule tabulate_rates as tabulate_as_released with:
        input:
            prompts="<results>/prompts/test.parquet",
            verdicts=expand("<results>/{model}/verdicts.parquet", model=ABLATED),
        output:
            **table("as_released", "The released code's choices"),
        pathvars:
            job="tabulate_as_released",
        params:
            **uses("tabulate_as_released"),
            seed=config["seed"],


use rule tabulate_rates as tabulate_selection with:
    input:
        outcomes="<results>/outcomes.parquet",
        selections=expand(
            "<results>/{model}/selections/{variant}.parquet",
            model=TUNED,
            variant=TUNINGS,
        ),
    output:
        **table("selection", "Tuning on selected examples"),
    pathvars:
        job="tabulate_selection",
    params:
        **uses("tabulate_selection"),
        recipe={key: config["tuning"][key] for key in ("steps", "batch_size", "benign")},
        seed=config["seed"],


if TUNED:

    use rule tabulate_rates as tabulate_picks with:
        input:
            prompts="<results>/prompts/pool.parquet",
            selections=expand(
                "<results>/{model}/selections/{variant}.parquet",
                model=TUNED,
                variant=[name for name in TUNINGS if Variant.parse(name).selector in SELECTORS],
            ),
            traces=expand("<results>/{model}/base/traces/pool.parquet", model=TUNED),
            verdicts=expand("<results>/{model}/base/verdicts/pool.parquet", model=TUNED),
        output:
            **table("picks", "What selectors pick"),
        pathvars:
            job="tabulate_picks",
        params:
            **uses("tabulate_picks"),
            refusal_judge=config["judges"]["refusal"],


use rule tabulate_rates as tabulate_sparsity with:
    input:
        outcomes="<results>/outcomes.parquet",
        prompts="<results>/prompts/fit.parquet",
        effects=expand("<results>/{model}/heads/effects.parquet", model=RANKED),
        edits=run_files(runs(kinds=("ablate",)), "{model}/variants/{variant}/edit.json"),
        truths=truth_files(),
    output:
        **table("sparsity", "Is the circuit sparse?"),
    pathvars:
        job="tabulate_sparsity",
    params:
        **uses("tabulate_sparsity"),
        fraction=config["claims"]["fraction"],
        seed=config["seed"],


use rule tabulate_rates as tabulate_cliffs with:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=TEST_CLIFFS,
        refits=expand("<results>/{model}/base/cliffs/test_refits.parquet", model=PROBED),
    output:
        **table("cliffs", "Height and place of the cliff"),
        **table("cliff_differences", "Cliffs between groups and models", "differences_"),
        **table("cliff_refits", "Cliff over refits of the probe", "refits_"),
        **table("cliff_length", "Cliff and length of the thinking", "length_"),
        **table("cliff_layers", "Cliff by layer", "layers_"),
        **csv_files("tables/curves", "curves_"),
    pathvars:
        job="tabulate_cliffs",
    threads: TABLE_THREADS
    params:
        **uses("tabulate_cliffs"),
        models=PROBED,
        first=[model for model in FIRST if model in PROBED],
        seed=config["seed"],


use rule tabulate_rates as tabulate_kept_thinking with:
    input:
        outcomes="<results>/{grid}outcomes.parquet",
        cliffs=kept_cliffs,
    output:
        **table("{grid}kept_thinking", "Kept thinking fraction"),
    pathvars:
        job="tabulate_kept_thinking.{grid}all",
    params:
        **uses("tabulate_kept_thinking"),
        seed=config["seed"],


use rule tabulate_rates as tabulate_monitors with:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=TEST_CLIFFS,
    output:
        **table("monitors", "False reassurance and monitors"),
        **csv_files("tables/monitor_roc", "roc_"),
    pathvars:
        job="tabulate_monitors",
    threads: TABLE_THREADS
    params:
        **uses("tabulate_monitors"),
        seed=config["seed"],


use rule tabulate_rates as tabulate_probes with:
    input:
        probes=expand("<results>/{model}/probes.parquet", model=READERS),
        calibrations=expand("<results>/{model}/calibration.parquet", model=READERS),
    output:
        **table("probes", "Probes"),
        **table("calibration", "Calibration of the probes", "calibration_"),
    pathvars:
        job="tabulate_probes",
    params:
        **uses("tabulate_probes"),


use rule tabulate_rates as tabulate_heads with:
    input:
        prompts="<results>/prompts/fit.parquet",
        effects=expand("<results>/{model}/heads/effects.parquet", model=RANKED),
        truths=truth_files(),
    output:
        **table("heads", "Every head"),
        **table("head_agreement", "Agreement of the head rankings", "agreement_"),
        **table("head_stability", "Stability of the head rankings", "stability_"),
    pathvars:
        job="tabulate_heads",
    threads: TABLE_THREADS
    params:
        **uses("tabulate_heads"),
        fraction=config["claims"]["fraction"],
        seed=config["seed"],


if len(config["heads"]["targets"]) > 1:

    use rule tabulate_rates as tabulate_targets with:
        input:
            prompts="<results>/prompts/fit.parquet",
            effects=expand("<results>/{model}/heads/effects.parquet", model=RANKED),
        output:
            **table("targets", "Moving the probe and moving the behaviour"),
        pathvars:
            job="tabulate_targets",
        params:
            **uses("tabulate_targets"),
            models=RANKED,
            rankings=RANKINGS,
            fraction=config["claims"]["fraction"],
            seed=config["seed"],


use rule tabulate_rates as tabulate_attention with:
    input:
        prompts="<results>/prompts/fit.parquet",
        attention=expand("<results>/{model}/attention.parquet", model=RANKED),
        ranking=expand("<results>/{model}/heads/{ranking}.parquet", model=RANKED, ranking=OPERATING),
    output:
        **table("attention", "What heads attend to"),
    pathvars:
        job="tabulate_attention",
    params:
        **uses("tabulate_attention"),
        fraction=config["claims"]["fraction"],
        seed=config["seed"],


if FINETUNED:

    use rule tabulate_rates as tabulate_finetuning with:
        input:
            looks=expand("<results>/{model}/looks.parquet", model=FINETUNED),
        output:
            **table("finetuning", "What is learnt, and lost, first"),
        pathvars:
            job="tabulate_finetuning",
        params:
            **uses("tabulate_finetuning"),
            families=family_of(),


if WORN:
    PARENTS = model_sheet.loc[WORN, "parent"].to_dict()

    use rule tabulate_rates as tabulate_changes with:
        input:
            outcomes="<results>/outcomes.parquet",
            read=expand("<results>/{model}/base/cliffs/test.parquet", model=WORN),
            own=expand(
                "<results>/{model}/base/cliffs/test.parquet",
                model=sorted(set(PARENTS.values())),
            ),
        output:
            **table("changes", "What fine-tuning changed along a trace"),
        pathvars:
            job="tabulate_changes",
        params:
            **uses("tabulate_changes"),
            parents=PARENTS,
            tail=config["cliffs"]["tail"],
            seed=config["seed"],


if REPAIRED:

    use rule tabulate_rates as tabulate_repairs with:
        input:
            outcomes="<results>/outcomes.parquet",
            perplexities=expand("<results>/{model}/perplexity.parquet", model=REPAIRED),
            edits=repair_edits,
            costs=repair_costs(),
            eliminations=expand("<results>/{model}/repairs/elimination.parquet", model=REPAIRED),
            truths=truth_files(),
        output:
            **table("repairs", "Repairs side by side"),
            **table("repairs_matched", "Repairs at equal over-refusal", "matched_"),
            **table("repairs_minimal", "How many heads are needed", "minimal_"),
        pathvars:
            job="tabulate_repairs",
        params:
            **uses("tabulate_repairs"),
            models=REPAIRED,
            families=family_of(),
            bounds=config["repairs"]["over_refusal"],
            kept=config["repairs"]["kept"],
            operating=OPERATING,
            seed=config["seed"],


if "test" in ACTING:

    use rule tabulate_rates as tabulate_agent with:
        input:
            prompts="<results>/prompts/test.parquet",
            verdicts=expand("<results>/{model}/verdicts.parquet", model=MODELS),
            outcomes="<results>/outcomes.parquet",
            cliffs=TEST_CLIFFS,
        output:
            **table("agent", "Plans and actions"),
            **table("agent_cliffs", "Cliffs, in chat and before actions", "cliffs_"),
        pathvars:
            job="tabulate_agent",
        threads: TABLE_THREADS
        params:
            **uses("tabulate_agent"),
            seed=config["seed"],


# Transcripts of agents: nothing is generated, and the same judges, probes and tables read them.
use rule tabulate_rates as record_traces with:
    input:
        prompts="<results>/prompts/recorded.parquet",
        datasets=recorded_datasets,
    output:
        table="<results>/{model}/base/traces/recorded.parquet",
        sidecar="<results>/{model}/base/traces/recorded.json",
    pathvars:
        job="record_traces.{model}",
    wildcard_constraints:
        model=one_of(TRANSCRIPTS),
    params:
        **uses("record_traces"),


use rule collect_outcomes as collect_recorded_outcomes with:
    input:
        prompts="<results>/prompts/recorded.parquet",
        traces=expand("<results>/{model}/base/traces/recorded.parquet", model=TRANSCRIPTS),
        verdicts=recorded_verdicts,
    output:
        table="<results>/recorded_outcomes.parquet",
        sidecar="<results>/recorded_outcomes.json",
    pathvars:
        job="collect_recorded_outcomes",
    params:
        harm_judge="phrases",  # which follow the action; no guard is asked


use rule tabulate_rates as tabulate_recorded with:
    input:
        prompts="<results>/prompts/recorded.parquet",
        verdicts=recorded_verdicts,
        outcomes="<results>/recorded_outcomes.parquet",
        cliffs=[f"<results>/{name}/base/cliffs/recorded.parquet" for name in TRANSCRIPTS if name in PROBED],
    output:
        **csv_files("tables/recorded"),
        **csv_files("tables/recorded_cliffs", "cliffs_"),
    pathvars:
        job="tabulate_recorded",
    params:
        **uses("tabulate_agent"),
        seed=config["seed"],


use rule tabulate_rates as tabulate_detection with:
    input:
        outcomes="<results>/outcomes.parquet",
        cliffs=TEST_CLIFFS,
        sweeps=expand("<results>/{model}/base/cliffs/test_sweep.parquet", model=PROBED),
        sparsity="<results>/tables/sparsity.csv",
        rankings=expand(
            "<results>/{model}/heads/{ranking}.parquet",
            model=RANKED,
            ranking=RANKINGS,
        ),
        truths=truth_files(),
    output:
        **table("detection", "Detectors against known truth"),
        **table("detection_by_organism", "Detectors, organism by organism", "organism_"),
        **csv_files("tables/cliff_readings", "readings_"),
    pathvars:
        job="tabulate_detection",
    threads: TABLE_THREADS
    params:
        **uses("tabulate_detection"),
        families=family_of(),


use rule tabulate_rates as tabulate_recovery with:
    input:
        prompts="<results>/prompts/fit.parquet",
        truths=expand("<results>/{model}/truth.json", model=RECOVERY.index),
        verdicts=expand("<results>/{model}/base/verdicts/fit.parquet", model=RECOVERY.index),
        plantings=expand("<results>/{model}/planting.parquet", model=RECOVERY.index),
        rankings=expand(
            "<results>/{model}/heads/{ranking}.parquet",
            model=RECOVERY.index,
            ranking=RANKINGS,
        ),
    output:
        **csv_files("tables/recovery"),
        **csv_files("tables/recovery_summary", "summary_"),
        **csv_files("tables/recovery_pooled", "pooled_"),
        **csv_files("tables/recovery_heads", "heads_"),
        **csv_files("tables/recovery_plantings", "plantings_"),
    pathvars:
        job="tabulate_recovery",
    params:
        **uses("tabulate_recovery"),
        organisms=RECOVERY.reset_index().to_dict("records"),
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
