# frozen_string_literal: true

module ImpulsShim
  # Frame kinds.
  INIT = 1
  INVOKE = 2
  CANCEL = 3
  CONTEXT = 4
  READY = 64
  INIT_OK = 65
  INIT_ERR = 66
  RESULT = 67
  ERROR = 68
  LOG = 69

  MAX_FRAME = 8 << 20
  MAX_RESULT = 6 << 20
  # How deep values may be nested; beyond it a value is taken for one that contains itself.
  JSON_OPTIONS = { max_nesting: 1000 }.freeze

  # User code may patch classes: what is used after it was loaded is bound here.
  PARSE = JSON.method(:parse)
  GENERATE = JSON.method(:generate)
  SELECT = IO.method(:select)
  EXIT = Process.method(:exit!)
  PID = Process.method(:pid)
  CLOCK = Process.method(:clock_gettime)
  DEFER = Thread.method(:handle_interrupt)
  CURRENT_THREAD = Thread.method(:current)
  NEVER = { Object => :never }.freeze

  # One call from INVOKE until its reply; also the scope in which its log lines are counted.
  class Invocation < Output::Scope
    attr_accessor :done

    def initialize(connection, id)
      super
      @done = false
    end
  end

  # One accepted connection: its half-read frame and its unsent log lines.
  class Connection
    READ_SIZE = 64 << 10
    LARGE_READ_SIZE = 1 << 20
    HEAD = 9
    # A sandbox killed in the middle of a loop cannot send what it holds back, so the first lines of an invocation are
    # written through; later ones are gathered up to this size or age.
    EAGER_LINES = 256
    LOG_DELAY = 0.005
    LOG_BATCH = 16 << 10

    attr_reader :io, :open

    def initialize(server, io)
      @server = server
      @io = io
      @open = true
      @out = String.new
      @flushed = 0.0
      @partial = String.new
      @need = 0
    end

    def readable
      missing = @need - @partial.bytesize
      data = @io.read_nonblock(missing <= READ_SIZE ? READ_SIZE : [missing, LARGE_READ_SIZE].min, exception: false)
      return if data == :wait_readable

      data ? feed(data) : shut
    rescue SystemCallError, IOError
      shut
    end

    def feed(data)
      unless @partial.empty?
        @partial << data
        return if @partial.bytesize < @need

        data = @partial
        @partial = String.new
        @need = 0
      end
      at = 0
      while @open && data.bytesize - at >= HEAD
        length, kind, id = data.byteslice(at, HEAD).unpack('L<CL<')
        return shut unless length.between?(5, MAX_FRAME)
        break if at + 4 + length > data.bytesize

        return shut unless @server.take(self, kind, id, data.byteslice(at + HEAD, length - 5))

        at += 4 + length
      end
      keep(data.byteslice(at, data.bytesize)) if @open && at < data.bytesize
    end

    # Both are called inside of `Server#exclusively`.
    def send_frame(kind, id, body)
      @out << [body.bytesize + 5, kind, id].pack('L<CL<') << body.b
      flush
    end

    def log(scope, level, body)
      @out << [body.bytesize + 6, LOG, scope.id, level].pack('L<CL<C') << body.b
      scope.lines += 1
      late = CLOCK.call(Process::CLOCK_MONOTONIC) - @flushed > LOG_DELAY
      flush if scope.lines <= EAGER_LINES || @out.bytesize > LOG_BATCH || late
    end

    def flush
      return if @out.empty?

      out = @out
      @out = String.new
      @flushed = CLOCK.call(Process::CLOCK_MONOTONIC)
      @io.write(out)
    rescue SystemCallError, IOError
      nil # the host is gone; reading says so
    end

    private

    def keep(rest)
      @partial << rest
      @need = HEAD
      return if rest.bytesize < 4

      length = rest.unpack1('L<')
      return shut unless length.between?(5, MAX_FRAME)

      @need = 4 + length
    end

    def shut
      return unless @open

      @open = false
      @server.exclusively { flush }
      @io.close
      @server.closed(self)
    end
  end

  # The sandbox's state: at most one function is ever loaded into it.
  class Server
    READY_BODY = %({"runtime":"ruby","version":"#{RUBY_VERSION}"}).freeze

    def initialize(listen_fd)
      @connections = {}
      @in_flight = {}.compare_by_identity
      @phase = :empty # empty, ready, failed
      @lock = Mutex.new # user threads print while others reply
      @pid = PID.call
      @current = nil # the invocation, when there is one at a time
      @pool = nil # runs them otherwise
      return unless listen_fd

      @listener = UNIXServer.for_fd(listen_fd)
      @listener.close_on_exec = true
    end

    # Serves until the host is gone. Never returns.
    def run
      loop do
        ready, = SELECT.call([@listener, *@connections.keys])
        ready.each { |io| io.equal?(@listener) ? accept : @connections[io]&.readable }
      end
    end

    def accept
      io = @listener.accept_nonblock(exception: false)
      return if io == :wait_readable

      connection = @connections[io] = Connection.new(self, io)
      exclusively { connection.send_frame(READY, 0, READY_BODY) }
    rescue SystemCallError
      nil
    end

    def closed(connection)
      @connections.delete(connection.io)
      EXIT.call(0) if @connections.empty? && @listener # the host is gone
    end

    # Runs this where no other thread writes and nothing (a timeout, `Thread#kill`) stops it half-way.
    def exclusively(&block)
      DEFER.call(NEVER) { @lock.synchronize(&block) }
    end

    # Whether the frame was one that may come now.
    def take(connection, kind, id, body)
      case kind
      when INVOKE then body.bytesize >= 24 && @phase != :empty && (invoke(connection, id, body) || true)
      when INIT then @phase == :empty && (init(connection, body) || true)
      else [CANCEL, CONTEXT].include?(kind)
      end
    end

    # The invocation that running code belongs to, or nil.
    def scope
      found = @pool ? Slots.invocation_of(CURRENT_THREAD.call) : @current
      found unless found.nil? || found.done
    end

    # Where lines go that belong to no invocation.
    def outside_connection
      @init_connection&.open ? @init_connection : @connections.each_value.first
    end

    # Runs the handler to its end on this thread.
    def call(invocation, event, context)
      value = @handler.call(event, context)
    rescue SystemExit
      raise # ends the process, whichever thread it is in
    rescue Exception => e
      fail_call(invocation, 'FunctionError', **Describe.describe(e).transform_keys(&:to_sym))
    else
      resolve(invocation, value)
    ensure
      # `Thread.exit` and `throw` past us end neither way.
      unless invocation.done || $!
        fail_call(invocation, 'FunctionError', type: 'ThreadError', message: 'the handler ended its thread')
      end
    end

    # The output of whatever still runs, when the process ends by itself.
    def leave_process
      return if PID.call != @pid || @output.nil?

      exclusively do
        @in_flight.each_key { |invocation| @output.finish(invocation) }
        @output.finish_outside
        @connections.each_value(&:flush)
      end
    end

    private

    def init(connection, body)
      @init_connection = connection
      settings = PARSE.call(body)
      @output = Output.new(self)
      @output.attach
      load_code(settings)
    rescue SystemExit
      raise
    rescue Exception => e
      @phase = :failed
      send_outside(INIT_ERR, Describe.to_json_object(Describe.explain(e, settings['code_dir'])))
    else
      @phase = :ready
      send_outside(INIT_OK, '{}')
    end

    def load_code(settings)
      loader = Loader.new(settings)
      return loader.check if settings['check']

      @handler = Handler.new(loader.load)
      @context_class = Context.of(settings)
      concurrency = settings['concurrency'] || 1
      @pool = Slots.new(self, concurrency) if concurrency > 1
    end

    def send_outside(kind, body)
      exclusively do
        @output.finish_outside
        @init_connection.send_frame(kind, 0, body)
      end
    end

    def invoke(connection, id, body)
      return if @phase == :failed || @handler.nil?

      invocation = Invocation.new(connection, id)
      request_id, deadline_ms = body.unpack('a16Q<')
      begin
        event = parse_event(body.byteslice(24, body.bytesize))
      rescue StandardError, SystemStackError => e
        message = "the event is not JSON: #{Describe.message_of(e)}"
        return fail_call(invocation, 'BadEvent', type: 'BadEvent', message: message)
      end
      @in_flight[invocation] = true
      context = @context_class.new(request_id, deadline_ms)
      return @pool.submit(invocation, event, context) if @pool

      @current = invocation
      call(invocation, event, context)
    end

    def parse_event(text)
      return nil if text.empty?

      text.force_encoding(Encoding::UTF_8)
      raise ArgumentError, 'it is not UTF-8' unless text.valid_encoding?

      PARSE.call(text, JSON_OPTIONS)
    end

    def resolve(invocation, value)
      begin
        body = GENERATE.call(value, JSON_OPTIONS).b
        unfit = body.include?('"#<') ? unfit_in(value) : nil
      rescue Exception => e
        raise if SystemExit === e

        return bad_response(invocation, value, "cannot be JSON: #{Describe.message_of(e)}")
      end
      return bad_response(invocation, value, "cannot be JSON: it holds an object of class #{unfit}") if unfit

      if body.bytesize > MAX_RESULT
        size = "has #{body.bytesize} bytes as JSON; at most #{MAX_RESULT} bytes are allowed"
        return bad_response(invocation, value, size)
      end
      reply(invocation, RESULT, body)
    end

    # The class of an object of which the JSON library knows nothing but a text such as `#<Point>`.
    def unfit_in(value)
      case value
      when Hash then value.each { |key, member| (found = unfit_in(key) || unfit_in(member)) and return found }
      when Array then value.each { |member| (found = unfit_in(member)) and return found }
      when String, Symbol, Numeric, nil, true, false then return nil
      else return value.to_json.start_with?('"#<') ? Describe.type_name(value) : nil
      end
      nil
    end

    def bad_response(invocation, value, what)
      message = "the returned value (#{Describe.type_name(value)}) #{what}"
      fail_call(invocation, 'BadResponse', type: 'BadResponse', message: message)
    end

    def fail_call(invocation, kind, type:, message:, stack: nil)
      failure = { 'kind' => kind, 'type' => type, 'message' => message }
      failure['stack'] = stack unless stack.nil? || stack.empty?
      reply(invocation, ERROR, Describe.to_json_object(failure))
    end

    # After this, whatever the invocation left running logs outside of it.
    def reply(invocation, kind, body)
      EXIT.call(0) if PID.call != @pid # a forked copy that came back from the handler is no second server

      exclusively do
        return if invocation.done

        @output.finish(invocation)
        invocation.done = true
        @in_flight.delete(invocation)
        @current = nil if @current.equal?(invocation)
        invocation.connection.send_frame(kind, invocation.id, body)
      end
    end
  end
end
