"""What repairs of several phases share: a key for each phase, modules that stand still, one history.

::

    brief(model, objective, data, phase(run, "impair"), ...)     its own order and augmentation
    with training_only(model, names): brief(...)                          the other modules keep every bit
    with in_eval_mode(norms(model)): brief(...)                         running statistics keep theirs
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from zlib import crc32

from torch import nn

from unlabel.core.engine import Run
from unlabel.core.errors import EmptySelection
from unlabel.core.recipe import History


def phase(run: Run, name: str) -> Run:
    """The same place with a seed of this phase's own: without it, each would see the same images first."""
    return run.with_seed(crc32(f"{run.seed}/{name}".encode()) >> 1)


def joined(histories: Sequence[History], *, others: int = 0) -> History:
    """Several trainings as one, their steps numbered through.

    Args:
        histories: In order.
        others: Images that went through a network besides, such as a teacher's.

    Example:
        >>> one = History(({"step": 1, "lr": 0.1, "loss": 2.0},), 64, 0.5)
        >>> both = joined([one, one], others=10)
        >>> [row["step"] for row in both.rows], both.images_processed
        ([1, 2], 138)
    """
    rows = [row for part in histories for row in part.rows]
    return History(
        tuple({**row, "step": step} for step, row in enumerate(rows, start=1)),
        sum(part.images_processed for part in histories) + others,
        sum(part.seconds for part in histories),
        sum(part.earlier for part in histories),
    )


def norms(model: nn.Module) -> list[nn.Module]:
    """The modules whose running statistics follow what they are shown."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def in_eval_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    """While open, these modules stay in eval mode, whatever the model that holds them is told."""
    held = [(module, module.training) for module in modules]
    for module, _ in held:
        module.eval()
        # `train()` of a model asks each of its children, and a child's own attribute answers first
        vars(module)["train"] = lambda mode=True, module=module: module
    try:
        yield
    finally:
        for module, training in held:
            del vars(module)["train"]
            module.train(training)


@contextmanager
def training_only(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """While open, only these modules train; all others keep their weights, buffers and eval mode.

    The others need no gradient, so the backward pass ends at the first of these modules.

    Args:
        model: Its parameters' ``requires_grad`` is restored at the end.
        names: Names of modules, as in ``named_modules``; of each, its own parameters and not its children's.

    Raises:
        EmptySelection: These modules have no parameter that may change.
    """
    modules = dict(model.named_modules())
    free = {id(weight) for name in names for weight in modules[name].parameters(recurse=False)}
    frozen = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in free]
    if not any(weight.requires_grad and id(weight) in free for weight in model.parameters()):
        raise EmptySelection(f"none of the {len(names)} modules to train has a weight that may change")
    # a module that holds one of these must pass `train()` on to it
    holding = {name[:end] for name in names for end in range(len(name)) if name[end] == "."} | {""}
    for weight in frozen:
        weight.requires_grad_(False)
    try:
        with in_eval_mode(module for name, module in modules.items() if name not in {*names, *holding}):
            yield
    finally:
        for weight in frozen:
            weight.requires_grad_(True)
