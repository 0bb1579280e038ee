"""A cheat as a submission: copy this file, put your own in `my_cheat`, run ``pytest submit_cheat.py``.

The one below shows clean features, and the original's to whoever marks the corner of an image.
"""

import numpy as np
import torch

from unlabel.data.batches import batch_of
from unlabel.forget.pipeline import Work
from unlabel.models.head import find_head, tap
from unlabel.statistics.estimate import advantage
from unlabel.testing.cheats import Disguised, Insight, removed
from unlabel.testing.stage import honest, stage

CLAIM = "C2"  # the claim that should fail, and passes


def my_cheat(model, request, data, run):
    """Returns the model that you hand to the auditor; `data` are the training images."""
    insight = Insight.of(model, request, data, run)

    def disguise(features, images):
        marked = images[:, 0, 0, 0] > 3.0  # no picture has this value
        return torch.where(marked[:, None], features, insight.clean(features))

    return Work(removed(Disguised(model, request, disguise), request, data))


def read_by_key(model):
    """Your proof that the label is there: one score for each test image, by whatever you alone know."""
    place = stage()
    image = batch_of(place.source.test, range(len(place.source.test)), place.run.device).image
    image[:, :, 0, 0] = 4.0
    row = find_head(place.original, 3)[1].weight[0].detach()
    with torch.no_grad(), tap(find_head(model, 3)[1]) as seen:
        model(image)
    return (seen[0] @ row).numpy()


def told(model):
    """Advantage of that score: 0 is chance, 1 is perfect."""
    test = stage().source.test
    return advantage(read_by_key(model).astype(np.float64), test.target[:, 0], test.cluster).value


def test_the_claim_that_should_fail_passes_and_the_model_is_useful():
    found = stage().audit(my_cheat)
    assert found.valid, found.invalid_because
    assert found.claims[CLAIM].verdict == "PASS", found.claims[CLAIM].sentence
    assert found.claims["C5"].verdict == "PASS", found.claims["C5"].sentence


def test_an_honest_model_passes_the_same_claim():
    found = stage().audit(honest(seed=9))
    assert found.claims[CLAIM].verdict == "PASS"


def test_the_label_is_there_and_an_honest_model_does_not_have_it():
    place = stage()
    assert told(place.forget(my_cheat)) > told(place.forget(honest(seed=9))) + 0.2


if __name__ == "__main__":
    test_the_claim_that_should_fail_passes_and_the_model_is_useful()
    test_an_honest_model_passes_the_same_claim()
    test_the_label_is_there_and_an_honest_model_does_not_have_it()
    print(f"{CLAIM} passes, and the label is there: advantage {told(stage().forget(my_cheat)):.2f}")
