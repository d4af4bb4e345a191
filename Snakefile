from pathlib import Path

from snakemake.utils import min_version

min_version("9.19")


# With -d or as a module the working directory may have no config of its own.
config_file = Path("config/config.yaml")


configfile: config_file if config_file.is_file() else workflow.source_path(config_file)


rule all:
    input:
        "<results>/report.html",


include: "workflow/rules/common.smk"
include: "workflow/rules/functions.smk"
include: "workflow/rules/prompts.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/traces.smk"
include: "workflow/rules/probes.smk"
include: "workflow/rules/heads.smk"
include: "workflow/rules/repairs.smk"
include: "workflow/rules/tuning.smk"
include: "workflow/rules/recovery.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/harness.smk"
include: "workflow/rules/viewer.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/transfer.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/targets.smk"


report: "workflow/report/workflow.rst"


onstart:
    places.check_writable({key: workflow.pathvars.apply(f"<{key}>") for key in ("results", "logs", "benchmarks")})


onsuccess:
    print_claims()
