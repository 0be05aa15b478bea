"""Reads JUnit XML files and prints each test case as a JSON object a line, with what a report says of it."""

import json
import sys
import xml.etree.ElementTree

for path in sys.argv[1:]:
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        outcomes = {tag: case.find(tag) for tag in ("failure", "error", "skipped")}
        found = {tag: element for tag, element in outcomes.items() if element is not None}
        tag, element = next(iter(found.items()), ("passed", None))
        print(
            json.dumps(
                {
                    "name": case.get("name"),
                    "class": case.get("classname") or case.get("class") or "",
                    "status": {"failure": "failed"}.get(tag, tag),
                    "text": "" if element is None else element.text or "",
                    "message": "" if element is None else element.get("message", ""),
                }
            )
        )
