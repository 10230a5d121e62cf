"""The files of the page as they stand: nothing from elsewhere, nothing inline, nothing that is missing, small."""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra [api]")

from graflow.api.http.assets import imports_of, page_files
from graflow.drawing.looks import FAMILIES, LOOKS
from graflow.state import FlowStatus, StepStatus
from graflow.state.groups.strips import LETTERS

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "graflow" / "api" / "page"
FILES = page_files()
OWN = {name: content.decode() for name, content in FILES.items() if not name.startswith("vendor/")}
SCRIPTS = {name: text for name, text in OWN.items() if name.endswith(".js")}
ALL_PACKED = 67_000  # bytes with gzip
VIEW_PACKED = 40_000
MOST_REQUESTS = 24
LARGEST = 24_000
MOST_LINES = 300
_NAMESPACE = "http://www.w3.org/2000/svg"


def without_comments(text: str) -> str:
    return re.sub(r"/\*[\s\S]*?\*/|^\s*//.*$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", OWN)
def test_nothing_is_fetched_from_elsewhere(name: str) -> None:
    text = without_comments(OWN[name]).replace(_NAMESPACE, "")
    assert not re.search(r"https?://|@import", text)
    assert not (name.endswith(".css") and re.search(r"url\(\s*['\"]?(?!data:)", text))


@pytest.mark.parametrize("name", OWN)
def test_nothing_is_inline_that_the_policy_of_the_page_forbids(name: str) -> None:
    text = OWN[name]
    assert not re.search(r"\sstyle=|<style|javascript:|\son[a-z]+=|<script(?![^>]*\ssrc=)", text)


@pytest.mark.parametrize("name", SCRIPTS)
def test_text_never_becomes_markup(name: str) -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|unsafe(HTML|SVG)|createContextualFragment"
    forbidden += r"|document\.write|\beval\(|new Function"
    assert not re.search(forbidden, SCRIPTS[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_module_imports_is_there(name: str) -> None:
    imports_of(FILES, name)
    for target in re.findall(r"import\('(\.{1,2}/[^']+)'\)", without_comments(SCRIPTS[name])):
        assert (PAGE / name).parent.joinpath(target).resolve().is_file(), target


@pytest.mark.parametrize("name", SCRIPTS)
def test_modules_are_small(name: str) -> None:
    assert len(SCRIPTS[name].splitlines()) <= MOST_LINES


def test_every_module_is_used() -> None:
    named = {
        (PAGE / name).parent.joinpath(target).resolve()
        for name, text in ((name, content.decode()) for name, content in FILES.items() if name.endswith(".js"))
        for target in re.findall(r"""['"](\.{1,2}/[\w./-]+\.js)['"]""", without_comments(text))
    }
    entries = {PAGE / "app.js", PAGE / "theme.js"}
    assert {PAGE / name for name in FILES if name.endswith(".js")} == named | entries


def loaded_with(*names: str) -> set[str]:
    """All files that a browser fetches for these modules."""
    modules = {each for name in ("app.js", *names) for each in (name, *imports_of(FILES, name))}
    return modules | {"index.html", "theme.js", "style.css", "icon.svg"}


def packed(names: Iterable[str]) -> int:
    return sum(len(gzip.compress(FILES[name], 9)) for name in names)


def test_no_file_is_large() -> None:
    assert {name for name, content in FILES.items() if len(content) > LARGEST} == set()


VIEWS = sorted(
    name.removeprefix("model/").removesuffix(".js")
    for name in FILES
    if name.replace("model/", "views/") in FILES and name.startswith("model/")
)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_comes_with_little_and_in_few_requests(view: str) -> None:
    files = loaded_with(f"model/{view}.js", f"views/{view}.js")
    assert len(files) <= MOST_REQUESTS
    assert packed(files) <= VIEW_PACKED


def test_a_run_with_all_its_parts_is_small() -> None:
    """Views of a run, drawer and plan, which come when they are first opened."""
    lazy = re.findall(r"import\('\.\./?([\w/]*\.js)'\)|import\('\./([\w-]+\.js)'\)", SCRIPTS["views/run.js"])
    parts = [one or f"views/{other}" for one, other in lazy]
    models = [f"model/{name}" for name in re.findall(r"import\('\./([\w-]+\.js)'\)", SCRIPTS["model/run.js"])]
    assert {"parts/drawer.js", "views/steps.js", "model/step.js"} <= {*parts, *models}
    assert packed(loaded_with("model/run.js", "views/run.js", "parts/plan.js", *parts, *models)) <= ALL_PACKED


def test_libraries_are_as_they_were_published() -> None:
    folder = PAGE / "vendor" / "lit-html"
    listed = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert present - {"SHA256SUMS", "VERSION"} == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    version = (folder / "VERSION").read_text().strip()
    assert f"lit-html {version}" in (ROOT / "NOTICE").read_text()


def states_of_the_page() -> dict[str, tuple[str, str, bool]]:
    found = re.findall(
        r"^  (\w+): \{ family: '(\w+)', icon: '([\w-]+)'(, hollow: true)? \},$", SCRIPTS["states.js"], re.MULTILINE
    )
    return {state: (family, icon, bool(hollow)) for state, family, icon, hollow in found}


def test_every_state_has_a_colour_an_icon_and_a_word() -> None:
    page = states_of_the_page()
    assert {each.value for each in (*FlowStatus, *StepStatus)} <= set(page)
    assert page == {look.state: (look.family, look.icon, look.is_hollow) for look in LOOKS.values()}
    icons = set(re.findall(r"^  '?([\w-]+)'?: 'M", SCRIPTS["parts/icons.js"], re.MULTILINE))
    assert {icon for _, icon, _ in page.values()} <= icons
    assert all(look.word == look.state for look in LOOKS.values()), "the page shows the state itself as its word"


def test_letters_of_strips_are_those_of_the_store() -> None:
    listed = re.search(r"LETTERS = \{(.*?)\}", SCRIPTS["states.js"], re.DOTALL)
    assert listed is not None
    letters = dict(re.findall(r"(\w): '(\w+)'", listed[1]))
    assert {state: letter for letter, state in letters.items() if state in LETTERS} == LETTERS


def colours(selector: str) -> dict[str, str]:
    block = re.search(rf"^{re.escape(selector)} \{{(.*?)^\}}", OWN["style.css"], re.DOTALL | re.MULTILINE)
    assert block is not None
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})\b", block[1]))


@pytest.mark.parametrize(("selector", "theme"), [(":root", "light"), (":root[data-theme=dark]", "dark")])
def test_the_colours_of_states_are_those_of_all_pictures(selector: str, theme: str) -> None:
    shown = colours(selector)
    assert {name: shown[name] for name in FAMILIES} == {
        name: getattr(family, theme) for name, family in FAMILIES.items()
    }


def test_what_is_hidden_does_not_cover_the_rest() -> None:
    """A rule that gives something a `display` would show it though it has the attribute `hidden`."""
    assert "[hidden] { display: none !important }" in OWN["style.css"]


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("selector", [":root", ":root[data-theme=dark]"])
def test_text_can_be_read(selector: str) -> None:
    shown = colours(selector)
    for ground in ("back", "panel", "raised", "stripe", "hover", "code"):
        for ink in ("ink", "soft", "link"):
            assert contrast(shown[ground], shown[ink]) >= 4.5, (ground, ink)
    for family in FAMILIES:
        for ground in (f"{family}-tint", "panel", "back", "hover"):
            assert contrast(shown[ground], shown[f"{family}-ink"]) >= 4.5, (ground, family)
    assert contrast(shown["accent"], shown["accent-ink"]) >= 4.5


@pytest.mark.slow
def test_wheel_and_archive_hold_all_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    wanted = {f"graflow/api/page/{name}" for name in FILES}
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert wanted <= set(packed.namelist())
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed_too:
        assert wanted <= {name.partition("/")[2] for name in packed_too.getnames()}
