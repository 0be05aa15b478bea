"""prove: it leaves the TAP of each file where it is told to."""

import collections
import re

from frameworks import Test

WORDS = {}

TEST = re.compile(r"(?P<not>not )?ok\b\s*(?P<number>\d+)?\s*(?P<text>.*)")
DIRECTIVE = re.compile(r"(?P<text>(?:[^\\#]|\\.)*)#\s*(?P<word>SKIP|TODO)\b\s*(?P<reason>.*)", re.IGNORECASE)


def run(project):
    documents = project.scratch / "tap"
    project.run(["prove", "--recurse", "t"], {"PERL_TEST_HARNESS_DUMP_TAP": str(documents)})
    tests = collections.defaultdict(list)
    for document in sorted(documents.rglob("*.t")):
        for identifier, test in tests_of(document.read_text(errors="replace").splitlines()):
            tests[identifier].append(test)
    return tests


def tests_of(lines):
    """Plain TAP; what stands in front of a test's line is of a subtest."""
    for position, line in enumerate(filter(None, map(TEST.fullmatch, lines)), start=1):
        text, word, reason = line["text"], "", ""
        if directive := DIRECTIVE.fullmatch(text):
            text, word, reason = directive["text"], directive["word"].upper(), directive["reason"].strip()
        description = re.sub(r"\\([#\\])", r"\1", text.strip().removeprefix("- ").strip())
        status = {
            ("TODO", False): "unexpected_pass",
            ("TODO", True): "expected_failure",
            ("SKIP", False): "skipped",
        }.get((word, bool(line["not"])), "failed" if line["not"] else "passed")
        number = line["number"] or position
        yield f"{number} - {description}" if description else str(number), Test(status, reason if word else None)
