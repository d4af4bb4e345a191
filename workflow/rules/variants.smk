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
        variant="base|(ablate|boundary|released|scale|keep)-[^/]+",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=500,
        runtime=10,
    params:
        code=code_hash("write_edit"),
    script:
        "../scripts/write_edit.py"


rule write_replacement:
    input:
        unpack(edit_inputs),
        means="<results>/{model}/heads/means.safetensors",
    output:
        edit="<results>/{model}/variants/{variant}/edit.json",
        values="<results>/{model}/variants/{variant}/values.safetensors",
        sidecar="<results>/{model}/variants/{variant}/values.json",
    log:
        "<logs>/write_replacement/{model}.{variant}.log",
    benchmark:
        "<benchmarks>/write_replacement/{model}.{variant}.jsonl"
    wildcard_constraints:
        variant="(mean|restore)-[^/]+",
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=500,
        runtime=10,
    params:
        code=code_hash("write_replacement"),
    script:
        "../scripts/write_replacement.py"
