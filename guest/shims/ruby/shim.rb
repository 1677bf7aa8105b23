# frozen_string_literal: true

# The Ruby adapter: serves Impuls' guest protocol for one function, over the listening Unix socket at
# descriptor 3. `../README.md` describes the protocol. This file only ties the parts together.

module ImpulsShim
  # A function's Gemfile may ask for any version of any gem: those that the shim alone has loaded count as not activated.
  def self.require_quietly(*libraries)
    return libraries.each { |library| require library } unless defined?(Gem)

    activated = Gem.loaded_specs.keys
    libraries.each { |library| require library }
    own = Gem.loaded_specs.reject { |name, _| activated.include?(name) }
    own.each do |name, gem|
      gem.activated = false
      Gem.loaded_specs.delete(name)
    end
  end

  require_quietly('json', 'rbconfig', 'socket')
end

%w[describe output load slots server].each { |part| require_relative part }

module ImpulsShim
  LISTEN_FD = 3

  # Nothing of ours is found by user code that looks around: not on the list of loaded files, not as a constant.
  def self.hide
    $LOADED_FEATURES.reject! { |file| file.start_with?(HERE) }
    ARGV.clear
    # Not the function's file: `if __FILE__ == $0` shall not start it as a program.
    $0 = 'ruby'
    Object.send(:remove_const, :ImpulsShim)
  end

  def self.main
    if ARGV.include?('--warm')
      require_relative 'rehearse'
      Rehearsal.run
    end
    hide
    # As for any program: the default action, not an exception in the middle of a call.
    %w[INT TERM].each { |signal| trap(signal, 'SYSTEM_DEFAULT') }
    server = Server.new(LISTEN_FD)
    # Registered first, so it runs after everything that the function has registered.
    at_exit { server.leave_process }
    server.run
  end
end

ImpulsShim.main
