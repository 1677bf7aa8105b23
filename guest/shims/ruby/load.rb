# frozen_string_literal: true

module ImpulsShim
  # Loads the user's file once and finds the handler in it, and says in words what is wrong when that fails.
  class Loader
    MAX_LISTED = 20
    CONSTANT = /\A[A-Z]\w*(?:::[A-Z]\w*)*\z/.freeze
    # What can define methods that the file itself does not spell out.
    DYNAMIC = %w[
      require_relative load autoload eval instance_eval class_eval module_eval class_exec module_exec define_method
      define_singleton_method method_missing include extend prepend alias_method send public_send __send__
      const_set const_missing delegate def_delegator def_delegators instance_delegate attr_reader attr_accessor
      attr cattr_accessor mattr_accessor alias
    ].freeze

    def initialize(settings)
      @settings = settings
      @code_dir = settings['code_dir']
      @handler = settings['handler'].to_s
      @main = TOPLEVEL_BINDING.receiver
    end

    # The handler that INIT names, as a Method. Raises HandlerError, or whatever the user's top level raises.
    def load
      prepare_process
      file, constant, name = locate
      before = { method: existing(name), names: Object.private_instance_methods(false) }
      require file
      return of_constant(file, constant, name) if constant

      found = existing(name)
      return found if found && found != before[:method]

      defined = Object.private_instance_methods(false) - before[:names]
      raise HandlerError, "#{relative(file)} does not define \"#{name}\"; it defines #{listing(defined)}"
    end

    # Proves without running any of it that the file parses, and that the handler is there unless running it might
    # define it.
    def check
      Dir.chdir(@code_dir)
      file, constant, name = locate
      RubyVM::InstructionSequence.compile_file(file)
      methods, words = spelled_out(file)
      return if methods.include?(name) || beyond_reading?(file, words)
      return if constant && (constant.split('::') - words).empty?

      missing = constant || "\"#{name}\""
      raise HandlerError, "#{relative(file)} does not define #{missing}; it defines #{listing(methods)}"
    end

    private

    def prepare_process
      environment = @settings['environment'] || {}
      environment.each { |key, value| ENV[key] = value.to_s }
      Dir.chdir(@code_dir)
      $LOAD_PATH.unshift(@code_dir)
      # Where `bundle install --deployment` puts gems, and where AWS Lambda looks for them.
      bundle = File.join(@code_dir, 'vendor/bundle/ruby', RbConfig::CONFIG['ruby_version'])
      ENV['GEM_PATH'] = bundle if !ENV.key?('GEM_PATH') && File.directory?(bundle)
      Gem.clear_paths if defined?(Gem) && (ENV.key?('GEM_PATH') || ENV.key?('GEM_HOME'))
    end

    # Splits the handler string at its last dot, and a class or module off what is before: the file, the constant's
    # name if there is one, the method's.
    def locate
      stem, dot, name = @handler.rpartition('.')
      if name.empty? || (!dot.empty? && stem.empty?)
        raise HandlerError, "handler \"#{@handler}\" has no method name; write it as file.method"
      end

      looked_for = []
      candidates(stem).each do |path, constant|
        path = checked(path)
        looked_for << "#{path}.rb"
        file = File.join(@code_dir, "#{path}.rb")
        return [file, constant, name] if File.file?(file)
      end
      raise HandlerError, "handler \"#{@handler}\" names a file that does not exist; looked for #{looked_for.join(', ')}"
    end

    # What the part before the method may mean: a file, a file and a constant, a constant of the default file.
    def candidates(stem)
      return [[default_stem, nil]] if stem.empty?

      path, _, constant = stem.rpartition('.')
      found = [[stem, nil]]
      found << [path, constant] if !path.empty? && constant.match?(CONSTANT)
      found << [default_stem, stem] if stem.include?('::') && stem.match?(CONSTANT)
      found.reject! { |file, _| file.include?('::') } if found.size > 1
      found
    end

    def checked(path)
      full = File.expand_path(path, @code_dir)
      return full.delete_prefix("#{@code_dir}/") if full.start_with?("#{@code_dir}/")

      raise HandlerError, "handler \"#{@handler}\" points outside the function's code"
    end

    # The file of a handler without a file part: `index`, or the only file at the top.
    def default_stem
      names = Dir.children(@code_dir).select { |entry| entry.end_with?('.rb') }.map { |entry| entry.delete_suffix('.rb') }
      return 'index' if names.include?('index')
      return names.first if names.size == 1

      count = names.empty? ? 'no' : 'several'
      raise HandlerError, "handler \"#{@handler}\" names no file, and the code has #{count} Ruby files and no index.rb; " \
                          'write it as file.method'
    end

    def of_constant(file, constant, name)
      begin
        owner = Object.const_get(constant)
      rescue NameError => e
        raise unless constant.split('::').include?(e.name.to_s)

        raise HandlerError, "#{relative(file)} does not define #{constant}"
      end
      owner.method(name)
    rescue NameError => e
      raise unless e.name.to_s == name

      methods = owner.respond_to?(:singleton_methods) ? owner.singleton_methods(false) : []
      raise HandlerError, "#{constant} of #{relative(file)} has no method \"#{name}\"; it has #{listing(methods)}"
    end

    def existing(name)
      @main.method(name)
    rescue NameError
      nil
    end

    def relative(file)
      file.delete_prefix("#{@code_dir}/")
    end

    def listing(names)
      return 'no method' if names.empty?

      more = names.size > MAX_LISTED ? " and #{names.size - MAX_LISTED} more" : ''
      names.first(MAX_LISTED).join(', ') + more
    end

    # The names of all methods that a file defines in so many words, and every word that occurs in it.
    def spelled_out(file)
      require 'ripper'
      reader = Class.new(Ripper) do
        attr_reader :methods_defined, :words

        def initialize(*)
          super
          @methods_defined = []
          @words = []
        end

        def on_def(name, *)
          @methods_defined << name
        end

        def on_defs(_, _, name, *)
          @methods_defined << name
        end

        %i[on_ident on_const on_kw on_tstring_content].each do |event|
          define_method(event) { |word| @words.push(word).last }
        end
      end.new(File.read(file), file)
      reader.parse
      [reader.methods_defined, reader.words]
    end

    # Whether running the file might define methods that are not in it: by its own doing, or by another file's.
    def beyond_reading?(file, words)
      folders = [@code_dir, File.dirname(file)]
      words.any? do |word|
        DYNAMIC.include?(word) || folders.any? { |folder| File.file?(File.join(folder, "#{word.delete("\0")}.rb")) }
      end
    end
  end

  # Calls a handler with what its parameters ask for: `(event:, context:)`, `(event, context)`, `(event)` and mixtures.
  class Handler
    def initialize(method)
      @method = method
      parameters = method.parameters
      kinds = parameters.map(&:first)
      keys = parameters.select { |kind, _| %i[key keyreq].include?(kind) }.map(&:last)
      room = kinds.include?(:rest) ? 2 : kinds.count { |kind| %i[req opt].include?(kind) }
      keys |= %i[event context] if kinds.include?(:keyrest) && room.zero?
      @keywords = %i[event context] & keys
      @positional = (%i[event context] - @keywords).first(room)
    end

    def call(event, context)
      if @keywords.empty?
        case @positional.size
        when 2 then @method.call(event, context)
        when 1 then @method.call(event)
        else @method.call
        end
      else
        given = { event: event, context: context }
        keywords = @keywords.map { |key| [key, given[key]] }.to_h
        @method.call(*@positional.map { |key| given[key] }, **keywords)
      end
    end
  end

  # What a handler is told about its call; the names are those of AWS Lambda.
  class Context
    CLOCK = Process.method(:clock_gettime)

    attr_reader :deadline_ms

    # A class whose contexts have what is the same for all calls.
    def self.of(settings)
      name = settings['function_name'].to_s
      version = settings['function_version'].to_s
      suffix = version == '$LATEST' ? '' : ":#{version}"
      members = {
        function_name: name,
        function_version: version,
        memory_limit_in_mb: settings['memory_mb'].to_s,
        invoked_function_arn: "arn:aws:lambda:local:000000000000:function:#{name}#{suffix}",
        log_group_name: "/impuls/#{name}",
        log_stream_name: "#{today}/[#{version}]#{settings['function_id'].to_s.delete('-')}",
        identity: nil,
        client_context: nil
      }
      Class.new(self) { members.each { |member, value| define_method(member) { value } } }
    end

    def self.today
      Time.at(CLOCK.call(Process::CLOCK_REALTIME)).utc.strftime('%Y/%m/%d')
    end

    def initialize(request_id, deadline_ms)
      @request_id = request_id
      @deadline_ms = deadline_ms
    end

    def aws_request_id
      @request_id.unpack('H8H4H4H4H12').join('-')
    end

    def get_remaining_time_in_millis
      [0, @deadline_ms - CLOCK.call(Process::CLOCK_REALTIME, :millisecond)].max
    end

    def log(message)
      $stdout.puts(message)
    end

    def inspect
      "#<Context #{aws_request_id}>"
    end
  end
end
