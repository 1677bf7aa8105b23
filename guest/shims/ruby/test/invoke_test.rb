# frozen_string_literal: true

# INVOKE to RESULT or ERROR: forms of handlers, contexts, values and failures.

require_relative 'host'

class InvokeTest < ShimTest
  LIMIT = 6 * 1024 * 1024

  def failure(source, event = nil, **settings)
    reply = load(source, **settings).invoke(event)
    assert_equal(ERROR, reply.kind, reply.text)
    reply.json
  end

  def test_every_form_of_handler_answers
    source = <<~RUBY
      def keywords(event:, context:) = [event, context.function_name]
      def rest(event:, **others) = [event, others.keys.map(&:to_s)]
      def only(event:) = event
      def all(**given) = given.keys.map(&:to_s)
      def positional(event, context) = [event, context.function_name]
      def one(event) = event
      def default(event, context = nil) = [event, !context.nil?]
      def star(*given) = given.size
      def mixed(event, context:) = [event, context.function_name]
      def none = 'none'
      define_method(:block) { |event:, context:| [event, context.function_name] } if respond_to?(:define_method, true)
      private def hidden(event:, context:) = event
    RUBY
    source = source.gsub(/^(.*def \w+(?:\(.*?\))?) = (.*)$/, "\\1; \\2; end")
    both = [1, 'hello']
    expected = {
      keywords: both, rest: [1, ['context']], only: 1, all: %w[event context], positional: both, one: 1,
      default: [1, true], star: 2, mixed: both, none: 'none', hidden: 1
    }
    [1, 3].each do |concurrency|
      expected.each do |name, value|
        reply = load(source, handler: "index.#{name}", concurrency: concurrency).invoke(1)
        assert_equal([RESULT, value], [reply.kind, reply.json], name)
      end
    end
  end

  def test_a_handler_may_be_a_method_of_a_class_or_module
    source = <<~RUBY
      module Shop
        class Api
          def self.call(event:, context:)
            [event, context.function_name]
          end

          class << self
            private

            def secret(event)
              event
            end
          end
        end
      end
      Lambda = ->(event, context) { [event, context.function_name] }
    RUBY
    assert_equal([1, 'hello'], load(source, handler: 'index.Shop::Api.call').invoke(1).json)
    assert_equal([1, 'hello'], load({ 'app.rb' => source }, handler: 'Shop::Api.call').invoke(1).json)
    assert_equal(1, load(source, handler: 'index.Shop::Api.secret').invoke(1).json)
    assert_equal([1, 'hello'], load({ 'lib/app.rb' => source }, handler: 'lib/app.Lambda.call').invoke(1).json)
  end

  def test_events_of_every_kind_arrive
    main = load("def handler(event:, context:)\n  event\nend")
    [true, false, nil, 0, -1.5, 1e300, 10**30, '', 'text', [], {}, { 'a' => [true, false, nil, { 'b' => 'é€😀' }] }].each do |value|
      assert_equal([value], [main.invoke(value).json])
    end
    assert_equal('null', main.invoke(raw: '').text)
    assert_equal('{"a":[1,2500.0,"é"]}', main.invoke(raw: %( {"a" : [1, 2.5e3, "\\u00e9"]} \n)).text)
    assert_equal(RESULT, main.invoke(raw: "#{'[' * 900}#{']' * 900}").kind)
  end

  def test_the_context_has_the_members_that_functions_expect
    source = <<~RUBY
      NAMES = %i[function_name function_version memory_limit_in_mb aws_request_id invoked_function_arn log_group_name
                 log_stream_name deadline_ms identity client_context get_remaining_time_in_millis].freeze
      def handler(event:, context:)
        NAMES.map { |name| [name, context.public_send(name)] }.to_h
      end
    RUBY
    deadline = (Time.now.to_f * 1000).to_i + 5000
    members = load(source).invoke(request_id: ['0190f3a2b1c47d5e8f00112233445566'].pack('H*'), deadline_ms: deadline).json
    assert_includes(3000..5000, members.delete('get_remaining_time_in_millis'))
    assert_match(%r{\A\d{4}/\d\d/\d\d/\[3\]0190aaaabbbb7ccc8ddd}, members.delete('log_stream_name'))
    assert_equal(
      {
        'function_name' => 'hello', 'function_version' => '3', 'memory_limit_in_mb' => '256',
        'aws_request_id' => '0190f3a2-b1c4-7d5e-8f00-112233445566',
        'invoked_function_arn' => 'arn:aws:lambda:local:000000000000:function:hello:3',
        'log_group_name' => '/impuls/hello', 'deadline_ms' => deadline, 'identity' => nil, 'client_context' => nil
      },
      members
    )
  end

  def test_an_event_that_is_not_json_is_a_bad_event
    main = load("def handler(event:, context:)\n  1\nend")
    ['{nope', '  ', "\"\xff\"", '1 2', 'NaN', '{"a":}', '[' * 200_000, 'True'].each do |raw|
      reply = main.invoke(raw: raw)
      assert_equal([ERROR, 'BadEvent'], [reply.kind, reply.json['kind']], raw[0, 20])
      assert(reply.json['message'].start_with?('the event is not JSON: '), raw[0, 20])
    end
    assert_equal(1, main.invoke.json)
  end

  def test_a_raised_exception_has_type_message_and_a_stack_without_our_frames
    source = <<~RUBY
      class PaymentError < StandardError; end
      def handler(event:, context:)
        {}.fetch('x')
      rescue KeyError
        raise PaymentError, 'no money'
      end
    RUBY
    [1, 2].each do |concurrency|
      error = failure(source, concurrency: concurrency)
      assert_equal(['FunctionError', 'PaymentError', 'no money'], error.values_at('kind', 'type', 'message'))
      assert_match(/index\.rb:5:in .*handler': no money \(PaymentError\)/, error['stack'])
      assert_match(/key not found: "x" \(KeyError\)/, error['stack'])
      refute_match(/shims|internal/, error['stack'])
    end
  end

  def test_whatever_is_raised_is_described
    source = <<~RUBY
      class Hostile < StandardError
        def message = raise('no')
        def backtrace = raise('no')
      end
      def recurse = recurse() + 1
      def handler(event:, context:)
        case event
        when 'hostile' then raise Hostile
        when 'base' then raise Class.new(Exception), 'b'
        when 'interrupt' then raise Interrupt
        when 'recursion' then recurse
        when 'invalid' then raise "\\xff"
        when 'binary' then raise "\\xff".b
        when 'throw' then throw :nowhere
        when 'stop' then raise StopIteration
        when 'script' then raise NotImplementedError
        when 'memory' then raise NoMemoryError
        end
      end
    RUBY
    source = source.gsub(/def (\w+) = (.*)/, "def \\1; \\2; end")
    types = {
      'hostile' => 'Hostile', 'base' => /Class/, 'interrupt' => 'Interrupt', 'recursion' => 'SystemStackError', 'stop' => 'StopIteration',
      'invalid' => 'RuntimeError', 'binary' => 'RuntimeError', 'throw' => 'UncaughtThrowError',
      'script' => 'NotImplementedError', 'memory' => 'NoMemoryError'
    }
    [1, 2].each do |concurrency|
      main = load(source, concurrency: concurrency)
      types.each do |event, name|
        error = main.invoke(event).json
        assert_equal('FunctionError', error['kind'])
        assert_operator(name, :===, error['type'])
      end
    end
  end

  def test_a_value_that_cannot_be_json_is_a_bad_response_that_names_its_type
    source = <<~RUBY
      Point = Struct.new(:x)
      CIRCULAR = []
      CIRCULAR << CIRCULAR
      VALUES = { 'nan' => Float::NAN, 'infinity' => [Float::INFINITY], 'point' => Point.new(1), 'object' => { 'a' => Object.new },
                 'invalid' => "\\xff", 'circular' => CIRCULAR, 'proc' => [proc {}], 'basic' => BasicObject.new }.freeze
      def handler(event:, context:)
        VALUES[event]
      end
    RUBY
    [1, 2].each do |concurrency|
      main = load(source, concurrency: concurrency)
      {
        'nan' => /\Athe returned value \(Float\) cannot be JSON: .*NaN/, 'infinity' => /\(Array\) cannot be JSON: .*Infinity/,
        'point' => /\(Point\) cannot be JSON: it holds an object of class Point/, 'object' => /\(Hash\).*of class Object/,
        'invalid' => /\(String\) cannot be JSON/, 'circular' => /\(Array\) cannot be JSON: nesting/, 'proc' => /of class Proc/,
        'basic' => /\(BasicObject\) cannot be JSON/
      }.each do |event, pattern|
        reply = main.invoke(event)
        assert_equal([ERROR, 'BadResponse'], [reply.kind, reply.json['kind']], reply.text)
        assert_match(pattern, reply.json['message'])
      end
      assert_equal('null', main.invoke('none').text)
    end
  end

  def test_what_the_json_library_makes_text_of_is_text
    source = <<~RUBY
      def handler(event:, context:)
        { symbol: :a, 1 => Time.at(0).utc, 'text' => '#<Text>', nested: [1r, nil] }
      end
    RUBY
    expected = { 'symbol' => 'a', '1' => '1970-01-01 00:00:00 UTC', 'text' => '#<Text>', 'nested' => ['1/1', nil] }
    assert_equal(expected, load(source).invoke.json)
  end

  def test_a_response_of_6_mib_passes_and_one_byte_more_does_not
    main = load("def handler(event:, context:)\n  event[1] * event[0]\nend")
    assert_equal(LIMIT, main.invoke([LIMIT - 2, 'x']).text.bytesize)
    error = main.invoke([LIMIT - 1, 'x']).json
    assert_equal('BadResponse', error['kind'])
    assert_equal('the returned value (String) has 6291457 bytes as JSON; at most 6291456 bytes are allowed', error['message'])
    assert_equal('BadResponse', main.invoke([LIMIT / 2, 'é']).json['kind'])
    assert_equal(RESULT, main.invoke([LIMIT / 2 - 1, 'é']).kind)
  end

  def test_an_event_of_6_mib_arrives_whole
    [1, 2].each do |concurrency|
      main = load("def handler(event:, context:)\n  [event.size, event == 'y' * event.size]\nend", concurrency: concurrency)
      assert_equal([LIMIT - 2, true], main.invoke('y' * (LIMIT - 2)).json)
    end
  end

  def test_exit_and_abort_in_the_handler_end_the_process_after_its_logs
    source = <<~RUBY
      at_exit { puts 'bye' }
      def handler(event:, context:)
        print 'leaving'
        case event
        when 'exit' then exit(5)
        when 'abort' then abort('why')
        when 'thread' then Thread.new { exit(6) }.join
        end
      end
    RUBY
    [1, 2].each do |concurrency|
      { 'exit' => 5, 'abort' => 1, 'thread' => 6 }.each do |event, status|
        main = load(source, concurrency: concurrency)
        main.send(invoke_frame(9, event))
        main.until_closed
        assert_equal([status, ''], main.sandbox.wait)
        lines = main.logs[9] + (main.logs[0] || [])
        assert_match(/leaving/, lines.map(&:last).join("\n"))
        assert_match(/bye/, lines.map(&:last).join("\n"))
        assert_includes(lines, %w[stderr why]) if event == 'abort'
      end
    end
  end

  def test_exit_bang_ends_the_process_at_once
    main = load("def handler(event:, context:)\n  puts 'leaving'\n  exit!(4)\nend")
    main.send(invoke_frame(9))
    main.until_closed
    assert_equal([4, ''], main.sandbox.wait)
    assert_equal([%w[stdout leaving]], main.logs[9])
  end

  def test_a_handler_that_ends_its_thread_fails
    main = load("def handler(event:, context:)\n  event ? Thread.exit : 1\nend", concurrency: 2)
    4.times { assert_equal(%w[FunctionError ThreadError], main.invoke(true).json.values_at('kind', 'type')) }
    assert_equal(1, main.invoke(false).json)
  end

  def test_a_timeout_in_the_handler_does_not_break_the_stream
    source = <<~RUBY
      require 'timeout'
      def handler(event:, context:)
        Timeout.timeout(0.02) { loop { puts 'x' * 5000 } }
      rescue Timeout::Error
        'late'
      end
    RUBY
    [1, 2].each do |concurrency|
      main = load(source, concurrency: concurrency)
      3.times { assert_equal('late', main.invoke.json) }
    end
  end

  def test_a_forked_child_neither_answers_nor_ends_the_sandbox
    source = <<~RUBY
      def handler(event:, context:)
        Process.wait(fork { puts 'child' })
        pid = fork
        return 'child' unless pid
        Process.wait(pid)
        'parent'
      end
    RUBY
    [1, 2].each do |concurrency|
      main = load(source, concurrency: concurrency)
      2.times { assert_equal('parent', main.invoke.json) }
      assert_equal(1, main.kinds.count(READY))
      main.socket.close
      assert_equal([0, "child\nchild\n"], main.sandbox.wait)
    end
  end

  def test_user_code_that_patches_classes_does_not_break_replies
    source = <<~RUBY
      def JSON.generate(*) = raise
      def JSON.parse(*) = raise
      def Process.clock_gettime(*) = raise
      def Process.pid = raise
      def Process.exit!(*) = raise
      def Time.now = raise
      def IO.select(*) = raise
      class Thread; def group = raise; end
      def handler(event:, context:)
        puts 'in'
        [event, context.aws_request_id.size, context.get_remaining_time_in_millis.positive?]
      end
    RUBY
    source = source.gsub(/def (\S+) = raise/, 'def \\1; raise; end')
    main = load(source)
    [1, 2].each do |event|
      reply = main.invoke(event)
      assert_equal([[event, 36, true], [%w[stdout in]]], [reply.json, reply.logs])
    end
  end
end
