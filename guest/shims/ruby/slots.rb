# frozen_string_literal: true

module ImpulsShim
  # Several invocations at once: a pool of threads, started when first needed.
  #
  # A thread belongs to the group of the thread that started it. So each invocation has a group of its own, and what
  # its threads print is known for the invocation's without a patch of any class.
  class Slots
    ADD = ThreadGroup.instance_method(:add)
    GROUP_OF = Thread.instance_method(:group)
    START = Thread.method(:new)

    # The threads of one invocation.
    class Group < ThreadGroup
      attr_reader :invocation

      def initialize(invocation)
        super()
        @invocation = invocation
      end
    end

    def self.invocation_of(thread)
      group = GROUP_OF.bind_call(thread)
      group.invocation if Group === group
    end

    def initialize(server, size)
      @server = server
      @size = size
      @started = 0
      @queue = Queue.new
    end

    def submit(invocation, event, context)
      @queue.push([invocation, event, context])
      start if @queue.size > @queue.num_waiting && @started < @size
    end

    private

    def start
      @started += 1
      START.call do
        Thread.current.report_on_exception = false
        work
      ensure
        @started -= 1 # by `Thread.exit` in a handler
      end
    end

    def work
      loop do
        invocation, event, context = @queue.pop
        ADD.bind_call(Group.new(invocation), Thread.current)
        @server.call(invocation, event, context)
        ADD.bind_call(ThreadGroup::Default, Thread.current)
      end
    end
  end
end
