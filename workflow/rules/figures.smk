# One rule a figure, all from this text: plot_<figure>.py draws it, report/<figure>.rst argues it.
for figure in config["figures"]:

    rule:
        name:
            f"plot_{figure}"
        input:
            **{table: f"{STUDY}/tables/{table}.parquet" for table in TABLES},
        output:
            png=report(
                f"{STUDY}/figures/{figure}.png",
                caption=f"../report/{figure}.rst",
                category="Figures",
                labels={"figure": figure.replace("_", " ")},
            ),
            svg=f"{STUDY}/figures/{figure}.svg",
            facts=f"{STUDY}/figures/{figure}.json",
        log:
            f"{STUDY}/logs/plot/{figure}.log",
        conda:
            "../envs/environment.yaml"
        resources:
            **TABLE_RESOURCES,
        params:
            figure=figure,
            code=code(f"plot_{figure}"),
        script:
            # not an f-string: it is read when the job runs, and the loop has long ended
            "../scripts/plot_{params.figure}.py"
