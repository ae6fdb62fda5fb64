# What the study will take, before it starts or while it runs: `snakemake plan --cores all --nolock`.
# Without a lock: see may_plan in files.smk.
rule plan:
    input:
        sequences=lambda wildcards: SEQUENCES if may_plan() else [],
        cells=CELLS,
    log:
        f"{STUDY}/logs/plan.log",
    localrule: True  # its answer is for the terminal
    conda:
        "../envs/environment.yaml"
    params:
        config=config,
        cores=lambda wildcards: workflow.resource_settings.cores or 1,
        cache=f"{STUDY}/cache",
    script:
        "../scripts/plan_study.py"
