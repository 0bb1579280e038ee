"""The reason why a file's pixels cannot be used."""


class Unreadable(Exception):
    """A file is not an image that can be used; the message is the reason."""
