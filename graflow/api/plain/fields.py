"""Forms made from a JSON Schema, and their values as browsers send them; `page/parts/form.js` does it with scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.datastructures import FormData

from graflow.protocols import MISSING

_SIMPLE: Final = frozenset({"string", "number", "integer"})
_DATES: Final = {"date": "date", "date-time": "datetime"}
_DEEPEST: Final = 4  # models in models that have fields
_FEW: Final = 5
_LONGEST_WAY: Final = 20  # references of references
_NEEDED: Final = "This is needed"
_WHOLE: Final = "value"

Schema = Mapping[str, Any]


@dataclass
class Field:
    """One field of a form.

    Attributes:
        name: Its name, behind those of the models around it.
        label: Its own name.
        kind: `boolean`, `enum`, `several`, `number`, `string`, `date`, `datetime`, `list`, `object` or `json`.
        schema: What it takes, behind references.
        is_required: Whether an answer needs it.
        texts: What is typed or chosen: texts as browsers send them; options are JSON.
        options: What can be chosen.
        fields: Those of a model.
        wrong: What is wrong with it.
    """

    name: str
    label: str
    kind: str
    schema: Schema
    is_required: bool
    texts: list[str] = field(default_factory=list)
    options: list[Any] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)
    wrong: str = ""

    @property
    def text(self) -> str:
        """What is typed."""
        return self.texts[0] if self.texts else ""

    @property
    def is_in_sight(self) -> bool:
        """Whether all of its options are in sight, instead of a list that has to be opened."""
        return self.kind == "several" or (self.kind == "enum" and self.is_required and len(self.options) <= _FEW)

    @property
    def choices(self) -> list[tuple[str, Any]]:
        """The options, each with the text that is sent for it."""
        return [(json.dumps(each), each) for each in self.options]


def form_of(schema: Schema) -> Field:
    """The form of a whole answer; its fields are named `value` and `value.…`."""
    return _field(_WHOLE, _WHOLE, schema, schema)


def filled(form: Field, given: FormData) -> Any:
    """The value that was sent; what does not fit is told by the fields, and MISSING is given for nothing."""
    if form.kind == "object":
        return _model(form, given)
    form.texts, before = [text for text in given.getlist(form.name) if isinstance(text, str) and text], form.texts
    try:
        value = _value(form, form.text)
    except ValueError as error:
        form.wrong = str(error)
        return MISSING
    if value is MISSING and form.is_required:
        form.wrong = _NEEDED
    return value if form.is_required or form.texts != before or form.text else MISSING


def is_right(form: Field) -> bool:
    """Whether nothing is wrong with what was sent."""
    return not form.wrong and all(map(is_right, form.fields))


def blamed(form: Field, errors: Iterable[Mapping[str, Any]]) -> list[str]:
    """Have the fields tell what is wrong with them; what belongs to none of them is given back."""
    by_name = {each.name: each for each in _flat(form)}
    left = []
    for error in errors:
        found = by_name.get(".".join(error["at"]))
        if found is None:
            left.append(error["why"])
        else:
            found.wrong = error["why"]
    return left


# -- parts -------------------------------------------------------------------------------------------------------------


def _field(
    name: str, label: str, raw: Schema, root: Schema, *, is_required: bool = True, given: Any = None, deep: int = 0
) -> Field:
    schema = _resolved(raw, root)
    kind = _kind(schema, root, deep)
    value = schema.get("default") if given is None else given
    made = Field(name, label, kind, schema, is_required, _texts(value, kind))
    if kind == "enum":
        made.options = list(schema["enum"])
    elif kind == "several":
        made.options = list(_resolved(schema["items"], root)["enum"])
    elif kind == "object":
        known = value if isinstance(value, Mapping) else {}
        needed = schema.get("required", ())
        made.fields = [
            _field(f"{name}.{each}", each, own, root, is_required=each in needed, given=known.get(each), deep=deep + 1)
            for each, own in schema["properties"].items()
        ]
    return made


def _resolved(schema: Any, root: Schema, way: int = 0) -> Schema:
    """A schema behind references, and behind `anyOf` with null."""
    if not isinstance(schema, Mapping) or way > _LONGEST_WAY:
        return {}
    if "$ref" in schema:
        found: Any = root
        for key in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found.get(key, {}) if isinstance(found, Mapping) else {}
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _resolved({**found, **rest} if isinstance(found, Mapping) else {}, root, way + 1)
    some = [each for each in schema.get("anyOf", schema.get("oneOf", ())) if each != {"type": "null"}]
    if len(some) == 1:
        default = {"default": schema["default"]} if "default" in schema else {}
        return {**_resolved(some[0], root, way + 1), "nullable": True, **default}
    return {**schema, "enum": [schema["const"]]} if "const" in schema else schema


def _kind(schema: Schema, root: Schema, deep: int) -> str:
    kind = schema.get("type")
    item = _resolved(schema.get("items", {}), root)
    if schema.get("enum"):
        found = "enum"
    elif kind in {"integer", "number"}:
        found = "number"
    elif kind == "string":
        found = _DATES.get(str(schema.get("format")), "string")
    elif kind == "object" and schema.get("properties") and deep < _DEEPEST:
        found = "object"
    elif kind == "array" and item.get("enum"):
        found = "several"
    elif kind == "array" and item.get("type") in _SIMPLE:
        found = "list"
    else:
        found = "boolean" if kind == "boolean" else "json"
    return found


def _texts(value: Any, kind: str) -> list[str]:
    """What is typed at first."""
    if kind == "boolean":
        return ["true"] if value else []
    if kind == "several":
        return [json.dumps(each) for each in value or ()]
    if value is None or kind == "object":
        return []
    if kind == "list":
        return ["\n".join(map(str, value))]
    return [json.dumps(value) if kind in {"json", "enum"} else str(value)]


def _model(form: Field, given: FormData) -> Any:
    before = [list(each.texts) for each in _flat(form)]
    values = {each.label: filled(each, given) for each in form.fields}
    if not form.is_required and before == [each.texts for each in _flat(form)]:
        for each in _flat(form):
            each.wrong = ""
        return MISSING
    return {name: value for name, value in values.items() if value is not MISSING}


def _value(form: Field, text: str) -> Any:
    """The value that a text stands for; MISSING for none."""
    if form.kind == "boolean" and form.name == _WHOLE:  # two buttons, not a box: that neither was pressed is no answer
        return {"true": True, "false": False}.get(text, MISSING)
    if form.kind == "boolean":
        return text == "true"
    if form.kind == "several":
        return [_json(each) for each in form.texts]
    if form.kind == "string" and text == "" and form.is_required and not form.schema.get("nullable"):
        return text
    if not text.strip():
        return MISSING
    match form.kind:
        case "number":
            return _number(text)
        case "json" | "enum":
            return _json(text)
        case "datetime":
            return f"{text}Z"
        case "list":
            return _lines(form.schema["items"], text)
    return text


def _lines(item: Schema, text: str) -> Sequence[Any]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines if item.get("type") == "string" else [_number(line) for line in lines]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("This is no JSON") from None


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text.strip()[:100]} is no number") from None


def _flat(form: Field) -> list[Field]:
    return [form, *(found for each in form.fields for found in _flat(each))]
