# One job draws all figures, for to import what draws takes as long as to draw one: scripts/figures/<figure>.py says what,
# <figure>.rst beside it is its caption on the page. Those whose code and tables are as before come from the cache.
FIGURES = list(config["figures"])


rule draw_figures:
    input:
        **{table: f"{STUDY}/tables/{table}.parquet" for table in TABLES},
    output:
        png=[
            report(
                file,
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": figure.replace("_", " ")},
            )
            for figure, file in zip(FIGURES, drawn("png"))
        ],
        svg=drawn("svg"),
        phone=drawn("phone.svg"),
        facts=drawn("json"),
    log:
        f"{STUDY}/logs/draw_figures.log",
    conda:
        "../envs/environment.yaml"
    threads: resources.figure_processes(config)
    resources:
        **resources.of_figures(BLOCKS, config),
    params:
        study=config["study"],
        figures=FIGURES,
        cache=f"{STUDY}/cache/figures",
        code={figure: code("draw_figures", f"figures.{figure}") for figure in FIGURES},
    script:
        "../scripts/draw_figures.py"
