# What a worker process in Ruby does when its run has ended and another one begins.
#
# Stands behind ruby_forking.rb in every worker program in Ruby. The agent keeps a worker for another run as long as what it
# has loaded is unchanged, and so is everything else in the project: Ruby does not tell which files are read.

module DistributestWorker
  # What a worker does when its run has ended, and when another one begins.
  class Staying
    # What the project's random numbers begin with, where that was chosen anew for this run.
    attr_reader :seed

    # To be made before the project is loaded.
    def initialize(framework, agent)
      @framework = framework
      @agent = agent
      @channels = open_channels
    end

    def ready
      @agent.ready(@framework.version, keeps: true)
    end

    def call(message)
      case message["type"]
      when "keep" then keep
      when "renew" then renew(message["environment"])
      end
    end

    def refuse(reason)
      @agent.send_message("type" => "unable", "message" => reason)
    end

    def keep
      reason = reason_to_leave
      return refuse(reason) if reason

      files = Loaded.files + @framework.depends_on
      @agent.send_message("type" => "kept", "files" => files.uniq, "all" => false)
    end

    # Why a forked process would not do what this one does; nil: it would, and this one can go on afterwards. Connections
    # to databases are closed then, to be opened where they are needed.
    def reason_not_to_fork
      return "the project keeps a database in memory" if Connections.in_memory?

      reason = reason_to_leave
      return reason if reason

      Connections.close
      opened = open_channels - @channels
      return "loading the project opened #{opened.sort.join(', ')}" unless opened.empty?
      return "loading the project locked a file" if locks?
    end

    private

    def renew(environment)
      environment.each do |variable|
        name, value = variable.split("=", 2)
        ENV[name] = value
      end
      @seed = @framework.renew if @framework.respond_to?(:renew)
      ready
    end

    # Why this process has to end with its run; nil: it has nothing to do then that anybody would miss.
    def reason_to_leave
      return "loading the project registered something to be done at its end" if AtExit.registered?
      return "loading the project started threads" unless DistributestWorker.other_threads.empty?
      return "coverage is measured" if Coverage.measured?
    end

    # Whether this process holds a lock on a file.
    def locks?
      # 1: POSIX  ADVISORY  WRITE 1234 08:01:4711 0 EOF
      File.foreach("/proc/locks").any? { |line| line.split.include?($$.to_s) }
    rescue SystemCallError
      false
    end

    # The sockets, pipes and the like that this process has open.
    def open_channels
      targets = Dir.children("/proc/self/fd").map do |number|
        File.readlink("/proc/self/fd/#{number}")
      rescue Errno::ENOENT
        # The one the directory was read with.
        nil
      end
      targets.compact.reject { |target| target.start_with?("/") }
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
