#!/usr/bin/env python3
"""Generate the fact files that the package ships from the recorded facts of a real API server.

    tools/generate_facts.py [--facts FOLDER] [--check]

FOLDER (or $UNDERSTUDY_FACTS, or ../shared/data) holds `kubernetes/`. Output goes to
`components/machinery/facts/`: names, numbers and types only, no prose. `--check` compares instead of
writing and exits 1 when a file is stale. Every file is a pure function of the inputs (sorted keys, gzip
without a time stamp; compared decompressed), and `inputs.json` holds the inputs' digest.

Two shapes of file are written. A *document* is one JSON value. A *table* has one line a row,
`name TAB json`, so that a reader parses only the rows that it needs.
"""

import argparse
import gzip
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
OUTPUT = REPOSITORY / "components" / "machinery" / "facts"

Json = Any

# Messages whose JSON form is a scalar (or is open), by the schema type that says so. The custom JSON
# forms of apiextensions are open here: their Go types unmarshal themselves, so strict checks stop there.
SPECIAL_TYPES = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "any",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "micro-time",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch": "any",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "time",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "any",
}
REFERENCE = "#/components/schemas/"


def dump(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def compress(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=9, mtime=0)


def plain(file: str, content: bytes) -> bytes:
    """What a file says: two builds of zlib may compress the same text differently."""
    return gzip.decompress(content) if file.endswith(".gz") else content


def table(rows: dict[str, Json]) -> bytes:
    return compress(b"".join(name.encode() + b"\t" + dump(rows[name]) + b"\n" for name in sorted(rows)))


def read_openapi(folder: Path) -> dict[str, Json]:
    """Every OpenAPI v3 document, keyed by its path."""
    index = json.loads((folder / "index.json").read_bytes())
    return {
        path: json.loads(gzip.decompress((folder / entry["file"]).read_bytes()))
        for path, entry in index.items()
    }


def compact_schema(schema: Json) -> Json:
    """One property in the notation that `schema.py` reads.

    A string is a scalar type, or `#` and a message name. A mapping holds one of `type`, `list`, `map`,
    `ref`, and what the property adds to it.
    """
    if "allOf" in schema or "$ref" in schema:
        (target,) = schema.get("allOf", [schema])
        name = target["$ref"].removeprefix(REFERENCE)
        if name == target["$ref"]:
            raise SystemExit(f"a reference out of the document: {target}")
        compact: dict[str, Json] = {"ref": name}
    elif schema.get("type") == "array":
        compact = {"list": compact_schema(schema["items"])}
    elif schema.get("type") == "object" and "additionalProperties" in schema:
        compact = {"map": compact_schema(schema["additionalProperties"])}
    elif schema.get("type") == "object":
        compact = {"type": "any"}
    elif schema.get("format") == "byte":
        compact = {"type": "bytes"}
    else:
        compact = {"type": schema["type"]}
        if "format" in schema:
            compact["format"] = schema["format"]
    known = {"type", "format", "allOf", "$ref", "items", "additionalProperties"}
    for key, value in schema.items():
        match key:
            case "default":
                compact["zero"] = value
            case "enum":
                compact["enum"] = value
            case "x-kubernetes-list-type":
                if "list" in compact:
                    compact["list_type"] = value
            case "x-kubernetes-list-map-keys":
                compact["keys"] = value
            case "x-kubernetes-map-type":
                compact["map_type"] = value
            case "x-kubernetes-patch-merge-key":
                compact["merge_key"] = value
            case "x-kubernetes-patch-strategy":
                compact["strategy"] = value.split(",")
            case _ if key not in known:
                raise SystemExit(f"a property key that is new here: {key} in {schema}")
    if set(compact) == {"ref"}:
        return "#" + compact["ref"]
    if set(compact) == {"type"}:
        return compact["type"]
    return compact


def schema_rows(documents: dict[str, Json]) -> tuple[dict[str, Json], dict[str, str]]:
    """The compact form of every message, and the message of each `apiVersion/Kind`."""
    rows: dict[str, Json] = {}
    kinds: dict[str, str] = {}
    for document in documents.values():
        for name, schema in document.get("components", {}).get("schemas", {}).items():
            for gvk in schema.get("x-kubernetes-group-version-kind", ()):
                version = f"{gvk['group']}/{gvk['version']}" if gvk["group"] else gvk["version"]
                kinds[f"{version}/{gvk['kind']}"] = name
            row: dict[str, Json]
            if name in SPECIAL_TYPES:
                row = {"type": SPECIAL_TYPES[name]}
            elif schema.get("type") == "object":
                properties = schema.get("properties", {})
                row = {"fields": {key: compact_schema(value) for key, value in properties.items()}}
                if schema.get("required"):
                    row["required"] = sorted(schema["required"])
                if "x-kubernetes-map-type" in schema:
                    row["map_type"] = schema["x-kubernetes-map-type"]
            else:
                raise SystemExit(f"a message of a shape that is new here: {name}: {schema}")
            if rows.setdefault(name, row) != row:
                raise SystemExit(f"two documents disagree about {name}")
    return rows, kinds


def openapi_files(documents: dict[str, Json]) -> dict[str, bytes]:
    """The served documents, each with the digest that its URL carries."""
    files: dict[str, bytes] = {}
    index: dict[str, Json] = {}
    for path, document in documents.items():
        body = dump(document)
        file = "openapi-" + path.replace("/", "__").lstrip(".") + ".json.gz"
        files[file] = compress(body)
        index[path] = {"file": file, "hash": hashlib.sha512(body).hexdigest().upper()}
    files["openapi.json"] = dump(index)
    return files


def discovery_document(recorded: Json) -> Json:
    """Resources in the order of discovery, with what the legacy form adds (storage version hashes)."""
    groups = []
    for item in [*recorded["aggregated"]["/api"]["items"], *recorded["aggregated"]["/apis"]["items"]]:
        group = item["metadata"].get("name", "")
        versions = []
        for version in item["versions"]:
            path = f"/apis/{group}/{version['version']}" if group else f"/api/{version['version']}"
            legacy = {entry["name"]: entry for entry in recorded["legacy"][path]["resources"]}
            resources = []
            for resource in version["resources"]:
                row = dict(resource)
                row["storageVersionHash"] = legacy[resource["resource"]].get("storageVersionHash", "")
                resources.append(row)
            versions.append({"version": version["version"], "resources": resources})
        groups.append({"group": group, "versions": versions})
    return groups


def inputs(folder: Path) -> list[Path]:
    names = ["discovery.json", "protobuf.json", "protobuf_special.json", "protobuf_gvk.json"]
    return [*(folder / name for name in names), *sorted((folder / "openapi-v3").iterdir())]


def generate(facts: Path) -> dict[str, bytes]:
    """File name to contents of everything that the package ships."""
    folder = facts / "kubernetes"
    documents = read_openapi(folder / "openapi-v3")
    rows, kinds = schema_rows(documents)
    special = json.loads((folder / "protobuf_special.json").read_bytes())
    digest = hashlib.sha256()
    for path in inputs(folder):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return {
        "inputs.json": dump({"sha256": digest.hexdigest()}),
        "discovery.json": dump(discovery_document(json.loads((folder / "discovery.json").read_bytes()))),
        "schemas.tsv.gz": table(rows),
        "schema_kinds.json": dump(kinds),
        "protobuf.tsv.gz": table(json.loads((folder / "protobuf.json").read_bytes())),
        "protobuf_kinds.json": dump(json.loads((folder / "protobuf_gvk.json").read_bytes())),
        "protobuf_special.json": dump({name: row["json"] for name, row in special["types"].items()}),
        **openapi_files(documents),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = os.environ.get("UNDERSTUDY_FACTS", REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--facts", type=Path, default=Path(default), help="the folder that holds kubernetes/")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    files = generate(arguments.facts)
    present = {path.name: path.read_bytes() for path in OUTPUT.iterdir() if path.suffix in (".gz", ".json")}
    same = {
        name for name in set(files) & set(present) if plain(name, files[name]) == plain(name, present[name])
    }
    stale = sorted({*files, *present} - same)
    if arguments.check:
        if stale:
            print("stale:", *stale)
        return 1 if stale else 0
    for name in stale:
        if name in files:
            (OUTPUT / name).write_bytes(files[name])
        else:
            (OUTPUT / name).unlink()
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes in {OUTPUT.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
