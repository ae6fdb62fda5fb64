"""Write waves.csv: 80 noisy waves of 24 steps, half of them of a low and half of a high frequency."""

import csv
from pathlib import Path

import numpy as np

rng = np.random.default_rng(0)
with (Path(__file__).parent / "waves.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["wave", "step", "height", "kind"])
    for wave in range(80):
        kind = wave % 2
        phase = rng.uniform(0, 2 * np.pi)
        for step in range(24):
            height = np.sin(phase + step * (0.4 + 0.4 * kind)) + 0.1 * rng.standard_normal()
            writer.writerow([wave, step, f"{height:.4f}", kind])
