# One job a block of runs; then the blocks of every table put together.
rule run_block:
    input:
        gate=rules.check_engine.output.checks,
        sequences=lambda wildcards: sequences_of(
            {
                **BLOCKS[wildcards.sweep, wildcards.block].grid,
                **BLOCKS[wildcards.sweep, wildcards.block].shared,
            }
        ),
    output:
        **{
            table: f"{STUDY}/blocks/{{sweep}}/{{block}}/{table}.parquet"
            for table in TABLES
        },
    log:
        f"{STUDY}/logs/run_block/{{sweep}}/{{block}}.log",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **study_resources.of_blocks(BLOCKS, config),
    params:
        block=lambda wildcards: asdict(BLOCKS[wildcards.sweep, wildcards.block]),
        tolerance=config["gate"]["tolerance"],
        checked=config["gate"]["checked_runs_per_job"],
        device=config["device"],
        memory_mb=config.get("memory_mb"),
        engine=ENGINE,
        cache=f"{STUDY}/cache",
        code=code("run_block"),
    script:
        "../scripts/run_block.py"


rule gather_table:
    input:
        blocks=lambda wildcards: [
            *(
                [rules.check_engine.output.checks]
                if wildcards.table == "checks"
                else []
            ),
            *(
                f"{STUDY}/blocks/{sweep}/{block}/{wildcards.table}.parquet"
                for sweep, block in BLOCKS
            ),
        ],
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
