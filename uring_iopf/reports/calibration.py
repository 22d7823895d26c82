"""The printed text of ``uring-iopf calibrate``, the model's file, and the JSON document of all measurements."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from uring_iopf.costs.model import PRICES
from uring_iopf.lab.calibration import calibrate
from uring_iopf.reports.document import environment, json_text, this_machine
from uring_iopf.reports.output import write_out
from uring_iopf.reports.progress import progress
from uring_iopf.reports.text import paragraph, three_digits

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from uring_iopf.costs.model import CostModel
    from uring_iopf.lab.calibration import Calibration
    from uring_iopf.reports.output import Output

SCHEMA: Final = 1
"""The number is raised when a key of the JSON document is removed or changes its meaning."""
WIDE: Final = 0.25
"""A price with a larger spread is marked."""


def run(*, out: TextIO, model_file: Output | None, json_file: Output | None, name: str, quick: bool) -> int:
    """Measure all prices, write the text to *out* and the model and the JSON to their files (if given).

    *name*: the name of the model. An interrupted run leaves no model. Return the exit status. 0: done; 1: a file could
    not be written; 130: interrupted.
    """
    with progress() as tell:
        calibration = calibrate(quick=quick, tell=tell)
    here = environment()
    model = calibration.model(name, *this_machine(here))
    complaints = []
    if json_file is not None:
        complaints.append(json_file.write(json_text(document(calibration, model, here, quick=quick))))
    if model_file is not None and not calibration.partial:
        complaints.append(model_file.write(model.dumps()))
    write_out(out, text(calibration, model))
    for reason in calibration.unfit:  # again, for a caller that keeps only the table or the model
        sys.stderr.write(f"uring-iopf: do not trust these numbers: {reason}\n")
    for complaint in complaints:
        if complaint is not None:  # for example a full disk: the text was printed all the same
            sys.stderr.write(f"uring-iopf: {complaint}\n")
    if calibration.partial:
        return 130
    return 0 if not any(complaints) else 1


def measured_model(tell: Callable[[str, float], None]) -> tuple[CostModel, tuple[str, ...]]:
    """Measure all prices of this machine. Return them as a model, and the reasons not to trust it.

    *tell*: called with the name of the measurement, and the share that is done. Raises: KeyboardInterrupt, on Ctrl-C.
    """
    calibration = calibrate(quick=False, tell=tell)
    if calibration.partial:
        raise KeyboardInterrupt
    return calibration.model("calibrated", *this_machine(environment())), calibration.unfit


def document(calibration: Calibration, model: CostModel, here: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    """All measurements, with the model, the environment, and whether the machine was fit for them."""
    floors = {"floor": calibration.floor, "floor_after": calibration.floor_after}
    return {
        "schema": SCHEMA,
        "model": model.to_json(),
        "rounds": calibration.rounds,
        **{name: None if floor is None else floor.to_json() for name, floor in floors.items()},
        "fit": {"is_fit": not calibration.unfit, "reasons": list(calibration.unfit)},
        "environment": here,
        "arguments": {"quick": quick},
        "partial": calibration.partial,
    }


def text(calibration: Calibration, model: CostModel) -> str:
    """The table of prices, and what does not fit into it."""
    lines = []
    if calibration.partial:
        lines += ["PARTIAL: interrupted; the prices are those measured until then, and no model was written.", ""]
    if calibration.unfit:
        lines += [
            "UNFIT: do not trust these numbers:",
            *(paragraph(why, label="  - ") for why in calibration.unfit),
            "",
        ]
    lines += [
        paragraph(f"{model.machine}, {model.kernel}"),
        paragraph(
            f"The median of {len(calibration.rounds)} rounds. The spread is half of the distance between the quartiles."
        ),
        "",
        f"  {'price':<22} {'value':>9}   {'unit':<12} {'spread':>8}   paid by",
    ]
    wide = False
    for name, price in model.prices.items():
        fact = PRICES[name]
        is_wide = price.spread > WIDE
        wide |= is_wide
        mark = "~" if is_wide else " "
        value = f"{price.ns:,.0f}" if price.ns >= 1000 else three_digits(price.ns)
        lines.append(f"  {name:<22} {value:>9}   {fact.unit:<12} {price.spread:>8.1%} {mark} {fact.who}")
    if wide:
        lines += ["", paragraph(f"~ The rounds differ by more than {WIDE:.0%}: stop other programs and measure again.")]
    if model.missing:
        lines += ["", "not measured here"]
        lines += [paragraph(why, label=f"  {name:<22} ") for name, why in model.missing.items()]
    return "\n".join(lines) + "\n"
