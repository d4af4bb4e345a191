rule read_dataset:
    output:
        table="<results>/datasets/{dataset}.parquet",
        sidecar="<results>/datasets/{dataset}.json",
    log:
        "<logs>/read_dataset/{dataset}.log",
    benchmark:
        "<benchmarks>/read_dataset/{dataset}.jsonl"
    wildcard_constraints:
        dataset=one_of(dataset_sheet.index[dataset_sheet["source"] != "hub"]),
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=10,
    params:
        row=dataset_row,
        templates=dataset_templates,
        data_dir=config["data_dir"],
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
    threads: 1
    resources:
        gpu=0,
        mem_mb=4000,
        runtime=60,
    params:
        row=dataset_row,
        templates=dataset_templates,
        seed=config["seed"],
        code=code_hash("download_dataset"),
    script:
        "../scripts/download_dataset.py"


rule assemble_prompts:
    input:
        tables=expand(
            "<results>/datasets/{dataset}.parquet", dataset=dataset_sheet.index
        ),
    output:
        prompts=expand("<results>/prompts/{prompts}.parquet", prompts=PROMPT_SETS),
        sidecars=expand("<results>/prompts/{prompts}.json", prompts=PROMPT_SETS),
        dropped="<results>/prompts/decontamination.csv",
    log:
        "<logs>/assemble_prompts.log",
    benchmark:
        "<benchmarks>/assemble_prompts.jsonl"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=2000,
        runtime=10,
    params:
        sets=dataset_sheet["set"].to_dict(),
        code=code_hash("assemble_prompts"),
    script:
        "../scripts/assemble_prompts.py"
