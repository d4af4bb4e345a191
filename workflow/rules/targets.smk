# One target per stage: `snakemake --cores 2 heads` stops after the head rankings. `make help` lists what each makes.


rule prompts:
    "prompt sets without overlap"
    input:
        expand("<results>/prompts/{prompts}.parquet", prompts=PROMPT_SETS),


rule check:
    "what the run will ask of data, sheets and models, in seconds, on any machine"
    input:
        rules.prompts.input,
        expand("<results>/{model}/check.md", model=CHECKED),
        expand(
            "<results>/{model}/check_{prompts}.md",
            model=[model for model in CHECKED if model in MODELS],
            prompts=ASKED,
        ),


rule organisms:
    "the small models of the default"
    input:
        expand("<results>/{model}/checkpoint", model=ORGANISMS),


rule traces:
    "thinking and responses of the base models"
    input:
        expand(
            "<results>/{model}/base/traces/{prompts}.parquet",
            model=MODELS,
            prompts=["fit", "test"],
        ),


rule verdicts:
    "judgements of them"
    input:
        expand("<results>/{model}/base/verdicts/fit.parquet", model=MODELS),
        expand("<results>/{model}/verdicts.parquet", model=MODELS),


rule activations:
    "hidden states that probes are trained on"
    input:
        expand("<results>/{model}/activations/fit.safetensors", model=READERS),


rule probes:
    "refusal probes"
    input:
        expand("<results>/{model}/probes.parquet", model=READERS),


rule cliffs:
    "refusal scores along each trace"
    input:
        expand("<results>/{model}/base/cliffs/test.parquet", model=PROBED),


rule heads:
    "effects and rankings of all heads"
    input:
        expand("<results>/{model}/heads/effects.parquet", model=RANKED),


rule ablations:
    "verdicts after every intervention on heads"
    input:
        run_files(runs(kinds=ON_HEADS), "{model}/{variant}/traces/test.parquet"),
        expand("<results>/{model}/verdicts.parquet", model=ABLATED),


rule selections:
    "training examples chosen from the pool"
    input:
        rules.tabulate_selection.input.selections,


rule tunings:
    "verdicts on tuned models"
    input:
        run_files(runs(kinds=("tune", "early")), "{model}/{variant}/traces/test.parquet"),
        expand("<results>/{model}/verdicts.parquet", model=TUNED),


rule tables:
    "results/tables"
    input:
        [path.replace("{grid}", "") for path in TABLES],


rule figures:
    "results/figures"
    input:
        [path.replace("{grid}", "") for path in FIGURES],


rule claims:
    "what held, with intervals"
    input:
        rules.evaluate_claims.output.csv,


rule grid:
    "interventions on finer steps: tables and figures grid_*"
    input:
        [path.replace("{grid}", "grid_") for path in TABLES + FIGURES if "{grid}" in path],


rule instruments:
    "with config/instruments.yaml: many seeds of every family, and what they say of every detector"
    input:
        rules.tabulate_detection.output.csv,
        rules.plot_detection.output.detection_svg,
        rules.plot_curves.output.curves_svg,
        rules.evaluate_claims.output.csv,


rule repairs:
    "with config/repairs.yaml: repairs side by side at equal over-refusal"
    input:
        [rules.tabulate_repairs.output.csv, rules.plot_repairs.output.repairs_svg, rules.evaluate_claims.output.csv]
        if REPAIRED
        else [],


if "test" in ACTING:

    rule agents:
        "with config/agents.yaml: what was planted in chat, looked for where models act"
        input:
            rules.tabulate_agent.output.csv,
            rules.plot_agent.output.agent_svg,
            rules.evaluate_claims.output.csv,


rule recovery:
    "how well rankings find planted circuits"
    input:
        rules.tabulate_recovery.output.csv,


rule harness:
    "tasks of lm-evaluation-harness; needs --software-deployment-method conda, which installs it"
    input:
        rules.tabulate_harness.output.csv,


rule transfer:
    "with config/transfer.yaml: prompts that were searched on one model, asked of others"
    input:
        rules.tabulate_transfer.output.csv,
        rules.plot_transfer.output.transfer_svg,


rule recorded:
    "transcripts that agents wrote elsewhere (set recorded of the dataset sheet): plans, actions, cliffs"
    input:
        rules.tabulate_recorded.output.csv,


rule trace_viewer:
    "results/traces.html: traces token by token"
    input:
        rules.build_trace_viewer.output.page,
