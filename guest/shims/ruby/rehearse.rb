# frozen_string_literal: true

module ImpulsShim
  # Runs sample calls over a connection that leads nowhere, on the very path of real calls. What they load and create
  # is then there when the first real call comes. Nothing of the sample itself stays behind; and no library is loaded
  # that the function has not asked for, as its Gemfile may name another version.
  module Rehearsal
    CALLS = 4
    SETTINGS = {
      'function_name' => 'sample', 'function_version' => '1', 'contract' => 'module', 'memory_mb' => 128,
      'function_id' => '00000000-0000-0000-0000-000000000000', 'concurrency' => 1, 'environment' => {},
      'code_dir' => __dir__, 'check' => false
    }.freeze

    # A socket that leads nowhere.
    class Nowhere
      def write(*); end
    end

    module_function

    def run
      streams = [$stdout, $stderr]
      %w[handler failing].each do |name|
        sample("warm.ImpulsSample.#{name}")
        $LOADED_FEATURES.reject! { |file| file.start_with?(HERE) }
        Object.send(:remove_const, :ImpulsSample)
      end
      $stdout, $stderr = streams
      { STDOUT: streams[0], STDERR: streams[1] }.each do |name, stream|
        Object.send(:remove_const, name)
        Object.const_set(name, stream)
      end
      Dir.chdir('/')
      $LOAD_PATH.delete(__dir__)
      GC.start
    end

    def sample(handler)
      connection = Connection.new(Server.new(nil), Nowhere.new)
      init = GENERATE.call(SETTINGS.merge('handler' => handler))
      batch = frame(INIT, 0, init)
      event = '{"count": 1, "name": "sample", "list": [1, 2.5, true, null]}'
      (1..CALLS).each { |id| batch << frame(INVOKE, id, ("\0" * 24) + event) }
      connection.feed(batch)
    end

    def frame(kind, id, payload)
      [payload.bytesize + 5, kind, id].pack('L<CL<') << payload.b
    end
  end
end
