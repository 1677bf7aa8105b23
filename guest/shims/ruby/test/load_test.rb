# frozen_string_literal: true

# INIT: finding, loading and checking the user's code.

require_relative 'host'

class LoadTest < ShimTest
  ECHO = "def handler(event:, context:)\n  event\nend\n"

  def first_reply(files, event = nil, **settings)
    load(files, **settings).invoke(event).json
  end

  def test_ready_names_the_runtime_and_its_version
    assert_equal({ 'runtime' => 'ruby', 'version' => RUBY_VERSION }, sandbox(ECHO).ready.json)
  end

  def test_init_applies_environment_folder_and_path
    source = <<~RUBY
      TOP = ENV.fetch('COLOR')
      def handler(event:, context:)
        [TOP, Dir.pwd, $LOAD_PATH.first, __FILE__, __FILE__ == $0, ARGV]
      end
    RUBY
    main = load(source, environment: { COLOR: 'blue' })
    folder = main.sandbox.code_dir
    assert_equal(['blue', folder, folder, "#{folder}/index.rb", false, []], main.invoke.json)
  end

  def test_the_file_part_may_have_slashes_dots_and_capitals
    assert_equal(1, first_reply({ 'src/app.rb' => ECHO }, 1, handler: 'src/app.handler'))
    assert_equal(1, first_reply({ 'my-app.v2.rb' => ECHO }, 1, handler: 'my-app.v2.handler'))
    assert_equal(1, first_reply({ 'App.rb' => ECHO }, 1, handler: 'App.handler'))
    files = { 'app.rb' => "require 'lib/part'\nrequire_relative 'other'\n#{ECHO}", 'lib/part.rb' => '', 'other.rb' => '' }
    assert_equal(1, first_reply(files, 1, handler: 'app.handler'))
  end

  def test_a_handler_without_a_file_part_is_in_index_or_in_the_only_file
    assert_equal(1, first_reply({ 'index.rb' => ECHO, 'other.rb' => '' }, 1, handler: 'handler'))
    assert_equal(1, first_reply({ 'app.rb' => ECHO }, 1, handler: 'handler'))
    error = init_error({ 'one.rb' => ECHO, 'two.rb' => ECHO }, handler: 'handler')
    assert_equal('handler', error['kind'])
    assert_includes(error['message'], 'several Ruby files and no index.rb')
  end

  def test_a_file_may_have_the_name_of_a_standard_one
    %w[json socket server shim warm set time].each do |name|
      [false, true].each do |warm|
        main = load({ "#{name}.rb" => ECHO }, warm: warm, handler: "#{name}.handler")
        assert_equal({ 'a' => 1 }, main.invoke({ 'a' => 1 }).json)
      end
    end
  end

  def test_a_syntax_error_has_its_file_and_line
    [true, false].each do |check|
      error = init_error("def handler(event)\n  x = = 1\nend\n", check: check)
      assert_equal(['syntax', 'SyntaxError', 'index.rb', 2], error.values_at('kind', 'type', 'file', 'line'))
      assert_match(/unexpected/, error['message'])
      refute_match(%r{\A/}, error['message'])
    end
    error = init_error({ 'index.rb' => "require 'lib/part'", 'lib/part.rb' => "\n\n  )" })
    assert_equal(['syntax', 'lib/part.rb', 3], error.values_at('kind', 'file', 'line'))
  end

  def test_a_syntax_error_that_running_code_raises_is_not_the_codes_own
    assert_equal(%w[init SyntaxError], init_error("eval('x = =')").values_at('kind', 'type'))
  end

  def test_a_missing_file_is_named_with_what_was_looked_for
    [true, false].each do |check|
      error = init_error(ECHO, handler: 'src/app.Api.handler', check: check)
      assert_equal('handler', error['kind'])
      assert_includes(error['message'], '"src/app.Api.handler"')
      assert_includes(error['message'], 'looked for src/app.Api.rb, src/app.rb')
    end
  end

  def test_a_handler_outside_the_code_is_refused
    assert_includes(init_error(ECHO, handler: '../x.handler')['message'], 'outside')
    assert_includes(init_error(ECHO, handler: 'index.')['message'], 'no method name')
  end

  def test_a_missing_handler_is_answered_with_what_the_file_defines
    [true, false].each do |check|
      error = init_error("def main(event:)\nend\nLIMIT = 5\nhandler = 5", check: check)
      assert_equal(['handler', 'index.rb does not define "handler"; it defines main'], error.values_at('kind', 'message'))
      error = init_error('LIMIT = 5', check: check)
      assert_equal('index.rb does not define "handler"; it defines no method', error['message'])
      error = init_error(ECHO, handler: 'index.Shop::Api.call', check: check)
      assert_match(/\Aindex.rb does not define Shop::Api/, error['message'])
    end
    # A method that Ruby itself has at the top level is none of the file's.
    assert_equal('handler', init_error(ECHO, handler: 'index.puts')['kind'])
    error = init_error("module Api\n  def self.other; end\nend", handler: 'index.Api.call')
    assert_equal('Api of index.rb has no method "call"; it has other', error['message'])
  end

  def test_a_check_runs_nothing
    [ECHO, "module A\n  def self.handler; end\nend", "class << self\n  def handler; end\nend"].each do |source|
      main = load("raise 'run'\n#{source}", check: true)
      assert_nil(main.logs[0])
    end
  end

  def test_a_check_lets_pass_what_only_running_can_tell
    [
      'define_method(:handler) { |event| event }', "require_relative 'lib/part'", "require 'lib/part'", 'eval(TEXT)',
      'extend Handlers', 'alias handler main'
    ].each { |source| load({ 'index.rb' => source, 'lib/part.rb' => ECHO }, check: true) }
    load("class Api < Base\nend", handler: 'index.Api.call', check: true)
  end

  def test_an_error_in_the_top_level_has_type_message_and_stack
    error = init_error("class Odd < StandardError; end\n\nraise Odd, 'no luck'\n")
    assert_equal(['init', 'Odd', 'no luck'], error.values_at('kind', 'type', 'message'))
    assert_match(/index\.rb:3:in .*: no luck \(Odd\)\z/, error['stack'])
    error = init_error("require 'not_there'")
    assert_equal(%w[init LoadError], error.values_at('kind', 'type'))
    refute_match(/shims/, error['stack'])
    assert_equal(%w[init NameError], init_error('NOT_THERE', handler: 'index.Api.call').values_at('kind', 'type'))
  end

  def test_exit_in_the_top_level_ends_the_process_after_its_logs
    { 'exit 7' => 7, 'exit' => 0, 'abort "why"' => 1, 'raise SystemExit.new(3)' => 3 }.each do |statement, status|
      made = sandbox("print 'leaving'\n#{statement}")
      made.main.send(made.init_frame)
      made.main.until_closed
      assert_equal(status, made.wait.first)
      assert_includes(made.main.logs[0], %w[stdout leaving])
    end
  end

  def test_the_shim_is_invisible_to_user_code
    source = <<~RUBY
      SEEN = [Object.constants.grep(/impuls/i), $LOADED_FEATURES.grep(/shims/), $LOAD_PATH.grep(/shims/), ENV.keys.sort,
              Gem.loaded_specs.keys.sort].freeze
      def handler(event:, context:)
        SEEN
      end
    RUBY
    bare = IO.popen([RbConfig.ruby, '-e', 'puts Gem.loaded_specs.keys.sort'], &:read).split
    [false, true].each do |warm|
      assert_equal([[], [], [], %w[HOME LANG PATH TMPDIR], bare], load(source, warm: warm).invoke.json)
    end
  end

  def test_children_do_not_inherit_the_sockets
    source = "def handler(event:, context:)\n  IO.popen(%w[ls -l /proc/self/fd], close_others: false, &:read)\nend"
    refute_match(/socket/, load(source).invoke.json)
  end

  def test_a_function_may_do_without_gems
    made = sandbox("def handler(event:, context:)\n  defined?(Gem).inspect\nend", options: ['--disable=gems'])
    assert_equal(INIT_OK, made.init.kind)
    assert_equal('nil', made.main.invoke.json)
  end

  def test_gems_of_a_bundle_are_found
    folder = "vendor/bundle/ruby/#{RbConfig::CONFIG['ruby_version']}"
    specification = "Gem::Specification.new do |s|\n  s.name = 'greeting'\n  s.version = '1.2'\n  s.summary = 'x'\n" \
                    "  s.authors = ['x']\n  s.require_paths = ['lib']\nend"
    files = {
      "#{folder}/specifications/greeting-1.2.gemspec" => specification,
      "#{folder}/gems/greeting-1.2/lib/greeting.rb" => "GREETING = 'hello'",
      'index.rb' => "require 'greeting'\ndef handler(event:, context:)\n  GREETING\nend"
    }
    [false, true].each { |warm| assert_equal('hello', first_reply(files, warm: warm)) }
  end
end
