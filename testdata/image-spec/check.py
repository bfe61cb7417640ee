"""Compares OCI documents with the image specification's own JSON schemas, as Debian has them.

    check.py layout DIRECTORY...    all that the index.json of each leads to
    check.py blobs FILE...          those of the files that are documents

Every descriptor must also have the length and the digest of what it leads to. Prints how many documents of each media
type there were, or what is wrong and where.
"""

import collections
import hashlib
import json
import os
import sys

import jsonschema

SCHEMAS = "/usr/share/gocode/src/github.com/opencontainers/image-spec/schema"

# Docker's types are those of the specification under other names.
SCHEMA_OF = {
    "application/vnd.oci.image.index.v1+json": "image-index-schema.json",
    "application/vnd.docker.distribution.manifest.list.v2+json": "image-index-schema.json",
    "application/vnd.oci.image.manifest.v1+json": "image-manifest-schema.json",
    "application/vnd.docker.distribution.manifest.v2+json": "image-manifest-schema.json",
    "application/vnd.oci.image.config.v1+json": "config-schema.json",
    "application/vnd.docker.container.image.v1+json": "config-schema.json",
}


class Schemas(jsonschema.RefResolver):
    """Finds a schema by the last part of its address: all of them are files of one directory."""

    def resolve_remote(self, uri):
        return schema(os.path.basename(uri))


def schema(name):
    with open(os.path.join(SCHEMAS, name)) as file:
        return json.load(file)


def errors(name, document):
    root = schema(name)
    validator = jsonschema.Draft4Validator(root, resolver=Schemas(root["id"], root))
    for error in validator.iter_errors(document):
        place = "/".join(str(it) for it in error.absolute_path)
        yield f"{place or 'the whole'}: {error.message[:300]}"


class Checked:
    def __init__(self):
        self.counts = collections.Counter()
        self.wrong = []

    def document(self, where, media_type, text):
        """What a document of this type leads to."""
        name = SCHEMA_OF.get(media_type)
        if name is None:
            return []
        self.counts[media_type] += 1
        document = json.loads(text)
        self.wrong += [f"{where}: {error}" for error in errors(name, document)]
        if document.get("mediaType", media_type) != media_type:
            self.wrong.append(f"{where}: says that it is {document['mediaType']}")
        below = list(document.get("manifests", [])) + list(document.get("layers", []))
        return below + [it for it in [document.get("config")] if "digest" in (it or {})]

    def layout(self, directory):
        with open(os.path.join(directory, "oci-layout")) as file:
            self.wrong += errors("image-layout-schema.json", json.load(file))
        with open(os.path.join(directory, "index.json"), "rb") as file:
            open_ = self.document(f"{directory}/index.json", "application/vnd.oci.image.index.v1+json", file.read())
        while open_:
            descriptor = open_.pop()
            where = f"{directory}: {descriptor['mediaType']} {descriptor['digest']}"
            self.wrong += [f"{where}: {error}" for error in errors("content-descriptor.json", descriptor)]
            with open(os.path.join(directory, "blobs", *descriptor["digest"].split(":")), "rb") as file:
                content = file.read()
            found = "sha256:" + hashlib.sha256(content).hexdigest()
            if (found, len(content)) != (descriptor["digest"], descriptor["size"]):
                self.wrong.append(f"{where}: is {found} of {len(content)} bytes")
            open_ += self.document(where, descriptor["mediaType"], content)

    def blob(self, path):
        with open(path, "rb") as file:
            content = file.read()
        try:
            document = json.loads(content)
        except ValueError:
            return
        if "rootfs" in document:
            self.document(path, "application/vnd.oci.image.config.v1+json", content)
        elif "mediaType" in document:
            self.document(path, document["mediaType"], content)
        else:
            # Statements and the like.
            self.counts["other documents"] += 1


def main(kind, paths):
    checked = Checked()
    for path in paths:
        checked.layout(path) if kind == "layout" else checked.blob(path)
    for media_type, count in sorted(checked.counts.items()):
        print(count, media_type)
    print("\n".join(checked.wrong), end="\n" if checked.wrong else "", file=sys.stderr)
    sys.exit(1 if checked.wrong else 0)


main(sys.argv[1], sys.argv[2:])
