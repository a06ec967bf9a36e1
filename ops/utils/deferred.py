"""Names whose modules are imported when they are used for the first time."""

import functools
import importlib
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


def names_of_package(package, modules):
    """The ``__getattr__`` of a package that imports its names when they are first used.

    Args:
        package: name of the package.
        modules: name -> the module that defines it.

    Returns:
        a function.
    """

    def get(name):
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return get
