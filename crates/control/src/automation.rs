//! How a function's asynchronous invocations are handled, and when it is called by itself.

use impuls_domain::limits::PAYLOAD_LIMIT;
use impuls_domain::{
    AsyncSettings, Cadence, Caller, Destination, Destinations, Function, HookUrl, Qualifier, RetryChange,
    RetryPolicy, Schedule, ScheduleId, ScheduleName,
};
use impuls_store::StoreError;

use crate::control::{Control, authorise};
use crate::error::ControlError;
use crate::input::FunctionRef;

/// The most bytes of the event that a schedule keeps.
pub const SCHEDULED_EVENT_LIMIT: usize = 256 * 1024;
const _: () = assert!(SCHEDULED_EVENT_LIMIT <= PAYLOAD_LIMIT);

/// A destination as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewDestination {
    /// A function, which must exist.
    Function(FunctionRef, Qualifier),
    /// An HTTP hook.
    Hook(HookUrl),
}

/// How a function's asynchronous invocations shall be handled; what is `None` is as it is by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewAsyncSettings {
    /// How they are tried again.
    pub retry: RetryChange,
    /// Where their success is told.
    pub on_success: Option<NewDestination>,
    /// Where their failure is told.
    pub on_failure: Option<NewDestination>,
}

/// A schedule as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSchedule {
    /// Unique within the function.
    pub name: ScheduleName,
    /// Which revision is called.
    pub qualifier: Qualifier,
    /// When.
    pub cadence: Cadence,
    /// The event; at most [`SCHEDULED_EVENT_LIMIT`] bytes.
    pub event: Option<Vec<u8>>,
    /// Whether it ticks.
    pub enabled: bool,
}

impl Control {
    /// How a function's asynchronous invocations are handled.
    pub async fn get_async_settings(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
    ) -> Result<AsyncSettings, ControlError> {
        authorise(caller)?;
        let id = self.find(reference).await?.function.id;
        let found = self.stores.queue.find_async_settings(id).await.map_err(ControlError::Store)?;
        Ok(found.unwrap_or_default())
    }

    /// Says how they are handled from now on; what was accepted before is not affected. Repeatable.
    pub async fn put_async_settings(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        new: NewAsyncSettings,
    ) -> Result<AsyncSettings, ControlError> {
        authorise(caller)?;
        let function = self.find(reference).await?.function;
        let settings = AsyncSettings {
            policy: RetryPolicy::DEFAULT.with(new.retry)?,
            destinations: Destinations {
                on_success: self.destination(new.on_success).await?,
                on_failure: self.destination(new.on_failure).await?,
            },
        };
        let put = self.stores.queue.put_async_settings(function.id, Some(&settings)).await;
        put.map_err(|error| gone(error, &function))?;
        Ok(settings)
    }

    /// Makes the defaults hold again. Repeatable.
    pub async fn reset_async_settings(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
    ) -> Result<(), ControlError> {
        authorise(caller)?;
        let function = self.find(reference).await?.function;
        let reset = self.stores.queue.put_async_settings(function.id, None).await;
        reset.map_err(|error| gone(error, &function))
    }

    async fn destination(&self, new: Option<NewDestination>) -> Result<Option<Destination>, ControlError> {
        Ok(match new {
            None => None,
            Some(NewDestination::Hook(url)) => Some(Destination::Hook(url)),
            Some(NewDestination::Function(reference, qualifier)) => {
                let snapshot = self.find(&reference).await?;
                self.resolve(&snapshot, &qualifier).await?;
                Some(Destination::Function(snapshot.function.id, qualifier))
            }
        })
    }

    /// A function's schedules by name.
    pub async fn list_schedules(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
    ) -> Result<Vec<Schedule>, ControlError> {
        authorise(caller)?;
        let id = self.find(reference).await?.function.id;
        self.stores.schedules.list_schedules(id).await.map_err(ControlError::Store)
    }

    /// One schedule.
    pub async fn get_schedule(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        name: &ScheduleName,
    ) -> Result<Schedule, ControlError> {
        authorise(caller)?;
        let function = self.find(reference).await?.function;
        let found = self.schedule(&function, name).await?;
        found.ok_or_else(|| missing(&function, name))
    }

    /// Makes a schedule whose name is free. [`ControlError::ScheduleExists`] if it is not.
    pub async fn create_schedule(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        new: NewSchedule,
    ) -> Result<Schedule, ControlError> {
        authorise(caller)?;
        let function = self.find(reference).await?.function;
        let _one_at_a_time = self.locks.lock(function.id).await;
        if self.schedule(&function, &new.name).await?.is_some() {
            return Err(ControlError::ScheduleExists { function: function.name, schedule: new.name });
        }
        self.keep_schedule(&function, new).await
    }

    /// Makes a schedule, or replaces the one of that name; its intervals are then counted from now. Repeatable.
    pub async fn put_schedule(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        new: NewSchedule,
    ) -> Result<Schedule, ControlError> {
        authorise(caller)?;
        let function = self.find(reference).await?.function;
        let _one_at_a_time = self.locks.lock(function.id).await;
        self.keep_schedule(&function, new).await
    }

    /// Removes a schedule; what it has enqueued stays. [`ControlError::ScheduleNotFound`] if there was none.
    pub async fn delete_schedule(
        &self,
        caller: &Caller,
        reference: &FunctionRef,
        name: &ScheduleName,
    ) -> Result<(), ControlError> {
        authorise(caller)?;
        let function = self.find(reference).await?.function;
        let found = self.schedule(&function, name).await?.ok_or_else(|| missing(&function, name))?;
        let deleted = self.stores.schedules.delete_schedule(found.id).await.map_err(ControlError::Store)?;
        if deleted { Ok(()) } else { Err(missing(&function, name)) }
    }

    async fn schedule(
        &self,
        function: &Function,
        name: &ScheduleName,
    ) -> Result<Option<Schedule>, ControlError> {
        let all = self.stores.schedules.list_schedules(function.id).await.map_err(ControlError::Store)?;
        Ok(all.into_iter().find(|schedule| schedule.name == *name))
    }

    async fn keep_schedule(&self, function: &Function, new: NewSchedule) -> Result<Schedule, ControlError> {
        let NewSchedule { name, qualifier, cadence, event, enabled } = new;
        if event.as_ref().is_some_and(|event| event.len() > SCHEDULED_EVENT_LIMIT) {
            return Err(ControlError::ScheduledEvent);
        }
        let snapshot = self.find(&FunctionRef::of(function.id)).await?;
        self.resolve(&snapshot, &qualifier).await?;
        let now = self.stores.clock.now().await.map_err(ControlError::Store)?;
        let first = cadence.next_after(now, now)?;
        let before = self.schedule(function, &name).await?;
        let schedule = Schedule {
            id: ScheduleId::new(),
            function: function.id,
            name,
            qualifier,
            cadence,
            event,
            enabled,
            next_tick: enabled.then_some(first),
            last_tick: before.and_then(|before| before.last_tick),
            created_at: now,
            updated_at: now,
        };
        match self.stores.schedules.put_schedule(&schedule).await {
            Ok(()) => Ok(schedule),
            Err(StoreError::Full) => Err(ControlError::TooManySchedules(function.name.clone())),
            Err(error) => Err(gone(error, function)),
        }
    }
}

fn missing(function: &Function, name: &ScheduleName) -> ControlError {
    ControlError::ScheduleNotFound { function: function.name.clone(), schedule: name.clone() }
}

/// The store's refusal, which may mean that the function has been deleted meanwhile.
fn gone(error: StoreError, function: &Function) -> ControlError {
    match error {
        StoreError::NotFound => ControlError::FunctionNotFound(function.name.to_string()),
        other => ControlError::Store(other),
    }
}
