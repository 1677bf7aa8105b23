# frozen_string_literal: true

# LOG frames: levels, whose line it is, partial lines, and the limit.

require_relative 'host'

class LogsTest < ShimTest
  LIMIT = 1024 * 1024

  def logs_of(body, event = nil, **settings)
    reply = load("require 'logger'\nLOGGER = Logger.new(STDOUT)\ndef handler(event:, context:)\n#{body}\nend", **settings).invoke(event)
    assert_equal(RESULT, reply.kind, reply.text)
    reply.logs
  end

  def test_all_that_prints_is_lines
    logs = logs_of("puts 'out', 5, [1, [2]]; warn 'err'; puts; p({ 'a' => 1 }); $stdout.printf(\"%d\\n\", 7); STDOUT.puts 'const'; " \
                   "STDERR << 'shovel' << 1 << \"\\n\"; context.log('context'); LOGGER.info('logger'); print 'no newline'; nil")
    lines = logs.map { |level, text| text.split("\n", -1).then { |parts| parts.empty? ? [[level, '']] : parts.map { |part| [level, part] } } }.flatten(1)
    assert_equal([%w[stdout out], %w[stdout 5], %w[stdout 1], %w[stdout 2], %w[stderr err], ['stdout', '']], lines[0, 6])
    assert_match(/"a" ?=> ?1/, lines[6][1])
    assert_equal([%w[stdout 7], %w[stdout const], %w[stderr shovel1], %w[stdout context]], lines[7, 4])
    assert_match(/\AI, .*INFO -- : logger\z/, lines[11][1])
    assert_equal([%w[stdout no\ newline]], lines[12..])
  end

  def test_the_streams_behave_like_streams
    logs = logs_of("$stdout.write('é'.b[0]); $stdout.write('é'.b[1], \"\\xff\\n\"); $stdout.flush; $stdout.sync = true; " \
                   "$stdout.close; $stderr.puts('ü'.encode('UTF-16LE')); $stdout.syswrite(\"sys\\n\"); " \
                   '$stdout.puts [$stdout.tty?, $stdout.fileno, $stderr.fileno, $stdout.closed?, $stdout.is_a?(IO)].inspect; nil')
    assert_equal([%W[stdout é\ufffd], %w[stderr ü], %w[stdout sys], ['stdout', '[false, 1, 2, false, true]']], logs)
  end

  def test_lines_precede_the_reply_in_order
    reply = load("def handler(event:, context:)\n  event.times { |i| puts i }\n  'value'\nend").invoke(2000)
    assert_equal('value', reply.json)
    assert_equal((0...2000).map(&:to_s), reply.logs.flat_map { |_, text| text.split("\n") })
  end

  def test_lines_of_the_top_level_belong_to_no_call
    main = load("puts 'top'\nprint 'partial'\ndef handler(event:, context:)\n  puts 'in'\nend")
    assert_equal([%w[stdout top], %w[stdout partial]], main.logs[0])
    assert_equal([%w[stdout in]], main.invoke.logs)
  end

  def test_lines_printed_after_the_reply_belong_to_no_call
    source = "def handler(event:, context:)\n  Thread.new { sleep 0.05; puts 'late' }\n  nil\nend"
    [1, 2].each do |concurrency|
      main = load(source, concurrency: concurrency)
      assert_equal([], main.invoke.logs)
      assert_equal([%w[stdout late]], main.outside(1))
    end
  end

  def test_lines_before_an_endless_loop_are_not_lost
    main = load("def handler(event:, context:)\n  puts 'start'\n  loop {}\nend")
    main.send(invoke_frame(5))
    main.receive until main.logs.key?(5)
    assert_equal([%w[stdout start]], main.logs[5])
  end

  def test_what_a_thread_dies_of_is_a_line_of_its_call
    main = load("def handler(event:, context:)\n  Thread.new { raise 'in thread' }.join rescue nil\n  1\nend", concurrency: 2)
    logs = main.invoke.logs
    assert_match(/in thread/, logs.map(&:last).join)
    assert_equal(['stderr'], logs.map(&:first).uniq)
  end

  def test_a_trap_may_print
    main = load("def handler(event:, context:)\n  trap('USR1') { puts 'trapped' }\n  Process.kill('USR1', $$)\n  sleep 0.05\n  1\nend")
    assert_equal(1, main.invoke.json)
    main.socket.close
    assert_equal([0, "trapped\n"], main.sandbox.wait)
  end

  def test_lines_of_threads_at_once_stay_apart
    source = <<~RUBY
      def handler(event:, context:)
        puts "start \#{event}"
        print 'part '
        sleep(event % 5 / 1000.0)
        puts "rest \#{event}"
        Thread.new { Thread.new { puts "thread \#{event}" }.join }.join
        Fiber.new { puts "fiber \#{event}" }.resume
        Enumerator.new { |y| y << "enum \#{event}" }.next.then { |text| puts text }
        print "open \#{event}"
        event
      end
    RUBY
    main = load(source, concurrency: 32)
    (0...32).each { |n| main.send(invoke_frame(n + 1, n)) }
    (0...32).each do |n|
      reply = main.reply(n + 1)
      assert_equal(n, reply.json)
      words = ['start', 'part rest', 'thread', 'fiber', 'enum', 'open']
      assert_equal(words.map { |word| ['stdout', "#{word} #{n}"] }.sort, reply.logs.sort)
    end
  end

  def test_a_line_of_5_mb_is_cut_at_the_limit_and_the_rest_counted
    ["puts 'x' * event", "print 'x' * event", "5.times { print 'x' * (event / 5) }", "$stdout.write(('x' * event).b)"].each do |body|
      logs = logs_of("#{body}; nil", 5_000_000)
      assert_equal(%w[stdout cut], logs.map(&:first))
      assert_equal(LIMIT - 1, logs[0][1].size)
      assert_in_delta(5_000_000 - LIMIT, logs[1][1], 10)
    end
  end

  def test_a_cut_line_ends_in_a_whole_character
    text = logs_of("puts 'a' + '€' * 1_000_000")[0][1]
    assert_match(/\Aa€+\z/, text)
    assert_operator(text.bytesize, :>, LIMIT - 5)
  end

  def test_100_mb_of_output_neither_stall_nor_grow_the_process
    body = "line = 'z' * 999\n100_000.times { puts line }\nFile.read('/proc/self/status')[/VmHWM:\\s+(\\d+)/, 1].to_i"
    reply = load("def handler(event:, context:)\n#{body}\nend").invoke
    assert_operator(reply.json, :<, 100_000)
    kept = reply.logs.select { |level, _| level == 'stdout' }.sum { |_, text| text.size + 1 }
    assert_includes(LIMIT - 2000..LIMIT, kept)
    assert_equal(['cut', 100_000_000 - kept], reply.logs.last)
  end

  def test_the_limit_is_per_call
    main = load("def handler(event:, context:)\n  puts 'x' * event\nend")
    assert_equal(2, main.invoke(2 * LIMIT).logs.size)
    assert_equal([%w[stdout xx]], main.invoke(2).logs)
  end
end
