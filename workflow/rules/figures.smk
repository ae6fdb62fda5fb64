# One rule a figure, all from this text: plot_<figure>.py draws it, report/<figure>.rst argues it.
from types import SimpleNamespace

for figure in config["figures"]:
    # The path of the script is read here, with this name, and once more by the job, with its own params.
    params = SimpleNamespace(figure=figure)

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
            phone=f"{STUDY}/figures/{figure}.phone.svg",
            facts=f"{STUDY}/figures/{figure}.json",
        log:
            f"{STUDY}/logs/plot/{figure}.log",
        conda:
            "../envs/environment.yaml"
        resources:
            **TABLE_RESOURCES,
        params:
            figure=figure,
            study=config["study"],
            code=code(f"plot_{figure}"),
        script:
            # not {figure}: when the job runs, the loop has long ended
            f"../scripts/plot_{params.figure}.py"
