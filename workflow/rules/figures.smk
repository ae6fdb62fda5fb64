# One rule for every figure: scripts/figures/<figure>.py draws it, <figure>.rst beside it is its caption on the page.
rule draw_figure:
    input:
        **{table: f"{STUDY}/tables/{table}.parquet" for table in TABLES},
    output:
        png=report(
            f"{STUDY}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels=lambda wildcards: {"figure": wildcards.figure.replace("_", " ")},
        ),
        svg=f"{STUDY}/figures/{{figure}}.svg",
        phone=f"{STUDY}/figures/{{figure}}.phone.svg",
        facts=f"{STUDY}/figures/{{figure}}.json",
    log:
        f"{STUDY}/logs/draw_figure/{{figure}}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **TABLE_RESOURCES,
    params:
        study=config["study"],
        code=lambda wildcards: code("draw_figure", f"figures.{wildcards.figure}"),
    script:
        "../scripts/draw_figure.py"
