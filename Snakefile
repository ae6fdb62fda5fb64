include: "workflow/Snakefile"


# Snakemake takes its default target from this file and never from an included one.
rule study:
    input:
        rules.all.input,
