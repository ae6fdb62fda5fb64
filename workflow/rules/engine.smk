# The user's sequences and cells, and the gate: no table is made before the engine agrees with PyTorch on the study's own settings.
FIRST = 1e9  # priority: above the seconds of any block


rule read_sequences:
    input:
        file=lambda wildcards: [
            local(file) for file in locating.watched(place_of(wildcards.task)[1])
        ],
    output:
        arrays=f"{STUDY}/sequences/{{task}}.npz",
        report=f"{STUDY}/sequences/{{task}}.txt",
        facts=f"{STUDY}/sequences/{{task}}.json",
    log:
        f"{STUDY}/logs/read_sequences/{{task}}.log",
    priority: FIRST
    localrule: True  # the user's file lies where Snakemake was started, and maybe nowhere else
    conda:
        "../envs/environment.yaml"
    params:
        described=lambda wildcards: config.get("sequences", {}).get(wildcards.task),
        folder=lambda wildcards: place_of(wildcards.task)[0],
        # so that a file is read again if another with the same date takes its place
        content=lambda wildcards: locating.content_digest(place_of(wildcards.task)[1]),
        code=code("read_sequences"),
    script:
        "../scripts/read_sequences.py"


rule take_cell:
    input:
        file=lambda wildcards: [
            local(file)
            for file in locating.watched(
                cell_source.file_of(config, wildcards.cell, FOLDERS)
            )
        ],
    output:
        kept=f"{STUDY}/cells/{{cell}}.json",
    log:
        f"{STUDY}/logs/take_cell/{{cell}}.log",
    priority: FIRST
    localrule: True  # the user's file lies where Snakemake was started, and maybe nowhere else
    conda:
        "../envs/environment.yaml"
    params:
        described=lambda wildcards: config["cells"][wildcards.cell],
        file=lambda wildcards: cell_source.file_of(config, wildcards.cell, FOLDERS),
        content=lambda wildcards: locating.content_digest(
            cell_source.file_of(config, wildcards.cell, FOLDERS)
        ),
        code=code("take_cell"),
    script:
        "../scripts/take_cell.py"


# Each of the user's own cells is proved before any of its runs: what is wrong with it is then told once, and in its own words.
rule prove_cell:
    input:
        sequences=SEQUENCES,
        cells=f"{STUDY}/cells/{{cell}}.json",
    output:
        checks=f"{STUDY}/checks/cell-{{cell}}.parquet",
    log:
        f"{STUDY}/logs/prove_cell/{{cell}}.log",
    priority: FIRST
    conda:
        "../envs/environment.yaml"
    resources:
        **resources.of_gate(config),
    params:
        sweeps=config["sweeps"],
        tolerance=config["gate"]["tolerance"],
        device=config["device"],
        spectra="spectra" in config,
        refused=REFUSED,
        engine=ENGINE,
        code=code("prove_cell"),
    script:
        "../scripts/prove_cell.py"


rule check_engine:
    input:
        sequences=SEQUENCES,
    output:
        checks=f"{STUDY}/checks/gate.parquet",
    log:
        f"{STUDY}/logs/check_engine.log",
    priority: FIRST
    conda:
        "../envs/environment.yaml"
    resources:
        **resources.of_gate(config),
    params:
        sweeps=config["sweeps"],
        tolerance=config["gate"]["tolerance"],
        device=config["device"],
        spectra="spectra" in config,
        refused=REFUSED,
        engine=ENGINE,
        code=code("check_engine"),
    script:
        "../scripts/check_engine.py"
