"""What C2 and C4 say if no model was retrained in full: what was predicted, from what, at which cost."""

from collections.abc import Mapping, Sequence

from unlabel.audit.attacks.prediction import Prediction
from unlabel.audit.figures import FEW_SHOT
from unlabel.core.wording import joined
from unlabel.statistics.contrast import seeded
from unlabel.statistics.estimate import Estimate

LEVEL = 0.9  # of the intervals that are shown
Row = dict[str, object]


def prediction_notes(prediction: Prediction | None) -> dict[str, object]:
    """What C2's notes say of a prediction; nothing without one.

    ``cost`` in trainings of the original's length; ``shares`` of its epochs; ``figures`` by label and attack:
    the level with its two-sided 90 % interval, what the attack reads from the original, and from each short
    pair (original, retrained).
    """
    if prediction is None:
        return {}
    figures: dict[str, dict[str, Row]] = {}
    for label, levels in prediction.levels.items():
        for figure, level in levels.items():
            short = [
                [part[label][figure].value for part in pair.both if figure in part[label]]
                for pair in prediction.shorts
            ]
            figures.setdefault(label, {})[figure] = _row(level, prediction.whole[label][figure], short)
    return _notes(prediction, figures)


def relearning_notes(prediction: Prediction | None) -> dict[str, object]:
    """The same of C4: ``figures`` are the AUC of probes on few annotated images."""
    if prediction is None:
        return {}
    figures: dict[str, dict[str, Row]] = {}
    for label, found in prediction.few.items():
        for n, level in found.levels.items():
            short = [[part[n].mean.value for part in pair.both] for pair in found.shorts]
            figures.setdefault(label, {})[FEW_SHOT.of(n)] = _row(level.mean, found.whole[n].mean, short)
    return _notes(prediction, figures)


def _row(level: Estimate, whole: Estimate, short: Sequence[Sequence[float]]) -> Row:
    """A level with its interval, and what it was predicted from."""
    around = seeded(level, ())
    side = 0.5 + LEVEL / 2
    return {
        "value": level.value,
        "low": around.lower(side),
        "high": around.upper(side),
        "original": whole.value,
        "short": [values for values in short if values],
    }


def _notes(prediction: Prediction, figures: Mapping[str, Mapping[str, Row]]) -> dict[str, object]:
    return {
        "predicted": True,
        "prediction": {
            "cost": prediction.cost,
            "shares": [pair.share for pair in prediction.shorts],
            "level": LEVEL,
            "figures": figures,
        },
    }


def made_from(prediction: Prediction) -> str:
    """What was trained for a prediction, as a sentence."""
    shares = joined([f"{100 * pair.share:.3g} %" for pair in prediction.shorts])
    return (
        f"No model was retrained in full: that level is predicted from models trained for {shares} of the"
        f" original's epochs, at {prediction.cost:.2g} of the cost of one training."
    )
