//! Contract `bootstrap`: one process that takes events from the AWS Lambda Runtime API.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::rc::Rc;

use bytes::Bytes;
use impuls_guest_protocol::{CallErrorKind, InitError, InitErrorKind};
use serde::Deserialize;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_local;

use crate::call::{Invocation, Reply, error};
use crate::code::Code;
use crate::program::{how, log_lines};
use crate::runtime_api;
use crate::serve::{Agent, init_error};

/// Bytes of output that are read at once.
const CHUNK: usize = 64 * 1024;
/// The region that functions see unless their environment says otherwise.
const REGION: &str = "us-east-1";

/// How the load of the code has ended.
#[derive(Clone)]
enum Loaded {
    Ready,
    Failed(Box<InitError>),
}

/// What a runtime posts when a call or its own start failed.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Failure {
    error_message: String,
    error_type: String,
    stack_trace: Vec<serde_json::Value>,
}

impl Failure {
    fn stack(&self) -> Option<String> {
        let line = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let lines: Vec<String> = self.stack_trace.iter().map(line).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// The process and its events.
pub(crate) struct Bootstrap {
    pub(crate) arn: String,
    queue: RefCell<VecDeque<Invocation>>,
    arrived: Notify,
    in_flight: RefCell<HashMap<String, Rc<Reply>>>,
    /// The call that began last: log text is its own.
    current: RefCell<Rc<Reply>>,
    /// What is written while no call runs belongs to none.
    loose: Rc<Reply>,
    loaded: watch::Sender<Option<Loaded>>,
    output: [Output; 2],
}

/// One stream of the process's output.
struct Output {
    pipe: pipe::Receiver,
    level: u8,
    rest: RefCell<Vec<u8>>,
    is_open: Cell<bool>,
}

impl Bootstrap {
    /// Starts the process and waits until it asks for its first event.
    pub(crate) async fn start(
        agent: &Rc<Agent>,
        code: &Rc<Code>,
        loose: Rc<Reply>,
    ) -> Result<Rc<Self>, InitError> {
        let cannot = |cause: std::io::Error| {
            init_error(InitErrorKind::Init, "", format!("cannot run the bootstrap: {cause}"))
        };
        let api = runtime_api::bind().await.map_err(cannot)?;
        let address = api.local_addr().map_err(cannot)?.to_string();
        let (child, output) = spawn(code, &address).map_err(cannot)?;
        let (loaded, mut load) = watch::channel(None);
        let bootstrap = Rc::new(Self {
            arn: format!("arn:aws:lambda:{REGION}:000000000000:function:{}", code.init.function_name),
            queue: RefCell::default(),
            arrived: Notify::new(),
            in_flight: RefCell::default(),
            current: RefCell::new(loose.clone()),
            loose,
            loaded,
            output,
        });
        spawn_local(runtime_api::serve(api, bootstrap.clone()));
        for index in 0..bootstrap.output.len() {
            spawn_local(bootstrap.clone().read_output(index));
        }
        spawn_local(bootstrap.clone().await_end(child, agent.clone()));
        // The sender is in what is held here.
        let loaded = load.wait_for(Option::is_some).await.ok().and_then(|loaded| loaded.clone());
        match loaded {
            Some(Loaded::Failed(refusal)) => Err(*refusal),
            Some(Loaded::Ready) | None => Ok(bootstrap),
        }
    }

    /// Queues an event for the process.
    pub(crate) fn push(&self, invocation: Invocation) {
        self.queue.borrow_mut().push_back(invocation);
        self.arrived.notify_one();
    }

    /// The next event, for the process that asks. Safe to drop.
    pub(crate) async fn next(&self) -> Invocation {
        self.drain();
        if self.loaded.borrow().is_none() {
            self.loaded.send_replace(Some(Loaded::Ready));
        }
        loop {
            let arrived = self.arrived.notified();
            let next = self.queue.borrow_mut().pop_front();
            if let Some(invocation) = next {
                *self.current.borrow_mut() = invocation.reply.clone();
                let id = invocation.request.to_string();
                self.in_flight.borrow_mut().insert(id, invocation.reply.clone());
                return invocation;
            }
            arrived.await;
        }
    }

    /// A call's result; false if there is no such call.
    pub(crate) fn respond(&self, id: &str, result: Bytes) -> bool {
        self.finish(id, |reply| reply.succeed(result.into()))
    }

    /// A call's failure; false if there is no such call.
    pub(crate) fn fail(&self, id: &str, body: &[u8], class: Option<&str>) -> bool {
        let failure: Failure = serde_json::from_slice(body).unwrap_or_default();
        let class =
            if failure.error_type.is_empty() { class.unwrap_or("Error") } else { &failure.error_type };
        let failed =
            error(CallErrorKind::FunctionError, class, failure.error_message.clone(), failure.stack());
        self.finish(id, |reply| reply.fail(&failed))
    }

    /// The process says that it cannot start.
    pub(crate) fn fail_init(&self, body: &[u8], class: Option<&str>) {
        let failure: Failure = serde_json::from_slice(body).unwrap_or_default();
        self.drain();
        let stack = failure.stack();
        let class =
            if failure.error_type.is_empty() { class.unwrap_or("Error") } else { &failure.error_type };
        let refusal =
            InitError { stack, ..init_error(InitErrorKind::Init, class, failure.error_message.clone()) };
        self.settle(Loaded::Failed(Box::new(refusal)));
    }

    fn settle(&self, loaded: Loaded) {
        self.loaded.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                *now = Some(loaded);
            }
            first
        });
    }

    fn finish(&self, id: &str, reply_with: impl FnOnce(&Reply)) -> bool {
        let Some(reply) = self.in_flight.borrow_mut().remove(id) else { return false };
        // Everything that was written before this request was sent is in the pipes by now.
        self.drain();
        reply_with(&reply);
        if Rc::ptr_eq(&*self.current.borrow(), &reply) {
            let other = self.in_flight.borrow().values().next().cloned();
            self.current.replace(other.unwrap_or_else(|| self.loose.clone()));
        }
        true
    }

    /// Takes what the process has written so far.
    fn drain(&self) {
        let mut buffer = vec![0; CHUNK];
        for output in &self.output {
            while let Ok(count @ 1..) = output.pipe.try_read(&mut buffer) {
                self.log(output, buffer.get(..count).unwrap_or_default());
            }
            let rest = output.rest.take();
            if !rest.is_empty() {
                self.current.borrow().log(output.level, &rest);
            }
        }
    }

    fn log(&self, output: &Output, bytes: &[u8]) {
        let current = self.current.borrow();
        log_lines(&mut output.rest.borrow_mut(), bytes, |lines| current.log(output.level, lines));
    }

    async fn read_output(self: Rc<Self>, index: usize) {
        let Some(output) = self.output.get(index) else { return };
        let mut buffer = vec![0; CHUNK];
        while output.is_open.get() && output.pipe.readable().await.is_ok() {
            match output.pipe.try_read(&mut buffer) {
                Ok(0) => output.is_open.set(false),
                Ok(count) => self.log(output, buffer.get(..count).unwrap_or_default()),
                Err(cause) if cause.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => output.is_open.set(false),
            }
        }
    }

    async fn await_end(self: Rc<Self>, mut child: Child, agent: Rc<Agent>) {
        let Ok(status) = child.wait().await else { return agent.end(1) };
        self.drain();
        if self.loaded.borrow().is_none() {
            let message = format!("the bootstrap {} before it asked for an event", how(status));
            self.settle(Loaded::Failed(Box::new(init_error(
                InitErrorKind::Init,
                "Runtime.ExitError",
                message,
            ))));
            return;
        }
        agent.end(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
    }
}

fn spawn(code: &Code, api: &str) -> std::io::Result<(Child, [Output; 2])> {
    let output = |level| -> std::io::Result<(Output, OwnedFd)> {
        let (sender, receiver) = pipe::pipe()?;
        let output = Output { pipe: receiver, level, rest: RefCell::default(), is_open: Cell::new(true) };
        Ok((output, sender.into_blocking_fd()?))
    };
    let ((out, stdout), (err, stderr)) = (output(0)?, output(1)?);
    let (program, arguments) = code.init.command.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment(code, api))
        .current_dir(&code.init.code_dir)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, [out, err]))
}

/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>, "Defined runtime environment variables".
fn environment(code: &Code, api: &str) -> BTreeMap<String, String> {
    let init = &code.init;
    let mut environment = BTreeMap::from(
        [
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_EXECUTION_ENV", "Impuls"),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("TZ", ":UTC"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    environment.extend(code.environment.clone());
    // These are the platform's; a function's own values would only break its runtime.
    environment.extend(
        [
            ("AWS_LAMBDA_RUNTIME_API", api),
            ("_HANDLER", &init.handler),
            ("LAMBDA_TASK_ROOT", &init.code_dir),
            ("AWS_LAMBDA_FUNCTION_NAME", &init.function_name),
            ("AWS_LAMBDA_FUNCTION_VERSION", &init.function_version),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &init.memory_mb.to_string()),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &format!("/aws/lambda/{}", init.function_name)),
            ("AWS_LAMBDA_LOG_STREAM_NAME", &format!("[{}]", init.function_version)),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    environment
}
