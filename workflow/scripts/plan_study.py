"""Print what a study will take: runs, jobs, processor and wall time, memory, disk, and what is left."""

from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from rnn_core.arrays import resolve_device
from study.cost import outlook
from study.files.cache import Cache
from study.own_cells import loading
from study.runs.runner import BlockRunner, identity
from study.tables import store


def main(snakemake: Any) -> None:
    store.leave_pandas_out()
    config = snakemake.params.config
    device = resolve_device(config["device"])
    loading.register_all(snakemake.input.get("cells", []))
    sequences = {Path(file).stem: file for file in snakemake.input.get("sequences", [])}
    with threadpool_limits(1):
        traces = config.get("traces", [])
        cache = Cache(snakemake.params.cache, identity(device, traces))
        runner = BlockRunner(cache, sequences, device, config.get("memory_mb"), traces)
        print(outlook.of_study(config, runner, snakemake.params.cores))


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
