# SPDX-License-Identifier: Apache-2.0
# Runs: tests. docs/receipt.md and docs/receipt.schema.json say what the code does.
import copy
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DOCS = os.path.join(HERE, "..", "..", "..", "docs")
sys.path.insert(0, os.path.join(HERE, "..", "..", "integration"))
from tap import case, equal, run, true  # noqa: E402

SAMPLE = sys.argv[sys.argv.index("--sample") + 1]
with open(os.path.join(DOCS, "receipt.schema.json"), encoding="ascii") as f:
    SCHEMA = json.load(f)
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
KNOWN = {"type", "properties", "required", "additionalProperties", "items", "enum", "pattern", "minimum", "maxItems", "maxLength",
         "anyOf", "$ref", "description", "title", "$schema", "$defs"}


def valid(schema, value):
    """The part of JSON Schema that our schema uses; a keyword outside it is an error of this test."""
    true(set(schema) <= KNOWN, "keywords %s" % (set(schema) - KNOWN))
    if "$ref" in schema:
        return valid(SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]], value)
    if "anyOf" in schema and not any(valid(s, value) for s in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "type" in schema:
        kind = TYPES[schema["type"]]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            return False
    if isinstance(value, str):
        return len(value) <= schema.get("maxLength", len(value)) and bool(re.search(schema.get("pattern", ""), value))
    if isinstance(value, int) and not isinstance(value, bool):
        return value >= schema.get("minimum", value)
    if isinstance(value, list):
        return len(value) <= schema.get("maxItems", len(value)) and all(valid(schema["items"], v) for v in value)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return all(k in value for k in schema.get("required", [])) and all(k in known and valid(known[k], v) for k, v in value.items())
    return True


def sample(*args):
    return subprocess.run([SAMPLE, *args], check=True, capture_output=True, text=True, timeout=30).stdout


def places(value):
    """Every object in value."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for v in value:
            yield from places(v)


@case
def schema_accepts_what_is_written():
    true(valid(SCHEMA, json.loads(sample())), "the sample")


@case
def schema_refuses_everything_else():
    good = json.loads(sample())
    for number in range(len(list(places(good)))):
        for key in list(list(places(good))[number]):
            spoilt = copy.deepcopy(good)
            del list(places(spoilt))[number][key]
            true(not valid(SCHEMA, spoilt), "without " + key)
        spoilt = copy.deepcopy(good)
        list(places(spoilt))[number]["surprise"] = 1
        true(not valid(SCHEMA, spoilt), "with a key more")


@case
def every_row_is_documented():
    with open(os.path.join(DOCS, "receipt.md"), encoding="ascii") as text:
        rows = re.findall(r"^\| `([^`]+)` \|", text.read(), flags=re.M)
    equal(rows, sample("--fields").split(), "rows of docs/receipt.md")


run()
