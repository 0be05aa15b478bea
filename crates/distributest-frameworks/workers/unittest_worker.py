"""Runs unittest files for distributest: each in a fork of a process that has loaded unittest and the files' packages.

Started by an agent, which talks to it over the socket in DISTRIBUTEST_FD (see proto/worker.md). Needs Python 3.8 or
newer, and nothing else. The command line after this file's name is that of `python -m unittest discover`: `-k`, `-b`,
`-f`, `--locals`, `-s`, `-t`, `-p`.

How it works. A test file is the module that `python -m unittest discover` would make of it: imported from `-t` if that
is given, else from `-s`, else from the first directory above it that is no package, which is put in front of the import
path. The packages it lies in (their `__init__.py`) are loaded ahead for all files, as soon as a file has shown that they
load; the file itself, and what it imports, is loaded in the process that runs it.
"""

import fnmatch
import io

DEFAULT_PATTERN = "test*.py"


def main():
    use_project_python()
    forget_own_directory()
    # As `python -m` has it.
    sys.path.insert(0, os.getcwd())
    arguments = sys.argv[1:]
    sys.argv[:] = ["python -m unittest"] + arguments
    worker = Worker("unittest")
    worker.start(lambda: worker.serve(Prepared(arguments)))


class Options(unittest.TestProgram):
    """unittest's own reading of its command line, without what it does next."""

    def __init__(self, arguments):
        self.complaint = io.StringIO()
        try:
            with contextlib.redirect_stderr(self.complaint), contextlib.redirect_stdout(self.complaint):
                super().__init__(module=None, argv=["python -m unittest", "discover"] + arguments)
        except SystemExit as end:
            said = self.complaint.getvalue()
            named = [line.split("error: ", 1)[1] for line in said.splitlines() if "error: " in line]
            message = (named or ["{} makes no sense here".format(" ".join(arguments))])[0]
            hint = "see `python -m unittest discover --help` for what it takes"
            raise Unable("unittest does not take these arguments: " + message, hint, said) from end

    def createTests(self, *arguments, **keywords):
        pass

    def runTests(self):
        pass


class Prepared:
    """unittest with its options read."""

    def __init__(self, arguments):
        self.version = "{}.{}.{}".format(*sys.version_info[:3])
        self.options = Options(arguments)
        self.advice = {}

    def run(self, order, witness, agent):
        pattern = self.options.pattern
        if pattern != DEFAULT_PATTERN and not fnmatch.fnmatch(os.path.basename(order.file), pattern):
            return result("passed", "no tests: the pattern {} leaves this file out".format(pattern))
        loader = unittest.TestLoader()
        loader.testNamePatterns = self.options.testNamePatterns or None
        top = self.top(order.file)
        put_in_front(top)
        try:
            suite = load_file(loader, order.file, top, pattern)
        except NotLoaded as reason:
            return result("broken", reason.message, reason.details)
        self.advice = {"top": top, "load": enclosing_packages(module_name(order.file, top))}
        journal = Journal(order.file, witness, agent)
        narrowed_by = "-k" if loader.testNamePatterns else None
        return run_suite(suite, order, journal, lambda suite: self.run_by_unittest(suite, journal), narrowed_by)

    def top(self, file):
        """The directory the file's module is imported from."""
        options = self.options
        given = options.top or (options.start if options.start != os.curdir else None)
        given = os.path.abspath(given) if given and os.path.isdir(given) else None
        if given and os.path.abspath(file).startswith(given + os.sep):
            return given
        return top_directory(file)

    def run_by_unittest(self, suite, journal):
        options = self.options
        with open(os.devnull, "w", encoding="utf-8", errors="replace") as screen:
            runner = unittest.TextTestRunner(
                stream=screen,
                verbosity=0,
                failfast=options.failfast,
                buffer=options.buffer,
                resultclass=reporting(unittest.TextTestResult, journal),
                warnings=options.warnings,
                tb_locals=options.tb_locals,
            )
            runner.run(suite)

    def heed(self, advice):
        load_packages_ahead(advice or {})

    def renew(self, order):
        return self

    def close(self):
        return []

    def reason_to_leave(self):
        return None

    def depends_on(self):
        return []


if __name__ == "__main__":
    main()
