# The gate: no sweep starts before the engine agrees with PyTorch on the study's own settings.
import study_data


def folder_of(task):
    """Where the user's file is found, if the task is the user's."""
    described = config.get("sequences", {}).get(task)
    return str(study_data.folder_of(described["file"], FOLDERS)) if described else None


def file_of(task):
    """The user's file, if the task is the user's."""
    folder = folder_of(task)
    return folder and os.path.join(
        "" if folder == "." else folder, config["sequences"][task]["file"]
    )


def watched(task):
    """The file whose date Snakemake watches. To Snakemake a name with braces is a pattern, so of such a file it sees the content alone."""
    file = file_of(task)
    return [] if file is None or "{" in file else [local(file)]


rule read_sequences:
    input:
        file=lambda wildcards: watched(wildcards.task),
    output:
        arrays=f"{STUDY}/sequences/{{task}}.npz",
        report=f"{STUDY}/sequences/{{task}}.txt",
        facts=f"{STUDY}/sequences/{{task}}.json",
    log:
        f"{STUDY}/logs/read_sequences/{{task}}.log",
    localrule: True  # the user's file lies where Snakemake was started, and maybe nowhere else
    conda:
        "../envs/environment.yaml"
    params:
        described=lambda wildcards: config.get("sequences", {}).get(wildcards.task),
        folder=lambda wildcards: folder_of(wildcards.task),
        # a file that was put back with its old date is another file, too
        content=lambda wildcards: study_data.file_digest(file_of(wildcards.task)),
        code=code("read_sequences"),
    script:
        "../scripts/read_sequences.py"


rule check_engine:
    input:
        sequences=SEQUENCES,
    output:
        checks=f"{STUDY}/checks/gate.parquet",
    log:
        f"{STUDY}/logs/check_engine.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **study_resources.of_gate(config),
    params:
        sweeps=config["sweeps"],
        tolerance=config["gate"]["tolerance"],
        device=config["device"],
        engine=ENGINE,
        code=code("check_engine"),
    script:
        "../scripts/check_engine.py"
