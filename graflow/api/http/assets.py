"""The live page: the files below `page/` as they are. `index.html` names what a browser fetches at once."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import FastAPI, Request
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.responses import Response

_IMPORT: Final = re.compile(r"""(?:^|[;}\s])(?:import|export)\b[^'"()]*?['"](\.{1,2}/[^'"]+)['"]""", re.MULTILINE)
_KINDS: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
_VIEWS: Final = frozenset({"", "runs", "feedback", "groups", "flows", "workers", "stats", "login"})
_WITH_ID: Final = {"runs": "run", "groups": "group", "flows": "flow"}
_READING: Final = ["GET", "HEAD"]
_ENTRY: Final = "app.js"
_LEAST_WORTH_PACKING: Final = 600


@dataclass(frozen=True)
class Asset:
    """One file of the page, or what is made of it.

    Attributes:
        content: As it is.
        packed: The same with gzip; None where that is not worth it.
        media_type: Of the content.
        tag: Its entity tag.
    """

    content: bytes
    packed: bytes | None
    media_type: str
    tag: str

    @classmethod
    def of(cls, name: str, content: bytes) -> Asset:
        """The asset of a file's name and content."""
        suffix = name[name.rfind(".") :]
        kind = _KINDS.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
        packed = gzip.compress(content, 9, mtime=0) if len(content) >= _LEAST_WORTH_PACKING else None
        return cls(content, packed, kind, f'"{hashlib.sha256(content).hexdigest()[:24]}"')

    def answer(self, request: Request, status: int = 200) -> Response:
        """What is sent: 304 to a browser that has it."""
        headers = {"ETag": self.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if self.tag in known and status == 200:
            return Response(status_code=304, headers=headers)
        content = self.content
        if self.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            content = self.packed
        return Response(content, status, headers, media_type=self.media_type)


def page_files() -> dict[str, bytes]:
    """The files of the page, by their path below `static/`."""
    return dict(_walk(files("graflow.api") / "page", ""))


def imports_of(contents: Mapping[str, bytes], name: str) -> list[str]:
    """The modules that one imports, and those that these import, each once, in the order in which they are met."""
    found: dict[str, None] = {}

    def visit(module: str) -> None:
        for target in _IMPORT.findall(contents[module].decode()):
            path = _joined(module, target)
            if path not in found and path != name:
                found[path] = None
                visit(path)

    visit(name)
    return list(found)


def mount(app: FastAPI, root_path: str = "") -> None:
    """Serve the page: its views at their addresses, its files below `/static/`.

    Called last, since other paths than those of the API lead to it.

    Args:
        app: The application.
        root_path: The prefix under which a proxy shows it, without a slash at its end.
    """
    contents = page_files()
    made = {**contents, "plain.css": _plain_style(contents["style.css"])}
    assets = {name: Asset.of(name, content) for name, content in made.items()}
    indexes = {view: _index(contents, view, root_path) for view in _preloaded_views(contents)}

    @app.api_route("/static/{path:path}", methods=_READING, include_in_schema=False)
    async def static(request: Request, path: str) -> Response:
        asset = assets.get(path)
        if asset is None or path == "index.html":
            raise HTTPException(404, f"The page has no file {path!r}")
        return asset.answer(request)

    register_url_convertor("page_address", _PageAddress())

    @app.api_route("/{address:page_address}", methods=_READING, include_in_schema=False)
    async def index(request: Request, address: str) -> Response:
        view = _view_of(address)
        if view is None and "text/html" not in request.headers.get("accept", ""):
            raise HTTPException(404, f"There is nothing at /{address}")
        return indexes.get(view or "", indexes[""]).answer(request, 404 if view is None else 200)


class _PageAddress(StringConvertor):
    """All addresses but those of the API and of files, so that these keep their own answers."""

    regex = r"(?!api/|static/|healthz$|readyz$|metrics$|openapi\.json$).*"


def _view_of(address: str) -> str | None:
    first, _, rest = address.partition("/")
    if not rest:
        return first if first in _VIEWS else None
    return _WITH_ID.get(first) if "/" not in rest else None


def _preloaded_views(contents: Mapping[str, bytes]) -> list[str]:
    views = {name.removeprefix("views/").removesuffix(".js") for name in contents if name.startswith("views/")}
    return ["", *sorted(views & (_VIEWS | set(_WITH_ID.values())))]


def _index(contents: Mapping[str, bytes], view: str, root_path: str) -> Asset:
    """`index.html` for a view: the modules that it needs are named, so that they come at once."""
    needed = dict.fromkeys(imports_of(contents, _ENTRY))
    for name in (f"model/{view or 'runs'}.js", f"views/{view or 'runs'}.js"):
        if name in contents:
            needed.update(dict.fromkeys([*imports_of(contents, name), name]))
    preloads = "\n".join(f'<link rel="modulepreload" href="static/{name}">' for name in needed)
    values = {"base": escape(f"{root_path}/"), "preloads": preloads, "version": escape(version("graflow-celery"))}
    text = contents["index.html"].decode()
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    return Asset.of("index.html", text.encode())


def _plain_style(style: bytes) -> bytes:
    """The style of pages without scripts: what a script sets in others, the theme, follows the system here."""
    dark = rb"@media (prefers-color-scheme: dark) { :root { \1 } }"
    return re.sub(rb"^:root\[data-theme=dark\] \{([^}]*)\}", dark, style, flags=re.MULTILINE)


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{name}/")
        else:
            yield name, entry.read_bytes()


def _joined(module: str, target: str) -> str:
    parts = module.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
