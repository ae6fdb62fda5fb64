"""Run one block: compute every run that is not finished yet, then write the block's tables from the finished runs."""

from typing import Any

from rnn_core.compiled import made_on
from rnn_core.experiment import Request
from study.files.cache import Cache
from study.files.writing import Damaged, FileTrouble
from study.job import running
from study.own_cells.loading import CellError
from study.plan import Block
from study.runs import runner
from study.runs.checks import CheckFailed
from study.runs.spectra import SpectraOfRuns, mark_of
from study.screen.progress import Record


def main(snakemake: Any, record: Record) -> None:
    p, block = snakemake.params, Block(**snakemake.params.block)
    block_runner = runner.prepared(snakemake, f"{block.sweep}/{block.name}")
    provenance = {"block": p.block, "engine": p.engine, "device": made_on(block_runner.device)}
    try:
        runner.finish(
            block, block_runner, record, dict(snakemake.output.items()), provenance, spectra(p, block, block_runner)
        )
    except Damaged:  # it names the file, which is put aside
        raise
    except FileTrouble as trouble:
        raise FileTrouble(f"Block {block.sweep}/{block.name}: {trouble}") from trouble
    except (ValueError, RuntimeError, OSError) as error:  # with quiet Snakemake does not name the block
        raise SystemExit(f"{type(error).__name__} in block {block.sweep}/{block.name}: {error}") from error


def spectra(p: Any, block: Block, block_runner: runner.BlockRunner) -> SpectraOfRuns | None:
    """What measures the spectra of these runs; None where the config does not ask for them."""
    if p.spectra is None:
        return None
    request = Request(**{**p.spectra, "singular_values": tuple(p.spectra["singular_values"])})
    kept = Cache(p.cache, runner.identity(block_runner.device) + mark_of(request), f"{block.sweep}/{block.name}")
    return SpectraOfRuns(request, kept, block_runner.digests, block_runner.memory_budget)


if __name__ == "__main__":
    with running(snakemake, {CheckFailed: "", CellError: "", ValueError: "", RuntimeError: ""}) as its_record:  # type: ignore[name-defined]  # noqa: F821
        main(snakemake, its_record)  # type: ignore[name-defined]  # noqa: F821
