rule build_report:
    input:
        "<results>/claims.csv",
        rules.tables.input,
        rules.figures.input,
    output:
        report="<results>/report.html",
        config="<results>/config.yaml",
    log:
        "<logs>/build_report.log",
    benchmark:
        "<benchmarks>/build_report.jsonl"
    conda:
        "../../envs/workflow.yaml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=1000,
        runtime=20,
    params:
        config=config,
    script:
        "../scripts/build_report.py"
