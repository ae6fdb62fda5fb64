# What the study will take, before it starts or while it runs: `snakemake plan --cores all --nolock --quiet all`.
# Without a lock: see require_no_lock in files.smk.
def planned_sequences(wildcards):
    """The only function of a plan that Snakemake calls after it read the command line and before it locks."""
    require_no_lock()
    return SEQUENCES


rule plan:
    input:
        sequences=planned_sequences,
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
