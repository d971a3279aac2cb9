//! Every case on SQLite, one test each; and all of them on one PostgreSQL server, a database each.

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::{postgres::Postgres, scene::Scene};

async fn on_sqlite<F: Future<Output = ()>>(case: impl FnOnce(Scene) -> F) {
    let folder = TempDir::new().unwrap();
    let scene = Scene::open(&format!(
        "sqlite://{}",
        folder.path().join("item.db").display()
    ))
    .await;
    case(scene).await;
}

macro_rules! suite {
    ($($module:ident::$case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                on_sqlite(crate::$module::$case).await;
            }
        )*

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn everything_holds_on_postgresql() {
            let Some(postgres) = Postgres::start() else { return };
            let mut cases: Vec<(&str, tokio::task::JoinHandle<()>)> = Vec::new();
            let tasks = tokio_util::task::TaskTracker::new();
            $(
                let url = postgres.create(&stringify!($case)[..40.min(stringify!($case).len())]);
                cases.push((stringify!($case), tasks.spawn(async move {
                    let scene = Scene::open(&url).await;
                    crate::$module::$case(scene).await;
                })));
            )*
            let (names, handles): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
            let outcomes = join_all(handles).await;
            let failed: Vec<_> =
                names.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_err()).collect();
            assert!(failed.is_empty(), "{failed:?}");
        }
    };
}

suite! {
    calendars::an_imported_year_is_counted_by_every_replica,
    calendars::a_faulty_calendar_is_not_stored,
    cases::a_passport_goes_from_a_window_elsewhere_to_its_owner,
    cases::a_step_brings_what_it_must,
    cases::refusals_and_other_ends_are_ends,
    cases::the_first_answer_is_given_again,
    cases::one_case_stands_for_a_number_of_the_clients_own_system,
    cases::steps_at_once_cannot_both_win,
    cases::many_cases_at_once_get_numbers_of_their_own,
    cases::a_write_on_an_old_version_loses,
    cases::the_history_cannot_be_rewritten,
    cases::a_city_sees_the_cases_in_which_it_takes_part,
    cases::a_draft_becomes_an_application,
    every_item::every_item_is_started_handled_and_concluded,
    figures::figures_agree_with_a_count_over_random_histories,
    joint::a_joint_case_completes_when_its_tasks_do,
    joint::a_refused_task_refuses_the_case,
    joint::what_a_task_did_is_undone_when_the_case_is_lost,
    joint::a_task_whose_answer_was_lost_is_undone_too,
    joint::only_the_case_s_own_city_coordinates_a_task,
    killed::a_killed_service_loses_nothing_and_does_nothing_twice,
    limits::silence_accepts_from_the_day_of_receipt,
    limits::a_notice_in_time_begins_a_new_receipt,
    limits::promised_and_legal_limits_warn_in_yellow_and_red,
    limits::a_window_that_does_not_hand_over_is_warned,
    limits::an_extension_is_granted_once_and_within_the_law,
    limits::a_special_procedure_stops_the_clock,
    limits::a_year_without_a_calendar_is_flagged_and_never_guessed,
    limits::a_year_of_cases_runs_in_seconds,
    materials::what_a_data_call_verifies_is_not_asked_for,
    materials::what_no_data_call_verifies_is_uploaded_and_says_why,
    materials::a_material_is_uploaded_resumed_and_given_out_to_whoever_takes_part,
    materials::the_catalogue_bounds_each_material_and_a_decided_case_takes_none,
    model::a_random_run_agrees_with_a_model_across_restarts,
    rating::a_bad_rating_is_put_right_and_never_names_who_gave_it,
    rating::a_contact_is_rated_once_and_for_good,
    rating::a_whole_case_is_rated_when_it_is_over,
    rating::an_appeal_takes_a_rating_out_of_the_figures_and_keeps_it,
    rating::a_rectification_that_waits_is_warned,
    rating::a_rating_whose_case_was_not_noted_is_noted_by_the_next_pass,
    watching::a_watch_of_a_case_resumes_after_its_cursor,
    watching::a_watch_of_a_department_sees_steps_of_other_replicas_and_warnings,
    watching::cases_are_found_by_each_of_their_marks,
    watching::pages_hold_every_case_once,
}
