# Runs test-unit files for distributest: test-unit and the project's helper are loaded once, each file runs in a fork.
#
# Started by an agent, which talks to it over the descriptor in DISTRIBUTEST_FD (see proto/worker.md). Needs test-unit 3.1
# or newer on Ruby 2.7 or newer, and nothing else. The command line after this file's name is test-unit's own: `--name`,
# `--attribute`, `--order`; `test-unit.yml` counts, too.
#
# How it works. `TestUnitFramework#load` does what `rake test` does first: `test` and `lib` are on the load path; and it
# loads the helper that test files require. For each file a process is forked from there; it requires the file, and
# test-unit's own `AutoRunner` collects and runs every test case there is then: those of the file, and those of the helper,
# as `ruby -Itest FILE` would. With isolation "shared" and "process" the whole work is done in one child process instead,
# where test cases that earlier files defined are left out.
#
# Rules:
# - `test/unit`, whoever requires it, runs nothing when the process ends: this program does.
# - Of runners and collectors named in options none is used: every result is reported over the socket. Listeners stay.
# - Pending is "expected_failure", an omission "skipped"; a notification is printed and changes no result.

module DistributestWorker
  OLDEST_TEST_UNIT = "3.1"
  TEST_UNIT_HELPERS = %w[
    test/test_helper.rb test/helper.rb test/test-helper.rb test/test_unit_helper.rb test/test-unit-helper.rb
  ].freeze

  # A test-unit that has loaded the project's helper.
  class TestUnitFramework
    def name
      "test-unit"
    end

    def title
      "test-unit"
    end

    def version
      Test::Unit::VERSION
    end

    def require_framework
      Preloading.prepare
      Bundle.require_gem("test-unit", "test/unit", title)
      require "test/unit/version"
      Bundle.require_version(title, "test-unit", version, OLDEST_TEST_UNIT)
      require "test/unit/collector/descendant"
      require "test/unit/ui/testrunner"
      require "test/unit/ui/testrunnermediator"
      Test::Unit::AutoRunner.need_auto_run = false
    end

    # Loads the helper, and makes sure that test-unit understands the command line.
    def load
      @loaded = true
      Preloading.load_helper(TEST_UNIT_HELPERS)
      Arguments.check(title) { auto_runner }
      @shared_classes = @known_classes = Test::Unit::TestCase::DESCENDANTS.dup
    end

    # Runs one file and returns its result; its tests are reported on the way.
    def run(order, witness, agent)
      file, tests = order.to_a
      report = FileReport.new(file, tests, witness, agent)
      load unless @loaded
      require_file(file)
      classes = Test::Unit::TestCase::DESCENDANTS
      listener = TestUnitListener.new(report, ClassNames.new(classes))
      report.file_loaded { classes.flat_map { |one| tests_in(one.suite) }.map { |test| listener.describe(test) } }
      passed = run_tests(listener, report.tests)
      report.conclude(title, passed) { classes.sum { |one| one.suite.size } }
    rescue SystemExit => e
      report.exit_called(e.status)
    rescue StandardError, ScriptError, NoMemoryError, SecurityError, SystemStackError, Interrupt => e
      report.raised(e)
    end

    def depends_on
      []
    end

    private

    # In a process that has run other files, their classes are there, and perhaps this file is.
    def require_file(file)
      classes = Test::Unit::TestCase::DESCENDANTS
      @known_classes |= classes
      classes.replace(@shared_classes)
      $LOAD_PATH.unshift(File.expand_path(File.dirname(file)))
      return if require(File.expand_path(file))

      classes.concat(Place.classes_in(file, @known_classes - @shared_classes, /\Atest/))
    ensure
      $LOAD_PATH.shift
    end

    def tests_in(suite)
      suite.tests.flat_map { |test| test.respond_to?(:tests) ? tests_in(test) : [test] }
    end

    def run_tests(listener, tests)
      runner = Class.new(Test::Unit::UI::TestRunner) do
        define_method(:attach_to_mediator) { listener.attach_to_mediator(@mediator) }
      end
      auto_runner = self.auto_runner
      auto_runner.collector = Test::Unit::AutoRunner.collector(:descendant)
      auto_runner.runner = ->(_) { runner }
      auto_runner.filters << ->(test) { tests.include?(listener.describe(test)["id"]) } if tests
      auto_runner.run
    end

    def auto_runner
      runner = Test::Unit::AutoRunner.new(false)
      runner.prepare
      title = self.title
      runner.define_singleton_method(:add_test_path) { |path| Arguments.refuse_paths(title, [path]) }
      runner.process_args(ARGV.dup)
      runner
    end
  end

  # Listens to test-unit while it runs.
  class TestUnitListener
    # By the class of a fault, and how much it weighs: the heaviest of a test is its status.
    STATUSES = { "Notification" => "passed", "Omission" => "skipped", "Pending" => "expected_failure",
                 "Failure" => "failed", "Error" => "error" }.freeze
    WEIGHTS = { "passed" => 0, "skipped" => 1, "expected_failure" => 2, "failed" => 3, "error" => 3 }.freeze

    def initialize(report, names)
      @report = report
      @names = names
      @faults = []
    end

    # Called by test-unit.
    def attach_to_mediator(mediator)
      mediator.add_listener(Test::Unit::TestCase::STARTED_OBJECT) { |test| started(test) }
      mediator.add_listener(Test::Unit::TestCase::FINISHED_OBJECT) { |test| finished(test) }
      mediator.add_listener(Test::Unit::TestResult::FAULT) { |fault| fault(fault) }
    end

    def describe(test)
      location = test.method(test.method_name).source_location
      FileReport.test("#{@names.of(test.class)}##{test.local_name}", location)
    end

    private

    def started(test)
      @current = describe(test)
      @faults = []
      @report.test_started(@current)
    end

    def finished(test)
      heaviest = @faults.max_by.with_index { |fault, index| [WEIGHTS[status(fault)], -index] }
      details = @faults.select { |fault| WEIGHTS[status(fault)] == 3 }.map(&:long_display).join("\n\n")
      @report.test_finished(@current, heaviest ? status(heaviest) : "passed", test.elapsed_time,
                            heaviest && status(heaviest) != "passed" ? heaviest.message : "", details)
      @current = nil
    end

    # Outside of a test, it was `startup` or `shutdown` that went wrong.
    def fault(fault)
      return @report.error(fault.message, fault.long_display) unless @current

      @faults << fault
      puts fault.long_display if status(fault) == "passed"
    end

    def status(fault)
      STATUSES.fetch(fault.label)
    end
  end
end

DistributestWorker.serve(DistributestWorker::TestUnitFramework.new)
