# Runs Minitest files for distributest: Minitest and the project's helper are loaded once, each file runs in a fork.
#
# Started by an agent, which talks to it over the descriptor in DISTRIBUTEST_FD (see proto/worker.md). Needs Minitest 5.11
# or newer on Ruby 2.7 or newer, and nothing else. The command line after this file's name is Minitest's own: `--seed`,
# `-n /pattern/`, what plugins add.
#
# How it works. `MinitestFramework#load` does what `rake test` and `rails test` do first: `test` and `lib` are on the load
# path, plugins are loaded; and it loads the helper that test files require. For each file a process is forked from there;
# it requires the file, and Minitest's own runner runs every test class there is then: those of the file, and those of the
# helper, as `ruby -Itest FILE` would. With isolation "shared" and "process" the whole work is done in one child process
# instead, where classes that earlier files defined are left out.
#
# Rules:
# - `minitest/autorun`, whoever requires it, runs nothing: this program does. `Minitest.after_run` is `at_exit`.
# - Reporters that print (those with an `io`) are not used: every result is reported over the socket. Others stay.
# - Rails' `parallelize` does nothing: files run in parallel already, each with the runner's own database. What Minitest
#   runs in threads of this process (`parallelize_me!`), it still does.

module DistributestWorker
  OLDEST_MINITEST = "5.11"
  MINITEST_HELPERS = %w[
    test/test_helper.rb test/helper.rb test/minitest_helper.rb spec/spec_helper.rb spec/minitest_helper.rb
  ].freeze

  # A Minitest that has loaded its plugins and the project's helper.
  class MinitestFramework
    def name
      "minitest"
    end

    def title
      "Minitest"
    end

    def version
      Minitest::VERSION
    end

    def require_framework
      Preloading.prepare
      Bundle.require_gem("minitest", "minitest", title)
      Bundle.require_version(title, "minitest", version, OLDEST_MINITEST)
      Minitest.define_singleton_method(:autorun) {}
      Minitest.define_singleton_method(:after_run) { |&block| at_exit(&block) }
      @executor = Minitest.parallel_executor
    end

    # Loads plugins and the helper, and makes sure that Minitest understands the command line.
    def load
      @loaded = true
      ENV["PARALLEL_WORKERS"] = "1"
      loads_plugins = !ARGV.include?("--no-plugins") && !ENV["MT_NO_PLUGINS"]
      # Since Minitest 6, projects load those they want.
      Minitest.load_plugins if loads_plugins && Gem::Version.new(version) < Gem::Version.new("6")
      Preloading.load_helper(MINITEST_HELPERS)
      check_arguments
      @shared_classes = @known_classes = Minitest::Runnable.runnables.dup
      framework = self
      Minitest.define_singleton_method(:plugin_distributest_init) { |options| framework.adjust(options) }
      Minitest.extensions << "distributest"
    end

    # Runs one file and returns its result; its tests are reported on the way.
    def run(order, witness, agent)
      file, tests = order.to_a
      report = FileReport.new(file, tests, witness, agent)
      load unless @loaded
      require_file(file)
      classes = Minitest::Runnable.runnables.dup
      @reporter = MinitestReporter.new(report, ClassNames.new(classes))
      report.file_loaded do
        classes.flat_map { |one| one.methods_matching(/\Atest_/).map { |name| @reporter.describe(one, name) } }
      end
      @filter = tests && MinitestFilter.new(report.tests)
      stay_in_this_process
      passed = Minitest.run(ARGV.dup)
      report.conclude(title, passed) { classes.sum { |one| one.runnable_methods.size } }
    rescue SystemExit => e
      report.exit_called(e.status)
    rescue StandardError, ScriptError, NoMemoryError, SecurityError, SystemStackError => e
      report.raised(e)
    end

    # Called by Minitest when all plugins had their say.
    def adjust(options)
      reporters = Minitest.reporter.reporters
      reporters.reject! { |reporter| reporter.respond_to?(:io) }
      reporters.unshift(@reporter)
      options[:filter] = options[:include] = @filter if @filter
      $stdout.puts "Run options: #{options[:args]}"
    end

    def depends_on
      []
    end

    private

    # Minitest prints all its options and ends the process if it does not understand one. It also seeds random numbers,
    # which is for its runs.
    def check_arguments
      seed = Random.seed
      words = ARGV - ["--no-plugins"]
      Arguments.check(title) { Minitest.process_args(words) }
      Arguments.refuse_paths(title, words)
      srand(seed)
    end

    # In a process that has run other files, their classes are there, and perhaps this file is.
    def require_file(file)
      runnables = Minitest::Runnable.runnables
      @known_classes |= runnables
      runnables.replace(@shared_classes)
      return if require(File.expand_path(file))

      runnables.concat(Place.classes_in(file, @known_classes - @shared_classes, /\A(test_|bench_)/))
    end

    def stay_in_this_process
      return unless Minitest.parallel_executor.class.name.to_s.start_with?("ActiveSupport::Testing")

      Minitest.parallel_executor = @executor
    end
  end

  # Chooses tests by their ids, where Minitest has a pattern or a name.
  class MinitestFilter
    def initialize(ids)
      @names = ids + ids.map { |id| id.sub(/\[\d+\]#/, "#") }
    end

    # Asked for a method's name, and for its class and name as Minitest writes them.
    def ===(name)
      @names.include?(name.sub(/\A#<Class:0x\h+>#/, "#"))
    end
  end

  # Listens to Minitest as one of its reporters; called by one thread at a time.
  class MinitestReporter
    STATUSES = { "." => "passed", "S" => "skipped", "F" => "failed", "E" => "error" }.freeze

    attr_reader :io

    def initialize(report, names)
      @io = $stdout
      @report = report
      @names = names
      @tests = {}
    end

    def start; end

    def prerecord(test_class, method)
      test = describe(test_class, method)
      @tests[[test_class.name, method]] = test
      @report.test_started(test)
    end

    def record(result)
      test = @tests.delete([result.klass, result.name]) || unannounced(result)
      status = STATUSES.fetch(result.result_code, "failed")
      details = %w[failed error].include?(status) ? result.to_s : ""
      @report.test_finished(test, status, result.time, headline(result.failure), details)
    end

    def report; end

    def passed?
      @report.passed?
    end

    def describe(test_class, method)
      location = test_class.instance_method(method).source_location if test_class.method_defined?(method)
      FileReport.test("#{@names.of(test_class)}##{method}", location)
    end

    private

    # UnexpectedError's own message holds the backtrace, too.
    def headline(failure)
      return failure ? failure.message : "" unless failure.is_a?(Minitest::UnexpectedError)

      "#{failure.error.class}: #{failure.error.message}"
    end

    # A result of a `Minitest::Runnable` of the project's own, which does not say what it begins.
    def unannounced(result)
      FileReport.test("#{result.klass}##{result.name}", result.source_location)
    end
  end
end

DistributestWorker.serve(DistributestWorker::MinitestFramework.new)
