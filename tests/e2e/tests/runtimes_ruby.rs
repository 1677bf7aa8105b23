//! Ruby functions: forms of handlers, context, environment, logs, failures, slots.

use std::collections::HashSet;

use impuls_e2e::functions::{FUNCTIONS, path};
use impuls_e2e::launch::SECRET;
use impuls_e2e::{Server, Value, json, unique, zip_of};
use reqwest::Method;

#[tokio::test]
#[ignore = "needs ruby"]
async fn handlers_take_keywords_or_positions() {
    let server = Server::shared().await;
    let forms = [
        "def handler(event:, context:)\n  event['a'] + 1\nend",
        "def handler(event:, **)\n  event['a'] + 1\nend",
        "def handler(event, context)\n  event['a'] + 1\nend",
        "def handler(event)\n  event['a'] + 1\nend",
    ];
    for code in forms {
        let name = server.ruby(code).await;
        assert_eq!(server.call(&name, &json!({"a": 1})).await, 2, "{code}");
        assert_eq!(server.call(&name, &json!({"a": 41})).await, 42, "{code}");
    }
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn a_handler_may_have_no_dot_and_any_file_name_and_a_class() {
    let server = Server::shared().await;
    let code = "def handler(event:, context:)\n  'here'\nend";
    for handler in ["handler", "index.handler", "app.handler", "src/deep/app.handler"] {
        let name = server.ruby_with(code, &json!({"handler": handler})).await;
        assert_eq!(server.call(&name, &Value::Null).await, "here", "{handler}");
    }
    let code =
        "module Shop\n  class Api\n    def self.call(event:, context:)\n      'there'\n    end\n  end\nend";
    for handler in ["app.Shop::Api.call", "Shop::Api.call"] {
        let name = server.ruby_with(code, &json!({"handler": handler})).await;
        assert_eq!(server.call(&name, &Value::Null).await, "there", "{handler}");
    }
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn values_come_back_as_they_were_sent() {
    let server = Server::shared().await;
    let name = server.ruby("def handler(event:, context:)\n  event\nend").await;
    let text = "ünïcödé \u{1F980} \\ \" \n \u{7f} \u{2028} '''";
    for event in
        [json!(null), json!(true), json!(0), json!(-1.5e-7), json!(text), json!({"": {"a": [1, {}]}})]
    {
        assert_eq!(server.call(&name, &event).await, event);
    }
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn the_context_tells_about_function_and_call() {
    let server = Server::shared().await;
    let code = "
def handler(event:, context:)
  { name: context.function_name, version: context.function_version, id: context.aws_request_id,
    memory: context.memory_limit_in_mb, left: context.get_remaining_time_in_millis,
    arn: context.invoked_function_arn, group: context.log_group_name, deadline: context.deadline_ms }
end
";
    let name = server.ruby_with(code, &json!({"memory_mb": 256, "timeout_sec": 9})).await;
    let reply = server.invoke(&name, &Value::Null).await;
    let envelope = reply.json();
    let context = reply.result();
    assert_eq!(context["name"], name.as_str());
    assert_eq!((&context["version"], &context["id"]), (&json!("1"), &envelope["request_id"]));
    assert_eq!(context["memory"], "256");
    assert_eq!(context["group"], format!("/impuls/{name}"));
    let left = context["left"].as_f64().unwrap();
    assert!((5_000.0..=9_000.0).contains(&left), "{left}");
    assert!(context["arn"].as_str().unwrap().contains(&name), "{context}");
    assert!(context["deadline"].as_u64().is_some_and(|deadline| deadline > 1_700_000_000_000), "{context}");
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn an_archive_may_have_files_and_gems() {
    let server = Server::shared().await;
    let archive = zip_of(&[
        (
            "app.rb",
            "require 'shop/prices'\nrequire_relative 'lib/tax'\n\ndef handler(event:, context:)\n  total(event) * FACTOR\nend\n",
        ),
        ("shop/prices.rb", "def total(items)\n  items.sum\nend\n"),
        ("lib/tax.rb", "FACTOR = 2\n"),
    ]);
    let name = unique("zip");
    let url = format!("{FUNCTIONS}?name={name}&runtime=ruby&handler=app.handler");
    let upload = server.request(Method::POST, &url).header("content-type", "application/zip").body(archive);
    server.send(upload).await.with_status(201);
    assert_eq!(server.call(&name, &json!([1, 2])).await, 6);
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn what_is_printed_is_in_the_logs_and_not_in_the_result() {
    let server = Server::shared().await;
    let code = "
require 'logger'

LOGGER = Logger.new(STDOUT)

def handler(event:, context:)
  puts 'one'
  warn 'two'
  $stderr.puts 'three'
  LOGGER.warn('four')
  $stdout.write('five, without an end')
  system(RbConfig.ruby, '-e', 'puts :six')
  { answer: 42 }
end
";
    let name = server.ruby(code).await;
    for _ in 0..3 {
        let reply = server.invoke(&name, &Value::Null).await;
        let logs = reply.logs();
        assert_eq!(reply.result(), json!({"answer": 42}));
        for text in ["one", "two", "three", "four", "five, without an end", "six"] {
            assert_eq!(logs.matches(text).count(), 1, "{text}: {logs}");
        }
    }
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn a_raised_exception_is_a_failure_with_its_backtrace() {
    let server = Server::shared().await;
    let code = "class PaymentError < StandardError; end\n\ndef pay\n  raise PaymentError, 'no money'\nend\n\n\
        def handler(event:, context:)\n  puts 'trying'\n  pay\nend";
    let name = server.ruby(code).await;
    let reply = server.invoke(&name, &Value::Null).await;
    assert!(reply.logs().contains("trying"), "{}", reply.logs());
    let failure = reply.failure(500, "FunctionError");
    assert_eq!((&failure["error"], &failure["error_class"]), (&json!("no money"), &json!("PaymentError")));
    let stack = failure["stack"].as_str().unwrap();
    assert!(stack.contains("/var/task/index.rb:4") && stack.contains("/var/task/index.rb:9"), "{stack}");
    assert!(!stack.contains("/opt/impuls"), "{stack}");
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn a_syntax_error_is_found_at_deploy_with_file_and_line() {
    let server = Server::shared().await;
    let code = "# one\n\ndef handler(event:, context:)\n  x = = 1\nend\n";
    let (name, error) =
        server.broken(&json!({"runtime": "ruby", "handler": "index.handler", "code": code})).await;
    assert_eq!(
        (&error["file"], &error["line"], &error["type"]),
        (&json!("index.rb"), &json!(4), &json!("SyntaxError"))
    );
    let shown = server.get(&path(&name)).await.with_status(200).json();
    assert_eq!((&shown["status"], &shown["error"]), (&json!("error"), &error));
    let failure = server.invoke(&name, &Value::Null).await.failure(500, "InitError");
    assert_eq!(failure["error_class"], "SyntaxError", "{failure}");
    let repaired = server.update(&name, &json!({"code": "def handler(event:, context:)\n  1\nend"})).await;
    assert_eq!((&repaired["status"], &repaired["error"]), (&json!("active"), &Value::Null));
    assert_eq!(server.call(&name, &Value::Null).await, 1);
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn a_missing_handler_is_found_at_deploy() {
    let server = Server::shared().await;
    for (handler, code, hint) in [
        ("index.handler", "def other(event:, context:)\nend", "it defines other"),
        ("index.handler", "handler = 5", "it defines no method"),
        ("index.Shop::Api.call", "module Shop\nend", "does not define Shop::Api"),
    ] {
        let (name, error) =
            server.broken(&json!({"runtime": "ruby", "handler": handler, "code": code})).await;
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(hint), "{message}");
        server.invoke(&name, &Value::Null).await.failure(500, "InitError");
    }
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn a_handler_that_only_running_can_find_missing_fails_at_the_call() {
    let server = Server::shared().await;
    let name = server.ruby("define_method(:other) { |event:, context:| 1 }").await;
    let failure = server.invoke(&name, &Value::Null).await.failure(500, "InitError");
    assert!(failure["error"].as_str().is_some_and(|text| !text.is_empty()), "{failure}");
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn the_top_level_runs_once_a_sandbox_and_not_at_deploy() {
    let server = Server::shared().await;
    let name = server
        .ruby("puts 'top level'\nraise RangeError, 'no luck'\ndef handler(event:, context:)\nend")
        .await;
    for _ in 0..2 {
        let reply = server.invoke(&name, &Value::Null).await;
        assert_eq!(reply.logs().trim_start_matches("[INFO] "), "top level");
        let failure = reply.failure(500, "InitError");
        assert_eq!((&failure["error"], &failure["error_class"]), (&json!("no luck"), &json!("RangeError")));
        assert!(failure["stack"].as_str().is_some_and(|stack| stack.contains("index.rb:2")), "{failure}");
    }
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn slots_of_one_sandbox_run_at_once_and_keep_their_logs_apart() {
    let server = Server::shared().await;
    let code = "
require 'securerandom'
SANDBOX = SecureRandom.uuid
ARRIVED = Queue.new

def handler(event:, context:)
  puts \"#{event['id']} begins\"
  ARRIVED << 1
  sleep 0.001 until ARRIVED.size >= event['of']
  Thread.new { puts \"#{event['id']} goes on\" }.join
  puts \"#{event['id']} ends\"
  SANDBOX
end
";
    let name = server.ruby_with(code, &json!({"concurrency": 10, "timeout_sec": 10})).await;
    let events = (0..10).map(|id| json!({"id": format!("<{id}>"), "of": 10})).collect();
    let mut sandboxes = HashSet::new();
    for (id, reply) in server.invoke_all(&name, events).await.into_iter().enumerate() {
        assert_eq!(reply.logs(), format!("<{id}> begins\n<{id}> goes on\n<{id}> ends"));
        sandboxes.insert(reply.result().to_string());
    }
    assert_eq!(sandboxes.len(), 1, "{sandboxes:?}");
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn a_function_has_its_own_environment_and_nothing_of_the_servers() {
    let server = Server::shared().await;
    let environment = json!({"GREETING": "Hällo = \"x\"\n2", "EMPTY": ""});
    let code = "def handler(event:, context:)\n  ENV.to_h\nend";
    let name = server.ruby_with(code, &json!({"environment": environment})).await;
    let seen = server.call(&name, &Value::Null).await;
    for (variable, value) in environment.as_object().unwrap() {
        assert_eq!(seen[variable], *value, "{variable}");
    }
    assert_eq!(seen["IMPULS_FUNCTION_NAME"], name.as_str());
    assert_eq!(seen[SECRET.0], Value::Null);
    assert_eq!((&seen["HOME"], &seen["LANG"]), (&json!("/tmp"), &json!("C.UTF-8")));
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn rubyopt_and_rubylib_reach_the_interpreter() {
    let server = Server::shared().await;
    let code = "def handler(event:, context:)\n  [$VERBOSE, $LOAD_PATH.include?('/var/task/vendored')]\nend";
    let environment = json!({"RUBYOPT": "-w", "RUBYLIB": "/var/task/vendored"});
    let name = server.ruby_with(code, &json!({"environment": environment})).await;
    assert_eq!(server.call(&name, &Value::Null).await, json!([true, true]));
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn the_standard_library_is_there() {
    let server = Server::shared().await;
    let code = "
require 'bigdecimal'
require 'date'
require 'digest'
require 'net/http'
require 'openssl'
require 'yaml'
require 'rbconfig'
require 'set'
require 'zlib'

def handler(event:, context:)
  File.write('/tmp/a', 'text')
  child = IO.popen([RbConfig.ruby, '-e', 'print 6 * 7'], &:read)
  [Digest::SHA256.hexdigest('')[0, 8], File.read('/tmp/a'), child, YAML.load('a: 1'), Zlib.crc32('a'),
   OpenSSL::Digest.new('SHA1').hexdigest('')[0, 8], Gem::Version.new('1.2') < Gem::Version.new('1.10')]
end
";
    let name = server.ruby(code).await;
    let expected = json!(["e3b0c442", "text", "42", {"a": 1}, 3_904_355_907_u32, "da39a3ee", true]);
    assert_eq!(server.call(&name, &Value::Null).await, expected);
}

#[tokio::test]
#[ignore = "needs ruby"]
async fn a_ruby_program_is_run_for_each_call() {
    let server = Server::shared().await;
    let code =
        "require 'json'\nputs [JSON.parse($stdin.read), ENV['FUNCTION_PAYLOAD'], `echo child`].to_json";
    let name = server.ruby_with(code, &json!({"contract": "program", "handler": "main.rb"})).await;
    assert_eq!(server.call(&name, &json!(1)).await, json!([1, "1", "child\n"]));
}
