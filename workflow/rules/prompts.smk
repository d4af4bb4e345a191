# Prompts: each dataset as its source has it, then prompt sets that share no request.


rule read_dataset:
    input:
        unpack(data_file),
    output:
        table="<results>/datasets/{dataset}.parquet",
        sidecar="<results>/datasets/{dataset}.json",
    log:
        "<logs>/read_dataset/{dataset}.log",
    benchmark:
        "<benchmarks>/read_dataset/{dataset}.jsonl"
    wildcard_constraints:
        dataset=one_of(dataset_sheet.index[dataset_sheet["source"] != "hub"]),
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        row=dataset_row,
        templates=templates,
        context=context,
        # Not the time stamp alone: a file that is unpacked in place of another may be older than what was read.
        sha256=data_checksum,
        seed=config["seed"],
        code=code_hash("read_dataset"),
    script:
        "../scripts/read_dataset.py"


rule download_dataset:
    output:
        table="<results>/datasets/{dataset}.parquet",
        sidecar="<results>/datasets/{dataset}.json",
    log:
        "<logs>/download_dataset/{dataset}.log",
    benchmark:
        "<benchmarks>/download_dataset/{dataset}.jsonl"
    wildcard_constraints:
        dataset=one_of(dataset_sheet.index[dataset_sheet["source"] == "hub"]),
    retries: 2
    conda:
        "../../envs/download.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        row=dataset_row,
        templates=templates,
        context=context,
        seed=config["seed"],
        code=code_hash("download_dataset"),
    script:
        "../scripts/download_dataset.py"


rule assemble_prompts:
    input:
        tables=assembled_datasets,
    output:
        prompts="<results>/prompts/{prompts}.parquet",
        sidecar="<results>/prompts/{prompts}.json",
        dropped="<results>/prompts/{prompts}_dropped.csv",
    log:
        "<logs>/assemble_prompts/{prompts}.log",
    benchmark:
        "<benchmarks>/assemble_prompts/{prompts}.jsonl"
    wildcard_constraints:
        prompts=one_of(PROMPT_SETS),  # attacks have a rule of their own
    conda:
        "../../envs/analysis.yaml"
    params:
        sets=assembled_sets,
        code=code_hash("assemble_prompts"),
    script:
        "../scripts/assemble_prompts.py"
