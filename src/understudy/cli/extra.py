"""The extra `understudy[etcd]`: what `pip install understudy` leaves away and etcd's protocol needs."""

from importlib.util import find_spec

NEEDED = {"h2": "h2", "google.protobuf": "protobuf", "bcrypt": "bcrypt"}
"""Modules, and the packages that have them."""


def want_extra(what: str) -> None:
    """Raises StartError: `what` was asked for, and packages that it needs are not installed."""
    from understudy.actors.startup import StartError

    missing = [package for module, package in NEEDED.items() if not _is_installed(module)]
    if missing:
        raise StartError(f"{what} needs {', '.join(missing)}", "pip install 'understudy[etcd]'")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # Not even the package that it would be in.
        return False
