# The gate: no sweep starts before the engine agrees with PyTorch on the study's own settings.
rule read_sequences:
    output:
        arrays=f"{STUDY}/sequences/{{task}}.npz",
    input:
        file=lambda wildcards: [
            config["sequences"][wildcards.task]["file"]
            for _ in range(wildcards.task in config.get("sequences", {}))
        ],
    params:
        described=lambda wildcards: config.get("sequences", {}).get(wildcards.task),
        code=code("study_data"),
    log:
        f"{STUDY}/logs/read_sequences/{{task}}.log",
    script:
        "../scripts/read_sequences.py"


rule check_engine:
    output:
        checks=f"{STUDY}/checks/gate.parquet",
    input:
        sequences=SEQUENCES,
    params:
        sweeps=config["sweeps"],
        tolerance=config["gate"]["tolerance"],
        device=config["device"],
        engine=ENGINE,
        code=code("oracle_checks", "study_data", "study_plan", "study_tables"),
    log:
        f"{STUDY}/logs/check_engine.log",
    script:
        "../scripts/check_engine.py"
