# Our own page, from the tables and the figures' facts; Snakemake's --report embeds it.
REPORT_SOURCES = [
    *(WORKFLOW / "report").glob("*"),
    *(WORKFLOW / "scripts" / "figures").glob("*.rst"),
]


rule render_report:
    input:
        **{table: f"{STUDY}/tables/{table}.parquet" for table in TABLES},
        png=drawn("png"),
        svg=drawn("svg"),
        phone=drawn("phone.svg"),
        facts=drawn("json"),
        data=[str(Path(file).with_suffix(".json")) for file in SEQUENCES],
    output:
        page=report(
            f"{STUDY}/report.html",
            caption="../report/page.rst",
            category="Report",
            labels={"figure": "the whole report"},
        ),
    log:
        f"{STUDY}/logs/render_report.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **TABLE_RESOURCES,
    params:
        config=config,
        code=code("render_report"),
        sources=provenance.digest(REPORT_SOURCES),
    script:
        "../scripts/render_report.py"
