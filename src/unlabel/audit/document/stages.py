"""Where below the last features a figure is read, as ``layer`` of an audit holds it, and in words."""

TOGETHER = "stages"
"""In place of one stage: all earlier ones and the last features."""


def is_stage(layer: str | None) -> bool:
    """Whether a figure is read before the last features, at one stage or at all of them together.

    >>> is_stage("stage2"), is_stage("stages"), is_stage("penultimate"), is_stage(None)
    (True, True, False, False)
    """
    return layer is not None and layer.startswith("stage")


def in_words(layer: str) -> str:
    """A stage, inside a sentence.

    >>> in_words("stage3"), in_words("stages")
    ('stage 3', 'all stages and the last features together')
    """
    if layer == TOGETHER:
        return "all stages and the last features together"
    return f"stage {layer.removeprefix('stage')}"
