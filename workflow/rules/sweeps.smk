# One job a block of runs; then the blocks of every table put together.
rule run_block:
    output:
        **{
            table: f"{STUDY}/blocks/{{sweep}}/{{block}}/{table}.parquet"
            for table in TABLES
        },
    input:
        gate=rules.check_engine.output.checks,
        sequences=lambda wildcards: sequences_of(
            {
                **BLOCKS[wildcards.sweep, wildcards.block].grid,
                **BLOCKS[wildcards.sweep, wildcards.block].shared,
            }
        ),
    params:
        block=lambda wildcards: asdict(BLOCKS[wildcards.sweep, wildcards.block]),
        tolerance=config["gate"]["tolerance"],
        checked=config["gate"]["checked_runs_per_job"],
        device=config["device"],
        engine=ENGINE,
        code=code("oracle_checks", "study_data", "study_plan", "study_tables"),
    log:
        f"{STUDY}/logs/run_block/{{sweep}}/{{block}}.log",
    threads: 1
    script:
        "../scripts/run_block.py"


rule gather_table:
    output:
        table=f"{STUDY}/tables/{{table}}.parquet",
    input:
        blocks=lambda wildcards: [
            *([rules.check_engine.output.checks] if wildcards.table == "checks" else []),
            *(
                f"{STUDY}/blocks/{sweep}/{block}/{wildcards.table}.parquet"
                for sweep, block in BLOCKS
            ),
        ],
    params:
        config=config,
        code=code("study_provenance", "study_tables"),
    log:
        f"{STUDY}/logs/gather_table/{{table}}.log",
    script:
        "../scripts/gather_table.py"
