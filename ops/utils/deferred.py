"""Functions and classes that are imported when they are called for the first time."""

import functools
import pkgutil


def deferred(reference, *args, **kwargs):
    """A stand-in for a function or a class, which is imported when it is called.

    The tables of backbones and temporal modules use it: ``--help`` reads their names and options,
    and must not wait for torch.

    Args:
        reference: ``package.module:name``.
        *args: first arguments of every call.
        **kwargs: keyword arguments of every call.

    Returns:
        a function.
    """

    @functools.cache
    def target():
        return pkgutil.resolve_name(reference)

    def call(*more_args, **more_kwargs):
        return target()(*args, *more_args, **kwargs, **more_kwargs)

    return call
