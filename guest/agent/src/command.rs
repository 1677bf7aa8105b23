//! One-off commands: each call brings its own argument vector, and however the command ends is the result.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use impuls_guest_protocol::CallErrorKind;
use serde::{Deserialize, Serialize};

use crate::call::{Invocation, error};
use crate::code::Code;
use crate::process::{Run, run};

/// Most bytes of each stream that are kept: both as base64 fit into one frame.
const STREAM_LIMIT: usize = 2_300_000;
/// What a shell answers when there is no such program, and when it cannot be executed (POSIX 2.8.2).
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

#[derive(Deserialize)]
struct Order {
    argv: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    stdin_base64: String,
    #[serde(default)]
    cwd: Option<String>,
    /// Whether output is also wanted while the command runs, as log text.
    #[serde(default)]
    stream: bool,
}

#[derive(Serialize)]
struct Answer {
    exit_code: Option<i32>,
    signal: Option<i32>,
    stdout_base64: String,
    stderr_base64: String,
    truncated: bool,
}

/// Runs the command that the event describes.
pub(crate) async fn call(code: &Code, invocation: Invocation, alone: bool) {
    let reply = invocation.reply.clone();
    let bad = |message: String| reply.fail(&error(CallErrorKind::BadEvent, "", message, None));
    let order: Order = match serde_json::from_slice(&invocation.event) {
        Ok(order) => order,
        Err(cause) => return bad(format!("this is no command: {cause}")),
    };
    let Ok(stdin) = STANDARD.decode(&order.stdin_base64) else {
        return bad("stdin_base64 is not base64".to_owned());
    };
    let mut environment = code.environment.clone();
    environment.extend(order.env);
    let directory = order.cwd.as_deref().unwrap_or("/tmp");
    let process = Run {
        words: &order.argv,
        environment: &environment,
        directory,
        stdin: stdin.into(),
        stdout_limit: STREAM_LIMIT,
        alone,
    };
    let (mut stderr, mut cut) = (Vec::new(), false);
    let ended = run(process, |is_stdout, bytes| {
        if !is_stdout {
            let room = STREAM_LIMIT.saturating_sub(stderr.len());
            stderr.extend(bytes.iter().take(room));
            cut |= bytes.len() > room;
        }
        if order.stream {
            reply.log_exactly(u8::from(!is_stdout), bytes);
        }
    });
    let answer = match ended.await {
        Ok(ended) => Answer {
            exit_code: ended.status.code(),
            signal: ended.status.signal(),
            stdout_base64: STANDARD.encode(ended.stdout),
            stderr_base64: STANDARD.encode(stderr),
            truncated: ended.truncated || cut,
        },
        Err(cause) => cannot_run(&order.argv, directory, &cause),
    };
    // A structure of texts and numbers.
    reply.succeed(serde_json::to_vec(&answer).unwrap_or_default());
}

fn cannot_run(argv: &[String], directory: &str, cause: &std::io::Error) -> Answer {
    // The kernel says the same of a folder that is not there as of a program.
    let has_directory = std::path::Path::new(directory).is_dir();
    let found = !has_directory || cause.kind() != std::io::ErrorKind::NotFound;
    let what = if has_directory { argv.first().map_or("", String::as_str) } else { directory };
    Answer {
        exit_code: Some(if found { NOT_EXECUTABLE } else { NOT_FOUND }),
        signal: None,
        stdout_base64: String::new(),
        stderr_base64: STANDARD.encode(format!("{what}: {cause}\n")),
        truncated: false,
    }
}
