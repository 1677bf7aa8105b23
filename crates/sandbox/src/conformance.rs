//! Suites that every driver runs. Each macro owns the list of its cases, so that a driver cannot leave one out:
//!
//! ```text
//! async fn open() -> MyStage; // `impl impuls_sandbox::conformance::Stage for MyStage`
//! impuls_sandbox::sandbox_life_conformance!(run open);
//! ```
//!
//! The cases of a macro run where it stands, one after the other, each on a stage of its own, because they count what is on
//! the machine. `life` is how a sandbox comes, works and goes; `abuse` what happens to code that misbehaves;
//! `walls` what code can see and do. The code inside is Python, because every driver can run it.
#![expect(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]

pub mod abuse;
pub mod fixture;
pub mod life;
pub mod walls;

pub use self::fixture::Stage;

/// Runs the suite on how a sandbox comes, works and goes.
#[macro_export]
macro_rules! sandbox_life_conformance {
    (run $open:path) => {
        $crate::sandbox_conformance_cases!($open, life:
            a_sandbox_answers_and_goes,
            a_warm_sandbox_remembers,
            code_is_told_its_environment,
            a_failing_handler_is_a_reply,
            an_exit_code_survives,
            a_signal_survives,
            an_orphan_is_not_the_sandboxs_end,
            code_that_cannot_be_loaded_is_reported,
            a_top_level_that_ends_is_reported,
            a_top_level_that_never_ends_is_cut_off,
            a_runtime_that_cannot_start_says_why,
            an_assigned_sandbox_takes_no_other_code,
            a_destroyed_sandbox_refuses_everything,
            calls_in_flight_end_with_their_sandbox,
            a_call_past_its_deadline_is_lost,
            both_outputs_of_children_are_there_and_apart,
            text_of_no_call_is_kept,
            usage_is_measured,
            sandboxes_share_nothing,
            creating_past_the_deadline_is_refused,
            creating_that_is_given_up_leaves_nothing,
            nothing_is_left_of_many_sandboxes,
        );
    };
}

/// Runs the suite on code that misbehaves.
#[macro_export]
macro_rules! sandbox_abuse_conformance {
    (run $open:path) => {
        $crate::sandbox_conformance_cases!($open, abuse:
            an_endless_loop_ends_at_destroy,
            a_memory_bomb_is_out_of_memory,
            files_in_tmp_count_as_memory,
            tmp_has_a_bound,
            a_fork_bomb_is_held_and_dies,
            a_thread_bomb_is_held,
            a_flood_of_output_is_bounded,
            a_spinner_has_its_share_of_a_core,
            many_open_files_are_refused,
        );
    };
}

/// Runs the suite on what code can see and do.
#[macro_export]
macro_rules! sandbox_walls_conformance {
    (run $open:path) => {
        $crate::sandbox_conformance_cases!($open, walls:
            no_privilege_is_left,
            secrets_of_the_host_are_out_of_reach,
            only_its_own_places_can_be_written,
            code_cannot_be_changed,
            other_processes_are_out_of_reach,
            deep_calls_into_the_kernel_are_refused,
            without_a_network_nothing_is_reached,
            programs_run_well,
        );
    };
}

/// What the suites' macros share.
#[doc(hidden)]
#[macro_export]
macro_rules! sandbox_conformance_cases {
    ($open:path, $suite:ident: $($case:ident),+ $(,)?) => {$(
        {
            let stage = $open().await;
            $crate::conformance::$suite::$case(&stage).await;
            $crate::conformance::Stage::close(&stage).await;
        }
    )+};
}
