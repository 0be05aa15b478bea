# What worker programs in Ruby do with a project: load it as its users' own commands do, and run its files one by one.
#
# Stands behind ruby_worker.rb in every worker program in Ruby. `serve` is the whole of a worker, for a framework that gives
#
# - `name`, as distributest calls it, and `title`, as people do;
# - `require_framework`, which loads it, or raises `Unable`, and `version`;
# - `load`, which reads options and loads what all files share;
# - `load_what_forks_need`, where it is worth having before each file has a fork of its own, and is of no use otherwise;
# - `run(order, witness, agent)`, which runs an order, reports each test, and returns the file's result;
# - `renew`, where there is something that every run has anew;
# - `depends_on`, files, also such that are not there, that it would read if it were loaded now.

require "stringio"

module DistributestWorker
  WITHOUT_PRELOADING = "DISTRIBUTEST_WITHOUT_PRELOADING"
  PROJECT = Dir.pwd
  DIRECTORY = Dir.method(:pwd)
  CHANGE_DIRECTORY = Dir.method(:chdir)
  COLLECTIONS_BEFORE_FORK = 4 # as many as it takes an object to become old

  # Where threads begin that a fork does well without: Ruby's timeout and ActiveRecord's reaper, which are started again
  # where they are needed, and a part of concurrent-ruby that only saves memory.
  HARMLESS_THREADS = %w[/timeout.rb /connection_pool.rb /connection_pool/reaper.rb /ruby_thread_local_var.rb].freeze

  # Why the project's tests can't be run here.
  class Unable < StandardError
    attr_reader :hint

    def initialize(message, hint)
      super(message)
      @hint = hint
    end
  end

  # The words for the framework.
  module Arguments
    # Paths among them choose no files: those that run are handed out one by one.
    def self.refuse_paths(title, paths)
      return if paths.nil? || paths.empty?

      raise Unable.new("#{title} does not run #{paths.first} because it stands behind --",
                       "name files and tests before --: distributest #{paths.first}")
    end

    # Has them parsed by a framework that prints what is wrong, and all there is, before it ends the process.
    def self.check(title)
      output, $stdout = $stdout, StringIO.new
      yield
    rescue SystemExit
      output.print($stdout.string)
      said = $stdout.string.lines.map(&:strip).find { |line| !line.empty? }
      raise Unable.new("#{title} does not take these arguments: #{said}", "see #{title}'s --help for what it takes")
    ensure
      $stdout = output
    end
  end

  def self.serve(framework)
    descriptor = Integer(ENV.delete("DISTRIBUTEST_FD"))
    isolation = ENV.delete("DISTRIBUTEST_ISOLATION") || "fork"
    preload = ENV.delete(WITHOUT_PRELOADING).nil?
    may_stay = ENV.delete("DISTRIBUTEST_MAY_STAY") == "1"
    $PROGRAM_NAME = framework.name
    $stdout.sync = true
    $stderr.sync = true
    agent = Agent.new(descriptor, framework.name)
    supervisor = Supervisor.new(agent)
    if isolation == "fork"
      serve_by_forking(framework, agent, supervisor, preload)
    else
      # The supervisor has loaded nothing yet: the child is as good as a process of its own.
      serve_files = may_stay ? :serve_and_stay : :serve_in_this_process
      report_end(agent, supervisor, supervisor.run { |witness| send(serve_files, framework, agent, witness) })
    end
  end

  # Tells how a process ended that ran many files, unless it did so in order.
  def self.report_end(agent, supervisor, ended)
    if ended.file
      ended.usage = {} # that of all its files
      supervisor.report_death(ended)
    elsif ended.failed_behind_last_file?
      agent.end_failed("behind the last file, the process that ran the files #{ended.how}")
    end
  end

  def self.serve_by_forking(framework, agent, supervisor, preload)
    seed = Random.seed
    AtExit.keep_to_this_process do
      or_give_up(framework, agent) do
        framework.require_framework
        if preload
          framework.load
          framework.load_what_forks_need if framework.respond_to?(:load_what_forks_need)
        end
      end
    end
    start_anew_without_preloading(agent) if preload && Connections.in_memory?
    Connections.close
    Coverage.expect_nothing
    project_seed = Random.seed unless Random.seed == seed
    warn_of_threads
    QuickExit.watch
    warm_up
    staying = Staying.new(framework, agent)
    staying.ready
    agent.each_order(staying) do |order|
      project_seed = staying.seed if staying.seed
      ended = supervisor.run(order.file) do |witness|
        QuickExit.prepare
        # Ruby gives every fork random numbers of its own; those of a project that wants the same every time stay.
        srand(project_seed) if project_seed
        Coverage.resume
        result = framework.run(order, witness, agent)
        Coverage.expect_nothing
        witness.finish(result.merge(Meter.peak_memory))
      end
      ended.result ? agent.finished(ended.final_result) : supervisor.report_death(ended)
    end
  end

  def self.serve_in_this_process(framework, agent, witness)
    or_give_up(framework, agent) do
      framework.require_framework
      framework.load
    end
    Coverage.distinguish_process
    agent.ready(framework.version)
    run_files(framework, agent, witness)
  end

  # Runs all files of a run in one fork, if that is as good as this process, which stays as it is for the next run.
  def self.serve_and_stay(framework, agent, witness)
    staying = Staying.new(framework, agent)
    seed = Random.seed
    AtExit.watch do
      or_give_up(framework, agent) do
        framework.require_framework
        framework.load
      end
    end
    if (reason = staying.reason_not_to_fork)
      Coverage.distinguish_process
      staying.ready
      return run_files(framework, agent, witness, ->(_) { staying.refuse(reason) })
    end

    project_seed = Random.seed unless Random.seed == seed
    framework.load_what_forks_need if framework.respond_to?(:load_what_forks_need)
    QuickExit.watch
    warm_up
    trap(STACKS_SIGNAL, "DEFAULT")
    witness.begin_watch
    supervisor = Supervisor.new(agent)
    staying.ready
    loop do
      ended = supervisor.run do |run_witness|
        QuickExit.prepare
        srand(project_seed) if project_seed
        run_files(framework, agent, run_witness, ->(_) { :end })
      end
      report_end(agent, supervisor, ended)
      return unless ended.stays?

      staying.keep
      message = agent.await_message or return
      staying.call(message)
      project_seed = staying.seed if staying.seed
    end
  end

  # Runs files in this process. `keep` takes the message that asks it to stay.
  def self.run_files(framework, agent, witness, keep = nil)
    stays = has_run = false
    is_kept = ->(message) { keep.call(message).tap { |answer| stays = answer == :end } } if keep
    agent.each_order(is_kept) do |order|
      return_to_project
      has_run = true
      witness.begin(order.file)
      meter = Meter.begin
      result = framework.run(order, witness, agent)
      Coverage.expect_nothing
      witness.clear
      agent.finished(result.merge(meter.read))
    end
    witness.begin_end(stays) if has_run || stays
  end

  # A file before may have left, or put something else in the place of `Dir`.
  def self.return_to_project
    CHANGE_DIRECTORY.call(PROJECT) unless DIRECTORY.call == PROJECT
  rescue SystemCallError, RuntimeError
    # Another thread is somewhere else, which a second one may not leave; or the project is gone.
    nil
  end

  # Does the work; where that is impossible, tells the agent why and ends the process.
  def self.or_give_up(framework, agent)
    yield
  rescue Unable => e
    agent.send_message("type" => "unable", "message" => Text.line(e.message), "hint" => e.hint)
    exit!(0)
  rescue SystemExit => e
    # `abort` was called with a message, by the framework about its options or by the project.
    message = "#{framework.title} ended while it loaded this project: #{e.message} (exit status #{e.status})"
    hint = "see the worker's output; #{framework.title} alone ends in the same way"
    agent.send_message("type" => "unable", "message" => Text.line(message), "hint" => hint)
    exit!(0)
  end

  # Makes every object old, so that collections in the forks leave them, and the memory they share, alone.
  def self.warm_up
    return Process.warmup if Process.respond_to?(:warmup)

    COLLECTIONS_BEFORE_FORK.times { GC.start }
  end

  # Replaces this process by one that leaves the loading to its forks.
  def self.start_anew_without_preloading(agent)
    warn "distributest: the project keeps a database in memory, which a fork would lose: nothing is preloaded"
    descriptor = agent.keep_for_restart
    environment = { "DISTRIBUTEST_FD" => descriptor.to_s, WITHOUT_PRELOADING => "1" }
    exec(environment, RbConfig.ruby, __FILE__, *ARGV, descriptor => descriptor)
  end

  def self.other_threads
    (Thread.list - [Thread.current]).reject { |thread| HARMLESS_THREADS.any? { |file| thread.inspect.include?(file) } }
  end

  def self.warn_of_threads
    return if other_threads.empty?

    warn "distributest: loading the project started #{other_threads.size} thread(s), which do not exist in the forked " \
         "processes that run the test files; if tests need them, set isolation = \"process\": " \
         "#{other_threads.map(&:inspect).join(', ')}"
  end

  # ------------------------------------------------------------------------------------------------------------------
  # Loading

  # The gems a project wants, as its users' `bundle exec` would find them.
  module Bundle
    INSTALL_HINT = "run `bundle install` in node_setup, with the ruby the tests run with; tests that need no bundle run " \
                   "with BUNDLE_GEMFILE = \"\" in [env]"

    # As the project names it; Bundler makes its environment variable an absolute path.
    def self.gemfile
      @gemfile ||= ENV.fetch("BUNDLE_GEMFILE") { %w[Gemfile gems.rb].find { |name| File.file?(name) } }.to_s
    end

    def self.gemfile?
      !gemfile.empty?
    end

    def self.set_up
      return unless gemfile?

      begin
        require "bundler"
      rescue LoadError
        raise Unable.new("there is a #{gemfile}, but no Bundler for #{ruby}", "gem install bundler in node_setup")
      end
      Bundler.setup
    rescue StandardError => e
      raise unless defined?(Bundler::BundlerError) && e.is_a?(Bundler::BundlerError)

      raise Unable.new("the bundle of #{gemfile} can't be set up with #{ruby}: #{e.message}", INSTALL_HINT)
    end

    # Requires a file of a gem that must be there.
    def self.require_gem(gem, file, title)
      set_up
      require file
    rescue LoadError => e
      raise unless e.path.nil? || e.path == file

      where, how = gemfile? ? ["in the bundle of #{gemfile}", "add `gem \"#{gem}\"` to #{gemfile} and run bundle install"]
                           : ["installed", "gem install #{gem}"]
      raise Unable.new("#{title} is not #{where} for #{ruby}", "install it where the tests run, in node_setup: #{how}")
    end

    def self.require_version(title, gem, version, oldest)
      return unless Gem::Version.new(version) < Gem::Version.new(oldest)

      raise Unable.new("#{title} #{version} is too old: #{oldest} or newer is needed",
                       "install a newer one where the tests run, in node_setup: gem install #{gem}")
    end

    def self.ruby
      "#{RbConfig.ruby} (Ruby #{RUBY_VERSION})"
    end
  end

  # What frameworks that are started with `ruby -Ilib -Itest` have in common.
  module Preloading
    DIRECTORIES = %w[spec test lib].freeze
    RAILS_APPLICATION = "config/application.rb"

    # The load path and the environment that `rake test` or `rails test` would give the project.
    def self.prepare
      DIRECTORIES.each { |name| $LOAD_PATH.unshift(File.expand_path(name)) if File.directory?(name) }
      ENV["RAILS_ENV"] ||= "test" if File.file?(RAILS_APPLICATION)
    end

    # Loads the first of these files that exists. If it can't be loaded, so can't the files that require it, and say so.
    def self.load_helper(names)
      helper = names.find { |name| File.file?(name) }
      require File.expand_path(helper) if helper
    rescue StandardError, ScriptError => e
      warn "distributest: #{helper} can't be loaded ahead: #{e.class}: #{e.message}"
    end
  end

  # Where a test stands, from what `Method#source_location` says: nothing where that is outside of the project.
  module Place
    def self.of(location)
      path, line = location
      path = File.expand_path(path, PROJECT) if path
      return {} unless path&.start_with?("#{PROJECT}/")

      { "file" => path.delete_prefix("#{PROJECT}/"), "line" => line }
    end

    # Those of the classes that have a method of their own, named so, in the file.
    def self.classes_in(file, classes, names)
      path = File.realpath(file)
      classes.select do |one|
        one.public_instance_methods(false).grep(names).any? do |method|
          found, = one.instance_method(method).source_location
          found && File.exist?(found) && File.realpath(found) == path
        end
      end
    end
  end

  # Names of test classes, each for one class only: the second of a name has a number behind it.
  class ClassNames
    # `classes` in the order of their definition.
    def initialize(classes)
      @names = {}.compare_by_identity
      classes.group_by { |one| one.name.to_s }.each do |name, same|
        same.each.with_index(1) { |one, number| @names[one] = number == 1 ? name : "#{name}[#{number}]" }
      end
    end

    def of(test_class)
      @names[test_class] || test_class.name.to_s
    end
  end

  # What is said to the agent of one file, for frameworks that run test methods of classes.
  #
  # A test is what `FileReport.test` makes of an id, which is also its name, and a place in the sources.
  class FileReport
    def self.test(id, location)
      { "id" => id, "name" => id }.merge(Place.of(location))
    end

    # `tests` are the ids of those to be reported; nil: all.
    def initialize(file, tests, witness, agent)
      @file = file
      @tests = tests
      @witness = witness
      @agent = agent
      @running = [] # more than one where tests run in threads
      @reported = []
      @failed = @loaded = false
      @errors = []
    end

    # The block gives the tests there are, as `test` makes them; it is asked where one is not named by its id.
    def file_loaded
      @loaded = true
      return if @tests.nil? || @tests.all? { |id| id.include?("#") }

      tests = yield
      @tests = @tests.flat_map do |id|
        found = id.include?("#") ? [] : ids_by(id, tests)
        found.empty? ? [id] : found
      end.uniq
    end

    # The ids of the tests to be reported; nil: all.
    attr_reader :tests

    def test_started(test)
      @running << test
      note_running
    end

    def test_finished(test, status, seconds, message, details)
      failed = %w[failed error].include?(status)
      @agent.end_stray(failed ? 1 : 0)
      @running.delete(test)
      note_running
      return unless wanted?(test)

      @failed ||= failed
      @reported << test["id"]
      send_test(test, status, seconds, message, details)
    end

    # Something went wrong that belongs to no test.
    def error(message, details)
      @errors << [message, details]
    end

    def passed?
      !@failed && @errors.empty?
    end

    # The ends that running a file can have, each as the file's result.

    # `passed` is what the framework says of its run; the block says how many tests there were to choose from.
    def conclude(framework, passed)
      interrupted = @running.select { |test| wanted?(test) }
      interrupted.each { |test| send_test(test, "error", 0, "it was interrupted", "") }
      missing = (@tests || []) - [*@reported, *interrupted.map { |test| test["id"] }]
      return result("failed", *outside_of_tests) unless @errors.empty?
      return result("failed", "#{interrupted.first['id']} was interrupted") unless interrupted.empty?
      return result("failed", "there is no test #{missing.join(', ')}") unless missing.empty?
      return result("failed") if @failed
      return result("failed", "no test failed, but #{framework} says that its run did") unless passed

      result("passed", @reported.empty? ? why_no_tests(yield) : "")
    end

    def exit_called(status)
      @agent.end_stray(status)
      message = "`exit` was called with status #{status}"
      return result("broken", "SystemExit: #{message}", message) unless @loaded

      message += " in #{@running.last['id']}" unless @running.empty?
      @running.each { |test| send_test(test, "error", 0, message, "") }
      result("failed", message)
    end

    # By the file while it was loaded, or by something that the framework lets pass.
    def raised(error)
      @agent.end_stray(1)
      message = "#{error.class}: #{error.message}"
      details = error.full_message(highlight: false)
      return result("broken", message, details) unless @loaded

      @running.each { |test| send_test(test, "error", 0, message, details) }
      result("failed", "an error occurred outside of tests: #{message}", details)
    end

    private

    # What is asked for by a line of the file (`:12`), which is that of the last test that begins there or above, or by the
    # name of a class.
    def ids_by(wanted, tests)
      line = wanted[/\A:(\d+)\z/, 1]
      return tests.map { |test| test["id"] }.select { |id| id.start_with?("#{wanted}#") } unless line

      above = tests.select { |test| test["file"] == @file && test["line"].to_i <= line.to_i }
      at = above.map { |test| test["line"] }.max
      above.select { |test| test["line"] == at }.map { |test| test["id"] }
    end

    # Which one of several has ended the process, nobody knows.
    def note_running
      @running.size == 1 ? @witness.enter_test(@file, @running.first) : @witness.begin(@file)
    end

    def wanted?(test)
      @tests.nil? || @tests.include?(test["id"])
    end

    def result(outcome, message = "", details = "")
      { "outcome" => outcome, "message" => Text.line(message), "details" => Text.cut(details) }
    end

    def outside_of_tests
      ["an error occurred outside of tests: #{@errors.first.first}", @errors.map(&:last).join("\n")]
    end

    def why_no_tests(count)
      count.zero? ? "no tests" : "none of #{count} tests was chosen"
    end

    def send_test(test, status, seconds, message, details)
      @agent.send_message(
        { "type" => "test", "status" => status, "seconds" => seconds || 0,
          "message" => Text.line(message), "details" => Text.cut(details) }.merge(test)
      )
    end
  end
end
