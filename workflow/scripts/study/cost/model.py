"""What a block costs before it is run: processor time, memory, disk. It is counted work times measured rates.

``study/tools/measure_rates.py`` (``make rates``) measured the rates on one machine and wrote them to ``study/cost/rates.py``. Another
machine is faster or slower by a factor, which ``snakemake plan`` measures.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_core import ACTIVATIONS, CELLS
from rnn_core.arrays import DTYPES
from rnn_core.compiled import BY_UNIT, COVERED
from rnn_core.experiment import COLUMNS, WITHOUT_MATRIX
from rnn_core.experiment.measures.sensitivity import PROBES
from rnn_core.flossing import SEQUENCES, STEPS
from rnn_core.initializers import REMEMBERED_MATRICES
from rnn_core.tasks import GENERATED, WhiteNoise
from rnn_core.tasks.generated import HELD_OUT_SEQUENCES
from study import wide
from study.cost.rates import RATES
from study.files.cache import MOST_BYTES
from study.plan import Block, Settings
from study.settings import axis_defaults, described_axes, steps_of
from study.tables.streams import ROWS_IN_GROUP

GATES = {name: len(cell.gates) for name, cell in CELLS.items()}
# Of a cell of the user's own nothing is known before it is run. It counts as one with four gates, a step of which takes as long as
# six of the readable loop; ``snakemake plan`` measures how far that is off.
OWN_GATES, OWN_STEPS = 4, 6.0
BYTES = {name: np.dtype(name).itemsize for name in DTYPES}
SHARED = ("sequence_length", "clipping")  # untrained runs that differ in these alone are computed together
FAST = tuple(cell.name for cell in COVERED)  # cells whose steps are compiled code; the others' are the readable loop
UNMIXED = tuple(cell.name for cell in BY_UNIT)  # those of them in which no product mixes units
# Activations without an exponential to take, forward or backward.
STRAIGHT = tuple(name for name, phi in ACTIVATIONS.items() if phi.piecewise_linear)
# Activations for which mean-field theory has a closed form; for the others it iterates.
HOMOGENEOUS = tuple(name for name, phi in ACTIVATIONS.items() if phi.homogeneous)
VERIFIED = ("kept", "row", "trace")  # what the time of a comparison with PyTorch depends on
OMEGA_PASSES = 1.6  # what Ω takes, in backward passes: measured at H = 50, B = 20
MATRIX_COPIES = 4  # at least: as drawn, as rescaled, its eigenvalues' work space, its gradient
MIB = 2.0**20
TRACE = COLUMNS["traces"]
# MiB that a job holds of the Snakemake that it is a fork of. Rates are measured in processes of their own.
FORK_MB = 25
ENTRY_BYTES = 2000  # of a kept run: what is no column
# Of rows that wait the cache and its readers hold no more than this, in MiB: five copies of what it lets wait.
MOST_WAITING_MB = 5 * MOST_BYTES / MIB
GROUPED_ROW_BYTES = (
    35  # a row of traces, on average over the groups in which a table is written: measured at 4 million rows
)

# Settings that work depends on. Of all others only the number of values counts.
_DECIDE_WORK = (
    "task", "cell", "activation", "hidden_size", "layers", "bidirectional", "input_size", "batch_size", "loss_at", "truncation", "omega", "updates", "trace_every", "dtype",
    "record_every", "held_out_sequences", "validate_every", *SHARED,
)  # fmt: skip

# Seconds of spectra, measured on the machine of the rates: of a step with a frame of few or all S columns; of a product of Jacobians, at its
# end and for each step; and of the gradient beside them.
SPECTRUM_STEP, SPECTRUM_FEW, SPECTRUM_ALL = 5e-6, 1.5e-10, 2e-9
PRODUCT_END, PRODUCT_STEP, GRADIENT_STEP = 1.5e-5, 3e-9, 3e-10
_COUNTED_HERE = ("cell", "hidden_size", "sequence_length", "batch_size")
# Seconds of flossing, measured on a like machine: of a step of an update; of every number of its frames; and of a product in them.
FLOSSING_STEP, FLOSSING_NUMBER, FLOSSING_PRODUCT = 1.3e-4, 4.5e-8, 1.5e-10
_DECIDE_FLOSSING = ("task", "hidden_size", "sequence_length", "batch_size", "flossing", "flossing_exponents")
TRAINING = tuple(name for name, axis in described_axes().items() if axis["training"])

DIRECTIONS = {None: 1, False: 1, True: 2}  # of a layer, by ``bidirectional``
Work = Counter[str]


@dataclass(frozen=True)
class Cost:
    """What a job takes.

    Attributes:
        seconds: processor time from its start to its end, on one core.
        memory_mb: most resident memory of its process (MiB).
        disk_mb: its files, that is cache entries and block tables (MiB).
    """

    seconds: float
    memory_mb: float
    disk_mb: float


def block_cost(block: Block, config: Mapping[str, Any]) -> Cost:
    """What the job ``run_block`` costs if none of its runs is finished yet."""
    work = block_work(block, traces=config.get("traces", ()))
    return Cost(
        seconds=RATES["job_seconds"] + seconds(work) + spectra_seconds(block, config) + flossing_seconds(block),
        memory_mb=RATES["job_mb"]
        + FORK_MB
        + _states_mb(block, config, RATES["states_copies"])
        + _kept_mb(block, work["row"]),
        disk_mb=(
            work["kept"] * ENTRY_BYTES
            + work["row"] * (RATES["row_bytes"] + _asked_bytes(config.get("traces", ())))
            + _recorded_updates(block) * RATES["update_bytes"]
        )
        / MIB,
    )


def _recorded_updates(block: Block) -> int:
    """Rows of the table ``updates``, if no run ends before its updates do."""
    total = 0
    for settings, times, lengths, clippings in _alike(block):
        rows = len(range(0, max(1, settings["updates"]), settings["record_every"])) + _looks(settings)
        total += times * len(lengths) * len(clippings) * rows
    return total


def spectra_seconds(block: Block, config: Mapping[str, Any]) -> float:
    """Processor time of the spectra that a config asks for: once for each network, whatever its training."""
    if "spectra" not in config:
        return 0.0
    asked, total = config["spectra"], 0.0
    values, given = _values(block)
    networks = _networks(block, given, _COUNTED_HERE)
    for cell, H, T, B in itertools.product(*(values[axis] for axis in _COUNTED_HERE)):
        S, samples = H * (len(CELLS[cell].state_names) if cell in CELLS else 1), min(asked["samples"], B)
        T = max(steps_of(task, T) for task in values["task"])
        k = min(asked["exponents"], S)
        steps = T * (SPECTRUM_STEP + (SPECTRUM_FEW * k * S**2 if 2 * k < S else SPECTRUM_ALL * S**3))
        products = sum(PRODUCT_END * S**2 + PRODUCT_STEP * lag * S**3 for lag in asked["singular_values"] if lag <= T)
        total += samples * (steps + products) + T * GRADIENT_STEP * B * H**2 * gates_of(cell)
    return networks * total


def _networks(block: Block, given: Mapping[str, list[Any]], apart: Collection[str]) -> int:
    """How many networks there are before training at each value of the settings ``apart``."""
    return math.prod(len(v) for axis, v in given.items() if axis not in (*apart, *TRAINING)) * block.seeds


def flossing_seconds(block: Block) -> float:
    """Processor time of the updates before training that bring exponents to zero: once for each network, whatever its training."""
    defaults, (_, given) = axis_defaults(), _values(block)
    values = {axis: given.get(axis, [defaults[axis]]) for axis in _DECIDE_FLOSSING}
    networks = _networks(block, given, _DECIDE_FLOSSING)
    total = 0.0
    for task, H, T, B, updates, exponents in itertools.product(*values.values()):
        k, steps = exponents or H, min(steps_of(task, T), STEPS)
        numbers = min(B, SEQUENCES) * H * k
        total += (updates or 0) * steps * (FLOSSING_STEP + numbers * (FLOSSING_NUMBER + FLOSSING_PRODUCT * (H + 2 * k)))
    return networks * total


def gates_of(cell: str) -> int:
    """How many gates a cell has; of one of the user's own, how many it is taken to have."""
    return GATES.get(cell, OWN_GATES)


def largest_run_mb(block: Block, config: Mapping[str, Any]) -> float:
    """Memory of the block's largest run: its states and its recurrent matrices (MiB)."""
    values, _ = _values(block)
    cells = max(values["layers"]) * max(map(DIRECTIONS.__getitem__, values["bidirectional"]))
    matrices: float = max(map(gates_of, values["cell"])) * cells * max(values["hidden_size"]) ** 2 * 8 / MIB
    return _states_mb(block, config, RATES["states_copies"]) + MATRIX_COPIES * matrices


def verification_cost(blocks: Iterable[Block], config: Mapping[str, Any]) -> Cost:
    """What the job ``verify_runs`` of these blocks costs. It runs their samples again and compares them with PyTorch."""
    verified, checked = list(blocks), config["gate"]["checked_runs_per_job"]
    total, memory = 0.0, 0.0
    for block in verified:
        share = min(1.0, checked / len(block))
        alone = block_work(block, shared=False)
        total += share * (
            flossing_seconds(block)
            + seconds(alone)
            + sum(alone[kind] * RATES[f"verified_{kind}_seconds"] for kind in VERIFIED)
        )
        memory = max(memory, _states_mb(block, config, RATES["verified_states_copies"]))
    return Cost(RATES["verify_job_seconds"] + total, RATES["verify_job_mb"] + FORK_MB + memory, 0.0)


def sampling_cost(settings: Iterable[Settings]) -> Cost:
    """What the job ``sample_theory`` of these settings costs."""
    sampled = list(settings)
    return Cost(
        RATES["job_seconds"] + sum(map(wide.seconds_of, sampled)), RATES["job_mb"] + FORK_MB + wide.MEMORY_MB, 0.0
    )


def seconds(work: Work) -> float:
    """Processor time of counted work, in the engine and in keeping its results."""
    return math.fsum(float(count) * RATES[f"{kind}_seconds"] for kind, count in work.items())


def _asked_bytes(traces: Collection[str]) -> float:
    """Bytes a row that what traces hold besides takes: cache and block, numbers of which each has digits of its own."""
    return sum(2.0 * 8.0 for column in TRACE if column.asked in traces)


def block_work(block: Block, shared: bool = True, traces: Collection[str] = ()) -> Work:
    """The work of all runs of a block, counted.

    Args:
        shared: the runs are computed as by ``run_many``, not one by one.
        traces: what traces hold besides.
    """
    total: Work = Counter({"block": 1})
    for settings, times, lengths, clippings in _alike(block):
        together = shared and settings["updates"] == 0
        for kind, count in _work(settings, lengths, clippings, together, traces).items():
            total[kind] += times * count
    total["cubed"] += _eigenvalues(block)
    return total


def _alike(block: Block) -> Iterator[tuple[Settings, int, list[int], list[str]]]:
    """(settings, how many, steps of sequences, clippings) of runs that cost the same. Each stands for all of its lengths and clippings."""
    values, given = _values(block)
    alike = math.prod(len(values_of_axis) for axis, values_of_axis in given.items() if axis not in values) * block.seeds
    counted_axes = [axis for axis in _DECIDE_WORK if axis not in SHARED]
    for point in itertools.product(*(values[axis] for axis in counted_axes)):
        settings = dict(zip(counted_axes, point, strict=True))
        steps = [steps_of(settings["task"], length) for length in values["sequence_length"]]
        yield settings, alike, steps, values["clipping"]


def _values(block: Block) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """(values of the settings that work depends on, values of all that are given)."""
    defaults = axis_defaults()
    given = {**{axis: [value] for axis, value in block.shared.items()}, **block.grid}
    return {axis: given.get(axis, [defaults[axis]]) for axis in _DECIDE_WORK}, given


def _eigenvalues(block: Block) -> int:
    """H³ for every matrix whose eigenvalues are computed: each draw, and each draw at its spectral radius.

    The engine remembers a number of matrices. In a block with no more than that, each is computed once.
    """
    values, given = _values(block)
    # of the user's own cells no eigenvalues are computed, nor of one without W_hh
    gates = [0 if cell in WITHOUT_MATRIX else GATES.get(cell, 0) for cell in values["cell"]]
    # the first gates of all cells have the same matrices, and so have the first layers of all stacks
    draws = block.seeds * len(given.get("initializer", [None])) * max(gates)
    stacks = [layers * DIRECTIONS[both] for layers in values["layers"] for both in values["bidirectional"]]
    scales = given.get("weight_scale", [None])
    # a spectral radius is measured first, in every layer and direction; what has it is another matrix, which is looked at in the last
    radii = len(given.get("spectral_radius", [None]))
    matrices: int = draws * (max(stacks) + radii * len(stacks) if scales == [None] else len(scales) * len(stacks))
    if matrices * len(values["hidden_size"]) > REMEMBERED_MATRICES:  # every group of runs asks for both of its matrices
        apart = (*SHARED, "hidden_size", "cell", "layers", "bidirectional")
        others = math.prod(len(v) for axis, v in given.items() if axis not in apart)
        matrices = sum(gates) * sum(recurrences + 1 for recurrences in stacks) * block.seeds * others
    cubes: int = sum(H**3 for H in values["hidden_size"])
    return matrices * cubes


def _work(
    settings: Settings, lengths: list[int], clippings: list[str], shared: bool, traces: Collection[str] = ()
) -> Work:
    """The work of one run for each length and clipping, if none ends early. If it is shared, one forward pass serves all of them.

    Every layer of a stack takes the same steps, and so does each of its directions. Several of them share no forward pass.
    """
    gates, H, B = gates_of(settings["cell"]), settings["hidden_size"], settings["batch_size"]
    layers, directions = settings["layers"], DIRECTIONS[settings["bidirectional"]]
    cells = layers * directions
    D, scale = settings["input_size"] or _inputs_of(settings["task"]), BYTES[settings["dtype"]] / 8
    updates, runs, steps = settings["updates"], len(lengths) * len(clippings), sum(lengths)
    passes = max(1, updates)
    traced = 1 if not updates else len({*range(0, updates, settings["trace_every"]), updates - 1})
    together = max(lengths) if cells == 1 else steps
    forward = together if shared else steps * len(clippings) * passes
    held_out = steps * len(clippings) * _looks(settings)  # forward only, of more sequences
    held_out_sequences = settings["held_out_sequences"] or HELD_OUT_SEQUENCES
    parts = math.ceil(held_out_sequences / HELD_OUT_SEQUENCES)
    different = 1 if shared else len(clippings)  # to the gradient of an untrained network clipping makes no difference
    gradients, networks = steps * different, len(lengths) * different
    of_last = gradients * (settings["loss_at"] == "every")  # backward passes of the last layer alone
    of_last += PROBES * gradients * ("parameter_sensitivity" in traces)
    backward = gradients * passes
    backward += steps * len(clippings) * passes * (settings["truncation"] is not None)
    backward += OMEGA_PASSES * steps * len(clippings) * passes * bool(settings["omega"])
    backward += steps * passes * sum(rule.startswith("signal") for rule in clippings)
    width = gates * H
    of_main = directions * H if layers > 1 else D  # inputs of the last layer's forward cell
    inputs = directions * (D + (layers - 1) * directions * H)  # of all cells
    mixed = 0 if settings["cell"] in UNMIXED else H  # units that a unit is multiplied into
    fast = settings["cell"] in FAST
    path = "fast" if fast else "readable"
    sequences = B * (forward + 2 * backward) + held_out_sequences * held_out  # × steps
    through_last = 2.0 * B * of_last
    elements = width * scale * (cells * sequences + through_last)
    recorded = cells * gradients * traced * width * B * scale
    work = {
        "network": cells * networks,
        "theory": networks * (settings["cell"] == "vanilla" and settings["activation"] not in HOMOGENEOUS),
        f"{path}_step": (cells * (forward + parts * held_out + backward) + of_last) * (1.0 if settings["cell"] in GATES else OWN_STEPS),
        f"{path}_flop": 2.0 * width * scale * ((cells * mixed + inputs) * sequences + (mixed + of_main) * through_last),
        f"{path}_element": elements,
        "curve": (elements + recorded) * (fast and settings["activation"] not in STRAIGHT),
        "trace": recorded,
        "weight_step": gradients * traced * ("weight_gradient" in traces),
        "weight_element": recorded / cells * ("weight_gradient" in traces),
        "weight_flop": 2.0 * gradients * traced * width * B * (2 * H + 2 * B) * ("weight_gradient" in traces),
        "entry": gradients * traced * H * B * ("entry_quantiles" in traces),
        "cubed": networks * H**3 * (gates == 1 and settings["activation"] != "identity"),  # at the operating point
        "parameter": runs * updates * width * (cells * H + inputs),
        "update": runs * passes,
        "kept": runs,
        "row": steps * len(clippings) * traced * (1 if cells == 1 else 1 + cells),  # and those of the table layers
    }  # fmt: skip
    return Counter({kind: count for kind, count in work.items() if count})


def _looks(settings: Settings) -> int:
    """How often the held-out sequences are evaluated."""
    updates, every = settings["updates"], settings["validate_every"]
    return math.ceil(updates / every) if every else int(updates > 0)


def _inputs_of(task: str) -> int:
    """D where no ``input_size`` is given. A plan does not read files: their columns count as white noise's inputs do."""
    return GENERATED[task].default_input_size if task in GENERATED else WhiteNoise.default_input_size


def _states_mb(block: Block, config: Mapping[str, Any], copies: float) -> float:
    """MiB that the states of the largest run take, several copies at a time; ``memory_mb`` bounds them."""
    most: float = max(
        max(lengths) * _sequences_at_once(settings) * gates_of(settings["cell"]) * settings["layers"] * DIRECTIONS[settings["bidirectional"]] * settings["hidden_size"] * BYTES[settings["dtype"]]
        for settings, _, lengths, _ in _alike(block)
    )  # fmt: skip
    limit = float(config.get("memory_mb") or math.inf)
    return min(copies * most / MIB, limit + most / MIB)


def _sequences_at_once(settings: Settings) -> float:
    """Those of a batch; or of a part of the held-out ones, of which there is no way back to be kept: they count half."""
    parts = min(settings["held_out_sequences"] or HELD_OUT_SEQUENCES, HELD_OUT_SEQUENCES) if settings["updates"] else 0
    return max(float(settings["batch_size"]), parts / 2)


def _kept_mb(block: Block, rows: int) -> float:
    """MiB that finished runs take until they are written: the runs themselves, rows that wait, and the rows of one group of the table."""
    runs = len(block) * RATES["listed_bytes"] + min(len(block), ROWS_IN_GROUP) * RATES["run_bytes"]
    waiting = min(rows * RATES["held_row_bytes"] / MIB, MOST_WAITING_MB)
    return runs / MIB + waiting + rows * GROUPED_ROW_BYTES / MIB
