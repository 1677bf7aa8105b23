# frozen_string_literal: true

# The methods of the rehearsal: they do what functions do.
module ImpulsSample
  def self.handler(event:, context:)
    puts "sample #{event['count']} #{context.aws_request_id}"
    warn 'sample'
    left = context.get_remaining_time_in_millis
    { 'statusCode' => 200, 'body' => JSON.generate('left' => left, 'event' => event) }
  end

  def self.failing(event:, **)
    raise ArgumentError, "sample #{event['name']}"
  end
end
