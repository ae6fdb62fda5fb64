"""The five examples print what their documents print: every number, in order, to the last digit."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from examples import cell_and_sequence, functional_rnn, gradient_check, own_module, train_a_small_rnn, two_steps_by_hand

ROOT = Path(__file__).resolve().parent.parent.parent

# ---- what the documents print: their numbers and the shapes of their arrays, without their words ------------------------

TWO_STEPS_BY_HAND = """
1.0000 0.7616 0.7616 0.2900
1.7616 0.9427 0.9427 0.4443
0.7343
0.7616
0.9427
0.7616
0.9427
0.1114
0.1050
0.1050
0.0799
0.1050
0.8666
0.4200
0.3639
0.3639
0.0000
0.4689
0.0799
1.4687
0.7343
0.4689
0.0799
1.4687
0.4689 0.4689
0.0799 0.0799
1.4687 1.4687
"""

TRAIN_A_SMALL_RNN = """
10/100 2.276755
20/100 0.747057
30/100 0.065337
40/100 0.021704
50/100 0.009755
60/100 0.004976
70/100 0.002936
80/100 0.002053
90/100 0.001667
100/100 0.001493
0.44806111 -0.79065823 -0.22184356 -0.31010667 -0.25282217 0.19944143
-0.01505699 -0.04773612 0.10144743 -0.14919139
0.45157019 -0.75982746 -0.22614844 -0.32124421 -0.25618755 0.2076185
-0.0197995 -0.04907385 0.10088893 -0.15778372
"""

CELL_AND_SEQUENCE = """
-0.97683053 0.99993218 0.9999085 0.99720415 0.96532437 0.24615069
0.89433073 0.88371261 0.40821569 -0.99446565
(5, 10)
0.0617 0.9972 0.9895 0.8253 0.8099 0.9891 0.9262 0.9997 0.9953
0.0052
(2, 10)

-1.3872130506020928
(3, 10)
-0.1523994937739543
(5, 10)
0.41077282493545836
(5, 3)
1.1503450668497135
(5, 5)
0.20023491
(5, 1)

-0.99999375 0.77911235 -0.99861469 -0.99833267
(5, 10, 4)
0.79560373 0.86224861 0.11118257 0.81515947
(2, 10, 4)
-1.1425182 -0.34934272 -0.20889423 0.58662319

-2.07101689 -0.59255627 0.02466855 0.01483317
(3, 10, 4)
-0.3149423751266506
(5, 10)
11.264104496527771
(5, 3)
2.303333126579893
(5, 5)
-0.74747722
(5, 1)
"""

# Each printed twice, once from NumPy and once from torch.nn.RNN.
AGAINST_TORCH = """
0.4686 -0.298203 0.741399 -0.446474 0.019391
0.365172 -0.361254 0.426838 -0.448951 0.331553
0.589187 -0.188248 0.684941 -0.45859 0.190099
0.146213 -0.306517 0.297109 0.370957 -0.040084
-0.009201 -0.365735 0.333659 0.486789 0.061897
0.030064 -0.282985 0.42643 0.025871 0.026388
0.225432 -0.015057 0.116555 0.080901 0.260097
0.368327 0.258664 0.357446 0.177961 0.55928
0.103317 -0.029123 0.182535 0.216085 0.264766

-0.643965 0.215931 -0.476378 0.072387
-1.221727 0.221325 -0.757251 0.092991
-0.59872 -0.065826 -0.390795 0.037424
-0.537631 -0.303022 -0.364839 0.214627
-0.815198 0.392338 -0.564135 0.217464
-0.931365 -0.254144 -0.561227 0.164795
-1.055966 0.249554 -0.623127 0.009784
-0.45858 0.108994 -0.240168 0.117779
-0.957469 0.315386 -0.616814 0.205634

3.918335 2.958509 3.725173 4.157478
1.261197 0.812825 1.10621 0.97753
2.216469 1.718251 2.366936 2.324907
3.85458 3.052212 3.643157 3.845696
1.806807 1.50062 1.615917 1.521762

2.450078 0.243735 4.269672 0.577224 1.46911
0.421015 0.372353 0.994656 0.962406 0.518992
1.079054 0.042843 2.12169 0.863083 0.757618
2.225794 0.188735 3.682347 0.934932 0.955984
0.660546 -0.321076 1.554888 0.833449 0.605201

7.568411 2.175445 4.335336 6.820628 3.51003

7.568411 2.175445 4.335336 6.820628 3.51003
"""

GRADIENT_CHECK = """
Analytical dL_dU:
 [[ 0.          0.38865328  0.          0.        ]
 [-0.         -0.3886532  -0.         -0.        ]]
Numerical dL_dU:
 [[ 0.         0.3874302  0.         0.       ]
 [ 0.        -0.3874302  0.         0.       ]]
Analytical dL_db2:
 [ 0.25237226 -0.2523722 ]
Numerical dL_db2:
 [ 0.25480986 -0.2503395 ]
Analytical dL_dW:
 [[ 0.         -0.          0.        ]
 [-0.11356751  0.22713502 -0.18170802]
 [-0.          0.         -0.        ]
 [ 0.         -0.          0.        ]]
Numerical dL_dW:
 [[ 0.          0.          0.        ]
 [-0.11175871  0.22798777 -0.18328428]
 [ 0.          0.          0.        ]
 [ 0.          0.          0.        ]]
Analytical dL_db1:
 [ 0.         -0.22713502 -0.          0.        ]
Numerical dL_db1:
 [ 0.         -0.22798777  0.          0.        ]
Analytical dL_dx:
 [-0.04542701  0.22713502 -0.18170802]
Numerical dL_dx:
 [-0.04917383  0.22798777 -0.18328428]
PyTorch dL_dU:
 tensor([[ 0.0000,  0.3887,  0.0000,  0.0000],
        [-0.0000, -0.3887, -0.0000, -0.0000]])
PyTorch dL_db2:
 tensor([ 0.2524, -0.2524])
PyTorch dL_dW:
 tensor([[ 0.0000, -0.0000,  0.0000],
        [-0.1136,  0.2271, -0.1817],
        [ 0.0000, -0.0000,  0.0000],
        [ 0.0000, -0.0000,  0.0000]])
PyTorch dL_db1:
 tensor([ 0.0000, -0.2271,  0.0000,  0.0000])
PyTorch dL_dx:
 tensor([-0.0454,  0.2271, -0.1817])
"""

FUNCTIONAL_RNN = """
4.42928666078666
0.14190064 -0.03085566 -0.16590029
0.2048493 -0.25288768 -0.26299734
0.22665322 -0.39487468 -0.23698683
-0.19705645 0.26551573 0.22413435
0.00652463 -0.00843032 0.05760394 0.0185553
0.01580351 -0.00631523 0.06006751 0.02529782
0.0139037 -0.00806739 0.04922337 0.01920442
-0.01248669 0.00766473 -0.05047733 -0.01995666
0.15304402 0.00765917 0.83909957 0.28807495
0.26431672 0.09696962 -0.08838056 0.30032227
0.16823351 0.3340134 0.42787586 -0.32430673
3.37718054 1.00718345
"""

# ---- the comparison -----------------------------------------------------------------------------------------------------

# A number with a decimal point, the shape of an array, or a count like 10/100; "h1" and "t = 2" are words.
NUMBER = re.compile(r"-?\d+\.\d*(?:e[-+]?\d+)?|\(\d+(?:, \d+)+\)|\d+/\d+")


def same(printed: str, wanted: str) -> bool:
    """Every digit. The sign of a zero does not count: our sums start from +0, the documents' outer products keep -0.

    Of a number printed in full, a relative 1e-14: its last digits are rounding errors, and on a processor without AVX2
    NumPy's tanh and BLAS make others.
    """
    if printed == wanted:
        return True
    if not (re.fullmatch(r"-?\d+\.\d*", printed) and re.fullmatch(r"-?\d+\.\d*", wanted)):
        return False
    a, b = float(printed), float(wanted)
    in_full = len(re.sub(r"\D", "", wanted).lstrip("0")) >= 15
    decimals = len(printed.partition(".")[2]), len(wanted.partition(".")[2])
    return (a == b == 0 and decimals[0] == decimals[1]) or (in_full and abs(a - b) <= 1e-14 * abs(b))


def compare(output: str, document: str) -> None:
    """All numbers of ``output`` are those of ``document``, in order; right of a bar stands what the document has not."""
    lines = [line.partition("|")[0].strip() for line in output.splitlines()]
    printed = [(number, line) for line in lines for number in NUMBER.findall(line)]
    wanted = NUMBER.findall(document)
    wrong = [
        f"number {i}: printed {ours}, the document has {theirs}; in the line: {line}"
        for i, ((ours, line), theirs) in enumerate(zip(printed, wanted, strict=False), start=1)
        if not same(ours, theirs)
    ]
    assert not wrong, "\n" + "\n".join(wrong)
    assert len(printed) == len(wanted), f"printed {len(printed)} numbers, the document has {len(wanted)}"


def output_of(main: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str:
    main()
    return capsys.readouterr().out


# ---- the tests ----------------------------------------------------------------------------------------------------------


def test_two_steps_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """The smallest hand calculation there is comes out differently, or PyTorch's column does."""
    output = output_of(two_steps_by_hand.main, capsys)
    compare(output, TWO_STEPS_BY_HAND)
    live = [line.partition("|") for line in output.splitlines() if "|" in line]
    assert len(live) == 7
    for left, _, right in live:
        assert NUMBER.findall(right) == NUMBER.findall(left)[-1:], left


def test_train_a_small_rnn(capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred updates end elsewhere."""
    compare(output_of(train_a_small_rnn.main, capsys), TRAIN_A_SMALL_RNN)


def test_cell_and_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    """A state, a softmax output or a gradient differs from the document, or from the live torch.nn.RNN."""
    output = output_of(cell_and_sequence.main, capsys)
    twice = [block for block in AGAINST_TORCH.split("\n\n") for _ in range(2)]
    compare(output, CELL_AND_SEQUENCE + "\n".join(twice))
    differences = [float(d) for d in re.findall(r"\| largest difference: (\S+)", output)]
    assert len(differences) == 6
    assert max(differences) < 1e-14
    own = re.findall(r"= (\S+), shape .*\| engine's own cell: (\S+)", output)
    for theirs, ours in [pair for pair in own if "[" not in pair[0]]:
        assert float(ours) == pytest.approx(float(theirs), rel=1e-14)


def column(text: str, word: str) -> str:
    """The parts of the gradient check that begin with this word."""
    parts = re.split(r"(?=Analytical|Numerical|PyTorch)", "\n".join(x for x in text.splitlines() if x[:1] != "|"))
    return "".join(part for part in parts if part.startswith(word))


@pytest.mark.parametrize("word", ["Analytical", "PyTorch"])
def test_gradient_check(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A gradient differs; Analytical: the engine's backward pass from the document's own dL/dy."""
    compare(column(output_of(gradient_check.main, capsys), word), column(GRADIENT_CHECK, word))


# NumPy's own float32 exp, for AVX2 and AVX-512, and the C library's part here in the last bit: 0.7788007 and 0.7788008.
@pytest.mark.skipif(
    str(np.exp(np.float32(-0.25))) != "0.7788007", reason="NumPy's float32 exp has other last bits here"
)
def test_gradient_check_by_differences(capsys: pytest.CaptureFixture[str]) -> None:
    """float32 differences over 2e-5 are made of the last bits of the loss: another order of operations, other digits."""
    compare(column(output_of(gradient_check.main, capsys), "Numerical"), column(GRADIENT_CHECK, "Numerical"))


def test_functional_rnn(capsys: pytest.CaptureFixture[str]) -> None:
    """A gradient differs, or a step against it makes the loss larger."""
    output = output_of(functional_rnn.main, capsys)
    compare(output, FUNCTIONAL_RNN)
    before, after = (float(v) for v in re.findall(r"Loss \w+ update: (\S+)", output))
    assert after < before


@pytest.mark.parametrize(
    ("printed", "wanted"),
    [("0.7616", "0.7617"), ("0.76", "0.7600"), ("-0.5", "0.5"), ("(3, 4)", "(4, 3)"), ("0.", "0.1")],
)
def test_the_comparison_sees_a_difference(printed: str, wanted: str) -> None:
    """The comparison has become so mild that it misses a digit, a sign or a shape."""
    assert not same(printed, wanted)
    with pytest.raises(AssertionError, match="the document has"):
        compare(f"h1 = {printed} | {wanted}", wanted)


def test_an_example_runs_as_a_module() -> None:
    """``python -m examples.NAME`` does not work from the root of the repository."""
    command = [sys.executable, "-m", "examples.functional_rnn"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    compare(done.stdout, FUNCTIONAL_RNN)


def test_own_module(capsys: pytest.CaptureFixture[str]) -> None:
    """A module's gradient beyond the range of floats is another than its forget gates say, or its wrong backward is not found."""
    output = output_of(own_module.main, capsys)
    assert "gradient of memory: log10 of its norm 0.42 at t=2000, -552.89 at t=1: vanishing" in output
    assert "the product of the forget gates says the same: True" in output
    assert "derivatives: right" in output
    assert re.search(r"with a mistake: what step t = \d+ .*; written by hand: Squash", output)
