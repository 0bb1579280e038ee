"""The catalogue: one line a method. Reading it imports no torch.

A method is one function with keyword-only options that returns an `Unlearner`; its signature is the
Python API, the flags, the config keys and a row of the report. Adding one is one file and one line. Other
packages add theirs under the entry-point group ``unlabel.methods``; a name that is taken is refused.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from unlabel.core.errors import OptionError
from unlabel.core.wording import suggest


@dataclass(frozen=True)
class Method:
    """One row of the catalogue.

    Args:
        name: As on the command line.
        summary: One line for a person.
        paper: Where it comes from.
        target: ``module:function`` that returns the unlearner.
        data: ``calibration`` methods see a few training images, ``train`` methods all of them.
        alias_of: The method that this name stands for now, if it is only a name.
        rows: Whether it can forget single annotations and keep the label.
    """

    name: str
    summary: str
    paper: str
    target: str
    data: Literal["calibration", "train"] = "calibration"
    alias_of: str | None = None
    rows: bool = False

    def load(self) -> Callable[..., Any]:
        """Imports the function; takes seconds the first time."""
        module, function = self.target.split(":")
        return getattr(import_module(module), function)

    def options(self) -> dict[str, inspect.Parameter]:
        """The function's keyword-only parameters."""
        return dict(inspect.signature(self.load()).parameters)


_HERE = "unlabel.forget.methods"

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "auto",
            "the best method known so far; now: erasure",
            "this project",
            f"{_HERE}.erasure:erasure",
            alias_of="erasure",
        ),
        Method(
            "erasure",
            "rewrite the layer that makes the features, in closed form, so that the label is gone from them",
            "this project (least-change erasure)",
            f"{_HERE}.erasure:erasure",
        ),
        Method(
            "confusion",
            "train the features until the original's own reader of the label sees nothing",
            "this project (frozen-reader confusion)",
            f"{_HERE}.confusion:confusion",
        ),
        Method(
            "weight-filtering",
            "reset the weights that matter to the label, then fine-tune under a clamp",
            "Hossain et al., ECML PKDD 2025, Algorithms 1 and 3",
            f"{_HERE}.weights:weight_filtering",
            rows=True,
        ),
        Method(
            "weight-pruning",
            "zero, shrink or keep weights by importance to the label, then fine-tune under a clamp",
            "Hossain et al., ECML PKDD 2025, Algorithms 2 and 3",
            f"{_HERE}.weights:weight_pruning",
            rows=True,
        ),
        Method(
            "bad-teacher",
            "learn the label from a network that knows nothing, the others from the original",
            "Chundawat et al., AAAI 2023",
            f"{_HERE}.bad_teacher:bad_teacher",
        ),
        Method(
            "cf-k",
            "fine-tune the last k layers on the retained labels only; the rest stays as it is",
            "CF-k (Goel et al., 2022)",
            f"{_HERE}.last_layers:cf_k",
            rows=True,
        ),
        Method(
            "eu-k",
            "give the last k layers new random weights and train them without the label",
            "EU-k (Goel et al., 2022)",
            f"{_HERE}.last_layers:eu_k",
            rows=True,
        ),
        Method(
            "l1-sparse",
            "fine-tune on the retained labels while an L1 penalty sets weights to zero",
            "Jia et al., NeurIPS 2023",
            f"{_HERE}.l1_sparse:l1_sparse",
        ),
        Method(
            "leace-head",
            "hide the label from linear readers of the outputs; the features keep it",
            "LEACE (Belrose et al., NeurIPS 2023), folded into the head",
            f"{_HERE}.leace:leace_head",
        ),
        Method(
            "leace-layer",
            "add a layer that hides the label from linear readers of the features; the network keeps it",
            "LEACE (Belrose et al., NeurIPS 2023), as a layer before the head",
            f"{_HERE}.leace_layer:leace_layer",
        ),
        Method(
            "neg-grad",
            "raise the label's loss up to chance, and look at nothing else",
            "NegGrad (Golatkar et al., CVPR 2020)",
            f"{_HERE}.neg_grad:neg_grad",
        ),
        Method(
            "neg-grad-plus",
            "raise the label's loss up to chance while the retained labels' is lowered",
            "NegGrad+ (Kurmanji et al., NeurIPS 2023)",
            f"{_HERE}.neg_grad:neg_grad_plus",
        ),
        Method(
            "random-label",
            "train the label on replaced annotations, the others on their true ones",
            "Graves et al., AAAI 2021; Golatkar et al., CVPR 2020",
            f"{_HERE}.random_label:random_label",
        ),
        Method(
            "salun",
            "replace the label's annotations, but move only the weights that its gradient points at",
            "SalUn (Fan et al., ICLR 2024)",
            f"{_HERE}.salun:salun",
        ),
        Method(
            "scrub",
            "push the label's answer away from the original's up to chance, draw the others back",
            "SCRUB, SCRUB+R (Kurmanji et al., NeurIPS 2023)",
            f"{_HERE}.scrub:scrub",
        ),
        Method(
            "ssd",
            "shrink the weights that matter far more to the label than to the others; no training",
            "Selective Synaptic Dampening (Foster et al., AAAI 2024)",
            f"{_HERE}.ssd:ssd",
        ),
        Method(
            "unsir",
            "teach the label wrongly on noise that maximises its error, then repair the others",
            "UNSIR (Tarun et al., IEEE TNNLS 2023)",
            f"{_HERE}.unsir:unsir",
        ),
        Method(
            "head-removal",
            "only make the output constant: the trivial baseline, the network still knows",
            "baseline",
            f"{_HERE}.baselines:head_removal",
        ),
        Method(
            "fine-tune",
            "train on the retained labels only and hope the label fades",
            "baseline (Golatkar et al., CVPR 2020)",
            f"{_HERE}.baselines:fine_tune",
            rows=True,
        ),
        Method(
            "retrain",
            "train again from the start without the label: the exact reference, at full cost",
            "reference (Cao & Yang, IEEE S&P 2015)",
            f"{_HERE}.baselines:retrain",
            data="train",
            rows=True,
        ),
    )
}


def find_method(name: str) -> Method:
    """Looks a method up in the catalogue, then among installed plug-ins.

    Raises:
        OptionError: No such method, or a plug-in takes a name of the catalogue.
    """
    plugins = {point.name: point for point in entry_points(group="unlabel.methods")}
    clash = sorted({*plugins} & {*METHODS})
    if clash:
        raise OptionError(f"a plug-in names its method '{clash[0]}', which unlabel has; rename the plug-in's")
    if name in METHODS:
        return METHODS[name]
    if name in plugins:
        return Method(name, f"plug-in {plugins[name].value}", "plug-in", plugins[name].value)
    known = [*METHODS, *plugins]
    raise OptionError(f"no method '{name}'; expected one of {', '.join(known)}.{suggest(name, known)}")


def methods() -> dict[str, Method]:
    """Every way to forget, by name: those of the catalogue, then those of installed plug-ins.

    >>> methods()["auto"].alias_of
    'erasure'
    """
    plugins = [point.name for point in entry_points(group="unlabel.methods")]
    return {name: find_method(name) for name in (*METHODS, *plugins)}
