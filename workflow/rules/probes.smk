# Refusal probes: the states they are trained on, the probes, what they are worth, and the scores they read along traces.


rule extract_activations:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
    output:
        resid="<results>/{model}/activations/fit.safetensors",
        rows="<results>/{model}/activations/fit_rows.parquet",
        sidecars=multiext("<results>/{model}/activations/fit", ".json", "_rows.json"),
    log:
        "<logs>/extract_activations/{model}.log",
    benchmark:
        "<benchmarks>/extract_activations/{model}.jsonl"
    conda:
        "../../envs/inference.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        activations=config["activations"],
        code=code_hash("extract_activations"),
    script:
        "../scripts/extract_activations.py"


rule train_probes:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/fit.parquet",
        traces="<results>/{model}/base/traces/fit.parquet",
        verdicts="<results>/{model}/base/verdicts/fit.parquet",
        resid="<results>/{model}/activations/fit.safetensors",
        rows="<results>/{model}/activations/fit_rows.parquet",
    output:
        probes=expand("<results>/{{model}}/probes/{probe}.safetensors", probe=PROBES),
        sidecars=expand("<results>/{{model}}/probes/{probe}.json", probe=PROBES),
    log:
        "<logs>/train_probes/{model}.log",
    benchmark:
        "<benchmarks>/train_probes/{model}.jsonl"
    conda:
        "../../envs/inference.yaml"
    resources:
        mem_mb=MODEL_RESOURCES["mem_mb"],
        runtime=MODEL_RESOURCES["runtime"],
    params:
        recipes=config["probes"],
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("train_probes"),
    script:
        "../scripts/train_probes.py"


rule score_cliffs:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/{prompts}.parquet",
        traces="<results>/{model}/{variant}/traces/{prompts}.parquet",
        edit=edit_of,
        probes=reading_probes,
    output:
        table="<results>/{model}/{variant}/cliffs/{prompts}.parquet",
        refits="<results>/{model}/{variant}/cliffs/{prompts}_refits.parquet",
        sidecars=multiext("<results>/{model}/{variant}/cliffs/{prompts}", ".json", "_refits.json"),
    log:
        "<logs>/score_cliffs/{model}.{variant}.{prompts}.log",
    benchmark:
        "<benchmarks>/score_cliffs/{model}.{variant}.{prompts}.jsonl"
    conda:
        "../../envs/inference.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        model=model_loading,
        grid=config["cliffs"]["grid"],
        tail=config["cliffs"]["tail"],
        code=code_hash("score_cliffs"),
    script:
        "../scripts/score_cliffs.py"


# The base model's test traces also give the states that probes are measured on, and the robustness sweep: the model is
# loaded once for all.
use rule score_cliffs as score_test_traces with:
    input:
        unpack(model_inputs),
        prompts="<results>/prompts/test.parquet",
        traces="<results>/{model}/base/traces/test.parquet",
        probes=reading_probes,
    output:
        table="<results>/{model}/base/cliffs/test.parquet",
        refits="<results>/{model}/base/cliffs/test_refits.parquet",
        sweep="<results>/{model}/base/cliffs/test_sweep.parquet",
        resid="<results>/{model}/activations/test.safetensors",
        rows="<results>/{model}/activations/test_rows.parquet",
        sidecars=multiext("<results>/{model}/base/cliffs/test", ".json", "_refits.json", "_sweep.json"),
        resid_sidecars=multiext("<results>/{model}/activations/test", ".json", "_rows.json"),
    log:
        "<logs>/score_test_traces/{model}.log",
    benchmark:
        "<benchmarks>/score_test_traces/{model}.jsonl"
    params:
        model=model_loading,
        grid=config["cliffs"]["grid"],
        tail=config["cliffs"]["tail"],
        activations=config["activations"],
        code=code_hash("score_cliffs"),


ruleorder: score_test_traces > score_cliffs


rule evaluate_probes:
    input:
        fit_prompts="<results>/prompts/fit.parquet",
        fit_verdicts="<results>/{model}/base/verdicts/fit.parquet",
        fit_resid="<results>/{model}/activations/fit.safetensors",
        fit_rows="<results>/{model}/activations/fit_rows.parquet",
        test_prompts="<results>/prompts/test.parquet",
        test_verdicts="<results>/{model}/verdicts.parquet",
        test_resid="<results>/{model}/activations/test.safetensors",
        test_rows="<results>/{model}/activations/test_rows.parquet",
        probes=expand("<results>/{{model}}/probes/{probe}.safetensors", probe=PROBES),
    output:
        table="<results>/{model}/probes.parquet",
        calibration="<results>/{model}/calibration.parquet",
        sidecars=multiext("<results>/{model}/", "probes.json", "calibration.json"),
    log:
        "<logs>/evaluate_probes/{model}.log",
    benchmark:
        "<benchmarks>/evaluate_probes/{model}.jsonl"
    conda:
        "../../envs/inference.yaml"
    resources:
        mem_mb=MODEL_RESOURCES["mem_mb"],
        runtime=MODEL_RESOURCES["runtime"],
    params:
        recipes=config["probes"],
        refusal_judge=config["judges"]["refusal"],
        seed=config["seed"],
        code=code_hash("evaluate_probes"),
    script:
        "../scripts/evaluate_probes.py"
