//! Suites that every back end runs. Each macro owns the list of its cases, so that a back end cannot leave one out:
//!
//! ```text
//! async fn open() -> Scratch; // `impl AsRef<MyStore> for Scratch`
//! impuls_store::function_store_conformance!(open);
//! ```
//!
//! The function given to a macro opens a new, empty store; what it returns lives as long as the case. Each case becomes a
//! test. With the word `run` before the function all cases run where the macro stands, one after the other: for back ends
//! that are not on every machine, so that one test says what it needs.
#![expect(clippy::expect_used, reason = "these are tests, which fail by panicking")]

pub mod async_invocation;
pub mod build;
pub mod fixture;
pub mod function;
pub mod invocation;
pub mod node;
pub mod retention;
pub mod schedule;
pub mod transfer;
pub mod version;

/// Runs the suite of `FunctionStore`.
#[macro_export]
macro_rules! function_store_conformance {
    ($($open:tt)+) => {
        $crate::conformance_cases!($($open)+, function:
            unknown_function_is_none,
            created_function_is_found_by_id_and_name,
            every_field_survives,
            taken_name_is_refused_and_changes_nothing,
            creating_twice_is_refused,
            scopes_are_separate,
            the_newest_of_a_name_is_found_across_scopes,
            functions_list_newest_first_in_pages,
            functions_are_counted,
            deploy_replaces_the_newest_revision,
            stale_deploy_is_a_conflict_and_changes_nothing,
            deploy_of_a_used_version_is_a_conflict,
            deploy_of_a_gone_function_is_not_found,
            a_deploy_without_a_new_revision_changes_the_function_alone,
            deploy_can_rename,
            renaming_to_a_taken_name_is_refused,
            deleting_is_repeatable,
            a_deleted_name_is_free_again,
            concurrent_creates_of_a_name_have_one_winner,
            concurrent_deploys_have_one_winner,
        );
    };
}

/// Runs the suite of `BuildStore`.
#[macro_export]
macro_rules! build_store_conformance {
    ($($open:tt)+) => {
        $crate::conformance_cases!($($open)+, build:
            a_build_is_found_by_its_key,
            a_build_replaces_the_one_before,
        );
    };
}

/// Runs the suite of `RetentionStore`; the store must also be what keeps functions, builds and asynchronous invocations.
#[macro_export]
macro_rules! retention_store_conformance {
    ($($open:tt)+) => {
        $crate::conformance_cases!($($open)+, retention:
            versions_that_nothing_names_are_deleted,
            versions_that_something_names_stay,
            builds_that_were_not_noted_lately_are_forgotten,
            builds_are_listed_with_whether_somebody_runs_them,
            artifacts_that_something_names_are_listed_once,
        );
    };
}

/// Runs the suite of `VersionStore`; the store must also be a `FunctionStore`.
#[macro_export]
macro_rules! version_store_conformance {
    ($($open:tt)+) => {
        $crate::conformance_cases!($($open)+, version:
            versions_count_from_one,
            versions_list_newest_first_in_pages,
            unknown_version_is_none,
            versions_of_functions_are_separate,
            alias_is_added_and_replaced,
            aliases_come_by_name,
            weights_and_their_order_survive,
            alias_to_an_unknown_version_is_refused_and_changes_nothing,
            alias_of_an_unknown_function_is_refused,
            alias_outlives_a_deploy,
            deleting_an_alias_is_repeatable,
            deleting_a_function_takes_versions_and_aliases_along,
        );
    };
}

/// Runs the suite of `InvocationStore`; the store must also be a `FunctionStore`.
#[macro_export]
macro_rules! invocation_store_conformance {
    ($($open:tt)+) => {
        $crate::conformance_cases!($($open)+, invocation:
            unknown_function_has_no_records,
            every_kind_of_record_comes_back_whole,
            full_logs_come_back_whole,
            an_empty_batch_changes_nothing,
            appending_again_changes_nothing,
            records_list_newest_first,
            records_come_in_pages,
            records_are_filtered_by_status,
            only_the_newest_records_are_kept,
            functions_without_new_records_are_not_trimmed,
            records_of_gone_functions_are_skipped,
            a_large_batch_is_kept_whole,
            deleting_a_function_takes_its_records_along,
        );
    };
}

/// Runs the suite of `AsyncInvocationStore` and `DeliveryStore`; the store must also be a `FunctionStore`.
#[macro_export]
macro_rules! async_invocation_store_conformance {
    ($($open:tt)+) => {
        $crate::conformance_cases!($($open)+, async_invocation:
            accepted_invocations_come_back_whole,
            invocations_of_unknown_functions_are_refused,
            each_invocation_is_claimed_once,
            what_is_accepted_at_once_is_answered_apart,
            what_ends_at_once_is_answered_apart,
            a_claim_keeps_to_the_room_of_each_function,
            chosen_invocations_are_claimed_alone,
            an_expired_lease_is_taken_over_and_fenced,
            a_renewed_lease_is_kept,
            put_back_invocations_wait,
            completions_come_back_whole,
            invocations_list_newest_first,
            a_key_is_taken_once_in_its_function,
            a_cancelled_invocation_has_ended,
            dead_letters_are_driven_again,
            an_end_and_what_tells_it_are_one,
            unfinished_invocations_are_never_pruned,
            settings_come_back_whole,
            deleting_a_function_takes_its_queue_along,
        );
    };
}

/// Runs the suite of `ScheduleStore`; the store must also be all that the suite of `AsyncInvocationStore` wants.
#[macro_export]
macro_rules! schedule_store_conformance {
    ($($open:tt)+) => {
        $crate::conformance_cases!($($open)+, schedule:
            schedules_come_back_whole_by_name,
            a_name_stands_for_the_last_schedule,
            schedules_are_bounded,
            due_schedules_come_longest_due_first,
            a_tick_is_fired_once,
            deleting_a_function_takes_its_schedules_along,
        );
    };
}

/// Runs the suite of `NodeStore`.
#[macro_export]
macro_rules! node_store_conformance {
    ($($open:tt)+) => {
        $crate::conformance_cases!($($open)+, node:
            announced_nodes_are_listed_by_id,
            a_silent_node_is_not_there,
            a_node_leaves_alone,
        );
    };
}

/// Runs the suite of `Transfer`; the store must also be all the others.
#[macro_export]
macro_rules! transfer_conformance {
    ($($open:tt)+) => {
        $crate::conformance_cases!($($open)+, transfer:
            everything_that_is_taken_can_be_put_back,
            rows_come_in_pages_in_the_order_of_their_keys,
            a_snapshot_does_not_see_later_changes,
            rows_of_another_shape_are_refused,
            what_fills_a_store_is_kept,
            a_store_stays_the_one_it_is,
            a_filling_that_is_over_puts_nothing,
        );
    };
}

/// What the suites' macros share.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    (run $open:path, $suite:ident: $($case:ident),+ $(,)?) => {$(
        {
            let opened = $open().await;
            $crate::conformance::$suite::$case(opened.as_ref()).await;
        }
    )+};
    ($open:path, $suite:ident: $($case:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $case() {
            let opened = $open().await;
            $crate::conformance::$suite::$case(opened.as_ref()).await;
        }
    )+};
}
