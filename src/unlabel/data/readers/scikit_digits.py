"""`digits`: the 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn. No download.

They stand in for MNIST where a figure of the paper's is repeated without it.
"""

import numpy as np

from unlabel.core.errors import OptionError
from unlabel.data.dataset import Source
from unlabel.data.images.arrays import resized
from unlabel.data.options import DEFAULTS, ReadOptions
from unlabel.data.readers.assemble import Annotations, Wording, source_of_images
from unlabel.data.readers.origins import DIGITS
from unlabel.data.readers.tables import chosen_labels

CLASSES = tuple(f"digit_{digit}" for digit in range(10))
DEFAULT_SIZE = 32

_WORDING = Wording(images="scikit-learn's digits", splits="a hash", remedy="use all digits")
_NOTE = "Who wrote a digit is not known: each image counts by itself, so intervals may be too narrow."


def load_digits_of_8(spec: str, options: ReadOptions = DEFAULTS) -> Source:
    """Reads scikit-learn's digits, brought from 8 x 8 grey pixels to the wanted size in RGB.

    65 % of the images train, 10 % are P and 25 % are E, by a hash of the image's number.

    Args:
        spec: Nothing may stand after the colon.
        options: See `ReadOptions`; 32 pixels by default.

    Raises:
        OptionError: Something stands after the colon.
        LabelMismatch: A label is no digit.
        DataError: The cache cannot be written.
    """
    if spec:
        raise OptionError(f"found 'digits:{spec}'; digits has no options: write digits")
    from sklearn.datasets import load_digits

    names = chosen_labels(CLASSES, options.labels, "digits")
    sixteenths, digits = load_digits(return_X_y=True)
    grey = np.rint(sixteenths.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    columns = np.array([CLASSES.index(name) for name in names])
    target = (np.asarray(digits)[:, None] == columns).astype(np.int8)
    ids = [f"digit_{number:04d}" for number in range(len(grey))]
    annotations = Annotations(names, ids, target, [""] * len(ids), [""] * len(ids))
    pixels = resized(
        grey,
        options.frame(DEFAULT_SIZE),
        kept=options.kept("digits"),
        workers=options.workers,
        log=options.log,
    )
    facts = {"identity_note": _NOTE, **DIGITS.facts}
    return source_of_images("digits", annotations, pixels, _WORDING, facts, log=options.log)
