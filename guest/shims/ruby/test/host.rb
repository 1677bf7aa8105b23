# frozen_string_literal: true

# A small host for the tests: starts the real shim with a listening socket at descriptor 3 and speaks the guest
# protocol with it.

require 'fileutils'
require 'json'
require 'minitest/autorun'
require 'rbconfig'
require 'socket'
require 'timeout'
require 'tmpdir'

SHIM = File.expand_path('../shim.rb', __dir__)
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
LEVELS = %w[stdout stderr debug info warn error cut].freeze
TIMEOUT = 20

def frame(kind, id, payload = '')
  [payload.bytesize + 5, kind, id].pack('L<CL<') + payload.b
end

def invoke_frame(id, event = nil, raw: nil, request_id: "\0" * 16, deadline_ms: (Time.now.to_f * 1000).to_i + 30_000)
  frame(INVOKE, id, request_id.b + [deadline_ms].pack('Q<') + (raw || JSON.generate(event, max_nesting: 0)).b)
end

class Reply
  attr_reader :kind, :id, :text, :logs

  def initialize(kind, id, body, logs)
    @kind = kind
    @id = id
    @text = body.dup.force_encoding('UTF-8')
    @logs = logs
  end

  def json
    JSON.parse(@text)
  end
end

# One connection to the shim; sorts its frames into replies and log lines.
class Connection
  attr_accessor :next_id, :sandbox
  attr_reader :socket, :kinds, :logs

  def initialize(path)
    @socket = UNIXSocket.new(path)
    @data = String.new
    @kinds = []
    @logs = {}
    @replies = {}
    @next_id = 1
  end

  def send(data)
    @socket.write(data)
  end

  # One more frame; nil when the shim has closed the connection.
  def receive
    while @data.bytesize < 4 || @data.bytesize < 4 + @data.unpack1('L<')
      raise 'the shim says nothing' unless @socket.wait_readable(TIMEOUT)

      more = begin
        @socket.read_nonblock(1 << 20, exception: false)
      rescue SystemCallError
        nil
      end
      next if more == :wait_readable
      return nil unless more

      @data << more
    end
    length, kind, id = @data.unpack('L<CL<')
    sort(kind, id, @data.byteslice(9, length - 5))
    @data = @data.byteslice(4 + length, @data.bytesize)
    kind
  end

  def sort(kind, id, body)
    @kinds << kind
    return @replies[id] = Reply.new(kind, id, body, @logs[id] || []) unless kind == LOG

    level = LEVELS.fetch(body.getbyte(0))
    rest = body.byteslice(1, body.bytesize)
    (@logs[id] ||= []) << [level, level == 'cut' ? rest.unpack1('Q<') : rest.force_encoding('UTF-8')]
  end

  def reply(id)
    until @replies.key?(id)
      raise "the shim closed the connection; it sent #{@kinds}" unless receive
    end
    @replies.delete(id)
  end

  def invoke(event = nil, **options)
    id = @next_id
    @next_id += 1
    send(invoke_frame(id, event, **options))
    reply(id)
  end

  def until_closed
    nil while receive
  end

  def outside(count)
    receive until (@logs[0] || []).size >= count
    @logs[0]
  end
end

# A shim process, its code folder, and one connection to it (`main`).
class Sandbox
  attr_reader :main, :code_dir, :ready, :pid

  def initialize(files, warm: false, options: [])
    @folder = File.realpath(Dir.mktmpdir('shim-'))
    @code_dir = File.join(@folder, 'task')
    Dir.mkdir(@code_dir)
    files.each do |name, text|
      path = File.join(@code_dir, name)
      FileUtils.mkdir_p(File.dirname(path))
      File.binwrite(path, text)
    end
    @path = File.join(@folder, 'guest.sock')
    start(options, warm)
    @connections = []
    @main = connect
    @main.sandbox = self
  end

  def start(options, warm)
    listener = UNIXServer.new(@path)
    @output, input = IO.pipe
    environment = { 'PATH' => '/usr/local/bin:/usr/bin:/bin', 'HOME' => '/tmp', 'LANG' => 'C.UTF-8', 'TMPDIR' => '/tmp' }
    command = [RbConfig.ruby, *options, SHIM] + (warm ? ['--warm'] : [])
    @pid = spawn(environment, *command, unsetenv_others: true, chdir: '/', in: File::NULL, out: input, err: input, 3 => listener)
    listener.close
    input.close
  end

  def connect
    connection = Connection.new(@path)
    @connections << connection
    @ready = connection.reply(0)
    connection
  end

  def init_frame(**settings)
    init = {
      function_name: 'hello', function_version: '3', function_id: '0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000',
      handler: 'index.handler', contract: 'module', memory_mb: 256, concurrency: 1, environment: {},
      code_dir: @code_dir, check: false
    }
    frame(INIT, 0, JSON.generate(init.merge(settings)))
  end

  def init(**settings)
    @main.send(init_frame(**settings))
    @main.reply(0)
  end

  # The exit status and what the process wrote to its real descriptors.
  def wait
    text = Timeout.timeout(TIMEOUT) { @output.read }
    _, status = Process.wait2(@pid)
    @pid = nil
    [status.exitstatus, text]
  end

  def close
    @connections.each { |connection| connection.socket.close }
    if @pid
      Process.kill('KILL', @pid)
      Process.wait(@pid)
    end
    @output.close
    FileUtils.rm_rf(@folder)
  end
end

class ShimTest < Minitest::Test
  def teardown
    (@sandboxes || []).each(&:close)
  end

  def sandbox(source, **options)
    sandbox = Sandbox.new(source.is_a?(Hash) ? source : { 'index.rb' => source }, **options)
    (@sandboxes ||= []) << sandbox
    sandbox
  end

  # A sandbox whose code is loaded; its connection.
  def load(source, warm: false, **settings)
    made = sandbox(source, warm: warm)
    reply = made.init(**settings)
    assert_equal(INIT_OK, reply.kind, reply.text)
    made.main
  end

  def init_error(source, **settings)
    reply = sandbox(source).init(**settings)
    assert_equal(INIT_ERR, reply.kind)
    reply.json
  end
end
