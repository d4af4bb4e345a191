# What models say, and what the judges say of it.

# Without a guard among the models, phrases alone judge.
GUARD = config["judges"]["guard"]["model"]
GUARDED = GUARD in model_sheet.index
GUARD_ROW = sheets.record(model_sheet, GUARD) if GUARDED else {}


rule generate_traces:
    input:
        unpack(model_inputs),
        check=prompts_check,
        prompts=asked_prompts,
        base=continued_traces,
        edit=edit_of,
    output:
        table="<results>/{model}/{variant}/traces/{prompts}.parquet",
        sidecar="<results>/{model}/{variant}/traces/{prompts}.json",
    log:
        "<logs>/generate_traces/{model}.{variant}.{prompts}.log",
    benchmark:
        "<benchmarks>/generate_traces/{model}.{variant}.{prompts}.jsonl"
    wildcard_constraints:
        prompts=one_of([*ASKED, *ATTACK_SETS]),
    conda:
        "../../envs/inference.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        generation=config["generation"],
        seed=config["seed"],
        code=code_hash("generate_traces"),
    script:
        "../scripts/generate_traces.py"


# Probes are trained on, and examples chosen from, what the base model did with a set of prompts.
rule judge_traces:
    input:
        unpack(guard_inputs),
        prompts="<results>/prompts/{prompts}.parquet",
        traces=["<results>/{model}/base/traces/{prompts}.parquet"],
    output:
        table="<results>/{model}/base/verdicts/{prompts}.parquet",
        sidecar="<results>/{model}/base/verdicts/{prompts}.json",
    log:
        "<logs>/judge_traces/{model}.{prompts}.log",
    benchmark:
        "<benchmarks>/judge_traces/{model}.{prompts}.jsonl"
    wildcard_constraints:
        prompts=one_of(["fit", "pool", RECORDED]),
    conda:
        "../../envs/inference.yaml"
    resources:
        gpu=lambda wildcards: GUARD_ROW["gpus"] if guarded(wildcards) else 0,
        mem_mb=growing(GUARD_ROW.get("mem_mb", 1000)),
        runtime=growing(GUARD_ROW.get("runtime_min", 10)),
    params:
        model=lambda wildcards: loading(GUARD) if guarded(wildcards) else None,
        judges=judging,
        as_released=False,
        code=code_hash("judge_traces"),
    script:
        "../scripts/judge_traces.py"


# All variants of a model in one job: a guard may be the largest model of a run, and it is loaded once.
use rule judge_traces as judge_variants with:
    input:
        unpack(guard_inputs),
        prompts="<results>/prompts/test.parquet",
        traces=test_traces,
    output:
        table="<results>/{model}/{grid}verdicts.parquet",
        sidecar="<results>/{model}/{grid}verdicts.json",
    log:
        "<logs>/judge_variants/{model}.{grid}all.log",
    benchmark:
        "<benchmarks>/judge_variants/{model}.{grid}all.jsonl"
    params:
        model=lambda wildcards: loading(GUARD) if guarded(wildcards) else None,
        judges=judging,
        as_released=config["as_released"],
        code=code_hash("judge_traces"),
