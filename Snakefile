from snakemake.utils import min_version

min_version("9.19")


configfile: "config/config.yaml"


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
include: "workflow/rules/tuning.smk"
include: "workflow/rules/recovery.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/targets.smk"


report: "workflow/report/workflow.rst"


onsuccess:
    print_claims()
