# What a worker process in Ruby and its forks must not share or do twice.
#
# Stands behind ruby_project.rb in every worker program in Ruby.
#
# Rules:
# - An `at_exit` block runs once, in the process that registered it: a forked process leaves with those it registered
#   itself, this one with those registered while the project was loaded. SimpleCov is started anew in each fork, and
#   its results are merged by the block it has registered here; its results of different processes have different names.
# - Connections opened while the project was loaded are closed before the first fork; each fork opens its own. A database
#   kept in this process's memory does not survive a fork: where the project has one, nothing is preloaded.
# - A forked process leaves without the garbage collector's last sweep, which takes longer than many a file's tests, unless
#   something waits for just that.

module DistributestWorker
  # Connections to databases: two processes must not talk over one.
  module Connections
    # Whether ActiveRecord keeps a database in this process.
    def self.in_memory?
      active_record_pools.any? do |pool|
        configuration = pool.respond_to?(:db_config) ? pool.db_config.configuration_hash : pool.spec.config
        configuration[:adapter].to_s.start_with?("sqlite") && configuration[:database].to_s.include?(":memory:")
      end
    end

    def self.close
      active_record_pools.each(&:disconnect!)
      Sequel::DATABASES.each(&:disconnect) if defined?(Sequel::DATABASES)
      return unless defined?(Redis) && Redis.is_a?(Class) && Redis.method_defined?(:close)

      ObjectSpace.each_object(Redis, &:close)
    end

    def self.active_record_pools
      return [] unless defined?(ActiveRecord::Base)

      handler = ActiveRecord::Base.connection_handler
      return handler.connection_pool_list(:all) if ActiveRecord.version >= Gem::Version.new("7.0")

      handler.respond_to?(:all_connection_pools) ? handler.all_connection_pools : handler.connection_pool_list
    end
  end

  # The end of a forked process without what Ruby does last: to look at every object, and free it.
  module QuickExit
    DESCRIPTORS = "/proc/self/fd"

    # Notices objects with finalizers, which Ruby runs at its very end.
    module Finalizers
      def define_finalizer(...)
        QuickExit.has_finalizers = true
        super
      end
    end

    class << self
      attr_writer :has_finalizers

      # To be called before the first fork, once the project is loaded.
      def watch
        ObjectSpace.singleton_class.prepend(Finalizers)
        @inherited_files = ObjectSpace.each_object(File).to_a
        flush_inherited
      end

      # To be called first in a forked process, because what is registered first runs last.
      def prepare
        @has_finalizers = false
        @inherited_descriptors = descriptors
        owner = $$
        at_exit { leave($!) if $$ == owner }
      end

      private

      # An exception is left to Ruby, which prints it; so are other threads, files that may hold unwritten text, and
      # what can't be closed.
      def leave(error)
        return unless error.nil? || error.is_a?(SystemExit)
        return if @has_finalizers || !DistributestWorker.other_threads.empty?

        Connections.close
        flush_inherited
        exit!(error ? error.status : 0) if files_opened.empty?
      rescue StandardError
        nil
      end

      def flush_inherited
        @inherited_files.each do |file|
          file.flush unless file.closed?
        rescue IOError
          # It is open for reading only.
          next
        end
      end

      def files_opened
        (descriptors - @inherited_descriptors).select { |_, target| File.file?(target) }
      end

      # Every open descriptor, and what it leads to.
      def descriptors
        Dir.children(DESCRIPTORS).map do |number|
          [number, File.readlink(File.join(DESCRIPTORS, number))]
        rescue Errno::ENOENT
          # The one the directory was read with.
          nil
        end
      end
    end
  end

  # Keeps `at_exit` blocks registered while the project is loaded from running in forked processes.
  module AtExit
    def self.keep_to_this_process(&load)
      owner = $$
      watch(->(block) { -> { block.call if $$ == owner } }, &load)
    end

    # Notes whether any is registered. What is registered in place of a block, `instead` says.
    def self.watch(instead = ->(block) { block })
      originals = [Kernel, Kernel.singleton_class].to_h { |place| [place, place.instance_method(:at_exit)] }
      originals.each do |place, original|
        replace(place) do |&block|
          AtExit.note(block)
          original.bind(self).call(&instead.call(block))
          block
        end
      end
      yield
    ensure
      originals.each { |place, original| replace(place, original) }
    end

    def self.replace(place, method = nil, &body)
      # Defining it again without removing it first would be warned of.
      place.send(:remove_method, :at_exit)
      place.send(:define_method, :at_exit, *method, &body)
      place.send(:private, :at_exit) if place == Kernel
    end

    def self.note(block)
      @registered ||= !does_nothing?(block)
    end

    # test-unit's own would run its tests, which this program does.
    def self.does_nothing?(block)
      return false unless block && defined?(Test::Unit.at_exit)

      block.source_location.to_a.first == Test::Unit.method(:at_exit).source_location.first
    end

    # Whether loading the project has registered any.
    def self.registered?
      @registered
    end
  end

  # SimpleCov, where the project measures its coverage.
  module Coverage
    def self.measured?
      defined?(SimpleCov) && SimpleCov.respond_to?(:at_fork) && SimpleCov.running
    end

    # It measures the process it was started in; in a fork it has to be started anew.
    def self.resume
      return unless measured?

      SimpleCov.at_fork.call($$)
      at_exit { SimpleCov.at_exit_behavior }
    end

    # Of results with one name it keeps the last.
    def self.distinguish_process
      return unless measured?

      SimpleCov.command_name("#{SimpleCov.command_name} (process: #{$$})")
      expect_nothing
    end

    # What all files together should cover is not what one process of many does. It may be started by a file.
    def self.expect_nothing
      return unless measured?

      SimpleCov.minimum_coverage(0)
      SimpleCov.minimum_coverage_by_file(0)
      SimpleCov.maximum_coverage_drop(100)
    end
  end
end
