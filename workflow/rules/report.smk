# The paper's claims and its reviewers' questions, decided on every model; and one page with everything that was found.

import time

STARTED = time.time()
KNOWN_TABLES = {Path(path).stem.removeprefix("{grid}") for path in TABLES}
CLAIM_TABLES = sorted({"alignment", *claim_sheet["table"]} | {"guard"} & KNOWN_TABLES)
if unknown := set(CLAIM_TABLES) - KNOWN_TABLES:
    raise WorkflowError(
        f"{config['sheets']['claims']}: no table {', '.join(unknown)}; choose one of {', '.join(sorted(KNOWN_TABLES))}"
    )


rule evaluate_claims:
    input:
        claims=local(config["sheets"]["claims"]),
        tables=expand("<results>/tables/{table}.csv", table=CLAIM_TABLES),
        truths=truth_files(),
    output:
        **csv_files("claims", "", "claims", "1. What held", "1b All claims"),
        **csv_files("claims_by_seed", "by_seed_", "claims_by_seed", "1. What held", "1c All claims by seed"),
        verdicts=report(
            "<results>/verdicts.html",
            caption="../report/verdicts.rst",
            category="1. What held",
            labels={"table": "1a What held, and where"},
        ),
    log:
        "<logs>/evaluate_claims.log",
    benchmark:
        "<benchmarks>/evaluate_claims.jsonl"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        families=family_of(),
        probes={name: recipe["positions"] for name, recipe in config["probes"].items()},
        claims=config["claims"] | {"operating": OPERATING, "early": next(iter(config["tuning"]["early"]), 0)},
        harm_judge=config["judges"]["harm"],
        probe=config["cliffs"]["probe"],
        seed=config["seed"],
        code=code_hash("evaluate_claims"),
    script:
        "../scripts/evaluate_claims.py"


rule build_tables_page:
    input:
        [path.replace("{grid}", "") for path in TABLES],
    output:
        page=report(
            "<results>/tables.html",
            caption="../report/tables.rst",
            category="1. What held",
            labels={"table": "1d All tables, to be sorted and searched"},
        ),
    log:
        "<logs>/build_tables_page.log",
    benchmark:
        "<benchmarks>/build_tables_page.jsonl"
    localrule: True
    conda:
        "../../envs/analysis.yaml"
    params:
        code=code_hash("build_tables_page"),
    script:
        "../scripts/build_tables_page.py"


rule build_report:
    input:
        rules.evaluate_claims.output.verdicts,
        rules.evaluate_claims.output.csv,
        rules.evaluate_claims.output.by_seed_csv,
        rules.build_tables_page.output.page,
        [path.replace("{grid}", "") for path in TABLES + FIGURES],
    output:
        report="<results>/report.html",
        config="<results>/config.yaml",
    log:
        "<logs>/build_report.log",
    benchmark:
        "<benchmarks>/build_report.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        snakefile=workflow.main_snakefile,
        overwrite=workflow.config_settings.overwrite_config,
        config=config,
    script:
        "../scripts/build_report.py"
