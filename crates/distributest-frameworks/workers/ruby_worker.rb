# frozen_string_literal: true

# What every worker program in Ruby needs: the conversation with the agent, and a process to run tests in.
#
# A worker program is this file, ruby_project.rb, ruby_forking.rb, ruby_keeping.rb and the one of its framework, as one text (see
# proto/worker.md).
#
# How it works. Tests run in a child process that `Supervisor` forks, watches, and ends when the agent goes away. It
# notes what it is doing in a `Witness`, an unnamed file open in both processes: if it dies, the test that did it is named.
#
# Nothing is required here, not even `json`: it would hide a `require` missing from the project, and it would choose the
# version of a gem before Bundler does.

module DistributestWorker
  PROTOCOL = 1
  LONGEST_MESSAGE = 1000
  LONGEST_DETAILS = 1024 * 1024
  BYTES_WAITING = 0x541B # the number of FIONREAD on Linux
  CHECK_SECONDS = 0.05
  STACKS_SIGNAL = 16 # SIGSTKFLT, by which the agent asks what a process is doing
  SHOWN_CALLS = 12

  # ------------------------------------------------------------------------------------------------------------------
  # Talking to the agent

  # The agent's end of the socket. Its descriptor is closed in every program a test starts.
  #
  # Only one process speaks at a time. A test that forks and lets both processes go on has one too many: it is not heard,
  # and ends where the test does (`end_stray`).
  class Agent
    attr_reader :socket
    attr_writer :speaker

    def initialize(descriptor, framework)
      @framework = framework
      @speaker = $$
      @socket = IO.for_fd(descriptor, "r+b")
      @socket.sync = true
      @socket.close_on_exec = true
      @received = +""
    end

    def send_message(message)
      return unless $$ == @speaker

      @socket.write(Json.generate(message), "\n")
    rescue SystemCallError, IOError
      # The agent is gone, and with it everyone who wants to know how this ends; or a test has closed our descriptors.
      exit!(1)
    end

    def ready(version, keeps: false)
      stays = keeps ? { "keeps" => true, "process" => $$ } : {}
      send_message({ "type" => "ready", "protocol" => PROTOCOL, "framework" => @framework, "version" => version,
                     "runtime" => runtime }.merge(stays))
    end

    # What decides on this machine what tests do and is not in the project: the interpreter, and the versions of all gems
    # that are installed. nil: nobody knows, because gems or other files come from directories outside of those.
    def runtime
      return unless defined?(Gem) && Gem.respond_to?(:path)

      gems = Gem.path.flat_map { |path| Dir.glob(File.join(path, "specifications", "**", "*.gemspec")) }
      places = [Dir.pwd, RbConfig::CONFIG["prefix"], File.dirname(File.expand_path(__FILE__)), *Gem.path]
      places = places.map { |place| File.realpath(place) if File.exist?(place) }.compact
      loads = $LOAD_PATH.map { |path| File.exist?(path.to_s) ? File.realpath(path.to_s) : nil }.compact
      return unless loads.all? { |path| places.any? { |place| path == place || path.start_with?("#{place}/") } }

      known = gems.map { |gem| File.basename(gem, ".gemspec") }.sort.join(" ")
      hash = known.each_byte.inject(0xcbf29ce484222325) { |sum, byte| ((sum ^ byte) * 0x100000001b3) & 0xffffffffffffffff }
      format("%s, %d gems %016x", RUBY_DESCRIPTION, gems.size, hash)
    end

    def finished(result)
      send_message({ "type" => "finished" }.merge(result))
    end

    # What belongs to no file's verdict failed behind the last one.
    def end_failed(message)
      send_message("type" => "end_failed", "message" => Text.line(message))
    end

    # Ends the line that a process which is dead now may have been in the middle of.
    def end_line
      @socket.write("\n")
    rescue SystemCallError
      exit!(1)
    end

    # What to run, one by one, until the agent has no more or is gone. `others` takes messages of other types; when it
    # returns `:end`, nothing comes after that.
    def each_order(others = nil)
      each_message do |message|
        if message["type"] == "run"
          lists = %w[tests only except].map { |key| message[key] unless message[key].to_a.empty? }
          yield Order.new(message["file"], *lists)
        elsif others&.call(message) == :end
          return
        end
      end
    end

    # What the agent says next; nil when it has no more to say or is gone.
    def await_message
      each_message { |message| return message }
      nil
    end

    # Ends this process, exit handlers left out, if a test forked it and let it come back from there.
    def end_stray(status = 0)
      exit!(status) unless $$ == @speaker
    end

    # Whether the agent is gone, told without reading: what is there to read may be for a forked process. That process
    # may take it between the two questions, so an end of the stream is believed when it is seen twice.
    def gone?
      Array.new(2) { at_end? }.all?
    end

    def keep_for_restart
      @socket.close_on_exec = false
      @socket.fileno
    end

    private

    def each_message
      loop do
        end_stray
        message = next_message
        return if message.nil? || message["type"] == "quit"

        yield message
      end
    end

    def at_end?
      return false unless IO.select([@socket], nil, nil, 0)

      waiting = [0].pack("i")
      @socket.ioctl(BYTES_WAITING, waiting)
      waiting.unpack1("i").zero?
    end

    def next_message
      loop do
        line = @received.slice!(/\A.*\n/)
        return Json.parse(line) if line && !line.strip.empty?
        next if line

        @received << @socket.readpartial(65_536)
      end
    rescue EOFError, SystemCallError
      nil
    end
  end

  # A file to run: all of it (`tests` is nil) or the tests with these ids. Where it is run in parts, `only` are the tests of
  # this part, as far as they are there, or `except` those of the others; otherwise both are nil.
  Order = Struct.new(:file, :tests, :only, :except) do
    def in_parts?
      !(only || except).nil?
    end
  end

  # The same for the same ids, in whatever order: a number, by a rule of Fowler, Noll and Vo.
  def self.digest_of_ids(ids)
    bytes = ids.sort.join("\n").each_byte
    bytes.reduce(0xcbf29ce484222325) { |sum, byte| ((sum ^ byte) * 0x100000001b3) & 0xffffffffffffffff }.to_s(16)
  end

  # As much of JSON as the protocol needs.
  module Json
    SPECIAL = /["\\\u0000-\u001f]/
    ESCAPES = { '"' => '\\"', "\\" => "\\\\", "\n" => "\\n", "\t" => "\\t", "\r" => "\\r" }.freeze
    UNESCAPES = { "n" => "\n", "t" => "\t", "r" => "\r", "b" => "\b", "f" => "\f" }.freeze

    def self.generate(value)
      case value
      when nil then "null"
      when Numeric, true, false then value.to_s
      when Array then "[#{value.map { |item| generate(item) }.join(',')}]"
      when Hash then "{#{value.map { |key, item| "#{generate(key)}:#{generate(item)}" }.join(',')}}"
      else
        text = Text.clean(value)
        text = text.gsub(SPECIAL) { |c| ESCAPES[c] || format("\\u%04x", c.ord) } if text.match?(SPECIAL)
        "\"#{text}\""
      end
    end

    STRING = /"(?:[^"\\]|\\.)*"/m
    LIST = /\[(?>\s*#{STRING}\s*,?)*\s*\]/m
    PAIR = /(#{STRING})\s*:\s*(?:(#{STRING})|(#{LIST}))/.freeze

    # The values of an object that are strings or lists of strings.
    def self.parse(text)
      text = text.dup.force_encoding("UTF-8")
      text.scan(PAIR).to_h do |key, string, list|
        [unescape(key), string ? unescape(string) : list.scan(STRING).map { |item| unescape(item) }]
      end
    end

    def self.unescape(literal)
      literal[1..-2].gsub(/\\u[dD][89abAB]\h\h\\u\h{4}|\\u\h{4}|\\./) do |escape|
        units = escape.scan(/u(\h{4})/).flatten.map(&:hex)
        case units.size
        when 0 then UNESCAPES.fetch(escape[1], escape[1])
        when 1 then [units[0]].pack("U")
        else [0x10000 + ((units[0] - 0xD800) << 10) + (units[1] - 0xDC00)].pack("U")
        end
      end
    end
  end

  # Text that fits into a message.
  module Text
    def self.clean(value)
      text = value.to_s
      return text if text.encoding == Encoding::UTF_8 && text.valid_encoding?

      text = text.dup.force_encoding("UTF-8") if text.encoding == Encoding::BINARY
      text.encode("UTF-8", invalid: :replace, undef: :replace).scrub
    end

    # The first paragraph, on one line.
    def self.line(value)
      line = clean(value).strip.split(/\n\s*\n/, 2).first.to_s.split.join(" ")
      line.length <= LONGEST_MESSAGE ? line : "#{line[0, LONGEST_MESSAGE]}…"
    end

    def self.cut(value)
      text = clean(value)
      return text if text.length <= LONGEST_DETAILS

      half = LONGEST_DETAILS / 2
      "#{text[0, half]}\n[… #{text.length - 2 * half} characters left out …]\n#{text[-half, half]}"
    end
  end

  # ------------------------------------------------------------------------------------------------------------------
  # Processes

  # What stays of a process that runs tests when it dies: notes on what it was doing, in an unnamed file that is
  # open in it and in its parent.
  class Witness
    attr_writer :writer

    def initialize
      @writer = $$
      path = File.join(ENV["TMPDIR"] || "/tmp", "distributest-#{$$}-#{Random.new_seed.to_s(36)}")
      @notes = File.open(path, File::RDWR | File::CREAT | File::EXCL | File::BINARY, 0o600)
      File.unlink(path)
    end

    def begin(file)
      # Between any two tests: it is the same each time.
      @beginning = [file, Marshal.dump("file" => file)] unless @beginning && @beginning[0] == file
      write_text(@beginning[1])
    end

    def enter_test(file, test)
      write("file" => file, "test" => test)
    end

    def finish(result)
      write("file" => nil, "result" => result)
    end

    def clear
      write({})
    end

    # From now on the process watches over one of its own.
    def begin_watch
      write("watches" => true)
    end

    # All files have been run; where it `stays`, the process that has loaded the project waits for another run.
    def begin_end(stays)
      write("ending" => true, "stays" => stays)
    end

    def read
      text = @notes.pread(@notes.size, 0)
      text.empty? ? {} : Marshal.load(text)
    rescue EOFError, ArgumentError, TypeError
      {}
    end

    def close
      @notes.close
    end

    private

    def write(notes)
      write_text(Marshal.dump(notes))
    end

    # What is left behind it of a longer one is not read.
    def write_text(text)
      @notes.pwrite(text, 0) if $$ == @writer
    end
  end

  # How a process that ran tests ended.
  class Ending
    attr_reader :result, :file, :test
    attr_writer :usage

    def initialize(status, notes, usage)
      @status = status
      @usage = usage
      @result = notes["result"]
      @file = notes["file"]
      @test = notes["test"]
      @stays = notes["stays"]
      @while_ending = notes["ending"]
    end

    def stays?
      @stays
    end

    # Whether what is done behind the last file has gone wrong.
    def failed_behind_last_file?
      @while_ending && !@status.success?
    end

    # What the process said of its file, unless it passed it and then left as one that failed.
    def final_result
      return if @result.nil?

      final = @result.merge(@usage)
      return final if @status.success? || final["outcome"] != "passed"

      final.merge("outcome" => "failed", "message" => "no test failed, but the process running this file #{how}")
    end

    # What there is to say of a file whose process died.
    def death
      number = @status.signaled? ? { "signal" => @status.termsig } : {}
      { "outcome" => "crashed", "message" => describe, "details" => "" }.merge(@usage, number)
    end

    def describe
      where = @test ? "while #{@test['id']} ran" : "before its tests were done"
      "the process running this file #{how} #{where}"
    end

    def how
      return "left with exit status #{@status.exitstatus}" unless @status.signaled?

      "died of signal #{@status.termsig} (SIG#{Signal.signame(@status.termsig)})"
    end
  end

  # What a process is doing.
  module Stacks
    # The innermost calls of all threads, the main one last. Nothing here takes a lock: it is for signal handlers.
    def self.tell
      threads = Thread.list.reject { |thread| thread == Thread.main } << Thread.main
      threads.map { |thread| "#{thread.inspect} (most recent call first):\n#{calls(thread)}" }.join
    end

    def self.calls(thread)
      # Those of the main thread begin with the handler.
      calls = (thread.backtrace || []).drop_while { |call| thread == Thread.main && call.start_with?(__FILE__) }
      hidden = calls.size - SHOWN_CALLS
      shown = calls.first(SHOWN_CALLS)
      shown << "… called by #{hidden} more" if hidden.positive?
      shown.map { |call| "  #{call}\n" }.join
    end
    private_class_method :calls
  end

  # What this process uses from now on, with the children it waits for.
  #
  # The most memory it had is told anew from now on, where the kernel can do that; otherwise it is not known.
  class Meter
    def initialize
      @processor = processor
    end

    # Before a file, in the process that runs many.
    def self.begin
      meter = new
      meter.forget_memory
      meter
    end

    # What this process has had since it was forked.
    def self.peak_memory
      peak = File.read("/proc/self/status")[/^VmHWM:\s*(\d+) kB/, 1]
      peak ? { "peak_memory_bytes" => peak.to_i * 1024 } : {}
    rescue SystemCallError
      {}
    end

    def forget_memory
      @knows_memory = File.write("/proc/self/clear_refs", "5")
    rescue SystemCallError
      @knows_memory = nil
    end

    def read_processor
      { "processor_seconds" => processor - @processor }
    end

    def read
      @knows_memory ? read_processor.merge(Meter.peak_memory) : read_processor
    end

    private

    def processor
      Process.times.to_a.sum
    end
  end

  # Forks a process, waits for it, and ends it when the agent goes away.
  class Supervisor
    def initialize(agent)
      @agent = agent
      @told_to_end = nil # by this signal
    end

    # Has the block, which is given a witness, run in a forked process that leads a session of its own.
    def run(file = nil)
      witness = Witness.new
      witness.begin(file) if file
      wake_up, wake_up_sender = IO.pipe
      errors = STDERR.dup
      trap("CHLD") { wake_up_sender.write_nonblock(".", exception: false) }
      trap("TERM") { end_child("TERM") }
      @child = fork do
        Process.setsid
        @agent.speaker = witness.writer = $$
        trap("CHLD", "DEFAULT")
        trap("TERM", "DEFAULT")
        trap(STACKS_SIGNAL) { errors.syswrite(Stacks.tell) }
        wake_up.close
        wake_up_sender.close
        yield witness
      end
      meter = Meter.new
      status = wait(wake_up, witness)
      @child = nil
      trap("TERM", "DEFAULT")
      trap("CHLD", "DEFAULT")
      [wake_up, wake_up_sender, errors].each(&:close)
      ending = Ending.new(status, witness.read, meter.read_processor)
      witness.close
      report_test(ending) if @told_to_end == "TERM"
      exit(1) if @told_to_end
      ending
    end

    def report_death(ending)
      report_test(ending)
      @agent.finished(ending.death)
    end

    # Reports the test the process died in.
    def report_test(ending)
      @agent.end_line
      return unless ending.test

      @agent.send_message({ "type" => "test", "status" => "error", "seconds" => 0, "message" => ending.describe,
                            "details" => "" }.merge(ending.test))
    end

    private

    def wait(wake_up, witness)
      watched = [wake_up, @agent.socket]
      loop do
        pid, status = Process.wait2(@child, Process::WNOHANG)
        return status if pid

        ready, = IO.select(watched)
        wake_up.read_nonblock(512, exception: false) if ready.include?(wake_up)
        next unless ready.include?(@agent.socket)

        if @agent.gone?
          watched.delete(@agent.socket)
          @told_to_end = "KILL"
          # A process that watches over one of its own ends that one, and then itself.
          end_child("KILL") unless witness.read["watches"]
        else
          # Something waits to be read by the forked process, or until it has ended.
          IO.select([wake_up], nil, nil, CHECK_SECONDS)
        end
      end
    end

    def end_child(signal)
      @told_to_end = signal
      return unless @child

      # It leads its process group, unless it had no time yet to become the leader.
      [-@child, @child].each do |target|
        Process.kill(signal, target)
      rescue Errno::ESRCH
        next
      end
    end
  end
end
