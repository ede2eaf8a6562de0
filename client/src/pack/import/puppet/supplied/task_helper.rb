# frozen_string_literal: true

require 'json'

# Stands in for the module ruby_task_helper of Puppet, which was not beside the imported module. A task is a subclass:
# its method `task` gets the parameters as keywords and returns the result.
class TaskHelper
  attr_reader :debug_statements

  # Error with the kind and details that callers see.
  class Error < RuntimeError
    attr_reader :kind, :details, :issue_code

    def initialize(msg, kind, details = nil)
      super(msg)
      @kind = kind
      @details = details || {}
    end

    def to_h
      { 'kind' => kind, 'msg' => message, 'details' => details }
    end
  end

  def debug(statement)
    (@debug_statements ||= []) << statement
  end

  def task(_params = {})
    raise TaskHelper::Error.new('The task author must implement the `task` method in the task', 'tasklib/not-implemented')
  end

  # Returns a copy of the data with symbols for the keys of hashes.
  def self.walk_keys(data)
    case data
    when Hash then data.to_h { |key, value| [key.to_sym, walk_keys(value)] }
    when Array then data.map { |value| walk_keys(value) }
    else data
    end
  end

  def self.run
    task = new
    result = task.task(**walk_keys(JSON.parse($stdin.read)))
    $stdout.print(result.is_a?(Hash) ? JSON.generate(result) : result.to_s)
  rescue TaskHelper::Error => e
    give_up(e)
  rescue StandardError => e
    details = { 'backtrace' => e.backtrace, 'debug' => task&.debug_statements }.compact
    give_up(TaskHelper::Error.new(e.message, e.class.to_s, details))
  end

  def self.give_up(error)
    $stdout.print JSON.generate({ _error: error.to_h })
    exit 1
  end
end
