"""What C2 says if no model was retrained in full: that its level was predicted, from what, at which cost."""

from unlabel.audit.attacks.prediction import Prediction
from unlabel.core.wording import joined
from unlabel.statistics.contrast import seeded

LEVEL = 0.9  # of the intervals that are shown


def prediction_notes(prediction: Prediction | None) -> dict[str, object]:
    """What C2's notes say of a prediction; nothing without one.

    ``cost`` in trainings of the original's length; ``shares`` of its epochs; ``figures`` by label and attack:
    the level with its two-sided 90 % interval, what the attack reads from the original, and from each short
    pair (original, retrained).
    """
    if prediction is None:
        return {}
    figures: dict[str, dict[str, object]] = {}
    for label, levels in prediction.levels.items():
        for figure, level in levels.items():
            around = seeded(level, ())
            side = 0.5 + LEVEL / 2
            short = [
                [part[label][figure].value for part in pair.both if figure in part[label]]
                for pair in prediction.shorts
            ]
            figures.setdefault(label, {})[figure] = {
                "value": level.value,
                "low": around.lower(side),
                "high": around.upper(side),
                "original": prediction.whole[label][figure].value,
                "short": [values for values in short if values],
            }
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
