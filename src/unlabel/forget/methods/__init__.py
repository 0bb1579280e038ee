"""The catalogue: one row a method, which says all of it. Reading it imports no torch.

A method is one function with keyword-only options that returns an `Unlearner`; its signature is the
Python API, the flags, the config keys and a row of the report. Adding one is one file and one row. Other
packages add theirs under the entry-point group ``unlabel.methods``: ``name = "package.module:object"``, where
the object is a `Method`, or just the function. A name that is taken is refused. A method needs no package:
its user may name ``module:function``, found in the current folder first. Nothing else imports it: no run
folder and no file of settings, see `find_method`.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from unlabel.core.errors import OptionError
from unlabel.core.own_code import OwnCode, first_on_path, is_custom
from unlabel.core.wording import suggest
from unlabel.forget.bill import DEFAULT_IMAGES, MANY_IMAGES

if TYPE_CHECKING:
    from unlabel.forget.bill import Bill, Budget

Target: TypeAlias = str | Callable[..., Any]
"""A function, or ``module:function``, imported when it is first needed."""


@dataclass(frozen=True)
class Method:
    """One row of the catalogue.

    Args:
        name: As on the command line.
        summary: One line for a person.
        paper: Where it comes from.
        target: What returns the unlearner from the options.
        data: ``calibration`` methods see a few training images, ``train`` methods all of them.
        alias_of: The method that a comparison takes for this name, if the name stands for a choice of
            methods.
        images: Calibration images that it takes if none are named.
        rows: Whether it can forget single annotations and keep the label.
        reference: Whether it is what the others are compared with, made by the original's recipe.
        head_only: Whether it moves no weights below the last layer, so that nothing comes back there.
        bill: What it takes before it runs, see `unlabel.forget.bill`.
        sizes: ``(options, steps) -> options`` that make it take so many steps.
        ladder: Settings that a search tries after the defaults, the most promising first. Lengths are no
            settings: the budget gives them.
    """

    name: str
    summary: str
    paper: str
    target: Target
    data: Literal["calibration", "train"] = "calibration"
    alias_of: str | None = None
    images: int = DEFAULT_IMAGES
    rows: bool = False
    reference: bool = False
    head_only: bool = False
    bill: Target = "unlabel.forget.bill:pipeline_bill"
    sizes: Target = "unlabel.forget.bill:pipeline_sizes"
    ladder: tuple[Mapping[str, Any], ...] = ()

    def load(self) -> Callable[..., Any]:
        """Imports the function; takes seconds the first time."""
        return _load(self.target)

    def options(self) -> dict[str, inspect.Parameter]:
        """The function's keyword-only parameters."""
        return dict(inspect.signature(self.load()).parameters)

    def costs(self, options: Mapping[str, Any], budget: "Budget") -> "Bill":
        """Steps and images that it takes with these options, every one of which is named."""
        return _load(self.bill)(self.load()(**options), options, budget)

    def sized(self, options: Mapping[str, Any], steps: int) -> dict[str, Any]:
        """The options that make it take so many steps in all; none if it takes no steps."""
        return _load(self.sizes)(options, steps)

    def settings(self, count: int) -> list[dict[str, Any]]:
        """The first so many settings of a search, the defaults first; fewer if it has no more.

        >>> METHODS["confusion"].settings(3), METHODS["head-removal"].settings(3)
        ([{}, {'strength': 0.3}, {'strength': 3.0}], [{}])
        """
        return [{}, *map(dict, self.ladder)][:count]


def _load(target: Target) -> Any:
    if not isinstance(target, str):
        return target
    module, name = target.split(":")
    return getattr(import_module(module), name)


_HERE = "unlabel.forget.methods"

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "auto",
            "the method that fits whom the model is given to (--against), which checks its own result",
            "this project",
            f"{_HERE}.auto:auto",
            alias_of="deep-probes",
            images=MANY_IMAGES,
        ),
        Method(
            "deep-probes",
            "train on the retained labels against probes of the label at every depth, often fitted anew",
            "this project (residual probes at every depth)",
            f"{_HERE}.deep_probes:deep_probes",
            images=MANY_IMAGES,
            bill=f"{_HERE}.deep_probes:bill",
            ladder=(
                {"pressure": 0.12},
                {"pressure": 0.03},
                {"lr": 0.1},
                {"lr": 0.05},
                {"pressure": 0.12, "lr": 0.1},
            ),
        ),
        Method(
            "erasure",
            "remove the label from the features by rewriting the layer that makes them, in closed form",
            "this project (least-change erasure)",
            f"{_HERE}.erasure:erasure",
            bill=f"{_HERE}.erasure:bill",
            ladder=({"strength": 0.25}, {"strength": 1.0}, {"strength": 0.1}, {"rounds": 2}, {"anchor": 3.0}),
        ),
        Method(
            "confusion",
            "train the features until the original's own output row cannot predict the label from them",
            "this project (frozen-probe confusion)",
            f"{_HERE}.confusion:confusion",
            ladder=(
                {"strength": 0.3},
                {"strength": 3.0},
                {"lr": 0.02},
                {"lr": 0.1},
                {"strength": 3.0, "lr": 0.02},
            ),
        ),
        Method(
            "weight-filtering",
            "reset the weights that matter to the label, then fine-tune with bounds on them",
            "Hossain et al., ECML PKDD 2025, Algorithms 1 and 3",
            f"{_HERE}.weights:weight_filtering",
            rows=True,
            ladder=({"tau": 3.0}, {"tau": 15.0}, {"lr": 0.02}, {"epsilon": 0.3}, {"direction": "low"}),
        ),
        Method(
            "weight-pruning",
            "zero, shrink or keep weights by importance to the label, then fine-tune with bounds on them",
            "Hossain et al., ECML PKDD 2025, Algorithms 2 and 3",
            f"{_HERE}.weights:weight_pruning",
            rows=True,
            ladder=({"tau": 5.0}, {"tau": 20.0}, {"lr": 0.02}, {"epsilon": 0.3}, {"direction": "low"}),
        ),
        Method(
            "bad-teacher",
            "imitate an untrained network for the label, and the original for the retained labels",
            "Chundawat et al., AAAI 2023",
            f"{_HERE}.bad_teacher:bad_teacher",
            bill=f"{_HERE}.bad_teacher:bill",
            ladder=(
                {"strength": 0.3},
                {"strength": 3.0},
                {"lr": 0.05},
                {"bad": "prior"},
                {"strength": 3.0, "lr": 0.05},
            ),
        ),
        Method(
            "cf-k",
            "fine-tune the last k layers on the retained labels only; the other layers stay unchanged",
            "CF-k (Goel et al., 2022)",
            f"{_HERE}.last_layers:cf_k",
            rows=True,
            ladder=({"lr": 0.05}, {"layers": 6}, {"layers": 6, "lr": 0.05}, {"layers": 1}, {"lr": 0.1}),
        ),
        Method(
            "damp",
            "project the label's prototype directions out of every layer, in closed form",
            "DAMP (Hatami et al., arXiv 2604.15166, 2026)",
            f"{_HERE}.damp:damp",
            ladder=(
                {"rounds": 2},
                {"strength": 2.0},
                {"strength": 0.5},
                {"strength": 2.0, "rounds": 2},
                {"rounds": 4},
            ),
        ),
        Method(
            "eu-k",
            "give the last k layers new random weights and train them without the label",
            "EU-k (Goel et al., 2022)",
            f"{_HERE}.last_layers:eu_k",
            rows=True,
            ladder=({"lr": 0.1}, {"layers": 2}, {"layers": 5}, {"layers": 5, "lr": 0.1}, {"layers": 1}),
        ),
        Method(
            "kodge",
            "project what only the label's images activate out of every layer, in closed form",
            "Kodge et al., TMLR 2024",
            f"{_HERE}.kodge:kodge",
            bill=f"{_HERE}.kodge:bill",
            ladder=(
                {"alpha_r": 10.0},
                {"alpha_f": 300.0},
                {"alpha_r": 10.0, "alpha_f": 300.0},
                {"centre": False},
                {"alpha_f": 1e4},
            ),
        ),
        Method(
            "l1-sparse",
            "fine-tune on the retained labels while an L1 penalty sets weights to zero",
            "Jia et al., NeurIPS 2023",
            f"{_HERE}.l1_sparse:l1_sparse",
            ladder=(
                {"gamma": 0.003},
                {"gamma": 0.03},
                {"lr": 0.05},
                {"gamma": 0.03, "lr": 0.05},
                {"gamma": 0.1},
            ),
        ),
        Method(
            "leace-head",
            "hide the label from linear probes of the outputs; the features keep it",
            "LEACE (Belrose et al., NeurIPS 2023), folded into the head",
            f"{_HERE}.leace:leace_head",
            head_only=True,
            bill="unlabel.forget.bill:one_pass",
        ),
        Method(
            "leace-layer",
            "add a layer that hides the label from linear probes of the features; earlier layers keep it",
            "LEACE (Belrose et al., NeurIPS 2023), as a layer before the head",
            f"{_HERE}.leace_layer:leace_layer",
            bill="unlabel.forget.bill:one_pass",
        ),
        Method(
            "neg-grad",
            "raise the label's loss up to chance; the retained labels are not trained",
            "NegGrad (Golatkar et al., CVPR 2020)",
            f"{_HERE}.neg_grad:neg_grad",
            ladder=({"lr": 0.005}, {"lr": 0.05}, {"lr": 0.002}, {"lr": 0.01}, {"chance": "uniform"}),
        ),
        Method(
            "neg-grad-plus",
            "raise the label's loss up to chance, and lower the loss of the retained labels",
            "NegGrad+ (Kurmanji et al., NeurIPS 2023)",
            f"{_HERE}.neg_grad:neg_grad_plus",
            ladder=(
                {"alpha": 0.8},
                {"alpha": 0.5},
                {"lr": 0.05},
                {"alpha": 0.8, "lr": 0.05},
                {"alpha": 0.5, "lr": 0.05},
            ),
        ),
        Method(
            "random-label",
            "train the label on replaced annotations, and the retained labels on their true ones",
            "Graves et al., AAAI 2021; Golatkar et al., CVPR 2020",
            f"{_HERE}.random_label:random_label",
            ladder=(
                {"weight": 0.3},
                {"weight": 3.0},
                {"lr": 0.05},
                {"target": "bernoulli_half"},
                {"weight": 3.0, "lr": 0.05},
            ),
        ),
        Method(
            "repselect",
            "step once against the label's gradient, its strongest components damped",
            "RepSelect (Sondej et al., arXiv 2606.17168, 2026)",
            f"{_HERE}.repselect:repselect",
            ladder=(
                {"step": 0.2},
                {"step": 0.05},
                {"distribution": "retain"},
                {"components": 0.5},
                {"step": 0.2, "distribution": "retain"},
            ),
        ),
        Method(
            "salun",
            "replace the label's annotations, and train only the weights with the largest gradient for it",
            "SalUn (Fan et al., ICLR 2024)",
            f"{_HERE}.salun:salun",
            ladder=(
                {"ratio": 0.25},
                {"ratio": 0.75},
                {"lr": 0.05},
                {"weight": 3.0},
                {"weight": 3.0, "lr": 0.05},
            ),
        ),
        Method(
            "scrub",
            "move the label's output away from the original's up to chance; keep the retained outputs",
            "SCRUB, SCRUB+R (Kurmanji et al., NeurIPS 2023)",
            f"{_HERE}.scrub:scrub",
            bill=f"{_HERE}.scrub:bill",
            sizes=f"{_HERE}.scrub:sizes",
            ladder=(
                {"alpha": 0.0},
                {"lr": 0.05},
                {"max_steps": 24},
                {"alpha": 0.0, "lr": 0.05},
                {"rewind": True},
            ),
        ),
        Method(
            "ssd",
            "shrink the weights that matter far more to the label than to the retained labels; no training",
            "Selective Synaptic Dampening (Foster et al., AAAI 2024)",
            f"{_HERE}.ssd:ssd",
            ladder=(
                {"alpha": 5.0},
                {"alpha": 2.0},
                {"alpha": 50.0},
                {"lam": 0.1},
                {"alpha": 2.0, "lam": 0.1},
            ),
        ),
        Method(
            "undo",
            "damage all weights with noise, then distil from the retained outputs and annotations",
            "UNDO (Lee et al., NeurIPS 2025)",
            f"{_HERE}.undo:undo",
            bill=f"{_HERE}.undo:bill",
            ladder=(
                {"beta": 1.0},
                {"alpha": 0.8},
                {"alpha": 0.4},
                {"lr": 0.1},
                {"alpha": 0.8, "truth": 1.0},
            ),
        ),
        Method(
            "unsir",
            "train the label wrongly on noise that maximises its error, then repair the retained labels",
            "UNSIR (Tarun et al., IEEE TNNLS 2023)",
            f"{_HERE}.unsir:unsir",
            bill=f"{_HERE}.unsir:bill",
            sizes=f"{_HERE}.unsir:sizes",
            ladder=(
                {"strength": 0.3},
                {"strength": 3.0},
                {"lr": 0.05},
                {"noise_steps": 10},
                {"penalty": 0.01},
            ),
        ),
        Method(
            "head-removal",
            "only make the output constant: the trivial baseline; the features still contain the label",
            "baseline",
            f"{_HERE}.baselines:head_removal",
            head_only=True,
        ),
        Method(
            "fine-tune",
            "train on the retained labels only; nothing removes the label on purpose",
            "baseline (Golatkar et al., CVPR 2020)",
            f"{_HERE}.baselines:fine_tune",
            rows=True,
            ladder=({"lr": 0.02}, {"lr": 0.1}, {"lr": 0.01}, {"lr": 0.2}, {"lr": 0.005}),
        ),
        Method(
            "retrain",
            "train again from the start without the label: the exact reference, at full cost",
            "reference (Cao & Yang, IEEE S&P 2015)",
            f"{_HERE}.baselines:retrain",
            data="train",
            rows=True,
            reference=True,
        ),
    )
}


MOST_SETTINGS = 6
"""Settings that a search may try with one method, its defaults among them."""


def methods() -> dict[str, Method]:
    """Every way to forget, by name: ours, then those of installed packages, which are imported for it.

    Raises:
        OptionError: An installed package takes a name of ours, or names no method.

    Example:
        >>> methods()["auto"].alias_of
        'deep-probes'
    """
    return METHODS | {name: _plugin(point) for name, point in _plugins().items()}


def find_method(name: str) -> Method:
    """Looks a method up in the catalogue, then among installed plug-ins; ``module:function`` is imported.

    Give it such a name only if the user of this machine has just named it: importing runs the module.

    Raises:
        OptionError: No such method, a plug-in takes a name of the catalogue, or the module cannot be used.
    """
    if is_custom(name):
        return _own(name)
    plugins = _plugins()
    if name in METHODS:
        return METHODS[name]
    if name in plugins:
        return _plugin(plugins[name])
    names = [*METHODS, *plugins]
    raise OptionError(
        f"no method '{name}'; expected one of {', '.join(names)}, or module:function for your"
        f" own.{suggest(name, names)}"
    )


def as_method(given: str | Method | Callable[..., Any]) -> Method:
    """A method by its name, as its row, or as the function alone, as Python callers may give it.

    Example:
        >>> def my_method(*, steps: int = 4): ...
        >>> as_method("ssd").name, as_method(my_method).name
        ('ssd', 'my_method')
    """
    if isinstance(given, str):
        return find_method(given)
    if isinstance(given, Method) and METHODS.get(given.name) is given:
        return given
    name = getattr(given, "name", None) or getattr(given, "__name__", type(given).__name__)
    return _row(str(name), f"method '{name}'", given, "your own code")


def code_of(method: Method) -> str | None:
    """The sha256 of the source file of a method that is not of the catalogue; None of one that is.

    A comparison computes a cell again if its method was edited.
    """
    if METHODS.get(method.name) is method:
        return None
    try:
        file = inspect.getsourcefile(inspect.unwrap(method.load()))
        return hashlib.sha256(Path(file or "").read_bytes()).hexdigest()
    except (OSError, TypeError):  # made by hand: there is no file
        return "unknown"


def plugin_names() -> dict[str, str]:
    """The methods of installed packages and where they are, without importing them."""
    return {name: f"plug-in {point.value}" for name, point in _plugins().items()}


def _plugins() -> dict[str, EntryPoint]:
    places = [Path(entry or ".") for entry in sys.path]
    path = tuple((str(place), place.stat().st_mtime_ns if place.exists() else 0) for place in places)
    plugins = {point.name: point for point in _installed(path)}
    if clash := sorted({*plugins} & {*METHODS}):
        raise OptionError(f"a plug-in names its method '{clash[0]}', which unlabel has; rename the plug-in's")
    return plugins


@cache
def _installed(path: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """The methods that installed packages bring, read once for a path that stays as it is.

    Args:
        path: Its entries, and when each was changed: an installation changes one.
    """
    return tuple(entry_points(group="unlabel.methods"))


OWN = OwnCode("method", "a function of keyword-only options that returns an unlearner", OptionError)


def _own(name: str) -> Method:
    """The row of a method that the user named as ``module:function``."""
    folder = OWN.locate(name)
    with first_on_path(folder):
        item = OWN.function(name, folder)
    return _row(name, f"the method '{name}'", item, "your own code")


def _plugin(point: EntryPoint) -> Method:
    """The row of an installed package's method; of a bare function, its docstring's first line."""
    try:
        item = point.load()
    except Exception as error:  # whatever a stranger's module raises when it is imported
        raise OptionError(
            f"the plug-in '{point.name}' cannot be loaded from {point.value}"
            f" ({type(error).__name__}: {error}); repair or uninstall the package that brings it"
        ) from error
    return _row(point.name, f"the plug-in '{point.name}' ({point.value})", item, "plug-in")


def _row(name: str, what: str, item: Any, paper: str) -> Method:
    """A row of what somebody else brings: a `Method`, or a function whose docstring is the summary."""
    if not isinstance(item, Method) and not callable(item):
        raise OptionError(
            f"{what} is of type {type(item).__name__}; expected a function that returns an unlearner, or a"
            " Method"
        )
    if isinstance(item, Method):
        row = replace(item, name=name)
    else:
        summary = (inspect.getdoc(item) or what).splitlines()[0].rstrip(".")
        row = Method(name, summary, paper, item)
    for option, parameter in row.options().items():
        if parameter.default is inspect.Parameter.empty or parameter.kind is not parameter.KEYWORD_ONLY:
            raise OptionError(
                f"{what} has the parameter '{option}'; expected keyword-only options, each with a default:"
                f" def {getattr(row.load(), '__name__', 'method')}(*, {option}=...)"
            )
    return row
