# Runs RSpec files for distributest: RSpec and the project's helper are loaded once, each file runs in a fork.
#
# Started by an agent, which talks to it over the descriptor in DISTRIBUTEST_FD (see proto/worker.md). Needs RSpec 3.5 or
# newer on Ruby 2.7 or newer, and nothing else. The command line after this file's name is RSpec's own: `--tag`, `-r`.
#
# How it works. `RspecFramework#load` does what `rspec` does before it loads spec files: it reads the options (`.rspec`,
# `.rspec-local`, `~/.rspec`, SPEC_OPTS) and loads what they require. Then it loads `rails_helper` and `spec_helper`, if
# spec files require them: in a plain `rspec`, whatever one spec file requires is there for all of them, too. For each
# file a process is forked from there; it loads the file and runs its examples with RSpec's own runner, suite hooks
# included. With isolation "shared" and "process" the whole work is done in one child process instead.
#
# Formatters named in options are not used: every result is reported over the socket. What examples, hooks and RSpec itself
# print goes where they print it.

module DistributestWorker
  OLDEST_RSPEC = "3.5"
  SPEC_FILES_LOOKED_INTO = 500
  PLAIN_RSPEC_HINT = "see the worker's output; plain `rspec` fails in the same way"

  # An RSpec that has read its options and loaded what they and the spec files require.
  class RspecFramework
    def name
      "rspec"
    end

    def title
      "RSpec"
    end

    def version
      RSpec::Core::Version::STRING
    end

    def require_framework
      Bundle.require_gem("rspec", "rspec/core", title)
      Bundle.require_version(title, "rspec", version, OLDEST_RSPEC)
      ENV["RAILS_ENV"] ||= "test" if File.file?(Preloading::RAILS_APPLICATION)
      RSpec::Core::Runner.disable_autorun!
    end

    # Reads the options, and loads what they require and the helpers that spec files require.
    def load
      @loaded = true
      @recorder = Recorder.new
      options = RSpec::Core::ConfigurationOptions.new(ARGV.dup)
      Arguments.refuse_paths(title, RSpec::Core::Parser.parse(ARGV.dup)[:files_or_directories_to_run])
      options.options.delete(:formatters)
      @runner = RSpec::Core::Runner.new(options)
      # This program, and what Rails puts between it and the examples.
      configuration.backtrace_exclusion_patterns.push(/\A#{Regexp.escape(__FILE__)}:/, %r{/active_support/fork_tracker\.rb:})
      listen
      @runner.configure($stderr, $stdout)
      unless @recorder.errors.empty?
        raise Unable.new("RSpec does not load this project: #{@recorder.headline_of_errors}", PLAIN_RSPEC_HINT)
      end

      helpers_spec_files_require.each { |helper| preload(helper) }
    end

    # RSpec loads these when the first example group is defined, which is in every fork. Which ones is still open then.
    def load_what_forks_need
      configuration.mock_framework
      configuration.expectation_frameworks
      matchers = defined?(RSpec::Matchers::BuiltIn) ? RSpec::Matchers::BuiltIn : Module.new
      matchers.constants.each { |name| matchers.const_get(name) }
      %i[DeprecationFormatter ExceptionPresenter].each { |name| RSpec::Core::Formatters.const_get(name) }
      RSpec::Support.require_rspec_core("profiler")
    end

    # Runs one file and returns its result; its examples are reported on the way.
    def run(order, witness, agent)
      load unless @loaded
      reset if @has_run
      @has_run = true
      @recorder.begin(order.file, witness, agent)
      configuration.files_to_run = [order.file]
      select(order.tests) if order.tests
      configuration.load_spec_files
      @recorder.file_loaded
      keep_part(order) if order.in_parts?
      world.announce_filters
      status = world.wants_to_quit ? 1 : @runner.run_specs(world.ordered_example_groups)
      @runner.send(:persist_example_statuses) unless world.wants_to_quit
      @recorder.conclude(status, missing(order.tests))
    rescue Unable => e
      { "outcome" => "broken", "message" => Text.line(e.message), "details" => "" }
    rescue SystemExit => e
      agent.end_stray(e.status)
      @recorder.exit_called(e.status)
      @recorder.conclude(1)
    end

    # Every run has an order of its own, unless one was asked for. Returns its seed if the project's random numbers, too,
    # begin with that.
    def renew
      ordering = configuration.instance_variable_get(:@ordering_manager)
      return if ordering.nil? || ordering.instance_variable_get(:@seed_forced)

      is_projects = Random.seed == configuration.seed
      ordering.instance_variable_set(:@seed, Random.new_seed % 0xFFFF)
      return unless is_projects

      srand(configuration.seed)
      configuration.seed
    end

    def depends_on
      places = ["~/.rspec", "#{ENV.fetch('XDG_CONFIG_HOME', '~/.config')}/rspec/options"]
      places.map { |place| File.expand_path(place) }
    rescue ArgumentError
      # There is no home.
      []
    end

    private

    def configuration
      RSpec.configuration
    end

    def world
      RSpec.world
    end

    # Ids are of the form `./spec/a_spec.rb[1:2]`, of an example or a group, or `./spec/a_spec.rb:12`.
    def select(tests)
      tests.each do |id|
        case id
        when /\A(.+)\[([\d:]+)\]\z/m then configuration.filter_manager.add_ids($1, [$2])
        when /\A(.+):(\d+)\z/m then configuration.filter_manager.add_location($1, [$2.to_i])
        end
      end
    end

    # Leaves out the examples that belong to other parts of the file.
    def keep_part(order)
      @recorder.collected = DistributestWorker.digest_of_ids(world.all_examples.map(&:id))
      named = (order.only || order.except).to_h { |id| [id, true] }
      world.all_example_groups.each do |group|
        kept = world.filtered_examples[group].select { |example| named.key?(example.id) == !order.only.nil? }
        world.filtered_examples[group] = kept
      end
    end

    # Those of the ids that name nothing in the file.
    def missing(tests)
      ids = world.all_examples.map(&:id) if tests
      (tests || []).reject do |id|
        id.match?(/:\d+\z/) || ids.any? { |known| known == id || known.start_with?("#{id.delete_suffix(']')}:") }
      end
    end

    def listen
      RSpec::Core::Formatters.register(Silent, :close)
      configuration.add_formatter(Silent)
      configuration.reporter.register_listener(
        @recorder, :message, :example_started, :example_passed, :example_failed, :example_pending
      )
      recorder = @recorder
      configuration.reporter.define_singleton_method(:notify_non_example_exception) do |exception, context|
        recorder.next_message_is_error = true
        super(exception, context)
      end
    end

    # Makes room for the next file in the same process.
    def reset
      world.reset
      world.wants_to_quit = false
      world.non_example_failure = false if world.respond_to?(:non_example_failure=)
      %i[ids locations].each { |rule| configuration.filter_manager.inclusions.delete(rule) }
      configuration.reset_reporter
      listen
    end

    def helpers_spec_files_require
      configuration.files_to_run.first(SPEC_FILES_LOOKED_INTO).each_with_object([]) do |file, found|
        break found if found.size == 2

        text = File.binread(file, 16_384).to_s
        %w[rails_helper spec_helper].each do |helper|
          path = File.join(configuration.default_path.to_s, "#{helper}.rb")
          next if found.include?(path) || !File.file?(path)

          found << path if text.match?(/^\s*require(_relative)?[\s(]+["'][^"']*\b#{helper}["']/n)
        end
      end
    end

    def preload(helper)
      require File.expand_path(helper)
    rescue StandardError, ScriptError => e
      # The file that requires it will report the same error as its own.
      warn "distributest: #{helper} can't be loaded ahead: #{e.class}: #{e.message}"
    end
  end

  # A formatter that prints nothing, so that RSpec does not choose one.
  class Silent
    def initialize(_output); end

    def close(_notification); end
  end

  # Listens to RSpec's reporter.
  class Recorder
    OUTSIDE_OF_EXAMPLES = "an error occurred outside of examples"

    attr_reader :errors
    attr_writer :next_message_is_error, :collected

    def initialize
      @errors = []
    end

    def begin(file, witness, agent)
      @file = file
      @witness = witness
      @agent = agent
      @errors = []
      @examples = 0
      @current = nil
      @collected = nil
      @loaded = false
      @exit = nil
      @failed = false
    end

    # RSpec goes on after an error in a file it loads, and says of it what it says of one outside of examples.
    def file_loaded
      @loaded = @errors.empty?
    end

    # What RSpec has to say besides examples: notes on filters, and errors outside of examples.
    def message(notification)
      $stdout.puts(notification.message)
      return unless @next_message_is_error

      @errors << notification.message
      @next_message_is_error = false
    end

    def example_started(notification)
      @current = describe(notification.example)
      @witness.enter_test(@file, @current)
    end

    def example_passed(notification)
      report(notification.example, "passed", "", "")
    end

    def example_pending(notification)
      result = notification.example.execution_result
      status = result.example_skipped? ? "skipped" : "expected_failure"
      report(notification.example, status, result.pending_message, "")
    end

    def example_failed(notification)
      @failed = true
      exception = notification.example.execution_result.exception
      report(notification.example, "failed", headline(exception), account(notification, exception))
    end

    # RSpec reports it itself while it loads a file, but not while an example runs.
    def exit_called(status)
      return unless @errors.empty? || @loaded

      @exit = "`exit` was called with status #{status}#{" in #{@current['id']}" if @current}"
      send_test(@current, "error", 0, @exit, "") if @current
    end

    # The file's result, by the first of these that holds.
    def conclude(status, missing = [])
      result = judge(status, missing)
      @collected ? result.merge("collected" => @collected) : result
    end

    # RSpec's text: a line that says where, the source line, and the error.
    def headline_of_errors
      lines = Text.clean(@errors.first).lines.map(&:strip).reject(&:empty?)
      error = lines.find { |line| line.match?(/\A[A-Z][\w:]*(Error|Exception|Exit)?:\z/) }
      return lines.first.to_s unless error

      "#{error} #{lines[lines.index(error) + 1]}"
    end

    private

    def judge(status, missing)
      errors = [*@errors, *@exit].join("\n")
      return result("broken", @exit || headline_of_errors, errors) unless @loaded || errors.empty?
      return result("failed", @exit || "#{OUTSIDE_OF_EXAMPLES}: #{headline_of_errors}", errors) unless errors.empty?
      return result("failed", "there is no example #{missing.join(', ')}") unless missing.empty?
      return result("failed") if @failed
      return result("failed", "no example failed, but RSpec ended with exit status #{status}") unless status.zero?

      result("passed", @examples.zero? ? "no examples" : "")
    end

    def result(outcome, message = "", details = "")
      { "outcome" => outcome, "message" => Text.line(message), "details" => Text.cut(details) }
    end

    def report(example, status, message, details)
      @agent.end_stray(status == "failed" ? 1 : 0)
      @current = nil
      @witness.begin(@file)
      @examples += 1
      send_test(describe(example), status, example.execution_result.run_time || 0, message, details)
    end

    def send_test(test, status, seconds, message, details)
      @agent.send_message(
        { "type" => "test", "status" => status, "seconds" => seconds,
          "message" => Text.line(message), "details" => Text.cut(details) }.merge(test)
      )
    end

    def describe(example)
      { "id" => example.id, "name" => example.full_description,
        "file" => example.metadata[:file_path].delete_prefix("./"), "line" => example.metadata[:line_number] }
    end

    # As RSpec has it; in plain words where a test has closed its output or removed its directory, both of which RSpec looks at.
    def account(notification, exception)
      notification.fully_formatted(nil)
    rescue StandardError
      [headline(exception), *exception.backtrace].join("\n")
    end

    def headline(exception)
      expectation = %w[RSpec::Expectations:: RSpec::Mocks:: RSpec::Core::Pending]
      name = exception.class.name.to_s
      name.start_with?(*expectation) ? exception.message : "#{name}: #{Text.clean(exception.message).strip}"
    end
  end
end

DistributestWorker.serve(DistributestWorker::RspecFramework.new)
