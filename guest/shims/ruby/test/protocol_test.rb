# frozen_string_literal: true

# Frames and connections.

require_relative 'host'

class ProtocolTest < ShimTest
  ECHO = "def handler(event:, context:)\n  event\nend\n"
  SLOTS = [1, 8].freeze

  def test_calls_may_be_outstanding_answered_as_they_finish
    main = load("def handler(event:, **)\n  sleep(event.zero? ? 0.3 : 0.01)\n  event\nend", concurrency: 50)
    main.send((0...50).map { |n| invoke_frame(n + 1, n) }.join)
    (0...50).reverse_each { |n| assert_equal(n, main.reply(n + 1).json) }
  end

  def test_threads_run_at_once
    source = <<~RUBY
      ARRIVED = Queue.new
      def handler(event:, **)
        ARRIVED << 1
        sleep 0.001 until ARRIVED.size == 16
        event
      end
    RUBY
    main = load(source, concurrency: 16)
    main.send((0...16).map { |n| invoke_frame(n + 1, n) }.join)
    assert_equal((0...16).to_a, (0...16).map { |n| main.reply(n + 1).json })
  end

  def test_frames_may_be_split_at_every_byte
    SLOTS.each do |concurrency|
      main = load(ECHO, concurrency: concurrency)
      [1, 2, 3].map { |n| invoke_frame(n, { 'n' => n }) }.join.each_char do |byte|
        main.send(byte)
        sleep 0.0002
      end
      assert_equal([1, 2, 3], [1, 2, 3].map { |n| main.reply(n).json['n'] })
    end
  end

  def test_frames_may_come_many_at_once_with_a_part_of_the_next
    SLOTS.each do |concurrency|
      main = load(ECHO, concurrency: concurrency)
      data = (1..2000).map { |n| invoke_frame(n, 'x' * (n % 500)) }.join
      sender = Thread.new { data.scan(/.{1,65537}/mn) { |part| main.send(part) } }
      (1..2000).each { |n| assert_equal(n % 500, main.reply(n).json.size) }
      sender.join
    end
  end

  def test_calls_may_follow_init_without_waiting_for_its_answer
    SLOTS.each do |concurrency|
      made = sandbox(ECHO)
      made.main.send(made.init_frame(concurrency: concurrency) + invoke_frame(1, 'a') + invoke_frame(2, 'b'))
      assert_equal(INIT_OK, made.main.reply(0).kind)
      assert_equal(%w[a b], [made.main.reply(1).json, made.main.reply(2).json])
    end
  end

  def test_every_connection_has_its_own_ids_and_replies_return_on_it
    SLOTS.each do |concurrency|
      main = load("def handler(event:, context:)\n  puts event\n  event\nend", concurrency: concurrency)
      other = main.sandbox.connect
      assert_equal(READY, main.sandbox.ready.kind)
      main.send(invoke_frame(1, 'one'))
      other.send(invoke_frame(1, 'two'))
      { main => 'one', other => 'two' }.each do |connection, text|
        reply = connection.reply(1)
        assert_equal([text, [['stdout', text]]], [reply.json, reply.logs])
      end
      other.socket.close
      main.next_id = 5
      assert_equal('three', main.invoke('three').json)
    end
  end

  def test_a_cancelled_call_may_end_and_context_may_be_ignored
    main = load(ECHO)
    main.send(frame(CANCEL, 12_345) + frame(CONTEXT, 1, '{}') + invoke_frame(1, 1) + frame(CANCEL, 1))
    assert_equal(1, main.reply(1).json)
  end

  def test_a_frame_of_unknown_kind_or_impossible_length_closes_the_connection
    head = ->(length) { [length, INVOKE, 0].pack('L<CL<') }
    bad = [frame(99, 1), frame(INVOKE, 1, 'short'), head[4], head[0], head[(8 << 20) + 1], head[4][0, 4]]
    main = load(ECHO)
    bad.each do |bytes|
      other = main.sandbox.connect
      other.send(bytes)
      other.until_closed
      assert_equal('still here', main.invoke('still here').json)
    end
  end

  def test_a_second_init_and_a_call_before_the_first_close_the_connection
    main = load(ECHO)
    other = main.sandbox.connect
    other.send(main.sandbox.init_frame)
    other.until_closed
    made = sandbox(ECHO)
    early = made.connect
    early.send(invoke_frame(1))
    early.until_closed
    assert_equal(INIT_OK, made.init.kind)
  end

  def test_the_shim_ends_when_the_host_has_left
    SLOTS.each do |concurrency|
      main = load(ECHO, concurrency: concurrency)
      other = main.sandbox.connect
      main.socket.close
      other.send(invoke_frame(1, 1))
      assert_equal(1, other.reply(1).json)
      other.socket.close
      assert_equal([0, ''], main.sandbox.wait)
    end
  end

  def test_a_warmed_shim_behaves_the_same
    SLOTS.each do |concurrency|
      main = load("puts 'top'\n#{ECHO}", warm: true, concurrency: concurrency)
      assert_equal({ 'a' => 1 }, main.invoke({ 'a' => 1 }).json)
      assert_equal([%w[stdout top]], main.logs[0])
    end
  end
end
