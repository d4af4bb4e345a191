rule write_edit:
    input:
        unpack(edit_inputs),
    output:
        edit="<results>/{model}/variants/{variant}/edit.json",
    log:
        "<logs>/write_edit/{model}.{variant}.log",
    benchmark:
        "<benchmarks>/write_edit/{model}.{variant}.jsonl"
    wildcard_constraints:
        variant="base|ablate-[^/]+",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=500,
        runtime=10,
    params:
        fraction=ablated_fraction,
        code=code_hash("write_edit"),
    script:
        "../scripts/write_edit.py"
