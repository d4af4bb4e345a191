# Do prompts that activate the suppression circuit of one model work on others? Wrappers are searched on sources, put
# around test requests, and asked of every target: target transfer.

SOURCES = config["transfer"]["sources"]
ATTACKED = list(dict.fromkeys([*SOURCES, *config["transfer"]["targets"]]))


# Neutral wrappers alone, and nothing is generated: queries are forward passes over requests of set fit.
rule search_attacks:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        verdicts="<results>/{model}/base/verdicts/fit.parquet",
        probe=ranking_probe,
        ranking=expand("<results>/{{model}}/heads/{ranking}.parquet", ranking=OPERATING)[0],
        test="<results>/prompts/test.parquet",
    output:
        datasets=expand(
            "<results>/datasets/attack.{{model}}.{objective}.parquet",
            objective=OBJECTIVES,
        ),
        search="<results>/{model}/attack_search.parquet",
        sidecars=expand("<results>/datasets/attack.{{model}}.{objective}.json", objective=OBJECTIVES),
        search_sidecar="<results>/{model}/attack_search.json",
    log:
        "<logs>/search_attacks/{model}.log",
    benchmark:
        "<benchmarks>/search_attacks/{model}.jsonl"
    wildcard_constraints:
        model=one_of(SOURCES),
    conda:
        "../../envs/inference.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        transfer={key: config["transfer"][key] for key in ("fit", "test", "requests", "rounds", "kept")},
        fraction=config["claims"]["fraction"],
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("search_attacks"),
    script:
        "../scripts/search_attacks.py"


rule assemble_attacks:
    input:
        datasets=searched_datasets,
        test="<results>/prompts/test.parquet",
    output:
        members="<results>/attacks.parquet",
        attack="<results>/prompts/attack.parquet",
        own=expand("<results>/{source}/own_attacks.parquet", source=SOURCES),
        prefill="<results>/prompts/prefill.parquet",
        sidecars=expand("<results>/{name}.json", name=["attacks", "prompts/attack", "prompts/prefill"]),
        own_sidecars=expand("<results>/{source}/own_attacks.json", source=SOURCES),
    log:
        "<logs>/assemble_attacks.log",
    benchmark:
        "<benchmarks>/assemble_attacks.jsonl"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        sources=SOURCES,
        requests=config["transfer"]["test"],
        code=code_hash("assemble_attacks"),
    script:
        "../scripts/assemble_attacks.py"


rule prefill_thinking:
    input:
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        verdicts="<results>/{model}/base/verdicts/fit.parquet",
        prefill="<results>/prompts/prefill.parquet",
        own="<results>/{model}/base/traces/attack.parquet",
    output:
        table="<results>/{model}/prefilled.parquet",
        sidecar="<results>/{model}/prefilled.json",
    log:
        "<logs>/prefill_thinking/{model}.log",
    benchmark:
        "<benchmarks>/prefill_thinking/{model}.jsonl"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        benign=config["heads"]["benign"],
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("prefill_thinking"),
    script:
        "../scripts/prefill_thinking.py"


use rule judge_traces as judge_attacks with:
    input:
        unpack(guard_inputs),
        prompts="<results>/prompts/{prompts}.parquet",
        traces=attacked_traces,
    output:
        table="<results>/{model}/{prompts}_verdicts.parquet",
        sidecar="<results>/{model}/{prompts}_verdicts.json",
    log:
        "<logs>/judge_attacks/{model}.{prompts}.log",
    benchmark:
        "<benchmarks>/judge_attacks/{model}.{prompts}.jsonl"
    wildcard_constraints:
        prompts=one_of(ATTACK_SETS),


use rule collect_outcomes as collect_attack_outcomes with:
    input:
        prompts="<results>/prompts/{prompts}.parquet",
        traces=all_attacked_traces,
        verdicts=expand("<results>/{model}/{{prompts}}_verdicts.parquet", model=ATTACKED),
    output:
        table="<results>/{prompts}_outcomes.parquet",
        sidecar="<results>/{prompts}_outcomes.json",
    pathvars:
        job="collect_attack_outcomes.{prompts}",
    wildcard_constraints:
        prompts=one_of(ATTACK_SETS),


use rule tabulate_rates as tabulate_transfer with:
    input:
        members="<results>/attacks.parquet",
        prefill_prompts="<results>/prompts/prefill.parquet",
        attack="<results>/attack_outcomes.parquet",
        prefill="<results>/prefill_outcomes.parquet",
        searches=expand("<results>/{model}/attack_search.parquet", model=SOURCES),
        truths=truth_files(ATTACKED),
    output:
        **csv_files("tables/transfer"),
        **csv_files("tables/transfer_summary", "summary_"),
        **csv_files("tables/attack_rates", "rates_"),
        **csv_files("tables/attack_wrappers", "wrappers_"),
    pathvars:
        job="tabulate_transfer",
    params:
        **uses("tabulate_transfer"),
        sources=SOURCES,
        models=ATTACKED,
        bases={model: oldest_ancestor(model) for model in ATTACKED},
        harm_judge=config["judges"]["harm"],
        seed=config["seed"],


use rule plot_curves as plot_transfer with:
    input:
        transfer="<results>/tables/transfer.csv",
    output:
        transfer_svg="<results>/figures/transfer.svg",
        transfer_pdf="<results>/figures/transfer.pdf",
    pathvars:
        job="plot_transfer",
    params:
        **uses("plot_transfer"),
