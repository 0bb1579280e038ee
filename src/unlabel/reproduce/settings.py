"""The methods that the pages compare, at one budget of steps and images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unlabel.forget.methods import METHODS


@dataclass(frozen=True)
class Setting:
    """A method with its options, under the name that it has in a table.

    Args:
        name: In the page, and in the paper where it has the method.
        method: A name of the catalogue.
        options: Its own options.
        paper: The paper's name of it, where its figures are to stand beside; None where it has none.
        images: Calibration images of its own; 0 for the page's.
    """

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    paper: str | None = None
    images: int = 0


RETRAIN, ORIGINAL = "Retrain", "original"

PRINTED_RATE = 0.02
"""Peak learning rate of fine-tuning as printed, where the paper gives none: docs/results/paper-methods.md."""

PRINTED_TAU = 50.0
"""Percentage that WF as printed resets: below it nothing shows, see docs/results/paper-methods.md."""


def wf_printed(steps: int, *, tau: float = PRINTED_TAU, epsilon: float = 0.1, name: str = "") -> Setting:
    """Weight filtering, Algorithm 1 to the letter."""
    options = {"as_printed": True, "tau": tau, "epsilon": epsilon, "steps": steps, "lr": PRINTED_RATE}
    return Setting(name or "WF as printed", "weight-filtering", options, "WF")


def wp_printed(steps: int, *, tau: float = 100.0, epsilon: float = 0.1, name: str = "") -> Setting:
    """Weight pruning, Algorithm 2 to the letter."""
    options = {"as_printed": True, "tau": tau, "epsilon": epsilon, "steps": steps, "lr": PRINTED_RATE}
    return Setting(name or "WP as printed", "weight-pruning", options, "WP")


def wf_ours(steps: int) -> Setting:
    """Weight filtering, corrected: the critical weights, by contrast."""
    return Setting("WF corrected", "weight-filtering", {"steps": steps})


def wp_ours(steps: int) -> Setting:
    """Weight pruning, corrected."""
    return Setting("WP corrected", "weight-pruning", {"steps": steps})


def paper_methods(steps: int) -> tuple[Setting, ...]:
    """The paper's two methods as printed and corrected, and the trivial baseline."""
    return (
        wf_printed(steps),
        wp_printed(steps),
        wf_ours(steps),
        wp_ours(steps),
        Setting("head removal", "head-removal"),
    )


def baselines(steps: int) -> tuple[Setting, ...]:
    """The paper's baselines; phases of SCRUB and UNSIR add up to the budget."""
    push, impair = max(1, steps // 12), max(1, steps // 3)
    draw = max(0, (steps - 3 * push) // 4)
    return (
        Setting("CF-3", "cf-k", {"layers": 3, "steps": steps}, "CF-k"),
        Setting("SCRUB", "scrub", {"max_steps": push, "min_steps": draw}, "SCRUB"),
        Setting("UNSIR", "unsir", {"impair_steps": impair, "repair_steps": steps - impair}, "UNSIR"),
        Setting("SalUn", "salun", {"steps": steps}, "SalUn"),
    )


OWN_BUDGET = (
    "Every method has the same calibration images and steps, but deep-probes has its own defaults. It is the"
    " training of auto; what auto does beside it, it does not: no check, no choice by what the check says."
)


def deep_probes(options: Mapping[str, Any]) -> Setting:
    """The training of `auto` at its defaults: its own steps, told in the table, and images."""
    return Setting("deep-probes", "deep-probes", options, images=METHODS["deep-probes"].images)


def newer(steps: int) -> tuple[Setting, ...]:
    """Methods newer than the paper's baselines: noise and distillation, and edits of all layers."""
    return (
        Setting("UNDO", "undo", {"steps": steps}),
        Setting("DAMP", "damp"),
        Setting("Kodge", "kodge"),
        Setting("RepSelect", "repselect"),
    )


def confusion(steps: int) -> Setting:
    """Frozen-probe confusion at the budget."""
    return Setting("confusion", "confusion", {"steps": steps})
