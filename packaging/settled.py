#!/usr/bin/env python3
"""Takes out of an image what is of its making alone: packaging/settled.py IN OUT, both as `docker save` writes them.

The id and the host name of the container that it was made in differ each time. Layers stay as they are."""

import hashlib
import io
import json
import sys
import tarfile


def settled(config):
    """The image's configuration without the container it was made in."""
    config = {key: value for key, value in config.items() if key not in ("container", "container_config")}
    config["config"] = {key: value for key, value in config["config"].items() if key not in ("Hostname", "Domainname")}
    return json.dumps(config, sort_keys=True).encode()


def put(archive, name, content):
    entry = tarfile.TarInfo(name)  # of nobody, at no time
    entry.size, entry.mode = len(content), 0o444
    archive.addfile(entry, io.BytesIO(content))


def main():
    made, out = sys.argv[1:]
    with tarfile.open(made) as archive, tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as to:
        read = lambda name: archive.extractfile(name).read()
        (image,) = json.loads(read("manifest.json"))
        for layer in image["Layers"]:
            put(to, layer, read(layer))
        config = settled(json.loads(read(image["Config"])))
        image["Config"] = hashlib.sha256(config).hexdigest() + ".json"
        put(to, image["Config"], config)
        put(to, "manifest.json", json.dumps([image], sort_keys=True).encode())


if __name__ == "__main__":
    main()
