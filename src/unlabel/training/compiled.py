"""`--compile`: the network as one compiled function where that can be done; else a reason, and as before."""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.data.batches import batch_of
from unlabel.data.dataset import Dataset

if TYPE_CHECKING:
    from unlabel.training.fit import Objective

LONGEST = 200  # characters of a compiler's reason
TRIAL = 2  # images


def compiled(model: nn.Module, objective: "Objective", data: Dataset, run: Run) -> nn.Module:
    """The network to train through: compiled if the run says so, and if one trial step succeeds.

    The two share their weights. Only objectives that say ``compiles = True`` are compiled: others read layers
    inside the network, which a compiled function does not show. A compiled network rounds otherwise.

    Args:
        model: In training mode; its buffers and gradients are as before afterwards.
        objective: What is minimised.
        data: Images, of which the first few are tried.
        run: Where. If one process cannot compile, none does.
    """
    if not run.compiled:
        return model
    if not getattr(objective, "compiles", False):
        run.log.say(f"not compiled: {type(objective).__name__} reads layers inside the network")
        return model
    fast = cast(nn.Module, torch.compile(model))
    reason = _trial(model, fast, objective, data, run)
    failed = torch.tensor(float(reason is not None), device=run.device)
    engine.reduce_sums(run, [failed])
    if not failed:
        return fast
    run.log.say(f"not compiled: {reason or 'another process could not'}"[:LONGEST])
    return model


def _trial(model: nn.Module, fast: nn.Module, objective: "Objective", data: Dataset, run: Run) -> str | None:
    """Why a step through the compiled network fails; None if it does not."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    batch = batch_of(data, range(min(TRIAL, len(data))), run.device)
    try:
        with engine.own_draws(run), run.fabric.autocast():
            loss: Tensor = objective(fast, batch).float().sum()
        loss.backward()
    except Exception as error:  # a compiler can raise anything
        return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    return None
