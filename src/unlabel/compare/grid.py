"""The settings that a search may try, the first ones first; each method's defaults come before all of them.

Lengths are no settings: the budget gives them. Six a method at most, where a method has that many worth
trying; one without options has its defaults alone. What is not named here is at its default.
"""

from collections.abc import Mapping, Sequence
from typing import Any

SETTINGS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "confusion": (
        {"strength": 0.3},
        {"strength": 3.0},
        {"lr": 0.02},
        {"lr": 0.1},
        {"strength": 3.0, "lr": 0.02},
    ),
    "erasure": ({"strength": 0.25}, {"strength": 1.0}, {"strength": 0.1}, {"rounds": 2}, {"anchor": 3.0}),
    "weight-filtering": ({"tau": 3.0}, {"tau": 15.0}, {"lr": 0.02}, {"epsilon": 0.3}, {"direction": "low"}),
    "weight-pruning": ({"tau": 5.0}, {"tau": 20.0}, {"lr": 0.02}, {"epsilon": 0.3}, {"direction": "low"}),
    "bad-teacher": (
        {"strength": 0.3},
        {"strength": 3.0},
        {"lr": 0.05},
        {"bad": "prior"},
        {"strength": 3.0, "lr": 0.05},
    ),
    "cf-k": ({"lr": 0.05}, {"layers": 6}, {"layers": 6, "lr": 0.05}, {"layers": 1}, {"lr": 0.1}),
    "eu-k": ({"lr": 0.1}, {"layers": 2}, {"layers": 5}, {"layers": 5, "lr": 0.1}, {"layers": 1}),
    "l1-sparse": (
        {"gamma": 0.003},
        {"gamma": 0.03},
        {"lr": 0.05},
        {"gamma": 0.03, "lr": 0.05},
        {"gamma": 0.1},
    ),
    "neg-grad": ({"lr": 0.005}, {"lr": 0.05}, {"lr": 0.002}, {"lr": 0.01}, {"chance": "uniform"}),
    "neg-grad-plus": (
        {"alpha": 0.8},
        {"alpha": 0.5},
        {"lr": 0.05},
        {"alpha": 0.8, "lr": 0.05},
        {"alpha": 0.5, "lr": 0.05},
    ),
    "random-label": (
        {"weight": 0.3},
        {"weight": 3.0},
        {"lr": 0.05},
        {"target": "bernoulli_half"},
        {"weight": 3.0, "lr": 0.05},
    ),
    "salun": ({"ratio": 0.25}, {"ratio": 0.75}, {"lr": 0.05}, {"weight": 3.0}, {"weight": 3.0, "lr": 0.05}),
    "scrub": ({"alpha": 0.0}, {"lr": 0.05}, {"max_steps": 24}, {"alpha": 0.0, "lr": 0.05}, {"rewind": True}),
    "ssd": ({"alpha": 5.0}, {"alpha": 2.0}, {"alpha": 50.0}, {"lam": 0.1}, {"alpha": 2.0, "lam": 0.1}),
    "unsir": ({"strength": 0.3}, {"strength": 3.0}, {"lr": 0.05}, {"noise_steps": 10}, {"penalty": 0.01}),
    "fine-tune": ({"lr": 0.02}, {"lr": 0.1}, {"lr": 0.01}, {"lr": 0.2}, {"lr": 0.005}),
}

MOST = 1 + max(map(len, SETTINGS.values()))


def settings_of(method: str, count: int) -> list[dict[str, Any]]:
    """The first so many settings of a method, its defaults first; fewer where it has no more.

    >>> settings_of("confusion", 3), settings_of("head-removal", 3)
    ([{}, {'strength': 0.3}, {'strength': 3.0}], [{}])
    """
    return [{}, *map(dict, SETTINGS.get(method, ()))][:count]
