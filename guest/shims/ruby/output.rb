# frozen_string_literal: true

module ImpulsShim
  # Makes LOG frames of what user code writes to `$stdout` and `$stderr`.
  #
  # A line belongs to the invocation whose code wrote it, else to none (id 0). Descriptors 1 and 2 stay untouched, so
  # child processes write to the host's pipes; what a forked copy of this process prints goes there too.
  class Output
    STDOUT_LEVEL = 0
    STDERR_LEVEL = 1
    CUT = 6
    LIMIT = 1 << 20 # bytes of text per invocation, a newline counted for each line
    OUTSIDE_WINDOW = 1.0 # seconds for which the same limit holds outside of invocations
    NEWLINE = "\n".b.freeze
    PID = Process.method(:pid)
    CLOCK = Process.method(:clock_gettime)

    # What an invocation, or all that is outside of any, has printed.
    class Scope
      attr_accessor :connection, :id, :kept, :dropped, :lines, :partial

      def initialize(connection, id)
        @connection = connection
        @id = id
        @kept = @dropped = @lines = 0
        @partial = nil # the last line of each stream, until its newline comes
      end
    end

    def initialize(server)
      @server = server
      @outside = Scope.new(nil, 0)
      @since = -OUTSIDE_WINDOW
      @pid = PID.call
    end

    # Takes the places of the standard streams. The constants too: `Logger.new(STDOUT)` is what loggers are made with.
    def attach
      $stdout = replace(:STDOUT, LogStream.for_fd(1, 'w', autoclose: false), STDOUT_LEVEL)
      $stderr = replace(:STDERR, LogStream.for_fd(2, 'w', autoclose: false), STDERR_LEVEL)
    end

    def write(level, data)
      return raw(level, data) if PID.call != @pid

      @server.exclusively { take(@server.scope || @outside, level, data) }
    rescue ThreadError # a signal's trap may wait for nothing
      raw(level, data)
    end

    # Ends a scope's output: lines without a newline, then the count of what was dropped.
    def finish(scope)
      partial = scope.partial
      scope.partial = nil
      partial&.each_with_index { |text, level| emit(scope, level, text) unless text.empty? }
      report_cut(scope)
    end

    def finish_outside
      finish(@outside)
    end

    private

    def replace(name, stream, level)
      stream.attach(self, level)
      Object.send(:remove_const, name)
      Object.const_set(name, stream)
    end

    def raw(level, data)
      IO.for_fd(level + 1, 'w', autoclose: false).syswrite(data)
    rescue SystemCallError
      nil
    end

    # Whole lines go out; the rest of the last one waits for its newline.
    def take(scope, level, data)
      partial = scope.partial ||= [String.new, String.new]
      held = partial[level]
      if (last = data.rindex(NEWLINE))
        emit(scope, level, held << data.byteslice(0, last))
        held = data.byteslice(last + 1, data.bytesize)
      else
        held << data
      end
      if held.bytesize > LIMIT
        # Longer than can be kept: the limit cuts the line, and counts what follows.
        emit(scope, level, held)
        held = String.new
      end
      partial[level] = held
    end

    # Sends whole lines, without their last newline, as far as the limit allows.
    def emit(scope, level, text)
      return if scope.equal?(@outside) && !enter_outside

      body = Describe.utf8(text)
      size = body.bytesize
      room = LIMIT - scope.kept - 1
      if size <= room
        scope.kept += size + 1
      elsif room <= 0
        return scope.dropped += size + 1
      else
        room -= 1 while room.positive? && body.getbyte(room) & 0xC0 == 0x80 # whole characters
        body = body.byteslice(0, room)
        scope.kept = LIMIT
        scope.dropped += size - room
      end
      scope.connection.log(scope, level, body)
    end

    def enter_outside
      @outside.connection = @server.outside_connection
      return false unless @outside.connection

      now = CLOCK.call(Process::CLOCK_MONOTONIC)
      if now - @since >= OUTSIDE_WINDOW
        report_cut(@outside)
        @since = now
        @outside.kept = @outside.lines = 0
      end
      true
    end

    def report_cut(scope)
      return unless scope.dropped.positive? && scope.connection

      count = scope.dropped
      scope.dropped = 0
      scope.connection.log(scope, CUT, [count].pack('Q<'))
    end
  end

  # What `$stdout` and `$stderr` are: streams over descriptors 1 and 2 whose text goes another way, and that cannot be
  # closed. All of IO's other methods that print end in `write`.
  class LogStream < IO
    def attach(output, level)
      @output = output
      @level = level
      self
    end

    def write(*objects)
      data = objects.size == 1 ? bytes(objects.first) : objects.map { |object| bytes(object) }.join
      @output.write(@level, data) unless data.empty?
      data.bytesize
    end

    def syswrite(object)
      write(object)
    end

    def write_nonblock(object, **)
      write(object)
    end

    def sync
      true
    end

    def flush
      self
    end

    def fsync
      0
    end

    def fdatasync
      0
    end

    def close; end

    def close_write; end

    def closed?
      false
    end

    def inspect
      @level.zero? ? '#<IO:<STDOUT>>' : '#<IO:<STDERR>>'
    end

    private

    def bytes(object)
      text = String === object ? object : object.to_s
      case text.encoding
      when Encoding::UTF_8, Encoding::US_ASCII, Encoding::BINARY then text.b
      else Describe.utf8(text).b
      end
    end
  end
end
