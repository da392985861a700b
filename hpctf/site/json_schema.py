"""The JSON Schema of site files and of a project's ``hpctf.yaml``, for editors.

It is made from `hpctf.site.model`: types and defaults from its annotations, descriptions from the
sentences of its docstrings that name a key. What a whole site must be (a default target that is
there, say) is more than an editor can see: ``hpctf site validate`` tells it.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from pydantic import TypeAdapter

from hpctf.site import model
from hpctf.site.keys import FILE_ONLY

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def site_schema() -> Schema:
    """Return the schema of a site file; a layer may leave out any key."""
    made = _made()
    return {
        "$schema": _DIALECT,
        "title": "A site of hpctf",
        **{key: made[key] for key in ("description", "type", "properties")},
        "additionalProperties": False,
        "$defs": made["$defs"],
    }


def project_schema() -> Schema:
    """Return the schema of a project's ``hpctf.yaml``."""
    made = _made()
    keys = {key: value for key, value in made["properties"].items() if key not in FILE_ONLY}
    layer = {"type": ["object", "null"], "properties": keys, "additionalProperties": False}
    site = {
        "type": "string",
        "description": "The site that is used where none is named: its name, or a file's path.",
    }
    sites = {
        "type": ["object", "null"],
        "description": "What holds for one site alone, by the site's name.",
        "additionalProperties": {"$ref": "#/$defs/SiteLayer"},
    }
    return {
        "$schema": _DIALECT,
        "title": "A project's hpctf.yaml",
        "description": "What a project says of the sites it runs on.",
        "type": ["object", "null"],
        "properties": {"site": site, "sites": sites, **keys},
        "additionalProperties": False,
        "$defs": {**made["$defs"], "SiteLayer": layer},
    }


def _made() -> Schema:
    schema = TypeAdapter(model.Site).json_schema()
    for name, definition in [("Site", schema), *schema["$defs"].items()]:
        text = inspect.cleandoc(getattr(model, name).__doc__)
        definition["description"] = _plain(text.split("\n\n")[0])
        definition.pop("required", None)
        definition.pop("title", None)
        for key, value in definition["properties"].items():
            told = description_of(text, key)
            described = {"description": told} if told else {}
            definition["properties"][key] = {**described, **_simplified(value)}
    return schema


def description_of(docstring: str, key: str) -> str:
    """Return the sentences of a docstring that name a key."""
    _, _, rest = docstring.partition("\n\n")
    sentences = re.split(r"(?<=[.;])\s+(?=[A-Z`])", " ".join(rest.split()))
    return _plain(" ".join(one for one in sentences if f"``{key}``" in one))


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "").split())


def _simplified(value: Schema) -> Schema:
    """Return a key's schema without titles, and as YAML is read: a number is text where text is
    wanted (``account: 007``)."""
    value = {key: inner for key, inner in value.items() if key != "title"}
    if value.get("default", ...) in (None, {}, []) or "$ref" in value:
        value.pop("default", None)
    if value.get("type") == "string" and "enum" not in value:
        value["type"] = ["string", "number"]
    for key in ("items", "additionalProperties"):
        if isinstance(value.get(key), dict):
            value[key] = _simplified(value[key])
    if "anyOf" in value:
        value["anyOf"] = [_simplified(one) for one in value["anyOf"]]
    return value
