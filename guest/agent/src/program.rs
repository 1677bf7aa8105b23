//! Contracts `program` and `command`: a process for each call. The event comes in on standard input and in
//! `FUNCTION_PAYLOAD`, standard output is the result, standard error is log text.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use bytes::Bytes;
use impuls_guest_protocol::CallErrorKind;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::{Invocation, RESULT_LIMIT, error};
use crate::code::Code;
use crate::process::{Run, run};

/// The longest event that is also in the environment: what one variable may have on Linux (`execve(2)`).
const PAYLOAD_LIMIT: usize = 128 * 1024 - "FUNCTION_PAYLOAD=".len() - 1;
/// Most bytes of output that a failure carries as its stack.
const STACK_LIMIT: usize = 64 * 1024;

#[derive(Default, Deserialize)]
struct Context<'a> {
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
}

/// Runs the program once.
pub(crate) async fn call(code: &Code, invocation: Invocation, alone: bool) {
    let event =
        if invocation.event.is_empty() { Bytes::from_static(b"null") } else { invocation.event.clone() };
    let reply = &invocation.reply;
    if serde_json::from_slice::<serde::de::IgnoredAny>(&event).is_err() {
        let message = "the event is not JSON".to_owned();
        return reply.fail(&error(CallErrorKind::BadEvent, "", message, None));
    }
    let context: Context<'_> = serde_json::from_slice(&invocation.context).unwrap_or_default();
    let mut environment = code.environment.clone();
    let headers = context.headers.map_or("{}", RawValue::get);
    environment.insert("FUNCTION_HEADERS".to_owned(), headers.to_owned());
    environment.insert("FUNCTION_HANDLER".to_owned(), code.init.handler.clone());
    if event.len() <= PAYLOAD_LIMIT {
        environment.insert("FUNCTION_PAYLOAD".to_owned(), String::from_utf8_lossy(&event).into_owned());
    }
    let process = Run {
        words: &code.init.command,
        environment: &environment,
        directory: &code.init.code_dir,
        stdin: event,
        stdout_limit: RESULT_LIMIT + 1,
        alone,
    };
    let mut stack = Vec::new();
    let mut lines = Vec::new();
    let ended = run(process, |is_stdout, bytes| {
        stack.extend(bytes.iter().take(STACK_LIMIT.saturating_sub(stack.len())));
        if !is_stdout {
            log_lines(&mut lines, bytes, |line| reply.log(1, line));
        }
    });
    let ended = ended.await;
    if !lines.is_empty() {
        reply.log(1, &lines);
    }
    match ended {
        Ok(ended) if ended.status.success() => reply.succeed(ended.stdout),
        Ok(ended) => {
            let stack = String::from_utf8_lossy(&stack).into_owned();
            let message = format!("Function {}", how(ended.status));
            reply.fail(&error(CallErrorKind::FunctionError, "RuntimeError", message, Some(stack)));
        }
        Err(cause) => {
            let program = code.init.command.first().map_or("", String::as_str);
            let message = format!("cannot run {program}: {cause}");
            reply.fail(&error(CallErrorKind::FunctionError, "RuntimeError", message, None));
        }
    }
}

/// How a process ended, as the end of a sentence.
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Longest line that is waited for; a longer one is passed on in pieces.
const LINE_LIMIT: usize = 64 * 1024;

/// Passes whole lines on and keeps the rest.
pub(crate) fn log_lines(rest: &mut Vec<u8>, bytes: &[u8], mut log: impl FnMut(&[u8])) {
    rest.extend_from_slice(bytes);
    let whole = match rest.iter().rposition(|&byte| byte == b'\n') {
        Some(end) => end + 1,
        None if rest.len() > LINE_LIMIT => rest.len(),
        None => return,
    };
    let lines: Vec<u8> = rest.drain(..whole).collect();
    log(&lines);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_passed_on_whole() {
        let (mut rest, mut logged) = (Vec::new(), Vec::new());
        for piece in ["a\nb", "c\n", "d"] {
            log_lines(&mut rest, piece.as_bytes(), |text| logged.push(text.to_vec()));
        }
        assert_eq!(logged, [b"a\n".to_vec(), b"bc\n".to_vec()]);
        assert_eq!(rest, b"d");
    }
}
