"""`unlabel inspect MODEL`: what adopting would find in a network, and what to write if it finds nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlabel.core.errors import UnlabelError
from unlabel.core.framing import Size, checked_size, plain_size, sides_of
from unlabel.exchange.adopt import read_labels
from unlabel.forget.inspection import facts_of, noise
from unlabel.models.build import build
from unlabel.models.channels import input_channels
from unlabel.models.custom import grant, is_custom
from unlabel.models.final_layers import WRAP, check_final, find_layout, look, run_on, used_layers
from unlabel.models.named import resolve
from unlabel.models.normal_form import normal_form
from unlabel.models.returned import entries
from unlabel.models.weights import fit_weights, read_weights

SIZE = 64  # pixels, as for most data


@dataclass(frozen=True)
class Asked:
    """A model that is not a run yet, as the user names it; see `exchange.adopt.ForeignModel`.

    Args:
        network, labels, weights, logits, features: As for `adopt`; without weights, random ones.
        image_size: Side of square pictures, or (height, width), 16 to 512 pixels; 64 if None.
    """

    network: str
    labels: Path
    weights: Path | None = None
    image_size: Size | None = None
    logits: str | None = None
    features: str | None = None


def inspect_model(asked: Asked) -> dict[str, Any]:
    """The head, layers and sites of a network; where they are not found, why not and what to write.

    Returns:
        As `forget.inspection.inspect_run`, with ``returns``, ``notes``, ``candidates`` (the linear layers and
        1x1 convolutions, in the order of use) and ``problem``: None, or the sentence by which `adopt` refuses
        the network. Then ``head`` and ``sites`` are missing, and ``write`` holds the lines of a wrapper.

    Raises:
        UnlabelError: The network, the labels or the weights cannot be read.
    """
    size = SIZE if asked.image_size is None else checked_size(asked.image_size)
    labels = read_labels(asked.labels)
    if is_custom(asked.network):
        grant(asked.network)  # the user who names it here trusts it
    model = build(resolve(asked.network), len(labels))
    facts: dict[str, Any] = {"network": asked.network, "image_size": plain_size(size)}
    facts |= {"returns": [], "candidates": []}
    try:
        if asked.weights is not None:
            weights = read_weights(asked.weights)
            model.load_state_dict(fit_weights(weights, model, len(labels), asked.weights.name).state)
        check_final(model, len(labels))
        images = noise((input_channels(model), *sides_of(size)))
        with torch.no_grad():
            facts["returns"] = [str(entry) for entry in entries(run_on(model.eval(), images))]
        facts["candidates"] = candidates(model, labels, images, asked)
        final = find_layout(model, labels, images, logits=asked.logits, features=asked.features)
    except UnlabelError as error:
        problem = str(error).removesuffix(f"; {WRAP}")
        return facts | {
            "problem": problem,
            "notes": [],
            "write": wrapper(asked.network, problem, len(labels)),
        }
    facts["notes"] = list(final.notes)
    joined = normal_form(model, final.layout)
    return facts | {"problem": None, "write": [], **facts_of(joined, labels, images, final.layout)}


def candidates(model: nn.Module, labels: Sequence[str], images: Tensor, asked: Asked) -> list[dict[str, Any]]:
    """The layers that could be final ones, in the order of use; those that are, where that can be told."""
    try:
        trace = look(model, labels, images, logits=asked.logits)
        uses, final = trace.uses, {use.name for use in trace.final}
    except UnlabelError:
        uses, final = used_layers(model, images), set()
    return [
        {
            "module": use.name,
            "kind": "linear" if isinstance(use.module, nn.Linear) else "1x1 convolution",
            "features": use.size[1],
            "outputs": use.size[0],
            "times": use.times,
            "final": use.name in final,
        }
        for use in uses
        if use.is_plain or use.name in final
    ]


def wrapper(network: str, problem: str, labels: int) -> list[str]:
    """Lines of Python that make a network of the user's return its logits, to be filled in and adopted."""
    if not is_custom(network):
        return []
    module, _, function = network.partition(":")
    pairs = "the two logits of a label" in problem
    change = f".view(-1, {labels}, 2)" if pairs else "[...]"
    comment = (
        f"or .view(-1, 2, {labels}).transpose(1, 2), if all 'absent' come first"
        if pairs
        else f"change this: (batch, {labels}), one logit a label"
    )
    return [
        f"from {module} import {function}",
        "",
        "def logits(num_labels):",
        f"    network = {function}(num_labels)",
        "    own = type(network)",
        f"    forward = lambda self, images: own.forward(self, images){change}  # {comment}",
        '    network.__class__ = type("Logits", (own,), {"forward": forward})',
        "    return network",
    ]
