# Runs RSpec files for distributest: RSpec and the project's helper are loaded once, each file runs in a fork.
#
# Started by an agent, which talks to it over the descriptor in DISTRIBUTEST_FD (see proto/worker.md). Needs RSpec 3.5 or
# newer on Ruby 2.7 or newer, and nothing else. The command line after this file's name is RSpec's own: `--tag`, `-r`.
#
# How it works. `Prepared#load` does what `rspec` does before it loads spec files: the bundle, the options (`.rspec`,
# `.rspec-local`, `~/.rspec`, SPEC_OPTS) and what they require. Then it loads `rails_helper` and `spec_helper`, if spec
# files require them: in a plain `rspec`, whatever one spec file requires is there for all of them, too. For each file a
# process is forked from there; it loads the file and runs its examples with RSpec's own runner, suite hooks included.
# With isolation "shared" and "process" the whole work is done in one child process instead.
#
# Rules:
# - An `at_exit` block runs once, in the process that registered it: a forked process leaves with those it registered
#   itself, this one with those registered while the project was loaded. SimpleCov is started anew in each fork, and
#   its results are merged by the block it has registered here.
# - Formatters named in options are not used: every result is reported over the socket. What examples, hooks and
#   RSpec itself print goes where they print it.
# - A database kept in this process's memory does not survive a fork. Where the project has one, nothing is preloaded.

module DistributestWorker
  OLDEST_RSPEC = "3.5"
  SPEC_FILES_LOOKED_INTO = 500
  INSTALL_HINT = "install it where the tests run, for example in node_setup: bundle install, or gem install rspec"
  PLAIN_RSPEC_HINT = "see the worker's output; plain `rspec` fails in the same way"
  WITHOUT_PRELOADING = "DISTRIBUTEST_WITHOUT_PRELOADING"

  # Why there can be no RSpec for this project here.
  class Unable < StandardError
    attr_reader :hint

    def initialize(message, hint)
      super(message)
      @hint = hint
    end
  end

  def self.main
    descriptor = Integer(ENV.delete("DISTRIBUTEST_FD"))
    isolation = ENV.delete("DISTRIBUTEST_ISOLATION") || "fork"
    preload = ENV.delete(WITHOUT_PRELOADING).nil?
    $PROGRAM_NAME = "rspec"
    $stdout.sync = true
    $stderr.sync = true
    agent = Agent.new(descriptor, "rspec")
    supervisor = Supervisor.new(agent)
    if isolation == "fork"
      serve_by_forking(agent, supervisor, preload)
    else
      # The supervisor has loaded nothing yet: the child is as good as a process of its own.
      death = supervisor.run { |witness| serve_in_this_process(agent, witness) }
      supervisor.report_death(death) if death.file
    end
  end

  def self.serve_by_forking(agent, supervisor, preload)
    seed = Random.seed
    prepared = Prepared.new
    AtExit.keep_to_this_process do
      or_give_up(agent) do
        prepared.require_rspec
        prepared.load if preload
      end
    end
    Databases.start_anew_without_preloading(agent) if preload && Databases.in_memory?
    Databases.disconnect
    project_seeded_random = Random.seed != seed
    warn_of_threads
    Process.respond_to?(:warmup) ? Process.warmup : GC.start
    agent.ready(prepared.version)
    agent.each_file do |file|
      ended = supervisor.run(file) do |witness|
        srand unless project_seeded_random
        AtExit.resume_coverage
        witness.finish(prepared.run(file, witness, agent))
      end
      ended.result ? agent.finished(ended.final_result) : supervisor.report_death(ended)
    end
  end

  def self.serve_in_this_process(agent, witness)
    prepared = Prepared.new
    or_give_up(agent) do
      prepared.require_rspec
      prepared.load
    end
    agent.ready(prepared.version)
    agent.each_file do |file|
      witness.begin(file)
      result = prepared.run(file, witness, agent)
      witness.clear
      agent.finished(result)
    end
  end

  # Does the work; where that is impossible, tells the agent why and ends the process.
  def self.or_give_up(agent)
    yield
  rescue Unable => e
    agent.send_message("type" => "unable", "message" => Text.line(e.message), "hint" => e.hint)
    exit!(0)
  rescue SystemExit => e
    # `abort` was called with a message, by RSpec about its options or by the project.
    message = "RSpec ended while it loaded this project: #{e.message} (exit status #{e.status})"
    agent.send_message("type" => "unable", "message" => Text.line(message), "hint" => PLAIN_RSPEC_HINT)
    exit!(0)
  end

  def self.warn_of_threads
    others = Thread.list - [Thread.current]
    # Ruby's own timeout thread is started again where it is needed.
    others.reject! { |thread| thread.inspect.include?("timeout.rb") }
    return if others.empty?

    warn "distributest: loading the project started #{others.size} thread(s), which do not exist in the forked processes " \
         "that run the spec files; if specs need them, set isolation = \"process\": #{others.map(&:inspect).join(', ')}"
  end

  # ActiveRecord's connections: two processes must not talk over one.
  module Databases
    def self.in_memory?
      return false unless pools

      pools.any? do |pool|
        configuration = pool.respond_to?(:db_config) ? pool.db_config.configuration_hash : pool.spec.config
        configuration[:adapter].to_s.start_with?("sqlite") && configuration[:database].to_s.include?(":memory:")
      end
    end

    def self.disconnect
      ActiveRecord::Base.connection_handler.clear_all_connections! if pools
    end

    def self.pools
      ActiveRecord::Base.connection_handler.connection_pool_list if defined?(ActiveRecord::Base)
    end

    # Replaces this process by one that leaves the loading to its forks.
    def self.start_anew_without_preloading(agent)
      warn "distributest: the project keeps a database in memory, which a fork would lose: nothing is preloaded"
      descriptor = agent.keep_for_restart
      environment = { "DISTRIBUTEST_FD" => descriptor.to_s, WITHOUT_PRELOADING => "1" }
      exec(environment, RbConfig.ruby, __FILE__, *ARGV, descriptor => descriptor)
    end
  end

  # An RSpec that has read its options and loaded what they and the spec files require.
  class Prepared
    def version
      RSpec::Core::Version::STRING
    end

    def require_rspec
      set_up_bundle
      begin
        require "rspec/core"
      rescue LoadError
        raise Unable.new("RSpec is not installed for #{RbConfig.ruby} (Ruby #{RUBY_VERSION})", INSTALL_HINT)
      end
      if Gem::Version.new(version) < Gem::Version.new(OLDEST_RSPEC)
        raise Unable.new("RSpec #{version} is too old: #{OLDEST_RSPEC} or newer is needed", INSTALL_HINT)
      end

      RSpec::Core::Runner.disable_autorun!
    end

    # Reads the options, and loads what they require and the helpers that spec files require.
    def load
      @loaded = true
      @recorder = Recorder.new
      options = RSpec::Core::ConfigurationOptions.new(ARGV.dup)
      options.options.delete(:formatters)
      @runner = RSpec::Core::Runner.new(options)
      configuration.backtrace_exclusion_patterns << /\A#{Regexp.escape(__FILE__)}:/
      listen
      @runner.configure($stderr, $stdout)
      unless @recorder.errors.empty?
        raise Unable.new("RSpec does not load this project: #{@recorder.headline_of_errors}", PLAIN_RSPEC_HINT)
      end

      helpers_spec_files_require.each { |helper| preload(helper) }
      load_what_examples_need
    end

    # Runs one file and returns its result; its examples are reported on the way.
    def run(file, witness, agent)
      load unless @loaded
      reset if @has_run
      @has_run = true
      @recorder.begin(file, witness, agent)
      configuration.files_to_run = [file]
      configuration.load_spec_files
      @recorder.file_loaded
      world.announce_filters
      status = world.wants_to_quit ? 1 : @runner.run_specs(world.ordered_example_groups)
      @runner.send(:persist_example_statuses) unless world.wants_to_quit
      @recorder.conclude(status)
    rescue Unable => e
      { "outcome" => "broken", "message" => Text.line(e.message), "details" => "" }
    rescue SystemExit => e
      agent.end_stray(e.status)
      @recorder.exit_called(e.status)
      @recorder.conclude(1)
    end

    private

    def configuration
      RSpec.configuration
    end

    def world
      RSpec.world
    end

    # The bundle, as `bundle exec` would set it up. Where that fails, RSpec may still be installed outside of it.
    def set_up_bundle
      return unless ENV["BUNDLE_GEMFILE"] || File.file?("Gemfile") || File.file?("gems.rb")

      require "bundler"
      Bundler.setup
    rescue LoadError
      nil
    rescue StandardError => e
      raise unless defined?(Bundler::BundlerError) && e.is_a?(Bundler::BundlerError)

      warn "distributest: running without the bundle, which can't be set up: #{e.message}"
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

    # RSpec loads these when the first example group is defined, which is in every fork. Which ones is still open then.
    def load_what_examples_need
      configuration.mock_framework
      configuration.expectation_frameworks
      matchers = defined?(RSpec::Matchers::BuiltIn) ? RSpec::Matchers::BuiltIn : Module.new
      matchers.constants.each { |name| matchers.const_get(name) }
      %i[DeprecationFormatter ExceptionPresenter].each { |name| RSpec::Core::Formatters.const_get(name) }
      RSpec::Support.require_rspec_core("profiler")
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
    attr_writer :next_message_is_error

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
      report(notification.example, "failed", headline(exception), notification.fully_formatted(nil))
    end

    # RSpec reports it itself while it loads a file, but not while an example runs.
    def exit_called(status)
      return unless @errors.empty? || @loaded

      @exit = "`exit` was called with status #{status}#{" in #{@current['id']}" if @current}"
      send_test(@current, "error", 0, @exit, "") if @current
    end

    # The file's result, by the first of these that holds.
    def conclude(status)
      errors = [*@errors, *@exit].join("\n")
      return result("broken", @exit || headline_of_errors, errors) unless @loaded || errors.empty?
      return result("failed", @exit || "#{OUTSIDE_OF_EXAMPLES}: #{headline_of_errors}", errors) unless errors.empty?
      return result("failed") if @failed
      return result("failed", "no example failed, but RSpec ended with exit status #{status}") unless status.zero?

      result("passed", @examples.zero? ? "no examples" : "")
    end

    # RSpec's text: a line that says where, the source line, and the error.
    def headline_of_errors
      lines = Text.clean(@errors.first).lines.map(&:strip).reject(&:empty?)
      error = lines.find { |line| line.match?(/\A[A-Z][\w:]*(Error|Exception|Exit)?:\z/) }
      return lines.first.to_s unless error

      "#{error} #{lines[lines.index(error) + 1]}"
    end

    private

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

    def headline(exception)
      expectation = %w[RSpec::Expectations:: RSpec::Mocks:: RSpec::Core::Pending]
      name = exception.class.name.to_s
      name.start_with?(*expectation) ? exception.message : "#{name}: #{exception.message.to_s.strip}"
    end
  end
end

DistributestWorker.main
