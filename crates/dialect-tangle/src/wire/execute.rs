//! `POST /api/v1/execute`: the request of gateway and operator, and their two replies.

use std::fmt;
use std::time::Duration;

use impuls_dispatch::Executed;
use impuls_domain::{Environment, LimitError, Limits};
use impuls_ingress::settings::milli_vcpu;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::environment;
use super::payload::Payload;
use crate::errors::Refusal;
use crate::image;

/// Memory of a command that does not say how much, in MiB: as much as a package gets in the original.
const MEMORY_MIB: u32 = 512;
/// How long a command string may take by default, as in the original gateway.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an argument vector may take by default, as with the original operator.
const OPERATOR_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that anybody may ask for.
const LONGEST: Duration = Duration::from_secs(3_600);
/// The most characters of a request id that the caller chooses.
const REQUEST_ID_LIMIT: usize = 128;
/// Exit codes for commands that did not end by themselves: `timeout(1)`'s, and a shell's for a signal.
const TIMED_OUT: i32 = 124;
const SIGNALLED: i32 = 128;
const KILLED: i32 = 9;

/// A command as clients write it.
enum Command {
    Text(String),
    Arguments(Vec<String>),
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Command;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command as a text, or a program and its arguments as a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Command, E> {
        Ok(Command::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<Command, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(words)).map(Command::Arguments)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// The body of a request; unknown members are ignored, as the original does.
#[derive(Deserialize)]
pub(crate) struct ExecuteBody {
    command: Command,
    image: Option<String>,
    runtime: Option<String>,
    mode: Option<String>,
    timeout_ms: Option<u64>,
    timeout_secs: Option<u64>,
    memory_mb: Option<u32>,
    cpu_cores: Option<f64>,
    env_vars: Option<Value>,
    working_dir: Option<String>,
    cache_key: Option<String>,
    payload: Option<Payload>,
    request_id: Option<String>,
    snapshot_id: Option<Value>,
    checkpoint_id: Option<Value>,
    branch_from: Option<Value>,
}

/// Which client is to understand the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One that sent a command string.
    Gateway,
    /// One that sent an argument vector.
    Operator,
}

/// How a command is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Ephemeral,
    Cached,
}

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) shape: Shape,
    pub(crate) mode: Mode,
    pub(crate) argv: Vec<String>,
    pub(crate) image: String,
    pub(crate) runtime: Option<String>,
    pub(crate) environment: Environment,
    pub(crate) working_dir: Option<String>,
    pub(crate) cache_key: Option<String>,
    pub(crate) stdin: Vec<u8>,
    pub(crate) limits: Limits,
    pub(crate) timeout: Duration,
    pub(crate) request_id: Option<String>,
}

impl ExecuteBody {
    pub(crate) fn check(self) -> Result<Order, Refusal> {
        let (shape, argv) = match self.command {
            Command::Text(text) => (Shape::Gateway, vec!["/bin/sh".to_owned(), "-c".to_owned(), text]),
            Command::Arguments(argv) => (Shape::Operator, argv),
        };
        if argv.first().is_none_or(String::is_empty) {
            return Err(Refusal::invalid("command", "it names no program"));
        }
        if argv.iter().any(|argument| argument.contains('\0')) {
            return Err(Refusal::invalid("command", "it has a NUL character"));
        }
        let image = self.image.filter(|image| !image.is_empty()).unwrap_or_else(|| image::DEFAULT.to_owned());
        image::check(&image)?;
        image::check_runtime(self.runtime.as_deref())?;
        let mode = mode(self.mode.as_deref())?;
        for (field, value) in [
            ("snapshot_id", &self.snapshot_id),
            ("checkpoint_id", &self.checkpoint_id),
            ("branch_from", &self.branch_from),
        ] {
            // What would run in a fresh sandbox must not look as if it had run in a restored one.
            if value.is_some() {
                return Err(Refusal::missing(format!(
                    "{field} cannot be had: this server makes no snapshots of sandboxes to start from; leave it out"
                )));
            }
        }
        Ok(Order {
            shape,
            mode,
            argv,
            image,
            runtime: self.runtime,
            environment: environment(self.env_vars.as_ref())?,
            working_dir: self.working_dir.filter(|path| !path.is_empty()).map(working_dir).transpose()?,
            cache_key: self.cache_key,
            stdin: self.payload.unwrap_or_default().0,
            limits: limits(self.memory_mb, self.cpu_cores)?,
            timeout: timeout(self.timeout_ms, self.timeout_secs, shape)?,
            request_id: self.request_id.map(request_id).transpose()?,
        })
    }
}

/// An unknown mode means `ephemeral`, as in the original.
fn mode(text: Option<&str>) -> Result<Mode, Refusal> {
    let missing = |mode: &str, what: &str| {
        Err(Refusal::missing(format!("mode {mode:?} cannot be had: {what}; use \"ephemeral\" or \"cached\"")))
    };
    match text.map(str::to_ascii_lowercase).as_deref() {
        Some("cached") => Ok(Mode::Cached),
        Some(mode @ ("checkpointed" | "branched")) => {
            missing(mode, "this server makes no snapshots of sandboxes")
        }
        Some(mode @ "persistent") => missing(mode, "a sandbox of this server ends with its command"),
        _ => Ok(Mode::Ephemeral),
    }
}

fn limits(memory_mb: Option<u32>, cpu_cores: Option<f64>) -> Result<Limits, Refusal> {
    let refused = |field: &'static str| {
        move |error: LimitError| {
            let (value, min, max) = (error.value, error.min, error.max);
            Refusal::invalid(field, format_args!("{value} is not possible; {min} to {max} are allowed"))
        }
    };
    let limits = Limits::default().with_memory_mib(memory_mb.filter(|mib| *mib > 0).unwrap_or(MEMORY_MIB));
    let limits = limits.map_err(refused("memory_mb"))?;
    match cpu_cores {
        None => Ok(limits),
        Some(cores) => limits.with_milli_vcpu(milli_vcpu("cpu_cores", cores)?).map_err(refused("cpu_cores")),
    }
}

fn timeout(ms: Option<u64>, secs: Option<u64>, shape: Shape) -> Result<Duration, Refusal> {
    let default = match shape {
        Shape::Gateway => GATEWAY_TIMEOUT,
        Shape::Operator => OPERATOR_TIMEOUT,
    };
    let asked = ms.map(Duration::from_millis).or_else(|| secs.map(Duration::from_secs)).unwrap_or(default);
    if asked.is_zero() || asked > LONGEST {
        let field = if ms.is_some() { "timeout_ms" } else { "timeout_secs" };
        let longest = LONGEST.as_secs();
        return Err(Refusal::invalid(
            field,
            format_args!("at least 1 ms and at most {longest} s are allowed"),
        ));
    }
    Ok(asked)
}

fn working_dir(path: String) -> Result<String, Refusal> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(path);
    }
    Err(Refusal::invalid("working_dir", "it is not an absolute path"))
}

fn request_id(id: String) -> Result<String, Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=REQUEST_ID_LIMIT).contains(&id.len()) && id.chars().all(allowed) {
        return Ok(id);
    }
    Err(Refusal::invalid("request_id", "give 1 to 128 letters, digits, `-`, `_` and `.`"))
}

/// How an execution ended, in the words of every reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) exit_code: i32,
    pub(crate) error: Option<String>,
}

impl Order {
    /// What to say of a command that ended like this.
    pub(crate) fn ending(&self, executed: &Executed, stopped: bool) -> Ending {
        let failed = |exit_code, error: String| Ending { exit_code, error: Some(error) };
        if executed.timed_out {
            return failed(TIMED_OUT, format!("command timed out after {} ms", self.timeout.as_millis()));
        }
        if stopped {
            return failed(SIGNALLED + KILLED, "command was stopped".to_owned());
        }
        let exit_code = match (executed.exit_code, executed.signal) {
            (Some(code), _) => code,
            (None, signal) => SIGNALLED + signal.unwrap_or(KILLED),
        };
        Ending { exit_code, error: executed.failure() }
    }
}

/// The reply to a command string.
#[derive(Serialize)]
pub(crate) struct GatewayReply {
    request_id: String,
    exit_code: i32,
    stdout: String,
    stderr: String,
    duration_ms: u64,
    /// The same as `stdout`.
    output: String,
    /// The same as `stderr`.
    logs: String,
    error: Option<String>,
    /// Whether the answer comes from the cache.
    cache_hit: bool,
    /// Whether the command wrote more than this.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// The reply to an argument vector.
#[derive(Serialize)]
pub(crate) struct OperatorReply {
    request_id: String,
    /// Standard output; nothing of a command that failed.
    response: Option<Vec<u8>>,
    /// Standard error.
    logs: Option<String>,
    error: Option<String>,
}

/// An execution that is over.
pub(crate) struct Ended {
    pub(crate) request_id: String,
    pub(crate) executed: Executed,
    pub(crate) ending: Ending,
    pub(crate) took: Duration,
    pub(crate) cache_hit: bool,
}

impl From<Ended> for GatewayReply {
    fn from(ended: Ended) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&ended.executed.stdout), text(&ended.executed.stderr));
        Self {
            request_id: ended.request_id,
            exit_code: ended.ending.exit_code,
            output: stdout.clone(),
            logs: stderr.clone(),
            stdout,
            stderr,
            duration_ms: u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX),
            error: ended.ending.error,
            cache_hit: ended.cache_hit,
            truncated: ended.executed.truncated,
        }
    }
}

impl From<Ended> for OperatorReply {
    fn from(ended: Ended) -> Self {
        let stderr = String::from_utf8_lossy(&ended.executed.stderr).into_owned();
        Self {
            request_id: ended.request_id,
            response: ended.ending.error.is_none().then(|| ended.executed.stdout.to_vec()),
            logs: Some(stderr).filter(|text| !text.is_empty()),
            error: ended.ending.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order(body: Value) -> Result<Order, Refusal> {
        serde_json::from_value::<ExecuteBody>(body).unwrap().check()
    }

    #[test]
    fn a_string_is_for_the_shell_and_a_list_is_not() {
        let gateway = order(json!({"command": "echo $HOME"})).unwrap();
        assert_eq!(gateway.argv, ["/bin/sh", "-c", "echo $HOME"]);
        assert_eq!((gateway.shape, gateway.timeout), (Shape::Gateway, Duration::from_secs(30)));
        let operator = order(json!({"command": ["echo", "$HOME"], "payload": [104, 105]})).unwrap();
        assert_eq!(operator.argv, ["echo", "$HOME"]);
        assert_eq!((operator.shape, operator.stdin), (Shape::Operator, b"hi".to_vec()));
    }

    #[test]
    fn every_limit_is_checked_under_its_own_name() {
        for (body, field) in [
            (json!({"command": "x", "memory_mb": 1}), "memory_mb: "),
            (json!({"command": "x", "cpu_cores": -1.0}), "cpu_cores: -1.0 is not possible"),
            (json!({"command": "x", "cpu_cores": 1e9}), "cpu_cores: "),
            (json!({"command": "x", "timeout_ms": 0}), "timeout_ms: "),
            (json!({"command": ["x"], "timeout_secs": 9_999}), "timeout_secs: "),
            (json!({"command": "x", "working_dir": "etc"}), "working_dir: "),
            (json!({"command": "x", "request_id": "../x"}), "request_id: "),
            (json!({"command": []}), "command: "),
            (json!({"command": ["a\0b"]}), "command: "),
        ] {
            let refusal = order(body).unwrap_err();
            assert!(refusal.message().starts_with(field), "{}", refusal.message());
        }
    }

    #[test]
    fn modes_that_need_snapshots_say_so_and_unknown_ones_are_ephemeral() {
        assert!(
            order(json!({"command": "x", "mode": "branched"})).unwrap_err().message().contains("snapshots")
        );
        assert_eq!(order(json!({"command": "x", "mode": "turbo"})).unwrap().mode, Mode::Ephemeral);
        assert_eq!(order(json!({"command": "x", "mode": "cached"})).unwrap().mode, Mode::Cached);
    }

    #[test]
    fn what_would_need_a_snapshot_is_refused_by_name() {
        for field in ["snapshot_id", "checkpoint_id", "branch_from"] {
            let refusal = order(json!({"command": "x", field: "q"})).unwrap_err();
            assert!(refusal.message().starts_with(field), "{}", refusal.message());
            assert!(order(json!({"command": "x", field: null})).is_ok());
        }
    }

    #[test]
    fn every_ending_has_a_number_and_a_text() {
        let order = order(json!({"command": "x", "timeout_ms": 250})).unwrap();
        let check = |executed: Executed, code, text: Option<&str>| {
            let ending = order.ending(&executed, false);
            assert_eq!((ending.exit_code, ending.error.as_deref()), (code, text));
        };
        check(Executed { exit_code: Some(0), ..Executed::default() }, 0, None);
        check(Executed { exit_code: Some(3), ..Executed::default() }, 3, Some("command exited with code 3"));
        let late = Executed { signal: Some(9), timed_out: true, ..Executed::default() };
        check(late, 124, Some("command timed out after 250 ms"));
        check(
            Executed { signal: Some(11), ..Executed::default() },
            139,
            Some("command was ended by signal 11"),
        );
    }
}
