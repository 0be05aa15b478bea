# What a worker process in Ruby does when its run has ended and another one begins.
#
# Stands behind ruby_project.rb in every worker program in Ruby. The agent keeps a worker for another run as long as what it
# has loaded is unchanged, and so is everything else in the project: Ruby does not tell which files are read.

module DistributestWorker
  # What a worker does when its run has ended, and when another one begins.
  class Staying
    # What the project's random numbers begin with, where that was chosen anew for this run.
    attr_reader :seed

    def initialize(framework, agent)
      @framework = framework
      @agent = agent
    end

    def call(message)
      case message["type"]
      when "keep" then keep
      when "renew" then renew(message["environment"])
      end
    end

    private

    def keep
      reason = reason_to_leave
      return @agent.send_message("type" => "unable", "message" => reason) if reason

      files = Loaded.files + @framework.depends_on
      @agent.send_message("type" => "kept", "files" => files.uniq, "all" => false)
    end

    # Why this process has to end with its run; nil: it has nothing to do then that anybody would miss.
    def reason_to_leave
      return "loading the project registered something to be done at its end" if AtExit.registered?
      return "loading the project started threads" unless DistributestWorker.other_threads.empty?
      return "coverage is measured" if Coverage.measured?
    end

    def renew(environment)
      environment.each do |variable|
        name, value = variable.split("=", 2)
        ENV[name] = value
      end
      @seed = @framework.renew if @framework.respond_to?(:renew)
      @agent.ready(@framework.version, keeps: true)
    end
  end

  # What this process has loaded, and where it has looked for that.
  module Loaded
    def self.files
      features = $LOADED_FEATURES.select { |feature| feature.start_with?("/") }
      project = "#{Dir.pwd}/"
      # The agent knows what is in the project.
      directories = $LOAD_PATH.map { |path| File.expand_path(path) }.reject { |path| "#{path}/".start_with?(project) }
      [*features, *directories, *gem_places, *bundler_files]
    end

    # A gem that is installed or removed changes these.
    def self.gem_places
      defined?(Gem) ? Gem.path.map { |path| File.join(path, "specifications") } : []
    end

    def self.bundler_files
      gemfile = ENV["BUNDLE_GEMFILE"].to_s
      named = gemfile.empty? ? [] : [File.expand_path(gemfile), "#{File.expand_path(gemfile)}.lock"]
      [*named, File.expand_path("~/.bundle/config")]
    rescue ArgumentError
      # There is no home.
      named
    end
    private_class_method :gem_places, :bundler_files
  end
end
