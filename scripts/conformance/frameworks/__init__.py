"""What `compare` must know of each framework: a module here for each, named as distributest names it.

A module gives

- `run(project)`: runs the framework's own runner over the whole project, as its users do, and gives what its own reporter
  said, as a dictionary from each test's id, as distributest has it, to the list of its `Test`s: more than one where ids
  are not unique. `project` is a `Project` of `compare`, and has `project.run(COMMAND, ENVIRONMENT)` and
  `project.scratch`, an empty directory.
- `WORDS`: what the framework calls those statuses of distributest that it has another word for.
- `known_id(id)`, where the framework's own reporter does not tell tests apart as distributest's ids do: as much of such an
  id as it knows.
- `FAILURES`, unless these are `failed` and `error`: its words for tests that make its run a failure.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Test:
    """What the framework's reporter says of a test. What is None is not compared.

    `message` is the whole of it; distributest's is one line, which must be its beginning.
    """

    status: str
    message: str | None = None
    file: str | None = None
    line: int | None = None
