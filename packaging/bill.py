#!/usr/bin/env python3
"""The bill of what is linked into the gateway: an SBOM (CycloneDX 1.5), and the licences with their texts.

Read from `cargo metadata` and the sources of the crates, so it needs nothing but cargo. Crates that only builds and
tests use are left out. Nothing of the time or the place is in it: the same lock file gives the same bytes."""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import re
import subprocess
import uuid

TEXT = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)([-._].*)?$", re.IGNORECASE)
RUST = [
    ("musl", "MIT", "the C library, in binaries for *-linux-musl: https://musl.libc.org"),
    ("rust", "MIT OR Apache-2.0", "the standard library: https://www.rust-lang.org"),
]


def linked(target):
    """The gateway's package, and those that it links, by name and version."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={target}"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    packages = {package["id"]: package for package in found["packages"]}
    root = next(one["id"] for one in found["packages"] if one["name"] == "corelane")
    edges, waiting = {}, [root]
    while waiting:
        one = waiting.pop()
        if one in edges:
            continue
        kinds = ((dep["pkg"], {kind["kind"] for kind in dep["dep_kinds"]}) for dep in nodes[one]["deps"])
        edges[one] = sorted(pkg for pkg, kind in kinds if None in kind and not is_macro(packages[pkg]))
        waiting += edges[one]
    key = lambda package: (package["name"], package["version"])
    rest = sorted((packages[one] for one in edges if one != root), key=key)
    return packages[root], rest, edges


def is_macro(package):
    """It runs in the compiler, with all that it needs, and is not linked."""
    return any("proc-macro" in target["kind"] for target in package["targets"])


def licence(package):
    """As an SPDX expression: older crates write a slash."""
    return re.sub(r"\s*/\s*", " OR ", package.get("license") or "")


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, sums):
    name, version = package["name"], package["version"]
    one = {"type": "library", "bom-ref": purl(package), "name": name, "version": version, "purl": purl(package)}
    if licence(package):
        one["licenses"] = [{"expression": licence(package)}]
    if (name, version) in sums:
        one["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    if package.get("repository"):
        one["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return one


def sums_of(lock):
    """What Cargo.lock says that each crate's archive sums to."""
    pattern = re.compile(r'name = "(.+)"\nversion = "(.+)"\nsource = .*\nchecksum = "(.+)"')
    return {(name, version): digest for name, version, digest in pattern.findall(lock.read_text())}


def sbom(root, rest, edges):
    sums = sums_of(pathlib.Path("Cargo.lock"))
    main = component(root, sums) | {"type": "application"}
    ids = {package["id"]: purl(package) for package in [root, *rest]}
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": main},
        "components": [component(package, sums) for package in rest],
        "dependencies": sorted(
            ({"ref": ids[one], "dependsOn": sorted(ids[to] for to in set(edges[one]))} for one in edges),
            key=lambda entry: entry["ref"],
        ),
    }
    content = json.dumps(bill, sort_keys=True).encode()
    bill["serialNumber"] = f"urn:uuid:{uuid.UUID(bytes=hashlib.sha256(content).digest()[:16], version=4)}"
    return bill


def texts(package):
    """Licence texts in a crate's sources, those of C code that it brings included."""
    folder = pathlib.Path(package["manifest_path"]).parent
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if one not in ("target", ".git", "tests", "testdata"))
        for name in sorted(files):
            if TEXT.match(name) and not name.endswith((".rs", ".py", ".toml")):
                yield (pathlib.Path(place) / name).read_text(errors="replace").strip()


def licences(root, rest):
    lines = [f"What is linked into corelane {root['version']}, and under what licence", ""]
    lines += [f"{name}: {terms} ({what})" for name, terms, what in RUST]
    shown, users = {}, collections.defaultdict(list)
    for package in rest:
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name}: {licence(package) or 'see its text'} ({package.get('repository') or 'no repository'})")
        for text in texts(package):
            key = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
            shown.setdefault(key, text)
            if name not in users[key]:
                users[key].append(name)
    for key, text in shown.items():
        lines += ["", "=" * 80, ", ".join(users[key]), "-" * 80, text]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--sbom", type=pathlib.Path, required=True)
    parser.add_argument("--licences", type=pathlib.Path, required=True)
    options = parser.parse_args()
    root, rest, edges = linked(options.target)
    options.sbom.write_text(json.dumps(sbom(root, rest, edges), indent=1) + "\n")
    options.licences.write_text(licences(root, rest))


if __name__ == "__main__":
    main()
