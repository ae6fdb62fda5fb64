"""What the page says, measured from the tables: every number of a sentence, title, caption or table has its one definition here.

A *start* is a network before training. Runs that differ only in how they are trained share one.
A seed is one network. Whatever is compared is compared seed by seed.
"""

from rnn_core.theory import REGIMES
from study.report.measures.comparisons import REFERENCE, Comparison, comparisons_of, difference, judged, side_by_side
from study.report.measures.outcomes import outcome, per_seed, results, updates_made
from study.report.measures.parts import Part, alike, deviations, parts_of
from study.report.measures.regimes import (
    LINEAR_MATRICES,
    OF_THE_FORMULA,
    Critical,
    critical,
    crossings,
    has_law_at_rest,
    law,
    median_decades,
    never_settled,
    predicted_decades,
    regime_counts,
    theory_critical,
    turning_theory,
)
from study.report.measures.selection import (
    NETWORK,
    NOT_COMPARED,
    NUMBERS,
    TRAINING,
    at_longest,
    by_setting,
    distinct_starts,
    grouped,
    number_axis,
    starts,
    steps,
    trained,
    varied,
    where,
)

__all__ = [
    "LINEAR_MATRICES",
    "NETWORK",
    "NOT_COMPARED",
    "NUMBERS",
    "OF_THE_FORMULA",
    "REFERENCE",
    "REGIMES",
    "TRAINING",
    "Comparison",
    "Critical",
    "Part",
    "alike",
    "at_longest",
    "by_setting",
    "comparisons_of",
    "critical",
    "crossings",
    "deviations",
    "difference",
    "distinct_starts",
    "grouped",
    "has_law_at_rest",
    "judged",
    "law",
    "median_decades",
    "never_settled",
    "number_axis",
    "outcome",
    "parts_of",
    "per_seed",
    "predicted_decades",
    "regime_counts",
    "results",
    "side_by_side",
    "starts",
    "steps",
    "theory_critical",
    "trained",
    "turning_theory",
    "updates_made",
    "varied",
    "where",
]
