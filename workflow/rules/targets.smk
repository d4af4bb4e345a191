# One target per stage: `snakemake --cores 2 heads` stops after the head rankings.


rule prompts:
    input:
        expand("<results>/prompts/{prompts}.parquet", prompts=PROMPT_SETS),


# Seconds, on any machine: data, sheets and models are what the run will need them to be.
rule check:
    input:
        rules.prompts.input,
        expand("<results>/{model}/check.md", model=CHECKED),
        expand(
            "<results>/{model}/check_{prompts}.md",
            model=[model for model in CHECKED if model in MODELS],
            prompts=ASKED,
        ),


rule organisms:
    input:
        expand("<results>/{model}/checkpoint", model=ORGANISMS),


rule traces:
    input:
        expand(
            "<results>/{model}/base/traces/{prompts}.parquet",
            model=MODELS,
            prompts=["fit", "test"],
        ),


rule verdicts:
    input:
        expand("<results>/{model}/base/verdicts/fit.parquet", model=MODELS),
        expand("<results>/{model}/verdicts.parquet", model=MODELS),


rule activations:
    input:
        expand("<results>/{model}/activations/fit.safetensors", model=READERS),


rule probes:
    input:
        expand("<results>/{model}/probes.parquet", model=READERS),


rule cliffs:
    input:
        expand("<results>/{model}/base/cliffs/test.parquet", model=PROBED),


rule heads:
    input:
        expand("<results>/{model}/heads/effects.parquet", model=RANKED),


rule ablations:
    input:
        run_files(runs(kinds=ON_HEADS), "{model}/{variant}/traces/test.parquet"),
        expand("<results>/{model}/verdicts.parquet", model=ABLATED),


rule selections:
    input:
        rules.tabulate_selection.input.selections,


rule tunings:
    input:
        run_files(runs(kinds=("tune", "early")), "{model}/{variant}/traces/test.parquet"),
        expand("<results>/{model}/verdicts.parquet", model=TUNED),


rule tables:
    input:
        [path.replace("{grid}", "") for path in TABLES],


rule figures:
    input:
        [path.replace("{grid}", "") for path in FIGURES],


rule claims:
    input:
        rules.evaluate_claims.output.csv,


rule grid:
    input:
        [path.replace("{grid}", "grid_") for path in TABLES + FIGURES if "{grid}" in path],


# With config/instruments.yaml: many seeds of every family, and what they say of every detector.
rule instruments:
    input:
        rules.tabulate_detection.output.csv,
        rules.plot_detection.output.detection_svg,
        rules.plot_curves.output.curves_svg,
        rules.evaluate_claims.output.csv,


# With config/repairs.yaml: what a practitioner would pick, at which cost.
rule repairs:
    input:
        [rules.tabulate_repairs.output.csv, rules.plot_repairs.output.repairs_svg, rules.evaluate_claims.output.csv]
        if REPAIRED
        else [],


# With config/agents.yaml: what was planted in chat, looked for where models act.
if "test" in ACTING:

    rule agents:
        input:
            rules.tabulate_agent.output.csv,
            rules.plot_agent.output.agent_svg,
            rules.evaluate_claims.output.csv,


rule recovery:
    input:
        rules.tabulate_recovery.output.csv,


# Needs lm-evaluation-harness: with --software-deployment-method conda it is installed.
rule harness:
    input:
        rules.tabulate_harness.output.csv,


# With config/transfer.yaml: prompts that were searched on one model, asked of others.
rule transfer:
    input:
        rules.tabulate_transfer.output.csv,
        rules.plot_transfer.output.transfer_svg,


rule trace_viewer:
    input:
        rules.build_trace_viewer.output.page,
