# frozen_string_literal: true

module ImpulsShim
  HERE = "#{__dir__}/"
  MAX_TEXT = 64 << 10 # characters of a message or stack
  MAX_CAUSES = 10
  CLASS_OF = Kernel.instance_method(:class)
  NAME_OF = Module.instance_method(:to_s)

  # A handler string that leads nowhere; its message is shown to the user as it is.
  class HandlerError < StandardError; end

  # Puts exceptions into words. They may come with methods that raise: describing them must not.
  module Describe
    module_function

    # `{type, message, stack}` of an exception, without our own frames.
    def describe(error)
      { 'type' => type_name(error), 'message' => message_of(error), 'stack' => stack_of(error) }
    end

    # The INIT_ERR payload for whatever loading ran into.
    def explain(error, code_dir)
      return { 'kind' => 'handler', 'type' => 'HandlerError', 'message' => clean(error.message) } if HandlerError === error

      failure = { 'kind' => 'init' }.update(describe(error))
      SyntaxError === error ? failure.update(place_of(failure['message'], code_dir)) : failure
    end

    # Where code does not parse, and the message without that place. Code given to `eval` lies in no file: that it does
    # not parse is a run-time error.
    def place_of(message, code_dir)
      match = /\A(?<file>.+?):(?<line>\d+): (?<text>.*)/m.match(message)
      return {} unless match && File.file?(match[:file])

      file = match[:file].delete_prefix("#{code_dir}/")
      { 'kind' => 'syntax', 'message' => match[:text].chomp, 'file' => file, 'line' => match[:line].to_i }
    end

    def type_name(value)
      clean(NAME_OF.bind_call(CLASS_OF.bind_call(value)))
    end

    def message_of(error)
      clean(error.message.to_s)
    rescue Exception
      '(a message that cannot be shown)'
    end

    # What Ruby itself prints of an exception that nobody rescues, and of its causes.
    def stack_of(error)
      parts = []
      while error && parts.size < MAX_CAUSES
        first, *others = own_frames(error.backtrace || [])
        parts << "#{first || 'ruby'}: #{message_of(error)} (#{type_name(error)})"
        parts.concat(others.map { |frame| "\tfrom #{frame}" })
        error = error.cause
      end
      clean(parts.join("\n"))
    rescue Exception
      ''
    end

    # The frames that are the user's; how Ruby was asked to load the file is none of them.
    def own_frames(backtrace)
      kept = backtrace.reject { |frame| frame.start_with?(HERE) }
      kept.pop while kept.last && kept.last.match?(%r{\A<internal:|/rubygems/core_ext/kernel_require\.rb})
      kept
    end

    # Valid UTF-8, not too long.
    def clean(text)
      text = utf8(text)
      text.length <= MAX_TEXT ? text : "#{text[0, MAX_TEXT]}…"
    end

    # The same text as valid UTF-8. Bytes without an encoding are taken for UTF-8.
    def utf8(text)
      case text.encoding
      when Encoding::UTF_8, Encoding::US_ASCII then text.valid_encoding? ? text : text.dup.force_encoding(Encoding::UTF_8).scrub
      when Encoding::BINARY then text.dup.force_encoding(Encoding::UTF_8).scrub
      else text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace)
      end
    end

    # JSON of a hash of strings and whole numbers, whatever user code has made of the JSON library.
    def to_json_object(hash)
      members = hash.map { |key, value| "#{quote(key)}:#{value.is_a?(Integer) ? value : quote(value)}" }
      "{#{members.join(',')}}"
    end

    def quote(text)
      %("#{text.gsub(/["\\\u0000-\u001f]/) { |char| format('\u%04x', char.ord) }}")
    end
  end
end
