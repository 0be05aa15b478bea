"""Makes one data file of what pytest-cov measures in many files, run by many runners; between `python_worker.py` and `pytest_worker.py`.

How it works. pytest-cov makes one data file of all that lie beside it and erases the old one first: runners at the same
time in one directory would take each other's. So it is told, by COVERAGE_FILE, to work in a directory of the worker's own,
where it adds up the files the worker runs. The directories of all the run's workers on this host lie beside the worker program.
A worker that ends adds its data to the sum of those that ended before and puts the sum where the project expects it
(`.coverage`); the last one makes the reports that the project wants (`--cov-report`). There are none for each file.
"""

import fcntl
import glob
import shutil


class CoverageData:
    """Where pytest-cov of this worker keeps its data. To be made before pytest reads its options, which starts it."""

    def __init__(self):
        self.run_directory = os.path.dirname(os.path.abspath(__file__))
        self.directory = tempfile.mkdtemp(prefix="coverage-", dir=self.run_directory)
        self.configured = os.environ.get("COVERAGE_FILE")
        os.environ["COVERAGE_FILE"] = os.path.join(self.directory, ".coverage")
        self.plugin = None

    def watch(self, config):
        """Stays in place if pytest-cov measures; else takes everything back."""
        plugin = config.pluginmanager.getplugin("_cov")
        if plugin is None or getattr(plugin, "cov_controller", None) is None:
            self.forget()
            return
        self.plugin = plugin
        # One file never covers what all of them do.
        plugin.options.cov_fail_under = None
        plugin._should_report = lambda: False

    def forget(self):
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.configured is None:
            os.environ.pop("COVERAGE_FILE", None)
        else:
            os.environ["COVERAGE_FILE"] = self.configured

    def finish(self):
        """Adds this worker's data to that of the others."""
        if self.plugin is None:
            return
        with open(os.path.join(self.run_directory, "coverage.lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            total = self.add_up()
            self.forget()
            is_last = not glob.glob(os.path.join(glob.escape(self.run_directory), "coverage-*", ""))
            if total is not None and is_last:
                self.write_reports(total)
        self.plugin = None

    def add_up(self):
        """The sum so far; None where nothing was measured."""
        import coverage

        measured = glob.glob(os.path.join(glob.escape(self.directory), ".coverage*"))
        if not measured:
            return None
        config_file = self.plugin.options.cov_config
        sum_file = os.path.join(self.run_directory, "coverage.sum")
        total = coverage.Coverage(data_file=sum_file, config_file=config_file)
        total.load()
        total.combine(measured)
        total.save()
        os.environ.pop("COVERAGE_FILE")
        shutil.copyfile(sum_file, self.configured or coverage.Coverage(config_file=config_file).config.data_file)
        return total

    def write_reports(self, total):
        controller = self.plugin.cov_controller
        controller.cov = total
        controller.summary(sys.stdout)


