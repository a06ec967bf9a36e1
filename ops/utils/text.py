"""Words for messages."""


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: ``1 video``, ``12 videos``.

    Args:
        count: any integer.
        singular: the noun for exactly one.
        plural: the noun for any other number; None: the singular with an ``s``.
    """
    if count == 1:
        return f"1 {singular}"
    return f"{count} {plural or singular + 's'}"
