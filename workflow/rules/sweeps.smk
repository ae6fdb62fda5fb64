# One job a block of runs; jobs that verify samples of them; then the blocks of every table put together. Blocks and verifications
# start beside the engine check. Its verdict is waited for before a table is made. The longest jobs start first.
BLOCK_TABLES = [table for table in TABLES if table not in ("checks", "theory", "cliff")]


rule run_block:
    input:
        sequences=lambda wildcards: sequences_of(
            [BLOCKS[wildcards.sweep, wildcards.block]]
        ),
        cells=lambda wildcards: cells_of([BLOCKS[wildcards.sweep, wildcards.block]]),
        proved=lambda wildcards: proofs_of([BLOCKS[wildcards.sweep, wildcards.block]]),
    output:
        **{
            table: f"{STUDY}/blocks/{{sweep}}/{{block}}/{table}.parquet"
            for table in BLOCK_TABLES
        },
    log:
        f"{STUDY}/logs/run_block/{{sweep}}/{{block}}.log",
    priority: seconds_of_block
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **resources.of_blocks(BLOCKS, config),
    params:
        block=lambda wildcards: asdict(BLOCKS[wildcards.sweep, wildcards.block]),
        device=config["device"],
        memory_mb=config.get("memory_mb"),
        traces=config.get("traces", []),
        spectra=config.get("spectra"),
        refused=REFUSED,
        engine=ENGINE,
        cache=f"{STUDY}/cache",
        code=code("run_block"),
    script:
        "../scripts/run_block.py"


# A sample of every block's runs, once more and beside PyTorch, in jobs of their own. They need nothing of the blocks.
rule verify_runs:
    input:
        sequences=lambda wildcards: sequences_of(VERIFICATIONS[wildcards.group]),
        cells=lambda wildcards: cells_of(VERIFICATIONS[wildcards.group]),
        proved=lambda wildcards: proofs_of(VERIFICATIONS[wildcards.group]),
    output:
        **{
            table: f"{STUDY}/verified/{{group}}/{table}.parquet"
            for table in ("checks", "timings", "traces")
        },
    log:
        f"{STUDY}/logs/verify_runs/{{group}}.log",
    priority: seconds_of_verification
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **resources.of_verifications(VERIFICATIONS, config),
    params:
        blocks=lambda wildcards: [
            asdict(block) for block in VERIFICATIONS[wildcards.group]
        ],
        tolerance=config["gate"]["tolerance"],
        checked=CHECKED,
        device=config["device"],
        memory_mb=config.get("memory_mb"),
        refused=REFUSED,
        engine=ENGINE,
        cache=f"{STUDY}/cache",
        code=code("verify_runs"),
    script:
        "../scripts/verify_runs.py"


# The theory of infinitely wide leaky and gated networks, a sample for every setting. It needs nothing of the runs.
rule sample_theory:
    output:
        theory=f"{STUDY}/sampled/{{group}}/theory.parquet",
    log:
        f"{STUDY}/logs/sample_theory/{{group}}.log",
    priority: seconds_of_sampling
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **resources.of_samplings(SAMPLINGS, config),
    params:
        settings=lambda wildcards: SAMPLINGS[wildcards.group],
        refused=REFUSED,
        engine=ENGINE,
        code=code("sample_theory"),
    script:
        "../scripts/sample_theory.py"


rule gather_table:
    input:
        gate=rules.check_engine.output.checks,
        blocks=lambda wildcards: (
            [rules.check_engine.output.checks, *PROVED, *verified("checks")]
            if wildcards.table == "checks"
            else (
                sampled()
                if wildcards.table == "theory"
                else [
                    f"{STUDY}/blocks/{sweep}/{block}/{wildcards.table}.parquet"
                    for sweep, block in BLOCKS
                ]
            )
        ),
        sampled=lambda wildcards: sampled() if wildcards.table == "runs" else [],
        # the norms of verified runs are compared with those of the blocks, and their errors and times stand in the tables
        verified=lambda wildcards: (
            verified(
                {"runs": "checks", "timings": "timings", "traces": "traces"}[
                    wildcards.table
                ]
            )
            if wildcards.table in ("runs", "timings", "traces")
            else []
        ),
    output:
        table=f"{STUDY}/tables/{{table}}.parquet",
    log:
        f"{STUDY}/logs/gather_table/{{table}}.log",
    wildcard_constraints:
        table="(?!cliff$)[a-z]+",
    conda:
        "../envs/environment.yaml"
    resources:
        **TABLE_RESOURCES,
    params:
        config=config,
        code=code("gather_table"),
    script:
        "../scripts/gather_table.py"


# The loss of one unit over its weight and bias, where the config asks for it. It has no runs, so it is a table at once.
rule measure_cliff:
    input:
        gate=rules.check_engine.output.checks,
    output:
        table=f"{STUDY}/tables/cliff.parquet",
    log:
        f"{STUDY}/logs/measure_cliff.log",
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        **TABLE_RESOURCES,
    params:
        config=config,
        engine=ENGINE,
        code=code("measure_cliff"),
    script:
        "../scripts/measure_cliff.py"
