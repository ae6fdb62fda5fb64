# One job a block of runs; jobs that verify samples of them; then the blocks of every table put together.
BLOCK_TABLES = [table for table in TABLES if table != "checks"]


rule run_block:
    input:
        gate=rules.check_engine.output.checks,
        sequences=lambda wildcards: sequences_of(
            [BLOCKS[wildcards.sweep, wildcards.block]]
        ),
    output:
        **{
            table: f"{STUDY}/blocks/{{sweep}}/{{block}}/{table}.parquet"
            for table in BLOCK_TABLES
        },
    log:
        f"{STUDY}/logs/run_block/{{sweep}}/{{block}}.log",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **resources.of_blocks(BLOCKS, config),
    params:
        block=lambda wildcards: asdict(BLOCKS[wildcards.sweep, wildcards.block]),
        device=config["device"],
        memory_mb=config.get("memory_mb"),
        engine=ENGINE,
        cache=f"{STUDY}/cache",
        code=code("run_block"),
    script:
        "../scripts/run_block.py"


# A sample of every block's runs, once more and beside PyTorch, in jobs of their own.
rule verify_runs:
    input:
        sequences=lambda wildcards: sequences_of(
            VERIFICATIONS[wildcards.sweep, wildcards.group]
        ),
        traces=lambda wildcards: [
            f"{STUDY}/blocks/{block.sweep}/{block.name}/traces.parquet"
            for block in VERIFICATIONS[wildcards.sweep, wildcards.group]
        ],
    output:
        checks=f"{STUDY}/verified/{{sweep}}/{{group}}/checks.parquet",
        timings=f"{STUDY}/verified/{{sweep}}/{{group}}/timings.parquet",
    log:
        f"{STUDY}/logs/verify_runs/{{sweep}}/{{group}}.log",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **resources.of_verifications(VERIFICATIONS, config),
    params:
        blocks=lambda wildcards: [
            asdict(block) for block in VERIFICATIONS[wildcards.sweep, wildcards.group]
        ],
        tolerance=config["gate"]["tolerance"],
        checked=CHECKED,
        device=config["device"],
        memory_mb=config.get("memory_mb"),
        engine=ENGINE,
        cache=f"{STUDY}/cache",
        code=code("verify_runs"),
    script:
        "../scripts/verify_runs.py"


rule gather_table:
    input:
        blocks=lambda wildcards: (
            [rules.check_engine.output.checks, *verified("checks")]
            if wildcards.table == "checks"
            else [
                f"{STUDY}/blocks/{sweep}/{block}/{wildcards.table}.parquet"
                for sweep, block in BLOCKS
            ]
        ),
        verified=lambda wildcards: (
            verified({"runs": "checks", "timings": "timings"}[wildcards.table])
            if wildcards.table in ("runs", "timings")
            else []
        ),
    output:
        table=f"{STUDY}/tables/{{table}}.parquet",
    log:
        f"{STUDY}/logs/gather_table/{{table}}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **TABLE_RESOURCES,
    params:
        config=config,
        code=code("gather_table"),
    script:
        "../scripts/gather_table.py"
