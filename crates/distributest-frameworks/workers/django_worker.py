"""Runs a Django project's test files for distributest: Django, the project and its test databases are set up once.

Started by an agent, which talks to it over the socket in DISTRIBUTEST_FD (see proto/worker.md). Needs Django 3.2 or newer.
The command line after this file's name is that of `manage.py test`, without labels: `--tag`, `--exclude-tag`, `-k`,
`--keepdb`, `--settings`, `--testrunner`.

How it works. `manage.py` itself is run, with the arguments `test --noinput`: so settings, paths and environment are what it
makes them. The class that Django's test command then takes for its test runner is replaced by a subclass of the
project's own one whose `run_tests` serves the agent. It has every file's tests built, ordered, filtered by tags and run
by the project's runner, each file in a fork; only what would print results is replaced.

Rules:
- Databases are set up when a file first needs them, by the process that all others are forked from, and only those it
  needs: as Django does, which looks at all tests first. Their names end with the runner's, as those of
  `manage.py test --parallel` end with a number. Connections are closed before a fork.
- A database in memory is copied by the fork: each file begins with it as it was set up. Others pass from file to
  file. After tests that do not roll back (TransactionTestCase), or after a crash, the next file begins with them emptied
  and filled with what the migrations had put in: Django runs such tests last for that reason, which no file can know.
- Django's system checks run once, after the first databases are set up, as in Django.
"""

import runpy

OLDEST_DJANGO = (3, 2)
LONGEST_DATABASE_NAME = 63
DJANGO_HINT = "install it where the tests run, for example in node_setup: pip install -r requirements.txt"


def main():
    use_project_python()
    forget_own_directory()
    # As `python manage.py` has it.
    sys.path.insert(0, os.getcwd())
    arguments = sys.argv[1:]
    worker = Worker("django")
    worker.start(lambda: run_manage(worker, arguments))


def run_manage(worker, arguments):
    """Runs manage.py so that its test command ends up in `serve`."""
    here = "{} (Python {}.{}.{})".format(sys.executable, *sys.version_info[:3])
    try:
        import django
    except ModuleNotFoundError as error:
        message = "Django is not installed for {}, which is the first Python among: {}".format(here, PYTHON_PLACES)
        raise Unable(message, DJANGO_HINT) from error
    if django.VERSION[:2] < OLDEST_DJANGO:
        message = "Django {} of {} is too old: 3.2 or newer is needed".format(django.get_version(), here)
        raise Unable(message, DJANGO_HINT)
    from django.core.management.commands import test as command

    served = []
    get_runner = command.get_runner

    def get_serving_runner(*arguments):
        return runner_class(get_runner(*arguments), worker, served)

    command.get_runner = get_serving_runner
    sys.argv[:] = ["manage.py", "test", "--noinput", "--verbosity=0"] + arguments
    hint = "see the worker's output; `python manage.py test` fails in the same way"
    try:
        runpy.run_path("manage.py", run_name="__main__")
    except Unable:
        raise
    except BaseException as error:
        if served:
            raise
        is_exit = isinstance(error, SystemExit)
        reason = "it left with status {}".format(error.code) if is_exit else headline(type(error), error).strip()
        details = "" if is_exit else "".join(traceback.format_exception(type(error), error, error.__traceback__))
        raise Unable("manage.py test does not start: " + reason, hint, details) from error
    if not served:
        raise Unable("manage.py test does not run Django's test command", hint)


def runner_class(base, worker, served):
    """The project's test runner, serving the agent in place of running tests on its own."""
    from django.test.runner import DiscoverRunner

    if not (isinstance(base, type) and issubclass(base, DiscoverRunner)):
        name = "{}.{}".format(base.__module__, base.__qualname__)
        message = "the project's test runner {} is no subclass of django.test.runner.DiscoverRunner".format(name)
        raise Unable(message, "run such a project with its own framework, for example: framework = \"pytest\"")

    class ServingRunner(DjangoFiles, base):
        test_runner = unittest.TextTestRunner

        def run_tests(self, test_labels, *arguments, **keywords):
            if test_labels:
                message = "test labels can't be given after --: {}".format(" ".join(test_labels))
                raise Unable(message, "name the files or directories themselves: distributest PATH")
            served.append(self)
            self.begin(worker.forks)
            worker.serve(self)
            return 0

    return ServingRunner


class FileLoader(unittest.TestLoader):
    """Knows one name: that of the file to be loaded."""

    def __init__(self, file, pattern):
        super().__init__()
        self.file = file
        self.pattern = pattern
        self.top = top_directory(file)

    def loadTestsFromName(self, name, module=None):
        put_in_front(self.top)
        return load_file(self, self.file, self.top, self.pattern)


class DjangoFiles:
    """What `Worker.serve` needs of a test runner of Django's."""

    def begin(self, forks):
        import django

        self.version = django.get_version()
        self.forks = forks
        self.parallel = 1
        self.advice = {}
        self.is_checked = False
        # The databases that are set up, and what it takes to take them down.
        self.aliases = set()
        self.old_config = []
        self.is_used_up = False
        self.trouble = None
        self.setup_test_environment()
        name_databases_after_runner()

    def run(self, order, witness, agent):
        if self.trouble is not None:
            return result("broken", *self.trouble)
        journal = self.journal = Journal(order.file, witness, agent)
        self.test_loader = FileLoader(order.file, self.pattern or "test*.py")
        try:
            # No directory has this name: Django asks the loader for it.
            suite = self.build_suite(["::" + order.file])
        except NotLoaded as reason:
            return result("broken", reason.message, reason.details)
        needed = set(self.get_databases(suite))
        if not self.is_checked or needed - self.aliases:
            self.advice = {"databases": sorted(needed - self.aliases)}
            return None
        if self.is_used_up:
            self.restore_databases()
        self.is_used_up = leaves_traces(suite)
        packages = enclosing_packages(module_name(order.file, self.test_loader.top))
        self.advice = {"load": packages, "top": self.test_loader.top, "used_up": self.is_used_up}
        with open(os.devnull, "w", encoding="utf-8", errors="replace") as self.screen:
            return run_suite(suite, order, journal, self.run_suite, self.narrowing_options())

    def narrowing_options(self):
        given = {"--tag": self.tags, "--exclude-tag": self.exclude_tags, "-k": self.test_name_patterns}
        return " or ".join(option for option, values in given.items() if values)

    def get_resultclass(self):
        return reporting(super().get_resultclass() or unittest.TextTestResult, self.journal)

    def get_test_runner_kwargs(self):
        return {**super().get_test_runner_kwargs(), "stream": self.screen, "verbosity": 0}

    def heed(self, advice):
        if advice is None:
            self.is_used_up = True
            return
        if "databases" in advice:
            self.set_up_databases(set(advice["databases"]))
        else:
            self.is_used_up = advice.get("used_up", self.is_used_up)
            load_packages_ahead(advice)

    def set_up_databases(self, aliases):
        self.is_checked = True
        try:
            aliases = with_dependencies(aliases, self.aliases)
            if aliases:
                self.old_config += self.setup_databases(aliases=aliases)
            self.aliases |= aliases
            self.run_checks(aliases)
        except BaseException as error:
            details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            self.trouble = ("Django can't set up its tests: " + headline(type(error), error).strip(), details)
        close_connections()
        freeze()

    def restore_databases(self):
        """Empties the databases and puts back what was in them when they were set up."""
        from django.core import serializers
        from django.core.management import call_command
        from django.db import connections, transaction

        for alias in sorted(self.aliases):
            connection = connections[alias]
            if self.forks and is_in_memory(connection):
                continue
            # What is put back has its old keys: sequences started anew would give them out a second time.
            options = {"reset_sequences": False, "inhibit_post_migrate": True}
            call_command("flush", verbosity=0, interactive=False, database=alias, **options)
            contents = getattr(connection, "_test_serialized_contents", None) or "[]"
            # Django's own way back (deserialize_db_from_string) puts everything into the default database.
            with transaction.atomic(using=alias), connection.constraint_checks_disabled():
                for deserialized in serializers.deserialize("json", contents, using=alias):
                    deserialized.save(using=alias)

    def renew(self, order):
        return self

    def reason_to_leave(self):
        return "its test databases end with the run"

    def depends_on(self):
        return []

    def close(self):
        try:
            self.teardown_databases(self.old_config)
            self.teardown_test_environment()
        except Exception as error:
            traceback.print_exc()
            return ["when the test databases were taken down: {}: {}".format(type(error).__name__, error)]
        return []


def leaves_traces(suite):
    """Whether a test in the suite changes databases and does not roll that back."""
    from django.test import TestCase, TransactionTestCase

    if isinstance(suite, unittest.TestSuite):
        return any(leaves_traces(test) for test in suite)
    return isinstance(suite, TransactionTestCase) and not isinstance(suite, TestCase)


def with_dependencies(aliases, done):
    """Databases and those that Django must set up before them, without those that are `done`."""
    from django.db import connections

    found = set()
    to_do = list(aliases)
    while to_do:
        alias = to_do.pop()
        if alias not in found | done:
            found.add(alias)
            mirrored = connections[alias].settings_dict["TEST"].get("MIRROR")
            to_do += dependencies_of(alias) + ([mirrored] if mirrored else [])
    for alias in found:
        # Django does not know what it has set up before.
        needed = [each for each in dependencies_of(alias) if each in found]
        connections[alias].settings_dict["TEST"]["DEPENDENCIES"] = needed
    return found


def dependencies_of(alias):
    from django.db import DEFAULT_DB_ALIAS, connections

    by_default = [] if alias == DEFAULT_DB_ALIAS else [DEFAULT_DB_ALIAS]
    return connections[alias].settings_dict["TEST"].get("DEPENDENCIES", by_default)


def name_databases_after_runner():
    """Gives test databases names that no other runner uses, on this host or another, where they share a server."""
    from django.db import connections

    suffix = os.environ.get("DISTRIBUTEST_RUNNER") or os.environ.get("TEST_ENV_NUMBER")
    for connection in connections.all():
        if not suffix or is_in_memory(connection, str(connection.creation._get_test_db_name())):
            continue
        name = str(connection.creation._get_test_db_name())
        root, extension = os.path.splitext(name) if connection.vendor == "sqlite" else (name, "")
        if connection.vendor != "sqlite" and len(root) + 1 + len(suffix) > LONGEST_DATABASE_NAME:
            # Servers cut long names off, and with it what makes them different.
            root = "test_" + hashlib.sha256(root.encode("utf-8")).hexdigest()[:12]
        connection.settings_dict["TEST"]["NAME"] = "{}_{}{}".format(root, suffix, extension)


def is_in_memory(connection, name=None):
    if connection.vendor != "sqlite":
        return False
    return connection.creation.is_in_memory_db(str(connection.settings_dict["NAME"]) if name is None else name)


def close_connections():
    """Connections to servers are not for two processes. One to a database in memory stays: it is the database."""
    from django.core.cache import caches
    from django.db import connections

    for connection in connections.all():
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()
    for cache in caches.all():
        cache.close()


if __name__ == "__main__":
    main()
