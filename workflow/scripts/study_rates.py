"""Rates of the cost model, written by measure_rates.py (``make rates``): edit nothing here."""

RATES = {
    "run_bytes": 401,
    "cubed_seconds": 8.309e-09,
    "element_seconds": 1.25e-08,
    "flop_seconds": 0.0,
    "parameter_seconds": 5.326e-08,
    "run_seconds": 0.002656,
    "step_seconds": 1.944e-05,
    "theory_seconds": 0.001378,
    "trace_seconds": 2.738e-08,
    "update_seconds": 0.001457,
    "block_seconds": 0.007914,
    "kept_seconds": 0.001087,
    "row_seconds": 0.0,
    "verified_row_seconds": 0.0008493,
    "verified_run_seconds": 0.005803,
    "verified_trace_seconds": 1.982e-07,
    "job_seconds": 0.85,
    "job_mb": 131,
    "states_copies": 5.0,
    "verify_job_seconds": 1.96,
    "verify_job_mb": 364,
    "verified_states_copies": 7.6,
    "row_bytes": 48.4,
    "update_bytes": 130,
}
RATES |= {"gathered_row_seconds": 1e-6, "figure_seconds": 3.0, "snakemake_seconds": 3.0}
