//! Executions that run or have lately ended, and what they wrote: for those who watch them over a stream.
//!
//! Every execution keeps its newest events within a bound, so a watcher that is slow misses some, is told how many,
//! and never slows the command down. Watchers that come late see what is still there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use impuls_dispatch::{OnOutput, OutputStream};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::errors::{Kind, Refusal};

/// The most events that one execution keeps, as in the original.
const EVENTS: usize = 1_000;
/// The most bytes of text in them.
const BYTES: usize = 1024 * 1024;
/// How many executions that have ended can still be watched, and for how long.
const ENDED: usize = 64;
const ENDED_TIME: Duration = Duration::from_secs(60);

/// Something that a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Text of standard output.
    Stdout { data: String },
    /// Text of standard error.
    Stderr { data: String },
    /// The end; nothing follows.
    Exit { code: i32 },
    /// Something else: `dropped` says how many events came too fast for this watcher, `state` and `error` answer a
    /// watcher's command.
    Custom { name: &'static str, data: Value },
    /// Nothing happened for a while.
    Heartbeat,
}

impl Event {
    fn size(&self) -> usize {
        match self {
            Self::Stdout { data } | Self::Stderr { data } => data.len(),
            Self::Exit { .. } | Self::Custom { .. } | Self::Heartbeat => 0,
        }
    }
}

#[derive(Default)]
struct Written {
    events: VecDeque<Event>,
    bytes: usize,
    /// The number of the first event that is still there.
    first: u64,
}

/// One execution.
pub(crate) struct Execution {
    pub(crate) id: String,
    written: Mutex<Written>,
    /// How many events there have been, and whether the last was the end.
    count: watch::Sender<(u64, bool)>,
    stop: Notify,
}

impl Execution {
    fn new(id: String) -> Arc<Self> {
        Arc::new(Self {
            id,
            written: Mutex::default(),
            count: watch::Sender::new((0, false)),
            stop: Notify::new(),
        })
    }

    fn push(&self, event: Event) {
        let ended = matches!(event, Event::Exit { .. });
        let mut written = self.written.lock();
        written.bytes += event.size();
        written.events.push_back(event);
        while written.events.len() > EVENTS || written.bytes > BYTES {
            let Some(dropped) = written.events.pop_front() else { break };
            written.bytes -= dropped.size();
            written.first += 1;
        }
        let count = written.first + written.events.len() as u64;
        drop(written);
        self.count.send_replace((count, ended));
    }

    /// Tells watchers about output.
    pub(crate) fn output(&self, stream: OutputStream, text: &str) {
        let data = text.to_owned();
        self.push(match stream {
            OutputStream::Stdout => Event::Stdout { data },
            OutputStream::Stderr => Event::Stderr { data },
        });
    }

    /// Where a command's output goes.
    pub(crate) fn sink(self: &Arc<Self>) -> OnOutput {
        let execution = self.clone();
        OnOutput::new(move |stream, text| execution.output(stream, text))
    }

    /// The text of one stream that is still there.
    pub(crate) fn text(&self, stream: OutputStream) -> String {
        let written = self.written.lock();
        let texts = written.events.iter().filter_map(|event| match (event, stream) {
            (Event::Stdout { data }, OutputStream::Stdout)
            | (Event::Stderr { data }, OutputStream::Stderr) => Some(data.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// Asks whoever runs it to stop it.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until somebody asks.
    pub(crate) async fn stopped(&self) {
        self.stop.notified().await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.count.borrow().1
    }
}

/// Reads the events of one execution.
pub(crate) struct Watcher {
    execution: Arc<Execution>,
    count: watch::Receiver<(u64, bool)>,
    next: u64,
}

impl Watcher {
    pub(crate) fn new(execution: Arc<Execution>) -> Self {
        let count = execution.count.subscribe();
        Self { execution, count, next: 0 }
    }

    /// What is watched.
    pub(crate) fn execution(&self) -> &Arc<Execution> {
        &self.execution
    }

    /// The next event; `None` after the end. Safe to drop.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let next = self.next;
        let (count, ended) = *self.count.wait_for(|(count, ended)| *count > next || *ended).await.ok()?;
        if next >= count {
            debug_assert!(ended, "nothing else lets a watcher through");
            return None;
        }
        let written = self.execution.written.lock();
        if let Some(missed) = written.first.checked_sub(next).filter(|missed| *missed > 0) {
            self.next = written.first;
            return Some(Event::Custom { name: "dropped", data: missed.into() });
        }
        self.next = next + 1;
        let place = usize::try_from(next - written.first).unwrap_or(usize::MAX);
        written.events.get(place).cloned()
    }
}

#[derive(Default)]
struct Known {
    executions: HashMap<String, Arc<Execution>>,
    /// Those that have ended, oldest first.
    ended: VecDeque<(Instant, Arc<Execution>)>,
}

impl Known {
    fn forget_old(&mut self, now: Instant) {
        while let Some((at, _)) = self.ended.front()
            && (self.ended.len() > ENDED || now.duration_since(*at) > ENDED_TIME)
            && let Some((_, execution)) = self.ended.pop_front()
        {
            // A later execution may have taken the id.
            if self.executions.get(&execution.id).is_some_and(|known| Arc::ptr_eq(known, &execution)) {
                self.executions.remove(&execution.id);
            }
        }
    }
}

/// All executions.
#[derive(Clone, Default)]
pub(crate) struct Executions(Arc<Mutex<Known>>);

impl Executions {
    /// Enters an execution. An id that another one is running under is refused.
    pub(crate) fn begin(&self, id: String) -> Result<Running, Refusal> {
        let mut known = self.0.lock();
        known.forget_old(Instant::now());
        if known.executions.get(&id).is_some_and(|execution| !execution.has_ended()) {
            return Err(Refusal::new(Kind::Conflict, format!("an execution with the id {id} is running")));
        }
        let execution = Execution::new(id.clone());
        known.executions.insert(id, execution.clone());
        Ok(Running { all: self.clone(), execution, code: KILLED })
    }

    /// The execution with this id, if it runs or has lately ended.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Execution>, Refusal> {
        let mut known = self.0.lock();
        known.forget_old(Instant::now());
        let found = known.executions.get(id).cloned();
        let shown: String = id.chars().take(200).collect();
        found.ok_or_else(|| Refusal::new(Kind::NotFound, format!("no execution {shown} is running")))
    }
}

/// What an execution ends with whose client hung up.
const KILLED: i32 = 137;

/// An execution that runs; dropped, it has ended.
pub(crate) struct Running {
    all: Executions,
    pub(crate) execution: Arc<Execution>,
    code: i32,
}

impl Running {
    /// Ends it.
    pub(crate) fn end(mut self, code: i32) {
        self.code = code;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.execution.push(Event::Exit { code: self.code });
        let mut known = self.all.0.lock();
        known.ended.push_back((Instant::now(), self.execution.clone()));
        known.forget_old(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stdout(text: &str) -> Event {
        Event::Stdout { data: text.to_owned() }
    }

    #[tokio::test]
    async fn a_watcher_sees_everything_to_the_end() {
        let executions = Executions::default();
        let running = executions.begin("a".to_owned()).unwrap();
        let mut watcher = Watcher::new(executions.find("a").unwrap());
        running.execution.output(OutputStream::Stdout, "one");
        assert_eq!(watcher.next().await, Some(stdout("one")));
        running.end(3);
        assert_eq!(watcher.next().await, Some(Event::Exit { code: 3 }));
        assert_eq!(watcher.next().await, None);
        let mut late = Watcher::new(executions.find("a").unwrap());
        assert_eq!(late.next().await, Some(stdout("one")));
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_how_much_it_missed() {
        let running = Executions::default().begin("a".to_owned()).unwrap();
        let mut watcher = Watcher::new(running.execution.clone());
        for n in 0..EVENTS + 7 {
            running.execution.output(OutputStream::Stdout, &n.to_string());
        }
        assert_eq!(watcher.next().await, Some(Event::Custom { name: "dropped", data: 7.into() }));
        assert_eq!(watcher.next().await, Some(stdout("7")));
    }

    #[tokio::test]
    async fn large_output_is_bounded() {
        let running = Executions::default().begin("a".to_owned()).unwrap();
        for _ in 0..5 {
            running.execution.output(OutputStream::Stderr, &"x".repeat(BYTES / 2));
        }
        assert_eq!(running.execution.text(OutputStream::Stderr).len(), BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn ended_executions_are_forgotten() {
        let executions = Executions::default();
        drop(executions.begin("a".to_owned()).unwrap());
        assert!(executions.find("a").is_ok());
        tokio::time::advance(ENDED_TIME * 2).await;
        assert!(executions.find("a").is_err());
    }

    #[tokio::test]
    async fn an_id_can_be_used_again_once_its_execution_has_ended() {
        let executions = Executions::default();
        let first = executions.begin("a".to_owned()).unwrap();
        assert!(executions.begin("a".to_owned()).is_err());
        drop(first);
        let second = executions.begin("a".to_owned()).unwrap();
        for _ in 0..ENDED + 1 {
            drop(executions.begin("b".to_owned()).unwrap());
        }
        assert!(Arc::ptr_eq(&executions.find("a").unwrap(), &second.execution));
    }
}
