"""Runs what docs/clients.md shows, so that it shows only what runs.

`run("Heading")` executes the code block under that heading with the gateway at CORELANE_URL in the place of
http://localhost:8000, and gives what it has printed.
"""

import contextlib
import io
import os
import re


def block(heading, language="python"):
    with open(os.environ["CORELANE_DOCS"], encoding="utf-8") as file:
        text = file.read()
    section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section, f"docs/clients.md has no heading {heading!r}"
    code = re.search(rf"^```{language}\n(.*?)^```$", section[1], re.M | re.S)
    assert code, f"no {language} block under {heading!r}"
    assert "http://localhost:8000" in code[1], code[1]
    return code[1].replace("http://localhost:8000", os.environ["CORELANE_URL"])


def run(heading):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block(heading), heading, "exec"), {"__name__": "__main__"})
    text = printed.getvalue()
    assert "You said: Hello" in text, f"{heading}: {text!r}"
    return text
