//! `POST /api/v1/execute`: one command in one sandbox.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use impuls_dispatch::{DispatchError, ExecuteRequest, Executed, OutputStream};
use impuls_domain::{Caller, Deadline};
use tokio::time::Instant;
use uuid::Uuid;

use crate::body::{Authenticated, json};
use crate::cache::Key;
use crate::errors::Refusal;
use crate::running::Running;
use crate::state::State;
use crate::wire::execute::{Ended, GatewayReply, OperatorReply};
use crate::wire::{ExecuteBody, Mode, Order, Shape};

/// `POST /api/v1/execute`. A command that fails is still answered with 200.
pub(crate) async fn execute(
    axum::extract::State(state): axum::extract::State<State>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let answered = answer(&state, &caller, &headers, body).await;
    if answered.is_err() {
        state.metrics.note_refusal();
    }
    answered
}

async fn answer(
    state: &State,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let begun = Instant::now();
    let order = json::<ExecuteBody>(state, headers, body).await?.check()?;
    if !caller.may_execute() {
        return Err(DispatchError::Denied.into());
    }
    let id = order.request_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
    let running = state.executions.begin(id)?;
    let ended = match order.mode {
        Mode::Ephemeral => run(state, caller, &order, running, begun).await?,
        Mode::Cached => cached(state, caller, &order, running, begun).await?,
    };
    Ok(match order.shape {
        Shape::Gateway => Json(GatewayReply::from(ended)).into_response(),
        Shape::Operator => Json(OperatorReply::from(ended)).into_response(),
    })
}

/// Answers without running anything if the same command has succeeded lately.
async fn cached(
    state: &State,
    caller: &Caller,
    order: &Order,
    running: Running,
    begun: Instant,
) -> Result<Ended, Refusal> {
    let key = Key::of(order);
    let hit = state.cache.lock().get(&key, Instant::now());
    if let Some(executed) = hit {
        state.metrics.note_hit();
        let execution = running.execution.clone();
        for (stream, bytes) in
            [(OutputStream::Stdout, &executed.stdout), (OutputStream::Stderr, &executed.stderr)]
        {
            if !bytes.is_empty() {
                execution.output(stream, &String::from_utf8_lossy(bytes));
            }
        }
        running.end(0);
        let (ending, request_id) = (order.ending(&executed, false), execution.id.clone());
        return Ok(Ended { request_id, executed, ending, took: begun.elapsed(), cache_hit: true });
    }
    let ended = run(state, caller, order, running, begun).await?;
    if ended.ending.error.is_none() && !ended.executed.truncated {
        state.cache.lock().put(key, ended.executed.clone(), Instant::now());
    }
    Ok(ended)
}

async fn run(
    state: &State,
    caller: &Caller,
    order: &Order,
    running: Running,
    begun: Instant,
) -> Result<Ended, Refusal> {
    let execution = running.execution.clone();
    let request = ExecuteRequest {
        argv: order.argv.clone(),
        environment: order.environment.clone(),
        stdin: order.stdin.clone().into(),
        working_dir: order.working_dir.clone(),
        limits: order.limits.clone(),
        deadline: Deadline::at((begun + order.timeout).into_std()),
        on_output: Some(execution.sink()),
    };
    let (executed, stopped) = tokio::select! {
        executed = state.dispatch.execute(caller, request) => (executed?, false),
        // Dropped, the command is killed.
        () = execution.stopped() => (Executed::default(), true),
    };
    let took = begun.elapsed();
    let ending = order.ending(&executed, stopped);
    state.metrics.note(&executed, took);
    running.end(ending.exit_code);
    let executed = if stopped {
        let text = |stream| execution.text(stream).into();
        Executed { stdout: text(OutputStream::Stdout), stderr: text(OutputStream::Stderr), ..executed }
    } else {
        executed
    };
    Ok(Ended { request_id: execution.id.clone(), executed, ending, took, cache_hit: false })
}
