"""A place to try to fool the audit: images, a model that knows a label, and models that never did.

::

    found = stage().audit(my_cheat)                 # any `Unlearner`
    found.headline, found.claims["C2"].verdict

Nothing is trained here: the networks are wired by hand so that it is known what each one holds. A whole audit
takes about two seconds.
"""

import copy
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from unlabel.audit.attacks.transforms import TRANSFORMS, Use
from unlabel.audit.document.results import Audit, Role
from unlabel.audit.figures import RETAIN_TUNED
from unlabel.audit.inputs.memory import Memory
from unlabel.audit.inputs.options import AuditOptions
from unlabel.audit.inputs.sets import Sets
from unlabel.audit.inputs.subject import Altered, Subject
from unlabel.audit.inputs.tables import AuditInputs
from unlabel.audit.protocol import audit_outputs
from unlabel.audit.reading.outputs import read_model
from unlabel.core import engine
from unlabel.core.engine import Run
from unlabel.core.request import Request
from unlabel.data.dataset import Dataset, Source
from unlabel.forget.pipeline import Unlearner, Work
from unlabel.models.features import outputs
from unlabel.testing.cheats.disguise import fit_head, removed
from unlabel.testing.worlds import SIZE, pictures, tiny_network

IMAGES = 1000  # for probes, for tests, and in the sample of training images
CONTRAST = 20.0  # twice the spread of the light from person to person: the label can be missed
LIFT = 4.0  # keeps every unit above 0, where a ReLU is a straight line
OPTIONS = AuditOptions(probe_seeds=1, epochs=15, trees=40, permutations=10, resamples=100, raw_image=False)


@dataclass(frozen=True)
class Stage:
    """An audit waiting for its model.

    Args:
        source: Images whose labels are top, middle and bottom; bottom equals top in 85 %.
        request: Forget top.
        original: Knows all three; its last hidden layer has 16 units, of which one holds top.
        before: The original as the audit reads it.
        references: Three models made the same way without ever seeing top, as the audit reads them.
        retrained: The same three as networks.
        run: Where.
        memory: What attacks found on the original and the references: each audit after the first is quicker.
    """

    source: Source
    request: Request
    original: nn.Module
    before: Subject
    references: tuple[Subject, ...]
    retrained: tuple[nn.Module, ...]
    run: Run
    memory: Memory

    def forget(self, unlearner: Unlearner) -> nn.Module:
        """What an unlearner makes of the original; it sees a copy and the training images."""
        return unlearner(copy.deepcopy(self.original), self.request, self.source.train, self.run).model.eval()

    def audit(self, unlearner: Unlearner, options: AuditOptions = OPTIONS) -> Audit:
        """The audit of what an unlearner makes of the original.

        Beyond the quick budget, the new model is also read as `altered` gives it, for C4.
        """
        model = self.forget(unlearner)
        after = read(model, "after", self.source, self.run)
        repeated = np.array_equal(after.test.logits, outputs(model, self.source.test, self.run).logits)
        splits = _splits(self.source)
        altered = self.altered(model) if options.includes.transforms else []
        inputs = AuditInputs(
            self.before,
            after,
            self.references,
            self.request,
            *splits,
            altered=altered,
            deterministic=repeated,
        )
        return audit_outputs(inputs, options, memory=self.memory)

    def altered(self, model: nn.Module) -> list[Altered]:
        """A model as the audit reads it after every transform that changes it, but for further training.

        Hand-wired networks have never been trained: one pass would teach any of them, honest or not, to read
        the top for the bottom, which goes with it.
        """
        use = Use(self.source.train, self.request.retained_columns, self.request.masked_columns)
        models = []
        for name, transform in TRANSFORMS.items():
            if name != RETAIN_TUNED.id and (changed := transform(model, use, self.run)) is not None:
                models.append(Altered(name, read(changed, "after", self.source, self.run)))
        return models


@lru_cache(maxsize=4)
def stage(seed: int = 0) -> Stage:
    """The stage, built once.

    Example:
        >>> found = stage().audit(honest(seed=9))
        >>> found.claims["C1"].verdict, found.claims["C2"].verdict, found.claims["C5"].verdict
        ('PASS', 'PASS', 'PASS')
    """
    source = pictures("correlated", 4 * IMAGES, seed, CONTRAST)
    run = engine.start(accelerator="cpu", seed=seed)
    request = Request.make(["top"], source.labels)
    original = network(source, request, run, seed=100, knows=True)
    before = read(original, "before", source, run)
    others = [network(source, request, run, seed=101 + k, knows=False) for k in range(3)]
    references = tuple(
        replace(read(model, "reference", source, run), run=f"reference {k}") for k, model in enumerate(others)
    )
    return Stage(source, request, original, before, references, tuple(others), run, Memory())


def honest(*, seed: int) -> Unlearner:
    """Forgets by starting again: a network that never saw the label, from another seed. Not a cheat."""

    def retrain(model: nn.Module, request: Request, data: Dataset, run: Run) -> Work:
        source = Source("", data, data, data)
        return Work(network(source, request, run, seed=seed, knows=False))

    return retrain


def network(source: Source, request: Request, run: Run, *, seed: int, knows: bool) -> nn.Module:
    """A network of which it is known what each unit holds, and whose head is fitted on the training images.

    Units 0, 1 and 2 read the lightness of the top (or nothing, where it is not known), of the middle and of
    the bottom; the other 13 read textures that no label has. All outputs are logistic regressions on them;
    without knowledge of the label, its own is a constant.

    Args:
        source: The images.
        request: Names the label's column.
        run: Where.
        seed: Key of the textures and of how the units mix them.
        knows: Whether one unit holds the forgotten label.
    """
    model = tiny_network(len(source.labels), seed=seed)
    convolution, hidden = (getattr(model, name) for name in ("0", "3"))
    rng = torch.Generator().manual_seed(seed)
    side = SIZE // 4
    with torch.no_grad():
        texture = torch.randn(convolution.weight.shape, generator=rng) / 8
        # a row of a patch may cross from one band into the next; a texture sums to 0 along each
        convolution.weight.copy_(texture - texture.mean((1, 3), keepdim=True))
        convolution.weight[0] = 1 / 48
        convolution.bias.fill_(LIFT)
        mixed = torch.randn(hidden.weight.shape, generator=rng) / 10
        wiring = mixed.view(-1, convolution.out_channels, side, side)
        wiring[:, 0] = 0.0
        for unit, row in ((0, 0), (1, 2), (2, 3)):
            if knows or unit:
                wiring[unit] = 0.0
                wiring[unit, 0, row] = 4.0 / side
        hidden.weight.copy_(wiring.flatten(1))
        hidden.bias.copy_(2 * LIFT - LIFT * hidden.weight.sum(1))
    fit_head(model, source.train, run)
    if not knows:
        removed(model, request, source.train)
    return model.eval()


def read(model: nn.Module, role: Role, source: Source, run: Run) -> Subject:
    """A model as the audit reads it: its outputs on probe, test and training images, and its head."""
    return read_model(model, role, Sets(*_splits(source), "", OPTIONS.seed), run, name=role)


def _splits(source: Source) -> tuple[Dataset, Dataset, Dataset]:
    return source.probe, source.test, source.train.take(np.arange(IMAGES))
