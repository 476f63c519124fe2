"""`understudy trace`: what becomes of a manifest, told from the real messages.

A real adapter: it reads the manifest and writes the page.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from . import complain

SEPARATOR = re.compile(r"---(\s|$)")
"""What stands between two documents."""
MANIFEST_BYTES_MAX = 3 * 1024 * 1024
"""As much as the API server takes in one request."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path), metavar="OUT", help="Write a page with a diagram.")
@click.option("--nodes", type=click.IntRange(0, 100), default=3, show_default=True, help="Number of nodes.")
@click.option("--seed", type=int, default=None, metavar="N", help="Fixes generated names, UIDs and jitter.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600.0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the effects may take to settle.",
)
@click.option("--details", is_flag=True, help="Print every message within the store too.")
def trace(file: Path, html: Path | None, nodes: int, seed: int | None, timeout: float, details: bool) -> int:
    """Run a manifest on a fresh cluster and print who did what, in order, from the real messages."""
    from understudy.properties.story.running import ManifestError, Refused, documents

    try:
        manifest = documents(_read(file))
        if html is not None:
            _check_writable(html)
    except (ManifestError, _Unusable) as error:
        return complain(f"{file}: {error}" if isinstance(error, ManifestError) else str(error))
    if not manifest:
        return complain(f"{file}: there is no object in it")

    import trio

    from understudy.actors.startup import StartError
    from understudy.properties.story import story
    from understudy.properties.story.text import render_text

    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    deliveries: list[Any] = []
    try:
        began, settled = trio.run(_run, deliveries, manifest, nodes, seed, timeout)
    except (StartError, Refused, BaseExceptionGroup) as raised:
        cause = _only(raised)
        if isinstance(cause, StartError):
            return complain(cause.message, cause.hint)
        if isinstance(cause, Refused):
            click.echo(f"understudy: {file}: {_refusal(cause)}", err=True)
            return 1
        if isinstance(cause, KeyboardInterrupt):
            return 130
        raise
    steps = story(deliveries, began)
    took_ms = (steps[-1].seconds - steps[0].seconds) * 1000.0 if steps else 0.0
    click.echo(
        f"{file}: {len(steps)} steps in {took_ms:.0f} ms, on {nodes} node{'' if nodes == 1 else 's'}\n"
    )
    click.echo(render_text(steps, details=details), nl=False)
    if not settled:
        click.echo(f"not settled after {timeout:g} s: this is as far as it got", err=True)
    if html is not None:
        from understudy.properties.story.page import render_page

        html.write_text(render_page(steps, title=file.name), encoding="utf-8")
        click.echo(f"page: {html}")
    return 0


async def _run(
    deliveries: list[Any], manifest: Any, nodes: int, seed: int | None, timeout: float
) -> tuple[float, bool]:
    from understudy.components.cluster import Cluster
    from understudy.properties.story.running import run_manifest

    async with Cluster(nodes, None, seed, observers=(deliveries.append,)) as cluster:
        outcome = await run_manifest(cluster, manifest, timeout)
    return outcome.began, outcome.settled


class _Unusable(Exception):
    """A file that cannot be read or written."""


def _read(file: Path) -> list[Any]:
    """Every document of a YAML (or JSON) file. Raises _Unusable."""
    try:
        if file.stat().st_size > MANIFEST_BYTES_MAX:
            raise _Unusable(f"{file} is larger than {MANIFEST_BYTES_MAX} bytes")
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise _Unusable(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise _Unusable(f"{file}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    try:
        for _ in yaml.parse(text, yaml.CSafeLoader):
            pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise _Unusable(f"{file}{where}: malformed YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise _Unusable(f"{file}: malformed YAML: {error}") from None
    found = [_document(file, part, line) for line, part in _parts(text)]
    return [document for document in found if document is not None]


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """The documents of a YAML text as kubectl separates them, each with the number of lines before it."""
    before, part = 0, ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if SEPARATOR.match(line):
            yield before, part
            before, part = number, ""
        else:
            part += line
    yield before, part


def _document(file: Path, part: str, lines_before: int) -> Any:
    """A document with the server's ideas of what a scalar is."""
    from understudy.components.machinery.json_text import MalformedText
    from understudy.components.machinery.yaml_text import parse_yaml

    try:
        value, twice = parse_yaml(part.encode())
    except MalformedText as error:
        raise _Unusable(f"{file}: the document at line {lines_before + 1}: {error}") from None
    if twice:
        raise _Unusable(f"{file}: the document at line {lines_before + 1}: {twice[0]}")
    return value


def _check_writable(out: Path) -> None:
    """Raises _Unusable, before anything is started; leaves nothing behind."""
    new = not out.exists()
    try:
        with out.open("a", encoding="utf-8"):
            pass
        if new:
            out.unlink()
    except OSError as error:
        raise _Unusable(f"{out}: {error.strerror}") from None


def _only(error: BaseException) -> BaseException:
    """The one thing that a group is about, if it is about one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _refusal(refused: Any) -> str:
    error = refused.error
    return " ".join(f"{refused.what} was refused: {error.code} {error.reason}: {error.message}".split())
