# Our own page, from the tables and the figures' facts; Snakemake's --report embeds it.
REPORT_SOURCES = sorted((WORKFLOW / "report").glob("*"))


rule render_report:
    output:
        page=report(
            f"{STUDY}/report.html",
            caption="../report/page.rst",
            category="Report",
            labels={"figure": "the whole report"},
        ),
    input:
        **{table: f"{STUDY}/tables/{table}.parquet" for table in TABLES},
        figures=[f"{STUDY}/figures/{figure}.png" for figure in config["figures"]],
        facts=[f"{STUDY}/figures/{figure}.json" for figure in config["figures"]],
    params:
        config=config,
        code=code("study_figures", "study_provenance", "study_tables"),
        sources=study_provenance.digest(REPORT_SOURCES),
    log:
        f"{STUDY}/logs/render_report.log",
    script:
        "../scripts/render_report.py"
