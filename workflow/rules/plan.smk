# What the study will take, before it starts: `snakemake plan`.
rule plan:
    input:
        sequences=SEQUENCES,
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
