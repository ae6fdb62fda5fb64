"""Small synthetic studies: settings in, the five tables out, through study.tables as the workflow writes them."""

from collections.abc import Callable, Iterable

import pytest

from study.report import reader
from tests.figures.drawn import PROPAGATION, TRAINING, Settings, grid, write_tables

MakeStudy = Callable[..., reader.Tables]


@pytest.fixture(scope="session")
def make_study(tmp_path_factory: pytest.TempPathFactory) -> MakeStudy:
    """runs and checks -> the tables of a study, on disk."""

    def make(runs: Iterable[Settings], checks: Iterable[Settings] = ({},)) -> reader.Tables:
        return reader.Tables(write_tables(tmp_path_factory.mktemp("study"), runs, checks))

    return make


@pytest.fixture(scope="session")
def study(make_study: MakeStudy) -> reader.Tables:
    """A study with everything: two activations, three radii, two lengths; two tasks, three rules; a rule that fails."""
    radii, seeds = [0.5, 0.9, 1.2], [0, 1, 2]
    runs = grid(
        **PROPAGATION, activation=["identity", "sigmoid"], spectral_radius=radii, sequence_length=[4, 10], seed=seeds
    )
    rules = ["none", "norm:1.0", "value:0.1"]
    digits = grid(**TRAINING | {"clipping": rules}, spectral_radius=[0.9, 1.5], seed=[0, 1, 2], sweep="two")
    for run in digits:
        if run["clipping"] == "none" and run["spectral_radius"] == 1.5:
            run["breaks_at"] = 3 + run["seed"]
    regression = TRAINING | {"task": "input_mean", "loss_at": "every", "clipping": rules, "accuracy": None}
    mean = grid(**regression, spectral_radius=0.9, seed=seeds, sweep="two")
    checks = [{}, {"stage": "sweep", "relative_error": 4e-14, "activation": "relu", "regime": "exploding"},
              {"oracle": "torch.nn.RNN", "relative_error": 0.0}, {"relative_error": None, "regime": None}]  # fmt: skip
    return make_study([*runs, *digits, *mean], checks)
